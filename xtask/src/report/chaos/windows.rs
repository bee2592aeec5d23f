//! Loss windows: what they came from, when they opened, and how long they lasted where the delta pass was skipped.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use miroir_sim::record::Losses;
use miroir_store::cli::settings::Settings;

use crate::data::Row;
use crate::report::Rendered;
use crate::report::plot::{Axis, Mark, Plot, Scale, Series, round_numbers};
use crate::report::tables::{Table, number};
use crate::sweep::Tally;

use super::{coverage, not_yet, shown, stage_place};

/// The scenario whose windows are measured by length.
const SKIPPED: &str = "cutover/skip_delta_with_ae";

/// How far apart passes of anti-entropy begin, in milliseconds, as `Plan::draw` of the scenarios draws it.
const PERIODS_MS: RangeInclusive<u64> = 300..=800;

const PICTURE: &str = "docs/pictures/window-lengths.svg";

/// How many windows there were of each length in milliseconds; 0 for those that never closed.
type Lengths = BTreeMap<u64, u64>;

fn of_skipped(rows: &[Row<Tally>]) -> Vec<&Row<Tally>> {
    let rows = rows.iter().filter(|row| coverage::parts(&row.name).1 == SKIPPED);
    rows.filter(|row| !row.measured.losses.lengths_ms.is_empty()).collect()
}

/// Totals per cause and stage, over all rows.
pub fn causes(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify coverage");
    }
    let mut all = Losses::default();
    rows.iter().for_each(|row| all.merge(&row.measured.losses));
    if all.is_empty() {
        return "No window opened.".to_owned();
    }
    let mut stages: Vec<&str> = all.lengths_ms.keys().map(String::as_str).collect();
    stages.sort_by_key(|stage| stage_place(stage));
    let header: Vec<&str> = ["cause"].into_iter().chain(stages.iter().copied()).chain(["all"]).collect();
    let mut table = Table::new(&header, |column| column > 0);
    let count = |stage: &str, cause: &str| all.lengths_ms[stage].get(cause).map_or(0, total);
    for (cause, sum) in &all.by_cause {
        let counts = stages.iter().map(|stage| number(count(stage, cause)));
        table.row([cause.clone()].into_iter().chain(counts).chain([number(*sum)]));
    }
    let sums = stages.iter().map(|stage| all.by_stage.get(*stage).copied().unwrap_or(0));
    table.row(["all".to_owned()].into_iter().chain(sums.map(number)).chain([number(all.by_cause.values().sum())]));
    table.text()
}

/// `300 to 800 ms apart`
pub fn apart() -> String {
    format!("{} to {} ms apart", PERIODS_MS.start(), PERIODS_MS.end())
}

/// How often passes of anti-entropy begin here, and how often elsewhere.
pub fn periods() -> String {
    let default_ms = Settings::default().anti_entropy_period_ms;
    format!(
        "Passes begin {} in these runs; `miroir` begins one every {} s unless told otherwise (`anti_entropy_period_ms`), and \
         windows grow with it.",
        apart(),
        default_ms / 1_000,
    )
}

/// How long the windows of the scenario lasted, in a picture and a table.
pub fn lengths(rows: &[Row<Tally>]) -> String {
    let rows = of_skipped(rows);
    if rows.is_empty() {
        return not_yet(&format!("cargo xtask qualify coverage --only {SKIPPED}"));
    }
    let header = ["profile", "opened in", "cause", "windows", "median", "p90", "p99", "longest", "never closed"];
    let mut table = Table::new(&header, |column| column > 2);
    for Row { name, measured, .. } in rows {
        let profile = coverage::parts(name).0;
        let mut add = |stage: &str, cause: &str, lengths: &Lengths| {
            let times = [500, 900, 990, 1_000].map(|permille| of_quantile(lengths, permille));
            let never = lengths.get(&0).copied().unwrap_or(0);
            let names = [profile, stage, cause].map(str::to_owned);
            table.row(names.into_iter().chain([number(total(lengths))]).chain(times).chain([number(never)]));
        };
        add("any stage", "any cause", &together(&measured.losses));
        let mut stages: Vec<_> = measured.losses.lengths_ms.iter().collect();
        stages.sort_by_key(|(stage, _)| stage_place(stage));
        for (stage, causes) in stages {
            causes.iter().for_each(|(cause, lengths)| add(stage, cause, lengths));
        }
    }
    let alternative = "The share of loss windows that have closed, by the time since they opened, for both profiles";
    shown(alternative, PICTURE) + &table.text()
}

/// Which share of the windows has closed by when.
pub fn picture(rows: &[Row<Tally>]) -> Option<Rendered> {
    let lengths: Vec<(&str, Lengths)> = of_skipped(rows)
        .into_iter()
        .map(|row| (coverage::parts(&row.name).0, together(&row.measured.losses)))
        .filter(|(_, lengths)| lengths.keys().any(|length| *length > 0))
        .collect();
    let closed = || lengths.iter().flat_map(|(_, lengths)| lengths.keys().copied()).filter(|length| *length > 0);
    let ticks = round_numbers(closed().min()? as f64, closed().max()? as f64);
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let series = lengths.iter().map(|(profile, lengths)| Series {
        name: format!("profile {profile}, {} windows", number(total(lengths))),
        marks: vec![Mark::Line { points: closed_by(lengths, low, high), is_dashed: false }],
    });
    let plot = Plot {
        title: "How long documents were missing, where the delta pass was skipped".to_owned(),
        legend: "Anti-entropy on, replication 1. A window ends by a repair, or by a newer write.".to_owned(),
        x: Axis {
            label: "milliseconds since the window opened".to_owned(),
            scale: Scale::Logarithmic,
            low,
            high,
            ticks: ticks.iter().map(|ms| (*ms, number(*ms as u64))).collect(),
        },
        y: Axis {
            label: "windows that have closed".to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: 100.0,
            ticks: [0, 25, 50, 75, 90, 100].map(|percent| (f64::from(percent), format!("{percent} %"))).to_vec(),
        },
        series: series.collect(),
    };
    Some(Rendered { path: PICTURE, text: plot.svg() })
}

/// The steps of the share that has closed, in percent.
fn closed_by(lengths: &Lengths, low: f64, high: f64) -> Vec<(f64, f64)> {
    let all = total(lengths) as f64;
    let (mut points, mut share, mut closed) = (vec![(low, 0.0)], 0.0, 0);
    for (length, count) in lengths.iter().filter(|(length, _)| **length > 0) {
        closed += count;
        points.push((*length as f64, share));
        share = closed as f64 / all * 100.0;
        points.push((*length as f64, share));
    }
    points.push((high, share));
    points
}

/// What follows, in a sentence for each row.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let sentence = |row: &&Row<Tally>| {
        let (profile, lengths) = (coverage::parts(&row.name).0, together(&row.measured.losses));
        format!(
            "After a skipped delta pass (`{SKIPPED}`, profile {profile}), half of {} windows had closed within {}, 99 of 100 \
             within {}. The longest lasted {}, with passes {}: plan for your own period and the time of a pass.",
            number(total(&lengths)),
            of_quantile(&lengths, 500),
            of_quantile(&lengths, 990),
            of_quantile(&lengths, 1_000),
            apart(),
        )
    };
    of_skipped(rows).iter().map(sentence).collect()
}

fn together(losses: &Losses) -> Lengths {
    let mut together = Lengths::new();
    for (length, count) in losses.lengths_ms.values().flat_map(BTreeMap::values).flatten() {
        *together.entry(*length).or_default() += count;
    }
    together
}

fn total(lengths: &Lengths) -> u64 {
    lengths.values().sum()
}

/// The least length that so many of a thousand windows do not exceed.
fn of_quantile(lengths: &Lengths, permille: u64) -> String {
    match quantile(lengths, permille) {
        Some(ms) => format!("{} ms", number(ms)),
        None => "no end".to_owned(),
    }
}

/// `None`: fewer than that have closed.
fn quantile(lengths: &Lengths, permille: u64) -> Option<u64> {
    let rank = (total(lengths) * permille).div_ceil(1_000);
    let mut below = 0;
    lengths.iter().filter(|(length, _)| **length > 0).find_map(|(length, count)| {
        below += count;
        (below >= rank).then_some(*length)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use miroir_scenarios::plan::{Plan, Profile, Shape};
    use miroir_sim::seed::Seed;

    use super::*;

    #[test]
    fn passes_begin_as_far_apart_as_plans_have_it() {
        let plan = |seed| Plan::draw(SKIPPED, Seed(seed), Profile::Usual, &Shape::default());
        let drawn: BTreeSet<u64> = (0..500).map(|seed| plan(seed).cluster.anti_entropy_period_ms).collect();
        assert!(drawn.iter().all(|period| PERIODS_MS.contains(period)), "{drawn:?}");
        assert!(drawn.first() < Some(&320) && drawn.last() > Some(&780), "{drawn:?}");
        assert!(periods().contains("300 to 800 ms apart") && periods().contains("every 10 s"), "{}", periods());
    }

    #[test]
    fn a_quantile_counts_what_never_closed_as_the_longest() {
        let lengths: Lengths = [(0, 1), (5, 6), (80, 3)].into();
        assert_eq!(
            [500, 600, 900, 1_000].map(|permille| quantile(&lengths, permille)),
            [Some(5), Some(5), Some(80), None]
        );
        assert_eq!(closed_by(&lengths, 1.0, 100.0).last(), Some(&(100.0, 90.0)));
    }
}
