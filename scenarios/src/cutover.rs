//! Scenarios in which shards move.

pub mod no_ae_no_delta_blocked;
pub mod no_ae_with_delta;
pub mod skip_delta_eager_cleanup;
pub mod skip_delta_with_ae;
pub mod swarm;
pub mod with_anti_entropy;

use std::future::Future;
use std::pin::Pin;

use miroir_sim::sometimes;

use crate::cluster::Cluster;

/// The course that most scenarios take: the planned migrations, one after another, under load.
pub(crate) fn migrations(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        it.run_migrations().await;
        sometimes!(it.audit.has_activated(), "a migration ended while faults could happen");
        Vec::new()
    })
}
