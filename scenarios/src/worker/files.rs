//! The files of a run: what it was, so that it can be had again.

use std::fs;
use std::path::Path;

use miroir_sim::history;

use crate::plan::Plan;
use crate::run::Outcome;
use crate::worker::arguments::Arguments;

fn cannot(what: &str, path: &Path, error: std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// Reads a plan; the error names the file.
pub fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(path).map_err(|error| cannot("read the plan", path, error))?;
    Plan::from_toml(&text).map_err(|problem| format!("{}: {problem}", path.display()))
}

pub fn write_lines(path: &Path, lines: Vec<String>) -> Result<(), String> {
    let mut text = lines.join("\n");
    text.push('\n');
    fs::write(path, text).map_err(|error| cannot("write", path, error))
}

/// Writes `repro.toml`, `plan.toml`, `history.jsonl`, `record.json` and, if a trace was kept, `events.jsonl`.
pub fn write_run(dir: &Path, arguments: &Arguments, outcome: &Outcome, mutant: Option<&str>) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| cannot("create", dir, error))?;
    let write = |name: &str, text: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))
    };
    write("plan.toml", outcome.plan.to_toml().as_bytes())?;
    write("repro.toml", repro(arguments, outcome, mutant).as_bytes())?;
    write("history.jsonl", history::to_jsonl(&outcome.seen.history).as_bytes())?;
    write("record.json", format!("{}\n", outcome.record.to_json()).as_bytes())?;
    let mut events = Vec::new();
    outcome.trace.write_jsonl(&mut events).map_err(|error| cannot("write", &dir.join("events.jsonl"), error))?;
    write("events.jsonl", &events)
}

fn repro(arguments: &Arguments, outcome: &Outcome, mutant: Option<&str>) -> String {
    let record = &outcome.record;
    let mut table = toml::Table::new();
    table.insert("scenario".to_owned(), record.scenario.clone().into());
    table.insert("seed".to_owned(), record.seed.to_string().into());
    table.insert("build".to_owned(), record.build.clone().into());
    table.insert("plan_hash".to_owned(), record.plan_hash.clone().into());
    table.insert("trace_hash".to_owned(), record.trace_hash.clone().into());
    table.insert("verdict".to_owned(), record.verdict.to_string().into());
    table.insert("settings".to_owned(), arguments.settings.clone().into());
    if let Some(mutant) = mutant {
        table.insert("mutant".to_owned(), mutant.to_owned().into());
    }
    table.to_string()
}
