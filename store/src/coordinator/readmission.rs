//! A replica that comes back with an empty disk, or whose copy has rotted.
//!
//! It stays silent until it has been readmitted, which happens only under a stable configuration: one commit names it
//! `recovering` in a fresh session (so that what is left of its copy is wiped), it is reconciled from a majority of the
//! replica set formed by the *others*, and a second commit lets it vote again. While the cleanup gate of a skipped
//! delta pass is unmet, a majority of the old replicas is read as well.

use crate::config::{Form, ShardConfig, majority};
use crate::coordinator::Coordinator;
use crate::coordinator::jobs::Owner;
use crate::coordinator::records::{Record, RecordsError};
use crate::env::Nanos;
use crate::id::{NodeId, ShardId};
use crate::migration::begin_readmission;
use crate::reconcile::{Source, Spec};
use crate::wire::Purpose;

impl Coordinator {
    /// Begins and continues readmissions.
    pub(super) fn readmit(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let stable: Vec<ShardId> = self
            .configs
            .values()
            .map(|config| &config.value)
            .filter(|config| config.form == Form::Stable || (mutant!("M52") && config.form == Form::Joint))
            .map(|config| config.shard)
            .collect();
        for shard in stable {
            let config = self.configs[&shard].value.clone();
            let again = config.recovering.iter().map(|it| it.node).find(|node| self.has_lost(&config, *node));
            if let Some(node) = again {
                // It has lost this disk too: another session on the one it has now.
                let disk = self.disks[&node];
                self.commit(now, &[], vec![Record::Shard(begin_readmission(&config, node, disk))])?;
                continue;
            }
            if !config.recovering.is_empty() {
                let running = self.jobs.values().any(|job| job.owner == Owner::Readmission(shard));
                if !running {
                    self.start_job(now, Owner::Readmission(shard), spec(&config));
                }
                continue;
            }
            let Some(lost) = config.new.iter().map(|replica| replica.node).find(|node| self.has_lost(&config, *node))
            else {
                continue;
            };
            let sound = config.new.iter().filter(|replica| !self.has_lost(&config, replica.node)).count();
            if sound < majority(config.new.len()) {
                self.warn_once(format!(
                    "{shard} has lost the copies of {} of its {} replicas and refuses service: readmission from fewer \
                     than a majority is an operator's decision",
                    config.new.len() - sound,
                    config.new.len()
                ));
                continue;
            }
            let disk = self.disks[&lost];
            self.commit(now, &[], vec![Record::Shard(begin_readmission(&config, lost, disk))])?;
        }
        Ok(())
    }

    /// Whether the node has another disk than the configuration names, or a damaged copy.
    fn has_lost(&self, config: &ShardConfig, node: NodeId) -> bool {
        let named = config.replica(node).map(|replica| replica.disk);
        let present = self.disks.get(&node).copied();
        let replaced = present.is_some() && present != named;
        replaced || self.damaged.contains(&(config.shard, node))
    }
}

/// From a majority of each set, formed by the others, to the one that comes back.
fn spec(config: &ShardConfig) -> Spec {
    let source = |group: &[crate::config::Replica]| Source {
        replicas: group.iter().filter(|replica| !config.is_recovering(replica.node)).copied().collect(),
        needed: majority(group.len()),
    };
    let mut sources = vec![source(&config.new)];
    let was_old = config.old.iter().any(|replica| config.is_recovering(replica.node));
    if config.gate_unmet() && was_old && !mutant!("M51") {
        sources.push(source(&config.old));
    }
    Spec {
        shard: config.shard,
        epoch: config.epoch,
        purpose: Purpose::Readmission,
        sources,
        targets: config.recovering.clone(),
        counters_only: false,
    }
}
