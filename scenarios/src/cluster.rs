//! A running cluster, as a scenario directs it: `it.migrate(0)`, `it.until(...)`, `it.set_anti_entropy(false)`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_sim::disk::SimDisk;
use miroir_sim::history::History;
use miroir_sim::oracle::progress::Stalled;
use miroir_sim::plan::{FaultKind, When};
use miroir_sim::record::Service;
use miroir_sim::time::{MICROS, MILLIS};
use miroir_sim::{Incarnation, ProcessId, World, sometimes};
use miroir_store::config::Cutover;
use miroir_store::dump::target::cluster::Cluster as Target;
use miroir_store::engine::Options as EngineOptions;
use miroir_store::env::{Env, Nanos, Peer, millis};
use miroir_store::error::EngineError;
use miroir_store::id::{MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;
use miroir_store::node;
use miroir_store::wire::{Command, CommandId, Message, Reply, decode, encode};

use crate::audit::Audit;
use crate::dump;
use crate::env::tcp::Transport;
use crate::env::{Directory, env};
use crate::plan::{IMPORTER, Interference, Plan};
use crate::service;
use crate::workload::{Actor, Load};

mod coordinators;

/// The cluster of one run and everything around it.
pub struct Cluster {
    pub world: World,
    pub plan: Plan,
    pub directory: Arc<Directory>,
    pub audit: Audit,
    pub history: History,
    pub load: Load,
    pub transport: Transport,
    /// Each node's disk.
    pub disks: Vec<(NodeId, SimDisk)>,
    operator: Env,
    /// Names the operator's session.
    session: u64,
    commands: AtomicU64,
    /// How many coordinators were asked to start migrations.
    asked_to_start: AtomicU64,
}

/// A command that the coordinator refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub text: String,
}

/// How nodes (and those who look at their disks) open engines.
pub fn engine_options() -> EngineOptions {
    EngineOptions { cache_bytes: 1 << 20, ..EngineOptions::default() }
}

impl Cluster {
    /// Starts every process of the plan. Nothing has gone wrong yet, and nothing will until the faults are armed.
    pub async fn start(world: World, plan: Plan) -> Cluster {
        let operator = world.process("operator", |_| std::future::pending());
        for name in plan.process_names().iter().skip(1) {
            world.register(name);
        }
        let names = world.trace().names().clone();
        let mut clients = plan.client_names();
        clients.extend(plan.import.as_ref().map(|_| IMPORTER.to_owned()));
        let directory = Directory::from_names(&names, &plan.node_names(), &clients);
        let directory = Arc::new(directory);
        let load = Load::new(&plan);
        let audit = Audit::new(&world, &plan, directory.clone(), load.bursts().clone());
        let history = History::traced(world.trace().clone());
        world.fabric().trust(operator);
        audit.watch(&world);
        let transport = Transport::new(&world, &directory, &plan);
        let life = world.life(operator);
        let operator = env(&world, life, &directory, None, Arc::new(audit.clone()));
        let operator = transport.over(life, operator).await;
        let session = (operator.dice.bits() >> 64) as u64;
        let (commands, asked_to_start) = (AtomicU64::new(0), AtomicU64::new(0));
        let disks = Vec::new();
        let mut it = Cluster {
            world,
            plan,
            directory,
            audit,
            history,
            load,
            transport,
            disks,
            operator,
            session,
            commands,
            asked_to_start,
        };
        it.start_nodes();
        it.start_coordinator(it.directory.coordinator());
        it.start_clients();
        it.start_importer();
        it
    }

    fn start_nodes(&mut self) {
        let options = self.node_options();
        let nodes: Vec<(NodeId, ProcessId)> = self.directory.nodes().collect();
        for (id, process) in nodes {
            let disk = self.world.new_disk(process);
            self.disks.push((id, disk.clone()));
            self.audit.add_disk(id, &disk);
            let (world, directory, audit) = (self.world.clone(), self.directory.clone(), self.audit.clone());
            let (options, transport) = (options.clone(), self.transport.clone());
            self.world.start(process, move |life| {
                let env = env(&world, life, &directory, Some(disk.mount()), Arc::new(audit.clone()));
                let (world, disk, options) = (world.clone(), disk.clone(), options.clone());
                let transport = transport.clone();
                async move {
                    let env = transport.over(life, env).await;
                    let error = node::serve(id, env, options).await;
                    world.note(&format!("{id} stops: {error}"));
                    // There is one program here: a version that it does not know has rotted as well.
                    if matches!(error, EngineError::Corrupt { .. } | EngineError::Format { .. }) {
                        world.note(&format!("an operator replaces the disk of {id}"));
                        disk.wipe();
                    }
                }
            });
        }
    }

    fn node_options(&self) -> EngineOptions {
        // A search for rot walks each disk, which every run would pay for; only one whose plan has rot needs it.
        let is_rot = |kind: &FaultKind| matches!(kind, FaultKind::FlipBits { .. });
        let rots = self.plan.sim.faults.iter().any(|fault| is_rot(&fault.kind));
        let scrub_every = if rots { millis(100) } else { Nanos::MAX };
        let options = EngineOptions { scrub_every, scrub_documents: 100, ..engine_options() };
        match self.plan.cluster.flush_writes {
            0 => options,
            flush_writes => EngineOptions { flush_writes: flush_writes as usize, ..options },
        }
    }

    /// How many coordinators, one after the other, have been asked to start the migrations so far.
    pub fn asked_to_start(&self) -> usize {
        self.asked_to_start.load(Ordering::Relaxed) as usize
    }

    fn start_clients(&self) {
        let clients = self.directory.clients().iter().enumerate().skip(1);
        for (number, &process) in clients.take(self.plan.workload.clients as usize) {
            let (world, plan, directory) = (self.world.clone(), self.plan.clone(), self.directory.clone());
            let (audit, history, load) = (self.audit.clone(), self.history.clone(), self.load.clone());
            let transport = self.transport.clone();
            self.world.start(process, move |life: Incarnation| {
                let env = env(&world, life, &directory, None, Arc::new(audit.clone()));
                let (world, plan, transport) = (world.clone(), plan.clone(), transport.clone());
                let (audit, history, load) = (audit.clone(), history.clone(), load.clone());
                async move {
                    let env = transport.over(life, env).await;
                    Actor::new(number as u32, &world, env, &plan, &history, &audit).work(plan, load).await;
                }
            });
            self.world.set_restart(process, miroir_sim::world::Restart::Never);
        }
    }

    /// The process that imports the plan's dump, from its beginning in each of its lives, until that has succeeded.
    fn start_importer(&self) {
        let Some(import) = self.plan.import.clone() else { return };
        let process = *self.directory.clients().last().expect("the importer is the last client");
        let (world, directory, load) = (self.world.clone(), self.directory.clone(), self.load.clone());
        let (audit, nodes, transport) = (self.audit.clone(), self.plan.cluster.nodes, self.transport.clone());
        self.world.start(process, move |life: Incarnation| {
            let env = env(&world, life, &directory, None, Arc::new(audit.clone()));
            let (world, transport) = (world.clone(), transport.clone());
            let (import, load) = (import.clone(), load.clone());
            async move {
                let env = transport.over(life, env).await;
                dump::importer::work(world, env, nodes, import, load).await;
            }
        });
    }

    /// The cluster as the operator imports into it, or reads what was imported.
    pub fn import_target(&self) -> Target {
        dump::importer::target(self.operator.clone(), self.plan.cluster.nodes)
    }

    /// A client for the operator.
    pub fn reader(&self) -> Actor {
        Actor::new(0, &self.world, self.operator.clone(), &self.plan, &self.history, &self.audit)
    }

    /// Asks the coordinator until it answers.
    pub async fn command(&self, command: Command) -> Reply {
        let id = CommandId { operator: self.session, n: self.commands.fetch_add(1, Ordering::Relaxed) };
        loop {
            let frame = encode(&Message::Command { id, command: command.clone() });
            self.operator.net.send(Peer::Coordinator, frame);
            let until = self.operator.clock.now() + 30 * MILLIS;
            while self.operator.clock.now() < until {
                for (_, frame) in self.operator.net.recv(until).await {
                    match decode(&frame) {
                        Ok(Message::Reply { id: answered, reply }) if answered == id => return reply,
                        _ => {}
                    }
                }
            }
        }
    }

    /// Waits until the condition holds, looking every two milliseconds; `false` if `limit` of simulated time passes first.
    pub async fn until(&self, limit: u64, condition: impl Fn(&Cluster) -> bool) -> bool {
        let end = self.world.now() + limit;
        while !condition(self) {
            if self.world.now() >= end {
                return false;
            }
            self.world.sleep(2 * MILLIS).await;
        }
        true
    }

    /// Waits until the clients have ended so many operations.
    pub async fn until_operations(&self, count: u32) {
        // A scripted plan knows when that was.
        if let Some(scripted) = self.plan.migrations.iter().find(|it| it.after_operations == count && it.after_us > 0) {
            return self.world.sleep_until(scripted.after_us * MICROS).await;
        }
        self.until(self.plan.timing.chaos_ms * MILLIS, |it| it.load.ended() >= u64::from(count)).await;
    }

    /// The id of the plan's `n`th migration.
    pub fn id(&self, n: usize) -> MigrationId {
        MigrationId(n as u64 + 1)
    }

    fn plan_command(&self, n: usize) -> Command {
        let migration = &self.plan.migrations[n];
        Command::Plan {
            id: self.id(n),
            shard: ShardId(migration.shard),
            target: migration.target.iter().copied().map(NodeId).collect(),
            cutover: if migration.skip_delta { Cutover::Skipped } else { Cutover::Delta },
        }
    }

    /// Plans the plan's `n`th migration.
    pub async fn plan_migration(&self, n: usize) -> Result<(), Refusal> {
        self.accepted(self.plan_command(n)).await
    }

    /// Starts the plan's `n`th migration.
    pub async fn start_migration(&self, n: usize) -> Result<(), Refusal> {
        let life = || u64::from(self.world.life(self.directory.coordinator()).number);
        let first = life();
        let accepted = self.accepted(Command::Start { id: self.id(n) }).await;
        self.asked_to_start.fetch_add(1 + life() - first, Ordering::Relaxed);
        accepted?;
        self.audit.started(self.id(n));
        Ok(())
    }

    /// Plans and starts it, waiting while the shard is taken by another. `false` if it was refused for good, or the time
    /// for faults is over.
    pub async fn migrate_when_free(&self, n: usize) -> bool {
        self.start_when_free(n, self.plan_command(n)).await
    }

    /// As [`Cluster::migrate_when_free`], with the way back of the plan's `n`th migration for the plan's `back`th.
    pub async fn reverse_when_free(&self, n: usize, back: usize) -> bool {
        self.start_when_free(back, Command::Reverse { id: self.id(n), new: self.id(back) }).await
    }

    async fn start_when_free(&self, n: usize, planned_by: Command) -> bool {
        let end = self.plan.timing.chaos_ms * MILLIS;
        while self.world.now() < end {
            match self.command(planned_by.clone()).await {
                // `NotReady`: a coordinator that has lost its records has not rebuilt them yet.
                Reply::Refused { code, .. } if code == "Busy" || code == "CleanupGate" || code == "NotReady" => {
                    sometimes!(code == "CleanupGate", "a move had to wait for the cleanup gate");
                    self.world.sleep(20 * MILLIS).await;
                }
                Reply::Refused { code, text } => {
                    self.audit.refused(&code, &text);
                    return false;
                }
                _ => return self.start_migration(n).await.is_ok(),
            }
        }
        false
    }

    /// Does to the plan's `n`th migration what the plan says its operator does.
    pub async fn interfere(&self, n: usize) {
        let Some(interference) = self.plan.migrations[n].interference.clone() else { return };
        let (Interference::Abort { stage }
        | Interference::Pause { stage, .. }
        | Interference::AntiEntropyOff { stage, .. }) = &interference;
        let stage = stage.clone();
        let entered = |it: &Cluster| it.stage(n).is_some_and(|entered| entered.to_string() == stage);
        let over = |it: &Cluster| it.stage(n) >= Some(Stage::Cleanup);
        if !self.until(1_000 * MILLIS, |it| entered(it) || over(it)).await || over(self) {
            return;
        }
        let id = self.id(n);
        match interference {
            Interference::Abort { .. } => {
                let aborted = self.accepted(Command::Abort { id }).await.is_ok();
                sometimes!(aborted, "a migration was aborted by its operator");
            }
            Interference::Pause { for_ms, .. } => {
                let _refused = self.pause(n).await;
                self.world.sleep(for_ms * MILLIS).await;
                let _refused = self.resume(n).await;
                sometimes!("a migration was paused and went on");
            }
            Interference::AntiEntropyOff { for_ms, .. } => {
                let off = self.set_anti_entropy(false).await.is_ok();
                sometimes!(off, "anti-entropy was off while a shard moved");
                self.world.sleep(for_ms * MILLIS).await;
                if self.plan.cluster.anti_entropy {
                    let _refused = self.set_anti_entropy(true).await;
                }
            }
        }
    }

    /// Waits until the planned operations are through, the migrations have ended, and the last planned fault is over.
    pub async fn until_quiet(&self) {
        let operations = u64::from(self.plan.workload.operations);
        let ends = self.plan.sim.faults.iter().map(|fault| match fault.at {
            When::Time(at) => at + fault.kind.duration().unwrap_or(0),
            _ => 0,
        });
        let calm = ends.max().unwrap_or(0).min(self.plan.timing.chaos_ms * MILLIS);
        let limit = (self.plan.timing.chaos_ms * MILLIS).saturating_sub(self.world.now());
        let quiet =
            |it: &Cluster| it.load.ended() >= operations && it.audit.migrations_ended() && it.world.now() >= calm;
        self.until(limit, quiet).await;
    }

    /// Plans and starts it.
    pub async fn migrate(&self, n: usize) -> Result<(), Refusal> {
        self.plan_migration(n).await?;
        self.start_migration(n).await
    }

    pub async fn set_anti_entropy(&self, enabled: bool) -> Result<(), Refusal> {
        let repairs = enabled && !self.plan.cluster.reports_only;
        if repairs {
            self.audit.may_repair();
        }
        self.accepted(Command::SetAntiEntropy { enabled }).await?;
        self.audit.set_anti_entropy(repairs);
        Ok(())
    }

    async fn accepted(&self, command: Command) -> Result<(), Refusal> {
        match self.command(command).await {
            Reply::Done
            | Reply::Planned { .. }
            | Reply::Status { .. }
            | Reply::Inspected(_)
            | Reply::Comparing { .. } => Ok(()),
            Reply::Refused { code, text } => {
                self.audit.refused(&code, &text);
                Err(Refusal { code, text })
            }
        }
    }

    /// Where clients try in vain for longer than one of them tries.
    pub fn starved(&self) -> Vec<Stalled> {
        self.audit.progress().stalled(self.world.now(), self.plan.workload.give_up_ms * MILLIS)
    }

    /// How well writes to the shards that moved were served so far, by stage.
    pub fn service(&self) -> BTreeMap<String, Service> {
        let from = self.audit.chaos_from().unwrap_or(0);
        let to = self.load.thinned_at().unwrap_or_else(|| self.world.now());
        service::measure(&self.history.operations(), &self.audit.journeys(), self.plan.cluster.shards, from, to)
    }

    /// Stops the plan's `n`th migration before its next stage.
    pub async fn pause(&self, n: usize) -> Result<(), Refusal> {
        self.accepted(Command::Pause { id: self.id(n) }).await
    }

    /// Lets it go on.
    pub async fn resume(&self, n: usize) -> Result<(), Refusal> {
        self.accepted(Command::Resume { id: self.id(n) }).await
    }

    /// How many documents the first joining node of the plan's `n`th migration holds older, or not at all, than the first
    /// node it moves away from.
    pub fn lacking(&self, n: usize) -> u64 {
        let migration = &self.plan.migrations[n];
        let process = |node: u32| self.directory.process(Peer::Node(NodeId(node))).expect("a node has a process");
        let members = [self.plan.placed(migration.shard)[0], self.plan.joiners(migration)[0]].map(process);
        let differing = self.audit.auditor().differing(migration.shard, &members);
        differing.iter().filter(|(_, held)| held[1] < held[0]).count() as u64
    }

    /// Where the plan's `n`th migration stands.
    pub fn stage(&self, n: usize) -> Option<Stage> {
        self.audit.stage(self.id(n))
    }

    /// Waits until the cluster has been created and every node knows it.
    pub async fn until_created(&self) {
        loop {
            match self.command(Command::Status).await {
                Reply::Status { ready: true, configs, .. } if self.audit.is_installed_everywhere(&configs) => return,
                _ => self.world.sleep(2 * MILLIS).await,
            }
        }
    }

    /// The standard course: each migration starts when the clients have come as far as the plan says; then the load
    /// goes on until all have ended. Returns what was refused; nothing should be.
    pub async fn run_migrations(&self) -> Vec<String> {
        let mut refused = Vec::new();
        for n in 0..self.plan.migrations.len() {
            self.until_operations(self.plan.migrations[n].after_operations).await;
            let accepted = self.migrate(n).await;
            refused.extend(
                accepted.err().map(|refusal| format!("migration {} was refused: {}", self.id(n), refusal.text)),
            );
        }
        self.until_quiet().await;
        refused
    }
}
