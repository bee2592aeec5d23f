//! The records of a coordinator that has none: of a new cluster, or rebuilt from the configurations that every node has
//! installed.
//!
//! What was committed and told to nobody is not known to anybody and had no effect. So the greatest configuration of
//! each shard that any node has installed is where the shard stands, provided that *every* node was asked, and that
//! none of them installs afterwards what the lost coordinator still has under way. Therefore it is done in two rounds:
//! the first asks for the greatest generation that any node knows, the second has every node promise durably to install
//! nothing below the next one, and takes the configurations from that answer. Leaving a node out is an operator's
//! decision. The records begin in the promised generation, with every cleanup gate unmet.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Replica, ShardConfig};
use crate::coordinator::records::{ClusterRecord, Record, RecordsError};
use crate::coordinator::{Coordinator, NewCluster};
use crate::env::{Nanos, Peer};
use crate::id::{Epoch, NodeId, Session, ShardId};
use crate::migration::restore;
use crate::placement::place;
use crate::wire::Message;

/// What is known of the nodes while there are no records.
#[derive(Clone, Debug, Default)]
pub(super) struct Rebuild {
    /// What is to be promised; 0 in the first round, in which nodes only tell.
    generation: u32,
    /// What each node has promised and installed, as it answered in this round.
    heard: BTreeMap<NodeId, (u32, Vec<ShardConfig>)>,
    asked_at: Option<Nanos>,
}

impl Rebuild {
    /// The greatest generation that any node that was heard knows of.
    fn greatest(&self) -> u32 {
        let known = self
            .heard
            .values()
            .flat_map(|(promised, configs)| configs.iter().map(|config| config.epoch.generation).chain([*promised]));
        known.max().unwrap_or(0)
    }

    fn begin(&mut self, generation: u32) {
        *self = Rebuild { generation, ..Rebuild::default() };
    }
}

impl Coordinator {
    /// A node has promised, and told what it has installed.
    pub(super) fn promised(&mut self, node: NodeId, generation: u32, configs: Vec<ShardConfig>) {
        // An answer to the first round says nothing in the second.
        if generation >= self.rebuild.generation {
            self.rebuild.heard.insert(node, (generation, configs));
        }
    }

    /// Creates the cluster once every node has said which disk it has and what it has installed, or rebuilds its
    /// records if some node has been part of it already.
    pub(super) fn create(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let Some(create) = self.options.create.clone() else { return Ok(()) };
        let asked: Vec<NodeId> = create.nodes.keys().copied().filter(|node| !create.gone.contains(node)).collect();
        let is_heard = |node: &NodeId| self.rebuild.heard.contains_key(node) && self.disks.contains_key(node);
        if !asked.iter().all(is_heard) {
            let due = self.rebuild.asked_at.is_none_or(|at| now >= at + self.options.resend);
            if due {
                self.rebuild.asked_at = Some(now);
                let generation = self.rebuild.generation;
                let unheard = asked.into_iter().filter(|node| !self.rebuild.heard.contains_key(node));
                let unheard: Vec<NodeId> = unheard.collect();
                unheard.into_iter().for_each(|node| self.send(Peer::Node(node), Message::Promise { generation }));
            }
            return Ok(());
        }
        let greatest = self.rebuild.greatest();
        if self.rebuild.generation == 0 || greatest > self.rebuild.generation {
            self.rebuild.begin(greatest + 1);
            return Ok(());
        }
        self.write_records(now, &create)
    }

    /// Every node has promised the generation.
    fn write_records(&mut self, now: Nanos, create: &NewCluster) -> Result<(), RecordsError> {
        let generation = self.rebuild.generation;
        let mut greatest: BTreeMap<ShardId, ShardConfig> = BTreeMap::new();
        let configs = self.rebuild.heard.values().flat_map(|(_, configs)| configs);
        for config in configs {
            let known = greatest.get(&config.shard).map_or(Epoch::ZERO, |known| known.epoch);
            if config.epoch > known {
                greatest.insert(config.shard, config.clone());
            }
        }
        let named: BTreeSet<NodeId> = greatest.values().flat_map(ShardConfig::named).collect();
        if let Some(node) = named.into_iter().find(|node| !create.nodes.contains_key(node)) {
            self.warn_once(format!(
                "the coordinator's records were lost, and {node} holds copies but is not among the nodes that the \
                 coordinator was started with; start it with all nodes of the cluster"
            ));
            return Ok(());
        }
        if !greatest.is_empty() {
            self.warn(format!(
                "the coordinator's records were lost; they are rebuilt from what {} of {} nodes have installed, in \
                 generation {generation}",
                self.rebuild.heard.len(),
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
                None => self.place_anew(create, shard, shard_count, generation),
            }));
        }
        self.rebuild = Rebuild::default();
        self.commit(now, &[], puts)
    }

    fn place_anew(&self, create: &NewCluster, shard: ShardId, shard_count: u32, generation: u32) -> ShardConfig {
        let nodes: Vec<NodeId> = create.nodes.keys().copied().filter(|node| !create.gone.contains(node)).collect();
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
