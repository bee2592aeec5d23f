//! Bytes that were written once are read for ever, or refused by name. docs/formats.md draws them.
//!
//! `MIROIR_BLESS=1 cargo test -p miroir-store --test engine golden` writes the files anew; a difference is a new
//! version of the format. [`sums`] recomputes the checksums.

#![expect(clippy::disallowed_methods, reason = "golden files are files")]

mod sums;

use std::path::PathBuf;
use std::sync::Arc;

use miroir_store::config::{Cutover, ShardConfig};
use miroir_store::coordinator::gate::AntiEntropy;
use miroir_store::coordinator::inspection::{CopyInspection, Inspection, MigrationInspection, NodeInspection, Pass};
use miroir_store::engine::{Bucket, Engine, Mark, Options, Stored};
use miroir_store::error::{EngineError, WireError};
use miroir_store::id::{DiskId, Epoch, Key, MigrationId, NodeId, Session, ShardId};
use miroir_store::migration::{MigrationRecord, Reason, Stage};
use miroir_store::wire::{
    Answer, Command, CommandId, CopyState, CopyStats, Message, MigrationStatus, NameRange, NodeQuestion, NodeReply, Op,
    PageEnd, Purpose, Reply, RequestId, Selection, Shipped, StagingAction, StagingReply, Token, WIRE_VERSIONS, decode,
    encode, inward, outward,
};

use crate::disk::TestDisk;
use crate::model::{Model, config, key, version};

const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The committed bytes; what was written now, where they are to be blessed.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    if std::env::var_os("MIROIR_BLESS").is_some() {
        std::fs::write(path(name), now).expect("a golden file is written");
    }
    committed(name)
}

pub fn committed(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

fn open(disk: &TestDisk, flush_writes: usize) -> Result<Engine, EngineError> {
    let options = Options { flush_writes, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
}

/// Every document that these disks ever held.
pub fn history() -> Vec<(Key, Stored)> {
    let document = |n: u64| {
        let value = (!n.is_multiple_of(3)).then(|| vec![n as u8 + 1; 20 * n as usize].into());
        (key(n), Stored { version: version(n + 1, 5), value })
    };
    let last = (key(9), Stored { version: version(9, 5), value: Some(vec![9; 700].into()) });
    (0..6).map(document).chain([last]).collect()
}

/// Every operation that a log knows.
fn written(flush_writes: usize) -> TestDisk {
    let disk = TestDisk::default();
    let mut engine = open(&disk, flush_writes).expect("a fresh disk opens");
    engine.install(&config(S0, 3), false).expect("an install");
    engine.commit().expect("a commit");
    for (key, Stored { version, value }) in history() {
        let is_last = key == self::key(9);
        engine.put(S0, &key, version, value).expect("a put");
        if !is_last {
            engine.commit().expect("a commit");
        }
    }
    engine.forget(S0, &key(0), version(1, 5)).expect("a tombstone");
    engine.raise_counter(S0, 77).expect("a raise");
    engine.install(&config(S1, 4), true).expect("a wipe");
    engine.commit().expect("a commit");
    engine.drop_copy(S1).expect("a drop");
    engine.mark_damaged(S1).expect("a mark");
    engine.commit().expect("a commit");
    disk
}

/// A disk as the sectors of its files that are not empty.
pub fn image(disk: &TestDisk) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, len) in disk.files() {
        let bytes = disk.bytes(&name);
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
        let sectors: Vec<usize> = (0..len.div_ceil(512))
            .filter(|sector| bytes[sector * 512..].iter().take(512).any(|&byte| byte != 0))
            .collect();
        out.extend_from_slice(&(sectors.len() as u32).to_le_bytes());
        for sector in sectors {
            let end = (sector * 512 + 512).min(len);
            out.extend_from_slice(&(sector as u32).to_le_bytes());
            let mut padded = bytes[sector * 512..end].to_vec();
            padded.resize(512, 0);
            out.extend_from_slice(&padded);
        }
    }
    out
}

pub fn disk_of(mut image: &[u8]) -> TestDisk {
    fn take<'a>(image: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (head, tail) = image.split_at(len);
        *image = tail;
        head
    }
    fn number(image: &mut &[u8]) -> usize {
        u32::from_le_bytes(take(image, 4).try_into().expect("four bytes")) as usize
    }
    let disk = TestDisk::default();
    while !image.is_empty() {
        let len = number(&mut image);
        let name = String::from_utf8(take(&mut image, len).to_vec()).expect("a name");
        let len = u64::from_le_bytes(take(&mut image, 8).try_into().expect("eight bytes")) as usize;
        let mut bytes = vec![0; len.next_multiple_of(512)];
        for _ in 0..number(&mut image) {
            let sector = number(&mut image);
            bytes[sector * 512..][..512].copy_from_slice(take(&mut image, 512));
        }
        bytes.truncate(len);
        disk.put_bytes(&name, &bytes);
    }
    disk
}

#[test]
fn a_log_is_written_as_it_always_was() {
    let disk = written(512);
    assert_eq!(disk.files().len(), 1);
    let bytes = disk.bytes("log.1");
    // Behind the groups lies room for others, which is no part of the format.
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(512));
    assert!(golden("log-v2.bin", &bytes[..end]) == bytes[..end], "the log's format has changed: raise its version");
}

/// A page file need not be written byte by byte as it was, because redb lays it out; it must be read.
#[test]
fn a_disk_of_this_version_is_read() {
    let now = written(4);
    assert!(now.files().iter().any(|(name, _)| name == "pages.1"));
    let disk = disk_of(&golden("disk-v2.image", &image(&now)));
    let found = Model::of(&open(&disk, 512).expect("what was written once opens")).expect("it reads");
    assert_eq!(found, Model::of(&open(&now.restart(), 512).expect("it opens")).expect("it reads"));
}

/// Older and newer files are refused by the version they carry, and left alone.
#[test]
fn other_versions_are_refused_by_name() {
    let marked = |found: u32| {
        let disk = written(512);
        let mut bytes = disk.bytes("log.1");
        bytes[8..12].copy_from_slice(&found.to_le_bytes());
        disk.put_bytes("log.1", &bytes);
        (found, "log.1", disk)
    };
    // The rows of the first version had longer keys.
    let first = (1, "log.3", disk_of(&committed("disk-v1.image")));
    for (found, file, disk) in [0, 1, 3, u32::MAX].map(marked).into_iter().chain([first]) {
        let before = image(&disk);
        match open(&disk, 512).map(drop) {
            Err(error @ EngineError::Format { .. }) => assert_eq!(
                error.to_string(),
                format!("{file}: format version {found}, this program reads 2; use the program that wrote it")
            ),
            other => panic!("{other:?}"),
        }
        assert!(image(&disk) == before, "nothing was written");
    }
    let frame = encode(&Message::GetConfigs);
    for version in [0, 1, 3, 200] {
        let mut other = frame.clone();
        other[0] = version;
        assert_eq!(decode(&other), Err(WireError::Version { found: version, supported: 2 }));
    }
}

/// A page file of another version than its log comes from elsewhere. It is refused by its own name, and nothing that
/// was committed is changed: under the right version it can be read.
#[test]
fn page_files_of_other_versions_are_refused_by_name() {
    let disk = written(4);
    let (log, _) = disk.files().into_iter().find(|(name, _)| name.starts_with("log.")).expect("a log");
    let held = Model::of(&open(&disk.copy(), 512).expect("it opens")).expect("it reads");
    for found in [0, 1, 3, u32::MAX] {
        let disk = disk.copy();
        sums::set_page_version(&disk, &log, found);
        match open(&disk, 512).map(drop) {
            Err(error @ EngineError::Format { .. }) => assert_eq!(
                error.to_string(),
                format!("pages.1: format version {found}, this program reads 2; use the program that wrote it")
            ),
            other => panic!("{other:?}"),
        }
        sums::set_page_version(&disk, &log, 2);
        assert_eq!(Model::of(&open(&disk, 512).expect("it opens")).expect("it reads"), held);
    }
}

/// One of each message, with something in every field.
pub fn messages() -> Vec<Message> {
    let epoch = Epoch { generation: 1, n: 7 };
    let request = RequestId { job: 3, n: 4 };
    let (shard, node, token) = (ShardId(2), NodeId(1), Token { operation: 9, attempt: 2 });
    let (key, version) = (key(7), version(5, 6));
    let value = Some(b"body".to_vec().into());
    let config: ShardConfig = config(shard, 3);
    let to = config.new[0];
    let shipped = Shipped { key: key.clone(), version, value };
    let end = Some(PageEnd { last: Some(key.clone()), more: true });
    let write = |value| Op::Write { key: key.clone(), version, chosen_at: epoch, value };
    let value = shipped.value.clone();
    let id = MigrationId(8);
    let ops = vec![(token, Op::Counter), (token, Op::Read { key: key.clone() })];
    let writes = vec![(token, write(value.clone())), (token, write(None))];
    let answers = vec![
        (token, Answer::Counter(4)),
        (token, Answer::Read { version, value }),
        (token, Answer::Written),
        (token, Answer::BelowBarrier),
    ];
    let status = MigrationStatus { id, shard, stage: Stage::Drain, attempt: 2, reason: Some("late".to_owned()) };
    let target = vec![NodeId(1), NodeId(2)];
    let purpose = Purpose::Delta;
    let copy = CopyState { shard, epoch, damaged: true };
    let inspection = inspection(&config, id);
    let copies = vec![CopyStats { shard, epoch, member: true, documents: 4, max_counter: 5, damaged: false }];
    let stats = NodeReply::Stats { node, disk: DiskId(11), log_bytes: 6, unflushed: 7, copies };
    let scrubbed = NodeReply::Scrubbed { node, documents: 4, damaged: vec![shard], replaced: false, finished: true };
    let room = NodeReply::Room { node, page_bytes: 8, free_bytes: Some(9), tombstones: vec![(shard, 10)] };
    let command = CommandId { operator: 10, n: 1 };
    let configs = vec![config.clone()];
    vec![
        Message::Batch { shard, epoch, ops },
        Message::Batch { shard, epoch, ops: writes },
        Message::Answers { shard, epoch, answers },
        Message::Stale { config: config.clone() },
        Message::Behind { shard, epoch },
        Message::Unable { shard, epoch },
        Message::GetConfigs,
        Message::Configs { configs: vec![config.clone()] },
        Message::Ping { request },
        Message::Pong { request, node, disk: DiskId(11), copies: vec![copy] },
        Message::Install { config: config.clone() },
        Message::Installed { node, disk: DiskId(11), copy },
        Message::Fetch { shard },
        Message::Digest { request, shard, epoch },
        Message::Digests { request, node, buckets: vec![1, 2], documents: 12, max_counter: 3 },
        Message::List { request, shard, epoch, level: 1, buckets: vec![Bucket(300)] },
        Message::Listing { request, node, entries: vec![(key.clone(), Mark { version, sum: 13 })] },
        Message::Ship {
            request,
            shard,
            epoch,
            purpose,
            selection: Selection::Page { after: Some(key.clone()), documents: 5 },
            to,
            raise_to: 6,
        },
        Message::Ship {
            request,
            shard,
            epoch,
            purpose,
            selection: Selection::Keys(vec![key.clone()]),
            to,
            raise_to: 6,
        },
        Message::Repair {
            request,
            shard,
            epoch,
            session: Session(epoch),
            purpose: Purpose::Copy,
            documents: vec![shipped.clone()],
            raise_to: 6,
            end: end.clone(),
        },
        Message::Repaired { request, node, applied: 1, max_counter: 6, end },
        Message::Unserved { request, node, why: "no".to_owned() },
        Message::Drop { shard, epoch },
        Message::Dropped { node, shard, epoch },
        Message::Tombstones { request, shard, epoch, after: Some(key.clone()), limit: 256 },
        Message::TombstoneList { request, node, entries: vec![(key.clone(), version)], more: true },
        Message::Command { id: command, command: Command::Plan { id, shard, target, cutover: Cutover::Skipped } },
        Message::Command { id: command, command: Command::SetAntiEntropy { enabled: true } },
        Message::Command { id: command, command: Command::Reverse { id, new: MigrationId(9) } },
        Message::Command {
            id: command,
            command: Command::Rebalance { first: id, nodes: vec![node], cutover: Cutover::Delta },
        },
        Message::Command { id: command, command: Command::AddNode { node, address: "there".to_owned() } },
        Message::Reply { id: command, reply: Reply::Planned { ids: vec![id] } },
        Message::Reply { id: command, reply: Reply::Refused { code: "Busy".to_owned(), text: "later".to_owned() } },
        Message::Reply {
            id: command,
            reply: Reply::Status { ready: true, anti_entropy: false, configs: vec![config], migrations: vec![status] },
        },
        Message::Split { request, shard, epoch, level: 1, buckets: vec![Bucket(300), Bucket(4_000)] },
        Message::Sums { request, node, sums: vec![4, 5] },
        Message::Scan {
            shard,
            epoch,
            token,
            range: NameRange { from: "a\0b".to_owned(), until: Some(vec![9]) },
            documents: 10,
        },
        Message::Scanned { shard, epoch, token, documents: vec![shipped], more: true },
        Message::Forget { request, shard, epoch, tombstones: vec![(key, version)] },
        Message::Forgot { request, node, forgotten: 1 },
        Message::Stage { request, import: 7, action: StagingAction::Append { shard, offset: 5, bytes: vec![1, 2] } },
        Message::Stage { request, import: 7, action: StagingAction::Seal { manifest: vec![3] } },
        Message::Stage { request, import: 7, action: StagingAction::Manifest },
        Message::Stage { request, import: 7, action: StagingAction::Read { shard, offset: 5, limit: 9 } },
        Message::Stage { request, import: 7, action: StagingAction::Drop },
        Message::Staged { request, node, reply: StagingReply::Done },
        Message::Staged { request, node, reply: StagingReply::Manifest(Some(vec![3])) },
        Message::Staged { request, node, reply: StagingReply::Bytes(vec![1, 2]) },
        Message::Staged { request, node, reply: StagingReply::Refused("full".to_owned()) },
        Message::Rehearse { id: command, command: Command::RemoveNode { node } },
        Message::Command { id: command, command: Command::Inspect },
        Message::Command { id: command, command: Command::CompareNow },
        Message::Reply { id: command, reply: Reply::Comparing { shards: vec![shard] } },
        Message::Reply { id: command, reply: Reply::Inspected(Box::new(inspection)) },
        Message::AskNode { n: 1, question: NodeQuestion::Stats },
        Message::AskNode { n: 1, question: NodeQuestion::Scrub { documents: 9 } },
        Message::NodeReply { n: 1, reply: stats },
        Message::NodeReply { n: 1, reply: scrubbed },
        Message::Command { id: command, command: Command::RemoveNode { node } },
        Message::Command { id: command, command: Command::GiveUp { shard, copies: vec![node] } },
        Message::Promise { generation: 2 },
        Message::Promised { node, generation: 2, configs },
        Message::AskNode { n: 1, question: NodeQuestion::Room },
        Message::NodeReply { n: 1, reply: room },
        Message::Answers { shard, epoch, answers: vec![(token, Answer::TooLong { limit: 100 })] },
    ]
}

/// A cluster as an operator sees it.
fn inspection(config: &ShardConfig, id: MigrationId) -> Inspection {
    let (shard, node, epoch) = (config.shard, NodeId(2), config.epoch);
    let record = MigrationRecord {
        id,
        shard,
        target: vec![node],
        from: vec![NodeId(1)],
        cutover: Cutover::Delta,
        stage: Stage::Drain,
        attempt: 2,
        paused: true,
        reason: Some(Reason::DrainTimeout),
    };
    Inspection {
        cluster_id: 3,
        shard_count: 4,
        replication: 1,
        anti_entropy: AntiEntropy { enabled: true, repair: true, period: 5 },
        nodes: vec![NodeInspection {
            node,
            address: "there".to_owned(),
            disk: Some(DiskId(11)),
            silent_for: Some(6),
            damaged: vec![shard],
        }],
        configs: vec![config.clone()],
        migrations: vec![MigrationInspection {
            record,
            in_stage_for: 7,
            journey: vec![(Stage::DualWrite, 8), (Stage::Drain, 7)],
            installed: vec![(node, epoch)],
            copies: vec![CopyInspection { node, pages: 9, done: true }],
            delta_documents: Some(10),
        }],
        passes: vec![Pass { shard, ended_ago: 11, shipped: 12, running: false }],
    }
}

#[test]
fn frames_are_what_they_always_were() {
    for version in WIRE_VERSIONS.0..=WIRE_VERSIONS.1 {
        let frames: String = messages()
            .iter()
            .map(|message| {
                let frame = outward(encode(message), version);
                let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                let text = format!("{message:?}");
                let name = text.split([' ', '{']).next().unwrap_or_default();
                format!("{name} {hex}\n")
            })
            .collect();
        let golden = golden(&format!("frames-v{version}.txt"), frames.as_bytes());
        assert_eq!(String::from_utf8(golden).expect("text"), frames, "a changed frame is a new wire version");
        for message in messages() {
            let read = inward(outward(encode(&message), version), version).and_then(|frame| decode(&frame));
            assert_eq!(read, Ok(message));
        }
    }
}
