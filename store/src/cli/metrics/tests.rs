//! Meters that are told what happened.

use super::*;
use crate::config::ShardConfig;
use crate::env::real::MonotonicClock;
use crate::id::NodeId;

#[test]
fn every_metric_is_described_and_counted() {
    let meter = Meter::new(Arc::new(MonotonicClock::default()), Arc::default());
    let (migration, shard) = (MigrationId(1), ShardId(2));
    for stage in [Stage::DualWrite, Stage::Done] {
        meter.on(Event::Staged { migration, shard, stage, reason: None });
    }
    meter.measure(Measure::Lacking { shard: ShardId(3), documents: 7 });
    meter.measure(Measure::StillLacking { documents: 2 });
    meter.measure(Measure::TurnedAway { why: "stale epoch", requests: 3 });
    meter.on(Event::TurnedAway { node: NodeId(1), shard, why: "another disk" });
    meter.measure(Measure::DiskFull(true));
    meter.measure(Measure::Tried { shard });
    meter.on(Event::Reconciled { shard, purpose: Purpose::Delta, shipped: 7, reruns: 1, verified: 3 });
    meter.on(Event::Counted { node: NodeId(3), shard, tombstones: 5 });
    meter.on(Event::Refused { code: "UnsafeCutover".to_owned() });
    let text = meter.text();
    for line in [
        "miroir_migration_stage{migration=\"m1\",shard=\"s2\",stage=\"Done\"} 1",
        "miroir_migrations_ended_total{how=\"done\"} 1",
        "miroir_delta_documents_total 7",
        "miroir_lag_documents{shard=\"s2\"} 0",
        "miroir_lag_documents{shard=\"s3\"} 7",
        "miroir_tombstones{shard=\"s2\"} 5",
        "miroir_turned_away_total{reason=\"stale epoch\"} 3",
        "miroir_turned_away_total{reason=\"another disk\"} 1",
        "miroir_disk_full 1",
        "miroir_longest_write_gap_seconds{shard=\"s2\"} 0",
        "miroir_verify_differences_total 2",
        "miroir_refusals_total{reason=\"UnsafeCutover\"} 1",
        "miroir_writes_total 0",
        "miroir_net_refused_total{reason=\"key\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    let described = |name: &str| text.contains(&format!("# TYPE {name} "));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(described(family(line.split(' ').next().expect("a name"))), "{line}");
    }
}

#[test]
fn a_gap_is_time_in_which_clients_wanted_to_write_and_nothing_was_written() {
    let s = |seconds: u64| millis(1_000 * seconds);
    let mut gap = Gap::default();
    gap.tried(s(1));
    gap.written(s(2));
    assert_eq!(gap.longest(), s(1));
    // Nobody wants anything for an hour: that is no gap.
    gap.tried(s(3_600));
    gap.written(s(3_600));
    assert_eq!(gap.longest(), s(1));
    // It is seen before it ends.
    (3_700..=3_704).for_each(|at| gap.tried(s(at)));
    assert_eq!(gap.longest(), s(4));
    // Whoever wanted to has given up, and another comes much later.
    gap.tried(s(9_000));
    gap.written(s(9_001));
    assert_eq!(gap.longest(), s(4));
}

#[test]
fn a_gap_is_of_the_last_migration() {
    let meter = Meter::new(Arc::new(MonotonicClock::default()), Arc::default());
    let shard = ShardId(2);
    meter.counted.lock().expect("sound").gaps.insert(shard, Gap { wanted: None, longest: millis(5_000) });
    assert!(meter.text().contains("miroir_longest_write_gap_seconds{shard=\"s2\"} 5\n"));
    let mut config = ShardConfig::initial(shard, 4, Vec::new());
    config.form = Form::DualWrite;
    meter.on(Event::Installed { node: NodeId(1), config, wiped: false });
    assert!(meter.text().contains("miroir_longest_write_gap_seconds{shard=\"s2\"} 0\n"));
}
