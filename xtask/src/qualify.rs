//! `cargo xtask qualify`: the large runs behind the numbers in the documents, on demand.
//!
//! Each row is one sweep, as anybody could type it; its sums go to `docs/data/SUBJECT.json` as soon as it ends. A
//! qualification that is interrupted keeps what it has: every row that was whole, and of the one under way the seeds up to
//! where it was, which its stamp says and the report too. `--missing` goes on from there. A row with a finding is written as
//! well: the report shows it in red, and the command ends as a sweep does. The engine's tests, which no worker runs, are a
//! subject of their own ([`engine`]).

pub mod engine;
mod plan;

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::cli::{MaxFail, Qualify};
use crate::data::{self, Row, Stamp};
use crate::exit::{ExitCode, Failure};
use crate::partition::Partition;
use crate::print::{counted, note, out, quoted};
use crate::seeds::SeedRange;
use crate::signals::Signals;
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
    // One program and one ear for all rows: the source may be edited meanwhile, and whoever interrupts means everything.
    let signals = Signals::install()?;
    let worker = Worker::build(workspace, build)?.pinned_in(&workspace.kept().join("qualify"))?;
    let swept = sweep_rows(workspace, build, &worker, qualify, &signals);
    worker.unpin();
    worst = worst.max(swept?);
    note("`cargo xtask report` renders the documents from it");
    Ok(worst)
}

/// Measures the subjects that are sweeps.
fn sweep_rows(
    workspace: &Workspace,
    build: Build,
    worker: &Worker,
    qualify: &Qualify,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    let catalog = Catalog::load(worker)?;
    let mut measurements = plan::all(&catalog, &qualify.subjects, qualify.seeds)?;
    if let Some(only) = &qualify.only {
        measurements.retain(|it| it.name.contains(only.as_str()));
    }
    if measurements.is_empty() {
        let line = "nothing is measured by that name; docs/data/*.json has the names of all rows".to_owned();
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    let missing = missing(workspace, worker, qualify, &measurements)?;
    let rows = missing.len();
    let mut worst = ExitCode::AsExpected;
    for (number, (measurement, begun)) in (1..).zip(missing) {
        let Measurement { subject, name, .. } = measurement;
        out(format!("== {number} of {rows}: {} {name}", subject.file()));
        let started = Instant::now();
        let exit = measure(workspace, build, worker, &catalog, measurement, begun)?;
        out(format!("== {name} in {:.0} s", started.elapsed().as_secs_f64()));
        worst = worst.max(exit);
        if signals.is_interrupted() && number < rows {
            let line = format!("interrupted after {name}; `--missing` goes on from there");
            return Err(Failure { exit: ExitCode::NothingRan, line });
        }
    }
    Ok(worst)
}

/// A row that was interrupted: the first seed that it lacks, and what there is of it.
type Begun = (u64, Tally);

/// The rows to be measured, each with what there is of it. With `--missing`, those that this very build has measured by the
/// same command stay as they are, and are named; one that it has begun to measure goes on.
fn missing<'a>(
    workspace: &Workspace,
    worker: &Worker,
    qualify: &Qualify,
    measurements: &'a [Measurement],
) -> Result<Vec<(&'a Measurement, Option<Begun>)>, Failure> {
    if !qualify.missing {
        return Ok(measurements.iter().map(|it| (it, None)).collect());
    }
    let mut missing = Vec::new();
    for measurement in measurements {
        let (subject, name) = (measurement.subject.file(), &measurement.name);
        let row = data::File::<Tally>::read(workspace.root(), subject)?.take(name);
        let begun =
            row.and_then(|row| Some((measured_until(&row.stamp, measurement, worker.build_name())?, row.measured)));
        match begun {
            Some((until, _)) if until >= measurement.seeds.end => {
                out(format!("== {subject} {name}: kept, this build has measured it"));
                continue;
            }
            Some((until, _)) => out(format!("== {subject} {name}: goes on from seed {until}")),
            None => {}
        }
        missing.push((measurement, begun));
    }
    let kept = (measurements.len() - missing.len()) as u64;
    out(format!("== {} kept, {} to be measured", counted(kept, "row"), missing.len()));
    Ok(missing)
}

/// The first seed that a row with this stamp lacks, if `build` has measured it by the command of the measurement.
fn measured_until(stamp: &Stamp, measurement: &Measurement, build: &str) -> Option<u64> {
    let seeds = SeedRange::from_str(stamp.seeds.as_deref()?).ok()?;
    let same = seeds.0.start == measurement.seeds.start && stamp.command == command(measurement, &seeds);
    (same && stamp.build == build).then_some(seeds.0.end)
}

/// One sweep, and its row: of all its seeds, or, if it was begun, of those that are left, added to what there is.
fn measure(
    workspace: &Workspace,
    build: Build,
    worker: &Worker,
    catalog: &Catalog,
    measurement: &Measurement,
    begun: Option<Begun>,
) -> Result<ExitCode, Failure> {
    let Measurement { subject, name, seeds, .. } = measurement;
    let folder = workspace.kept().join("qualify").join(name.replace('/', "-"));
    // What an earlier measurement left there is not part of this one.
    let _ = std::fs::remove_dir_all(&folder);
    let mut entry = catalog.select(std::slice::from_ref(&measurement.scenario))?[0].clone();
    if *subject == Subject::Curve || begun.is_some() {
        // How much is lost at a point is the question; where hardly anything is, no mark has to be reached. And the rest of a
        // row need not reach what its beginning has: see below.
        entry.marks.clear();
    }
    let left = begun.as_ref().map_or(seeds.start, |(until, _)| *until)..seeds.end;
    let request = sweep::Request {
        entries: vec![&entry],
        seeds: SeedRange(left.clone()),
        time: None,
        partition: Partition::WHOLE,
        overrides: measurement.overrides.found_from(workspace.root()),
        build,
        jobs: None,
        max_fail: MaxFail(None),
        limit: LIMIT,
        out: Some(folder),
        json: false,
    };
    let mut outcome = sweep::execute(workspace, worker, catalog, &request)?;
    let tally = &mut outcome.tallies[0];
    // Seeds begin in order, and what has begun is ended: but for workers that were killed, it is all up to somewhere.
    let until = left.start + tally.seeds();
    let is_gapless = tally.is_exactly(left.start..until);
    if let Some(why) = outcome.cut_short.as_ref().filter(|_| !is_gapless) {
        let line = format!("{name} was cut short ({why}), with gaps in what ran; its row is as it was");
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    if let Some((_, before)) = begun {
        let part = std::mem::replace(tally, before);
        tally.merge(&part);
        // Of the whole row, which the sweep of its rest could not know.
        for mark in tally.unreached() {
            out(format!("{name} never reached `{mark}`"));
        }
        for pause in tally.pauses() {
            out(format!("{name}: {pause}"));
        }
    }
    let exit = outcome.exit();
    let seeds = SeedRange(seeds.start..until);
    let stamp = Stamp {
        command: command(measurement, &seeds),
        build: worker.build_name().to_owned(),
        seeds: Some(seeds.to_string()),
    };
    let file = subject.file();
    // Read again each time: another qualification may have added rows meanwhile.
    let mut rows = data::File::read(workspace.root(), file)?;
    rows.put(Row { name: name.clone(), stamp, measured: outcome.tallies.remove(0) });
    rows.write(workspace.root(), file)?;
    if let Some(why) = outcome.cut_short {
        let line =
            format!("{name} was cut short ({why}); its seeds {seeds} are kept, and `--missing` goes on from there");
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    Ok(exit)
}

/// The sweep of these seeds as it is typed.
fn command(measurement: &Measurement, seeds: &SeedRange) -> String {
    let Measurement { scenario, overrides, .. } = measurement;
    let arguments: String = overrides.to_arguments().iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!("cargo xtask sweep {scenario} --seeds {seeds}{arguments}")
}

/// The rows of a subject that have fewer seeds than a whole qualification gives them, or are not there: name, seeds, and
/// seeds wanted.
pub fn not_whole(catalog: &Catalog, subject: Subject, rows: &[Row<Tally>]) -> Result<Vec<(String, u64, u64)>, Failure> {
    let planned = plan::all(catalog, &[subject], None)?;
    let short = planned.iter().filter_map(|it| {
        let measured = rows.iter().find(|row| row.name == it.name).map_or(0, |row| row.measured.seeds());
        let wanted = it.seeds.end - it.seeds.start;
        (measured < wanted).then(|| (it.name.clone(), measured, wanted))
    });
    Ok(short.collect())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::cli::Overrides;

    #[test]
    fn a_row_goes_on_where_the_same_build_has_stopped() {
        let measurement = Measurement {
            subject: Subject::Coverage,
            name: "usual/a".to_owned(),
            scenario: "a".to_owned(),
            seeds: 0..100,
            overrides: Overrides { profile: Some("usual".to_owned()), ..Overrides::default() },
        };
        let stamp = |seeds: Range<u64>, build: &str| Stamp {
            command: command(&measurement, &SeedRange(seeds.clone())),
            build: build.to_owned(),
            seeds: Some(SeedRange(seeds).to_string()),
        };
        let until = |stamp: &Stamp| measured_until(stamp, &measurement, "1+a");
        assert_eq!(stamp(0..40, "").command, "cargo xtask sweep a --seeds 0..40 --profile usual");
        assert_eq!([0..40, 0..100, 0..101].map(|seeds| until(&stamp(seeds, "1+a"))), [Some(40), Some(100), Some(101)]);
        assert_eq!(until(&stamp(0..40, "1+b")), None, "another build");
        assert_eq!(until(&stamp(1..40, "1+a")), None, "other seeds");
        let other = Stamp { command: "cargo xtask sweep a --seeds 0..40".to_owned(), ..stamp(0..40, "1+a") };
        assert_eq!(until(&other), None, "another command");
        assert_eq!(until(&Stamp { seeds: None, ..other }), None);
    }
}
