//! Bounded queues: frames on their way out, and frames that have arrived.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

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

/// Frames that have arrived. Whoever brings one waits for room.
pub(super) struct Inbox {
    frames: Mutex<Vec<(Peer, Vec<u8>)>>,
    filled: Notify,
    room: Semaphore,
}

/// What a frame counts for, besides its bytes.
const OVERHEAD_BYTES: usize = 64;

fn weight(frame: &[u8]) -> u32 {
    (frame.len() + OVERHEAD_BYTES) as u32
}

impl Inbox {
    pub(super) fn new(limits: &Limits) -> Inbox {
        Inbox { frames: Mutex::default(), filled: Notify::new(), room: Semaphore::new(limits.inbox_bytes) }
    }

    pub(super) async fn put(&self, from: Peer, frame: Vec<u8>) {
        let room = self.room.acquire_many(weight(&frame)).await.expect("the semaphore is never closed");
        // Given back by whoever takes the frame out.
        room.forget();
        lock(&self.frames).push((from, frame));
        self.filled.notify_one();
    }

    /// All that wait, in order of arrival; at least one.
    pub(super) async fn take(&self) -> Vec<(Peer, Vec<u8>)> {
        loop {
            let frames = std::mem::take(&mut *lock(&self.frames));
            if !frames.is_empty() {
                self.room.add_permits(frames.iter().map(|(_, frame)| weight(frame) as usize).sum());
                return frames;
            }
            self.filled.notified().await;
        }
    }
}
