//! What a sweep prints at its end: tables for a person, one line for a script.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use miroir_scenarios::plan::NEVER_DRAWN;
use miroir_sim::coverage::Matrix;
use miroir_sim::plan::FaultKind;
use miroir_sim::record::VERSION;
use miroir_sim::verdict::Verdict;
use serde_json::json;

use crate::print::{counted, green, quoted, red};
use crate::worker::Build;

use super::groups::{Group, Groups, Since};
use super::outcome::Outcome;
use super::pool::exemplar_folder;
use super::tally::{Tally, WELL_ACKED_PERCENT};

/// How many different failures are listed; `sweep.json` has them all.
const LISTED: usize = 12;

/// The tables, the failures with what to type next, and a closing line.
pub fn text(outcome: &Outcome) -> String {
    let mut text = format!("\n{}\n", scenarios(&outcome.tallies));
    if outcome.tallies.iter().any(|tally| tally.marks().next().is_some()) {
        let _ = writeln!(text, "\n{}", marks(&outcome.tallies));
    }
    if let Some(table) = losses(&outcome.tallies) {
        let _ = writeln!(text, "\n{table}");
    }
    if let Some(table) = matrix(outcome) {
        let _ = writeln!(text, "\n{table}");
    }
    let groups = outcome.groups.by_frequency();
    for group in groups.iter().take(LISTED) {
        let _ = write!(text, "\n{}", failure(outcome, group));
    }
    if groups.len() > LISTED {
        let _ = writeln!(text, "\nand {} more kinds of failures in sweep.json", groups.len() - LISTED);
    }
    let _ = writeln!(text);
    for line in alarms(outcome) {
        let _ = writeln!(text, "{line}");
    }
    text + &closing(outcome)
}

/// One kind of failure: what, how often, since when, and what to type next.
fn failure(outcome: &Outcome, group: &Group) -> String {
    let since = match (outcome.last.as_ref(), Groups::since(group, outcome.last_groups())) {
        (None, _) => "",
        (Some(_), Since::New) => "New ",
        (Some(_), Since::Ongoing) => "Ongoing ",
    };
    let (verdict, runs) = (red(&group.verdict.to_string()), counted(group.runs, "run"));
    let mut text = format!("{since}{verdict} {} of {}, {runs}\n", group.fingerprint, group.scenario);
    let _ = writeln!(text, "  seed {}: {}", group.exemplar, group.cause);
    for command in next(outcome, group) {
        let _ = writeln!(text, "  {command}");
    }
    text
}

/// The commands that take one further: run it again, make it smaller.
pub fn next(outcome: &Outcome, group: &Group) -> Vec<String> {
    let mut commands = vec![reproduce(outcome, group)];
    // A divergence or a crash has no plan that fails reliably; shrinking holds on to verdicts of oracles.
    let kept = exemplar_folder(&outcome.asked.folder, &group.scenario, group.exemplar).exists();
    if kept && matches!(group.verdict, Verdict::Violation | Verdict::Stalled | Verdict::Crashed) {
        let folder = format!("{}/failing/{}-{}", outcome.asked.shown, group.scenario.replace('/', "-"), group.exemplar);
        let dev = if outcome.asked.build == Build::Dev { " --dev" } else { "" };
        commands.push(format!("cargo xtask shrink {}{dev}", quoted(&folder)));
        commands.push(format!("cargo xtask explain {}{dev}", quoted(&folder)));
    }
    commands
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

/// What loss windows came from, during what they opened, and how long they lasted.
fn losses(tallies: &[Tally]) -> Option<Table> {
    let mut table = table(["scenario", "loss windows", "", "count"]);
    for tally in tallies.iter().filter(|tally| !tally.losses.is_empty()) {
        let losses = &tally.losses;
        let lengths = losses.by_length_ms.iter().map(|(below, count)| match below {
            0 => ("for ever".to_owned(), count),
            below => (format!("under {below} ms"), count),
        });
        let named = |sums: &BTreeMap<String, u64>| sums.iter().map(|(name, n)| (name.clone(), *n)).collect::<Vec<_>>();
        let lengths: Vec<(String, u64)> = lengths.map(|(name, count)| (name, *count)).collect();
        let parts = [("cause", named(&losses.by_cause)), ("stage", named(&losses.by_stage)), ("length", lengths)];
        let mut id = tally.id();
        for (what, sums) in parts {
            let mut what = what;
            for (name, count) in sums {
                table.add_row([std::mem::take(&mut id), std::mem::take(&mut what), &name, &count.to_string()]);
            }
        }
    }
    align_right(&mut table, 3);
    tallies.iter().any(|tally| !tally.losses.is_empty()).then_some(table)
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

/// Which fault began in which phase, how often: the whole sweep's, all scenarios together.
fn matrix(outcome: &Outcome) -> Option<String> {
    let mut whole = Matrix::default();
    outcome.tallies.iter().for_each(|tally| whole.merge(&tally.matrix));
    if whole.is_empty() {
        return None;
    }
    let phases: Vec<&str> = whole.rows().map(|(phase, _)| phase).collect();
    let (began, never): (Vec<&str>, Vec<&str>) = FaultKind::NAMES.into_iter().partition(|kind| whole.total(kind) > 0);
    let mut table = table([]);
    table.set_header(["fault \\ phase"].into_iter().chain(phases.iter().copied()));
    for kind in began {
        let counts = phases.iter().map(|phase| whole.get(phase, kind).to_string());
        table.add_row([kind.to_owned()].into_iter().chain(counts));
    }
    for column in 1..=phases.len() {
        align_right(&mut table, column);
    }
    let mut text = table.to_string();
    for kind in never {
        let reason = NEVER_DRAWN.iter().find(|(known, _)| *known == kind).map(|&(_, why)| why);
        let reason = reason.unwrap_or("drawn for other seeds, scenarios or profiles");
        text.push_str(&format!("\n{kind}: never, {reason}"));
    }
    Some(text)
}

/// What is wrong beyond single seeds, and what is right again.
fn alarms(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> =
        outcome.problems.iter().map(|problem| format!("{}: {problem}", red("incomplete"))).collect();
    lines.extend(outcome.broken_alarm.iter().map(|why| format!("{}: {why}", red("the alarm is broken"))));
    for (path, problem) in outcome.regressed() {
        lines.push(format!("{}: {path}: {problem}\n  cargo xtask replay {}", red("regression"), quoted(path)));
    }
    for (id, mark) in outcome.unreached() {
        lines.push(format!("{}: {id} never reached `{mark}`", red(&Verdict::Unreached.to_string())));
    }
    for (id, pause) in outcome.pauses() {
        lines.push(format!("{}: {id}: {pause}", red(&Verdict::Violation.to_string())));
    }
    for group in outcome.groups.gone(outcome.last_groups()) {
        // Gone is what ran again and passed; other seeds say little about it.
        let tally = outcome.tallies.iter().find(|tally| tally.id() == group.scenario);
        let again = tally.is_some_and(|tally| tally.ran(group.exemplar, outcome.asked.partition));
        let (what, seed) = if again { ("Resolved", "passes") } else { ("Not seen again", "did not run") };
        let (fingerprint, id) = (&group.fingerprint, &group.scenario);
        lines.push(format!("{what}: {} {fingerprint} of {id} (seed {} {seed})", group.verdict, group.exemplar));
    }
    if let Some(why) = &outcome.cut_short {
        lines.push(format!("stopped early ({why}), so unreached marks are not judged"));
    }
    lines
}

fn closing(outcome: &Outcome) -> String {
    let seeds = outcome.seeds();
    let compared: u64 = outcome.tallies.iter().map(|tally| tally.compared).sum();
    let verdict = match outcome.findings() {
        0 if outcome.is_incomplete => red("results are missing on the disk"),
        0 => green("as expected"),
        findings => red(&counted(findings, "finding")),
    };
    let canary = if outcome.broken_alarm.is_none() { "canary found, " } else { "" };
    let regressions = match outcome.regressions.len() {
        0 => String::new(),
        count => format!("{} run, ", counted(count as u64, "regression")),
    };
    format!(
        "{}: {} in {:.1} s, {:.0} seeds/min with {}, {canary}{regressions}{compared} compared in two processes",
        verdict,
        counted(seeds, "seed"),
        outcome.wall.as_secs_f64(),
        outcome.seeds_per_min(),
        counted(outcome.jobs as u64, "job"),
    )
}

/// The command that runs the exemplar of a group again.
pub fn reproduce(outcome: &Outcome, group: &Group) -> String {
    let mut command = format!("cargo xtask sim {} --seed {}", quoted(&group.scenario), group.exemplar);
    for argument in outcome.asked.overrides.to_arguments() {
        let _ = write!(command, " {}", quoted(&argument));
    }
    // Two processes are what shows a divergence.
    command.push_str(if group.verdict == Verdict::Diverged { " --twice" } else { "" });
    command.push_str(if outcome.asked.build == Build::Dev { " --dev" } else { "" });
    command
}

/// The last line of `sweep --json`.
pub fn summary(outcome: &Outcome) -> String {
    let last = outcome.last_groups();
    let groups = outcome.groups.by_frequency();
    let failing = groups.iter().map(|group| {
        let since = match Groups::since(group, last) {
            Since::New => "new",
            Since::Ongoing => "ongoing",
        };
        json!({
            "scenario": group.scenario, "seed": group.exemplar, "verdict": group.verdict, "reason": group.cause,
            "fingerprint": group.fingerprint, "runs": group.runs, "seeds": group.seeds, "since": since,
            "reproduce": reproduce(outcome, group), "next": next(outcome, group),
        })
    });
    let sums = json!({
        "seeds": outcome.seeds(), "passed": outcome.passed(), "findings": outcome.findings(),
        "exit": outcome.exit().code(), "canary": outcome.broken_alarm.as_deref().unwrap_or("found"),
        "stopped": outcome.cut_short.is_some(), "cut_short": outcome.cut_short, "problems": outcome.problems,
        "regressions": outcome.regressions, "wall_ms": u64::try_from(outcome.wall.as_millis()).unwrap_or(u64::MAX),
        "jobs": outcome.jobs, "seeds_per_min": outcome.seeds_per_min().round(),
        "scenarios": outcome.tallies.iter().map(Tally::to_json).collect::<Vec<_>>(),
        "failing": failing.collect::<Vec<_>>(), "gone": outcome.groups.gone(last),
    });
    // Schema version first, as in every line.
    format!("{{\"v\":{VERSION},\"summary\":{sums}}}")
}
