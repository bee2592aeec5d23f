//! Connections: those that this process opens, and what happens on any of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::handshake::{self, Connection, HandshakeError, Identity};
use super::queue::Outbox;
use super::seal::{FrameReader, FrameWriter, Kind, STEP_BYTES};
use super::sockets::{Reader, Writer};
use super::{Book, Shared, lock};
use crate::env::Peer;
use crate::wire::{WIRE_VERSIONS, decode_record, encode_record, inward, outward};

/// Frames that share a flush.
const BURST: usize = 64;

impl Shared {
    pub(super) fn identity(&self) -> Identity<'_> {
        let wire = (WIRE_VERSIONS.0, self.newest_wire);
        Identity { me: self.me, cluster: &self.cluster, key: self.key.as_ref(), wire, sockets: &self.sockets }
    }
}

/// The queue to a peer with a name. The first frame for it makes this process dial.
pub(super) fn to(shared: &Arc<Shared>, peer: Peer) -> Arc<Outbox> {
    let mut links = lock(&shared.links);
    let outbox = links.entry(peer).or_insert_with(|| {
        let outbox = shared.outbox();
        shared.runtime.spawn(keep(shared.clone(), peer, outbox.clone()));
        outbox
    });
    outbox.clone()
}

/// Keeps a link to `peer` until this process closes its network.
async fn keep(shared: Arc<Shared>, peer: Peer, outbox: Arc<Outbox>) {
    let mut closing = shared.closing.subscribe();
    tokio::select! {
        biased;
        _ = closing.wait_for(|closing| *closing) => {}
        () = keep_open(&shared, peer, &outbox) => {}
    }
}

/// Dials whenever there is something to say and no connection.
async fn keep_open(shared: &Shared, peer: Peer, outbox: &Outbox) {
    let mut pause = shared.limits.pause;
    let mut said = String::new();
    loop {
        outbox.has_some().await;
        let why = match shared.address(peer) {
            None => {
                outbox.lose_all();
                "its address is not known".to_owned()
            }
            Some(address) => match open(shared, &address, Some(peer)).await {
                Ok(connection) => {
                    tracing::info!(%peer, %address, wire = connection.wire, "connected");
                    pause = shared.limits.pause;
                    said.clear();
                    let end = talk(shared, connection, peer, outbox, Side::Dialler { address: &address }).await;
                    if mutant!("M56") {
                        return std::future::pending().await;
                    }
                    format!("the connection ended: {end}")
                }
                Err(error) => {
                    shared.stats.dials_failed(1);
                    error.to_string()
                }
            },
        };
        // The same trouble is told once, until something changes.
        if said != why {
            tracing::warn!(%peer, %why, "not connected");
            said = why;
        }
        sleep(jittered(shared, pause)).await;
        pause = (pause * 2).min(shared.limits.longest_pause);
    }
}

/// Between three quarters of `pause` and all of it, so that those who lost the same peer do not come back as one.
fn jittered(shared: &Shared, pause: Duration) -> Duration {
    let part = shared.clock.now() % 256;
    pause.mul_f64(0.75 + part as f64 / 1_024.0)
}

/// Dials an address and shakes hands.
async fn open(shared: &Shared, address: &str, you: Option<Peer>) -> Result<Connection<Reader, Writer>, HandshakeError> {
    let opened = async {
        let found: Vec<SocketAddr> = shared.sockets.resolve(address).await.map_err(HandshakeError::Io)?;
        if found.iter().any(|address| !shared.permits(*address)) {
            return Err(HandshakeError::OtherMachine);
        }
        let (reader, writer) = shared.sockets.connect(&found).await.map_err(HandshakeError::Io)?;
        handshake::dial(reader, writer, shared.identity(), you).await
    };
    let connection = timeout(shared.limits.handshake, opened).await.map_err(|_| HandshakeError::Slow)??;
    shared.stats.dialled(1);
    Ok(connection)
}

/// Asks whoever listens at an address for everybody else's.
pub(super) async fn meet(shared: &Shared, address: &str) -> Result<Peer, HandshakeError> {
    let mut connection = open(shared, address, None).await?;
    let told = async {
        loop {
            if let (Kind::Book, payload) = connection.reader.read().await? {
                return read_book(&payload).map_err(HandshakeError::Io);
            }
        }
    };
    let mut told = timeout(shared.limits.handshake, told).await.map_err(|_| HandshakeError::Slow)??;
    match connection.peer {
        Peer::Node(node) => {
            told.nodes.entry(node).or_insert_with(|| address.to_owned());
        }
        Peer::Coordinator => {
            told.coordinator.get_or_insert_with(|| address.to_owned());
        }
        Peer::Client(_) => {}
    }
    // The first to be met is believed, whatever its revision: settings are older than anybody's word.
    shared.book.send_modify(|book| {
        told.coordinator = told.coordinator.take().or_else(|| book.coordinator.clone());
        if told.revision >= book.revision {
            *book = told;
        }
    });
    Ok(connection.peer)
}

fn read_book(payload: &[u8]) -> io::Result<Book> {
    decode_record(payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Which end of a connection this is.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    /// Opened it, to this address.
    Dialler { address: &'a str },
    /// Let it in, and tells it the addresses of the cluster.
    Door,
}

/// Sends what the queue has and receives what comes, until the connection ends. `from`: under which name its frames are
/// received.
pub(super) async fn talk<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &Shared,
    connection: Connection<R, W>,
    from: Peer,
    outbox: &Outbox,
    side: Side<'_>,
) -> io::Error {
    let Connection { wire, mut reader, mut writer, .. } = connection;
    reader.patience = Some(shared.limits.silence);
    writer.patience = Some(shared.limits.silence);
    tokio::select! {
        biased;
        end = receive(shared, reader, from, wire, side) => end.expect_err("reads until it fails"),
        end = transmit(shared, writer, from, wire, outbox, side) => end.expect_err("writes until it fails"),
    }
}

/// What these loops return when all is well.
#[derive(Debug)]
enum Never {}

async fn receive<R: AsyncRead + Unpin>(
    shared: &Shared,
    mut reader: FrameReader<R>,
    from: Peer,
    wire: u8,
    side: Side<'_>,
) -> io::Result<Never> {
    loop {
        let (kind, length) = reader.head().await?;
        match (kind, side) {
            (Kind::Heartbeat, _) => {}
            (Kind::Message, _) => {
                let room = shared.inbox.room(from, length).await;
                let payload = whole(shared, &mut reader, length).await?;
                shared.stats.received_frames(1);
                shared.stats.received_bytes(payload.len() as u64);
                let frame = inward(payload, wire);
                let frame = frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                shared.inbox.put(from, frame, room);
            }
            (Kind::Book, Side::Dialler { .. }) => {
                let payload = reader.payload(length).await?;
                shared.take_book(from, read_book(&payload)?);
            }
            (Kind::Book, Side::Door) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "addresses come from who was dialled"));
            }
        }
    }
}

/// Reads a payload for which room was taken. A long one has a time in which it must be there, so that nobody holds the
/// room for long.
async fn whole<R: AsyncRead + Unpin>(
    shared: &Shared,
    reader: &mut FrameReader<R>,
    length: usize,
) -> io::Result<Vec<u8>> {
    if length <= STEP_BYTES {
        return reader.payload(length).await;
    }
    let limit = shared.limits.frame_time;
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("a frame of {length} bytes took more than {limit:?}"));
    timeout(limit, reader.payload(length)).await.unwrap_or_else(|_| Err(late()))
}

async fn transmit<W: AsyncWrite + Unpin>(
    shared: &Shared,
    mut writer: FrameWriter<W>,
    to: Peer,
    wire: u8,
    outbox: &Outbox,
    side: Side<'_>,
) -> io::Result<Never> {
    let mut book = shared.book.subscribe();
    let mut tells = matches!(side, Side::Door);
    loop {
        let told = tells.then(|| encode_record(&*book.borrow_and_update()));
        tells = false;
        write_some(shared, &mut writer, wire, outbox, told).await?;
        tokio::select! {
            biased;
            () = outbox.has_some() => {}
            changed = book.changed() => match side {
                Side::Door => tells = changed.is_ok(),
                Side::Dialler { address } => {
                    if shared.address(to).is_some_and(|now| now != address) {
                        return Err(io::Error::other("the peer has moved to another address"));
                    }
                }
            },
            () = sleep(shared.limits.heartbeat) => {}
        }
    }
}

/// Writes the addresses, if they are to be told, and what waits; a heartbeat, if there is nothing.
async fn write_some<W: AsyncWrite + Unpin>(
    shared: &Shared,
    writer: &mut FrameWriter<W>,
    wire: u8,
    outbox: &Outbox,
    told: Option<Vec<u8>>,
) -> io::Result<()> {
    let mut silent = true;
    if let Some(told) = told {
        writer.write(Kind::Book, &told).await?;
        silent = false;
    }
    for _ in 0..BURST {
        let Some(frame) = outbox.try_pop() else { break };
        let frame = outward(frame, wire);
        shared.stats.sent_frames(1);
        shared.stats.sent_bytes(frame.len() as u64);
        writer.write(Kind::Message, &frame).await?;
        silent = false;
    }
    if silent {
        writer.write(Kind::Heartbeat, &[]).await?;
    }
    writer.flush().await
}
