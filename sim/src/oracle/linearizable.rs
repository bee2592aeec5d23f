//! Does each operation look as if it happened at one instant between its call and its return?
//!
//! Checked per key, which is enough: linearizability is local (Herlihy and Wing 1990). For each key, first the cheap ways: if every operation
//! knows its version, the versions give an order, and it only remains to verify that order against values and real time (`witness`); if all
//! written values differ, their zones decide (`zones`); a value that nobody had written yet is wrong by itself. Otherwise a search in the manner
//! of Wing and Gong (1993) with the memory of Lowe (2017) decides (`search`). A violation is cut down to a short part of the history that is
//! wrong by itself (`shorten`).
//!
//! Operations of unknown outcome may take effect at any instant after their call, or never. Rejected ones never do.

mod file;
mod model;
mod search;
mod shorten;
mod witness;
mod zones;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use self::file::{Checked, check_file};
pub use self::model::{Model, ModelKind, ModelMismatch, Register};
use self::search::Search;
use self::zones::Zones;
use crate::history::{Op, Operation, Outcome};
use crate::time::Nanos;

/// What the checker says about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement<O = Op> {
    /// All keys are.
    Linearizable,
    /// This key is not.
    Violation(Box<Violation<O>>),
    /// The search gave up on this key. Nothing is claimed.
    Undecided {
        /// Which key.
        key: Arc<str>,
        /// States visited before giving up.
        states: usize,
    },
}

/// Why a key is not linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<O = Op> {
    /// Which key.
    pub key: Arc<str>,
    /// The operation that can be placed nowhere, given the others of `part`.
    pub stuck: Operation<O>,
    /// A short part of the history that is not linearizable by itself, in the order of the calls. Operations that had not returned when it went
    /// wrong are shown as unknown.
    pub part: Vec<Operation<O>>,
}

impl<O> fmt::Display for Violation<O>
where
    Operation<O>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {} is not linearizable: no instant fits {}", self.key, self.stuck)?;
        for operation in &self.part {
            writeln!(f, "    {operation}")?;
        }
        Ok(())
    }
}

/// A judgement, and how it was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first violation in the order of the keys; else the first undecided key; else linearizable.
    pub judgement: Judgement,
    /// Keys seen.
    pub keys: usize,
    /// Keys that were proved linearizable by their versions alone.
    pub by_versions: usize,
}

/// States that a search may visit for one key before it gives up: seconds, not minutes.
pub const BUDGET: usize = 2_000_000;

/// Checks a history against a model. `budget` bounds the states visited per key. Fails if an operation does not belong to the model.
pub fn check(operations: &[Operation], kind: ModelKind, budget: usize) -> Result<Report, ModelMismatch> {
    kind.admits(operations)?;
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut report = Report { judgement: Judgement::Linearizable, keys: keys.len(), by_versions: 0 };
    for operations in keys.into_values() {
        let operations = relevant(&Register, &operations);
        if witness::proves(&operations) {
            report.by_versions += 1;
            continue;
        }
        let judged = match zones::decide(&operations) {
            Zones::Linearizable => continue,
            Zones::Conflict(part) => {
                judge(&Register, &part.into_iter().map(|index| operations[index].clone()).collect::<Vec<_>>(), budget)
            }
            Zones::Unfit => match invented(&operations) {
                Some(at) => judge(&Register, &operations[at..=at], budget),
                None => judge(&Register, &operations, budget),
            },
        };
        match judged {
            Judgement::Linearizable => {}
            violation @ Judgement::Violation(_) => {
                report.judgement = violation;
                break;
            }
            undecided => {
                if report.judgement == Judgement::Linearizable {
                    report.judgement = undecided;
                }
            }
        }
    }
    Ok(report)
}

/// The first operation that was answered with a value before anybody had called to write it: wrong by itself, whatever else there is. The search
/// would find it too, but only after everything that operations of unknown outcome could have done.
fn invented(operations: &[Operation]) -> Option<usize> {
    let mut written: BTreeMap<&str, Nanos> = BTreeMap::new();
    for operation in operations {
        if let Op::Write { value } | Op::Cas { to: value, .. } = &operation.op {
            written.entry(value).and_modify(|call| *call = operation.call.min(*call)).or_insert(operation.call);
        }
    }
    operations.iter().position(|operation| {
        let answer = match &operation.op {
            Op::Read { value } => value,
            Op::Cas { from, swapped: true, .. } => from,
            Op::Cas { swapped: false, .. } | Op::Write { .. } | Op::Delete => return false,
        };
        let (Some(answer), Some(ret)) = (answer, operation.ret) else { return false };
        operation.outcome == Outcome::Ok && written.get(answer.as_str()).is_none_or(|&call| ret < call)
    })
}

/// Checks operations on one thing against any sequential model, by search alone; `budget` bounds the states visited. Histories of many
/// independent things are checked thing by thing, which is enough.
pub fn check_model<M: Model>(model: &M, operations: &[Operation<M::Op>], budget: usize) -> Judgement<M::Op> {
    judge(model, &relevant(model, &operations.iter().collect::<Vec<_>>()), budget)
}

/// Decides one key. Nothing was rejected.
fn judge<M: Model>(model: &M, operations: &[Operation<M::Op>], budget: usize) -> Judgement<M::Op> {
    let Some(key) = operations.first().map(|operation| operation.key.clone()) else { return Judgement::Linearizable };
    match search::search(model, operations, budget) {
        Search::Linearizable => Judgement::Linearizable,
        Search::Undecided { states } => Judgement::Undecided { key, states },
        Search::Stuck { operation } => {
            let (part, stuck) = shorten::shorten(model, operations, operation, budget);
            Judgement::Violation(Box::new(Violation { key, stuck, part }))
        }
    }
}

/// The operations of one key that can matter, in the order of their calls: nothing that was rejected, nothing of unknown outcome that explains
/// nothing (leaving it out proves as much as letting it never happen).
fn relevant<M: Model>(model: &M, operations: &[&Operation<M::Op>]) -> Vec<Operation<M::Op>> {
    let mut kept: Vec<&Operation<M::Op>> =
        operations.iter().copied().filter(|operation| operation.outcome != Outcome::Rejected).collect();
    let mut dispensable = model.dispensable(&kept).into_iter();
    kept.retain(|operation| !(dispensable.next() == Some(true) && operation.outcome == Outcome::Unknown));
    kept.sort_by_key(|operation| operation.call);
    kept.into_iter().cloned().collect()
}

#[cfg(test)]
mod cross_check;
#[cfg(test)]
mod tests;
