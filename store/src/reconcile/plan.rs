//! What differs, and who ships what to whom.

use std::collections::BTreeMap;

use crate::engine::{Bucket, Mark};
use crate::env::Nanos;
use crate::id::{Key, NodeId, Version};
use crate::reconcile::{CONTRADICTIONS, Found, Phase, Reconcile, SHIP_DOCUMENTS};
#[cfg(madsim)]
use crate::wire::Purpose;
use crate::wire::{Message, RequestId, Selection};

/// Whether a replica's listing has everything that was read, in that version or a greater one.
pub(super) fn holds(list: &BTreeMap<Key, Mark>, reading: &BTreeMap<Key, Mark>) -> bool {
    lacking(list, reading) == 0
}

/// How much of what was read a replica's listing lacks.
fn lacking(list: &BTreeMap<Key, Mark>, reading: &BTreeMap<Key, Mark>) -> usize {
    reading.iter().filter(|(key, read)| list.get(*key).is_none_or(|held| held.version < read.version)).count()
}

impl Reconcile {
    /// What was found since this was called last.
    pub fn take_found(&mut self) -> Found {
        std::mem::take(&mut self.found)
    }

    /// What those lack that were listed to verify what was shipped.
    pub(super) fn still_lacking(&self) -> u64 {
        let lists = self.live.iter().filter_map(|node| self.lists.get(node));
        lists.map(|list| lacking(list, &self.reading) as u64).sum()
    }

    /// The buckets in which the answering replicas do not all agree.
    pub(super) fn differing(&self) -> Vec<Bucket> {
        let nodes: Vec<&Vec<u64>> = self
            .digests
            .iter()
            .filter(|(node, _)| self.readers.contains(node) || self.live.contains(node))
            .map(|(_, digests)| &digests.buckets)
            .collect();
        let first = nodes[0];
        let differs = |&bucket: &usize| nodes.iter().any(|digest| digest.get(bucket) != first.get(bucket));
        (0..first.len()).filter(differs).map(|bucket| Bucket(bucket as u32)).collect()
    }

    /// The parts of the differing buckets in which they do not.
    pub(super) fn differing_parts(&self) -> Vec<Bucket> {
        let nodes: Vec<&BTreeMap<Bucket, u64>> = self.sums.values().collect();
        let first = nodes[0];
        let differs = |bucket: &&Bucket| nodes.iter().any(|sums| sums.get(bucket) != first.get(bucket));
        first.keys().filter(differs).copied().collect()
    }

    /// Takes the greatest version of each document that was read, and has its holder ship it to whoever lacks it.
    pub(super) fn plan_ships(&mut self, now: Nanos) {
        self.note_contradictions();
        let mut holders: BTreeMap<Key, (Mark, NodeId)> = BTreeMap::new();
        for node in &self.readers {
            let Some(list) = self.lists.get(node) else {
                continue;
            };
            for (key, mark) in list {
                let greatest = holders.get(key).is_none_or(|(held, _)| {
                    if mutant!("M33") { held.version > mark.version } else { held.version < mark.version }
                });
                if greatest {
                    holders.insert(key.clone(), (*mark, *node));
                }
            }
        }
        #[cfg(madsim)]
        if mutant!("M04") && self.spec.purpose == Purpose::Delta {
            self.end_at_a_page_without_news(&mut holders);
        }
        let mut ships: BTreeMap<(NodeId, NodeId), Vec<Key>> = BTreeMap::new();
        for &target in &self.live {
            let held = self.lists.get(&target);
            for (key, (mark, holder)) in &holders {
                let lacks = held.and_then(|list| list.get(key)).is_none_or(|held| held.version < mark.version);
                if lacks {
                    ships.entry((*holder, target)).or_default().push(key.clone());
                }
            }
        }
        self.found.lacking = Some(ships.values().map(|keys| keys.len() as u64).sum());
        self.reading = holders.iter().map(|(key, (mark, _))| (key.clone(), *mark)).collect();
        self.enter(now, Phase::Ship);
        for &target in &self.live {
            let lags = self.digests[&target].max_counter < self.required_counter;
            let is_shipped_to = ships.keys().any(|(_, to)| *to == target);
            if lags && !is_shipped_to {
                let holder = *self.readers.first().expect("a majority answered");
                ships.entry((holder, target)).or_default();
            }
        }
        for ((holder, target), keys) in ships {
            if keys.is_empty() {
                self.queue_ship(holder, target, Vec::new());
            }
            for chunk in keys.chunks(SHIP_DOCUMENTS) {
                self.queue_ship(holder, target, chunk.to_vec());
            }
        }
        self.advance(now);
    }

    /// The planted bug M04: of what was read, only what stands before the first document that no target lacks.
    #[cfg(madsim)]
    fn end_at_a_page_without_news(&self, holders: &mut BTreeMap<Key, (Mark, NodeId)>) {
        let has = |target: &NodeId, key: &Key, read: &Mark| {
            self.lists.get(target).and_then(|list| list.get(key)).is_some_and(|held| held.version >= read.version)
        };
        let is_old = |(key, (read, _)): &(&Key, &(Mark, NodeId))| self.live.iter().all(|it| has(it, key, read));
        if let Some((end, _)) = holders.iter().find(is_old) {
            let end = end.clone();
            holders.split_off(&end);
        }
    }

    /// Compares what replicas listed, and what was read before, where they speak of the same version.
    pub(super) fn note_contradictions(&mut self) {
        let mut known: BTreeMap<(&Key, Version), u64> = BTreeMap::new();
        for (key, mark) in self.lists.values().chain([&self.reading]).flatten() {
            let sum = *known.entry((key, mark.version)).or_insert(mark.sum);
            if sum != mark.sum && self.report.contradictions.len() < CONTRADICTIONS {
                self.report.contradictions.insert((key.clone(), mark.version));
            }
        }
    }

    fn queue_ship(&mut self, holder: NodeId, target: NodeId, keys: Vec<Key>) {
        let to = *self.spec.targets.iter().find(|r| r.node == target).expect("a target is in the specification");
        let ship = Message::Ship {
            request: RequestId { job: self.job, n: 0 },
            shard: self.spec.shard,
            epoch: self.spec.epoch,
            purpose: self.spec.purpose,
            selection: Selection::Keys(keys),
            to,
            raise_to: self.required_counter,
        };
        self.waiting.push_back((holder, Some(target), ship));
    }
}
