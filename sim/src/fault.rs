//! Turns planned faults into steps at instants. Plain data in, steps out: the world performs them (crash this, cut that).
//!
//! A fault waits for its time or for its signal, begins, and ends when its duration is over or the run heals. Several faults may hold the same
//! process down; it comes back when the last of them ends. Each fault's course depends on itself alone, so taking one out of the plan moves no
//! other.

mod draw;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::draw::{Intensity, draw_faults};
use crate::plan::{Direction, Fault, FaultKind, PlanError, SimPlan, When};
use crate::process::{Names, ProcessId};
use crate::ratio::Ratio;
use crate::time::{MICROS, MILLIS, Nanos};

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
    /// The fault begins (or ends) with this step.
    pub begin: bool,
    /// What to do.
    pub act: Act,
}

/// One action on the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Kill the process and keep it down until [`Act::Release`] by the same fault.
    Crash { process: ProcessId, wipe: bool },
    /// Arm a crash in the disk.
    ArmCrash { process: ProcessId, after_disk_ops: u64 },
    /// Disarm it, if it has not gone off.
    Disarm { process: ProcessId },
    /// No longer keep the process down.
    Release { process: ProcessId },
    /// Stop it.
    Pause { process: ProcessId },
    /// Let it run.
    Resume { process: ProcessId },
    /// Cut directed links.
    Cut { links: Vec<(ProcessId, ProcessId)> },
    /// Take that back.
    Mend { links: Vec<(ProcessId, ProcessId)> },
    /// Make a directed link worse, under the fault's token.
    Worsen { from: ProcessId, to: ProcessId, loss: Ratio, delay: Nanos },
    /// Take that back.
    Relieve { from: ProcessId, to: ProcessId },
    /// Let the next sync fail.
    FailSync { process: ProcessId },
    /// Fill the disk, or free it.
    DiskFull { process: ProcessId, full: bool },
    /// Flip bits at rest.
    FlipBits { process: ProcessId, count: u32 },
    /// Jump and drift a clock.
    Clock { process: ProcessId, jump_ns: i64, drift_ppm: i64 },
    /// Set it right.
    RepairClock { process: ProcessId },
}

/// The course of all planned faults of one run.
#[derive(Debug)]
pub struct FaultEngine {
    faults: Vec<Planned>,
    /// When which fault begins (true) or ends.
    due: BTreeSet<(Nanos, usize, bool)>,
    signals: BTreeMap<String, u32>,
    healed: bool,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    id: Arc<str>,
    text: Arc<str>,
    state: Course,
    begin: Act,
    end: Option<Act>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Waiting,
    Active,
    Over,
}

impl FaultEngine {
    /// Prepares the faults of a plan. All processes have to be registered.
    pub fn new(plan: &SimPlan, names: &Names) -> Result<FaultEngine, PlanError> {
        plan.check(&names.all(), Nanos::MAX)?;
        let mut engine =
            FaultEngine { faults: Vec::new(), due: BTreeSet::new(), signals: BTreeMap::new(), healed: false };
        for fault in &plan.faults {
            engine.add(fault, names);
        }
        Ok(engine)
    }

    fn add(&mut self, fault: &Fault, names: &Names) {
        let index = self.faults.len();
        if let When::Time(at) = fault.at {
            self.due.insert((at, index, true));
        }
        let (begin, end) = acts(&fault.kind, names);
        self.faults.push(Planned {
            id: fault.id.as_str().into(),
            text: fault.kind.to_string().into(),
            fault: fault.clone(),
            state: Course::Waiting,
            begin,
            end,
        });
    }

    /// Adds a fault to begin at its time (which may have passed) or signal: for scenarios that decide as they go.
    pub fn inject(&mut self, fault: &Fault, names: &Names) -> Result<(), PlanError> {
        let plan = SimPlan { faults: vec![fault.clone()], ..SimPlan::default() };
        plan.check(&names.all(), Nanos::MAX)?;
        self.add(fault, names);
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
                self.due.insert((now.saturating_add(*after), index, true));
            }
        }
    }

    /// When the next step falls due.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.due.first().map(|&(at, _, _)| at)
    }

    /// The steps that are due, in order.
    pub fn due(&mut self, now: Nanos) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(&key @ (at, index, begin)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.remove(&key);
            steps.extend(if begin { self.begin(index, now) } else { self.end(index) });
        }
        steps
    }

    fn begin(&mut self, index: usize, now: Nanos) -> Option<Step> {
        let planned = &mut self.faults[index];
        if planned.state != Course::Waiting || self.healed {
            return None;
        }
        planned.state = if planned.end.is_some() { Course::Active } else { Course::Over };
        let active_for = match &planned.fault.kind {
            FaultKind::CrashInCommit { within_ms, .. } => (*within_ms > 0).then(|| within_ms.saturating_mul(MILLIS)),
            kind => kind.duration(),
        };
        if let Some(duration) = active_for {
            self.due.insert((now.saturating_add(duration), index, false));
        }
        let act = planned.begin.clone();
        Some(self.step(index, true, act))
    }

    fn end(&mut self, index: usize) -> Option<Step> {
        let planned = &mut self.faults[index];
        if planned.state != Course::Active {
            return None;
        }
        planned.state = Course::Over;
        let act = planned.end.clone()?;
        Some(self.step(index, false, act))
    }

    fn step(&self, fault: usize, begin: bool, act: Act) -> Step {
        let planned = &self.faults[fault];
        Step { fault, id: planned.id.clone(), text: planned.text.clone(), kind: planned.fault.kind.name(), begin, act }
    }

    /// An armed crash of `process` has gone off. Returns the tokens of the faults that keep it down now; their time runs from here.
    pub fn crashed_in_commit(&mut self, now: Nanos, process: ProcessId) -> Vec<usize> {
        let mut holders = Vec::new();
        for (index, planned) in self.faults.iter_mut().enumerate() {
            let armed = matches!(planned.begin, Act::ArmCrash { process: armed, .. } if armed == process);
            if armed && planned.state == Course::Active && matches!(planned.end, Some(Act::Disarm { .. })) {
                planned.end = Some(Act::Release { process });
                self.due.retain(|&(_, fault, begin)| fault != index || begin);
                if let Some(duration) = planned.fault.kind.duration() {
                    self.due.insert((now.saturating_add(duration), index, false));
                }
                holders.push(index);
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

/// The action that begins a fault and the one that ends it.
fn acts(kind: &FaultKind, names: &Names) -> (Act, Option<Act>) {
    let id = |name: &str| names.find(name).expect("a checked plan names registered processes");
    match kind {
        FaultKind::Crash { process, .. } => {
            let process = id(process);
            (Act::Crash { process, wipe: false }, Some(Act::Release { process }))
        }
        FaultKind::Wipe { process, .. } => {
            let process = id(process);
            (Act::Crash { process, wipe: true }, Some(Act::Release { process }))
        }
        FaultKind::CrashInCommit { process, after_disk_ops, .. } => {
            let process = id(process);
            (Act::ArmCrash { process, after_disk_ops: *after_disk_ops }, Some(Act::Disarm { process }))
        }
        FaultKind::Pause { process, .. } => {
            let process = id(process);
            (Act::Pause { process }, Some(Act::Resume { process }))
        }
        FaultKind::Partition { a, b, direction, .. } => {
            let mut links = Vec::new();
            for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (id(a), id(b)))) {
                if *direction != Direction::BToA {
                    links.push((a, b));
                }
                if *direction != Direction::AToB {
                    links.push((b, a));
                }
            }
            (Act::Cut { links: links.clone() }, Some(Act::Mend { links }))
        }
        FaultKind::Link { from, to, loss, delay_us, .. } => {
            let (from, to) = (id(from), id(to));
            (Act::Worsen { from, to, loss: *loss, delay: delay_us * MICROS }, Some(Act::Relieve { from, to }))
        }
        FaultKind::FailSync { process } => (Act::FailSync { process: id(process) }, None),
        FaultKind::DiskFull { process, .. } => {
            let process = id(process);
            (Act::DiskFull { process, full: true }, Some(Act::DiskFull { process, full: false }))
        }
        FaultKind::FlipBits { process, count } => (Act::FlipBits { process: id(process), count: *count }, None),
        FaultKind::Clock { process, jump_ms, drift_ppm, .. } => {
            let process = id(process);
            let jump_ns = jump_ms.saturating_mul(MILLIS as i64);
            (Act::Clock { process, jump_ns, drift_ppm: *drift_ppm }, Some(Act::RepairClock { process }))
        }
    }
}

#[cfg(test)]
mod tests;
