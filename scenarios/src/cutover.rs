//! Scenarios in which shards move.

pub mod anti_entropy_in_every_stage;
pub mod boundary_burst;
pub mod clock_chaos;
pub mod combinations;
pub mod concurrent_migration_writes;
pub mod concurrent_migrations;
pub mod coordinator_crash_recovery;
pub mod coordinator_lost;
pub mod coordinator_succeeded;
pub mod delete_and_recreate;
pub mod drain_timeout_boundary;
pub mod high_volume;
pub mod loss_rate_1m_ae_on;
pub mod loss_rate_no_ae_delta;
pub mod loss_rate_no_ae_no_delta;
pub mod move_back_and_forth;
pub mod network_partition_new_node;
pub mod no_ae_no_delta_blocked;
pub mod no_ae_with_delta;
pub mod partial_shard_failure;
pub mod replica_replaced;
pub mod rollback;
pub mod skip_delta_eager_cleanup;
pub mod skip_delta_with_ae;
pub mod source_crash_unsynced_tail;
mod strike;
pub mod swarm;
pub mod target_crash_in_delta;
pub mod three_node_cluster;
pub mod three_node_no_ae_with_delta;
pub mod tight_loop_boundary;
pub mod validation_gates;
pub mod wiped_disk;
pub mod with_anti_entropy;
pub mod zombie_node;

use std::future::Future;
use std::pin::Pin;

use miroir_sim::time::MILLIS;
use miroir_sim::{Dice, Random, Ratio, sometimes};
use miroir_store::migration::Stage;

use crate::cluster::Cluster;
use crate::plan::{Plan, Profile};
use crate::workload::document;

/// The course that most scenarios take: the planned migrations, one after another, under load.
pub(crate) fn migrations(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let refused = it.run_migrations().await;
        sometimes!(it.audit.has_activated(), "a migration ended while faults could happen");
        refused
    })
}

/// The clients' writes are lost on their way to joining nodes: none of them, or up to one in twenty.
pub(crate) fn lose_dual_writes(plan: &mut Plan, dice: &Dice) {
    let loss = Ratio::of(dice.stream("dual-writes", 0).range(0..=50) as u32, 1_000);
    if matches!(plan.profile, Profile::Usual | Profile::Storm) {
        plan.lossy_links(loss);
    }
}

/// The numbers of the first documents that live in a shard.
pub(crate) fn documents_of(plan: &Plan, shard: u32, count: usize) -> Vec<u64> {
    let all = 0..u64::from(plan.workload.documents);
    all.filter(|n| document(*n).shard(plan.cluster.shards).0 == shard).take(count).collect()
}

/// Whether each attempt of each migration ended in one way: activated or aborted, never both and never twice.
pub(crate) fn one_decision_each(it: &Cluster) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, journey) in it.audit.journeys() {
        let stages: Vec<Stage> = journey.stages.iter().map(|(_, stage)| *stage).collect();
        for attempt in stages.split(|stage| *stage == Stage::DualWrite).skip(1) {
            let decisions = attempt.iter().filter(|stage| matches!(stage, Stage::Cleanup | Stage::Aborted)).count();
            if decisions > 1 {
                wrong.push(format!("an attempt of {id} was decided {decisions} times: {attempt:?}"));
            }
        }
    }
    wrong
}

/// The planned migrations, each as soon as its shard is free, and what their operators do to them on the way.
pub(crate) fn operated(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        for n in 0..it.plan.migrations.len() {
            it.until_operations(it.plan.migrations[n].after_operations).await;
            if it.migrate_when_free(n).await {
                it.interfere(n).await;
            }
        }
        it.until_quiet().await;
        sometimes!(it.audit.has_activated(), "a migration ended while faults could happen");
        Vec::new()
    })
}

/// As [`operated`]; where bits of a disk flip, the load goes on until a scrub has had the time to come across them.
pub(crate) fn scrubbed(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = operated(it).await;
        if it.plan.node_names().iter().any(|node| it.plan.rots(node)) {
            it.until(3_000 * MILLIS, |it| it.audit.has_found_rot()).await;
            // Whoever fell silent comes back.
            it.until(500 * MILLIS, |_| false).await;
        }
        wrong
    })
}
