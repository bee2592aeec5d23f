//! Scenario 6. A hundred thousand writes while a shard moves, one in a hundred lost on its way to the joining node. At
//! replication 1 an operator holds the migration in DualWrite until all of them are through: then the delta pass ships
//! exactly the documents that the joining node misses, no more and no fewer. What the auditor keeps in memory is bounded
//! by the documents, not by the writes.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::time::{MILLIS, SECONDS};
use miroir_sim::{Dice, Ratio, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/high_volume",
    promise: "100,000 writes, 1 % lost on the way to the joining node: no loss window; the delta pass ships what is missed, exactly",
    marks: &["the delta pass shipped what was missed", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.alternates_replication = true,
    plan,
    course,
};

/// One in ten operations reads.
const OPERATIONS: u32 = 112_000;

fn plan(plan: &mut Plan, dice: &Dice) {
    volume(plan, dice, OPERATIONS);
    plan.lossy_links(Ratio::of(1, 100));
    plan.sim.faults.clear();
}

/// What all scenarios of volume share: one shard that everybody writes to, several operations at a time.
pub fn volume(plan: &mut Plan, _: &Dice, operations: u32) {
    plan.cluster.shards = 1;
    plan.workload.documents = 2_000;
    plan.timing.page_documents = 100;
    plan.workload.operations = operations;
    plan.workload.exact = true;
    plan.workload.reads = Ratio::of(1, 10);
    plan.workload.pipelined = Ratio::ONE;
    plan.workload.depth = 8;
    plan.timing.chaos_ms = 3_600_000;
    for migration in &mut plan.migrations {
        migration.after_operations = operations / 10;
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = Vec::new();
        it.until_operations(it.plan.migrations[0].after_operations).await;
        let planned = it.migrate(0).await;
        wrong.extend(planned.err().map(|refusal| format!("the migration was refused: {}", refusal.text)));
        if it.plan.cluster.replication == 1 {
            wrong.extend(hold_until_written(it).await);
        }
        it.until_quiet().await;
        sometimes!(it.audit.has_activated(), "a migration ended while faults could happen");
        // A document, what each node holds of it, and at most eight reasons why a node has missed it.
        let bound = it.plan.workload.documents as usize * (1 + it.plan.cluster.nodes as usize * 9);
        let kept = it.audit.auditor().footprint();
        if kept > bound {
            wrong.push(format!("the auditor keeps {kept} things of {} documents", it.plan.workload.documents));
        }
        wrong
    })
}

/// Pauses the migration until the last write is through, and compares what the joining node lacks then with what the
/// delta pass ships.
async fn hold_until_written(it: &Cluster) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(it.pause(0).await.err().map(|refusal| refusal.text));
    let clients = u64::from(it.plan.workload.clients);
    it.until(3_600 * SECONDS, |it| it.load.stopped_clients() == clients).await;
    // Until the last frames have arrived.
    it.world.sleep(500 * MILLIS).await;
    let lacking = it.lacking(0);
    wrong.extend(it.resume(0).await.err().map(|refusal| refusal.text));
    it.until(60 * SECONDS, |it| it.stage(0) >= Some(Stage::Cleanup)).await;
    let shipped = it.audit.delta_shipped();
    sometimes!(shipped == lacking && shipped > 0, "the delta pass shipped what was missed");
    if shipped != lacking {
        wrong.push(format!("the joining node lacked {lacking} documents, and the delta pass shipped {shipped}"));
    }
    wrong
}
