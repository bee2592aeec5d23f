//! Every effect the store may have comes in here: time, randomness, disk, network, and what it tells about itself.
//!
//! Nothing else in this crate reaches for a clock, a file, a socket or entropy. That is what lets the same code run
//! in one process inside a simulator and as real processes over TCP.

#[cfg(unix)]
pub mod real;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::ShardConfig;
use crate::id::{DiskId, Epoch, Key, MigrationId, NodeId, Session, ShardId, Version};
use crate::migration::Stage;
use crate::wire::Purpose;

/// Nanoseconds on a monotonic clock. Only differences mean anything, and none decides about safety.
pub type Nanos = u64;

/// `ms` milliseconds in [`Nanos`].
pub const fn millis(ms: u64) -> Nanos {
    ms * 1_000_000
}

/// Monotonic time. Decides only when to retry, give up, or start a background pass.
pub trait Clock: Send + Sync {
    fn now(&self) -> Nanos;
}

/// Fresh randomness: writer ids, disk ids, retry jitter.
pub trait Dice: Send + Sync {
    /// 128 bits nobody drew before.
    fn bits(&self) -> u128;
}

/// A directory of files on one disk.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens the file, creating it empty if it is not there. A new file's name is durable once its first `sync` has
    /// returned.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file that is synced after nearly every write. Where it saves something, writes are durable when they
    /// return; whoever relies on that still calls `sync`.
    fn open_synced(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }
    /// Removes the file if it is there. Durable when it returns.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Bytes that may still be written; `None` where nobody can say.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// Waits out the time that the accesses made so far take on the modelled device. Real disks have taken theirs by
    /// the time a call returns, so for them this is ready at once.
    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One file. What was written is durable only after `sync` returned `Ok`.
pub trait File: fmt::Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; reading past the end is `UnexpectedEof`.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`, growing the file if need be.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable. After an error nothing is known about it: do not retry.
    fn sync(&self) -> io::Result<()>;
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who sends and receives frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Peer {
    Node(NodeId),
    Coordinator,
    /// A client or an operator, by the number the network gave it.
    Client(u64),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Node(node) => node.fmt(f),
            Peer::Coordinator => f.write_str("coordinator"),
            Peer::Client(n) => write!(f, "client-{n}"),
        }
    }
}

/// Sends frames, which may be lost, doubled, late and out of order, and receives them.
pub trait Net: Send + Sync {
    /// Never waits and never fails: a frame that cannot be delivered is a lost frame.
    fn send(&self, to: Peer, frame: Vec<u8>);
    /// Waits for at least one frame, or until `until`; returns all that wait, in order of arrival.
    fn recv(&self, until: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>>;
}

/// What the store tells about itself as it happens: for metrics, for logs, and for an auditor who must know what is
/// durable where. Reported after the fact is durable, before anyone is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node opened its disk; `copies` is what it found there.
    Opened { node: NodeId, disk: DiskId, copies: Vec<Copy> },
    /// A node turned a client's writes away: they were made under `epoch`, and it has installed an earlier one, or its copy
    /// does not serve under the one that it has installed.
    Fenced { node: NodeId, shard: ShardId, epoch: Epoch, installed: Epoch, writes: Vec<(Key, Version)> },
    /// A node did what a client asked for under the configuration that it has installed: the client knew the one of `epoch`,
    /// and was told.
    Overtaken { node: NodeId, shard: ShardId, epoch: Epoch, installed: Epoch, writes: usize },
    /// A node turned away a page, a repair or a drop: it is meant for another session, disk or epoch than the node has.
    TurnedAway { node: NodeId, shard: ShardId, why: &'static str },
    /// A node has answered clients from its copy, or been a source for the coordinator, which reads at the epoch `read_at`,
    /// when it had installed `epoch`: told once for each two, and again after a restart or after rot was found.
    Served { node: NodeId, shard: ShardId, epoch: Epoch, read_at: Option<Epoch> },
    /// A node has found rot in its copy, which is silent from here on until it is wiped.
    Rotted { node: NodeId, shard: ShardId },
    /// A client's write is durable on a node.
    Applied { node: NodeId, shard: ShardId, key: Key, version: Version },
    /// A configuration is durable on a node; `wiped` if its copy was wiped in the same step.
    Installed { node: NodeId, config: ShardConfig, wiped: bool },
    /// A node dropped its copy.
    Dropped { node: NodeId, shard: ShardId },
    /// A node removed a tombstone that every replica held, and that no older write can undo any more.
    Forgotten { node: NodeId, shard: ShardId, key: Key, version: Version },
    /// How many tombstones a node's copy holds, staged ones included: told now and then, when it has changed.
    Counted { node: NodeId, shard: ShardId, tombstones: u64 },
    /// The coordinator committed a shard's configuration, or found it in its records when it started.
    Committed { config: ShardConfig },
    /// The coordinator committed a migration's stage, or found it in its records when it started.
    Staged { migration: MigrationId, shard: ShardId, stage: Stage, reason: Option<String> },
    /// A document that a page or a repair brought is durable on a node that lacked it (or had it older). It was meant
    /// for this session of the copy, and read under this epoch.
    Repaired {
        node: NodeId,
        shard: ShardId,
        key: Key,
        version: Version,
        purpose: Purpose,
        session: Session,
        read_at: Epoch,
    },
    /// A joining node holds everything its source had up to `through` (`None`: to the end) when that page was read.
    Copied { node: NodeId, shard: ShardId, through: Option<Key> },
    /// The coordinator has begun to reconcile a shard. What comes of it is told when it has finished; where it is void
    /// before (a commit, a crash), nothing is.
    Reconciling { shard: ShardId, purpose: Purpose },
    /// A delta pass or an anti-entropy pass has finished and is verified, on so many targets, at least a majority; `shipped`
    /// documents were lacking somewhere, and `reruns` verifications had found that something still was.
    Reconciled { shard: ShardId, purpose: Purpose, shipped: u64, reruns: u32, verified: usize },
    /// The coordinator committed who belongs to the cluster and where they are reached, or found it in its records.
    Members { revision: u64, nodes: BTreeMap<NodeId, String> },
    /// The coordinator refused an operator's command.
    Refused { code: String },
    /// Replicas hold different values of one document under one version. No sequence of writes leads there: a bug, or
    /// rot that no checksum caught. Reported by every pass that meets it.
    Contradicted { shard: ShardId, key: Key, version: Version },
    /// Something an operator should read. Issued once per cause.
    Warned { text: String },
}

/// What a node found of one shard when it opened its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub shard: ShardId,
    /// The epoch it has installed; `None` if it knows no configuration.
    pub installed: Option<Epoch>,
    /// Rot was found in it, now or before; what it holds is not listed.
    pub damaged: bool,
    pub documents: Vec<(Key, Version)>,
}

/// Receives [`Event`]s.
pub trait Probe: Send + Sync {
    fn on(&self, event: Event);
    /// Whether [`Event::Opened`] is to list every document, which costs a walk over all of them.
    fn wants_documents(&self) -> bool {
        true
    }
    /// What only operators are shown: nothing follows from it.
    fn measure(&self, _: Measure) {}
}

/// What a process can be measured by, besides its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A client wants to write to this shard of this node.
    Tried { shard: ShardId },
    /// Requests of clients that this node did not carry out, and why.
    TurnedAway { why: &'static str, requests: u64 },
    /// Whether the node's disk has no room for what is written.
    DiskFull(bool),
    /// Replicas were compared: so many documents were lacking somewhere, each counted for every replica that lacks it.
    Lacking { shard: ShardId, documents: u64 },
    /// A verification found so many documents still lacking.
    StillLacking { documents: u64 },
}

/// A probe that listens to nothing.
pub struct NoProbe;

impl Probe for NoProbe {
    fn on(&self, _: Event) {}

    fn wants_documents(&self) -> bool {
        false
    }
}

/// The effects of one process.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub probe: Arc<dyn Probe>,
}
