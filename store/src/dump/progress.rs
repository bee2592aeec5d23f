//! What a long run tells about itself while it goes on.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Analyse,
    /// Looking whether documents are there already (`--if-exists fail`).
    Compare,
    Write,
    /// Broadcast: to every node.
    Stage,
    /// Broadcast: from the staged shards to their owners.
    Commit,
    Replay,
    Export,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Analyse => "analyse",
            Phase::Compare => "compare",
            Phase::Write => "write",
            Phase::Stage => "stage",
            Phase::Commit => "commit",
            Phase::Replay => "replay",
            Phase::Export => "export",
        }
    }
}

/// Told every so often. `bytes` are those of the compressed file that this phase has read, `documents` those of the
/// member it is in.
pub trait Progress {
    fn on(&mut self, phase: Phase, bytes: u64, documents: u64);
}

/// Nobody looks on.
pub struct Silent;

impl Progress for Silent {
    fn on(&mut self, _: Phase, _: u64, _: u64) {}
}
