//! What a sweep prints at its end: tables for a person, one line for a script.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use miroir_sim::record::VERSION;
use miroir_sim::verdict::Verdict;
use serde_json::json;

use crate::print::{counted, green, quoted, red};
use crate::worker::Build;

use super::tally::{Failing, Tally, WELL_ACKED_PERCENT};
use super::{Outcome, Request};

/// How many failing seeds are listed; all of them stand in `results.jsonl`.
const LISTED: usize = 20;

/// The tables, the failing seeds with what to type next, and a closing line.
pub fn text(outcome: &Outcome, request: &Request) -> String {
    let mut text = format!("\n{}\n", scenarios(&outcome.tallies));
    if outcome.tallies.iter().any(|tally| tally.marks().next().is_some()) {
        let _ = writeln!(text, "\n{}", marks(&outcome.tallies));
    }
    let failing: Vec<(&Tally, &Failing)> =
        outcome.tallies.iter().flat_map(|tally| tally.failing().iter().map(move |failing| (tally, failing))).collect();
    if !failing.is_empty() {
        let _ = writeln!(text, "\nTo reproduce:");
    }
    for (tally, failing) in failing.iter().take(LISTED) {
        let command = reproduce(tally.id(), failing, request);
        let _ = writeln!(text, "  {command}\n      {}: {}", failing.verdict, failing.reason);
    }
    if failing.len() > LISTED {
        let _ = writeln!(text, "  and {} more in results.jsonl", failing.len() - LISTED);
    }
    let _ = writeln!(text);
    for line in alarms(outcome) {
        let _ = writeln!(text, "{line}");
    }
    text + &closing(outcome)
}

/// One line per scenario.
fn scenarios(tallies: &[Tally]) -> Table {
    let mut table = table([
        "scenario",
        "seeds",
        "verdicts",
        "acked",
        "rejected",
        "unknown",
        "transient",
        "superseded",
        "permanent",
        "refusals",
        "done",
        "aborted",
    ]);
    for tally in tallies {
        let verdicts: Vec<String> = tally.verdicts().map(|(verdict, n)| format!("{n} {verdict}")).collect();
        let numbers = [
            tally.acked,
            tally.rejected,
            tally.unknown,
            tally.windows.transient,
            tally.windows.superseded,
            tally.windows.permanent,
            tally.refusals,
            tally.migrations.done,
            tally.migrations.aborted,
        ];
        let head = [tally.id().to_owned(), tally.seeds().to_string(), verdicts.join(", ")];
        table.add_row(head.into_iter().chain(numbers.map(|number| number.to_string())));
    }
    for column in [1].into_iter().chain(3..12) {
        align_right(&mut table, column);
    }
    table
}

/// In how many seeds each mark was reached, and the two shares that say whether the load was real.
fn marks(tallies: &[Tally]) -> Table {
    let mut table = table(["scenario", "reached", "in", "times"]);
    for tally in tallies {
        let of = |seeds: u64| format!("{seeds} of {}", counted(tally.seeds(), "seed"));
        let well_acked = format!("(at least {WELL_ACKED_PERCENT} % of the writes acked)");
        table.add_row([tally.id(), "(a migration done)", &of(tally.migrated), &tally.migrations.done.to_string()]);
        table.add_row(["", &well_acked, &of(tally.well_acked), ""]);
        for (mark, reached) in tally.marks() {
            table.add_row(["", mark, &of(reached.seeds), &reached.times.to_string()]);
        }
    }
    for column in [2, 3] {
        align_right(&mut table, column);
    }
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// What is wrong beyond single seeds.
fn alarms(outcome: &Outcome) -> Vec<String> {
    let broken = outcome.broken_alarm.iter().map(|why| format!("{}: {why}", red("the alarm is broken")));
    let stopped = outcome.stopped.then(|| "stopped early (--max-fail), so unreached marks are not judged".to_owned());
    let unreached = outcome.tallies.iter().filter(|_| !outcome.stopped).flat_map(|tally| {
        let line =
            move |mark| format!("{}: {} never reached `{mark}`", red(&Verdict::Unreached.to_string()), tally.id());
        tally.unreached().into_iter().map(line).collect::<Vec<_>>()
    });
    broken.chain(unreached).chain(stopped).collect()
}

fn closing(outcome: &Outcome) -> String {
    let seeds: u64 = outcome.tallies.iter().map(Tally::seeds).sum();
    let compared: u64 = outcome.tallies.iter().map(|tally| tally.compared).sum();
    let verdict = match outcome.findings() {
        0 => green("as expected"),
        findings => red(&counted(findings, "finding")),
    };
    let canary = if outcome.broken_alarm.is_none() { "canary found, " } else { "" };
    format!(
        "{}: {} in {:.1} s, {:.0} seeds/min with {}, {canary}{compared} compared in two processes",
        verdict,
        counted(seeds, "seed"),
        outcome.wall.as_secs_f64(),
        seeds_per_min(outcome, seeds),
        counted(outcome.jobs as u64, "job"),
    )
}

fn seeds_per_min(outcome: &Outcome, seeds: u64) -> f64 {
    seeds as f64 * 60.0 / outcome.wall.as_secs_f64().max(0.001)
}

/// The command that runs one seed of this sweep again.
fn reproduce(id: &str, failing: &Failing, request: &Request) -> String {
    let mut command = format!("cargo xtask sim {} --seed {}", quoted(id), failing.seed);
    for argument in request.overrides.to_arguments() {
        let _ = write!(command, " {}", quoted(&argument));
    }
    // Two processes are what shows a divergence.
    command.push_str(if failing.verdict == Verdict::Diverged { " --twice" } else { "" });
    command.push_str(if request.build == Build::Dev { " --dev" } else { "" });
    command
}

/// The last line of `sweep --json`.
pub fn summary(outcome: &Outcome, request: &Request) -> String {
    let seeds: u64 = outcome.tallies.iter().map(Tally::seeds).sum();
    let failing = outcome.tallies.iter().flat_map(|tally| {
        tally.failing().iter().map(|failing| {
            json!({
                "scenario": tally.id(), "seed": failing.seed, "verdict": failing.verdict, "reason": failing.reason,
                "reproduce": reproduce(tally.id(), failing, request),
            })
        })
    });
    let sums = json!({
        "seeds": seeds, "passed": outcome.passed(), "findings": outcome.findings(), "exit": outcome.exit().code(),
        "canary": outcome.broken_alarm.as_deref().unwrap_or("found"), "stopped": outcome.stopped,
        "wall_ms": u64::try_from(outcome.wall.as_millis()).unwrap_or(u64::MAX), "jobs": outcome.jobs,
        "seeds_per_min": seeds_per_min(outcome, seeds).round(),
        "scenarios": outcome.tallies.iter().map(Tally::to_json).collect::<Vec<_>>(),
        "failing": failing.collect::<Vec<_>>(),
    });
    // Schema version first, as in every line.
    format!("{{\"v\":{VERSION},\"summary\":{sums}}}")
}
