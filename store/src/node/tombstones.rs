//! Tombstones: listed for the coordinator, and forgotten on its word.

use crate::config::Form;
use crate::env::{Nanos, Peer};
use crate::error::EngineError;
use crate::id::{Epoch, Key, ShardId, Version};
use crate::node::{Node, PAGE_BYTES};
use crate::wire::{Message, RequestId};

impl Node {
    /// Up to `limit` tombstones of a copy, in key order.
    pub(super) fn tombstones(
        &self,
        shard: ShardId,
        mut after: Option<Key>,
        limit: usize,
    ) -> Result<(Vec<(Key, Version)>, bool), EngineError> {
        let mut found = Vec::new();
        loop {
            let page = self.engine.page(shard, after.as_ref(), 1_024, PAGE_BYTES)?;
            for (key, stored) in &page.documents {
                if stored.value.is_none() {
                    if found.len() == limit {
                        return Ok((found, true));
                    }
                    found.push((key.clone(), stored.version));
                }
            }
            after = page.documents.last().map(|(key, _)| key.clone());
            if !page.more {
                return Ok((found, false));
            }
        }
    }

    /// Forgets tombstones that every replica was seen to hold, under the epoch that bars the writes they were kept
    /// against.
    pub(super) fn forget(
        &mut self,
        now: Nanos,
        from: Peer,
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        tombstones: Vec<(Key, Version)>,
    ) -> Result<(), EngineError> {
        let barred = self.config(shard).is_some_and(|config| {
            (config.gc_barrier == epoch || mutant!("M42")) && config.form == Form::Stable && config.is_member(self.id)
        });
        if from != Peer::Coordinator || !self.serves(now, from, request, shard, epoch) || !barred {
            return Ok(());
        }
        let mut forgotten = 0;
        for (key, version) in tombstones {
            forgotten += u64::from(self.engine.forget(shard, &key, version)?);
        }
        self.answer(from, Message::Forgot { request, node: self.id, forgotten });
        Ok(())
    }
}
