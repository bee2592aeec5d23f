//! Every scenario by its id, and what it promises.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::{Dice, Seed};

use crate::cluster::Cluster;
use crate::nearest::nearest;
use crate::plan::{Plan, Profile, Shape};
use crate::{canary, cutover, dump, settings, steady, transport};

/// What a scenario does to a running cluster.
pub type Course = for<'a> fn(&'a Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + 'a>>;

/// Which loss windows a scenario declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None of any kind: a window is a violation.
    None,
    /// Windows that open at Activate and are closed by anti-entropy. Reads inside them are excepted from linearizability.
    UntilRepair,
    /// Of any kind: what a gate that is overridden would have prevented.
    Any,
}

/// One scenario.
pub struct Scenario {
    pub id: &'static str,
    /// One line: what must hold.
    pub promise: &'static str,
    /// Marks that a sweep must reach.
    pub marks: &'static [&'static str],
    pub windows: Windows,
    /// The safety gate is overridden; globs leave it out.
    pub gate_overridden: bool,
    /// Replicas must be equal after settle. Only anti-entropy promises that.
    pub converges: bool,
    /// The shape it needs, where it needs one.
    pub shape: fn(&mut Shape),
    /// What it changes in a drawn plan.
    pub plan: fn(&mut Plan, &Dice),
    /// What happens while faults may; returns what did not go as promised, in words.
    pub course: Course,
}

/// All of them, in the order in which they are listed and swept.
pub const SCENARIOS: &[&Scenario] = &[
    &steady::smoke::SCENARIO,
    &cutover::with_anti_entropy::SCENARIO,
    &cutover::skip_delta_with_ae::SCENARIO,
    &cutover::skip_delta_eager_cleanup::SCENARIO,
    &cutover::no_ae_with_delta::SCENARIO,
    &cutover::no_ae_no_delta_blocked::SCENARIO,
    &cutover::boundary_burst::SCENARIO,
    &cutover::high_volume::SCENARIO,
    &cutover::loss_rate_no_ae_delta::SCENARIO,
    &cutover::validation_gates::SCENARIO,
    &cutover::tight_loop_boundary::SCENARIO,
    &cutover::loss_rate_1m_ae_on::SCENARIO,
    &cutover::loss_rate_no_ae_no_delta::SCENARIO,
    &cutover::concurrent_migration_writes::SCENARIO,
    &cutover::three_node_cluster::SCENARIO,
    &cutover::three_node_no_ae_with_delta::SCENARIO,
    &cutover::network_partition_new_node::SCENARIO,
    &cutover::drain_timeout_boundary::SCENARIO,
    &cutover::concurrent_migrations::SCENARIO,
    &cutover::partial_shard_failure::SCENARIO,
    &cutover::coordinator_crash_recovery::SCENARIO,
    &cutover::swarm::SCENARIO,
    &cutover::source_crash_unsynced_tail::SCENARIO,
    &cutover::target_crash_in_delta::SCENARIO,
    &cutover::delete_and_recreate::SCENARIO,
    &cutover::move_back_and_forth::SCENARIO,
    &cutover::zombie_node::SCENARIO,
    &cutover::wiped_disk::SCENARIO,
    &cutover::anti_entropy_in_every_stage::SCENARIO,
    &cutover::rollback::SCENARIO,
    &cutover::clock_chaos::SCENARIO,
    &cutover::replica_replaced::SCENARIO,
    &cutover::combinations::SCENARIO,
    &cutover::coordinator_lost::SCENARIO,
    &cutover::coordinator_succeeded::SCENARIO,
    &dump::import_during_cutover::SCENARIO,
    &dump::crash_in_import::SCENARIO,
    &transport::simulated_tcp::SCENARIO,
    &canary::SCENARIO,
];

/// Scenarios of volume, which take seconds for a seed, and how many seeds of each are enough where every scenario is run
/// over many. The tests run one seed of each; `--set operations=N` makes a run smaller.
const VOLUME: &[(&str, u64)] =
    &[("cutover/high_volume", 40), ("cutover/loss_rate_no_ae_delta", 60), ("cutover/loss_rate_1m_ae_on", 5)];

/// How many seeds of a scenario are enough; `None` for one that does not count them.
pub fn seeds_at_most(scenario: &Scenario) -> Option<u64> {
    VOLUME.iter().find(|(id, _)| *id == scenario.id).map(|(_, seeds)| *seeds)
}

/// The other names under which a scenario is accepted.
pub fn aliases(scenario: &Scenario) -> Vec<String> {
    scenario.id.strip_prefix("cutover/").map(|name| format!("cutover_chaos_{name}")).into_iter().collect()
}

/// Finds a scenario by id or alias; the error suggests the nearest.
pub fn find(name: &str) -> Result<&'static Scenario, String> {
    let found = SCENARIOS.iter().find(|s| s.id == name || aliases(s).iter().any(|alias| alias == name));
    found.copied().ok_or_else(|| {
        let ids: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
        format!(
            "there is no scenario `{name}`; did you mean `{}`? `cargo xtask scenarios` lists them",
            nearest(name, &ids)
        )
    })
}

/// The plan of a scenario's seed, with settings applied. The error is for whoever typed them.
pub fn draw(scenario: &Scenario, seed: Seed, profile: Profile, given: &[String]) -> Result<Plan, String> {
    let mut shape = Shape::default();
    (scenario.shape)(&mut shape);
    let rest = settings::shape(given, &mut shape)?;
    let mut plan = Plan::draw(scenario.id, seed, profile, &shape);
    (scenario.plan)(&mut plan, &Dice::new(seed));
    for setting in rest {
        settings::apply(&mut plan, setting)?;
    }
    plan.check()?;
    Ok(plan)
}
