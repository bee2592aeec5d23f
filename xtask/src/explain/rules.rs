//! Which rule of the protocol the lines show broken. Each check looks at evidence, and a rule is named only where it fails.

mod copy;
mod counted;
mod passes;

use std::collections::{BTreeMap, BTreeSet};

use miroir_scenarios::ledger::{Entry, State, counter, listed, short};
use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::time::{Nanos, in_seconds};

use crate::evidence::{Evidence, Finding, Window};

use super::story::grouped;

/// What is said when no check fails.
pub const NONE: &str =
    "none of the rules that can be checked from outside was seen broken; the lines above are what is known";

/// Why an acknowledged version could be missed.
pub fn of_window(evidence: &Evidence, window: &Window) -> String {
    let Window { shard, doc, version, .. } = window;
    let checks = [
        acknowledged_too_early(evidence, *shard, doc, version, window.acked_at),
        went_back(evidence, *shard, doc, version, window.opened_at),
        delta_pass(evidence, window),
    ];
    checks.into_iter().flatten().next().unwrap_or_else(|| NONE.to_owned())
}

/// Why a write was acknowledged that too few held.
pub fn of_ack(evidence: &Evidence, shard: u32, doc: &str, version: &str, at: Nanos) -> String {
    let write = evidence.history.iter().find(|it| *it.key == *doc && it.ret == Some(at));
    let fenced = write.and_then(|write| fence(evidence, shard, doc, write));
    let early = || acknowledged_too_early(evidence, shard, doc, version, at);
    fenced.or_else(early).or_else(|| went_back(evidence, shard, doc, version, at)).unwrap_or_else(|| NONE.to_owned())
}

/// Why something else went wrong.
pub fn of_finding(evidence: &Evidence, finding: &Finding, doc: Option<&str>) -> String {
    let shard = doc.and_then(|doc| evidence.shard_of(doc));
    let said = match (finding.oracle.as_str(), doc, shard) {
        ("linearizable", Some(doc), Some(shard)) => {
            let stuck = evidence.history.iter().find(|it| *it.key == *doc && Some(it.call) == finding.at);
            stuck.and_then(|stuck| of_read(evidence, shard, doc, stuck))
        }
        ("converged", Some(doc), Some(shard)) => passes::of_difference(evidence, finding, shard, doc),
        ("versions", ..) if finding.cause.contains("no greater counter") => counted::of_counter(evidence, finding),
        ("versions", ..) if finding.cause.contains("was not told that it may be") => Some(
            "a client is told that a write has failed only if nobody was sent it; whatever was sent may be applied, now or later"
                .to_owned(),
        ),
        ("versions", ..) => Some(
            "a writer never issues a version twice, and an operation keeps the one that was chosen for it: the order of versions \
             is the order of writes"
                .to_owned(),
        ),
        ("scans", ..) => Some(of_scan(&finding.cause).to_owned()),
        ("durable", ..) if finding.cause.starts_with("open for longer") => Some(
            "anti-entropy passes over a shard begin one period apart, and the first one that begins after a window has opened \
             closes it"
                .to_owned(),
        ),
        ("durable", Some(doc), Some(shard)) => {
            let rose = || finding.at.and_then(|at| rose(evidence, shard, doc, at));
            forgotten_too_early(evidence, shard, doc).or_else(rose).or_else(|| {
            finding.cause.contains("from its disk").then(|| {
                "a node says that something is durable only after its disk said so: a crash must not take it back".to_owned()
            })
            })
        }
        ("promises", Some(doc), Some(shard)) => finding.at.and_then(|at| {
            went_back(evidence, shard, doc, &newest_held(evidence, shard, doc, at)?, at)
        }),
        ("progress", ..) => Some("every migration ends, and every replica gets what was committed, once faults have stopped".to_owned()),
        ("world", ..) => Some("no process panics, whatever the world does".to_owned()),
        _ => None,
    };
    said.unwrap_or_else(|| NONE.to_owned())
}

/// What a scan promises.
fn of_scan(cause: &str) -> &'static str {
    if cause.contains("exists throughout") {
        "a document that exists throughout a scan is in it exactly once: every page is read by a quorum of the configuration \
         it was asked under, and a node that has another one installed turns it away"
    } else if cause.contains("an older version than") {
        "a page of a scan is read by a quorum: it shows what was acknowledged before it was asked for, or something newer"
    } else {
        "pages of a scan come in id order, each behind the last document of the one before"
    }
}

/// The newest version that the clients were told is safe before an instant, with when.
fn newest_acked(evidence: &Evidence, doc: &str, before: Nanos) -> Option<(String, Nanos)> {
    let acked = evidence.ledger.iter().take_while(|line| line.at <= before).filter_map(|line| match &line.entry {
        Entry::Acked { doc: of, version, .. } if of == doc => Some((version.clone(), line.at)),
        _ => None,
    });
    acked.max_by_key(|(version, _)| counter(version))
}

/// The newest version that any node held before an instant.
fn newest_held(evidence: &Evidence, shard: u32, doc: &str, before: Nanos) -> Option<String> {
    let state = State::at(&evidence.ledger, before.saturating_sub(1));
    state.held.get(&(shard, doc.to_owned()))?.values().max_by_key(|version| counter(version)).cloned()
}

/// No majority of some group held it when its client was told that it is safe.
fn acknowledged_too_early(
    evidence: &Evidence,
    shard: u32,
    doc: &str,
    version: &str,
    acked_at: Nanos,
) -> Option<String> {
    let state = State::at(&evidence.ledger, acked_at);
    let held = state.holders(shard, doc, version);
    let called =
        evidence.history.iter().filter(|it| *it.key == *doc && it.ret == Some(acked_at)).map(|it| it.call).min();
    // Whatever held while it was under way could be counted under.
    let mut groups: Vec<Vec<Vec<String>>> = Vec::new();
    for line in evidence.ledger.iter().take_while(|line| line.at <= acked_at) {
        if let Entry::Committed { shard: of, groups: now, .. } = &line.entry
            && *of == shard
        {
            if Some(line.at) <= called {
                groups.clear();
            }
            groups.push(now.clone());
        }
    }
    let suffices = |groups: &Vec<Vec<String>>| groups.iter().all(|group| is_majority(group, &held));
    if groups.iter().any(suffices) || groups.is_empty() {
        return None;
    }
    let answered: BTreeSet<String> = evidence
        .history
        .iter()
        .find(|it| *it.key == *doc && it.ret == Some(acked_at))
        .map(|it| {
            answers(evidence, shard, doc, it)
                .into_iter()
                .filter(|it| it.said.contains("written"))
                .map(|it| it.node)
                .collect()
        })
        .unwrap_or_default();
    let without: Vec<&str> = answered.difference(&held).map(String::as_str).collect();
    let answered = match without.as_slice() {
        [] => String::new(),
        without => format!("; {} answered `written` and had nothing durable", without.join(" ")),
    };
    Some(format!(
        "a write is acknowledged when a majority of EVERY group holds it durably ({}): at {} {} did{answered}",
        grouped(&groups[groups.len() - 1]),
        in_seconds(acked_at),
        match held.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => "nobody".to_owned(),
            some => format!("only {}", listed(some)),
        },
    ))
}

/// A copy replaced a newer version by an older one, or came back without it.
fn went_back(evidence: &Evidence, shard: u32, doc: &str, version: &str, until: Nanos) -> Option<String> {
    let mut state = State::default();
    for line in evidence.ledger.iter().take_while(|line| line.at <= until) {
        match &line.entry {
            Entry::Applied { node, shard: of, doc: it, version: now, by } if *of == shard && it == doc => {
                let before = state.held.get(&(shard, doc.to_owned())).and_then(|held| held.get(node));
                if let Some(before) = before
                    && counter(before) >= counter(version)
                    && counter(now) < counter(before)
                {
                    return Some(format!(
                        "a copy keeps the greater of two versions, whoever brings the other: at {} {by} put {} over {} on {node}",
                        in_seconds(line.at),
                        short(now),
                        short(before)
                    ));
                }
            }
            Entry::Opened { node, copies } if line.at > 0 => {
                let before = state.holders(shard, doc, version).contains(node);
                let found = copies.iter().filter(|copy| copy.shard == shard).flat_map(|copy| &copy.documents);
                let has = found.clone().any(|(it, now)| it == doc && counter(now) >= counter(version));
                if before && !has && copies.iter().any(|copy| copy.shard == shard) {
                    return Some(format!(
                        "what was durable survives a crash: {node} held {} and came back at {} without it",
                        short(version),
                        in_seconds(line.at)
                    ));
                }
            }
            _ => {}
        }
        state.add(line);
    }
    None
}

/// Activate let the old replicas go while the new ones lacked something.
fn delta_pass(evidence: &Evidence, window: &Window) -> Option<String> {
    let opened_at_activate = window.opened_by.contains("configuration committed: Stable");
    evidence.entered(window.shard, "DualWrite", window.opened_at)?;
    if evidence.skips_delta(window.shard, window.opened_at) {
        let skipped = "the delta pass reads a majority of the old replicas before Activate and ships what the new ones missed; this migration \
             is planned without it, so the window stays open until anti-entropy, a newer write or the missed write itself closes it";
        return copy::incomplete(evidence, window).or_else(|| Some(skipped.to_owned()));
    }
    let (old, readers) = readers(evidence, window.shard, window.opened_at)?;
    if opened_at_activate && !is_majority(&old, &readers) {
        return Some(format!(
            "the delta pass reads a MAJORITY of the old replicas ({}), since any single one may have missed a write: it read {} alone",
            old.join(" "),
            listed(&readers.iter().map(String::as_str).collect::<Vec<_>>()),
        ));
    }
    let before = State::at(&evidence.ledger, window.opened_at.saturating_sub(1));
    let held = before.holders(window.shard, &window.doc, &window.version);
    let readers_held: Vec<String> = readers.intersection(&held).cloned().collect();
    (opened_at_activate && !readers_held.is_empty()).then(|| {
        format!(
            "the delta pass goes by a MAJORITY of the old replicas ({}) and ships whatever any of them has: {} had {}, and it was not \
             shipped, as if another one alone had been believed",
            old.join(" "),
            readers_held.join(" "),
            short(&window.version)
        )
    })
}

/// The old replicas of the migration under way, and those of them that the delta pass listed or asked for digests.
fn readers(evidence: &Evidence, shard: u32, until: Nanos) -> Option<(Vec<String>, BTreeSet<String>)> {
    let from = evidence.entered(shard, "DeltaPass", until)?;
    let groups = State::at(&evidence.ledger, from).configs.get(&shard)?.1.clone();
    let old = groups.first()?.clone();
    let during = || evidence.events.iter().skip_while(|it| it.at < from).take_while(|it| it.at <= until);
    let here = format!(" s{shard} ");
    let jobs: BTreeSet<u64> = during()
        .filter(|it| it.is("send") && it.label.contains(&here))
        .filter_map(|it| it.job().filter(|(kind, _)| *kind == "digest?").map(|(_, job)| job))
        .collect();
    let of_jobs = during().filter(|it| it.is("deliver") && it.job().is_some_and(|(_, job)| jobs.contains(&job)));
    let mut listed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for event in of_jobs.filter(|it| old.contains(&it.from)) {
        let kind = event.job().map_or("", |(kind, _)| kind);
        let kind = if kind == "digest!" { "digest!" } else { "list!" };
        if event.to == "coordinator" && event.label.contains("! job") {
            listed.entry(kind).or_default().insert(event.from.clone());
        }
    }
    // What was listed was read; where all digests were equal, nothing had to be listed.
    let readers = listed.remove("list!").or_else(|| listed.remove("digest!")).unwrap_or_default();
    Some((old, readers))
}

/// `; it read n1 of n1 n2 n3`.
pub fn readers_text(evidence: &Evidence, shard: u32, until: Nanos) -> String {
    readers(evidence, shard, until).map_or(String::new(), |(old, readers)| {
        format!("; of the old replicas {} it read {}", old.join(" "), readers.into_iter().collect::<Vec<_>>().join(" "))
    })
}

/// What a node answered to a client while an operation was under way.
pub struct Answered {
    pub node: String,
    /// When it was asked, and when it answered.
    pub asked_at: Nanos,
    pub at: Nanos,
    /// Under which epoch it answered.
    pub epoch: String,
    pub said: String,
}

/// The answers that came to the client of an operation, to questions about its document.
pub fn answers(evidence: &Evidence, shard: u32, doc: &str, operation: &Operation) -> Vec<Answered> {
    let client = format!("client-{}", operation.client);
    let until = operation.ret.unwrap_or(Nanos::MAX);
    let during = evidence.events.iter().skip_while(|it| it.at < operation.call).take_while(|it| it.at <= until);
    let (ask, answer) = (format!("ask s{shard} epoch "), format!("answer s{shard} epoch "));
    // By node: the questions that it got, in order.
    let mut asked: BTreeMap<&str, Vec<Question>> = BTreeMap::new();
    // By frame: when an answer was sent.
    let mut sent: BTreeMap<u64, Nanos> = BTreeMap::new();
    let mut answered = Vec::new();
    for event in during {
        let is_answer = event.to == client && event.label.starts_with(&answer);
        if event.is("send") && is_answer {
            sent.insert(event.frame(), event.at);
        }
        if event.is("deliver")
            && event.from == client
            && let Some((_, ops)) = event.label.strip_prefix(&ask).and_then(|rest| rest.split_once(": "))
        {
            let ops: Vec<&str> = ops.split(", ").collect();
            let places = (0..ops.len()).filter(|&place| ops[place].contains(doc)).collect();
            asked.entry(&event.to).or_default().push(Question { at: event.at, places, operations: ops.len() });
        }
        if event.is("deliver")
            && is_answer
            && let Some((epoch, said)) = event.label.strip_prefix(&answer).and_then(|rest| rest.split_once(": "))
        {
            let said: Vec<&str> = said.split(", ").collect();
            let at = sent.get(&event.frame()).copied().unwrap_or(event.at);
            // The last question that this can be the answer to.
            let questions = asked.get(event.from.as_str()).into_iter().flatten();
            let mut questions = questions.filter(|it| it.at <= at && it.operations == said.len());
            let Some(question) = questions.next_back() else { continue };
            let ours: Vec<&str> = question.places.iter().filter_map(|&place| said.get(place).copied()).collect();
            if !ours.is_empty() {
                answered.push(Answered {
                    node: event.from.clone(),
                    asked_at: question.at,
                    at,
                    epoch: epoch.to_owned(),
                    said: ours.join(", "),
                });
            }
        }
    }
    answered
}

/// What a client asked a node.
struct Question {
    at: Nanos,
    /// Which of its operations are about the document.
    places: Vec<usize>,
    operations: usize,
}

/// Why a read fits no instant.
fn of_read(evidence: &Evidence, shard: u32, doc: &str, stuck: &Operation) -> Option<String> {
    let (newest, acked_at) = newest_acked(evidence, doc, stuck.call).unzip();
    if let (Some(newest), Some(acked_at)) = (&newest, acked_at)
        && let Some(early) = acknowledged_too_early(evidence, shard, doc, newest, acked_at)
    {
        return Some(early);
    }
    fence(evidence, shard, doc, stuck)
        .or_else(|| not_written_back(evidence, shard, doc, stuck))
        .or_else(|| newest.and_then(|newest| went_back(evidence, shard, doc, &newest, stuck.ret.unwrap_or(Nanos::MAX))))
        .or_else(|| counted::of_read(evidence, shard, doc, stuck))
}

/// Somebody answered under an epoch that it had not installed, or no longer.
fn fence(evidence: &Evidence, shard: u32, doc: &str, operation: &Operation) -> Option<String> {
    answers(evidence, shard, doc, operation).into_iter().find_map(|answered| {
        let installed = |at| {
            let state = State::at(&evidence.ledger, at);
            state.installed.get(&(shard, answered.node.clone())).cloned()
        };
        let (before, after) = (installed(answered.asked_at), installed(answered.at)?);
        let served = before.as_ref() == Some(&answered.epoch) || after == answered.epoch;
        (!served).then(|| {
            format!(
                "a node answers only under the epoch that it has installed: {} answered `{}` under epoch {} at {}, and had installed {after}",
                answered.node,
                answered.said,
                answered.epoch,
                in_seconds(answered.at)
            )
        })
    })
}

/// An earlier read returned a version that no majority held.
fn not_written_back(evidence: &Evidence, shard: u32, doc: &str, stuck: &Operation) -> Option<String> {
    let earlier = evidence.history.iter().filter(|it| {
        *it.key == *doc
            && matches!(it.op, Op::Read { .. })
            && it.outcome == Outcome::Ok
            && it.ret.is_some_and(|ret| ret <= stuck.call)
            && it.version > stuck.version
    });
    earlier.into_iter().find_map(|read| {
        let (ret, version) = (read.ret?, read.version?.to_string());
        let state = State::at(&evidence.ledger, ret);
        let held = state.holders(shard, doc, &version);
        let missing = state.configs.get(&shard)?.1.iter().any(|group| !is_majority(group, &held));
        missing.then(|| {
            format!(
                "a get writes back what it returns until a majority holds it: client-{} had read {} at {}; {}",
                read.client,
                short(&version),
                in_seconds(ret),
                state.held_by(shard, doc, &version)
            )
        })
    })
}

/// A deletion was forgotten while somebody did not hold it, nor had held and forgotten it.
fn forgotten_too_early(evidence: &Evidence, shard: u32, doc: &str) -> Option<String> {
    let mut state = State::default();
    let mut forgot = BTreeSet::new();
    for line in &evidence.ledger {
        if let Entry::Forgotten { node, shard: of, doc: it, version } = &line.entry
            && (*of, it.as_str()) == (shard, doc)
        {
            let groups = state.configs.get(&shard).map(|(_, groups)| groups.clone()).unwrap_or_default();
            let held = state.holders(shard, doc, version);
            let has = |member: &String| held.contains(member) || forgot.contains(&(member.as_str(), version.as_str()));
            let mut lacking: Vec<&String> = groups.iter().flatten().filter(|member| !has(member)).collect();
            lacking.sort_unstable();
            lacking.dedup();
            if !lacking.is_empty() {
                let lacking: Vec<&str> = lacking.into_iter().map(String::as_str).collect();
                return Some(format!(
                    "a deletion is forgotten only when EVERY replica holds it: {node} forgot {} at {}, and {} did not hold it",
                    short(version),
                    in_seconds(line.at),
                    lacking.join(" ")
                ));
            }
            forgot.insert((node.as_str(), version.as_str()));
        }
        state.add(line);
    }
    None
}

/// A version that is older than a deletion that everybody had held, and forgotten, was written again.
fn rose(evidence: &Evidence, shard: u32, doc: &str, at: Nanos) -> Option<String> {
    let mut forgotten = None;
    for line in evidence.ledger.iter().take_while(|line| line.at <= at) {
        match &line.entry {
            Entry::Forgotten { shard: of, doc: it, version, .. } if (*of, it.as_str()) == (shard, doc) => {
                forgotten = Some((line.at, version));
            }
            Entry::Applied { node, doc: it, version, by, .. } if line.at == at && it == doc => {
                let (when, deletion) = forgotten?;
                return Some(format!(
                    "what was chosen before a deletion was forgotten is refused after it, by the epoch at which it was chosen: \
                     {node} took {}, by {by}, though the deletion {} had been forgotten at {}",
                    short(version),
                    short(deletion),
                    in_seconds(when)
                ));
            }
            _ => {}
        }
    }
    None
}

fn is_majority(group: &[String], held: &BTreeSet<String>) -> bool {
    group.iter().filter(|member| held.contains(*member)).count() * 2 > group.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_no_majority() {
        let group: Vec<String> = ["n1", "n2", "n3", "n4"].map(str::to_owned).into();
        let held = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert!(!is_majority(&group, &held(&["n1", "n2"])));
        assert!(is_majority(&group, &held(&["n1", "n2", "n4"])));
        assert!(!is_majority(&group[..1], &held(&["n2"])));
    }
}
