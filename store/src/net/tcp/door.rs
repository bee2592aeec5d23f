//! Where others come in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::handshake::{self, HandshakeError};
use super::link::{Side, talk};
use super::sockets::{Listener, Reader, Writer};
use super::{Limits, NetError, Shared, lock};
use crate::env::Peer;

/// Between two attempts to accept, after one failed: for want of file descriptors, for instance.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens, and returns where.
pub(super) async fn open(shared: &Arc<Shared>, address: SocketAddr) -> Result<SocketAddr, NetError> {
    let failed = |error| NetError::Listen { address, error };
    let listener = shared.sockets.listen(address).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    let serving = serve(shared.clone(), listener);
    let mut closing = shared.closing.subscribe();
    shared.runtime.spawn(async move {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => {}
            () = serving => {}
        }
    });
    Ok(bound)
}

/// Places for connections. Some are kept for peers with a name: whoever runs a cluster gets in though clients hold all
/// that they may.
#[derive(Clone)]
struct Places {
    open: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
}

impl Places {
    fn new(limits: &Limits) -> Places {
        let open = limits.connections.saturating_sub(limits.reserved);
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Places { open: semaphore(open), reserved: semaphore(limits.connections - open) }
    }

    /// A place for this peer, if there is one; free again when it is dropped.
    fn take(&self, peer: Peer) -> Option<OwnedSemaphorePermit> {
        let open = || self.open.clone().try_acquire_owned().ok();
        match peer {
            Peer::Client(_) => open(),
            Peer::Node(_) | Peer::Coordinator => self.reserved.clone().try_acquire_owned().ok().or_else(open),
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: Box<dyn Listener>) {
    let places = Places::new(&shared.limits);
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes));
    loop {
        let (reader, writer, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(handshake) = handshakes.clone().try_acquire_owned() else {
            shared.stats.refused_limit(1);
            if shared.may_complain() {
                tracing::warn!(%address, "turned away: too many connections in their handshake");
            }
            continue;
        };
        let places = places.clone();
        let mut closing = shared.closing.subscribe();
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {}
                () = let_in(&shared, reader, writer, address, handshake, &places) => {}
            }
        });
    }
}

async fn let_in(
    shared: &Arc<Shared>,
    reader: Reader,
    writer: Writer,
    address: SocketAddr,
    handshake: OwnedSemaphorePermit,
    places: &Places,
) {
    let answer = handshake::answer(reader, writer, shared.identity(), |peer| places.take(peer));
    let shaken = timeout(shared.limits.handshake, answer).await;
    drop(handshake);
    let (connection, _place) = match shaken.unwrap_or(Err(HandshakeError::Slow)) {
        Ok(let_in) => let_in,
        Err(error) => {
            shared.stats.refused(&error);
            if shared.may_complain() {
                tracing::warn!(%address, %error, "turned away");
            }
            return;
        }
    };
    shared.stats.accepted(1);
    let outbox = shared.outbox();
    match connection.peer {
        Peer::Client(_) => {
            let number = 1 + shared.last_guest.fetch_add(1, Ordering::Relaxed);
            lock(&shared.guests).insert(number, outbox.clone());
            let _leaves = Leaves { shared, number };
            let from = if mutant!("M58") { number.max(2) - 1 } else { number };
            let end = talk(shared, connection, Peer::Client(from), &outbox, Side::Door).await;
            tracing::debug!(client = number, %address, %end, "a client has gone");
        }
        // Answers to a peer with a name go out on this process's own connection to it.
        peer => {
            let end = talk(shared, connection, peer, &outbox, Side::Door).await;
            tracing::debug!(%peer, %address, %end, "a peer's connection ended");
        }
    }
}

/// Forgets a client when its connection ends, however it ends.
struct Leaves<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        lock(&self.shared.guests).remove(&self.number);
    }
}
