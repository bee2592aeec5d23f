//! `report.html`: the picture of one run, in one file that needs nothing else, not even a network.
//!
//! Rust gathers what is drawn into one JSON object; the scripts in `page/` draw it on canvases that share one time axis. Times are
//! microseconds with three decimals, so that nothing is rounded; names, documents and labels are indices into tables, which keeps
//! a run of 100,000 events at a few megabytes. What is drawn at once is bounded by the script, whatever the run holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use miroir_scenarios::ledger::{Entry, short};
use miroir_sim::history::{Op, Outcome};
use miroir_sim::time::Nanos;
use serde_json::{Value, json};

use crate::evidence::{Evidence, Finding};
use crate::exit::Failure;
use crate::explain::{self, Story};
use crate::print::quoted;

/// The name of the file in the folder of a run.
pub const FILE: &str = "report.html";

const HEAD: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");

/// In this order: each uses what stands before it.
const SCRIPTS: [&str; 8] = [
    include_str!("page/data.js"),
    include_str!("page/view.js"),
    include_str!("page/board.js"),
    include_str!("page/instant.js"),
    include_str!("page/timeline.js"),
    include_str!("page/panels.js"),
    include_str!("page/words.js"),
    include_str!("page/main.js"),
];

/// Of how many documents a page tells the story, besides that of the run.
const STORIES: usize = 20;

/// Phases of a run, which the worlds signal like stages.
const PHASES: [&str; 3] = ["chaos", "heal", "settle"];

/// Writes the page of a run into its folder.
pub fn write(evidence: &Evidence, story: Option<&Story>, folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(FILE);
    fs::write(&path, html(evidence, story)?).map_err(|error| Failure::io("write", path.display(), &error))?;
    Ok(path)
}

/// The page.
pub fn html(evidence: &Evidence, story: Option<&Story>) -> Result<String, Failure> {
    // A closing tag inside the data would end the script.
    let data = data(evidence, story)?.to_string().replace("</", "<\\/");
    let title = format!("{} seed {}: {}", evidence.record.scenario, evidence.record.seed, evidence.record.verdict);
    // A scope of its own: the names of the scripts are nobody else's.
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    let page = HEAD.replace("{{title}}", &escaped(&title)).replace("{{style}}", STYLE).replace("{{script}}", &script);
    Ok(page.replace("{{data}}", &data))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Microseconds; nanoseconds are the decimals.
fn us(at: Nanos) -> f64 {
    at as f64 / 1_000.0
}

fn data(evidence: &Evidence, story: Option<&Story>) -> Result<Value, Failure> {
    let mut lanes = Table::default();
    for name in ordered(&evidence.processes()) {
        if !is_idle(evidence, name) {
            lanes.number(name);
        }
    }
    let mut docs = Table::default();
    for operation in &evidence.history {
        docs.number(&operation.key);
    }
    let (messages, labels) = messages(evidence, &mut lanes);
    let held = held(evidence, &mut lanes, &mut docs);
    Ok(json!({
        "head": head(evidence),
        "end": us(evidence.record.simulated_ns),
        "messages": messages,
        "labels": labels.names,
        "held": held,
        "acked": acked(evidence, &mut docs),
        "installed": installed(evidence, &mut lanes),
        "ops": operations(evidence, &mut lanes, &mut docs),
        "configs": configs(evidence, &mut lanes),
        "down": down(evidence, &lanes),
        "faults": faults(evidence),
        "stages": stages(evidence),
        "phases": phases(evidence),
        "windows": windows(evidence),
        "stuck": stuck(evidence),
        "stories": stories(evidence, story)?,
        "lanes": lanes.names,
        "docs": docs.names,
    }))
}

/// Names by number, each once.
#[derive(Default)]
struct Table {
    names: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Table {
    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// From top to bottom: clients, nodes, the coordinator, the operator.
fn ordered<'a>(processes: &[&'a str]) -> Vec<&'a str> {
    let rank = |name: &str| match name {
        _ if name.starts_with("client-") => 0,
        "coordinator" => 2,
        "operator" => 3,
        _ => 1,
    };
    let mut ordered = processes.to_vec();
    ordered.sort_by_key(|name| rank(name));
    ordered
}

/// A client of a small plan that never does anything has no lane.
fn is_idle(evidence: &Evidence, name: &str) -> bool {
    let number = name.strip_prefix("client-").and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| evidence.history.iter().all(|operation| operation.client != number))
}

fn head(evidence: &Evidence) -> Value {
    let (record, bundle) = (&evidence.record, &evidence.bundle);
    json!({
        "scenario": record.scenario, "seed": record.seed, "verdict": record.verdict, "fingerprint": record.fingerprint,
        "cause": record.cause, "build": record.build, "mutant": bundle.mutant, "hash": record.trace_hash,
        "again": format!("cargo xtask replay {}", quoted("repro.toml")),
    })
}

/// `[sent, arrived or null, from, to, 0 arrived | 1 lost | 2 on its way at the end, label, shard or -1]`, in the order in which
/// they were sent. A frame that arrives twice has two rows.
fn messages(evidence: &Evidence, lanes: &mut Table) -> (Vec<Value>, Table) {
    let mut labels = Table::default();
    let mut sent: BTreeMap<u64, (Nanos, usize, i64)> = BTreeMap::new();
    let mut rows: Vec<(Nanos, Value)> = Vec::new();
    let mut arrived: Vec<u64> = Vec::new();
    for event in &evidence.events {
        let (from, to) = (&event.from, &event.to);
        match event.event.as_str() {
            "send" => {
                let label = labels.number(&event.label);
                sent.insert(event.frame(), (event.at, label, shard(&event.label)));
            }
            kind @ ("deliver" | "drop") => {
                let Some(&(at, label, shard)) = sent.get(&event.frame()) else { continue };
                let lost = kind == "drop";
                let label = if lost { labels.number(&format!("{} (lost: {})", event.label, event.why)) } else { label };
                let row =
                    json!([us(at), us(event.at), lanes.number(from), lanes.number(to), u8::from(lost), label, shard]);
                rows.push((at, row));
                arrived.push(event.frame());
            }
            _ => {}
        }
    }
    for frame in arrived {
        sent.remove(&frame);
    }
    let on_their_way = evidence.events.iter().filter(|event| event.is("send") && sent.contains_key(&event.frame()));
    for event in on_their_way {
        let (at, label, shard) = sent[&event.frame()];
        rows.push((at, json!([us(at), null, lanes.number(&event.from), lanes.number(&event.to), 2, label, shard])));
    }
    rows.sort_by_key(|(at, _)| *at);
    (rows.into_iter().map(|(_, row)| row).collect(), labels)
}

/// The shard that a label names, as in `ask s0 epoch 1.2`; -1 if none.
fn shard(label: &str) -> i64 {
    let named = label.split([' ', ':', '(']).find_map(|word| word.strip_prefix('s')?.parse::<u32>().ok());
    named.map_or(-1, i64::from)
}

/// `[at, lane, document or -1 (all), version or null (gone), what brought or took it, shard or -1 (all)]`, in the order of the
/// ledger. A node that begins a life has lost everything but what the rows of the same instant say that its disk holds.
fn held(evidence: &Evidence, lanes: &mut Table, docs: &mut Table) -> Vec<Value> {
    let mut rows = Vec::new();
    for line in &evidence.ledger {
        let at = us(line.at);
        match &line.entry {
            Entry::Applied { node, shard, doc, version, by } => {
                rows.push(json!([at, lanes.number(node), docs.number(doc), short(version), by, shard]));
            }
            Entry::Forgotten { node, shard, doc, .. } => {
                let row = json!([at, lanes.number(node), docs.number(doc), null, "the deletion is forgotten", shard]);
                rows.push(row);
            }
            Entry::Dropped { node, shard, why } => rows.push(json!([at, lanes.number(node), -1, null, why, shard])),
            Entry::Opened { node, copies } => {
                let lane = lanes.number(node);
                rows.push(json!([at, lane, -1, null, "not on its disk", -1]));
                for copy in copies {
                    let found = copy.documents.iter().map(|(doc, version)| {
                        json!([at, lane, docs.number(doc), short(version), "from its disk", copy.shard])
                    });
                    rows.extend(found);
                }
            }
            _ => {}
        }
    }
    rows
}

/// `[at, document, version, shard]`: when a client was told that it is safe.
fn acked(evidence: &Evidence, docs: &mut Table) -> Vec<Value> {
    let acked = evidence.ledger.iter().filter_map(|line| match &line.entry {
        Entry::Acked { shard, doc, version, .. } => Some(json!([us(line.at), docs.number(doc), short(version), shard])),
        _ => None,
    });
    acked.collect()
}

/// `[at, lane, shard or -1 (all), epoch or null]`.
fn installed(evidence: &Evidence, lanes: &mut Table) -> Vec<Value> {
    let mut rows = Vec::new();
    for line in &evidence.ledger {
        match &line.entry {
            Entry::Installed { node, shard, epoch } => {
                rows.push(json!([us(line.at), lanes.number(node), shard, epoch]));
            }
            Entry::Opened { node, copies } => {
                let lane = lanes.number(node);
                rows.push(json!([us(line.at), lane, -1, null]));
                rows.extend(copies.iter().map(|copy| json!([us(line.at), lane, copy.shard, copy.epoch])));
            }
            _ => {}
        }
    }
    rows
}

/// `[call, return or null, lane, document, r|w|d, o(k)|r(ejected)|u(nknown), words]`, in the order of the calls.
fn operations(evidence: &Evidence, lanes: &mut Table, docs: &mut Table) -> Vec<Value> {
    let mut rows: Vec<(Nanos, Value)> = Vec::new();
    for operation in &evidence.history {
        let lane = match operation.client {
            0 => "operator".to_owned(),
            client => format!("client-{client}"),
        };
        let kind = match operation.op {
            Op::Read { .. } => "r",
            Op::Write { .. } | Op::Cas { .. } => "w",
            Op::Delete => "d",
        };
        let outcome = match operation.outcome {
            Outcome::Ok => "o",
            Outcome::Rejected => "r",
            Outcome::Unknown => "u",
        };
        let version = operation.version.map(|version| format!(", {}", short(&version.to_string()))).unwrap_or_default();
        let words = operation.to_string();
        let words = format!("{}{version}", words.rsplit_once(" (").map_or(words.as_str(), |(words, _)| words));
        let (lane, doc) = (lanes.number(&lane), docs.number(&operation.key));
        rows.push((
            operation.call,
            json!([us(operation.call), operation.ret.map(us), lane, doc, kind, outcome, words]),
        ));
    }
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// `[lane, from, to or null, down|paused, why]`.
fn down(evidence: &Evidence, lanes: &Table) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut open: BTreeMap<(String, &str), (Nanos, String)> = BTreeMap::new();
    for event in &evidence.events {
        let process = event.process().to_owned();
        let (kind, begins) = match event.event.as_str() {
            _ if event.is_end_of_work() => continue,
            "crash" => ("down", true),
            "start" => ("down", false),
            "pause" => ("paused", true),
            "resume" => ("paused", false),
            _ => continue,
        };
        if begins {
            open.entry((process, kind)).or_insert((event.at, event.why.clone()));
        } else if let Some((from, why)) = open.remove(&(process.clone(), kind)) {
            rows.push(json!([lanes.numbers.get(&process), us(from), us(event.at), kind, why]));
        }
    }
    rows.extend(
        open.into_iter()
            .map(|((process, kind), (from, why))| json!([lanes.numbers.get(&process), us(from), null, kind, why])),
    );
    rows
}

/// `[name, words, from, to or null]`.
fn faults(evidence: &Evidence) -> Vec<Value> {
    let mut rows: Vec<(String, String, Nanos, Option<Nanos>)> = Vec::new();
    for event in &evidence.events {
        let id = event.id.as_str().unwrap_or_default();
        match event.event.as_str() {
            "fault_begin" => rows.push((id.to_owned(), explain::of_planned(evidence, event), event.at, None)),
            "fault_end" => {
                if let Some(row) = rows.iter_mut().rev().find(|row| row.0 == id && row.3.is_none()) {
                    row.3 = Some(event.at);
                }
            }
            _ => {}
        }
    }
    rows.into_iter().map(|(id, text, from, to)| json!([id, text, us(from), to.map(us)])).collect()
}

/// `[migration, shard, at, stage, reason or null]`.
fn stages(evidence: &Evidence) -> Vec<Value> {
    let staged = evidence.ledger.iter().filter_map(|line| match &line.entry {
        Entry::Staged { migration, shard, stage, reason } => {
            Some(json!([migration, shard, us(line.at), stage, reason]))
        }
        _ => None,
    });
    staged.collect()
}

/// `[at, shard, words, groups of lanes]`.
fn configs(evidence: &Evidence, lanes: &mut Table) -> Vec<Value> {
    let committed = evidence.ledger.iter().filter_map(|line| match &line.entry {
        Entry::Committed { shard, text, groups, .. } => {
            let groups = groups.iter().map(|group| group.iter().map(|node| lanes.number(node)).collect());
            let groups: Vec<Vec<usize>> = groups.collect();
            Some(json!([us(line.at), shard, text, groups]))
        }
        _ => None,
    });
    committed.collect()
}

/// `[at, name]`.
fn phases(evidence: &Evidence) -> Vec<Value> {
    let signals = evidence.events.iter().filter(|event| event.is("signal") && PHASES.contains(&event.name.as_str()));
    signals.map(|event| json!([us(event.at), event.name])).collect()
}

fn windows(evidence: &Evidence) -> Vec<Value> {
    let row = |it: &crate::evidence::Window| {
        json!({
            "doc": it.doc, "shard": it.shard, "acked": us(it.acked_at), "from": us(it.opened_at), "to": it.closed_at.map(us),
            "text": it.text, "declared": it.declared,
        })
    };
    evidence.windows.iter().map(row).collect()
}

/// The operation that fits no instant.
fn stuck(evidence: &Evidence) -> Option<Value> {
    let finding: &Finding = evidence.findings.iter().find(|it| it.oracle == "linearizable" && it.at.is_some())?;
    let call = finding.at?;
    let operation = evidence.history.iter().find(|it| it.call == call && finding.cause.contains(&*it.key))?;
    Some(json!({"doc": &*operation.key, "call": us(call), "client": operation.client, "why": finding.cause}))
}

/// The story of the run first, then those of other documents that could be missed.
fn stories(evidence: &Evidence, story: Option<&Story>) -> Result<Vec<Value>, Failure> {
    let mut stories: Vec<Value> = story.map(told).into_iter().collect();
    let mut known: BTreeSet<&str> = story.iter().filter_map(|story| story.doc.as_deref()).collect();
    for window in &evidence.windows {
        if stories.len() <= STORIES
            && known.insert(&window.doc)
            && let Some(story) = Story::of(evidence, Some(&window.doc))?
        {
            stories.push(told(&story));
        }
    }
    Ok(stories)
}

fn told(story: &Story) -> Value {
    let lines: Vec<Value> = story.lines.iter().map(|(at, line)| json!([us(*at), line])).collect();
    json!({
        "title": story.title, "what": story.what, "doc": story.doc, "lines": lines, "rule": story.rule,
        "sibling": story.sibling, "at": story.moment.map(us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_stand_in_the_order_of_the_sentence() {
        let lanes = ordered(&["operator", "n1", "n2", "coordinator", "client-1", "client-2"]);
        assert_eq!(lanes, ["client-1", "client-2", "n1", "n2", "coordinator", "operator"]);
    }

    #[test]
    fn a_label_names_its_shard_or_none() {
        assert_eq!(shard("ask s12 epoch 1.2: read d000001"), 12);
        assert_eq!(shard("split! job 3 n1"), -1);
        assert_eq!(shard("installed s0 epoch 1.1 on n2"), 0);
    }
}
