//! The default: a random cluster with random faults and several migrations. No story, no mercy.

use miroir_sim::{Dice, Random, Ratio};

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;
use crate::plan::{MigrationPlan, Plan};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/swarm",
    promise: "whatever happens, nothing acked is lost and every document is linearizable",
    marks: &["delta pass shipped a missed document", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: migrations,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("swarm", 0);
    plan.cluster.shards = stream.range(1..=4) as u32;
    let count = stream.range(1..=3) as u32;
    plan.migrations = (0..count).map(|n| migration(plan, n, &mut stream)).collect();
    plan.workload.pipelined = *stream.pick(&[Ratio::ZERO, Ratio::of(1, 5), Ratio::of(1, 2)]);
    plan.workload.deletes = *stream.pick(&[Ratio::of(1, 20), Ratio::of(1, 10), Ratio::of(3, 10)]);
    plan.draw_world(dice);
}

/// A random shard to random nodes; often the same shard again, often back to where it was.
fn migration(plan: &Plan, n: u32, stream: &mut impl Random) -> MigrationPlan {
    let shard = stream.below(u64::from(plan.cluster.shards.min(2))) as u32;
    let mut nodes: Vec<u32> = (1..=plan.cluster.nodes).collect();
    for last in (1..nodes.len()).rev() {
        nodes.swap(last, stream.below(last as u64 + 1) as usize);
    }
    nodes.truncate(plan.cluster.replication as usize);
    let spread = plan.workload.operations / 4;
    MigrationPlan { shard, target: nodes, skip_delta: false, after_operations: spread * n + spread / 3, after_us: 0 }
}
