//! `cargo xtask sweep`: many seeds, one process each, added up.
//!
//! ```text
//! canary, saved regressions -> scenarios x seeds (of this slice) -> pool of workers -> one record per run
//!     -> results.jsonl (as they come) -> sums and groups -> tables, sweep.json, junit.xml, GitHub
//! ```
//! A sweep trusts nothing that it can check. It runs the canary once, whose bug must be found, and every saved regression.
//! Every failure runs a second time, with its files kept if it is the cheapest of its kind, and so do some of the passes: a
//! seed that says two different things is `Diverged`, the worst verdict. A worker that crashes, hangs or says nothing is a
//! result like any other. Nothing is retried.

pub mod groups;
pub mod manifest;
mod outcome;
mod outside;
pub mod pool;
pub mod regressions;
mod report;
pub mod results;
mod tally;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use miroir_sim::verdict::Verdict;

use crate::catalog::{CANARY, CANARY_SEED, Catalog, Entry};
use crate::cli::{MaxFail, Overrides, Sweep};
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::partition::Partition;
use crate::print::{note, out};
use crate::runs;
use crate::seeds::SeedRange;
use crate::signals::Signals;
use crate::worker::{Build, Ended, Job, Worker};
use crate::workspace::Workspace;

use manifest::Manifest;
pub use outcome::{Asked, Outcome};
use pool::{News, Pool, Task};
use results::Results;
pub use tally::{AT_FULL_LOAD, Lost, Most, OF_STEADY_AT_MOST, Point, Served, Tally, times};

/// How often a sweep that nobody watches says how far it is.
const COUNTER_EVERY: Duration = Duration::from_secs(10);

/// What a sweep runs, and how.
pub struct Request<'a> {
    pub entries: Vec<&'a Entry>,
    pub seeds: SeedRange,
    /// Ends after this long, and not at the last seed.
    pub time: Option<Duration>,
    pub partition: Partition,
    pub overrides: Overrides,
    pub build: Build,
    pub jobs: Option<u16>,
    pub max_fail: MaxFail,
    /// Wall time for one run.
    pub limit: Duration,
    pub out: Option<PathBuf>,
    pub json: bool,
}

/// Runs a sweep as the command line says.
pub fn run(workspace: &Workspace, build: Build, sweep: &Sweep) -> Result<ExitCode, Failure> {
    if sweep.overrides.wants_help() {
        return Worker::build(workspace, build)?.print(&["set-help"]);
    }
    sweep.overrides.check()?;
    let (seeds, partition) = (sweep.range()?, sweep.partition()?);
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    let request = Request {
        entries: catalog.select(&sweep.scenarios)?,
        seeds,
        time: sweep.time,
        partition,
        overrides: sweep.all_overrides(),
        build,
        jobs: sweep.jobs,
        max_fail: sweep.max_fail,
        limit: Duration::from_secs(sweep.wall_limit_s),
        out: sweep.out.clone(),
        json: sweep.json,
    };
    execute(workspace, &worker, &catalog, &request).map(|outcome| outcome.exit())
}

/// Runs what was requested, and prints what came of it.
pub fn execute(
    workspace: &Workspace,
    worker: &Worker,
    catalog: &Catalog,
    request: &Request,
) -> Result<Outcome, Failure> {
    if request.seeds.is_empty() {
        return Err(Failure {
            exit: ExitCode::NothingRan,
            line: format!("nothing ran: {} has no seed", request.seeds),
        });
    }
    let folder = match &request.out {
        Some(folder) => fs::create_dir_all(folder)
            .map(|()| folder.clone())
            .map_err(|error| Failure::io("create", folder.display(), &error))?,
        None => runs::claim(&workspace.kept().join("sweeps"), &stem(request))?,
    };
    // Workers may run for hours; the source may be edited meanwhile.
    let signals = Signals::install()?;
    // Beside the builds and not in the results' folder, which may be small, or on another disk.
    let pinned = worker.pinned_in(&workspace.kept())?.listening_to(signals.clone());
    let result = sweep_into(workspace, &pinned, catalog, request, &folder, &signals);
    pinned.unpin();
    if request.out.is_none() {
        runs::keep(&folder)?;
    }
    result
}

/// The name of a sweep's folder, before it is made unique.
fn stem(request: &Request) -> String {
    let seeds = match request.time {
        Some(_) => format!("from-{}", request.seeds.0.start),
        None => request.seeds.to_string(),
    };
    let slice = match request.partition {
        Partition::WHOLE => String::new(),
        Partition { slice, of } => format!("-{slice}-of-{of}"),
    };
    match request.entries.as_slice() {
        [one] => format!("{}-{seeds}{slice}", one.id),
        many => format!("{}-scenarios-{seeds}{slice}", many.len()),
    }
}

fn sweep_into(
    workspace: &Workspace,
    worker: &Worker,
    catalog: &Catalog,
    request: &Request,
    folder: &Path,
    signals: &Signals,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let jobs = request.jobs.map_or_else(crate::worker::cores, usize::from);
    if !request.json {
        out(beginning(workspace, request, jobs, folder));
    }
    let broken_alarm = check_alarm(worker, catalog, request.limit)?;
    let regressions = regressions::run_all(workspace.root(), worker, request.limit, &workspace.kept())?;

    let mut outcome = Outcome::new(asked(workspace, request, folder), jobs);
    outcome.broken_alarm = broken_alarm;
    outcome.regressions = regressions;
    let mut results = Results::in_folder(folder);
    let ran = run_seeds(worker, request, folder, signals, started, &mut outcome, &mut results);
    outcome.wall = started.elapsed();
    if let Err(failure) = ran {
        if outcome.seeds() == 0 {
            return Err(failure);
        }
        note(format!("error: {failure}"));
        outcome.cut_short = Some(failure.line);
        outcome.is_incomplete = true;
    }

    let mut manifest = manifest(worker, request, &outcome);
    outcome.last = manifest.last_like(&workspace.kept().join("sweeps"), folder);
    if let Some((problem, lines)) = results.lost() {
        note(format!("{problem}; {} that stand only here:", crate::print::counted(lines.len() as u64, "result")));
        if !request.json {
            lines.iter().for_each(out);
        }
        outcome.cut_short = Some(problem.to_owned());
        outcome.is_incomplete = true;
        manifest.cut_short.clone_from(&outcome.cut_short);
    }
    draw_exemplars(&outcome);
    conclude(&outcome, &manifest, folder, request.json);
    Ok(outcome)
}

/// Writes the picture of each failure beside its files.
fn draw_exemplars(outcome: &Outcome) {
    for group in outcome.groups.by_frequency() {
        let files = pool::exemplar_folder(&outcome.asked.folder, &group.scenario, group.exemplar);
        if files.join("record.json").exists()
            && let Err(failure) = explain::picture(&files)
        {
            note(failure);
        }
    }
}

/// Prints and writes what came of a sweep. What cannot be written is said, and is no reason to lose the rest.
pub fn conclude(outcome: &Outcome, manifest: &Manifest, folder: &Path, json: bool) {
    let written = manifest.write(folder).and_then(|()| outside::write_junit(outcome, folder));
    for result in [written, outside::tell_github(outcome)] {
        if let Err(failure) = result {
            note(failure);
        }
    }
    out(if json { report::summary(outcome) } else { report::text(outcome) });
}

fn asked(workspace: &Workspace, request: &Request, folder: &Path) -> Asked {
    Asked {
        entries: request.entries.iter().map(|&entry| entry.clone()).collect(),
        partition: request.partition,
        overrides: request.overrides.clone(),
        build: request.build,
        folder: folder.to_path_buf(),
        shown: workspace.shown(folder).to_string(),
    }
}

fn beginning(workspace: &Workspace, request: &Request, jobs: usize, folder: &Path) -> String {
    let what = match request.entries.as_slice() {
        [one] => one.id.clone(),
        many => format!("{} scenarios", many.len()),
    };
    let seeds = match request.time {
        Some(time) => format!("the seeds from {} on, for {} s", request.seeds.0.start, time.as_secs()),
        None => format!("the seeds {}", request.seeds),
    };
    let slice = match request.partition {
        Partition::WHOLE => String::new(),
        partition => format!(" ({partition})"),
    };
    let folder = workspace.shown(folder);
    format!("sweep of {what} with {seeds}{slice}, {jobs} at a time; results in {folder}")
}

fn run_seeds(
    worker: &Worker,
    request: &Request,
    folder: &Path,
    signals: &Signals,
    started: Instant,
    outcome: &mut Outcome,
    results: &mut Results,
) -> Result<(), Failure> {
    let entries = request.entries.len() as u64;
    let total = request.partition.share(request.seeds.len()).saturating_mul(entries);
    let progress = progress(request, total);
    let pool = Pool::new(worker, &request.overrides, request.limit, folder);
    // Seed by seed, not scenario by scenario, so that a sweep that stops has seen something of each.
    let task = |index: u64| {
        if request.time.is_some_and(|time| started.elapsed() >= time) {
            return None;
        }
        let ordinal = request.partition.place(index / entries).filter(|&ordinal| ordinal < request.seeds.len())?;
        let scenario = usize::try_from(index % entries).ok()?;
        let id = &request.entries[scenario].id;
        Some(Task { scenario, id, seed: request.seeds.0.start + ordinal, ordinal })
    };
    let mut fingerprints: BTreeSet<String> = BTreeSet::new();
    let (mut done, mut said) = (0_u64, Instant::now());
    let mut stopped: Option<String> = None;
    pool.run(outcome.jobs, task, |news| {
        if let News::Finished(scenario, finished) = news {
            if !results.append(&finished.run.line) {
                stopped.get_or_insert_with(|| "the results cannot be written".to_owned());
            }
            if request.json {
                out(&finished.run.line);
            }
            let record = &finished.run.record;
            if record.verdict != Verdict::Pass {
                fingerprints.insert(record.fingerprint.clone().unwrap_or_default());
                let (verdict, id, seed, why) = (record.verdict, &record.scenario, record.seed, finished.run.reason());
                progress.suspend(|| note(format!("{verdict} {id} seed {seed}: {why}")));
            }
            outcome.add(scenario, &finished.run, finished.compared);
            progress.inc(1);
            done += 1;
            if request.max_fail.0.is_some_and(|limit| fingerprints.len() as u64 >= limit) {
                stopped.get_or_insert_with(|| "as many different failures as --max-fail allows".to_owned());
            }
        }
        if signals.is_interrupted() {
            stopped.get_or_insert_with(|| "interrupted".to_owned());
        }
        if signals.take_question() {
            progress.suspend(|| {
                note(format!("{done} of {total} done; running:"));
                pool.running().iter().for_each(note);
            });
        }
        if progress.is_hidden() && !request.json && said.elapsed() >= COUNTER_EVERY {
            said = Instant::now();
            note(format!("{done}/{total} seeds, {} different failures", fingerprints.len()));
        }
        stopped.is_none()
    })?;
    progress.finish_and_clear();
    outcome.cut_short = stopped.filter(|_| done < total);
    Ok(())
}

fn manifest(worker: &Worker, request: &Request, outcome: &Outcome) -> Manifest {
    Manifest {
        v: Manifest::version(),
        build: worker.build_name().to_owned(),
        scenarios: outcome.asked.entries.clone(),
        seeds: match request.time {
            Some(_) => format!("{}..", request.seeds.0.start),
            None => request.seeds.to_string(),
        },
        overrides: request.overrides.clone(),
        partition: request.partition,
        cut_short: outcome.cut_short.clone(),
        broken_alarm: outcome.broken_alarm.clone(),
        regressions: outcome.regressions.clone(),
        compared: outcome.tallies.iter().map(|tally| (tally.id().to_owned(), tally.compared)).collect(),
        groups: outcome.groups.by_frequency().into_iter().cloned().collect(),
        findings: outcome.findings(),
        jobs: outcome.jobs,
        wall_ms: u64::try_from(outcome.wall.as_millis()).unwrap_or(u64::MAX),
        ended_unix_s: Manifest::now(),
    }
}

/// Runs the canary, whose bug must be found. A worker that cannot run at all is noticed here, before a thousand seeds
/// say so.
fn check_alarm(worker: &Worker, catalog: &Catalog, limit: Duration) -> Result<Option<String>, Failure> {
    let Some(canary) = catalog.named(CANARY) else {
        return Ok(Some("this worker has no canary".to_owned()));
    };
    let output = worker.record(&Job::bare(&canary.id, CANARY_SEED, &Overrides::default()), Some(limit))?;
    match output.ended {
        Ended::Exit(ExitCode::Finding) => Ok(None),
        Ended::Exit(ExitCode::AsExpected) => {
            Ok(Some(format!("the canary passed with seed {CANARY_SEED}: its planted bug was not found")))
        }
        Ended::Exit(exit) => Err(Failure::of_worker(exit, &output.stderr)),
        ended => Ok(Some(format!("the canary {ended}"))),
    }
}

/// A bar for somebody who watches; hidden on a pipe, and beside `--json`.
fn progress(request: &Request, total: u64) -> ProgressBar {
    if request.json {
        return ProgressBar::hidden();
    }
    let (bar, template) = match request.time {
        Some(_) => (ProgressBar::no_length(), "{spinner} {pos} seeds, {per_sec}, {elapsed}"),
        None => (ProgressBar::new(total), "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
