//! The storage engine of one node: what it answers from is what it would find after losing power.
//!
//! A write goes through three places. It is *staged* in memory, where reads see it; *committed* by one append and one
//! sync of the `log`, together with everything else that was staged; and *flushed*, with some hundreds of others, into
//! the `pages`, where it is found after the log that carried it is gone. Reads look into memory first, then into the
//! pages. Opening replays the log over the pages (`recovery`).
//!
//! Configurations, wipes and drops take the same way, so each of them is one durable step, and a wipe and the install
//! that causes it are one operation. A copy that is wiped gets a new incarnation number and no work is done; the rows
//! of the old one go with the next flushes.
//!
//! Everything that is read from the disk was checked: documents, pages, sectors of the log. Rot in a document's page
//! is an error of that shard ([`EngineError::Damaged`]) and the node silences the copy; rot that the engine cannot
//! place keeps it from opening. The one thing that checksums cannot tell from an unfinished commit is a last group
//! that a disk acknowledged and then lost whole sectors of.
//!
//! The engine is a function of its calls and its disk: no clock, no randomness, no threads, only ordered maps.

mod blocks;
mod bytes;
mod copies;
mod digest;
mod flush;
mod log;
mod names;
mod pages;
mod reads;
mod record;
mod recovery;
mod row_cache;
mod scrub;
mod sectors;

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::ShardConfig;
use crate::env::{Disk, Nanos, millis};
use crate::error::EngineError;
use crate::id::{DiskId, Key, MAX_VALUE_BYTES, ShardId, Value, Version};

use copies::Copies;
use digest::NameHash;
use flush::Limits;
use log::Log;
use pages::Pages;
use record::{Borrowed, Former, Held};
use recovery::Recovered;

pub use digest::{BUCKETS, Bucket, Digest, FAN_OUT, MAX_LEVEL};
pub use reads::{Range, Snapshot, behind, end_of_prefix};
pub use scrub::Scrubbed;

/// What a node may choose about its engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Documents the memory table holds before it is flushed to the pages.
    pub flush_writes: usize,
    /// Bytes (keys and values) the memory table holds before it is flushed to the pages.
    pub flush_bytes: usize,
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of memory, beside the pages, for documents that were read lately, so that they are found without a search in
    /// the pages. They are kept until the next flush. 0: every read goes through the pages.
    pub row_cache_bytes: usize,
    /// Bytes of memory for what is kept of documents' names, 6 to 12 for each, so that new documents are written without
    /// looking for old ones. 0: every write looks.
    pub names_bytes: usize,
    /// How often a node takes the search for rot on, and by how many documents; it holds up others as long as reading
    /// these takes. `Nanos::MAX`: never. An engine that is used alone is scrubbed by whoever uses it.
    pub scrub_every: Nanos,
    pub scrub_documents: usize,
    /// The largest body that a node takes from clients, at most [`MAX_VALUE_BYTES`]. All nodes of a cluster have the same.
    pub document_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            flush_writes: 512,
            flush_bytes: 4 << 20,
            cache_bytes: 32 << 20,
            row_cache_bytes: 0,
            names_bytes: 0,
            scrub_every: millis(1_000),
            scrub_documents: 1_000,
            document_bytes: MAX_VALUE_BYTES,
        }
    }
}

/// A document as it is held: its version and, unless it was deleted, its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: Version,
    /// `None` is a tombstone.
    pub value: Option<Value>,
}

/// What a listing says of a document: enough to compare it, and nothing of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub version: Version,
    /// Covers key, version and value. Of one document in one version there is only one.
    pub sum: u64,
}

impl Mark {
    /// That of a document; without a value, of a tombstone.
    pub fn of(key: &Key, version: Version, value: Option<&[u8]>) -> Mark {
        Mark { version, sum: record::checksum(key.encoded(), version, value) }
    }
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Staged: it is greater than what was held.
    Applied,
    /// This very version is held already.
    Same,
    /// Nothing changed; the greater version that is held.
    Older(Version),
}

/// What a node knows about a shard: its installed configuration and its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    pub config: Option<ShardConfig>,
    /// At least the counter of every version that this copy ever held.
    pub max_counter: u64,
    /// Set when rot was found; cleared only by a wipe.
    pub damaged: bool,
    pub digest: Digest,
    /// Documents of the copy, tombstones included.
    pub documents: u64,
}

/// One thing that a commit made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Applied {
        shard: ShardId,
        key: Key,
        version: Version,
    },
    Installed {
        config: ShardConfig,
        wiped: bool,
    },
    Dropped {
        shard: ShardId,
    },
    /// A tombstone is gone.
    Forgotten {
        shard: ShardId,
        key: Key,
        version: Version,
    },
}

/// Part of a copy, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<(Key, Stored)>,
    /// Whether documents follow behind the last of this page.
    pub more: bool,
}

/// The durable state of one node. Single-threaded; `Send`.
pub struct Engine {
    disk: Arc<dyn Disk>,
    disk_id: DiskId,
    options: Options,
    log: Log,
    /// `None` until the first flush.
    pages: Option<Pages>,
    copies: Copies,
    /// The operations staged since the last commit, as they will stand in the log, and what they will have done.
    group: Vec<u8>,
    effects: Vec<Effect>,
    /// What brings about the next flush.
    limits: Limits,
    /// The scrub that is under way.
    scrub: Option<scrub::Pass>,
    poisoned: bool,
}

impl Engine {
    /// Opens the disk's engine, recovering what a crash left, or formats the disk.
    ///
    /// `fresh` is 128 random bits, which become the [`DiskId`] if the disk is formatted now. Fails with `Corrupt` if
    /// something that was durable has changed since, with `Format` if another version of the store wrote it.
    pub fn open(disk: Arc<dyn Disk>, options: Options, fresh: u128) -> Result<Engine, EngineError> {
        let Recovered { disk_id, log, pages, mut copies } = recovery::recover(&disk, &options, fresh)?;
        if mutant!("M28") {
            copies.iter_mut().for_each(|(_, copy)| copy.state.max_counter = 0);
        }
        // What was replayed counts: it is flushed by the first commit if it was due.
        let limits = Limits::behind(&options, &Copies::new(0), &log);
        let (group, effects) = (Vec::new(), Vec::new());
        Ok(Engine { disk, disk_id, options, log, pages, copies, group, effects, limits, scrub: None, poisoned: false })
    }

    /// Which disk this is.
    pub fn disk_id(&self) -> DiskId {
        self.disk_id
    }

    /// Every shard this node knows, in order, with what is staged.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardState)> {
        self.copies.iter().map(|(shard, copy)| (shard, &copy.state))
    }

    /// One shard, with what is staged.
    pub fn shard(&self, shard: ShardId) -> Option<&ShardState> {
        self.copies.get(shard).map(|copy| &copy.state)
    }

    /// Stages a write. Of two versions the greater one stays, whichever came first.
    ///
    /// The copy's counter is at least `version.counter` afterwards. Nothing is durable before [`Engine::commit`].
    /// Fails with `Damaged`, and stages nothing, if what is held cannot be read.
    pub fn put(
        &mut self,
        shard: ShardId,
        key: &Key,
        version: Version,
        value: Option<Value>,
    ) -> Result<Put, EngineError> {
        self.check()?;
        let name = NameHash::of(key.encoded());
        let may_hold = self.copies.may_hold(shard, name);
        let old = if may_hold { self.find(shard, key, |held| (held.version, Former::from(held)))? } else { None };
        if let Some((held, _)) = old
            && held >= version
        {
            let counter = self.shard(shard).map_or(0, |state| state.max_counter);
            assert!(counter >= held.counter, "{shard} holds {held} above its counter {counter}");
            return Ok(if held == version { Put::Same } else { Put::Older(held) });
        }
        self.stage(shard, key, name, Held::new(key, version, value), old.map(|(_, former)| former));
        Ok(Put::Applied)
    }

    fn stage(&mut self, shard: ShardId, key: &Key, name: NameHash, held: Held, old: Option<Former>) {
        record::write_put(&mut self.group, shard, key, &held);
        if let Some(pass) = &mut self.scrub {
            pass.replaced(shard, key, old, Some(held.borrowed().into()));
        }
        let version = held.version;
        self.copies.put(shard, key, name, held, old);
        self.effects.push(Effect::Applied { shard, key: key.clone(), version });
    }

    /// Stages the end of a tombstone, if the copy holds exactly this version of the document and it is one; whether
    /// it does. The counter stays.
    pub fn forget(&mut self, shard: ShardId, key: &Key, version: Version) -> Result<bool, EngineError> {
        self.check()?;
        let is_it = |held: Borrowed<'_>| (held.version == version && held.value.is_none()).then(|| Former::from(held));
        let Some(former) = self.find(shard, key, is_it)?.flatten() else {
            return Ok(false);
        };
        record::write_forget(&mut self.group, shard, key, version);
        if let Some(pass) = &mut self.scrub {
            pass.replaced(shard, key, Some(former), None);
        }
        self.copies.forget(shard, key, former.sum);
        self.effects.push(Effect::Forgotten { shard, key: key.clone(), version });
        Ok(true)
    }

    /// Stages a document whatever is held: what the planted bug M06 merges with.
    #[cfg(madsim)]
    pub fn put_regardless(
        &mut self,
        shard: ShardId,
        key: &Key,
        version: Version,
        value: Option<Value>,
    ) -> Result<Put, EngineError> {
        self.check()?;
        let old: Option<Former> = self.find(shard, key, |held| held.into())?;
        self.stage(shard, key, NameHash::of(key.encoded()), Held::new(key, version, value), old);
        Ok(Put::Applied)
    }

    /// Stages a greater counter; a lesser one changes nothing.
    pub fn raise_counter(&mut self, shard: ShardId, counter: u64) -> Result<(), EngineError> {
        self.check()?;
        if self.shard(shard).is_none_or(|state| state.max_counter < counter) {
            record::write_raise(&mut self.group, shard, counter);
            self.copies.raise(shard, counter);
        }
        Ok(())
    }

    /// Stages a configuration. With `wipe`, all documents of the copy, its digest, its counter and its damage are
    /// gone in the same durable step.
    pub fn install(&mut self, config: &ShardConfig, wipe: bool) -> Result<(), EngineError> {
        self.check()?;
        let held = self.shard(config.shard).and_then(|state| state.config.clone()).filter(|_| mutant!("M14"));
        record::write_install(&mut self.group, held.as_ref().unwrap_or(config), wipe && !mutant!("M50"));
        if wipe {
            self.restart_scrub(config.shard);
        }
        self.copies.install(config, wipe);
        self.effects.push(Effect::Installed { config: config.clone(), wiped: wipe });
        Ok(())
    }

    /// Stages the end of a copy: documents, digest and counter go; configuration and damage stay.
    pub fn drop_copy(&mut self, shard: ShardId) -> Result<(), EngineError> {
        self.check()?;
        record::write_drop(&mut self.group, shard);
        self.restart_scrub(shard);
        self.copies.drop_copy(shard);
        self.effects.push(Effect::Dropped { shard });
        Ok(())
    }

    /// Stages the mark that silences a copy until it is wiped.
    pub fn mark_damaged(&mut self, shard: ShardId) -> Result<(), EngineError> {
        self.check()?;
        if self.shard(shard).is_none_or(|state| !state.damaged) {
            record::write_damage(&mut self.group, shard);
            self.copies.damage(shard);
        }
        Ok(())
    }

    /// Whether a commit has anything to do.
    pub fn has_staged(&self) -> bool {
        !self.group.is_empty()
    }

    /// Moves everything from memory to the page file now, so that the next opening has nothing to replay. On a full
    /// disk it is put off, as every flush is. Fails with `Poisoned` after any other error.
    pub fn checkpoint(&mut self) -> Result<(), EngineError> {
        self.check()?;
        assert!(self.group.is_empty(), "what is staged is committed first");
        if self.copies.documents() == 0 {
            return Ok(());
        }
        self.flush().inspect_err(|_| self.poisoned = true)
    }

    /// Tombstones of a copy. `None` until what an earlier process left in the pages was read through once, which the
    /// next scrub does; exact from then on, with what is staged.
    pub fn tombstones(&self, shard: ShardId) -> Option<u64> {
        self.copies.get(shard).and_then(|copy| copy.tombstones)
    }

    /// Bytes that the disk still has room for; `None` where nobody can say.
    pub fn free_bytes(&self) -> Result<Option<u64>, EngineError> {
        Ok(self.disk.free_bytes()?)
    }

    /// Bytes of the page file.
    pub fn page_bytes(&self) -> Result<u64, EngineError> {
        match &self.pages {
            Some(pages) => Ok(self.disk.open(&Pages::name(pages.number()))?.len()?),
            None => Ok(0),
        }
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> u64 {
        self.log.len()
    }

    /// Documents in memory that the pages do not have yet.
    pub fn unflushed_documents(&self) -> usize {
        self.copies.documents()
    }

    /// Makes everything staged durable in one step, and returns what that was, in the order it was staged.
    ///
    /// After `Full` the engine is as it was before anything of this commit was staged, durably so; a later commit
    /// succeeds once there is room. After any other error, and after an error of the flush that a commit may bring
    /// about, every call fails with `Poisoned`: whether the commit is durable is known only after the disk was opened
    /// again.
    pub fn commit(&mut self) -> Result<Vec<Effect>, EngineError> {
        self.check()?;
        if self.group.is_empty() {
            return Ok(Vec::new());
        }
        if let Err(error) = self.log.append(&self.group) {
            return Err(self.take_back(error));
        }
        if let Err(error) = self.log.sync() {
            self.poisoned = true;
            return Err(EngineError::Io(error));
        }
        #[cfg(madsim)]
        if mutant!("M50") {
            self.wipe_afterwards()?;
        }
        self.group.clear();
        self.copies.keep();
        let effects = std::mem::take(&mut self.effects);
        if self.wants_flush()
            && let Err(error) = self.flush()
        {
            // This commit is durable, and is answered; nothing after it will be.
            tracing::warn!("the flush failed, and the engine with it: {error}");
            self.poisoned = true;
        }
        Ok(effects)
    }

    /// The planted bug M50: wipes follow the installs that cause them, in a commit of their own.
    #[cfg(madsim)]
    fn wipe_afterwards(&mut self) -> Result<(), EngineError> {
        let mut wipes = Vec::new();
        for effect in &self.effects {
            if let Effect::Installed { config, wiped: true } = effect {
                record::write_drop(&mut wipes, config.shard);
            }
        }
        if !wipes.is_empty() {
            self.log.append(&wipes)?;
            self.log.sync()?;
        }
        Ok(())
    }

    /// An append failed. If the disk is full and the log can be cut back, nothing happened.
    fn take_back(&mut self, error: io::Error) -> EngineError {
        match io_error(error) {
            EngineError::Full(error) if self.log.cut().is_ok() => {
                self.discard();
                EngineError::Full(error)
            }
            error => {
                self.poisoned = true;
                error
            }
        }
    }

    /// Takes back everything that was staged since the last commit. A scrub that is under way begins anew.
    pub fn discard(&mut self) {
        self.copies.undo();
        self.scrub = None;
        self.group.clear();
        self.effects.clear();
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.poisoned { Err(EngineError::Poisoned) } else { Ok(()) }
    }
}

fn io_error(error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            EngineError::Full(error)
        }
        _ => EngineError::Io(error),
    }
}
