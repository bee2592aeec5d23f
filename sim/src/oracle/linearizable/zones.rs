//! The fast path for registers whose written values all differ: decides in `n log n`, whatever the number of unknown outcomes.
//!
//! After Gibbons and Korach ("Testing shared memories", 1997). The operations on one value, its write and its reads, form a cluster. Let `f` be the
//! first return of any of them and `s` the last call of any. A cannot come before B if something of B has returned before something of A is
//! called, that is if `f(B) < s(A)`. The history is linearizable if and only if no read returns before its write is called, every value read was
//! written, and of no two clusters neither can come before the other.

use std::collections::BTreeMap;

use crate::history::{Op, Operation, Outcome};

/// What the zones say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Zones {
    /// Some value was written twice, deleted, or swapped: not for here.
    Unfit,
    Linearizable,
    /// These operations (indices, ascending) are not linearizable by themselves.
    Conflict(Vec<usize>),
}

/// A cluster: its instants, and the operations that set them.
#[derive(Clone, Copy)]
struct Cluster {
    write: Option<usize>,
    write_call: i128,
    f: (i128, Option<usize>),
    s: (i128, Option<usize>),
    was_read: bool,
}

/// Decides one key. Rejected operations must be gone.
pub(super) fn decide(operations: &[Operation]) -> Zones {
    let start = Cluster { write: None, write_call: -1, f: (-1, None), s: (-1, None), was_read: true };
    let mut clusters: BTreeMap<Option<&str>, Cluster> = BTreeMap::from([(None, start)]);
    for (index, operation) in operations.iter().enumerate() {
        let value = match &operation.op {
            Op::Write { value } => value.as_str(),
            Op::Read { .. } => continue,
            Op::Delete | Op::Cas { .. } => return Zones::Unfit,
        };
        let (call, ret) = times(operation);
        let cluster = Cluster {
            write: Some(index),
            write_call: call,
            f: (ret, Some(index)),
            s: (call, Some(index)),
            was_read: false,
        };
        if clusters.insert(Some(value), cluster).is_some() {
            return Zones::Unfit;
        }
    }
    for (index, operation) in operations.iter().enumerate().filter(|(_, operation)| operation.outcome == Outcome::Ok) {
        let Op::Read { value } = &operation.op else { continue };
        let (call, ret) = times(operation);
        let Some(cluster) = clusters.get_mut(&value.as_deref()) else { return Zones::Conflict(vec![index]) };
        if ret < cluster.write_call {
            return conflict([Some(index), cluster.write]);
        }
        cluster.was_read = true;
        if ret < cluster.f.0 {
            cluster.f = (ret, Some(index));
        }
        if call > cluster.s.0 {
            cluster.s = (call, Some(index));
        }
    }
    // A write of unknown outcome that nobody has read may never have happened.
    let mut clusters: Vec<Cluster> =
        clusters.into_values().filter(|cluster| cluster.was_read || cluster.f.0 < i128::MAX).collect();
    clusters.sort_by_key(|cluster| cluster.f.0);
    // For each prefix in the order of `f`, the two clusters with the greatest `s`.
    let mut greatest: Vec<[usize; 2]> = Vec::with_capacity(clusters.len());
    for at in 0..clusters.len() {
        let [first, second] = greatest.last().copied().unwrap_or([at, at]);
        greatest.push(match () {
            () if clusters[at].s.0 > clusters[first].s.0 => [at, first],
            () if second == first || clusters[at].s.0 > clusters[second].s.0 => [first, at],
            () => [first, second],
        });
    }
    for (at, b) in clusters.iter().enumerate() {
        let before = clusters.partition_point(|a| a.f.0 < b.s.0);
        let Some(candidates) = before.checked_sub(1).map(|last| greatest[last]) else { continue };
        let rival = candidates.into_iter().find(|&candidate| candidate != at).map(|candidate| clusters[candidate]);
        if let Some(a) = rival.filter(|a| b.f.0 < a.s.0) {
            return conflict([a.write, a.f.1, a.s.1, b.write, b.f.1, b.s.1]);
        }
    }
    Zones::Linearizable
}

fn times(operation: &Operation) -> (i128, i128) {
    let ret = operation.ret.filter(|_| operation.outcome == Outcome::Ok);
    (i128::from(operation.call), ret.map_or(i128::MAX, i128::from))
}

fn conflict<const N: usize>(indices: [Option<usize>; N]) -> Zones {
    let mut part: Vec<usize> = indices.into_iter().flatten().collect();
    part.sort_unstable();
    part.dedup();
    Zones::Conflict(part)
}
