//! Simulated time, and the one heap of wake-ups.
//!
//! The executor underneath cannot cancel a timer and does not fire below a millisecond, so nothing here gives it one timer per sleeper. All
//! sleepers live in [`Timers`], ordered by deadline and then by arrival; a single driver (in the world) is woken at the earliest deadline of
//! timers, network and faults, and fires what is due. Whoever brings an earlier deadline [nudges](Timers::nudge), which has the executor wake the
//! driver then; the driver itself does not run for that. Dropping a [`Sleep`] removes its entry, so memory is bounded by the sleepers alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::sync::lock;

/// Simulated nanoseconds since the start of the run.
pub type Nanos = u64;

/// Nanoseconds in a microsecond.
pub const MICROS: Nanos = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLIS: Nanos = 1_000_000;
/// Nanoseconds in a second.
pub const SECONDS: Nanos = 1_000_000_000;

/// `1.204512 s`: how an instant is printed, in seconds with microseconds.
pub fn in_seconds(at: Nanos) -> String {
    format!("{}.{:06} s", at / SECONDS, at % SECONDS / MICROS)
}

/// Reads an instant as it is printed or typed: `1.204512 s`, `3.2s`, `850ms`.
pub fn parse_instant(text: &str) -> Result<Nanos, String> {
    let wrong = || format!("`{text}` is no simulated time; write seconds or milliseconds, as in 3.2s or 850ms");
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, MILLIS),
        (None, Some(number)) => (number, SECONDS),
        (None, None) => return Err(wrong()),
    };
    let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
    let digits = |digits: &str| !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let number = |digits: &str| digits.parse::<Nanos>().map_err(|_| wrong());
    Ok(number(whole)? * unit + number(part)? * unit / 10_u64.pow(part.len() as u32))
}

/// The sleepers of a run, and its clock. Cheap to clone.
#[derive(Clone)]
pub struct Timers(Arc<Shared>);

struct Shared {
    now: Box<dyn Fn() -> Nanos + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sleepers: BTreeMap<(Nanos, u64), Waker>,
    arrivals: u64,
    driver: Option<Driver>,
}

struct Driver {
    waker: Waker,
    arm: Arm,
    /// When the executor will wake the driver: it cannot be told not to.
    armed: BTreeSet<Nanos>,
}

/// Has the executor wake the driver at an instant.
pub type Arm = Arc<dyn Fn(Nanos, &Waker) + Send + Sync>;

impl Timers {
    /// Timers over the given clock, which never goes back.
    pub fn new(now: impl Fn() -> Nanos + Send + Sync + 'static) -> Timers {
        Timers(Arc::new(Shared { now: Box::new(now), state: Mutex::default() }))
    }

    /// Timers whose clock is moved by hand, for tests without an executor.
    pub fn manual() -> (Timers, ManualTime) {
        let time = ManualTime::default();
        let read = time.clone();
        (Timers::new(move || read.0.load(Ordering::Relaxed)), time)
    }

    /// Now.
    pub fn now(&self) -> Nanos {
        (self.0.now)()
    }

    /// Waits until `deadline`; any resolution, no minimum.
    pub fn sleep_until(&self, deadline: Nanos) -> Sleep {
        Sleep { timers: self.clone(), deadline, entry: None }
    }

    /// Waits for `duration`.
    pub fn sleep(&self, duration: Nanos) -> Sleep {
        self.sleep_until(self.now().saturating_add(duration))
    }

    /// The earliest deadline of a sleeper.
    pub fn next_deadline(&self) -> Option<Nanos> {
        lock(&self.0.state).sleepers.keys().next().map(|&(deadline, _)| deadline)
    }

    /// Wakes every sleeper whose deadline has passed, in the order of their deadlines.
    pub fn fire_due(&self, now: Nanos) {
        loop {
            // One at a time and outside the lock: waking may run code that comes back here.
            let waker = {
                let mut state = lock(&self.0.state);
                match state.sleepers.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    /// The driver goes to sleep, to be woken by way of `arm` for every deadline that it is [nudged](Timers::nudge) for.
    pub fn park_driver(&self, waker: &Waker, arm: &Arm) {
        let now = self.now();
        let mut state = lock(&self.0.state);
        match &mut state.driver {
            None => {
                state.driver = Some(Driver { waker: waker.clone(), arm: arm.clone(), armed: BTreeSet::new() });
            }
            Some(driver) => {
                while driver.armed.first().is_some_and(|&first| first <= now) {
                    driver.armed.pop_first();
                }
                if !driver.waker.will_wake(waker) {
                    driver.waker = waker.clone();
                }
            }
        }
    }

    /// Something falls due at `deadline`: the driver will be awake then.
    pub fn nudge(&self, deadline: Nanos) {
        let (at, waker, arm) = {
            let mut state = lock(&self.0.state);
            let Some(driver) = &mut state.driver else { return };
            if driver.armed.first().is_some_and(|&first| first <= deadline) {
                return;
            }
            driver.armed.insert(deadline);
            (deadline, driver.waker.clone(), driver.arm.clone())
        };
        arm(at, &waker);
    }

    /// The driver is gone: nobody is woken any more.
    pub fn retire_driver(&self) {
        let driver = lock(&self.0.state).driver.take();
        drop(driver);
    }

    /// Sleepers alive: the measure for "nothing leaks".
    pub fn sleeper_count(&self) -> usize {
        lock(&self.0.state).sleepers.len()
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timers({} sleepers)", self.sleeper_count())
    }
}

/// The clock of [`Timers::manual`].
#[derive(Clone, Debug, Default)]
pub struct ManualTime(Arc<AtomicU64>);

impl ManualTime {
    /// Sets the time. Panics if it went back.
    pub fn set(&self, now: Nanos) {
        let before = self.0.swap(now, Ordering::Relaxed);
        assert!(before <= now, "time went back from {before} to {now}");
    }
}

/// A pending wake-up. Completes at or after its deadline.
#[derive(Debug)]
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep {
    timers: Timers,
    deadline: Nanos,
    entry: Option<(Nanos, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        let (key, replaced) = {
            let mut state = lock(&self.timers.0.state);
            let key = self.entry.unwrap_or_else(|| {
                state.arrivals += 1;
                (deadline, state.arrivals)
            });
            (key, state.sleepers.insert(key, context.waker().clone()))
        };
        drop(replaced);
        self.entry = Some(key);
        self.timers.nudge(deadline);
        Poll::Pending
    }
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(key) = self.entry.take() {
            let waker = lock(&self.timers.0.state).sleepers.remove(&key);
            drop(waker);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU64);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeper_is_woken_at_its_deadline_and_not_before() {
        let (timers, time) = Timers::manual();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let mut sleep = pin!(timers.sleep(500));
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(timers.next_deadline(), Some(500));
        time.set(499);
        timers.fire_due(499);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        time.set(500);
        timers.fire_due(500);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(sleep.as_mut().poll(&mut context).is_ready());
        assert_eq!(timers.sleeper_count(), 0);
    }

    #[test]
    fn a_dropped_sleeper_leaves_nothing_behind() {
        let (timers, _time) = Timers::manual();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut sleep = pin!(timers.sleep(500));
            for _ in 0..3 {
                assert!(sleep.as_mut().poll(&mut context).is_pending());
            }
            assert_eq!(timers.sleeper_count(), 1);
        }
        assert_eq!(timers.sleeper_count(), 0);
    }

    #[test]
    fn the_driver_is_armed_only_for_something_earlier() {
        let (timers, time) = Timers::manual();
        let armed = Arc::new(Mutex::new(Vec::new()));
        let keep = armed.clone();
        let arm: Arm = Arc::new(move |at, _| lock(&keep).push(at));
        timers.nudge(5);
        timers.park_driver(Waker::noop(), &arm);
        for deadline in [1000, 1000, 1001, 999, 998, 999] {
            timers.nudge(deadline);
        }
        assert_eq!(*lock(&armed), [1000, 999, 998]);
        time.set(998);
        timers.park_driver(Waker::noop(), &arm);
        timers.nudge(1500);
        timers.nudge(998);
        assert_eq!(*lock(&armed), [1000, 999, 998, 998], "999 is still to come, 998 is over");
        timers.retire_driver();
        timers.nudge(1);
        assert_eq!(lock(&armed).len(), 4);
    }

    #[test]
    fn instants_are_printed_in_seconds() {
        assert_eq!(in_seconds(1_204_512_999), "1.204512 s");
        for (text, at) in [("1.204512 s", 1_204_512_000), ("3.2s", 3_200_000_000), ("850ms", 850 * MILLIS), ("0s", 0)] {
            assert_eq!(parse_instant(text), Ok(at), "{text}");
        }
        for text in ["", "s", "3", "1.s", "-1s", "1.5.5s", "1e3s", "9999999999s"] {
            assert!(parse_instant(text).expect_err(text).contains("as in 3.2s"), "{text}");
        }
    }
}
