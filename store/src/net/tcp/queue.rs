//! Bounded queues: frames on their way out, and frames that have arrived.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::{Limits, Stats, lock};
use crate::env::{Clock, Nanos, Peer};

/// Frames for one peer. Never waits: what has no room is lost, and so is what waited too long.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    most_bytes: usize,
    most_frames: usize,
    most_queued: u64,
    oldest: Nanos,
    /// Shared by all queues of a process.
    queued_bytes: Arc<AtomicU64>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<(Nanos, Vec<u8>)>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn new(
        limits: &Limits,
        clock: Arc<dyn Clock>,
        stats: Arc<Stats>,
        queued_bytes: Arc<AtomicU64>,
    ) -> Outbox {
        Outbox {
            queue: Mutex::default(),
            filled: Notify::new(),
            clock,
            stats,
            most_bytes: limits.outbox_bytes,
            most_frames: limits.outbox_frames,
            most_queued: limits.outboxes_bytes as u64,
            oldest: limits.frame_age.as_nanos() as Nanos,
            queued_bytes,
        }
    }

    pub(super) fn push(&self, frame: Vec<u8>) {
        let bytes = frame.len();
        let mut queue = lock(&self.queue);
        self.forget_old(&mut queue);
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        let full = queue.bytes + bytes > self.most_bytes
            || queue.frames.len() >= self.most_frames
            || queued + bytes as u64 > self.most_queued;
        if full {
            self.stats.lost_full(1);
            return;
        }
        queue.bytes += bytes;
        self.queued_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        queue.frames.push_back((self.clock.now(), frame));
        drop(queue);
        self.filled.notify_one();
    }

    /// The next frame, if one waits.
    pub(super) fn try_pop(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.queue);
        self.forget_old(&mut queue);
        let (_, frame) = queue.frames.pop_front()?;
        self.took(&mut queue, frame.len());
        Some(frame)
    }

    /// Waits until there is something to send, and leaves it where it is.
    pub(super) async fn has_some(&self) {
        loop {
            {
                let mut queue = lock(&self.queue);
                self.forget_old(&mut queue);
                if !queue.frames.is_empty() {
                    return;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Everything that waits is lost.
    pub(super) fn lose_all(&self) {
        let mut queue = lock(&self.queue);
        while let Some((_, frame)) = queue.frames.pop_front() {
            self.took(&mut queue, frame.len());
            self.stats.lost_unreachable(1);
        }
    }

    fn forget_old(&self, queue: &mut Queue) {
        let now = self.clock.now();
        while queue.frames.front().is_some_and(|(at, _)| now.saturating_sub(*at) > self.oldest) {
            let (_, frame) = queue.frames.pop_front().expect("looked at just now");
            self.took(queue, frame.len());
            self.stats.lost_late(1);
        }
    }

    fn took(&self, queue: &mut Queue, bytes: usize) {
        queue.bytes -= bytes;
        self.queued_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.lose_all();
    }
}

/// Frames that have arrived, and room for those that are arriving: whoever brings one waits for room before he reads it.
///
/// Room is given back when the process takes the frames out, which it does whatever its own queues are like, or when a
/// frame is not read to its end. So whoever waits holds nothing, and whoever holds room gets on or loses it in time.
/// Clients have one half, peers with a name the other, so that clients cannot hold up what keeps the cluster going.
pub(super) struct Inbox {
    arrived: Mutex<Arrived>,
    filled: Notify,
    clients: Half,
    peers: Half,
}

#[derive(Default)]
struct Arrived {
    frames: Vec<(Peer, Vec<u8>)>,
    /// What they take of each half.
    clients_bytes: usize,
    peers_bytes: usize,
}

struct Half {
    room: Semaphore,
    bytes: usize,
}

impl Half {
    fn new(bytes: usize) -> Half {
        let bytes = bytes.min(u32::MAX as usize);
        Half { room: Semaphore::new(bytes), bytes }
    }
}

/// Room for one frame.
pub(super) struct Room<'a>(SemaphorePermit<'a>);

/// What a frame counts for, besides its bytes.
const OVERHEAD_BYTES: usize = 64;

impl Inbox {
    pub(super) fn new(limits: &Limits) -> Inbox {
        let half = limits.inbox_bytes / 2;
        Inbox { arrived: Mutex::default(), filled: Notify::new(), clients: Half::new(half), peers: Half::new(half) }
    }

    fn half(&self, from: Peer) -> &Half {
        match from {
            Peer::Client(_) => &self.clients,
            Peer::Node(_) | Peer::Coordinator => &self.peers,
        }
    }

    /// Waits for room for a frame of so many bytes. A frame that is larger than the half waits until it is empty.
    pub(super) async fn room(&self, from: Peer, bytes: usize) -> Room<'_> {
        let half = self.half(from);
        let bytes = (bytes + OVERHEAD_BYTES).min(half.bytes) as u32;
        Room(half.room.acquire_many(bytes).await.expect("the semaphore is never closed"))
    }

    pub(super) fn put(&self, from: Peer, frame: Vec<u8>, room: Room<'_>) {
        let bytes = room.0.num_permits();
        // Given back by whoever takes the frame out.
        room.0.forget();
        let mut arrived = lock(&self.arrived);
        match from {
            Peer::Client(_) => arrived.clients_bytes += bytes,
            Peer::Node(_) | Peer::Coordinator => arrived.peers_bytes += bytes,
        }
        arrived.frames.push((from, frame));
        drop(arrived);
        self.filled.notify_one();
    }

    /// All that wait, in order of arrival; at least one.
    pub(super) async fn take(&self) -> Vec<(Peer, Vec<u8>)> {
        loop {
            let Arrived { frames, clients_bytes, peers_bytes } = std::mem::take(&mut *lock(&self.arrived));
            if !frames.is_empty() {
                self.clients.room.add_permits(clients_bytes);
                self.peers.room.add_permits(peers_bytes);
                return frames;
            }
            self.filled.notified().await;
        }
    }
}
