//! Turns planned faults into steps at instants. Plain data in, steps out: the world performs them (crash this, cut that).
//!
//! A fault waits for its time or for its signal, begins, and ends when its duration is over or the run heals. Several faults may hold the same
//! process down; it comes back when the last of them ends. Each fault's course depends on itself alone, so taking one out of the plan moves no
//! other.

mod act;
mod draw;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

pub use self::act::Act;
use self::act::{act, end_of};
pub use self::draw::{Intensity, Kind, draw_faults};
use crate::dice::{Dice, Random};
use crate::plan::{Fault, FaultKind, PlanError, Shape, SimPlan, When};
use crate::process::{Names, ProcessId};
use crate::time::{MILLIS, Nanos};

/// What the world is to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Index of the fault in the plan; doubles as its token.
    pub fault: usize,
    /// Id of the fault.
    pub id: Arc<str>,
    /// The fault in words.
    pub text: Arc<str>,
    /// Kind in one word, for counting.
    pub kind: &'static str,
    /// The fault begins with this step, ends, or goes on in another way.
    pub moment: Moment,
    /// Keys what chance decides about this occurrence of the fault; depends on its id alone.
    pub key: u64,
    /// What to do.
    pub act: Act,
}

/// Where in the course of a fault a step stands. Of steps at one instant, those that end come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The last step of a fault, or of one of its occurrences.
    Ends,
    /// A flapping partition opens or shuts.
    Turns,
    /// The first step.
    Begins,
}

/// The course of all planned faults of one run.
#[derive(Debug)]
pub struct FaultEngine {
    dice: Dice,
    faults: Vec<Planned>,
    /// When which fault begins, turns or ends.
    due: BTreeSet<(Nanos, usize, Moment)>,
    signals: BTreeMap<String, u32>,
    healed: bool,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    id: Arc<str>,
    text: Arc<str>,
    /// From the id; see [`Step::key`].
    key: u64,
    occurrences: u64,
    course: Course,
    /// What is in force, and has to be taken back.
    active: Option<Act>,
    /// Of a flapping partition: half a period, and whether it is open now.
    flap: Option<(Nanos, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Waiting,
    Active,
    Over,
}

impl FaultEngine {
    /// Prepares the faults of a plan. All processes have to be registered.
    pub fn new(plan: &SimPlan, names: &Names, dice: Dice) -> Result<FaultEngine, PlanError> {
        plan.check(&names.all(), Nanos::MAX)?;
        let mut engine =
            FaultEngine { dice, faults: Vec::new(), due: BTreeSet::new(), signals: BTreeMap::new(), healed: false };
        plan.faults.iter().for_each(|fault| engine.add(fault));
        Ok(engine)
    }

    fn add(&mut self, fault: &Fault) {
        let index = self.faults.len();
        if let When::Time(at) | When::Every { from: at, .. } = fault.at {
            self.due.insert((at, index, Moment::Begins));
        }
        self.faults.push(Planned {
            id: fault.id.as_str().into(),
            text: fault.kind.to_string().into(),
            key: xxh3_64(fault.id.as_bytes()),
            fault: fault.clone(),
            occurrences: 0,
            course: Course::Waiting,
            active: None,
            flap: None,
        });
    }

    /// Adds a fault to begin at its time (which may have passed), signal or mark: for scenarios that decide as they go.
    pub fn inject(&mut self, fault: &Fault, names: &Names) -> Result<(), PlanError> {
        let plan = SimPlan { faults: vec![fault.clone()], ..SimPlan::default() };
        plan.check(&names.all(), Nanos::MAX)?;
        self.add(fault);
        Ok(())
    }

    /// The system reported a signal: faults that wait for this occurrence are set in motion.
    pub fn signal(&mut self, now: Nanos, name: &str) {
        if self.healed {
            return;
        }
        let count = self.signals.entry(name.to_owned()).or_default();
        *count += 1;
        for (index, planned) in self.faults.iter().enumerate() {
            if let When::Signal { name: wanted, nth, after } = &planned.fault.at
                && wanted == name
                && nth == count
            {
                self.due.insert((now.saturating_add(*after), index, Moment::Begins));
            }
        }
    }

    /// A mark was reached for the first time.
    pub fn mark(&mut self, now: Nanos, name: &str) {
        for (index, planned) in self.faults.iter().enumerate().filter(|_| !self.healed) {
            if let When::Mark { name: wanted, after } = &planned.fault.at
                && wanted == name
            {
                self.due.insert((now.saturating_add(*after), index, Moment::Begins));
            }
        }
    }

    /// When the next step falls due.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.due.first().map(|&(at, _, _)| at)
    }

    /// The steps that are due, in order.
    pub fn due(&mut self, now: Nanos, names: &Names) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(&key @ (at, index, moment)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&key);
            steps.extend(match moment {
                Moment::Begins => self.begin(index, at, now, names),
                Moment::Turns => self.turn(index, now),
                Moment::Ends => self.end(index),
            });
        }
        steps
    }

    fn begin(&mut self, index: usize, at: Nanos, now: Nanos, names: &Names) -> Option<Step> {
        let planned = &mut self.faults[index];
        if let When::Every { every, until, .. } = planned.fault.at
            && at.saturating_add(every) < until
        {
            self.due.insert((at + every, index, Moment::Begins));
        }
        if planned.course != Course::Waiting || self.healed {
            return None;
        }
        planned.occurrences += 1;
        let kind = drawn(&planned.fault.kind, self.dice, planned.key, planned.occurrences);
        let act = act(&kind, names);
        planned.text = kind.to_string().into();
        planned.course = if end_of(&act).is_some() { Course::Active } else { planned.rests() };
        planned.active = Some(act.clone());
        let active_for = match &kind {
            FaultKind::CrashInCommit { within_ms, .. } => (*within_ms > 0).then(|| within_ms.saturating_mul(MILLIS)),
            kind => kind.duration(),
        };
        if let Some(duration) = active_for.filter(|_| planned.course == Course::Active) {
            self.due.insert((now.saturating_add(duration), index, Moment::Ends));
        }
        if let FaultKind::Partition { flap_ms: flap_ms @ 1.., .. } = kind {
            let half = flap_ms.saturating_mul(MILLIS);
            planned.flap = Some((half, false));
            self.due.insert((now.saturating_add(half), index, Moment::Turns));
        }
        Some(self.step(index, Moment::Begins, act))
    }

    fn turn(&mut self, index: usize, now: Nanos) -> Option<Step> {
        let planned = &mut self.faults[index];
        if planned.course != Course::Active {
            return None;
        }
        let (half, open) = planned.flap.as_mut()?;
        *open = !*open;
        self.due.insert((now.saturating_add(*half), index, Moment::Turns));
        let cut = planned.active.clone()?;
        let act = if *open { end_of(&cut)? } else { cut };
        Some(self.step(index, Moment::Turns, act))
    }

    fn end(&mut self, index: usize) -> Option<Step> {
        let planned = &mut self.faults[index];
        if planned.course != Course::Active {
            return None;
        }
        planned.course = planned.rests();
        let open = planned.flap.take().is_some_and(|(_, open)| open);
        self.due.retain(|&(_, fault, moment)| fault != index || moment != Moment::Turns);
        let act = end_of(&self.faults[index].active.take()?)?;
        Some(self.step(index, Moment::Ends, if open { Act::Nothing } else { act }))
    }

    fn step(&self, fault: usize, moment: Moment, act: Act) -> Step {
        let planned = &self.faults[fault];
        Step {
            fault,
            id: planned.id.clone(),
            text: planned.text.clone(),
            kind: planned.fault.kind.name(),
            moment,
            key: planned.occurrence_key(),
            act,
        }
    }

    /// An armed crash of `process` has gone off. Returns the tokens of the faults that keep it down now, with their keys; their time runs from
    /// here.
    pub fn crashed_in_commit(&mut self, now: Nanos, process: ProcessId) -> Vec<(usize, u64)> {
        let mut holders = Vec::new();
        for (index, planned) in self.faults.iter_mut().enumerate() {
            let armed = matches!(planned.active, Some(Act::ArmCrash { process: armed, .. }) if armed == process);
            if armed && planned.course == Course::Active {
                planned.active = Some(Act::Crash { process, wipe: false });
                self.due.retain(|&(_, fault, moment)| fault != index || moment != Moment::Ends);
                if let Some(duration) = planned.fault.kind.duration() {
                    self.due.insert((now.saturating_add(duration), index, Moment::Ends));
                }
                holders.push((index, planned.occurrence_key()));
            }
        }
        holders
    }

    /// Ends everything that is active and forgets everything that has not begun.
    pub fn heal(&mut self) -> Vec<Step> {
        self.healed = true;
        self.due.clear();
        (0..self.faults.len()).filter_map(|index| self.end(index)).collect()
    }
}

impl Planned {
    /// What it is between two occurrences, or after the last.
    fn rests(&self) -> Course {
        if matches!(self.fault.at, When::Every { .. }) { Course::Waiting } else { Course::Over }
    }

    fn occurrence_key(&self) -> u64 {
        self.key.wrapping_add(self.occurrences)
    }
}

/// The fault as it happens this time: the sides of a split are drawn, from its own key.
fn drawn(kind: &FaultKind, dice: Dice, key: u64, occurrence: u64) -> FaultKind {
    let FaultKind::Split { among, shape, for_ms } = kind else { return kind.clone() };
    let mut draws = dice.stream("split", key).at(occurrence);
    let mut order = among.clone();
    draws.shuffle(&mut order);
    let size = match shape {
        Shape::Isolate | Shape::OneWay | Shape::Flapping => 1,
        Shape::Halves => (order.len() + usize::from(draws.chance(crate::ratio::Ratio::of(1, 2)))) / 2,
        Shape::Random => draws.range(1..=order.len() as u64 - 1) as usize,
    };
    let b = order.split_off(size);
    let one_way = *draws.pick(&[crate::plan::Direction::AToB, crate::plan::Direction::BToA]);
    FaultKind::Partition {
        a: order,
        b,
        direction: if *shape == Shape::OneWay { one_way } else { crate::plan::Direction::Both },
        flap_ms: if *shape == Shape::Flapping { (for_ms / 20).max(1) } else { 0 },
        for_ms: *for_ms,
    }
}

#[cfg(test)]
mod tests;
