//! A dump comes in while its shards move. Half of the imports stage everything on every node first. What is written
//! before, during and after the cutover is there afterwards, once, on the new owners only.

use miroir_sim::{Random, Ratio};

use crate::catalog::{Scenario, Windows};
use crate::plan::ImportPlan;

pub const SCENARIO: Scenario = Scenario {
    id: "dump/import_during_cutover",
    promise: "a dump is imported while its shards move: every document is there exactly once",
    marks: &[
        "an import ended while faults could happen",
        "an import wrote to a shard under DualWrite",
        "an import wrote to a shard during its delta pass",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan: |plan, dice| {
        let mut stream = dice.stream("import", 0);
        plan.import = Some(ImportPlan {
            documents: stream.range(100..=300) as u32,
            broadcast: stream.chance(Ratio::of(1, 2)),
            batch_documents: stream.range(2..=8) as u32,
        });
        plan.workload.operations = 800;
        // The import takes about as long as the move.
        for migration in &mut plan.migrations {
            migration.after_operations = stream.range(0..=100) as u32;
        }
    },
    course: super::import,
};
