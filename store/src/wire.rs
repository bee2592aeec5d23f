//! The messages between clients, nodes and the coordinator, and their encoding: one version byte, then bincode.
//!
//! This is the only file that names bincode. Decoding is bounded: a frame longer than [`MAX_FRAME_BYTES`], or one that
//! claims to hold more than it does, is an error and never an allocation of what it claims.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Cutover, Replica, ShardConfig};
use crate::coordinator::inspection::Inspection;
use crate::engine::{Bucket, Mark};
use crate::error::WireError;
use crate::id::{DiskId, Epoch, Key, MigrationId, NodeId, Session, ShardId, Value, Version};
use crate::migration::Stage;

/// Longest frame, in bytes: the largest document and room for its envelope.
pub const MAX_FRAME_BYTES: usize = 24 << 20;

/// Operations and answers travel together up to so many bytes: one of the largest documents, and its envelope, fits into
/// a frame by itself.
pub const PORTION_BYTES: usize = 4 << 20;

/// The version of the frames in this file. A frame of another version is refused by name.
pub const WIRE_VERSION: u8 = 2;

/// What this program speaks with others, the oldest and the newest: two neighbours use the greatest that both know, so
/// that processes can be replaced by newer ones one at a time.
///
/// Version 2 is the frames of this file as they are. In version 3 a sum stands behind each, so that what was damaged on
/// its way is noticed.
pub const WIRE_VERSIONS: (u8, u8) = (WIRE_VERSION, SUMMED_VERSION);

const SUMMED_VERSION: u8 = 3;

/// The most that a version adds to a frame.
pub const SUM_BYTES: usize = 8;

/// Names one attempt of one phase of one operation of a router; an answer to another attempt is not counted.
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

/// Names one command of an operator. `operator` is 64 fresh bits per session, `n` counts its commands: what comes twice
/// is done once, and what comes late is not done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId {
    pub operator: u64,
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
            Answer::Counter(_) | Answer::Written | Answer::BelowBarrier => ENVELOPE_BYTES,
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
    /// The request was made under an epoch smaller than the node's.
    Stale {
        config: ShardConfig,
    },
    /// The request was made under an epoch greater than the node's, which now fetches the configuration.
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

type Encoding = Configuration<LittleEndian, Fixint, Limit<MAX_FRAME_BYTES>>;

const ENCODING: Encoding =
    config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_FRAME_BYTES>();

/// The frame of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.push(WIRE_VERSION);
    write_into(&mut frame, message);
    frame
}

/// Reads a frame. Bytes that are no message of this version are an error that says why.
pub fn decode(frame: &[u8]) -> Result<Message, WireError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLong { bytes: frame.len(), limit: MAX_FRAME_BYTES });
    }
    match frame.split_first() {
        None => Err(WireError::Decode("empty frame".to_owned())),
        Some((&WIRE_VERSION, body)) => read_all(body),
        Some((&found, _)) => Err(WireError::Version { found, supported: WIRE_VERSION }),
    }
}

/// A frame as a neighbour reads it who speaks `version`.
pub fn outward(mut frame: Vec<u8>, version: u8) -> Vec<u8> {
    if version >= SUMMED_VERSION {
        let sum = xxh3_64(&frame);
        frame.extend_from_slice(&sum.to_le_bytes());
    }
    frame
}

/// The frame that a neighbour has sent in `version`.
pub fn inward(mut bytes: Vec<u8>, version: u8) -> Result<Vec<u8>, WireError> {
    if version >= SUMMED_VERSION {
        let length = bytes.len().checked_sub(SUM_BYTES);
        let length = length.ok_or_else(|| WireError::Decode("a frame without a sum".to_owned()))?;
        if bytes[length..] != xxh3_64(&bytes[..length]).to_le_bytes() {
            return Err(WireError::Decode("a frame was damaged on its way".to_owned()));
        }
        bytes.truncate(length);
    }
    Ok(bytes)
}

/// The encoding of durable records: the same rules as frames, without the version byte, which their file has.
pub fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    write_into(&mut bytes, record);
    bytes
}

/// Reads a durable record.
pub fn decode_record<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, WireError> {
    read_all(bytes)
}

fn write_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_std_write(value, bytes, ENCODING)
        .expect("encoding into memory fails only for types that serde cannot encode, and ours can");
}

fn read_all<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(bytes, ENCODING)
        .map_err(|error| WireError::Decode(error.to_string()))?;
    if read != bytes.len() {
        return Err(WireError::Trailing(bytes.len() - read));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::WriterId;

    fn write(value: Option<Value>) -> Message {
        Message::Batch {
            shard: ShardId(3),
            epoch: Epoch { generation: 1, n: 7 },
            ops: vec![(
                Token { operation: 9, attempt: 2 },
                Op::Write {
                    key: Key::new("movies", "7").unwrap(),
                    version: Version { counter: 5, writer: WriterId(6) },
                    chosen_at: Epoch::FIRST,
                    value,
                },
            )],
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        for message in [write(Some(Value::from(&b"body"[..]))), write(None), Message::GetConfigs] {
            assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }

    /// The bytes are a format: a change here is a new wire version.
    #[test]
    fn golden_bytes() {
        let hex: String = encode(&Message::Behind { shard: ShardId(3), epoch: Epoch { generation: 1, n: 7 } })
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "020300000003000000010000000700000000000000");
    }

    #[test]
    fn a_newer_neighbour_notices_what_was_damaged() {
        let frame = encode(&write(None));
        assert_eq!(outward(frame.clone(), 2), frame, "an older one gets what it knows");
        let sent = outward(frame.clone(), 3);
        assert_eq!(sent.len(), frame.len() + SUM_BYTES);
        assert_eq!(inward(sent.clone(), 3), Ok(frame.clone()));
        for place in 0..sent.len() {
            let mut damaged = sent.clone();
            damaged[place] ^= 4;
            assert!(inward(damaged, 3).is_err(), "byte {place}");
        }
        assert!(inward(sent[..SUM_BYTES - 1].to_vec(), 3).is_err());
    }

    #[test]
    fn foreign_frames_are_named() {
        assert_eq!(decode(&[9, 1, 2]), Err(WireError::Version { found: 9, supported: WIRE_VERSION }));
        let mut frame = encode(&Message::GetConfigs);
        frame.push(0);
        assert_eq!(decode(&frame), Err(WireError::Trailing(1)));
        assert!(matches!(decode(b"\x02GET / HTTP/1.1\r\n\r\n"), Err(WireError::Decode(_))));
        assert!(matches!(decode(&[]), Err(WireError::Decode(_))));
    }

    proptest! {
        /// No bytes panic, and a length that lies does not allocate.
        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = WIRE_VERSION; }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_cut_frame_is_refused(cut in 1usize..60) {
            let frame = encode(&write(Some(Value::from(&b"body"[..]))));
            prop_assume!(cut < frame.len());
            prop_assert!(decode(&frame[..frame.len() - cut]).is_err());
        }
    }
}
