//! A replica loses its disk, or bits of it flip: an owner that stays, one that leaves, or a node that joins; in any stage
//! of a migration, or in peace. The migration ends with the others or goes back; the replica answers nobody before it
//! has been readmitted, and then holds everything.

use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random, Ratio};

use super::strike::{STAGES, at_stage, migration, one_of, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::scrubbed;
use crate::plan::{Interference, Plan};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/replica_replaced",
    promise: "a replica loses its disk or is damaged, in each stage and in peace: it never votes before readmission",
    marks: &[
        "a joining node lost its disk",
        "an old replica lost its disk under DualWrite",
        "an old replica lost its disk under Joint",
        "a disk was lost in cleanup",
        "a replica lost its disk in peace",
        "a replica that lost its disk was readmitted",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.replication = Some(3),
    plan,
    course: scrubbed,
};

/// One disk, and two migrations: during the second one the replica may be coming back.
fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("replica-replaced", 0);
    plan.cluster.flush_writes = stream.range(8..=100) as u32;
    let first = plan.placed(0);
    let second = target(plan, &first, &mut stream);
    let third = target(plan, &second, &mut stream);
    let spread = plan.workload.operations / 6;
    plan.migrations = vec![migration(0, &second, spread / 2), migration(0, &third, spread * 3)];
    let holders: Vec<u32> = first.iter().chain(&second).copied().collect();
    let process = one_of(&holders, &mut stream);
    let stage = *stream.pick(&["chaos", STAGES[0], STAGES[0], STAGES[1], STAGES[2], STAGES[3], STAGES[4]]);
    // Cleanup is soon over, and nobody can make it stand still.
    let is_short = matches!(stage, "Activate" | "Cleanup");
    let (after_us, down_ms) = if is_short { (500, 2) } else { (15_000, 80) };
    let kind = if stream.chance(Ratio::of(2, 3)) {
        FaultKind::Wipe { process, down_ms: stream.range(1..=down_ms) }
    } else {
        FaultKind::FlipBits { process, count: stream.range(20..=400) as u32 }
    };
    if stage != "chaos" {
        // The migration stands still where the disk is lost.
        let for_ms = stream.range(100..=300);
        plan.migrations[0].interference = Some(Interference::Pause { stage: stage.to_owned(), for_ms });
    }
    plan.sim.faults.push(at_stage("disk", stage, 1, stream.range(0..=after_us), kind));
}
