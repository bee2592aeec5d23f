//! An old owner dies with writes in hand that it had not synced, while the shard is copied from it and again while the
//! delta pass reads it. What it had told nobody may be gone; what anybody was told is not, and none of it is missing at
//! the new owners.

use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random, Ratio};

use super::strike::{at_stage, one_of};
use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/source_crash_unsynced_tail",
    promise: "an old owner loses its unsynced tail during copy and delta pass: nothing acknowledged is missing",
    marks: &[
        "an old replica restarted under DualWrite",
        "an old replica restarted under Joint",
        "a migration ended while faults could happen",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: migrations,
};

/// Slow syncs, of which a crash leaves nothing, and a death in the middle of a commit in either stage.
fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("unsynced-tail", 0);
    plan.sim.disk.survive = Ratio::ZERO;
    plan.sim.disk.sync_mean_us = stream.range(600..=2_000);
    let old = plan.placed(0);
    for (stage, longest_us) in [("DualWrite", 30_000), ("DeltaPass", 3_000)] {
        let kind = FaultKind::CrashInCommit {
            process: one_of(&old, &mut stream),
            after_disk_ops: stream.range(1..=6),
            down_ms: stream.range(10..=200),
            within_ms: 600,
        };
        let fault = at_stage(&format!("tail-{stage}"), stage, 1, stream.range(0..=longest_us), kind);
        plan.sim.faults.push(fault);
    }
}
