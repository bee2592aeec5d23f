//! The effects of a store that has nobody to talk to and nothing to wait for.

use crate::env::{BoxFuture, Clock, Nanos, Net, Peer};

/// Time that stands still.
pub struct Still;

impl Clock for Still {
    fn now(&self) -> Nanos {
        super::NOW
    }
}

/// There is nobody to send to: a node's question to its coordinator has no answer.
pub struct NoNet;

impl Net for NoNet {
    fn send(&self, _: Peer, _: Vec<u8>) {}

    fn recv(&self, _: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        Box::pin(std::future::pending())
    }
}
