//! Scenario 12. Every client writes as fast as it can through the whole life of a migration. Nobody notices: no stage
//! makes the shard that moves wait longer for its next acknowledged write than it waits on a quiet day. The longest wait is
//! judged here; a stage of some ten waits has no p99.9, so that is judged by who runs many seeds. One client scans
//! the shard meanwhile, over and over, in pages so small that a scan begins at the old replicas and ends at the new ones:
//! a document that exists throughout is in it exactly once. With three replicas, anti-entropy passes as well, on the quiet
//! day and through the migration.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::record::{STEADY, Service};
use miroir_sim::time::{MICROS, Nanos};
use miroir_sim::{Dice, Ratio, sometimes};
use miroir_store::migration::Stage;

use super::strike::STAGES;
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::scan::ScanPlan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/concurrent_migration_writes",
    promise: "full load through the whole lifecycle: no loss window, no stage in which writes wait longer, scans are whole",
    marks: &[
        "write in stage DualWrite",
        "write in stage Drain",
        "write in stage DeltaPass",
        "write in stage Activate",
        "write in stage Cleanup",
        "anti-entropy passed in DualWrite",
        "a migration ended at full load",
        "a scan crossed a cutover",
        "a page of a scan met a newer configuration",
        "a document was overwritten while a scan crossed a cutover, and is in it once",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.clients = Some(16),
    plan,
    course,
};

/// One shard, all clients at it, and nothing that goes wrong: what is measured is the price of the cutover alone.
fn plan(plan: &mut Plan, _: &Dice) {
    plan.cluster.shards = 1;
    plan.workload.scan = Some(ScanPlan { client: plan.workload.clients, page_documents: 8 });
    plan.cluster.anti_entropy_period_ms = 20;
    plan.workload.operations = 4_000;
    plan.migrations[0].after_operations = 1_000;
    plan.timing.page_documents = 24;
    plan.timing.page_interval_ms = 6;
    plan.sim.faults.clear();
    plan.sim.network.loss = Ratio::ZERO;
    plan.sim.network.reorder = Ratio::ZERO;
    plan.sim.network.tail = Ratio::ZERO;
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let refused = it.run_migrations().await;
        if !refused.is_empty() {
            return refused;
        }
        let stages = it.audit.journeys().into_values().flat_map(|journey| journey.stages);
        let done = stages.filter(|(_, stage)| *stage == Stage::Done).map(|(at, _)| at).max();
        let at_full_load = done.is_some_and(|at| it.load.thinned_at().is_none_or(|thinned| at < thinned));
        sometimes!(at_full_load, "a migration ended at full load");
        let service = it.service();
        let Some(steady) = service.get(STEADY) else {
            return vec!["nothing was measured before the migration".to_owned()];
        };
        let round_trip = it.plan.sim.network.round_trip();
        STAGES.iter().flat_map(|stage| waits(stage, service.get(*stage), steady, round_trip)).collect()
    })
}

/// What a stage costs beyond what is promised.
fn waits(stage: &str, met: Option<&Service>, steady: &Service, round_trip: Nanos) -> Vec<String> {
    let Some(met) = met.filter(|met| met.gaps > 0) else {
        return vec![format!("nothing was measured in {stage}")];
    };
    if met.gap_max_ns <= steady.gap_max_ns + 2 * round_trip {
        return Vec::new();
    }
    let [here, there] = [met.gap_max_ns, steady.gap_max_ns].map(|ns| ns / MICROS);
    vec![format!("in {stage} the longest gap is {here} us; the longest steady one is {there} us")]
}
