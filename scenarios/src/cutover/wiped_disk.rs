//! In peace, with nothing moving, a replica comes back with an empty disk, or bits of its disk flip. It falls silent,
//! stays in every majority that is counted, and votes again only once it has been reconciled from the others in a fresh
//! session.

use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random, Ratio};

use super::strike::{at_stage, one_of};
use crate::catalog::{Scenario, Windows};
use crate::cutover::scrubbed;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/wiped_disk",
    promise: "a replica with an empty disk, or with flipped bits, does not vote until it has been reconciled",
    marks: &[
        "a replica lost its disk in peace",
        "rot was found in a copy",
        "a replica that lost its disk was readmitted",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.replication = Some(3),
    plan,
    course: scrubbed,
};

/// One disk at a time: what is lost with a second one of three is lost.
fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("wiped-disk", 0);
    plan.cluster.flush_writes = stream.range(8..=100) as u32;
    plan.migrations.clear();
    let process = one_of(&plan.placed(0), &mut stream);
    let kind = if stream.chance(Ratio::of(1, 2)) {
        FaultKind::Wipe { process, down_ms: stream.range(5..=400) }
    } else {
        FaultKind::FlipBits { process, count: stream.range(20..=400) as u32 }
    };
    plan.sim.faults.push(at_stage("disk", "chaos", 1, stream.range(0..=600_000), kind));
}
