//! A rate and what can be said about it: an interval of 95 % where something was seen, an upper bound where nothing was.

use crate::sweep::{Lost, Tally};

/// Lost writes per acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub measured: f64,
    pub low: f64,
    pub high: f64,
}

/// The standard normal's quantile that leaves 2.5 % above.
const Z: f64 = 1.959_964;

/// The one that leaves 0.1 % above.
const Z_999: f64 = 3.090_232;

/// What bounds a mean of which nothing was seen, at 95 %: the rule of three (Hanley and Lippman-Hand 1983).
const NOTHING_SEEN: f64 = 3.0;

/// The rate of a row.
pub fn of(tally: &Tally) -> Rate {
    over_runs(&tally.lost, tally.acked, tally.seeds())
}

/// Writes of one run share their migration, so the interval is that of a ratio over runs (Cochran, Sampling Techniques, 6.2).
fn over_runs(lost: &Lost, acked: u64, runs: u64) -> Rate {
    let (acked, runs) = (acked.max(1) as f64, runs as f64);
    let Lost { writes, squared, by_acked, acked_squared } = lost;
    if *writes == 0 {
        return Rate { measured: 0.0, low: 0.0, high: NOTHING_SEEN / acked };
    }
    let measured = *writes as f64 / acked;
    let residuals = *squared as f64 - 2.0 * measured * *by_acked as f64 + measured * measured * *acked_squared as f64;
    let spread = if runs > 1.0 { (residuals.max(0.0) * runs / (runs - 1.0)).sqrt() / acked } else { measured };
    Rate { measured, low: (measured - Z * spread).max(0.0), high: (measured + Z * spread).min(1.0) }
}

/// The interval of the mean of a count of rare events that know nothing of each other, by Byar's approximation of the exact
/// one (Breslow and Day, Statistical Methods in Cancer Research II, 2.9).
pub fn of_count(seen: u64) -> (f64, f64) {
    let byar = |count: f64, z: f64| count * (1.0 - 1.0 / (9.0 * count) + z / (3.0 * count.sqrt())).powi(3);
    match seen {
        0 => (0.0, NOTHING_SEEN),
        _ => (byar(seen as f64, -Z).max(0.0), byar(seen as f64 + 1.0, Z)),
    }
}

/// What a chi-squared sum with so many degrees of freedom exceeds once in a thousand times: a number without a unit, by the
/// approximation of Wilson and Hilferty (The Distribution of Chi-square, PNAS 17, 1931), which takes the cube root of the
/// mean square for normal. It is above the exact one: by 3 % at one degree of freedom, by less at more.
pub fn chi_squared_999(degrees: u64) -> f64 {
    assert!(degrees > 0, "a sum of nothing has no spread");
    let variance = 2.0 / (9.0 * degrees as f64);
    degrees as f64 * (1.0 - variance + Z_999 * variance.sqrt()).powi(3)
}

/// A share as percent, with three significant digits: `0.0312 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        return "0 %".to_owned();
    }
    let digits = (2 - percent.abs().log10().floor() as i32).clamp(0, 9) as usize;
    format!("{percent:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_has_a_bound() {
        let rate = over_runs(&Lost::default(), 3_000_000, 3);
        assert_eq!((rate.measured, rate.low), (0.0, 0.0));
        assert!((rate.high - 1e-6).abs() < 1e-12);
    }

    #[test]
    fn equal_runs_leave_no_doubt_and_unequal_ones_do() {
        // Two runs of 100 writes each, which lose 10 each, or 20 and none.
        let rows =
            |squared, by_acked| over_runs(&Lost { writes: 20, squared, by_acked, acked_squared: 20_000 }, 200, 2);
        let (equal, unequal) = (rows(200, 2_000), rows(400, 2_000));
        assert!((equal.measured - 0.1).abs() < 1e-12 && (equal.high - equal.low).abs() < 1e-6);
        // The runs' rates are 0.2 and 0: their mean's standard error is 0.1.
        assert!((unequal.high - (0.1 + Z * 0.1)).abs() < 1e-9, "{unequal:?}");
        assert!(unequal.low == 0.0);
    }

    #[test]
    fn the_interval_of_a_count_is_close_to_the_exact_one() {
        // Exact ends, by the quantiles of chi square (Garwood 1936).
        for (seen, low, high) in [(1, 0.025, 5.572), (10, 4.795, 18.390), (100, 81.364, 121.627)] {
            let (lowest, highest) = of_count(seen);
            assert!((lowest - low).abs() < 0.02 && (highest - high).abs() < 0.02, "{seen}: {lowest} to {highest}");
        }
        assert_eq!(of_count(0), (0.0, 3.0));
    }

    #[test]
    fn the_quantile_of_a_chi_squared_sum_is_close_to_the_exact_one() {
        // Exact ones from Pearson and Hartley, Biometrika Tables for Statisticians I, table 8.
        for (degrees, exact) in [(1, 10.828), (2, 13.816), (5, 20.515), (10, 29.588), (12, 32.909), (100, 149.449)] {
            let close = chi_squared_999(degrees);
            assert!((exact..exact * 1.035).contains(&close), "{degrees}: {close}");
        }
    }

    #[test]
    fn shares_read_well() {
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.25), "25.0 %");
        assert_eq!(percent(0.000_312), "0.0312 %");
        assert_eq!(percent(1.0), "100 %");
    }
}
