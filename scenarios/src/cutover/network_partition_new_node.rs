//! Scenario 15. The joining node is cut off from everybody when a migration enters a stage: for a moment, or for longer
//! than the joint timeout; in one direction or both. Before Activate the migration goes back to the old replicas, and
//! nobody waits longer than the joint timeout; after it nothing is lost, though a lone replica cannot be reached. When
//! the network is whole again another attempt succeeds.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::oracle::progress::Access;
use miroir_sim::plan::{Direction, Fault, FaultKind, When};
use miroir_sim::time::{MICROS, MILLIS, Nanos};
use miroir_sim::{Dice, Random, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::{migrations, one_decision_each};
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/network_partition_new_node",
    promise: "the joining node is cut off at each stage: before Activate it aborts in time, after it nothing is lost",
    marks: &[
        "cut off at DualWrite",
        "cut off at Drain",
        "cut off at DeltaPass",
        "cut off at Activate",
        "cut off at Cleanup",
        "cut off for a moment",
        "cut off for longer than the joint timeout",
        "cut off both ways",
        "nothing reached the joining node",
        "nothing came from the joining node",
        "an attempt was aborted and another one was done",
        "aborted as nobody could reach the new owner",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course,
};

const STAGES: [&str; 5] = ["DualWrite", "Drain", "DeltaPass", "Activate", "Cleanup"];
const LENGTHS: [&str; 2] = ["for a moment", "for longer than the joint timeout"];
const DIRECTIONS: [(Direction, &str); 3] = [
    (Direction::Both, "cut off both ways"),
    (Direction::AToB, "nothing came from the joining node"),
    (Direction::BToA, "nothing reached the joining node"),
];
/// Every stage, length and direction.
const CASES: u64 = 30;

/// Any 30 seeds in a row are all cases, each once; seven steps at a time, so that a few seeds see something of each.
fn case(dice: &Dice) -> (&'static str, &'static str, (Direction, &'static str)) {
    let case = (dice.seed().0 % CASES * 7 % CASES) as usize;
    (STAGES[case % 5], LENGTHS[case / 5 % 2], DIRECTIONS[case / 10])
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let (stage, length, (direction, _)) = case(dice);
    let mut stream = dice.stream("cut", 0);
    plan.timing.drain_timeout_ms = 200;
    plan.timing.joint_timeout_ms = 300;
    plan.timing.copy_timeout_ms = 500;
    plan.timing.page_documents = 16;
    plan.timing.page_interval_ms = 8;
    let for_ms = match length {
        "for a moment" => stream.range(2..=60),
        _ => plan.timing.joint_timeout_ms + stream.range(50..=400),
    };
    let joiner = format!("n{}", plan.joiners(&plan.migrations[0])[0]);
    let mut others = plan.process_names();
    others.retain(|name| *name != joiner && name != "operator");
    // Soon: a drain or a delta pass may be over after one or two round trips.
    let at = When::Signal { name: stage.to_owned(), nth: 1, after: stream.range(0..=300) * MICROS };
    let kind = FaultKind::Partition { a: vec![joiner], b: others, direction, for_ms, flap_ms: 0 };
    plan.sim.faults = vec![Fault { id: "cut".to_owned(), at, kind }];
}

/// Beyond the timeout: the coordinator looks at its timers every 20 ms, clients ask again after 30 ms, messages may be
/// lost once and take their time.
const NOTICE: Nanos = 120 * MILLIS;

/// How long what was on its way when the cut began may still take to bring Activate about.
const IN_FLIGHT: Nanos = 60 * MILLIS;

fn is_decision(stage: Stage) -> bool {
    matches!(stage, Stage::Cleanup | Stage::Aborted)
}

/// A lone new owner cannot be reached for longer than the joint timeout: the attempt is over in time, without Activate,
/// unless all that was needed had been said already. `told`: how long after the stage was entered, and what.
fn of_decision(told: Option<(Nanos, Stage)>, limit: Nanos) -> Option<String> {
    match told {
        Some((after, Stage::Cleanup)) if after > IN_FLIGHT => {
            Some(format!("activated {} ms after the only new owner was cut off", after / MILLIS))
        }
        Some((after, _)) if after <= limit => None,
        Some((after, stage)) => Some(format!("cut off before Activate, and {stage} came after {} ms", after / MILLIS)),
        None => Some("cut off before Activate, and nothing was decided".to_owned()),
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = migrations(it).await;
        wrong.extend(one_decision_each(it));
        let (stage, length, (_, direction)) = case(&it.world.dice());
        let journey = it.audit.journeys().into_values().next().unwrap_or_default();
        let entered = journey.stages.iter().find(|(_, entered)| entered.to_string() == stage).map(|(at, _)| *at);
        if entered.is_some() {
            count_mark(&format!("cut off at {stage}"));
            count_mark(&format!("cut off {length}"));
            count_mark(direction);
        }
        sometimes!(it.audit.was_retried(), "an attempt was aborted and another one was done");
        let limit = it.plan.timing.joint_timeout_ms * MILLIS + NOTICE;
        let activated = journey.stages.iter().find(|(_, stage)| *stage == Stage::Cleanup).map(|(at, _)| *at);
        for access in [Access::Write, Access::Read] {
            if let Some((began, gap)) = it.audit.progress().longest(it.plan.migrations[0].shard, access)
                && gap > limit
                && activated.is_none_or(|at| at > began + limit)
            {
                let what = if access == Access::Write { "write" } else { "read" };
                wrong.push(format!("cut off before Activate, and no {what} was answered for {} ms", gap / MILLIS));
            }
        }
        if let Some(entered) = entered.filter(|_| stage == "Drain" || stage == "DeltaPass")
            && length == LENGTHS[1]
            && it.plan.cluster.replication == 1
        {
            let decided = journey.stages.iter().find(|(at, stage)| *at > entered && is_decision(*stage));
            let told = decided.map(|(at, stage)| (at - entered, *stage));
            sometimes!(matches!(told, Some((_, Stage::Aborted))), "aborted as nobody could reach the new owner");
            wrong.extend(of_decision(told, limit));
        }
        wrong
    })
}
