//! One operation of a router: its phase, its count of answers, its version.

use crate::env::Nanos;
use crate::id::{Epoch, NodeId, ShardId, Value, Version};
use crate::router::{Outcome, Request};
use crate::wire::{Answer, Op};

/// What is being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No configuration of the shard is known yet.
    Locate,
    /// A put or delete learns the greatest counter of a quorum.
    Counter {
        greatest: u64,
    },
    /// A put or delete is being made durable under its one version.
    Write {
        version: Version,
        chosen_at: Epoch,
    },
    Read,
    /// A get makes what it read durable on a quorum before it returns it.
    WriteBack {
        version: Version,
        chosen_at: Epoch,
    },
}

/// The state of one operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) request: Request,
    pub(super) phase: Phase,
    pub(super) shard: Option<ShardId>,
    /// The epoch this phase runs at; only answers given under it count.
    pub(super) epoch: Epoch,
    /// Counts the starts of phases.
    pub(super) attempt: u32,
    /// The first attempt that asked what this one asks, and what that is: answers to earlier ones do not count.
    since: u32,
    asked: Option<Phase>,
    pub(super) deadline: Nanos,
    pub(super) resend_at: Nanos,
    pub(super) resends: u32,
    /// A replica refused the write because its version was chosen below the tombstone barrier.
    pub(super) refused: bool,
    answered: Vec<NodeId>,
    /// Who takes no value of this length, and how many bytes they take.
    refused_by: Vec<NodeId>,
    limit: u64,
    /// Whether a replica has ever taken the write, under whatever epoch.
    taken: bool,
    /// Whether any message that could change a replica was ever sent.
    write_sent: bool,
    /// The version that was issued for a put or delete, kept over restarts of the phase.
    chosen: Option<(Version, Epoch)>,
    /// The versions that a read's quorum answered, and the greatest one's value.
    seen: Vec<Version>,
    best: Option<(Version, Option<Value>)>,
}

impl Operation {
    pub(super) fn new(request: Request, deadline: Nanos) -> Operation {
        Operation {
            request,
            phase: Phase::Locate,
            shard: None,
            epoch: Epoch::ZERO,
            attempt: 0,
            since: 0,
            asked: None,
            deadline,
            resend_at: 0,
            resends: 0,
            refused: false,
            answered: Vec::new(),
            refused_by: Vec::new(),
            limit: 0,
            taken: false,
            write_sent: false,
            chosen: None,
            seen: Vec::new(),
            best: None,
        }
    }

    /// Starts the phase again with an empty count. An interrupted get reads again; a put or delete keeps its version.
    pub(super) fn restart(&mut self, epoch: Epoch) {
        let changed = self.epoch != epoch;
        self.epoch = epoch;
        self.attempt += 1;
        if !mutant!("M13") {
            self.answered.clear();
        }
        self.refused_by.clear();
        self.phase = match (&self.request, &self.phase) {
            (Request::Get { .. }, Phase::WriteBack { .. }) if !changed => self.phase.clone(),
            (Request::Get { .. }, _) => {
                self.seen.clear();
                self.best = None;
                Phase::Read
            }
            (_, _) => match self.chosen {
                Some((version, chosen_at)) if !(changed && mutant!("M26")) => Phase::Write { version, chosen_at },
                _ => Phase::Counter { greatest: 0 },
            },
        };
        if !changed || self.asked.as_ref() != Some(&self.phase) {
            self.since = self.attempt;
        }
        self.asked = Some(self.phase.clone());
    }

    /// Fixes the one version of this put or delete. A second choice would make one operation two.
    pub(super) fn choose(&mut self, version: Version) {
        assert!(self.chosen.is_none() || mutant!("M26"), "one operation, one version");
        self.answered.clear();
        self.chosen = Some((version, self.epoch));
    }

    /// Whether this attempt asked what is asked now.
    pub(super) fn asked_in(&self, attempt: u32) -> bool {
        (self.since..=self.attempt).contains(&attempt)
    }

    pub(super) fn is_writing(&self) -> bool {
        matches!(self.phase, Phase::Write { .. } | Phase::WriteBack { .. })
    }

    pub(super) fn has_answered(&self, node: NodeId) -> bool {
        self.answered.contains(&node)
    }

    pub(super) fn has_refused(&self, node: NodeId) -> bool {
        self.refused_by.contains(&node)
    }

    /// How many bytes a value may have for those who turned this one away, if nobody has taken it. What somebody has taken
    /// may be there, whatever others say.
    pub(super) fn too_long(&self) -> Option<u64> {
        (!self.refused_by.is_empty() && !self.taken).then_some(self.limit)
    }

    /// What a replica is asked in this phase.
    pub(super) fn question(&mut self) -> Op {
        let key = self.request.key().clone();
        match self.phase {
            Phase::Locate => unreachable!("there is nobody to ask yet"),
            Phase::Counter { .. } => Op::Counter,
            Phase::Read => Op::Read { key },
            Phase::Write { version, chosen_at } => {
                self.write_sent = true;
                let value = match &self.request {
                    Request::Put { value, .. } => Some(value.clone()),
                    Request::Delete { .. } => None,
                    Request::Get { .. } => unreachable!("a get writes back"),
                };
                Op::Write { key, version, chosen_at, value }
            }
            Phase::WriteBack { version, chosen_at } => {
                self.write_sent = true;
                let (_, value) = self.best.clone().expect("a write-back has something to write");
                Op::Write { key, version, chosen_at, value }
            }
        }
    }

    /// Takes one replica's answer; `false` if it answers another question.
    pub(super) fn take(&mut self, node: NodeId, answer: Answer) -> bool {
        match (&mut self.phase, answer) {
            (Phase::Counter { greatest }, Answer::Counter(counter)) => *greatest = counter.max(*greatest),
            (Phase::Read, Answer::Read { version, value }) => {
                self.seen.push(version);
                if self.best.as_ref().is_none_or(|(best, _)| version > *best) {
                    self.best = Some((version, value));
                }
            }
            (Phase::Write { .. } | Phase::WriteBack { .. }, Answer::Written) => self.taken = true,
            (Phase::Write { .. }, Answer::TooLong { limit }) => {
                self.limit = limit;
                self.refused_by.push(node);
                return true;
            }
            (Phase::Write { .. } | Phase::WriteBack { .. }, Answer::BelowBarrier) => self.refused = true,
            _ => return false,
        }
        self.answered.push(node);
        true
    }

    /// Ends the read phase; `true` if the whole quorum agreed, so that nothing needs to be written back.
    pub(super) fn settle_read(&mut self) -> bool {
        let (version, _) = self.best.as_ref().expect("a quorum answered");
        let version = *version;
        if self.seen.iter().all(|seen| *seen == version) {
            return true;
        }
        self.answered.clear();
        self.phase = Phase::WriteBack { version, chosen_at: self.epoch };
        false
    }

    /// The outcome of an operation whose last phase a quorum answered.
    pub(super) fn complete(self) -> Outcome {
        match (self.request, self.chosen, self.best) {
            (Request::Put { value, .. }, Some((version, _)), _) => Outcome::Ok { version, value: Some(value) },
            (Request::Delete { .. }, Some((version, _)), _) => Outcome::Ok { version, value: None },
            (Request::Get { .. }, _, Some((version, value))) => Outcome::Ok { version, value },
            _ => unreachable!("a completed operation has a version"),
        }
    }

    /// The outcome of an operation that is given up.
    pub(super) fn give_up(self) -> Outcome {
        if self.write_sent && !mutant!("M61") {
            Outcome::Unknown { version: self.chosen.map(|(version, _)| version) }
        } else {
            Outcome::Rejected
        }
    }
}
