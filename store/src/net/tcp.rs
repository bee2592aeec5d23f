//! The store's [`Net`] over TCP.
//!
//! Every process with a name (a node, the coordinator) has a *door*, where it listens. Whoever has something to say to
//! it dials, and says it on that connection, which is his own; answers come back on the answerer's own connection.
//! Only clients, who have no door, are answered on the connection that they opened. A connection begins with a
//! handshake (`handshake`): who is there, of which cluster, speaking which versions, and, where a key is shared, proof
//! of it. Then frames follow, each with its length in front, sealed where there is a key (`seal`).
//!
//! Nothing here waits for a peer. What cannot be delivered is a lost frame, as it is in the simulator: queues are
//! bounded by frames and bytes (`queue`), what waited too long is thrown away, a link that breaks is dialled again
//! after a pause that grows. A reader whose process is behind stops reading, so that TCP slows the sender down.
//!
//! Where connections come from is behind a trait ([`sockets`]): the operating system's TCP, or that of a simulator, in
//! which all of this runs as it is.
//!
//! Addresses are learned (`book`): the coordinator's word counts, everybody else passes it on.
//!
//! Not handled here: what frames mean, and repeating those that were lost.

mod book;
mod door;
mod handshake;
mod link;
mod noise;
#[cfg(not(madsim))]
pub mod os;
#[cfg(not(madsim))]
pub mod ports;
mod queue;
mod seal;
pub mod sockets;
mod stats;
#[cfg(all(test, not(madsim)))]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::env::{BoxFuture, Clock, Nanos, Net, Peer};
use crate::id::NodeId;
use crate::net::key::SharedKey;
use crate::wire::MAX_FRAME_BYTES;

pub use book::Book;
pub use handshake::HandshakeError;
#[cfg(not(madsim))]
pub use handshake::dialler;
use queue::{Inbox, Outbox};
use sockets::Sockets;
pub use stats::Stats;

/// What a process lets others take of its memory and its time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time, besides those in their handshake; one more is refused.
    pub connections: usize,
    /// Of them, those that are kept for peers with a name, however many clients come.
    pub reserved: usize,
    /// Connections at a time whose handshake is not over; one more is closed at once.
    pub handshakes: usize,
    /// From the first byte of a connection to the end of its handshake.
    pub handshake: Duration,
    /// Bytes that wait to be received or are being read: one half from clients, one from peers with a name. Readers wait
    /// for room before they read.
    pub inbox_bytes: usize,
    /// From the head of a frame to its end.
    pub frame_time: Duration,
    /// Bytes and frames that wait for one peer; one more is lost.
    pub outbox_bytes: usize,
    pub outbox_frames: usize,
    /// Bytes that wait for all peers together.
    pub outboxes_bytes: usize,
    /// A frame that waited longer is lost: its sender has asked again, or given up.
    pub frame_age: Duration,
    /// A connection with nothing to say says so this often.
    pub heartbeat: Duration,
    /// A connection that says nothing, or takes nothing, for this long is given up.
    pub silence: Duration,
    /// Pauses between attempts to reach a peer: the first, and the longest.
    pub pause: Duration,
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            reserved: 64,
            handshakes: 64,
            handshake: Duration::from_secs(3),
            inbox_bytes: 4 * MAX_FRAME_BYTES,
            frame_time: Duration::from_secs(30),
            outbox_bytes: 2 * MAX_FRAME_BYTES,
            outbox_frames: 16_384,
            outboxes_bytes: 12 * MAX_FRAME_BYTES,
            frame_age: Duration::from_secs(2),
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
        }
    }
}

/// How a process takes part.
#[derive(Clone, Debug)]
pub struct Options {
    pub me: Peer,
    /// Processes of different clusters do not talk to each other.
    pub cluster: String,
    /// Where the door is; clients have none.
    pub listen: Option<SocketAddr>,
    /// Without a key, only loopback addresses are listened on and dialled.
    pub key: Option<SharedKey>,
    /// Whom this process can reach before anybody has told it more.
    pub book: Book,
    /// The newest wire version to speak, which others may not know yet; the oldest is always spoken.
    pub newest_wire: u8,
    pub limits: Limits,
}

/// Why a process cannot take part.
#[derive(Debug, Error)]
pub enum NetError {
    #[error(
        "{address} can be reached from other machines, and there is no shared key; listen on a loopback address, or give \
         every process of the cluster the same key_file (`miroir key` prints a key)"
    )]
    NeedsKey { address: SocketAddr },
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("nobody of the cluster answers: {}", .why.join("; "))]
    Nobody { why: Vec<String> },
}

/// This process's end of the network.
#[derive(Clone)]
pub struct TcpNet {
    shared: Arc<Shared>,
    listens_on: Option<SocketAddr>,
}

/// What all tasks of one network know.
struct Shared {
    me: Peer,
    cluster: String,
    key: Option<SharedKey>,
    newest_wire: u8,
    limits: Limits,
    clock: Arc<dyn Clock>,
    sockets: Arc<dyn Sockets>,
    runtime: Handle,
    inbox: Inbox,
    /// The peers this process dials, by name.
    links: Mutex<BTreeMap<Peer, Arc<Outbox>>>,
    /// The clients that have dialled this process, by the number they were given.
    guests: Mutex<BTreeMap<u64, Arc<Outbox>>>,
    last_guest: AtomicU64,
    book: watch::Sender<Book>,
    closing: watch::Sender<bool>,
    stats: Arc<Stats>,
    queued_bytes: Arc<AtomicU64>,
    complained_at: Mutex<Option<Nanos>>,
}

/// A panic elsewhere leaves queues and maps as sound as it found them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn address(&self, peer: Peer) -> Option<String> {
        self.book.borrow().address(peer).map(str::to_owned)
    }

    fn outbox(&self) -> Arc<Outbox> {
        Arc::new(Outbox::new(&self.limits, self.clock.clone(), self.stats.clone(), self.queued_bytes.clone()))
    }

    /// Takes in the addresses that `from` knows.
    fn take_book(&self, from: Peer, told: Book) {
        self.book.send_if_modified(|book| book.take(from, told));
    }

    /// Whether somebody who was turned away is to be mentioned: strangers shall not fill the log.
    fn may_complain(&self) -> bool {
        let now = self.clock.now();
        let mut last = lock(&self.complained_at);
        let due = last.is_none_or(|at| now.saturating_sub(at) >= crate::env::millis(1_000));
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether `address` may be talked to: other machines only under a key.
    fn permits(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() || self.key.is_some()
    }
}

impl TcpNet {
    /// Opens the door, if there is to be one. Must be called inside a runtime.
    pub async fn start(options: Options, clock: Arc<dyn Clock>, sockets: Arc<dyn Sockets>) -> Result<TcpNet, NetError> {
        let Options { me, cluster, listen, key, book, newest_wire, limits } = options;
        let stats = Arc::new(Stats::default());
        let shared = Arc::new(Shared {
            me,
            cluster,
            key,
            newest_wire,
            inbox: Inbox::new(&limits),
            limits,
            clock,
            sockets,
            runtime: Handle::current(),
            links: Mutex::default(),
            guests: Mutex::default(),
            last_guest: AtomicU64::new(0),
            book: watch::Sender::new(book),
            closing: watch::Sender::new(false),
            stats,
            queued_bytes: Arc::default(),
            complained_at: Mutex::default(),
        });
        let listens_on = match listen {
            Some(address) if !shared.permits(address) => return Err(NetError::NeedsKey { address }),
            Some(address) => Some(door::open(&shared, address).await?),
            None => None,
        };
        Ok(TcpNet { shared, listens_on })
    }

    /// Where the door is.
    pub fn listens_on(&self) -> Option<SocketAddr> {
        self.listens_on
    }

    /// Asks the processes at these addresses, one after another, for the addresses of the cluster. Returns who told.
    pub async fn meet(&self, addresses: &[String]) -> Result<Peer, NetError> {
        let mut why = Vec::new();
        for address in addresses {
            match link::meet(&self.shared, address).await {
                Ok(peer) => return Ok(peer),
                Err(error) => why.push(format!("{address}: {error}")),
            }
        }
        Err(NetError::Nobody { why })
    }

    /// Everybody's address, as far as it is known.
    pub fn book(&self) -> Book {
        self.shared.book.borrow().clone()
    }

    /// Follows the addresses as they become known.
    pub fn watch_book(&self) -> watch::Receiver<Book> {
        self.shared.book.subscribe()
    }

    /// What the coordinator has decided; everybody who is connected is told.
    pub fn publish(&self, book: Book) {
        self.shared.book.send_replace(book);
    }

    /// As [`TcpNet::publish`], with the coordinator where it was.
    pub fn publish_members(&self, revision: u64, nodes: BTreeMap<NodeId, String>) {
        self.publish(Book { revision, nodes, ..self.book() });
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// Lets what is queued go out, for at most `grace`; then every connection is closed.
    pub async fn close(&self, grace: Duration) {
        let all_sent = async {
            while self.shared.queued_bytes.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _late = tokio::time::timeout(grace, all_sent).await;
        self.shared.closing.send_replace(true);
    }
}

impl Net for TcpNet {
    fn send(&self, to: Peer, frame: Vec<u8>) {
        if frame.len() > MAX_FRAME_BYTES {
            tracing::error!(%to, bytes = frame.len(), limit = MAX_FRAME_BYTES, "a frame is too long to be sent");
            return self.shared.stats.lost_full(1);
        }
        let outbox = match to {
            Peer::Client(number) => lock(&self.shared.guests).get(&number).cloned(),
            peer => Some(link::to(&self.shared, peer)),
        };
        match outbox {
            Some(outbox) => outbox.push(frame),
            None => self.shared.stats.lost_unreachable(1),
        }
    }

    fn recv(&self, until: Nanos) -> BoxFuture<'_, Vec<(Peer, Vec<u8>)>> {
        Box::pin(async move {
            let arrival = self.shared.inbox.take();
            if until == Nanos::MAX {
                return arrival.await;
            }
            let wait = Duration::from_nanos(until.saturating_sub(self.shared.clock.now()));
            tokio::time::timeout(wait, arrival).await.unwrap_or_default()
        })
    }
}
