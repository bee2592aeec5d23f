//! A running cluster as the target of an import: a client like any other, that repeats what did not succeed.
//!
//! A put whose outcome is unknown is put again. The second has a greater version than the first, so that the first,
//! should it arrive late, changes nothing: every document is there once, as it is in the dump.

use std::collections::BTreeMap;

use crate::dump::refusal::DumpError;
use crate::dump::target::{READ_BYTES, Shape, Target};
use crate::env::{Env, Nanos, Peer, millis};
use crate::id::{Key, NodeId, ShardId, Value};
use crate::router::client::Client;
use crate::router::scan::{ScanPage, ScanRequest, join};
use crate::router::{OperationId, Outcome, Request, Timing};
use crate::wire::{Message, NameRange, RequestId, StagingAction, StagingReply};

/// A node that does not answer is asked again this often.
const ASK_AGAIN: Nanos = millis(300);
/// Writes of a batch that are under way at once; how large they are together, the batch has seen to.
const UNDER_WAY: usize = 256;
/// Documents that are read at once, at most, and as long as nobody knows how large they are.
const READ_TOGETHER: usize = 32;
const READ_AT_FIRST: usize = 4;
/// Only to learn who holds what.
const ANY: &str = ".any";

pub struct Cluster {
    client: Client,
    env: Env,
    nodes: Vec<NodeId>,
    /// An import ends with an error after so long without any success.
    patience: Nanos,
    requests: u64,
    /// The largest document that was read or written.
    largest: Option<usize>,
}

impl Cluster {
    /// `nodes` are all of the cluster: broadcast stages on each of them.
    pub fn new(env: Env, nodes: Vec<NodeId>, timing: Timing, patience: Nanos) -> Cluster {
        let client = Client::new(env.clone(), nodes.clone(), timing);
        Cluster { client, env, nodes, patience, requests: 0, largest: None }
    }

    /// Runs operations until each has succeeded; what each read, by its place.
    async fn run(&mut self, requests: Vec<Request>) -> Result<Vec<Option<Value>>, DumpError> {
        let mut values = vec![None; requests.len()];
        let mut waiting: Vec<(usize, Request)> = requests.into_iter().enumerate().rev().collect();
        let mut under_way: BTreeMap<OperationId, (usize, Request)> = BTreeMap::new();
        let mut give_up_at = self.env.clock.now().saturating_add(self.patience);
        while !(waiting.is_empty() && under_way.is_empty()) {
            if under_way.is_empty() {
                let next = waiting.split_off(waiting.len().saturating_sub(UNDER_WAY));
                let ids = self.client.submit_all(next.iter().map(|(_, request)| request.clone()).collect());
                under_way.extend(ids.into_iter().zip(next));
            }
            let Some((id, outcome)) = self.client.completed(give_up_at).await else {
                let shards = "a shard does not take writes or does not answer reads".to_owned();
                return Err(DumpError::Cluster(shards));
            };
            let Some((place, request)) = under_way.remove(&id) else { continue };
            match outcome {
                Outcome::Ok { value, .. } => {
                    values[place] = value;
                    give_up_at = self.env.clock.now().saturating_add(self.patience);
                }
                Outcome::TooLong { limit } => {
                    let key = request.key();
                    return Err(DumpError::Cluster(format!(
                        "{key} is longer than {limit} bytes, the most that a node takes"
                    )));
                }
                Outcome::Rejected | Outcome::Unknown { .. } => waiting.push((place, request)),
            }
        }
        Ok(values)
    }
}

impl Target for Cluster {
    async fn shape(&mut self) -> Result<Shape, DumpError> {
        let key = Key::new(ANY, "any").map_err(|error| DumpError::Cluster(error.to_string()))?;
        self.run(vec![Request::Get { key: key.clone() }]).await?;
        let config = self.client.router().any_config().expect("an operation that succeeded knew a configuration");
        let (replication, shards) = (config.new.len() as u32, config.shard_count);
        Ok(Shape { nodes: self.nodes.len() as u32, replication, shards })
    }

    async fn write(&mut self, writes: Vec<Request>) -> Result<(), DumpError> {
        let bytes = |write: &Request| if let Request::Put { value, .. } = write { value.len() } else { 0 };
        self.largest = self.largest.max(writes.iter().map(bytes).max());
        // What is under way together has no order.
        let last: BTreeMap<Key, Request> = writes.into_iter().map(|write| (write.key().clone(), write)).collect();
        self.run(last.into_values().collect()).await.map(drop)
    }

    async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<Option<Value>>, DumpError> {
        let mut keys = keys.into_iter().peekable();
        let (mut values, mut bytes) = (Vec::new(), 0);
        while keys.peek().is_some() && bytes < READ_BYTES {
            // Whoever asks for several has room for as many as large as any that were seen.
            let most = self.largest.map_or(READ_AT_FIRST, |largest| READ_BYTES / largest.max(1));
            let together = keys.by_ref().take(most.clamp(1, READ_TOGETHER));
            let read = self.run(together.map(|key| Request::Get { key }).collect()).await?;
            for value in &read {
                let read = value.as_ref().map_or(0, |value| value.len());
                bytes += read;
                self.largest = self.largest.max(Some(read));
            }
            values.extend(read);
        }
        Ok(values)
    }

    async fn scan(&mut self, range: NameRange, documents: u32) -> Result<ScanPage, DumpError> {
        let shards = self.shape().await?.shards;
        let mut pages = Vec::new();
        for shard in (0..shards).map(ShardId) {
            let give_up_at = self.env.clock.now().saturating_add(self.patience);
            pages.push(loop {
                let request = ScanRequest { shard, range: range.clone(), documents };
                match self.client.scan(request).await {
                    Some(page) => break page,
                    None if self.env.clock.now() < give_up_at => {}
                    None => return Err(DumpError::Cluster(format!("shard {shard} does not answer"))),
                }
            });
        }
        Ok(join(pages, documents as usize))
    }

    async fn stage(&mut self, node: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        let node = self.nodes[node as usize];
        let give_up_at = self.env.clock.now().saturating_add(self.patience);
        self.requests += 1;
        let request = RequestId { job: import as u64, n: self.requests };
        let message = Message::Stage { request, import, action };
        while self.env.clock.now() < give_up_at {
            let until = self.env.clock.now().saturating_add(ASK_AGAIN).min(give_up_at);
            let answer = self.client.ask(node, &message, until, |from, message| match message {
                Message::Staged { request: answered, reply, .. }
                    if from == Peer::Node(node) && *answered == request =>
                {
                    Some(reply.clone())
                }
                _ => None,
            });
            if let Some(reply) = answer.await {
                return Ok(reply);
            }
        }
        Err(DumpError::Cluster(format!("{node} does not answer, and broadcast needs every node")))
    }
}
