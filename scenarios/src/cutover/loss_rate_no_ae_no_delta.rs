//! Scenario 11. Both defences are off and the gate is overridden, to measure what it prevents. The link to every joining
//! node loses 0.1 to 10 % of the dual-writes, at replication 1 and, all three replicas replaced, at replication 3. As many
//! documents are missing at Activate as the arithmetic says.

use miroir_sim::{Dice, Ratio};

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;
use crate::plan::{MigrationPlan, Plan, Profile, Shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/loss_rate_no_ae_no_delta",
    promise: "both defences off, the gate overridden: documents are missing as often as predicted",
    marks: &["a loss window opened at Activate", "an acked write was lost for good"],
    windows: Windows::Any,
    gate_overridden: true,
    converges: false,
    shape,
    plan,
    course: migrations,
};

/// In tenths of a percent.
const LOSSES: [u32; 6] = [1, 5, 10, 20, 50, 100];

/// Any twelve seeds in a row are every loss at both replications.
fn shape(shape: &mut Shape) {
    shape.alternates_replication = true;
    shape.nodes = Some(6);
}

/// Nothing else goes wrong, and no two writes share a frame: the loss of one says nothing about another. Nobody gets: with
/// three replicas a get that meets a write under way writes it back, to the joining ones too, which is a second chance that
/// the arithmetic knows nothing of.
fn plan(plan: &mut Plan, dice: &Dice) {
    plan.cluster.shards = 1;
    plan.cluster.anti_entropy = false;
    plan.cluster.unsafe_cutover = true;
    // Whoever left drops its copy at once: what is missing at Activate stays missing, but for what is written again.
    plan.cluster.eager_cleanup = true;
    plan.workload.exact = true;
    plan.workload.reads = Ratio::ZERO;
    plan.workload.pipelined = Ratio::ZERO;
    let placed = plan.placed(0);
    let target = (1..=plan.cluster.nodes).filter(|node| !placed.contains(node)).take(placed.len()).collect();
    let after = plan.workload.operations / 10;
    plan.migrations = vec![MigrationPlan { skip_delta: true, ..MigrationPlan::of(0, target, after) }];
    let profile = std::mem::replace(&mut plan.profile, Profile::Calm);
    plan.draw_world(dice);
    plan.profile = profile;
    let loss = LOSSES[(dice.seed().0 / 2 % 6) as usize];
    plan.lossy_links(Ratio::of(loss, 1_000));
}
