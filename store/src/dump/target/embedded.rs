//! An embedded store as the target of an import.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::dump::refusal::DumpError;
use crate::dump::target::{READ_BYTES, Shape, Target};
use crate::id::{Key, Value};
use crate::router::Request;
use crate::router::scan::ScanPage;
use crate::store::{Options, Store};
use crate::wire::{NameRange, StagingAction, StagingReply};

/// A store in this process: one node, at replication 1.
pub struct Embedded<'a>(pub &'a Store);

impl Target for Embedded<'_> {
    async fn shape(&mut self) -> Result<Shape, DumpError> {
        Ok(Shape { nodes: 1, replication: 1, shards: self.0.stats()?.shards })
    }

    async fn write(&mut self, writes: Vec<Request>) -> Result<(), DumpError> {
        Ok(self.0.write_all(writes)?)
    }

    async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<Option<Value>>, DumpError> {
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in &keys {
            let value = self.0.get(key.collection(), key.id())?;
            bytes += value.as_ref().map_or(0, |value| value.len());
            values.push(value);
            if bytes >= READ_BYTES {
                break;
            }
        }
        Ok(values)
    }

    async fn scan(&mut self, range: NameRange, documents: u32) -> Result<ScanPage, DumpError> {
        Ok(self.0.scan_names(&range, documents as usize)?)
    }

    async fn stage(&mut self, _: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        Ok(self.0.stage(import, action)?)
    }
}

/// How the command line opens a store for an import: with little memory, whatever the size of the dump.
pub fn store_options() -> Options {
    Options::default().memory(64 << 10, 8 << 20).cache_bytes(8 << 20)
}

/// Runs what never waits: everything that an embedded store does is done when the call returns.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("an embedded store waits for nothing"),
    }
}
