//! Everything that the coordinator knows and an operator may want to see.

use serde::{Deserialize, Serialize};

use crate::anti_entropy;
use crate::config::ShardConfig;
use crate::coordinator::Coordinator;
use crate::coordinator::gate::AntiEntropy;
use crate::coordinator::jobs::Owner;
use crate::env::Nanos;
use crate::id::{DiskId, Epoch, NodeId, ShardId};
use crate::migration::{MigrationRecord, Stage};
use crate::wire::Reply;

/// A cluster at one moment. Times are counted on the coordinator's clock, since its start at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub cluster_id: u128,
    pub shard_count: u32,
    pub replication: u32,
    pub anti_entropy: AntiEntropy,
    pub nodes: Vec<NodeInspection>,
    pub configs: Vec<ShardConfig>,
    pub migrations: Vec<MigrationInspection>,
    /// The last anti-entropy pass over each shard that has seen one.
    pub passes: Vec<Pass>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInspection {
    pub node: NodeId,
    pub address: String,
    /// The disk it answered with last; `None` if it has not answered since the coordinator started.
    pub disk: Option<DiskId>,
    pub silent_for: Option<Nanos>,
    /// Copies in which it found rot.
    pub damaged: Vec<ShardId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationInspection {
    pub record: MigrationRecord,
    pub in_stage_for: Nanos,
    /// The stages of the present attempt, and how long ago each began.
    pub journey: Vec<(Stage, Nanos)>,
    /// What each node of the old and the new set has installed of the shard, as far as it was heard.
    pub installed: Vec<(NodeId, Epoch)>,
    pub copies: Vec<CopyInspection>,
    /// Documents that the delta pass has shipped; `None` while it runs, or has not begun.
    pub delta_documents: Option<u64>,
}

/// How far the copy to a joining node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyInspection {
    pub node: NodeId,
    pub pages: u64,
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    pub shard: ShardId,
    /// Since its end.
    pub ended_ago: Nanos,
    /// Documents that were lacking somewhere.
    pub shipped: u64,
    /// Whether another is under way.
    pub running: bool,
}

impl Coordinator {
    pub(super) fn inspect(&self, now: Nanos) -> Reply {
        let cluster = &self.cluster.as_ref().expect("checked by the caller").value;
        let node = |(&node, address): (&NodeId, &String)| NodeInspection {
            node,
            address: address.clone(),
            disk: self.disks.get(&node).copied(),
            silent_for: self.answered_at.get(&node).map(|at| now.saturating_sub(*at)),
            damaged: self.damaged.iter().filter(|(_, of)| *of == node).map(|(shard, _)| *shard).collect(),
        };
        let migration = |record: &MigrationRecord| {
            let progress = self.progress.get(&record.id).cloned().unwrap_or_default();
            let mut nodes: Vec<NodeId> = record.from.iter().chain(&record.target).copied().collect();
            nodes.sort();
            nodes.dedup();
            let epoch = |node: NodeId| self.installed.get(&(record.shard, node)).copied().unwrap_or(Epoch::ZERO);
            let copy = |(&node, copy): (&NodeId, &crate::migration::Copy)| CopyInspection {
                node,
                pages: copy.pages(),
                done: copy.is_done(),
            };
            MigrationInspection {
                record: record.clone(),
                in_stage_for: now.saturating_sub(progress.stage_since),
                journey: progress.journey.iter().map(|(stage, at)| (*stage, now.saturating_sub(*at))).collect(),
                installed: nodes.into_iter().map(|node| (node, epoch(node))).collect(),
                copies: progress.copies.iter().map(copy).collect(),
                delta_documents: progress.delta.map(|report| report.shipped),
            }
        };
        let running = |shard| self.jobs.values().any(|job| job.owner == Owner::AntiEntropy(shard));
        let pass = |(&shard, &(at, shipped)): (&ShardId, &(Nanos, u64))| Pass {
            shard,
            ended_ago: now.saturating_sub(at),
            shipped,
            running: running(shard),
        };
        Reply::Inspected(Box::new(Inspection {
            cluster_id: cluster.cluster_id,
            shard_count: cluster.shard_count,
            replication: cluster.replication,
            anti_entropy: cluster.anti_entropy.clone(),
            nodes: cluster.nodes.iter().map(node).collect(),
            configs: self.configs.values().map(|config| config.value.clone()).collect(),
            migrations: self.migrations.values().map(|record| migration(&record.value)).collect(),
            passes: self.passes.iter().map(pass).collect(),
        }))
    }

    /// Makes a pass over every shard due at once. Returns over which shards there is something to compare.
    pub(super) fn compare_now(&mut self, now: Nanos) -> Vec<ShardId> {
        let comparable = |config: &ShardConfig| anti_entropy::spec(config).is_some();
        let shards = self.configs.values().map(|config| &config.value).filter(|config| comparable(config));
        let shards: Vec<ShardId> = shards.map(|config| config.shard).collect();
        if !self.rehearsing {
            self.anti_entropy_at.extend(shards.iter().map(|shard| (*shard, now)));
        }
        shards
    }
}
