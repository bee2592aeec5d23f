//! A node answers requests from its engine: it fences them by epoch, makes what waits durable in one commit, and only
//! then answers.
//!
//! [`Node`] is a state machine: [`Node::receive`] stages what a message asks for and keeps the answer back,
//! [`Node::commit`] makes it durable and releases the answers. [`serve`] drives it. A node never mints versions, never
//! decides who owns a shard, and believes no client about configurations.
//!
//! Not handled here: who is asked (the router), what is compared (reconcile), when shards move (the coordinator).

mod configs;
mod documents;
mod fence;
mod operator;
mod ships;
mod tombstones;

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Effect, Engine, MAX_LEVEL, Options, Scrubbed};
use crate::env::{Copy, Env, Event, Measure, Nanos, Peer, millis};
use crate::error::EngineError;
use crate::id::{Epoch, Key, MAX_VALUE_BYTES, NodeId, Session, ShardId, Version};
use crate::staging::Staging;
use crate::wire::{Message, Purpose, decode, encode};

/// A node that fell behind asks the coordinator for a configuration at most this often per shard.
const FETCH_EVERY: Nanos = millis(10);
/// So many clients that found this node behind are kept, to be told when it has caught up; others ask again by themselves.
const MOST_WAITING: usize = 4_096;
/// Once there are so many, those that asked longer ago than this make room.
const WAITS_FOR: Nanos = millis(1_000);
/// A disk that stays full is mentioned again this often.
const SAY_FULL_EVERY: Nanos = millis(10_000);
/// Bodies that wait to be sent to clients are no more than this and one: a read that has no room is not answered, as if its
/// answer had been lost, and is asked again.
const READ_BYTES: usize = 32 << 20;
/// Pages stop at this many bytes of bodies, whatever their count of documents.
const PAGE_BYTES: usize = 1 << 20;

/// One node's state machine.
pub struct Node {
    id: NodeId,
    engine: Engine,
    staging: Staging,
    /// What is sent once the staged changes are durable.
    answers: Vec<(Peer, Message)>,
    /// The bodies among them that clients asked for, in bytes.
    read_bytes: usize,
    document_bytes: usize,
    /// What repairs have staged: told to the probe as such once it is durable.
    repaired: BTreeMap<(ShardId, Key, Version), (Purpose, Session, Epoch)>,
    copied: Vec<(ShardId, Option<Key>)>,
    /// What was turned away, or overtaken: told to the probe with the next commit.
    turned_away: Vec<Event>,
    /// Copies in which rot was found: told once the mark is durable.
    rotted: Vec<ShardId>,
    /// Under which epochs its copies have answered clients (`None`) and been sources, and what of it the probe has not been
    /// told yet.
    served: BTreeMap<ShardId, BTreeSet<(Epoch, Option<Epoch>)>>,
    serving: Vec<(ShardId, Epoch, Option<Epoch>)>,
    fetched_at: BTreeMap<ShardId, Nanos>,
    /// Clients that asked under an epoch which this node has yet to install: when they did last, and under which.
    waiting: BTreeMap<(ShardId, Peer), (Nanos, Epoch)>,
    /// When the search for rot is taken on, how often that is, and by how many documents.
    scrub_at: Nanos,
    scrub_every: Nanos,
    scrub_documents: usize,
    /// How many tombstones of each copy the probe was told of last, and whether it is time to tell it again.
    counted: BTreeMap<ShardId, u64>,
    counts_are_due: bool,
    /// What operators are shown of the requests since the last commit.
    measures: Vec<Measure>,
    /// When it was last said that the disk is full; `None`: it is not.
    full_said_at: Option<Nanos>,
    /// Why the last commit that had something to do did nothing.
    refusal: Option<EngineError>,
}

/// Runs a node until its disk fails. The caller restarts it from disk.
pub async fn serve(id: NodeId, env: Env, options: Options) -> EngineError {
    match Node::open(id, &env, options) {
        Ok(node) => drive(node, &env).await,
        Err(error) => error,
    }
}

async fn drive(mut node: Node, env: &Env) -> EngineError {
    env.disk.settled().await;
    loop {
        let frames = env.net.recv(node.deadline()).await;
        let now = env.clock.now();
        for (from, frame) in frames {
            match decode(&frame) {
                Ok(message) => {
                    if let Err(error) = node.receive(now, from, message) {
                        return error;
                    }
                }
                Err(error) => tracing::warn!(%from, %error, "a frame was refused"),
            }
        }
        if let Err(error) = node.tick(now) {
            return error;
        }
        if mutant!("M29") {
            send_answers(&mut node, env);
            env.disk.settled().await;
        }
        if let Err(error) = node.commit(env) {
            return error;
        }
        env.disk.settled().await;
        send_answers(&mut node, env);
    }
}

/// A copy that cannot be read is found out again by whoever asks for it; the node starts all the same.
fn silent_if_damaged(error: EngineError) -> Result<Option<Vec<(Key, Version)>>, EngineError> {
    match error {
        EngineError::Damaged { .. } => Ok(None),
        error => Err(error),
    }
}

fn send_answers(node: &mut Node, env: &Env) {
    for (to, message) in node.drain_answers() {
        env.net.send(to, encode(&message));
    }
}

impl Node {
    /// Recovers the node from its disk, formatting it if it is empty.
    pub fn open(id: NodeId, env: &Env, options: Options) -> Result<Node, EngineError> {
        let Options { scrub_every, scrub_documents, document_bytes, .. } = options;
        let engine = Engine::open(env.disk.clone(), options, env.dice.bits())?;
        let mut copies = Vec::new();
        for (shard, state) in engine.shards().filter(|(_, state)| state.config.is_some()) {
            let installed = state.config.as_ref().map(|config| config.epoch);
            let documents = match env.probe.wants_documents() && !state.damaged {
                true => engine.documents(shard).map(Some).or_else(silent_if_damaged)?,
                false => Some(Vec::new()),
            };
            let damaged = state.damaged || documents.is_none();
            copies.push(Copy { shard, installed, damaged, documents: documents.unwrap_or_default() });
        }
        env.probe.on(Event::Opened { node: id, disk: engine.disk_id(), copies });
        Ok(Node {
            id,
            engine,
            staging: Staging::new(env.disk.clone()),
            answers: Vec::new(),
            read_bytes: 0,
            document_bytes: document_bytes.min(MAX_VALUE_BYTES),
            repaired: BTreeMap::new(),
            copied: Vec::new(),
            turned_away: Vec::new(),
            rotted: Vec::new(),
            served: BTreeMap::new(),
            serving: Vec::new(),
            fetched_at: BTreeMap::new(),
            waiting: BTreeMap::new(),
            scrub_at: env.clock.now().saturating_add(scrub_every),
            scrub_every,
            scrub_documents,
            counted: BTreeMap::new(),
            counts_are_due: false,
            measures: Vec::new(),
            full_said_at: None,
            refusal: None,
        })
    }

    /// What the node holds; for settle checks and operators.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stages what the message asks for. An error means the disk failed and the node must stop. A copy in which rot
    /// shows up falls silent, and so does the answer; the others go on.
    pub fn receive(&mut self, now: Nanos, from: Peer, message: Message) -> Result<(), EngineError> {
        match self.dispatch(now, from, message) {
            Err(EngineError::Damaged { shard, .. }) => {
                self.rotted.push(shard);
                self.engine.mark_damaged(shard)
            }
            result => result,
        }
    }

    fn dispatch(&mut self, now: Nanos, from: Peer, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Batch { shard, epoch, ops } => self.batch(now, from, shard, epoch, ops),
            Message::GetConfigs => {
                let configs = self.installed();
                self.answer(from, Message::Configs { configs });
                Ok(())
            }
            Message::Promise { generation } => self.promise(from, generation),
            Message::Fetch { shard } if matches!(from, Peer::Node(_)) => {
                self.pass_on(from, shard);
                Ok(())
            }
            Message::Ping { request } => {
                let known = self.engine.shards().filter(|(_, state)| state.config.is_some());
                let copies = known.map(|(shard, _)| self.copy_state(shard)).collect();
                let pong = Message::Pong { request, node: self.id, disk: self.engine.disk_id(), copies };
                self.answer(from, pong);
                Ok(())
            }
            Message::Install { config } => self.install(from, &config),
            Message::Digest { request, shard, epoch } => {
                if self.may_be_compared(now, from, request, shard, epoch) {
                    let state = self.engine.shard(shard).expect("a served shard has a state");
                    let digests = Message::Digests {
                        request,
                        node: self.id,
                        buckets: state.digest.0.to_vec(),
                        documents: state.documents,
                        max_counter: state.max_counter,
                    };
                    self.answer(from, digests);
                }
                Ok(())
            }
            Message::Split { request, shard, epoch, level, buckets } if level < MAX_LEVEL => {
                if self.may_be_compared(now, from, request, shard, epoch) {
                    let sums = self.engine.split(shard, level, &buckets)?;
                    self.answer(from, Message::Sums { request, node: self.id, sums });
                }
                Ok(())
            }
            Message::List { request, shard, epoch, level, buckets } if level <= MAX_LEVEL => {
                if self.may_be_compared(now, from, request, shard, epoch) {
                    let mut entries = self.engine.list(shard, level, &buckets)?;
                    if mutant!("M07", "M08") {
                        entries.retain(|(key, _)| !self.holds_tombstone(shard, key));
                    }
                    self.answer(from, Message::Listing { request, node: self.id, entries });
                }
                Ok(())
            }
            Message::Scan { shard, epoch, token, range, documents } => {
                self.scan(now, from, shard, epoch, token, &range, documents)
            }
            Message::Forget { request, shard, epoch, tombstones } => {
                self.forget(now, from, request, shard, epoch, tombstones)
            }
            ship @ Message::Ship { .. } => self.ship(now, from, ship),
            repair @ Message::Repair { .. } => self.repair(repair),
            Message::Drop { shard, epoch } => self.drop_copy(now, from, shard, epoch),
            Message::Tombstones { request, shard, epoch, after, limit } => {
                if self.serves(now, from, request, shard, epoch) {
                    let (entries, more) = self.tombstones(shard, after, limit as usize)?;
                    self.answer(from, Message::TombstoneList { request, node: self.id, entries, more });
                }
                Ok(())
            }
            Message::Stage { request, import, action } => {
                let reply = self.staging.perform(import, action)?;
                self.answer(from, Message::Staged { request, node: self.id, reply });
                Ok(())
            }
            Message::AskNode { n, question } => self.operator(from, n, question),
            // Answers, and what only other roles receive: a stray frame.
            _ => Ok(()),
        }
    }

    /// Makes everything staged durable and tells the probe. Afterwards the kept answers may be sent.
    pub fn commit(&mut self, env: &Env) -> Result<(), EngineError> {
        self.turned_away.drain(..).for_each(|event| env.probe.on(event));
        self.tell_counts(env);
        self.measures.drain(..).for_each(|measure| env.probe.measure(measure));
        let node = self.id;
        if !self.engine.has_staged() {
            self.tell_service(env);
            return Ok(());
        }
        let effects = match self.engine.commit() {
            // Nothing of it was done, so nothing is answered; reads go on, and writes do when there is room again.
            Err(error @ EngineError::Full(_)) => {
                let now = env.clock.now();
                if self.full_said_at.is_none_or(|at| now.saturating_sub(at) >= SAY_FULL_EVERY) {
                    self.full_said_at = Some(now);
                    tracing::warn!(%node, %error, "writes are turned away");
                }
                env.probe.measure(Measure::DiskFull(true));
                env.probe.measure(Measure::TurnedAway { why: "disk full", requests: self.answers.len() as u64 });
                self.forget_round();
                self.rotted.clear();
                self.refusal = Some(error);
                return Ok(());
            }
            result => result?,
        };
        if self.full_said_at.take().is_some() {
            tracing::info!(%node, "there is room on the disk again");
            env.probe.measure(Measure::DiskFull(false));
        }
        for effect in effects {
            env.probe.on(match effect {
                Effect::Applied { shard, key, version } => {
                    let shipped = self.repaired.remove(&(shard, key.clone(), version));
                    match shipped {
                        Some((purpose, session, read_at)) => {
                            Event::Repaired { node, shard, key, version, purpose, session, read_at }
                        }
                        None => Event::Applied { node, shard, key, version },
                    }
                }
                Effect::Installed { config, wiped } => Event::Installed { node, config, wiped },
                Effect::Dropped { shard } => Event::Dropped { node, shard },
                Effect::Forgotten { shard, key, version } => Event::Forgotten { node, shard, key, version },
            });
        }
        self.repaired.clear();
        self.tell_service(env);
        for shard in self.rotted.drain(..) {
            self.served.remove(&shard);
            env.probe.on(Event::Rotted { node, shard });
        }
        for (shard, through) in self.copied.drain(..) {
            env.probe.on(Event::Copied { node: self.id, shard, through });
        }
        Ok(())
    }

    /// Nothing that was asked for since the last commit is done, and none of it is answered.
    fn forget_round(&mut self) {
        self.answers.clear();
        self.read_bytes = 0;
        self.repaired.clear();
        self.copied.clear();
        self.served.clear();
        self.serving.clear();
    }

    /// Takes back what was staged since the last commit, and its answers. The marks of copies in which rot has shown up
    /// meanwhile are staged anew.
    pub fn discard(&mut self) -> Result<(), EngineError> {
        self.engine.discard();
        self.forget_round();
        self.rotted.iter().try_for_each(|shard| self.engine.mark_damaged(*shard))
    }

    /// Whether rot has shown up since the last commit: what asked for it is not done, and will not be answered.
    pub fn has_met_rot(&self) -> bool {
        !self.rotted.is_empty()
    }

    /// What was answered since the last commit, under configurations that are durable by now.
    fn tell_service(&mut self, env: &Env) {
        let node = self.id;
        for (shard, epoch, read_at) in self.serving.drain(..) {
            env.probe.on(Event::Served { node, shard, epoch, read_at });
        }
    }

    /// How many tombstones there are, of the copies where that is known and has changed since it was told.
    fn tell_counts(&mut self, env: &Env) {
        if !std::mem::take(&mut self.counts_are_due) {
            return;
        }
        let node = self.id;
        for (shard, _) in self.engine.shards() {
            if let Some(tombstones) = self.engine.tombstones(shard)
                && self.counted.insert(shard, tombstones) != Some(tombstones)
            {
                env.probe.on(Event::Counted { node, shard, tombstones });
            }
        }
    }

    /// Why the last commit turned everything away that had been staged, told once.
    pub fn take_refusal(&mut self) -> Option<EngineError> {
        self.refusal.take()
    }

    /// When [`Node::tick`] is due next.
    pub fn deadline(&self) -> Nanos {
        self.scrub_at
    }

    /// Searches for rot in the background, a little at a time. A copy in which it is found falls silent, durably so
    /// after the next commit.
    pub fn tick(&mut self, now: Nanos) -> Result<(), EngineError> {
        if now >= self.scrub_at {
            self.scrub_at = now.saturating_add(self.scrub_every);
            self.counts_are_due = true;
            for shard in self.scrub(self.scrub_documents)?.damaged {
                tracing::warn!(node = %self.id, %shard, "rot was found; the copy is silent until it is readmitted");
            }
        }
        Ok(())
    }

    /// Takes the scrub on by some documents: see [`Engine::scrub`]. The marks it makes are durable after the next
    /// commit.
    pub fn scrub(&mut self, documents: usize) -> Result<Scrubbed, EngineError> {
        let step = self.engine.scrub(documents)?;
        self.rotted.extend(&step.damaged);
        Ok(step)
    }

    /// Commits, and empties the log: see [`Engine::checkpoint`].
    pub fn checkpoint(&mut self, env: &Env) -> Result<(), EngineError> {
        self.commit(env)?;
        self.engine.checkpoint()
    }

    /// Commits, and writes the page file anew: see [`Engine::compact`].
    pub fn compact(&mut self, env: &Env) -> Result<(), EngineError> {
        self.commit(env)?;
        let effects = self.engine.compact()?;
        assert!(effects.is_empty(), "everything was committed");
        Ok(())
    }

    /// The answers that may be sent now that everything they speak of is durable.
    pub fn drain_answers(&mut self) -> Vec<(Peer, Message)> {
        self.read_bytes = 0;
        std::mem::take(&mut self.answers)
    }

    fn answer(&mut self, to: Peer, message: Message) {
        self.answers.push((to, message));
    }
}
