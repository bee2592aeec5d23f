use super::*;
use crate::dice::{Dice, Random, Stream};
use crate::history::{Version, parse};
use crate::seed::Seed;
use crate::time::Nanos;

/// `client op value call return` per line; `-` for null or unknown.
fn history(text: &str) -> Vec<Operation> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |at: usize| (words[at] != "-").then(|| words[at].to_owned());
        let op = match words[1] {
            "r" => Op::Read { value: value(2) },
            "w" => Op::Write { value: words[2].to_owned() },
            "d" => Op::Delete,
            "cas" => {
                let (from, to) = words[2].split_once('>').expect("from>to");
                let from = (from != "-").then(|| from.to_owned());
                Op::Cas { from, to: to.to_owned(), swapped: words.get(5) != Some(&"no") }
            }
            other => panic!("no operation {other}"),
        };
        let ret = value(4).map(|ret| ret.parse().expect("a time"));
        Operation {
            client: words[0].parse().expect("a client"),
            key: "k".into(),
            op,
            call: words[3].parse().expect("a time"),
            ret,
            outcome: if ret.is_some() { Outcome::Ok } else { Outcome::Unknown },
            version: None,
        }
    };
    text.lines().map(str::trim).filter(|text| !text.is_empty()).map(line).collect()
}

fn judgement(operations: &[Operation]) -> Judgement {
    check(operations, ModelKind::Kv, BUDGET).expect("kv admits all").judgement
}

fn violation(text: &str) -> Violation {
    match judgement(&history(text)) {
        Judgement::Violation(violation) => *violation,
        other => panic!("{other:?} for {text}"),
    }
}

#[test]
fn what_concurrency_allows_is_allowed() {
    for good in [
        "",
        "1 r - 0 1",
        "1 w a 0 10 \n 2 r - 5 6 \n 2 r a 7 8",
        "1 w a 0 10 \n 2 w b 0 10 \n 3 r b 11 12",
        "1 w a 0 - \n 2 r - 5 6 \n 2 r a 700 800",
        "1 w a 0 - \n 2 r - 5 6",
        "1 w a 0 1 \n 2 d x 2 - \n 3 r a 5 6 \n 3 r - 8 9",
        "1 w a 0 1 \n 2 cas a>b 2 3 \n 3 cas a>c 4 5 no \n 4 r b 6 7",
        "1 w a 0 5 \n 2 w b 5 9 \n 3 r a 10 11", // they touch: concurrent
    ] {
        assert_eq!(judgement(&history(good)), Judgement::Linearizable, "{good}");
    }
}

#[test]
fn what_nothing_explains_is_named() {
    let stale = violation("1 w a 0 1 \n 1 w b 2 3 \n 2 r a 4 5 \n 3 r b 6 7");
    assert_eq!(stale.stuck.to_string(), "client 2 read k -> a (4..5)");
    assert_eq!(stale.part.len(), 3, "the late read explains nothing: {stale}");
    let flicker = violation("1 w a 0 100 \n 2 r a 10 20 \n 3 r - 30 40");
    assert_eq!(flicker.stuck.client, 3);
    assert!(flicker.part[0].to_string().ends_with("unknown)"), "the write had not returned yet: {flicker}");
    let invented = violation("1 r x 0 1");
    assert!(invented.to_string().contains("key k is not linearizable: no instant fits client 1 read k -> x (0..1)"));
    violation("1 w a 0 1 \n 2 cas -0>b 2 3");
    violation("1 w a 0 - \n 2 r a 1 2 \n 3 d x 3 4 \n 4 r a 5 6");
}

#[test]
fn long_violations_are_shortened() {
    let mut operations = Vec::new();
    for n in 0..500_u64 {
        let value = format!("v{n}");
        let at = |time| Operation {
            client: 1,
            key: "k".into(),
            op: Op::Write { value: value.clone() },
            call: time,
            ret: Some(time + 5),
            outcome: Outcome::Ok,
            version: None,
        };
        operations.push(at(n * 20));
        operations.push(Operation { client: 2, op: Op::Read { value: Some(value.clone()) }, ..at(n * 20 + 10) });
    }
    operations[601].op = Op::Read { value: Some("v298".to_owned()) };
    let Judgement::Violation(found) = judgement(&operations) else { panic!("a stale read") };
    assert_eq!(found.stuck, operations[601]);
    let texts: Vec<String> = found.part.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{found}");
}

#[test]
fn models_refuse_strangers() {
    let deletes = history("1 d x 0 1");
    let error = check(&deletes, ModelKind::Register, 10).expect_err("no delete").to_string();
    assert!(error.starts_with("operation 1 (client 1 delete k (0..1)) does not belong"), "{error}");
    assert!(check(&history("1 cas a>b 0 1"), ModelKind::Register, 10).is_err());
    assert!(check(&history("1 cas a>b 0 -"), ModelKind::CasRegister, 10).is_ok());
    assert_eq!("kv".parse(), Ok(ModelKind::Kv));
    assert!("map".parse::<ModelKind>().is_err());
}

#[test]
fn a_small_budget_gives_up_and_says_so() {
    let many: String = (0..12).map(|n| format!("{n} w v{} 0 100\n", n / 2)).collect();
    let judged = check(&history(&format!("{many} 99 r v0 200 201 \n 99 r v1 202 203")), ModelKind::Kv, 50)
        .expect("kv")
        .judgement;
    assert_eq!(judged, Judgement::Undecided { key: "k".into(), states: 51 });
}

#[test]
fn versions_prove_what_they_can() {
    let lines = concat!(
        r#"{"client":1,"op":"write","key":"a","value":"x","call":0,"return":9,"outcome":"ok","version":"1:1"}"#,
        "\n",
        r#"{"client":2,"op":"write","key":"a","value":"y","call":0,"return":9,"outcome":"ok","version":"1:2"}"#,
        "\n",
        r#"{"client":3,"op":"delete","key":"a","call":20,"return":null,"outcome":"unknown","version":"2:3"}"#,
        "\n",
        r#"{"client":4,"op":"read","key":"a","value":"y","call":21,"return":22,"outcome":"ok","version":"1:2"}"#,
        "\n",
        r#"{"client":4,"op":"read","key":"a","value":null,"call":23,"return":24,"outcome":"ok","version":"2:3"}"#,
        "\n",
    );
    let by_versions = |text: &str| {
        let report = check(&parse(text).expect("a history"), ModelKind::Kv, BUDGET).expect("kv");
        (report.judgement == Judgement::Linearizable, report.by_versions == 1)
    };
    assert_eq!(by_versions(lines), (true, true));
    assert_eq!(by_versions(&lines.replace("1:2", "1:1")), (true, false), "one version, two writes: fall back");
    assert_eq!(by_versions(&lines.replacen("1:2", "0:2", 1)), (true, false), "misleading hints: fall back");
    assert_eq!(by_versions(&lines.replacen("\"value\":null", "\"value\":\"x\"", 1)), (false, false), "a lie");
    assert_eq!(by_versions(&lines.replace(",\"version\":\"2:3\"", "")), (true, false), "no hint: fall back");
}

/// By the definition: some order of some of the unknown and all of the other operations, sequentially right, in line with real time.
fn by_definition(operations: &[Operation]) -> bool {
    fn extend(operations: &[Operation], used: u32, state: &Option<String>) -> bool {
        let left = |index: &usize| used >> index & 1 == 0;
        let is_ok = |index: &usize| operations[*index].outcome == Outcome::Ok;
        if (0..operations.len()).filter(left).all(|index| !is_ok(&index)) {
            return true;
        }
        (0..operations.len()).filter(left).any(|next| {
            let overtaken = (0..operations.len())
                .filter(left)
                .filter(is_ok)
                .any(|other| other != next && operations[other].ret.is_some_and(|ret| ret < operations[next].call));
            let after = Register.step(state, &operations[next]);
            !overtaken && after.is_some_and(|after| extend(operations, used | 1 << next, &after))
        })
    }
    let kept: Vec<Operation> = operations.iter().filter(|op| op.outcome != Outcome::Rejected).cloned().collect();
    extend(&kept, 0, &None)
}

/// A few clients on one key. Results come from a real register at a random instant of each operation, with versions counted there; then, mostly,
/// some are falsified.
fn random_history(dice: &mut Stream, with_cas: bool) -> Vec<Operation> {
    let count = dice.range(1..=7);
    let mut operations: Vec<(u64, Operation)> = (0..count)
        .map(|client| {
            let call = dice.range(0..=20);
            let ret = call + dice.range(0..=9);
            let value = format!("v{}", dice.below(3));
            let op = match dice.below(if with_cas { 8 } else { 6 }) {
                0..=2 => Op::Read { value: None },
                3 | 4 => Op::Write { value },
                5 => Op::Delete,
                _ => {
                    let from = (dice.below(3) > 0).then(|| format!("v{}", dice.below(3)));
                    Op::Cas { from, to: value, swapped: false }
                }
            };
            let outcome = match dice.below(8) {
                0 | 1 => Outcome::Unknown,
                2 if dice.below(3) == 0 => Outcome::Rejected,
                _ => Outcome::Ok,
            };
            let ret = (outcome != Outcome::Unknown).then_some(ret);
            let effect = dice.range(call..=ret.unwrap_or(call + 15));
            let key = "k".into();
            (effect, Operation { client: client as u32, key, op, call, ret, outcome, version: None })
        })
        .collect();
    operations.sort_by_key(|(effect, _)| *effect);
    let mut state = None;
    let mut version = Version::default();
    for (_, operation) in &mut operations {
        if operation.outcome == Outcome::Rejected || (operation.outcome == Outcome::Unknown && dice.below(2) == 0) {
            continue;
        }
        match &mut operation.op {
            Op::Read { value } => *value = state.clone(),
            Op::Cas { from, swapped, .. } => *swapped = *from == state,
            Op::Write { .. } | Op::Delete => version.counter += 1,
        }
        let unknown = Operation { outcome: Outcome::Unknown, ..operation.clone() };
        state = Register.step(&state, &unknown).expect("an unknown operation forbids nothing");
        operation.version = (version.counter > 0).then_some(version);
    }
    if dice.below(3) > 0 {
        let victim = dice.below(count) as usize;
        match &mut operations[victim].1.op {
            Op::Read { value } => *value = (dice.below(4) > 0).then(|| format!("v{}", dice.below(3))),
            Op::Cas { swapped, .. } => *swapped = !*swapped,
            Op::Write { value } => *value = format!("v{}", dice.below(3)),
            Op::Delete => {}
        }
    }
    let mut operations: Vec<Operation> = operations.into_iter().map(|(_, operation)| operation).collect();
    dice.shuffle(&mut operations);
    operations
}

#[test]
fn agrees_with_the_definition_on_random_histories() {
    let mut dice = Dice::new(Seed(1)).stream("histories", 0);
    let (mut good, mut bad, mut proved) = (0, 0, 0);
    for round in 0..12_000 {
        let operations = random_history(&mut dice, round % 2 == 0);
        let expected = by_definition(&operations);
        let report = check(&operations, ModelKind::Kv, BUDGET).expect("kv");
        proved += report.by_versions;
        match report.judgement {
            Judgement::Linearizable => {
                assert!(expected, "round {round}: accepted what nothing explains: {operations:#?}");
                good += 1;
            }
            Judgement::Violation(violation) => {
                assert!(!expected, "round {round}: {violation} but there is an order: {operations:#?}");
                assert!(!by_definition(&violation.part), "round {round}: the part is fine by itself: {violation}");
                assert!(violation.part.contains(&violation.stuck), "round {round}: {violation}");
                bad += 1;
            }
            Judgement::Undecided { .. } => panic!("a handful of operations"),
        }
    }
    assert!(good > 4_000 && bad > 2_000 && proved > 1_000, "{good} good, {bad} bad, {proved} proved by versions");
}

#[test]
fn dozens_of_unknown_operations_are_no_obstacle() {
    let mut text = String::new();
    for n in 0..60 {
        let at = n * 100;
        text += &format!("1 w v{} {at} {}\n 2 d x {} - \n 5 w u{} {at} -\n", n % 7, at + 10, at + 11, n % 5);
        text += &format!("3 r v{} {} {} \n", n % 7, at + 20, at + 30);
        text += &format!("3 r {} {} {} \n", if n % 3 == 0 { "-" } else { "u1" }, at + 40, at + 50);
    }
    // Two writers of u1 in ten rounds are not enough for forty reads of it, so it goes wrong early and has to be shown by exhaustion.
    let Judgement::Violation(found) = judgement(&history(&text)) else { panic!("not enough writes") };
    assert!(found.stuck.to_string().contains("read k -> u1"), "{found}");
    assert_eq!(judgement(&history(&text.replace("u1", "-"))), Judgement::Linearizable);
}

#[test]
fn a_long_history_without_versions_is_searched_in_no_time() {
    let mut dice = Dice::new(Seed(2)).stream("long", 0);
    let mut state = None;
    let mut operations = Vec::new();
    for n in 0..20_000_u64 {
        let effect = n * 10;
        let (call, ret) = (effect - dice.below(60).min(effect), effect + dice.below(60));
        let op = match dice.below(3) {
            0 => Op::Write { value: format!("v{n}") },
            _ => Op::Read { value: state.clone() },
        };
        if let Op::Write { value } = &op {
            state = Some(value.clone());
        }
        let outcome = if dice.below(50) == 0 { Outcome::Unknown } else { Outcome::Ok };
        let ret = (outcome == Outcome::Ok).then_some(ret);
        operations.push(Operation { client: n as u32 % 16, key: "k".into(), op, call, ret, outcome, version: None });
    }
    let report = check(&operations, ModelKind::Kv, BUDGET).expect("kv");
    assert_eq!((report.judgement, report.by_versions), (Judgement::Linearizable, 0));
}

/// First in, first out.
struct Queue;

#[derive(Clone, Debug, PartialEq)]
enum QueueOp {
    Push(u32),
    /// What came out; none if it was empty.
    Pop(Option<u32>),
}

impl Model for Queue {
    type Op = QueueOp;
    type State = Vec<u32>;

    fn initial(&self) -> Vec<u32> {
        Vec::new()
    }

    fn step(&self, state: &Vec<u32>, operation: &Operation<QueueOp>) -> Option<Vec<u32>> {
        let mut after = state.clone();
        match operation.op {
            QueueOp::Push(number) => after.push(number),
            QueueOp::Pop(answer) => {
                let first = (!after.is_empty()).then(|| after.remove(0));
                if operation.outcome == Outcome::Ok && first != answer {
                    return None;
                }
            }
        }
        Some(after)
    }
}

#[test]
fn a_model_of_your_own_is_checked_too() {
    let operation = |client, op, call, ret: Option<Nanos>| {
        let outcome = if ret.is_some() { Outcome::Ok } else { Outcome::Unknown };
        Operation { client, key: "q".into(), op, call, ret, outcome, version: None }
    };
    let history = |last| {
        vec![
            operation(1, QueueOp::Push(1), 0, Some(10)),
            operation(2, QueueOp::Push(2), 5, Some(12)),
            operation(3, QueueOp::Pop(None), 20, None),
            operation(4, QueueOp::Pop(Some(last)), 30, Some(40)),
            operation(4, QueueOp::Push(3), 50, Some(60)),
        ]
    };
    for concurrent_or_after_a_lost_pop in [1, 2] {
        let judged = check_model(&Queue, &history(concurrent_or_after_a_lost_pop), BUDGET);
        assert_eq!(judged, Judgement::Linearizable);
    }
    let Judgement::Violation(found) = check_model(&Queue, &history(3), BUDGET) else { panic!("3 was not pushed yet") };
    assert_eq!((found.stuck.client, found.part.len()), (4, 4), "what came later explains nothing: {:?}", found.part);
}
