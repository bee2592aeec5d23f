//! Forgets tombstones that nobody needs any more.
//!
//! Under one stable configuration, with nobody on the way in or out: *every* replica is seen to hold the tombstone; a
//! commit makes the next epoch the barrier below which no write and no page is taken any more; *all* replicas install
//! it; only then are they told to forget. Whatever interrupts this (a configuration, a restart, a replica that is down)
//! ends the attempt and leaves tombstones where they are, which is always safe.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::majority;
use crate::coordinator::Coordinator;
use crate::coordinator::records::{Record, RecordsError};
use crate::env::{Nanos, Peer};
use crate::id::{Epoch, Key, NodeId, ShardId, Version};
use crate::migration::raise_barrier;
use crate::wire::{Message, RequestId};

/// Tombstones that one attempt looks at.
const TOMBSTONES: u32 = 256;

/// One attempt on one shard.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    job: u64,
    sent_at: Nanos,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Look { seen: BTreeMap<NodeId, BTreeSet<(Key, Version)>> },
    Forget { tombstones: Vec<(Key, Version)>, done: BTreeSet<NodeId> },
}

impl Coordinator {
    /// Begins and continues the collection of tombstones, shard by shard.
    pub(super) fn collect(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let Some(every) = self.options.collect_every else { return Ok(()) };
        let shards: Vec<ShardId> = self.configs.keys().copied().collect();
        for shard in shards {
            let config = self.configs[&shard].value.clone();
            if !config.is_at_rest() {
                self.collections.remove(&shard);
                continue;
            }
            if let Some(collection) = self.collections.get(&shard) {
                if now >= collection.sent_at + self.options.resend {
                    self.ask_collection(now, shard);
                }
                continue;
            }
            let due = *self.collect_at.entry(shard).or_insert(now + every);
            if now >= due {
                self.collect_at.insert(shard, now + every);
                self.next_job = self.next_job.wrapping_add(1).max(1);
                let phase = Phase::Look { seen: BTreeMap::new() };
                self.collections.insert(shard, Collection { job: self.next_job, sent_at: now, phase });
                self.ask_collection(now, shard);
            }
        }
        Ok(())
    }

    /// Asks (again) those that have not answered.
    fn ask_collection(&mut self, now: Nanos, shard: ShardId) {
        let config = self.configs[&shard].value.clone();
        let Some(collection) = self.collections.get_mut(&shard) else { return };
        collection.sent_at = now;
        let request = RequestId { job: collection.job, n: 0 };
        let epoch = config.epoch;
        let mut sends = Vec::new();
        for replica in &config.new {
            let node = replica.node;
            match &collection.phase {
                Phase::Look { seen } if !seen.contains_key(&node) => {
                    let limit = TOMBSTONES;
                    sends.push((node, Message::Tombstones { request, shard, epoch, after: None, limit }));
                }
                Phase::Forget { tombstones, done } if !done.contains(&node) => {
                    let tombstones = tombstones.clone();
                    sends.push((node, Message::Forget { request, shard, epoch, tombstones }));
                }
                _ => {}
            }
        }
        let everywhere = config.new.iter().all(|replica| self.has_installed(shard, replica.node, epoch));
        if everywhere {
            self.sends.extend(sends.into_iter().map(|(node, message)| (Peer::Node(node), message)));
        }
    }

    fn has_installed(&self, shard: ShardId, node: NodeId, epoch: Epoch) -> bool {
        self.installed.get(&(shard, node)).is_some_and(|installed| *installed >= epoch)
    }

    /// A replica has listed its tombstones.
    pub(super) fn tombstones_seen(
        &mut self,
        now: Nanos,
        request: RequestId,
        node: NodeId,
        entries: Vec<(Key, Version)>,
    ) -> Result<(), RecordsError> {
        let Some((&shard, collection)) = self.collections.iter_mut().find(|(_, it)| it.job == request.job) else {
            return Ok(());
        };
        let config = self.configs[&shard].value.clone();
        let Phase::Look { seen } = &mut collection.phase else { return Ok(()) };
        seen.insert(node, entries.into_iter().collect());
        let needed = if mutant!("M09") { majority(config.new.len()) } else { config.new.len() };
        if seen.len() < needed {
            return Ok(());
        }
        let mut lists = seen.values();
        let first = lists.next().cloned().unwrap_or_default();
        let common = lists.fold(first, |common, list| common.intersection(list).cloned().collect());
        let job = collection.job;
        self.collections.remove(&shard);
        if common.is_empty() {
            return Ok(());
        }
        if !mutant!("M42") {
            self.commit(now, &[], vec![Record::Shard(raise_barrier(&config))])?;
        }
        let phase = Phase::Forget { tombstones: common.into_iter().collect(), done: BTreeSet::new() };
        self.collections.insert(shard, Collection { job, sent_at: now, phase });
        Ok(())
    }

    /// A replica has forgotten.
    pub(super) fn forgot(&mut self, request: RequestId, node: NodeId) {
        let found = self.collections.iter_mut().find(|(_, it)| it.job == request.job);
        let Some((&shard, collection)) = found else { return };
        if let Phase::Forget { done, .. } = &mut collection.phase {
            done.insert(node);
            if done.len() == self.configs[&shard].value.new.len() {
                self.collections.remove(&shard);
            }
        }
    }
}
