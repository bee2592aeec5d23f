//! The coordinator stands still in the middle of a migration and is taken for dead. Another one, with an empty disk,
//! rebuilds the records from what the nodes have installed, in a new generation. Then the first one goes on: it has its
//! records, hears what the nodes say, and decides what comes next. No node follows it: what it tells is of a generation
//! that they have promised to leave behind. The shard serves where it served, and moves when the new one is asked.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::time::MILLIS;
use miroir_sim::{Dice, Random, sometimes};
use miroir_store::migration::Stage;

use super::strike::{STAGES, another, migration, target};
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/coordinator_succeeded",
    promise: "a coordinator that was taken for dead goes on beside a rebuilt one: nobody follows it, nothing is lost",
    marks: &[
        "the coordinator's records were rebuilt",
        "records were rebuilt after DualWrite",
        "records were rebuilt after Drain",
        "records were rebuilt after DeltaPass",
        "records were rebuilt after Activate",
        "a coordinator decided on although another had taken its place",
        "a configuration of a lost coordinator was refused",
        "a shard moved beside a coordinator that was taken for dead",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("succeeded", 0);
    let first = plan.placed(0);
    let second = target(plan, &first, &mut stream);
    let spread = plan.workload.operations / 6;
    let third = another(plan, &[&first, &second], &mut stream);
    plan.migrations = vec![migration(0, &second, spread / 2), migration(0, &third, spread * 3)];
    plan.cluster.succeeded_in = Some((*stream.pick(&STAGES)).to_owned());
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let limit = it.plan.timing.chaos_ms * MILLIS;
        let planned = it.plan.cluster.succeeded_in.clone().unwrap_or_default();
        let wanted = |stage: Stage| stage.to_string() == planned || stage >= Stage::Cleanup;
        it.until_operations(it.plan.migrations[0].after_operations).await;
        if it.migrate_when_free(0).await {
            it.until(limit, |it| it.stage(0).is_some_and(wanted)).await;
        }
        if !it.succeed().await {
            return vec!["the records were not rebuilt".to_owned()];
        }
        it.until_operations(it.plan.migrations[1].after_operations).await;
        let moved = it.migrate_when_free(1).await;
        it.until_quiet().await;
        let moved = moved && it.stage(1) == Some(Stage::Done);
        sometimes!(moved, "a shard moved beside a coordinator that was taken for dead");
        Vec::new()
    })
}
