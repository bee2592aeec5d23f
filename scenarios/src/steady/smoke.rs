//! A cluster on a calm day: no faults, no migration. If this is red, nothing else need be read.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::sometimes;
use miroir_sim::time::MILLIS;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::Profile;

pub const SCENARIO: Scenario = Scenario {
    id: "steady/smoke",
    promise: "without faults every operation succeeds, and replicas are equal",
    marks: &["every operation succeeded", "anti-entropy found all replicas equal"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan: |plan, dice| {
        plan.profile = Profile::Calm;
        plan.migrations.clear();
        plan.draw_world(dice);
    },
    course,
};

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let operations = it.plan.workload.operations;
        it.until_operations(operations).await;
        it.load.stop();
        let clients = u64::from(it.plan.workload.clients);
        it.until(it.plan.timing.chaos_ms * MILLIS, |it| it.load.stopped_clients() == clients).await;
        let totals = it.history.totals();
        let failed = totals.rejected + totals.unknown;
        sometimes!(failed == 0 && totals.acked > 0, "every operation succeeded");
        sometimes!(it.audit.has_found_replicas_equal(), "anti-entropy found all replicas equal");
        if failed > 0 { vec![format!("{failed} operations failed without a fault")] } else { Vec::new() }
    })
}
