//! Nodes, coordinator and routers as plain state machines, pumped by hand: no runtime, no simulator, no time but a
//! counter. Messages are delivered in the order in which they were sent, unless a test loses them.

#[path = "engine/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "cluster/shards.rs"]
mod shards;

use lab::{COUNTER, Lab, key};
use miroir_store::config::{Cutover, Form};
use miroir_store::coordinator::gate::UNSAFE_CUTOVER;
use miroir_store::env::{Measure, Peer};
use miroir_store::id::{MAX_VALUE_BYTES, MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;
use miroir_store::router::{Outcome, Request};
use miroir_store::wire::{Answer, Command, CommandId, MAX_FRAME_BYTES, Message, Op, Reply, encode};

const M1: MigrationId = MigrationId(1);

fn plan(target: &[u32], cutover: Cutover) -> Command {
    let target = target.iter().copied().map(NodeId).collect();
    Command::Plan { id: M1, shard: ShardId(0), target, cutover }
}

fn refusal(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Refused { code, .. } => Some(code),
        _ => None,
    }
}

#[test]
fn what_was_put_is_read_and_what_was_deleted_is_gone() {
    let mut lab = Lab::new(3, 3, true);
    assert!(matches!(lab.put("a", "one"), Outcome::Ok { .. }));
    assert_eq!(lab.get("a").as_deref(), Some("one"));
    assert!(matches!(lab.call(Request::Delete { key: key("a") }), Outcome::Ok { value: None, .. }));
    assert_eq!(lab.get("a"), None);
    assert_eq!(lab.get("never written"), None);
}

/// They once travelled in one frame, which nobody would send, again and again until they were given up.
#[test]
fn large_documents_that_are_written_and_read_at_once_fit_into_frames() {
    let mut lab = Lab::new(3, 3, false);
    lab.put("small", "one");
    let value = |n: u8| vec![n; MAX_VALUE_BYTES - usize::from(n)].into();
    for n in 0..3 {
        lab.submit(Request::Put { key: key(&n.to_string()), value: value(n) });
    }
    assert!(lab.finish_all().iter().all(|outcome| matches!(outcome, Outcome::Ok { .. })));
    for n in 0..3 {
        lab.submit(Request::Get { key: key(&n.to_string()) });
    }
    for (n, outcome) in (0..).zip(lab.finish_all()) {
        assert!(matches!(outcome, Outcome::Ok { value: Some(read), .. } if read == value(n)), "document {n}");
    }
    let longest = lab.sent.iter().map(|(_, _, message)| encode(message).len()).max();
    assert!(longest <= Some(MAX_FRAME_BYTES), "{longest:?}");
    let together = |ops: &[_]| ops.len() == 3;
    assert!(lab.sent.iter().any(|(_, _, sent)| matches!(sent, Message::Batch { ops, .. } if together(ops))));
}

/// A few bytes ask for much: one frame has room for questions after many times the memory of a node.
#[test]
fn a_node_reads_no_more_for_clients_than_it_can_hold_and_the_rest_when_asked_again() {
    let mut lab = Lab::new(1, 1, false);
    let value = |n: u8| vec![n; 12 << 20].into();
    for n in 0..6 {
        lab.call(Request::Put { key: key(&n.to_string()), value: value(n) });
    }
    lab.sent.clear();
    for n in 0..6 {
        lab.submit(Request::Get { key: key(&n.to_string()) });
    }
    for (n, outcome) in (0..).zip(lab.finish_all()) {
        assert!(matches!(outcome, Outcome::Ok { value: Some(read), .. } if read == value(n)), "document {n}");
    }
    let batches: Vec<usize> = lab.sent.iter().filter_map(|(_, _, sent)| ops_of(sent)).collect();
    assert_eq!(batches, [6, 3], "three have room at a time");
}

#[test]
fn a_full_disk_is_shown_until_there_is_room_again() {
    let mut lab = Lab::new(3, 3, false);
    let is_full = |lab: &Lab| {
        let told = lab.measures().into_iter().rev();
        told.filter_map(|it| if let Measure::DiskFull(full) = it { Some(full) } else { None }).next()
    };
    lab.put("a", "one");
    assert_eq!(is_full(&lab), None);
    lab.set_full(1, true);
    assert!(matches!(lab.put("a", &"two".repeat(100_000)), Outcome::Ok { .. }), "the others are enough");
    lab.run_for(50);
    assert_eq!(is_full(&lab), Some(true));
    let why = |it: &Measure| matches!(it, Measure::TurnedAway { why: "disk full", requests: 1.. });
    assert!(lab.measures().iter().any(why));
    lab.set_full(1, false);
    lab.put("a", "three");
    assert_eq!(is_full(&lab), Some(false));
}

fn ops_of(message: &Message) -> Option<usize> {
    match message {
        Message::Batch { ops, .. } => Some(ops.len()),
        _ => None,
    }
}

#[test]
fn what_is_larger_than_nodes_take_is_refused_once_and_for_all() {
    let mut lab = Lab::with_document_bytes(3, 3, 100);
    assert!(matches!(lab.put("a", &"x".repeat(100)), Outcome::Ok { .. }));
    assert_eq!(lab.put("a", &"x".repeat(101)), Outcome::TooLong { limit: 100 });
    assert_eq!(
        lab.count(|op| matches!(op, Op::Write { value: Some(value), .. } if value.len() > 100)),
        3,
        "asked once"
    );
    assert_eq!(lab.get("a").map(|value| value.len()), Some(100), "nothing was written");
    let longest = Request::Put { key: key("b"), value: vec![0; MAX_VALUE_BYTES + 1].into() };
    lab.sent.clear();
    assert_eq!(lab.call(longest), Outcome::TooLong { limit: MAX_VALUE_BYTES as u64 });
    assert!(lab.sent.is_empty(), "nobody takes so much");
}

/// The limit was lowered: what was acknowledged before is still read, where replicas disagree as well.
#[test]
fn what_was_written_under_a_greater_limit_stays_readable() {
    let mut lab = Lab::new(3, 3, false);
    lab.put("a", "short");
    lab.lose = Some(Box::new(|_, to, message| {
        let is_write = |op: &Op| matches!(op, Op::Write { .. });
        to == Peer::Node(NodeId(3))
            && matches!(message, Message::Batch { ops, .. } if ops.iter().any(|(_, op)| is_write(op)))
    }));
    assert!(matches!(lab.put("a", &"x".repeat(101)), Outcome::Ok { .. }));
    lab.lower_document_bytes(100);
    lab.lose = Some(Box::new(|from, _, message| from == Peer::Node(NodeId(2)) && has_read(message)));
    assert_eq!(lab.get("a").map(|value| value.len()), Some(101));
}

fn has_read(message: &Message) -> bool {
    matches!(message, Message::Answers { answers, .. } if answers.iter().any(|(_, it)| matches!(it, Answer::Read { .. })))
}

#[test]
fn a_write_that_is_retried_under_a_new_epoch_keeps_its_version() {
    let mut lab = Lab::new(4, 3, true);
    lab.put("a", "one");
    // The migration opens while the write is on its way: its first round is answered with a newer configuration.
    lab.command(plan(&[2, 3, 4], Cutover::Delta));
    lab.submit(Request::Put { key: key("a"), value: b"two"[..].into() });
    lab.command(Command::Start { id: M1 });
    let outcome = lab.finish_all().pop().expect("one operation");
    let Outcome::Ok { version, .. } = outcome else { panic!("{outcome:?}") };
    let writes = lab.sent.iter().filter_map(|(_, _, message)| match message {
        Message::Batch { epoch, ops, .. } => Some(ops.iter().map(move |(_, op)| (*epoch, op.clone()))),
        _ => None,
    });
    let versions: Vec<_> = writes
        .flatten()
        .filter_map(|(epoch, op)| match op {
            Op::Write { version, value: Some(value), .. } if &value[..] == b"two" => Some((epoch, version)),
            _ => None,
        })
        .collect();
    assert!(versions.iter().all(|(_, sent)| *sent == version), "{versions:?}");
}

#[test]
fn a_dual_write_that_was_lost_is_shipped_by_the_delta_pass() {
    ship_what_was_lost(100);
}

/// Above 1,024 documents the buckets that differ are split before they are listed. The coordinator once threw the answers
/// to that away: no shard of that size could ever be moved.
#[test]
fn the_delta_pass_of_a_larger_shard_splits_its_buckets() {
    ship_what_was_lost(1_100);
}

fn ship_what_was_lost(documents: u32) {
    let mut lab = Lab::new(2, 1, false);
    for n in 0..documents {
        lab.put(&format!("d{n}"), "first");
    }
    let from = lab.owner(ShardId(0));
    let to = if from == NodeId(1) { 2 } else { 1 };
    lab.command(plan(&[to], Cutover::Delta));
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::DualWrite);
    lab.run_for(20);
    lab.lose = Some(Box::new(move |sender, receiver, _| {
        matches!(sender, Peer::Client(_)) && receiver == Peer::Node(NodeId(to))
    }));
    let outcome = lab.put("d7", "missed");
    assert!(matches!(outcome, Outcome::Ok { .. }), "the old owner acknowledges: {outcome:?}");
    lab.lose = None;
    lab.until_stage(M1, Stage::Done);
    assert_eq!(lab.owner(ShardId(0)), NodeId(to));
    assert_eq!(lab.get("d7").as_deref(), Some("missed"));
    assert_eq!(lab.documents(from.0), 0, "the old owner has dropped its copy");
}

#[test]
fn the_gate_refuses_at_plan_at_start_and_at_activate() {
    let mut lab = Lab::new(4, 3, true);
    lab.put("a", "one");
    assert_eq!(refusal(&lab.command(Command::SetAntiEntropy { enabled: false })), None);
    assert_eq!(refusal(&lab.command(plan(&[2, 3, 4], Cutover::Skipped))), Some(UNSAFE_CUTOVER));
    lab.command(Command::SetAntiEntropy { enabled: true });
    assert_eq!(refusal(&lab.command(plan(&[2, 3, 4], Cutover::Skipped))), None);
    lab.command(Command::SetAntiEntropy { enabled: false });
    assert_eq!(refusal(&lab.command(Command::Start { id: M1 })), Some(UNSAFE_CUTOVER));
    assert_eq!(lab.config(ShardId(0)).form, Form::Stable);
    lab.command(Command::SetAntiEntropy { enabled: true });
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::DualWrite);
    let before = lab.config(ShardId(0)).old.clone();
    lab.command(Command::SetAntiEntropy { enabled: false });
    lab.until_stage(M1, Stage::Aborted);
    assert_eq!(lab.config(ShardId(0)).new, before, "back to the old owners");
}

#[test]
fn a_coordinator_that_restarts_after_any_commit_finishes_the_migration() {
    // Enumerated, not sampled: as many runs as the migration has commits, each with a restart right after one of them.
    let mut restarts = 0;
    loop {
        let mut lab = Lab::new(4, 3, true);
        for n in 0..40 {
            lab.put(&format!("d{n}"), "value");
        }
        let base = lab.commits();
        lab.restart_coordinator_after(base + restarts);
        lab.command(plan(&[2, 3, 4], Cutover::Delta));
        lab.command(Command::Start { id: M1 });
        lab.until_stage(M1, Stage::Done);
        for n in 0..40 {
            assert_eq!(lab.get(&format!("d{n}")).as_deref(), Some("value"), "restart after commit {restarts}");
        }
        if !lab.has_restarted() {
            break;
        }
        restarts += 1;
    }
    assert!(restarts >= 8, "a migration has at least eight commits, {restarts} were seen");
}

#[test]
fn a_counter_is_asked_for_before_every_write() {
    let mut lab = Lab::new(3, 3, true);
    lab.put("a", "one");
    let rounds = lab.sent.iter().filter(|(_, _, message)| matches!(message, Message::Batch { .. })).count();
    assert_eq!(rounds, 6, "three counters and three writes");
    assert_eq!(lab.count(COUNTER), 3);
}

#[test]
fn a_command_is_carried_out_once_and_not_after_a_later_one() {
    let mut lab = Lab::new(3, 3, true);
    let id = |n| CommandId { operator: 9, n };
    let off = Command::SetAntiEntropy { enabled: false };
    assert_eq!(lab.command_as(id(1), off.clone()), Reply::Done);
    assert_eq!(lab.command_as(id(2), Command::SetAntiEntropy { enabled: true }), Reply::Done);
    assert_eq!(refusal(&lab.command_as(id(1), off.clone())), Some("Late"), "a duplicate that was held back");
    // What was refused stays refused, whatever has become possible since.
    let start = Command::Start { id: M1 };
    assert_eq!(refusal(&lab.command_as(id(3), start.clone())), Some("NoSuchMigration"));
    let mut other = Lab::new(4, 3, true);
    assert_eq!(refusal(&other.command_as(id(3), start.clone())), Some("NoSuchMigration"));
    assert_eq!(other.command(plan(&[2, 3, 4], Cutover::Delta)), Reply::Done);
    assert_eq!(refusal(&other.command_as(id(3), start)), Some("NoSuchMigration"));
    let Reply::Status { anti_entropy, .. } = lab.command(Command::Status) else { panic!("a status") };
    assert!(anti_entropy);
}

#[test]
fn a_rebalance_plans_all_or_nothing_and_twice_is_once() {
    let mut lab = Lab::new(4, 3, true);
    let nodes: Vec<NodeId> = (1..=4).map(NodeId).filter(|node| *node != lab.owner(ShardId(0))).collect();
    let rebalance = Command::Rebalance { first: M1, nodes, cutover: Cutover::Delta };
    let planned = lab.command(rebalance.clone());
    assert_eq!(planned, Reply::Planned { ids: vec![M1] });
    assert_eq!(lab.command(rebalance), planned, "asked again, it is the same plan");
    let elsewhere = Command::Rebalance { first: M1, nodes: (1..=3).map(NodeId).collect(), cutover: Cutover::Skipped };
    assert!(refusal(&lab.command(elsewhere)).is_some());
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::Done);
}

#[test]
fn a_node_leaves_the_cluster_only_once_nothing_names_it() {
    let mut lab = Lab::new(4, 3, true);
    let owner = lab.owner(ShardId(0));
    assert_eq!(refusal(&lab.command(Command::RemoveNode { node: owner })), Some("HoldsShards"));
    let nodes: Vec<NodeId> = (1..=4).map(NodeId).filter(|node| *node != owner).collect();
    lab.command(Command::Rebalance { first: M1, nodes, cutover: Cutover::Delta });
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::Done);
    assert_eq!(lab.command(Command::RemoveNode { node: owner }), Reply::Done);
    assert_eq!(lab.command(Command::RemoveNode { node: owner }), Reply::Done, "asking twice is asking once");
    let back = Command::Plan { id: MigrationId(2), shard: ShardId(0), target: vec![owner], cutover: Cutover::Delta };
    assert_eq!(refusal(&lab.command(back)), Some("NoSuchNode"));
}

/// The lost coordinator has committed Activate and told nobody yet. The new one rebuilds the records; the old commit
/// arrives afterwards, at a node that would have served alone under it.
#[test]
fn what_a_lost_coordinator_had_under_way_is_not_installed_after_the_rebuild() {
    let mut lab = Lab::new(2, 1, true);
    lab.put("a", "one");
    let from = lab.owner(ShardId(0));
    let to = if from == NodeId(1) { 2 } else { 1 };
    lab.lose = Some(Box::new(|_, _, message| match message {
        Message::Install { config } => config.form == Form::Stable && config.epoch.generation == 1,
        _ => false,
    }));
    lab.command(plan(&[to], Cutover::Delta));
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::Activate);
    let activated = lab.config(ShardId(0));
    assert_eq!((activated.form, activated.new[0].node), (Form::Stable, NodeId(to)));
    lab.lose_coordinator();
    lab.lose = None;
    while lab.config(ShardId(0)).epoch.generation == 1 {
        lab.run_for(1);
    }
    lab.deliver_late(Peer::Coordinator, Peer::Node(NodeId(to)), Message::Install { config: activated });
    assert_ne!(lab.installed(to).form, Form::DualWrite);
    assert!(
        lab.installed(to).new.iter().all(|replica| replica.node != NodeId(to)) || lab.installed(to).form == Form::Joint
    );
    lab.run_for(200);
    assert_eq!(lab.owner(ShardId(0)), from, "the shard serves where it served");
    assert_eq!(lab.get("a").as_deref(), Some("one"));
}

/// A commit that one node alone has heard of does not block the shard while the coordinator is away: the others get it
/// from that node.
#[test]
fn a_node_that_is_behind_gets_the_configuration_from_another_node() {
    let mut lab = Lab::new(4, 3, true);
    lab.put("a", "one");
    lab.command(plan(
        &[1, 2, 3, 4].iter().copied().filter(|n| NodeId(*n) != lab.owner(ShardId(0))).collect::<Vec<_>>(),
        Cutover::Delta,
    ));
    lab.lose = Some(Box::new(|from, to, message| {
        let is_install = matches!(message, Message::Install { .. });
        from == Peer::Coordinator && is_install && to != Peer::Node(NodeId(2))
    }));
    lab.command(Command::Start { id: M1 });
    lab.until_stage(M1, Stage::DualWrite);
    lab.run_for(5);
    // Now the coordinator is gone altogether.
    lab.lose = Some(Box::new(|from, to, _| from == Peer::Coordinator || to == Peer::Coordinator));
    assert!(matches!(lab.put("a", "two"), Outcome::Ok { .. }));
    assert_eq!(lab.get("a").as_deref(), Some("two"));
}

#[test]
fn a_shard_that_lost_too_many_disks_comes_back_only_when_an_operator_gives_them_up() {
    let mut lab = Lab::new(4, 3, true);
    lab.put("a", "one");
    let replicas: Vec<NodeId> = lab.config(ShardId(0)).new.iter().map(|replica| replica.node).collect();
    let give_up = |copies: &[NodeId]| Command::GiveUp { shard: ShardId(0), copies: copies.to_vec() };
    assert_eq!(refusal(&lab.command(give_up(&replicas[..1]))), Some("NotLost"));
    lab.lose_disk(replicas[0].0);
    lab.lose_disk(replicas[1].0);
    lab.run_for(400);
    assert!(!matches!(lab.put("b", "two"), Outcome::Ok { .. }), "two lost disks of three: no service");
    assert_eq!(refusal(&lab.command(give_up(&replicas[..1]))), Some("NotLost"), "exactly the lost ones are named");
    assert_eq!(lab.command(give_up(&replicas[..2])), Reply::Done);
    lab.run_for(400);
    assert!(lab.config(ShardId(0)).is_at_rest());
    assert_eq!(lab.get("a").as_deref(), Some("one"), "the third copy had it");
}

#[test]
fn an_only_copy_that_is_lost_is_given_up_by_name_and_serves_again_empty() {
    let mut lab = Lab::new(2, 1, true);
    lab.put("a", "one");
    let owner = lab.owner(ShardId(0));
    lab.lose_disk(owner.0);
    lab.run_for(400);
    assert_eq!(lab.command(Command::GiveUp { shard: ShardId(0), copies: vec![owner] }), Reply::Done);
    lab.run_for(400);
    assert_eq!(lab.get("a"), None);
    assert!(matches!(lab.put("a", "two"), Outcome::Ok { .. }));
}
