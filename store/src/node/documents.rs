//! What clients ask: counters, reads, writes, and pages of scans.

use crate::engine::{Range, Stored};
use crate::env::{Event, Measure, Nanos, Peer};
use crate::error::EngineError;
use crate::id::{Epoch, Key, ShardId, Version};
use crate::node::{Node, PAGE_BYTES, READ_BYTES};
use crate::wire::{Answer, Message, NameRange, Op, Shipped, Token, portions};

fn bytes_of(stored: Option<&Stored>) -> usize {
    stored.and_then(|stored| stored.value.as_ref()).map_or(0, |value| value.len())
}

impl Node {
    pub(super) fn batch(
        &mut self,
        now: Nanos,
        from: Peer,
        shard: ShardId,
        epoch: Epoch,
        ops: Vec<(Token, Op)>,
    ) -> Result<(), EngineError> {
        if ops.iter().any(|(_, op)| matches!(op, Op::Counter | Op::Write { .. })) {
            self.measures.push(Measure::Tried { shard });
        }
        let mut refusal = self.fence(now, from, shard, epoch);
        let mut epoch = epoch;
        // Overtaken by a configuration. The client is told of it, and what it asks for is done under it, as if it had known
        // it already: it need not ask again.
        if let Some(stale) = refusal.take_if(|it| matches!(it, Message::Stale { .. }) && self.serves_clients(shard)) {
            self.answer(from, stale);
            self.has_served(shard, None);
            let writes = ops.iter().filter(|(_, op)| matches!(op, Op::Write { .. })).count();
            let (node, installed) = (self.id, self.epoch(shard));
            self.turned_away.push(Event::Overtaken { node, shard, epoch, installed, writes });
            if !mutant!("M63") {
                epoch = installed;
            }
        }
        if let Some(refusal) = refusal {
            self.turn_away(&refusal, ops.len() as u64);
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
            match self.operate(shard, op)? {
                // By itself: who is too old to read it shall still read the others.
                Some(answer @ Answer::TooLong { .. }) => {
                    self.measures.push(Measure::TurnedAway { why: "too long", requests: 1 });
                    self.answer(from, Message::Answers { shard, epoch, answers: vec![(token, answer)] });
                }
                Some(answer) => {
                    if answer == Answer::BelowBarrier {
                        self.measures.push(Measure::TurnedAway { why: "below the tombstone barrier", requests: 1 });
                    }
                    answers.push((token, answer));
                }
                None => {}
            }
        }
        for answers in portions(answers, |(_, answer)| answer.weight()) {
            self.answer(from, Message::Answers { shard, epoch, answers });
        }
        Ok(())
    }

    /// Counts requests that the fence did not let through.
    fn turn_away(&mut self, refusal: &Message, requests: u64) {
        let why = match refusal {
            Message::Stale { .. } => "stale epoch",
            Message::Behind { .. } => "newer epoch",
            _ => "no sound copy",
        };
        self.measures.push(Measure::TurnedAway { why, requests });
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
            Op::Read { .. } if self.read_bytes >= READ_BYTES => None,
            Op::Read { key } if votes => {
                let stored = self.engine.get(shard, &key)?;
                self.read_bytes += bytes_of(stored.as_ref());
                Some(match stored {
                    Some(stored) => Answer::Read { version: stored.version, value: stored.value },
                    None => Answer::Read { version: Version::ZERO, value: None },
                })
            }
            // A joining node under DualWrite has no vote: nobody may read from it.
            Op::Counter | Op::Read { .. } => None,
            Op::Write { key, version, chosen_at, value } => {
                if value.as_ref().is_some_and(|value| value.len() > self.document_bytes) {
                    // What was acknowledged while more was allowed stays readable: those who hold it confirm it.
                    let held = self.engine.get(shard, &key)?.is_some_and(|held| held.version >= version);
                    let limit = self.document_bytes as u64;
                    return Ok(Some(if held { Answer::Written } else { Answer::TooLong { limit } }));
                }
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

    /// One page of a scan, from a voter, under exactly the installed epoch.
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
        let refusal = self.fence(now, from, shard, epoch);
        if let Some(refusal) = refusal.filter(|it| !(mutant!("M59") && matches!(it, Message::Stale { .. }))) {
            self.turn_away(&refusal, 1);
            self.answer(from, refusal);
            return Ok(());
        }
        let votes = self.config(shard).is_some_and(|config| config.voters().contains(&self.id)) || mutant!("M59");
        if !votes || self.read_bytes >= READ_BYTES {
            return Ok(());
        }
        let range = Range { from: &range.from, until: range.until.as_deref() };
        let page = self.engine.range(shard, &range, documents as usize, PAGE_BYTES)?;
        let more = page.more;
        self.read_bytes += page.documents.iter().map(|(_, stored)| bytes_of(Some(stored))).sum::<usize>();
        let documents = page.documents.into_iter();
        let documents =
            documents.map(|(key, stored)| Shipped { key, version: stored.version, value: stored.value }).collect();
        self.answer(from, Message::Scanned { shard, epoch, token, documents, more });
        Ok(())
    }
}
