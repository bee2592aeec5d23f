//! The coordinator's process, and the one that takes its place when it is taken for dead.

use std::sync::Arc;

use miroir_sim::plan::When;
use miroir_sim::time::{MILLIS, SECONDS};
use miroir_sim::{ProcessId, sometimes};
use miroir_store::coordinator::gate::AntiEntropy;
use miroir_store::coordinator::{self, NewCluster, Overrides};
use miroir_store::env::{Event, Probe, millis};
use miroir_store::id::NodeId;

use super::{Cluster, engine_options};
use crate::audit::Audit;
use crate::env::{COORDINATOR_STEP, Directory, announced, env};

/// Hears a coordinator as long as it is the one that is taken for it. What one decides for itself that has been succeeded
/// is committed on its own disk, and nobody may follow it: whoever does is found out.
struct InCharge {
    audit: Audit,
    directory: Arc<Directory>,
    process: ProcessId,
}

impl Probe for InCharge {
    fn on(&self, event: Event) {
        if self.directory.coordinator() == self.process {
            return self.audit.on(event);
        }
        let decides = matches!(event, Event::Committed { .. } | Event::Staged { .. });
        sometimes!(decides, "a coordinator decided on although another had taken its place");
    }
}

impl Cluster {
    pub(super) fn start_coordinator(&self, process: ProcessId) {
        let disk = self.world.new_disk(process);
        let options = self.coordinator_options();
        // Only if somebody listens: it happens often.
        let waits = |at: &When| matches!(at, When::Signal { name, .. } if name == COORDINATOR_STEP);
        let announces = self.plan.sim.faults.iter().any(|fault| waits(&fault.at));
        let (world, directory, audit) = (self.world.clone(), self.directory.clone(), self.audit.clone());
        let transport = self.transport.clone();
        self.world.start(process, move |life| {
            let probe = InCharge { audit: audit.clone(), directory: directory.clone(), process };
            let env = env(&world, life, &directory, Some(disk.mount()), Arc::new(probe));
            let (world, options, transport) = (world.clone(), options.clone(), transport.clone());
            async move {
                let env = transport.over(life, env).await;
                let env = if announces { announced(env, &world, life) } else { env };
                let error = coordinator::serve(env, options).await;
                world.note(&format!("coordinator stops: {error}"));
            }
        });
    }

    /// The coordinator stands still and is taken for dead; another one with an empty disk rebuilds its records from the
    /// nodes. When these have been committed, the first one goes on, in the belief that no time has passed. `false` if the
    /// records were not rebuilt in time.
    pub async fn succeed(&self) -> bool {
        let old = self.directory.coordinator();
        self.world.pause(old);
        let generation = self.audit.generation();
        self.start_coordinator(self.directory.succeed());
        let rebuilt = self.until(20 * SECONDS, |it| it.audit.generation() > generation).await;
        self.world.sleep(MILLIS).await;
        self.world.resume(old);
        rebuilt
    }

    fn coordinator_options(&self) -> coordinator::Options {
        let (cluster, timing) = (&self.plan.cluster, &self.plan.timing);
        let mut options = coordinator::Options {
            create: Some(NewCluster {
                nodes: (1..=cluster.nodes).map(|n| (NodeId(n), self.transport.node_address(NodeId(n)))).collect(),
                shard_count: cluster.shards,
                replication: cluster.replication,
                anti_entropy: AntiEntropy {
                    enabled: cluster.anti_entropy,
                    repair: !cluster.reports_only,
                    period: millis(cluster.anti_entropy_period_ms),
                },
                placement: cluster.placement.iter().map(|nodes| nodes.iter().copied().map(NodeId).collect()).collect(),
                gone: Vec::new(),
            }),
            engine: engine_options(),
            overrides: Overrides { unsafe_cutover: cluster.unsafe_cutover, eager_cleanup: cluster.eager_cleanup },
            ..coordinator::Options::default()
        };
        options.reconcile.unverified = cluster.skip_verify;
        options.migration.page_documents = timing.page_documents;
        options.migration.page_interval = millis(timing.page_interval_ms);
        if timing.collect_every_ms > 0 {
            options.collect_every = Some(millis(timing.collect_every_ms));
        }
        // A healed cluster gets there in the end, however short the timeouts of its plan.
        options.migration.max_attempts = 1_000;
        if timing.pages_under_way > 0 {
            options.migration.pages_under_way = timing.pages_under_way as usize;
        }
        if timing.copy_timeout_ms > 0 {
            options.migration.copy_timeout = millis(timing.copy_timeout_ms);
        }
        options.migration.drain_timeout = millis(timing.drain_timeout_ms);
        options.migration.joint_timeout = millis(timing.joint_timeout_ms);
        options
    }
}
