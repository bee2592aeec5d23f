//! The adapter: gives the store a clock, dice, a disk and a network that are the simulator's.
//!
//! Nothing is decided here. Each trait of the store's `env` is handed to its counterpart in the simulator, under the
//! incarnation of the process it is made for, so that a dead process reaches nothing.

pub mod tcp;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use miroir_sim::clock::ProcessClock;
use miroir_sim::coverage::count_mark;
use miroir_sim::disk::{Mount, SimFile};
use miroir_sim::net::Endpoint;
use miroir_sim::{Incarnation, Names, ProcessId, Random, Stream, Timers, World};
use miroir_store::env::{BoxFuture, Clock, Dice, Disk, Env, File, Nanos, Net, Peer, Probe};
use miroir_store::id::NodeId;

use crate::plan::SUCCESSOR;

/// Which simulated process is which peer. Processes are registered operator first, then nodes, coordinator, clients.
#[derive(Clone, Debug)]
pub struct Directory {
    nodes: Vec<ProcessId>,
    coordinator: ProcessId,
    /// Who takes its place, if anybody does in this run, and whether that has happened.
    successor: Option<ProcessId>,
    is_succeeded: Arc<AtomicBool>,
    clients: Vec<ProcessId>,
}

impl Directory {
    /// `clients[0]` is the operator.
    pub fn new(nodes: Vec<ProcessId>, coordinator: ProcessId, clients: Vec<ProcessId>) -> Directory {
        Directory { nodes, coordinator, successor: None, is_succeeded: Arc::default(), clients }
    }

    pub fn process(&self, peer: Peer) -> Option<ProcessId> {
        match peer {
            Peer::Node(node) => self.nodes.get((node.0 as usize).checked_sub(1)?).copied(),
            Peer::Coordinator => Some(self.coordinator()),
            Peer::Client(n) => self.clients.get(n as usize).copied(),
        }
    }

    pub fn peer(&self, process: ProcessId) -> Option<Peer> {
        if process == self.coordinator || Some(process) == self.successor {
            return Some(Peer::Coordinator);
        }
        if let Some(index) = self.nodes.iter().position(|node| *node == process) {
            return Some(Peer::Node(NodeId(index as u32 + 1)));
        }
        self.clients.iter().position(|client| *client == process).map(|n| Peer::Client(n as u64))
    }

    pub fn node(&self, process: ProcessId) -> Option<NodeId> {
        match self.peer(process) {
            Some(Peer::Node(node)) => Some(node),
            _ => None,
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, ProcessId)> + '_ {
        self.nodes.iter().enumerate().map(|(index, process)| (NodeId(index as u32 + 1), *process))
    }

    /// Who is taken for the coordinator.
    pub fn coordinator(&self) -> ProcessId {
        self.successor.filter(|_| self.is_succeeded.load(Ordering::Relaxed)).unwrap_or(self.coordinator)
    }

    /// The coordinator is taken for dead. Returns its successor.
    pub fn succeed(&self) -> ProcessId {
        self.is_succeeded.store(true, Ordering::Relaxed);
        self.successor.expect("a plan in which the coordinator is succeeded registers who succeeds")
    }

    /// Who calls itself the coordinator: a node cannot tell them apart, and what it answers reaches both.
    fn coordinators(&self) -> Vec<ProcessId> {
        let successor = self.successor.filter(|_| self.is_succeeded.load(Ordering::Relaxed));
        [self.coordinator].into_iter().chain(successor).collect()
    }

    /// The operator is client 0.
    pub fn clients(&self) -> &[ProcessId] {
        &self.clients
    }

    /// Finds everybody by name among the registered processes.
    pub fn from_names(names: &Names, nodes: &[String], clients: &[String]) -> Directory {
        let id = |name: &str| names.find(name).unwrap_or_else(|| panic!("{name} is registered"));
        let operator = id("operator");
        Directory {
            nodes: nodes.iter().map(|name| id(name)).collect(),
            coordinator: id("coordinator"),
            successor: names.find(SUCCESSOR),
            is_succeeded: Arc::default(),
            clients: std::iter::once(operator).chain(clients.iter().map(|name| id(name))).collect(),
        }
    }
}

/// The effects of one life of a process. Processes without a disk of their own get one that refuses everything.
pub fn env(
    world: &World,
    life: Incarnation,
    directory: &Arc<Directory>,
    disk: Option<Mount>,
    probe: Arc<dyn Probe>,
) -> Env {
    let clock = world.clock(life.process);
    let key = u64::from(life.process.0) << 32 | u64::from(life.number);
    Env {
        clock: Arc::new(SimClock(clock.clone())),
        dice: Arc::new(SimDice(Mutex::new(world.dice().stream("entropy", key)))),
        disk: match disk {
            Some(mount) => Arc::new(StoreDisk { mount, timers: world.timers().clone() }),
            None => Arc::new(NoDisk),
        },
        net: Arc::new(SimNet {
            endpoint: world.endpoint(life),
            is_node: directory.node(life.process).is_some(),
            directory: directory.clone(),
            clock,
            timers: world.timers().clone(),
        }),
        probe,
    }
}

/// The signal of every step of the coordinator: a change of its disk or a message, before it happens.
pub const COORDINATOR_STEP: &str = "coordinator step";

/// The same effects, each change of the disk and each message announced as a [`COORDINATOR_STEP`] of `life`.
pub fn announced(env: Env, world: &World, life: Incarnation) -> Env {
    let steps = Steps { world: world.clone(), life };
    Env { disk: Arc::new(AnnouncedDisk(env.disk, steps.clone())), net: Arc::new(AnnouncedNet(env.net, steps)), ..env }
}

#[derive(Clone)]
struct Steps {
    world: World,
    life: Incarnation,
}

impl Steps {
    /// A fault that waits for this step strikes before this returns.
    fn announce(&self, what: &str) {
        let was_up = self.is_up();
        self.world.count_signal(COORDINATOR_STEP);
        if was_up && !self.is_up() {
            count_mark(&format!("the coordinator died before a {what}"));
        }
    }

    fn is_up(&self) -> bool {
        self.world.is_up(self.life.process) && self.world.life(self.life.process) == self.life
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Steps")
    }
}

struct AnnouncedNet(Arc<dyn Net>, Steps);

impl Net for AnnouncedNet {
    fn send(&self, to: Peer, frame: Vec<u8>) {
        self.1.announce("message");
        self.0.send(to, frame);
    }

    fn recv(&self, until: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        self.0.recv(until)
    }
}

#[derive(Debug)]
struct AnnouncedDisk(Arc<dyn Disk>, Steps);

impl Disk for AnnouncedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(AnnouncedFile(self.0.open(name)?, self.1.clone())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.1.announce("removal");
        self.0.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        self.0.settled()
    }
}

#[derive(Debug)]
struct AnnouncedFile(Arc<dyn File>, Steps);

impl File for AnnouncedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.announce("write");
        self.0.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.announce("cut");
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.announce("sync");
        self.0.sync()
    }
}

struct SimClock(ProcessClock);

impl Clock for SimClock {
    fn now(&self) -> Nanos {
        self.0.now()
    }
}

struct SimDice(Mutex<Stream>);

impl Dice for SimDice {
    fn bits(&self) -> u128 {
        self.0.lock().expect("nobody panics while drawing").next_u128()
    }
}

struct SimNet {
    endpoint: Endpoint,
    is_node: bool,
    directory: Arc<Directory>,
    clock: ProcessClock,
    timers: Timers,
}

impl Net for SimNet {
    fn send(&self, to: Peer, frame: Vec<u8>) {
        if to == Peer::Coordinator && self.is_node {
            for process in self.directory.coordinators() {
                self.endpoint.send(process, frame.clone());
            }
        } else if let Some(process) = self.directory.process(to) {
            self.endpoint.send(process, frame);
        }
    }

    fn recv(&self, until: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        // `until` is on the process's own clock, which may be wrong; the fabric keeps true time.
        let wait = until.saturating_sub(self.clock.now());
        let until = if until == Nanos::MAX { Nanos::MAX } else { self.timers.now().saturating_add(wait) };
        let received = self.endpoint.recv(until);
        Box::pin(async move {
            let frames = received.await.into_iter();
            frames.filter_map(|(from, frame)| Some((self.directory.peer(from)?, frame))).collect()
        })
    }
}

/// The store's view of a simulated disk.
pub struct StoreDisk {
    mount: Mount,
    timers: Timers,
}

impl StoreDisk {
    /// The disk outside a cluster, for tests of the engine alone.
    pub fn new(mount: Mount, timers: Timers) -> StoreDisk {
        StoreDisk { mount, timers }
    }
}

impl std::fmt::Debug for StoreDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreDisk")
    }
}

impl Disk for StoreDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(StoreFile(self.mount.open(name)?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.mount.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.mount.list()
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        let latency = self.mount.take_latency();
        let sleep = (latency > 0).then(|| self.timers.sleep(latency));
        Box::pin(async move {
            if let Some(sleep) = sleep {
                sleep.await;
            }
        })
    }
}

struct StoreFile(SimFile);

impl std::fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreFile({})", self.0.name())
    }
}

impl File for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// Clients keep nothing.
#[derive(Debug)]
struct NoDisk;

impl Disk for NoDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("a client has no disk for {name}")))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}
