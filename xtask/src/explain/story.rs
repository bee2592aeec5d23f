//! The story of one finding: lines in simulated time, the rule that was broken, and what would have been without a fault.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use miroir_scenarios::ledger::{Entry, State, counter, short};
use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::time::{MILLIS, Nanos, in_seconds};

use crate::evidence::{Event, Evidence, Finding, Window};
use crate::exit::Failure;

use super::rules;

/// How many lines of a story fit on a screen.
const LINES: usize = 24;

/// How much of the cause is repeated at the top, in characters.
const CAUSE: usize = 300;

/// One story.
#[derive(Clone, Debug)]
pub struct Story {
    pub title: String,
    /// What is explained, in a sentence or two.
    pub what: String,
    pub doc: Option<String>,
    /// What happened, in order.
    pub lines: Vec<(Nanos, String)>,
    /// Which rule would have saved it, and how the lines show that it was broken.
    pub rule: String,
    pub sibling: Option<String>,
    /// Where a picture should be opened.
    pub moment: Option<Nanos>,
}

impl Story {
    /// The story of the worst finding, or of what concerns `doc`; none if there is nothing to tell.
    pub fn of(evidence: &Evidence, doc: Option<&str>) -> Result<Option<Story>, Failure> {
        let concerns = |text: &str| doc.is_none_or(|doc| text.contains(doc));
        let finding = evidence.findings.iter().find(|finding| concerns(&finding.cause));
        let window = |finding: &Finding| evidence.windows.iter().find(|window| window.text == finding.cause);
        let story = match finding {
            Some(finding) => match window(finding) {
                Some(window) => of_window(evidence, window),
                None => of_finding(evidence, finding, doc),
            },
            None => match evidence.windows.iter().find(|window| concerns(&window.doc)) {
                Some(window) => of_window(evidence, window),
                None => match doc {
                    Some(doc) if evidence.shard_of(doc).is_none() => {
                        return Err(Failure::refused(format!("--doc: nobody wrote a document `{doc}` in this run")));
                    }
                    _ => return Ok(None),
                },
            },
        };
        Ok(Some(story))
    }

    /// One screen of text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.title, self.what);
        for (at, line) in &self.lines {
            let _ = writeln!(text, "{:>12}  {line}", in_seconds(*at));
        }
        let _ = write!(text, "\nrule     {}", self.rule);
        if let Some(sibling) = &self.sibling {
            let _ = write!(text, "\nsibling  {sibling}");
        }
        text
    }
}

fn title(evidence: &Evidence) -> String {
    let (record, bundle) = (&evidence.record, &evidence.bundle);
    let mutant = bundle.mutant.as_ref().map(|mutant| format!(" with the planted bug {mutant}")).unwrap_or_default();
    let fingerprint = record.fingerprint.as_deref().unwrap_or_default();
    format!("{} seed {}{mutant}: {} {fingerprint}", record.scenario, record.seed, record.verdict).trim_end().to_owned()
}

fn of_window(evidence: &Evidence, window: &Window) -> Story {
    let Window { doc, version, shard, .. } = window;
    let until = window.closed_at.map_or("the end".to_owned(), in_seconds);
    let what = format!(
        "{doc} of s{shard}, {}, was acknowledged to client-{} at {}; from {} to {until} a read could miss it{}",
        short(version),
        window.client,
        in_seconds(window.acked_at),
        in_seconds(window.opened_at),
        if window.declared { " (as the scenario declares)" } else { "" },
    );
    let mut lines = Lines::new(evidence, *shard, doc);
    lines.frames_of(version, window.opened_at);
    lines.ledger(Some(version), window.opened_at);
    let state = State::at(&evidence.ledger, window.acked_at);
    lines.push(
        window.acked_at,
        format!("client-{} is told that it is safe: {}", window.client, held(&state, *shard, doc, version)),
    );
    let state = State::at(&evidence.ledger, window.opened_at);
    let groups = state.configs.get(shard).map(|(_, groups)| groups.clone()).unwrap_or_default();
    let open =
        format!("WINDOW OPENS: {}; {}, of {}", window.opened_by, held(&state, *shard, doc, version), grouped(&groups));
    lines.push(window.opened_at, open);
    match (window.closed_at, &window.closed_by) {
        (Some(at), Some(by)) => lines.push(at, format!("window closes: {by}")),
        _ => lines.push(evidence.record.simulated_ns, "still open at the end: lost for good".to_owned()),
    }
    Story {
        title: title(evidence),
        what,
        doc: Some(doc.clone()),
        lines: lines.finish(window.opened_at),
        rule: rules::of_window(evidence, window),
        sibling: None,
        moment: Some(window.opened_at),
    }
}

/// Everything that is no window: what the clients saw, what came back, what stands still.
fn of_finding(evidence: &Evidence, finding: &Finding, doc: Option<&str>) -> Story {
    let first = finding.cause.lines().next().unwrap_or_default();
    let doc = doc.map(str::to_owned).or_else(|| mentioned(&finding.cause));
    let moment = finding.at;
    let shard = doc.as_ref().and_then(|doc| evidence.shard_of(doc));
    let mut story = Story {
        title: title(evidence),
        what: format!("{}: {}", finding.oracle, first.chars().take(CAUSE).collect::<String>()),
        doc: doc.clone(),
        lines: Vec::new(),
        rule: rules::of_finding(evidence, finding, doc.as_deref()),
        sibling: None,
        moment,
    };
    let (Some(doc), Some(shard)) = (doc, shard) else {
        story.lines = last_words(evidence);
        return story;
    };
    let stuck = moment.and_then(|at| evidence.history.iter().find(|it| *it.key == *doc && it.call == at));
    let until = stuck.and_then(|it| it.ret).or(moment).unwrap_or(evidence.record.simulated_ns);
    let mut lines = Lines::new(evidence, shard, &doc);
    lines.ledger(None, until);
    for operation in evidence.history.iter().filter(|it| *it.key == *doc && it.call <= until) {
        let impossible = stuck.is_some_and(|stuck| stuck == operation);
        lines.operation(operation, impossible);
    }
    story.lines = lines.finish(until);
    story.moment = story.moment.or(Some(until));
    story
}

/// The end of the trace, for what concerns no document.
fn last_words(evidence: &Evidence) -> Vec<(Nanos, String)> {
    let worth = |event: &&Event| {
        matches!(event.event.as_str(), "signal" | "note" | "crash" | "start" | "fault_begin" | "fault_end")
    };
    let mut last: Vec<(Nanos, String)> =
        evidence.events.iter().rev().filter(worth).take(LINES).map(|event| (event.at, in_words(event))).collect();
    last.reverse();
    last
}

/// One event of a trace as a sentence.
pub fn in_words(event: &Event) -> String {
    let process = event.process();
    match event.event.as_str() {
        "signal" => format!("{} {}", event.name, event.text),
        "crash" => format!("{process} crashes ({})", event.why),
        "start" => format!("{process} starts"),
        "pause" => format!("{process} is paused"),
        "resume" => format!("{process} goes on"),
        "fault_begin" => format!("fault {} begins: {}", event.id.as_str().unwrap_or_default(), event.text),
        "fault_end" => format!("fault {} ends", event.id.as_str().unwrap_or_default()),
        "send" => format!("{} sends {}: {}", event.from, event.to, event.label),
        "deliver" => format!("{} gets from {}: {}", event.to, event.from, event.label),
        "drop" => format!("LOST ({}) on the way from {} to {}: {}", event.why, event.from, event.to, event.label),
        "call" | "return" => format!("client-{} {}s {}", event.client, event.event, event.text),
        _ => format!("{} {process} {}", event.event, event.text).trim().to_owned(),
    }
}

/// Who holds this version or a newer one.
pub fn holders(state: &State, shard: u32, doc: &str, version: &str) -> BTreeSet<String> {
    let held = state.held.get(&(shard, doc.to_owned()));
    let holds = held.into_iter().flatten().filter(|(_, held)| counter(held) >= counter(version));
    holds.map(|(node, _)| node.clone()).collect()
}

fn held(state: &State, shard: u32, doc: &str, version: &str) -> String {
    match holders(state, shard, doc, version).into_iter().collect::<Vec<_>>().join(" ") {
        none if none.is_empty() => "nobody holds it durably".to_owned(),
        some => format!("{some} hold it durably"),
    }
}

/// `n1 n2 n3` or `n1 n2 n3 and n1 n2 n4`.
pub fn grouped(groups: &[Vec<String>]) -> String {
    groups.iter().map(|group| group.join(" ")).collect::<Vec<_>>().join(" and ")
}

/// The first document that a text names: `d000063`.
pub fn mentioned(text: &str) -> Option<String> {
    let is_document =
        |word: &&str| word.len() == 7 && word.starts_with('d') && word[1..].bytes().all(|b| b.is_ascii_digit());
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(is_document).map(str::to_owned)
}

/// The lines of a story about one document, gathered from all sides and put in order.
struct Lines<'e> {
    evidence: &'e Evidence,
    shard: u32,
    doc: &'e str,
    /// Lines that may be left out if there are too many come with `false`.
    found: Vec<(Nanos, bool, String)>,
}

impl<'e> Lines<'e> {
    fn new(evidence: &'e Evidence, shard: u32, doc: &'e str) -> Lines<'e> {
        Lines { evidence, shard, doc, found: Vec::new() }
    }

    fn push(&mut self, at: Nanos, line: String) {
        self.found.push((at, true, line));
    }

    /// Frames that were to bring the version and were lost.
    fn frames_of(&mut self, version: &str, until: Nanos) {
        let wanted = format!("{} {}", self.doc, short(version));
        let of_version =
            self.evidence.events.iter().take_while(|it| it.at <= until).filter(|it| it.label.contains(&wanted));
        let mut sent: Option<(Nanos, &str, Vec<&str>)> = None;
        let mut lost = Vec::new();
        for event in of_version {
            match event.event.as_str() {
                "send" if event.label.starts_with("ask ") => {
                    sent.get_or_insert((event.at, &event.from, Vec::new())).2.push(&event.to);
                }
                "drop" => lost.push((
                    event.at,
                    true,
                    format!("{} MISSES IT: the frame from {} is lost ({})", event.to, event.from, event.why),
                )),
                _ => {}
            }
        }
        if let Some((at, from, mut to)) = sent {
            to.sort_unstable();
            to.dedup();
            self.push(at, format!("{from} sends {} to {}", short(version), to.join(" ")));
        }
        self.found.extend(lost);
    }

    /// What the ledger says of the document (of one version, or of all), and of configurations and copies of its shard.
    fn ledger(&mut self, version: Option<&str>, until: Nanos) {
        let about = |doc: &str, it: &str| doc == self.doc && version.is_none_or(|version| version == it);
        let mut held: std::collections::BTreeMap<&str, (u64, u128)> = std::collections::BTreeMap::new();
        let mut started: BTreeSet<&str> = BTreeSet::new();
        let mut found = Vec::new();
        for line in self.evidence.ledger.iter().take_while(|line| line.at <= until) {
            let at = line.at;
            match &line.entry {
                Entry::Applied { node, doc, version: it, by, .. } if doc == self.doc => {
                    let before = held.insert(node, counter(it));
                    if before.is_some_and(|before| before > counter(it)) {
                        found.push((
                            at,
                            true,
                            format!("{node} GOES BACK to {}: {by} replaced something newer", short(it)),
                        ));
                    } else if about(doc, it) {
                        found.push((at, true, format!("{node} holds {} durably ({by})", short(it))));
                    }
                }
                Entry::Missed { node, doc, version: it, why, .. } if about(doc, it) && !why.contains("was lost") => {
                    found.push((at, true, format!("{node} MISSES {}: {why}", short(it))));
                }
                Entry::Missed { node, doc, version: it, why, .. } if version.is_none() && about(doc, it) => {
                    found.push((at, true, format!("{node} misses {}: {why}", short(it))));
                }
                Entry::Acked { client, doc, version: it, .. } if version.is_none() && about(doc, it) => {
                    found.push((at, false, format!("client-{client} is told that {} is safe", short(it))));
                }
                Entry::Forgotten { node, doc, version: it, .. } if about(doc, it) => {
                    found.push((at, true, format!("{node} forgets the deletion {}", short(it))));
                }
                Entry::Dropped { node, shard, why } if *shard == self.shard => {
                    held.remove(node.as_str());
                    found.push((at, false, format!("{node} loses its copy of s{shard}: {why}")));
                }
                Entry::Opened { node, copies } => {
                    let is_first = started.insert(node.as_str());
                    let now = copies.iter().filter(|copy| copy.shard == self.shard).flat_map(|copy| &copy.documents);
                    let now = now.clone().find(|(doc, _)| doc == self.doc).map(|(_, version)| version);
                    let lost = held.remove(node.as_str()).filter(|before| now.is_none_or(|now| counter(now) < *before));
                    held.extend(now.map(|now| (node.as_str(), counter(now))));
                    if is_first {
                        continue;
                    }
                    if lost.is_some() {
                        found.push((at, true, format!("{node} starts again WITHOUT what it held durably")));
                    } else {
                        found.push((at, false, format!("{node} starts from its disk")));
                    }
                }
                Entry::Committed { shard, text, .. } if *shard == self.shard => {
                    found.push((at, false, format!("committed: {text}")));
                }
                Entry::Copied { node, shard, through } if *shard == self.shard => {
                    let has = |through: &Option<String>| through.as_ref().is_none_or(|it| it.as_str() >= self.doc);
                    let first = !found.iter().any(|(_, _, text): &(Nanos, bool, String)| {
                        text.starts_with(&format!("{node} has got the page"))
                    });
                    if has(through) && first {
                        found.push((at, true, format!("{node} has got the page that {} belongs to", self.doc)));
                    }
                }
                Entry::Reconciled { shard, by, shipped } if *shard == self.shard && by == "the delta pass" => {
                    found.push((
                        at,
                        true,
                        format!(
                            "{by} ends: {shipped} documents were lacking somewhere{}",
                            rules::readers_text(self.evidence, *shard, at)
                        ),
                    ));
                }
                _ => {}
            }
        }
        self.found.extend(found);
        for event in self.evidence.events.iter().take_while(|it| it.at <= until) {
            let is_worth = match event.event.as_str() {
                // A client that has done its work ends.
                "crash" => !event.process().starts_with("client-"),
                kind => matches!(kind, "pause" | "fault_begin"),
            };
            if is_worth {
                self.found.push((event.at, event.is("crash") && event.process().starts_with('n'), in_words(event)));
            }
        }
    }

    /// What a client saw.
    fn operation(&mut self, operation: &Operation, impossible: bool) {
        let who = format!("client-{}", operation.client);
        let version =
            operation.version.map(|version| format!(" ({})", short(&version.to_string()))).unwrap_or_default();
        let what = match &operation.op {
            Op::Read { value: Some(value) } => format!("reads {value}{version}"),
            Op::Read { value: None } => "reads nothing".to_owned(),
            Op::Write { value } => format!("writes {value}{version}"),
            Op::Delete => format!("deletes{version}"),
            Op::Cas { .. } => "compares and swaps".to_owned(),
        };
        let from = in_seconds(operation.call);
        let text = match (operation.outcome, operation.ret) {
            (Outcome::Ok, Some(ret)) if impossible => {
                let state = State::at(&self.evidence.ledger, ret);
                let held = state.held.get(&(self.shard, self.doc.to_owned())).into_iter().flatten();
                let held: Vec<String> = held.map(|(node, version)| format!("{node} {}", short(version))).collect();
                let asked = rules::answers(self.evidence, self.shard, self.doc, operation);
                let asked: Vec<String> = asked.iter().map(|it| format!("{}: {}", it.node, it.said)).collect();
                let text = format!(
                    "{who} {what}: IMPOSSIBLE (called {from}); held are {}; answered had {}",
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
    fn finish(mut self, moment: Nanos) -> Vec<(Nanos, String)> {
        self.found.sort_by_key(|(at, ..)| *at);
        self.found.dedup_by(|one, other| one.0.abs_diff(other.0) < MILLIS / 1_000 && one.2 == other.2);
        let mut places: Vec<usize> = (0..self.found.len()).collect();
        places.sort_by_key(|&place| (!self.found[place].1, self.found[place].0.abs_diff(moment)));
        let kept: BTreeSet<usize> = places.into_iter().take(LINES).collect();
        let left = self.found.len() - kept.len();
        let found = self.found.into_iter().enumerate().filter(|(place, _)| kept.contains(place));
        let mut lines: Vec<(Nanos, String)> = found.map(|(_, (at, _, text))| (at, text)).collect();
        if let (Some(first), 1..) = (lines.first().map(|(at, _)| *at), left) {
            lines.insert(0, (first, format!("({left} lines less near to the failure are left out)")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_in_words() {
        assert_eq!(mentioned("key d000063 is not linearizable").as_deref(), Some("d000063"));
        assert_eq!(mentioned("dead 0d000063 d00006 d0000631"), None);
    }
}
