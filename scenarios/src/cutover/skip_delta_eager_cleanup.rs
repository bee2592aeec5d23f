//! The twin of scenario 2, with the cleanup gate overridden: the old owner drops its copy right after Activate. What
//! the joining node missed is gone for good. This is what the gate prevents.

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/skip_delta_eager_cleanup",
    promise: "as skip_delta_with_ae with the cleanup gate overridden: acked writes are lost for good",
    marks: &["a loss window opened at Activate", "an acked write was lost for good"],
    windows: Windows::Any,
    gate_overridden: true,
    converges: false,
    shape: |shape| shape.replication = Some(1),
    plan: |plan, _| {
        plan.cluster.unsafe_cutover = true;
        plan.cluster.eager_cleanup = true;
        plan.migrations.iter_mut().for_each(|migration| migration.skip_delta = true);
    },
    course: migrations,
};
