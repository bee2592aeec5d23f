//! Frames on a connection, and the seal around them.
//!
//! ```text
//! frame   length u32 | kind u8 | payload          lengths are little-endian and count the payload
//! record  length u16 | sealed bytes of the frames' stream     only under a key
//! ```
//!
//! Under a key, the stream of frames is cut into records, each encrypted and authenticated by the keys of this
//! connection and its position in it (ChaCha20-Poly1305): a record that was changed, left out, repeated or comes from
//! another connection does not open, and the connection ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use snow::StatelessTransportState;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};

use tokio::time::timeout;

use crate::wire::{MAX_FRAME_BYTES, SUM_BYTES};

/// Longest record, sealed, and what the seal adds to it.
const RECORD_BYTES: usize = 65_535;
const TAG_BYTES: usize = 16;
/// A payload is read and written in steps of this size: a length that lies allocates no more, and a peer must get on
/// with each step within its patience, however long the frame is.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// More than the addresses of any cluster.
const MOST_BOOK_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing; the connection is alive.
    Heartbeat,
    /// A frame of [`wire`](crate::wire).
    Message,
    /// The addresses that the sender knows.
    Book,
}

impl Kind {
    fn read(byte: u8) -> io::Result<Kind> {
        Ok(match byte {
            0 => Kind::Heartbeat,
            1 => Kind::Message,
            2 => Kind::Book,
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no frame is of kind {other}"))),
        })
    }

    /// The longest payload of a frame of this kind. Only messages take room in the inbox; the others are short.
    const fn most_bytes(self) -> usize {
        match self {
            Kind::Heartbeat => 0,
            Kind::Message => MAX_FRAME_BYTES + SUM_BYTES,
            Kind::Book => MOST_BOOK_BYTES,
        }
    }
}

/// One direction of a sealed connection.
pub(super) struct Seal {
    state: Arc<StatelessTransportState>,
    record: u64,
}

impl Seal {
    pub(super) fn pair(state: StatelessTransportState) -> (Seal, Seal) {
        let state = Arc::new(state);
        (Seal { state: state.clone(), record: 0 }, Seal { state, record: 0 })
    }
}

pub(super) struct FrameWriter<W> {
    io: BufWriter<W>,
    seal: Option<Seal>,
    sealed: Vec<u8>,
    /// How long the other end may take nothing; `None`: whoever waits has a limit of his own.
    pub(super) patience: Option<Duration>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(io: W, seal: Option<Seal>) -> FrameWriter<W> {
        let io = BufWriter::with_capacity(BUFFER_BYTES, io);
        FrameWriter { io, seal, sealed: Vec::new(), patience: None }
    }

    /// Goes out with the next flush at the latest.
    pub(super) async fn write(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut head = [0; 5];
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4] = kind as u8;
        let Some(seal) = &mut self.seal else {
            step(self.patience, self.io.write_all(&head)).await?;
            for part in payload.chunks(STEP_BYTES) {
                step(self.patience, self.io.write_all(part)).await?;
            }
            return Ok(());
        };
        self.sealed.resize(RECORD_BYTES, 0);
        let open = [&head[..], payload].concat();
        for part in open.chunks(RECORD_BYTES - TAG_BYTES) {
            let length = seal.state.write_message(seal.record, part, &mut self.sealed).map_err(broken)?;
            seal.record += 1;
            step(self.patience, self.io.write_all(&(length as u16).to_le_bytes())).await?;
            step(self.patience, self.io.write_all(&self.sealed[..length])).await?;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        step(self.patience, self.io.flush()).await
    }
}

pub(super) struct FrameReader<R> {
    io: BufReader<R>,
    seal: Option<Seal>,
    sealed: Vec<u8>,
    /// What was opened and not yet read.
    opened: Vec<u8>,
    read: usize,
    /// How long the other end may say nothing; `None` as above.
    pub(super) patience: Option<Duration>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, seal: Option<Seal>) -> FrameReader<R> {
        let io = BufReader::with_capacity(BUFFER_BYTES, io);
        FrameReader { io, seal, sealed: Vec::new(), opened: Vec::new(), read: 0, patience: None }
    }

    /// A frame, whole.
    pub(super) async fn read(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let (kind, length) = self.head().await?;
        Ok((kind, self.payload(length).await?))
    }

    /// What frame comes next, and the length of its payload, none of which has been read yet.
    pub(super) async fn head(&mut self) -> io::Result<(Kind, usize)> {
        let mut head = [0; 5];
        self.fill(&mut head).await?;
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let kind = Kind::read(head[4])?;
        if length > kind.most_bytes() {
            let text = format!("a frame of {length} bytes; the limit is {}", kind.most_bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok((kind, length))
    }

    /// The payload of the frame whose head was read.
    pub(super) async fn payload(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        while payload.len() < length {
            let start = payload.len();
            payload.resize(length.min(start + STEP_BYTES), 0);
            self.fill(&mut payload[start..]).await?;
        }
        Ok(payload)
    }

    async fn fill(&mut self, mut out: &mut [u8]) -> io::Result<()> {
        let Some(seal) = &mut self.seal else {
            return step(self.patience, self.io.read_exact(out)).await.map(|_| ());
        };
        while !out.is_empty() {
            if self.read == self.opened.len() {
                let mut length = [0; 2];
                step(self.patience, self.io.read_exact(&mut length)).await?;
                self.sealed.resize(usize::from(u16::from_le_bytes(length)), 0);
                step(self.patience, self.io.read_exact(&mut self.sealed)).await?;
                self.opened.resize(self.sealed.len(), 0);
                let opened = seal.state.read_message(seal.record, &self.sealed, &mut self.opened).map_err(broken)?;
                seal.record += 1;
                self.opened.truncate(opened);
                self.read = 0;
            }
            let count = out.len().min(self.opened.len() - self.read);
            out[..count].copy_from_slice(&self.opened[self.read..self.read + count]);
            self.read += count;
            out = &mut out[count..];
        }
        Ok(())
    }
}

/// One step of reading or writing, within the patience of this end.
async fn step<T>(patience: Option<Duration>, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let Some(patience) = patience else { return io.await };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("the other end did not move for {patience:?}"));
    timeout(patience, io).await.unwrap_or_else(|_| Err(late()))
}

fn broken(_: snow::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record's seal is broken: it was changed, repeated or left out")
}
