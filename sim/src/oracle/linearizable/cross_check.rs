//! Three checkers have to agree: the search, the fast path, and a third that compares all pairs of zones. (A fourth, the definition itself, is held
//! against shorter histories in `tests`.) The zones of Gibbons and Korach ("Testing shared memories", 1997).
//!
//! If all written values differ, the operations on one value (its write and its reads) form a cluster, with two instants: `f`, the first return of any of
//! them, and `s`, the last call of any. Cluster A cannot come before cluster B if something of B ends before something of A begins, which is
//! `f(B) < s(A)`. A history is linearizable if and only if no read returns before its write is called and no two clusters can neither come before
//! the other. No search, no states; only for reads and writes of different values.

use std::collections::BTreeMap;

use super::*;
use crate::dice::{Dice, Random, Stream};
use crate::seed::Seed;
use crate::time::Nanos;

#[derive(Clone, Copy)]
struct Zone {
    write_call: i128,
    f: i128,
    s: i128,
}

fn by_zones(operations: &[Operation]) -> bool {
    let mut zones: BTreeMap<Option<&str>, Zone> = BTreeMap::new();
    zones.insert(None, Zone { write_call: -1, f: -1, s: -1 }); // the value at the start
    let times = |operation: &Operation| {
        let ret = if operation.outcome == Outcome::Ok { operation.ret } else { None };
        (i128::from(operation.call), ret.map_or(i128::MAX, i128::from))
    };
    for operation in operations {
        if let Op::Write { value } = &operation.op {
            let (call, ret) = times(operation);
            zones.insert(Some(value), Zone { write_call: call, f: ret, s: call });
        }
    }
    let mut seen = std::collections::BTreeSet::from([None]);
    for operation in operations.iter().filter(|operation| operation.outcome == Outcome::Ok) {
        if let Op::Read { value } = &operation.op {
            let (call, ret) = times(operation);
            let Some(zone) = zones.get_mut(&value.as_deref()) else { return false };
            if ret < zone.write_call {
                return false;
            }
            zone.f = zone.f.min(ret);
            zone.s = zone.s.max(call);
            seen.insert(value.as_deref());
        }
    }
    // A write of unknown outcome that nobody has read may never have happened.
    zones.retain(|value, zone| zone.f < i128::MAX || seen.contains(value));
    let zones: Vec<Zone> = zones.into_values().collect();
    let apart = |(a, b): (&Zone, &Zone)| a.s <= b.f || b.s <= a.f;
    (0..zones.len()).all(|at| zones[at + 1..].iter().all(|other| apart((&zones[at], other))))
}

/// Clients of a real register, each with one operation at a time, some of them slow; then, mostly, a read or two are falsified.
fn history(dice: &mut Stream) -> Vec<Operation> {
    let clients = dice.range(2..=6);
    let mut free_at = vec![0; clients as usize];
    let mut timed = Vec::new();
    for number in 0..dice.range(5..=50) {
        let client = dice.below(clients) as usize;
        let call = free_at[client] + dice.range(1..=6);
        let effect = call + dice.below(12);
        let ret = effect + dice.below(12);
        free_at[client] = ret;
        let op = match dice.below(2) {
            0 => Op::Read { value: None },
            _ => Op::Write { value: format!("v{number}") },
        };
        let unknown = dice.below(10) == 0;
        let (outcome, ret) = if unknown { (Outcome::Unknown, None) } else { (Outcome::Ok, Some(ret)) };
        let happens = !unknown || dice.below(2) == 0;
        timed.push((
            effect,
            happens,
            Operation { client: client as u32, key: "k".into(), op, call, ret, outcome, version: None },
        ));
    }
    timed.sort_by_key(|&(effect, _, _)| effect);
    let mut state = None;
    for (_, happens, operation) in &mut timed {
        match &mut operation.op {
            Op::Read { value } => *value = state.clone(),
            Op::Write { value } if *happens => state = Some(value.clone()),
            _ => {}
        }
    }
    let mut operations: Vec<Operation> = timed.into_iter().map(|(_, _, operation)| operation).collect();
    for _ in 0..dice.below(5) {
        let other = operations[dice.below(operations.len() as u64) as usize].op.clone();
        let victim = dice.below(operations.len() as u64) as usize;
        if let (Op::Read { value }, Op::Write { value: other }) = (&mut operations[victim].op, other) {
            *value = Some(other);
        }
    }
    operations
}

#[test]
fn two_checkers_agree_on_thousands_of_histories() {
    let mut dice = Dice::new(Seed(3)).stream("zones", 0);
    let (mut good, mut bad) = (0, 0);
    for round in 0..10_000 {
        let operations = history(&mut dice);
        let zones = by_zones(&operations);
        let relevant = relevant(&Register, &operations.iter().collect::<Vec<_>>());
        let searched = judge(&Register, &relevant, BUDGET) == Judgement::Linearizable;
        assert_eq!(searched, zones, "round {round}: the search and the zones disagree: {operations:#?}");
        match check(&operations, ModelKind::Register, BUDGET).expect("a register").judgement {
            Judgement::Linearizable => {
                assert!(zones, "round {round}: the zones object: {operations:#?}");
                good += 1;
            }
            Judgement::Violation(violation) => {
                assert!(!zones, "round {round}: the zones are fine, but {violation}: {operations:#?}");
                assert!(!by_zones(&violation.part), "round {round}: the part is fine by itself: {violation}");
                bad += 1;
            }
            Judgement::Undecided { .. } => panic!("round {round}: a few dozen operations"),
        }
    }
    assert!(good > 3_000 && bad > 1_500, "{good} good, {bad} bad");
}

/// 100,000 operations on one key, no versions, 2 % unknown; with `deletes`, values that come again as well, so that only the search can tell.
fn long(dice: &mut Stream, deletes: bool) -> Vec<Operation> {
    let mut state = None;
    let operation = |n: u64| {
        let effect = n * 10;
        let (call, ret) = (effect - dice.below(60).min(effect), effect + dice.below(60));
        let op = match dice.below(9) {
            0 if deletes => Op::Delete,
            1 if deletes => Op::Cas { from: state.clone(), to: format!("v{}", n % 1_000), swapped: true },
            0..=2 => Op::Write { value: format!("v{}", if deletes { n % 1_000 } else { n }) },
            _ => Op::Read { value: state.clone() },
        };
        let outcome = if dice.below(50) == 0 { Outcome::Unknown } else { Outcome::Ok };
        let ret = (outcome == Outcome::Ok).then_some(ret);
        let operation = Operation { client: n as u32 % 16, key: "k".into(), op, call, ret, outcome, version: None };
        state = Register.step(&state, &operation).expect("it is made to fit");
        operation
    };
    (0..100_000).map(operation).collect()
}

#[test]
fn a_hundred_thousand_operations_are_searched_and_what_nobody_wrote_is_shown_alone() {
    let mut operations = long(&mut Dice::new(Seed(5)).stream("long", 0), true);
    let judged = |operations: &[Operation]| check(operations, ModelKind::Kv, BUDGET).expect("a kv").judgement;
    assert_eq!(judged(&operations), Judgement::Linearizable);
    let is_read = |operation: &Operation| matches!(operation.op, Op::Read { .. }) && operation.outcome == Outcome::Ok;
    let victim = (90_000..).find(|&at| is_read(&operations[at])).expect("most are reads");
    operations[victim].op = Op::Read { value: Some("nobody wrote this".to_owned()) };
    let Judgement::Violation(found) = judged(&operations) else { panic!("an invented value") };
    assert_eq!((&found.stuck, found.part.len()), (&operations[victim], 1), "{found}");
}

#[test]
fn a_hundred_thousand_operations_are_judged_and_a_stale_read_among_them_is_shown_alone() {
    let mut operations = long(&mut Dice::new(Seed(4)).stream("long", 0), false);
    assert!(by_zones_fast(&operations));
    let judged =
        |operations: &[Operation]| check(operations, ModelKind::Register, BUDGET).expect("a register").judgement;
    assert_eq!(judged(&operations), Judgement::Linearizable);
    let is_read = |operation: &Operation| matches!(operation.op, Op::Read { .. }) && operation.outcome == Outcome::Ok;
    let victim = (90_000..).find(|&at| is_read(&operations[at])).expect("a third are writes");
    let old = operations[80_000..].iter().find_map(|operation| match &operation.op {
        Op::Write { value } if operation.outcome == Outcome::Ok => Some(value.clone()),
        _ => None,
    });
    operations[victim].op = Op::Read { value: old };
    let Judgement::Violation(found) = judged(&operations) else { panic!("a stale read") };
    assert_eq!(found.stuck, operations[victim]);
    assert!(found.part.len() <= 5, "{found}");
}

/// A necessary part of the zones, in `n log n`: no read before its write.
fn by_zones_fast(operations: &[Operation]) -> bool {
    let writes: BTreeMap<&str, Nanos> = operations
        .iter()
        .filter_map(|operation| match &operation.op {
            Op::Write { value } => Some((value.as_str(), operation.call)),
            _ => None,
        })
        .collect();
    operations.iter().all(|operation| match (&operation.op, operation.ret) {
        (Op::Read { value: Some(value) }, Some(ret)) => writes.get(value.as_str()).is_some_and(|&call| call <= ret),
        _ => true,
    })
}
