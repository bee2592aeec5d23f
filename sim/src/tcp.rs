//! Simulated TCP: streams of bytes between processes, made of the [`net`](crate::net) fabric's frames.
//!
//! Each life of a process has one [`Tcp`], which does what an operating system does for it: it numbers bytes, sends again
//! what was not confirmed, puts in order what came out of order, and holds a writer back whose reader is behind. All that
//! befalls frames befalls segments, so that loss and reordering cost time, a cut link leaves both ends in the dark for as long
//! as it lasts, and a crash is noticed only by whoever next hears from the process's next life, which knows nothing of the
//! connection and resets it. It goes on while the process is paused, as an operating system does, until there is no room.
//!
//! A process is an address, and has one place where it listens. Not handled: ports, congestion, closing one direction alone,
//! keeping a connection alive that has nothing to say, and giving one up that somebody still holds.

mod connection;
mod segment;
#[cfg(all(test, madsim))]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use self::connection::{Attempt, Connection, Phase};
pub use self::connection::{BUFFER_BYTES, SEGMENT_BYTES};
pub use self::segment::describe;
use self::segment::{Body, Segment};
use crate::net::{Endpoint, Recv};
use crate::process::{Incarnation, ProcessId};
use crate::sync::lock;
use crate::time::{Nanos, Timers};

/// The TCP of one life of a process. Clones are the same.
#[derive(Clone)]
pub struct Tcp(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    timers: Timers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: BTreeMap<Id, Connection>,
    dialled: u64,
    listening: bool,
    /// Opened by others, and not accepted yet.
    arrived: VecDeque<Id>,
    acceptor: Option<Waker>,
    /// Of [`Serve`], and until when it waits.
    server: Option<Waker>,
    served_at: Nanos,
}

/// A connection, as one end knows it: a number is its dialler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    peer: ProcessId,
    dialled_here: bool,
    number: u64,
}

/// What is to be done when the state is no longer locked.
#[derive(Default)]
struct Effects {
    segments: Vec<(ProcessId, Segment)>,
    woken: Vec<Waker>,
}

impl Effects {
    fn send(&mut self, id: Id, bodies: Vec<Body>) {
        let segment = |body| (id.peer, Segment { from_dialler: id.dialled_here, number: id.number, body });
        self.segments.extend(bodies.into_iter().map(segment));
    }
}

impl State {
    /// Lets something happen to a connection, which is forgotten if that was its end.
    fn on<T>(
        &mut self,
        id: Id,
        effects: &mut Effects,
        happen: impl FnOnce(&mut Connection, &mut Vec<Body>) -> T,
    ) -> Option<T> {
        let connection = self.connections.get_mut(&id)?;
        let mut bodies = Vec::new();
        let result = happen(connection, &mut bodies);
        effects.send(id, bodies);
        effects.woken.append(&mut connection.woken);
        if connection.is_over() {
            self.connections.remove(&id);
        }
        Some(result)
    }

    fn arrives(&mut self, now: Nanos, id: Id, body: Body, effects: &mut Effects) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.phase == Phase::Offered && !matches!(body, Body::Open) {
                if body == Body::Reset {
                    self.connections.remove(&id);
                    return;
                }
                connection.phase = Phase::Open;
                self.arrived.push_back(id);
                effects.woken.extend(self.acceptor.take());
            }
            self.on(id, effects, |connection, out| connection.on(now, body, out));
            return;
        }
        let mut bodies = Vec::new();
        match body {
            Body::Open if self.listening && !id.dialled_here => {
                self.connections.insert(id, Connection::offer(&mut bodies));
            }
            Body::Reset => {}
            _ => bodies.push(Body::Reset),
        }
        effects.send(id, bodies);
    }

    fn deadline(&self) -> Nanos {
        self.connections.values().filter_map(Connection::deadline).min().unwrap_or(Nanos::MAX)
    }
}

impl Tcp {
    /// Over this endpoint, all of whose frames are its own from now on. Nothing arrives unless [`Tcp::serve`] runs.
    pub fn new(endpoint: Endpoint, timers: Timers) -> Tcp {
        Tcp(Arc::new(Shared { endpoint, timers, state: Mutex::default() }))
    }

    /// Whose it is.
    pub fn life(&self) -> Incarnation {
        self.0.endpoint.life()
    }

    /// Does the work, until that life is over. To be spawned beside the process, which may be paused.
    pub fn serve(&self) -> Serve {
        Serve { tcp: self.clone(), recv: None }
    }

    /// Lets others in. Panics if somebody does so already.
    pub fn listen(&self) -> Listener {
        let was_listening = std::mem::replace(&mut lock(&self.0.state).listening, true);
        assert!(!was_listening, "a process has one place where it listens");
        Listener(self.clone())
    }

    /// Opens a connection. Waits until it is open, or refused, for as long as the caller does.
    pub async fn connect(&self, to: ProcessId) -> io::Result<Stream> {
        let id = self.with(|state, now, effects| {
            state.dialled += 1;
            let number = u64::from(self.life().number) << 32 | state.dialled;
            let id = Id { peer: to, dialled_here: true, number };
            let mut bodies = Vec::new();
            state.connections.insert(id, Connection::dial(now, &mut bodies));
            effects.send(id, bodies);
            id
        });
        let stream = Stream { tcp: self.clone(), id };
        poll_fn(|context| {
            let mut state = lock(&self.0.state);
            let connection = state.connections.get_mut(&id).expect("the stream is held");
            match connection.phase {
                Phase::Dialling => {
                    connection.writer = Some(context.waker().clone());
                    Poll::Pending
                }
                Phase::Broken(kind) => Poll::Ready(Err(io::Error::from(kind))),
                Phase::Offered | Phase::Open => Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok(stream)
    }

    /// Changes the state, and then does what comes of it.
    fn with<T>(&self, change: impl FnOnce(&mut State, Nanos, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = {
            let mut state = lock(&self.0.state);
            let result = change(&mut state, self.0.timers.now(), &mut effects);
            if state.deadline() < state.served_at {
                effects.woken.extend(state.server.take());
            }
            result
        };
        if self.0.endpoint.is_alive() {
            effects.segments.into_iter().for_each(|(to, segment)| self.0.endpoint.send(to, segment.encode()));
        }
        effects.woken.into_iter().for_each(Waker::wake);
        result
    }

    fn attempt(
        &self,
        id: Id,
        waits: impl FnOnce(&mut Connection),
        attempt: impl FnOnce(&mut Connection, Nanos, &mut Vec<Body>) -> Attempt,
    ) -> Poll<io::Result<usize>> {
        self.with(|state, now, effects| {
            let attempted = state.on(id, effects, |connection, out| {
                let attempted = attempt(connection, now, out);
                if matches!(attempted, Attempt::Wait) {
                    waits(connection);
                }
                attempted
            });
            match attempted.expect("a stream's connection lasts as long as the stream") {
                Attempt::Done(count) => Poll::Ready(Ok(count)),
                Attempt::Wait => Poll::Pending,
                Attempt::Failed(kind) => Poll::Ready(Err(kind.into())),
            }
        })
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tcp({} connections)", lock(&self.0.state).connections.len())
    }
}

/// A pending [`Tcp::serve`].
#[derive(Debug)]
#[must_use = "nothing arrives unless it is spawned"]
pub struct Serve {
    tcp: Tcp,
    recv: Option<Recv>,
}

impl Future for Serve {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let tcp = self.tcp.clone();
        loop {
            if !tcp.0.endpoint.is_alive() {
                return Poll::Ready(());
            }
            let until = {
                let mut state = lock(&tcp.0.state);
                state.server = Some(context.waker().clone());
                state.served_at = state.deadline();
                state.served_at
            };
            let mut recv = tcp.0.endpoint.recv(until);
            let Poll::Ready(frames) = Pin::new(&mut recv).poll(context) else {
                self.recv = Some(recv);
                return Poll::Pending;
            };
            tcp.with(|state, now, effects| {
                state.served_at = 0;
                for (from, frame) in frames {
                    let segment = Segment::decode(&frame).expect("only TCP sends to TCP");
                    let id = Id { peer: from, dialled_here: !segment.from_dialler, number: segment.number };
                    state.arrives(now, id, segment.body, effects);
                }
                let due = state.connections.iter().filter(|(_, it)| it.deadline().is_some_and(|at| at <= now));
                let due: Vec<Id> = due.map(|(id, _)| *id).collect();
                for id in due {
                    state.on(id, effects, |connection, out| connection.due(now, out));
                }
            });
        }
    }
}

/// The place where a process lets others in. Without it, whoever dials is refused.
#[derive(Debug)]
pub struct Listener(Tcp);

impl Listener {
    /// The next connection, and whose it is. One waits at a time.
    pub async fn accept(&self) -> (Stream, ProcessId) {
        poll_fn(|context| {
            let mut state = lock(&self.0.0.state);
            match state.arrived.pop_front() {
                Some(id) => Poll::Ready((Stream { tcp: self.0.clone(), id }, id.peer)),
                None => {
                    state.acceptor = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let tcp = &self.0;
        tcp.with(|state, now, effects| {
            state.listening = false;
            for id in std::mem::take(&mut state.arrived) {
                state.on(id, effects, |connection, out| connection.let_go(now, out));
            }
        });
    }
}

/// One end of an open connection, which ends when this is dropped: what was written still goes out.
#[derive(Debug)]
pub struct Stream {
    tcp: Tcp,
    id: Id,
}

impl Stream {
    /// Whose the other end is.
    pub fn peer(&self) -> ProcessId {
        self.id.peer
    }

    /// Reads some bytes; 0 at the end.
    pub fn poll_read(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let waits = |connection: &mut Connection| connection.reader = Some(context.waker().clone());
        self.tcp.attempt(self.id, waits, |connection, _, out| connection.read(into, out))
    }

    /// Takes some of these bytes. They are under way when this returns, as far as there is room.
    pub fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let waits = |connection: &mut Connection| connection.writer = Some(context.waker().clone());
        self.tcp.attempt(self.id, waits, |connection, now, out| connection.write(now, bytes, out))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let id = self.id;
        self.tcp.with(|state, now, effects| state.on(id, effects, |connection, out| connection.let_go(now, out)));
    }
}
