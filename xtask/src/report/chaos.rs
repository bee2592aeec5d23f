//! `docs/chaos_testing_report.md`: what the scenarios found, over how many seeds, and what follows for whoever moves a shard.

use std::path::Path;

use miroir_sim::coverage::Matrix;
use miroir_sim::plan::FaultKind;

use crate::data::{File, Row};
use crate::exit::Failure;
use crate::qualify::Subject;
use crate::qualify::sums::Sums;

use super::mutants;
use super::rate::{self, percent};
use super::tables::{Table, ms, number};
use super::{Rendered, fill};

const PATH: &str = "docs/chaos_testing_report.md";

const TEMPLATE: &str = include_str!("chaos_testing_report.md");

pub fn render(root: &Path) -> Result<Vec<Rendered>, Failure> {
    let rows = |subject: Subject| File::<Sums>::read(root, subject.file()).map(|file| file.rows);
    let (coverage, configurations) = (rows(Subject::Coverage)?, rows(Subject::Configurations)?);
    let text = fill(
        TEMPLATE,
        &[
            ("summary", summary(&coverage)),
            ("coverage", coverage_table(&coverage)),
            ("findings", findings(&coverage)),
            ("matrix", matrix(&coverage)),
            ("configurations", configurations_table(&configurations)),
            ("recommendation", recommendation(&configurations)),
            ("mutants", mutants::section(root)?),
            ("commands", commands(&coverage, &configurations)),
        ],
    );
    Ok(vec![Rendered { path: PATH, text }])
}

fn sum(rows: &[Row<Sums>], of: impl Fn(&Sums) -> u64) -> u64 {
    rows.iter().map(|row| of(&row.measured)).sum()
}

/// What was run, in one paragraph.
fn summary(coverage: &[Row<Sums>]) -> String {
    let mut scenarios: Vec<&str> = coverage.iter().map(|row| row.measured.scenario.as_str()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let faults = sum(coverage, |sums| FaultKind::NAMES.iter().map(|kind| sums.matrix.total(kind)).sum());
    format!(
        "{} scenarios, {} runs, {} acknowledged writes, {} planned faults that struck, {} migrations that ended at their \
         target and {} that went back, {:.1} hours of simulated time.",
        scenarios.len(),
        number(sum(coverage, |sums| sums.runs)),
        number(sum(coverage, |sums| sums.acked)),
        number(faults),
        number(sum(coverage, |sums| sums.migrations.done)),
        number(sum(coverage, |sums| sums.migrations.aborted)),
        sum(coverage, |sums| sums.simulated_ns) as f64 / 3.6e12,
    )
}

fn coverage_table(coverage: &[Row<Sums>]) -> String {
    let header = [
        "profile, scenario",
        "seeds",
        "as expected",
        "acked",
        "transient",
        "superseded",
        "permanent",
        "longest window",
        "marks",
    ];
    let mut table = Table::new(&header, |column| column > 0);
    for Row { name, measured, .. } in coverage {
        let windows = &measured.windows;
        let reached = measured.declared.len() - measured.unreached().len();
        let longest = if windows.max_ns == 0 { "-".to_owned() } else { ms(windows.max_ns) };
        let numbers = [measured.runs, measured.passed(), measured.acked].map(number);
        let windows = [windows.transient, windows.superseded, windows.permanent].map(number);
        let ends = [longest, format!("{reached} of {}", measured.declared.len())];
        table.row([name.clone()].into_iter().chain(numbers).chain(windows).chain(ends));
    }
    table.text()
}

/// Runs that were not as expected, and marks that nobody reached: what a reader must not overlook.
fn findings(coverage: &[Row<Sums>]) -> String {
    let mut lines = Vec::new();
    for Row { name, measured, .. } in coverage {
        let failed = measured.runs - measured.passed();
        if failed > 0 {
            lines.push(format!(
                "- **{name}**: {} of {} runs were not as expected.",
                number(failed),
                number(measured.runs)
            ));
        }
        for mark in measured.unreached() {
            lines.push(format!("- **{name}** never reached `{mark}`."));
        }
    }
    if lines.is_empty() {
        "Every run was as expected, and every declared mark was reached.".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Which fault began in which stage, all rows together.
fn matrix(coverage: &[Row<Sums>]) -> String {
    let mut whole = Matrix::default();
    coverage.iter().for_each(|row| whole.merge(&row.measured.matrix));
    let phases: Vec<&str> = whole.rows().map(|(phase, _)| phase).collect();
    let header: Vec<&str> = ["fault"].into_iter().chain(phases.iter().copied()).collect();
    let mut table = Table::new(&header, |column| column > 0);
    for kind in FaultKind::NAMES {
        let counts = phases.iter().map(|phase| number(whole.get(phase, kind)));
        table.row([kind.to_owned()].into_iter().chain(counts));
    }
    table.text()
}

fn configurations_table(configurations: &[Row<Sums>]) -> String {
    let header = [
        "anti-entropy",
        "delta pass",
        "runs",
        "acked",
        "lost for good",
        "lost for a while",
        "loss",
        "95 % interval",
        "the coordinator says",
    ];
    let mut table = Table::new(&header, |column| (2..8).contains(&column));
    for Row { name, measured, .. } in configurations {
        let (anti_entropy, delta) = name.split_once('/').unwrap_or((name, ""));
        let rate = rate::of(measured);
        let interval = match measured.lost.writes {
            0 => format!("below {}", percent(rate.high)),
            _ => format!("{} to {}", percent(rate.low), percent(rate.high)),
        };
        let permanent = measured.windows.permanent;
        let numbers = [measured.runs, measured.acked, permanent, measured.lost.writes.saturating_sub(permanent)];
        let verdict = match (anti_entropy, delta) {
            ("on", "on") => "allowed, the default",
            ("off", "on") => "allowed, with a warning: no second defence",
            ("on", _) => "allowed, with a warning: windows open at Activate",
            _ => "refused: `UnsafeCutover`; measured with the gate overridden",
        };
        let ends = [percent(rate.measured), interval, verdict.to_owned()];
        table.row([anti_entropy.to_owned(), delta.to_owned()].into_iter().chain(numbers.map(number)).chain(ends));
    }
    table.text()
}

/// What follows from the four configurations, with their numbers.
fn recommendation(configurations: &[Row<Sums>]) -> String {
    let mut lines = Vec::new();
    for Row { name, measured, .. } in configurations {
        let (runs, acked) = (number(measured.runs), number(measured.acked));
        let (lost, permanent) = (measured.lost.writes, measured.windows.permanent);
        lines.push(match (name.as_str(), lost) {
            ("on/on", 0) => format!("- Keep the delta pass. With it and anti-entropy, none of {acked} acknowledged writes in {runs} runs was ever missing."),
            ("off/on", 0) => format!("- The delta pass alone held as well: none of {acked} writes was missing. Anti-entropy is then the defence against what nobody thought of, and it is off."),
            ("on/skipped", _) if permanent == 0 => format!(
                "- Skipping the delta pass trades safety for time: {} of {acked} writes could be missed for a while, the longest for {}; anti-entropy or newer writes ended every one. Skip it only for data that may be read stale for that long.",
                number(lost),
                ms(measured.windows.max_ns)
            ),
            ("off/skipped", _) => format!("- With both off, {} of {acked} acknowledged writes were lost for good. That is why the coordinator refuses, and why no flag overrides it.", number(permanent)),
            _ => format!("- **{name} is not as promised**: {} of {acked} writes had a loss window, {} of them for good.", number(lost), number(permanent)),
        });
    }
    lines.join("\n")
}

/// The command, build and seeds behind each row.
fn commands(coverage: &[Row<Sums>], configurations: &[Row<Sums>]) -> String {
    let mut table = Table::new(&["row", "command", "build"], |_| false);
    for Row { name, stamp, .. } in coverage.iter().chain(configurations) {
        table.row([name.clone(), format!("`{}`", stamp.command), stamp.build.clone()]);
    }
    table.text()
}
