//! Scenario 4. Both defences off: the coordinator refuses. Planning is refused; a plan made while anti-entropy was
//! still on is refused at start; and when anti-entropy is switched off while the migration runs, Activate itself is
//! refused and the shard goes back to its old owners. `Stable(N)` is never committed.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::sometimes;
use miroir_sim::time::MILLIS;
use miroir_store::coordinator::gate::UNSAFE_CUTOVER;
use miroir_store::migration::Stage;

use crate::catalog::{Scenario, Windows};
use crate::cluster::{Cluster, Refusal};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/no_ae_no_delta_blocked",
    promise: "anti-entropy off, delta pass skipped: UnsafeCutover at plan, at start and at Activate; nothing moves",
    marks: &["refused at plan", "refused at start", "refused at Activate"],
    windows: Windows::None,
    gate_overridden: false,
    converges: false,
    shape: |_| {},
    plan: |plan, _| {
        plan.cluster.anti_entropy = false;
        plan.migrations.iter_mut().for_each(|migration| migration.skip_delta = true);
    },
    course,
};

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let mut wrong = Vec::new();
        let before = it.audit.moves_committed();
        it.until_operations(it.plan.migrations[0].after_operations).await;

        let planned = it.plan_migration(0).await;
        expect_unsafe(&planned, "plan", &mut wrong);
        sometimes!(planned.is_err(), "refused at plan");

        accept(it.set_anti_entropy(true).await, "switching anti-entropy on", &mut wrong);
        accept(it.plan_migration(0).await, "a plan with anti-entropy on", &mut wrong);
        accept(it.set_anti_entropy(false).await, "switching anti-entropy off", &mut wrong);
        let started = it.start_migration(0).await;
        expect_unsafe(&started, "start", &mut wrong);
        sometimes!(started.is_err(), "refused at start");
        if it.audit.moves_committed() != before {
            wrong.push("a configuration was committed by a refused migration".to_owned());
        }

        accept(it.set_anti_entropy(true).await, "switching anti-entropy on again", &mut wrong);
        accept(it.start_migration(0).await, "a start with anti-entropy on", &mut wrong);
        let limit = 2_000 * MILLIS;
        it.until(limit, |it| it.stage(0) >= Some(Stage::DualWrite)).await;
        if it.stage(0).is_some_and(|stage| stage < Stage::Activate) {
            accept(it.set_anti_entropy(false).await, "switching anti-entropy off under way", &mut wrong);
            let is_open = it.stage(0) < Some(Stage::Cleanup);
            it.until(4_000 * MILLIS, |it| it.stage(0) >= Some(Stage::Cleanup)).await;
            let aborted = it.audit.was_aborted_at_activate(it.id(0), UNSAFE_CUTOVER);
            if is_open && matches!(it.stage(0), Some(Stage::Cleanup | Stage::Done)) {
                wrong.push("activated without a delta pass while anti-entropy was off".to_owned());
            }
            sometimes!(aborted, "refused at Activate");
        }
        wrong
    })
}

fn accept(result: Result<(), Refusal>, what: &str, wrong: &mut Vec<String>) {
    if let Err(refusal) = result {
        wrong.push(format!("{what} was refused: {}: {}", refusal.code, refusal.text));
    }
}

fn expect_unsafe(result: &Result<(), Refusal>, what: &str, wrong: &mut Vec<String>) {
    match result {
        Err(refusal) if refusal.code == UNSAFE_CUTOVER => {}
        Err(refusal) => wrong.push(format!("{what} was refused for another reason: {}", refusal.text)),
        Ok(()) => wrong.push(format!("an unsafe {what} was accepted")),
    }
}
