//! What was read before anybody was told that it is safe.
//!
//! A write that is under way may be read already, from replicas that have it. If their shard then activates without its
//! delta pass, the next read may miss it, until anti-entropy has found it on the old ones. No loss window tells of it, as
//! nothing was acknowledged; but it is the same exception, from Activate until the cleanup gate is met.

use std::collections::BTreeMap;

use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::time::Nanos;
use miroir_store::config::{Cutover, Form, ShardConfig};
use miroir_store::id::{Key, ShardId};

use crate::audit::Books;
use crate::catalog::Windows;
use crate::workload::COLLECTION;

/// Documents with a write under way when their shard activated without its delta pass: from when to when who had read it
/// may miss it.
pub(super) fn spans<'a>(
    windows: Windows,
    books: &Books,
    history: &'a [Operation],
    shards: u32,
) -> Vec<(&'a str, Nanos, Option<Nanos>)> {
    let mut spans = Vec::new();
    for (shard, from, until) in skipped(windows, books) {
        let may_be_done = |it: &&Operation| it.outcome != Outcome::Rejected;
        let is_under_way = |it: &&Operation| may_be_done(it) && it.call < from && it.ret.is_none_or(|ret| ret > from);
        let writes = history.iter().filter(|it| !matches!(it.op, Op::Read { .. })).filter(is_under_way);
        let of_shard = |it: &&Operation| Key::new(COLLECTION, &it.key).is_ok_and(|key| key.shard(shards) == shard);
        spans.extend(writes.filter(of_shard).map(|it| (&*it.key, from, until)));
    }
    spans
}

/// Every Activate without a delta pass, and when its cleanup gate was met; never where the gate is overridden.
fn skipped(windows: Windows, books: &Books) -> Vec<(ShardId, Nanos, Option<Nanos>)> {
    if windows == Windows::None {
        return Vec::new();
    }
    let mut found: Vec<(ShardId, Nanos, Option<Nanos>)> = Vec::new();
    let mut last: BTreeMap<ShardId, &ShardConfig> = BTreeMap::new();
    for (at, config) in &books.config_log {
        let activates = last.insert(config.shard, config).is_some_and(|last| {
            let skips = last.form == Form::Joint && last.cutover == Cutover::Skipped;
            skips && config.form == Form::Stable && config.new == last.new
        });
        if activates {
            found.push((config.shard, *at, None));
        } else if windows == Windows::UntilRepair && !config.gate_unmet() {
            let unmet = found.iter_mut().filter(|(shard, _, until)| *shard == config.shard && until.is_none());
            unmet.for_each(|(_, _, until)| *until = Some(*at));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use miroir_store::config::Replica;
    use miroir_store::id::{DiskId, Epoch, NodeId, Session};

    use super::*;

    fn replica(node: u32) -> Replica {
        Replica { node: NodeId(node), session: Session(Epoch::FIRST), disk: DiskId(u128::from(node)) }
    }

    /// From n1 to n2 at 20 without a delta pass; the gate is met at 40.
    fn books() -> Books {
        let stable = ShardConfig::initial(ShardId(0), 1, vec![replica(1)]);
        let mut joint = stable.clone();
        (joint.epoch, joint.form, joint.cutover) = (stable.epoch.next(), Form::Joint, Cutover::Skipped);
        (joint.old, joint.new) = (vec![replica(1)], vec![replica(2)]);
        let mut activated = joint.clone();
        (activated.epoch, activated.form) = (joint.epoch.next(), Form::Stable);
        let mut met = activated.clone();
        (met.epoch, met.old) = (activated.epoch.next(), Vec::new());
        let mut books = Books::default();
        books.config_log.extend([(5, stable), (10, joint), (20, activated), (40, met)]);
        books
    }

    fn write(key: &str, call: Nanos, ret: Option<Nanos>) -> Operation {
        let outcome = if ret.is_some() { Outcome::Ok } else { Outcome::Unknown };
        let op = Op::Write { value: "v".to_owned() };
        Operation { client: 1, key: key.into(), op, call, ret, outcome, version: None }
    }

    #[test]
    fn a_write_under_way_at_activate_may_be_missed_until_the_gate_is_met() {
        let history = [
            write("before", 1, Some(19)),
            write("across", 1, Some(21)),
            write("open", 1, None),
            write("behind", 21, Some(22)),
        ];
        let of = |windows| spans(windows, &books(), &history, 1);
        assert_eq!(of(Windows::UntilRepair), [("across", 20, Some(40)), ("open", 20, Some(40))]);
        assert_eq!(of(Windows::Any), [("across", 20, None), ("open", 20, None)]);
        assert_eq!(of(Windows::None), []);
    }
}
