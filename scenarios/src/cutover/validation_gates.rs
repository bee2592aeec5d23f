//! Scenario 8. The whole truth table of the safety gate: delta pass, anti-entropy, repair, cleanup, replication, and whether
//! anti-entropy gets through. One function decides. What it allows never loses an acked write for good; what it refuses
//! would. Every run checks every row against the arithmetic, and lives through one.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::{Direction, Fault, FaultKind, When};
use miroir_sim::{Dice, Random, Ratio, Seed, sometimes};
use miroir_store::config::Cutover;
use miroir_store::coordinator::gate::{AntiEntropy, Cleanup, UNSAFE_CUTOVER, Verdict, judge};

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::cutover::migrations;
use crate::plan::{Plan, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/validation_gates",
    promise: "the truth table of the safety gate: what is allowed never loses an acked write for good",
    marks: &[
        "refused without anti-entropy",
        "refused as anti-entropy does not repair",
        "refused as copies are dropped at once",
        "allowed with its delta pass alone",
        "allowed without its delta pass",
        "old and new owners were apart after Activate",
        "a loss window opened at Activate",
    ],
    windows: Windows::UntilRepair,
    gate_overridden: false,
    converges: true,
    shape,
    plan,
    course,
};

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    delta: bool,
    anti_entropy: bool,
    repairs: bool,
    drops_at_once: bool,
    reachable: bool,
    replication: u32,
}

/// What comes of a cutover by the arithmetic of loss windows, if it is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Nothing,
    /// Until anti-entropy has got through and repaired it.
    ForAWhile,
    /// At replication 3 only if two of the new replicas missed it, which is rarer and no better.
    ForGood,
}

impl Row {
    /// Replication 1 and 3 take turns; any 64 seeds in a row are all rows, and the first few one of each kind.
    fn of(seed: Seed) -> Row {
        let bits = (seed.0 / 2 % 32 * 29 + 30) % 32;
        let is = |bit: u64| bits >> bit & 1 == 1;
        Row {
            delta: is(0),
            anti_entropy: is(1),
            repairs: is(2),
            drops_at_once: is(3),
            reachable: is(4),
            replication: if seed.0.is_multiple_of(2) { 1 } else { 3 },
        }
    }

    fn predicted(self) -> Lost {
        match self {
            Row { delta: true, .. } => Lost::Nothing,
            Row { anti_entropy: true, repairs: true, drops_at_once: false, .. } => Lost::ForAWhile,
            _ => Lost::ForGood,
        }
    }

    fn verdict(self) -> Verdict {
        let anti_entropy = AntiEntropy { enabled: self.anti_entropy, repair: self.repairs, period: 1 };
        let cutover = if self.delta { Cutover::Delta } else { Cutover::Skipped };
        let cleanup = if self.drops_at_once { Cleanup::Eager } else { Cleanup::Gated };
        judge(&anti_entropy, cutover, cleanup)
    }

    /// Why it is refused, if it is.
    fn mark_refusal(self) {
        sometimes!(!self.anti_entropy, "refused without anti-entropy");
        sometimes!(self.anti_entropy && !self.repairs, "refused as anti-entropy does not repair");
        sometimes!(self.anti_entropy && self.repairs, "refused as copies are dropped at once");
    }
}

fn shape(shape: &mut Shape) {
    shape.alternates_replication = true;
}

fn plan(plan: &mut Plan, dice: &Dice) {
    let row = Row::of(dice.seed());
    plan.cluster.anti_entropy = row.anti_entropy;
    plan.cluster.reports_only = !row.repairs;
    plan.cluster.eager_cleanup = row.drops_at_once;
    plan.migrations[0].skip_delta = !row.delta;
    plan.lossy_links(Ratio::of(1, 5));
    if !row.reachable {
        let placed = plan.placed(0);
        let target = &plan.migrations[0].target;
        let names = |of: &[u32], but: &[u32]| {
            of.iter().filter(|node| !but.contains(node)).map(|node| format!("n{node}")).collect()
        };
        let kind = FaultKind::Partition {
            a: names(&placed, target),
            b: names(target, &placed),
            direction: Direction::Both,
            flap_ms: 0,
            for_ms: dice.stream("apart", 0).range(300..=900),
        };
        plan.sim.faults.push(Fault { id: "apart".to_owned(), at: When::signal("Cleanup"), kind });
    }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = Vec::new();
        for row in (0..64).map(|seed| Row::of(Seed(seed))) {
            if (row.verdict() == Verdict::Refused) != (row.predicted() == Lost::ForGood) {
                wrong.push(format!("the gate says {:?} to {row:?}, which loses {:?}", row.verdict(), row.predicted()));
            }
        }
        let row = Row::of(it.plan.seed());
        if row.verdict() != Verdict::Refused {
            wrong.extend(migrations(it).await);
            let activated = it.audit.has_activated();
            sometimes!(activated && row.delta && !row.anti_entropy, "allowed with its delta pass alone");
            sometimes!(activated && !row.delta, "allowed without its delta pass");
            sometimes!(activated && !row.delta && !row.reachable, "old and new owners were apart after Activate");
            return wrong;
        }
        let before = it.audit.moves_committed();
        it.until_operations(it.plan.migrations[0].after_operations).await;
        match it.plan_migration(0).await {
            Err(refusal) if refusal.code == UNSAFE_CUTOVER => row.mark_refusal(),
            Err(refusal) => wrong.push(format!("{row:?} was refused as {}: {}", refusal.code, refusal.text)),
            Ok(()) => wrong.push(format!("{row:?} was planned, and loses acked writes for good")),
        }
        if it.audit.moves_committed() != before {
            wrong.push("a configuration was committed by a migration that was refused".to_owned());
        }
        it.until_quiet().await;
        wrong
    })
}
