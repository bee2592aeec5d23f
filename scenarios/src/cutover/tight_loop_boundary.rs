//! Scenario 9. Three writes of one document, by clients that know the last configuration, none, and the one before,
//! arrive within two events of each boundary of a migration: Joint, the end of the drain, the end of the delta pass,
//! Activate. The network delays every message alike, so that the order in which they are sent is the order in which
//! they arrive; all six orders come up. Each time there is one order that everybody saw.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::coverage::count_mark;
use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::plan::When;
use miroir_sim::time::{MICROS, Nanos};
use miroir_sim::{Dice, Random};

use crate::burst::BurstPlan;
use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::{documents_of, migrations};
use crate::plan::Plan;
use crate::script::{What, Wish};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/tight_loop_boundary",
    promise: "three writes of one document in every order around Joint, drain end, delta end and Activate: linearizable",
    marks: &[
        "write within two events of Drain",
        "write within two events of DeltaPass",
        "write within two events of Activate",
        "write within two events of Cleanup",
        "order stale fresh delete",
        "order stale delete fresh",
        "order fresh stale delete",
        "order fresh delete stale",
        "order delete stale fresh",
        "order delete fresh stale",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.clients = Some(11),
    plan,
    course,
};

/// Joint is committed, the drain has ended, the delta pass has ended, Activate is committed.
const BOUNDARIES: [&str; 4] = ["Drain", "DeltaPass", "Activate", "Cleanup"];
/// The three writers: a put by one who knows the last configuration but one, a put by one who knows none, a deletion.
const WRITERS: [(&str, u32, What); 3] =
    [("stale", 9, What::Put), ("fresh", 10, What::Put), ("delete", 11, What::Delete)];
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The order of a seed's first boundary is the seed modulo six, that of each boundary after it the next one.
fn plan(plan: &mut Plan, dice: &Dice) {
    let network = &mut plan.sim.network;
    network.latency_mean_us = network.latency_min_us;
    let latency = network.latency_min_us;
    let document = documents_of(plan, 0, 1)[0];
    let mut stream = dice.stream("boundary", 0);
    for (boundary, name) in BOUNDARIES.iter().enumerate() {
        let order = ORDERS[(dice.seed().0 % 6) as usize..].iter().chain(&ORDERS).nth(boundary).expect("six and more");
        // A write asks for the greatest counter first, and who knows nothing asks for a configuration before that.
        let (start, step) = (stream.range(0..=4 * latency), stream.range(1..=latency));
        for (place, &writer) in order.iter().enumerate() {
            let (who, client, what) = WRITERS[writer];
            let fresh = who == "fresh";
            let early = if fresh { 0 } else { 2 * latency };
            let after = (start + early + step * place as u64) * MICROS;
            let at = When::Signal { name: (*name).to_owned(), nth: 1, after };
            let operations = vec![Wish { what, document }];
            plan.workload.bursts.push(BurstPlan { client, at, fresh, operations });
        }
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let from = it.world.now();
        let wrong = migrations(it).await;
        mark_orders(&it.history.operations(), from);
        wrong
    })
}

/// Reaches a mark for the order in which the three writes of a boundary took effect: the order of their versions.
fn mark_orders(history: &[Operation], from: Nanos) {
    let writes = |client: u32| {
        let mine = history.iter().filter(move |it| it.client == client && it.call >= from);
        mine.filter(|it| !matches!(it.op, Op::Read { .. }))
    };
    let mut writers = WRITERS.map(|(who, client, _)| (who, writes(client)));
    for _ in BOUNDARIES {
        let mut versions = Vec::new();
        for (who, writes) in &mut writers {
            let acked = writes.next().filter(|write| write.outcome == Outcome::Ok);
            versions.extend(acked.and_then(|write| write.version).map(|version| (version, *who)));
        }
        versions.sort_unstable();
        if let [(_, first), (_, second), (_, third)] = versions[..] {
            count_mark(&format!("order {first} {second} {third}"));
        }
    }
}
