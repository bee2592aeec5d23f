//! What a client counted: answers under one epoch, of a majority of every group.

use std::collections::BTreeMap;

use miroir_scenarios::ledger::{Entry, short};
use miroir_sim::history::{Op, Operation};
use miroir_sim::time::Nanos;

use crate::evidence::{Evidence, Finding};

use super::{answers, grouped, is_majority};

/// A read returned something older than one of the answers that it got.
pub fn of_read(evidence: &Evidence, shard: u32, doc: &str, read: &Operation) -> Option<String> {
    if !matches!(read.op, Op::Read { .. }) {
        return None;
    }
    let returned = read.version.map(|version| (version.counter, version.writer));
    let answers = answers(evidence, shard, doc, read);
    let newer = answers.iter().find(|it| {
        let version = it.said.strip_prefix("read ").and_then(|said| said.split_whitespace().last());
        let said = version.and_then(|version| version.trim_start_matches('v').split(':').next()?.parse::<u64>().ok());
        said > returned.map(|(counter, _)| counter)
    })?;
    let mut by_epoch: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for it in &answers {
        let nodes = by_epoch.entry(it.epoch.as_str()).or_default();
        if !nodes.contains(&it.node.as_str()) {
            nodes.push(&it.node);
        }
    }
    let (client, what) = (read.client, read.version.map_or("nothing".to_owned(), |it| short(&it.to_string())));
    let heard: Vec<String> =
        by_epoch.iter().map(|(epoch, nodes)| format!("of {} under {epoch}", nodes.join(" "))).collect();
    Some(match heard.as_slice() {
        [_] => format!(
            "a get returns the newest of the answers that it counts: client-{client} returned {what}, and {} had answered `{}`",
            newer.node, newer.said
        ),
        several => format!(
            "answers under different epochs are not counted together: client-{client} had those {}; it returned {what}, and {} had \
             answered `{}` under {}",
            several.join(" and "),
            newer.node,
            newer.said,
            newer.epoch
        ),
    })
}

/// A version was chosen that is no greater than one that was acknowledged before.
pub fn of_counter(evidence: &Evidence, finding: &Finding) -> Option<String> {
    let mut named = finding.cause.split('(').skip(1).filter_map(|text| {
        let (call, rest) = text.split_once("..")?;
        let ret = rest.split(')').next()?;
        Some((call.parse::<Nanos>().ok()?, ret.parse::<Nanos>().ok()?))
    });
    let operation = |(call, ret): (Nanos, Nanos)| {
        evidence.history.iter().find(|it| it.call == call && it.ret == Some(ret) && !matches!(it.op, Op::Read { .. }))
    };
    let (write, earlier) = (operation(named.next()?)?, operation(named.next()?)?);
    let shard = evidence.shard_of(&write.key)?;
    let (client, prefix) = (format!("client-{}", write.client), format!("answer s{shard} epoch "));
    // By epoch: who told which counter. What is greater than the version that was chosen came too late for it.
    let chosen = write.version?.counter;
    let mut told: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let during = evidence.events.iter().filter(|it| (write.call..=write.ret.unwrap_or(Nanos::MAX)).contains(&it.at));
    for event in during.filter(|it| it.is("deliver") && it.to == client) {
        let Some((epoch, said)) = event.label.strip_prefix(&prefix).and_then(|rest| rest.split_once(": ")) else {
            continue;
        };
        let counters = said.split(", ").filter_map(|said| said.strip_prefix("counter ")?.parse::<u64>().ok());
        if let Some(counter) = counters.filter(|counter| *counter < chosen).max() {
            told.entry(epoch).or_default().insert(&event.from, counter);
        }
    }
    let (epoch, told) = told.into_iter().next_back()?;
    let groups = evidence.ledger.iter().find_map(|line| match &line.entry {
        Entry::Committed { shard: of, epoch: it, groups, .. } if *of == shard && it == epoch => Some(groups),
        _ => None,
    })?;
    let heard = told.keys().map(|&node| node.to_owned()).collect();
    let listed: Vec<String> = told.iter().map(|(node, counter)| format!("{node} {counter}")).collect();
    let acknowledged = format!("v{} was acknowledged before", earlier.version?.counter);
    Some(match groups.iter().all(|group| is_majority(group, &heard)) {
        false => format!(
            "a version is chosen above the counters of a majority of EVERY group ({}): {client} had heard of {} under epoch {epoch}; \
             {acknowledged}",
            grouped(groups),
            listed.join(", ")
        ),
        true => format!(
            "a majority of whoever serves knows a counter that is no smaller than any version acknowledged: under epoch {epoch} {client} \
             heard of {}, of {}; {acknowledged}, and whoever acknowledged it has to hand its counter on",
            listed.join(", "),
            grouped(groups)
        ),
    })
}
