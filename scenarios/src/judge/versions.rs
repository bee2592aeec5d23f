//! What the versions in the clients' histories must obey, whatever was read when.
//!
//! A write that was called after another of the same document was acknowledged has the greater version, no two writes
//! share one, and no node holds one that no client was told of, and a read returns the value of the write whose version it names. Counters belong to shards: a write that was
//! called after another one of its shard was acknowledged has the greater counter, whatever document it is of. The first
//! is what readers notice; the second is what makes sure of it when a document is next written.

use std::collections::{BTreeMap, BTreeSet};

use miroir_sim::history::{Op, Operation, Outcome, Version};
use miroir_store::id::{Key, ShardId};

use super::{Finding, violation};
use crate::workload::COLLECTION;

pub(super) fn judge(history: &[Operation], shards: u32, held: &BTreeSet<(u64, u128)>, findings: &mut Vec<Finding>) {
    findings.extend(of_nobody(history, held));
    let mut documents: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.version.is_some()) {
        documents.entry(&operation.key).or_default().push(operation);
    }
    let of_document = documents.iter().find_map(|(document, operations)| of_document(document, operations));
    findings.extend(of_document.or_else(|| of_shards(&documents, shards)));
}

/// A write that became durable somewhere though its client was told that it had certainly failed, or nothing at all.
fn of_nobody(history: &[Operation], held: &BTreeSet<(u64, u128)>) -> Option<Finding> {
    let told: BTreeSet<(u64, u128)> = history.iter().filter_map(|operation| operation.version).map(pair).collect();
    let (counter, writer) = held.difference(&told).next()?;
    let failed = history.iter().filter(|operation| operation.outcome == Outcome::Rejected).count();
    let text = format!(
        "a write is durable in version {counter}:{writer:x}, and its client was not told that it may be; {failed} were told \
         that they had failed"
    );
    Some(violation("versions", text).of_kind("a write that was marked failed is durable"))
}

fn pair(version: Version) -> (u64, u128) {
    (version.counter, version.writer)
}

fn of_document(document: &str, operations: &[&Operation]) -> Option<Finding> {
    let mut written = BTreeMap::new();
    for write in operations.iter().filter(|operation| !matches!(operation.op, Op::Read { .. })) {
        if let Some(other) = written.insert(write.version, *write) {
            let text = format!("one version for two operations of {document}: {other} and {write}");
            return Some(violation("versions", text).of_kind("one version for two operations"));
        }
    }
    if let Some((write, earlier)) = overtaken(acked_writes(operations), |write| write.version) {
        let text =
            format!("{document}: {write} was called after {earlier} was acknowledged, and has a smaller version");
        return Some(violation("versions", text).of_kind("a later write has a smaller version"));
    }
    for read in operations.iter().filter(|operation| operation.outcome == Outcome::Ok) {
        let Op::Read { value } = &read.op else { continue };
        let right = match written.get(&read.version).map(|write| (&write.op, write.call)) {
            Some((Op::Write { value: written }, call)) => value.as_ref() == Some(written) && Some(call) <= read.ret,
            Some((_, call)) => value.is_none() && Some(call) <= read.ret,
            // Never written: nothing can have been read. A deletion that was forgotten leaves no version.
            None => value.is_none(),
        };
        if !right {
            let text = format!("{document}: {read} names a version that no write gave that value");
            return Some(violation("versions", text).of_kind("a read of what was never written"));
        }
    }
    None
}

fn of_shards(documents: &BTreeMap<&str, Vec<&Operation>>, count: u32) -> Option<Finding> {
    let mut shards: BTreeMap<ShardId, Vec<&Operation>> = BTreeMap::new();
    for (document, operations) in documents {
        let Ok(key) = Key::new(COLLECTION, document) else { continue };
        shards.entry(key.shard(count)).or_default().extend(acked_writes(operations));
    }
    shards.into_iter().find_map(|(shard, writes)| {
        let (write, earlier) = overtaken(writes, |write| write.version.map(|version| version.counter))?;
        let text =
            format!("{write} was called after {earlier} of {shard} was acknowledged, and has no greater counter");
        Some(violation("versions", text).of_kind("a later write of a shard has no greater counter"))
    })
}

fn acked_writes<'a>(operations: &[&'a Operation]) -> Vec<&'a Operation> {
    let acked = |operation: &&&Operation| operation.outcome == Outcome::Ok && !matches!(operation.op, Op::Read { .. });
    operations.iter().filter(acked).copied().collect()
}

/// The first of these writes that was called after another one was acknowledged, and whose `rank` is not greater; with
/// that other one.
fn overtaken<R: Ord>(writes: Vec<&Operation>, rank: impl Fn(&Operation) -> R) -> Option<(&Operation, &Operation)> {
    let (mut ended, mut called) = (writes.clone(), writes);
    ended.sort_by_key(|operation| operation.ret);
    called.sort_by_key(|operation| operation.call);
    let mut ended = ended.into_iter().peekable();
    let mut greatest: Option<&Operation> = None;
    for write in called {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ret < Some(write.call)) {
            if greatest.is_none_or(|greatest| rank(greatest) < rank(earlier)) {
                greatest = Some(earlier);
            }
        }
        if let Some(greatest) = greatest.filter(|greatest| rank(greatest) >= rank(write)) {
            return Some((write, greatest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn write(key: &str, call: u64, ret: u64, (counter, writer): (u64, u128)) -> Operation {
        Operation {
            client: 1,
            key: Arc::from(key),
            op: Op::Write { value: "x".to_owned() },
            call,
            ret: Some(ret),
            outcome: Outcome::Ok,
            version: Some(Version { counter, writer }),
        }
    }

    fn found(history: &[Operation]) -> Vec<String> {
        let mut findings = Vec::new();
        judge(history, 1, &BTreeSet::new(), &mut findings);
        findings.into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn writes_side_by_side_may_share_a_counter_and_later_ones_may_not() {
        let one = write("d000001", 0, 10, (7, 1));
        assert!(found(&[one.clone(), write("d000002", 10, 20, (7, 2))]).is_empty());
        assert!(found(&[one.clone(), write("d000002", 11, 20, (8, 2))]).is_empty());
        let shared = "a later write of a shard has no greater counter";
        assert_eq!(found(&[one.clone(), write("d000002", 11, 20, (7, 2))]), [shared]);
        assert_eq!(found(&[one, write("d000001", 11, 20, (6, 2))]), ["a later write has a smaller version"]);
    }

    #[test]
    fn a_write_that_was_marked_failed_is_nowhere() {
        let failed = Operation { outcome: Outcome::Rejected, version: None, ..write("d000001", 0, 10, (7, 1)) };
        let told = write("d000002", 0, 10, (8, 1));
        let found = |held: &[(u64, u128)]| {
            let mut findings = Vec::new();
            judge(&[failed.clone(), told.clone()], 1, &held.iter().copied().collect(), &mut findings);
            findings.into_iter().map(|finding| finding.kind).collect::<Vec<_>>()
        };
        assert!(found(&[(8, 1)]).is_empty());
        assert_eq!(found(&[(7, 1), (8, 1)]), ["a write that was marked failed is durable"]);
    }
}
