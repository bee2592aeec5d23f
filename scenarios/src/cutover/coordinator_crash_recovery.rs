//! Scenario 19. The coordinator dies before one of its steps, which is to say after the one before it: a write, a sync,
//! a message. Every step has its seed, and four courses have all of their steps: a migration with its delta pass, one
//! without, whose cleanup gate anti-entropy meets, one whose first attempt is aborted by its timer and whose second one
//! arrives, and the readmission of a replica that lost its disk. Whatever was decided stays decided, once; whoever dropped
//! a copy drops it once; nothing is lost.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::time::MILLIS;
use miroir_sim::{Dice, Random, sometimes};

use super::strike::{at_stage, hold, one_of};
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
        "the last step of a migration without a delta pass was passed",
        "the last step of a second attempt was passed",
        "the last step of a readmission was passed",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

/// What the coordinator is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Delta,
    Skipped,
    Retried,
    Readmission,
}

const KINDS: [Kind; 4] = [Kind::Delta, Kind::Skipped, Kind::Retried, Kind::Readmission];

/// There are fewer steps than that between the first command and the end of any of them: the seeds behind the last step
/// see no crash and reach a mark that says so.
const STEPS: u64 = 256;
/// Shares no divisor with it. A few seeds in a row are spread over the whole course.
const STRIDE: u64 = 131;
/// So many seeds in a row share a world, so that a step is the same step for all of a kind up to the crash. A sweep that
/// begins at a multiple of it, and in which all of a world's seeds pass, has seen every step.
const SEEDS_PER_WORLD: u64 = STEPS * KINDS.len() as u64;

/// What a plan is about, whatever has been left out of it since it was drawn.
fn kind(plan: &Plan) -> Kind {
    match plan.migrations.first() {
        None => Kind::Readmission,
        Some(migration) if migration.skip_delta => Kind::Skipped,
        Some(_) if plan.sim.faults.iter().any(|fault| fault.id == LATE) => Kind::Retried,
        Some(_) => Kind::Delta,
    }
}

/// The fault that makes a first attempt fail.
const LATE: &str = "late";

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
    let world = Dice::new(plan.world());
    let mut stream = world.stream("kind", 0);
    plan.sim.faults.clear();
    match KINDS[(dice.seed().0 % KINDS.len() as u64) as usize] {
        Kind::Delta => {}
        Kind::Skipped => {
            plan.migrations[0].skip_delta = true;
            plan.cluster.anti_entropy_period_ms = stream.range(40..=120);
        }
        Kind::Retried => {
            // The joining node's answers come too late for the first attempt.
            plan.timing.joint_timeout_ms = 60;
            plan.timing.drain_timeout_ms = 50;
            let joiner = one_of(&plan.joiners(&plan.migrations[0]), &mut stream);
            plan.sim.faults.push(at_stage(LATE, "Drain", 1, 0, hold(&joiner, "coordinator", 100)));
        }
        Kind::Readmission => {
            plan.migrations.clear();
            plan.cluster.replication = 3;
            plan.draw_world(&world);
            plan.sim.faults.clear();
            let process = one_of(&plan.placed(0), &mut stream);
            plan.sim.faults.push(at_stage("disk", "chaos", 1, 0, FaultKind::Wipe { process, down_ms: 5 }));
        }
    }
    let step = (dice.seed().0 / KINDS.len() as u64 % STEPS * STRIDE % STEPS) as u32;
    let at = When::Signal { name: COORDINATOR_STEP.to_owned(), nth: step + 1, after: 0 };
    let down_ms = dice.stream("down", 0).range(5..=150);
    let kind = FaultKind::Crash { process: "coordinator".to_owned(), down_ms };
    plan.sim.faults.push(Fault { id: format!("step-{step}"), at, kind });
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let kind = kind(&it.plan);
        if kind == Kind::Readmission {
            it.until(it.plan.timing.chaos_ms * MILLIS, |it| it.audit.has_readmitted()).await;
        }
        let mut wrong = it.run_migrations().await;
        let passed = it.world.away(it.directory.coordinator()).is_empty();
        let moved = passed && it.audit.has_activated();
        sometimes!(moved && kind == Kind::Delta, "the last step of a migration was passed");
        sometimes!(moved && kind == Kind::Skipped, "the last step of a migration without a delta pass was passed");
        let again = moved && kind == Kind::Retried && it.audit.was_retried();
        sometimes!(again, "the last step of a second attempt was passed");
        let back = passed && kind == Kind::Readmission && it.audit.has_readmitted();
        sometimes!(back, "the last step of a readmission was passed");
        wrong.extend(one_decision_each(it));
        wrong
    })
}
