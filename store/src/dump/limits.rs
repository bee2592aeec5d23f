//! What a dump may ask for. Everything beyond is refused before it is allocated.

use crate::id::MAX_VALUE_BYTES;

/// Metadata, settings, one line of a task queue or of keys: what is read into memory whole.
pub const MAX_SMALL_BYTES: u64 = 16 << 20;
/// A long name or a PAX record.
pub const MAX_NAME_RECORD_BYTES: u64 = 64 << 10;
/// Members of one archive.
pub const MAX_MEMBERS: u64 = 200_000;
/// Uncompressed bytes per compressed byte, once [`RATIO_FREE_BYTES`] were read.
pub const MAX_RATIO: u64 = 200;
pub const RATIO_FREE_BYTES: u64 = 64 << 20;
/// Unfinished tasks, as they stand in the queue, each counted with at least [`MIN_TASK_BYTES`].
pub const MAX_PENDING_BYTES: u64 = 8 << 20;
pub const MIN_TASK_BYTES: u64 = 256;
/// What is kept of all members until the plan is made: names, primary keys, dates.
pub const MAX_KEPT_BYTES: usize = 16 << 20;
/// Fields of a document, as many as an index of Meilisearch can have.
pub const MAX_FIELDS: usize = 65_536;
/// Documents with a wrong id that are listed, per member.
pub const LISTED: usize = 10;

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest document, at most what the store takes.
    pub document_bytes: usize,
    /// Documents that are written together; fewer if they are large.
    pub batch_documents: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { document_bytes: MAX_VALUE_BYTES, batch_documents: 1_024 }
    }
}
