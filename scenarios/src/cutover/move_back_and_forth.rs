//! A shard goes from A to B, back to A, and to B again. Pages of the first move are held back and arrive in the middle of
//! a later one; orders to clean up after the first move arrive at a node that is an owner again. Each copy belongs to one
//! session, and each order to one epoch: none of it does harm.

use miroir_sim::{Dice, Random, Ratio};

use super::strike::{aborted_in, at_stage, hold, migration, one_of, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::operated;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/move_back_and_forth",
    promise: "A to B to A to B, with late pages and late cleanup of earlier moves: refused by session and epoch",
    marks: &[
        "a page of an earlier session was refused",
        "a drop that came late was refused",
        "a shard came back to where it had been",
        "a migration ended while faults could happen",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: operated,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("back-and-forth", 0);
    let a = plan.placed(0);
    let b = target(plan, &a, &mut stream);
    let spread = plan.workload.operations / 6;
    let first = migration(0, &b, spread / 3);
    let aborts = stream.chance(Ratio::of(1, 2));
    plan.migrations = vec![
        if aborts { aborted_in(first, "Drain") } else { first },
        migration(0, if aborts { &b } else { &a }, spread * 2),
        migration(0, if aborts { &a } else { &b }, spread * 3),
        migration(0, if aborts { &b } else { &a }, spread * 4),
    ];
    plan.sim.network.duplicate = Ratio::of(stream.range(5..=20) as u32, 1_000);
    plan.sim.network.reorder = Ratio::of(stream.range(5..=30) as u32, 1_000);
    plan.sim.network.reorder_max_us = stream.range(5_000..=200_000);
    let joiners: Vec<u32> = b.iter().copied().filter(|node| !a.contains(node)).collect();
    let leavers: Vec<u32> = a.iter().copied().filter(|node| !b.contains(node)).collect();
    let pages = hold(&one_of(&a, &mut stream), &one_of(&joiners, &mut stream), stream.range(300..=1_500));
    plan.sim.faults.push(at_stage("late-pages", "DualWrite", 1, stream.range(0..=5_000), pages));
    let drops = hold("coordinator", &one_of(&leavers, &mut stream), stream.range(50..=1_200));
    plan.sim.faults.push(at_stage("late-drops", "Cleanup", 1, stream.range(0..=4_000), drops));
}
