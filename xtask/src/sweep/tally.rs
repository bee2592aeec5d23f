//! The sums of one scenario over a sweep: integers only, from which reports compute rates and intervals. They are also what
//! is committed of a qualification's row.

mod parts;

use std::collections::BTreeMap;
use std::ops::Range;

use miroir_sim::coverage::Matrix;
use miroir_sim::record::{Losses, Migrations, STEADY, WindowTotals};
use miroir_sim::seed::Seed;
use miroir_sim::time::Nanos;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::Entry;
use crate::partition::Partition;
use crate::record::Recorded;

pub use parts::{AT_FULL_LOAD, Lost, Most, OF_STEADY_AT_MOST, Point, Reached, Served, times};

/// A run counts as well served when at least this share of its writes was acked.
pub const WELL_ACKED_PERCENT: u64 = 90;

/// The runs of one scenario, added up. The order of runs does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    #[serde(rename = "scenario")]
    id: String,
    /// The marks that had to be reached.
    declared: Vec<String>,
    verdicts: BTreeMap<Verdict, u64>,
    marks: BTreeMap<String, Reached>,
    /// In order.
    failing: Vec<Seed>,
    /// The least and the greatest seed that ran.
    #[serde(skip)]
    bounds: Option<(Seed, Seed)>,
    pub acked: u64,
    pub rejected: u64,
    pub unknown: u64,
    pub windows: WindowTotals,
    /// Writes with a loss window.
    pub lost: Lost,
    /// Loss windows by cause, stage and length.
    pub losses: Losses,
    pub refusals: u64,
    pub migrations: Migrations,
    /// Seeds in which at least one migration was done.
    #[serde(rename = "seeds_migrated")]
    pub migrated: u64,
    /// Seeds in which [`WELL_ACKED_PERCENT`] of the writes were acked.
    #[serde(rename = "seeds_well_acked")]
    pub well_acked: u64,
    /// Seeds that ran in two processes.
    #[serde(rename = "seeds_compared")]
    pub compared: u64,
    pub simulated_ns: Nanos,
    /// What the largest run was and took. Wall time and memory are the machine's, and differ from sweep to sweep.
    #[serde(default)]
    pub most: Most,
    /// Faults and lost frames by kind.
    pub faults: BTreeMap<String, u64>,
    /// Faults by the phase in which they began.
    pub matrix: Matrix,
    /// How writes were served, by stage.
    pub service: BTreeMap<String, Served>,
    /// What was to be lost beside what was, where runs ask the question.
    pub predictions: Vec<Point>,
}

impl Tally {
    pub fn new(entry: &Entry) -> Tally {
        Tally {
            id: entry.id.clone(),
            declared: entry.marks.clone(),
            marks: entry.marks.iter().map(|mark| (mark.clone(), Reached::default())).collect(),
            ..Tally::default()
        }
    }

    /// The sums of one run. `compared`: it ran in two processes.
    fn of(run: &Recorded, compared: bool) -> Tally {
        let record = &run.record;
        let reached = record.marks.iter().filter(|(_, times)| **times > 0);
        let served = record.service.iter().map(|(stage, met)| (stage.clone(), Served::of(met, record)));
        Tally {
            id: record.scenario.clone(),
            declared: Vec::new(),
            verdicts: [(record.verdict, 1)].into(),
            marks: reached.map(|(mark, &times)| (mark.clone(), Reached { seeds: 1, times })).collect(),
            failing: if record.verdict == Verdict::Pass { Vec::new() } else { vec![record.seed] },
            bounds: Some((record.seed, record.seed)),
            acked: record.acked,
            rejected: record.rejected,
            unknown: record.unknown,
            windows: record.windows.clone(),
            lost: Lost::of(record),
            losses: record.losses.clone(),
            refusals: record.refusals.len() as u64,
            migrations: record.migrations.clone(),
            migrated: u64::from(record.migrations.done > 0),
            well_acked: u64::from(run.acked_percent().is_some_and(|percent| percent >= WELL_ACKED_PERCENT)),
            compared: u64::from(compared),
            simulated_ns: record.simulated_ns,
            most: Most::of(record),
            faults: record.faults.clone(),
            matrix: record.matrix.clone(),
            service: served.collect(),
            predictions: record.prediction.iter().map(Point::of).collect(),
        }
    }

    /// Adds one run.
    pub fn add(&mut self, run: &Recorded, compared: bool) {
        self.merge(&Tally::of(run, compared));
    }

    /// Adds other runs of the same scenario.
    pub fn merge(&mut self, more: &Tally) {
        // By name, all of them: a field that is added cannot be forgotten here.
        let Tally {
            id: _,
            declared: _,
            verdicts,
            marks,
            failing,
            bounds,
            acked,
            rejected,
            unknown,
            windows,
            lost,
            losses,
            refusals,
            migrations,
            migrated,
            well_acked,
            compared,
            simulated_ns,
            most,
            faults,
            matrix,
            service,
            predictions,
        } = more;
        add(&mut self.verdicts, verdicts);
        for (mark, Reached { seeds, times }) in marks {
            let reached = self.marks.entry(mark.clone()).or_default();
            reached.seeds += seeds;
            reached.times += times;
        }
        self.failing.extend(failing);
        self.failing.sort_unstable();
        self.bounds = match (self.bounds, *bounds) {
            (Some((low, high)), Some((least, greatest))) => Some((low.min(least), high.max(greatest))),
            (bounds, None) | (None, bounds) => bounds,
        };
        self.acked += acked;
        self.rejected += rejected;
        self.unknown += unknown;
        let WindowTotals { transient, superseded, permanent, total_ns, max_ns } = windows;
        self.windows.transient += transient;
        self.windows.superseded += superseded;
        self.windows.permanent += permanent;
        self.windows.total_ns = self.windows.total_ns.saturating_add(*total_ns);
        self.windows.max_ns = self.windows.max_ns.max(*max_ns);
        self.lost.merge(lost);
        self.losses.merge(losses);
        self.refusals += refusals;
        let Migrations { done, aborted, refused } = migrations;
        self.migrations.done += done;
        self.migrations.aborted += aborted;
        self.migrations.refused += refused;
        self.migrated += migrated;
        self.well_acked += well_acked;
        self.compared += compared;
        self.simulated_ns = self.simulated_ns.saturating_add(*simulated_ns);
        self.most.merge(most);
        add(&mut self.faults, faults);
        self.matrix.merge(matrix);
        for (stage, served) in service {
            self.service.entry(stage.clone()).or_default().merge(served);
        }
        for point in predictions {
            Point::put(&mut self.predictions, point);
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this seed ran, as far as the bounds of the seeds of this slice that ran can tell.
    pub fn ran(&self, seed: Seed, slice: Partition) -> bool {
        self.bounds.is_some_and(|(low, high)| (low..=high).contains(&seed) && (seed.0 - low.0).is_multiple_of(slice.of))
    }

    /// Whether just these seeds ran, each of them once.
    pub fn is_exactly(&self, seeds: Range<u64>) -> bool {
        let bounds = (self.seeds() > 0).then(|| (Seed(seeds.start), Seed(seeds.end.saturating_sub(1))));
        bounds.is_some() && self.bounds == bounds && self.seeds() == seeds.end - seeds.start
    }

    pub fn seeds(&self) -> u64 {
        self.verdicts.values().sum()
    }

    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(&verdict).copied().unwrap_or_default()
    }

    /// The verdicts that occurred, best first.
    pub fn verdicts(&self) -> impl Iterator<Item = (Verdict, u64)> {
        self.verdicts.iter().map(|(verdict, count)| (*verdict, *count))
    }

    /// Every declared mark and every other that was reached.
    pub fn marks(&self) -> impl Iterator<Item = (&str, Reached)> {
        self.marks.iter().map(|(mark, reached)| (mark.as_str(), *reached))
    }

    /// The seeds that did not pass, in order.
    pub fn failing(&self) -> &[Seed] {
        &self.failing
    }

    /// The marks that had to be reached.
    pub fn declared(&self) -> &[String] {
        &self.declared
    }

    /// How often all runs together reached a mark.
    pub fn times(&self, mark: &str) -> u64 {
        self.marks.get(mark).map_or(0, |reached| reached.times)
    }

    /// The declared marks that no seed reached.
    pub fn unreached(&self) -> Vec<&str> {
        self.declared.iter().map(String::as_str).filter(|mark| self.marks[*mark].seeds == 0).collect()
    }

    /// Stages in which writes wait longer than is promised, in words.
    pub fn pauses(&self) -> Vec<String> {
        let stages = self.service.iter().filter(|(stage, _)| self.id == AT_FULL_LOAD && *stage != STEADY);
        let paused =
            stages.filter_map(|(stage, it)| Some((stage, it.p999_of_steady().filter(|it| *it > OF_STEADY_AT_MOST)?)));
        let words = |(stage, p999): (&String, u64)| {
            format!("in {stage} p99.9 of the gaps between acked writes is {} the steady one", times(p999))
        };
        paused.map(words).collect()
    }

    /// The sums, for a script, with what follows from them.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("sums are plain data");
        value["seeds"] = json!(self.seeds());
        value["unreached"] = json!(self.unreached());
        value["pauses"] = json!(self.pauses());
        value
    }
}

fn add<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *sums.entry(key.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use miroir_sim::record::{Gaps, Prediction, Record, Service};

    use super::*;

    fn run(record: Record) -> Recorded {
        Recorded { line: record.to_json(), record }
    }

    fn blank() -> Record {
        Record::new("a", Seed(7))
    }

    fn entry(marks: &[&str]) -> Entry {
        let marks: Vec<String> = marks.iter().map(|&mark| mark.to_owned()).collect();
        serde_json::from_value(json!({"id": "a", "marks": marks})).unwrap()
    }

    #[test]
    fn pauses_are_those_of_a_thousand_gaps() {
        let pauses = |id: &str, length: u64, gaps: usize| {
            let of_steady = Gaps::of(&vec![length; gaps], 100);
            let steady = Service { gap_p999_ns: 100, ..Service::default() };
            let drain = Service { of_steady, ..Service::default() };
            let service = [(STEADY.to_owned(), steady), ("Drain".to_owned(), drain)].into();
            let mut tally = Tally::new(&serde_json::from_value(json!({"id": id, "marks": []})).unwrap());
            tally.add(&run(Record { service, ..blank() }), false);
            tally.pauses()
        };
        let pause = "in Drain p99.9 of the gaps between acked writes is 2.05 times the steady one";
        assert_eq!(pauses(AT_FULL_LOAD, 201, 1_000), [pause]);
        assert!(pauses(AT_FULL_LOAD, 200, 1_000).is_empty());
        assert!(pauses(AT_FULL_LOAD, 201, 999).is_empty());
        assert!(pauses("a", 201, 1_000).is_empty());
    }

    #[test]
    fn runs_add_up() {
        let mut tally = Tally::new(&entry(&["m", "never"]));
        let marks = [("m".to_owned(), 3), ("extra".to_owned(), 1)].into();
        let migrations = Migrations { done: 2, ..Migrations::default() };
        tally.add(&run(Record { acked: 90, unknown: 10, marks, migrations, ..blank() }), true);
        let windows = WindowTotals { permanent: 4, ..WindowTotals::default() };
        let marks = [("m".to_owned(), 0)].into();
        let verdict = Verdict::Violation;
        let mut matrix = Matrix::default();
        matrix.count("Drain", "crash");
        tally.add(&run(Record { verdict, acked: 89, rejected: 11, marks, windows, matrix, ..blank() }), true);
        assert_eq!(tally.matrix.get("Drain", "crash"), 1);
        assert_eq!((tally.seeds(), tally.count(Verdict::Pass), tally.compared), (2, 1, 2));
        assert_eq!((tally.acked, tally.migrated, tally.well_acked, tally.windows.permanent), (179, 1, 1, 4));
        assert_eq!(tally.failing().len(), 1);
        let marks: Vec<_> = tally.marks().map(|(mark, reached)| (mark, reached.seeds, reached.times)).collect();
        assert_eq!(marks, [("extra", 1, 1), ("m", 1, 3), ("never", 0, 0)]);
        assert_eq!(tally.unreached(), ["never"]);
    }

    #[test]
    fn the_order_of_runs_does_not_matter() {
        let (mut one, mut other) = (Tally::new(&entry(&["m"])), Tally::new(&entry(&["m"])));
        let runs = [(1, 10), (2, 20)]
            .map(|(seed, acked)| run(Record { acked, loss_ppm: 500_000, ..Record::new("a", Seed(seed)) }));
        runs.iter().for_each(|it| one.add(it, false));
        runs.iter().rev().for_each(|it| other.add(it, false));
        assert_eq!(one, other);
        assert_eq!((one.lost.writes, one.lost.squared, one.lost.by_acked), (15, 125, 250));
    }

    #[test]
    fn a_sweep_is_the_sum_of_its_parts() {
        let runs: Vec<_> = (0..6)
            .map(|seed| {
                let verdict = if seed % 2 == 0 { Verdict::Pass } else { Verdict::Violation };
                let service = Service { gaps: seed, gap_max_ns: seed, gap_p999_ns: 1, ..Service::default() };
                let windows = WindowTotals { transient: seed, total_ns: seed, max_ns: seed, ..WindowTotals::default() };
                let mut matrix = Matrix::default();
                matrix.count("Drain", "crash");
                run(Record {
                    verdict,
                    acked: seed,
                    windows,
                    matrix,
                    marks: [("m".to_owned(), seed)].into(),
                    faults: [("crash".to_owned(), seed)].into(),
                    service: [(STEADY.to_owned(), service)].into(),
                    prediction: Some(Prediction { missing: seed, ..Prediction::default() }),
                    wall_ms: seed,
                    ..Record::new("a", Seed(seed))
                })
            })
            .collect();
        let of = |runs: &[Recorded]| {
            let mut tally = Tally::new(&entry(&["m", "never"]));
            runs.iter().for_each(|it| tally.add(it, true));
            tally
        };
        let mut parts = of(&runs[3..]);
        parts.merge(&of(&runs[..3]));
        assert_eq!(parts, of(&runs));
        assert!(parts.is_exactly(0..6) && !parts.is_exactly(0..7) && of(&runs[3..]).is_exactly(3..6));
        assert_eq!((parts.seeds(), parts.failing(), parts.unreached()), (6, &[1, 3, 5].map(Seed)[..], vec!["never"]));
        let Tally { windows, most, faults, matrix, service, predictions, .. } = parts;
        assert_eq!((windows.transient, windows.total_ns, windows.max_ns, most.wall_ms), (15, 15, 5, 5));
        assert_eq!((faults["crash"], matrix.get("Drain", "crash"), predictions[0].missing), (15, 6, 15));
        assert_eq!((service[STEADY].gaps, service[STEADY].gap_max_ns), (15, 5));
    }

    #[test]
    fn sums_are_read_as_they_were_written() {
        let mut tally = Tally::new(&entry(&["m"]));
        tally.add(&run(Record { verdict: Verdict::Violation, acked: 3, ..blank() }), false);
        let again: Tally = serde_json::from_value(tally.to_json()).unwrap();
        assert_eq!(again, Tally { bounds: None, ..tally });
    }

    #[test]
    fn a_seed_of_another_slice_did_not_run() {
        let mut tally = Tally::new(&entry(&[]));
        for seed in [4, 7, 10] {
            tally.add(&run(Record::new("a", Seed(seed))), false);
        }
        assert!(!tally.is_exactly(4..7) && !tally.is_exactly(4..11) && !Tally::new(&entry(&[])).is_exactly(4..4));
        let ran = |seed| tally.ran(Seed(seed), Partition { slice: 2, of: 3 });
        assert_eq!([1, 4, 6, 7, 10, 13].map(ran), [false, true, false, true, true, false]);
    }

    #[test]
    fn a_script_finds_the_sums_under_stable_names() {
        let mut tally = Tally::new(&entry(&[]));
        tally.add(&run(Record { verdict: Verdict::Stalled, acked: 5, ..blank() }), false);
        let value = tally.to_json();
        assert_eq!(value["verdicts"]["stalled"], 1);
        assert_eq!(value["failing"], json!([7]));
        assert_eq!(value["seeds_well_acked"], 1);
    }
}
