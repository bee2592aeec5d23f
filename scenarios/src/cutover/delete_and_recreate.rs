//! Few documents, deleted and written again and again while their shard is copied, cut over and swept by anti-entropy,
//! and while the tombstones that every replica holds are forgotten. Some messages come late enough to have been sent
//! before a deletion that nobody remembers. Nothing comes back from the dead.

use miroir_sim::{Dice, Random, Ratio};

use super::strike::{at_stage, hold, migration, one_of, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::operated;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/delete_and_recreate",
    promise: "deletes and re-creations race copy, delta pass, anti-entropy and collection: nothing returns from the dead",
    marks: &[
        "tombstones were forgotten",
        "tombstones were forgotten after a shard had moved",
        "a document was written again after its deletion was forgotten",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: operated,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("delete-and-recreate", 0);
    plan.workload.documents = stream.range(16..=60) as u32;
    plan.workload.deletes = Ratio::of(1, 2);
    plan.cluster.anti_entropy_period_ms = stream.range(50..=150);
    plan.timing.collect_every_ms = stream.range(40..=200);
    let network = &mut plan.sim.network;
    network.duplicate = Ratio::of(stream.range(5..=20) as u32, 1_000);
    network.reorder = Ratio::of(stream.range(5..=30) as u32, 1_000);
    network.reorder_max_us = stream.range(20_000..=400_000);
    let first = plan.placed(0);
    let second = target(plan, &first, &mut stream);
    let spread = plan.workload.operations / 5;
    plan.migrations = vec![migration(0, &second, spread / 2), migration(0, &first, spread * 3)];
    for nth in 1..=2 {
        let client = format!("client-{}", stream.range(1..=u64::from(plan.workload.clients)));
        let node = one_of(if nth == 1 { &first } else { &second }, &mut stream);
        let kind = hold(&client, &node, stream.range(100..=900));
        plan.sim.faults.push(at_stage(&format!("late-{nth}"), "DualWrite", nth, stream.range(0..=20_000), kind));
    }
}
