//! Judges the stored history of a run again, without running anything.
//!
//! Linearizability is decided anew from what the clients saw. Loss windows were seen by the auditor of the run, who sees
//! what no history shows; they are taken from `windows.jsonl`, if it is there. Whether replicas converged is not stored,
//! and not judged.

use std::fs;
use std::path::Path;

use miroir_sim::history;
use miroir_sim::time::Nanos;
use miroir_sim::verdict::{ExitCode, Verdict, fingerprint};
use serde::Deserialize;

use super::{Problem, internal};
use crate::judge::{self, Finding};

/// What is read of a stored window.
#[derive(Deserialize)]
struct Window {
    doc: String,
    opened_at: Nanos,
    closed_at: Option<Nanos>,
    declared: bool,
    text: String,
    finding: String,
}

/// Prints what the oracles say, worst first, each finding with its fingerprint.
pub fn run(dir: &Path) -> Result<ExitCode, Problem> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| Problem::from(format!("cannot read {}: {error}", path.display())))
    };
    let history = history::parse(&read("history.jsonl")?)
        .map_err(|error| Problem::from(format!("{}: {error}", dir.join("history.jsonl").display())))?;
    let windows: Vec<Window> = match dir.join("windows.jsonl").exists() {
        false => Vec::new(),
        true => read("windows.jsonl")?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|error| internal(format!("{}: {error}", dir.join("windows.jsonl").display())))?,
    };

    let mut findings = Vec::new();
    for window in windows.iter().filter(|window| !window.declared) {
        let finding = Finding::new(Verdict::Violation, "durable", window.text.clone());
        findings.push(finding.of_kind(window.finding.clone()));
    }
    let spans = windows.iter().map(|window| (window.doc.as_str(), window.opened_at, window.closed_at));
    let searched = judge::judge_history(&history, spans, &mut findings);

    println!("checked      {} operations, {searched} documents by search; {} windows", history.len(), windows.len());
    for finding in &findings {
        let name = fingerprint(finding.verdict, finding.oracle, &finding.kind);
        println!("{:<12} {name} ({}): {}", finding.verdict.to_string(), finding.oracle, finding.cause.trim_end());
    }
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Pass);
    println!("verdict      {worst}");
    Ok(worst.exit_code())
}
