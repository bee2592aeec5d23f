//! The lines of a story about one document, gathered from all sides and put in order.

use std::collections::{BTreeMap, BTreeSet};

use miroir_scenarios::ledger::{Entry, State, counter, short};
use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::time::{MILLIS, Nanos, in_seconds};

use crate::evidence::{Evidence, Window};

use super::super::rules;
use super::super::words::{in_words, of_planned};

/// How many lines of a story fit on a screen.
pub const LINES: usize = 20;

pub struct Lines<'e> {
    evidence: &'e Evidence,
    shard: u32,
    doc: &'e str,
    /// Lines that may be left out if there are too many come with `false`.
    found: Vec<(Nanos, bool, String)>,
}

impl<'e> Lines<'e> {
    pub fn new(evidence: &'e Evidence, shard: u32, doc: &'e str) -> Lines<'e> {
        Lines { evidence, shard, doc, found: Vec::new() }
    }

    pub fn push(&mut self, at: Nanos, line: String) {
        self.found.push((at, true, line));
    }

    /// Who was sent a version, and the frames beside writes that were to bring it and were lost; lost writes the ledger tells.
    pub fn frames_of(&mut self, version: &str, until: Nanos) {
        let wanted = format!("{} {}", self.doc, short(version));
        let of_version =
            self.evidence.events.iter().take_while(|it| it.at <= until).filter(|it| it.label.contains(&wanted));
        let mut sent: Option<(Nanos, &str, Vec<&str>)> = None;
        for event in of_version {
            let is_write = event.label.starts_with("ask ");
            match event.event.as_str() {
                "send" if is_write => {
                    sent.get_or_insert((event.at, &event.from, Vec::new())).2.push(&event.to);
                }
                "drop" if !is_write && !event.to.starts_with("client-") => {
                    let line = format!("{} MISSES IT: a frame from {} is lost ({})", event.to, event.from, event.why);
                    self.found.push((event.at, true, line));
                }
                _ => {}
            }
        }
        if let Some((at, from, mut to)) = sent {
            to.sort_unstable();
            to.dedup();
            self.push(at, format!("{from} sends {} to {}", short(version), to.join(" ")));
        }
    }

    /// What the ledger says of the document (of some versions, or of all), and of configurations and copies of its shard.
    pub fn ledger(&mut self, versions: Option<&BTreeSet<String>>, until: Nanos) {
        let about = |doc: &str, it: &String| doc == self.doc && versions.is_none_or(|versions| versions.contains(it));
        let mut held: BTreeMap<&str, (u64, u128)> = BTreeMap::new();
        let mut holders: BTreeSet<&str> = BTreeSet::new();
        let mut paged: BTreeSet<&str> = BTreeSet::new();
        let mut started: BTreeSet<&str> = BTreeSet::new();
        let mut found = Vec::new();
        for line in self.evidence.ledger.iter().take_while(|line| line.at <= until) {
            let mut add = |must, text| found.push((line.at, must, text));
            if let Entry::Applied { node, shard, .. } = &line.entry
                && *shard == self.shard
            {
                holders.insert(node);
            }
            match &line.entry {
                Entry::Applied { node, doc, version, by, .. } if doc == self.doc => {
                    let before = held.insert(node, counter(version));
                    if before.is_some_and(|before| before > counter(version)) {
                        add(true, format!("{node} GOES BACK to {}: {by} replaced something newer", short(version)));
                    } else if about(doc, version) {
                        add(true, format!("{node} holds {} durably ({by})", short(version)));
                    }
                }
                Entry::Missed { node, doc, version, why, .. } if about(doc, version) => {
                    add(true, format!("{node} MISSES {}: {}", short(version), without_time(why)));
                }
                Entry::Acked { client, doc, version, .. } if versions.is_none() && about(doc, version) => {
                    add(false, format!("client-{client} is told that {} is safe", short(version)));
                }
                Entry::Forgotten { node, doc, version, .. } if about(doc, version) => {
                    add(true, format!("{node} forgets the deletion {}", short(version)));
                }
                Entry::Dropped { node, shard, why } if *shard == self.shard => {
                    held.remove(node.as_str());
                    // A session begins with a wipe, even where there is nothing to lose.
                    if holders.remove(node.as_str()) {
                        add(false, format!("{node} loses its copy of s{shard}: {why}"));
                    }
                }
                Entry::Opened { node, copies } => {
                    let is_first = started.insert(node.as_str());
                    let now = copies.iter().filter(|copy| copy.shard == self.shard).flat_map(|copy| &copy.documents);
                    let now = now.clone().find(|(doc, _)| doc == self.doc).map(|(_, version)| version);
                    let lost = held.remove(node.as_str()).filter(|before| now.is_none_or(|now| counter(now) < *before));
                    held.extend(now.map(|now| (node.as_str(), counter(now))));
                    match lost {
                        _ if is_first => {}
                        Some(_) => add(true, format!("{node} starts again WITHOUT what it held durably")),
                        None => add(false, format!("{node} starts from its disk")),
                    }
                }
                Entry::Committed { shard, text, .. } if *shard == self.shard => {
                    add(false, format!("committed: {text}"));
                }
                Entry::Copied { node, shard, through } if *shard == self.shard => {
                    let has = through.as_ref().is_none_or(|it| it.as_str() >= self.doc);
                    if has && paged.insert(node) {
                        add(true, format!("{node} has got the page that {} belongs to", self.doc));
                    }
                }
                Entry::Reconciled { shard, by, shipped } if *shard == self.shard && by == "the delta pass" => {
                    let text = match self.evidence.skips_delta(*shard, line.at) {
                        true => format!("{by} is SKIPPED, as the migration is planned: it counts, and ships nothing"),
                        false => {
                            let readers = rules::readers_text(self.evidence, *shard, line.at);
                            format!("{by} ends: {shipped} documents were lacking somewhere{readers}")
                        }
                    };
                    add(true, text);
                }
                _ => {}
            }
        }
        self.found.extend(found);
        for event in self.evidence.events.iter().take_while(|it| it.at <= until) {
            let is_worth = match event.event.as_str() {
                // A client that has done its work ends.
                "crash" => !event.process().starts_with("client-"),
                kind => kind == "pause",
            };
            if event.is("fault_begin") {
                let id = event.id.as_str().unwrap_or_default();
                self.found.push((event.at, false, format!("fault {id} begins: {}", of_planned(self.evidence, event))));
            } else if is_worth {
                self.found.push((event.at, event.is("crash") && event.process().starts_with('n'), in_words(event)));
            }
        }
    }

    /// Which epoch each node had installed, and since when.
    pub fn installed(&mut self, until: Nanos) {
        let mut last: BTreeMap<&str, (Nanos, &str)> = BTreeMap::new();
        for line in self.evidence.ledger.iter().take_while(|line| line.at <= until) {
            if let Entry::Installed { node, shard, epoch } = &line.entry
                && *shard == self.shard
            {
                last.insert(node, (line.at, epoch));
            }
        }
        let lines = last.into_iter().map(|(node, (at, epoch))| (at, false, format!("{node} installs epoch {epoch}")));
        self.found.extend(lines);
    }

    /// From when to when a read could miss it.
    pub fn window(&mut self, window: &Window) {
        let state = State::at(&self.evidence.ledger, window.opened_at);
        let held = state.held_by(window.shard, self.doc, &window.version);
        self.push(window.opened_at, format!("WINDOW OPENS: {}; {held}", window.opened_by));
        match (window.closed_at, &window.closed_by) {
            (Some(at), Some(by)) => self.push(at, format!("window closes: {by}")),
            _ => self.push(self.evidence.record.simulated_ns, "still open at the end: lost for good".to_owned()),
        }
    }

    /// What a client saw.
    pub fn operation(&mut self, operation: &Operation, impossible: bool) {
        let who = format!("client-{}", operation.client);
        let what = done(operation);
        let from = in_seconds(operation.call);
        let text = match (operation.outcome, operation.ret) {
            (Outcome::Ok, Some(ret)) if impossible => {
                let state = State::at(&self.evidence.ledger, ret);
                let held = state.held.get(&(self.shard, self.doc.to_owned())).into_iter().flatten();
                let held: Vec<String> = held.map(|(node, version)| format!("{node} {}", short(version))).collect();
                let asked = rules::answers(self.evidence, self.shard, self.doc, operation);
                let asked: Vec<String> = asked.iter().map(|it| format!("{}: {}", it.node, it.said)).collect();
                let text = format!(
                    "{who} {what}: IMPOSSIBLE (called {from}); held: {}; answers: {}",
                    held.join(", "),
                    asked.join(", ")
                );
                return self.push(ret, text);
            }
            (Outcome::Ok, Some(ret)) => return self.found.push((ret, false, format!("{who} {what} (called {from})"))),
            _ => format!("{who} {what}: outcome unknown to it"),
        };
        self.found.push((operation.call, false, text));
    }

    /// In order, and no more than a screen: the lines nearest to the failure stay, and those that must.
    pub fn finish(mut self, moment: Nanos) -> Vec<(Nanos, String)> {
        self.found.sort_by_key(|(at, ..)| *at);
        self.found.dedup_by(|one, other| one.0.abs_diff(other.0) < MILLIS / 1_000 && one.2 == other.2);
        let mut places: Vec<usize> = (0..self.found.len()).collect();
        places.sort_by_key(|&place| (!self.found[place].1, self.found[place].0.abs_diff(moment)));
        // Instead of saying that one line is left out it is told.
        let room = if places.len() == LINES + 1 { LINES + 1 } else { LINES };
        let kept: BTreeSet<usize> = places.into_iter().take(room).collect();
        let left = self.found.len() - kept.len();
        let found = self.found.into_iter().enumerate().filter(|(place, _)| kept.contains(place));
        let mut lines: Vec<(Nanos, String)> = found.map(|(_, (at, _, text))| (at, text)).collect();
        if let (Some(first), 1..) = (lines.first().map(|(at, _)| *at), left) {
            lines.insert(0, (first, format!("({left} lines less near to the failure are left out)")));
        }
        lines
    }
}

/// What an operation did: `reads c5-1 (v1:9a39)`.
fn done(operation: &Operation) -> String {
    let version = operation.version.map(|version| format!(" ({})", short(&version.to_string()))).unwrap_or_default();
    match &operation.op {
        Op::Read { value: Some(value) } => format!("reads {value}{version}"),
        Op::Read { value: None } => "reads nothing".to_owned(),
        Op::Write { value } => format!("writes {value}{version}"),
        Op::Delete => format!("deletes{version}"),
        Op::Cas { .. } => "compares and swaps".to_owned(),
    }
}

/// An operation that no order explains.
pub fn impossible(operation: &Operation) -> String {
    format!(
        "not linearizable: client-{} {} from {}, called {} and answered {}, and there is no instant between at which that was so",
        operation.client,
        done(operation),
        operation.key,
        in_seconds(operation.call),
        operation.ret.map_or("never".to_owned(), in_seconds)
    )
}

/// `dual-write to n4 lost at 0.715130 s (loss 29/1000)`: its time stands beside it already.
fn without_time(why: &str) -> String {
    match why.split_once(" lost at ") {
        Some((what, rest)) => format!("the {what} is lost {}", rest.split_once(" s ").map_or("", |(_, how)| how)),
        None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_told_without_its_time() {
        let told = without_time("dual-write to n4 lost at 0.715130 s (loss 29/1000)");
        assert_eq!(told, "the dual-write to n4 is lost (loss 29/1000)");
        assert_eq!(without_time("n4 was down"), "n4 was down");
    }
}
