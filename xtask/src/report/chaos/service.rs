//! What a cutover costs those who write meanwhile: stage by stage, at full load.

use miroir_sim::record::STEADY;

use crate::data::Row;
use crate::print::counted;
use crate::report::tables::{Table, number};
use crate::sweep::{Served, Tally};

use super::{coverage, not_yet, stage_place};

/// The scenario that measures it: full load, and nothing else goes wrong.
const LOADED: &str = "cutover/concurrent_migration_writes";

/// What the scenario promises of each stage, in thousandths: of the steady p99.9, and of a round trip.
const OF_STEADY_AT_MOST: u64 = 2_000;
const ROUND_TRIPS_AT_MOST: u64 = 2_000;

/// One row: its faultless load is the same in every profile. The most seeds say most.
fn row(rows: &[Row<Tally>]) -> Option<&Tally> {
    let rows = rows.iter().filter(|row| coverage::parts(&row.name).1 == LOADED).map(|row| &row.measured);
    rows.filter(|tally| tally.service.contains_key(STEADY)).max_by_key(|tally| tally.seeds())
}

pub fn section(rows: &[Row<Tally>]) -> String {
    let Some(tally) = row(rows) else { return not_yet(&format!("cargo xtask qualify coverage --only {LOADED}")) };
    let header = [
        "stage",
        "runs",
        "lasted",
        "acked writes",
        "write p50",
        "write p99",
        "gap p99.9",
        "of steady, worst run",
        "longest gap",
        "beyond steady, worst run",
    ];
    let mut table = Table::new(&header, |column| column > 0);
    let mut stages: Vec<(&String, &Served)> = tally.service.iter().collect();
    stages.sort_by_key(|(stage, _)| stage_place(stage));
    for (stage, it) in stages {
        let mean = |sum: u64| us(sum / it.runs.max(1));
        let (times, beyond) = match stage.as_str() {
            STEADY => ("-".to_owned(), "-".to_owned()),
            _ => (
                judged(it.of_steady_permille, OF_STEADY_AT_MOST, " times"),
                judged(it.beyond_steady_permille, ROUND_TRIPS_AT_MOST, " round trips"),
            ),
        };
        let (lasted, gap) = (mean(it.lasted_ns), us(it.gap_max_ns));
        // Activate is one instant: no write begins and ends in it.
        let latency = |sum: u64| if it.acked == 0 { "-".to_owned() } else { mean(sum) };
        let served = [latency(it.p50_ns), latency(it.p99_ns), mean(it.gap_p999_ns)];
        table.row(
            [stage.clone(), number(it.runs), lasted, number(it.acked)]
                .into_iter()
                .chain(served)
                .chain([times, gap, beyond]),
        );
    }
    table.text()
}

/// Nanoseconds as microseconds.
fn us(ns: u64) -> String {
    format!("{} us", number(ns / 1_000))
}

fn thousandths(permille: u64) -> String {
    format!("{:.2}", permille as f64 / 1e3)
}

fn judged(permille: u64, most: u64, unit: &str) -> String {
    let text = format!("{}{unit}", thousandths(permille));
    if permille > most { format!("**{text}**") } else { text }
}

/// What follows, with the worst of all stages and runs.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let Some(tally) = row(rows) else { return Vec::new() };
    let stages = || tally.service.iter().filter(|(stage, _)| *stage != STEADY).map(|(_, it)| it);
    let times = stages().map(|it| it.of_steady_permille).max().unwrap_or(0);
    let beyond = stages().map(|it| it.beyond_steady_permille).max().unwrap_or(0);
    let kept = times <= OF_STEADY_AT_MOST && beyond <= ROUND_TRIPS_AT_MOST;
    let claim = if kept { "A cutover has no pause" } else { "**A cutover has a pause**" };
    vec![format!(
        "{claim}: in {} at full load, no stage had a p99.9 of the gaps between acknowledged writes of more than {} times the \
         steady one of the same run (promised: at most {}), nor a longest gap of more than {} round trips beyond the longest \
         steady one (promised: at most {}).",
        counted(tally.seeds(), "run"),
        thousandths(times),
        OF_STEADY_AT_MOST / 1_000,
        thousandths(beyond),
        ROUND_TRIPS_AT_MOST / 1_000,
    )]
}
