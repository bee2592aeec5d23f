//! What clients ask: counters, reads, writes, and pages of scans.

use crate::engine::Range;
use crate::env::{Event, Nanos, Peer};
use crate::error::EngineError;
use crate::id::{Epoch, Key, ShardId, Version};
use crate::node::{Node, PAGE_BYTES};
use crate::wire::{Answer, Message, NameRange, Op, Shipped, Token, portions};

impl Node {
    pub(super) fn batch(
        &mut self,
        now: Nanos,
        from: Peer,
        shard: ShardId,
        epoch: Epoch,
        ops: Vec<(Token, Op)>,
    ) -> Result<(), EngineError> {
        if let Some(refusal) = self.fence(now, shard, epoch) {
            self.answer(from, refusal);
            let writes = ops.into_iter().filter_map(|(_, op)| match op {
                Op::Write { key, version, .. } => Some((key, version)),
                Op::Counter | Op::Read { .. } => None,
            });
            let writes: Vec<(Key, Version)> = writes.collect();
            if !writes.is_empty() {
                let (node, installed) = (self.id, self.epoch(shard));
                self.turned_away.push(Event::Fenced { node, shard, epoch, installed, writes });
            }
            return Ok(());
        }
        let mut answers = Vec::with_capacity(ops.len());
        for (token, op) in ops {
            if let Some(answer) = self.operate(shard, op)? {
                answers.push((token, answer));
            }
        }
        for answers in portions(answers, |(_, answer)| answer.weight()) {
            self.answer(from, Message::Answers { shard, epoch, answers });
        }
        Ok(())
    }

    fn operate(&mut self, shard: ShardId, op: Op) -> Result<Option<Answer>, EngineError> {
        let config = self.config(shard).expect("the fence found a configuration");
        let votes = config.groups().flatten().any(|replica| replica.node == self.id);
        let barrier = config.gc_barrier;
        Ok(match op {
            Op::Counter if votes => {
                let state = self.engine.shard(shard).expect("the fence found a state");
                Some(Answer::Counter(state.max_counter))
            }
            Op::Read { key } if votes => {
                let stored = self.engine.get(shard, &key)?;
                Some(match stored {
                    Some(stored) => Answer::Read { version: stored.version, value: stored.value },
                    None => Answer::Read { version: Version::ZERO, value: None },
                })
            }
            // A joining node under DualWrite has no vote: nobody may read from it.
            Op::Counter | Op::Read { .. } => None,
            Op::Write { key, version, chosen_at, value } => {
                if chosen_at < barrier {
                    let held = self.engine.get(shard, &key)?;
                    if held.is_none_or(|held| held.version < version) {
                        return Ok(Some(Answer::BelowBarrier));
                    }
                }
                self.engine.put(shard, &key, version, value)?;
                Some(Answer::Written)
            }
        })
    }

    /// One page of a scan, from a voter, under the fence of all clients' requests.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn scan(
        &mut self,
        now: Nanos,
        from: Peer,
        shard: ShardId,
        epoch: Epoch,
        token: Token,
        range: &NameRange,
        documents: u32,
    ) -> Result<(), EngineError> {
        if let Some(refusal) = self.fence(now, shard, epoch) {
            self.answer(from, refusal);
            return Ok(());
        }
        if !self.config(shard).is_some_and(|config| config.voters().contains(&self.id)) {
            return Ok(());
        }
        let range = Range { from: &range.from, until: range.until.as_deref() };
        let page = self.engine.range(shard, &range, documents as usize, PAGE_BYTES)?;
        let more = page.more;
        let documents = page.documents.into_iter();
        let documents =
            documents.map(|(key, stored)| Shipped { key, version: stored.version, value: stored.value }).collect();
        self.answer(from, Message::Scanned { shard, epoch, token, documents, more });
        Ok(())
    }
}
