//! Random fault schedules, within a budget: never more than a minority of the nodes hurt at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dice::{Dice, Draws, Random};
use crate::plan::{Direction, Fault, FaultKind, When};
use crate::ratio::Ratio;
use crate::time::{MICROS, MILLIS, Nanos};

/// What can be drawn. Named as in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node dies and comes back.
    Crash,
    /// A node dies in the middle of a disk operation.
    CrashInCommit,
    /// A node stands still.
    Pause,
    /// One node against all others.
    Isolate,
    /// One node is not heard, or does not hear.
    OneWay,
    /// One node against all others, open and shut in turns.
    Flapping,
    /// Two halves. Needs a budget of half the nodes.
    Halves,
    /// Two drawn sides. Needs a budget for the smaller one.
    Random,
    /// A link loses, delays, or is narrow.
    Link,
    /// A link holds what travels on it.
    Clog,
    /// A sync fails.
    FailSync,
    /// Syncs take long.
    Stall,
    /// Opt-in: reads and writes fail.
    DiskErrors,
    /// Opt-in: no room for more.
    DiskFull,
    /// Opt-in: a clock jumps and drifts.
    Clock,
    /// Opt-in: a node comes back with an empty disk.
    Wipe,
    /// Opt-in: data at rest rots.
    FlipBits,
}

impl Kind {
    /// What every system has to take.
    pub const COMMON: [Kind; 12] = [
        Kind::Crash,
        Kind::CrashInCommit,
        Kind::Pause,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Flapping,
        Kind::Halves,
        Kind::Random,
        Kind::Link,
        Kind::Clog,
        Kind::FailSync,
        Kind::Stall,
    ];

    /// What a system has to be made for.
    pub const OPT_IN: [Kind; 5] = [Kind::DiskErrors, Kind::DiskFull, Kind::Clock, Kind::Wipe, Kind::FlipBits];
}

/// How much goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Faults per simulated second, at most.
    pub per_second: u64,
    /// Shortest fault, in milliseconds.
    pub min_ms: u64,
    /// Longest fault, in milliseconds.
    pub max_ms: u64,
    /// Nodes that may be down, paused, cut off or without working disk at once; none: a minority of the nodes.
    pub budget: Option<usize>,
    /// Which kinds there may be, and how likely each is beside the others. Each seed draws from these: some kinds not at all, others up to
    /// eight times as often.
    pub weights: BTreeMap<Kind, u64>,
}

impl Intensity {
    /// One short fault in two seconds.
    pub fn usual() -> Intensity {
        Intensity { per_second: 1, min_ms: 20, max_ms: 800, budget: None, weights: Intensity::common() }
    }

    /// Several at a time, as the budget allows.
    pub fn storm() -> Intensity {
        Intensity { per_second: 8, min_ms: 5, max_ms: 2_000, ..Intensity::usual() }
    }

    /// Also these kinds, as likely as the others: for systems that can take them.
    #[must_use]
    pub fn with(mut self, kinds: &[Kind]) -> Intensity {
        self.weights.extend(kinds.iter().map(|&kind| (kind, 1)));
        self
    }

    /// None of these.
    #[must_use]
    pub fn without(mut self, kinds: &[Kind]) -> Intensity {
        self.weights.retain(|kind, _| !kinds.contains(kind));
        self
    }

    fn common() -> BTreeMap<Kind, u64> {
        Kind::COMMON.map(|kind| (kind, 1)).into()
    }
}

/// Draws faults for `nodes` up to `horizon`, from the stream `"faults"`.
///
/// Each candidate is addressed by its ordinal; one that would overdraw the budget is left out, and moves no other candidate. How likely each kind is
/// is drawn per seed (swarm weights), as runs with few kinds of faults reach other states than runs with all. Every fault ends before `horizon`.
pub fn draw_faults(dice: &Dice, nodes: &[&str], horizon: Nanos, intensity: &Intensity) -> Vec<Fault> {
    assert!(!nodes.is_empty(), "faults need somebody to happen to");
    assert!(0 < intensity.min_ms && intensity.min_ms <= intensity.max_ms, "durations run from min_ms to max_ms");
    let budget = intensity.budget.unwrap_or((nodes.len() - 1) / 2);
    let weights = swarm(dice, nodes.len(), budget, &intensity.weights);
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return Vec::new();
    }
    let mut stream = dice.stream("faults", 0);
    let horizon_ms = horizon / MILLIS;
    let candidates = intensity.per_second.saturating_mul(horizon_ms) / 1_000;
    let mut faults = Vec::new();
    let mut spent: Vec<Spent> = Vec::new();
    for ordinal in 0..candidates {
        let mut draws = stream.at(ordinal);
        let kind = weighted(&weights, draws.below(total));
        let duration_ms = draws.range(intensity.min_ms..=intensity.max_ms);
        let at_us = draws.below(horizon_ms.max(1) * 1_000);
        let node = draws.below(nodes.len() as u64) as usize;
        // Armed for so long, then down for so long.
        let longest_ms = if kind == Kind::CrashInCommit { 2 * duration_ms } else { duration_ms };
        let end_ms = at_us / 1_000 + longest_ms + 1;
        if end_ms >= horizon_ms {
            continue;
        }
        let kind = draw_kind(kind, nodes, node, duration_ms, &mut draws);
        let (hurt, _) = kind.hurts();
        if !hurt.is_empty() || matches!(kind, FaultKind::FailSync { .. }) {
            let hurt = if hurt.is_empty() {
                vec![nodes[node].to_owned()]
            } else {
                hurt.into_iter().map(str::to_owned).collect()
            };
            let damaged = matches!(kind, FaultKind::Wipe { .. } | FaultKind::FlipBits { .. });
            let cost = Spent { from_ms: at_us / 1_000, until_ms: if damaged { u64::MAX } else { end_ms }, hurt };
            if !cost.fits(&spent, budget) {
                continue;
            }
            spent.push(cost);
        }
        faults.push(Fault { id: format!("f{ordinal}"), at: When::Time(at_us * MICROS), kind });
    }
    faults
}

/// The weights of one seed: each possible kind is left out by an even chance, or weighs up to eight times as much. At least one stays.
fn swarm(dice: &Dice, nodes: usize, budget: usize, base: &BTreeMap<Kind, u64>) -> Vec<(Kind, u64)> {
    let possible = |kind: Kind| match kind {
        Kind::Isolate | Kind::OneWay | Kind::Flapping | Kind::Link | Kind::Clog => nodes > 1,
        Kind::Halves => nodes > 3 && budget >= nodes / 2,
        Kind::Random => nodes > 2 && budget >= 2,
        _ => true,
    };
    let possible: Vec<(Kind, u64)> = base
        .iter()
        .map(|(&kind, &weight)| (kind, weight))
        .filter(|&(kind, weight)| weight > 0 && possible(kind))
        .collect();
    let drawn = |&(kind, weight): &(Kind, u64)| {
        let mut draws = dice.stream("fault-weights", kind as u64).at(0);
        (kind, weight * draws.pick(&[0, 0, 0, 0, 1, 2, 4, 8]))
    };
    let weights: Vec<(Kind, u64)> = possible.iter().map(drawn).collect();
    match weights.iter().any(|&(_, weight)| weight > 0) || possible.is_empty() {
        true => weights,
        false => vec![*dice.stream("fault-weights", u64::MAX).pick(&possible)],
    }
}

/// The kind at `position` of all weights.
fn weighted(weights: &[(Kind, u64)], mut position: u64) -> Kind {
    for &(kind, weight) in weights {
        if position < weight {
            return kind;
        }
        position -= weight;
    }
    unreachable!("the position is below the sum of the weights")
}

fn draw_kind(kind: Kind, nodes: &[&str], node: usize, for_ms: u64, draws: &mut Draws) -> FaultKind {
    let process = nodes[node].to_owned();
    let others = || -> Vec<String> {
        let others = nodes.iter().enumerate().filter(|&(index, _)| index != node);
        others.map(|(_, name)| (*name).to_owned()).collect()
    };
    let alone = |direction, flap_ms| FaultKind::Partition {
        a: vec![nodes[node].to_owned()],
        b: others(),
        direction,
        flap_ms,
        for_ms,
    };
    match kind {
        Kind::Crash => FaultKind::Crash { process, down_ms: for_ms },
        Kind::CrashInCommit => FaultKind::CrashInCommit {
            process,
            after_disk_ops: draws.range(1..=60),
            down_ms: for_ms,
            within_ms: for_ms,
        },
        Kind::Pause => FaultKind::Pause { process, for_ms },
        Kind::Isolate => alone(Direction::Both, 0),
        Kind::OneWay => alone(*draws.pick(&[Direction::AToB, Direction::BToA]), 0),
        Kind::Flapping => alone(Direction::Both, (for_ms / draws.range(4..=20)).max(1)),
        Kind::Halves | Kind::Random => {
            let mut order: Vec<String> = nodes.iter().map(|&name| name.to_owned()).collect();
            draws.shuffle(&mut order);
            let half = order.len() / 2;
            let b = order.split_off(if kind == Kind::Halves { half } else { draws.range(1..=half as u64) as usize });
            FaultKind::Partition { a: order, b, direction: Direction::Both, flap_ms: 0, for_ms }
        }
        Kind::Link => {
            let loss = *draws.pick(&[Ratio::of(1, 20), Ratio::of(1, 4), Ratio::of(1, 1)]);
            let delay_us = *draws.pick(&[0, 2_000, 50_000]);
            let bandwidth_mbit = *draws.pick(&[0, 0, 1]);
            FaultKind::Link {
                from: process,
                to: draws.pick(&others()).clone(),
                loss,
                delay_us,
                bandwidth_mbit,
                frames: 0,
                for_ms,
            }
        }
        Kind::Clog => FaultKind::Clog { from: process, to: draws.pick(&others()).clone(), for_ms },
        Kind::FailSync => FaultKind::FailSync { process },
        Kind::Stall => FaultKind::Stall { process, stall_ms: draws.range(1..=for_ms), for_ms },
        Kind::DiskErrors => FaultKind::DiskErrors { process, for_ms },
        Kind::DiskFull => FaultKind::DiskFull { process, for_ms },
        Kind::Clock => {
            let jump_ms = draws.range(0..=4_000) as i64 - 2_000;
            FaultKind::Clock { process, jump_ms, drift_ppm: draws.range(0..=2_000) as i64 - 1_000, for_ms }
        }
        Kind::Wipe => FaultKind::Wipe { process, down_ms: for_ms },
        Kind::FlipBits => FaultKind::FlipBits { process, count: draws.range(1..=8) as u32 },
    }
}

/// A stretch of time during which nodes count as hurt.
struct Spent {
    from_ms: u64,
    until_ms: u64,
    hurt: Vec<String>,
}

impl Spent {
    /// True if, with this one, never more than `budget` different nodes are hurt at once. Counts everything that overlaps, which is a little
    /// stricter than the instant.
    fn fits(&self, spent: &[Spent], budget: usize) -> bool {
        let overlaps = |other: &&Spent| other.from_ms <= self.until_ms && self.from_ms <= other.until_ms;
        let others = spent.iter().filter(overlaps).flat_map(|other| &other.hurt);
        let mut hurt: Vec<&String> = others.chain(&self.hurt).collect();
        hurt.sort_unstable();
        hurt.dedup();
        hurt.len() <= budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Budget, SimPlan};
    use crate::seed::Seed;
    use crate::time::SECONDS;

    const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

    #[test]
    fn schedules_are_valid_and_keep_to_the_budget() {
        let mut seen = std::collections::BTreeMap::<&str, u64>::new();
        for seed in 0..300 {
            let all = Intensity::storm().with(&Kind::OPT_IN);
            let faults = draw_faults(&Dice::new(Seed(seed)), &NODES, 10 * SECONDS, &all);
            for fault in &faults {
                *seen.entry(fault.kind.name()).or_default() += 1;
            }
            let plan = SimPlan { faults, budget: Some(Budget::AtMost(2)), ..SimPlan::default() };
            plan.check(&NODES, 10 * SECONDS).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(seen.len(), FaultKind::NAMES.len(), "{seen:?}");
        assert!(FaultKind::NAMES.iter().all(|name| seen[name] > 20), "{seen:?}");
    }

    #[test]
    fn what_a_system_has_to_be_made_for_is_opted_into() {
        let opt_in = ["disk_errors", "disk_full", "clock", "wipe", "flip_bits"];
        for seed in 0..100 {
            let faults = draw_faults(&Dice::new(Seed(seed)), &NODES, 10 * SECONDS, &Intensity::storm());
            assert!(faults.iter().all(|fault| !opt_in.contains(&fault.kind.name())), "{faults:?}");
        }
    }

    #[test]
    fn one_node_has_no_minority_to_lose() {
        for seed in 0..20 {
            let faults = draw_faults(&Dice::new(Seed(seed)), &["n1"], 10 * SECONDS, &Intensity::storm());
            assert_eq!(faults, vec![]);
            let lifted = Intensity { budget: Some(1), ..Intensity::storm() };
            assert!(!draw_faults(&Dice::new(Seed(seed)), &["n1"], 10 * SECONDS, &lifted).is_empty());
        }
    }

    #[test]
    fn seeds_differ_in_what_they_are_about() {
        let kinds_of = |seed| {
            let faults = draw_faults(&Dice::new(Seed(seed)), &NODES, 60 * SECONDS, &Intensity::storm());
            faults.iter().map(|fault| fault.kind.name()).collect::<std::collections::BTreeSet<_>>().len()
        };
        let counts: Vec<usize> = (0..200).map(kinds_of).collect();
        assert!(counts.iter().any(|&count| count <= 2) && counts.iter().any(|&count| count >= 7), "{counts:?}");
    }
}
