//! What the gate prevents: how many writes are lost with both defences off, measured beside predicted.

use crate::data::Row;
use crate::print::counted;
use crate::report::Rendered;
use crate::report::plot::{Axis, Mark, Plot, Scale, Series, round_numbers};
use crate::report::rate::{self, percent};
use crate::report::tables::{Table, number};
use crate::sweep::{Point, Tally};

use super::{not_yet, shown};

const PICTURE: &str = "docs/pictures/loss-curve.svg";

/// Where a row stands: by its points, which are sorted.
pub fn place(tally: &Tally) -> Vec<(u32, u32, u64)> {
    tally.predictions.iter().map(Point::key).collect()
}

/// The points of all rows, sorted by replication and loss.
fn points(rows: &[Row<Tally>]) -> Vec<Point> {
    let mut points = Vec::new();
    rows.iter().flat_map(|row| &row.measured.predictions).for_each(|point| Point::put(&mut points, point));
    points
}

/// Losses as shares of the writes that could be missed.
struct Shares {
    link: f64,
    predicted: f64,
    measured: f64,
    low: f64,
    high: f64,
}

impl Shares {
    /// Each loss is a throw of its own, so the measured count has the interval of a count of rare events.
    fn of(point: &Point) -> Shares {
        let exposed = point.exposed.max(1) as f64;
        let (low, high) = rate::of_count(point.missing);
        Shares {
            link: point.loss_millionths as f64 / 1e6,
            predicted: point.expected_millionths as f64 / 1e6 / exposed,
            measured: point.missing as f64 / exposed,
            low: low / exposed,
            high: high / exposed,
        }
    }

    fn holds(&self) -> bool {
        (self.low..=self.high).contains(&self.predicted)
    }
}

/// With fewer documents expected, a count is not close enough to normal to be a term of a chi-squared sum: the usual
/// bound, which is on the safe side (Cochran, Some Methods for Strengthening the Common Chi-squared Tests, Biometrics 10,
/// 1954).
const EXPECTED_AT_LEAST: f64 = 5.0;

/// All points together, beside the prediction. With a dozen intervals of 95 % nearly every other curve has one that misses
/// what is true, so a single point proves nothing. Pearson's sum over the points of (measured - expected)^2 / expected, both
/// of them counts of documents, is chi-squared with a degree of freedom for each point: nothing was fitted to what was
/// measured, and the variance of a count of rare events is its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The points that are in the sum, and those with too few expected to be.
    points: u64,
    left_out: u64,
    /// A number without a unit.
    sum: f64,
    /// What chance alone exceeds once in a thousand times.
    limit: f64,
}

impl Fit {
    /// `None`: no point has enough expected.
    pub fn of(rows: &[Row<Tally>]) -> Option<Fit> {
        let points = points(rows);
        let counts = points.iter().map(|point| (point.missing as f64, point.expected_millionths as f64 / 1e6));
        let terms: Vec<f64> = counts
            .filter(|(_, expected)| *expected >= EXPECTED_AT_LEAST)
            .map(|(missing, expected)| (missing - expected).powi(2) / expected)
            .collect();
        let judged = terms.len() as u64;
        (judged > 0).then(|| Fit {
            points: judged,
            left_out: points.len() as u64 - judged,
            sum: terms.iter().sum(),
            limit: rate::chi_squared_999(judged),
        })
    }

    pub fn holds(self) -> bool {
        self.sum <= self.limit
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fit { points, left_out, sum, limit } = self;
        let claim = match self.holds() {
            true => "Documents are missing as often as predicted",
            false => "**Documents are not missing as often as predicted**",
        };
        let points = counted(*points, "point");
        write!(f, "{claim}: over {points} together, chi-squared is {sum:.1}")?;
        write!(f, ", and chance alone exceeds {limit:.1} once in a thousand times")?;
        match left_out {
            0 => f.write_str("."),
            1 => write!(f, "; 1 point with fewer than {EXPECTED_AT_LEAST} expected is not in it."),
            some => write!(f, "; {some} points with fewer than {EXPECTED_AT_LEAST} expected are not in it."),
        }
    }
}

pub fn section(rows: &[Row<Tally>]) -> String {
    let points = points(rows);
    if points.is_empty() {
        return not_yet("cargo xtask qualify curve");
    }
    let header = [
        "replication",
        "replicas replaced",
        "loss of the link",
        "runs",
        "writes that could be missed",
        "written again in time",
        "missing, predicted",
        "missing, measured",
        "loss, predicted",
        "loss, measured",
        "95 % interval",
        "predicted lies",
    ];
    let mut table = Table::new(&header, |column| column < 10);
    for point in &points {
        let shares = Shares::of(point);
        let interval = match point.missing {
            0 => format!("below {}", percent(shares.high)),
            _ => format!("{} to {}", percent(shares.low), percent(shares.high)),
        };
        let rewritten = point.rewritten_millionths as f64 / 1e6 / point.exposed.max(1) as f64;
        table.row([
            point.replication.to_string(),
            point.joiners.to_string(),
            percent(shares.link),
            number(point.runs),
            number(point.exposed),
            percent(rewritten),
            counted_millionths(point.expected_millionths),
            number(point.missing),
            percent(shares.predicted),
            percent(shares.measured),
            interval,
            lies(&shares).to_owned(),
        ]);
    }
    let alternative =
        "Lost writes against the loss of the joining link, measured with intervals beside the predicted line";
    let fit =
        Fit::of(rows).map(|fit| format!("\n{fit} By chance alone one point in twenty lies outside its interval.\n"));
    shown(alternative, PICTURE) + &table.text() + &fit.unwrap_or_default()
}

fn lies(shares: &Shares) -> &'static str {
    match shares.holds() {
        true => "inside",
        false if shares.predicted < shares.low => "**below**",
        false => "**above**",
    }
}

/// With one decimal, or what is left of very few.
fn counted_millionths(millionths: u64) -> String {
    match millionths {
        0..100_000 => format!("{:.4}", millionths as f64 / 1e6),
        _ => format!("{}.{}", number(millionths / 1_000_000), millionths / 100_000 % 10),
    }
}

pub fn picture(rows: &[Row<Tally>]) -> Option<Rendered> {
    let points = points(rows);
    let shares: Vec<Shares> = points.iter().map(Shares::of).collect();
    let links = || shares.iter().map(|it| it.link).filter(|link| *link > 0.0);
    let losses = || shares.iter().flat_map(|it| [it.predicted, it.measured, it.high]).filter(|loss| *loss > 0.0);
    let bounds = |all: &mut dyn Iterator<Item = f64>| {
        all.fold(None, |bounds: Option<(f64, f64)>, it| Some(bounds.map_or((it, it), |(a, b)| (a.min(it), b.max(it)))))
    };
    let ((left, right), (bottom, top)) = (bounds(&mut links())?, bounds(&mut losses())?);
    let ticks = round_numbers(left * 100.0, right * 100.0);
    let decades: Vec<i32> = (bottom.log10().floor() as i32..=top.log10().ceil() as i32).collect();
    let mut replications: Vec<u32> = points.iter().map(|point| point.replication).collect();
    replications.dedup();
    let series = replications.iter().take(2).map(|replication| {
        let own = || points.iter().zip(&shares).filter(|(point, _)| point.replication == *replication);
        let predicted = own().map(|(_, it)| (it.link, it.predicted)).filter(|(_, loss)| *loss > 0.0).collect();
        let measured = own().map(|(point, it)| match point.missing {
            0 => Mark::Below { x: it.link, high: it.high },
            _ => Mark::Measured { x: it.link, y: it.measured, low: it.low, high: it.high },
        });
        let line = Mark::Line { points: predicted, is_dashed: true };
        Series { name: format!("replication {replication}"), marks: [line].into_iter().chain(measured).collect() }
    });
    let plot = Plot {
        title: "Writes lost for want of both defences".to_owned(),
        legend: "Dashed: predicted. Dot and bar: measured, 95 % interval. Triangle: none, bound from above.".to_owned(),
        x: Axis {
            label: "loss of the link to each joining node".to_owned(),
            scale: Scale::Logarithmic,
            low: ticks[0] / 100.0,
            high: ticks[ticks.len() - 1] / 100.0,
            ticks: ticks.iter().map(|it| (it / 100.0, format!("{} %", rounded(*it)))).collect(),
        },
        y: Axis {
            label: "missing, of the writes that could be".to_owned(),
            scale: Scale::Logarithmic,
            low: 10_f64.powi(decades[0]),
            high: 10_f64.powi(decades[decades.len() - 1].max(decades[0] + 1)),
            ticks: decades
                .iter()
                .map(|it| (10_f64.powi(*it), format!("{} %", rounded(10_f64.powi(*it + 2)))))
                .collect(),
        },
        series: series.collect(),
    };
    Some(Rendered { path: PICTURE, text: plot.svg() })
}

/// A round number without the digits that it does not need: `0.001`, `20`.
fn rounded(value: f64) -> String {
    let digits = (-value.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

/// What follows from the curve.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let points = points(rows);
    let shares: Vec<Shares> = points.iter().map(Shares::of).collect();
    if points.is_empty() {
        return Vec::new();
    }
    let inside = shares.iter().filter(|it| it.holds()).count();
    let claim = match Fit::of(rows) {
        Some(fit) if fit.holds() => "What is lost without both defences can be computed",
        Some(_) => "**What is lost without both defences is not what was computed**",
        None => "What is lost without both defences is too little to be held against what was computed",
    };
    let mut lines = vec![format!(
        "{claim} (`cutover/loss_rate_no_ae_no_delta`): the prediction lies in the interval of {inside} of {}. Of twenty \
         intervals of 95 % one misses what is true.",
        counted(points.len() as u64, "point"),
    )];
    lines.extend(Fit::of(rows).map(|fit| fit.to_string()));
    for (point, it) in points.iter().zip(&shares).filter(|(_, it)| !it.holds()) {
        lines.push(format!(
            "**Replication {}, loss {}: the prediction lies {} the interval**: predicted {}, measured {}.",
            point.replication,
            percent(it.link),
            lies(it).trim_matches('*'),
            percent(it.predicted),
            percent(it.measured),
        ));
    }
    lines.extend(three_beside_one(&points, &shares));
    lines
}

/// What more replicas change, at the greatest loss at which both were measured.
fn three_beside_one(points: &[Point], shares: &[Shares]) -> Option<String> {
    let (first, last) = (points.first()?.replication, points.last()?.replication);
    let at = |replication: u32, loss: u64| {
        let found = points.iter().position(|it| (it.replication, it.loss_millionths) == (replication, loss))?;
        Some(&shares[found])
    };
    let losses = points.iter().rev().map(|it| it.loss_millionths);
    let (one, three) = losses.filter(|_| first != last).find_map(|loss| Some((at(first, loss)?, at(last, loss)?)))?;
    Some(format!(
        "More replicas lower the loss and do not end it: over a link that loses {}, replication {first} lost {} of the writes \
         that could be missed, and replication {last}, where a majority of the new replicas has to miss one, {}.",
        percent(one.link),
        percent(one.measured),
        percent(three.measured),
    ))
}
