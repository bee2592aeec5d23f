//! Scenario 17. Two to six shards move at once: all to one node, all from one node, each to where the next one comes
//! from, or each into the other's place. None waits for another but for its turn to copy, and none knows of another. A
//! second migration of a shard that is moving is refused.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::{Dice, Random, sometimes};
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::one_decision_each;
use crate::plan::{MigrationPlan, Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/concurrent_migrations",
    promise: "2 to 6 migrations at once, the same target, the same source, a chain, a swap: independent; a second one refused",
    marks: &[
        "moves to one node",
        "moves from one node",
        "moves in a chain",
        "moves that swap",
        "two migrations at once",
        "six migrations at once",
        "two delta passes at once",
        "a page waited for its turn",
        "a second migration of a shard was refused",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

const NODES: u32 = 6;
const PATTERNS: [&str; 4] = ["to one node", "from one node", "in a chain", "that swap"];

fn shape(shape: &mut Shape) {
    shape.nodes = Some(NODES);
}

/// Which pattern, and how many: any twenty seeds in a row are all of them.
fn case(dice: &Dice) -> (&'static str, u32) {
    let seed = dice.seed().0;
    (PATTERNS[(seed % 4) as usize], 2 + (seed / 4 % 5) as u32)
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let (pattern, count) = case(dice);
    let mut stream = dice.stream("at-once", 0);
    plan.cluster.shards = count;
    plan.timing.pages_under_way = stream.range(1..=4) as u32;
    plan.timing.page_documents = 12;
    let around = |n: u32| n % NODES + 1;
    let after = plan.workload.operations / 10;
    plan.cluster.placement.clear();
    plan.migrations.clear();
    for shard in 0..count {
        let (from, to) = match pattern {
            "to one node" => (around(shard % 5), around(5)),
            "from one node" => (around(5), around(shard % 5)),
            "in a chain" => (around(shard), around(shard + 1)),
            _ => (around(shard), around(shard ^ 1)),
        };
        let others = (0..NODES).map(|n| around(shard + n)).filter(|node| ![from, to].contains(node));
        let others: Vec<u32> = others.take(plan.cluster.replication as usize - 1).collect();
        let with = |node: u32| [vec![node], others.clone()].concat();
        plan.cluster.placement.push(with(from));
        plan.migrations.push(MigrationPlan::of(shard, with(to), after));
    }
    // The last one is refused: its shard is moving already.
    let first = &plan.migrations[0].target;
    let mut elsewhere = first.clone();
    elsewhere[0] = (1..=NODES).find(|node| !first.contains(node) && !plan.placed(0).contains(node)).expect("six nodes");
    plan.migrations.push(MigrationPlan::of(0, elsewhere, after));
    plan.draw_world(dice);
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = Vec::new();
        let (pattern, _) = case(&it.world.dice());
        it.until_operations(it.plan.migrations[0].after_operations).await;
        let last = it.plan.migrations.len() - 1;
        for n in 0..last {
            if let Err(refusal) = it.migrate(n).await {
                wrong.push(format!("migration {} was refused: {}", n + 1, refusal.text));
            }
        }
        // The first may be through before the others have been asked for.
        let still_moves = it.stage(0) < Some(Stage::Cleanup);
        match it.plan_migration(last).await {
            Err(refusal) if refusal.code == "Busy" => sometimes!("a second migration of a shard was refused"),
            Ok(()) if !still_moves => {}
            Ok(()) if it.stage(0) >= Some(Stage::Cleanup) => {}
            Ok(()) => wrong.push("a second migration of a shard that is moving was planned".to_owned()),
            Err(refusal) => wrong.push(format!("a second migration was refused as {}: {}", refusal.code, refusal.text)),
        }
        it.until_quiet().await;
        wrong.extend(one_decision_each(it));
        if it.audit.has_activated() {
            count_mark(&format!("moves {pattern}"));
            let at_once = it.audit.most_at_once();
            sometimes!(at_once == 2, "two migrations at once");
            sometimes!(at_once == 6, "six migrations at once");
        }
        sometimes!(it.audit.were_apart(Stage::DeltaPass, Stage::DeltaPass), "two delta passes at once");
        wrong
    })
}
