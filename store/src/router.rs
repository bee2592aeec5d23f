//! The client side: which shard, which quorum, which epoch.
//!
//! A put or delete asks a quorum for the greatest counter, chooses one version, and sends the write to every replica
//! until a quorum has it; when a newer configuration turns up, the phase starts again *with the same version*. A get
//! asks a quorum, takes the greatest version, and writes it back unless the whole quorum already agreed.
//!
//! [`Router`] is a state machine: [`Router::start`], [`Router::receive`] and [`Router::tick`] change it,
//! [`Router::drain_sends`] and [`Router::drain_done`] say what follows. [`Client`](client::Client) drives it. Requests
//! of the same shard, epoch and instant travel in one batch per node, or in several where they are large.
//!
//! An answer counts only if it was given under the epoch that the operation runs at, to the question that it asks now.
//! Learning of a newer configuration restarts the phase with an empty count; a node that had installed it when the
//! question came has answered under it, and is counted under it.

pub mod client;
mod operation;
pub mod scan;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::ShardConfig;
use crate::env::{Nanos, Peer, millis};
use crate::id::{Epoch, Key, MAX_VALUE_BYTES, NodeId, ShardId, Value, Version, WriterId};
use crate::wire::{Answer, Message, Op, Token, portions};

use operation::{Operation, Phase};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Get { key: Key },
    Put { key: Key, value: Value },
    Delete { key: Key },
}

impl Request {
    pub fn key(&self) -> &Key {
        match self {
            Request::Get { key } | Request::Put { key, .. } | Request::Delete { key } => key,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable on a quorum. For a get, `value` is what was read (`None`: absent); otherwise what was written.
    Ok { version: Version, value: Option<Value> },
    /// Certainly not applied: no write was ever sent.
    Rejected,
    /// Larger than the cluster takes: a quorum turned it away, and nobody took it. It is not asked again.
    TooLong { limit: u64 },
    /// It may or may not be applied, now or later.
    Unknown {
        /// The version that was chosen for it, if it came that far.
        version: Option<Version>,
    },
}

/// Names an operation of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// When to ask again and when to give up.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Replicas that have not answered are asked again this often.
    pub resend: Nanos,
    /// An operation ends as `Unknown` or `Rejected` after this long.
    pub give_up: Nanos,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { resend: millis(30), give_up: millis(1_000) }
    }
}

/// One client's state machine.
pub struct Router {
    writer: WriterId,
    /// The greatest counter this writer ever issued, for any document.
    issued: u64,
    timing: Timing,
    /// Where configurations are asked for while none is known.
    nodes: Vec<NodeId>,
    configs: BTreeMap<ShardId, ShardConfig>,
    /// Nodes that turned a request away because they had yet to install what this router knows.
    behind: BTreeSet<(NodeId, ShardId)>,
    shard_count: Option<u32>,
    asked_configs_at: Option<Nanos>,
    operations: BTreeMap<u64, Operation>,
    next: u64,
    outbox: BTreeMap<(NodeId, ShardId, Epoch), Vec<(Token, Op)>>,
    questions: Vec<NodeId>,
    done: Vec<(OperationId, Outcome)>,
    scans: scan::Scans,
}

impl Router {
    /// `writer` is 128 fresh bits; `nodes` are the nodes to start from.
    pub fn new(writer: WriterId, nodes: Vec<NodeId>, timing: Timing) -> Router {
        assert!(!nodes.is_empty(), "a router needs a node to start from");
        Router {
            writer,
            issued: 0,
            timing,
            nodes,
            configs: BTreeMap::new(),
            behind: BTreeSet::new(),
            shard_count: None,
            asked_configs_at: None,
            operations: BTreeMap::new(),
            // Answers to an earlier start of this client are not taken for answers to this one.
            next: (writer.0 >> 64) as u64,
            outbox: BTreeMap::new(),
            questions: Vec::new(),
            done: Vec::new(),
            scans: scan::Scans::default(),
        }
    }

    /// Begins an operation; its end comes out of [`Router::drain_done`].
    pub fn start(&mut self, now: Nanos, request: Request) -> OperationId {
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        if matches!(&request, Request::Put { value, .. } if value.len() > MAX_VALUE_BYTES) {
            self.done.push((OperationId(id), Outcome::TooLong { limit: MAX_VALUE_BYTES as u64 }));
            return OperationId(id);
        }
        let operation = Operation::new(request, now + self.timing.give_up);
        self.operations.insert(id, operation);
        self.begin(now, id);
        OperationId(id)
    }

    /// Takes an answer in.
    pub fn receive(&mut self, now: Nanos, from: Peer, message: Message) {
        match message {
            Message::Answers { epoch, answers, .. } => {
                if let Peer::Node(node) = from {
                    for (token, answer) in answers {
                        self.answered(now, node, epoch, token, answer);
                    }
                }
            }
            Message::Scanned { epoch, token, documents, more, .. } => self.scanned(from, epoch, token, documents, more),
            Message::Stale { config } => self.told(now, from, config),
            Message::Configs { configs } => configs.into_iter().for_each(|config| self.learn(now, config)),
            Message::Behind { shard, epoch } => {
                if let Peer::Node(node) = from
                    && self.configs.get(&shard).is_some_and(|known| known.epoch > epoch)
                {
                    self.behind.insert((node, shard));
                }
            }
            // Unable: the node cannot help; it is asked again in a while.
            _ => {}
        }
    }

    /// Resends what was not answered and ends what took too long.
    pub fn tick(&mut self, now: Nanos) {
        let due: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.deadline <= now || operation.resend_at <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            let operation = self.operations.get_mut(&id).expect("collected above");
            if operation.deadline <= now {
                let operation = self.operations.remove(&id).expect("collected above");
                self.done.push((OperationId(id), operation.give_up()));
            } else if operation.phase == Phase::Locate {
                self.begin(now, id);
            } else {
                operation.resend_at = now + self.timing.resend;
                operation.resends += 1;
                // Whoever is asked may all be gone: somebody else knows better.
                let lost = operation.resends.is_multiple_of(3);
                self.ask(id, None);
                if lost {
                    self.ask_for_configs(now);
                }
            }
        }
        self.tick_scans(now);
    }

    /// When [`Router::tick`] is due next.
    pub fn deadline(&self) -> Nanos {
        let operations = self.operations.values().map(|op| op.deadline.min(op.resend_at)).min();
        operations.unwrap_or(Nanos::MAX).min(self.scans.deadline())
    }

    /// What is to be sent now, batched per node, shard and epoch.
    pub fn drain_sends(&mut self) -> Vec<(NodeId, Message)> {
        let mut sends: Vec<(NodeId, Message)> =
            self.questions.drain(..).map(|node| (node, Message::GetConfigs)).collect();
        for ((node, shard, epoch), ops) in std::mem::take(&mut self.outbox) {
            let portions = portions(ops, |(_, op)| op.weight()).into_iter();
            sends.extend(portions.map(|ops| (node, Message::Batch { shard, epoch, ops })));
        }
        sends.extend(self.scans.drain_sends());
        if mutant!("M40") && (self.nodes.as_ptr().addr() >> (26 + self.next % 16)) & 1 == 1 {
            // Where a list happens to lie decides who is asked first. Below bit 26 an allocator's arena lies the same each time.
            sends.reverse();
        }
        sends
    }

    /// What has ended.
    pub fn drain_done(&mut self) -> Vec<(OperationId, Outcome)> {
        std::mem::take(&mut self.done)
    }

    /// How many operations are under way.
    pub fn pending(&self) -> usize {
        self.operations.len()
    }

    /// The configuration this router believes in.
    pub fn config(&self, shard: ShardId) -> Option<&ShardConfig> {
        self.configs.get(&shard)
    }

    /// Any configuration it knows: how many shards and replicas there are stands in each.
    pub fn any_config(&self) -> Option<&ShardConfig> {
        self.configs.values().next()
    }

    /// Takes the configuration in that a node has installed. One that was behind has caught up with it: it is asked again
    /// what it turned away.
    fn told(&mut self, now: Nanos, from: Peer, config: ShardConfig) {
        let (shard, epoch) = (config.shard, config.epoch);
        let known = self.configs.get(&shard).map(|known| known.epoch);
        self.learn(now, config);
        if let Peer::Node(node) = from
            && known.is_none_or(|known| known <= epoch)
            && self.behind.remove(&(node, shard))
            && known == Some(epoch)
        {
            let asked = |op: &Operation| op.shard == Some(shard) && op.phase != Phase::Locate;
            let asked: Vec<u64> = self.operations.iter().filter(|(_, op)| asked(op)).map(|(&id, _)| id).collect();
            asked.into_iter().for_each(|id| self.ask(id, Some(node)));
            self.ask_for_pages(shard, node);
        }
    }

    /// Takes a configuration in; operations of its shard that run at a smaller epoch start their phase again.
    fn learn(&mut self, now: Nanos, config: ShardConfig) {
        let shard = config.shard;
        self.shard_count = Some(config.shard_count);
        if self.configs.get(&shard).is_some_and(|known| known.epoch >= config.epoch) {
            return;
        }
        let epoch = config.epoch;
        self.configs.insert(shard, config);
        let behind: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, op)| op.phase == Phase::Locate || (op.shard == Some(shard) && op.epoch < epoch))
            .map(|(&id, _)| id)
            .collect();
        for id in behind {
            let operation = self.operations.get_mut(&id).expect("collected above");
            if mutant!("M49") && operation.phase != Phase::Locate {
                operation.epoch = epoch;
            } else {
                self.begin(now, id);
            }
        }
        self.restart_scans(now, shard, epoch);
    }

    /// Starts an operation's current phase (again) under the newest known configuration.
    fn begin(&mut self, now: Nanos, id: u64) {
        let operation = self.operations.get_mut(&id).expect("a pending operation");
        operation.resend_at = now + self.timing.resend;
        let shard = self.shard_count.map(|count| operation.request.key().shard(count));
        operation.shard = shard;
        match shard.and_then(|shard| self.configs.get(&shard)) {
            Some(config) => {
                operation.restart(config.epoch);
                self.ask(id, None);
            }
            None => {
                operation.phase = Phase::Locate;
                self.ask_for_configs(now);
            }
        }
    }

    fn ask_for_configs(&mut self, now: Nanos) {
        let due = self.asked_configs_at.is_none_or(|at| now >= at + self.timing.resend);
        if due {
            self.asked_configs_at = Some(now);
            self.questions.extend(&self.nodes);
        }
    }

    /// Sends an operation's question to the replicas that have not answered it, or to one of them.
    fn ask(&mut self, id: u64, only: Option<NodeId>) {
        let operation = self.operations.get_mut(&id).expect("a pending operation");
        let shard = operation.shard.expect("a located operation has a shard");
        let config = &self.configs[&shard];
        assert_eq!(operation.epoch, config.epoch, "an operation is asked under the configuration it was located by");
        let is_kept_back = mutant!("M07") && matches!(operation.request, Request::Delete { .. });
        let nodes = if operation.is_writing() && !is_kept_back { config.writers_to() } else { config.voters() };
        let token = Token { operation: id, attempt: operation.attempt };
        let op = operation.question();
        for node in nodes.into_iter().filter(|node| only.is_none_or(|only| only == *node)) {
            if !operation.has_answered(node) && !operation.has_refused(node) {
                self.outbox.entry((node, shard, operation.epoch)).or_default().push((token, op.clone()));
            }
        }
    }

    fn answered(&mut self, now: Nanos, node: NodeId, epoch: Epoch, token: Token, answer: Answer) {
        let Some(operation) = self.operations.get_mut(&token.operation) else {
            return;
        };
        let counts = operation.asked_in(token.attempt) && operation.epoch == epoch;
        if !counts || operation.has_answered(node) {
            return;
        }
        let shard = operation.shard.expect("an asked operation has a shard");
        if !operation.take(node, answer) {
            return;
        }
        self.behind.remove(&(node, shard));
        if operation.refused {
            if matches!(operation.request, Request::Get { .. }) {
                // The write-back was refused: read again, under a newer epoch if there is one.
                operation.phase = Phase::Read;
                operation.refused = false;
                self.begin(now, token.operation);
            } else {
                let operation = self.operations.remove(&token.operation).expect("found above");
                self.done.push((OperationId(token.operation), operation.give_up()));
            }
            return;
        }
        let config = &self.configs[&shard];
        if let Some(limit) = operation.too_long()
            && config.is_quorum(|node| operation.has_refused(node))
        {
            self.operations.remove(&token.operation);
            self.done.push((OperationId(token.operation), Outcome::TooLong { limit }));
            return;
        }
        let quorum = if mutant!("M11") && operation.is_writing() {
            let group = config.groups().next().expect("every form has a group");
            let count = group.iter().filter(|replica| operation.has_answered(replica.node)).count();
            count >= crate::config::majority(group.len())
        } else if mutant!("M12") && !operation.is_writing() {
            let group = config.groups().last().expect("every form has a group");
            let count = group.iter().filter(|replica| operation.has_answered(replica.node)).count();
            count >= crate::config::majority(group.len())
        } else {
            config.is_quorum(|node| operation.has_answered(node))
        };
        if quorum {
            self.advance(now, token.operation);
        }
    }

    /// A quorum has answered the current phase.
    fn advance(&mut self, now: Nanos, id: u64) {
        let operation = self.operations.get_mut(&id).expect("a pending operation");
        match operation.phase {
            Phase::Locate => unreachable!("nobody was asked"),
            Phase::Counter { greatest } => {
                let known = if mutant!("M41") { 0 } else { self.issued };
                let counter = 1 + greatest.max(known);
                self.issued = counter;
                operation.choose(Version { counter, writer: self.writer });
                self.begin(now, id);
            }
            Phase::Read => {
                let agreed = operation.settle_read();
                if agreed || mutant!("M27") {
                    self.finish(id);
                } else {
                    self.begin(now, id);
                }
            }
            Phase::Write { .. } | Phase::WriteBack { .. } => self.finish(id),
        }
    }

    fn finish(&mut self, id: u64) {
        let operation = self.operations.remove(&id).expect("a pending operation");
        self.done.push((OperationId(id), operation.complete()));
    }
}
