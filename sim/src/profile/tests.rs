use super::*;
use crate::seed::Seed;
use crate::time::SECONDS;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn error(text: &str) -> String {
    Profile::read("mine.toml", text).expect_err(text)
}

#[test]
fn the_named_profiles_draw_good_plans() {
    for (name, _) in Profile::NAMED {
        let profile = Profile::named(name).expect(name);
        let mut faults = 0;
        for seed in 0..50 {
            let plan = profile.draw(&Dice::new(Seed(seed)), &NODES, 5 * SECONDS);
            plan.check(&NODES, 5 * SECONDS).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            assert!(plan.network.loss.ppm() <= 20_000 && plan.network.latency_min_us >= 100);
            faults += plan.faults.len();
        }
        assert_eq!(faults == 0, name == "calm", "{name}: {faults} faults");
    }
    assert_eq!(Profile::named("calm"), Some(Profile::default()), "what a file leaves out is as in `calm`");
    assert_eq!(Profile::named("wild"), None);
}

#[test]
fn a_lifted_budget_is_said_in_the_plan() {
    let text = "[faults]\nper_second = 50\nmax_ms = 900\nlifted = \"to see it break\"\nweights = { crash = 1 }";
    let plan = Profile::read("mine.toml", text).expect("good").draw(&Dice::new(Seed(1)), &NODES, 5 * SECONDS);
    assert_eq!(plan.budget, Some(Budget::Lifted("to see it break".to_owned())));
    let kept = SimPlan { budget: Some(Budget::AtMost(1)), ..plan.clone() };
    assert!(plan.check(&NODES, 5 * SECONDS).is_ok() && kept.check(&NODES, 5 * SECONDS).is_err());
}

#[test]
fn errors_name_file_line_field_and_what_is_allowed() {
    assert_eq!(
        error("[network]\nloss = [\"0/1\", \"2/1\"]"),
        "mine.toml, line 2: field `loss`: ratio 2/1 is above 1: a chance is at most 1/1"
    );
    assert!(
        error("[network]\n\nlos = 1")
            .starts_with("mine.toml, line 3: field `los`: unknown field `los`, expected one of")
    );
    assert!(
        error("[weather]")
            .starts_with("mine.toml, line 1: unknown field `weather`, expected one of `network`, `disk`, `faults`")
    );
    assert_eq!(
        error("[disk]\nsync_min_us = [9, 3]"),
        "mine.toml, line 2: disk.sync_min_us: [9, 3] runs backwards; write [low, high]"
    );
    assert!(error("[faults]\nweights = { quake = 1 }").contains("unknown variant `quake`, expected one of `crash`"));
    assert!(error("[faults]\nmin_ms = 0").starts_with("mine.toml, line 2: faults.min_ms: 0 is outside 1 to max_ms"));
    assert!(error("[faults]\nper_second = 5000").contains("above 1000"));
    assert!(error("[faults]\nhurt_at_most = 1\nlifted = \"x\"").starts_with("mine.toml, line 3: faults.lifted"));
    assert!(error("[faults]\nlifted = \" \"").contains("say why"));
    assert!(error("[network]\nloss = [\"2/100\", \"1/100\"]").contains("runs backwards"));
}
