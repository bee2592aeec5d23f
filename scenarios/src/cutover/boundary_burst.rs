//! Scenario 5. Whenever a configuration is committed, a burst of writes to a few documents of the shard follows within
//! a few events: from clients that have just been started and know nothing, and from clients that slept through the
//! last commit and believe in the one before. No epoch lets a write through that the next one does not know of.

use miroir_sim::plan::When;
use miroir_sim::time::MICROS;
use miroir_sim::{Dice, Random, Stream};

use crate::audit::COMMIT;
use crate::burst::BurstPlan;
use crate::catalog::{Scenario, Windows};
use crate::cutover::{documents_of, migrations};
use crate::plan::Plan;
use crate::script::{What, Wish};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/boundary_burst",
    promise: "bursts of fresh and stale clients within a few events of every commit: no loss window",
    marks: &[
        "write in stage DualWrite",
        "write in stage Drain",
        "write in stage DeltaPass",
        "write in stage Activate",
        "write in stage Cleanup",
        "a write met a newer configuration",
        "a write met an older configuration",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.clients = Some(12),
    plan,
    course: migrations,
};

/// Clients from this number on only do bursts.
const FIRST: u32 = 9;
/// A migration commits four configurations; an abort and its retry some more.
const COMMITS: u32 = 10;

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("bursts", 0);
    let hot = documents_of(plan, 0, 6);
    for nth in 1..=COMMITS {
        for client in FIRST..=plan.workload.clients {
            let after = stream.range(0..=2_000) * MICROS;
            let at = When::Signal { name: COMMIT.to_owned(), nth, after };
            let operations = (0..stream.range(1..=3)).map(|_| wish(&hot, &mut stream)).collect();
            plan.workload.bursts.push(BurstPlan { client, at, fresh: client % 2 == 0, operations });
        }
    }
}

fn wish(hot: &[u64], stream: &mut Stream) -> Wish {
    let what = *stream.pick(&[What::Put, What::Put, What::Put, What::Delete, What::Get]);
    Wish { what, document: *stream.pick(hot) }
}
