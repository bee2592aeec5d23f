//! What it costs to find and repair k differences between two replicas of n documents: frames and their bytes, counted
//! as they would cross the network.

use std::collections::VecDeque;
use std::sync::Arc;

use miroir_store::config::{Replica, ShardConfig};
use miroir_store::engine::{MAX_LEVEL, Options};
use miroir_store::env::{BoxFuture, Clock, Dice, Env, Nanos, Net, NoProbe, Peer};
use miroir_store::id::{DiskId, Epoch, Key, NodeId, Session, ShardId};
use miroir_store::node::Node;
use miroir_store::reconcile::{Reconcile, Source, Spec, Timing};
use miroir_store::wire::{Message, Purpose, RequestId, Shipped, encode};

use crate::disk::TestDisk;
use crate::model::version;
use crate::tried::{all_wanted, tell};

const S0: ShardId = ShardId(0);
const BODY_BYTES: usize = 100;

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

/// The world of a node that is driven by hand. Its dice always show 7.
pub fn env(disk: &TestDisk) -> Env {
    Env {
        clock: Arc::new(Nothing),
        dice: Arc::new(Nothing),
        disk: Arc::new(disk.clone()),
        net: Arc::new(Nothing),
        probe: Arc::new(NoProbe),
    }
}

/// Two replicas, and a count of what they are sent and send.
struct Pair {
    nodes: Vec<(Node, Env)>,
    replicas: Vec<Replica>,
    frames: u64,
    bytes: u64,
    /// Of the bytes, those of shipped documents.
    shipped_bytes: u64,
}

impl Pair {
    fn of(documents: u64) -> Pair {
        let replicas: Vec<Replica> =
            (0..2).map(|n| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(7) }).collect();
        let nodes = (0..2).map(|n| {
            let env = env(&TestDisk::default());
            let options =
                Options { flush_writes: 1 << 18, flush_bytes: 1 << 28, cache_bytes: 64 << 20, ..Options::default() };
            let mut node = Node::open(NodeId(n), &env, options).expect("a fresh disk");
            let config = ShardConfig::initial(S0, 1, replicas.clone());
            node.receive(0, Peer::Coordinator, Message::Install { config }).expect("an install");
            node.commit(&env).expect("a commit");
            (node, env)
        });
        let mut pair = Pair { nodes: nodes.collect(), replicas, frames: 0, bytes: 0, shipped_bytes: 0 };
        for first in (0..documents).step_by(1_000) {
            let names: Vec<u64> = (first..(first + 1_000).min(documents)).collect();
            for node in 0..2 {
                pair.write(node, &names, 1);
            }
        }
        pair
    }

    fn write(&mut self, node: usize, names: &[u64], counter: u64) {
        let document = |n: &u64| Shipped {
            key: Key::new("c", &format!("{:024x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).expect("a key"),
            version: version(counter, 1),
            value: Some(vec![*n as u8; BODY_BYTES].into()),
        };
        let repair = Message::Repair {
            request: RequestId { job: 0, n: 0 },
            shard: S0,
            epoch: Epoch::FIRST,
            session: Session(Epoch::FIRST),
            purpose: Purpose::AntiEntropy,
            documents: names.iter().map(document).collect(),
            raise_to: counter,
            end: None,
        };
        let (it, env) = &mut self.nodes[node];
        it.receive(0, Peer::Coordinator, repair).expect("a repair");
        it.commit(env).expect("a commit");
        it.drain_answers();
    }

    fn count(&mut self, message: &Message) {
        let bytes = encode(message).len() as u64;
        self.frames += 1;
        self.bytes += bytes;
        if matches!(message, Message::Repair { .. }) {
            self.shipped_bytes += bytes;
        }
    }

    /// Reconciles the two; how many documents were shipped.
    fn reconcile(&mut self) -> u64 {
        (self.frames, self.bytes, self.shipped_bytes) = (0, 0, 0);
        let spec = Spec {
            shard: S0,
            epoch: Epoch::FIRST,
            purpose: Purpose::AntiEntropy,
            sources: vec![Source::majority_of(&self.replicas)],
            targets: self.replicas.clone(),
            counters_only: false,
        };
        let mut job = Reconcile::new(0, 1, spec, Timing::default());
        loop {
            let mut messages: VecDeque<(NodeId, Message)> = job.drain_sends().into();
            if messages.is_empty() {
                let report = job.report().expect("without losses a job ends");
                assert_eq!((report.verified.len(), report.reruns), (2, 0));
                return report.shipped;
            }
            while let Some((to, message)) = messages.pop_front() {
                self.count(&message);
                let (node, env) = &mut self.nodes[to.0 as usize];
                node.receive(0, Peer::Coordinator, message).expect("a healthy disk");
                node.commit(env).expect("a commit");
                for (to, answer) in node.drain_answers() {
                    match to {
                        Peer::Node(to) => messages.push_back((to, answer)),
                        _ => {
                            self.count(&answer);
                            job.receive(0, answer);
                        }
                    }
                }
            }
        }
    }
}

/// Messages and bytes are those of the digests, and then some for each difference, however many documents there are.
#[test]
fn cost_of_reconciling() {
    for n in all_wanted("MIROIR_RECONCILE", &[10_000, 30_000]) {
        let mut pair = Pair::of(n);
        for (round, k) in (2..).zip([0, 1, 100, 10_000]) {
            let names: Vec<u64> = (0..k).map(|difference| difference * (n / k.max(1))).collect();
            // Half of the differences here, half there.
            let (here, there) = names.split_at(names.len() / 2);
            pair.write(0, here, round);
            pair.write(1, there, round);
            assert_eq!(pair.reconcile(), k);
            let digest = |node: usize| pair.nodes[node].0.engine().shard(S0).expect("known").digest.clone();
            assert_eq!(digest(0), digest(1));
            let Pair { frames, bytes, shipped_bytes, .. } = pair;
            let found = bytes - shipped_bytes;
            tell(
                "reconcile",
                &[
                    (n, "documents"),
                    (k, "differences"),
                    (frames, "frames"),
                    (found, "bytes to find them"),
                    (shipped_bytes, "bytes shipped"),
                ],
            );
            // Two digests of 256 sums, and what does not depend on how many documents there are.
            assert!(found <= 8_000 + k * 2_400, "n = {n}, k = {k}: {found} bytes");
            // Each level down to which buckets are split is a question to both and two answers.
            let splits = 4 * u64::from(MAX_LEVEL);
            assert!(frames <= 15 + splits + k / 10, "n = {n}, k = {k}: {frames} frames");
        }
    }
}
