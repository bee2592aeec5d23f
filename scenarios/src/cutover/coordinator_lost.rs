//! The coordinator loses its disk in the middle of a migration, while some of what it had committed is still on its way.
//! A new one rebuilds the records from what the nodes have installed, in a new generation; before they tell, the nodes
//! promise to install nothing of the old one any more. The shard serves where it served, and moves when asked again.

use miroir_sim::plan::{FaultKind, LinkPlan};
use miroir_sim::{Dice, Random, Ratio};

use super::strike::{STAGES, another, at_stage, hold, migration, one_of, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::operated;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/coordinator_lost",
    promise: "the coordinator's disk is lost in each stage: its records come back from the nodes, nothing is lost",
    marks: &[
        "the coordinator's records were rebuilt",
        "records were rebuilt after DualWrite",
        "records were rebuilt after Drain",
        "records were rebuilt after DeltaPass",
        "records were rebuilt after Activate",
        "a configuration of a lost coordinator was refused",
        "a migration ended while faults could happen",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: operated,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("coordinator-lost", 0);
    let first = plan.placed(0);
    let second = target(plan, &first, &mut stream);
    let spread = plan.workload.operations / 6;
    let third = another(plan, &[&first, &second], &mut stream);
    plan.migrations = vec![migration(0, &second, spread / 2), migration(0, &third, spread * 3)];
    let stage = *stream.pick(&STAGES);
    let after_us = stream.range(0..=8_000);
    let lost = FaultKind::Wipe { process: "coordinator".to_owned(), down_ms: stream.range(1..=120) };
    plan.sim.faults.push(at_stage("lost", stage, 1, after_us, lost));
    let holders: Vec<u32> = first.iter().chain(&second).copied().collect();
    // What is held back here arrives after later messages.
    plan.sim.network.reorder_max_us = stream.range(50_000..=400_000);
    for node in plan.node_names() {
        let (from, reorder) = ("coordinator".to_owned(), Some(Ratio::of(1, 5)));
        plan.sim.network.links.push(LinkPlan { from, to: node, reorder, ..LinkPlan::default() });
    }
    for n in 0..2 {
        let late = hold("coordinator", &one_of(&holders, &mut stream), stream.range(50..=700));
        plan.sim.faults.push(at_stage(&format!("under-way-{n}"), stage, 1, after_us.saturating_sub(500), late));
    }
}
