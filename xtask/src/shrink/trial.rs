//! Trying candidates: so many workers at a time, in order of preference, until one fails with the wanted fingerprint.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use miroir_scenarios::plan::Plan;
use miroir_sim::seed::Seed;

use crate::bundle::Bundle;
use crate::cli::{Overrides, TraceLevel};
use crate::exit::Failure;
use crate::print::note;
use crate::record::Recorded;
use crate::signals::Signals;
use crate::worker::{Job, Worker};

use super::record;
use super::write_down::Observed;

/// A candidate may take so many times as long as the original, and at least a second.
const PATIENCE: u32 = 10;

/// Runs candidates, and remembers the best so far.
pub struct Trials<'a> {
    worker: &'a Worker,
    scenario: &'a str,
    overrides: Overrides,
    fingerprint: &'a str,
    folder: &'a Path,
    jobs: usize,
    limit: Duration,
    deadline: Instant,
    runs: AtomicU64,
    signals: Signals,
    progress: ProgressBar,
    /// The last step that helped, and what there is to say about it.
    said: Mutex<Option<(String, String)>>,
}

impl<'a> Trials<'a> {
    #[expect(clippy::too_many_arguments, reason = "what all trials share, said once")]
    pub fn new(
        worker: &'a Worker,
        bundle: &'a Bundle,
        fingerprint: &'a str,
        folder: &'a Path,
        jobs: usize,
        deadline: Instant,
        first: &Recorded,
        signals: Signals,
    ) -> Trials<'a> {
        let style =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Trials {
            worker,
            scenario: &bundle.scenario,
            overrides: bundle.overrides(),
            fingerprint,
            folder,
            jobs,
            limit: (Duration::from_millis(first.record.wall_ms) * PATIENCE).max(Duration::from_secs(1)),
            deadline,
            runs: AtomicU64::new(0),
            signals,
            progress: ProgressBar::new_spinner().with_style(style),
            said: Mutex::default(),
        }
    }

    /// The place of the first plan that fails as wanted, and its seed: each with its own seed first, then with `luck`
    /// others.
    pub fn first(&self, plans: &[Plan], luck: u64) -> Result<Option<(usize, Plan)>, Failure> {
        let tries: Vec<(usize, u64)> = (0..=luck).flat_map(|n| (0..plans.len()).map(move |at| (at, n))).collect();
        let (next, best) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let results: Vec<Result<(), Failure>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs.min(tries.len()))
                .map(|job| {
                    let (next, best, tries) = (&next, &best, &tries);
                    scope.spawn(move || {
                        let file = self.folder.join(format!("candidate.{job}.toml"));
                        loop {
                            let turn = next.fetch_add(1, Ordering::Relaxed);
                            let Some(&(at, n)) = tries.get(turn).filter(|_| turn < best.load(Ordering::Relaxed)) else {
                                return Ok(());
                            };
                            if self.is_over() {
                                return Ok(());
                            }
                            if self.fails(&reseeded(&plans[at], n), &file)? {
                                best.fetch_min(turn, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.unwrap_or_else(|_| Err(Failure::internal("a trial panicked")))).collect()
        });
        results.into_iter().collect::<Result<(), Failure>>()?;
        let found = tries.get(best.into_inner());
        Ok(found.map(|&(at, n)| (at, reseeded(&plans[at], n))))
    }

    fn fails(&self, plan: &Plan, file: &Path) -> Result<bool, Failure> {
        // A plan that cannot be run is no smaller failure; that is for the plan to say, without a process.
        if plan.check().is_err() {
            return Ok(false);
        }
        fs::write(file, plan.to_toml()).map_err(|error| Failure::io("write", file.display(), &error))?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        let job = Job { plan: Some(file), ..Job::bare(self.scenario, seed(plan), &self.overrides) };
        let run = record(self.worker, &job, Some(self.limit))?;
        Ok(run.record.fingerprint.as_deref() == Some(self.fingerprint))
    }

    /// Runs a plan for what happens in it, whatever comes of it.
    pub fn observe(&self, plan: &Plan) -> Result<(Observed, Recorded), Failure> {
        let folder = self.folder.join("observed");
        let run = run_kept(self.worker, self.scenario, &self.overrides, plan, &folder)?;
        Ok((Observed::read(&folder)?, run))
    }

    /// A better plan: says so, and keeps it.
    pub fn improved(&self, step: &str, plan: &Plan) -> Result<(), Failure> {
        let sizes: Vec<String> = super::edit::sizes(plan).iter().map(|(name, size)| format!("{size} {name}")).collect();
        let line = format!("{:>6} runs  {step:<24} {}", self.runs(), sizes.join(", "));
        if self.progress.is_hidden() {
            // Nobody watches: the last line of each step is enough.
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.as_ref().is_some_and(|(last, _)| last != step)
                && let Some((_, line)) = said.take()
            {
                note(line);
            }
            *said = Some((step.to_owned(), line.clone()));
        }
        self.progress.set_message(line);
        self.progress.tick();
        let path: PathBuf = self.folder.join("best.toml");
        fs::write(&path, plan.to_toml()).map_err(|error| Failure::io("write", path.display(), &error))
    }

    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Out of time, or interrupted: what is best now is the result.
    pub fn is_over(&self) -> bool {
        self.signals.is_interrupted() || Instant::now() >= self.deadline
    }

    /// Why there are no more trials.
    pub fn ended(&self) -> &'static str {
        match (self.signals.is_interrupted(), Instant::now() >= self.deadline) {
            (true, _) => "interrupted, so it may get smaller still",
            (false, true) => "out of time (--seconds), so it may get smaller still",
            (false, false) => "no step made it smaller any more",
        }
    }

    pub fn finish(&self) {
        if let Some((_, line)) = self.said.lock().unwrap_or_else(PoisonError::into_inner).take() {
            note(line);
        }
        self.progress.finish_and_clear();
    }
}

/// The same plan with another seed; number 0 is its own.
fn reseeded(plan: &Plan, n: u64) -> Plan {
    let mut plan = plan.clone();
    plan.seed = seed(&plan).0.wrapping_add(n).to_string();
    plan
}

fn seed(plan: &Plan) -> Seed {
    plan.seed.parse().unwrap_or(Seed(0))
}

/// Runs a plan with all its files and its whole trace kept in `folder`.
pub fn run_kept(
    worker: &Worker,
    scenario: &str,
    overrides: &Overrides,
    plan: &Plan,
    folder: &Path,
) -> Result<Recorded, Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
    let file = folder.join("given.toml");
    fs::write(&file, plan.to_toml()).map_err(|error| Failure::io("write", file.display(), &error))?;
    let job = Job {
        plan: Some(&file),
        out: Some(folder),
        trace: Some(TraceLevel::Full),
        ..Job::bare(scenario, seed(plan), overrides)
    };
    record(worker, &job, None)
}
