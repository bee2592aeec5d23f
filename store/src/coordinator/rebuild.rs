//! The records of a coordinator that lost its disk, from the configurations that every node has installed.
//!
//! What was committed and told to nobody is not known to anybody and had no effect. So the greatest configuration of
//! each shard that any node has installed is where the shard stands, provided that *every* node was asked; fewer is an
//! operator's decision. The records begin a new, greater generation, with every cleanup gate unmet.

use std::collections::BTreeMap;

use crate::config::{Replica, ShardConfig};
use crate::coordinator::records::{ClusterRecord, Record, RecordsError};
use crate::coordinator::{Coordinator, NewCluster};
use crate::env::{Nanos, Peer};
use crate::id::{Epoch, NodeId, Session, ShardId};
use crate::migration::restore;
use crate::placement::place;
use crate::wire::Message;

impl Coordinator {
    /// Takes in what a node has installed.
    pub(super) fn configs_heard(&mut self, from: Peer, configs: Vec<ShardConfig>) {
        if let Peer::Node(node) = from {
            self.rebuilding.insert(node, configs);
        }
    }

    /// Creates the cluster once every node has said which disk it has, or rebuilds its records if some node has been
    /// part of it already.
    pub(super) fn create(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let Some(create) = self.options.create.clone() else { return Ok(()) };
        let unheard: Vec<NodeId> =
            create.nodes.keys().copied().filter(|node| !self.rebuilding.contains_key(node)).collect();
        if !unheard.is_empty() || create.nodes.keys().any(|node| !self.disks.contains_key(node)) {
            let due = self.asked_configs_at.is_none_or(|at| now >= at + self.options.resend);
            if due {
                self.asked_configs_at = Some(now);
                unheard.into_iter().for_each(|node| self.send(Peer::Node(node), Message::GetConfigs));
            }
            return Ok(());
        }
        let mut greatest: BTreeMap<ShardId, ShardConfig> = BTreeMap::new();
        for config in std::mem::take(&mut self.rebuilding).into_values().flatten() {
            let known = greatest.get(&config.shard).map_or(Epoch::ZERO, |known| known.epoch);
            if config.epoch > known {
                greatest.insert(config.shard, config);
            }
        }
        let generation = 1 + greatest.values().map(|config| config.epoch.generation).max().unwrap_or(0);
        if !greatest.is_empty() {
            self.warn(format!(
                "the coordinator's records were lost; they are rebuilt from what all {} nodes have installed, in \
                 generation {generation}",
                create.nodes.len()
            ));
        }
        let shard_count = greatest.values().next().map_or(create.shard_count, |config| config.shard_count);
        let mut puts = vec![Record::Cluster(ClusterRecord {
            cluster_id: self.env.dice.bits(),
            shard_count,
            replication: create.replication,
            nodes: create.nodes.clone(),
            collections: Vec::new(),
            anti_entropy: create.anti_entropy.clone(),
        })];
        for shard in (0..shard_count).map(ShardId) {
            puts.push(Record::Shard(match greatest.get(&shard) {
                Some(config) => restore(config, generation),
                None => self.place_anew(&create, shard, shard_count, generation),
            }));
        }
        self.commit(now, &[], puts)
    }

    fn place_anew(&self, create: &NewCluster, shard: ShardId, shard_count: u32, generation: u32) -> ShardConfig {
        let nodes: Vec<NodeId> = create.nodes.keys().copied().collect();
        let placed = match create.placement.get(shard.0 as usize) {
            Some(placed) => placed.clone(),
            None => place(shard, &nodes, create.replication as usize),
        };
        let epoch = Epoch { generation, n: 1 };
        let replica = |node| Replica { node, session: Session(epoch), disk: self.disks[&node] };
        let replicas = placed.into_iter().map(replica).collect();
        ShardConfig { epoch, ..ShardConfig::initial(shard, shard_count, replicas) }
    }
}
