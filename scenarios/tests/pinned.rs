//! One pinned seed of every scenario: its plan and its verdict, as snapshots. A change here says that the same seed now
//! means another run.
#![cfg(madsim)]

use miroir_scenarios::catalog::{self, SCENARIOS};
use miroir_scenarios::plan::{Plan, Profile};
use miroir_scenarios::{canary, run};
use miroir_sim::Seed;
use miroir_sim::trace::{Mode, Trace};

const PINNED: Seed = Seed(42);

#[test]
fn plan_and_verdict_of_the_pinned_seed() {
    miroir_sim::coverage::init();
    for scenario in SCENARIOS {
        // What a scenario of volume means shows in a smaller run as well.
        let settings = catalog::seeds_at_most(scenario).map(|_| "operations=4000".to_owned());
        let settings: Vec<String> = settings.into_iter().collect();
        let plan = catalog::draw(scenario, PINNED, Profile::Usual, &settings).expect("a drawn plan is a good plan");
        let mutant = (scenario.id == canary::SCENARIO.id).then_some(canary::MUTANT);
        let outcome = run::run(scenario, &plan, mutant, Trace::new(Mode::Off), None);
        let record = &outcome.record;
        let verdict = serde_json::json!({
            "verdict": record.verdict,
            "acked": record.acked,
            "rejected": record.rejected,
            "unknown": record.unknown,
            "windows": record.windows,
            "refusals": record.refusals,
            "migrations": record.migrations,
            "marks": record.marks,
        });
        let verdict = serde_json::to_string_pretty(&verdict).expect("plain data");
        let name = scenario.id.replace('/', "__");
        insta::assert_snapshot!(name, format!("{}\n{verdict}\n", plan.to_toml()));
    }
}

#[test]
fn a_plan_survives_its_file() {
    let file = miroir_sim::profile::Profile::named("storm").expect("it comes along");
    for profile in [Profile::Storm, Profile::File(Box::new(file))] {
        for scenario in SCENARIOS {
            for seed in 0..20 {
                let plan =
                    catalog::draw(scenario, Seed(seed), profile.clone(), &[]).expect("a drawn plan is a good plan");
                let text = plan.to_toml();
                let read = Plan::read("plan.toml", &text).expect(&text);
                assert_eq!(read, plan);
            }
        }
    }
}

#[test]
fn bad_plans_are_refused_by_field() {
    let scenario = catalog::find("cutover/swarm").expect("it exists");
    let good = catalog::draw(scenario, PINNED, Profile::Calm, &[]).expect("a drawn plan is a good plan").to_toml();
    let refused = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from} is in the plan");
        Plan::read("plan.toml", &text).expect_err(to)
    };
    assert!(refused("reads = \"3/10\"", "reads = \"3/2\"").contains("3/2"));
    assert!(refused("clients = 8", "clients = 0").contains("workload.clients: 0 is outside 1 to 1000"));
    assert!(refused("clients = 8", "klients = 8").contains("klients"));
    let line = 1 + good.lines().position(|line| line.starts_with("clients")).expect("it is there");
    let error = refused("clients = 8", "clients = 0");
    assert!(error.starts_with(&format!("plan.toml, line {line}: workload.clients: 0 is outside 1 to 1000")), "{error}");
    let bundle = format!("settings = []\n[plan]\n{}", good.replace("\n[", "\n[plan.").replace("[plan.[", "[[plan."));
    let error = Plan::read("repro.toml", &bundle.replacen("clients = 8", "clients = 0", 1)).expect_err("no clients");
    assert!(error.starts_with(&format!("repro.toml, line {}: workload.clients: 0", line + 2)), "{error}");
    let error =
        catalog::draw(scenario, PINNED, Profile::Calm, &["replication=2".to_owned()]).expect_err("no such thing");
    assert_eq!(error, "`--set replication`: replication is 1 or 3; allowed: 1|3");
    let error =
        catalog::draw(scenario, PINNED, Profile::Calm, &["netwrk.loss=1/2".to_owned()]).expect_err("no such key");
    assert!(error.contains("did you mean `network.loss`?"), "{error}");
}

/// The nineteen rows of the plan, by both names.
#[test]
fn the_nineteen_have_two_names() {
    let names = [
        "with_anti_entropy",
        "skip_delta_with_ae",
        "no_ae_with_delta",
        "no_ae_no_delta_blocked",
        "boundary_burst",
        "high_volume",
        "loss_rate_no_ae_delta",
        "validation_gates",
        "tight_loop_boundary",
        "loss_rate_1m_ae_on",
        "loss_rate_no_ae_no_delta",
        "concurrent_migration_writes",
        "three_node_cluster",
        "three_node_no_ae_with_delta",
        "network_partition_new_node",
        "drain_timeout_boundary",
        "concurrent_migrations",
        "partial_shard_failure",
        "coordinator_crash_recovery",
    ];
    for name in names {
        let [one, other] = [format!("cutover/{name}"), format!("cutover_chaos_{name}")];
        let ids = [&one, &other].map(|name| catalog::find(name).map(|scenario| scenario.id));
        assert_eq!(ids, [Ok(one.as_str()), Ok(one.as_str())]);
    }
}
