use super::*;
use crate::trace::Mode;

const SHARD: u32 = 3;
const V1: Version = (1, 7);
const V2: Version = (2, 7);

struct Scene {
    auditor: Auditor,
    a: ProcessId,
    b: ProcessId,
    c: ProcessId,
    doc: DocId,
}

/// Shard 3 on a, b, c; nothing written.
fn scene() -> Scene {
    let trace = Trace::new(Mode::Short);
    let [a, b, c] = ["a", "b", "c"].map(|name| trace.register(0, name));
    let auditor = Auditor::new(trace);
    auditor.config(0, SHARD, "Stable(a, b, c)", vec![vec![a, b, c]]);
    let doc = auditor.intern("doc-1");
    Scene { auditor, a, b, c, doc }
}

impl Scene {
    fn applied(&self, at: Nanos, process: ProcessId, version: Version) {
        self.auditor.applied(at, process, SHARD, self.doc, version, How::Write);
    }

    fn acked(&self, at: Nanos, version: Version) {
        self.auditor.acked(at, SHARD, self.doc, version, 9);
    }
}

#[test]
fn a_write_on_a_majority_has_no_window() {
    let it = scene();
    it.applied(1, it.a, V1);
    it.applied(2, it.b, V1);
    it.acked(3, V1);
    assert_eq!(it.auditor.finish(), vec![]);
    assert_eq!(it.auditor.acked_count(), 1);
}

#[test]
fn an_early_acknowledgement_opens_a_window_until_the_majority_has_it() {
    let it = scene();
    it.auditor.note(None, "Drain");
    it.applied(1, it.a, V1);
    it.auditor.missed(2, it.b, SHARD, it.doc, V1, "frame lost on n1 -> b");
    it.auditor.missed(2, it.b, SHARD, it.doc, V1, "a later reason");
    it.acked(3, V1);
    assert_eq!(it.auditor.open_count(), 1);
    it.auditor.applied(9, it.c, SHARD, it.doc, V1, How::Shipped("repair"));
    let windows = it.auditor.finish();
    let [window] = windows.as_slice() else { panic!("one window: {windows:?}") };
    assert_eq!((window.kind, window.acked_at, window.opened_at, window.closed_at), (Kind::Transient, 3, 3, Some(9)));
    assert_eq!(&*window.opened_by, "acknowledged to client 9");
    assert_eq!(window.closed_by.as_deref(), Some("repair is durable on c"));
    assert_eq!(
        window.cause,
        "b missed it: frame lost on n1 -> b; c was never sent it, or lost it before it was durable"
    );
    assert_eq!(&*window.stage, "Drain");
    assert_eq!(totals(&windows, 100), WindowTotals { transient: 1, total_ns: 6, max_ns: 6, ..Default::default() });
}

/// A deletion whose client had given up replaced an acknowledged write on every replica. Once it is forgotten, nobody can
/// miss that write any more.
#[test]
fn what_a_forgotten_deletion_replaced_is_not_missed() {
    let it = scene();
    for process in [it.a, it.b, it.c] {
        it.applied(1, process, V1);
    }
    it.acked(2, V1);
    for process in [it.a, it.b, it.c] {
        it.applied(3, process, V2);
    }
    for (at, process) in [(4, it.a), (5, it.b), (6, it.c)] {
        it.auditor.forgot(at, process, SHARD, it.doc, V2);
    }
    assert_eq!(it.auditor.finish(), vec![]);
}

#[test]
fn a_config_commit_without_delta_opens_one_for_ever() {
    let it = scene();
    for process in [it.a, it.b, it.c] {
        it.applied(1, process, V1);
    }
    it.acked(2, V1);
    let d = ProcessId(3);
    it.auditor.missed(2, d, SHARD, it.doc, V1, "frame lost on its way");
    it.auditor.config(4, SHARD, "Joint", vec![vec![it.a, it.b, it.c], vec![d]]);
    assert_eq!(it.auditor.open_count(), 0, "a read quorum of Joint still needs the old set");
    it.auditor.config(5, SHARD, "Stable(d)", vec![vec![d]]);
    let windows = it.auditor.finish();
    assert_eq!((windows[0].kind, windows[0].opened_at, windows[0].closed_at), (Kind::Permanent, 5, None));
    assert_eq!(&*windows[0].opened_by, "configuration committed: Stable(d)");
    assert_eq!(windows[0].cause, "p3 missed it: frame lost on its way");
    assert!(windows[0].to_string().ends_with("for ever; p3 missed it: frame lost on its way"), "{}", windows[0]);
    assert_eq!(loss_ppm(&windows, 3), 333_334);
}

#[test]
fn a_newer_write_supersedes_and_is_judged_on_its_own() {
    let it = scene();
    it.applied(1, it.a, V1);
    it.acked(2, V1);
    it.applied(3, it.a, V2);
    it.acked(5, V2);
    it.applied(7, it.b, V2);
    it.acked(8, V1); // late news of an old write
    let windows = it.auditor.finish();
    let summary: Vec<_> = windows.iter().map(|w| (w.version, w.kind, w.opened_at, w.closed_at)).collect();
    assert_eq!(summary, [(V1, Kind::Superseded, 2, Some(5)), (V2, Kind::Transient, 5, Some(7))]);
    assert_eq!(it.auditor.acked_count(), 3);
}

#[test]
fn a_newer_write_that_is_not_yet_acknowledged_supersedes_as_well() {
    let it = scene();
    it.applied(1, it.a, V1);
    it.acked(2, V1);
    it.applied(6, it.b, V2);
    let windows = it.auditor.finish();
    assert_eq!((windows[0].kind, windows[0].closed_at), (Kind::Superseded, Some(6)));
    assert_eq!(windows[0].closed_by.as_deref(), Some("a newer write is durable on b"));
}

#[test]
fn an_older_version_that_replaces_a_newer_one_opens_a_window() {
    let it = scene();
    for process in [it.a, it.b, it.c] {
        it.applied(1, process, V2);
    }
    it.acked(2, V2);
    it.applied(3, it.a, V1);
    assert_eq!(it.auditor.open_count(), 0);
    it.applied(4, it.b, V1);
    assert_eq!((it.auditor.open_count(), it.auditor.finish()[0].opened_at), (1, 4));
}

#[test]
fn a_dropped_copy_opens_one_and_an_older_config_closes_it() {
    let it = scene();
    it.applied(1, it.a, V1);
    it.applied(1, it.b, V1);
    it.acked(2, V1);
    it.auditor.dropped(3, it.c, SHARD, "wiped, and nothing was there");
    it.auditor.dropped(4, it.a, SHARD, "cleanup, epoch 3");
    it.auditor.config(6, SHARD, "Stable(b)", vec![vec![it.b]]);
    let windows = it.auditor.finish();
    assert_eq!((&*windows[0].opened_by, windows[0].closed_at), ("a lost its copy: cleanup, epoch 3", Some(6)));
    assert_eq!(
        windows[0].cause,
        "a lost its copy: cleanup, epoch 3; c was never sent it, or lost it before it was durable"
    );
}

#[test]
fn what_a_restart_finds_is_the_truth() {
    let it = scene();
    it.applied(1, it.a, V2);
    it.applied(1, it.b, V2);
    it.acked(2, V2);
    assert_eq!(it.auditor.reset(3, it.c, SHARD, [(it.doc, V2)]), vec![], "more than known is no loss");
    let vanished = it.auditor.reset(4, it.a, SHARD, [(it.doc, V1)]);
    assert_eq!(vanished, [Vanished { process: it.a, shard: SHARD, doc: "doc-1".into(), had: V2, has: Some(V1) }]);
    assert_eq!(it.auditor.open_count(), 0, "b and c are a majority");
    assert_eq!(it.auditor.reset(5, it.b, SHARD, []).len(), 1);
    let windows = it.auditor.finish();
    assert_eq!(&*windows[0].opened_by, "b restarted from its disk");
    assert!(windows[0].cause.contains("a lost its copy: its disk came back with less"), "{}", windows[0].cause);
}

#[test]
fn memory_is_bounded_by_documents() {
    let it = scene();
    for counter in 1..10_000 {
        let version = (counter, 7);
        it.auditor.missed(counter, it.c, SHARD, it.doc, version, "loss");
        it.applied(counter, it.a, version);
        if counter % 3 == 0 {
            it.applied(counter, it.b, version);
            it.acked(counter, version);
        }
    }
    assert!(it.auditor.footprint() <= 12, "{}", it.auditor.footprint());
    let unacked = scene();
    for counter in 1..10_000 {
        unacked.auditor.missed(counter, unacked.c, SHARD, unacked.doc, (counter, 7), "loss");
    }
    assert!(unacked.auditor.footprint() <= 12, "{}", unacked.auditor.footprint());
}

/// Against a direct reading of the definition: after random events, a window is open if and only if some read quorum answers older.
#[test]
fn open_means_that_some_quorum_answers_older() {
    use crate::dice::{Dice, Random};
    use crate::seed::Seed;
    use std::collections::BTreeMap;

    for seed in 0..300 {
        let mut dice = Dice::new(Seed(seed)).stream("auditor", 0);
        let it = scene();
        let everybody: Vec<ProcessId> = (0..5).map(ProcessId).collect();
        let mut held: BTreeMap<ProcessId, Version> = BTreeMap::new();
        let mut groups = vec![vec![it.a, it.b, it.c]];
        let mut acked: Option<Version> = None;
        for at in 1..60 {
            let process = *dice.pick(&everybody);
            let version = (dice.range(1..=6), 7);
            match dice.below(8) {
                0..=3 => {
                    it.applied(at, process, version);
                    held.insert(process, version); // also an older one: the auditor believes what it is told
                }
                4 => {
                    it.auditor.dropped(at, process, SHARD, "test");
                    held.remove(&process);
                }
                5 => {
                    groups = (0..dice.range(1..=2))
                        .map(|_| {
                            let mut order = everybody.clone();
                            dice.shuffle(&mut order);
                            order.truncate(dice.range(1..=4) as usize);
                            order
                        })
                        .collect();
                    it.auditor.config(at, SHARD, "random", groups.clone());
                }
                6 => {
                    it.auditor.reset(at, process, SHARD, [(it.doc, version)]);
                    held.insert(process, version);
                }
                _ => {
                    it.acked(at, version);
                    acked = acked.max(Some(version));
                }
            }
            // A read quorum is any set of processes with a majority of every group.
            let answers_older = acked.is_some_and(|acked| {
                (0..1_u32 << everybody.len()).any(|set| {
                    let inside = |p: &ProcessId| set >> p.0 & 1 == 1;
                    let quorum = groups.iter().all(|g| g.iter().filter(|p| inside(p)).count() * 2 > g.len());
                    quorum && everybody.iter().filter(|p| inside(p)).all(|p| held.get(p).is_none_or(|&h| h < acked))
                })
            });
            assert_eq!(it.auditor.open_count() == 1, answers_older, "seed {seed}, event {at}");
        }
    }
}
