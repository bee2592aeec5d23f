//! The pool: so many workers at a time, one process per seed, results as they come.
//!
//! Threads take the next task by number, so the set of runs does not depend on how many there are; only the order of the
//! results does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use crate::cli::Overrides;
use crate::exit::{ExitCode, Failure};
use crate::record::Recorded;
use crate::worker::{Ended, INTERRUPTED, Job, Worker};

/// Of this many passing seeds of a scenario, one runs a second time.
const SAMPLE_EVERY: u64 = 50;

/// How often the calling thread looks up while no result comes.
const TICK: Duration = Duration::from_millis(200);

/// What a worker that could not do its work is called.
const INTERNAL: &str = "internal error of the worker";

/// One seed of one scenario.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// The place of the scenario in the request.
    pub scenario: usize,
    pub id: &'a str,
    pub seed: u64,
    /// The place of the seed in the request.
    pub ordinal: u64,
}

/// One task, done.
pub struct Finished {
    pub run: Recorded,
    /// A second process ran the same seed, and agreed or did not.
    pub compared: bool,
}

/// What somebody who asks is told: what runs, and since when.
pub struct Running {
    pub id: String,
    pub seed: u64,
    pub since: Instant,
}

/// The cheapest failing run of each kind, whose files are kept: its cost, and where they are.
type Exemplars = BTreeMap<(String, String), ((u64, u64), PathBuf)>;

/// What all runs of a sweep share.
pub struct Pool<'a> {
    pub worker: &'a Worker,
    pub overrides: &'a Overrides,
    pub limit: Duration,
    /// The sweep's folder; the files of exemplars go below it.
    pub folder: &'a Path,
    exemplars: Mutex<Exemplars>,
    running: Mutex<BTreeMap<usize, Running>>,
}

/// What the calling thread is told.
pub enum News {
    /// The place of the scenario, and the result.
    Finished(usize, Box<Finished>),
    /// Nothing, but time has passed.
    Tick,
}

impl<'a> Pool<'a> {
    pub fn new(worker: &'a Worker, overrides: &'a Overrides, limit: Duration, folder: &'a Path) -> Pool<'a> {
        Pool { worker, overrides, limit, folder, exemplars: Mutex::default(), running: Mutex::default() }
    }

    /// What runs now, the longest first.
    pub fn running(&self) -> Vec<String> {
        let running = lock(&self.running);
        let mut runs: Vec<&Running> = running.values().collect();
        runs.sort_by_key(|run| run.since);
        let line =
            |run: &&Running| format!("{} seed {} for {:.1} s", run.id, run.seed, run.since.elapsed().as_secs_f64());
        runs.iter().map(line).collect()
    }

    /// Runs `task(0)`, `task(1)`, ... until there is none. `each` gets the news on the calling thread, and says whether to go
    /// on. The first failure ends the sweep; runs that are under way are awaited and reported.
    pub fn run<'t>(
        &self,
        jobs: usize,
        task: impl Fn(u64) -> Option<Task<'t>> + Sync,
        mut each: impl FnMut(News) -> bool,
    ) -> Result<(), Failure> {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let mut failure = None;
        thread::scope(|scope| {
            let (results, received) = mpsc::channel();
            for job in 0..jobs {
                let (results, task, next, stop) = (results.clone(), &task, &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(task) = task(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        let running = Running { id: task.id.to_owned(), seed: task.seed, since: Instant::now() };
                        lock(&self.running).insert(job, running);
                        let finished = self.finish(&task);
                        lock(&self.running).remove(&job);
                        if results.send((task.scenario, finished)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            loop {
                let go_on = match received.recv_timeout(TICK) {
                    Ok((scenario, Ok(Some(finished)))) => each(News::Finished(scenario, Box::new(finished))),
                    // Killed by somebody who has seen enough: whoever hears the news looks at the signals.
                    Ok((_, Ok(None))) | Err(RecvTimeoutError::Timeout) => each(News::Tick),
                    Ok((_, Err(error))) => {
                        failure.get_or_insert(error);
                        false
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if !go_on {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Runs one seed, and once more where that says something: after every failure, and for a sample of the passes. Nothing
    /// if somebody has killed it who has seen enough.
    fn finish(&self, task: &Task) -> Result<Option<Finished>, Failure> {
        let first = self.once(task, None)?;
        if first.was_interrupted() {
            return Ok(None);
        }
        let failed = first.run.record.verdict != Verdict::Pass;
        if !failed && !task.ordinal.is_multiple_of(SAMPLE_EVERY) {
            return Ok(Some(Finished { run: first.run, compared: false }));
        }
        let second = if failed { self.again_with_files(task, &first.run)? } else { self.once(task, None)? };
        if second.was_interrupted() {
            return Ok(Some(Finished { run: first.run, compared: false }));
        }
        Ok(Some(Finished { run: verdict_of_both(first, second), compared: true }))
    }

    /// The second run of a failure. Of each kind, the files of the cheapest seed are kept, so that a sweep with many
    /// failures does not fill the disk.
    fn again_with_files(&self, task: &Task, first: &Recorded) -> Result<Once, Failure> {
        let fingerprint = first.record.fingerprint.clone().unwrap_or_default();
        let key = (task.id.to_owned(), fingerprint);
        let cost = (first.record.simulated_ns, task.seed);
        let is_cheapest = |exemplars: &Exemplars| exemplars.get(&key).is_none_or(|(other, _)| cost < *other);
        if !is_cheapest(&lock(&self.exemplars)) {
            return self.once(task, None);
        }
        let files = exemplar_folder(self.folder, task.id, Seed(task.seed));
        if fs::create_dir_all(&files).is_err() {
            return self.once(task, None);
        }
        let mut second = self.once(task, Some(&files))?;
        if second.run.record.fingerprint.as_deref() == Some(INTERNAL) {
            // Its files could not be written, which says nothing about the seed.
            second = self.once(task, None)?;
        }
        if !second.run.agrees_with(first) {
            // These are not the files of the failure.
            let _ = fs::remove_dir_all(&files);
        } else if fs::remove_dir(&files).is_err() {
            // A crash leaves no files, and an empty folder is gone now.
            let mut exemplars = lock(&self.exemplars);
            let loser = if is_cheapest(&exemplars) {
                exemplars.insert(key, (cost, files)).map(|(_, other)| other)
            } else {
                Some(files)
            };
            if let Some(loser) = loser {
                let _ = fs::remove_dir_all(loser);
            }
        }
        Ok(second)
    }

    /// One process.
    fn once(&self, task: &Task, out: Option<&Path>) -> Result<Once, Failure> {
        let seed = Seed(task.seed);
        let output = self.worker.record(&Job { out, ..Job::bare(task.id, seed, self.overrides) }, Some(self.limit))?;
        let by_machine = matches!(output.ended, Ended::Hung(_)) || output.ended.is_kill();
        let run = match Recorded::of(task.id, seed, &output) {
            // One seed that breaks the tool is no reason to lose the others.
            Err(failure) if failure.exit == ExitCode::Internal => {
                Recorded::crashed(task.id, seed, INTERNAL, &failure.line, 0)
            }
            other => other?,
        };
        let asked = run.record.scenario == task.id && run.record.seed == seed;
        let run = if asked {
            run
        } else {
            Recorded::crashed(task.id, seed, "printed the record of another run", &run.line, 0)
        };
        Ok(Once { run, by_machine })
    }
}

/// Where the files of a failing seed are kept.
pub fn exemplar_folder(folder: &Path, id: &str, seed: Seed) -> PathBuf {
    folder.join("failing").join(format!("{}-{seed}", id.replace('/', "-")))
}

/// One process of one seed.
struct Once {
    run: Recorded,
    /// The machine ended it, and not the seed: it was killed, at the wall limit or by somebody else.
    by_machine: bool,
}

impl Once {
    fn was_interrupted(&self) -> bool {
        self.run.record.fingerprint.as_deref() == Some(INTERRUPTED)
    }
}

/// Nothing that a panicking thread leaves behind is half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What two runs of one seed say together. A wall limit and a kill are matters of the machine: where only one run met
/// them, the seed is reported as hanging or killed, with what the other run said, and not as divergent.
fn verdict_of_both(first: Once, second: Once) -> Recorded {
    match (first.by_machine, second.by_machine) {
        (false, false) if first.run.agrees_with(&second.run) => first.run,
        (false, false) => {
            let cause = format!("{} once, {} once", first.run.said(), second.run.said());
            first.run.diverged(cause)
        }
        (true, true) => first.run,
        (true, false) => first.run.beside(&second.run),
        (false, true) => second.run.beside(&first.run),
    }
}

#[cfg(test)]
mod tests {
    use miroir_sim::record::Record;

    use super::*;

    fn run(verdict: Verdict, hash: &str) -> Recorded {
        let record = Record { verdict, trace_hash: hash.to_owned(), ..Record::new("a", Seed(1)) };
        Recorded { line: record.to_json(), record }
    }

    fn crash(how: &str) -> Recorded {
        Recorded::crashed("a", Seed(1), how, "", 0)
    }

    fn once(run: Recorded) -> Once {
        Once { run, by_machine: false }
    }

    fn killed() -> Once {
        Once { run: crash("was killed by signal 9"), by_machine: true }
    }

    #[test]
    fn agreement_changes_nothing() {
        let violation = || once(run(Verdict::Violation, "9f"));
        assert_eq!(verdict_of_both(violation(), violation()), run(Verdict::Violation, "9f"));
    }

    #[test]
    fn another_hash_or_another_verdict_is_a_divergence() {
        for second in [run(Verdict::Pass, "00"), run(Verdict::Violation, "9f"), crash("panicked")] {
            let both = verdict_of_both(once(run(Verdict::Pass, "9f")), once(second));
            assert_eq!(both.record.verdict, Verdict::Diverged);
            assert!(both.line.contains("\"diverged\""), "{}", both.line);
        }
    }

    #[test]
    fn what_the_machine_ended_is_no_divergence_and_the_other_run_is_named() {
        let pass = || once(run(Verdict::Pass, "9f"));
        for both in [verdict_of_both(killed(), pass()), verdict_of_both(pass(), killed())] {
            assert_eq!(
                (both.record.verdict, both.record.fingerprint.as_deref()),
                (Verdict::Crashed, Some("was killed by signal 9"))
            );
            assert!(both.reason().contains("another run of the seed said pass"), "{}", both.reason());
        }
        assert_eq!(verdict_of_both(killed(), killed()).reason(), "was killed by signal 9");
    }
}
