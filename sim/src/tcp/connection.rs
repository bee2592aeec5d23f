//! One end of one connection: what it sends and keeps when something arrives, is written, is read, or falls due. It sends
//! nothing itself.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::task::Waker;

use super::segment::Body;
use crate::sometimes;
use crate::time::{MILLIS, Nanos};

/// Bytes in a segment, at most: what an Ethernet frame has room for.
pub const SEGMENT_BYTES: usize = 1_460;
/// Bytes that wait to be read, and bytes that wait to be confirmed, at most. A few segments, so that a reader who is
/// behind is soon felt by whoever writes.
pub const BUFFER_BYTES: usize = 16 << 10;
/// What was not confirmed is sent again after this long, and then after twice as long each time.
const FIRST_PAUSE: Nanos = 50 * MILLIS;
const LONGEST_PAUSE: Nanos = 1_600 * MILLIS;
/// Nobody waits any more: what is left is sent so often.
const LAST_ATTEMPTS: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for, and not answered.
    Dialling,
    /// Answered; whether anybody is there is not known before something else arrives.
    Offered,
    Open,
    /// Over, by no wish of this end.
    Broken(ErrorKind),
}

pub(super) struct Connection {
    pub phase: Phase,
    /// The process has it.
    held: bool,
    /// Written and not confirmed, from position `confirmed` on; `sent` of it is on its way.
    unconfirmed: VecDeque<u8>,
    confirmed: u64,
    sent: u64,
    /// The other end has room up to here.
    allowed: u64,
    ending: bool,
    end_sent: bool,
    end_confirmed: bool,
    again: Option<Nanos>,
    pause: Nanos,
    attempts: u32,
    /// Everything before has arrived.
    received: u64,
    early: BTreeMap<u64, Vec<u8>>,
    ready: VecDeque<u8>,
    peer_end: Option<u64>,
    /// The room that the other end has been told of.
    told: u64,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    /// To be woken by whoever called.
    pub woken: Vec<Waker>,
}

/// What comes of an attempt to read or to write.
pub(super) enum Attempt {
    Done(usize),
    Wait,
    Failed(ErrorKind),
}

impl Connection {
    fn new(phase: Phase) -> Connection {
        Connection {
            phase,
            held: true,
            unconfirmed: VecDeque::new(),
            confirmed: 0,
            sent: 0,
            allowed: BUFFER_BYTES as u64,
            ending: false,
            end_sent: false,
            end_confirmed: false,
            again: None,
            pause: FIRST_PAUSE,
            attempts: 0,
            received: 0,
            early: BTreeMap::new(),
            ready: VecDeque::new(),
            peer_end: None,
            told: BUFFER_BYTES as u64,
            reader: None,
            writer: None,
            woken: Vec::new(),
        }
    }

    fn wake_reader(&mut self) {
        self.woken.extend(self.reader.take());
    }

    fn wake_writer(&mut self) {
        self.woken.extend(self.writer.take());
    }

    pub fn dial(now: Nanos, out: &mut Vec<Body>) -> Connection {
        let mut connection = Connection::new(Phase::Dialling);
        connection.again = Some(now + connection.pause);
        out.push(Body::Open);
        connection
    }

    pub fn offer(out: &mut Vec<Body>) -> Connection {
        out.push(Body::Accept);
        Connection::new(Phase::Offered)
    }

    /// When [`Connection::due`] is to be called.
    pub fn deadline(&self) -> Option<Nanos> {
        self.again
    }

    /// Nobody needs to know anything about it any more.
    pub fn is_over(&self) -> bool {
        !self.held && (matches!(self.phase, Phase::Broken(_)) || self.end_confirmed)
    }

    pub fn on(&mut self, now: Nanos, body: Body, out: &mut Vec<Body>) {
        match body {
            Body::Reset => self.breaks(match self.phase {
                Phase::Dialling => ErrorKind::ConnectionRefused,
                _ => ErrorKind::ConnectionReset,
            }),
            _ if matches!(self.phase, Phase::Broken(_)) => out.push(Body::Reset),
            // Once more, as the answer was lost, or is still on its way.
            Body::Open if self.phase == Phase::Offered => out.push(Body::Accept),
            Body::Open => {}
            Body::Accept => {
                if self.phase == Phase::Dialling {
                    self.phase = Phase::Open;
                    self.progress();
                    self.wake_writer();
                }
                self.confirm(out);
            }
            Body::Data { at, bytes } => self.on_data(at, bytes, out),
            Body::End { at } => {
                self.peer_end = Some(at);
                self.confirm(out);
            }
            Body::Confirm { upto, window } => self.on_confirm(now, upto, window, out),
        }
    }

    fn on_data(&mut self, at: u64, bytes: Vec<u8>, out: &mut Vec<Body>) {
        let end = at + bytes.len() as u64;
        assert!(end <= self.told, "the sender keeps to the room that it was told of");
        if end > self.received {
            if !self.held {
                // Whoever would have read it has gone.
                self.breaks(ErrorKind::ConnectionReset);
                return out.push(Body::Reset);
            }
            self.early.insert(at, bytes);
        }
        while let Some(first) = self.early.first_entry().filter(|first| *first.key() <= self.received) {
            let (at, bytes) = first.remove_entry();
            let known = (self.received - at) as usize;
            self.ready.extend(bytes.iter().skip(known));
            self.received = self.received.max(at + bytes.len() as u64);
        }
        self.confirm(out);
    }

    fn on_confirm(&mut self, now: Nanos, upto: u64, window: u64, out: &mut Vec<Body>) {
        let end = self.confirmed + self.unconfirmed.len() as u64;
        let news = upto.min(end).saturating_sub(self.confirmed);
        self.unconfirmed.drain(..news as usize);
        self.confirmed += news;
        self.sent = self.sent.max(self.confirmed);
        self.allowed = self.allowed.max(window);
        self.end_confirmed |= self.ending && upto > end;
        if news > 0 || self.end_confirmed {
            self.progress();
            self.wake_writer();
        }
        self.pump(now, out);
    }

    fn progress(&mut self) {
        self.again = None;
        self.pause = FIRST_PAUSE;
        self.attempts = 0;
    }

    fn confirm(&mut self, out: &mut Vec<Body>) {
        let ended = self.peer_end == Some(self.received);
        self.told = self.received + (BUFFER_BYTES - self.ready.len()) as u64;
        sometimes!(self.ready.len() == BUFFER_BYTES, "TCP: a reader was behind until there was no room");
        out.push(Body::Confirm { upto: self.received + u64::from(ended), window: self.told });
        if ended || !self.ready.is_empty() {
            self.wake_reader();
        }
    }

    /// Sends what there is to send and room for.
    fn pump(&mut self, now: Nanos, out: &mut Vec<Body>) {
        let end = self.confirmed + self.unconfirmed.len() as u64;
        while self.sent < end.min(self.allowed) {
            let start = (self.sent - self.confirmed) as usize;
            let length = SEGMENT_BYTES.min((end.min(self.allowed) - self.sent) as usize);
            let bytes = self.unconfirmed.range(start..start + length).copied().collect();
            out.push(Body::Data { at: self.sent, bytes });
            self.sent += length as u64;
        }
        if self.ending && !self.end_sent && self.sent == end {
            out.push(Body::End { at: end });
            self.end_sent = true;
        }
        let waits = !self.unconfirmed.is_empty() || (self.ending && !self.end_confirmed);
        if waits && self.again.is_none() {
            self.again = Some(now + self.pause);
        }
    }

    /// What was sent was not confirmed in time: sends it again.
    pub fn due(&mut self, now: Nanos, out: &mut Vec<Body>) {
        if self.again.is_none_or(|at| at > now) {
            return;
        }
        self.again = None;
        self.attempts += 1;
        if !self.held && self.attempts > LAST_ATTEMPTS {
            return self.breaks(ErrorKind::TimedOut);
        }
        sometimes!("TCP: what was not confirmed was sent again");
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.phase == Phase::Dialling {
            self.again = Some(now + self.pause);
            return out.push(Body::Open);
        }
        self.sent = self.confirmed;
        self.end_sent = false;
        if !self.unconfirmed.is_empty() && self.allowed == self.confirmed {
            // Is there room by now? The word that there is may have been lost.
            out.push(Body::Data { at: self.confirmed, bytes: Vec::new() });
        }
        self.pump(now, out);
    }

    pub fn write(&mut self, now: Nanos, bytes: &[u8], out: &mut Vec<Body>) -> Attempt {
        if let Phase::Broken(kind) = self.phase {
            return Attempt::Failed(kind);
        }
        let count = bytes.len().min(BUFFER_BYTES - self.unconfirmed.len());
        if count == 0 && !bytes.is_empty() {
            return Attempt::Wait;
        }
        self.unconfirmed.extend(&bytes[..count]);
        self.pump(now, out);
        Attempt::Done(count)
    }

    /// `Done(0)` at the end.
    pub fn read(&mut self, into: &mut [u8], out: &mut Vec<Body>) -> Attempt {
        if self.ready.is_empty() {
            return match self.phase {
                Phase::Broken(kind) => Attempt::Failed(kind),
                _ if self.peer_end == Some(self.received) => Attempt::Done(0),
                _ => Attempt::Wait,
            };
        }
        let count = into.len().min(self.ready.len());
        for (to, byte) in into.iter_mut().zip(self.ready.drain(..count)) {
            *to = byte;
        }
        // The other end need not hear of every byte of room, but it must hear when there is room again.
        let was_shut = self.told < self.received + SEGMENT_BYTES as u64;
        if was_shut && self.ready.len() <= BUFFER_BYTES / 2 && self.phase == Phase::Open {
            self.confirm(out);
        }
        Attempt::Done(count)
    }

    /// The process has done with it. What was written still goes out; what was not read, or comes now, breaks it.
    pub fn let_go(&mut self, now: Nanos, out: &mut Vec<Body>) {
        self.held = false;
        match self.phase {
            Phase::Broken(_) => {}
            Phase::Open if self.ready.is_empty() => {
                self.ending = true;
                self.pump(now, out);
            }
            _ => {
                self.breaks(ErrorKind::ConnectionAborted);
                out.push(Body::Reset);
            }
        }
    }

    fn breaks(&mut self, kind: ErrorKind) {
        if matches!(self.phase, Phase::Broken(_)) {
            return;
        }
        sometimes!(kind == ErrorKind::ConnectionReset, "TCP: a connection was reset");
        sometimes!(kind == ErrorKind::ConnectionRefused, "TCP: a connection was refused");
        self.phase = Phase::Broken(kind);
        self.again = None;
        self.unconfirmed.clear();
        self.wake_reader();
        self.wake_writer();
    }
}
