//! Documents from copy to copy: pages, deltas, repairs.

use crate::engine::Put;
use crate::env::{Event, Nanos, Peer};
use crate::error::EngineError;
use crate::id::{Key, ShardId, Value, Version};
use crate::node::{Node, PAGE_BYTES};
use crate::wire::{Message, PageEnd, Purpose, Selection, Shipped};

impl Node {
    pub(super) fn ship(&mut self, now: Nanos, from: Peer, ship: Message) -> Result<(), EngineError> {
        let Message::Ship { request, shard, epoch, purpose, selection, to, raise_to } = ship else {
            unreachable!("the caller matched a Ship");
        };
        if !self.serves(now, from, request, shard, epoch) {
            return Ok(());
        }
        let (documents, end) = match selection {
            Selection::Page { after, documents } => {
                let page = self.engine.page(shard, after.as_ref(), documents as usize, PAGE_BYTES)?;
                let last = page.documents.last().map(|(key, _)| key.clone()).or(after);
                let end = PageEnd { last, more: page.more };
                let documents = page
                    .documents
                    .into_iter()
                    .map(|(key, stored)| Shipped { key, version: stored.version, value: stored.value })
                    .collect();
                (documents, Some(end))
            }
            Selection::Keys(keys) => {
                let mut documents = Vec::with_capacity(keys.len());
                let mut bytes = 0;
                for key in keys {
                    // What does not fit is still missing when the result is verified, and is shipped then.
                    if bytes > PAGE_BYTES {
                        break;
                    }
                    if let Some(stored) = self.engine.get(shard, &key)? {
                        bytes += stored.value.as_ref().map_or(0, |value| value.len());
                        documents.push(Shipped { key, version: stored.version, value: stored.value });
                    }
                }
                (documents, None)
            }
        };
        let session = to.session;
        let repair = Message::Repair { request, shard, epoch, session, purpose, documents, raise_to, end };
        self.answer(Peer::Node(to.node), repair);
        Ok(())
    }

    /// Merges shipped documents into this copy, if they are meant for this session of it.
    pub(super) fn repair(&mut self, repair: Message) -> Result<(), EngineError> {
        let Message::Repair { request, shard, epoch, session, purpose, documents, raise_to, end } = repair else {
            unreachable!("the caller matched a Repair");
        };
        let disk = self.engine.disk_id();
        let refusal = match self.config(shard) {
            None => Some("no configuration"),
            Some(config) if epoch < config.gc_barrier && !mutant!("M43") => Some("read below the tombstone barrier"),
            Some(config) if !config.is_member(self.id) => Some("not a member"),
            Some(config) => match config.replica(self.id) {
                Some(replica) if replica.session != session && !mutant!("M20") => Some("another session"),
                Some(replica) if replica.disk != disk => Some("another disk"),
                _ => None,
            },
        };
        let damaged = self.engine.shard(shard).is_some_and(|state| state.damaged);
        if let Some(why) = refusal.or(damaged.then_some("damaged copy")) {
            self.turned_away.push(Event::TurnedAway { node: self.id, shard, why });
            let why = format!("{} refused a repair of {shard}: {why}", self.id);
            self.answer(Peer::Coordinator, Message::Unserved { request, node: self.id, why });
            return Ok(());
        }
        let mut applied = 0;
        for Shipped { key, version, value } in documents {
            if mutant!("M10") && purpose == Purpose::Copy && value.is_none() {
                continue;
            }
            let put = self.merge(shard, &key, version, value)?;
            if put == Put::Applied {
                applied += 1;
                self.repaired.insert((shard, key, version), (purpose, session, epoch));
            }
        }
        self.engine.raise_counter(shard, raise_to)?;
        if let (Purpose::Copy, Some(end)) = (purpose, &end) {
            self.copied.push((shard, if end.more { end.last.clone() } else { None }));
        }
        let max_counter = self.engine.shard(shard).map_or(0, |state| state.max_counter);
        #[cfg(madsim)]
        let end = if mutant!("M02") { self.highest_seen(shard, end)? } else { end };
        let repaired = Message::Repaired { request, node: self.id, applied, max_counter, end };
        self.answer(Peer::Coordinator, repaired);
        Ok(())
    }

    fn merge(&mut self, shard: ShardId, key: &Key, version: Version, value: Option<Value>) -> Result<Put, EngineError> {
        #[cfg(madsim)]
        if mutant!("M06") || (mutant!("M08") && self.holds_tombstone(shard, key)) {
            return self.engine.put_regardless(shard, key, version, value);
        }
        self.engine.put(shard, key, version, value)
    }
    /// What the planted bugs M07 and M08 take for nothing.
    pub(super) fn holds_tombstone(&self, shard: ShardId, key: &Key) -> bool {
        self.engine.get(shard, key).is_ok_and(|stored| stored.is_some_and(|stored| stored.value.is_none()))
    }

    /// What the planted bug M02 takes for the end of the page: the greatest key that the copy holds.
    #[cfg(madsim)]
    fn highest_seen(&self, shard: ShardId, end: Option<PageEnd>) -> Result<Option<PageEnd>, EngineError> {
        let last = self.engine.documents(shard)?.pop().map(|(key, _)| key);
        Ok(end.map(|end| PageEnd { last: last.or(end.last), more: end.more }))
    }
}
