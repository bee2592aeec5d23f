//! What a sweep found, added up: from its pool as results come, or from the files of many slices.

use std::path::PathBuf;
use std::time::Duration;

use miroir_sim::verdict::Verdict;

use crate::catalog::Entry;
use crate::cli::Overrides;
use crate::exit::ExitCode;
use crate::partition::Partition;
use crate::record::Recorded;
use crate::worker::Build;

use super::groups::{Group, Groups};
use super::manifest::Manifest;
use super::regressions::Regression;
use super::tally::Tally;

/// What was asked for, as far as a report needs it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub entries: Vec<Entry>,
    pub partition: Partition,
    pub overrides: Overrides,
    pub build: Build,
    pub folder: PathBuf,
    /// The folder as a person would type it.
    pub shown: String,
}

/// What a sweep found.
pub struct Outcome {
    pub asked: Asked,
    /// One per scenario, in the order of the request.
    pub tallies: Vec<Tally>,
    pub groups: Groups,
    /// Why the alarm is broken; `None`: the canary's bug was found.
    pub broken_alarm: Option<String>,
    pub regressions: Vec<Regression>,
    /// What is wrong with the sweep itself: slices that are missing, or contradict each other.
    pub problems: Vec<String>,
    /// Why it ended before its last seed, so that unreached marks say nothing.
    pub cut_short: Option<String>,
    /// Results were lost that should be on disk.
    pub is_incomplete: bool,
    /// The last comparable sweep.
    pub last: Option<Manifest>,
    pub wall: Duration,
    pub jobs: usize,
}

impl Outcome {
    /// Nothing yet. The alarm counts as broken until it has rung.
    pub fn new(asked: Asked, jobs: usize) -> Outcome {
        Outcome {
            tallies: asked.entries.iter().map(Tally::new).collect(),
            asked,
            groups: Groups::default(),
            broken_alarm: Some("the canary did not run".to_owned()),
            regressions: Vec::new(),
            problems: Vec::new(),
            cut_short: None,
            is_incomplete: false,
            last: None,
            wall: Duration::ZERO,
            jobs,
        }
    }

    /// Adds a run of the `scenario`th scenario.
    pub fn add(&mut self, scenario: usize, run: &Recorded, compared: bool) {
        self.tallies[scenario].add(run, compared);
        if run.record.verdict != Verdict::Pass {
            self.groups.add(&run.record, run.reason());
        }
    }

    /// Declared marks that nobody reached, by scenario. A sweep that was cut short says nothing about them.
    pub fn unreached(&self) -> Vec<(&str, &str)> {
        let tallies = self.tallies.iter().filter(|_| self.cut_short.is_none());
        tallies.flat_map(|tally| tally.unreached().into_iter().map(|mark| (tally.id(), mark))).collect()
    }

    /// Scenarios with a stage in which writes wait longer than is promised, and which. What was cut short says so too.
    pub fn pauses(&self) -> Vec<(&str, String)> {
        self.tallies.iter().flat_map(|tally| tally.pauses().into_iter().map(|pause| (tally.id(), pause))).collect()
    }

    /// Regressions that do not hold.
    pub fn regressed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.regressions.iter().filter_map(|it| it.problem.as_deref().map(|problem| (it.path.as_str(), problem)))
    }

    /// Failing seeds, failing regressions, unreached marks, pauses, a broken alarm, and what is wrong with the sweep itself.
    pub fn findings(&self) -> u64 {
        let failing: usize = self.tallies.iter().map(|tally| tally.failing().len()).sum();
        let others = self.unreached().len() + self.pauses().len() + self.regressed().count() + self.problems.len();
        (failing + others) as u64 + u64::from(self.broken_alarm.is_some())
    }

    pub fn seeds(&self) -> u64 {
        self.tallies.iter().map(Tally::seeds).sum()
    }

    pub fn passed(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.count(Verdict::Pass)).sum()
    }

    pub fn seeds_per_min(&self) -> f64 {
        self.seeds() as f64 * 60.0 / self.wall.as_secs_f64().max(0.001)
    }

    /// The groups of the last comparable sweep.
    pub fn last_groups(&self) -> &[Group] {
        self.last.as_ref().map_or(&[], |last| &last.groups)
    }

    pub fn exit(&self) -> ExitCode {
        match self.findings() {
            _ if self.seeds() == 0 => ExitCode::NothingRan,
            1.. => ExitCode::Finding,
            0 if self.is_incomplete => ExitCode::Internal,
            0 => ExitCode::AsExpected,
        }
    }
}
