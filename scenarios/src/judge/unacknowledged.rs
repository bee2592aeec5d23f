//! What was read before anybody was told that it is safe.
//!
//! A write that is under way may be read already, from replicas that have it. If their shard then activates without its
//! delta pass, the next read may miss it, until anti-entropy has found it on the old ones. No loss window tells of it, as
//! nothing was acknowledged; but it is the same exception, from Activate until the cleanup gate is met.

use std::collections::BTreeMap;

use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::time::Nanos;
use miroir_store::config::ShardConfig;
use miroir_store::id::{Key, ShardId};

use crate::audit::Books;
use crate::audit::promises::activates_without_delta;
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
        let last = last.insert(config.shard, config);
        if last.is_some_and(|last| activates_without_delta(last, config)) {
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
    use super::*;
    use crate::judge::tests::without_delta;

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
        let of = |windows| spans(windows, &without_delta(&[1], &[2]), &history, 1);
        assert_eq!(of(Windows::UntilRepair), [("across", 20, Some(40)), ("open", 20, Some(40))]);
        assert_eq!(of(Windows::Any), [("across", 20, None), ("open", 20, None)]);
        assert_eq!(of(Windows::None), []);
    }
}
