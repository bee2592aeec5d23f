use super::*;
use crate::time::SECONDS;

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
    (FaultEngine::new(&plan, &names).expect("a good plan"), names)
}

fn brief(steps: &[Step]) -> Vec<(String, bool)> {
    steps.iter().map(|step| (step.id.to_string(), step.begin)).collect()
}

#[test]
fn a_timed_fault_begins_and_ends() {
    let (mut engine, _) = engine();
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS));
    assert_eq!(engine.due(99 * MILLIS), vec![]);
    let begun = engine.due(101 * MILLIS);
    assert_eq!(begun[0].act, Act::Crash { process: ProcessId(0), wipe: false });
    assert_eq!((&*begun[0].text, begun[0].kind), ("crash n1 for 0.050000 s", "crash"));
    assert_eq!(engine.next_deadline(), Some(151 * MILLIS), "it lasts from when it began");
    assert_eq!(engine.due(151 * MILLIS)[0].act, Act::Release { process: ProcessId(0) });
}

#[test]
fn a_signal_counts_and_delays() {
    let (mut engine, _) = engine();
    engine.signal(MILLIS, "Delta");
    engine.signal(2 * MILLIS, "Other");
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS));
    engine.signal(3 * MILLIS, "Delta");
    assert_eq!(engine.next_deadline(), Some(3 * MILLIS + 500 * MICROS));
    let (n1, n2, n3) = (ProcessId(0), ProcessId(1), ProcessId(2));
    let links = vec![(n2, n1), (n3, n1)];
    assert_eq!(engine.due(4 * MILLIS)[0].act, Act::Cut { links: links.clone() });
    assert_eq!(engine.due(14 * MILLIS)[0].act, Act::Mend { links });
    engine.signal(5 * MILLIS, "Delta");
    assert_eq!(engine.next_deadline(), Some(100 * MILLIS), "only the second");
}

#[test]
fn an_armed_crash_counts_its_down_time_from_the_crash() {
    let (mut engine, _) = engine();
    let begun = engine.due(300 * MILLIS);
    assert_eq!(begun.last().map(|step| &step.act), Some(&Act::ArmCrash { process: ProcessId(1), after_disk_ops: 4 }));
    assert_eq!(engine.crashed_in_commit(350 * MILLIS, ProcessId(2)), Vec::<usize>::new());
    assert_eq!(engine.crashed_in_commit(360 * MILLIS, ProcessId(1)), [2]);
    assert_eq!(engine.crashed_in_commit(361 * MILLIS, ProcessId(1)), Vec::<usize>::new());
    let ended = engine.due(380 * MILLIS);
    assert_eq!(ended.last().map(|step| &step.act), Some(&Act::Release { process: ProcessId(1) }));
}

#[test]
fn healing_ends_what_is_active_and_forgets_the_rest() {
    let (mut engine, _) = engine();
    engine.due(101 * MILLIS);
    engine.due(300 * MILLIS);
    engine.due(400 * MILLIS);
    assert_eq!(brief(&engine.heal()), [("commit".to_owned(), false), ("for ever".to_owned(), false)]);
    engine.signal(SECONDS, "Delta");
    engine.signal(SECONDS, "Delta");
    assert_eq!((engine.next_deadline(), engine.due(9 * SECONDS)), (None, vec![]));
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
    assert_eq!(brief(&engine.due(SECONDS / 1000)), [("late".to_owned(), true)]);
}
