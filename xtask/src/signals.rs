//! What an operator says by signals: Ctrl-C (stop, keep what is there), SIGUSR1 (say what runs).
//!
//! Workers run in process groups of their own, so that Ctrl-C in a terminal reaches only the command: what is under way
//! ends by itself and is counted. A second Ctrl-C kills the workers too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::exit::Failure;

/// What has been said so far. Clones hear the same.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Set by the handler, taken by whoever looks.
    interrupted: Arc<AtomicBool>,
    interrupts: Arc<AtomicUsize>,
    asked: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on.
    #[cfg(unix)]
    pub fn install() -> Result<Signals, Failure> {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

        let signals = Signals::default();
        let cannot = |error| Failure::io("listen for", "signals", &error);
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, signals.interrupted.clone()).map_err(cannot)?;
        }
        signal_hook::flag::register(SIGUSR1, signals.asked.clone()).map_err(cannot)?;
        Ok(signals)
    }

    #[cfg(not(unix))]
    pub fn install() -> Result<Signals, Failure> {
        Ok(Signals::default())
    }

    /// Somebody wants this to end, keeping what is there.
    pub fn is_interrupted(&self) -> bool {
        self.interrupts() > 0
    }

    /// Somebody wants this to end now.
    pub fn is_impatient(&self) -> bool {
        self.interrupts() > 1
    }

    /// How often somebody has, counting what the handler left since the last look.
    fn interrupts(&self) -> usize {
        if self.interrupted.swap(false, Ordering::Relaxed) {
            self.interrupts.fetch_add(1, Ordering::Relaxed);
        }
        self.interrupts.load(Ordering::Relaxed)
    }

    /// Whether somebody has asked what runs since the last call.
    pub fn take_question(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interrupt_asks_and_a_second_one_insists() {
        let signals = Signals::default();
        assert!(!signals.is_interrupted());
        signals.interrupted.store(true, Ordering::Relaxed);
        assert!(signals.is_interrupted() && !signals.is_impatient());
        signals.interrupted.store(true, Ordering::Relaxed);
        assert!(signals.clone().is_impatient());
        signals.asked.store(true, Ordering::Relaxed);
        assert!(signals.take_question() && !signals.take_question());
    }
}
