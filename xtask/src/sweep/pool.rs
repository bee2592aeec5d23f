//! The pool: so many workers at a time, one process per seed, results as they come.
//!
//! Threads take the next task by number, so the set of runs does not depend on how many there are; only the order of the
//! results does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use crate::cli::Overrides;
use crate::exit::{ExitCode, Failure};
use crate::record::Recorded;
use crate::worker::{Ended, Job, Worker};

/// Of this many passing seeds of a scenario, one runs a second time.
const SAMPLE_EVERY: u64 = 50;

/// One seed of one scenario.
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

/// What all runs of a sweep share.
pub struct Pool<'a> {
    pub worker: &'a Worker,
    pub overrides: &'a Overrides,
    pub limit: Duration,
    /// The sweep's folder; the files of failing seeds go below it.
    pub folder: &'a Path,
}

impl Pool<'_> {
    /// Runs `task(0)`, `task(1)`, ... until there is none. `each` gets the place of the scenario and the result, on the
    /// calling thread, and says whether to go on. The first failure ends the sweep; runs that are under way are awaited
    /// and reported.
    pub fn run<'t>(
        &self,
        jobs: usize,
        task: impl Fn(u64) -> Option<Task<'t>> + Sync,
        mut each: impl FnMut(usize, Finished) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let mut failure = None;
        thread::scope(|scope| {
            let (results, received) = mpsc::channel();
            for _ in 0..jobs {
                let (results, task, next, stop) = (results.clone(), &task, &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(task) = task(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        if results.send((task.scenario, self.finish(&task))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            for (scenario, result) in received {
                match result.and_then(|finished| each(scenario, finished)) {
                    Ok(true) => {}
                    Ok(false) => stop.store(true, Ordering::Relaxed),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        failure.get_or_insert(error);
                    }
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Runs one seed, and once more where that says something: after every failure, now with its files kept, and for a
    /// sample of the passes.
    fn finish(&self, task: &Task) -> Result<Finished, Failure> {
        let (first, first_hung) = self.once(task, None)?;
        let failed = first.record.verdict != Verdict::Pass;
        if !failed && !task.ordinal.is_multiple_of(SAMPLE_EVERY) {
            return Ok(Finished { run: first, compared: false });
        }
        let files = self.folder.join("failing").join(format!("{}-{}", task.id.replace('/', "-"), task.seed));
        let out = failed && std::fs::create_dir_all(&files).is_ok();
        let (second, second_hung) = self.once(task, out.then_some(files.as_path()))?;
        if out {
            // A crash leaves no files.
            let _ = std::fs::remove_dir(&files);
        }
        Ok(Finished { run: verdict_of_both(first, first_hung, second, second_hung), compared: true })
    }

    /// One process. The flag says that it was killed at the wall limit.
    fn once(&self, task: &Task, out: Option<&Path>) -> Result<(Recorded, bool), Failure> {
        let seed = Seed(task.seed);
        let output = self.worker.record(&Job { out, ..Job::bare(task.id, seed, self.overrides) }, Some(self.limit))?;
        let hung = output.ended == Ended::Hung(self.limit);
        let run = match Recorded::of(task.id, seed, &output) {
            // One seed that breaks the tool is no reason to lose the others.
            Err(failure) if failure.exit == ExitCode::Internal => {
                Recorded::crashed(task.id, seed, "internal error of the worker", &failure.line, 0)
            }
            other => other?,
        };
        let asked = run.record.scenario == task.id && run.record.seed == seed;
        let run = if asked {
            run
        } else {
            Recorded::crashed(task.id, seed, "printed the record of another run", &run.line, 0)
        };
        Ok((run, hung))
    }
}

/// What two runs of one seed say together. The wall limit is a matter of the machine: where only one run met it, the
/// seed is reported as hanging, not as divergent.
fn verdict_of_both(first: Recorded, first_hung: bool, second: Recorded, second_hung: bool) -> Recorded {
    match (first_hung, second_hung) {
        (true, _) => first,
        (false, true) => second,
        (false, false) if first.agrees_with(&second) => first,
        (false, false) => {
            let fingerprint = format!("{} once, {} once", first.said(), second.said());
            first.diverged(fingerprint)
        }
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

    #[test]
    fn agreement_changes_nothing() {
        let both = verdict_of_both(run(Verdict::Violation, "9f"), false, run(Verdict::Violation, "9f"), false);
        assert_eq!(both, run(Verdict::Violation, "9f"));
    }

    #[test]
    fn another_hash_or_another_verdict_is_a_divergence() {
        for second in [run(Verdict::Pass, "00"), run(Verdict::Violation, "9f"), crash("panicked")] {
            let both = verdict_of_both(run(Verdict::Pass, "9f"), false, second, false);
            assert_eq!(both.record.verdict, Verdict::Diverged);
            assert!(both.line.contains("\"diverged\""), "{}", both.line);
        }
    }

    #[test]
    fn a_hang_is_a_hang_whatever_the_other_run_did() {
        assert_eq!(verdict_of_both(crash("hung"), true, run(Verdict::Pass, "9f"), false).reason(), "hung");
        assert_eq!(verdict_of_both(run(Verdict::Pass, "9f"), false, crash("hung"), true).reason(), "hung");
    }
}
