//! Scenario 16. What the coordinator waits for in Drain and in the delta pass is held up until one millisecond before its
//! timeout, until that very instant, or one millisecond longer; and both also for a little less, so that their end races
//! the timer. Writes to the joining nodes are stuck meanwhile. Each attempt is aborted or activated, never both; a stuck
//! write is done once, or its outcome is unknown: nobody is told that it failed.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::history::{Op, Outcome};
use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::time::{MICROS, MILLIS};
use miroir_sim::{Dice, Random, Stream, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::{migrations, one_decision_each};
use crate::plan::{MigrationPlan, Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/drain_timeout_boundary",
    promise: "drain and delta held up until their timeouts, 1 ms less and 1 ms more: one decision, no stuck write fails",
    marks: &[
        "the drain was held up for its timeout less 1 ms",
        "the drain was held up for its timeout",
        "the drain was held up for its timeout and 1 ms",
        "the delta pass was held up for its timeout less 1 ms",
        "the delta pass was held up for its timeout",
        "the delta pass was held up for its timeout and 1 ms",
        "the drain won a race with its timer",
        "the drain lost a race with its timer",
        "the delta pass won a race with its timer",
        "the delta pass lost a race with its timer",
        "the first attempt was activated",
        "the first attempt was aborted",
        "a stuck write was done",
        "a stuck write is unknown",
        "a stuck write was rejected before it was sent",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

/// What is held up, and for how much less or more than its timeout.
#[derive(Clone)]
enum Held {
    Drain(i64),
    Delta(i64),
    /// In microseconds: the end of the drain is that much behind its timer, or before it.
    DrainRaces(RangeInclusive<i64>),
    /// The delta pass needs some round trips more once nothing holds it up.
    DeltaRaces(RangeInclusive<i64>),
}

/// Any ten seeds in a row are all of them.
fn held(dice: &Dice) -> Held {
    match dice.seed().0 % 10 {
        n @ 0..=2 => Held::Drain(n as i64 - 1),
        n @ 3..=5 => Held::Delta(n as i64 - 4),
        6 => Held::DeltaRaces(-4_000..=0),
        7 => Held::DeltaRaces(-25_000..=-4_000),
        8 => Held::DrainRaces(-4_000..=0),
        _ => Held::DrainRaces(1..=1_000),
    }
}

/// At replication 3 all three replicas are replaced: nobody who stays answers for the new set.
fn shape(shape: &mut Shape) {
    shape.nodes = Some(6);
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("held", 0);
    plan.timing.drain_timeout_ms = 120;
    plan.timing.joint_timeout_ms = 200;
    plan.timing.page_documents = 24;
    plan.timing.page_interval_ms = 8;
    plan.workload.give_up_ms = *stream.pick(&[90, 1_000]);
    let placed = plan.placed(0);
    let target = (1..=plan.cluster.nodes).filter(|node| !placed.contains(node)).take(placed.len()).collect();
    plan.migrations = vec![MigrationPlan::of(0, target, plan.workload.operations / 10)];
    plan.draw_world(dice);
    let joiners = plan.joiners(&plan.migrations[0]);
    let (drain, delta) = (plan.timing.drain_timeout_ms as i64 * 1_000, plan.timing.joint_timeout_ms as i64 * 1_000);
    let (slow, for_us) = match held(dice) {
        Held::Drain(more) => (placed, drain + more * 1_000),
        Held::Delta(more) => (joiners.clone(), delta + more * 1_000),
        Held::DrainRaces(more) => (placed, drain + drawn(&mut stream, &more)),
        Held::DeltaRaces(more) => (joiners.clone(), delta + drawn(&mut stream, &more)),
    };
    // A clog lasts whole milliseconds; it begins with Joint, or as much later as the rest.
    let (for_ms, after) = (for_us as u64 / 1_000, for_us as u64 % 1_000 * MICROS);
    let at = When::Signal { name: "Drain".to_owned(), nth: 1, after };
    let answers = slow.iter().map(|node| (format!("n{node}"), "coordinator".to_owned()));
    let writes = plan
        .client_names()
        .into_iter()
        .flat_map(|client| joiners.iter().map(move |n| (client.clone(), format!("n{n}"))));
    let clogs = answers.chain(writes).enumerate().map(|(n, (from, to))| {
        let kind = FaultKind::Clog { from, to, for_ms };
        Fault { id: format!("held-{n}"), at: at.clone(), kind }
    });
    plan.sim.faults = clogs.collect();
}

fn drawn(stream: &mut Stream, among: &RangeInclusive<i64>) -> i64 {
    among.start() + stream.range(0..=among.start().abs_diff(*among.end())) as i64
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        // A write that nobody was sent has certainly failed; one that was sent must not be told so.
        it.audit.keep_versions();
        let mut wrong = migrations(it).await;
        wrong.extend(one_decision_each(it));
        let journey = it.audit.journeys().into_values().next().unwrap_or_default();
        let first = |wanted: Stage| journey.stages.iter().find(|(_, stage)| *stage == wanted).map(|(at, _)| *at);
        let (Some(joint), aborted, activated) = (first(Stage::Drain), first(Stage::Aborted), first(Stage::Cleanup))
        else {
            return wrong;
        };
        let held = held(&it.world.dice());
        let was_activated = activated.is_some_and(|at| aborted.is_none_or(|aborted| at < aborted));
        sometimes!(was_activated, "the first attempt was activated");
        sometimes!(!was_activated && aborted.is_some(), "the first attempt was aborted");
        let passed = first(Stage::DeltaPass).is_some_and(|at| aborted.is_none_or(|aborted| at < aborted));
        mark_case(held, passed, was_activated);
        let stuck_until = joint + it.plan.timing.drain_timeout_ms * MILLIS / 2;
        for write in it.history.operations().iter().filter(|write| !matches!(write.op, Op::Read { .. })) {
            let is_stuck =
                write.call < stuck_until && write.call > joint && write.ret.is_none_or(|ret| ret > stuck_until);
            sometimes!(is_stuck && write.outcome == Outcome::Ok, "a stuck write was done");
            sometimes!(is_stuck && write.outcome == Outcome::Unknown, "a stuck write is unknown");
            sometimes!(is_stuck && write.outcome == Outcome::Rejected, "a stuck write was rejected before it was sent");
        }
        wrong
    })
}

/// Whether the first attempt came past its drain, and past its delta pass.
fn mark_case(held: Held, drained: bool, activated: bool) {
    let how = |won: bool| if won { "won" } else { "lost" };
    let (what, more) = match held {
        Held::DrainRaces(_) => return count_mark(&format!("the drain {} a race with its timer", how(drained))),
        Held::DeltaRaces(_) => return count_mark(&format!("the delta pass {} a race with its timer", how(activated))),
        Held::Drain(more) => ("drain", more),
        Held::Delta(more) => ("delta pass", more),
    };
    let how = ["less 1 ms", "", "and 1 ms"][(more + 1) as usize];
    count_mark(format!("the {what} was held up for its timeout {how}").trim_end());
}
