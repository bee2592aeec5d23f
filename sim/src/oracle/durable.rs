//! Exact loss windows.
//!
//! The auditor is told, by an adapter that sees everything, of each durable apply, each copy that goes away, each committed configuration and
//! each acknowledgement. It knows who holds what, so it knows the instant at which a window opens or closes, without sampling.
//!
//! A configuration is a list of groups; a read quorum is a majority of *every* group. A window of an acknowledged version is open exactly while
//! some read quorum would answer with something older, that is while in every group at least a majority of the members hold something older.
//! Only the newest acknowledged version of a document opens windows. What a member holds counts also while it is down.
//!
//! Memory is bounded by documents times replicas (and by the windows found), not by writes. Times are in simulated nanoseconds and must not go
//! back. Not handled: reads; whether anybody looked while a window was open is the business of the linearizability oracle.

mod state;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use self::state::State;
use crate::process::ProcessId;
use crate::record::WindowTotals;
use crate::sync::lock;
use crate::time::{Nanos, in_seconds};
use crate::trace::Trace;

/// Counter and writer; greater replaces smaller.
pub type Version = (u64, u128);

/// An interned document id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(pub u32);

/// How a version came to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How<'a> {
    /// A client wrote it. A window that a newer write closes is superseded: nobody repaired it.
    Write,
    /// Something shipped it from another copy; what, in words (`the delta pass`).
    Shipped(&'a str),
}

/// How a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something closed it.
    Transient,
    /// A newer write of the document replaced it before anybody repaired it.
    Superseded,
    /// It was still open at the end.
    Permanent,
}

/// One loss window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Shard of the document.
    pub shard: u32,
    /// The document.
    pub doc: String,
    /// The version that could be missed: counter, and writer in hexadecimal.
    #[serde(serialize_with = "version_text")]
    pub version: Version,
    /// Who was told that it is safe.
    pub client: u32,
    /// When the write was acknowledged.
    pub acked_at: Nanos,
    /// When it could first be missed.
    pub opened_at: Nanos,
    /// When that ended; none for a permanent window.
    pub closed_at: Option<Nanos>,
    /// How it ended.
    pub kind: Kind,
    /// The event that opened it.
    pub opened_by: String,
    /// The event that closed it; none for a permanent window.
    pub closed_by: Option<String>,
    /// Why the stale members missed the version: for each the first reason, in words.
    pub cause: String,
    /// The last [`Auditor::note`] when it opened.
    pub stage: String,
}

fn version_text<S: serde::Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}:{:x}", version.0, version.1))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Transient => "transient",
            Kind::Superseded => "superseded",
            Kind::Permanent => "permanent",
        };
        let (counter, writer) = self.version;
        write!(f, "{kind} window of {} (shard {}) version {counter}:{writer:x}, ", self.doc, self.shard)?;
        write!(f, "acknowledged at {}, open from {} ", in_seconds(self.acked_at), in_seconds(self.opened_at))?;
        match (self.closed_at, &self.closed_by) {
            (Some(at), Some(by)) => write!(f, "({}) to {} ({by})", self.opened_by, in_seconds(at))?,
            _ => write!(f, "({}) for ever", self.opened_by)?,
        }
        write!(f, "; {}", self.cause)
    }
}

/// A process came back with less on its disk than it had durably: a bug of its engine, or damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// Who.
    pub process: ProcessId,
    /// In which shard.
    pub shard: u32,
    /// Which document.
    pub doc: Arc<str>,
    /// What it held durably.
    pub had: Version,
    /// What it holds now.
    pub has: Option<Version>,
}

/// Something older than a forgotten deletion came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risen {
    /// When it was made durable.
    pub at: Nanos,
    /// Where.
    pub process: ProcessId,
    /// In which shard.
    pub shard: u32,
    /// Which document.
    pub doc: Arc<str>,
    /// What was made durable.
    pub version: Version,
    /// The deletion that was forgotten.
    pub forgotten: Version,
}

/// The auditor of one run. Clones are the same auditor.
#[derive(Clone)]
pub struct Auditor(Arc<Mutex<State>>);

impl Auditor {
    /// An auditor that prints names as `trace` does, and notes there what opens and closes.
    pub fn new(trace: Trace) -> Auditor {
        Auditor(Arc::new(Mutex::new(State::new(trace))))
    }

    /// The number of a document. Ids are global: a document stays in its shard.
    pub fn intern(&self, doc: &str) -> DocId {
        lock(&self.0).intern(doc)
    }

    /// A configuration of `shard` is committed: its read-quorum groups, and what to call it (`Joint(n1 -> n2) epoch 7`). Re-evaluates every
    /// document of the shard. Panics without a group or with an empty one.
    pub fn config(&self, at: Nanos, shard: u32, text: &str, groups: Vec<Vec<ProcessId>>) {
        assert!(
            !groups.is_empty() && groups.iter().all(|group| !group.is_empty()),
            "a quorum is a majority of somebody"
        );
        lock(&self.0).config(at, shard, text, groups);
    }

    /// `process` made `version` durable, replacing what it held. `how` it came there says how a window ends that this closes.
    pub fn applied(&self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version, how: How<'_>) {
        lock(&self.0).applied(at, process, shard, doc, version, how);
    }

    /// The copy of `shard` at `process` is gone: dropped on purpose, or wiped.
    pub fn dropped(&self, at: Nanos, process: ProcessId, shard: u32, why: &str) {
        lock(&self.0).dropped(at, process, shard, why);
    }

    /// `process` forgot a deletion that every replica held: from here on the document is absent for good reason, and no window of it opens.
    /// Anything older that is made durable afterwards has risen from the dead.
    pub fn forgot(&self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version) {
        lock(&self.0).forgot(at, process, shard, doc, version);
    }

    /// The members of `shard` that answer nobody for now: a lost or damaged disk, a readmission. They count in every majority and mislead no
    /// reader.
    pub fn silence(&self, at: Nanos, shard: u32, silent: BTreeSet<ProcessId>) {
        lock(&self.0).silence(at, shard, silent);
    }

    /// Documents of a shard of which `members` do not all hold the same version, with what each holds; a forgotten deletion equals none.
    pub fn differing(&self, shard: u32, members: &[ProcessId]) -> Vec<(Arc<str>, Vec<Option<Version>>)> {
        lock(&self.0).differing(shard, members)
    }

    /// For an acknowledgement under the configuration that is committed now: whether in some group fewer than a majority hold this version
    /// or a newer one durably.
    pub fn is_under_acked(&self, shard: u32, doc: DocId, version: Version) -> bool {
        lock(&self.0).is_under_acked(shard, doc, version)
    }

    /// What came back from the dead.
    pub fn risen(&self) -> Vec<Risen> {
        lock(&self.0).risen.clone()
    }

    /// What `process` holds of `shard` and has no version of in `entries`.
    pub fn lacking(&self, process: ProcessId, shard: u32, entries: &[(DocId, Version)]) -> Vec<(DocId, Version)> {
        lock(&self.0).lacking(process, shard, &entries.iter().map(|(doc, _)| *doc).collect())
    }

    /// The truth about the copy of `shard` at `process`, as read from its disk, for instance after a restart. Returns what it held durably and
    /// holds no longer.
    pub fn reset(
        &self,
        at: Nanos,
        process: ProcessId,
        shard: u32,
        entries: impl IntoIterator<Item = (DocId, Version)>,
    ) -> Vec<Vanished> {
        lock(&self.0).reset(at, process, shard, entries.into_iter().collect())
    }

    /// A client was told that `version` is safe.
    pub fn acked(&self, at: Nanos, shard: u32, doc: DocId, version: Version, client: u32) {
        lock(&self.0).acked(at, shard, doc, version, client);
    }

    /// `process` did not get `version` on some occasion: `why` in words. Only the first reason for each (process, document, version) is kept.
    pub fn missed(&self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version, why: &str) {
        lock(&self.0).missed(at, process, shard, doc, version, why);
    }

    /// What is going on, such as the stage of a migration; of one shard or (none) of all.
    pub fn note(&self, shard: Option<u32>, text: &str) {
        lock(&self.0).note(shard, text);
    }

    /// What `process` holds of a document.
    pub fn held(&self, process: ProcessId, doc: DocId) -> Option<Version> {
        lock(&self.0).held(process, doc)
    }

    /// How many documents of a shard `process` holds.
    pub fn holdings(&self, process: ProcessId, shard: u32) -> usize {
        lock(&self.0).holdings(process, shard)
    }

    /// The newest deletion of a document that was forgotten.
    pub fn forgotten(&self, doc: DocId) -> Option<Version> {
        lock(&self.0).forgotten(doc)
    }

    /// Something that compares copies of `shard` and ships what is missing has ended: what a member lacks afterwards, it did not bring.
    pub fn passed(&self, at: Nanos, shard: u32, what: &str) {
        lock(&self.0).passed(at, shard, what);
    }

    /// Windows open now.
    pub fn open_count(&self) -> usize {
        lock(&self.0).open_count()
    }

    /// The windows that have ended so far.
    pub fn windows(&self) -> Vec<Window> {
        lock(&self.0).windows.clone()
    }

    /// The run is over, healed and quiet: what is still open is permanent. Returns all windows, by the time they opened.
    pub fn finish(&self) -> Vec<Window> {
        lock(&self.0).finish()
    }

    /// Acknowledgements so far.
    pub fn acked_count(&self) -> u64 {
        lock(&self.0).acked_count
    }

    /// The newest acknowledged version of a document.
    pub fn newest_acked(&self, doc: DocId) -> Option<Version> {
        lock(&self.0).newest_acked(doc)
    }

    /// What is kept in memory, counted: documents, holdings, reasons. The measure for "bounded by documents".
    pub fn footprint(&self) -> usize {
        lock(&self.0).footprint()
    }
}

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auditor({} acked, {} open)", self.acked_count(), self.open_count())
    }
}

/// Counts and lengths for the record. Permanent windows count until `end`.
pub fn totals(windows: &[Window], end: Nanos) -> WindowTotals {
    let mut totals = WindowTotals::default();
    for window in windows {
        match window.kind {
            Kind::Transient => totals.transient += 1,
            Kind::Superseded => totals.superseded += 1,
            Kind::Permanent => totals.permanent += 1,
        }
        let length = window.closed_at.unwrap_or(end).saturating_sub(window.opened_at);
        totals.total_ns += length;
        totals.max_ns = totals.max_ns.max(length);
    }
    totals
}

/// Acknowledged writes with a window of any kind, per million acknowledged; rounded up, so that one is never reported as none.
pub fn loss_ppm(windows: &[Window], acked: u64) -> u64 {
    let mut writes: Vec<(&str, Version)> = windows.iter().map(|window| (window.doc.as_str(), window.version)).collect();
    writes.sort_unstable();
    writes.dedup();
    (writes.len() as u64 * 1_000_000).div_ceil(acked.max(1))
}

#[cfg(test)]
mod tests;
