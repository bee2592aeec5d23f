//! What a scenario can do to the world, and ask of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use super::{Boot, Failure, MANUAL, Process, Restart, World};
use crate::clock::ProcessClock;
use crate::coverage;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::fault::FaultEngine;
use crate::net::{Endpoint, Fabric};
use crate::plan::{Budget, Fault, PlanError, SimPlan};
use crate::process::{Incarnation, ProcessId};
use crate::time::{Nanos, Sleep, Timers};
use crate::trace::{Event, Trace};

impl World {
    /// Simulated time since the start of the run.
    pub fn now(&self) -> Nanos {
        self.0.timers.now()
    }

    /// Waits, with nanosecond resolution and no minimum.
    pub fn sleep(&self, duration: Nanos) -> Sleep {
        self.0.timers.sleep(duration)
    }

    /// Waits until an instant.
    pub fn sleep_until(&self, deadline: Nanos) -> Sleep {
        self.0.timers.sleep_until(deadline)
    }

    /// The sleepers, for parts that need time without the world.
    pub fn timers(&self) -> &Timers {
        &self.0.timers
    }

    /// The trace of this run.
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// The dice of this run.
    pub fn dice(&self) -> Dice {
        self.0.dice
    }

    /// The plan of this run.
    pub fn plan(&self) -> &SimPlan {
        &self.0.plan
    }

    /// The network of this run.
    pub fn fabric(&self) -> &Fabric {
        &self.0.fabric
    }

    /// The network access of one life of a process.
    pub fn endpoint(&self, life: Incarnation) -> Endpoint {
        self.0.fabric.endpoint(life)
    }

    /// What `process` believes the time to be.
    pub fn clock(&self, process: ProcessId) -> ProcessClock {
        self.state().process(process).clock.clone()
    }

    /// Registers a process that is not started yet, so that others can know its id.
    pub fn register(&self, name: &str) -> ProcessId {
        let process = self.0.trace.register(self.now(), name);
        let clock = ProcessClock::new(self.0.timers.clone());
        let mut state = self.state();
        assert_eq!(process.index(), state.processes.len(), "processes are registered through the world only");
        state.processes.push(Process {
            node: None,
            boot: None,
            number: 0,
            up: false,
            held_by: BTreeSet::new(),
            paused_by: BTreeSet::new(),
            away: Vec::new(),
            restart: Restart::default(),
            disks: Vec::new(),
            clock,
            clock_faults: 0,
        });
        process
    }

    /// Registers and starts a process. `boot` makes the future of each life; tasks it spawns belong to that life.
    pub fn process<F, Fut>(&self, name: &str, boot: F) -> ProcessId
    where
        F: Fn(Incarnation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let process = self.register(name);
        self.start(process, boot);
        process
    }

    /// Starts a registered process for the first time. Panics if it was started before.
    pub fn start<F, Fut>(&self, process: ProcessId, boot: F)
    where
        F: Fn(Incarnation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let boot: Boot = Arc::new(move |life| Box::pin(boot(life)));
        {
            let mut state = self.state();
            let it = state.process(process);
            assert!(it.boot.is_none(), "a process is started once; afterwards it is restarted");
            it.boot = Some(boot);
        }
        self.begin_life(process);
    }

    /// Runs a future beside the scenario's own. It is dropped when the run ends.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let node = self.state().main_node.expect("main has started");
        self.0.handle.get_node(node).expect("main lives as long as the run").spawn(future);
    }

    /// Gives `process` a freshly formatted disk with the plan's behaviour. It crashes and is wiped together with the process.
    pub fn new_disk(&self, process: ProcessId) -> SimDisk {
        let disk = SimDisk::new(process, self.0.timers.clone(), self.0.trace.clone(), self.0.dice, &self.0.plan.disk);
        let weak = Arc::downgrade(&self.0);
        disk.on_crash(Arc::new(move |process| {
            if let Some(inner) = weak.upgrade() {
                World(inner).disk_broke(process);
            }
        }));
        self.state().process(process).disks.push(disk.clone());
        disk
    }

    /// What happens when the process ends by itself.
    pub fn set_restart(&self, process: ProcessId, restart: Restart) {
        self.state().process(process).restart = restart;
    }

    /// Kills a process: memory and inbox are gone, of its unsynced writes the dice decide. It stays down until [`World::restart`] or
    /// [`World::heal`]. Nothing happens if it is down already, but then it stays down for this reason too.
    pub fn crash(&self, process: ProcessId) {
        self.state().process(process).held_by.insert(MANUAL);
        self.kill(process, "by hand", None);
    }

    /// Starts the next life of a process, whatever keeps it down. Kills it first if it is up.
    pub fn restart(&self, process: ProcessId) {
        self.kill(process, "restarted by hand", None);
        self.state().process(process).held_by.clear();
        self.begin_life(process);
    }

    /// Stops a process with all its memory. Frames for it wait in its inbox.
    pub fn pause(&self, process: ProcessId) {
        self.pause_by(process, MANUAL);
    }

    /// Lets it go on, in the belief that no time has passed. A fault may still keep it paused.
    pub fn resume(&self, process: ProcessId) {
        self.resume_by(process, MANUAL);
    }

    /// True while the process has a life, paused or not.
    pub fn is_up(&self, process: ProcessId) -> bool {
        self.state().process(process).up
    }

    /// The current or, if it is down, the last life of a process; its number is 0 before the first.
    pub fn life(&self, process: ProcessId) -> Incarnation {
        Incarnation { process, number: self.state().process(process).number }
    }

    /// From when to when a process that was started was dead or paused; a span that lasts ends at `None`.
    pub fn away(&self, process: ProcessId) -> Vec<(Nanos, Option<Nanos>)> {
        self.state().process(process).away.clone()
    }

    /// From when to when a process waited for its disks, in order (see [`SimDisk::long_waits`]).
    pub fn long_waits(&self, process: ProcessId) -> Vec<(Nanos, Nanos)> {
        let disks = self.state().process(process).disks.clone();
        let mut waits: Vec<_> = disks.iter().flat_map(SimDisk::long_waits).collect();
        waits.sort_unstable();
        waits
    }

    /// The system under test reached a point that faults may wait for, such as a stage. Faults that begin at once do so before this returns:
    /// a process that crashes here gets no further than its next await, and whatever it sends or writes until then is lost.
    pub fn signal(&self, name: &str, text: &str) {
        self.0.trace.record(self.now(), Event::Signal { name: name.into(), text: text.into() });
        {
            let mut state = self.state();
            state.phase.clear();
            state.phase.push_str(name);
        }
        self.count_signal(name);
    }

    /// As [`World::signal`], for what happens within a phase and begins no other one. The trace does not say it.
    pub fn count_signal(&self, name: &str) {
        let now = self.now();
        if let Some(engine) = &mut self.state().engine {
            engine.signal(now, name);
        }
        self.fire_faults(now);
        self.nudge();
    }

    /// A remark in the trace.
    pub fn note(&self, text: &str) {
        self.0.trace.note(self.now(), text);
    }

    /// Puts the plan in force: link overrides and faults. Call it when all processes are registered; names that nobody has are errors.
    pub fn arm_faults(&self) -> Result<(), PlanError> {
        let names = self.0.trace.names();
        let engine = FaultEngine::new(&self.0.plan, names, self.0.dice)?;
        if let (true, Some(fault)) =
            (!coverage::counting(), self.0.plan.faults.iter().find(|fault| fault.waits_for_mark()))
        {
            let problem = "nobody counts marks here; call coverage::init() on the main thread first".to_owned();
            return Err(PlanError::Fault { fault: fault.id.clone(), field: "at.mark", problem });
        }
        if let Some(Budget::Lifted(why)) = &self.0.plan.budget {
            self.note(&format!("the fault budget is lifted: {why}"));
        }
        let default = self.0.fabric.default_profile();
        for link in &self.0.plan.network.links {
            if let (Some(from), Some(to)) = (names.find(&link.from), names.find(&link.to)) {
                self.0.fabric.set_link(from, to, Some(default.overridden(link)));
            }
        }
        self.state().engine = Some(engine);
        self.nudge();
        Ok(())
    }

    /// Adds a fault to the armed plan.
    pub fn inject(&self, fault: &Fault) -> Result<(), PlanError> {
        let names = self.0.trace.names();
        let now = self.now();
        {
            let mut state = self.state();
            let mut engine = match state.engine.take() {
                Some(engine) => engine,
                None => FaultEngine::new(&SimPlan::default(), names, self.0.dice)?,
            };
            let injected = engine.inject(fault, names);
            state.engine = Some(engine);
            injected?;
        }
        self.fire_faults(now);
        self.nudge();
        Ok(())
    }

    /// All faults end: cuts are mended, links lose nothing, disks work, the paused go on, the dead (but those that ended for good with
    /// [`Restart::Never`]) live again. Nothing goes wrong from here on.
    pub fn heal(&self) {
        self.note("heal: all faults end");
        let steps = self.state().engine.as_mut().map(FaultEngine::heal).unwrap_or_default();
        for step in steps {
            self.perform(step);
        }
        self.0.fabric.heal();
        let count = self.state().processes.len() as u32;
        for process in (0..count).map(ProcessId) {
            let (disks, paused_by, dead) = {
                let mut state = self.state();
                let it = state.process(process);
                let dead = !it.up && it.boot.is_some() && (it.restart == Restart::Auto || !it.held_by.is_empty());
                it.held_by.clear();
                (it.disks.clone(), it.paused_by.clone(), dead)
            };
            disks.iter().for_each(SimDisk::heal);
            paused_by.into_iter().for_each(|token| self.resume_by(process, token));
            if dead {
                self.begin_life(process);
            }
        }
    }

    /// Ends the run from inside with a failure, for instance when an invariant is broken that nobody can return.
    pub fn fail(&self, failure: Failure) {
        let waiter = {
            let mut state = self.state();
            state.failure.get_or_insert(failure);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
