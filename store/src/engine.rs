//! The storage engine of one node.

mod digest;

use std::sync::Arc;

use crate::config::ShardConfig;
use crate::env::Disk;
use crate::error::EngineError;
use crate::id::{DiskId, Key, ShardId, Value, Version};

pub use digest::{BUCKETS, Digest};

/// What a node may choose about its engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Documents the memory table holds before it is flushed to the pages.
    pub flush_writes: usize,
    /// Bytes (keys and values) the memory table holds before it is flushed to the pages.
    pub flush_bytes: usize,
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { flush_writes: 512, flush_bytes: 4 << 20, cache_bytes: 32 << 20 }
    }
}

/// A document as it is held: its version and, unless it was deleted, its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: Version,
    /// `None` is a tombstone.
    pub value: Option<Value>,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Staged: it is greater than what was held.
    Applied,
    /// This very version is held already.
    Same,
    /// Nothing changed; the greater version that is held.
    Older(Version),
}

/// What a node knows about a shard: its installed configuration and its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    pub config: Option<ShardConfig>,
    /// At least the counter of every version that this copy ever held.
    pub max_counter: u64,
    /// Set when rot was found; cleared only by a wipe.
    pub damaged: bool,
    pub digest: Digest,
    /// Documents of the copy, tombstones included.
    pub documents: u64,
}

/// One thing that a commit made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Applied { shard: ShardId, key: Key, version: Version },
    Installed { config: ShardConfig, wiped: bool },
    Dropped { shard: ShardId },
}

/// Part of a copy, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<(Key, Stored)>,
    /// Whether documents follow behind the last of this page.
    pub more: bool,
}

pub struct Engine {
    disk_id: DiskId,
}

#[allow(unused_variables, clippy::needless_pass_by_ref_mut)]
impl Engine {
    pub fn open(disk: Arc<dyn Disk>, options: Options, fresh: u128) -> Result<Engine, EngineError> {
        todo!()
    }
    pub fn disk_id(&self) -> DiskId {
        self.disk_id
    }
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardState)> {
        std::iter::empty()
    }
    pub fn shard(&self, shard: ShardId) -> Option<&ShardState> {
        todo!()
    }
    pub fn get(&self, shard: ShardId, key: &Key) -> Result<Option<Stored>, EngineError> {
        todo!()
    }
    pub fn put(
        &mut self,
        shard: ShardId,
        key: &Key,
        version: Version,
        value: Option<Value>,
    ) -> Result<Put, EngineError> {
        todo!()
    }
    pub fn raise_counter(&mut self, shard: ShardId, counter: u64) -> Result<(), EngineError> {
        todo!()
    }
    pub fn install(&mut self, config: &ShardConfig, wipe: bool) -> Result<(), EngineError> {
        todo!()
    }
    pub fn drop_copy(&mut self, shard: ShardId) -> Result<(), EngineError> {
        todo!()
    }
    pub fn mark_damaged(&mut self, shard: ShardId) -> Result<(), EngineError> {
        todo!()
    }
    pub fn has_staged(&self) -> bool {
        todo!()
    }
    pub fn commit(&mut self) -> Result<Vec<Effect>, EngineError> {
        todo!()
    }
    pub fn list(&self, shard: ShardId, buckets: &[u16]) -> Result<Vec<(Key, Version)>, EngineError> {
        todo!()
    }
    pub fn page(
        &self,
        shard: ShardId,
        after: Option<&Key>,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        todo!()
    }
    pub fn recount(&self, shard: ShardId) -> Result<(Digest, u64), EngineError> {
        todo!()
    }
    pub fn documents(&self, shard: ShardId) -> Result<Vec<(Key, Version)>, EngineError> {
        todo!()
    }
}
