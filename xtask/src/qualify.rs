//! `cargo xtask qualify`: the large runs behind the numbers in the documents, on demand.
//!
//! Each row is one sweep, as anybody could type it; its sums go to `docs/data/SUBJECT.json` as soon as it ends, so a
//! qualification that is interrupted keeps what it has, and `--missing` goes on from there. A long row is measured in slices
//! of [`SLICE`] seeds and written after each, stamped with the seeds it has. A slice that was interrupted is not written. A
//! row with a finding is: the report shows it in red, and the command ends as a sweep does. The engine's
//! tests, which no worker runs, are a subject of their own ([`engine`]).

pub mod engine;
mod plan;

use std::ops::Range;
use std::str::FromStr as _;
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

/// Seeds that are measured at a time: about a quarter of an hour, which is what an interruption costs at most.
const SLICE: u64 = 20_000;

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
    for (number, (measurement, from)) in (1..).zip(missing) {
        let Measurement { subject, name, seeds, .. } = measurement;
        out(format!("== {number} of {rows}: {} {name}", subject.file()));
        let started = Instant::now();
        let mut next = from;
        while next < seeds.end {
            let slice = next..seeds.end.min(next.saturating_add(SLICE));
            next = slice.end;
            let exit = measure(workspace, build, &worker, &catalog, measurement, slice)?;
            if exit != ExitCode::AsExpected {
                worst = exit;
            }
        }
        out(format!("== {name} in {:.0} s", started.elapsed().as_secs_f64()));
    }
    note("`cargo xtask report` renders the documents from it");
    Ok(worst)
}

/// The rows to be measured, each with its first seed that is. With `--missing`, those that this very build has measured by the
/// same command stay as they are, and are named; one that it has begun to measure goes on.
fn missing<'a>(
    workspace: &Workspace,
    worker: &Worker,
    qualify: &Qualify,
    measurements: &'a [Measurement],
) -> Result<Vec<(&'a Measurement, u64)>, Failure> {
    if !qualify.missing {
        return Ok(measurements.iter().map(|it| (it, it.seeds.start)).collect());
    }
    let mut missing = Vec::new();
    for measurement in measurements {
        let file = data::File::<Tally>::read(workspace.root(), measurement.subject.file())?;
        let from = file
            .row(&measurement.name)
            .map_or(measurement.seeds.start, |row| measured_until(&row.stamp, measurement, worker.build_name()));
        let (subject, name) = (measurement.subject.file(), &measurement.name);
        if from >= measurement.seeds.end {
            out(format!("== {subject} {name}: kept, this build has measured it"));
            continue;
        }
        if from > measurement.seeds.start {
            out(format!("== {subject} {name}: this build has measured it up to seed {from}"));
        }
        missing.push((measurement, from));
    }
    let kept = (measurements.len() - missing.len()) as u64;
    out(format!("== {} kept, {} to be measured", counted(kept, "row"), missing.len()));
    Ok(missing)
}

/// The first seed that `build` has not measured of a row with this stamp.
fn measured_until(stamp: &Stamp, measurement: &Measurement, build: &str) -> u64 {
    let Range { start, end } = measurement.seeds;
    let seeds = stamp.seeds.as_deref().and_then(|seeds| SeedRange::from_str(seeds).ok());
    let is_part = |seeds: &SeedRange| {
        seeds.0.start == start && seeds.0.end <= end && stamp.command == command(measurement, seeds)
    };
    match seeds.filter(|seeds| stamp.build == build && is_part(seeds)) {
        Some(seeds) => seeds.0.end,
        None => start,
    }
}

/// One sweep, and its row: the sums of these seeds, or, if they are not the row's first, added to those before them.
fn measure(
    workspace: &Workspace,
    build: Build,
    worker: &Worker,
    catalog: &Catalog,
    measurement: &Measurement,
    slice: Range<u64>,
) -> Result<ExitCode, Failure> {
    let Measurement { name, seeds, .. } = measurement;
    let folder = workspace.kept().join("qualify").join(name.replace('/', "-"));
    let is_first = slice.start == seeds.start;
    if is_first {
        // What an earlier measurement left there is not part of this one.
        let _ = std::fs::remove_dir_all(&folder);
    }
    let is_whole = slice == *seeds;
    let folder = if is_whole { folder } else { folder.join(SeedRange(slice.clone()).to_string()) };
    let mut entry = catalog.select(std::slice::from_ref(&measurement.scenario))?[0].clone();
    if measurement.subject == Subject::Curve {
        // How much is lost at a point is the question; where hardly anything is, no mark has to be reached.
        entry.marks.clear();
    }
    let request = sweep::Request {
        entries: vec![&entry],
        seeds: SeedRange(slice.clone()),
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
        let line = format!("{name} was cut short ({why}), and its row is as it was");
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    let exit = outcome.exit();
    let mut measured = outcome.tallies.remove(0);
    let file = measurement.subject.file();
    // Read again each time: another qualification may have added rows meanwhile.
    let mut rows = data::File::<Tally>::read(workspace.root(), file)?;
    if !is_first {
        let before =
            rows.row(name).filter(|row| measured_until(&row.stamp, measurement, worker.build_name()) == slice.start);
        let Some(before) = before else {
            let line = format!("{name}: the seeds before {} are gone from docs/data/{file}.json", slice.start);
            return Err(Failure { exit: ExitCode::Refused, line });
        };
        measured.merge(&before.measured);
    }
    let seeds = SeedRange(seeds.start..slice.end);
    let stamp = Stamp {
        command: command(measurement, &seeds),
        build: worker.build_name().to_owned(),
        seeds: Some(seeds.to_string()),
    };
    rows.put(Row { name: name.clone(), stamp, measured });
    rows.write(workspace.root(), file)?;
    Ok(exit)
}

/// The sweep of these seeds as it is typed.
fn command(measurement: &Measurement, seeds: &SeedRange) -> String {
    let Measurement { scenario, overrides, .. } = measurement;
    let arguments: String = overrides.to_arguments().iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!("cargo xtask sweep {scenario} --seeds {seeds}{arguments}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Overrides;

    fn measurement() -> Measurement {
        Measurement {
            subject: Subject::Coverage,
            name: "usual/a".to_owned(),
            scenario: "a".to_owned(),
            seeds: 0..100,
            overrides: Overrides { profile: Some("usual".to_owned()), ..Overrides::default() },
        }
    }

    #[test]
    fn a_row_goes_on_where_the_same_build_has_stopped() {
        let stamp = |seeds: Range<u64>, build: &str| Stamp {
            command: command(&measurement(), &SeedRange(seeds.clone())),
            build: build.to_owned(),
            seeds: Some(SeedRange(seeds).to_string()),
        };
        let until = |stamp: &Stamp| measured_until(stamp, &measurement(), "1+a");
        assert_eq!(stamp(0..40, "").command, "cargo xtask sweep a --seeds 0..40 --profile usual");
        assert_eq!((until(&stamp(0..40, "1+a")), until(&stamp(0..100, "1+a"))), (40, 100));
        assert_eq!(until(&stamp(0..40, "1+b")), 0, "another build");
        assert_eq!((until(&stamp(1..40, "1+a")), until(&stamp(0..101, "1+a"))), (0, 0), "other seeds");
        let other = Stamp { command: "cargo xtask sweep a --seeds 0..40".to_owned(), ..stamp(0..40, "1+a") };
        assert_eq!(until(&other), 0, "another command");
        assert_eq!(until(&Stamp { seeds: None, ..other }), 0);
    }
}
