//! Random fault schedules, within a budget: never more than a minority of the nodes hurt at once.

use crate::dice::{Dice, Draws, Random};
use crate::plan::{Direction, Fault, FaultKind, When};
use crate::ratio::Ratio;
use crate::time::{MICROS, MILLIS, Nanos};

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
}

impl Intensity {
    /// One short fault in two seconds.
    pub fn usual() -> Intensity {
        Intensity { per_second: 1, min_ms: 20, max_ms: 800, budget: None }
    }

    /// Several at a time, as the budget allows.
    pub fn storm() -> Intensity {
        Intensity { per_second: 8, min_ms: 5, max_ms: 2_000, budget: None }
    }
}

/// Draws faults for `nodes` up to `horizon`, from the stream `"faults"`.
///
/// Each candidate is addressed by its ordinal; one that would overdraw the budget is left out, and moves no other. Which kinds there are at all
/// is drawn per seed, as runs with few kinds of faults reach other states than runs with all. Every fault ends before `horizon`, and none wipes
/// a disk or flips bits: those are for plans that say so.
pub fn draw_faults(dice: &Dice, nodes: &[&str], horizon: Nanos, intensity: &Intensity) -> Vec<Fault> {
    assert!(!nodes.is_empty(), "faults need somebody to happen to");
    assert!(0 < intensity.min_ms && intensity.min_ms <= intensity.max_ms, "durations run from min_ms to max_ms");
    let mut stream = dice.stream("faults", 0);
    let mut kinds: Vec<u64> =
        (0..KINDS).filter(|&kind| dice.stream("fault-kinds", kind).chance(Ratio::of(1, 2))).collect();
    if kinds.is_empty() {
        kinds.push(stream.below(KINDS));
    }
    let budget = intensity.budget.unwrap_or((nodes.len() - 1) / 2);
    let horizon_ms = horizon / MILLIS;
    let candidates = intensity.per_second.saturating_mul(horizon_ms) / 1_000;
    let mut faults = Vec::new();
    let mut spent: Vec<Spent> = Vec::new();
    for ordinal in 0..candidates {
        let mut draws = stream.at(ordinal);
        let kind = *draws.pick(&kinds);
        let duration_ms = draws.range(intensity.min_ms..=intensity.max_ms);
        let at_us = draws.below(horizon_ms.max(1) * 1_000);
        let node = draws.below(nodes.len() as u64) as usize;
        let longest_ms = if kind == 1 { 2 * duration_ms } else { duration_ms }; // armed for so long, then down for so long
        let end_ms = at_us / 1_000 + longest_ms + 1;
        if end_ms >= horizon_ms {
            continue;
        }
        let cost = Spent { from_ms: at_us / 1_000, until_ms: end_ms, node };
        let kind = draw_kind(kind, nodes, node, duration_ms, &mut draws);
        if !matches!(kind, FaultKind::Link { .. }) {
            if !cost.fits(&spent, budget) {
                continue;
            }
            spent.push(cost);
        }
        faults.push(Fault { id: format!("f{ordinal}"), at: When::Time(at_us * MICROS), kind });
    }
    faults
}

const KINDS: u64 = 6;

fn draw_kind(kind: u64, nodes: &[&str], node: usize, for_ms: u64, draws: &mut Draws) -> FaultKind {
    let process = nodes[node].to_owned();
    let others = || {
        nodes
            .iter()
            .enumerate()
            .filter(|&(index, _)| index != node)
            .map(|(_, name)| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    match kind {
        0 => FaultKind::Crash { process, down_ms: for_ms },
        1 => FaultKind::CrashInCommit {
            process,
            after_disk_ops: draws.range(1..=60),
            down_ms: for_ms,
            within_ms: for_ms,
        },
        2 => FaultKind::Pause { process, for_ms },
        3 if nodes.len() > 1 => {
            let direction = *draws.pick(&[Direction::Both, Direction::Both, Direction::AToB, Direction::BToA]);
            FaultKind::Partition { a: vec![process], b: others(), direction, for_ms }
        }
        4 if nodes.len() > 1 => {
            let loss = *draws.pick(&[Ratio::of(1, 20), Ratio::of(1, 4), Ratio::of(1, 1)]);
            let delay_us = *draws.pick(&[0, 2_000, 50_000]);
            FaultKind::Link { from: process, to: draws.pick(&others()).clone(), loss, delay_us, for_ms }
        }
        _ => FaultKind::FailSync { process },
    }
}

/// A stretch of time during which a node counts as hurt.
struct Spent {
    from_ms: u64,
    until_ms: u64,
    node: usize,
}

impl Spent {
    /// True if, with this one, never more than `budget` different nodes are hurt at once. Counts everything that overlaps, which is a little
    /// stricter than the instant.
    fn fits(&self, spent: &[Spent], budget: usize) -> bool {
        let mut hurt: Vec<usize> = spent
            .iter()
            .filter(|other| other.from_ms <= self.until_ms && self.from_ms <= other.until_ms)
            .map(|other| other.node)
            .collect();
        hurt.push(self.node);
        hurt.sort_unstable();
        hurt.dedup();
        hurt.len() <= budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SimPlan;
    use crate::seed::Seed;
    use crate::time::SECONDS;

    #[test]
    fn schedules_are_valid_and_keep_to_the_budget() {
        let nodes = ["n1", "n2", "n3", "n4", "n5"];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let faults = draw_faults(&Dice::new(Seed(seed)), &nodes, 10 * SECONDS, &Intensity::storm());
            let plan = SimPlan { faults: faults.clone(), ..SimPlan::default() };
            plan.check(&nodes, 10 * SECONDS).expect("a drawn plan is a good plan");
            seen.extend(faults.iter().map(|fault| fault.kind.name()));
            for at_ms in (0..10_000).step_by(50) {
                let hurt: std::collections::BTreeSet<&str> =
                    faults.iter().filter_map(|fault| hurt_at(fault, at_ms)).collect();
                assert!(hurt.len() <= 2, "seed {seed}: {hurt:?} are hurt at {at_ms} ms");
            }
        }
        assert_eq!(seen.len(), KINDS as usize, "{seen:?}");
    }

    fn hurt_at(fault: &Fault, at_ms: u64) -> Option<&str> {
        let When::Time(begin) = fault.at else { return None };
        let lasts = fault.kind.duration()? / MILLIS;
        let from = begin / MILLIS;
        let (node, until) = match &fault.kind {
            FaultKind::CrashInCommit { process, within_ms, .. } => (process, from + within_ms + lasts),
            FaultKind::Crash { process, .. } | FaultKind::Pause { process, .. } => (process, from + lasts),
            FaultKind::Partition { a, .. } => (&a[0], from + lasts),
            _ => return None,
        };
        (from..=until).contains(&at_ms).then_some(node)
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
}
