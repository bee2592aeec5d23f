//! Bursts: operations that a client begins when something happens, such as a commit, and not when its turn comes.
//!
//! A client that a burst names does nothing else: between two of them it hears of no configuration, so that it acts on
//! one that is out of date.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use miroir_sim::plan::When;
use miroir_sim::time::Nanos;
use serde::{Deserialize, Serialize};

use crate::script::Wish;

/// What one client does when a signal is heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurstPlan {
    /// By number, from 1.
    pub client: u32,
    /// The signal, and how long after it.
    pub at: When,
    /// The client has just been started and knows no configuration. Otherwise it believes in what it saw last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Begun together.
    pub operations: Vec<Wish>,
}

/// The bursts of a run, and who waits for them. Clones share them.
#[derive(Clone, Default)]
pub struct Bursts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    planned: Vec<BurstPlan>,
    heard: BTreeMap<String, u32>,
    due: BTreeMap<u32, VecDeque<(Nanos, usize)>>,
    waiting: BTreeMap<u32, Waker>,
    armed: bool,
    over: bool,
}

impl Bursts {
    pub fn new(planned: &[BurstPlan]) -> Bursts {
        Bursts(Arc::new(Mutex::new(State { planned: planned.to_vec(), ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while a burst is looked up")
    }

    /// Signals count from here on.
    pub fn arm(&self) {
        self.state().armed = true;
    }

    /// Something happened: the bursts that wait for this occurrence of it become due.
    pub fn hear(&self, now: Nanos, signal: &str) {
        let mut guard = self.state();
        let state = &mut *guard;
        if !state.armed || state.planned.is_empty() {
            return;
        }
        let count = state.heard.entry(signal.to_owned()).or_default();
        *count += 1;
        let mut wakers = Vec::new();
        for (number, burst) in state.planned.iter().enumerate() {
            if let When::Signal { name, nth, after } = &burst.at
                && name == signal
                && nth == count
            {
                state.due.entry(burst.client).or_default().push_back((now + after, number));
                wakers.extend(state.waiting.remove(&burst.client));
            }
        }
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The next burst of a client and when it is due, once that is known; `None` when there are no more.
    pub fn next(&self, client: u32) -> impl Future<Output = Option<(Nanos, BurstPlan)>> + use<> {
        let bursts = self.clone();
        poll_fn(move |context| {
            let mut state = bursts.state();
            if let Some((at, number)) = state.due.get_mut(&client).and_then(VecDeque::pop_front) {
                return Poll::Ready(Some((at, state.planned[number].clone())));
            }
            if state.over {
                return Poll::Ready(None);
            }
            state.waiting.insert(client, context.waker().clone());
            Poll::Pending
        })
    }

    /// There are no more.
    pub fn end(&self) {
        let waiting = {
            let mut state = self.state();
            state.over = true;
            state.due.clear();
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_sim::time::MICROS;

    fn burst(client: u32, nth: u32) -> BurstPlan {
        let at = When::Signal { name: "commit".to_owned(), nth, after: 5 * MICROS };
        let operations = vec!["put 3".parse().expect("an operation")];
        BurstPlan { client, at, fresh: false, operations }
    }

    #[test]
    fn a_burst_is_due_after_its_occurrence_of_the_signal() {
        let bursts = Bursts::new(&[burst(1, 2), burst(2, 1)]);
        let next = |client| {
            let mut context = std::task::Context::from_waker(Waker::noop());
            Box::pin(bursts.next(client)).as_mut().poll(&mut context)
        };
        bursts.hear(1, "commit");
        assert!(next(2).is_pending(), "it was not armed");
        bursts.arm();
        bursts.hear(10, "commit");
        bursts.hear(15, "other");
        assert_eq!(next(2), Poll::Ready(Some((5_010, burst(2, 1)))));
        assert!(next(1).is_pending());
        bursts.hear(20, "commit");
        assert_eq!(next(1), Poll::Ready(Some((5_020, burst(1, 2)))));
        bursts.end();
        assert_eq!(next(1), Poll::Ready(None));
    }
}
