//! What golden files hold: one of each message and of what can stand inside it, every kind of configuration, migration
//! and record.
//!
//! Others are added at the end of their list, so that what was written once stays as it was.

use std::collections::BTreeMap;

use miroir_store::config::{Cutover, Form, Replica, ShardConfig};
use miroir_store::coordinator::gate::AntiEntropy;
use miroir_store::coordinator::inspection::{CopyInspection, Inspection, MigrationInspection, NodeInspection, Pass};
use miroir_store::coordinator::records::{self, ClusterRecord, CommandLog, Record};
use miroir_store::engine::{Bucket, Mark};
use miroir_store::id::{DiskId, Epoch, MigrationId, NodeId, Session, ShardId};
use miroir_store::migration::{MigrationRecord, Reason, Stage};
use miroir_store::wire::{
    Answer, Command, CommandId, CopyState, CopyStats, Message, MigrationStatus, NameRange, NodeQuestion, NodeReply, Op,
    PageEnd, Purpose, Reply, RequestId, Selection, Shipped, StagingAction, StagingReply, Token,
};

use crate::model::{config, key, version};

/// A configuration of every kind, each of a shard of its own: the shards are numbered from 0.
pub fn configurations() -> Vec<ShardConfig> {
    let replica = |&node: &u32| Replica {
        node: NodeId(node),
        session: Session(Epoch { generation: 1, n: 10 + u64::from(node) }),
        disk: DiskId(u128::from(node) << 100 | 7),
    };
    let set = |nodes: &[u32]| -> Vec<Replica> { nodes.iter().map(replica).collect() };
    let (first, moved) = (set(&[1, 2, 3]), set(&[2, 3, 4]));
    let at = |shard: u32, form, cutover| ShardConfig {
        epoch: Epoch { generation: 2, n: 20 + u64::from(shard) },
        form,
        cutover,
        gc_barrier: Epoch { generation: 1, n: 5 + u64::from(shard) },
        ..ShardConfig::initial(ShardId(shard), 16, first.clone())
    };
    let moving = |config| ShardConfig { old: first.clone(), new: moved.clone(), ..config };
    vec![
        at(0, Form::Stable, Cutover::Delta),
        // Node 4 takes the place of node 1, which then leaves.
        moving(at(1, Form::DualWrite, Cutover::Delta)),
        moving(at(2, Form::Joint, Cutover::Delta)),
        ShardConfig { new: moved.clone(), leaving: set(&[1]), ..at(3, Form::Stable, Cutover::Delta) },
        // The same without a delta pass: the old ones stay until the cleanup gate is met.
        moving(at(4, Form::DualWrite, Cutover::Skipped)),
        moving(at(5, Form::Joint, Cutover::Skipped)),
        ShardConfig { leaving: set(&[1]), ..moving(at(6, Form::Stable, Cutover::Skipped)) },
        // Node 3 is being readmitted.
        ShardConfig { recovering: set(&[3]), ..at(7, Form::Stable, Cutover::Delta) },
        // No coordinator commits this: it tells the four sets apart.
        ShardConfig {
            old: set(&[1]),
            new: set(&[2, 3]),
            leaving: set(&[4, 5, 6]),
            recovering: set(&[7, 8, 9, 10]),
            ..at(8, Form::Joint, Cutover::Skipped)
        },
    ]
}

/// A migration in every stage, and for every reason to go back.
fn migrations() -> Vec<MigrationRecord> {
    let stages = [
        (Stage::Planned, None),
        (Stage::DualWrite, Some(Reason::CopyTimeout)),
        (Stage::Drain, Some(Reason::DrainTimeout)),
        (Stage::DeltaPass, Some(Reason::JointTimeout)),
        (Stage::Activate, None),
        (Stage::Cleanup, None),
        (Stage::Done, Some(Reason::UnsafeCutover)),
        (Stage::Aborted, Some(Reason::Operator)),
    ];
    let record = |(n, (stage, reason)): (u32, (Stage, Option<Reason>))| MigrationRecord {
        id: MigrationId(100 + u64::from(n)),
        shard: ShardId(n),
        target: vec![NodeId(2), NodeId(3), NodeId(4)],
        from: vec![NodeId(1), NodeId(2), NodeId(3)],
        cutover: if n.is_multiple_of(2) { Cutover::Delta } else { Cutover::Skipped },
        stage,
        attempt: n,
        paused: n.is_multiple_of(3),
        reason,
    };
    (0..).zip(stages).map(record).collect()
}

/// What the coordinator keeps, kind by kind.
pub fn records() -> [Vec<Record>; 4] {
    let cluster = ClusterRecord {
        cluster_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        shard_count: 16,
        replication: 3,
        nodes: (1..=4).map(|node| (NodeId(node), format!("10.0.0.{node}:7700"))).collect(),
        collections: vec!["films".to_owned(), "books".to_owned()],
        anti_entropy: AntiEntropy { enabled: true, repair: false, period: 5 },
    };
    let alone = ClusterRecord {
        nodes: BTreeMap::new(),
        collections: Vec::new(),
        anti_entropy: AntiEntropy { enabled: false, repair: true, period: 6 },
        ..cluster.clone()
    };
    // All that is remembered of commands: the other replies are given anew each time.
    let answers = [
        records::Answer { reply: Reply::Done, warning: None },
        records::Answer { reply: Reply::Planned { ids: vec![MigrationId(8), MigrationId(9)] }, warning: None },
        records::Answer { reply: Reply::Refused { code: "Busy".to_owned(), text: "later".to_owned() }, warning: None },
        records::Answer { reply: Reply::Done, warning: Some("no second defence".to_owned()) },
    ];
    // Each log of commands knows the commands before, too.
    let mut log = CommandLog::default();
    let mut logs = vec![Record::Commands(log.clone())];
    for (operator, answer) in (10..).zip(answers) {
        log = log.with(CommandId { operator, n: operator - 8 }, answer);
        logs.push(Record::Commands(log.clone()));
    }
    [
        vec![Record::Cluster(cluster), Record::Cluster(alone)],
        configurations().into_iter().map(Record::Shard).collect(),
        migrations().into_iter().map(Record::Migration).collect(),
        logs,
    ]
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

/// Messages with what `messages` leaves out: between them stands every variant that is ever written, and every
/// optional part once.
pub fn nested() -> Vec<Message> {
    let (shard, node, epoch) = (ShardId(2), NodeId(1), Epoch { generation: 1, n: 7 });
    let (request, token) = (RequestId { job: 3, n: 4 }, Token { operation: 9, attempt: 2 });
    let (command, id) = (CommandId { operator: 10, n: 1 }, MigrationId(8));
    let configs = configurations();
    let to = configs[0].new[0];
    let commands = [
        Command::Start { id },
        Command::Pause { id },
        Command::Resume { id },
        Command::Abort { id },
        Command::Status,
        Command::Plan { id, shard, target: vec![node], cutover: Cutover::Delta },
    ];
    let ship = |purpose| {
        let selection = Selection::Page { after: None, documents: 5 };
        Message::Ship { request, shard, epoch, purpose, selection, to, raise_to: 6 }
    };
    let repair = |purpose, end| {
        let documents = vec![Shipped { key: key(7), version: version(5, 6), value: None }];
        Message::Repair { request, shard, epoch, session: Session(epoch), purpose, documents, raise_to: 6, end }
    };
    let range = NameRange { from: "a\0b".to_owned(), until: None };
    let room = NodeReply::Room { node, page_bytes: 8, free_bytes: None, tombstones: vec![] };
    let replies =
        [Reply::Done, Reply::Status { ready: false, anti_entropy: true, configs: vec![], migrations: vec![] }];
    let others = [
        ship(Purpose::AntiEntropy),
        ship(Purpose::Readmission),
        repair(Purpose::AntiEntropy, None),
        repair(Purpose::Readmission, Some(PageEnd { last: None, more: false })),
        Message::Repaired { request, node, applied: 1, max_counter: 6, end: None },
        Message::Tombstones { request, shard, epoch, after: None, limit: 256 },
        Message::Scan { shard, epoch, token, range, documents: 10 },
        Message::Staged { request, node, reply: StagingReply::Manifest(None) },
        Message::NodeReply { n: 1, reply: room },
    ];
    let inspected = migrations().into_iter().map(|record| Reply::Inspected(Box::new(early(record))));
    let installs = configs.iter().map(|config| Message::Install { config: config.clone() });
    let commands = commands.into_iter().map(|asked| Message::Command { id: command, command: asked });
    let replies = replies.into_iter().chain(inspected).map(|reply| Message::Reply { id: command, reply });
    installs.chain(commands).chain(replies).chain(others).collect()
}

/// A cluster just after the coordinator's start, in which little is known beside one migration.
fn early(record: MigrationRecord) -> Inspection {
    let journey = vec![(record.stage, 7)];
    Inspection {
        cluster_id: 3,
        shard_count: 16,
        replication: 3,
        anti_entropy: AntiEntropy { enabled: false, repair: true, period: 5 },
        nodes: vec![NodeInspection {
            node: NodeId(1),
            address: "there".to_owned(),
            disk: None,
            silent_for: None,
            damaged: vec![],
        }],
        configs: vec![],
        migrations: vec![MigrationInspection {
            record,
            in_stage_for: 7,
            journey,
            installed: vec![],
            copies: vec![],
            delta_documents: None,
        }],
        passes: vec![],
    }
}
