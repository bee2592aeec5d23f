//! The runs of one row, added up: integers only, from which the report computes rates and intervals.

use std::collections::BTreeMap;

use miroir_sim::coverage::Matrix;
use miroir_sim::record::{Migrations, Record, WindowTotals};
use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::catalog::Entry;

/// How many runs of a row are kept one by one, to be run again by `report --check`.
const SAMPLED: usize = 1;

/// A run that costs more wall time than this is not part of the sample.
const SAMPLED_MS: u64 = 2_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub scenario: String,
    /// The marks that had to be reached.
    pub declared: Vec<String>,
    pub runs: u64,
    pub verdicts: BTreeMap<Verdict, u64>,
    pub acked: u64,
    pub rejected: u64,
    pub unknown: u64,
    pub windows: WindowTotals,
    pub lost: Lost,
    /// The longest gap between acknowledged writes of one shard with clients trying, over all runs.
    pub longest_gap_ns: u64,
    pub migrations: Migrations,
    pub faults: BTreeMap<String, u64>,
    /// In how many runs each mark was reached.
    pub marks: BTreeMap<String, u64>,
    pub matrix: Matrix,
    pub simulated_ns: u64,
    /// Runs to have again, and what they found.
    pub sample: Vec<Sample>,
}

/// Acknowledged writes with a loss window, and what an interval needs: writes of one run share their fate, so runs are the
/// units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub writes: u64,
    /// Sum over runs of the square of lost writes.
    pub squared: u64,
    /// Sum over runs of lost times acknowledged writes.
    pub by_acked: u64,
    /// Sum over runs of the square of acknowledged writes.
    pub acked_squared: u64,
}

/// One run of the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub seed: Seed,
    pub verdict: Verdict,
}

impl Sums {
    pub fn new(entry: &Entry) -> Sums {
        Sums { scenario: entry.id.clone(), declared: entry.marks.clone(), ..Sums::default() }
    }

    /// Adds a run. The order of runs does not matter.
    pub fn add(&mut self, record: &Record) {
        self.runs += 1;
        *self.verdicts.entry(record.verdict).or_default() += 1;
        self.acked += record.acked;
        self.rejected += record.rejected;
        self.unknown += record.unknown;
        self.windows.transient += record.windows.transient;
        self.windows.superseded += record.windows.superseded;
        self.windows.permanent += record.windows.permanent;
        self.windows.total_ns = self.windows.total_ns.saturating_add(record.windows.total_ns);
        self.windows.max_ns = self.windows.max_ns.max(record.windows.max_ns);
        self.lost.add(lost_writes(record), record.acked);
        self.longest_gap_ns = self.longest_gap_ns.max(record.unavailable_ns.writes);
        self.migrations.done += record.migrations.done;
        self.migrations.aborted += record.migrations.aborted;
        self.migrations.refused += record.migrations.refused;
        for (kind, count) in &record.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        for (mark, _) in record.marks.iter().filter(|(_, times)| **times > 0) {
            *self.marks.entry(mark.clone()).or_default() += 1;
        }
        self.matrix.merge(&record.matrix);
        self.simulated_ns = self.simulated_ns.saturating_add(record.simulated_ns);
        if record.wall_ms <= SAMPLED_MS {
            let at = self.sample.partition_point(|run| run.seed < record.seed);
            self.sample.insert(at, Sample { seed: record.seed, verdict: record.verdict });
            self.sample.truncate(SAMPLED);
        }
    }

    pub fn passed(&self) -> u64 {
        self.verdicts.get(&Verdict::Pass).copied().unwrap_or_default()
    }

    /// Declared marks that no run reached.
    pub fn unreached(&self) -> Vec<&str> {
        self.declared.iter().map(String::as_str).filter(|mark| !self.marks.contains_key(*mark)).collect()
    }
}

impl Lost {
    fn add(&mut self, lost: u64, acked: u64) {
        self.writes += lost;
        self.squared += lost * lost;
        self.by_acked += lost * acked;
        self.acked_squared += acked * acked;
    }
}

/// Acknowledged writes of a run that had a window. The record has them per million, rounded up: exact up to a million.
fn lost_writes(record: &Record) -> u64 {
    record.loss_ppm * record.acked / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_writes_are_exact() {
        for (lost, acked) in [(0, 7), (1, 7), (3, 2_113), (17, 999_999), (1_000, 1_000)] {
            let loss_ppm = (lost * 1_000_000_u64).div_ceil(acked);
            assert_eq!(lost_writes(&Record { loss_ppm, acked, ..Record::new("a", Seed(1)) }), lost);
        }
    }

    #[test]
    fn the_order_of_runs_does_not_matter() {
        let run = |seed, acked| Record { acked, loss_ppm: 500_000, ..Record::new("a", Seed(seed)) };
        let entry: Entry = serde_json::from_value(serde_json::json!({"id": "a", "marks": ["m"]})).unwrap();
        let (mut one, mut other) = (Sums::new(&entry), Sums::new(&entry));
        [run(1, 10), run(2, 20)].iter().for_each(|record| one.add(record));
        [run(2, 20), run(1, 10)].iter().for_each(|record| other.add(record));
        assert_eq!(one, other);
        assert_eq!((one.lost.writes, one.lost.squared, one.lost.by_acked), (15, 125, 250));
        assert_eq!((one.passed(), one.unreached(), one.sample.len()), (2, vec!["m"], 1));
    }
}
