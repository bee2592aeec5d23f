//! Panics inside a run are findings, not noise: they are caught, kept with their place, and not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

/// What a panic said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    pub message: String,
    pub location: Option<String>,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// From now on, panics on this thread are kept instead of printed. Other threads keep the hook they had.
pub(crate) fn keep_on_this_thread() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                return before(info);
            }
            let location = info.location().map(|place| format!("{}:{}:{}", place.file(), place.line(), place.column()));
            LAST.set(Some(Caught { message: message(info.payload()), location }));
        }));
    });
    QUIET.set(true);
}

fn message(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

/// What was caught, from the payload of `catch_unwind` and what the hook kept.
pub(crate) fn caught(payload: Box<dyn Any + Send>) -> Caught {
    LAST.take().unwrap_or_else(|| Caught { message: message(&*payload), location: None })
}

/// Runs a future and turns its panic into an error.
pub(crate) struct CatchPanic<F>(pub Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Caught>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // After a panic the future is never polled again, so what it left half done is not seen.
        match panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(caught(payload))),
        }
    }
}
