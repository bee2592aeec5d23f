//! Every clock is wrong, and each in its own way: they run fast and slow, jump ahead by seconds and are set back again in
//! the middle of a migration. Clocks decide when to ask again and when to give up. They decide nothing else, so no
//! verdict depends on them.

use miroir_sim::plan::FaultKind;
use miroir_sim::{Dice, Random};

use super::strike::{STAGES, at_stage};
use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;
use crate::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/clock_chaos",
    promise: "skew, drift and jumps on every clock: no effect on any verdict",
    marks: &["a migration ended while faults could happen", "delta pass shipped a missed document"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course: migrations,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("clock-chaos", 0);
    for process in plan.process_names().into_iter().filter(|name| name != "operator") {
        let stages = ["chaos", *stream.pick(&STAGES), *stream.pick(&STAGES)];
        for (n, stage) in stages.into_iter().enumerate() {
            let ms = |n: u64| i64::try_from(n).expect("a few seconds");
            let kind = FaultKind::Clock {
                process: process.clone(),
                jump_ms: ms(stream.range(0..=6_000)) - 3_000,
                drift_ppm: ms(stream.range(0..=400_000)) - 200_000,
                for_ms: stream.range(20..=1_500),
            };
            let id = format!("clock-{process}-{n}");
            plan.sim.faults.push(at_stage(&id, stage, 1, stream.range(0..=30_000), kind));
        }
    }
}
