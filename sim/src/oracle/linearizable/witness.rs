//! The cheap way: versions give an order; verify it.
//!
//! Sound, not complete: if the order that the versions suggest explains all values and respects real time, the key is linearizable whatever the
//! versions mean. If it does not, nothing is said. The hints are therefore not trusted, only used.

use std::collections::BTreeMap;

use crate::history::{Op, Operation, Outcome, Version};
use crate::time::Nanos;

/// True if the order by versions proves the operations of one key linearizable. Takes `n log n`.
pub(super) fn proves(operations: &[Operation]) -> bool {
    order(operations).is_some_and(|order| respects_real_time(&order))
}

/// The operations in the order of their versions, each write before the reads of it; none if some value does not fit, some version is missing
/// or is used by two writes.
fn order(operations: &[Operation]) -> Option<Vec<&Operation>> {
    let mut writes: BTreeMap<Version, &Operation> = BTreeMap::new();
    let mut reads: BTreeMap<Option<Version>, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        match (&operation.op, operation.outcome) {
            (Op::Cas { .. }, _) => return None,
            (Op::Read { .. }, _) => reads.entry(operation.version).or_default().push(operation),
            (Op::Write { .. } | Op::Delete, _) => match operation.version {
                Some(version) => {
                    if writes.insert(version, operation).is_some() {
                        return None;
                    }
                }
                // Without a version nobody can say that somebody has seen it, so it may as well never have happened.
                None if operation.outcome == Outcome::Unknown => {}
                None => return None,
            },
        }
    }
    let mut order = Vec::with_capacity(operations.len());
    push_reads(&mut order, reads.remove(&None), None)?;
    for (version, write) in writes {
        let readers = reads.remove(&Some(version));
        if write.outcome == Outcome::Unknown && readers.is_none() {
            continue;
        }
        order.push(write);
        let value = match &write.op {
            Op::Write { value } => Some(value),
            _ => None,
        };
        push_reads(&mut order, readers, value)?;
    }
    reads.is_empty().then_some(order)
}

/// Adds the reads of one version, earliest call first; none if one has another value.
fn push_reads<'a>(
    order: &mut Vec<&'a Operation>,
    reads: Option<Vec<&'a Operation>>,
    expected: Option<&String>,
) -> Option<()> {
    let mut reads = reads.unwrap_or_default();
    reads.sort_by_key(|read| read.call);
    let fits = |read: &&Operation| matches!(&read.op, Op::Read { value } if value.as_ref() == expected);
    if !reads.iter().all(fits) {
        return None;
    }
    order.extend(reads);
    Some(())
}

/// True if nothing stands after an operation that was called only after it had returned.
fn respects_real_time(order: &[&Operation]) -> bool {
    let mut latest_call: Nanos = 0;
    order.iter().all(|operation| {
        let returned = match operation.outcome {
            Outcome::Ok => operation.ret.unwrap_or(Nanos::MAX),
            Outcome::Rejected | Outcome::Unknown => Nanos::MAX,
        };
        latest_call = latest_call.max(operation.call);
        returned >= latest_call
    })
}
