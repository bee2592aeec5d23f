//! What the engine holds in memory: of every shard its state, and the documents that were not flushed yet.
//!
//! Operations are applied here when they are staged, so that reads include them, and can be undone as long as they
//! are not committed. Replaying the log applies the same operations by the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ShardState;
use super::digest::{Digest, NameHash};
use super::names::{self, Names};
use super::record::{Former, Held};
use crate::config::ShardConfig;
use crate::id::{Key, ShardId};

/// A shard on this node.
#[derive(Clone, Debug)]
pub struct Copy {
    pub state: ShardState,
    /// Names the documents of this copy in the page file. A wipe takes the next number, and so takes no time; the
    /// rows of the old one go with the next flushes.
    pub incarnation: u64,
    /// Whether the page file may hold documents of this incarnation.
    pub paged: bool,
    /// Whether the state differs from the one in the page file.
    pub dirty: bool,
    /// How many of its documents are tombstones; `None` as long as nobody has read through what the page file had of it
    /// when this process began.
    pub tombstones: Option<u64>,
    pub memory: Memory,
    names: Names,
}

impl Default for Copy {
    fn default() -> Copy {
        Copy {
            state: ShardState::default(),
            incarnation: 0,
            paged: false,
            dirty: false,
            tombstones: Some(0),
            memory: Memory::default(),
            names: Names::default(),
        }
    }
}

/// What a copy holds in front of the page file. Shared with snapshots; whoever changes it while one looks on changes
/// a clone.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Documents newer than the page file's.
    pub table: Arc<BTreeMap<Key, Held>>,
    /// Documents that were forgotten and that the page file may still hold.
    pub forgotten: Arc<BTreeSet<Key>>,
}

impl Memory {
    fn len(&self) -> usize {
        self.table.len() + self.forgotten.len()
    }

    fn bytes(&self) -> usize {
        self.table.iter().map(|(key, held)| held.bytes(key)).sum()
    }
}

impl Copy {
    fn remove(&mut self) -> Copy {
        let fresh = Copy {
            state: ShardState { config: self.state.config.clone(), ..ShardState::default() },
            incarnation: self.incarnation + 1,
            dirty: true,
            ..Copy::default()
        };
        std::mem::replace(self, fresh)
    }
}

enum Undo {
    Put {
        shard: ShardId,
        key: Key,
        previous: Option<Held>,
        sum: u64,
        documents: u64,
        tombstones: Option<u64>,
        max_counter: u64,
    },
    /// The shard as it was; `None` if it was not known.
    Copy {
        shard: ShardId,
        previous: Option<Box<Copy>>,
    },
    Raise {
        shard: ShardId,
        max_counter: u64,
    },
    Forget {
        shard: ShardId,
        key: Key,
        previous: Option<Held>,
        /// Whether the key was new among the forgotten ones.
        added: bool,
        sum: u64,
    },
}

/// All shards of this node.
pub struct Copies {
    shards: BTreeMap<ShardId, Copy>,
    /// Shards of which the page file may hold documents of earlier incarnations.
    stale: BTreeSet<ShardId>,
    undo: Vec<Undo>,
    documents: usize,
    bytes: usize,
    /// How much memory the names of all copies may take.
    names_bytes: usize,
}

impl Copies {
    pub fn new(names_bytes: usize) -> Copies {
        let (shards, stale, undo) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Copies { shards, stale, undo, documents: 0, bytes: 0, names_bytes }
    }

    /// Takes in a shard as the page file has it.
    pub fn load(&mut self, shard: ShardId, incarnation: u64, state: ShardState, has_stale: bool) {
        if has_stale {
            self.stale.insert(shard);
        }
        let paged = state.documents > 0;
        let names = if paged { Names::unknown() } else { Names::default() };
        let tombstones = if paged { None } else { Some(0) };
        let copy = Copy { state, incarnation, paged, tombstones, names, ..Copy::default() };
        assert!(self.shards.insert(shard, copy).is_none(), "{shard} has one row");
    }

    pub fn iter(&self) -> impl Iterator<Item = (ShardId, &Copy)> {
        self.shards.iter().map(|(&shard, copy)| (shard, copy))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ShardId, &mut Copy)> {
        self.shards.iter_mut().map(|(&shard, copy)| (shard, copy))
    }

    pub fn get(&self, shard: ShardId) -> Option<&Copy> {
        self.shards.get(&shard)
    }

    /// Documents in memory.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Bytes of the documents in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn stale(&self) -> &BTreeSet<ShardId> {
        &self.stale
    }

    /// Whether the copy may hold a document of this name, in memory or in the page file. `false` is certain.
    pub fn may_hold(&self, shard: ShardId, name: NameHash) -> bool {
        self.shards.get(&shard).is_some_and(|copy| copy.names.may_hold(name))
    }

    /// Holds a document instead of `old`, what the copy held under this key. `name` is the key's hash.
    pub fn put(&mut self, shard: ShardId, key: &Key, name: NameHash, held: Held, old: Option<Former>) {
        let copy = self.shards.entry(shard).or_default();
        let bucket = name.bucket();
        let sum = copy.state.digest.0[usize::from(bucket)];
        let (documents, tombstones, max_counter) = (copy.state.documents, copy.tombstones, copy.state.max_counter);
        let (gone, come) =
            if mutant!("M32") && held.value.is_none() { (0, 0) } else { (old.map_or(0, |old| old.sum), held.sum) };
        copy.state.documents += u64::from(old.is_none());
        let (lost, won) = (old.is_some_and(|old| old.is_tombstone), held.value.is_none());
        copy.tombstones = tombstones.map(|count| count + u64::from(won) - u64::from(lost));
        copy.state.digest.subtract(bucket, gone);
        copy.state.digest.add(bucket, come);
        copy.state.max_counter = max_counter.max(held.version.counter);
        copy.dirty = true;
        self.bytes += held.bytes(key);
        let previous = Arc::make_mut(&mut copy.memory.table).insert(key.clone(), held);
        match &previous {
            Some(previous) => self.bytes -= previous.bytes(key),
            None => self.documents += 1,
        }
        self.undo.push(Undo::Put { shard, key: key.clone(), previous, sum, documents, tombstones, max_counter });
        if !copy.names.add(name) {
            self.grow_names(shard, name);
        }
    }

    /// Takes in a name that needs room: as much again as the copy's names have, or all of them are given up.
    fn grow_names(&mut self, shard: ShardId, name: NameHash) {
        let bytes: usize = self.shards.values().map(|copy| copy.names.bytes()).sum();
        let copy = self.shards.get_mut(&shard).expect("a shard that was put to");
        if bytes + copy.names.bytes().max(names::FIRST_BYTES) <= self.names_bytes {
            copy.names.grow();
        } else {
            copy.names = Names::unknown();
        }
        assert!(copy.names.add(name), "there is room for it now, or no need");
    }

    /// Forgets a tombstone: `old` is the checksum of what the copy held under this key.
    pub fn forget(&mut self, shard: ShardId, key: &Key, old: u64) {
        let copy = self.shards.get_mut(&shard).expect("a shard that holds the document");
        let bucket = Digest::bucket(key);
        let sum = copy.state.digest.0[usize::from(bucket)];
        copy.state.digest.subtract(bucket, old);
        copy.state.documents -= 1;
        copy.tombstones = copy.tombstones.map(|count| count - 1);
        copy.dirty = true;
        let previous = Arc::make_mut(&mut copy.memory.table).remove(key);
        if let Some(previous) = &previous {
            self.documents -= 1;
            self.bytes -= previous.bytes(key);
        }
        let added = copy.paged && Arc::make_mut(&mut copy.memory.forgotten).insert(key.clone());
        self.documents += usize::from(added);
        self.undo.push(Undo::Forget { shard, key: key.clone(), previous, added, sum });
    }

    /// Raises the counter; it never falls.
    pub fn raise(&mut self, shard: ShardId, counter: u64) {
        let copy = self.shards.entry(shard).or_default();
        self.undo.push(Undo::Raise { shard, max_counter: copy.state.max_counter });
        copy.state.max_counter = copy.state.max_counter.max(counter);
        copy.dirty = true;
    }

    /// Installs a configuration; with `wipe`, documents, digest, counter and damage of the copy go with it.
    pub fn install(&mut self, config: &ShardConfig, wipe: bool) {
        let shard = config.shard;
        if wipe {
            self.remove(shard, false);
        } else {
            self.remember(shard);
        }
        let copy = self.shards.entry(shard).or_default();
        copy.state.config = Some(config.clone());
        copy.dirty = true;
    }

    /// Drops documents, digest and counter. Configuration and damage stay: an ex-owner still knows its epoch, and a
    /// disk that rotted is not healed by forgetting.
    pub fn drop_copy(&mut self, shard: ShardId) {
        self.remove(shard, true);
        if mutant!("M48")
            && let Some(copy) = self.shards.get_mut(&shard)
        {
            copy.state.config = None;
        }
    }

    pub fn damage(&mut self, shard: ShardId) {
        self.remember(shard);
        let copy = self.shards.entry(shard).or_default();
        copy.state.damaged = true;
        copy.dirty = true;
    }

    /// Takes back everything since the last [`Copies::keep`].
    pub fn undo(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Put { shard, key, previous, sum, documents, tombstones, max_counter } => {
                    let copy = self.shards.get_mut(&shard).expect("a shard that was put to");
                    copy.state.digest.0[usize::from(Digest::bucket(&key))] = sum;
                    copy.state.documents = documents;
                    copy.tombstones = tombstones;
                    copy.state.max_counter = max_counter;
                    let undone = match previous {
                        Some(previous) => {
                            self.bytes += previous.bytes(&key);
                            Arc::make_mut(&mut copy.memory.table).insert(key.clone(), previous)
                        }
                        None => {
                            self.documents -= 1;
                            Arc::make_mut(&mut copy.memory.table).remove(&key)
                        }
                    };
                    self.bytes -= undone.expect("a document that was put").bytes(&key);
                }
                Undo::Forget { shard, key, previous, added, sum } => {
                    let copy = self.shards.get_mut(&shard).expect("a shard that forgot");
                    copy.state.digest.0[usize::from(Digest::bucket(&key))] = sum;
                    copy.state.documents += 1;
                    copy.tombstones = copy.tombstones.map(|count| count + 1);
                    if added {
                        Arc::make_mut(&mut copy.memory.forgotten).remove(&key);
                        self.documents -= 1;
                    }
                    if let Some(previous) = previous {
                        self.documents += 1;
                        self.bytes += previous.bytes(&key);
                        Arc::make_mut(&mut copy.memory.table).insert(key, previous);
                    }
                }
                Undo::Raise { shard, max_counter } => {
                    let copy = self.shards.get_mut(&shard).expect("a shard that was raised");
                    copy.state.max_counter = max_counter;
                }
                Undo::Copy { shard, previous } => {
                    if let Some(undone) = self.shards.remove(&shard) {
                        self.documents -= undone.memory.len();
                        self.bytes -= undone.memory.bytes();
                    }
                    if let Some(previous) = previous {
                        self.documents += previous.memory.len();
                        self.bytes += previous.memory.bytes();
                        self.shards.insert(shard, *previous);
                    }
                }
            }
        }
    }

    /// Everything that a copy holds was read, and so many of it are tombstones.
    pub fn counted(&mut self, shard: ShardId, tombstones: u64) {
        if let Some(copy) = self.shards.get_mut(&shard) {
            copy.tombstones = Some(tombstones);
        }
    }

    /// What was applied so far is committed.
    pub fn keep(&mut self) {
        self.undo.clear();
    }

    /// The page file holds everything now, and of the shards `stale` more than that.
    pub fn flushed(&mut self, stale: BTreeSet<ShardId>) {
        assert!(self.undo.is_empty(), "only what is committed is flushed");
        for copy in self.shards.values_mut() {
            copy.paged |= !copy.memory.table.is_empty();
            copy.dirty = false;
            copy.memory = Memory::default();
        }
        self.stale = stale;
        self.documents = 0;
        self.bytes = 0;
    }

    /// Remembers the shard as it is, documents in memory and all. Installs, drops and damage are rare, and their
    /// memory tables short.
    fn remember(&mut self, shard: ShardId) {
        let previous = self.shards.get(&shard).map(|copy| Box::new(copy.clone()));
        self.undo.push(Undo::Copy { shard, previous });
    }

    fn remove(&mut self, shard: ShardId, keep_damage: bool) {
        let Some(copy) = self.shards.get_mut(&shard) else {
            self.undo.push(Undo::Copy { shard, previous: None });
            self.shards.insert(shard, Copy { dirty: true, ..Copy::default() });
            return;
        };
        let removed = copy.remove();
        copy.state.damaged = keep_damage && removed.state.damaged;
        if removed.paged {
            self.stale.insert(shard);
        }
        self.documents -= removed.memory.len();
        self.bytes -= removed.memory.bytes();
        self.undo.push(Undo::Copy { shard, previous: Some(Box::new(removed)) });
    }
}
