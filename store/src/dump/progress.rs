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
    /// Before an export: a dump says of each member how long it is before the member begins.
    Measure,
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
            Phase::Measure => "measure",
            Phase::Export => "export",
        }
    }
}

/// How far a phase has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub phase: Phase,
    /// Of the compressed file where one is read; of what is staged when it is committed; of documents in an export.
    pub bytes: u64,
    /// How many bytes there are in all; 0 as long as nobody knows.
    pub of_bytes: u64,
    /// Analysing and replaying: of the member that is read; otherwise in all.
    pub documents: u64,
}

/// Told every so often.
pub trait Progress {
    fn on(&mut self, step: Step);
}

/// Nobody looks on.
pub struct Silent;

impl Progress for Silent {
    fn on(&mut self, _: Step) {}
}
