//! Which sweeps the report stands on.

use std::ops::Range;

use clap::ValueEnum;

use crate::catalog::{CANARY, Catalog, DEFAULT, Entry};
use crate::cli::Overrides;

/// What is measured together, and rendered from one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Every scenario in the profiles usual and storm
    Coverage,
    /// Anti-entropy on and off, with the delta pass and without it
    Configurations,
    /// What the gate prevents: loss by the quality of the joining link
    Curve,
    /// 100,000 crashes of the store's engine, 64,000 flipped bits, 300,000 fuzzed inputs, a million documents reconciled
    Engine,
}

impl Subject {
    /// The name of its file below `docs/data`.
    pub const fn file(self) -> &'static str {
        match self {
            Subject::Coverage => "coverage",
            Subject::Configurations => "configurations",
            Subject::Curve => "curve",
            Subject::Engine => "engine",
        }
    }
}

/// One sweep and its row.
#[derive(Clone, Debug)]
pub struct Measurement {
    pub subject: Subject,
    pub name: String,
    pub scenario: String,
    pub seeds: Range<u64>,
    pub overrides: Overrides,
}

/// Seeds of a scenario in profile usual and in storm.
const USUAL: u64 = 1_000;
const STORM: u64 = 200;

/// Seeds of the default scenario.
const SWARM: u64 = 100_000;

/// Seeds of each cell of the four configurations.
const CONFIGURATION: u64 = 500;

/// Seeds of each point of the curve.
const POINT: u64 = 40;

/// The scenario with both defences off.
const UNSAFE: &str = "cutover/loss_rate_no_ae_no_delta";

/// Losses of the joining link on the curve.
const LOSSES: [&str; 6] = ["1/1000", "5/1000", "1/100", "2/100", "5/100", "10/100"];

/// All measurements of the subjects, each with at most `most` seeds.
pub fn all(catalog: &Catalog, subjects: &[Subject], most: Option<u64>) -> Vec<Measurement> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    let mut measurements = Vec::new();
    for subject in subjects {
        match subject {
            Subject::Coverage => measurements.extend(coverage(catalog)),
            Subject::Configurations => measurements.extend(configurations(catalog)),
            Subject::Curve => measurements.extend(curve(catalog)),
            // No sweep: see the engine's own part.
            Subject::Engine => {}
        }
    }
    for measurement in &mut measurements {
        let end = measurement.seeds.start.saturating_add(most.unwrap_or(u64::MAX));
        measurement.seeds.end = measurement.seeds.end.min(end);
    }
    measurements
}

fn coverage(catalog: &Catalog) -> Vec<Measurement> {
    let entries = catalog.all_but_canary();
    let rows = |entry: &Entry| {
        let usual = if entry.id == DEFAULT { SWARM } else { USUAL };
        [("usual", usual), ("storm", STORM)].map(|(profile, seeds)| Measurement {
            subject: Subject::Coverage,
            name: format!("{profile}/{}", entry.id),
            scenario: entry.id.clone(),
            seeds: 0..seeds.min(entry.seeds_at_most.unwrap_or(seeds)),
            overrides: Overrides { profile: Some(profile.to_owned()), ..Overrides::default() },
        })
    };
    entries.into_iter().filter(|entry| entry.id != CANARY).flat_map(rows).collect()
}

/// The same plans in all four, but for the two defences: one replica, and a joining link that loses one write in twenty.
fn configurations(catalog: &Catalog) -> Vec<Measurement> {
    let cells = [
        ("on/on", "cutover/with_anti_entropy"),
        ("off/on", "cutover/no_ae_with_delta"),
        ("on/skipped", "cutover/skip_delta_with_ae"),
        ("off/skipped", UNSAFE),
    ];
    let known = cells.into_iter().filter(|(_, scenario)| catalog.named(scenario).is_some());
    let rows = known.map(|(name, scenario)| Measurement {
        subject: Subject::Configurations,
        name: name.to_owned(),
        scenario: scenario.to_owned(),
        seeds: 0..CONFIGURATION,
        overrides: overrides(&["replication=1", "network.joiner_loss=5/100"]),
    });
    rows.collect()
}

fn curve(catalog: &Catalog) -> Vec<Measurement> {
    let mut rows = Vec::new();
    if catalog.named(UNSAFE).is_none() {
        return rows;
    }
    for replication in [1, 3] {
        for loss in LOSSES {
            rows.push(Measurement {
                subject: Subject::Curve,
                name: format!("replication {replication}, loss {loss}"),
                scenario: UNSAFE.to_owned(),
                seeds: 0..POINT,
                overrides: overrides(&[&format!("replication={replication}"), &format!("network.joiner_loss={loss}")]),
            });
        }
    }
    rows
}

fn overrides(set: &[&str]) -> Overrides {
    Overrides { set: set.iter().map(|&pair| pair.to_owned()).collect(), ..Overrides::default() }
}
