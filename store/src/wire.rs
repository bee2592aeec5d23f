//! The messages between clients, nodes and the coordinator. [`frame`] encodes them; [`operator`] has what operators ask.

pub mod frame;
pub mod operator;

use serde::{Deserialize, Serialize};

use crate::config::{Replica, ShardConfig};
use crate::engine::{Bucket, Mark};
use crate::id::{DiskId, Epoch, Key, NodeId, Session, ShardId, Value, Version};

pub use frame::{
    MAX_FRAME_BYTES, SUM_BYTES, WIRE_VERSION, WIRE_VERSIONS, decode, decode_record, encode, encode_record, inward,
    outward,
};
pub use operator::{Command, CommandId, CopyStats, MigrationStatus, NodeQuestion, NodeReply, Reply};

/// Operations and answers travel together up to so many bytes: one of the largest documents, and its envelope, fits into
/// a frame by itself.
pub const PORTION_BYTES: usize = 4 << 20;

/// Names one attempt of one phase of one operation of a router; an answer to an attempt that asked something else is not
/// counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token {
    pub operation: u64,
    pub attempt: u32,
}

/// Names one request of the coordinator: the job that asked, and its count in that job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    pub job: u64,
    pub n: u64,
}

/// What a router asks of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// The greatest counter of any version the shard's copy has seen.
    Counter,
    Read {
        key: Key,
    },
    /// `value` is `None` for a delete. `chosen_at` is the epoch at which the version was chosen.
    Write {
        key: Key,
        version: Version,
        chosen_at: Epoch,
        value: Option<Value>,
    },
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Counter(u64),
    /// [`Version::ZERO`] and `None` if the document was never written.
    Read {
        version: Version,
        value: Option<Value>,
    },
    /// This version or a greater one is durable.
    Written,
    /// The version was chosen below the shard's tombstone barrier; nothing was written.
    BelowBarrier,
    /// The value has more bytes than the node takes from clients; nothing was written, and nothing will be.
    TooLong {
        limit: u64,
    },
}

impl Op {
    /// About as many bytes as it takes in a frame.
    pub fn weight(&self) -> usize {
        match self {
            Op::Counter => ENVELOPE_BYTES,
            Op::Read { key } => ENVELOPE_BYTES + key.encoded().len(),
            Op::Write { key, value, .. } => ENVELOPE_BYTES + key.encoded().len() + bytes_of(value.as_ref()),
        }
    }
}

impl Answer {
    /// About as many bytes as it takes in a frame.
    pub fn weight(&self) -> usize {
        match self {
            Answer::Read { value, .. } => ENVELOPE_BYTES + bytes_of(value.as_ref()),
            Answer::Counter(_) | Answer::Written | Answer::BelowBarrier | Answer::TooLong { .. } => ENVELOPE_BYTES,
        }
    }
}

/// More than an operation or an answer takes besides its key and its value.
const ENVELOPE_BYTES: usize = 96;

fn bytes_of(value: Option<&Value>) -> usize {
    value.map_or(0, |value| value.len())
}

/// Cuts what would travel together into portions that fit into a frame each, in their order.
pub fn portions<T>(items: Vec<T>, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    if items.iter().map(&weight).sum::<usize>() <= PORTION_BYTES {
        return vec![items];
    }
    let mut portions = Vec::new();
    let (mut portion, mut bytes) = (Vec::new(), 0);
    for item in items {
        let more = weight(&item);
        if bytes + more > PORTION_BYTES && !portion.is_empty() {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
        bytes += more;
        portion.push(item);
    }
    portions.push(portion);
    portions
}

/// What a node has installed of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Rot was found; the copy is silent until it is wiped.
    pub damaged: bool,
}

/// Why documents are shipped from one copy to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// Pages for a joining node under `DualWrite`.
    Copy,
    /// The delta pass under `Joint`.
    Delta,
    AntiEntropy,
    /// To a replica that is being readmitted.
    Readmission,
}

/// Which documents a source ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// The next page after this key.
    Page {
        after: Option<Key>,
        documents: u32,
    },
    Keys(Vec<Key>),
}

/// How far a shipped page reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEnd {
    pub last: Option<Key>,
    pub more: bool,
}

/// A document on its way from one copy to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    pub key: Key,
    pub version: Version,
    pub value: Option<Value>,
}

/// What an import in broadcast mode asks of a node's staging area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagingAction {
    /// Writes documents of a shard behind the `offset` bytes that are there.
    Append {
        shard: ShardId,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Everything is staged on every node; `manifest` says what that is.
    Seal {
        manifest: Vec<u8>,
    },
    Manifest,
    Read {
        shard: ShardId,
        offset: u64,
        limit: u32,
    },
    /// Removes what this import has staged.
    Drop,
}

/// What the node answers. What it says was done is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagingReply {
    Done,
    Manifest(Option<Vec<u8>>),
    Bytes(Vec<u8>),
    /// Nothing was changed: no room, or a gap in front of what was sent.
    Refused(String),
}

/// Everything that crosses the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    // Clients and nodes.
    Batch {
        shard: ShardId,
        epoch: Epoch,
        ops: Vec<(Token, Op)>,
    },
    Answers {
        shard: ShardId,
        epoch: Epoch,
        answers: Vec<(Token, Answer)>,
    },
    /// The request was made under an epoch smaller than the node's. If its copy serves, answers under the node's epoch follow.
    /// Also sent, unasked, to clients that found the node behind.
    Stale {
        config: ShardConfig,
    },
    /// The request was made under an epoch greater than the node's, which now fetches the configuration and says so with
    /// `Stale` once it has installed it.
    Behind {
        shard: ShardId,
        epoch: Epoch,
    },
    /// The node holds no copy of this shard that may answer.
    Unable {
        shard: ShardId,
        epoch: Epoch,
    },
    GetConfigs,
    Configs {
        configs: Vec<ShardConfig>,
    },

    // The coordinator and nodes.
    Ping {
        request: RequestId,
    },
    /// Who is there, on which disk, and what it has installed of each shard.
    Pong {
        request: RequestId,
        node: NodeId,
        disk: DiskId,
        copies: Vec<CopyState>,
    },
    Install {
        config: ShardConfig,
    },
    Installed {
        node: NodeId,
        disk: DiskId,
        copy: CopyState,
    },
    /// A node asks for a shard's configuration.
    Fetch {
        shard: ShardId,
    },
    Digest {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
    },
    Digests {
        request: RequestId,
        node: NodeId,
        buckets: Vec<u64>,
        documents: u64,
        max_counter: u64,
    },
    List {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        level: u8,
        buckets: Vec<Bucket>,
    },
    Listing {
        request: RequestId,
        node: NodeId,
        entries: Vec<(Key, Mark)>,
    },
    /// The receiver sends `selection` to `to` as a [`Message::Repair`].
    Ship {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        purpose: Purpose,
        selection: Selection,
        to: Replica,
        raise_to: u64,
    },
    /// `session` is the receiver's; `epoch` is the one the sender had installed when it read the documents.
    Repair {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        session: Session,
        purpose: Purpose,
        documents: Vec<Shipped>,
        raise_to: u64,
        end: Option<PageEnd>,
    },
    /// `max_counter` is the receiver's after the repair; `applied` counts documents it lacked.
    Repaired {
        request: RequestId,
        node: NodeId,
        applied: u64,
        max_counter: u64,
        end: Option<PageEnd>,
    },
    /// The request cannot be served: another epoch, another session, no voting copy.
    Unserved {
        request: RequestId,
        node: NodeId,
        why: String,
    },
    Drop {
        shard: ShardId,
        epoch: Epoch,
    },
    Dropped {
        node: NodeId,
        shard: ShardId,
        epoch: Epoch,
    },
    /// The next tombstones after this key.
    Tombstones {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        after: Option<Key>,
        limit: u32,
    },
    TombstoneList {
        request: RequestId,
        node: NodeId,
        entries: Vec<(Key, Version)>,
        more: bool,
    },

    // Operators and the coordinator.
    Command {
        id: CommandId,
        command: Command,
    },
    Reply {
        id: CommandId,
        reply: Reply,
    },

    // Reconcile, below the buckets of a digest.
    /// What do these buckets of `level` split into?
    Split {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        level: u8,
        buckets: Vec<Bucket>,
    },
    /// The digests of the parts, [`FAN_OUT`](crate::engine::FAN_OUT) for each bucket that was asked about.
    Sums {
        request: RequestId,
        node: NodeId,
        sums: Vec<u64>,
    },

    // Scans.
    /// A router asks a voter for the next documents of a shard.
    Scan {
        shard: ShardId,
        epoch: Epoch,
        token: Token,
        range: NameRange,
        documents: u32,
    },
    /// The first documents of the range in key order, tombstones included; `more` if others follow behind the last.
    Scanned {
        shard: ShardId,
        epoch: Epoch,
        token: Token,
        documents: Vec<Shipped>,
        more: bool,
    },

    // Tombstones.
    /// Under exactly this epoch, which is its own tombstone barrier, these tombstones are to be forgotten.
    Forget {
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
        tombstones: Vec<(Key, Version)>,
    },
    /// `forgotten` of them were held and are gone.
    Forgot {
        request: RequestId,
        node: NodeId,
        forgotten: u64,
    },

    // Imports in broadcast mode.
    Stage {
        request: RequestId,
        import: u128,
        action: StagingAction,
    },
    Staged {
        request: RequestId,
        node: NodeId,
        reply: StagingReply,
    },

    // Operators.
    /// Would the coordinator carry out this command? It answers as if it had, and changes nothing.
    Rehearse {
        id: CommandId,
        command: Command,
    },
    AskNode {
        n: u64,
        question: NodeQuestion,
    },
    NodeReply {
        n: u64,
        reply: NodeReply,
    },

    // A coordinator that has lost its records, and nodes.
    /// Install nothing of an older generation any more, durably, and tell what is installed.
    Promise {
        generation: u32,
    },
    /// Nothing below `generation` will be installed, and these are.
    Promised {
        node: NodeId,
        generation: u32,
        configs: Vec<ShardConfig>,
    },
}

/// Documents that lie together in key order, by their names (`collection \0 id`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRange {
    /// The first name that belongs to it, if there is such a document.
    pub from: String,
    /// The least bytes that no longer belong to it; `None`: it has no end.
    pub until: Option<Vec<u8>>,
}
