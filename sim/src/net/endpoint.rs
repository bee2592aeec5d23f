//! The side of the network that the system under test uses: one life's way in and out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Fabric;
use crate::process::{Incarnation, ProcessId};
use crate::time::{Nanos, Sleep};

/// One life's access to the network. After that life, sends are lost and receives never complete.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) fabric: Fabric,
    pub(super) life: Incarnation,
}

impl Endpoint {
    /// Whose endpoint it is.
    pub fn life(&self) -> Incarnation {
        self.life
    }

    /// Whether that life goes on.
    pub fn is_alive(&self) -> bool {
        self.fabric.state().port(self.life.process).alive == Some(self.life.number)
    }

    /// Hands a frame to the network. Nothing is known about what becomes of it.
    pub fn send(&self, to: ProcessId, frame: Vec<u8>) {
        self.fabric.send(self.life, to, frame);
    }

    /// Waits until at least one frame is there or `until` has passed; gives all waiting frames with their senders, oldest first, maybe none.
    /// One receiver at a time. `Nanos::MAX` waits for ever.
    pub fn recv(&self, until: Nanos) -> Recv {
        let timeout = (until < Nanos::MAX).then(|| self.fabric.0.timers.sleep_until(until));
        Recv { endpoint: self.clone(), timeout }
    }
}

/// A pending [`Endpoint::recv`]. Dropping it loses nothing.
#[derive(Debug)]
#[must_use = "receives nothing unless awaited"]
pub struct Recv {
    endpoint: Endpoint,
    timeout: Option<Sleep>,
}

impl Future for Recv {
    type Output = Vec<(ProcessId, Vec<u8>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let life = self.endpoint.life;
        let replaced = {
            let mut state = self.endpoint.fabric.state();
            let port = state.port(life.process);
            if port.alive != Some(life.number) {
                return Poll::Pending; // the owner is dead and about to be dropped
            }
            if !port.inbox.is_empty() {
                return Poll::Ready(port.inbox.drain(..).map(|(from, _, frame)| (from, frame)).collect());
            }
            match &port.receiver {
                Some(receiver) if receiver.will_wake(context.waker()) => None,
                _ => port.receiver.replace(context.waker().clone()),
            }
        };
        drop(replaced);
        match &mut self.timeout {
            Some(timeout) => Pin::new(timeout).poll(context).map(|()| Vec::new()),
            None => Poll::Pending,
        }
    }
}
