//! What was written down about a run, beyond loss windows.

use std::collections::{BTreeMap, BTreeSet};

use miroir_sim::coverage::count_mark;
use miroir_sim::disk::SimDisk;
use miroir_sim::oracle::durable::{DocId, Vanished};
use miroir_sim::sometimes;
use miroir_store::config::ShardConfig;
use miroir_store::env::{Event, Nanos};
use miroir_store::id::{DiskId, Epoch, Key, MigrationId, NodeId, Session, ShardId, Version};
use miroir_store::migration::Stage;
use miroir_store::wire::Purpose;

use super::promises::{Owed, Passes};
use crate::env::Directory;
use crate::scan::Scan;

/// How one migration went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journey {
    pub shard: u32,
    /// Whether an operator's start was accepted.
    pub started: bool,
    /// Every stage it entered, and when.
    pub stages: Vec<(Nanos, Stage)>,
    /// Why its attempts were aborted.
    pub reasons: Vec<String>,
}

impl Journey {
    /// The stages that it stood in at an instant: several where one gave way to the next just then.
    pub fn stages_at(&self, at: Nanos) -> Vec<Stage> {
        let ends = self.stages.iter().skip(1).map(|(end, _)| *end).chain([Nanos::MAX]);
        let spans = self.stages.iter().zip(ends).filter(|((from, _), to)| *from <= at && at <= *to);
        spans.map(|((_, stage), _)| *stage).collect()
    }
}

/// A page became durable at this time, and with it everything up to this key (`None`: to the end).
pub type Paged = (Nanos, Option<Key>);

/// An anti-entropy pass over a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub began: Nanos,
    /// When it had finished and was verified; none if a commit or a crash of the coordinator made it void.
    pub ended: Option<Nanos>,
}

/// An anti-entropy pass that has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    pub ended: Nanos,
    /// Documents that were lacking somewhere.
    pub shipped: u64,
    /// Replicas on which the result was verified; a pass goes on without those that do not answer.
    pub verified: usize,
}

/// What the store said about itself, beyond loss windows.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub configs: BTreeMap<ShardId, ShardConfig>,
    pub config_log: Vec<(Nanos, ShardConfig)>,
    pub installed: BTreeMap<(ShardId, NodeId), Epoch>,
    /// When each node first had each epoch of a shard.
    pub installed_at: BTreeMap<(ShardId, NodeId, Epoch), Nanos>,
    pub journeys: BTreeMap<MigrationId, Journey>,
    pub warnings: Vec<(Nanos, String)>,
    pub refusals: Vec<(Nanos, String, String)>,
    /// The finished anti-entropy passes over each shard, in order.
    pub passes: BTreeMap<ShardId, Vec<Pass>>,
    /// Every anti-entropy pass over a shard that was begun, in order.
    pub turns: BTreeMap<ShardId, Vec<Turn>>,
    pub delta_shipped: u64,
    pub copied_documents: u64,
    pub repaired_documents: u64,
    pub copied: BTreeMap<(NodeId, ShardId), Vec<Paged>>,
    pub(super) missed: BTreeMap<(NodeId, Key), (Version, Nanos)>,
    /// Broken promises that no window shows: an installed epoch that falls, a commit that does not follow the last one,
    /// an acknowledgement that fewer replicas hold than it says.
    pub wrong: Vec<(Nanos, String)>,
    /// Since when every node has installed the newest configuration of a shard.
    pub(super) settled_since: BTreeMap<ShardId, Nanos>,
    /// What was verified of each shard since its last commit.
    pub(super) verified: BTreeMap<ShardId, Passes>,
    /// Tombstones that nodes removed because every replica held them, counted per node.
    pub forgotten_tombstones: u64,
    /// The documents whose deletions were.
    pub(super) forgotten: BTreeSet<(ShardId, Key)>,
    pub(super) rot_found: bool,
    /// Copies in which rot was found, and which have not been wiped since.
    pub(super) rotted: BTreeSet<(ShardId, NodeId)>,
    /// Those of them that the node itself has marked.
    pub(super) silenced: BTreeSet<(ShardId, NodeId)>,
    /// What replicas that are being readmitted have to hold before they vote again: what the others held before.
    pub(super) owed: BTreeMap<ShardId, Vec<Owed>>,
    /// Each node's disk, as the world knows it, and the id it had when the node last opened it.
    pub(super) sim_disks: BTreeMap<NodeId, (Option<SimDisk>, u128)>,
    /// The disk that each node runs on.
    pub(super) disks: BTreeMap<NodeId, DiskId>,
    /// The last life of each node that has opened its disk.
    pub(super) lives: BTreeMap<NodeId, u32>,
    /// What nodes held durably and did not find on their disks any more.
    pub vanished: Vec<(Nanos, Vanished)>,
    /// Who has dropped a copy, and has not been a member since.
    pub(super) dropped: BTreeSet<(NodeId, ShardId)>,
    /// Whether each of the last two things that happened was a write that became durable.
    recent_writes: [bool; 2],
    /// The last boundary, and how many more events are close to it.
    close_to: Option<(Stage, u32)>,
    /// The newest deletion of each document that a client was told is safe.
    pub(super) deletions: BTreeMap<DocId, (u64, u128)>,
    /// The versions that clients' writes had when they became durable somewhere, if anybody asked to keep them.
    pub versions: Option<BTreeSet<(u64, u128)>>,
    /// Every scan, in the order in which they ended.
    pub scans: Vec<Scan>,
    /// When clients were let go, and when faults stopped.
    pub chaos_from: Option<Nanos>,
    pub healed_at: Option<Nanos>,
}

impl Books {
    /// Notes a promise that is broken, if one is.
    pub(super) fn breaks(&mut self, at: Nanos, wrong: Option<String>) {
        self.wrong.extend(wrong.map(|wrong| (at, wrong)));
    }

    /// Whether the world has wiped a node's disk since this was last asked.
    pub(super) fn was_wiped(&mut self, node: NodeId) -> bool {
        let Some((Some(disk), known)) = self.sim_disks.get_mut(&node) else { return false };
        let present = disk.disk_id();
        std::mem::replace(known, present) != present
    }

    /// Reaches a mark when a write becomes durable right before or after a migration enters a stage.
    pub(super) fn watch_boundaries(&mut self, event: &Event) {
        match event {
            Event::Committed { .. } | Event::Served { .. } | Event::Counted { .. } | Event::Reconciling { .. } => {}
            Event::Staged { stage, .. } => {
                if self.recent_writes.contains(&true) {
                    count_mark(&format!("write within two events of {stage}"));
                }
                self.close_to = Some((*stage, 2));
            }
            event => {
                let is_write = matches!(event, Event::Applied { .. });
                self.recent_writes = [self.recent_writes[1], is_write];
                if let Some((stage, left)) = self.close_to.take().filter(|(_, left)| *left > 0) {
                    if is_write {
                        count_mark(&format!("write within two events of {stage}"));
                    }
                    self.close_to = Some((stage, left - 1));
                }
            }
        }
    }

    /// How many cutovers there have been.
    pub(super) fn cutovers(&self) -> usize {
        let activated = self.journeys.values().flat_map(|it| &it.stages).filter(|(_, stage)| *stage == Stage::Cleanup);
        activated.count()
    }

    /// The session in which the configuration of an epoch names a node.
    pub(super) fn session(&self, shard: ShardId, node: NodeId, epoch: Epoch) -> Option<Session> {
        let of_shard = self.config_log.iter().map(|(_, config)| config).filter(|config| config.shard == shard);
        let named = of_shard.filter(|config| config.epoch == epoch).find_map(|config| config.replica(node));
        named.map(|replica| replica.session)
    }

    /// The configuration that a node has installed, as it was committed.
    pub(super) fn installed_config(&self, shard: ShardId, node: NodeId) -> Option<&ShardConfig> {
        self.committed(shard, *self.installed.get(&(shard, node))?)
    }

    /// The configuration that was committed with an epoch.
    pub(super) fn committed(&self, shard: ShardId, epoch: Epoch) -> Option<&ShardConfig> {
        let committed = self.config_log.iter().map(|(_, config)| config);
        committed.rev().find(|config| config.shard == shard && config.epoch == epoch)
    }

    /// A node has installed an epoch durably.
    pub(super) fn install(&mut self, at: Nanos, directory: &Directory, node: NodeId, shard: ShardId, epoch: Epoch) {
        self.installed.insert((shard, node), epoch);
        self.installed_at.entry((shard, node, epoch)).or_insert(at);
        let Some(committed) = self.configs.get(&shard).map(|config| config.epoch) else { return };
        let mut nodes = directory.nodes();
        if nodes.all(|(node, _)| self.installed.get(&(shard, node)).is_some_and(|epoch| *epoch >= committed)) {
            self.settled_since.entry(shard).or_insert(at);
        }
    }

    pub(super) fn repaired(&mut self, node: NodeId, shard: ShardId, key: &Key, version: Version, purpose: Purpose) {
        match purpose {
            Purpose::Copy => self.copied_documents += 1,
            Purpose::AntiEntropy | Purpose::Readmission => self.repaired_documents += 1,
            Purpose::Delta => {
                self.delta_shipped += 1;
                let missed = self.missed.get(&(node, key.clone())).filter(|(missed, _)| *missed == version);
                let pages = self.copied.get(&(node, shard));
                if let (Some((_, missed_at)), Some(pages)) = (missed, pages) {
                    let holds = |through: &Option<Key>| through.as_ref().is_none_or(|through| through >= key);
                    let was_copied = pages.iter().any(|(at, through)| at <= missed_at && holds(through));
                    sometimes!(was_copied, "delta pass shipped a missed document");
                }
            }
        }
    }
}
