//! Where an import goes: an embedded store, or a cluster. Both take the same writes, in the same order.

pub mod cluster;
pub mod embedded;

use std::future::Future;

use crate::dump::refusal::DumpError;
use crate::id::{Key, Value};
use crate::router::Request;
use crate::router::scan::ScanPage;
use crate::wire::{NameRange, StagingAction, StagingReply};

/// How large a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub nodes: u32,
    pub replication: u32,
    pub shards: u32,
}

/// Bytes after which a reading of several documents ends.
pub const READ_BYTES: usize = 4 << 20;

/// What takes an import in. Every call returns when it is done and durable; that is the back-pressure.
pub trait Target {
    fn shape(&mut self) -> impl Future<Output = Result<Shape, DumpError>>;

    /// Of two writes of one document the later one stays.
    fn write(&mut self, writes: Vec<Request>) -> impl Future<Output = Result<(), DumpError>>;

    /// What is there of the first of these keys, in their order: of one at least, and of fewer than all if what they hold
    /// is large.
    fn read(&mut self, keys: Vec<Key>) -> impl Future<Output = Result<Vec<Option<Value>>, DumpError>>;

    /// The next documents of all shards.
    fn scan(&mut self, range: NameRange, documents: u32) -> impl Future<Output = Result<ScanPage, DumpError>>;

    /// Asks the `node`th node, counted from 0, for something about its staging area.
    fn stage(
        &mut self,
        node: u32,
        import: u128,
        action: StagingAction,
    ) -> impl Future<Output = Result<StagingReply, DumpError>>;
}
