//! Scenario 2. An operator skips the delta pass at replication 1. What the joining node missed is invisible from
//! Activate until anti-entropy has fetched it from the old owner, who keeps its copy until a clean pass has shown that
//! nothing is missing any more. A write that the old owner took before Activate and that is acknowledged after it opens
//! its window then. Either way the first pass that begins afterwards closes it, and passes begin one period apart.

use crate::catalog::{Scenario, Windows};
use crate::cutover::{lose_dual_writes, migrations};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/skip_delta_with_ae",
    promise: "anti-entropy on, delta pass skipped, replication 1: windows open between Activate and the first pass, which closes all",
    marks: &["a loss window opened at Activate", "anti-entropy closed a loss window"],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |shape| {
        shape.replication = Some(1);
        shape.draws_clients = true;
    },
    plan: |plan, dice| {
        lose_dual_writes(plan, dice);
        plan.migrations.iter_mut().for_each(|migration| migration.skip_delta = true);
    },
    course: migrations,
};
