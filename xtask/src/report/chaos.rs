//! `docs/chaos_testing_report.md`: what the scenarios found, over how many seeds, and what follows for whoever moves a shard.
//!
//! Each part says in a sentence that it has not been measured yet where its rows are missing. The order of the rows in the
//! files does not matter.

mod configurations;
mod coverage;
mod curve;
mod service;
mod steps;
mod volume;
mod windows;

use std::path::Path;

use miroir_sim::plan::FaultKind;
use miroir_sim::record::STEADY;
use miroir_store::migration::Stage;

use crate::catalog::Catalog;
use crate::data::{File, Row};
use crate::exit::Failure;
use crate::print::counted;
use crate::qualify::{self, Subject};
use crate::sweep::Tally;

use super::mutants;
use super::tables::{Table, number};
use super::{Rendered, fill};

const PATH: &str = "docs/chaos_testing_report.md";

const TEMPLATE: &str = include_str!("chaos_testing_report.md");

/// The rows of all subjects, each in the order in which they are shown.
#[derive(Clone, Debug, Default)]
struct Data {
    /// Every scenario but the canary, as the worker lists them.
    scenarios: Vec<String>,
    /// Those of volume, and how many seeds are enough.
    volume: Vec<(String, u64)>,
    coverage: Vec<Row<Tally>>,
    configurations: Vec<Row<Tally>>,
    curve: Vec<Row<Tally>>,
    steps: Vec<Row<Tally>>,
    /// Rows that have fewer seeds than they are to have, or none: name, seeds, seeds wanted.
    not_whole: Vec<(String, u64, u64)>,
}

impl Data {
    fn read(root: &Path, catalog: &Catalog) -> Result<Data, Failure> {
        let rows = |subject: Subject| File::<Tally>::read(root, subject.file()).map(|file| file.rows);
        let [coverage, configurations, curve, steps] = Subject::SWEPT.map(rows);
        let entries = catalog.all_but_canary();
        let scenarios = entries.iter().map(|entry| entry.id.clone()).collect();
        let volume = entries.iter().filter_map(|entry| Some((entry.id.clone(), entry.seeds_at_most?))).collect();
        let (coverage, configurations, curve, steps) = (coverage?, configurations?, curve?, steps?);
        let mut data =
            Data { scenarios, volume, coverage, configurations, curve, steps, not_whole: Vec::new() }.in_order();
        for subject in Subject::SWEPT {
            data.not_whole.extend(qualify::not_whole(catalog, subject, data.of(subject))?);
        }
        Ok(data)
    }

    fn in_order(mut self) -> Data {
        self.coverage.sort_by_key(|row| coverage::place(&self.scenarios, &row.name));
        self.configurations.sort_by_key(|row| configurations::place(&row.name));
        self.curve.sort_by_key(|row| curve::place(&row.measured));
        self.steps.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }

    fn of(&self, subject: Subject) -> &[Row<Tally>] {
        match subject {
            Subject::Coverage => &self.coverage,
            Subject::Configurations => &self.configurations,
            Subject::Curve => &self.curve,
            Subject::Steps => &self.steps,
            Subject::Engine => &[],
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row<Tally>> {
        self.coverage.iter().chain(&self.configurations).chain(&self.curve).chain(&self.steps)
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.rows().map(|row| of(&row.measured)).sum()
    }
}

pub fn render(root: &Path, catalog: &Catalog) -> Result<Vec<Rendered>, Failure> {
    Ok(rendered(&Data::read(root, catalog)?, mutants::section(root)?))
}

fn rendered(data: &Data, mutants: String) -> Vec<Rendered> {
    let lines = [
        configurations::follows(&data.configurations),
        windows::follows(&data.coverage),
        curve::follows(&data.curve),
        service::follows(&data.coverage),
        volume::follows(&data.coverage),
        steps::follows(&data.steps),
    ];
    let text = fill(
        TEMPLATE,
        &[
            ("summary", summary(data)),
            ("findings", findings(data)),
            ("coverage", coverage::table(&data.coverage)),
            ("without_faults", coverage::without_faults(&data.coverage)),
            ("fewer", coverage::fewer(&data.volume)),
            ("volume", volume::section(&data.coverage, &data.volume)),
            ("matrix", coverage::matrix(&data.coverage)),
            ("causes", windows::causes(&data.coverage)),
            ("periods", windows::periods()),
            ("lengths", windows::lengths(&data.coverage)),
            ("configurations", configurations::table(&data.configurations)),
            ("curve", curve::section(&data.curve)),
            ("service", service::section(&data.coverage)),
            ("steps", steps::section(&data.steps)),
            ("follows", bullets(lines.concat())),
            ("mutants", mutants),
            ("commands", commands(data)),
        ],
    );
    let pictures = [windows::picture(&data.coverage), curve::picture(&data.curve)];
    [Rendered { path: PATH, text }].into_iter().chain(pictures.into_iter().flatten()).collect()
}

/// What is said where nothing was measured.
fn not_yet(command: &str) -> String {
    format!("*Not measured yet: `{command}`.*\n")
}

fn bullets(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| format!("- {line}\n")).collect()
}

/// A picture with a sentence for those who cannot see it.
fn shown(alternative: &str, path: &str) -> String {
    format!("![{alternative}]({})\n\n", path.trim_start_matches("docs/"))
}

/// Where a stage, or what lies between migrations, stands in the life of one.
fn stage_place(name: &str) -> (usize, String) {
    use Stage::{Aborted, Activate, Cleanup, DeltaPass, Done, Drain, DualWrite, Planned};
    let stages = [Planned, DualWrite, Drain, DeltaPass, Activate, Cleanup, Done, Aborted];
    let before = if name == STEADY || name == "chaos" { 0 } else { stages.len() + 1 };
    let place = stages.iter().position(|stage| stage.to_string() == name).map_or(before, |place| place + 1);
    (place, name.to_owned())
}

/// What was run, in one paragraph.
fn summary(data: &Data) -> String {
    if data.rows().next().is_none() {
        return not_yet("cargo xtask qualify");
    }
    let mut scenarios: Vec<&str> = data.rows().map(|row| row.measured.id()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let faults = data.sum(|tally| FaultKind::NAMES.iter().map(|kind| tally.matrix.total(kind)).sum());
    format!(
        "{}, {} runs, {} acknowledged writes, {} planned faults that struck, {} migrations that ended at their target and \
         {} that went back, {:.1} hours of simulated time.",
        counted(scenarios.len() as u64, "scenario"),
        number(data.sum(Tally::seeds)),
        number(data.sum(|tally| tally.acked)),
        number(faults),
        number(data.sum(|tally| tally.migrations.done)),
        number(data.sum(|tally| tally.migrations.aborted)),
        data.sum(|tally| tally.simulated_ns) as f64 / 3.6e12,
    )
}

/// How many seeds of a row a finding names.
const NAMED: usize = 5;

/// Runs that were not as expected, marks that nobody reached, pauses, a curve that does not fit, and rows that are missing:
/// what a reader must not overlook.
fn findings(data: &Data) -> String {
    let mut lines = Vec::new();
    for Row { name, measured, .. } in data.rows() {
        let failing = measured.failing();
        if !failing.is_empty() {
            let seeds: Vec<String> = failing.iter().take(NAMED).map(ToString::to_string).collect();
            let more = if failing.len() > NAMED { " and others" } else { "" };
            lines.push(format!(
                "**{name}**: {} of {} runs were not as expected (seeds {}{more}).",
                number(failing.len() as u64),
                number(measured.seeds()),
                seeds.join(", "),
            ));
        }
        lines.extend(measured.unreached().iter().map(|mark| format!("**{name}** never reached `{mark}`.")));
        lines.extend(measured.pauses().iter().map(|pause| format!("**{name}** has a pause: {pause}.")));
    }
    lines.extend(curve::Fit::of(&data.curve).filter(|fit| !fit.holds()).map(|fit| fit.to_string()));
    let whole = match (lines.is_empty() && data.rows().next().is_some(), data.not_whole.is_empty()) {
        (true, true) => "Every run was as expected, and every declared mark was reached.",
        (true, false) => {
            "So far every run was as expected, and every declared mark was reached, but not all has been measured."
        }
        (false, _) => "",
    };
    let (missing, begun): (Vec<_>, Vec<_>) = data.not_whole.iter().partition(|(_, measured, _)| *measured == 0);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|(name, ..)| name.as_str()).collect();
        lines.push(format!("Not measured yet: {}.", names.join(", ")));
    }
    if !begun.is_empty() {
        let seeds = |(name, measured, wanted): &&(String, u64, u64)| {
            format!("{name} ({} of {} seeds)", number(*measured), number(*wanted))
        };
        let rows: Vec<String> = begun.iter().map(seeds).collect();
        lines.push(format!("Measured in part: {}.", rows.join(", ")));
    }
    format!("{whole}\n\n{}", bullets(lines)).trim().to_owned()
}

/// The command and build behind each row.
fn commands(data: &Data) -> String {
    let mut table = Table::new(&["row", "command", "build"], |_| false);
    for Row { name, stamp, .. } in data.rows() {
        table.row([name.clone(), format!("`{}`", stamp.command), stamp.build.clone()]);
    }
    table.text()
}

#[cfg(test)]
mod tests;
