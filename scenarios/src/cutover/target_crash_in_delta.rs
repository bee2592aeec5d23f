//! The joining node dies: while it is copied to, under Joint, while the delta pass ships to it, right after it has begun
//! to serve, and once more while it recovers from that. The old owners serve on until Activate; whatever becomes of the
//! attempt, nothing is lost and the shard arrives.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random, Ratio};
use miroir_store::env::Peer;
use miroir_store::id::NodeId;

use super::strike::{STAGES, at_stage, crash, one_of};
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::migrations;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/target_crash_in_delta",
    promise: "the joining node dies in each stage, and again while it recovers: no loss window, the shard arrives",
    marks: &[
        "a joining node restarted under DualWrite",
        "a joining node restarted under Joint",
        "the joining node died in DualWrite",
        "the joining node died in Drain",
        "the joining node died in DeltaPass",
        "the joining node died in Activate",
        "the joining node died in Cleanup",
        "a node died while it recovered",
        "a migration ended while faults could happen",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("target-crash", 0);
    let joiners = plan.joiners(&plan.migrations[0]);
    for stage in STAGES {
        let process = one_of(&joiners, &mut stream);
        // Activate is over at the instant at which it begins.
        let after_us = if stage == "Activate" { 0 } else { stream.range(0..=6_000) };
        let strikes = stream.chance(Ratio::of(1, 2));
        let kind = crash(&process, &mut stream);
        let again = FaultKind::CrashInCommit {
            process,
            after_disk_ops: stream.range(1..=4),
            down_ms: stream.range(5..=60),
            within_ms: 800,
        };
        if strikes {
            plan.sim.faults.push(at_stage(&format!("target-{stage}"), stage, 1, after_us, kind));
            // Armed while the node is down: it goes off with one of the first writes of the next life.
            plan.sim.faults.push(at_stage(&format!("again-{stage}"), stage, 1, after_us + 5_000, again));
        }
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = migrations(it).await;
        let journey = it.audit.journeys().into_values().next().unwrap_or_default();
        for joiner in it.plan.joiners(&it.plan.migrations[0]) {
            let process = it.directory.process(Peer::Node(NodeId(joiner))).expect("a node has a process");
            for stage in it.world.away(process).into_iter().flat_map(|(from, _)| journey.stages_at(from)) {
                if STAGES.contains(&&*stage.to_string()) {
                    count_mark(&format!("the joining node died in {stage}"));
                }
            }
        }
        wrong
    })
}
