//! The clients: closed loops of puts, deletes and gets on documents with a skewed popularity, each written value
//! unique.
//!
//! A client's choices are addressed by (client, operation number), so that what one operation does is the same
//! whatever happened to the others. Every call and return goes into the history; every acknowledged write is told to
//! the auditor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use miroir_sim::history::{History, Op, OpId, Outcome as Ended, Version as Hint};
use miroir_sim::time::{MICROS, MILLIS};
use miroir_sim::{Draws, Random, Stream, World};
use miroir_store::env::{Env, Nanos, millis};
use miroir_store::id::{Key, NodeId, ShardId, Version};
use miroir_store::router::client::Client;
use miroir_store::router::{OperationId, Outcome, Request, Timing};

use crate::audit::Audit;
use crate::burst::Bursts;
use crate::plan::Plan;
use crate::script::{Scripted, What};

mod scanner;

/// The collection that everybody writes to.
pub const COLLECTION: &str = "movies";

/// How often a document is written until it is taken, on a healed cluster.
const WRITE_ATTEMPTS: usize = 5;

/// How far the load has come, and when it ends. Shared by clients and director.
#[derive(Clone, Default)]
pub struct Load(Arc<Inner>, Bursts);

#[derive(Default)]
struct Inner {
    loaded_clients: AtomicU64,
    ended: AtomicU64,
    go: AtomicBool,
    stop: AtomicBool,
    stopped: AtomicU64,
    thinned_at: AtomicU64,
    imports_begun: AtomicU64,
    imports: AtomicU64,
}

impl Load {
    pub fn new(plan: &Plan) -> Load {
        Load(Arc::default(), Bursts::new(&plan.workload.bursts))
    }

    /// What single clients do when something happens.
    pub fn bursts(&self) -> &Bursts {
        &self.1
    }

    /// When the first client was through with its share of the planned operations, so that the load became thinner;
    /// `None` while all are at it.
    pub fn thinned_at(&self) -> Option<Nanos> {
        Some(self.0.thinned_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// How many clients have written their share of the documents once.
    pub fn loaded_clients(&self) -> u64 {
        self.0.loaded_clients.load(Ordering::Relaxed)
    }

    /// Operations that have ended since the clients were let go.
    pub fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Lets the clients go.
    pub fn go(&self) {
        self.0.go.store(true, Ordering::Relaxed);
    }

    /// Whether they were let go.
    pub fn has_begun(&self) -> bool {
        self.0.go.load(Ordering::Relaxed)
    }

    /// Somebody begins to import a dump, for the first time or again.
    pub fn import_begun(&self) {
        self.0.imports_begun.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub fn imports_begun(&self) -> u64 {
        self.0.imports_begun.load(Ordering::Relaxed)
    }

    /// A dump is in.
    pub fn imported(&self) {
        self.0.imports.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a dump was imported to its end.
    pub fn imports(&self) -> u64 {
        self.0.imports.load(Ordering::Relaxed)
    }

    /// Asks the clients to end.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.1.end();
    }

    /// How many clients have ended.
    pub fn stopped_clients(&self) -> u64 {
        self.0.stopped.load(Ordering::Relaxed)
    }
}

/// The `n`th document.
pub fn document(n: u64) -> Key {
    Key::new(COLLECTION, &format!("d{n:06}")).expect("a short id")
}

fn client(env: Env, plan: &Plan) -> Client {
    let nodes = (1..=plan.cluster.nodes).map(NodeId).collect();
    let timing = Timing { give_up: millis(plan.workload.give_up_ms), ..Timing::default() };
    Client::new(env, nodes, timing)
}

/// One client with its own books.
pub struct Actor {
    number: u32,
    world: World,
    env: Env,
    client: Client,
    history: History,
    audit: Audit,
    value_bytes: usize,
    shards: u32,
    documents: u64,
    next_value: u64,
    under_way: BTreeMap<OperationId, (OpId, Request)>,
}

impl Actor {
    /// `number` 0 is the operator, who reads everything in the end.
    pub fn new(number: u32, world: &World, env: Env, plan: &Plan, history: &History, audit: &Audit) -> Actor {
        Actor {
            number,
            world: world.clone(),
            client: client(env.clone(), plan),
            env,
            history: history.clone(),
            audit: audit.clone(),
            value_bytes: plan.workload.value_bytes as usize,
            shards: plan.cluster.shards,
            documents: u64::from(plan.workload.documents),
            next_value: 0,
            under_way: BTreeMap::new(),
        }
    }

    /// Loads this client's share of the documents, waits for the start, and works until the end.
    pub async fn work(mut self, plan: Plan, load: Load) {
        let scan = plan.workload.scan.as_ref().filter(|scan| scan.client == self.number);
        if !plan.workload.script.is_empty() {
            return match scan {
                Some(scan) => self.scan_beside_a_script(scan, &load).await,
                None => self.follow(&plan, &load).await,
            };
        }
        let clients = u64::from(plan.workload.clients);
        let loaded = u64::from(plan.workload.documents.saturating_sub(plan.workload.fresh_documents));
        let share = (0..loaded).filter(|n| n % clients == u64::from(self.number - 1));
        let puts: Vec<Key> = share.map(document).collect();
        for keys in puts.chunks(16) {
            let requests = keys.iter().map(|key| self.put(key.clone())).collect();
            self.run(requests).await;
        }
        load.0.loaded_clients.fetch_add(1, Ordering::Relaxed);
        while !load.0.go.load(Ordering::Relaxed) {
            self.world.sleep(MILLIS).await;
        }
        if let Some(scan) = scan {
            return self.scan(scan, &load).await;
        }
        if !plan.workload.is_worker(self.number) {
            return self.burst(&plan, &load).await;
        }
        let mut choices = self.world.dice().stream("client", u64::from(self.number));
        let quota = u64::from(plan.workload.operations).div_ceil(u64::from(plan.workload.workers()));
        let mut done = 0;
        while !load.0.stop.load(Ordering::Relaxed) {
            let mut requests = self.choose(&mut choices, done, &plan);
            if plan.workload.exact {
                requests.truncate(usize::try_from(quota - done).unwrap_or(usize::MAX));
            }
            let count = requests.len() as u64;
            self.run(requests).await;
            done += count;
            load.0.ended.fetch_add(count, Ordering::Relaxed);
            if done >= quota {
                let _later =
                    load.0.thinned_at.compare_exchange(0, self.world.now(), Ordering::Relaxed, Ordering::Relaxed);
            }
            if done >= quota && plan.workload.exact {
                break;
            }
            if done >= quota {
                // The planned operations are through; a thinner load goes on until the migrations have ended.
                self.world.sleep(8 * MILLIS).await;
            }
        }
        load.0.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for its bursts, and does nothing else.
    async fn burst(&mut self, plan: &Plan, load: &Load) {
        while let Some((at, burst)) = load.bursts().next(self.number).await {
            self.world.sleep_until(at).await;
            if burst.fresh {
                self.client = client(self.env.clone(), plan);
            }
            let wishes = burst.operations.iter();
            let requests = wishes.map(|wish| self.request(wish.what, wish.document)).collect();
            self.run(requests).await;
        }
        load.0.stopped.fetch_add(1, Ordering::Relaxed);
    }

    fn request(&mut self, what: What, number: u64) -> Request {
        let key = document(number);
        match what {
            What::Put => self.put(key),
            What::Delete => Request::Delete { key },
            What::Get => Request::Get { key },
        }
    }

    /// Does what the script says, each operation at its time, or as soon as the ones before have ended.
    async fn follow(&mut self, plan: &Plan, load: &Load) {
        load.0.loaded_clients.fetch_add(1, Ordering::Relaxed);
        let mine: Vec<&Scripted> = plan.workload.script.iter().filter(|it| it.client == self.number).collect();
        for together in mine.chunk_by(|one, next| one.at_us == next.at_us) {
            self.world.sleep_until(together[0].at_us * MICROS).await;
            if load.0.stop.load(Ordering::Relaxed) {
                break;
            }
            let requests = together.iter().map(|scripted| self.request(scripted.what, scripted.document)).collect();
            self.run(requests).await;
            load.0.ended.fetch_add(together.len() as u64, Ordering::Relaxed);
        }
        load.0.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all documents; returns those that could not be read.
    pub async fn read_all(&mut self, documents: u64) -> Vec<Key> {
        let mut unread = Vec::new();
        let keys: Vec<Key> = (0..documents).map(document).collect();
        for keys in keys.chunks(32) {
            let requests = keys.iter().map(|key| Request::Get { key: key.clone() }).collect();
            unread.extend(self.run(requests).await);
        }
        unread
    }

    /// Writes one document of each shard; returns those that could not be written. A write whose version was chosen just
    /// before the tombstone barrier was raised is refused, and written again.
    pub async fn write_one_per_shard(&mut self) -> Vec<Key> {
        let documents: Vec<Key> = (0..self.documents).map(document).collect();
        let of_shard = |shard| documents.iter().find(|key| key.shard(self.shards) == shard).cloned();
        let mut unwritten: Vec<Key> = (0..self.shards).map(ShardId).filter_map(of_shard).collect();
        for _ in 0..WRITE_ATTEMPTS {
            if unwritten.is_empty() {
                break;
            }
            let puts = std::mem::take(&mut unwritten).into_iter().map(|key| self.put(key)).collect();
            unwritten = self.run(puts).await;
        }
        unwritten
    }

    fn put(&mut self, key: Key) -> Request {
        self.next_value += 1;
        let mut value = format!("c{}-{}", self.number, self.next_value).into_bytes();
        if value.len() < self.value_bytes {
            value.push(b' ');
            value.resize(self.value_bytes, b'.');
        }
        Request::Put { key, value: value.into() }
    }

    /// One operation, or some that are under way together.
    fn choose(&mut self, choices: &mut Stream, done: u64, plan: &Plan) -> Vec<Request> {
        let mut draws = choices.at(done);
        let several = draws.chance(plan.workload.pipelined);
        let count = match plan.workload.depth {
            _ if !several => 1,
            0 => draws.range(2..=4),
            depth => u64::from(depth),
        };
        (0..count)
            .map(|n| {
                let mut draws = choices.at(done + n);
                draws.next_u64();
                draws.next_u64();
                let key = document(popular(&mut draws, u64::from(plan.workload.documents)));
                if draws.chance(plan.workload.reads) {
                    Request::Get { key }
                } else if draws.chance(plan.workload.deletes) {
                    Request::Delete { key }
                } else {
                    self.put(key)
                }
            })
            .collect()
    }

    /// Runs requests together until all have ended. Returns the keys of those that did not succeed.
    async fn run(&mut self, requests: Vec<Request>) -> Vec<Key> {
        let called = self.world.now();
        let calls: Vec<OpId> = requests
            .iter()
            .map(|request| {
                let op = match request {
                    Request::Get { .. } => Op::Read { value: None },
                    Request::Put { value, .. } => Op::Write { value: text(value) },
                    Request::Delete { .. } => Op::Delete,
                };
                self.audit.called(called, request);
                self.history.call(called, self.number, request.key().id(), op)
            })
            .collect();
        let ids = self.client.submit_all(requests.clone());
        for ((id, call), request) in ids.into_iter().zip(calls).zip(requests) {
            self.under_way.insert(id, (call, request));
        }
        let mut failed = Vec::new();
        while !self.under_way.is_empty() {
            let (id, outcome) = self.client.completed(Nanos::MAX).await.expect("operations end by themselves");
            let (call, request) = self.under_way.remove(&id).expect("it was submitted here");
            self.returned(called, call, &request, outcome, &mut failed);
        }
        failed
    }

    fn returned(&mut self, called: Nanos, call: OpId, request: &Request, outcome: Outcome, failed: &mut Vec<Key>) {
        let now = self.world.now();
        let (ended, version, value) = match outcome {
            Outcome::Ok { version, value } => (Ended::Ok, Some(version), value),
            Outcome::Rejected => (Ended::Rejected, None, None),
            Outcome::Unknown { version } => (Ended::Unknown, version, None),
            Outcome::TooLong { limit } => unreachable!("values here are far shorter than {limit} bytes"),
        };
        let read = matches!(request, Request::Get { .. }).then(|| value.as_deref().map(text)).flatten();
        self.history.finish(now, call, ended, read, version.map(hint));
        self.audit.returned(called, now, self.number, request, version.filter(|_| ended == Ended::Ok));
        if ended != Ended::Ok {
            failed.push(request.key().clone());
        }
    }
}

/// What a history calls a value: its unique part.
fn text(value: impl AsRef<[u8]>) -> String {
    let bytes = value.as_ref();
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn hint(version: Version) -> Hint {
    Hint { counter: version.counter, writer: version.writer.0 }
}

/// The share of all operations that goes to the `n`th document: see [`popular`].
pub fn share(n: u64, documents: u64) -> f64 {
    let bits = u64::BITS - documents.leading_zeros();
    let among = (0..=bits).map(|magnitude| (1 << magnitude).min(documents));
    among.filter(|count| n < *count).map(|count| 1.0 / count as f64).sum::<f64>() / f64::from(bits + 1)
}

/// Each power of two of documents is as likely as the next: about a Zipf distribution with exponent 1.
fn popular(draws: &mut Draws, documents: u64) -> u64 {
    let bits = u64::from(u64::BITS - documents.leading_zeros());
    let magnitude = draws.range(0..=bits);
    draws.below((1 << magnitude).min(documents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_first_document_has_the_greatest() {
        let shares: Vec<f64> = (0..300).map(|n| share(n, 300)).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
        assert!(shares.is_sorted_by(|one, next| one >= next));
        // Ten magnitudes: 1, 2, 4, ..., 256, and 300 twice the last power of two.
        let first = (0..9).map(|m| 1.0 / f64::from(1 << m)).sum::<f64>() + 1.0 / 300.0;
        assert!((shares[0] - first / 10.0).abs() < 1e-9, "{}", shares[0]);
    }
}
