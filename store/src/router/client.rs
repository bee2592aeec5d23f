//! Drives a [`Router`] over the network of its process.

use std::collections::VecDeque;

use crate::env::{Env, Nanos, Peer};
use crate::id::{NodeId, WriterId};
use crate::router::scan::{ScanPage, ScanRequest};
use crate::router::{OperationId, Outcome, Request, Router, Timing};
use crate::wire::{Message, decode, encode};

/// A client of the cluster. Several operations may be under way at once.
pub struct Client {
    env: Env,
    router: Router,
    done: VecDeque<(OperationId, Outcome)>,
}

impl Client {
    /// `nodes`: where to start; any node of the cluster will do.
    pub fn new(env: Env, nodes: Vec<NodeId>, timing: Timing) -> Client {
        let router = Router::new(WriterId(env.dice.bits()), nodes, timing);
        Client { env, router, done: VecDeque::new() }
    }

    /// Begins an operation and sends its first messages.
    pub fn submit(&mut self, request: Request) -> OperationId {
        let id = self.router.start(self.env.clock.now(), request);
        self.flush();
        id
    }

    /// Begins several operations at once: those of one shard travel in one batch per node.
    pub fn submit_all(&mut self, requests: Vec<Request>) -> Vec<OperationId> {
        let now = self.env.clock.now();
        let ids = requests.into_iter().map(|request| self.router.start(now, request)).collect();
        self.flush();
        ids
    }

    /// Waits for the next operation to end, or until `until`. With nothing under way it just waits.
    pub async fn completed(&mut self, until: Nanos) -> Option<(OperationId, Outcome)> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            let now = self.env.clock.now();
            if now >= until {
                return None;
            }
            self.turn(until).await;
        }
    }

    /// Sends a node something that is no operation, and waits for its answer, or until `until`. `wanted` says whether a
    /// message is the answer; what is not goes on to the router.
    pub async fn ask<T>(
        &mut self,
        node: NodeId,
        message: &Message,
        until: Nanos,
        wanted: impl Fn(Peer, &Message) -> Option<T>,
    ) -> Option<T> {
        self.env.net.send(Peer::Node(node), encode(message));
        let mut answer = None;
        while answer.is_none() && self.env.clock.now() < until {
            let frames = self.env.net.recv(self.router.deadline().min(until)).await;
            self.take(frames, |from, message| {
                let found = wanted(from, message);
                let is_wanted = found.is_some();
                answer = answer.take().or(found);
                is_wanted
            });
        }
        answer
    }

    /// Waits for frames, or until something is due, and does what follows.
    async fn turn(&mut self, until: Nanos) {
        let frames = self.env.net.recv(self.router.deadline().min(until)).await;
        self.take(frames, |_, _| false);
    }

    /// Hands frames to the router, but for messages that `picks` wants.
    fn take(&mut self, frames: Vec<(Peer, Vec<u8>)>, mut picks: impl FnMut(Peer, &Message) -> bool) {
        let now = self.env.clock.now();
        for (from, frame) in frames {
            match decode(&frame) {
                Ok(message) if picks(from, &message) => {}
                Ok(message) => self.router.receive(now, from, message),
                Err(error) => tracing::warn!(%from, %error, "a frame was refused"),
            }
        }
        self.router.tick(now);
        self.flush();
    }

    /// One operation from start to end.
    pub async fn call(&mut self, request: Request) -> Outcome {
        let id = self.submit(request);
        loop {
            match self.completed(Nanos::MAX).await {
                Some((done, outcome)) if done == id => return outcome,
                Some(_) => {}
                None => unreachable!("an operation ends by its own deadline"),
            }
        }
    }

    /// One page of a scan; `None` if no quorum answered in time.
    pub async fn scan(&mut self, request: ScanRequest) -> Option<ScanPage> {
        let id = self.router.scan(self.env.clock.now(), request);
        self.flush();
        loop {
            for (done, page) in self.router.drain_scanned() {
                if done == id {
                    return page;
                }
            }
            self.turn(Nanos::MAX).await;
        }
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    fn flush(&mut self) {
        for (node, message) in self.router.drain_sends() {
            self.env.net.send(Peer::Node(node), encode(&message));
        }
        self.done.extend(self.router.drain_done());
    }
}
