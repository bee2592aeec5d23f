//! Replicas that came to rest and differ: what should have made them equal.

use miroir_scenarios::ledger::{Entry, Line, State, counter, listed, short};
use miroir_sim::history::Op;
use miroir_sim::time::{Nanos, in_seconds};

use crate::evidence::{Evidence, Finding};

const ANTI_ENTROPY: &str = "anti-entropy";

/// A document differs: its disk lost it, or anti-entropy did not come by, or came by and left it.
pub fn of_difference(evidence: &Evidence, finding: &Finding, shard: u32, doc: &str) -> Option<String> {
    let at = finding.at.unwrap_or(Nanos::MAX);
    let state = State::at(&evidence.ledger, at);
    let held = state.held.get(&(shard, doc.to_owned()))?;
    let members: Vec<&String> = state.configs.get(&shard)?.1.iter().flatten().collect();
    let of_members = || held.iter().filter(|(node, _)| members.contains(node));
    let newest = of_members().map(|(_, version)| version).max_by_key(|version| counter(version))?;
    let lacks = |node: &&&String| held.get(**node).is_none_or(|version| counter(version) < counter(newest));
    let lacking: Vec<&str> = members.iter().filter(lacks).map(|node| node.as_str()).collect();
    if lacking.is_empty() {
        // All have said that they hold it, so it is a disk that has not kept it.
        return gone_from_disk(evidence, finding, shard, doc);
    }
    let has = |line: &&Line| matches!(&line.entry, Entry::Applied { shard: of, doc: it, version, .. } if *of == shard && it == doc && version == newest);
    let first = evidence.ledger.iter().find(has)?;
    let Entry::Applied { node: holder, .. } = &first.entry else { return None };
    let passes: Vec<(Nanos, u32)> = evidence
        .ledger
        .iter()
        .filter(|line| (first.at..=at).contains(&line.at))
        .filter_map(|line| match &line.entry {
            Entry::Reconciled { shard: of, by, .. } if by == ANTI_ENTROPY => Some((line.at, *of)),
            _ => None,
        })
        .collect();
    let ours: Vec<Nanos> = passes.iter().filter(|(_, of)| *of == shard).map(|(at, _)| *at).collect();
    let deleted = evidence.history.iter().any(|it| {
        *it.key == *doc && it.op == Op::Delete && it.version.is_some_and(|version| version.to_string() == *newest)
    });
    let what = format!("{}{}", if deleted { "the deletion " } else { "" }, short(newest));
    let since = format!("{holder} had {what} at {}", in_seconds(first.at));
    let lacking = listed(&lacking);
    Some(match ours.as_slice() {
        [] if passes.is_empty() => {
            format!("anti-entropy passes end: since {since}, none over any shard has ended; {lacking} never got it")
        }
        [] => format!(
            "anti-entropy passes over every shard in turn: since {since}, no pass over s{shard} has ended, and {} over others; \
             {lacking} never got it",
            passes.len()
        ),
        [.., last] => format!(
            "anti-entropy ships whatever one replica has and another lacks{}: since {since}, {} over s{shard} ended, the last at {}, \
             and {lacking} did not get it",
            if deleted { ", deletions too" } else { "" },
            if ours.len() == 1 { "one pass".to_owned() } else { format!("{} passes", ours.len()) },
            in_seconds(*last)
        ),
    })
}

/// Somebody's disk has nothing of what it held to the end.
fn gone_from_disk(evidence: &Evidence, finding: &Finding, shard: u32, doc: &str) -> Option<String> {
    let (_, copies) = finding.cause.split_once("differs: ")?;
    let node = copies.split(", ").find_map(|copy| copy.strip_suffix(" has nothing"))?;
    let brought = evidence.ledger.iter().rev().find_map(|line| match &line.entry {
        Entry::Applied { node: of, shard: s, doc: it, version, by } if of == node && *s == shard && it == doc => {
            Some((line.at, version, by))
        }
        _ => None,
    });
    let (at, version, by) = brought?;
    Some(format!(
        "what a node called durable is on its disk: {node} said so of {} at {} ({by}), and its disk has nothing of it, as if a wipe \
         or a drop had taken it that was over by then",
        short(version),
        in_seconds(at)
    ))
}
