//! Scenario 13. Three nodes; four shards of two of them move to the third at once. One source sits behind a slow link.
//! Each shard goes its own way: the first are done while the others are still being copied, and nobody waits for anybody.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::LinkPlan;
use miroir_sim::{Dice, Random, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::migrations;
use crate::plan::{MigrationPlan, Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/three_node_cluster",
    promise: "4 shards of 2 nodes move to a third at different speeds: no loss window; a shard can be done while others copy",
    marks: MARKS,
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

pub const MARKS: &[&str] = &["delta pass shipped a missed document", "a shard was done while another was being copied"];

/// One replica per shard: with three copies on three nodes nothing can move.
pub fn shape(shape: &mut Shape) {
    shape.nodes = Some(3);
    shape.replication = Some(1);
}

pub fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("three-nodes", 0);
    plan.cluster.shards = 4;
    plan.cluster.placement = [1, 1, 2, 2].map(|source| vec![source]).into();
    let after_operations = plan.workload.operations / 10;
    let mut shards: Vec<u32> = (0..4).collect();
    stream.shuffle(&mut shards);
    let moves = shards.into_iter().map(|shard| MigrationPlan::of(shard, vec![3], after_operations));
    plan.migrations = moves.collect();
    plan.draw_world(dice);
    let slow = format!("n{}", stream.range(1..=2));
    let delay_us = stream.range(15_000..=60_000);
    plan.sim.network.links.push(LinkPlan { from: slow, to: "n3".to_owned(), delay_us, ..LinkPlan::default() });
}

pub fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = migrations(it).await;
        let apart = it.audit.were_apart(Stage::Done, Stage::DualWrite);
        sometimes!(apart, "a shard was done while another was being copied");
        wrong
    })
}
