//! A planted bug that must be found: nodes acknowledge writes before they are durable. If this passes, the alarm is
//! broken.

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;

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
    plan: |plan, _| {
        use miroir_sim::Ratio;
        use miroir_sim::plan::{Fault, FaultKind, When};
        plan.sim.disk.sync_mean_us = 3_000;
        plan.sim.disk.survive = Ratio::ZERO;
        plan.sim.faults = plan
            .node_names()
            .into_iter()
            .enumerate()
            .map(|(n, process)| Fault {
                id: format!("canary-{n}"),
                at: When::ms(400 + 10 * n as u64),
                kind: FaultKind::CrashInCommit { process, after_disk_ops: 3, down_ms: 50, within_ms: 0 },
            })
            .collect();
    },
    course: migrations,
};
