//! The names of things: shards, nodes, disks, epochs, sessions, versions, documents.
//!
//! Every id is a newtype, so that a shard number cannot be passed for a node number. All of them order and print
//! the same way everywhere, because they end up in traces and reports that people compare.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::KeyError;

/// Longest document id, in bytes. The limit is that of Meilisearch, whose dumps are imported.
pub const MAX_ID_BYTES: usize = 511;
/// Longest collection name, in bytes.
pub const MAX_COLLECTION_BYTES: usize = 400;
/// Largest document body, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// One shard of the cluster, `0..shard_count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Names one formatted disk. Drawn afresh whenever a disk is formatted, so a replaced disk is told from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskId(pub u128);

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 96)
    }
}

/// Orders the configurations of a shard. A coordinator that lost its disk starts a greater `generation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    pub generation: u32,
    pub n: u64,
}

impl Epoch {
    /// Below every epoch that is ever committed.
    pub const ZERO: Epoch = Epoch { generation: 0, n: 0 };
    /// The epoch of a new cluster's first configurations.
    pub const FIRST: Epoch = Epoch { generation: 1, n: 1 };

    /// The epoch of the commit that follows this one.
    pub fn next(self) -> Epoch {
        Epoch { generation: self.generation, n: self.n + 1 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.n)
    }
}

/// Names one stay of a copy on a node: the epoch of the commit that brought it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session(pub Epoch);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// 128 fresh bits per start of a client: no two clients, and no two starts of one, share a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriterId(pub u128);

/// What orders the writes of one document. Minted by routers only, never by nodes, and never for two operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    pub counter: u64,
    pub writer: WriterId,
}

impl Version {
    /// Below every version that is ever issued; stands for "never written".
    pub const ZERO: Version = Version { counter: 0, writer: WriterId(0) };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}:{:04x}", self.counter, self.writer.0 >> 112)
    }
}

/// One migration of one shard. Chosen by whoever plans it, so that planning twice is planning once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MigrationId(pub u64);

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// Names a document: a collection and an id in it. Ordered by collection, then id, bytewise.
///
/// Kept as one string, `collection \0 id`, because every layer below wants it in that order and in one piece.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>")]
pub struct Key(Arc<str>);

/// In the order of keys: what a range of documents is bounded by.
impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Arc<str>> for Key {
    type Error = KeyError;

    /// Checks what came off the wire or the disk.
    fn try_from(text: Arc<str>) -> Result<Key, KeyError> {
        let (collection, id) = text.split_once('\0').ok_or(KeyError::NoCollection)?;
        check(collection, id)?;
        Ok(Key(text))
    }
}

fn check(collection: &str, id: &str) -> Result<(), KeyError> {
    if collection.is_empty() || collection.len() > MAX_COLLECTION_BYTES {
        return Err(KeyError::CollectionLength { bytes: collection.len() });
    }
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(KeyError::IdLength { bytes: id.len() });
    }
    if collection.as_bytes().contains(&0) || id.as_bytes().contains(&0) {
        return Err(KeyError::Nul);
    }
    Ok(())
}

impl Key {
    /// Fails with the limit that was broken. A NUL byte is refused in both parts: it separates them.
    pub fn new(collection: &str, id: &str) -> Result<Key, KeyError> {
        check(collection, id)?;
        // Most names are short, and a read of the store makes one: put together on the stack, it is allocated once.
        let mut short = [0; 128];
        let len = collection.len() + 1 + id.len();
        let Some(name) = short.get_mut(..len) else {
            return Ok(Key([collection, "\0", id].concat().into()));
        };
        name[..collection.len()].copy_from_slice(collection.as_bytes());
        name[collection.len() + 1..].copy_from_slice(id.as_bytes());
        Ok(Key(std::str::from_utf8(name).expect("two strings and a NUL").into()))
    }

    /// Takes the stored or wired form apart again; `None` if it never was a key.
    pub fn from_encoded(text: &str) -> Option<Key> {
        Key::try_from(Arc::from(text)).ok()
    }

    /// `collection \0 id`.
    pub fn encoded(&self) -> &str {
        &self.0
    }

    pub fn collection(&self) -> &str {
        self.0.split_once('\0').map_or("", |(collection, _)| collection)
    }

    pub fn id(&self) -> &str {
        self.0.split_once('\0').map_or("", |(_, id)| id)
    }

    /// The shard this document lives in. Fixed for the life of a cluster, as `shard_count` is.
    pub fn shard(&self, shard_count: u32) -> ShardId {
        assert!(shard_count > 0);
        ShardId((xxh3_64(self.0.as_bytes()) % u64::from(shard_count)) as u32)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection(), self.id())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads `collection/id`; only the first slash separates.
    fn from_str(text: &str) -> Result<Key, KeyError> {
        let (collection, id) = text.split_once('/').ok_or(KeyError::NoCollection)?;
        Key::new(collection, id)
    }
}

/// The body of a document. Shared, because one write goes to every replica.
pub type Value = Arc<[u8]>;
