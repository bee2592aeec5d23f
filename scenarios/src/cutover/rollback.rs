//! The new owners serve, clients have written to them, and the operator wants the shard back where it was. There is no
//! undo: it is a migration in the opposite direction, with a copy and a delta pass of its own, and it takes along what
//! was written meanwhile. After a skipped delta pass it has to wait until anti-entropy has repaired what was missed. The
//! ninth client scans all the while.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::time::MILLIS;
use miroir_sim::{Dice, Random, Ratio, sometimes};
use miroir_store::migration::Stage;

use super::strike::migration;
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::scan::ScanPlan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/rollback",
    promise: "back to the old owners after 1 to n writes at the new ones: an ordinary migration, nothing lost",
    marks: &[
        "a shard went back to the owners it came from",
        "a rollback was planned before the cleanup had ended",
        "a move had to wait for the cleanup gate",
        "a scan crossed a cutover",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.clients = Some(9),
    plan,
    course,
};

/// The way back begins a few or many operations after the cutover; a fifth of the moves skip their delta pass.
fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("rollback", 0);
    plan.migrations[0].skip_delta = stream.chance(Ratio::of(1, 5));
    let written = *stream.pick(&[1, 2, 5, 20, 100, 400]);
    let back = migration(0, &plan.placed(0), plan.migrations[0].after_operations + written);
    plan.migrations.push(back);
    plan.workload.scan = Some(ScanPlan { client: plan.workload.clients, page_documents: 8 });
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let limit = it.plan.timing.chaos_ms * MILLIS;
        let written = it.plan.migrations[1].after_operations - it.plan.migrations[0].after_operations;
        it.until_operations(it.plan.migrations[0].after_operations).await;
        if it.migrate_when_free(0).await {
            it.until(limit, |it| it.stage(0) >= Some(Stage::Cleanup)).await;
            if it.stage(0) >= Some(Stage::Cleanup) && it.stage(0) != Some(Stage::Aborted) {
                let from = it.load.ended();
                it.until(limit, |it| it.load.ended() >= from + u64::from(written)).await;
                sometimes!(it.stage(0) == Some(Stage::Cleanup), "a rollback was planned before the cleanup had ended");
                if it.reverse_when_free(0, 1).await {
                    it.until(limit, |it| it.stage(1) == Some(Stage::Done)).await;
                }
            }
        }
        it.until_quiet().await;
        let is_back = it.audit.is_placed(0, &it.plan.placed(0));
        sometimes!(it.stage(1) == Some(Stage::Done) && is_back, "a shard went back to the owners it came from");
        if it.stage(1) == Some(Stage::Done) && !is_back {
            return vec!["the rollback is done, and the shard is not where it came from".to_owned()];
        }
        Vec::new()
    })
}
