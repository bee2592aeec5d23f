//! A replica that comes back with an empty disk, or whose copy has rotted.
//!
//! It stays silent until it has been readmitted, which happens only under a stable configuration: one commit names it
//! `recovering` in a fresh session (so that what is left of its copy is wiped), it is reconciled from a majority of the
//! replica set formed by the *others*, and a second commit lets it vote again. While the cleanup gate of a skipped
//! delta pass is unmet, a majority of the old replicas is read as well.
//!
//! Where the others are no majority, nothing happens by itself: an operator gives up what only the lost copies held.

use crate::config::{Form, Replica, ShardConfig, majority};
use crate::coordinator::Coordinator;
use crate::coordinator::jobs::Owner;
use crate::coordinator::records::{Record, RecordsError};
use crate::env::Nanos;
use crate::id::{DiskId, NodeId};
use crate::migration::{begin_readmission, end_readmission};
use crate::reconcile::{Source, Spec};
use crate::wire::Purpose;

/// The lost copies of a shard that is beyond readmission.
pub(super) struct Lost {
    /// Those that serve, with the disks they have now.
    pub(super) new: Vec<(NodeId, DiskId)>,
    /// Those that the cleanup gate of a skipped delta pass waits for.
    pub(super) old: Vec<NodeId>,
}

impl Lost {
    /// Every node with such a copy, in order.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.new.iter().map(|(node, _)| *node).chain(self.old.iter().copied()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

impl Coordinator {
    /// Begins and continues readmissions.
    pub(super) fn readmit(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let stable = self
            .configs
            .values()
            .map(|config| &config.value)
            .filter(|config| config.form == Form::Stable || (mutant!("M52") && config.form == Form::Joint));
        let stable: Vec<ShardConfig> = stable.cloned().collect();
        for config in stable {
            let shard = config.shard;
            if let Some(lost) = self.beyond_readmission(&config) {
                self.warn_once(what_is_lost(&config, &lost));
                continue;
            }
            let lost = |node: &NodeId| self.has_lost(&config, *node);
            let again: Vec<NodeId> = config.recovering.iter().map(|it| it.node).filter(lost).collect();
            if !again.is_empty() {
                // They have lost this disk too: another session on the one they have now.
                let disks = self.disks_of(config.recovering.iter().map(|it| it.node));
                if disks.len() == config.recovering.len() {
                    self.commit(now, &[], vec![Record::Shard(begin_readmission(&config, &disks))])?;
                }
                continue;
            }
            if !config.recovering.is_empty() {
                let running = self.jobs.values().any(|job| job.owner == Owner::Readmission(shard));
                let spec = spec(&config);
                if spec.sources.iter().all(|source| source.needed == 0) {
                    // There is nobody left to be reconciled from, as an operator has been told.
                    self.commit(now, &[], vec![Record::Shard(end_readmission(&config))])?;
                } else if !running {
                    self.start_job(now, Owner::Readmission(shard), spec);
                }
                continue;
            }
            let first = config.new.iter().map(|replica| replica.node).find(lost);
            if let Some(node) = first {
                let disks = self.disks_of([node]);
                self.commit(now, &[], vec![Record::Shard(begin_readmission(&config, &disks))])?;
            }
        }
        Ok(())
    }

    fn disks_of(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<(NodeId, DiskId)> {
        nodes.into_iter().filter_map(|node| Some((node, *self.disks.get(&node)?))).collect()
    }

    /// The lost copies of a stable shard, if they are too many to be readmitted from the others.
    pub(super) fn beyond_readmission(&self, config: &ShardConfig) -> Option<Lost> {
        if is_given_up(config) {
            return None;
        }
        let lost = |replica: &&Replica| self.has_lost(config, replica.node) || config.is_recovering(replica.node);
        let too_many = |group: &[Replica]| -> Vec<NodeId> {
            let lost: Vec<NodeId> = group.iter().filter(lost).map(|replica| replica.node).collect();
            let sound = group.len() - lost.len();
            if group.is_empty() || sound >= majority(group.len()) { Vec::new() } else { lost }
        };
        let found = Lost { new: self.disks_of(too_many(&config.new)), old: too_many(&config.old) };
        (!found.nodes().is_empty()).then_some(found)
    }

    /// Whether the node has another disk than the configuration names, or a damaged copy.
    fn has_lost(&self, config: &ShardConfig, node: NodeId) -> bool {
        let named = config.replica(node).map(|replica| replica.disk);
        let present = self.disks.get(&node).copied();
        let replaced = present.is_some() && present != named;
        replaced || self.damaged.contains(&(config.shard, node))
    }
}

/// Whether more copies are being readmitted than the others could outvote: an operator has given up what they held.
fn is_given_up(config: &ShardConfig) -> bool {
    config.recovering.len() > config.new.len() - majority(config.new.len())
}

/// For whoever reads warnings: what no longer works, and what may be done about it.
fn what_is_lost(config: &ShardConfig, lost: &Lost) -> String {
    let shard = config.shard;
    let nodes: Vec<String> = lost.nodes().iter().map(ToString::to_string).collect();
    let nodes = nodes.join(" ");
    let way_out = "bring the old disks back, or give the lost copies up, and with them what only they held";
    if lost.new.is_empty() {
        format!(
            "{shard} was cut over without a delta pass, and the old copies on {nodes} are lost before anti-entropy had \
             read a majority of them; it serves, but takes no migration; {way_out}"
        )
    } else if config.new.len() == 1 {
        format!("{shard} has lost its only copy, on {nodes}, and with it its data; it refuses service; {way_out}")
    } else {
        let (count, all) = (lost.new.len(), config.new.len());
        format!(
            "{shard} has lost the copies of {count} of its {all} replicas, on {nodes}, and refuses service: \
             readmission from fewer than a majority is an operator's decision; {way_out}"
        )
    }
}

/// From a majority of each set, formed by the others, to those that come back. Where an operator has given copies up,
/// from all the others there are.
fn spec(config: &ShardConfig) -> Spec {
    let source = |group: &[Replica]| {
        let others: Vec<Replica> =
            group.iter().filter(|replica| !config.is_recovering(replica.node)).copied().collect();
        Source { needed: majority(group.len()).min(others.len()), replicas: others }
    };
    let mut sources = vec![source(&config.new)];
    let was_old = config.old.iter().any(|replica| config.is_recovering(replica.node));
    if config.gate_unmet() && (was_old || is_given_up(config)) && !mutant!("M51") {
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
