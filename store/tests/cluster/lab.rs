//! A cluster on a workbench.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use miroir_store::config::ShardConfig;
use miroir_store::coordinator::gate::AntiEntropy;
use miroir_store::coordinator::records::EngineRecords;
use miroir_store::coordinator::{Coordinator, NewCluster, Options};
use miroir_store::engine::Options as EngineOptions;
use miroir_store::env::{BoxFuture, Clock, Dice, Env, Event, Measure, Nanos, Net, Peer, Probe, millis};
use miroir_store::id::{Key, MigrationId, NodeId, ShardId, WriterId};
use miroir_store::migration::{self, Stage};
use miroir_store::node::Node;
use miroir_store::router::{Outcome, Request, Router, Timing};
use miroir_store::wire::{Command, CommandId, Message, Op, Purpose, Reply};

use crate::disk::TestDisk;

/// Counts the questions for counters.
pub const COUNTER: fn(&Op) -> bool = |op| matches!(op, Op::Counter);

pub fn key(id: &str) -> Key {
    Key::new("c", id).expect("a short id")
}

#[derive(Default)]
struct Shared {
    now: Mutex<Nanos>,
    drawn: Mutex<u128>,
    configs: Mutex<BTreeMap<ShardId, ShardConfig>>,
    stages: Mutex<BTreeMap<MigrationId, Vec<Stage>>>,
    passes: Mutex<Passes>,
    commits: Mutex<usize>,
    measures: Mutex<Vec<Measure>>,
}

/// Passes of anti-entropy.
#[derive(Clone, Debug, Default)]
pub struct Passes {
    pub under_way: BTreeSet<ShardId>,
    /// As many as were ever under way at once.
    pub most: usize,
    /// How many each shard has had.
    pub ended: BTreeMap<ShardId, usize>,
}

struct Effects(Arc<Shared>);

impl Clock for Effects {
    fn now(&self) -> Nanos {
        *self.0.now.lock().unwrap()
    }
}

impl Dice for Effects {
    fn bits(&self) -> u128 {
        let mut drawn = self.0.drawn.lock().unwrap();
        *drawn += 1;
        *drawn << 64 | *drawn
    }
}

impl Net for Effects {
    fn send(&self, _: Peer, _: Vec<u8>) {
        unreachable!("state machines are drained, they do not send");
    }

    fn recv(&self, _: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        unreachable!("state machines are told, they do not receive");
    }
}

impl Probe for Effects {
    fn on(&self, event: Event) {
        match event {
            Event::Committed { config } => {
                *self.0.commits.lock().unwrap() += 1;
                self.0.configs.lock().unwrap().insert(config.shard, config);
            }
            Event::Reconciling { shard, purpose: Purpose::AntiEntropy } => {
                let mut passes = self.0.passes.lock().unwrap();
                assert!(passes.under_way.insert(shard), "{shard} has one pass at a time");
                passes.most = passes.most.max(passes.under_way.len());
            }
            Event::Reconciled { shard, purpose: Purpose::AntiEntropy, .. } => {
                let mut passes = self.0.passes.lock().unwrap();
                assert!(passes.under_way.remove(&shard));
                *passes.ended.entry(shard).or_default() += 1;
            }
            Event::Staged { migration, stage, .. } => {
                *self.0.commits.lock().unwrap() += 1;
                self.0.stages.lock().unwrap().entry(migration).or_default().push(stage);
            }
            _ => {}
        }
    }

    fn measure(&self, measure: Measure) {
        self.0.measures.lock().unwrap().push(measure);
    }
}

type Lose = Box<dyn Fn(Peer, Peer, &Message) -> bool>;

pub struct Lab {
    shared: Arc<Shared>,
    nodes: BTreeMap<NodeId, (Node, Env)>,
    disks: BTreeMap<NodeId, TestDisk>,
    coordinator: Coordinator,
    coordinator_disk: TestDisk,
    options: Options,
    router: Router,
    queue: VecDeque<(Peer, Peer, Message)>,
    replies: VecDeque<Reply>,
    commands: u64,
    outcomes: Vec<Outcome>,
    restart_after: Option<usize>,
    restarted: bool,
    /// Every message that was sent, lost ones too.
    pub sent: Vec<(Peer, Peer, Message)>,
    pub lose: Option<Lose>,
}

const CLIENT: Peer = Peer::Client(1);

fn env(shared: &Arc<Shared>, disk: &TestDisk) -> Env {
    let effects = || Arc::new(Effects(shared.clone()));
    Env { clock: effects(), dice: effects(), disk: Arc::new(disk.clone()), net: effects(), probe: effects() }
}

fn open(shared: &Arc<Shared>, disk: &TestDisk, options: &Options) -> Coordinator {
    let env = env(shared, disk);
    let records = EngineRecords::open(&env, EngineOptions::default()).expect("the records open");
    Coordinator::open(env, options.clone(), Box::new(records)).expect("the records can be read")
}

impl Lab {
    /// A cluster of one shard, created and ready.
    pub fn new(nodes: u32, replication: u32, anti_entropy: bool) -> Lab {
        Lab::with(nodes, replication, 1, anti_entropy, EngineOptions::default())
    }

    /// A cluster of several shards.
    pub fn with_shards(nodes: u32, replication: u32, shard_count: u32) -> Lab {
        Lab::with(nodes, replication, shard_count, true, EngineOptions::default())
    }

    /// A cluster whose nodes take no larger documents.
    pub fn with_document_bytes(nodes: u32, replication: u32, document_bytes: usize) -> Lab {
        Lab::with(nodes, replication, 1, false, EngineOptions { document_bytes, ..EngineOptions::default() })
    }

    fn with(nodes: u32, replication: u32, shard_count: u32, anti_entropy: bool, engine: EngineOptions) -> Lab {
        let shared = Arc::new(Shared::default());
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let (mut built, mut disks) = (BTreeMap::new(), BTreeMap::new());
        for &id in &ids {
            let env = env(&shared, disks.entry(id).or_default());
            let node = Node::open(id, &env, engine.clone()).expect("an empty disk opens");
            built.insert(id, (node, env));
        }
        let anti_entropy = AntiEntropy { enabled: anti_entropy, ..AntiEntropy::default() };
        // Slow pages, so that tests can act while a copy is under way.
        let migration = migration::Timing { page_documents: 8, page_interval: millis(4), ..Default::default() };
        let options = Options {
            migration,
            create: Some(NewCluster {
                nodes: ids.iter().map(|id| (*id, id.to_string())).collect(),
                shard_count,
                replication,
                anti_entropy,
                placement: Vec::new(),
                gone: Vec::new(),
            }),
            ..Options::default()
        };
        let coordinator_disk = TestDisk::default();
        let coordinator = open(&shared, &coordinator_disk, &options);
        let router = Router::new(WriterId(7), ids, Timing::default());
        let mut lab = Lab {
            shared,
            nodes: built,
            disks,
            coordinator,
            coordinator_disk,
            options,
            router,
            queue: VecDeque::new(),
            replies: VecDeque::new(),
            commands: 0,
            outcomes: Vec::new(),
            restart_after: None,
            restarted: false,
            sent: Vec::new(),
            lose: None,
        };
        while lab.shared.configs.lock().unwrap().is_empty() {
            lab.step();
        }
        lab.run_for(50);
        lab.sent.clear();
        lab
    }

    /// Delivers what is under way, then lets a millisecond pass.
    fn step(&mut self) {
        self.drain();
        while let Some((from, to, message)) = self.queue.pop_front() {
            self.deliver(from, to, message);
            self.drain();
        }
        let now = {
            let mut now = self.shared.now.lock().unwrap();
            *now += millis(1);
            *now
        };
        self.router.tick(now);
        self.coordinator.tick(now).expect("the records take commits");
        if self.restart_after.is_some_and(|after| self.commits() > after) {
            self.restart_after = None;
            self.restarted = true;
            self.coordinator.drain_sends();
            self.coordinator = open(&self.shared, &self.coordinator_disk, &self.options);
        }
    }

    fn deliver(&mut self, from: Peer, to: Peer, message: Message) {
        let now = *self.shared.now.lock().unwrap();
        match to {
            Peer::Node(id) => {
                let (node, env) = self.nodes.get_mut(&id).expect("a known node");
                node.receive(now, from, message).expect("the disk works");
                node.commit(env).expect("the disk works");
            }
            Peer::Coordinator => self.coordinator.receive(now, from, message).expect("the records take commits"),
            Peer::Client(_) => match message {
                Message::Reply { reply, .. } => self.replies.push_back(reply),
                other => self.router.receive(now, from, other),
            },
        }
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for (id, (node, _)) in &mut self.nodes {
            out.extend(node.drain_answers().into_iter().map(|(to, message)| (Peer::Node(*id), to, message)));
        }
        let sends = self.coordinator.drain_sends().into_iter();
        out.extend(sends.map(|(to, message)| (Peer::Coordinator, to, message)));
        let sends = self.router.drain_sends().into_iter();
        out.extend(sends.map(|(node, message)| (CLIENT, Peer::Node(node), message)));
        self.outcomes.extend(self.router.drain_done().into_iter().map(|(_, outcome)| outcome));
        for (from, to, message) in out {
            self.sent.push((from, to, message.clone()));
            if !self.lose.as_ref().is_some_and(|lose| lose(from, to, &message)) {
                self.queue.push_back((from, to, message));
            }
        }
    }

    pub fn run_for(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    pub fn submit(&mut self, request: Request) {
        let now = *self.shared.now.lock().unwrap();
        self.router.start(now, request);
    }

    pub fn finish_all(&mut self) -> Vec<Outcome> {
        while self.router.pending() > 0 {
            self.step();
        }
        self.drain();
        std::mem::take(&mut self.outcomes)
    }

    pub fn call(&mut self, request: Request) -> Outcome {
        self.submit(request);
        self.finish_all().pop().expect("one operation was submitted")
    }

    pub fn put(&mut self, id: &str, value: &str) -> Outcome {
        self.call(Request::Put { key: key(id), value: value.as_bytes().into() })
    }

    pub fn get(&mut self, id: &str) -> Option<String> {
        match self.call(Request::Get { key: key(id) }) {
            Outcome::Ok { value, .. } => value.map(|value| String::from_utf8_lossy(&value).into_owned()),
            other => panic!("{id} cannot be read: {other:?}"),
        }
    }

    pub fn command(&mut self, command: Command) -> Reply {
        self.commands += 1;
        self.command_as(CommandId { operator: 1, n: self.commands }, command)
    }

    pub fn command_as(&mut self, id: CommandId, command: Command) -> Reply {
        self.queue.push_back((CLIENT, Peer::Coordinator, Message::Command { id, command }));
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return reply;
            }
            self.step();
        }
    }

    /// The coordinator's disk is gone, and so is its memory. What it has sent is still on its way.
    pub fn lose_coordinator(&mut self) {
        self.drain();
        self.coordinator_disk = TestDisk::default();
        self.coordinator = open(&self.shared, &self.coordinator_disk, &self.options);
    }

    /// Every node starts again, and takes no larger documents from now on.
    pub fn lower_document_bytes(&mut self, document_bytes: usize) {
        let options = EngineOptions { document_bytes, ..EngineOptions::default() };
        for (id, (node, env)) in &mut self.nodes {
            *node = Node::open(*id, env, options.clone()).expect("the disk is sound");
        }
    }

    /// From now on a node's disk has no room, or has room again.
    pub fn set_full(&self, node: u32, full: bool) {
        self.disks[&NodeId(node)].set_full(full.then_some(""));
    }

    /// What all processes have shown to operators.
    pub fn measures(&self) -> Vec<Measure> {
        self.shared.measures.lock().unwrap().clone()
    }

    /// A node's disk is replaced by an empty one.
    pub fn lose_disk(&mut self, node: u32) {
        let disk = TestDisk::default();
        let env = env(&self.shared, &disk);
        self.disks.insert(NodeId(node), disk);
        let opened = Node::open(NodeId(node), &env, EngineOptions::default()).expect("an empty disk opens");
        self.nodes.insert(NodeId(node), (opened, env));
    }

    /// Delivers a message as if it had been on its way for long.
    pub fn deliver_late(&mut self, from: Peer, to: Peer, message: Message) {
        self.deliver(from, to, message);
    }

    pub fn installed(&self, node: u32) -> ShardConfig {
        let state = self.nodes[&NodeId(node)].0.engine().shard(ShardId(0)).expect("a known shard");
        state.config.clone().expect("an installed configuration")
    }

    pub fn until_stage(&mut self, id: MigrationId, stage: Stage) {
        for _ in 0..20_000 {
            if self.shared.stages.lock().unwrap().get(&id).is_some_and(|stages| stages.contains(&stage)) {
                return;
            }
            self.step();
        }
        panic!("{stage} was not reached: {:?}", self.shared.stages.lock().unwrap());
    }

    pub fn config(&self, shard: ShardId) -> ShardConfig {
        self.shared.configs.lock().unwrap()[&shard].clone()
    }

    pub fn owner(&self, shard: ShardId) -> NodeId {
        self.config(shard).new[0].node
    }

    pub fn documents(&self, node: u32) -> u64 {
        self.nodes[&NodeId(node)].0.engine().shard(ShardId(0)).map_or(0, |state| state.documents)
    }

    pub fn passes(&self) -> Passes {
        self.shared.passes.lock().unwrap().clone()
    }

    /// Commits of configurations and stages so far.
    pub fn commits(&self) -> usize {
        *self.shared.commits.lock().unwrap()
    }

    pub fn restart_coordinator_after(&mut self, commits: usize) {
        self.restart_after = Some(commits);
    }

    pub fn has_restarted(&self) -> bool {
        self.restarted
    }

    /// How many operations of a kind were sent.
    pub fn count(&self, wanted: fn(&Op) -> bool) -> usize {
        let batches = self.sent.iter().filter_map(|(_, _, message)| match message {
            Message::Batch { ops, .. } => Some(ops),
            _ => None,
        });
        batches.flatten().filter(|(_, op)| wanted(op)).count()
    }
}
