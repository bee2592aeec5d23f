//! Scenario 3. As scenario 1, but nobody runs anti-entropy: the delta pass alone has to carry over what the joining
//! node missed. It does, and the operator is warned once that there is no second defence; again only if the coordinator
//! died with the warning, before it could answer.

use std::future::Future;
use std::pin::Pin;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::lose_dual_writes;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/no_ae_with_delta",
    promise: "anti-entropy off, delta pass on: no loss window; each coordinator that is asked warns exactly once",
    marks: &["delta pass shipped a missed document", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: false,
    shape: |shape| shape.draws_clients = true,
    plan: |plan, dice| {
        lose_dual_writes(plan, dice);
        plan.cluster.anti_entropy = false;
    },
    course,
};

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = super::migrations(it).await;
        let warnings = it.audit.warnings();
        let about_defence = warnings.iter().filter(|text| text.contains("no second defence")).count();
        let asked = it.asked_to_start();
        if !(1..=asked).contains(&about_defence) {
            wrong.push(format!("the warning was issued {about_defence} times, and {asked} coordinators were asked"));
        }
        wrong
    })
}
