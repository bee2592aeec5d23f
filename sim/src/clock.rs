//! What a process believes the time to be: offset, drift and jumps on top of simulated time.

use std::sync::{Arc, Mutex};

use crate::sync::lock;
use crate::time::{Nanos, Sleep, Timers};

/// The clock of one process. Clones show the same time. It may jump back; it never falls below zero.
#[derive(Clone, Debug)]
pub struct ProcessClock {
    timers: Timers,
    /// Local time is a line through (`at`, `local`) with slope `1 + drift_ppm / 1e6`.
    line: Arc<Mutex<Line>>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    at: Nanos,
    local: i128,
    drift_ppm: i64,
}

impl Line {
    fn read(self, now: Nanos) -> i128 {
        let elapsed = i128::from(now) - i128::from(self.at);
        self.local + elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000
    }
}

impl ProcessClock {
    /// A clock that is right.
    pub fn new(timers: Timers) -> ProcessClock {
        ProcessClock { timers, line: Arc::new(Mutex::new(Line { at: 0, local: 0, drift_ppm: 0 })) }
    }

    /// Local nanoseconds.
    pub fn now(&self) -> Nanos {
        let local = lock(&self.line).read(self.timers.now());
        u64::try_from(local.max(0)).unwrap_or(u64::MAX)
    }

    /// Moves the clock by `by_ns` from now on.
    pub fn jump(&self, by_ns: i64) {
        self.rebase(|line| line.local += i128::from(by_ns));
    }

    /// Lets the clock run `ppm` millionths too fast (negative: too slow) from now on. Panics outside ±500,000.
    pub fn drift(&self, ppm: i64) {
        assert!(ppm.abs() <= 500_000, "a drift of {ppm} ppm is outside ±500000");
        self.rebase(|line| line.drift_ppm = ppm);
    }

    /// Sets the clock right again.
    pub fn repair(&self) {
        let now = self.timers.now();
        *lock(&self.line) = Line { at: now, local: i128::from(now), drift_ppm: 0 };
    }

    /// Waits until the clock, as it runs now, shows `local`. A later jump does not change a wait that has begun, as with monotonic timers.
    pub fn sleep_until(&self, local: Nanos) -> Sleep {
        let line = *lock(&self.line);
        let now = self.timers.now();
        let missing = (i128::from(local) - line.read(now)).max(0);
        let true_ns = missing * 1_000_000 / (1_000_000 + i128::from(line.drift_ppm));
        self.timers.sleep(u64::try_from(true_ns).unwrap_or(u64::MAX))
    }

    fn rebase(&self, change: impl FnOnce(&mut Line)) {
        let now = self.timers.now();
        let mut line = lock(&self.line);
        *line = Line { at: now, local: line.read(now), drift_ppm: line.drift_ppm };
        change(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECONDS;

    #[test]
    fn jumps_and_drifts_from_now_on() {
        let (timers, time) = Timers::manual();
        let clock = ProcessClock::new(timers);
        time.set(10 * SECONDS);
        assert_eq!(clock.now(), 10 * SECONDS);
        clock.jump(-3 * SECONDS as i64);
        assert_eq!(clock.now(), 7 * SECONDS);
        clock.drift(100_000);
        time.set(20 * SECONDS);
        assert_eq!(clock.now(), 18 * SECONDS, "ten seconds ran as eleven");
        clock.jump(-100 * SECONDS as i64);
        assert_eq!(clock.now(), 0);
        clock.repair();
        assert_eq!(clock.now(), 20 * SECONDS);
    }
}
