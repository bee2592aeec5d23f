//! Failures that are one: grouped by fingerprint, with the cheapest seed as the exemplar, compared with the last sweep.

use std::collections::BTreeMap;

use miroir_sim::record::Record;
use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};

/// One way to fail, and who fails so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub fingerprint: String,
    pub verdict: Verdict,
    /// What went wrong in the exemplar, in words.
    pub cause: String,
    pub scenario: String,
    /// The cheapest seed: the one with the least simulated time.
    pub exemplar: Seed,
    pub simulated_ns: u64,
    /// How many runs fail so.
    pub runs: u64,
    /// The first few of their seeds.
    pub seeds: Vec<Seed>,
}

/// How many seeds of a group are listed.
const LISTED: usize = 20;

/// What is known of a group from the sweep before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    New,
    Ongoing,
}

/// The groups of a sweep, by scenario and fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Groups(BTreeMap<(String, String), Group>);

impl Groups {
    /// Adds a run that failed.
    pub fn add(&mut self, record: &Record, reason: &str) {
        let fingerprint = record.fingerprint.clone().unwrap_or_else(|| "without a fingerprint".to_owned());
        let key = (record.scenario.clone(), fingerprint.clone());
        let group = self.0.entry(key).or_insert_with(|| Group {
            fingerprint,
            verdict: record.verdict,
            cause: String::new(),
            scenario: record.scenario.clone(),
            exemplar: record.seed,
            simulated_ns: u64::MAX,
            runs: 0,
            seeds: Vec::new(),
        });
        group.runs += 1;
        // Results come in any order; what is kept of them must not depend on it.
        let at = group.seeds.partition_point(|seed| *seed < record.seed);
        group.seeds.insert(at, record.seed);
        group.seeds.truncate(LISTED);
        if group.cause.is_empty() || (record.simulated_ns, record.seed) < (group.simulated_ns, group.exemplar) {
            group.exemplar = record.seed;
            group.simulated_ns = record.simulated_ns;
            group.verdict = record.verdict;
            reason.clone_into(&mut group.cause);
        }
    }

    /// How many ways to fail there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The most frequent first.
    pub fn by_frequency(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.0.values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.runs), &group.fingerprint));
        groups
    }

    /// Whether a group was there in the sweep before.
    pub fn since(group: &Group, last: &[Group]) -> Since {
        if last.iter().any(|old| same(old, group)) { Since::Ongoing } else { Since::New }
    }

    /// The groups of the sweep before that are gone.
    pub fn gone<'a>(&self, last: &'a [Group]) -> Vec<&'a Group> {
        last.iter().filter(|old| !self.0.values().any(|group| same(old, group))).collect()
    }
}

fn same(one: &Group, other: &Group) -> bool {
    one.scenario == other.scenario && one.fingerprint == other.fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(seed: u64, fingerprint: &str, simulated_ns: u64) -> Record {
        Record {
            verdict: Verdict::Violation,
            fingerprint: Some(fingerprint.to_owned()),
            simulated_ns,
            ..Record::new("a", Seed(seed))
        }
    }

    #[test]
    fn the_cheapest_seed_is_the_exemplar_in_whatever_order_they_come() {
        let runs = [failed(3, "f", 30), failed(1, "f", 20), failed(2, "f", 20), failed(9, "g", 1)];
        for turn in 0..runs.len() {
            let mut groups = Groups::default();
            for at in 0..runs.len() {
                let run = &runs[(turn + at) % runs.len()];
                groups.add(run, &format!("seed {}", run.seed));
            }
            let found = groups.by_frequency();
            assert_eq!((found[0].exemplar, found[0].cause.as_str(), found[0].runs), (Seed(1), "seed 1", 3));
            assert_eq!(found[0].seeds, [Seed(1), Seed(2), Seed(3)]);
            assert_eq!(found[1].fingerprint, "g");
        }
    }

    #[test]
    fn groups_are_new_ongoing_or_gone() {
        let (mut last, mut now) = (Groups::default(), Groups::default());
        last.add(&failed(1, "old", 1), "");
        last.add(&failed(1, "both", 1), "");
        now.add(&failed(2, "both", 1), "");
        now.add(&failed(2, "fresh", 1), "");
        let last: Vec<Group> = last.by_frequency().into_iter().cloned().collect();
        let since: Vec<Since> = now.by_frequency().into_iter().map(|group| Groups::since(group, &last)).collect();
        assert_eq!(since, [Since::Ongoing, Since::New]);
        assert_eq!(now.gone(&last).iter().map(|group| group.fingerprint.as_str()).collect::<Vec<_>>(), ["old"]);
        assert_eq!(now.len(), 2);
    }
}
