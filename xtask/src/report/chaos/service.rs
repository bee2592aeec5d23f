//! What a cutover costs those who write meanwhile: stage by stage, at full load.

use miroir_sim::record::STEADY;

use crate::data::Row;
use crate::print::counted;
use crate::report::tables::{Table, number};
use crate::sweep::{AT_FULL_LOAD, OF_STEADY_AT_MOST, Served, Tally, times};

use super::{coverage, not_yet, stage_place};

/// What the scenario promises of each stage's longest gap, in thousandths of a round trip.
const ROUND_TRIPS_AT_MOST: u64 = 2_000;

/// One row: its faultless load is the same in every profile. The most seeds say most.
fn row(rows: &[Row<Tally>]) -> Option<&Tally> {
    let rows = rows.iter().filter(|row| coverage::parts(&row.name).1 == AT_FULL_LOAD).map(|row| &row.measured);
    rows.filter(|tally| tally.service.contains_key(STEADY)).max_by_key(|tally| tally.seeds())
}

pub fn section(rows: &[Row<Tally>]) -> String {
    let Some(tally) = row(rows) else { return not_yet(&format!("cargo xtask qualify coverage --only {AT_FULL_LOAD}")) };
    let header = [
        "stage",
        "runs",
        "lasted",
        "acked writes",
        "write p50",
        "write p99",
        "gaps",
        "gap p99.9",
        "longest",
        "without a migration",
        "longest gap",
        "beyond steady, worst run",
    ];
    let mut table = Table::new(&header, |column| column > 0);
    let mut stages: Vec<(&String, &Served)> = tally.service.iter().collect();
    stages.sort_by_key(|(stage, _)| stage_place(stage));
    for (stage, it) in stages {
        let mean = |sum: u64| us(sum / it.runs.max(1));
        let beside_steady = match stage.as_str() {
            STEADY => ["-"; 4].map(str::to_owned),
            _ => {
                let p999 = it.p999_of_steady();
                let alike = (it.alike.count >= 1_000).then(|| it.alike.p999());
                [
                    p999.map_or("too few".to_owned(), |p999| judged(p999, OF_STEADY_AT_MOST, times(p999))),
                    times(it.of_steady.longest()),
                    alike
                        .map_or("too few".to_owned(), |p999| format!("{}, {}", times(p999), times(it.alike.longest()))),
                    judged(
                        it.beyond_steady_permille,
                        ROUND_TRIPS_AT_MOST,
                        format!("{} round trips", thousandths(it.beyond_steady_permille)),
                    ),
                ]
            }
        };
        let [p999, longest, alike, beyond] = beside_steady;
        let (lasted, gap) = (mean(it.lasted_ns), us(it.gap_max_ns));
        // Activate is one instant: no write begins and ends in it.
        let latency = |sum: u64| if it.acked == 0 { "-".to_owned() } else { mean(sum) };
        let served = [latency(it.p50_ns), latency(it.p99_ns), number(it.gaps)];
        table.row(
            [stage.clone(), number(it.runs), lasted, number(it.acked)]
                .into_iter()
                .chain(served)
                .chain([p999, longest, alike, gap, beyond]),
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

fn judged(value: u64, most: u64, text: String) -> String {
    if value > most { format!("**{text}**") } else { text }
}

/// What follows, with the worst of all stages and runs.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let Some(tally) = row(rows) else { return Vec::new() };
    let stages = || tally.service.iter().filter(|(stage, _)| *stage != STEADY).map(|(_, it)| it);
    let p999 = stages().filter_map(Served::p999_of_steady).max().unwrap_or(0);
    let beyond = stages().map(|it| it.beyond_steady_permille).max().unwrap_or(0);
    let kept = p999 <= OF_STEADY_AT_MOST && beyond <= ROUND_TRIPS_AT_MOST;
    let claim = if kept { "A cutover has no pause" } else { "**A cutover has a pause**" };
    vec![format!(
        "{claim}: in {} of `{AT_FULL_LOAD}`, no stage had a p99.9 of the gaps between acknowledged writes of more than {} the \
         steady one (promised: at most {}), nor a longest gap of more than {} round trips beyond the longest steady one of \
         the same run (promised: at most {}).",
        counted(tally.seeds(), "run"),
        times(p999),
        OF_STEADY_AT_MOST / 20,
        thousandths(beyond),
        ROUND_TRIPS_AT_MOST / 1_000,
    )]
}
