//! The files of a run: what it was, so that it can be had again.

use std::fs;
use std::path::Path;

use miroir_sim::{history, profile};
use serde_json::json;

use crate::catalog::Scenario;
use crate::judge::{self, Finding, kind, told};
use crate::ledger::Line;
use crate::plan::{Plan, Profile};
use crate::run::Outcome;
use crate::worker::arguments::Arguments;

fn cannot(what: &str, path: &Path, error: std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// Reads a plan, or the plan in a bundle; the error names file, line and field.
pub fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(path).map_err(|error| cannot("read the plan", path, error))?;
    Plan::read(&path.display().to_string(), &text)
}

/// The most memory that this process has had resident, in KiB; Linux tells.
pub fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A profile by its name, or from a file.
pub fn read_profile(name: &str) -> Result<Profile, String> {
    if let Some(named) = Profile::named(name) {
        return Ok(named);
    }
    let text = fs::read_to_string(name).map_err(|error| {
        format!("`{name}` is no profile: use calm, usual, storm, or a file that can be read ({error})")
    })?;
    let ranges = profile::Profile::read(name, &text)?;
    Ok(Profile::File(Box::new(ranges)))
}

pub fn write_lines(path: &Path, lines: Vec<String>) -> Result<(), String> {
    let mut text = lines.join("\n");
    text.push('\n');
    fs::write(path, text).map_err(|error| cannot("write", path, error))
}

/// Writes `repro.toml`, `plan.toml`, `history.jsonl`, `windows.jsonl`, `findings.jsonl`, `ledger.jsonl`, `record.json` and
/// `events.jsonl`.
pub fn write_run(
    dir: &Path,
    arguments: &Arguments,
    scenario: &Scenario,
    outcome: &Outcome,
    mutant: Option<&str>,
) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| cannot("create", dir, error))?;
    let write = |name: &str, text: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))
    };
    write("plan.toml", outcome.plan.to_toml().as_bytes())?;
    write("repro.toml", repro(arguments, outcome, mutant).as_bytes())?;
    write("history.jsonl", history::to_jsonl(&outcome.seen.history).as_bytes())?;
    write("windows.jsonl", windows(scenario, outcome).as_bytes())?;
    write("findings.jsonl", findings(outcome).as_bytes())?;
    write("ledger.jsonl", ledger(outcome).as_bytes())?;
    write("record.json", format!("{}\n", outcome.record.to_json()).as_bytes())?;
    let mut events = Vec::new();
    outcome.trace.write_jsonl(&mut events).map_err(|error| cannot("write", &dir.join("events.jsonl"), error))?;
    write("events.jsonl", &events)
}

/// What every oracle found, the worst first.
fn findings(outcome: &Outcome) -> String {
    let line = |finding: &Finding| {
        let Finding { verdict, oracle, cause, kind, at } = finding;
        format!("{}\n", json!({"verdict": verdict, "oracle": oracle, "cause": cause, "kind": kind, "at": at}))
    };
    outcome.seen.findings.iter().map(line).collect()
}

/// Who held what, when.
fn ledger(outcome: &Outcome) -> String {
    let line = |line: &Line| serde_json::to_string(line).expect("a line is plain data") + "\n";
    outcome.seen.ledger.iter().map(line).collect()
}

/// Every loss window, whether the scenario declares it, how it came about in one sentence, and what a finding about it
/// says.
fn windows(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut text = String::new();
    for window in &outcome.seen.windows {
        let mut line = serde_json::to_value(window).expect("a window is plain data");
        line["declared"] = judge::is_declared(scenario, window, &outcome.seen.books, &outcome.seen.history).into();
        line["told"] = told::in_words(window, &outcome.seen.books).into();
        line["text"] = window.to_string().into();
        line["finding"] = kind::of_window(window).into();
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// The bundle: everything that is needed to run this again, anywhere. The plan holds what settings and profile made of
/// it; they are named for people.
fn repro(arguments: &Arguments, outcome: &Outcome, mutant: Option<&str>) -> String {
    let record = &outcome.record;
    let mut table = toml::Table::new();
    table.insert("scenario".to_owned(), record.scenario.clone().into());
    table.insert("seed".to_owned(), record.seed.to_string().into());
    table.insert("build".to_owned(), record.build.clone().into());
    table.insert("plan_hash".to_owned(), record.plan_hash.clone().into());
    table.insert("trace_hash".to_owned(), record.trace_hash.clone().into());
    table.insert("verdict".to_owned(), record.verdict.to_string().into());
    if let (Some(fingerprint), Some(cause)) = (&record.fingerprint, &record.cause) {
        table.insert("fingerprint".to_owned(), fingerprint.clone().into());
        table.insert("cause".to_owned(), cause.clone().into());
    }
    table.insert("settings".to_owned(), arguments.settings.clone().into());
    if let Some(mutant) = mutant {
        table.insert("mutant".to_owned(), mutant.to_owned().into());
    }
    let plan = toml::Table::try_from(&outcome.plan).expect("a plan holds nothing that TOML lacks");
    table.insert("plan".to_owned(), plan.into());
    table.to_string()
}
