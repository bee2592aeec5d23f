//! Cuts a violation down to what is needed to see it.
//!
//! Every step keeps the promise that what is left is wrong *because the whole is wrong*: cutting off the future (a history is linearizable only if
//! all its prefixes are), leaving out reads, and leaving out writes that no remaining operation has seen.

use super::model::Register;
use super::search::{Search, search};
use super::{Op, Operation, Outcome, observed};
use crate::time::Nanos;

/// Checks that may be spent; each is a search over what is left.
const CHECKS: usize = 400;

/// The short part, and the operation in it that fits nowhere. `operations` are known to fail, with `stuck` as the furthest failure.
pub(super) fn shorten(operations: &[Operation], stuck: usize, budget: usize) -> (Vec<Operation>, Operation) {
    let mut checks = Checks { left: CHECKS, budget };
    let mut part = shortest_prefix(operations, &mut checks);
    let mut chunk = part.len().div_ceil(2);
    while chunk > 0 && checks.left > 0 {
        let before = part.len();
        let mut start = 0;
        while start < part.len() && checks.left > 0 {
            match without(&part, start, chunk).filter(|rest| checks.fails(rest)) {
                Some(rest) => part = rest,
                None => start += chunk,
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if part.len() == before {
            break; // nothing more can go, not even alone
        }
    }
    let stuck = match search(&Register, &part, budget) {
        Search::Stuck { operation } => part[operation].clone(),
        _ => operations[stuck].clone(),
    };
    (part, stuck)
}

struct Checks {
    left: usize,
    budget: usize,
}

impl Checks {
    fn fails(&mut self, operations: &[Operation]) -> bool {
        self.left = self.left.saturating_sub(1);
        matches!(search(&Register, operations, self.budget), Search::Stuck { .. })
    }
}

/// The history up to the first instant at which it is wrong.
fn shortest_prefix(operations: &[Operation], checks: &mut Checks) -> Vec<Operation> {
    let mut returns: Vec<Nanos> = operations.iter().filter_map(|operation| operation.ret).collect();
    returns.sort_unstable();
    let (mut low, mut high) = (0, returns.len().saturating_sub(1)); // the prefix up to returns[high] fails
    while low < high {
        let middle = low + (high - low) / 2;
        if checks.fails(&prefix(operations, returns[middle])) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    match returns.get(high) {
        Some(&end) => prefix(operations, end),
        None => operations.to_vec(),
    }
}

/// What was known at `end`: later calls are gone, later returns have not happened.
fn prefix(operations: &[Operation], end: Nanos) -> Vec<Operation> {
    let called = operations.iter().filter(|operation| operation.call <= end);
    let known = called.filter_map(|operation| {
        let pending = operation.ret.is_none_or(|ret| ret > end);
        match (&operation.op, pending) {
            (Op::Read { .. }, true) => None,
            (_, true) => Some(Operation { ret: None, outcome: Outcome::Unknown, ..operation.clone() }),
            (_, false) => Some(operation.clone()),
        }
    });
    known.collect()
}

/// Leaves out what may go of `len` operations from `start`; none if nothing may.
fn without(part: &[Operation], start: usize, len: usize) -> Option<Vec<Operation>> {
    let end = (start + len).min(part.len());
    let is_read = |operation: &Operation| matches!(operation.op, Op::Read { .. });
    // Reads go first: what they have seen may then go as well.
    let inside = |index: &usize| (start..end).contains(index);
    let kept: Vec<usize> = (0..part.len()).filter(|index| !inside(index) || !is_read(&part[*index])).collect();
    let view: Vec<&Operation> = kept.iter().map(|&index| &part[index]).collect();
    let rest: Vec<Operation> = kept
        .iter()
        .filter(|&index| !inside(index) || observed(&part[*index].op, &view))
        .map(|&index| part[index].clone())
        .collect();
    (rest.len() < part.len()).then_some(rest)
}
