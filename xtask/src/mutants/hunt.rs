//! Looks for the first seed that finds a mutant.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use super::list::{Mutant, Try};
use crate::cli::Overrides;
use crate::exit::Failure;
use crate::explain;
use crate::record::Recorded;
use crate::sweep::pool::{News, Pool, Task};
use crate::worker::{Job, Worker};

/// How far apart the starts of a search are.
const STRIDE: u64 = 1_000_000;

pub struct Hunt<'a> {
    pub worker: &'a Worker,
    /// The pool's.
    pub folder: &'a Path,
    /// In one configuration, from one start.
    pub seeds: u64,
    pub starts: u64,
    /// Wall time for one mutant until it is found, and as much again for the other starts.
    pub budget: Duration,
    pub limit: Duration,
    pub jobs: usize,
}

/// A mutant that was found.
#[derive(Clone, Debug)]
pub struct Kill {
    pub by: Try,
    pub run: Recorded,
    /// The rule that its explanation names.
    pub rule: Option<String>,
    /// Seeds until the first kill, of each start, in order of the starts; `None`: not among as many as were allowed.
    pub seeds: Vec<Option<u64>>,
    pub wall: Duration,
    /// Seeds that passed in configurations that were tried before.
    pub in_vain: u64,
}

/// What came of a hunt.
#[derive(Clone, Debug)]
pub enum Found {
    Killed(Box<Kill>),
    /// Not among so many seeds.
    Survived {
        seeds: u64,
        wall: Duration,
    },
}

impl Hunt<'_> {
    pub fn hunt(&self, mutant: &Mutant, common: &[Try]) -> Result<Found, Failure> {
        let began = Instant::now();
        let mut in_vain = 0;
        for by in mutant.near.iter().chain(common.iter().filter(|it| !mutant.near.contains(it))) {
            let (ran, found) = self.search(&mutant.id, by, 0, began)?;
            let Some((run, wall)) = found.map(|run| (run, began.elapsed())) else {
                in_vain += ran;
                continue;
            };
            let mut seeds = vec![Some(ran)];
            let again = Instant::now();
            for start in 1..self.starts {
                let (ran, found) = self.search(&mutant.id, by, start * STRIDE, again)?;
                seeds.push(found.map(|_| ran));
            }
            let rule = self.rule(&mutant.id, by, run.record.seed)?;
            return Ok(Found::Killed(Box::new(Kill { by: by.clone(), run, rule, seeds, wall, in_vain })));
        }
        Ok(Found::Survived { seeds: in_vain, wall: began.elapsed() })
    }

    /// How many seeds from `start` on ran up to the first kill, and that.
    fn search(&self, mutant: &str, by: &Try, start: u64, began: Instant) -> Result<(u64, Option<Recorded>), Failure> {
        let overrides = Overrides { mutant: Some(mutant.to_owned()), ..by.overrides.clone() };
        let pool = Pool::new(self.worker, &overrides, self.limit, self.folder);
        let mut from = start;
        while from < start + self.seeds && began.elapsed() < self.budget {
            let stop = AtomicBool::new(false);
            let task = |index: u64| {
                let is_over = from + index >= start + self.seeds || began.elapsed() >= self.budget;
                let (seed, ordinal) = (from + index, from + index - start);
                let go_on = !is_over && !stop.load(Ordering::Relaxed);
                go_on.then_some(Task { scenario: 0, id: &by.scenario, seed, ordinal })
            };
            let (mut first, mut ran): (Option<Recorded>, u64) = (None, 0);
            pool.run(self.jobs, task, |news| {
                let News::Finished(_, finished) = news else { return true };
                ran += 1;
                let run = finished.run;
                if run.record.verdict != Verdict::Pass
                    && first.as_ref().is_none_or(|it| run.record.seed < it.record.seed)
                {
                    first = Some(run);
                    stop.store(true, Ordering::Relaxed);
                }
                first.is_none()
            })?;
            let Some(run) = first else { return Ok((from + ran - start, None)) };
            let seed = run.record.seed;
            if self.passes_without(by, seed)? {
                return Ok((seed.0 + 1 - start, Some(run)));
            }
            from = seed.0 + 1;
        }
        Ok((from - start, None))
    }

    /// What `cargo xtask explain` says of the kill.
    fn rule(&self, mutant: &str, by: &Try, seed: Seed) -> Result<Option<String>, Failure> {
        let overrides = Overrides { mutant: Some(mutant.to_owned()), ..by.overrides.clone() };
        explain::rule(self.worker, &Job::bare(&by.scenario, seed, &overrides), &self.folder.join(mutant))
    }

    /// It is the mutant that was found, not the seed.
    fn passes_without(&self, by: &Try, seed: Seed) -> Result<bool, Failure> {
        let output = self.worker.record(&Job::bare(&by.scenario, seed, &by.overrides), Some(self.limit))?;
        Ok(Recorded::of(&by.scenario, seed, &output)?.record.verdict == Verdict::Pass)
    }
}
