//! `cargo xtask qualify`: the large runs behind the numbers in the documents, on demand.
//!
//! Each row is one sweep, as anybody could type it; its sums go to `docs/data/SUBJECT.json` as soon as it ends, so a
//! qualification that is interrupted keeps what it has, and `--missing` goes on from there. A row that was interrupted itself
//! is not written. A row with a finding is: the report shows it in red, and the command ends as a sweep does. The engine's
//! tests, which no worker runs, are a subject of their own ([`engine`]).

pub mod engine;
mod plan;

use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::cli::{MaxFail, Qualify};
use crate::data::{self, Row, Stamp};
use crate::exit::{ExitCode, Failure};
use crate::partition::Partition;
use crate::print::{counted, note, out, quoted};
use crate::seeds::SeedRange;
use crate::sweep::{self, Tally};
use crate::worker::{Build, Worker};
use crate::workspace::Workspace;

use plan::Measurement;
pub use plan::Subject;

/// Wall time for one run: the largest scenarios take about a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures what the command line names, or all.
pub fn run(workspace: &Workspace, build: Build, qualify: &Qualify) -> Result<ExitCode, Failure> {
    let mut worst = ExitCode::AsExpected;
    if qualify.subjects.contains(&Subject::Engine) || (qualify.subjects.is_empty() && qualify.only.is_none()) {
        worst = engine::run(workspace)?;
    }
    if qualify.subjects == [Subject::Engine] {
        return Ok(worst);
    }
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    let mut measurements = plan::all(&catalog, &qualify.subjects, qualify.seeds)?;
    if let Some(only) = &qualify.only {
        measurements.retain(|it| it.name.contains(only.as_str()));
    }
    if measurements.is_empty() {
        let line = "nothing is measured by that name; docs/data/*.json has the names of all rows".to_owned();
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    let missing = missing(workspace, &worker, qualify, &measurements)?;
    let rows = missing.len();
    for (number, measurement) in (1..).zip(missing) {
        out(format!("== {number} of {rows}: {} {}", measurement.subject.file(), measurement.name));
        let started = Instant::now();
        let exit = measure(workspace, build, &worker, &catalog, measurement)?;
        out(format!("== {} in {:.0} s", measurement.name, started.elapsed().as_secs_f64()));
        if exit != ExitCode::AsExpected {
            worst = exit;
        }
    }
    note("`cargo xtask report` renders the documents from it");
    Ok(worst)
}

/// The rows to be measured. With `--missing`, those that this very build has measured by the same command stay as they are,
/// and are named.
fn missing<'a>(
    workspace: &Workspace,
    worker: &Worker,
    qualify: &Qualify,
    measurements: &'a [Measurement],
) -> Result<Vec<&'a Measurement>, Failure> {
    if !qualify.missing {
        return Ok(measurements.iter().collect());
    }
    let mut missing = Vec::new();
    for measurement in measurements {
        let file = data::File::<Tally>::read(workspace.root(), measurement.subject.file())?;
        let same =
            |row: &Row<Tally>| row.stamp.build == worker.build_name() && row.stamp.command == command(measurement);
        match file.row(&measurement.name).is_some_and(same) {
            true => {
                out(format!("== {} {}: kept, this build has measured it", measurement.subject.file(), measurement.name))
            }
            false => missing.push(measurement),
        }
    }
    let kept = (measurements.len() - missing.len()) as u64;
    out(format!("== {} kept, {} to be measured", counted(kept, "row"), missing.len()));
    Ok(missing)
}

/// One sweep, and its row.
fn measure(
    workspace: &Workspace,
    build: Build,
    worker: &Worker,
    catalog: &Catalog,
    measurement: &Measurement,
) -> Result<ExitCode, Failure> {
    let folder = workspace.kept().join("qualify").join(measurement.name.replace('/', "-"));
    // What an earlier measurement left there is not part of this one.
    let _ = std::fs::remove_dir_all(&folder);
    let mut entry = catalog.select(std::slice::from_ref(&measurement.scenario))?[0].clone();
    if measurement.subject == Subject::Curve {
        // How much is lost at a point is the question; where hardly anything is, no mark has to be reached.
        entry.marks.clear();
    }
    let request = sweep::Request {
        entries: vec![&entry],
        seeds: SeedRange(measurement.seeds.clone()),
        time: None,
        partition: Partition::WHOLE,
        overrides: measurement.overrides.clone(),
        build,
        jobs: None,
        max_fail: MaxFail(None),
        limit: LIMIT,
        out: Some(folder),
        json: false,
    };
    let mut outcome = sweep::execute(workspace, worker, catalog, &request)?;
    if let Some(why) = &outcome.cut_short {
        let line = format!("{} was cut short ({why}), and its row is as it was", measurement.name);
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    let exit = outcome.exit();
    let stamp = Stamp {
        command: command(measurement),
        build: worker.build_name().to_owned(),
        seeds: Some(request.seeds.to_string()),
    };
    let file = measurement.subject.file();
    // Read again each time: another qualification may have added rows meanwhile.
    let mut rows = data::File::read(workspace.root(), file)?;
    rows.put(Row { name: measurement.name.clone(), stamp, measured: outcome.tallies.remove(0) });
    rows.write(workspace.root(), file)?;
    Ok(exit)
}

/// The sweep as it is typed.
fn command(measurement: &Measurement) -> String {
    let Measurement { scenario, seeds, overrides, .. } = measurement;
    let arguments: String = overrides.to_arguments().iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!("cargo xtask sweep {scenario} --seeds {}{arguments}", SeedRange(seeds.clone()))
}
