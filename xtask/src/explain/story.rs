//! The story of one finding: lines in simulated time, the rule that was broken, and what would have been without a fault.

mod lines;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use miroir_scenarios::ledger::{Entry, State, short};
use miroir_sim::history::Outcome;
use miroir_sim::time::{Nanos, in_seconds};

use crate::evidence::{Event, Evidence, Finding, Window};
use crate::exit::Failure;

use super::rules;
use super::words::in_words;
use lines::{LINES, Lines};

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
            // What is lost for good before what is lost for a while.
            None => {
                match evidence.windows.iter().filter(|it| concerns(&it.doc)).min_by_key(|it| it.closed_at.is_some()) {
                    Some(window) => of_window(evidence, window),
                    None => match doc {
                        Some(doc) if evidence.shard_of(doc).is_none() => {
                            return Err(Failure::refused(format!(
                                "--doc: nobody wrote a document `{doc}` in this run"
                            )));
                        }
                        _ => return Ok(None),
                    },
                }
            }
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
    let ending = match (&record.fingerprint, evidence.windows.len()) {
        (Some(fingerprint), _) => format!(" {fingerprint}"),
        (None, 0) => String::new(),
        (None, 1) => ", with a loss window that the scenario allows".to_owned(),
        (None, count) => format!(", with {count} loss windows that the scenario allows"),
    };
    format!("{} seed {}{mutant}: {}{ending}", record.scenario, record.seed, record.verdict)
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
        if window.declared { ", which the scenario allows" } else { "" },
    );
    let mut lines = Lines::new(evidence, *shard, doc);
    lines.frames_of(version, window.opened_at);
    lines.ledger(Some(&[version.clone()].into()), window.opened_at);
    let state = State::at(&evidence.ledger, window.acked_at);
    lines.push(
        window.acked_at,
        format!("client-{} is told that it is safe: {}", window.client, state.held_by(*shard, doc, version)),
    );
    lines.window(window);
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

/// A write that was acknowledged while too few held it.
fn of_ack(evidence: &Evidence, shard: u32, doc: &str, version: &str, client: u32, at: Nanos) -> Story {
    let state = State::at(&evidence.ledger, at);
    let held = state.held_by(shard, doc, version);
    let mut lines = Lines::new(evidence, shard, doc);
    lines.frames_of(version, at);
    lines.ledger(Some(&[version.to_owned()].into()), at);
    lines.installed(at);
    lines.push(at, format!("client-{client} is TOLD TOO EARLY that it is safe: {held}"));
    let same = evidence.windows.iter().filter(|window| window.doc == doc && window.version == version);
    same.for_each(|window| lines.window(window));
    Story {
        title: title(evidence),
        what: format!(
            "{doc} of s{shard}, {}, was acknowledged to client-{client} at {} while no majority held it",
            short(version),
            in_seconds(at)
        ),
        doc: Some(doc.to_owned()),
        lines: lines.finish(at),
        rule: rules::of_ack(evidence, shard, doc, version, at),
        sibling: None,
        moment: Some(at),
    }
}

/// Everything that is no window: what the clients saw, what came back, what stands still.
fn of_finding(evidence: &Evidence, finding: &Finding, doc: Option<&str>) -> Story {
    let first = finding.cause.lines().next().unwrap_or_default();
    let doc = doc.map(str::to_owned).or_else(|| mentioned(&finding.cause));
    let moment = finding.at;
    let shard = doc.as_ref().and_then(|doc| evidence.shard_of(doc));
    if let (Some(doc), Some(shard), Some(at)) = (&doc, shard, moment)
        && finding.is_early_ack()
        && let Some((client, version)) = acked_at(evidence, doc, at)
    {
        return of_ack(evidence, shard, doc, version, client, at);
    }
    let impossible =
        moment.and_then(|at| evidence.history.iter().find(|it| Some(&*it.key) == doc.as_deref() && it.call == at));
    let what = match impossible {
        Some(operation) if finding.oracle == "linearizable" => lines::impossible(operation),
        _ => format!("{}: {}", finding.oracle, first.chars().take(CAUSE).collect::<String>()),
    };
    let mut story = Story {
        title: title(evidence),
        what,
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
    let versions = concerned(evidence, finding, &doc);
    let mut lines = Lines::new(evidence, shard, &doc);
    lines.ledger(versions.as_ref(), until);
    for operation in evidence.history.iter().filter(|it| *it.key == *doc && it.call <= until) {
        let impossible = stuck.is_some_and(|stuck| stuck == operation);
        let version = operation.version.map(|version| version.to_string());
        if impossible || versions.as_ref().is_none_or(|of| version.is_some_and(|version| of.contains(&version))) {
            lines.operation(operation, impossible);
        }
    }
    story.lines = lines.finish(until);
    story.moment = story.moment.or(Some(until));
    story
}

/// Whom a client was told about at an instant, and which version of a document was safe.
fn acked_at<'e>(evidence: &'e Evidence, doc: &str, at: Nanos) -> Option<(u32, &'e str)> {
    evidence.ledger.iter().find_map(|line| match &line.entry {
        Entry::Acked { client, doc: of, version, .. } if of == doc && line.at == at => Some((*client, &**version)),
        _ => None,
    })
}

/// The versions of a document that a finding is about; none if it may be about all.
///
/// A read that fits no instant: what it returned, and the newest of what had been read or acknowledged before it was
/// called. A copy that went back: what it held or had forgotten, and what it got.
fn concerned(evidence: &Evidence, finding: &Finding, doc: &str) -> Option<BTreeSet<String>> {
    let at = finding.at?;
    if let Some(stuck) = evidence.history.iter().find(|it| *it.key == *doc && it.call == at) {
        let before = evidence.history.iter().filter(|it| *it.key == *doc && it.outcome == Outcome::Ok);
        let seen = before.filter(|it| it.ret.is_some_and(|ret| ret <= stuck.call)).filter_map(|it| it.version);
        let versions = stuck.version.into_iter().chain(seen.max());
        return Some(versions.map(|version| version.to_string()).collect());
    }
    let (node, now) = evidence.ledger.iter().find_map(|line| match &line.entry {
        Entry::Applied { node, doc: of, version, .. } if of == doc && line.at == at => Some((node, version)),
        _ => None,
    })?;
    let before = State::at(&evidence.ledger, at.saturating_sub(1));
    let held = before.held.get(&(evidence.shard_of(doc)?, doc.to_owned())).and_then(|held| held.get(node));
    // What rose from the dead: and the deletion that would have kept it down.
    let forgotten = evidence.ledger.iter().rev().find_map(|line| match &line.entry {
        Entry::Forgotten { node: of, doc: it, version, .. } if of == node && it == doc && line.at < at => Some(version),
        _ => None,
    });
    Some(held.or(forgotten).into_iter().chain([now]).cloned().collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_in_words() {
        assert_eq!(mentioned("key d000063 is not linearizable").as_deref(), Some("d000063"));
        assert_eq!(mentioned("dead 0d000063 d00006 d0000631"), None);
    }
}
