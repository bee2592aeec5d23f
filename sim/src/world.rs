//! One run: a fresh OS thread, an executor with virtual time, processes on it, and the driver that makes things happen to them.
//!
//! The driver is the only task with an executor timer. It sleeps until the earliest deadline of sleepers, frames, faults and restarts, and then
//! fires what is due. Killing a process ends its access to network and disk first (by incarnation), because its futures are dropped later.
//! The last step of a run kills everything, or its tasks would never be dropped.
//!
//! This is the only file that names the executor (`madsim`); `scenario` and `lives` only use what is wrapped here.

mod lives;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
#[cfg(test)]
use madsim::task::spawn as spawn_beside;
use madsim::time::TimeHandle;

use crate::clock::ProcessClock;
use crate::coverage::{self, Marks, Matrix};
use crate::dice::{Dice, Random};
use crate::disk::SimDisk;
use crate::fault::FaultEngine;
use crate::net::Fabric;
use crate::panics::{self, CatchPanic, Caught};
use crate::plan::SimPlan;
use crate::process::{Incarnation, ProcessId};
use crate::seed::Seed;
use crate::sync::lock;
use crate::time::{Arm, Nanos, Timers};
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
    /// Processes whose armed disk crash has gone off, with what keys the toll of it; to be killed by the driver.
    broken: Vec<(ProcessId, Option<u64>)>,
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
    /// From when to when it was dead or paused; the last span may be open.
    away: Vec<(Nanos, Option<Nanos>)>,
    restart: Restart,
    disks: Vec<SimDisk>,
    clock: ProcessClock,
    /// Faults that have their hands on the clock.
    clock_faults: u32,
}

/// The token of what a scenario does by hand.
const MANUAL: usize = usize::MAX;

/// Why a process dies whose armed disk crash has gone off.
const BROKEN: &str = "in the middle of a disk operation";

impl World {
    /// Runs `main` in a fresh world on a fresh thread, until it returns or something breaks.
    #[expect(
        clippy::disallowed_methods,
        reason = "one run, one thread: thread-local state must not pass from run to run"
    )]
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
            world.watch_marks();
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
    coverage::on_first(None);
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

    fn watch_marks(&self) {
        let (timers, trace) = (self.0.timers.clone(), self.0.trace.clone());
        let weak = Arc::downgrade(&self.0);
        // Faults that wait for a mark begin when the driver runs next, not in the middle of what reached it.
        let observer = move |name: &str| {
            let now = timers.now();
            trace.record(now, Event::Mark { name: name.into() });
            if let Some(inner) = weak.upgrade()
                && let Some(engine) = &mut lock(&inner.state).engine
            {
                engine.mark(now, name);
                engine.next_deadline().into_iter().for_each(|deadline| timers.nudge(deadline));
            }
        };
        coverage::on_first(Some(Box::new(observer)));
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
            self.kill(process, "the run is over", None);
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
        self.0.timers.retire_driver();
        let (processes, engine) = {
            let mut state = self.state();
            (std::mem::take(&mut state.processes), state.engine.take())
        };
        drop((processes, engine));
    }

    /// The executor's node for a process. Each (re)start of the node begins to [`live`].
    fn create_node(&self, process: ProcessId, name: &str) -> NodeId {
        let weak = Arc::downgrade(&self.0);
        self.0.handle.create_node().name(name).init(move || live(weak.clone(), process)).build().id()
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

/// The driver: the only task that the executor's timers wake.
fn drive(weak: Weak<Inner>) -> impl Future<Output = ()> {
    let time = TimeHandle::current();
    let arm: Arm = Arc::new(move |at, waker| wake_at(&time, at, waker));
    poll_fn(move |context| {
        let Some(inner) = weak.upgrade() else { return Poll::Ready(()) };
        let world = World(inner);
        let timers = &world.0.timers;
        let now = world.now();
        timers.park_driver(context.waker(), &arm);
        world.work(now);
        if now >= world.0.limit {
            world.fail(Failure::TimeLimit { limit: world.0.limit });
            return Poll::Pending;
        }
        timers.nudge(world.next_deadline().unwrap_or(Nanos::MAX).min(world.0.limit));
        Poll::Pending
    })
}

/// Has the executor wake `waker` at simulated time `at`, or as soon as time moves on. Only a reset timer may be shorter than a millisecond.
fn wake_at(time: &TimeHandle, at: Nanos, waker: &Waker) {
    let delay = at.saturating_sub(time.elapsed().as_nanos() as Nanos).max(1);
    let mut sleep = pin!(time.sleep(Duration::ZERO));
    sleep.as_mut().reset(time.now_instant() + Duration::from_nanos(delay));
    let _pending = sleep.poll(&mut Context::from_waker(waker));
}

#[cfg(test)]
mod tests;
