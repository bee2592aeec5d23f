//! The default: a random cluster with random faults and several migrations, some of which skip their delta pass, are
//! paused or aborted by their operator, lose a node at a stage, or have anti-entropy switched off under them. No story,
//! no mercy.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::{Direction, Fault, FaultKind, When};
use miroir_sim::time::{MICROS, MILLIS};
use miroir_sim::{Dice, Random, Ratio, Stream, sometimes};

use super::strike::{STAGES, target};
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::{Interference, MigrationPlan, Plan, Profile};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/swarm",
    promise: "whatever happens: nothing acked is lost but in the windows of a skipped delta pass, and those close",
    marks: &[
        "delta pass shipped a missed document",
        "a migration ended while faults could happen",
        "a migration was aborted by its operator",
        "a migration was paused and went on",
        "anti-entropy was off while a shard moved",
        "a document was written for the first time while its shard moved",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("swarm", 0);
    plan.cluster.shards = stream.range(1..=4) as u32;
    plan.workload.pipelined = *stream.pick(&[Ratio::ZERO, Ratio::of(1, 5), Ratio::of(1, 2)]);
    plan.workload.deletes = *stream.pick(&[Ratio::of(1, 20), Ratio::of(1, 10), Ratio::of(3, 10)]);
    if stream.chance(Ratio::of(1, 3)) {
        // Timeouts that race what they bound.
        plan.timing.drain_timeout_ms = stream.range(5..=40);
        plan.timing.joint_timeout_ms = stream.range(15..=120);
    }
    let count = stream.range(1..=4) as u32;
    let mut placed: Vec<Vec<u32>> = (0..plan.cluster.shards).map(|shard| plan.placed(shard)).collect();
    plan.migrations.clear();
    for n in 0..count {
        let shard = stream.below(u64::from(plan.cluster.shards.min(2))) as usize;
        let target = target(plan, &placed[shard], &mut stream);
        placed[shard] = target.clone();
        let spread = plan.workload.operations / 5;
        plan.migrations.push(MigrationPlan {
            shard: shard as u32,
            target,
            skip_delta: stream.chance(Ratio::of(1, 5)),
            after_operations: spread * n + spread / 3,
            after_us: 0,
            interference: interference(&mut stream),
        });
    }
    let mut fresh = dice.stream("fresh", 0);
    let documents = plan.workload.documents;
    plan.workload.fresh_documents = *fresh.pick(&[0, documents / 5, documents / 2]);
    plan.draw_world(dice);
    if plan.profile != Profile::Calm {
        for n in 0..count {
            let fault = fault_at_stage(plan, n, &mut stream);
            plan.sim.faults.extend(fault);
        }
    }
}

fn interference(stream: &mut Stream) -> Option<Interference> {
    let stage = (*stream.pick(&STAGES[..3])).to_owned();
    match stream.below(8) {
        0 => Some(Interference::Abort { stage }),
        1 => Some(Interference::Pause { stage, for_ms: stream.range(10..=600) }),
        2 => Some(Interference::AntiEntropyOff { stage, for_ms: stream.range(50..=800) }),
        _ => None,
    }
}

/// Something happens to the coordinator, to a node that joins, or to one that served, when a migration enters a stage.
fn fault_at_stage(plan: &Plan, n: u32, stream: &mut Stream) -> Option<Fault> {
    let migration = &plan.migrations[n as usize];
    let stage = (*stream.pick(&STAGES)).to_owned();
    let after = stream.range(0..=20_000) * MICROS;
    let node = format!("n{}", stream.pick(&migration.target));
    let server = format!("n{}", stream.pick(&plan.placed(migration.shard)));
    let process = stream.pick(&[node, server, "coordinator".to_owned()]).clone();
    let length = stream.range(5..=700);
    let others = plan.process_names().into_iter().filter(|name| *name != process && name != "operator").collect();
    let is_node = process != "coordinator";
    let kind = match stream.below(6) {
        0 => FaultKind::Crash { process, down_ms: length },
        1 => FaultKind::CrashInCommit {
            process,
            after_disk_ops: stream.range(1..=12),
            down_ms: length,
            within_ms: 2_000,
        },
        2 => FaultKind::Pause { process, for_ms: length },
        3 => {
            let direction = *stream.pick(&[Direction::Both, Direction::AToB, Direction::BToA]);
            FaultKind::Partition { a: vec![process], b: others, direction, for_ms: length, flap_ms: 0 }
        }
        // One disk of three at most: what is lost with a second one is lost.
        4 if n == 0 && is_node && plan.cluster.replication == 3 => FaultKind::Wipe { process, down_ms: length },
        _ => return None,
    };
    let nth = stream.range(1..=2) as u32;
    Some(Fault { id: format!("stage-{n}"), at: When::Signal { name: stage, nth, after }, kind })
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = super::operated(it).await;
        sometimes!(it.audit.was_retried(), "an attempt was aborted and another one was done");
        // What an operator switched off is on again when the run heals: convergence is anti-entropy's promise.
        if it.plan.cluster.anti_entropy {
            let _refused = it.set_anti_entropy(true).await;
        }
        it.until(100 * MILLIS, |_| false).await;
        wrong
    })
}
