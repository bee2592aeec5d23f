//! Which sweeps the report stands on.

use std::ops::Range;

use clap::ValueEnum;

use crate::catalog::{Catalog, DEFAULT, Entry};
use crate::cli::Overrides;
use crate::exit::Failure;

/// What is measured together, and kept in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Every scenario in the profiles usual and storm; with it, loss windows and what a cutover costs those who write
    Coverage,
    /// Anti-entropy on and off, with the delta pass and without it
    Configurations,
    /// What the gate prevents: loss by the quality of the joining link
    Curve,
    /// The coordinator dies before and after every step of a migration
    Steps,
    /// 100,000 crashes of the store's engine, 64,000 flipped bits, 100,000 fuzzed inputs of each decoder, a million documents reconciled
    Engine,
}

impl Subject {
    /// Those whose rows are sweeps.
    pub const SWEPT: [Subject; 4] = [Subject::Coverage, Subject::Configurations, Subject::Curve, Subject::Steps];

    /// The name of its file below `docs/data`.
    pub const fn file(self) -> &'static str {
        match self {
            Subject::Coverage => "coverage",
            Subject::Configurations => "configurations",
            Subject::Curve => "curve",
            Subject::Steps => "steps",
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

/// A profile of machines that are bad, with faults that the others never draw, and seeds of the default scenario in it.
const MACHINES: (&str, &str, u64) = ("machines", "sim/profiles/machines.toml", 1_000);

/// Seeds of each cell of the four configurations.
const CONFIGURATION: u64 = 500;

/// Seeds of each point of the curve.
const POINT: u64 = 500;

/// The scenario with both defences off.
const UNSAFE: &str = "cutover/loss_rate_no_ae_no_delta";

/// Losses of the joining link on the curve.
const LOSSES: [&str; 6] = ["1/1000", "5/1000", "1/100", "2/100", "5/100", "10/100"];

/// The scenario in which every step of the coordinator has its seed, and how many seeds that takes.
const STEPS: &str = "cutover/coordinator_crash_recovery";
const ALL_STEPS: u64 = 1_024;

/// All measurements of the subjects, each with at most `most` seeds. A scenario that is named here and does not exist is an
/// error: nothing is left out in silence.
pub fn all(catalog: &Catalog, subjects: &[Subject], most: Option<u64>) -> Result<Vec<Measurement>, Failure> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    let mut measurements = Vec::new();
    for subject in subjects {
        match subject {
            Subject::Coverage => measurements.extend(coverage(catalog)),
            Subject::Configurations => measurements.extend(configurations()),
            Subject::Curve => measurements.extend(curve()),
            Subject::Steps => measurements.push(steps()),
            // No sweep: see the engine's own part.
            Subject::Engine => {}
        }
    }
    // Not a sample: with fewer seeds it would be something else.
    for measurement in measurements.iter_mut().filter(|it| it.subject != Subject::Steps) {
        let end = measurement.seeds.start.saturating_add(most.unwrap_or(u64::MAX));
        measurement.seeds.end = measurement.seeds.end.min(end);
    }
    for measurement in &measurements {
        catalog.select(std::slice::from_ref(&measurement.scenario))?;
    }
    Ok(measurements)
}

fn coverage(catalog: &Catalog) -> Vec<Measurement> {
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
    let mut rows: Vec<_> = catalog.all_but_canary().into_iter().flat_map(rows).collect();
    let (profile, file, seeds) = MACHINES;
    rows.push(Measurement {
        subject: Subject::Coverage,
        name: format!("{profile}/{DEFAULT}"),
        scenario: DEFAULT.to_owned(),
        seeds: 0..seeds,
        overrides: Overrides { profile: Some(file.to_owned()), ..Overrides::default() },
    });
    // What takes hours comes last: an interruption then costs the least.
    rows.sort_by_key(|row| row.seeds.end == SWARM);
    rows
}

/// The same draws in all four, but for the two defences: a joining link that loses one write in twenty, and one replica, which
/// with its delta pass leaves anti-entropy nothing to compare; or three, and passes so often that they meet every migration.
/// Where both are off, the old owner drops its copy at once. Other differences are those of the scenarios: see the template.
fn configurations() -> Vec<Measurement> {
    let cells = [
        ("on/on", "cutover/with_anti_entropy"),
        ("off/on", "cutover/no_ae_with_delta"),
        ("on/skipped", "cutover/skip_delta_with_ae"),
        ("off/skipped", "cutover/skip_delta_eager_cleanup"),
    ];
    let row = |replication: u32, (name, scenario): (&str, &str)| {
        let replicas = format!("replication={replication}");
        let mut set = vec![&*replicas, "network.joiner_loss=5/100"];
        if replication > 1 {
            set.push("anti_entropy.period_ms=50");
        }
        if name == "off/skipped" {
            set.push("anti_entropy=off");
        }
        Measurement {
            subject: Subject::Configurations,
            name: if replication == 1 { name.to_owned() } else { format!("{name}, {replicas}") },
            scenario: scenario.to_owned(),
            seeds: 0..CONFIGURATION,
            overrides: overrides(&set),
        }
    };
    [1, 3].iter().flat_map(|replication| cells.map(|cell| row(*replication, cell))).collect()
}

fn curve() -> Vec<Measurement> {
    let mut rows = Vec::new();
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

fn steps() -> Measurement {
    Measurement {
        subject: Subject::Steps,
        name: "every step".to_owned(),
        scenario: STEPS.to_owned(),
        seeds: 0..ALL_STEPS,
        overrides: Overrides::default(),
    }
}

fn overrides(set: &[&str]) -> Overrides {
    Overrides { set: set.iter().map(|&pair| pair.to_owned()).collect(), ..Overrides::default() }
}
