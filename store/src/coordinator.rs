//! The coordinator moves shards between nodes: it starts, resumes and ends migrations, runs anti-entropy, and keeps
//! the durable records that say who holds what.
//!
//! It is a state machine over its [`Records`]: [`Coordinator::receive`] and [`Coordinator::tick`] decide, commit, and
//! leave messages in [`Coordinator::drain_sends`]; [`serve`] drives it. A configuration is told to nobody before its
//! commit is durable. After a restart everything it needs is read from the records; installs are repeated until every
//! node has confirmed, and the current stage of every migration is repeated.
//!
//! Documents never pass through it: it asks nodes to ship them to each other.

mod cleanup;
mod collection;
mod commands;
pub mod gate;
pub mod inspection;
mod jobs;
mod readmission;
mod rebuild;
pub mod records;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::ShardConfig;
use crate::engine::Options as EngineOptions;
use crate::env::{Env, Event, Nanos, Peer, millis};
use crate::id::{DiskId, Epoch, MigrationId, NodeId, ShardId};
use crate::migration::{self, Decision, MigrationRecord, Progress, Reason, Stage, View};
use crate::reconcile;
use crate::wire::{CopyState, Message, Reply, RequestId, decode, encode};

use cleanup::Cleanup;
use collection::Collection;
use gate::{AntiEntropy, Verdict};
use jobs::Job;
use rebuild::Rebuild;
use records::{ClusterRecord, CommandLog, EngineRecords, Record, RecordKey, Records, RecordsError, Revision};

/// The cluster to create where there is none yet.
#[derive(Clone, Debug)]
pub struct NewCluster {
    pub nodes: BTreeMap<NodeId, String>,
    pub shard_count: u32,
    pub replication: u32,
    pub anti_entropy: AntiEntropy,
    /// The nodes of each shard; shards beyond its end are placed by rendezvous hashing.
    pub placement: Vec<Vec<NodeId>>,
    /// Nodes that will never come back. Records that were lost are rebuilt without asking them, and what they alone
    /// have installed is given up.
    pub gone: Vec<NodeId>,
}

/// How the coordinator works.
#[derive(Clone, Debug)]
pub struct Options {
    pub create: Option<NewCluster>,
    pub migration: migration::Timing,
    pub reconcile: reconcile::Timing,
    /// What a node has not confirmed is told again this often.
    pub resend: Nanos,
    /// How often a node is asked for its disk and what it has installed.
    pub ping: Nanos,
    /// Between two attempts to forget a shard's tombstones; `None`: they are kept for ever.
    pub collect_every: Option<Nanos>,
    /// Anti-entropy passes under way at once.
    pub anti_entropy_passes: usize,
    pub engine: EngineOptions,
    /// What only a simulator may switch off, to measure what it prevents.
    #[cfg(madsim)]
    pub overrides: Overrides,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            create: None,
            migration: migration::Timing::default(),
            reconcile: reconcile::Timing::default(),
            resend: millis(20),
            ping: millis(100),
            collect_every: Some(millis(2_000)),
            anti_entropy_passes: 2,
            engine: EngineOptions::default(),
            #[cfg(madsim)]
            overrides: Overrides::default(),
        }
    }
}

/// Exists only in a build for the simulator.
#[cfg(madsim)]
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The safety gate lets everything through.
    pub unsafe_cutover: bool,
    /// A skipped delta pass keeps no old replicas.
    pub eager_cleanup: bool,
}

/// A record and the revision it was read at.
#[derive(Clone, Debug)]
struct Revised<T> {
    value: T,
    revision: Revision,
}

/// The coordinator's state machine.
pub struct Coordinator {
    env: Env,
    options: Options,
    records: Box<dyn Records>,
    cluster: Option<Revised<ClusterRecord>>,
    configs: BTreeMap<ShardId, Revised<ShardConfig>>,
    migrations: BTreeMap<MigrationId, Revised<MigrationRecord>>,
    commands: Revised<CommandLog>,
    disks: BTreeMap<NodeId, DiskId>,
    installed: BTreeMap<(ShardId, NodeId), Epoch>,
    /// Copies in which rot was found.
    damaged: BTreeSet<(ShardId, NodeId)>,
    told_at: BTreeMap<(ShardId, NodeId), Nanos>,
    pinged_at: BTreeMap<NodeId, Nanos>,
    /// The last ping that each node has answered.
    heard_at: BTreeMap<NodeId, u64>,
    answered_at: BTreeMap<NodeId, Nanos>,
    progress: BTreeMap<MigrationId, Progress>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    /// Names the pages that this start of the coordinator asks for.
    page_job: u64,
    next_page: u64,
    anti_entropy_at: BTreeMap<ShardId, Nanos>,
    /// When the last pass over a shard ended, and how many documents it shipped.
    passes: BTreeMap<ShardId, (Nanos, u64)>,
    cleanups: BTreeMap<ShardId, Cleanup>,
    collections: BTreeMap<ShardId, Collection>,
    collect_at: BTreeMap<ShardId, Nanos>,
    /// What nodes have promised and installed, while there are no records.
    rebuild: Rebuild,
    warned: BTreeSet<String>,
    /// A command is only being tried: commits change nothing.
    rehearsing: bool,
    sends: Vec<(Peer, Message)>,
}

/// Runs the coordinator until its disk fails. The caller restarts it from disk.
pub async fn serve(env: Env, options: Options) -> RecordsError {
    let records = match EngineRecords::open(&env, options.engine.clone()) {
        Ok(records) => records,
        Err(error) => return error.into(),
    };
    let mut coordinator = match Coordinator::open(env.clone(), options, Box::new(records)) {
        Ok(coordinator) => coordinator,
        Err(error) => return error,
    };
    loop {
        if let Err(error) = coordinator.tick(env.clock.now()) {
            return error;
        }
        env.disk.settled().await;
        for (to, message) in coordinator.drain_sends() {
            env.net.send(to, encode(&message));
        }
        let frames = env.net.recv(coordinator.deadline(env.clock.now())).await;
        let now = env.clock.now();
        for (from, frame) in frames {
            match decode(&frame) {
                Ok(message) => {
                    if let Err(error) = coordinator.receive(now, from, message) {
                        return error;
                    }
                }
                Err(error) => tracing::warn!(%from, %error, "a frame was refused"),
            }
        }
    }
}

impl Coordinator {
    /// Reads the records and takes up where they stand.
    pub fn open(env: Env, options: Options, records: Box<dyn Records>) -> Result<Coordinator, RecordsError> {
        let now = env.clock.now();
        let mut coordinator = Coordinator {
            // Answers to an earlier start of the coordinator are not taken for answers to this one.
            page_job: (env.dice.bits() >> 64) as u64,
            next_job: (env.dice.bits() >> 64) as u64,
            env,
            options,
            records,
            cluster: None,
            configs: BTreeMap::new(),
            migrations: BTreeMap::new(),
            commands: Revised { value: CommandLog::default(), revision: 0 },
            disks: BTreeMap::new(),
            installed: BTreeMap::new(),
            damaged: BTreeSet::new(),
            told_at: BTreeMap::new(),
            pinged_at: BTreeMap::new(),
            heard_at: BTreeMap::new(),
            answered_at: BTreeMap::new(),
            progress: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_page: 0,
            anti_entropy_at: BTreeMap::new(),
            passes: BTreeMap::new(),
            cleanups: BTreeMap::new(),
            collections: BTreeMap::new(),
            collect_at: BTreeMap::new(),
            rebuild: Rebuild::default(),
            warned: BTreeSet::new(),
            rehearsing: false,
            sends: Vec::new(),
        };
        for (record, revision) in coordinator.records.read()? {
            #[cfg(madsim)]
            if mutant!("M24") && coordinator.is_another_open_one(&record) {
                continue;
            }
            #[cfg(madsim)]
            if mutant!("M39") {
                coordinator.take_for_installed(&record);
            }
            coordinator.tell_probe(&record, revision);
            coordinator.remember(now, record, revision);
        }
        Ok(coordinator)
    }

    /// Takes one message in.
    pub fn receive(&mut self, now: Nanos, from: Peer, message: Message) -> Result<(), RecordsError> {
        match message {
            Message::Pong { request, node, disk, copies } => {
                self.answered_at.insert(node, now);
                self.heard(request, node, disk, &copies);
            }
            Message::Installed { node, disk, copy } if self.disks.get(&node) == Some(&disk) => {
                let known = self.installed.entry((copy.shard, node)).or_default();
                *known = copy.epoch.max(*known);
            }
            Message::Fetch { shard } => {
                if let Some(config) = self.configs.get(&shard) {
                    let config = config.value.clone();
                    self.send(from, Message::Install { config });
                }
            }
            Message::GetConfigs => {
                let configs = self.configs.values().map(|config| config.value.clone()).collect();
                self.send(from, Message::Configs { configs });
            }
            Message::Repaired { request, node, end: Some(end), .. } if self.is_page(request.job) => {
                self.page_confirmed(request, node, &end);
            }
            Message::Digests { request, .. }
            | Message::Sums { request, .. }
            | Message::Listing { request, .. }
            | Message::Repaired { request, .. } => {
                if let Some(job) = self.jobs.get_mut(&request.job) {
                    job.reconcile.receive(now, message);
                }
            }
            Message::Dropped { node, shard, epoch } => self.dropped(now, node, shard, epoch),
            Message::Promised { node, generation, configs } if self.cluster.is_none() => {
                self.promised(node, generation, configs);
            }
            Message::TombstoneList { request, node, entries, .. } => {
                self.tombstones_seen(now, request, node, entries)?;
            }
            Message::Forgot { request, node, .. } => self.forgot(request, node),
            Message::Command { id, command } => {
                let reply = self.command(now, id, command)?;
                if let Reply::Refused { code, .. } = &reply {
                    self.env.probe.on(Event::Refused { code: code.clone() });
                }
                self.send(from, Message::Reply { id, reply });
            }
            Message::Rehearse { id, command } => {
                self.rehearsing = true;
                let reply = self.command(now, id, command);
                self.rehearsing = false;
                let reply = reply?;
                self.send(from, Message::Reply { id, reply });
            }
            // Unserved and stray frames: what was asked is asked again in a while.
            _ => {}
        }
        Ok(())
    }

    /// Does everything that is due.
    pub fn tick(&mut self, now: Nanos) -> Result<(), RecordsError> {
        self.ping(now);
        if self.cluster.is_none() {
            return self.create(now);
        }
        let ids: Vec<MigrationId> = self.migrations.keys().copied().collect();
        for id in ids {
            // A commit may make the next stage possible at once.
            while self.advance(now, id)? {}
        }
        self.clean_up(now)?;
        self.readmit(now)?;
        self.collect(now)?;
        self.schedule_anti_entropy(now);
        self.run_jobs(now)?;
        self.tell_configs(now);
        Ok(())
    }

    /// When [`Coordinator::tick`] is due next.
    pub fn deadline(&self, now: Nanos) -> Nanos {
        let jobs = self.jobs.values().map(|job| job.reconcile.deadline());
        let copying = self.migrations.values().filter(|record| record.value.stage == Stage::DualWrite);
        let copies = copying.filter_map(|record| self.progress.get(&record.value.id)).flat_map(|p| p.copies.values());
        let pages = copies.map(|copy| copy.deadline(&self.options.migration)).filter(|deadline| *deadline > now);
        let stages = self.migrations.values().filter_map(|record| {
            let progress = self.progress.get(&record.value.id)?;
            Some(migration::time_is_over(record.value.stage, progress, &self.options.migration))
        });
        let stages = stages.filter(|deadline| *deadline > now);
        jobs.chain(pages).chain(stages).chain([now + self.options.resend]).min().expect("never empty")
    }

    /// What is to be sent now that the commits are durable.
    pub fn drain_sends(&mut self) -> Vec<(Peer, Message)> {
        std::mem::take(&mut self.sends)
    }

    /// A node says which disk it has and what it has installed. Only what it says later than the last that was heard
    /// counts: an old answer would name a disk that is gone. A disk that is not the one known so far is an empty one:
    /// everything else that was known about that node is void.
    fn heard(&mut self, request: RequestId, node: NodeId, disk: DiskId, copies: &[CopyState]) {
        let last = self.heard_at.get(&node).copied();
        if request.job != self.page_job || last.is_some_and(|last| request.n <= last) {
            return;
        }
        self.heard_at.insert(node, request.n);
        if self.disks.insert(node, disk).is_some_and(|known| known != disk) {
            self.installed.retain(|(_, of), _| *of != node);
            self.told_at.retain(|(_, of), _| *of != node);
            self.damaged.retain(|(_, of)| *of != node);
        }
        for copy in copies {
            let known = self.installed.entry((copy.shard, node)).or_default();
            *known = copy.epoch.max(*known);
            if copy.damaged {
                self.damaged.insert((copy.shard, node));
            } else {
                self.damaged.remove(&(copy.shard, node));
            }
        }
    }

    fn send(&mut self, to: Peer, message: Message) {
        self.sends.push((to, message));
    }

    fn node_ids(&self) -> Vec<NodeId> {
        match (&self.cluster, &self.options.create) {
            (Some(cluster), _) => cluster.value.nodes.keys().copied().collect(),
            (None, Some(create)) => create.nodes.keys().copied().collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Asks every node, again and again, which disk it has and what it holds: nodes that are not known yet often, the
    /// others now and then.
    fn ping(&mut self, now: Nanos) {
        for node in self.node_ids() {
            let every = if self.disks.contains_key(&node) { self.options.ping } else { self.options.resend };
            let due = self.pinged_at.get(&node).is_none_or(|at| now >= at + every);
            if due {
                self.pinged_at.insert(node, now);
                let request = RequestId { job: self.page_job, n: self.next_page };
                self.next_page += 1;
                self.send(Peer::Node(node), Message::Ping { request });
            }
        }
    }

    /// Takes the next step of a migration; `true` if something was committed.
    fn advance(&mut self, now: Nanos, id: MigrationId) -> Result<bool, RecordsError> {
        let record = self.migrations[&id].value.clone();
        let shard = record.shard;
        let Some(config) = self.configs.get(&shard) else {
            return Ok(false);
        };
        let config = config.value.clone();
        let busy = self
            .migrations
            .values()
            .any(|other| other.value.id != id && other.value.shard == shard && other.value.is_open());
        if busy && !record.is_open() {
            return Ok(false);
        }
        let progress = self.progress.get(&id).cloned().unwrap_or_default();
        let watched = if mutant!("M37") { ShardId((shard.0 + 1) % self.configs.len() as u32) } else { shard };
        let installed = |node| self.installed.get(&(watched, node)).copied().unwrap_or(Epoch::ZERO);
        let decision = migration::decide(&View {
            now,
            record: &record,
            config: &config,
            progress: &progress,
            timing: &self.options.migration,
            installed: &installed,
            disks: &self.disks,
            is_safe: self.judge(record.cutover) != Verdict::Refused,
        });
        match decision {
            Decision::Wait => {
                if record.stage == Stage::DualWrite {
                    self.copy_pages(now, id, &config);
                }
                Ok(false)
            }
            Decision::RunDelta => {
                self.run_delta(now, id, &record, &config);
                Ok(false)
            }
            Decision::Enter(stage) => {
                let record = MigrationRecord { stage, ..record };
                self.commit(now, &[], vec![Record::Migration(record)])?;
                Ok(true)
            }
            Decision::Commit { config, stage } => {
                let attempt = record.attempt + u32::from(record.stage == Stage::Aborted);
                let record = MigrationRecord { stage, attempt, ..record };
                let config = if stage == Stage::Cleanup { self.eagerly(config) } else { config };
                let mut puts = vec![Record::Shard(config), Record::Migration(record)];
                if mutant!("M01") && stage == Stage::Cleanup && progress.delta.is_some_and(|delta| delta.shipped == 0) {
                    puts.remove(0);
                }
                #[cfg(madsim)]
                if mutant!("M18") && stage == Stage::Cleanup {
                    self.tell_at_once(&puts);
                }
                // Decided from the cluster's record too: a gate that changed since makes this commit fail.
                self.commit(now, &[RecordKey::Cluster], puts)?;
                Ok(true)
            }
            #[cfg(madsim)]
            Decision::Abort { config, .. } if mutant!("M17") => {
                if self.warned.insert(config.to_string()) {
                    self.tell_at_once(&[Record::Shard(config)]);
                }
                Ok(false)
            }
            Decision::GiveUp { reason } => {
                self.warn(format!("migration {id} of {shard} was not opened: {reason}"));
                let record = MigrationRecord { stage: Stage::Aborted, reason: Some(reason), ..record };
                self.commit(now, &[RecordKey::Cluster], vec![Record::Migration(record)])?;
                Ok(true)
            }
            Decision::Abort { config, reason } => {
                let record = MigrationRecord { stage: Stage::Aborted, reason: Some(reason), ..record };
                if reason == Reason::UnsafeCutover {
                    self.warn(format!("migration {id} of {shard} aborted at Activate: {reason}"));
                }
                self.commit(now, &[], vec![Record::Shard(config), Record::Migration(record)])?;
                Ok(true)
            }
        }
    }

    /// The safety gate, as the cluster's record stands.
    fn judge(&self, cutover: crate::config::Cutover) -> Verdict {
        #[cfg(madsim)]
        if self.options.overrides.unsafe_cutover {
            return Verdict::Allowed;
        }
        let cluster = self.cluster.as_ref().expect("migrations exist only in a cluster");
        gate::judge(&cluster.value.anti_entropy, cutover, self.cleanup_policy())
    }

    #[cfg(not(madsim))]
    fn cleanup_policy(&self) -> gate::Cleanup {
        gate::Cleanup::Gated
    }

    #[cfg(madsim)]
    fn cleanup_policy(&self) -> gate::Cleanup {
        if self.options.overrides.eager_cleanup { gate::Cleanup::Eager } else { gate::Cleanup::Gated }
    }

    #[cfg(not(madsim))]
    fn eagerly(&self, config: ShardConfig) -> ShardConfig {
        config
    }

    #[cfg(madsim)]
    fn eagerly(&self, config: ShardConfig) -> ShardConfig {
        let old = if self.cleanup_policy() == gate::Cleanup::Eager { Vec::new() } else { config.old };
        ShardConfig { old, ..config }
    }

    /// What the planted bug M24 passes over.
    #[cfg(madsim)]
    fn is_another_open_one(&self, record: &Record) -> bool {
        let is_open = matches!(record, Record::Migration(record) if record.is_open());
        is_open && self.migrations.values().any(|other| other.value.is_open())
    }

    /// What the planted bug M39 believes: what is committed is installed.
    #[cfg(madsim)]
    fn take_for_installed(&mut self, record: &Record) {
        if let Record::Shard(config) = record {
            let nodes = self.node_ids();
            self.installed.extend(nodes.into_iter().map(|node| ((config.shard, node), config.epoch)));
        }
    }

    /// What the planted bugs M15, M17 and M18 do too early: nodes are told of configurations, and ex-owners to drop.
    #[cfg(madsim)]
    fn tell_at_once(&self, records: &[Record]) {
        for config in
            records.iter().filter_map(|record| if let Record::Shard(config) = record { Some(config) } else { None })
        {
            for node in self.node_ids() {
                self.env.net.send(Peer::Node(node), encode(&Message::Install { config: config.clone() }));
            }
            for replica in config.leaving.iter().filter(|_| mutant!("M18")) {
                let drop = Message::Drop { shard: config.shard, epoch: config.epoch };
                self.env.net.send(Peer::Node(replica.node), encode(&drop));
            }
        }
    }

    /// The same text is told once per start of the coordinator.
    fn warn_once(&mut self, text: String) {
        if self.warned.insert(text.clone()) {
            self.warn(text);
        }
    }

    fn warn(&self, text: String) {
        if self.rehearsing {
            return;
        }
        self.env.probe.on(Event::Warned { text });
    }

    /// One durable step: all records or none, if neither they nor the guarded ones have changed since they were read.
    fn commit(&mut self, now: Nanos, guarded: &[RecordKey], puts: Vec<Record>) -> Result<(), RecordsError> {
        if self.rehearsing {
            return Ok(());
        }
        let keys = guarded.iter().copied().chain(puts.iter().map(Record::key));
        let guards: Vec<(RecordKey, Revision)> = keys.map(|key| (key, self.revision(key))).collect();
        #[cfg(madsim)]
        if mutant!("M15") {
            self.tell_at_once(&puts);
        }
        let revision = match self.records.commit(&guards, &puts) {
            Err(RecordsError::Disk(_)) if mutant!("M16") => {
                guards.iter().map(|(_, revision)| *revision).max().unwrap_or(0)
            }
            committed => committed?,
        };
        for record in puts {
            self.tell_probe(&record, revision);
            self.remember(now, record, revision);
        }
        Ok(())
    }

    fn tell_probe(&self, record: &Record, revision: Revision) {
        match record {
            Record::Shard(config) => self.env.probe.on(Event::Committed { config: config.clone() }),
            Record::Migration(record) => {
                let reason = record.reason.filter(|_| record.stage == Stage::Aborted);
                self.env.probe.on(Event::Staged {
                    migration: record.id,
                    shard: record.shard,
                    stage: record.stage,
                    reason: reason.map(|reason| reason.to_string()),
                });
            }
            Record::Cluster(cluster) => self.env.probe.on(Event::Members { revision, nodes: cluster.nodes.clone() }),
            Record::Commands(_) => {}
        }
    }

    fn revision(&self, key: RecordKey) -> Revision {
        match key {
            RecordKey::Cluster => self.cluster.as_ref().map_or(0, |record| record.revision),
            RecordKey::Shard(shard) => self.configs.get(&shard).map_or(0, |record| record.revision),
            RecordKey::Migration(id) => self.migrations.get(&id).map_or(0, |record| record.revision),
            RecordKey::Commands => self.commands.revision,
        }
    }

    /// Takes a durable record into memory, and forgets what was only true before it.
    fn remember(&mut self, now: Nanos, record: Record, revision: Revision) {
        match record {
            Record::Cluster(value) => self.cluster = Some(Revised { value, revision }),
            Record::Commands(value) => self.commands = Revised { value, revision },
            Record::Shard(value) => {
                let shard = value.shard;
                self.jobs.retain(|_, job| job.reconcile.spec().shard != shard);
                self.told_at.retain(|(told, _), _| *told != shard);
                self.cleanups.remove(&shard);
                self.collections.remove(&shard);
                self.configs.insert(shard, Revised { value, revision });
            }
            Record::Migration(value) => {
                let progress = self.progress.entry(value.id).or_default();
                let known = self.migrations.get(&value.id).map(|known| (known.value.stage, known.value.attempt));
                // A pause or a resume is no new stage.
                if known != Some((value.stage, value.attempt)) {
                    progress.enter(now, value.stage);
                }
                self.migrations.insert(value.id, Revised { value, revision });
            }
        }
    }

    /// Tells every node every configuration until it has confirmed.
    fn tell_configs(&mut self, now: Nanos) {
        let mut due = Vec::new();
        for (&shard, config) in &self.configs {
            for node in self.node_ids() {
                let installed = self.installed.get(&(shard, node)).copied().unwrap_or(Epoch::ZERO);
                let told = self.told_at.get(&(shard, node)).copied();
                let rested = told.is_none_or(|at| now >= at + self.options.resend);
                if installed < config.value.epoch && rested {
                    due.push((shard, node, config.value.clone()));
                }
            }
        }
        for (shard, node, config) in due {
            self.told_at.insert((shard, node), now);
            self.send(Peer::Node(node), Message::Install { config });
        }
    }
}
