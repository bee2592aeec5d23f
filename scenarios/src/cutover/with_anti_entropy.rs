//! Scenario 1. The link to the joining node loses some of the clients' writes after their pages were copied. The
//! delta pass finds what is missing and ships it before the cutover; nobody ever reads an old value, and as long as no
//! node dies, stands still or is cut off, writes go on all the while.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::oracle::progress::Access;
use miroir_sim::time::{MILLIS, Nanos};
use miroir_sim::{Dice, Random, Ratio, sometimes};

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::{lose_dual_writes, migrations};
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/with_anti_entropy",
    promise: "anti-entropy on, delta pass on, dual-writes lost: no loss window; without other faults no pause in writes",
    marks: &[
        "delta pass shipped a missed document",
        "a migration ended while faults could happen",
        "nothing but dual-writes was lost while a shard moved",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.draws_clients = true,
    plan,
    course,
};

/// One run in twenty has no other faults, however rough its profile.
fn plan(plan: &mut Plan, dice: &Dice) {
    lose_dual_writes(plan, dice);
    if dice.stream("peace", 0).chance(Ratio::of(1, 20)) {
        plan.sim.faults.clear();
    }
}

/// Clients ask again after 30 ms. A message and its repetition may be lost, and each may take its time.
const PAUSE: Nanos = 100 * MILLIS;

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = migrations(it).await;
        if !it.plan.sim.faults.is_empty() {
            return wrong;
        }
        sometimes!(it.audit.has_activated(), "nothing but dual-writes was lost while a shard moved");
        for shard in 0..it.plan.cluster.shards {
            if let Some((_, gap)) = it.audit.progress().longest(shard, Access::Write).filter(|(_, gap)| *gap > PAUSE) {
                wrong.push(format!("no write to shard {shard} was acknowledged for {} ms", gap / MILLIS));
            }
        }
        wrong
    })
}
