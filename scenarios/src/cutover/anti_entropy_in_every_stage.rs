//! Anti-entropy passes over the shard every few milliseconds, in each stage of its migrations, which an operator holds up
//! there for a while, and clients write all the time. Repairs and client writes meet at the same documents: the greater
//! version stays, whoever brings it.

use miroir_sim::{Dice, Random};

use super::strike::{migration, target};
use crate::catalog::{Scenario, Windows};
use crate::cutover::operated;
use crate::plan::{Interference, MigrationPlan, Plan};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/anti_entropy_in_every_stage",
    promise: "anti-entropy passes in each stage of a migration, with writes: no loss window, replicas equal",
    marks: &[
        "anti-entropy passed in DualWrite",
        "anti-entropy passed in Drain",
        "anti-entropy passed in DeltaPass",
        "anti-entropy passed in Cleanup",
        "a migration was paused and went on",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |shape| shape.replication = Some(3),
    plan,
    course: operated,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("anti-entropy", 0);
    plan.cluster.anti_entropy_period_ms = stream.range(20..=50);
    let spread = plan.workload.operations / 6;
    let mut placed = plan.placed(0);
    plan.migrations.clear();
    for (n, stage) in (0..).zip(["DualWrite", "Drain", "DeltaPass"]) {
        placed = target(plan, &placed, &mut stream);
        let interference = Interference::Pause { stage: stage.to_owned(), for_ms: stream.range(60..=300) };
        let planned = migration(0, &placed, spread / 3 + spread * n);
        plan.migrations.push(MigrationPlan { interference: Some(interference), ..planned });
    }
}
