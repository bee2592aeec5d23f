//! What operators ask of the coordinator and of single nodes, and what they are answered.

use serde::{Deserialize, Serialize};

use crate::config::{Cutover, ShardConfig};
use crate::coordinator::inspection::Inspection;
use crate::id::{DiskId, Epoch, MigrationId, NodeId, ShardId};
use crate::migration::Stage;

/// Names one command of an operator. `operator` is 64 fresh bits per session, `n` counts its commands: what comes twice
/// is done once, and what comes late is not done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId {
    pub operator: u64,
    pub n: u64,
}

/// What an operator asks of the coordinator. Each is idempotent: asking twice is asking once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a durable plan; nothing moves yet.
    Plan {
        id: MigrationId,
        shard: ShardId,
        target: Vec<NodeId>,
        cutover: Cutover,
    },
    Start {
        id: MigrationId,
    },
    Pause {
        id: MigrationId,
    },
    Resume {
        id: MigrationId,
    },
    /// Back to the old replicas; not after Activate.
    Abort {
        id: MigrationId,
    },
    /// Plans the way back: the nodes that `id` took the shard from shall have it again. It is started like any other.
    Reverse {
        id: MigrationId,
        new: MigrationId,
    },
    /// Plans what rendezvous hashing says these nodes shall hold: a migration for each shard that has to move, with ids
    /// from `first` on.
    Rebalance {
        first: MigrationId,
        nodes: Vec<NodeId>,
        cutover: Cutover,
    },
    AddNode {
        node: NodeId,
        address: String,
    },
    SetAntiEntropy {
        enabled: bool,
    },
    Status,
    /// Everything there is to see.
    Inspect,
    /// Forgets a node that holds nothing and that no migration needs.
    RemoveNode {
        node: NodeId,
    },
    /// An anti-entropy pass over every shard, now.
    CompareNow,
    /// Lost copies of a shard are readmitted from fewer than a majority of the others. What only they held is given up
    /// for good.
    GiveUp {
        shard: ShardId,
        copies: Vec<NodeId>,
    },
}

/// One migration, as the coordinator's durable record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStatus {
    pub id: MigrationId,
    pub shard: ShardId,
    pub stage: Stage,
    pub attempt: u32,
    pub reason: Option<String>,
}

/// What the coordinator answers an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// These migrations were planned.
    Planned {
        ids: Vec<MigrationId>,
    },
    /// Nothing was changed. `code` is stable (`UnsafeCutover`, `Busy`, ...); `text` says why and what to do.
    Refused {
        code: String,
        text: String,
    },
    Status {
        ready: bool,
        anti_entropy: bool,
        configs: Vec<ShardConfig>,
        migrations: Vec<MigrationStatus>,
    },
    Inspected(Box<Inspection>),
    /// Passes over these shards begin.
    Comparing {
        shards: Vec<ShardId>,
    },
}

/// What an operator asks of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeQuestion {
    Stats,
    /// Take the search for rot on by some documents.
    Scrub {
        documents: u32,
    },
    /// What its data takes and has left of the disk. A node of an older program does not know the question.
    Room,
}

/// What a node answers an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeReply {
    Stats {
        node: NodeId,
        disk: DiskId,
        log_bytes: u64,
        /// Documents that are in the log and not yet in the pages.
        unflushed: u64,
        copies: Vec<CopyStats>,
    },
    /// As [`Scrubbed`](crate::engine::Scrubbed).
    Scrubbed { node: NodeId, documents: u64, damaged: Vec<ShardId>, replaced: bool, finished: bool },
    Room {
        node: NodeId,
        page_bytes: u64,
        /// `None` where the system does not say.
        free_bytes: Option<u64>,
        /// Tombstones of each copy of which they have been counted since the node's start.
        tombstones: Vec<(ShardId, u64)>,
    },
}

/// One copy on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStats {
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Whether the installed configuration names the node in `old` or `new`.
    pub member: bool,
    /// Tombstones included.
    pub documents: u64,
    pub max_counter: u64,
    pub damaged: bool,
}
