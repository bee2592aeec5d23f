//! Small error enums, one per boundary. Each message says what happened, to what, and what the caller may do.

use std::io;

use thiserror::Error;

use crate::id::{DiskId, MAX_COLLECTION_BYTES, MAX_ID_BYTES, MAX_VALUE_BYTES, ShardId};

/// A document name that cannot be one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("the collection name has {bytes} bytes; allowed are 1 to {MAX_COLLECTION_BYTES}")]
    CollectionLength { bytes: usize },
    #[error("the document id has {bytes} bytes; allowed are 1 to {MAX_ID_BYTES}")]
    IdLength { bytes: usize },
    #[error("collection names and document ids cannot contain a NUL byte")]
    Nul,
    #[error("a document is named `collection/id`; the slash is missing")]
    NoCollection,
}

/// What can go wrong below a node: the disk, or what was found on it.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The disk failed. If the failure hit a commit the engine is poisoned: nothing is answered from it any more,
    /// and the node must be restarted from disk.
    #[error("disk: {0}")]
    Io(#[from] io::Error),
    #[error("the engine failed an earlier commit; restart the node, which recovers from disk")]
    Poisoned,
    #[error("{file}: {what}; the file was not written by this store, or is damaged")]
    Corrupt { file: String, what: String },
    #[error("{file}: format version {found}, this program reads {supported}; use the program that wrote it")]
    Format { file: String, found: u32, supported: u32 },
    #[error(
        "shard {shard}: a value does not match its checksum (disk {disk}); the shard is marked damaged and does not vote"
    )]
    Damaged { shard: ShardId, disk: DiskId },
    #[error("the store is full: {0}; free room on the disk, writes resume by themselves")]
    Full(io::Error),
    #[error("the snapshot has ended: the page file was scrubbed, compacted or opened anew; take another snapshot")]
    SnapshotGone,
}

/// A frame that is not one of ours.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    #[error("frame of {bytes} bytes; the limit is {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("undecodable frame: {0}")]
    Decode(String),
    #[error("frame with {0} bytes after its end")]
    Trailing(usize),
    #[error("wire version {found}, this program speaks {supported}")]
    Version { found: u8, supported: u8 },
}

/// What can go wrong with a store that a program has opened for itself.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path} is open already, in this program or in another; close it there, or open another directory")]
    InUse { path: String },
    #[error("{path}: {error}; a store needs a directory that this program may write to")]
    Open { path: String, error: io::Error },
    #[error("the store was created with {found} shards, not {wanted}; leave the number out to open it as it is")]
    Shards { found: u32, wanted: u32 },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the body has {bytes} bytes; allowed are {MAX_VALUE_BYTES}")]
    BodyLength { bytes: usize },
    #[error("the field `{field}` is reserved: no field of a document may begin with `_miroir_`; rename it")]
    Reserved { field: String },
    /// The disk, or what was found on it. After `Full` nothing was changed; after `Io` and `Poisoned` open the store
    /// again, and whether the last write is there is known only then.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("shard {shard} does not answer; open the store again")]
    Unavailable { shard: ShardId },
    #[error("a thread panicked inside this store; open it again")]
    Panicked,
}
