//! The machine against replicas that are maps, over a network that may lose what a test says.

use std::collections::BTreeMap;

use super::*;
use crate::engine::{Bucket, Digest, Mark};
use crate::id::{DiskId, Session, WriterId};
use crate::wire::Selection;

const EPOCH: Epoch = Epoch { generation: 1, n: 5 };

#[derive(Default)]
struct Replicas {
    held: BTreeMap<NodeId, BTreeMap<Key, Version>>,
    counters: BTreeMap<NodeId, u64>,
    /// Documents of which a replica holds another value than the others, under this version.
    altered: BTreeSet<(NodeId, Key, Version)>,
    down: Vec<NodeId>,
    messages: usize,
}

fn version(counter: u64) -> Version {
    Version { counter, writer: WriterId(1) }
}

fn key(n: usize) -> Key {
    Key::new("c", &format!("d{n:04}")).unwrap()
}

fn replica(node: u32) -> Replica {
    Replica { node: NodeId(node), session: Session(EPOCH), disk: DiskId(node.into()) }
}

impl Replicas {
    fn with(nodes: &[u32], documents: usize) -> Replicas {
        let mut replicas = Replicas::default();
        for &node in nodes {
            let copy = (0..documents).map(|n| (key(n), version(n as u64 + 1))).collect();
            replicas.held.insert(NodeId(node), copy);
            replicas.counters.insert(NodeId(node), documents as u64);
        }
        replicas
    }

    fn sum(&self, node: NodeId, key: &Key, version: Version) -> u64 {
        let altered = self.altered.contains(&(node, key.clone(), version));
        xxhash_rust::xxh3::xxh3_64(format!("{key} {version:?} {altered}").as_bytes())
    }

    fn digest(&self, node: NodeId) -> Vec<u64> {
        let mut sums = Digest::default().0.to_vec();
        for (key, version) in &self.held[&node] {
            let slot = &mut sums[usize::from(Digest::bucket(key))];
            *slot = slot.wrapping_add(self.sum(node, key, *version));
        }
        sums
    }

    fn answer(&mut self, to: NodeId, message: Message) -> Option<Message> {
        self.messages += 1;
        if self.down.contains(&to) {
            return None;
        }
        Some(match message {
            Message::Digest { request, .. } => {
                let (max_counter, documents) = (self.counters[&to], self.held[&to].len() as u64);
                Message::Digests { request, node: to, buckets: self.digest(to), documents, max_counter }
            }
            Message::Split { request, level, buckets, .. } => {
                let parts: Vec<Bucket> = buckets.iter().flat_map(|bucket| bucket.split(level)).collect();
                let mut sums = vec![0u64; parts.len()];
                for (key, version) in &self.held[&to] {
                    let part = Bucket::of(key.encoded(), level + 1);
                    if let Some(place) = parts.iter().position(|it| *it == part) {
                        sums[place] = sums[place].wrapping_add(self.sum(to, key, *version));
                    }
                }
                Message::Sums { request, node: to, sums }
            }
            Message::List { request, level, buckets, .. } => {
                let held = self.held[&to].iter().filter(|(key, _)| buckets.contains(&Bucket::of(key.encoded(), level)));
                let marked = held.map(|(k, v)| (k.clone(), Mark { version: *v, sum: self.sum(to, k, *v) }));
                Message::Listing { request, node: to, entries: marked.collect() }
            }
            Message::Ship { request, selection: Selection::Keys(keys), to: target, raise_to, .. } => {
                if self.down.contains(&target.node) {
                    return None;
                }
                let shipped: Vec<(Key, Version)> = keys.into_iter().map(|k| (k.clone(), self.held[&to][&k])).collect();
                let copy = self.held.get_mut(&target.node).unwrap();
                let mut applied = 0;
                for (key, version) in shipped {
                    let held = copy.entry(key).or_default();
                    if *held < version {
                        *held = version;
                        applied += 1;
                    }
                }
                let counter = self.counters.get_mut(&target.node).unwrap();
                *counter = raise_to.max(*counter);
                Message::Repaired { request, node: target.node, applied, max_counter: *counter, end: None }
            }
            other => panic!("a node is not asked {other:?}"),
        })
    }

    /// Runs a job to its end, or for ten simulated seconds.
    fn run(&mut self, spec: Spec) -> Option<Report> {
        let mut now = 0;
        let mut job = Reconcile::new(now, 7, spec, Timing::default());
        while now < millis(10_000) {
            for (to, message) in job.drain_sends() {
                if let Some(answer) = self.answer(to, message) {
                    job.receive(now, answer);
                }
            }
            if let Some(report) = job.report() {
                return Some(report.clone());
            }
            now += millis(5);
            job.tick(now);
        }
        None
    }
}

fn delta(old: &[u32], new: &[u32]) -> Spec {
    Spec {
        shard: ShardId(0),
        epoch: EPOCH,
        purpose: Purpose::Delta,
        sources: vec![Source::majority_of(&old.iter().map(|&n| replica(n)).collect::<Vec<_>>())],
        targets: new.iter().map(|&n| replica(n)).collect(),
        counters_only: false,
    }
}

#[test]
fn equal_replicas_cost_one_round_of_digests() {
    let mut replicas = Replicas::with(&[1, 2, 3], 500);
    let report = replicas.run(delta(&[1, 2, 3], &[1, 2, 3])).unwrap();
    assert_eq!((report.differing, report.shipped, replicas.messages), (0, 0, 3));
}

#[test]
fn what_only_one_old_replica_of_the_majority_holds_is_carried_over() {
    let mut replicas = Replicas::with(&[1, 2, 3, 4], 300);
    replicas.held.get_mut(&NodeId(2)).unwrap().insert(key(17), version(900));
    replicas.held.get_mut(&NodeId(4)).unwrap().remove(&key(3));
    replicas.counters.insert(NodeId(2), 900);
    let report = replicas.run(delta(&[1, 2, 3], &[2, 3, 4])).unwrap();
    // The newer version goes to 3 and 4, the missing document to 4.
    assert_eq!(report.shipped, 3);
    assert_eq!(replicas.held[&NodeId(4)], replicas.held[&NodeId(2)]);
    assert_eq!(replicas.counters[&NodeId(4)], 900);
}

#[test]
fn a_minority_that_is_down_is_left_out_and_a_majority_that_is_down_is_waited_for() {
    let mut replicas = Replicas::with(&[1, 2, 3, 4], 50);
    replicas.held.get_mut(&NodeId(3)).unwrap().clear();
    replicas.down = vec![NodeId(4), NodeId(1)];
    let report = replicas.run(delta(&[1, 2, 3], &[2, 3, 4])).unwrap();
    assert_eq!((report.shipped, report.verified), (50, vec![NodeId(2), NodeId(3)]));
    replicas.down = vec![NodeId(1), NodeId(2)];
    assert_eq!(replicas.run(delta(&[1, 2, 3], &[2, 3, 4])), None);
}

#[test]
fn a_skipped_delta_pass_still_carries_the_counter() {
    let mut replicas = Replicas::with(&[1, 2], 10);
    replicas.held.get_mut(&NodeId(2)).unwrap().clear();
    replicas.counters.insert(NodeId(2), 0);
    let report = replicas.run(Spec { counters_only: true, ..delta(&[1], &[2]) }).unwrap();
    assert_eq!((report.shipped, replicas.held[&NodeId(2)].len(), replicas.counters[&NodeId(2)]), (0, 0, 10));
}

/// A node that walks a million documents is busy for a while; asked again meanwhile, it would walk for ever.
#[test]
fn who_has_much_to_walk_is_given_the_time() {
    let mut job = Reconcile::new(0, 7, delta(&[1], &[2]), Timing::default());
    for (to, question) in job.drain_sends() {
        let Message::Digest { request, .. } = question else { panic!("digests are asked for first, not {question:?}") };
        let mut buckets = vec![0; 256];
        buckets[9] = to.0.into();
        job.receive(0, Message::Digests { request, node: to, buckets, documents: 1_000_000, max_counter: 9 });
    }
    let asked = |job: &mut Reconcile| job.drain_sends().len();
    assert_eq!(asked(&mut job), 2, "both are asked to split");
    for now in [millis(20), millis(400), millis(2_000)] {
        job.tick(now);
        assert_eq!(asked(&mut job), 0, "at {now}");
    }
    assert_eq!(job.deadline(), millis(2_020));
    job.tick(millis(2_020));
    assert_eq!(asked(&mut job), 2);
}

/// One version with two values: nobody can say which is right, so it is told and left as it is. What else differs is
/// repaired as ever.
#[test]
fn equal_versions_with_different_values_are_reported_and_not_merged() {
    for purpose in [Purpose::AntiEntropy, Purpose::Delta] {
        let mut replicas = Replicas::with(&[1, 2, 3], 300);
        replicas.altered =
            [(2, 7), (3, 7), (3, 200)].map(|(node, n)| (NodeId(node), key(n), version(n as u64 + 1))).into();
        replicas.held.get_mut(&NodeId(1)).unwrap().remove(&key(9));
        let report = replicas.run(Spec { purpose, ..delta(&[1, 2, 3], &[1, 2, 3]) }).unwrap();
        assert_eq!(report.contradictions, [(key(7), version(8)), (key(200), version(201))].into());
        assert_eq!((report.shipped, report.verified.len(), report.reruns), (1, 3, 0));
    }
    // An older version with another value is none.
    let mut replicas = Replicas::with(&[1, 2], 300);
    replicas.altered = [(NodeId(2), key(7), version(8))].into();
    replicas.held.get_mut(&NodeId(1)).unwrap().insert(key(7), version(500));
    let report = replicas.run(delta(&[1, 2], &[1, 2])).unwrap();
    assert_eq!((report.contradictions.len(), report.shipped), (0, 1));
}

/// Documents enough that a differing bucket is split twice before it is listed.
#[test]
fn large_copies_are_compared_down_to_a_few_documents() {
    let mut replicas = Replicas::with(&[1, 2], 9_999);
    replicas.held.get_mut(&NodeId(1)).unwrap().insert(key(17), version(20_000));
    replicas.held.get_mut(&NodeId(2)).unwrap().remove(&key(4_711));
    let report = replicas.run(delta(&[1], &[2])).unwrap();
    assert_eq!((report.differing, report.shipped, report.reruns), (2, 2, 0));
    assert_eq!(replicas.held[&NodeId(2)], replicas.held[&NodeId(1)]);
    // Digests, one round of splits and lists from both; a ship; the list that verifies.
    assert_eq!(replicas.messages, 2 + 2 + 2 + 1 + 1);
}
