//! Scans by quorum: three nodes, a router, messages that are lost, writes and a configuration that change meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use miroir_store::config::{Replica, ShardConfig};
use miroir_store::engine::Options;
use miroir_store::env::{BoxFuture, Clock, Dice, Env, Nanos, Net, NoProbe, Peer, millis};
use miroir_store::id::{Epoch, Key, NodeId, Session, ShardId, WriterId};
use miroir_store::node::Node;
use miroir_store::router::scan::{ScanPage, ScanRequest};
use miroir_store::router::{Request, Router, Timing};
use miroir_store::wire::{Message, NameRange, decode, encode};

use crate::disk::{Rng, TestDisk};

struct Nothing;

impl Clock for Nothing {
    fn now(&self) -> Nanos {
        0
    }
}

impl Dice for Nothing {
    fn bits(&self) -> u128 {
        7
    }
}

impl Net for Nothing {
    fn send(&self, _: Peer, _: Vec<u8>) {}

    fn recv(&self, _: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        Box::pin(std::future::pending())
    }
}

/// A node on an empty disk of its own. Nothing comes to it but what it is handed.
pub fn node(n: u32, options: Options) -> (Node, Env) {
    let env = Env {
        clock: Arc::new(Nothing),
        dice: Arc::new(Nothing),
        disk: Arc::new(TestDisk::default()),
        net: Arc::new(Nothing),
        probe: Arc::new(NoProbe),
    };
    (Node::open(NodeId(n), &env, options).expect("a fresh disk"), env)
}

/// Three nodes that hold shard 0, and a client.
struct Cluster {
    nodes: Vec<(Node, Env)>,
    router: Router,
    config: ShardConfig,
    /// Frames under way to the router.
    back: VecDeque<(Nanos, NodeId, Vec<u8>)>,
    rng: Rng,
    now: Nanos,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let mut nodes = Vec::new();
        for n in 0..3 {
            nodes.push(node(n, Options { flush_writes: 20, ..Options::default() }));
        }
        let replica = |(n, (node, _)): (usize, &(Node, Env))| Replica {
            node: NodeId(n as u32),
            session: Session(Epoch::FIRST),
            disk: node.engine().disk_id(),
        };
        let config = ShardConfig::initial(ShardId(0), 1, nodes.iter().enumerate().map(replica).collect());
        let timing = Timing { give_up: millis(60_000), ..Timing::default() };
        let router = Router::new(WriterId(1), (0..3).map(NodeId).collect(), timing);
        let mut cluster = Cluster { nodes, router, config, back: VecDeque::new(), rng: Rng(seed), now: 0 };
        cluster.install();
        cluster
    }

    /// Installs the configuration on the nodes; not on all of them at once.
    fn install(&mut self) {
        for (node, env) in &mut self.nodes {
            if self.config.epoch == Epoch::FIRST || self.rng.chance(2, 3) {
                let config = self.config.clone();
                node.receive(self.now, Peer::Coordinator, Message::Install { config }).expect("an install");
                node.commit(env).expect("a commit");
                node.drain_answers();
            }
        }
    }

    /// Delivers some frames, loses others, and lets time pass.
    fn turn(&mut self) {
        for (to, message) in self.router.drain_sends() {
            if self.rng.chance(1, 6) {
                continue;
            }
            let message = decode(&encode(&message)).expect("our own frame");
            let (node, env) = &mut self.nodes[to.0 as usize];
            node.receive(self.now, Peer::Client(0), message).expect("a healthy disk");
            node.commit(env).expect("a commit");
            for (peer, answer) in node.drain_answers() {
                let at = self.now + millis(self.rng.below(20));
                match peer {
                    Peer::Client(_) if !self.rng.chance(1, 6) => self.back.push_back((at, to, encode(&answer))),
                    Peer::Coordinator => {
                        let config = self.config.clone();
                        node.receive(self.now, Peer::Coordinator, Message::Install { config }).expect("an install");
                        node.commit(env).expect("a commit");
                    }
                    _ => {}
                }
            }
        }
        self.now += millis(5);
        for _ in 0..self.back.len() {
            let (at, node, frame) = self.back.pop_front().expect("counted");
            if at <= self.now {
                let message = decode(&frame).expect("our own frame");
                self.router.receive(self.now, Peer::Node(node), message);
            } else {
                self.back.push_back((at, node, frame));
            }
        }
        self.router.tick(self.now);
    }

    fn write(&mut self, n: u64, delete: bool) {
        let key = Key::new("c", &format!("{n:04}")).expect("a key");
        let request =
            if delete { Request::Delete { key } } else { Request::Put { key, value: vec![n as u8; 30].into() } };
        self.router.start(self.now, request);
    }

    fn settle(&mut self) {
        while self.router.pending() > 0 {
            self.turn();
        }
        self.router.drain_done();
    }

    fn scan(&mut self, from: String, documents: u32) -> ScanPage {
        let range = NameRange { from, until: None };
        let id = self.router.scan(self.now, ScanRequest { shard: ShardId(0), range, documents });
        loop {
            self.turn();
            for (done, page) in self.router.drain_scanned() {
                if done == id {
                    return page.expect("it is answered in time");
                }
            }
        }
    }
}

/// Even documents stay; odd ones come and go while the scan is under way, and twice the epoch changes.
#[test]
fn a_document_that_exists_throughout_appears_exactly_once() {
    let mut pages = 0;
    for seed in 0..60 {
        let mut cluster = Cluster::new(seed);
        for n in 0..80 {
            cluster.write(n, false);
        }
        cluster.settle();
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let (mut from, mut order) = (String::new(), Vec::new());
        loop {
            for _ in 0..cluster.rng.below(6) {
                let n = cluster.rng.below(60) * 2 + 1;
                let delete = cluster.rng.chance(1, 2);
                cluster.write(n, delete);
            }
            if cluster.rng.chance(1, 8) {
                cluster.config.epoch = cluster.config.epoch.next();
                cluster.install();
            }
            let size = 1 + cluster.rng.below(12) as u32;
            let page = cluster.scan(from, size);
            assert!(page.documents.len() <= size as usize);
            pages += 1;
            for (key, _, value) in page.documents {
                let n: u64 = key.id().parse().expect("a number");
                assert_eq!(value[..], [n as u8; 30]);
                *seen.entry(n).or_default() += 1;
                order.push(n);
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert!(order.is_sorted(), "seed {seed}: {order:?}");
        assert!(seen.values().all(|times| *times == 1), "seed {seed}: {seen:?}");
        assert!((0..80).step_by(2).all(|n| seen.contains_key(&n)), "seed {seed}: {seen:?}");
    }
    println!("{pages} pages were scanned");
}

/// A write that one replica of the quorum has and another lacks is shown as the one that has it says.
#[test]
fn the_greatest_version_of_a_quorum_is_shown() {
    let mut cluster = Cluster::new(1);
    for n in 0..10 {
        cluster.write(n, false);
    }
    cluster.settle();
    for n in 0..10 {
        cluster.write(n, n % 2 == 0);
    }
    cluster.settle();
    let page = cluster.scan(String::new(), 100);
    let ids: Vec<&str> = page.documents.iter().map(|(key, ..)| key.id()).collect();
    assert_eq!(ids, ["0001", "0003", "0005", "0007", "0009"]);
    assert_eq!(page.next, None);
}
