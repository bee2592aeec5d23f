//! `cargo xtask test`: everything that must hold, area by area; CI runs exactly this.
//!
//! The areas run in the order of [`Area`]: what fails fastest comes first, and what the rest relies on (a seed means one
//! run) before what relies on it. When all run, those that mostly wait run [`beside`] the others. An area that fails does not
//! stop the others.

mod ahead;
mod beside;
pub mod cargo;
mod html;
mod shrunk;

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use miroir_sim::record::Record;
use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use crate::catalog::{self, Catalog, Entry};
use crate::cli::{Area, MaxFail, Overrides, TraceLevel};
use crate::docs;
use crate::exit::{ExitCode, Failure};
use crate::gallery;
use crate::kills;
use crate::partition::Partition;
use crate::print::{green, note, out, red};
use crate::record::Recorded;
use crate::report;
use crate::runs;
use crate::seeds::SeedRange;
use crate::soak;
use crate::sweep;
use crate::twice;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

use beside::Beside;

/// The seed of the determinism check.
const SEED: Seed = Seed(42);

/// The seeds that every scenario must pass.
const SCENARIO_SEEDS: std::ops::Range<u64> = 0..20;

/// How many operations a scenario of volume gets here; `cargo xtask qualify` runs them whole.
const VOLUME: &str = "operations=100000";

/// One of them, which runs again by itself.
const ALONE: Seed = Seed(7);

/// The rounds with real processes: a kill in each stage, of the coordinator (under a key), nodes and everybody; a stop, a full
/// disk, a cut.
const ROUNDS: [u64; 7] = [44, 26, 59, 6, 34, 39, 49];

/// What is tested as an ordinary build; the others are tested inside the simulator. Always the same selection, so that nothing
/// is built with other features a second time.
const OUTSIDE: [&str; 5] = ["--workspace", "--exclude", "miroir-sim", "--exclude", "miroir-scenarios"];

/// Wall time for one run.
const LIMIT: Duration = Duration::from_secs(60);

/// How many checks of an area held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

impl Count {
    /// Counts one check, and says what is wrong with it.
    fn check(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                out(format!("{} {why}", red("failed:")));
            }
        }
    }

    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads what `Display` writes.
    fn read(text: &str) -> Option<Count> {
        let (passed, failed) = text.split_once(" passed, ")?;
        Some(Count { passed: passed.parse().ok()?, failed: failed.strip_suffix(" failed")?.parse().ok()? })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs `areas`, or all, without those that are parts of another.
pub fn run(workspace: &Workspace, build: Build, areas: &[Area]) -> Result<ExitCode, Failure> {
    let is_part = |area: &Area| matches!(area, Area::Engine | Area::Dump) || beside::AREAS.contains(area);
    let (areas, ahead, beside) = if areas.is_empty() {
        let areas = Area::value_variants().iter().copied().filter(|area| !is_part(area)).collect();
        (areas, Some(ahead::Ahead::start(workspace, build)?), Some(Beside::start(workspace, build)?))
    } else {
        (areas.to_vec(), None, None)
    };
    let mut lines = Vec::new();
    let mut total = Count::default();
    let mut build_failed = false;
    for area in areas {
        out(format!("== {}", name(area)));
        let started = Instant::now();
        let count = run_area(workspace, build, area).unwrap_or_else(|failure| {
            build_failed |= failure.exit == ExitCode::BuildFailed;
            if !failure.line.is_empty() {
                note(format!("{}: {failure}", red("error")));
            }
            Count { passed: 0, failed: 1 }
        });
        total.add(count);
        lines.push(line(&name(area), count, Some(started.elapsed())));
    }
    if let Some(ahead) = ahead {
        ahead.end()?;
    }
    if let Some(beside) = beside {
        let ended = beside.end()?;
        out(ended.text);
        total.add(ended.count);
        lines.extend(ended.lines);
        build_failed |= ended.build_failed;
    }
    out("");
    lines.iter().for_each(out);
    out(total);
    Ok(match total {
        _ if build_failed => ExitCode::BuildFailed,
        Count { failed: 1.., .. } => ExitCode::Finding,
        Count { passed: 0, .. } => ExitCode::NothingRan,
        _ => ExitCode::AsExpected,
    })
}

fn name(area: Area) -> String {
    area.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A line of the table at the end.
fn line(name: &str, count: Count, took: Option<Duration>) -> String {
    let verdict = match count {
        Count { failed: 1.., .. } => red("failed "),
        Count { passed: 0, .. } => "nothing".to_owned(),
        _ => green("ok     "),
    };
    let Count { passed, failed } = count;
    let took = took.map_or_else(String::new, |took| format!(", {:.1} s", took.as_secs_f64()));
    format!("{verdict} {name:<12} {passed:>6} passed, {failed} failed{took}")
}

fn run_area(workspace: &Workspace, build: Build, area: Area) -> Result<Count, Failure> {
    match area {
        Area::Lint => cargo::lint(workspace),
        Area::Determinism => determinism(workspace),
        Area::Unit => cargo::test(workspace.cargo("test"), &OUTSIDE, &[], |_| ()),
        Area::Sim => {
            cargo::test(workspace.simulator_cargo("test"), &["-p", "miroir-sim", "-p", "miroir-scenarios"], &[], |_| ())
        }
        Area::Scenarios => scenarios(workspace, build),
        Area::Mutants => mutants(workspace, build),
        Area::Engine => part(workspace, &["--lib", "--test", "engine"]),
        Area::Dump => part(workspace, &["--test", "dump"]),
        Area::Cluster => rounds(workspace),
        Area::Html => html::run(workspace, build),
        Area::Docs => documents(workspace, build),
    }
}

/// Some of the unit tests.
fn part(workspace: &Workspace, targets: &[&str]) -> Result<Count, Failure> {
    cargo::test(workspace.cargo("test"), &[&OUTSIDE, targets].concat(), &[], |_| ())
}

/// One seed: twice in two processes, in the other build, and with its trace shown. Always the same trace hash.
fn determinism(workspace: &Workspace) -> Result<Count, Failure> {
    let mut count = Count::default();
    let worker = Worker::build(workspace, Build::Sim)?;
    let overrides = Overrides::default();
    let job = Job::bare(catalog::DEFAULT, SEED, &overrides);

    let folder = runs::claim(&workspace.kept().join("twice"), &format!("{}-{SEED}", job.scenario))?;
    let twice = twice::run(&worker, &job, &folder)?;
    runs::keep(&folder)?;
    out(&twice.text);
    let first = twice.run;
    let equal = !matches!(first.record.verdict, Verdict::Diverged | Verdict::Crashed);
    count.check(if equal { Ok(()) } else { Err(format!("{} seed {SEED} in two processes", job.scenario)) });

    let mut same = |what: &str, worker: &Worker, job: &Job| -> Result<(), Failure> {
        let other = Recorded::of(job.scenario, job.seed, &worker.record(job, Some(LIMIT))?)?;
        let agrees = !first.record.trace_hash.is_empty() && first.agrees_with(&other);
        let differs = || format!("{what}: {}, where it should be {}", other.said(), first.said());
        count.check(if agrees { Ok(()) } else { Err(differs()) });
        Ok(())
    };
    same("with the full trace shown", &worker, &Job { trace: Some(TraceLevel::Full), ..job.clone() })?;
    same("in the dev build", &Worker::build(workspace, Build::Dev)?, &job)?;
    Ok(count)
}

/// A sweep of every scenario, twins included, and the canary; then one seed of each scenario of volume, with less of it.
fn scenarios(workspace: &Workspace, build: Build) -> Result<Count, Failure> {
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    let (volume, usual): (Vec<_>, Vec<_>) =
        catalog.all_but_canary().into_iter().partition(|entry| entry.seeds_at_most.is_some());
    let less = Overrides { set: vec![VOLUME.to_owned()], ..Overrides::default() };
    let mut count = sweep_of(workspace, &worker, &catalog, usual, SCENARIO_SEEDS, &Overrides::default(), build)?;
    if !volume.is_empty() {
        count.add(sweep_of(workspace, &worker, &catalog, volume, 0..1, &less, build)?);
    }
    Ok(count)
}

fn sweep_of(
    workspace: &Workspace,
    worker: &Worker,
    catalog: &Catalog,
    entries: Vec<&Entry>,
    seeds: std::ops::Range<u64>,
    overrides: &Overrides,
    build: Build,
) -> Result<Count, Failure> {
    let request = sweep::Request {
        entries,
        seeds: SeedRange(seeds),
        time: None,
        partition: Partition::WHOLE,
        overrides: overrides.clone(),
        build,
        jobs: None,
        max_fail: MaxFail(None),
        limit: LIMIT,
        out: None,
        json: false,
    };
    let outcome = sweep::execute(workspace, worker, catalog, &request)?;
    let alarm = u64::from(outcome.broken_alarm.is_none());
    let regressions = (outcome.regressions.len() - outcome.regressed().count()) as u64;
    let mut count = Count { passed: outcome.passed() + alarm + regressions, failed: outcome.findings() };
    alone(worker, &outcome.asked.folder, overrides, &mut count)?;
    Ok(count)
}

/// What a sweep says of a seed is what the seed says when it runs alone: one of each scenario again.
fn alone(worker: &Worker, sweep: &Path, overrides: &Overrides, count: &mut Count) -> Result<(), Failure> {
    let path = sweep.join(sweep::results::FILE);
    let results = fs::read_to_string(&path).map_err(|error| Failure::io("read", path.display(), &error))?;
    let swept = results.lines().filter_map(|line| Record::from_json(line).ok().map(|record| (line, record)));
    for (line, record) in swept.filter(|(_, record)| record.seed == ALONE) {
        let output = worker.record(&Job::bare(&record.scenario, record.seed, overrides), Some(LIMIT))?;
        let alone = Recorded::of(&record.scenario, record.seed, &output)?;
        let swept = Recorded { record, line: line.to_owned() };
        let equal = swept.agrees_with(&alone) && swept.record.fingerprint == alone.record.fingerprint;
        let differs =
            || format!("{} seed {ALONE}: {} in a sweep, {} alone", swept.record.scenario, swept.said(), alone.said());
        count.check(if equal { Ok(()) } else { Err(differs()) });
    }
    Ok(())
}

/// One known kill per planted bug, and one of them from the sweep that finds it to a small plan.
fn mutants(workspace: &Workspace, build: Build) -> Result<Count, Failure> {
    let kills = kills::load(workspace.root())?;
    let worker = Worker::build(workspace, build)?;
    let mut count = Count::default();
    for kill in &kills {
        count.check(kill.check(&worker).map_err(|failure| failure.line));
    }
    count.add(shrunk::run(workspace)?);
    Ok(count)
}

/// A round of each kind of trouble. One whose trouble missed its stage has not shown what it was to show.
fn rounds(workspace: &Workspace) -> Result<Count, Failure> {
    let total = soak::rounds_of(workspace, ROUNDS, out)?;
    out(total.text());
    Ok(Count { passed: total.played - total.failed - total.missed, failed: total.failed + total.missed })
}

/// Commands and links of the documents; the measured ones against their data, and a seed of each row; the stories of the gallery.
fn documents(workspace: &Workspace, build: Build) -> Result<Count, Failure> {
    let checked = docs::check(workspace.root())?;
    let mut count = Count { passed: checked.passed, failed: 0 };
    checked.failed.into_iter().for_each(|line| count.check(Err(line)));
    let worker = Worker::build(workspace, build)?;
    let measured = report::check(workspace.root(), &worker)?;
    let shown = gallery::check(workspace, &worker)?;
    count.passed += measured.passed + shown.passed;
    measured.failed.into_iter().chain(shown.failed).for_each(|line| count.check(Err(line)));
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::soak::trouble::{STAGES, Trouble};

    #[test]
    fn the_rounds_have_every_kind_of_trouble_kills_in_every_stage_and_a_key() {
        let kinds = |all: Vec<Trouble>| all.into_iter().map(Trouble::kind).collect::<BTreeSet<_>>();
        let played = ROUNDS.map(|seed| Trouble::of(Seed(seed)));
        assert_eq!(kinds(played.to_vec()), kinds(Trouble::all()));
        let kills = played.into_iter().filter(|it| matches!(it, Trouble::Kill(..)));
        assert_eq!(kills.filter_map(Trouble::stage).collect::<BTreeSet<_>>(), STAGES.into());
        assert!(ROUNDS.iter().any(|seed| Trouble::has_key(Seed(*seed))));
    }
}
