//! Digest -> diff -> repair: makes what a majority of some replicas holds present on others, and proves it.
//!
//! One state machine for three callers: the delta pass (from the old replicas to the new ones), its verification, and
//! anti-entropy (among the replicas of a shard). It compares bucket digests, splits the buckets that differ until few
//! documents are left in each, lists id, version and checksum of the differing ones only, has the holders ship what is
//! missing straight to the replicas that lack it, and lists again to verify. Documents never pass through the
//! coordinator, which only drives.
//!
//! Two replicas that hold one document in one version with different checksums contradict each other. Merging by
//! version cannot say who is right, so nothing is shipped for it; it is reported.
//!
//! Every read is made at exactly [`Spec::epoch`], so each member is read after its own install of that epoch; when
//! the shard's configuration changes the job is void and its owner starts another.
//!
//! Not handled here: when to run (migration, anti-entropy), and what a success permits (the coordinator).

mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{Replica, majority};
use crate::engine::{Bucket, MAX_LEVEL, Mark};
use crate::env::{Nanos, millis};
use crate::id::{Epoch, Key, NodeId, ShardId, Version};
use crate::wire::{Message, Purpose, RequestId};

/// Ships under way at once; more wait.
const SHIPS_IN_FLIGHT: usize = 8;
/// Documents per ship.
const SHIP_DOCUMENTS: usize = 128;
/// Buckets that hold more documents than this, on the average, are split before they are listed.
const BUCKET_DOCUMENTS: u64 = 4;
/// Buckets per question about what they split into.
const SPLIT_BUCKETS: usize = 4_096;
/// Documents per listing, about: at most 16 MiB, whatever they are called.
const LIST_DOCUMENTS: u64 = 16_384;

/// To split or list buckets a node walks its copy: so long it may take for each document of it. Who asks again sooner
/// has it walk once more.
const WALK_PER_DOCUMENT: Nanos = 2_000;
/// How many contradictions a report names; one is a bug already.
const CONTRADICTIONS: usize = 16;

/// What is to be reconciled.
#[derive(Clone, Debug)]
pub struct Spec {
    pub shard: ShardId,
    /// The epoch at which every read is made.
    pub epoch: Epoch,
    pub purpose: Purpose,
    /// Enough of *each* of these is read.
    pub sources: Vec<Source>,
    /// What was read is made present on all of these that can be reached, a majority at least.
    pub targets: Vec<Replica>,
    /// Carry only `max_counter`: what remains of a delta pass that is skipped.
    pub counters_only: bool,
}

/// Replicas of which so many are read.
#[derive(Clone, Debug)]
pub struct Source {
    pub replicas: Vec<Replica>,
    pub needed: usize,
}

impl Source {
    pub fn majority_of(group: &[Replica]) -> Source {
        Source { replicas: group.to_vec(), needed: majority(group.len()) }
    }
}

/// When to ask again, to go on without stragglers, and to start over.
#[derive(Clone, Debug)]
pub struct Timing {
    pub resend: Nanos,
    /// How long stragglers are waited for once a majority has answered.
    pub grace: Nanos,
    /// A phase that takes longer is begun again from the digests.
    pub patience: Nanos,
    /// Nothing is verified. Only a simulator may choose so, to measure what that prevents.
    #[cfg(madsim)]
    pub unverified: bool,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            resend: millis(20),
            grace: millis(60),
            patience: millis(400),
            #[cfg(madsim)]
            unverified: false,
        }
    }
}

/// What a finished job found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Buckets whose digests differed somewhere.
    pub differing: usize,
    /// Documents that some replica lacked and was sent.
    pub shipped: u64,
    /// Times that verification found something still missing, and the pass was run again.
    pub reruns: u32,
    /// Documents of which replicas hold different values under this one version; the first few.
    pub contradictions: BTreeSet<(Key, Version)>,
    /// The targets on which the result was verified: a majority of them at least.
    pub verified: Vec<NodeId>,
}

/// A question on its way.
#[derive(Clone, Debug)]
struct Ask {
    to: NodeId,
    /// For a ship, the replica that will answer.
    target: Option<NodeId>,
    message: Message,
    sent_at: Nanos,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Digests,
    Split,
    Lists,
    Ship,
    Verify,
    Done,
}

/// What a replica told about its copy.
#[derive(Clone, Debug)]
struct Digests {
    buckets: Vec<u64>,
    documents: u64,
    max_counter: u64,
}

/// One job's state machine.
pub struct Reconcile {
    job: u64,
    spec: Spec,
    timing: Timing,
    phase: Phase,
    /// When the phase began, or last got on.
    since: Nanos,
    ticked_at: Nanos,
    next_request: u64,
    asks: BTreeMap<u64, Ask>,
    waiting: VecDeque<(NodeId, Option<NodeId>, Message)>,
    sends: Vec<(NodeId, Message)>,
    digests: BTreeMap<NodeId, Digests>,
    /// What the differing buckets split into, per replica.
    sums: BTreeMap<NodeId, BTreeMap<Bucket, u64>>,
    lists: BTreeMap<NodeId, BTreeMap<Key, Mark>>,
    /// The members whose reading is carried over.
    readers: BTreeSet<NodeId>,
    /// The targets that take part.
    live: BTreeSet<NodeId>,
    /// The differing buckets, and their level.
    buckets: Vec<Bucket>,
    level: u8,
    /// The greatest version of each document in the reading, of the differing buckets.
    reading: BTreeMap<Key, Mark>,
    required_counter: u64,
    report: Report,
    found: Found,
}

/// What comparisons have found, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the last comparison found lacking; `None`: nothing was compared.
    pub lacking: Option<u64>,
    /// What verifications found still lacking.
    pub still_lacking: u64,
}

impl Reconcile {
    /// Begins a job; its requests carry `job`.
    pub fn new(now: Nanos, job: u64, spec: Spec, timing: Timing) -> Reconcile {
        let mut reconcile = Reconcile {
            job,
            spec,
            timing,
            phase: Phase::Digests,
            since: now,
            ticked_at: now,
            next_request: 0,
            asks: BTreeMap::new(),
            waiting: VecDeque::new(),
            sends: Vec::new(),
            digests: BTreeMap::new(),
            sums: BTreeMap::new(),
            lists: BTreeMap::new(),
            readers: BTreeSet::new(),
            live: BTreeSet::new(),
            buckets: Vec::new(),
            level: 0,
            reading: BTreeMap::new(),
            required_counter: 0,
            report: Report::default(),
            found: Found::default(),
        };
        reconcile.begin(now);
        reconcile
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The result, once there is one.
    pub fn report(&self) -> Option<&Report> {
        (self.phase == Phase::Done).then_some(&self.report)
    }

    /// Takes a node's answer in.
    pub fn receive(&mut self, now: Nanos, answer: Message) {
        let (n, node) = match &answer {
            Message::Digests { request, node, .. }
            | Message::Sums { request, node, .. }
            | Message::Listing { request, node, .. }
            | Message::Repaired { request, node, .. } => (request.n, *node),
            // The question stays open and is asked again.
            _ => return,
        };
        let Some(ask) = self.asks.get(&n).filter(|ask| ask.target.unwrap_or(ask.to) == node) else {
            return;
        };
        match answer {
            Message::Digests { buckets, documents, max_counter, .. } => {
                self.digests.insert(node, Digests { buckets, documents, max_counter });
            }
            Message::Sums { sums, .. } => {
                let Message::Split { level, buckets, .. } = &ask.message else {
                    return;
                };
                let parts: Vec<Bucket> = buckets.iter().flat_map(|bucket| bucket.split(*level)).collect();
                if parts.len() != sums.len() {
                    return;
                }
                self.sums.entry(node).or_default().extend(parts.into_iter().zip(sums));
                self.since = now;
            }
            Message::Listing { entries, .. } => {
                self.lists.entry(node).or_default().extend(entries);
                if self.phase == Phase::Lists {
                    self.since = now;
                }
            }
            Message::Repaired { applied, max_counter, .. } => {
                if max_counter < self.required_counter {
                    return;
                }
                self.report.shipped += applied;
                self.since = now;
            }
            _ => unreachable!("matched above"),
        }
        self.asks.remove(&n);
        self.advance(now);
    }

    /// Asks again what was not answered, and goes on without stragglers.
    pub fn tick(&mut self, now: Nanos) {
        self.ticked_at = now;
        self.advance(now);
        if self.phase != Phase::Done && now >= self.since + self.timing.patience + self.walk() {
            self.begin(now);
        }
        let resend = self.timing.resend + self.walk();
        for ask in self.asks.values_mut() {
            if now >= ask.sent_at + resend {
                ask.sent_at = now;
                self.sends.push((ask.to, ask.message.clone()));
            }
        }
    }

    /// When [`Reconcile::tick`] is due next.
    pub fn deadline(&self) -> Nanos {
        if self.phase == Phase::Done {
            return Nanos::MAX;
        }
        let resend = self.asks.values().map(|ask| ask.sent_at + self.timing.resend + self.walk());
        let turns = [self.timing.grace, self.timing.patience / 2, self.timing.patience + self.walk()];
        let turns = turns.into_iter().map(|after| self.since + after).filter(|turn| *turn > self.ticked_at);
        resend.chain(turns).min().unwrap_or(self.ticked_at + self.timing.resend)
    }

    /// How long the nodes may take for what they are asked in this phase, besides answering.
    fn walk(&self) -> Nanos {
        if !matches!(self.phase, Phase::Split | Phase::Lists | Phase::Verify) {
            return 0;
        }
        let largest = self.digests.values().map(|digests| digests.documents).max().unwrap_or(0);
        largest.saturating_mul(WALK_PER_DOCUMENT)
    }

    /// What is to be sent now.
    pub fn drain_sends(&mut self) -> Vec<(NodeId, Message)> {
        std::mem::take(&mut self.sends)
    }

    fn begin(&mut self, now: Nanos) {
        self.enter(now, Phase::Digests);
        self.digests.clear();
        let (shard, epoch) = (self.spec.shard, self.spec.epoch);
        for node in self.everyone() {
            self.ask(now, node, None, |request| Message::Digest { request, shard, epoch });
        }
    }

    fn enter(&mut self, now: Nanos, phase: Phase) {
        self.phase = phase;
        self.since = now;
        self.asks.clear();
        self.waiting.clear();
        self.sums.clear();
        self.lists.clear();
    }

    /// Sources and targets, each once.
    fn everyone(&self) -> BTreeSet<NodeId> {
        self.spec
            .sources
            .iter()
            .flat_map(|source| &source.replicas)
            .chain(&self.spec.targets)
            .map(|replica| replica.node)
            .collect()
    }

    fn ask(&mut self, now: Nanos, to: NodeId, target: Option<NodeId>, message: impl FnOnce(RequestId) -> Message) {
        let n = self.next_request;
        self.next_request += 1;
        let message = message(RequestId { job: self.job, n });
        self.sends.push((to, message.clone()));
        self.asks.insert(n, Ask { to, target, message, sent_at: now });
    }

    fn advance(&mut self, now: Nanos) {
        let straggling = now >= self.since + self.timing.grace;
        match self.phase {
            Phase::Digests => {
                let enough = self.asks.is_empty() || (straggling && self.has_quorums());
                if enough && self.has_quorums() {
                    self.compare(now);
                }
            }
            Phase::Split => {
                if self.asks.is_empty() {
                    self.buckets = self.differing_parts();
                    self.level += 1;
                    self.narrow(now);
                }
            }
            Phase::Lists => {
                if self.asks.is_empty() {
                    self.plan_ships(now);
                }
            }
            Phase::Ship => {
                self.send_waiting(now);
                if self.asks.is_empty() {
                    self.verify(now);
                } else if now >= self.since + self.timing.patience / 2 {
                    self.leave_stragglers(now);
                }
            }
            Phase::Verify => {
                let is_waited_for = |node: NodeId| self.asks.values().any(|ask| ask.to == node);
                let answered = self.live.iter().filter(|node| !is_waited_for(**node)).count();
                if self.asks.is_empty() || (straggling && answered >= majority(self.spec.targets.len())) {
                    self.judge(now);
                }
            }
            Phase::Done => {}
        }
    }

    /// The planted bug M05, in delta passes.
    fn reads_one_replica(&self) -> bool {
        mutant!("M05") && self.spec.purpose == Purpose::Delta
    }

    /// Whether a majority of each source group and of the targets has answered with digests.
    fn has_quorums(&self) -> bool {
        let answered = |group: &[Replica]| group.iter().filter(|r| self.digests.contains_key(&r.node)).count();
        let sources = self.spec.sources.iter().all(|source| {
            let needed = if self.reads_one_replica() { 1 } else { source.needed };
            answered(&source.replicas) >= needed
        });
        sources && answered(&self.spec.targets) >= majority(self.spec.targets.len())
    }

    fn compare(&mut self, now: Nanos) {
        self.readers = self
            .spec
            .sources
            .iter()
            .flat_map(|source| &source.replicas)
            .map(|replica| replica.node)
            .filter(|node| self.digests.contains_key(node))
            .collect();
        if self.reads_one_replica() {
            self.readers = self.readers.iter().take(1).copied().collect();
        }
        self.live = self.spec.targets.iter().map(|r| r.node).filter(|node| self.digests.contains_key(node)).collect();
        self.required_counter =
            self.readers.iter().map(|node| self.digests[node].max_counter).max().expect("a majority answered");
        if self.spec.counters_only && mutant!("M45") {
            self.required_counter = 0;
        }
        self.buckets = if self.spec.counters_only { Vec::new() } else { self.differing() };
        self.report.differing = self.report.differing.max(self.buckets.len());
        self.level = 0;
        self.narrow(now);
    }

    /// Splits the differing buckets further, or lists them if there are few documents in each.
    fn narrow(&mut self, now: Nanos) {
        if self.buckets.is_empty() {
            self.reading.clear();
            self.plan_ships(now);
            return;
        }
        let asked: BTreeSet<NodeId> = self.readers.union(&self.live).copied().collect();
        if self.level == MAX_LEVEL || self.bucket_documents() <= BUCKET_DOCUMENTS {
            self.enter(now, Phase::Lists);
            self.ask_lists(now, &asked);
            return;
        }
        self.enter(now, Phase::Split);
        let (shard, epoch, level) = (self.spec.shard, self.spec.epoch, self.level);
        let chunks: Vec<Vec<Bucket>> = self.buckets.chunks(SPLIT_BUCKETS).map(<[Bucket]>::to_vec).collect();
        for node in asked {
            for buckets in chunks.clone() {
                self.ask(now, node, None, |request| Message::Split { request, shard, epoch, level, buckets });
            }
        }
    }

    /// Documents per bucket of the present level in the largest copy, rounded up.
    fn bucket_documents(&self) -> u64 {
        let asked = |node: &NodeId| self.readers.contains(node) || self.live.contains(node);
        let copies = self.digests.iter().filter(|(node, _)| asked(node));
        let largest = copies.map(|(_, digests)| digests.documents).max().unwrap_or(0);
        largest.div_ceil(Bucket::count(self.level))
    }

    fn ask_lists(&mut self, now: Nanos, nodes: &BTreeSet<NodeId>) {
        let (shard, epoch, level) = (self.spec.shard, self.spec.epoch, self.level);
        let per_list = (LIST_DOCUMENTS / self.bucket_documents().max(1)).max(1) as usize;
        let chunks: Vec<Vec<Bucket>> = self.buckets.chunks(per_list).map(<[Bucket]>::to_vec).collect();
        for &node in nodes {
            for buckets in chunks.clone() {
                self.ask(now, node, None, |request| Message::List { request, shard, epoch, level, buckets });
            }
        }
    }

    fn send_waiting(&mut self, now: Nanos) {
        while self.asks.len() < SHIPS_IN_FLIGHT {
            let Some((to, target, mut ship)) = self.waiting.pop_front() else {
                return;
            };
            self.ask(now, to, target, |id| {
                if let Message::Ship { request, .. } = &mut ship {
                    *request = id;
                }
                ship
            });
        }
    }

    /// Targets that did not take their repairs in time are left out, if a majority did.
    fn leave_stragglers(&mut self, now: Nanos) {
        let behind: BTreeSet<NodeId> = self
            .asks
            .values()
            .filter_map(|ask| ask.target)
            .chain(self.waiting.iter().filter_map(|(_, target, _)| *target))
            .collect();
        let complete: BTreeSet<NodeId> = self.live.difference(&behind).copied().collect();
        if complete.len() >= majority(self.spec.targets.len()) {
            self.live = complete;
            self.verify(now);
        }
    }

    /// Reads the targets again: is everything that was read there?
    fn verify(&mut self, now: Nanos) {
        self.enter(now, Phase::Verify);
        #[cfg(madsim)]
        if self.timing.unverified {
            self.reading.clear();
        }
        if self.reading.is_empty() {
            self.report.verified = self.live.iter().copied().collect();
            self.phase = Phase::Done;
            return;
        }
        let live = self.live.clone();
        self.ask_lists(now, &live);
    }

    fn judge(&mut self, now: Nanos) {
        self.note_contradictions();
        let verified: Vec<NodeId> = self
            .live
            .iter()
            .copied()
            .filter(|node| self.lists.get(node).is_some_and(|list| plan::holds(list, &self.reading)))
            .collect();
        if verified.len() >= majority(self.spec.targets.len()) {
            self.report.verified = verified;
            self.enter(now, Phase::Done);
        } else {
            self.report.reruns += 1;
            self.found.still_lacking += self.still_lacking();
            self.begin(now);
        }
    }
}

#[cfg(test)]
mod tests;
