//! Scenario 18. Five shards leave one node for five others. One target fails while it is being copied to: its disk is
//! full, what was written to it has rotted and the disk has to be replaced, or it dies. The links to the other four lose
//! 10, 1, 5 and 0 % of the dual-writes. Those four complete at their first attempt; the one that failed says at which
//! stage and why, is tried again, and leaves nothing behind.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::plan::{Fault, FaultKind, LinkPlan, When};
use miroir_sim::time::MILLIS;
use miroir_sim::{Dice, Random, Ratio, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::{migrations, one_decision_each};
use crate::plan::{MigrationPlan, Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/partial_shard_failure",
    promise: "of five migrations one target fails: the others complete, this one reports stage and reason and is retried",
    marks: &[
        FULL,
        "the target's disk rotted",
        "the target died",
        "the failing migration was aborted and done in a later attempt",
        "the others were done before it",
        "delta pass shipped a missed document",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

/// The shard whose target fails, and that target.
const FAILING: (u32, u32) = (0, 2);
/// What the links to the others lose, in percent.
const LOSSES: [u32; 4] = [10, 1, 5, 0];
const FULL: &str = "the target's disk was full";
const FAILURES: [&str; 3] = [FULL, "the target's disk rotted", "the target died"];

fn failure(dice: &Dice) -> &'static str {
    FAILURES[(dice.seed().0 % 3) as usize]
}

/// One replica per shard: where others hold a copy as well, a target that fails holds nobody up.
fn shape(shape: &mut Shape) {
    shape.nodes = Some(6);
    shape.replication = Some(1);
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("failing", 0);
    plan.cluster.shards = 5;
    plan.cluster.placement = vec![vec![1]; 5];
    plan.timing.copy_timeout_ms = 600;
    plan.timing.drain_timeout_ms = 200;
    plan.timing.joint_timeout_ms = 300;
    plan.timing.pages_under_way = 8;
    let after = plan.workload.operations / 10;
    plan.migrations = (0..5).map(|shard| MigrationPlan::of(shard, vec![shard + 2], after)).collect();
    plan.draw_world(dice);
    plan.sim.network.links.clear();
    for client in plan.client_names() {
        for (loss, node) in LOSSES.iter().zip(3..) {
            let (from, to) = (client.clone(), format!("n{node}"));
            plan.sim.network.links.push(LinkPlan {
                from,
                to,
                loss: Some(Ratio::of(*loss, 100)),
                ..LinkPlan::default()
            });
        }
    }
    // Long before the last page: at replication 1 a disk that rots later takes the only copy with it.
    plan.timing.page_documents = 4;
    if failure(dice) == FULL {
        // A log has some room ahead of what is in it: a disk that is full bites once pages have used that up.
        plan.workload.value_bytes = 4_000;
    }
    plan.timing.page_interval_ms = 8;
    let (start, for_ms) = (stream.range(3..=25), stream.range(700..=1_100));
    let faults = faults(failure(dice), format!("n{}", FAILING.1), start, for_ms);
    plan.sim.faults = faults
        .into_iter()
        .enumerate()
        .map(|(n, (after_ms, kind))| {
            let at = When::Signal { name: "DualWrite".to_owned(), nth: 1, after: after_ms * MILLIS };
            Fault { id: format!("failing-{n}"), at, kind }
        })
        .collect();
}

/// What goes wrong, and how long after the first migration has begun to copy.
fn faults(failure: &str, process: String, start: u64, for_ms: u64) -> Vec<(u64, FaultKind)> {
    match failure {
        FULL => vec![(start, FaultKind::DiskFull { process, for_ms })],
        "the target died" => vec![(start, FaultKind::Crash { process, down_ms: for_ms })],
        // It finds out when it reads its disk again, and does not start any more until somebody has given it another one.
        _ => vec![
            (start, FaultKind::FlipBits { process: process.clone(), count: 200 }),
            (start + 1, FaultKind::Crash { process, down_ms: 5 }),
        ],
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = migrations(it).await;
        wrong.extend(one_decision_each(it));
        let journeys = it.audit.journeys();
        let done_at = |shard: u32| {
            let journey = journeys.values().find(|journey| journey.shard == shard)?;
            journey.stages.iter().find(|(_, stage)| *stage == Stage::Done).map(|(at, _)| *at)
        };
        for journey in journeys.values().filter(|journey| journey.shard != FAILING.0) {
            let aborted = journey.stages.iter().any(|(_, stage)| *stage == Stage::Aborted);
            if aborted {
                wrong.push(format!(
                    "the migration of s{} was aborted, and its target works: {:?}",
                    journey.shard, journey.reasons
                ));
            }
        }
        let Some(failing) = journeys.values().find(|journey| journey.shard == FAILING.0) else { return wrong };
        let aborted = failing.stages.iter().any(|(_, stage)| *stage == Stage::Aborted);
        if aborted && failing.reasons.is_empty() {
            wrong.push("the migration that was aborted gives no reason".to_owned());
        }
        if aborted {
            count_mark(failure(&it.world.dice()));
        }
        let last = done_at(FAILING.0);
        sometimes!(aborted && last.is_some(), "the failing migration was aborted and done in a later attempt");
        let before = (1..5).all(|shard| done_at(shard).is_some_and(|at| last.is_none_or(|last| at < last)));
        sometimes!(before, "the others were done before it");
        wrong
    })
}
