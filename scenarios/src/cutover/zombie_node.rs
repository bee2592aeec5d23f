//! A node stands still when a migration begins, and wakes up when everything is over, in the belief that no time has
//! passed: with the old configuration, with answers on its lips, with requests in its inbox. It is told that it is
//! behind; nothing it says or writes counts.

use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random};

use super::strike::{at_stage, migration, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::operated;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/zombie_node",
    promise: "a node is paused through a whole migration and wakes up with an old configuration: nothing it says counts",
    marks: &["a node installed what was over by a whole migration", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: operated,
};

/// Anybody may be the one: an owner that leaves, one that stays, a joining node, a bystander.
fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("zombie", 0);
    let first = plan.placed(0);
    let second = target(plan, &first, &mut stream);
    let spread = plan.workload.operations / 8;
    plan.migrations = vec![migration(0, &second, spread / 2), migration(0, &first, spread)];
    let nth = stream.range(1..=2) as u32;
    let stage = *stream.pick(&["DualWrite", "DualWrite", "Drain", "Activate"]);
    let kind = FaultKind::Pause { process: stream.pick(&plan.node_names()).clone(), for_ms: stream.range(500..=2_500) };
    plan.sim.faults.push(at_stage("zombie", stage, nth, stream.range(0..=5_000), kind));
}
