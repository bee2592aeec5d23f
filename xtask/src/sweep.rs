//! `cargo xtask sweep`: many seeds, one process each, added up.
//!
//! ```text
//! scenarios x seeds -> pool of workers -> one record per run -> results.jsonl (as they come)
//!                                                            -> tally -> tables, or one summary line
//! ```
//! A sweep trusts nothing that it can check. It runs the canary once, whose bug must be found. Every failure runs a
//! second time, with its files kept, and so do some of the passes: a seed that says two different things is `Diverged`,
//! the worst verdict. A worker that crashes, hangs or says nothing is a result like any other. Nothing is retried.

mod pool;
mod report;
mod tally;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use miroir_sim::verdict::Verdict;

use crate::catalog::{CANARY, CANARY_SEED, Catalog, Entry};
use crate::cli::{MaxFail, Overrides, Sweep};
use crate::exit::{ExitCode, Failure};
use crate::print::{note, out};
use crate::runs;
use crate::seeds::SeedRange;
use crate::worker::{Build, Ended, Job, Worker};
use crate::workspace::Workspace;

use pool::{Pool, Task};
pub use tally::Tally;

/// What a sweep runs, and how.
pub struct Request<'a> {
    pub entries: Vec<&'a Entry>,
    pub seeds: SeedRange,
    pub overrides: Overrides,
    pub build: Build,
    pub jobs: Option<u16>,
    pub max_fail: MaxFail,
    /// Wall time for one run.
    pub limit: Duration,
    pub out: Option<PathBuf>,
    pub json: bool,
}

/// What a sweep found.
pub struct Outcome {
    /// One per scenario, in the order of the request.
    pub tallies: Vec<Tally>,
    /// Why the alarm is broken; `None`: the canary's bug was found.
    pub broken_alarm: Option<String>,
    /// The sweep stopped before its last seed, so unreached marks say nothing.
    pub stopped: bool,
    pub wall: Duration,
    pub jobs: usize,
}

impl Outcome {
    /// Failing seeds, unreached marks, and a broken alarm.
    pub fn findings(&self) -> u64 {
        let unreached = |tally: &Tally| if self.stopped { 0 } else { tally.unreached().len() as u64 };
        let in_runs: u64 = self.tallies.iter().map(|tally| tally.failing().len() as u64 + unreached(tally)).sum();
        in_runs + u64::from(self.broken_alarm.is_some())
    }

    pub fn passed(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.count(Verdict::Pass)).sum()
    }

    pub fn exit(&self) -> ExitCode {
        if self.tallies.iter().all(|tally| tally.seeds() == 0) {
            ExitCode::NothingRan
        } else if self.findings() > 0 {
            ExitCode::Finding
        } else {
            ExitCode::AsExpected
        }
    }
}

/// Runs a sweep as the command line says.
pub fn run(workspace: &Workspace, build: Build, sweep: &Sweep) -> Result<ExitCode, Failure> {
    if sweep.overrides.wants_help() {
        return Worker::build(workspace, build)?.print(&["set-help"]);
    }
    sweep.overrides.check()?;
    let seeds = sweep.range()?;
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    let request = Request {
        entries: catalog.select(&sweep.scenarios)?,
        seeds,
        overrides: sweep.overrides.clone(),
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
    let pinned = worker.pinned_in(&folder)?;
    let result = sweep_into(workspace, &pinned, catalog, request, &folder);
    pinned.unpin();
    if request.out.is_none() {
        runs::keep(&folder)?;
    }
    result
}

/// The name of a sweep's folder, before it is made unique.
fn stem(request: &Request) -> String {
    match request.entries.as_slice() {
        [one] => format!("{}-{}", one.id, request.seeds),
        many => format!("{}-scenarios-{}", many.len(), request.seeds),
    }
}

fn sweep_into(
    workspace: &Workspace,
    worker: &Worker,
    catalog: &Catalog,
    request: &Request,
    folder: &Path,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let jobs = request.jobs.map_or_else(cores, usize::from);
    let total = request.seeds.len().saturating_mul(request.entries.len() as u64);
    if !request.json {
        out(format!(
            "sweep of {} with the seeds {}, {jobs} at a time; results in {}",
            match request.entries.as_slice() {
                [one] => one.id.clone(),
                many => format!("{} scenarios", many.len()),
            },
            request.seeds,
            workspace.shown(folder),
        ));
    }
    let broken_alarm = check_alarm(worker, catalog, request.limit)?;

    let mut results = Results { path: folder.join("results.jsonl"), file: None };
    let mut tallies: Vec<Tally> = request.entries.iter().map(|entry| Tally::new(entry)).collect();
    let progress = progress(total, request.json);
    let pool = Pool { worker, overrides: &request.overrides, limit: request.limit, folder };
    let task = |index: u64| {
        let (scenario, offset) = (index / request.seeds.len(), index % request.seeds.len());
        let scenario = usize::try_from(scenario).ok().filter(|&at| at < request.entries.len())?;
        Some(Task {
            scenario,
            id: &request.entries[scenario].id,
            seed: request.seeds.0.start + offset,
            ordinal: offset,
        })
    };
    let (mut failing, mut stopped) = (0, false);
    pool.run(jobs, task, |scenario, finished| {
        results.append(&finished.run.line)?;
        if request.json {
            out(&finished.run.line);
        }
        if finished.run.record.verdict != Verdict::Pass {
            failing += 1;
            let record = &finished.run.record;
            progress.suspend(|| {
                note(format!(
                    "{} {} seed {}: {}",
                    record.verdict,
                    tallies[scenario].id(),
                    record.seed,
                    finished.run.reason()
                ));
            });
        }
        tallies[scenario].add(&finished);
        progress.inc(1);
        let go_on = request.max_fail.0.is_none_or(|limit| failing < limit);
        stopped |= !go_on;
        Ok(go_on)
    })?;
    progress.finish_and_clear();

    let done: u64 = tallies.iter().map(Tally::seeds).sum();
    let stopped = stopped && done < total;
    let outcome = Outcome { tallies, broken_alarm, stopped, wall: started.elapsed(), jobs };
    if request.json {
        out(report::summary(&outcome, request));
    } else {
        out(report::text(&outcome, request));
    }
    Ok(outcome)
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

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A counter for somebody who watches; nothing on a pipe, and nothing beside `--json`.
fn progress(total: u64, json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// `results.jsonl`: one record per line, written whole and at once, so that an interrupted sweep keeps what it has. The
/// file appears with the first record.
struct Results {
    path: PathBuf,
    file: Option<File>,
}

impl Results {
    fn append(&mut self, line: &str) -> Result<(), Failure> {
        self.try_append(line).map_err(|error| Failure::io("write", self.path.display(), &error))
    }

    fn try_append(&mut self, line: &str) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().create(true).append(true).open(&self.path)?),
        };
        file.write_all(format!("{line}\n").as_bytes())
    }
}
