use super::*;
use crate::seed::Seed;
use crate::time::{MICROS, SECONDS};

const PLAN: &str = r#"
    [[faults]]
    id = "crash"
    at = { ms = 100 }
    kind = { crash = { process = "n1", down_ms = 50 } }
    [[faults]]
    id = "cut"
    at = { signal = "Delta", nth = 2, after_us = 500 }
    kind = { partition = { a = ["n1"], b = ["n2", "n3"], direction = "b_to_a", for_ms = 10 } }
    [[faults]]
    id = "commit"
    at = { ms = 300 }
    kind = { crash_in_commit = { process = "n2", after_disk_ops = 4, down_ms = 20 } }
    [[faults]]
    id = "for ever"
    at = { ms = 400 }
    kind = { pause = { process = "n3", for_ms = 0 } }
"#;

fn engine() -> (FaultEngine, Names) {
    let names = Names::default();
    for name in ["n1", "n2", "n3"] {
        names.register(name);
    }
    let plan = SimPlan::from_toml(PLAN).expect("a plan");
    (FaultEngine::new(&plan, &names, Dice::new(Seed(1))).expect("a good plan"), names)
}

fn brief(steps: &[Step]) -> Vec<(String, bool)> {
    steps.iter().map(|step| (step.id.to_string(), step.moment == Moment::Begins)).collect()
}

#[test]
fn a_timed_fault_begins_and_ends() {
    let (mut engine, names) = engine();
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS));
    assert_eq!(engine.due(99 * MILLIS, &names), vec![]);
    let begun = engine.due(101 * MILLIS, &names);
    assert_eq!(begun[0].act, Act::Crash { process: ProcessId(0), wipe: false });
    assert_eq!((&*begun[0].text, begun[0].kind), ("crash n1 for 0.050000 s", "crash"));
    assert_eq!(engine.next_deadline(), Some(151 * MILLIS), "it lasts from when it began");
    assert_eq!(engine.due(151 * MILLIS, &names)[0].act, Act::Release { process: ProcessId(0) });
}

#[test]
fn a_signal_counts_and_delays() {
    let (mut engine, names) = engine();
    engine.signal(MILLIS, "Delta");
    engine.signal(2 * MILLIS, "Other");
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS));
    engine.signal(3 * MILLIS, "Delta");
    assert_eq!(engine.next_deadline(), Some(3 * MILLIS + 500 * MICROS));
    let (n1, n2, n3) = (ProcessId(0), ProcessId(1), ProcessId(2));
    let links = vec![(n2, n1), (n3, n1)];
    assert_eq!(engine.due(4 * MILLIS, &names)[0].act, Act::Cut { links: links.clone() });
    assert_eq!(engine.due(14 * MILLIS, &names)[0].act, Act::Mend { links });
    engine.signal(5 * MILLIS, "Delta");
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS), "only the second");
}

#[test]
fn an_armed_crash_counts_its_down_time_from_the_crash() {
    let (mut engine, names) = engine();
    let begun = engine.due(300 * MILLIS, &names);
    assert_eq!(begun.last().map(|step| &step.act), Some(&Act::ArmCrash { process: ProcessId(1), after_disk_ops: 4 }));
    assert_eq!(engine.crashed_in_commit(350 * MILLIS, ProcessId(2)), vec![]);
    assert_eq!(engine.crashed_in_commit(360 * MILLIS, ProcessId(1)).len(), 1);
    assert_eq!(engine.crashed_in_commit(361 * MILLIS, ProcessId(1)), vec![]);
    let ended = engine.due(380 * MILLIS, &names);
    assert_eq!(ended.last().map(|step| &step.act), Some(&Act::Release { process: ProcessId(1) }));
}

#[test]
fn healing_ends_what_is_active_and_forgets_the_rest() {
    let (mut engine, names) = engine();
    engine.due(101 * MILLIS, &names);
    engine.due(300 * MILLIS, &names);
    engine.due(400 * MILLIS, &names);
    assert_eq!(brief(&engine.heal()), [("commit".to_owned(), false), ("for ever".to_owned(), false)]);
    engine.signal(SECONDS, "Delta");
    engine.signal(SECONDS, "Delta");
    assert_eq!((engine.next_deadline(), engine.due(9 * SECONDS, &names)), (None, vec![]));
}

#[test]
fn injected_faults_are_checked_and_join_in() {
    let (mut engine, names) = engine();
    let mut fault =
        Fault { id: "late".to_owned(), at: When::Time(0), kind: FaultKind::FailSync { process: "n9".to_owned() } };
    let error = engine.inject(&fault, &names).expect_err("nobody is n9").to_string();
    assert!(error.contains("`late`") && error.contains("n9"), "{error}");
    fault.kind = FaultKind::FailSync { process: "n3".to_owned() };
    engine.inject(&fault, &names).expect("a good fault");
    assert_eq!(brief(&engine.due(SECONDS / 1000, &names)), [("late".to_owned(), true)]);
}

/// The steps of one fault over `until`, as (time in ms, moment).
fn course(toml: &str, until_ms: u64) -> Vec<(u64, Moment, Act)> {
    let names = Names::default();
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        names.register(name);
    }
    let plan = SimPlan::from_toml(&format!("[[faults]]\nid = \"f\"\n{toml}")).expect("a plan");
    let mut engine = FaultEngine::new(&plan, &names, Dice::new(Seed(1))).expect("a good plan");
    let at = |ms: u64, engine: &mut FaultEngine| {
        engine.due(ms * MILLIS, &names).into_iter().map(move |step| (ms, step.moment, step.act)).collect::<Vec<_>>()
    };
    (0..=until_ms).flat_map(|ms| at(ms, &mut engine)).collect()
}

#[test]
fn a_periodic_fault_comes_again_until_it_does_not() {
    let steps = course(
        "at = { every_ms = 100, from_ms = 50, until_ms = 300 }\nkind = { pause = { process = \"n1\", for_ms = 20 } }",
        500,
    );
    let times: Vec<(u64, Moment)> = steps.iter().map(|&(ms, moment, _)| (ms, moment)).collect();
    let pair = |ms| [(ms, Moment::Begins), (ms + 20, Moment::Ends)];
    assert_eq!(times, [50, 150, 250].map(pair).concat());
}

#[test]
fn a_flapping_partition_opens_and_shuts() {
    let cut = "kind = { partition = { a = [\"n1\"], b = [\"n2\"], flap_ms = 10, for_ms = 35 } }";
    let steps = course(&format!("at = {{ ms = 100 }}\n{cut}"), 300);
    let times: Vec<(u64, bool)> = steps.iter().map(|(ms, _, act)| (*ms, matches!(act, Act::Cut { .. }))).collect();
    assert_eq!(times, [(100, true), (110, false), (120, true), (130, false), (135, false)]);
    assert_eq!(steps[4].2, Act::Nothing, "it is open already");
    let shut = course(&format!("at = {{ ms = 100 }}\n{}", cut.replace("35", "25")), 300);
    assert!(matches!(shut.last(), Some((125, Moment::Ends, Act::Mend { .. }))), "{shut:?}");
}

#[test]
fn a_mark_sets_a_fault_in_motion_once() {
    let names = Names::default();
    names.register("n1");
    let text =
        "[[faults]]\nid = \"f\"\nat = { mark = \"m\", after_us = 5 }\nkind = { fail_sync = { process = \"n1\" } }";
    let plan = SimPlan::from_toml(text).expect("a plan");
    let mut engine = FaultEngine::new(&plan, &names, Dice::new(Seed(1))).expect("a good plan");
    assert!(plan.faults[0].waits_for_mark());
    engine.mark(MILLIS, "another");
    assert_eq!(engine.next_deadline(), None);
    engine.mark(MILLIS, "m");
    assert_eq!(brief(&engine.due(MILLIS + 5 * MICROS, &names)), [("f".to_owned(), true)]);
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn splits_are_drawn_in_their_shape_anew_each_time() {
    for (shape, sizes) in
        [("isolate", 1..=1), ("halves", 2..=3), ("random", 1..=4), ("one_way", 1..=1), ("flapping", 1..=1)]
    {
        let steps = course(
            &format!(
                "at = {{ every_ms = 10, from_ms = 0, until_ms = 400 }}\n\
                 kind = {{ split = {{ among = [\"n1\", \"n2\", \"n3\", \"n4\", \"n5\"], shape = \"{shape}\", for_ms = 5 }} }}"
            ),
            400,
        );
        let mut seen = BTreeSet::new();
        for (_, _, act) in steps.iter().filter(|(_, moment, _)| *moment == Moment::Begins) {
            let Act::Cut { links } = act else { panic!("{act:?}") };
            let a: BTreeSet<ProcessId> = links.iter().map(|&(from, _)| from).collect();
            let b: BTreeSet<ProcessId> = links.iter().map(|&(_, to)| to).collect();
            let smaller = links.iter().filter(|(from, _)| *from == links[0].0).count();
            let side = if shape == "one_way" { a.len().min(b.len()) } else { links.len() / 2 / smaller };
            assert!(sizes.contains(&side) || sizes.contains(&(5 - side)), "{shape}: {links:?}");
            assert_eq!(a == b, shape != "one_way", "{shape}: both ways");
            seen.insert(links.clone());
        }
        assert!(seen.len() > 4, "{shape}: {} different ones", seen.len());
    }
}
