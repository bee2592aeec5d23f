//! Does each operation look as if it happened at one instant between its call and its return?
//!
//! Checked per key, which is enough: linearizability is local (Herlihy and Wing 1990). For each key, first the cheap ways: if every operation
//! knows its version, the versions give an order, and it only remains to verify that order against values and real time (`witness`); if all
//! written values differ, their zones decide (`zones`). Otherwise a search in the manner of Wing and Gong (1993) with the memory of Lowe (2017) decides (`search`). A violation is cut down
//! to a short part of the history that is wrong by itself (`shorten`).
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

/// What the checker says about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All keys are.
    Linearizable,
    /// This key is not.
    Violation(Box<Violation>),
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
pub struct Violation {
    /// Which key.
    pub key: Arc<str>,
    /// The operation that can be placed nowhere, given the others of `part`.
    pub stuck: Operation,
    /// A short part of the history that is not linearizable by itself, in the order of the calls. Operations that had not returned when it went
    /// wrong are shown as unknown.
    pub part: Vec<Operation>,
}

impl fmt::Display for Violation {
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
        let operations = relevant(&operations);
        if witness::proves(&operations) {
            report.by_versions += 1;
            continue;
        }
        let judged = match zones::decide(&operations) {
            Zones::Linearizable => continue,
            Zones::Conflict(part) => {
                judge(&part.into_iter().map(|index| operations[index].clone()).collect::<Vec<_>>(), budget)
            }
            Zones::Unfit => judge(&operations, budget),
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

/// Decides one key by search alone.
fn judge(operations: &[Operation], budget: usize) -> Judgement {
    let Some(key) = operations.first().map(|operation| operation.key.clone()) else { return Judgement::Linearizable };
    match search::search(&Register, operations, budget) {
        Search::Linearizable => Judgement::Linearizable,
        Search::Undecided { states } => Judgement::Undecided { key, states },
        Search::Stuck { operation } => {
            let (part, stuck) = shorten::shorten(operations, operation, budget);
            Judgement::Violation(Box::new(Violation { key, stuck, part }))
        }
    }
}

/// The operations of one key that can matter, in the order of their calls: nothing that was rejected, no read without an answer, no unknown
/// write whose effect nobody can have seen (leaving it out proves as much as letting it never happen).
fn relevant(operations: &[&Operation]) -> Vec<Operation> {
    let kept = |operation: &&&Operation| match operation.outcome {
        Outcome::Ok => true,
        Outcome::Rejected => false,
        Outcome::Unknown => !matches!(operation.op, Op::Read { .. }) && observed(&operation.op, operations),
    };
    let mut kept: Vec<Operation> = operations.iter().filter(kept).map(|&operation| operation.clone()).collect();
    kept.sort_by_key(|operation| operation.call);
    kept
}

/// True if some operation among `others` may have seen the effect of `op`.
fn observed(op: &Op, others: &[&Operation]) -> bool {
    let effect = match op {
        Op::Read { .. } => return false,
        Op::Write { value } => Some(value),
        Op::Delete => None,
        Op::Cas { .. } => return true,
    };
    others.iter().any(|other| match &other.op {
        Op::Read { value } => other.outcome == Outcome::Ok && value.as_ref() == effect,
        Op::Cas { .. } => other.outcome != Outcome::Rejected,
        Op::Write { .. } | Op::Delete => false,
    })
}

#[cfg(test)]
mod cross_check;
#[cfg(test)]
mod tests;
