//! What undirected search did not find in millions of runs: a move is aborted, a later one takes the shard elsewhere, a
//! third brings it back, tombstones are forgotten in between, and one node is cut off throughout. It comes back, maybe in
//! the middle of the third move, with a copy of a session that nobody remembers, and with documents whose deletion is
//! forgotten. None of it is believed.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::is_reached;
use miroir_sim::{Dice, Random, Ratio, sometimes};

use super::strike::{aborted_in, at_stage, cut_off, hold, migration, one_of, target};
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::operated;
use crate::plan::{Interference, MigrationPlan, Plan};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/combinations",
    promise: "abort, later move, third move back, tombstones forgotten in between, one node cut off throughout",
    marks: &[PARTS[0], PARTS[1], PARTS[2], PARTS[3], "all of it in one run"],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |shape| {
        shape.replication = Some(3);
        shape.nodes = Some(6);
    },
    plan,
    course,
};

const PARTS: [&str; 4] = [
    "a migration was aborted by its operator",
    "a shard came back to where it had been",
    "tombstones were forgotten after a shard had moved",
    "a node missed a whole migration",
];

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = operated(it).await;
        sometimes!(PARTS.iter().all(|part| is_reached(part)), "all of it in one run");
        wrong
    })
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("combinations", 0);
    plan.workload.documents = stream.range(30..=80) as u32;
    plan.workload.deletes = Ratio::of(2, 5);
    plan.timing.collect_every_ms = stream.range(30..=120);
    plan.cluster.anti_entropy_period_ms = stream.range(40..=200);
    plan.sim.network.duplicate = Ratio::of(stream.range(2..=15) as u32, 1_000);
    plan.sim.network.reorder = Ratio::of(stream.range(5..=30) as u32, 1_000);
    plan.sim.network.reorder_max_us = stream.range(20_000..=500_000);
    let home = plan.placed(0);
    let never = target(plan, &home, &mut stream);
    let away = target(plan, &home, &mut stream);
    let spread = plan.workload.operations / 8;
    let stage = *stream.pick(&["DualWrite", "Drain", "DeltaPass"]);
    let later = migration(0, &away, spread * 2);
    plan.migrations = vec![
        aborted_in(migration(0, &never, spread / 2), stage),
        MigrationPlan { skip_delta: stream.chance(Ratio::of(1, 4)), ..later },
        migration(0, &home, spread * 4),
    ];
    let pause = Interference::Pause { stage: "DualWrite".to_owned(), for_ms: stream.range(100..=1_500) };
    plan.migrations[2].interference = stream.chance(Ratio::of(1, 2)).then_some(pause);
    // Whoever is cut off holds something: a copy that serves, or one of the move that is aborted.
    let holders: Vec<u32> = home.iter().chain(&never).chain(&away).copied().collect();
    let process = one_of(&holders, &mut stream);
    let kind = cut_off(plan, &process, stream.range(300..=3_500), &mut stream);
    let (stage, nth) = *stream.pick(&[("chaos", 1), ("DualWrite", 1), ("DualWrite", 2), ("Cleanup", 1)]);
    plan.sim.faults.push(at_stage("cut-off", stage, nth, stream.range(0..=60_000), kind));
    let joiners: Vec<u32> = never.iter().copied().filter(|node| !home.contains(node)).collect();
    let pages = hold(&one_of(&home, &mut stream), &one_of(&joiners, &mut stream), stream.range(100..=1_500));
    plan.sim.faults.push(at_stage("late-pages", "DualWrite", 1, stream.range(0..=30_000), pages));
}
