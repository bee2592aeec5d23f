//! Scenario 19. The coordinator dies before one of its steps, which is to say after the one before it: a write, a sync,
//! a message. Every step of a whole migration has its seed. Whatever was decided stays decided, once; whoever dropped a
//! copy drops it once; nothing is lost.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::{Dice, Random, sometimes};

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::one_decision_each;
use crate::env::COORDINATOR_STEP;
use crate::plan::{Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/coordinator_crash_recovery",
    promise: "the coordinator dies before and after every durable step and message: one decision, one cleanup, nothing lost",
    marks: &[
        "the coordinator died before a write",
        "the coordinator died before a sync",
        "the coordinator died before a message",
        "the last step of a migration was passed",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

/// So many seeds in a row share a world, so that a step is the same step for all of them up to the crash. There are
/// fewer steps than that between the first command and the end of a migration: the seeds behind the last one see no
/// crash and reach a mark that says so. A sweep that begins at a multiple of it, and in which all of a world's seeds pass,
/// has seen every step.
const SEEDS_PER_WORLD: u64 = 128;
/// Shares no divisor with it. A few seeds in a row are spread over the whole migration.
const STRIDE: u64 = 37;

fn shape(shape: &mut Shape) {
    shape.seeds_per_world = Some(SEEDS_PER_WORLD);
    shape.nodes = Some(4);
    shape.clients = Some(4);
}

fn plan(plan: &mut Plan, dice: &Dice) {
    plan.cluster.shards = 1;
    plan.workload.documents = 60;
    plan.workload.operations = 300;
    plan.timing.page_documents = 32;
    plan.timing.page_interval_ms = 1;
    plan.timing.joint_timeout_ms = 400;
    plan.timing.drain_timeout_ms = 300;
    for migration in &mut plan.migrations {
        migration.after_operations = 0;
    }
    let step = (dice.seed().0 % SEEDS_PER_WORLD * STRIDE % SEEDS_PER_WORLD) as u32;
    let at = When::Signal { name: COORDINATOR_STEP.to_owned(), nth: step + 1, after: 0 };
    let down_ms = dice.stream("down", 0).range(5..=150);
    let kind = FaultKind::Crash { process: "coordinator".to_owned(), down_ms };
    plan.sim.faults = vec![Fault { id: format!("step-{step}"), at, kind }];
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        it.run_migrations().await;
        let lives = it.world.life(it.directory.coordinator()).number;
        sometimes!(lives == 1 && it.audit.has_activated(), "the last step of a migration was passed");
        one_decision_each(it)
    })
}
