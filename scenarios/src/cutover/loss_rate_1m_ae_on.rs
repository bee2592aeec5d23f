//! Scenario 10. A million acknowledged writes in one run, anti-entropy and delta pass on, a lossy link to the joining
//! node. Fewer than one in a million are lost: none. Sixty seconds and two gibibytes have to do.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::sometimes;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::high_volume::volume;
use crate::cutover::migrations;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/loss_rate_1m_ae_on",
    promise: "1,000,000 acked writes in one run, anti-entropy and delta pass on: not one loss window",
    marks: &["delta pass shipped a missed document", "every planned operation has ended"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan: |plan, dice| {
        volume(plan, dice, 1_120_000);
        plan.workload.exact = false;
        plan.sim.faults.clear();
    },
    course,
};

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = migrations(it).await;
        sometimes!(it.load.ended() >= u64::from(it.plan.workload.operations), "every planned operation has ended");
        wrong
    })
}
