//! Cuts a violation down to what is needed to see it.
//!
//! Every step keeps the promise that what is left is wrong *because the whole is wrong*: cutting off the future (a history is linearizable only if
//! all its prefixes are), and leaving out what the model says [explains nothing](Model::dispensable).

use super::model::Model;
use super::search::{Search, search};
use super::{Operation, Outcome};
use crate::time::Nanos;

/// Checks that may be spent; each is a search over what is left.
const CHECKS: usize = 400;

/// The short part, and the operation in it that fits nowhere. `operations` are known to fail, with `stuck` as the furthest failure.
pub(super) fn shorten<M: Model>(
    model: &M,
    operations: &[Operation<M::Op>],
    stuck: usize,
    budget: usize,
) -> (Vec<Operation<M::Op>>, Operation<M::Op>) {
    let mut checks = Checks { model, left: CHECKS, budget };
    let mut part = checks.shortest_prefix(operations);
    let mut chunk = part.len().div_ceil(2);
    while chunk > 0 && checks.left > 0 {
        let before = part.len();
        let mut start = 0;
        while start < part.len() && checks.left > 0 {
            match without(model, &part, start, chunk).filter(|rest| checks.fails(rest)) {
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
    let stuck = match search(model, &part, budget) {
        Search::Stuck { operation } => part[operation].clone(),
        _ => operations[stuck].clone(),
    };
    (part, stuck)
}

struct Checks<'a, M> {
    model: &'a M,
    left: usize,
    budget: usize,
}

impl<M: Model> Checks<'_, M> {
    fn fails(&mut self, operations: &[Operation<M::Op>]) -> bool {
        self.left = self.left.saturating_sub(1);
        matches!(search(self.model, operations, self.budget), Search::Stuck { .. })
    }

    /// The history up to the first instant at which it is wrong.
    fn shortest_prefix(&mut self, operations: &[Operation<M::Op>]) -> Vec<Operation<M::Op>> {
        let mut returns: Vec<Nanos> = operations.iter().filter_map(|operation| operation.ret).collect();
        returns.sort_unstable();
        let (mut low, mut high) = (0, returns.len().saturating_sub(1)); // the prefix up to returns[high] fails
        while low < high {
            let middle = low + (high - low) / 2;
            if self.fails(&prefix(operations, returns[middle])) {
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
}

/// What was known at `end`: later calls are gone, later returns have not happened.
fn prefix<O: Clone>(operations: &[Operation<O>], end: Nanos) -> Vec<Operation<O>> {
    let called = operations.iter().filter(|operation| operation.call <= end);
    let known = called.map(|operation| match operation.ret {
        Some(ret) if ret <= end => operation.clone(),
        _ => Operation { ret: None, outcome: Outcome::Unknown, ..operation.clone() },
    });
    known.collect()
}

/// Leaves out what explains nothing among `len` operations from `start`; none if all of them explain something.
fn without<M: Model>(model: &M, part: &[Operation<M::Op>], start: usize, len: usize) -> Option<Vec<Operation<M::Op>>> {
    let inside = start..(start + len).min(part.len());
    let mut kept: Vec<usize> = (0..part.len()).collect();
    // What a read has seen may go as well once the read has gone.
    loop {
        let before = kept.len();
        let view: Vec<&Operation<M::Op>> = kept.iter().map(|&index| &part[index]).collect();
        let mut dispensable = model.dispensable(&view).into_iter();
        kept.retain(|index| !(dispensable.next() == Some(true) && inside.contains(index)));
        if kept.len() == before {
            break;
        }
    }
    (kept.len() < part.len()).then(|| kept.into_iter().map(|index| part[index].clone()).collect())
}
