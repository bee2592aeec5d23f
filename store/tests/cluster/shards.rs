//! Several shards: who moves when nodes join, leave or are replaced, and how much goes on at once.

use std::collections::BTreeSet;

use miroir_store::config::Cutover;
use miroir_store::coordinator::Options;
use miroir_store::id::{MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;
use miroir_store::placement::place;
use miroir_store::wire::{Command, Reply};

use crate::lab::Lab;
use crate::refusal;

const SHARDS: u32 = 12;
const REPLICATION: usize = 2;

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn holders(lab: &Lab, shard: ShardId) -> BTreeSet<NodeId> {
    lab.config(shard).new.iter().map(|replica| replica.node).collect()
}

fn all(lab: &Lab) -> Vec<(ShardId, BTreeSet<NodeId>)> {
    (0..SHARDS).map(ShardId).map(|shard| (shard, holders(lab, shard))).collect()
}

fn planned(lab: &mut Lab) -> Vec<(MigrationId, ShardId)> {
    let Reply::Status { migrations, .. } = lab.command(Command::Status) else { panic!("a status") };
    migrations.iter().map(|it| (it.id, it.shard)).collect()
}

/// Plans and carries out a rebalance. Only copies of `left` go and only copies at `joined` come; how many shards moved.
fn rebalance(lab: &mut Lab, first: u64, to: &[u32], joined: &[u32], left: &[u32]) -> usize {
    let before = all(lab);
    let (joined, left) = (nodes(joined), nodes(left));
    let command = Command::Rebalance { first: MigrationId(first), nodes: nodes(to), cutover: Cutover::Delta };
    let Reply::Planned { ids } = lab.command(command.clone()) else { panic!("a plan") };
    assert_eq!(lab.command(command), Reply::Planned { ids: ids.clone() }, "asked again, it is the same plan");
    assert_eq!(all(lab), before, "a plan moves nothing");
    for &id in &ids {
        assert_eq!(lab.command(Command::Start { id }), Reply::Done);
    }
    for &id in &ids {
        lab.until_stage(id, Stage::Done);
    }
    let mut moved = 0;
    for (shard, was) in before {
        let is = holders(lab, shard);
        assert_eq!(is, place(shard, &nodes(to), REPLICATION).into_iter().collect());
        let came: Vec<&NodeId> = is.difference(&was).collect();
        let went: Vec<&NodeId> = was.difference(&is).collect();
        // Whoever comes has joined, or stands in for one that left; whoever goes has left, or makes room for one that joined.
        assert!(
            came.iter().all(|node| joined.contains(node)) || went.iter().any(|node| left.contains(node)),
            "{shard}"
        );
        assert!(
            went.iter().all(|node| left.contains(node)) || came.iter().any(|node| joined.contains(node)),
            "{shard}"
        );
        moved += usize::from(!came.is_empty());
    }
    assert_eq!(moved, ids.len(), "one migration for each shard that moves");
    moved
}

#[test]
fn shards_follow_the_nodes_that_join_leave_and_are_replaced() {
    let mut lab = Lab::with_shards(6, REPLICATION as u32, SHARDS);
    (0..40).for_each(|n| drop(lab.put(&format!("d{n}"), "body")));
    let left = rebalance(&mut lab, 100, &[1, 2, 3, 4], &[], &[5, 6]);
    let joined = rebalance(&mut lab, 200, &[1, 2, 3, 4, 5], &[5], &[]);
    let replaced = rebalance(&mut lab, 300, &[1, 2, 3, 5, 6], &[6], &[4]);
    for moved in [left, joined, replaced] {
        assert!((1..SHARDS as usize).contains(&moved), "{left}, {joined} and {replaced} of {SHARDS} shards moved");
    }
    assert_eq!(rebalance(&mut lab, 400, &[1, 2, 3, 5, 6], &[], &[]), 0, "and nobody any more");
    assert_eq!(lab.command(Command::RemoveNode { node: NodeId(4) }), Reply::Done);
    assert!((0..40).all(|n| lab.get(&format!("d{n}")).as_deref() == Some("body")));
}

#[test]
fn a_rebalance_of_which_one_shard_cannot_move_plans_nothing() {
    let mut lab = Lab::with_shards(5, REPLICATION as u32, SHARDS);
    let to = nodes(&[1, 2, 3, 4]);
    let leaving: Vec<ShardId> =
        (0..SHARDS).map(ShardId).filter(|shard| holders(&lab, *shard).contains(&NodeId(5))).collect();
    assert!(leaving.len() > 1, "{leaving:?}");
    let busy = *leaving.last().expect("one of them");
    // Somewhere else than where hashing would have it, so that it is another plan.
    let wanted: BTreeSet<NodeId> = place(busy, &to, REPLICATION).into_iter().collect();
    let others: Vec<NodeId> = to.iter().copied().filter(|node| !wanted.contains(node)).collect();
    let plan = Command::Plan { id: MigrationId(1), shard: busy, target: others, cutover: Cutover::Delta };
    assert_eq!(lab.command(plan), Reply::Done);
    let rebalance = Command::Rebalance { first: MigrationId(100), nodes: to, cutover: Cutover::Delta };
    assert_eq!(refusal(&lab.command(rebalance.clone())), Some("Busy"));
    assert_eq!(planned(&mut lab), [(MigrationId(1), busy)], "the others were not planned either");
    assert_eq!(lab.command(Command::Abort { id: MigrationId(1) }), Reply::Done);
    let Reply::Planned { ids } = lab.command(rebalance) else { panic!("a plan") };
    assert_eq!(ids.len(), leaving.len());
}

#[test]
fn no_more_passes_of_anti_entropy_are_under_way_than_there_may_be() {
    let mut lab = Lab::with_shards(4, 3, SHARDS);
    (0..60).for_each(|n| drop(lab.put(&format!("d{n}"), "body")));
    lab.run_for(10_000);
    let passes = lab.passes();
    assert_eq!(passes.most, Options::default().anti_entropy_passes, "all shards are due at once");
    assert_eq!(passes.ended.len(), SHARDS as usize, "and each has its turn");
    assert!(passes.ended.values().all(|times| *times >= 5), "{:?}", passes.ended);
}
