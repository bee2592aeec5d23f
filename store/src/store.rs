//! The store inside one program: one node at replication 1, through the same router, node and engine as a cluster.
//!
//! ```
//! # let directory = std::env::temp_dir().join(format!("miroir-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&directory);
//! use miroir_store::store::{Ids, Store};
//!
//! let store = Store::open(&directory)?;
//! let films = store.collection("films")?;
//! films.put("tt0062622", br#"{"title":"2001"}"#)?;
//! films.put("tt0078748", br#"{"title":"Alien"}"#)?;
//! assert_eq!(films.get("tt0062622")?.as_deref(), Some(&br#"{"title":"2001"}"#[..]));
//! for film in films.iter(Ids::prefix("tt007")) {
//!     let film = film?;
//!     println!("{} {}", film.id(), String::from_utf8_lossy(&film.body));
//! }
//! films.delete("tt0062622")?;
//! # drop(films); drop(store);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A call returns when what it wrote is on the disk: an append to the log and one `fsync`, however many documents a
//! [`Batch`] has. Calls from several threads take turns. There is no background work: the call that fills the memory
//! table also moves it to the page file, [`Store::scrub`] and [`Store::compact`] run when they are called.
//!
//! The router and the node are state machines; here their messages are passed from hand to hand.

mod alone;
mod collection;
mod options;
mod read;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::{Replica, ShardConfig};
use crate::engine::{self, Range};
use crate::env::{Dice, Disk, Env, Nanos, NoProbe, Peer};
use crate::error::{EngineError, StoreError};
use crate::id::{Epoch, Key, MAX_VALUE_BYTES, NodeId, Session, ShardId, Value, Version, WriterId};
use crate::node::Node;
use crate::reserved;
use crate::router::scan::{ScanPage, ScanRequest, join};
use crate::router::{OperationId, Outcome, Request, Router, Timing};
use crate::wire::{Message, NameRange, RequestId, StagingAction, StagingReply};

use alone::{NoNet, Still};

pub use collection::Collection;
pub use options::Options;
pub use read::{Cursor, Document, Documents, Ids, Page, Snapshot};

/// The only node there is.
const NODE: NodeId = NodeId(0);
const ME: Peer = Peer::Client(0);
/// Time plays no part: nothing is resent, and an operation that cannot end now never will.
const NOW: Nanos = 0;
/// Documents per step of a scrub, and tombstones per step of a compaction; others come in between.
const STEP_DOCUMENTS: usize = 4_096;

/// An open store. `Send` and `Sync`; share it by reference or in an [`Arc`].
///
/// Dropping it writes nothing: everything acknowledged is on the disk already.
pub struct Store {
    inner: Mutex<Inner>,
    disk: Arc<dyn Disk>,
}

struct Inner {
    node: Node,
    router: Router,
    env: Env,
    shard_count: u32,
    /// Until a batch is through, its operations, in order.
    pending: Vec<OperationId>,
}

/// Several writes that become durable together: after a crash all of them are there, or none.
#[derive(Clone, Debug, Default)]
pub struct Batch(Vec<Request>);

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a put. Of two writes of one document in a batch the later one stays. Fails if the name cannot be one, if the
    /// body is larger than 16 MiB, or if it is a JSON object with a field that is [`reserved`].
    pub fn put(&mut self, collection: &str, id: &str, body: &[u8]) -> Result<&mut Batch, StoreError> {
        self.0.push(put(Key::new(collection, id)?, body)?);
        Ok(self)
    }

    /// Adds a delete; a document that is not there is one that is deleted.
    pub fn delete(&mut self, collection: &str, id: &str) -> Result<&mut Batch, StoreError> {
        self.0.push(Request::Delete { key: Key::new(collection, id)? });
        Ok(self)
    }

    /// How many writes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn put(key: Key, body: &[u8]) -> Result<Request, StoreError> {
    if body.len() > MAX_VALUE_BYTES {
        return Err(StoreError::BodyLength { bytes: body.len() });
    }
    if let Some(field) = reserved::field_in(body) {
        return Err(StoreError::Reserved { field: field.escape_debug().to_string() });
    }
    Ok(Request::Put { key, value: Value::from(body) })
}

/// What a store holds and takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub shards: u32,
    /// Documents, and tombstones of deleted ones that no compaction has removed.
    pub documents: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Bytes of the log alone, which the next flush gives back.
    pub log_bytes: u64,
    /// Documents in memory that the page file does not have yet (the log does).
    pub unflushed_documents: u64,
    /// Shards that rot has silenced: none of their documents can be read or written.
    pub damaged: Vec<ShardId>,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Documents that were read back from the disk and are what was written.
    pub documents: u64,
    /// Shards that were found damaged now; they no longer answer.
    pub damaged: Vec<ShardId>,
    /// Whether a damaged file was written anew, without loss.
    pub repaired: bool,
}

impl Store {
    /// Opens the store in a directory, creating it if it is not there, with default [`Options`].
    ///
    /// Fails with `InUse` if it is open already, here or in another process; with `Engine` if what is there is
    /// damaged, is no store, or was written by another version.
    #[cfg(unix)]
    pub fn open(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        Options::default().open(path)
    }

    /// Opens the store on a disk of one's own, with the randomness of one's own.
    pub fn open_on(disk: Arc<dyn Disk>, dice: Arc<dyn Dice>, options: &Options) -> Result<Store, StoreError> {
        let env = Env {
            clock: Arc::new(Still),
            dice,
            disk: Arc::clone(&disk),
            net: Arc::new(NoNet),
            probe: Arc::new(NoProbe),
        };
        let mut node = Node::open(NODE, &env, options.engine())?;
        let found = node.engine().shards().find_map(|(_, state)| state.config.as_ref());
        let shard_count = match (found.map(|config| config.shard_count), options.shards) {
            (Some(found), Some(wanted)) if found != wanted => {
                return Err(StoreError::Shards { found, wanted });
            }
            (found, wanted) => found.or(wanted).unwrap_or(1),
        };
        if found.is_none() {
            let disk = node.engine().disk_id();
            for shard in 0..shard_count {
                let replica = Replica { node: NODE, session: Session(Epoch::FIRST), disk };
                let config = ShardConfig::initial(ShardId(shard), shard_count, vec![replica]);
                node.receive(NOW, Peer::Coordinator, Message::Install { config })?;
            }
            node.commit(&env)?;
            node.take_refusal().map_or(Ok(()), Err)?;
            node.drain_answers();
        }
        let router = Router::new(WriterId(env.dice.bits()), vec![NODE], Timing::default());
        let inner = Inner { node, router, env, shard_count, pending: Vec::new() };
        Ok(Store { inner: Mutex::new(inner), disk })
    }

    /// A collection by name, of 1 to 400 bytes and without NUL. It need not be created, and one without documents takes no
    /// room. Fails with `Key` if no collection can be called so.
    pub fn collection<'a>(&'a self, name: &'a str) -> Result<Collection<'a>, StoreError> {
        Collection::new(self, name)
    }

    /// The body of a document; `None` if there is none. Ids have 1 to 511 bytes and no NUL.
    ///
    /// Fails with `Key` if nothing can be named so, with `Engine(Damaged)` if its shard has rotted.
    pub fn get(&self, collection: &str, id: &str) -> Result<Option<Value>, StoreError> {
        self.inner()?.get(Key::new(collection, id)?)
    }

    /// Writes a document, whole, durably. A body has at most 16 MiB and need not be JSON; if it is an object, no field may be
    /// [`reserved`].
    ///
    /// Fails with `Key`, `BodyLength` or `Reserved` if it cannot be stored, with `Engine` if the disk has no room (`Full`),
    /// failed (`Io`, `Poisoned`), or has rotted where the document belongs (`Damaged`). After `Full` and `Damaged` nothing
    /// has changed.
    pub fn put(&self, collection: &str, id: &str, body: &[u8]) -> Result<(), StoreError> {
        let request = put(Key::new(collection, id)?, body)?;
        self.inner()?.call(request).map(drop)
    }

    /// Deletes a document, durably; one that is not there is deleted. It leaves a tombstone until the next
    /// [`Store::compact`]. Fails as [`Store::put`] does.
    pub fn delete(&self, collection: &str, id: &str) -> Result<(), StoreError> {
        let key = Key::new(collection, id)?;
        self.inner()?.call(Request::Delete { key }).map(drop)
    }

    /// Makes all writes of a batch durable with one sync: all or none. Fails as [`Store::put`] does; none of it is there
    /// then, but after a failed sync (`Io`), of which the next opening tells.
    pub fn batch(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner()?.call_all(batch.0)
    }

    /// The next documents of a collection, at most `page` (at least one if there is one): from the beginning, or from
    /// where another page ended. A page also ends when it has 1 MiB. Fails with `Engine(Damaged)` if any shard has rotted, as
    /// its documents would be missing.
    pub fn scan(&self, collection: &str, ids: &Ids, from: Option<&Cursor>, page: usize) -> Result<Page, StoreError> {
        let range = ids.in_collection(collection, from)?;
        self.inner()?.scan(&range, page.clamp(1, u32::MAX as usize)).map(Page::from)
    }

    /// All documents of a collection in these bounds, in id order, read a page at a time. It is no snapshot: a
    /// document that is there throughout appears exactly once.
    pub fn iter<'a>(&'a self, collection: &str, ids: Ids) -> Documents<'a> {
        let collection = collection.to_owned();
        Documents::new(move |from, page| self.scan(&collection, &ids, from, page))
    }

    /// Visits the documents of a collection in these bounds where they lie, in id order, until told to stop: id and
    /// body. It sees the store as it is now, and holds up nobody; what a [`Store::snapshot`] says of itself holds here.
    pub fn visit(
        &self,
        collection: &str,
        ids: &Ids,
        visit: impl FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.snapshot()?.visit(collection, ids, visit)
    }

    /// What the store holds now, to be read while others write. It takes no time and no room until what it shows is
    /// replaced.
    ///
    /// A scrub or a compaction ends it: its reads then fail with `Engine(SnapshotGone)`. It is not given, `Engine(Damaged)`,
    /// while any shard is damaged.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let inner = self.inner()?;
        inner.check_damage()?;
        Ok(Snapshot::new(inner.node.engine().snapshot()?, inner.shard_count))
    }

    /// A batch of requests that were made elsewhere.
    pub(crate) fn write_all(&self, requests: Vec<Request>) -> Result<(), StoreError> {
        self.inner()?.call_all(requests)
    }

    /// A page of documents by their full names.
    pub(crate) fn scan_names(&self, range: &NameRange, documents: usize) -> Result<ScanPage, StoreError> {
        self.inner()?.scan(range, documents)
    }

    /// Asks the node for something about its staging area.
    pub(crate) fn stage(&self, import: u128, action: StagingAction) -> Result<StagingReply, StoreError> {
        let Inner { node, env, .. } = &mut *self.inner()?;
        node.receive(NOW, ME, Message::Stage { request: RequestId { job: 0, n: 0 }, import, action })?;
        node.commit(env)?;
        let reply = node.drain_answers().into_iter().find_map(|(_, message)| match message {
            Message::Staged { reply, .. } => Some(reply),
            _ => None,
        });
        Ok(reply.expect("a node answers about its staging area at once"))
    }

    /// Counts; reads no document. Fails with `Engine(Io)` if the sizes of the files cannot be had.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let inner = self.inner()?;
        let engine = inner.node.engine();
        let mut stats = Stats {
            shards: inner.shard_count,
            log_bytes: engine.log_bytes(),
            unflushed_documents: engine.unflushed_documents() as u64,
            ..Stats::default()
        };
        for (shard, state) in engine.shards() {
            stats.documents += state.documents;
            stats.damaged.extend(state.damaged.then_some(shard));
        }
        for name in self.disk.list().map_err(EngineError::from)? {
            stats.disk_bytes += self.disk.open(&name).and_then(|file| file.len()).map_err(EngineError::from)?;
        }
        Ok(stats)
    }

    /// Reads everything back from the disk, past every cache, and compares it with its checksums and digests. Other
    /// calls come in between. A shard that is found damaged falls silent: better no answer than a wrong one. Fails with
    /// `Engine` if what all shards need is damaged (`Corrupt`) or the disk fails.
    pub fn scrub(&self) -> Result<Scrub, StoreError> {
        let mut found = Scrub::default();
        loop {
            let Inner { node, env, .. } = &mut *self.inner()?;
            let step = node.scrub(STEP_DOCUMENTS)?;
            node.commit(env)?;
            found.documents += step.documents;
            found.damaged.extend(step.damaged);
            found.repaired |= step.replaced;
            if step.finished {
                return Ok(found);
            }
        }
    }

    /// Moves what is in memory and log to the page file now, so that the next opening has nothing to replay. Nothing is
    /// more durable for it. On a full disk it is put off; after any other error of the disk the store is `Poisoned`.
    pub fn flush(&self) -> Result<(), StoreError> {
        let Inner { node, env, .. } = &mut *self.inner()?;
        Ok(node.checkpoint(env)?)
    }

    /// Forgets the tombstones of deleted documents and writes everything that is left into a new page file. Takes the
    /// room of both files while it works; other calls wait until it is done. Fails with `Engine(Full)` if there is no such
    /// room: then at most tombstones are gone.
    pub fn compact(&self) -> Result<(), StoreError> {
        let mut inner = self.inner()?;
        for shard in 0..inner.shard_count {
            inner.forget_tombstones(ShardId(shard))?;
        }
        let Inner { node, env, .. } = &mut *inner;
        Ok(node.compact(env)?)
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        self.inner.lock().map_err(|_| StoreError::Panicked)
    }
}

impl Inner {
    /// What the one replica holds is what a quorum of one would answer with. Where it holds nothing that it can show,
    /// the router finds out why.
    fn get(&mut self, key: Key) -> Result<Option<Value>, StoreError> {
        let shard = key.shard(self.shard_count);
        if !self.is_damaged(shard)
            && let Ok(held) = self.node.engine().get(shard, &key)
        {
            return Ok(held.and_then(|held| held.value));
        }
        self.call(Request::Get { key })
    }

    /// One operation: what it read or wrote.
    fn call(&mut self, request: Request) -> Result<Option<Value>, StoreError> {
        let shard = request.key().shard(self.shard_count);
        let id = self.router.start(NOW, request);
        self.pump()?;
        match self.router.drain_done().into_iter().find(|(done, _)| *done == id) {
            Some((_, Outcome::Ok { value, .. })) => Ok(value),
            _ => Err(self.give_up(shard)),
        }
    }

    fn call_all(&mut self, requests: Vec<Request>) -> Result<(), StoreError> {
        let Some(first) = requests.first() else {
            return Ok(());
        };
        let mut failed = first.key().shard(self.shard_count);
        // A shard that cannot answer would hold up its part of the batch only, and a batch is all or nothing.
        for request in &requests {
            let shard = request.key().shard(self.shard_count);
            if self.is_damaged(shard) {
                failed = shard;
                return Err(self.give_up(failed));
            }
        }
        self.pending.clear();
        for request in requests {
            self.pending.push(self.router.start(NOW, request));
        }
        self.pump()?;
        let done = self.router.drain_done();
        let ended = done.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Ok { .. })).count();
        if ended == self.pending.len() { Ok(()) } else { Err(self.give_up(failed)) }
    }

    /// One page over all shards.
    fn scan(&mut self, range: &NameRange, documents: usize) -> Result<ScanPage, StoreError> {
        let request = |shard| ScanRequest { shard, range: range.clone(), documents: documents as u32 };
        let mut pages = Vec::with_capacity(self.shard_count as usize);
        for shard in (0..self.shard_count).map(ShardId) {
            self.router.scan(NOW, request(shard));
            self.pump()?;
            match self.router.drain_scanned().pop() {
                Some((_, Some(page))) => pages.push(page),
                _ => return Err(self.give_up(shard)),
            }
        }
        Ok(match pages.len() {
            1 => pages.remove(0),
            _ => join(pages, documents),
        })
    }

    /// Passes messages between router and node until neither has anything to say. What is asked for together is done
    /// whole or not at all: not if a part of it meets rot, or a disk that cannot be read.
    fn pump(&mut self) -> Result<(), StoreError> {
        loop {
            let sends = self.router.drain_sends();
            if sends.is_empty() {
                return Ok(());
            }
            for (_, message) in sends {
                if let Err(error) = self.node.receive(NOW, ME, message) {
                    self.node.discard()?;
                    self.end_all();
                    return Err(error.into());
                }
            }
            if self.node.has_met_rot() {
                self.node.discard()?;
            }
            self.node.commit(&self.env)?;
            for (to, message) in self.node.drain_answers() {
                if to == ME {
                    self.router.receive(NOW, Peer::Node(NODE), message);
                }
            }
        }
    }

    /// Ends everything that is under way.
    fn end_all(&mut self) {
        self.router.tick(Nanos::MAX);
        self.router.drain_sends();
        self.router.drain_done();
        self.router.drain_scanned();
    }

    /// Ends everything that is under way, and says why it could not end well.
    fn give_up(&mut self, shard: ShardId) -> StoreError {
        self.end_all();
        match self.node.take_refusal() {
            Some(refusal) => StoreError::Engine(refusal),
            None => self.check_damage().err().unwrap_or(StoreError::Unavailable { shard }),
        }
    }

    fn is_damaged(&self, shard: ShardId) -> bool {
        self.node.engine().shard(shard).is_some_and(|state| state.damaged)
    }

    fn check_damage(&self) -> Result<(), StoreError> {
        let engine = self.node.engine();
        match engine.shards().find(|(_, state)| state.damaged) {
            Some((shard, _)) => Err(EngineError::Damaged { shard, disk: engine.disk_id() }.into()),
            None => Ok(()),
        }
    }

    /// Removes the tombstones of a shard as a cluster would: raises the barrier below which no write is taken any
    /// more, then names the tombstones that it replaces.
    fn forget_tombstones(&mut self, shard: ShardId) -> Result<(), StoreError> {
        let (mut from, mut epoch) = (String::new(), None);
        loop {
            let (tombstones, next) = tombstones(self.node.engine(), shard, &from)?;
            if !tombstones.is_empty() {
                let request = RequestId { job: 0, n: 0 };
                let epoch = match epoch {
                    Some(epoch) => epoch,
                    None => *epoch.insert(self.raise_barrier(shard)?),
                };
                self.node.receive(NOW, Peer::Coordinator, Message::Forget { request, shard, epoch, tombstones })?;
                self.commit()?;
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    fn raise_barrier(&mut self, shard: ShardId) -> Result<Epoch, StoreError> {
        let state = self.node.engine().shard(shard);
        let mut config = state.and_then(|state| state.config.clone()).expect("every shard was installed");
        config.epoch = config.epoch.next();
        config.gc_barrier = config.epoch;
        let epoch = config.epoch;
        self.node.receive(NOW, Peer::Coordinator, Message::Install { config: config.clone() })?;
        self.commit()?;
        self.router.receive(NOW, Peer::Node(NODE), Message::Configs { configs: vec![config] });
        Ok(epoch)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.node.commit(&self.env)?;
        self.node.drain_answers();
        self.node.take_refusal().map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}

/// Some tombstones from `from` on, and where to look for more.
#[expect(clippy::type_complexity, reason = "used once, above")]
fn tombstones(
    engine: &engine::Engine,
    shard: ShardId,
    from: &str,
) -> Result<(Vec<(Key, Version)>, Option<String>), EngineError> {
    let (mut found, mut next) = (Vec::new(), None);
    engine.scan(shard, &Range { from, until: None }, |name, version, value| {
        if found.len() == STEP_DOCUMENTS {
            next = Some(name.to_owned());
            return ControlFlow::Break(());
        }
        if value.is_none() {
            found.extend(Key::from_encoded(name).map(|key| (key, version)));
        }
        ControlFlow::Continue(())
    })?;
    Ok((found, next))
}
