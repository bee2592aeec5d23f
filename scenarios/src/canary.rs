//! A planted bug that must be found: nodes acknowledge writes before they are durable. If this passes, the alarm is
//! broken.

use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::{Dice, Ratio};

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;
use crate::plan::Plan;

/// The planted bug that the canary carries.
pub const MUTANT: &str = "M29";

pub const SCENARIO: Scenario = Scenario {
    id: "canary",
    promise: "nodes acknowledge before fsync and crash: a violation must be found (exit code 100)",
    marks: &[],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: migrations,
};

/// Disks that are slow to sync and keep nothing that was not, and every node dying in the middle of a commit, again and
/// again.
fn plan(plan: &mut Plan, _: &Dice) {
    plan.sim.disk.sync_mean_us = 3_000;
    plan.sim.disk.survive = Ratio::ZERO;
    let nodes = plan.node_names();
    let crash = |round: u64, n: usize| Fault {
        id: format!("canary-{round}-{n}"),
        at: When::ms(300 + 150 * round + 10 * n as u64),
        kind: FaultKind::CrashInCommit { process: nodes[n].clone(), after_disk_ops: 3, down_ms: 30, within_ms: 0 },
    };
    plan.sim.faults =
        (0..4).flat_map(|round| (0..nodes.len()).map(move |n| (round, n))).map(|(r, n)| crash(r, n)).collect();
}
