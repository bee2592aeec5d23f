//! Faults that strike when a migration enters a stage, and the migrations that a directed scenario plans.

use miroir_sim::plan::{Direction, Fault, FaultKind, When};
use miroir_sim::time::MICROS;
use miroir_sim::{Random, Ratio, Stream};

use crate::plan::{Interference, MigrationPlan, Plan};

/// The stages at which faults strike and operators interfere.
pub(super) const STAGES: [&str; 5] = ["DualWrite", "Drain", "DeltaPass", "Activate", "Cleanup"];

/// When the `nth` stage of this name is entered by any migration, and a little later; `chaos` is entered in peace.
pub(super) fn at_stage(id: &str, stage: &str, nth: u32, after_us: u64, kind: FaultKind) -> Fault {
    let at = When::Signal { name: stage.to_owned(), nth, after: after_us * MICROS };
    Fault { id: id.to_owned(), at, kind }
}

/// One of these, as processes are named.
pub(super) fn one_of(nodes: &[u32], stream: &mut Stream) -> String {
    format!("n{}", stream.pick(nodes))
}

/// Dies between two commits or in the middle of one.
pub(super) fn crash(process: &str, stream: &mut Stream) -> FaultKind {
    let (process, down_ms) = (process.to_owned(), stream.range(10..=300));
    if stream.chance(Ratio::of(1, 2)) {
        FaultKind::Crash { process, down_ms }
    } else {
        FaultKind::CrashInCommit { process, after_disk_ops: stream.range(1..=8), down_ms, within_ms: 1_000 }
    }
}

/// This process against all others, one way or both.
pub(super) fn cut_off(plan: &Plan, process: &str, for_ms: u64, stream: &mut Stream) -> FaultKind {
    let b = plan.process_names().into_iter().filter(|name| name != process && name != "operator").collect();
    let direction = *stream.pick(&[Direction::Both, Direction::AToB, Direction::BToA]);
    FaultKind::Partition { a: vec![process.to_owned()], b, direction, flap_ms: 0, for_ms }
}

/// What travels from one process to another is held back.
pub(super) fn hold(from: &str, to: &str, for_ms: u64) -> FaultKind {
    FaultKind::Clog { from: from.to_owned(), to: to.to_owned(), for_ms }
}

/// A migration with its delta pass.
pub(super) fn migration(shard: u32, target: &[u32], after_operations: u32) -> MigrationPlan {
    MigrationPlan {
        shard,
        target: target.to_vec(),
        skip_delta: false,
        after_operations,
        after_us: 0,
        interference: None,
    }
}

/// One to all replicas are replaced, often by nodes that held the shard before.
pub(super) fn target(plan: &Plan, placed: &[u32], stream: &mut Stream) -> Vec<u32> {
    let mut spare: Vec<u32> = (1..=plan.cluster.nodes).filter(|node| !placed.contains(node)).collect();
    stream.shuffle(&mut spare);
    let most = spare.len().min(placed.len()) as u64;
    let moved = stream.range(1..=most) as usize;
    let first = stream.below(placed.len() as u64) as usize;
    let mut target = placed.to_vec();
    for (n, joiner) in spare.into_iter().take(moved).enumerate() {
        target[(first + n) % placed.len()] = joiner;
    }
    target
}

/// A target that is none of these sets: wherever of them a shard is, it has to move.
pub(super) fn another(plan: &Plan, sets: &[&[u32]], stream: &mut Stream) -> Vec<u32> {
    let is = |one: &[u32], other: &[u32]| one.iter().all(|node| other.contains(node));
    loop {
        let drawn = target(plan, sets[0], stream);
        if !sets.iter().any(|set| is(&drawn, set)) {
            return drawn;
        }
    }
}

/// Plans what an operator does to a migration when it has entered a stage.
pub(super) fn aborted_in(migration: MigrationPlan, stage: &str) -> MigrationPlan {
    MigrationPlan { interference: Some(Interference::Abort { stage: stage.to_owned() }), ..migration }
}
