//! Scenarios in which a dump is imported while everything else goes on.

pub mod crash_in_import;
pub mod import_during_cutover;
pub mod importer;
pub mod made;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use miroir_sim::sometimes;
use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_store::dump::target::Target;
use miroir_store::migration::Stage;
use miroir_store::wire::NameRange;

use crate::cluster::Cluster;
use crate::plan::ImportPlan;

/// How many wrong documents are reported.
const SHOWN: usize = 5;

/// Shards move and a dump comes in; in the end every document of it is there exactly once, as the dump has it.
fn import(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let refused = it.run_migrations().await;
        if !refused.is_empty() {
            return refused;
        }
        let chaos = (it.plan.timing.chaos_ms * MILLIS).saturating_sub(it.world.now());
        let ended = it.until(chaos, |it| it.load.imports() > 0).await;
        sometimes!(ended, "an import ended while faults could happen");
        sometimes!(wrote_inside(it, Stage::DualWrite), "an import wrote to a shard under DualWrite");
        sometimes!(wrote_inside(it, Stage::DeltaPass), "an import wrote to a shard during its delta pass");
        it.world.heal();
        if !it.until(60 * SECONDS, |it| it.load.imports() > 0).await {
            return vec!["the import did not end on a healed cluster".to_owned()];
        }
        let plan = it.plan.import.as_ref().expect("a scenario with an import has one in its plan");
        compare(it, plan).await
    })
}

/// Whether a batch of the import was sent and acknowledged while a shard that it wrote to stood in this stage.
fn wrote_inside(it: &Cluster, stage: Stage) -> bool {
    let batches = importer::batches();
    it.audit.journeys().into_values().any(|journey| {
        let ends = journey.stages.iter().skip(1).map(|(at, _)| *at).chain([Nanos::MAX]);
        let stays = journey.stages.iter().zip(ends).filter(|((_, entered), _)| *entered == stage);
        let mut stays = stays.map(|((from, _), until)| (*from, until));
        stays.any(|(from, until)| {
            let inside = |batch: &importer::Batch| from <= batch.sent_at && batch.acked_at <= until;
            batches.iter().any(|batch| inside(batch) && batch.shards.contains(&journey.shard))
        })
    })
}

/// Every document by a scan of all shards, beside what the dump says.
async fn compare(it: &Cluster, plan: &ImportPlan) -> Vec<String> {
    let mut expected = made::expected(plan);
    let mut wrong = Vec::new();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut target = it.import_target();
    let mut from = Some(format!("{}\0", made::COLLECTION));
    while let Some(start) = from {
        let until = Some(format!("{}\u{1}", made::COLLECTION).into_bytes());
        let page = match target.scan(NameRange { from: start, until }, 64).await {
            Ok(page) => page,
            Err(error) => return vec![format!("what was imported cannot be read: {error}")],
        };
        for (key, _, body) in page.documents {
            let body = String::from_utf8_lossy(&body).into_owned();
            if found.insert(key.id().to_owned(), body).is_some() {
                wrong.push(format!("{key} is there twice"));
            }
        }
        from = page.next;
    }
    for (id, body) in &found {
        match expected.remove(id) {
            Some(wanted) if wanted == *body => {}
            Some(wanted) => wrong.push(format!("{id} is {body}, and the dump has {wanted}")),
            None => wrong.push(format!("{id} is there, and not in the dump")),
        }
    }
    wrong.extend(expected.into_keys().map(|id| format!("{id} is in the dump, and not there")));
    wrong.truncate(SHOWN);
    wrong
}
