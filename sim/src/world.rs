//! One run: a fresh OS thread, an executor with virtual time, processes on it, and the driver that makes things happen to them.
//!
//! The driver is the only task with an executor timer. It sleeps until the earliest deadline of sleepers, frames, faults and restarts, and then
//! fires what is due. Killing a process ends its access to network and disk first (by incarnation), because its futures are dropped later.
//! The last step of a run kills everything, or its tasks would never be dropped.
//!
//! This is the only file that knows the executor (`madsim`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
use madsim::time::TimeHandle;

use crate::clock::ProcessClock;
use crate::coverage::{self, Marks, Matrix};
use crate::dice::{Dice, Random};
use crate::disk::SimDisk;
use crate::fault::{Act, FaultEngine, Step};
use crate::net::{Endpoint, Fabric};
use crate::panics::{self, CatchPanic, Caught};
use crate::plan::{Fault, PlanError, SimPlan};
use crate::process::{Incarnation, ProcessId};
use crate::seed::Seed;
use crate::sync::lock;
use crate::time::{MILLIS, Nanos, Sleep, Timers};
use crate::trace::{Event, Trace};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The one number.
    pub seed: Seed,
    /// What may go wrong. Checked when the run [arms](World::arm_faults) it, once all processes are registered.
    pub plan: SimPlan,
    /// Where events go. Fresh for each run.
    pub trace: Trace,
    /// The run fails if it takes more simulated time than this.
    pub limit: Nanos,
}

/// What is left of a run.
#[derive(Debug)]
pub struct Ended<T> {
    /// What the run returned, or how it broke.
    pub result: Result<T, Failure>,
    /// Simulated time from start to end.
    pub simulated_ns: Nanos,
    /// Marks reached, by name.
    pub marks: Marks,
    /// Faults begun and frames lost, by kind: `crash`, `partition`, `drop`, …
    pub faults: BTreeMap<String, u64>,
    /// Which fault began in which phase.
    pub matrix: Matrix,
    /// The trace so far, closed.
    pub trace: Trace,
}

/// How a run broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Something panicked: a bug, in the system under test or here.
    #[error("{} panicked: {message} ({})", process.as_deref().unwrap_or("a task"), location.as_deref().unwrap_or("no location"))]
    Panic {
        /// The process, if known: a task that a process spawned panics anonymously.
        process: Option<String>,
        /// What the panic said.
        message: String,
        /// `file:line:column`
        location: Option<String>,
    },
    /// The run went on past its limit of simulated time.
    #[error("still running after {} s of simulated time", limit / crate::time::SECONDS)]
    TimeLimit {
        /// In simulated nanoseconds.
        limit: Nanos,
    },
}

/// What happens when a process ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// It is started again after 10 to 200 ms, drawn per life.
    #[default]
    Auto,
    /// It stays down until somebody starts it.
    Never,
}

type Boot = Arc<dyn Fn(Incarnation) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// The world of one run. Clones are the same world; usable from every task of the run.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    handle: Handle,
    timers: Timers,
    trace: Trace,
    dice: Dice,
    plan: SimPlan,
    fabric: Fabric,
    limit: Nanos,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    processes: Vec<Process>,
    engine: Option<FaultEngine>,
    /// Restarts of processes that ended by themselves.
    restarts: BTreeSet<(Nanos, ProcessId)>,
    /// Processes whose armed disk crash has gone off, to be killed by the driver.
    broken: Vec<ProcessId>,
    phase: String,
    faults: BTreeMap<String, u64>,
    matrix: Matrix,
    main_node: Option<NodeId>,
    driver_node: Option<NodeId>,
    done: bool,
    failure: Option<Failure>,
    waiter: Option<Waker>,
}

struct Process {
    node: Option<NodeId>,
    boot: Option<Boot>,
    number: u32,
    up: bool,
    /// Faults (and [`MANUAL`]) that keep it down.
    held_by: BTreeSet<usize>,
    paused_by: BTreeSet<usize>,
    restart: Restart,
    disks: Vec<SimDisk>,
    clock: ProcessClock,
}

/// The token of what a scenario does by hand.
const MANUAL: usize = usize::MAX;

/// Why a process dies whose armed disk crash has gone off.
const BROKEN: &str = "in the middle of a disk operation";

impl World {
    /// Runs `main` in a fresh world on a fresh thread, until it returns or something breaks.
    pub fn run<T, F, Fut>(setup: Setup, main: F) -> Ended<T>
    where
        T: Send + 'static,
        F: FnOnce(World) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let trace = setup.trace.clone();
        let thread = std::thread::Builder::new().name(format!("seed {}", setup.seed)).stack_size(8 << 20);
        let handle = thread.spawn(move || run_here(setup, main)).expect("the operating system has a thread for us");
        handle.join().unwrap_or_else(|payload| {
            // Nothing on that thread should panic outside `catch_unwind`; if it does, it is still a result and not an abort.
            let Caught { message, location } = panics::caught(payload);
            Ended {
                result: Err(Failure::Panic { process: None, message, location }),
                simulated_ns: 0,
                marks: Marks::new(),
                faults: BTreeMap::new(),
                matrix: Matrix::default(),
                trace,
            }
        })
    }
}

fn run_here<T, F, Fut>(setup: Setup, main: F) -> Ended<T>
where
    T: Send + 'static,
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    panics::keep_on_this_thread();
    coverage::take_marks();
    let Setup { seed, plan, trace, limit } = setup;
    // The executor's generator only orders ready tasks; it is seeded apart from the dice.
    let executor_seed = Dice::new(seed).stream("executor", 0).next_u64();
    let runtime = Runtime::with_seed_and_config(executor_seed, madsim::Config::default());
    let slot: Arc<Mutex<Option<T>>> = Arc::default();
    let world = Arc::new(Mutex::new(None::<World>));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let (slot, keep) = (slot.clone(), world.clone());
        let trace = trace.clone();
        runtime.block_on(async move {
            let world = World::new(seed, plan, trace, limit);
            *lock(&keep) = Some(world.clone());
            world.start_driver();
            world.start_main(main, slot);
            world.ended().await;
        });
    }));
    let world = lock(&world).take().expect("the world is made before anything can panic");
    if let Err(payload) = outcome {
        world.fail(Failure::panic(None, panics::caught(payload)));
    }
    let simulated_ns = world.now();
    trace.close();
    // A destructor that panics changes nothing about the verdict any more.
    let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world.clone().take_down())));
    let mut state = world.state();
    let result = match (state.failure.take(), lock(&slot).take()) {
        (Some(failure), _) => Err(failure),
        (None, Some(value)) => Ok(value),
        (None, None) => unreachable!("a run ends with a value or a failure"),
    };
    let mut faults = std::mem::take(&mut state.faults);
    for (name, count) in world.0.fabric.counts() {
        if name != "send" {
            *faults.entry(name.to_owned()).or_default() += count;
        }
    }
    let matrix = std::mem::take(&mut state.matrix);
    drop(state);
    Ended { result, simulated_ns, marks: coverage::take_marks(), faults, matrix, trace }
}

impl Failure {
    fn panic(process: Option<String>, caught: Caught) -> Failure {
        Failure::Panic { process, message: caught.message, location: caught.location }
    }
}

/// What a scenario uses.
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
            restart: Restart::default(),
            disks: Vec::new(),
            clock,
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

    /// Begins a life on an unlinked task of the main scenario; it is dropped when the run ends.
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
        self.kill(process, "by hand");
    }

    /// Starts the next life of a process, whatever keeps it down. Kills it first if it is up.
    pub fn restart(&self, process: ProcessId) {
        self.kill(process, "restarted by hand");
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

    /// The system under test reached a point that faults may wait for, such as a stage. Faults that begin at once do so before this returns:
    /// a process that crashes here gets no further than its next await, and whatever it sends or writes until then is lost.
    pub fn signal(&self, name: &str, text: &str) {
        let now = self.now();
        self.0.trace.record(now, Event::Signal { name: name.into(), text: text.into() });
        {
            let mut state = self.state();
            state.phase.clear();
            state.phase.push_str(name);
            if let Some(engine) = &mut state.engine {
                engine.signal(now, name);
            }
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
        let engine = FaultEngine::new(&self.0.plan, names)?;
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
                None => FaultEngine::new(&SimPlan::default(), names)?,
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

/// What makes it go.
impl World {
    fn new(seed: Seed, plan: SimPlan, trace: Trace, limit: Nanos) -> World {
        let time = TimeHandle::current();
        let timers = Timers::new(move || time.elapsed().as_nanos() as Nanos);
        let dice = Dice::new(seed);
        let fabric = Fabric::new(timers.clone(), trace.clone(), dice, &plan.network);
        let handle = Handle::current();
        World(Arc::new(Inner { handle, timers, trace, dice, plan, fabric, limit, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn start_driver(&self) {
        let weak = Arc::downgrade(&self.0);
        let node = self.0.handle.create_node().name("driver").init(move || drive(weak.clone())).build();
        self.state().driver_node = Some(node.id());
    }

    fn start_main<T, F, Fut>(&self, main: F, slot: Arc<Mutex<Option<T>>>)
    where
        T: Send + 'static,
        F: FnOnce(World) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let once = Mutex::new(Some((main, self.clone())));
        let init = move || {
            let taken = lock(&once).take();
            let slot = slot.clone();
            async move {
                let (main, world) = taken.expect("main starts once");
                let outcome = CatchPanic(Box::pin(async { main(world.clone()).await })).await;
                match outcome {
                    Ok(value) => *lock(&slot) = Some(value),
                    Err(caught) => return world.fail(Failure::panic(Some("main".to_owned()), caught)),
                }
                let waiter = {
                    let mut state = world.state();
                    state.done = true;
                    state.waiter.take()
                };
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
                // Ending would take down the tasks that main has spawned before the run is judged to be over.
                std::future::pending::<()>().await;
            }
        };
        let node = self.0.handle.create_node().name("main").init(init).build();
        self.state().main_node = Some(node.id());
    }

    /// Waits until main has returned or something has broken.
    fn ended(&self) -> impl Future<Output = ()> {
        let world = self.clone();
        poll_fn(move |context| {
            let mut state = world.state();
            if state.done || state.failure.is_some() {
                return Poll::Ready(());
            }
            state.waiter = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Kills every node and waits until their tasks are dropped; breaks the cycles between the world and what it was given.
    async fn take_down(self) {
        let count = self.state().processes.len() as u32;
        for process in (0..count).map(ProcessId) {
            self.kill(process, "the run is over");
        }
        let own = {
            let state = self.state();
            [state.main_node, state.driver_node]
        };
        own.into_iter().flatten().for_each(|node| self.0.handle.kill(node));
        for _ in 0..100_000 {
            if self.0.handle.metrics().num_tasks() == 0 {
                break;
            }
            madsim::task::yield_now().await;
        }
        self.0.fabric.on_drop(|_| ());
        let (processes, engine) = {
            let mut state = self.state();
            (std::mem::take(&mut state.processes), state.engine.take())
        };
        drop((processes, engine));
    }

    fn nudge(&self) {
        if let Some(deadline) = self.next_deadline() {
            self.0.timers.nudge(deadline);
        }
    }

    fn next_deadline(&self) -> Option<Nanos> {
        let state = self.state();
        let broken = (!state.broken.is_empty()).then_some(0);
        let restart = state.restarts.first().map(|&(at, _)| at);
        let fault = state.engine.as_ref().and_then(FaultEngine::next_deadline);
        drop(state);
        let others = [broken, restart, fault, self.0.timers.next_deadline(), self.0.fabric.next_deadline()];
        others.into_iter().flatten().min()
    }

    /// Fires everything that is due.
    fn work(&self, now: Nanos) {
        loop {
            let broken = self.state().broken.pop();
            let Some(process) = broken else { break };
            self.kill(process, BROKEN);
        }
        self.fire_faults(now);
        loop {
            let due = {
                let mut state = self.state();
                match state.restarts.first().copied() {
                    Some(next @ (at, process)) if at <= now => {
                        state.restarts.remove(&next);
                        process
                    }
                    _ => break,
                }
            };
            let ready = {
                let mut state = self.state();
                let it = state.process(due);
                !it.up && it.held_by.is_empty()
            };
            if ready {
                self.begin_life(due);
            }
        }
        self.0.fabric.deliver_due(now);
        self.0.timers.fire_due(now);
    }

    fn fire_faults(&self, now: Nanos) {
        let steps = self.state().engine.as_mut().map(|engine| engine.due(now)).unwrap_or_default();
        for step in steps {
            self.perform(step);
        }
    }

    fn perform(&self, step: Step) {
        let Step { fault, id, text, kind, begin, act } = step;
        self.0.trace.record(self.now(), Event::Fault { id: id.clone(), text, begin });
        if begin {
            let mut guard = self.state();
            let state = &mut *guard;
            *state.faults.entry(kind.to_owned()).or_default() += 1;
            state.matrix.count(if state.phase.is_empty() { "before" } else { &state.phase }, kind);
        }
        let fabric = &self.0.fabric;
        let disks = |process| self.state().process(process).disks.clone();
        match act {
            Act::Crash { process, wipe } => {
                self.state().process(process).held_by.insert(fault);
                self.kill(process, &format!("fault {id}"));
                if wipe {
                    disks(process).iter().for_each(SimDisk::wipe);
                }
            }
            Act::ArmCrash { process, after_disk_ops } => {
                disks(process).iter().for_each(|disk| disk.crash_after(after_disk_ops))
            }
            Act::Disarm { process } => disks(process).iter().for_each(SimDisk::disarm),
            Act::Release { process } => {
                let free = {
                    let mut state = self.state();
                    let it = state.process(process);
                    it.held_by.remove(&fault) && it.held_by.is_empty() && !it.up
                };
                if free {
                    self.begin_life(process);
                }
            }
            Act::Pause { process } => self.pause_by(process, fault),
            Act::Resume { process } => self.resume_by(process, fault),
            Act::Cut { links } => links.iter().for_each(|&(from, to)| fabric.cut(from, to)),
            Act::Mend { links } => links.iter().for_each(|&(from, to)| fabric.mend(from, to)),
            Act::Worsen { from, to, loss, delay } => fabric.worsen(from, to, fault as u64, loss, delay),
            Act::Relieve { from, to } => fabric.relieve(from, to, fault as u64),
            Act::FailSync { process } => disks(process).iter().for_each(SimDisk::fail_next_sync),
            Act::DiskFull { process, full } => disks(process).iter().for_each(|disk| disk.set_full(full)),
            Act::FlipBits { process, count } => {
                for disk in disks(process) {
                    (0..count).for_each(|_| _ = disk.flip_bit());
                }
            }
            Act::Clock { process, jump_ns, drift_ppm } => {
                let clock = self.clock(process);
                clock.jump(jump_ns);
                clock.drift(drift_ppm);
            }
            Act::RepairClock { process } => self.clock(process).repair(),
        }
    }

    fn begin_life(&self, process: ProcessId) {
        let (life, node, name) = {
            let mut state = self.state();
            let it = state.process(process);
            if it.boot.is_none() {
                return; // registered, never started: there is nothing to begin
            }
            assert!(!it.up, "a life begins when the last has ended");
            it.number += 1;
            it.up = true;
            (Incarnation { process, number: it.number }, it.node, self.0.trace.names().name(process))
        };
        self.0.trace.record(self.now(), Event::Start { process, incarnation: life.number });
        self.0.fabric.up(life);
        match node {
            Some(node) => self.0.handle.restart(node),
            None => {
                let weak = Arc::downgrade(&self.0);
                let node = self.0.handle.create_node().name(&*name).init(move || live(weak.clone(), process)).build();
                self.state().process(process).node = Some(node.id());
            }
        }
    }

    fn kill(&self, process: ProcessId, why: &str) {
        let (disks, paused, node) = {
            let mut state = self.state();
            let it = state.process(process);
            if !it.up {
                return;
            }
            it.up = false;
            let found = (it.disks.clone(), !std::mem::take(&mut it.paused_by).is_empty(), it.node);
            state.broken.retain(|&broken| broken != process);
            found
        };
        self.0.trace.record(self.now(), Event::Crash { process, why: why.into() });
        self.0.fabric.down(process);
        for disk in disks {
            disk.crash();
        }
        if let Some(node) = node {
            if paused {
                self.0.handle.resume(node); // so that its tasks are dropped by the run loop and not inside the executor's lock
            }
            self.0.handle.kill(node);
        }
    }

    /// A life's future has returned, or panicked.
    fn life_ended(&self, life: Incarnation, outcome: Result<(), Caught>) {
        let process = life.process;
        if let Err(caught) = outcome {
            let name = self.0.trace.names().name(process).to_string();
            return self.fail(Failure::panic(Some(name), caught));
        }
        if self.life(process) != life || !self.is_up(process) {
            return;
        }
        let broken = self.state().broken.contains(&process);
        self.kill(process, if broken { BROKEN } else { "ended by itself" });
        let mut state = self.state();
        let it = state.process(process);
        if it.restart == Restart::Auto && it.held_by.is_empty() {
            let delay = self
                .0
                .dice
                .stream("restart", u64::from(process.0))
                .at(u64::from(life.number))
                .range(10 * MILLIS..=200 * MILLIS);
            state.restarts.insert((self.now() + delay, process));
        }
        drop(state);
        self.nudge();
    }

    /// In the middle of a disk operation: the process goes on until its next await, but nobody hears of it any more.
    fn disk_broke(&self, process: ProcessId) {
        self.0.fabric.down(process);
        let now = self.now();
        {
            let mut state = self.state();
            state.broken.push(process);
            let holders =
                state.engine.as_mut().map(|engine| engine.crashed_in_commit(now, process)).unwrap_or_default();
            let none_holds = holders.is_empty();
            let it = state.process(process);
            it.held_by.extend(holders);
            if none_holds {
                it.held_by.insert(MANUAL);
            }
        }
        self.nudge();
    }

    fn pause_by(&self, process: ProcessId, token: usize) {
        let node = {
            let mut state = self.state();
            let it = state.process(process);
            if !it.up {
                return;
            }
            let running = it.paused_by.is_empty();
            it.paused_by.insert(token);
            running.then_some(it.node).flatten()
        };
        if let Some(node) = node {
            self.0.trace.record(self.now(), Event::Pause { process });
            self.0.handle.pause(node);
        }
    }

    fn resume_by(&self, process: ProcessId, token: usize) {
        let node = {
            let mut state = self.state();
            let it = state.process(process);
            let freed = it.paused_by.remove(&token) && it.paused_by.is_empty();
            freed.then_some(it.node).flatten()
        };
        if let Some(node) = node {
            self.0.trace.record(self.now(), Event::Resume { process });
            self.0.handle.resume(node);
        }
    }
}

impl State {
    fn process(&mut self, process: ProcessId) -> &mut Process {
        &mut self.processes[process.index()]
    }
}

/// One life of a process. `boot` is called when the life is first polled, outside the executor's locks.
fn live(weak: Weak<Inner>, process: ProcessId) -> impl Future<Output = ()> {
    let begun = weak.upgrade().map(|inner| {
        let world = World(inner);
        let life = world.life(process);
        let boot = world.state().process(process).boot.clone();
        (life, boot)
    });
    async move {
        let Some((life, Some(boot))) = begun else { return };
        let outcome = CatchPanic(Box::pin(async move { boot(life).await })).await;
        if let Some(inner) = weak.upgrade() {
            World(inner).life_ended(life, outcome);
        }
    }
}

/// The driver: the only sleeper that the executor knows.
fn drive(weak: Weak<Inner>) -> impl Future<Output = ()> {
    // Deadlines of executor timers that are still to fire. They cannot be cancelled, so a new one is made only for something earlier.
    let mut armed = BTreeSet::new();
    poll_fn(move |context| {
        let Some(inner) = weak.upgrade() else { return Poll::Ready(()) };
        let world = World(inner);
        let now = world.now();
        armed = armed.split_off(&(now + 1));
        world.work(now);
        if now >= world.0.limit {
            world.fail(Failure::TimeLimit { limit: world.0.limit });
            return Poll::Pending;
        }
        let next = world.next_deadline().unwrap_or(Nanos::MAX).min(world.0.limit).max(now + 1);
        world.0.timers.park_driver(context.waker().clone(), next);
        if armed.first().is_none_or(|&earliest| next < earliest) {
            arm(next - now, context);
            armed.insert(next);
        }
        Poll::Pending
    })
}

/// Has the executor wake us after `delay`. Only a reset timer may be shorter than a millisecond.
fn arm(delay: Nanos, context: &mut Context<'_>) {
    let now = TimeHandle::current().now_instant();
    let mut sleep = pin!(madsim::time::sleep(Duration::ZERO));
    sleep.as_mut().reset(now + Duration::from_nanos(delay));
    let _pending = sleep.poll(context);
}

#[cfg(test)]
mod tests;
