//! Scenario 7. Fifty thousand writes, nobody runs anti-entropy, and the delta pass alone stands between a lossy link and
//! lost documents. The rate of loss is nought; how near to nought it is known to be grows with the seeds.

use miroir_sim::Ratio;

use crate::catalog::{Scenario, Windows};
use crate::cutover::high_volume::volume;
use crate::cutover::migrations;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/loss_rate_no_ae_delta",
    promise: "50,000 writes, anti-entropy off, delta pass on: not one loss window",
    marks: &["delta pass shipped a missed document", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: false,
    shape: |_| {},
    plan: |plan, dice| {
        volume(plan, dice, 56_000);
        plan.workload.exact = false;
        plan.lossy_links(Ratio::of(1, 100));
        plan.cluster.anti_entropy = false;
    },
    course: migrations,
};
