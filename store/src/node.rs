//! A node answers requests from its engine: it fences them by epoch, makes what waits durable in one commit, and only
//! then answers.
//!
//! [`Node`] is a state machine: [`Node::receive`] stages what a message asks for and keeps the answer back,
//! [`Node::commit`] makes it durable and releases the answers. [`serve`] drives it. A node never mints versions, never
//! decides who owns a shard, and trusts configurations only from the coordinator.
//!
//! Not handled here: who is asked (the router), what is compared (reconcile), when shards move (the coordinator).

mod operator;

use std::collections::BTreeMap;

use crate::config::{Form, ShardConfig};
use crate::engine::{Effect, Engine, MAX_LEVEL, Options, Put, Range, Scrubbed};
use crate::env::{Copy, Env, Event, Nanos, Peer, millis};
use crate::error::EngineError;
use crate::id::{Epoch, Key, NodeId, Session, ShardId, Value, Version};
use crate::staging::Staging;
use crate::wire::{
    Answer, CopyState, Message, NameRange, Op, PageEnd, Purpose, RequestId, Selection, Shipped, Token, decode, encode,
};

/// A node that fell behind asks the coordinator for a configuration at most this often per shard.
const FETCH_EVERY: Nanos = millis(10);
/// Pages stop at this many bytes of bodies, whatever their count of documents.
const PAGE_BYTES: usize = 1 << 20;

/// One node's state machine.
pub struct Node {
    id: NodeId,
    engine: Engine,
    staging: Staging,
    /// What is sent once the staged changes are durable.
    answers: Vec<(Peer, Message)>,
    /// What repairs have staged: told to the probe as such once it is durable.
    repaired: BTreeMap<(ShardId, Key, Version), (Purpose, Session, Epoch)>,
    copied: Vec<(ShardId, Option<Key>)>,
    /// Writes that were turned away.
    fenced: Vec<Event>,
    fetched_at: BTreeMap<ShardId, Nanos>,
    /// When the search for rot is taken on, how often that is, and by how many documents.
    scrub_at: Nanos,
    scrub_every: Nanos,
    scrub_documents: usize,
    /// Why the last commit that had something to do did nothing.
    turned_away: Option<EngineError>,
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
fn silent_if_damaged(error: EngineError) -> Result<Vec<(Key, Version)>, EngineError> {
    match error {
        EngineError::Damaged { .. } => Ok(Vec::new()),
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
        let Options { scrub_every, scrub_documents, .. } = options;
        let engine = Engine::open(env.disk.clone(), options, env.dice.bits())?;
        let mut copies = Vec::new();
        for (shard, state) in engine.shards() {
            let installed = state.config.as_ref().map(|config| config.epoch);
            let documents = match env.probe.wants_documents() {
                true => engine.documents(shard).or_else(silent_if_damaged)?,
                false => Vec::new(),
            };
            copies.push(Copy { shard, installed, documents });
        }
        env.probe.on(Event::Opened { node: id, disk: engine.disk_id(), copies });
        Ok(Node {
            id,
            engine,
            staging: Staging::new(env.disk.clone()),
            answers: Vec::new(),
            repaired: BTreeMap::new(),
            copied: Vec::new(),
            fenced: Vec::new(),
            fetched_at: BTreeMap::new(),
            scrub_at: env.clock.now().saturating_add(scrub_every),
            scrub_every,
            scrub_documents,
            turned_away: None,
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
            Err(EngineError::Damaged { shard, .. }) => self.engine.mark_damaged(shard),
            result => result,
        }
    }

    fn dispatch(&mut self, now: Nanos, from: Peer, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Batch { shard, epoch, ops } => self.batch(now, from, shard, epoch, ops),
            Message::GetConfigs => {
                let configs = self.engine.shards().filter_map(|(_, state)| state.config.clone()).collect();
                self.answer(from, Message::Configs { configs });
                Ok(())
            }
            Message::Ping { request } => {
                let copies = self.engine.shards().map(|(shard, _)| self.copy_state(shard)).collect();
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
        self.fenced.drain(..).for_each(|event| env.probe.on(event));
        if !self.engine.has_staged() {
            return Ok(());
        }
        let node = self.id;
        let effects = match self.engine.commit() {
            // Nothing of it was done, so nothing is answered; reads go on, and writes do when there is room again.
            Err(error @ EngineError::Full(_)) => {
                tracing::warn!(%node, %error, "writes are turned away");
                self.answers.clear();
                self.repaired.clear();
                self.copied.clear();
                self.turned_away = Some(error);
                return Ok(());
            }
            result => result?,
        };
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
        for (shard, through) in self.copied.drain(..) {
            env.probe.on(Event::Copied { node: self.id, shard, through });
        }
        Ok(())
    }

    /// Why the last commit turned everything away that had been staged, told once.
    pub fn take_refusal(&mut self) -> Option<EngineError> {
        self.turned_away.take()
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
            for shard in self.scrub(self.scrub_documents)?.damaged {
                tracing::warn!(node = %self.id, %shard, "rot was found; the copy is silent until it is readmitted");
            }
        }
        Ok(())
    }

    /// Takes the scrub on by some documents: see [`Engine::scrub`]. The marks it makes are durable after the next
    /// commit.
    pub fn scrub(&mut self, documents: usize) -> Result<Scrubbed, EngineError> {
        self.engine.scrub(documents)
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
        std::mem::take(&mut self.answers)
    }

    fn answer(&mut self, to: Peer, message: Message) {
        self.answers.push((to, message));
    }

    fn config(&self, shard: ShardId) -> Option<&ShardConfig> {
        self.engine.shard(shard).and_then(|state| state.config.as_ref())
    }

    fn copy_state(&self, shard: ShardId) -> CopyState {
        let damaged = self.engine.shard(shard).is_some_and(|state| state.damaged);
        CopyState { shard, epoch: self.epoch(shard), damaged }
    }

    fn epoch(&self, shard: ShardId) -> Epoch {
        self.config(shard).map_or(Epoch::ZERO, |config| config.epoch)
    }

    /// Whether this node's copy may answer, acknowledge, and be a source: the installed configuration names it with
    /// this very disk, it is not being readmitted, and its data is sound.
    fn is_sound(&self, shard: ShardId) -> bool {
        let Some(state) = self.engine.shard(shard) else {
            return false;
        };
        let Some(config) = &state.config else {
            return false;
        };
        let disk = self.engine.disk_id();
        let named = config.replica(self.id).is_some_and(|replica| replica.disk == disk || mutant!("M31"));
        let sound = !state.damaged || mutant!("M53");
        named && sound && (!config.is_recovering(self.id) || mutant!("M55"))
    }

    fn fetch(&mut self, now: Nanos, shard: ShardId) {
        let due = self.fetched_at.get(&shard).is_none_or(|at| now >= at + FETCH_EVERY);
        if due {
            self.fetched_at.insert(shard, now);
            self.answer(Peer::Coordinator, Message::Fetch { shard });
        }
    }

    /// The epoch fence of clients' requests. `None` lets the request through; otherwise the refusal.
    fn fence(&mut self, now: Nanos, shard: ShardId, epoch: Epoch) -> Option<Message> {
        let installed = self.epoch(shard);
        if epoch < installed && !mutant!("M34") {
            let config = self.config(shard).expect("an installed epoch has a configuration").clone();
            return Some(Message::Stale { config });
        }
        if epoch > installed {
            self.fetch(now, shard);
            if !mutant!("M34") {
                return Some(Message::Behind { shard, epoch: installed });
            }
        }
        let served = self.config(shard).is_some_and(|config| config.is_member(self.id)) && self.is_sound(shard);
        if served { None } else { Some(Message::Unable { shard, epoch: installed }) }
    }

    fn batch(
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
                self.fenced.push(Event::Fenced { node, shard, epoch, installed, writes });
            }
            return Ok(());
        }
        let mut answers = Vec::with_capacity(ops.len());
        for (token, op) in ops {
            if let Some(answer) = self.operate(shard, op)? {
                answers.push((token, answer));
            }
        }
        self.answer(from, Message::Answers { shard, epoch, answers });
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
    fn scan(
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

    /// Forgets tombstones that every replica was seen to hold, under the epoch that bars the writes they were kept
    /// against.
    fn forget(
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

    /// Installs a greater configuration; a copy of another session than the one it names here is wiped in the same
    /// durable step.
    fn install(&mut self, from: Peer, config: &ShardConfig) -> Result<(), EngineError> {
        let shard = config.shard;
        if from == Peer::Coordinator && config.epoch > self.epoch(shard) {
            let held = self.config(shard).and_then(|config| config.replica(self.id)).map(|r| r.session);
            let named = config.replica(self.id).map(|replica| replica.session);
            let joins = config.old.iter().all(|replica| replica.node != self.id);
            let spared = match joins {
                true => mutant!("M21"),
                false => mutant!("M44"),
            };
            let wipe = named.is_some() && named != held && !spared;
            self.engine.install(config, wipe)?;
        }
        let copy = self.copy_state(shard);
        self.answer(from, Message::Installed { node: self.id, disk: self.engine.disk_id(), copy });
        Ok(())
    }

    /// The fence of digests and listings: a copy that may be a source, or one that is being readmitted. The latter is
    /// compared and never read from: whoever asks knows which of the two it is.
    fn may_be_compared(&mut self, now: Nanos, from: Peer, request: RequestId, shard: ShardId, epoch: Epoch) -> bool {
        let sound = self.is_sound(shard) || self.is_coming_back(shard);
        self.serves_if(sound, now, from, request, shard, epoch)
    }

    /// Whether this copy is being readmitted, on this very disk, and is sound otherwise.
    fn is_coming_back(&self, shard: ShardId) -> bool {
        let Some(state) = self.engine.shard(shard) else { return false };
        let back = state.config.as_ref().and_then(|config| config.recovering.iter().find(|it| it.node == self.id));
        back.is_some_and(|replica| replica.disk == self.engine.disk_id()) && !state.damaged
    }

    /// The fence of the coordinator's reads: exactly this epoch, from a copy that may be a source.
    fn serves(&mut self, now: Nanos, from: Peer, request: RequestId, shard: ShardId, epoch: Epoch) -> bool {
        let sound = self.is_sound(shard);
        self.serves_if(sound, now, from, request, shard, epoch)
    }

    fn serves_if(
        &mut self,
        sound: bool,
        now: Nanos,
        from: Peer,
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
    ) -> bool {
        let installed = self.epoch(shard);
        if installed < epoch {
            self.fetch(now, shard);
        }
        let early = mutant!("M03", "M47") && installed < epoch;
        let why = if installed != epoch && !early {
            format!("{} has installed epoch {installed} of {shard}, not {epoch}", self.id)
        } else if !sound {
            format!("{} has no sound copy of {shard}", self.id)
        } else {
            return true;
        };
        self.answer(from, Message::Unserved { request, node: self.id, why });
        false
    }

    /// Up to `limit` tombstones of a copy, in key order.
    fn tombstones(
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

    fn ship(&mut self, now: Nanos, from: Peer, ship: Message) -> Result<(), EngineError> {
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
    fn repair(&mut self, repair: Message) -> Result<(), EngineError> {
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
    fn holds_tombstone(&self, shard: ShardId, key: &Key) -> bool {
        self.engine.get(shard, key).is_ok_and(|stored| stored.is_some_and(|stored| stored.value.is_none()))
    }

    /// What the planted bug M02 takes for the end of the page: the greatest key that the copy holds.
    #[cfg(madsim)]
    fn highest_seen(&self, shard: ShardId, end: Option<PageEnd>) -> Result<Option<PageEnd>, EngineError> {
        let last = self.engine.documents(shard)?.pop().map(|(key, _)| key);
        Ok(end.map(|end| PageEnd { last: last.or(end.last), more: end.more }))
    }

    /// Drops an ex-owner's copy and keeps the configuration, unless the node is (again) a member.
    fn drop_copy(&mut self, now: Nanos, from: Peer, shard: ShardId, epoch: Epoch) -> Result<(), EngineError> {
        let installed = self.epoch(shard);
        if installed < epoch {
            self.fetch(now, shard);
        }
        let member = self.config(shard).is_some_and(|config| config.is_member(self.id));
        let refused =
            if mutant!("M19") { installed < epoch } else { installed != epoch || (member && !mutant!("M54")) };
        if refused {
            return Ok(());
        }
        if self.engine.shard(shard).is_some_and(|state| state.documents > 0 || state.max_counter > 0) {
            self.engine.drop_copy(shard)?;
        }
        self.answer(from, Message::Dropped { node: self.id, shard, epoch });
        Ok(())
    }
}
