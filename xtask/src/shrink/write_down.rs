//! Chance, written down: what clients did and which frames were lost in one run, as parts of its plan.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use miroir_scenarios::plan::Plan;
use miroir_scenarios::script::Course;
use miroir_sim::history::{self, Operation};
use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::ratio::Ratio;
use miroir_sim::time::{MICROS, Nanos};

use crate::evidence::Event;
use crate::exit::Failure;

/// A frame that was lost is sent within this time again, or its fault is over.
const LOST_WITHIN_MS: u64 = 20;

/// What one run did, as far as it can be written into a plan.
pub struct Observed {
    pub history: Vec<Operation>,
    pub course: Course,
    /// Frames that links lost by chance: when, from whom, to whom.
    pub lost: Vec<(Nanos, String, String)>,
    /// When each migration, by its number in the plan, first entered each stage.
    pub stages: BTreeMap<(usize, String), Nanos>,
}

impl Observed {
    /// Reads the folder of a run that kept its whole trace.
    pub fn read(folder: &Path) -> Result<Observed, Failure> {
        let path = folder.join("history.jsonl");
        let text = fs::read_to_string(&path).map_err(|error| Failure::io("read", path.display(), &error))?;
        let history =
            history::parse(&text).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
        let mut observed = Observed { history, course: Course::default(), lost: Vec::new(), stages: BTreeMap::new() };
        observed.course.healed_at = Nanos::MAX;

        let path = folder.join("events.jsonl");
        let file = File::open(&path).map_err(|error| Failure::io("read", path.display(), &error))?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|error| Failure::io("read", path.display(), &error))?;
            // Most lines are neither, and need not be understood.
            if line.contains(r#""event":"drop""#) || line.contains(r#""event":"signal""#) {
                let event = serde_json::from_str(&line)
                    .map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
                observed.add(event);
            }
        }
        Ok(observed)
    }

    fn add(&mut self, event: Event) {
        match (event.event.as_str(), event.name.as_str()) {
            ("drop", _) if event.why == "loss" => self.lost.push((event.at, event.from, event.to)),
            ("signal", "chaos") => self.course.chaos_from = event.at,
            ("signal", "heal") => self.course.healed_at = event.at,
            ("signal", _) => {
                // `m2 of s1`: the plan's second migration enters a stage.
                let number = event.text.strip_prefix('m').and_then(|rest| rest.split(' ').next());
                if let Some(number @ 1..) = number.and_then(|number| number.parse::<usize>().ok()) {
                    self.course.began.entry(number - 1).or_insert(event.at);
                    self.stages.entry((number - 1, event.name)).or_insert(event.at);
                }
            }
            _ => {}
        }
    }

    /// The plan with its operations written down; losses stay chance.
    pub fn scripted(&self, plan: &Plan) -> Plan {
        plan.scripted(&self.history, &self.course)
    }

    /// By how many microseconds a migration would have to begin later to enter one of its stages when it did here, for each
    /// stage that it enters earlier in `other`: with fewer documents it goes through its stages faster. The stages nearest to
    /// `instant` come first.
    pub fn delays(&self, other: &Observed, instant: Nanos) -> Vec<(usize, u64)> {
        let delay = |(key, then): (&(usize, String), &Nanos)| {
            let late = then.checked_sub(*other.stages.get(key)?)?;
            Some((then.abs_diff(instant), (key.0, late / MICROS)))
        };
        let mut delays: Vec<(u64, (usize, u64))> = self.stages.iter().filter_map(delay).collect();
        delays.sort_unstable();
        delays.dedup_by_key(|it| it.1);
        delays.into_iter().map(|it| it.1).filter(|it| it.1 > 0).collect()
    }

    /// By how many microseconds each migration would have to begin later to enter one of its stages at `instant`; the stages
    /// that it enters latest before it come first.
    pub fn waits(&self, instant: Nanos) -> Vec<(usize, u64)> {
        let wait = |((n, _), entered): (&(usize, String), &Nanos)| Some((*n, instant.checked_sub(*entered)? / MICROS));
        let mut waits: Vec<(usize, u64)> = self.stages.iter().filter_map(wait).collect();
        waits.sort_unstable_by_key(|&(n, wait_us)| (wait_us, n));
        waits.dedup();
        waits
    }

    /// No frame is lost by chance any more: each that was becomes a fault of its own, which loses the next frame of a link.
    pub fn without_loss(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        plan.sim.network.loss = Ratio::ZERO;
        plan.sim.network.links.clear();
        // Frames were lost while documents were loaded, too.
        plan.timing.chaos_from_us = 0;
        let lost = self.lost.iter().filter(|(at, ..)| *at < self.course.healed_at);
        for (n, (at, from, to)) in (1..).zip(lost) {
            let (from, to) = (from.clone(), to.clone());
            plan.sim.faults.push(Fault {
                id: format!("lost-{n}"),
                at: When::Time(at / MICROS * MICROS),
                kind: FaultKind::Link {
                    from,
                    to,
                    loss: Ratio::ONE,
                    delay_us: 0,
                    bandwidth_mbit: 0,
                    frames: 1,
                    for_ms: LOST_WITHIN_MS,
                },
            });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::plan;

    #[test]
    fn the_stage_that_is_entered_last_waits_least_for_an_instant() {
        let stages = [("Planned", 1_000), ("Drain", 5_000), ("DeltaPass", 5_000), ("Done", 90_000)];
        let stages = stages.map(|(stage, at)| ((0, stage.to_owned()), at)).into();
        let observed = Observed { history: Vec::new(), course: Course::default(), lost: Vec::new(), stages };
        assert_eq!(observed.waits(9_000), [(0, 4), (0, 8)]);
    }

    #[test]
    fn what_was_lost_by_chance_becomes_a_fault_each() {
        let mut observed =
            Observed { history: Vec::new(), course: Course::default(), lost: Vec::new(), stages: BTreeMap::new() };
        for line in [
            r#"{"at":5000,"event":"signal","name":"chaos","text":"faults may happen"}"#,
            r#"{"at":7001,"event":"drop","from":"client-1","id":3,"to":"n2","why":"loss"}"#,
            r#"{"at":7002,"event":"drop","from":"client-1","id":4,"to":"n2","why":"cut"}"#,
            r#"{"at":8000,"event":"signal","name":"Planned","text":"m1 of s0"}"#,
            r#"{"at":8500,"event":"signal","name":"Drain","text":"m1 of s0"}"#,
            r#"{"at":9000,"event":"signal","name":"heal","text":"faults stop"}"#,
        ] {
            observed.add(serde_json::from_str(line).unwrap());
        }
        assert_eq!(observed.course, Course { chaos_from: 5_000, healed_at: 9_000, began: [(0, 8_000)].into() });
        let mut given = plan();
        given.sim.faults.clear();
        let plan = observed.without_loss(&given);
        assert!(plan.sim.network.loss == Ratio::ZERO && plan.sim.network.links.is_empty());
        let [fault] = plan.sim.faults.as_slice() else { panic!("{:?}", plan.sim.faults) };
        assert_eq!((fault.id.as_str(), &fault.at), ("lost-1", &When::Time(7_000)));
        plan.check().unwrap();
    }
}
