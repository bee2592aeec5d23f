//! What a tally holds of each kind of measurement: sums and extremes, which come out the same in whatever order runs end.

use miroir_sim::record::{Gaps, Prediction, Record, STEADY, Service};
use miroir_sim::time::Nanos;
use serde::{Deserialize, Serialize};

/// One mark: how many seeds reached it, and how often in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub seeds: u64,
    pub times: u64,
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

impl Lost {
    /// Of one run.
    pub fn of(record: &Record) -> Lost {
        let (lost, acked) = (lost_writes(record), record.acked);
        Lost { writes: lost, squared: lost * lost, by_acked: lost * acked, acked_squared: acked * acked }
    }

    pub fn merge(&mut self, more: &Lost) {
        self.writes += more.writes;
        self.squared += more.squared;
        self.by_acked += more.by_acked;
        self.acked_squared += more.acked_squared;
    }
}

/// Acknowledged writes of a run that had a window. The record has them per million, rounded up: exact up to a million.
fn lost_writes(record: &Record) -> u64 {
    record.loss_ppm * record.acked / 1_000_000
}

/// The most of any run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Most {
    pub acked: u64,
    pub wall_ms: u64,
    pub peak_kib: u64,
}

impl Most {
    /// Of one run.
    pub fn of(record: &Record) -> Most {
        Most { acked: record.acked, wall_ms: record.wall_ms, peak_kib: record.peak_kib }
    }

    pub fn merge(&mut self, more: &Most) {
        self.acked = self.acked.max(more.acked);
        self.wall_ms = self.wall_ms.max(more.wall_ms);
        self.peak_kib = self.peak_kib.max(more.peak_kib);
    }
}

/// How writes were served in one stage, over all runs that measured it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub runs: u64,
    pub lasted_ns: Nanos,
    pub acked: u64,
    pub gaps: u64,
    /// Sum over runs of the run's quantile of how long a write took.
    pub p50_ns: Nanos,
    pub p99_ns: Nanos,
    /// The longest gap of any run.
    pub gap_max_ns: Nanos,
    /// The gaps of all runs, each measured by its own run's steady ones, and those of steady stretches that are as long.
    #[serde(default)]
    pub of_steady: Gaps,
    #[serde(default)]
    pub alike: Gaps,
    /// By how much a run's longest gap exceeds the same run's longest before and after, in thousandths of a round trip:
    /// the most of any run.
    pub beyond_steady_permille: u64,
}

/// The scenario that promises writes without a pause: full load, and nothing else goes wrong.
pub const AT_FULL_LOAD: &str = "cutover/concurrent_migration_writes";
/// What it promises of a stage's p99.9 of the gaps, in twentieths of the steady one.
pub const OF_STEADY_AT_MOST: u64 = 40;

/// Twentieths of a steady p99.9, in words.
pub fn times(twentieths: u64) -> String {
    format!("{:.2} times", twentieths as f64 / 20.0)
}

impl Served {
    /// The p99.9 of the gaps in twentieths of the steady one; `None` of fewer than a thousand gaps, which have none.
    pub fn p999_of_steady(&self) -> Option<u64> {
        (self.of_steady.count >= 1_000).then(|| self.of_steady.p999())
    }

    /// Of one run. Where it has no steady state, there is nothing to compare with.
    pub fn of(met: &Service, record: &Record) -> Served {
        let mut served = Served {
            runs: 1,
            lasted_ns: met.lasted_ns,
            acked: met.acked,
            gaps: met.gaps,
            p50_ns: met.p50_ns,
            p99_ns: met.p99_ns,
            gap_max_ns: met.gap_max_ns,
            ..Served::default()
        };
        if let Some(steady) = record.service.get(STEADY).filter(|steady| steady.gap_p999_ns > 0) {
            served.of_steady = met.of_steady.clone();
            served.alike = met.alike.clone();
            let beyond = met.gap_max_ns.saturating_sub(steady.gap_max_ns) * 1_000;
            served.beyond_steady_permille = beyond / record.round_trip_ns.max(1);
        }
        served
    }

    pub fn merge(&mut self, more: &Served) {
        let Served {
            runs,
            lasted_ns,
            acked,
            gaps,
            p50_ns,
            p99_ns,
            gap_max_ns,
            of_steady,
            alike,
            beyond_steady_permille,
        } = more;
        self.runs += runs;
        self.lasted_ns = self.lasted_ns.saturating_add(*lasted_ns);
        self.acked += acked;
        self.gaps += gaps;
        self.p50_ns = self.p50_ns.saturating_add(*p50_ns);
        self.p99_ns = self.p99_ns.saturating_add(*p99_ns);
        self.gap_max_ns = self.gap_max_ns.max(*gap_max_ns);
        self.of_steady.merge(of_steady);
        self.alike.merge(alike);
        self.beyond_steady_permille = self.beyond_steady_permille.max(*beyond_steady_permille);
    }
}

/// Runs with as many replicas and the same chance of a loss: what was to be missing, and what was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub replication: u32,
    /// Replicas that were replaced.
    pub joiners: u32,
    pub loss_millionths: u64,
    pub runs: u64,
    /// Writes that could be missed.
    pub exposed: u64,
    /// Those of them that were written again in time, by the arithmetic, in millionths.
    pub rewritten_millionths: u64,
    /// The mean number of documents to be missing, in millionths.
    pub expected_millionths: u64,
    /// The number that was.
    pub missing: u64,
}

impl Point {
    /// Of one run.
    pub fn of(prediction: &Prediction) -> Point {
        let Prediction { replication, joiners, loss_millionths, exposed, .. } = *prediction;
        Point {
            replication,
            joiners,
            loss_millionths,
            runs: 1,
            exposed,
            rewritten_millionths: exposed * prediction.rewritten_millionths,
            expected_millionths: prediction.expected_millionths,
            missing: prediction.missing,
        }
    }

    /// By what points are told apart, and sorted.
    pub fn key(&self) -> (u32, u32, u64) {
        (self.replication, self.joiners, self.loss_millionths)
    }

    /// Adds a point to its like, or puts it in its place.
    pub fn put(points: &mut Vec<Point>, more: &Point) {
        let at = points.partition_point(|point| point.key() < more.key());
        match points.get_mut(at).filter(|point| point.key() == more.key()) {
            None => points.insert(at, more.clone()),
            Some(point) => {
                point.runs += more.runs;
                point.exposed += more.exposed;
                point.rewritten_millionths += more.rewritten_millionths;
                point.expected_millionths += more.expected_millionths;
                point.missing += more.missing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use miroir_sim::seed::Seed;

    use super::*;

    #[test]
    fn lost_writes_are_exact() {
        for (lost, acked) in [(0, 7), (1, 7), (3, 2_113), (17, 999_999), (1_000, 1_000)] {
            let loss_ppm = (lost * 1_000_000_u64).div_ceil(acked);
            assert_eq!(lost_writes(&Record { loss_ppm, acked, ..Record::new("a", Seed(1)) }), lost);
        }
    }

    #[test]
    fn gaps_of_many_runs_have_a_quantile() {
        let run = |gaps: &[u64]| Service { of_steady: Gaps::of(gaps, 100), ..Service::default() };
        let record = Record {
            service: [(STEADY.to_owned(), Service { gap_p999_ns: 100, ..Service::default() })].into(),
            ..Record::new("a", Seed(1))
        };
        let mut served = Served::default();
        served.merge(&Served::of(&run(&[900, 7]), &record));
        assert_eq!((served.p999_of_steady(), served.of_steady.longest()), (None, 180));
        for n in 0..1_998 {
            served.merge(&Served::of(&run(&[if n < 3 { 203 } else { 10 }]), &record));
        }
        // Of 2,000 gaps two may be longer: that of 9 times the steady one, and one of the three.
        assert_eq!((served.p999_of_steady(), served.of_steady.count), (Some(41), 2_000));
        assert_eq!((Gaps::of(&[1, 2], 0).count, Gaps::of(&[49, 50], 100).long), (0, [(10, 1)].into()));
        assert_eq!(Gaps::of(&[1; 5_000], 100).p999(), 0);
    }

    #[test]
    fn a_stage_is_compared_with_the_steady_state_of_its_own_run() {
        let service = |gap_p999_ns, gap_max_ns| Service { gap_p999_ns, gap_max_ns, ..Service::default() };
        let run = |steady, round_trip_ns| {
            let service = [(STEADY.to_owned(), steady)].into();
            Record { service, round_trip_ns, ..Record::new("a", Seed(1)) }
        };
        let mut served = Served::default();
        served.merge(&Served::of(&service(300, 900), &run(service(200, 800), 50)));
        served.merge(&Served::of(&service(300, 500), &run(service(600, 900), 50)));
        assert_eq!((served.runs, served.gap_max_ns, served.beyond_steady_permille), (2, 900, 2_000));
    }

    #[test]
    fn points_of_one_kind_are_one() {
        let prediction = |loss_millionths, missing| Prediction {
            replication: 3,
            joiners: 3,
            loss_millionths,
            exposed: 10,
            rewritten_millionths: 500_000,
            expected_millionths: 7,
            missing,
        };
        let mut points = Vec::new();
        for it in [prediction(9, 1), prediction(2, 2), prediction(9, 4)] {
            Point::put(&mut points, &Point::of(&it));
        }
        let told: Vec<_> = points.iter().map(|it| (it.loss_millionths, it.runs, it.missing)).collect();
        assert_eq!(told, [(2, 1, 2), (9, 2, 5)]);
        assert_eq!(
            (points[1].exposed, points[1].rewritten_millionths, points[1].expected_millionths),
            (20, 10_000_000, 14)
        );
    }
}
