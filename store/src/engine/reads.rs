//! Reads that see memory and pages as one, in key order.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::copies::{Copy, Memory};
use super::digest::{Bucket, Digest};
use super::pages::{Frozen, Pages, Purpose};
use super::record::{self, Borrowed, Check, Held};
use super::{Engine, Mark, Page, Stored};
use crate::error::EngineError;
use crate::id::{Key, ShardId, Version};

/// Documents that lie together in key order, by their names (`collection \0 id`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// The first name that belongs to it, if there is such a document.
    pub from: &'a str,
    /// The least bytes that no longer belong to it; `None`: it has no end.
    pub until: Option<&'a [u8]>,
}

/// Where a copy is read: from the engine as it is now, or from a snapshot of it.
pub(super) enum Source<'a> {
    Nothing,
    Pages(&'a Pages),
    Frozen(&'a Frozen),
}

/// A copy, to be read.
pub(super) struct View<'a> {
    pub(super) shard: ShardId,
    pub(super) incarnation: u64,
    pub(super) memory: &'a Memory,
    pub(super) source: Source<'a>,
}

impl<'a> View<'a> {
    /// A document to be kept.
    fn get(&self, key: &Key) -> Result<Option<Stored>, EngineError> {
        match self.in_memory(key) {
            Some(held) => Ok(held.map(|held| held.clone().into_stored())),
            None => self.in_pages(key, Purpose::Read, |found| found.held().into_stored()),
        }
    }

    /// Reads a document where it lies.
    pub(super) fn read<T>(
        &self,
        key: &Key,
        purpose: Purpose,
        read: impl FnOnce(Borrowed<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        match self.in_memory(key) {
            Some(held) => Ok(held.map(|held| read(held.borrowed()))),
            None => self.in_pages(key, purpose, read),
        }
    }

    /// What memory says of a document, `Some(None)` if it is gone; `None`: the pages decide.
    fn in_memory(&self, key: &Key) -> Option<Option<&'a Held>> {
        match self.memory.table.get(key) {
            Some(held) => Some(Some(held)),
            None => self.memory.forgotten.contains(key).then_some(None),
        }
    }

    fn in_pages<T>(
        &self,
        key: &Key,
        purpose: Purpose,
        read: impl FnOnce(Borrowed<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        match &self.source {
            Source::Nothing => Ok(None),
            Source::Pages(pages) => pages.document(self.shard, self.incarnation, key, purpose, read),
            Source::Frozen(frozen) => frozen.document(self.shard, self.incarnation, key, read),
        }
    }

    /// Visits the documents of a range in key order; where memory and pages both hold one, memory's is newer.
    pub(super) fn visit(
        &self,
        range: &Range<'_>,
        check: Check,
        mut visit: impl FnMut(&str, Borrowed<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let from = (Bound::Included(range.from), Bound::Unbounded);
        let inside = |name: &str| range.until.is_none_or(|until| name.as_bytes() < until);
        let table = self.memory.table.range::<str, _>(from);
        let mut table = table.map(|(key, held)| (key.encoded(), held)).take_while(|(name, _)| inside(name)).peekable();
        let forgotten = &self.memory.forgotten;
        if table.peek().is_none() && forgotten.is_empty() {
            return match &self.source {
                Source::Nothing => Ok(()),
                Source::Pages(pages) => pages.scan(self.shard, self.incarnation, range, check, visit),
                Source::Frozen(frozen) => frozen.scan(self.shard, self.incarnation, range, check, visit),
            };
        }
        let mut flow = ControlFlow::Continue(());
        let merge = |name: &str, found: Borrowed<'_>| {
            flow = (|| {
                let mut is_newer = false;
                while let Some((newer, held)) = table.next_if(|(newer, _)| *newer <= name) {
                    is_newer = newer == name;
                    visit(newer, held.borrowed())?;
                }
                let is_gone = is_newer || (!forgotten.is_empty() && forgotten.contains(name));
                if is_gone { ControlFlow::Continue(()) } else { visit(name, found) }
            })();
            flow
        };
        match &self.source {
            Source::Nothing => {}
            Source::Pages(pages) => pages.scan(self.shard, self.incarnation, range, check, merge)?,
            Source::Frozen(frozen) => frozen.scan(self.shard, self.incarnation, range, check, merge)?,
        }
        if flow.is_continue() {
            for (name, held) in table {
                if visit(name, held.borrowed()).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The first documents of a range: at most `max_documents`, and no more than fit into `max_bytes`, but always one
    /// if there is one.
    pub(super) fn page(
        &self,
        range: &Range<'_>,
        check: Check,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        let mut page = Page { documents: Vec::new(), more: false };
        let (mut bytes, mut result) = (0, Ok(()));
        self.visit(range, check, |name, found| {
            bytes += name.len() + found.value.map_or(0, <[u8]>::len);
            if !page.documents.is_empty() && (page.documents.len() >= max_documents || bytes > max_bytes) {
                page.more = true;
                return ControlFlow::Break(());
            }
            match Key::from_encoded(name) {
                Some(key) => page.documents.push((key, found.held().into_stored())),
                None => {
                    result = Err(EngineError::Corrupt {
                        file: format!("shard {}", self.shard),
                        what: "a document has a name that no document can have".to_owned(),
                    });
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        result.map(|()| page)
    }
}

impl Engine {
    /// A document, with what is staged. `Damaged` if what the disk holds is not what was written.
    pub fn get(&self, shard: ShardId, key: &Key) -> Result<Option<Stored>, EngineError> {
        self.check()?;
        match self.view(shard) {
            Some(view) => view.get(key),
            None => Ok(None),
        }
    }

    /// Reads version and value (a tombstone has none) of a document where they lie, like [`Engine::get`].
    pub fn read<T>(
        &self,
        shard: ShardId,
        key: &Key,
        read: impl FnOnce(Version, Option<&[u8]>) -> T,
    ) -> Result<Option<T>, EngineError> {
        self.check()?;
        match self.view(shard) {
            Some(view) => view.read(key, Purpose::Read, |found| read(found.version, found.value)),
            None => Ok(None),
        }
    }

    /// The documents of these buckets, in key order, with what is staged.
    pub fn list(&self, shard: ShardId, level: u8, buckets: &[Bucket]) -> Result<Vec<(Key, Mark)>, EngineError> {
        let wanted = Wanted::new(level, buckets);
        let mut documents = Vec::new();
        self.visit(shard, &Range::default(), |name, found| {
            if wanted.place(name).is_some() {
                let mark = Mark { version: found.version, sum: found.sum };
                documents.extend(Key::from_encoded(name).map(|key| (key, mark)));
            }
            ControlFlow::Continue(())
        })?;
        Ok(documents)
    }

    /// The digests of the buckets that these ones of `level` split into, in the order of [`Bucket::split`], computed
    /// from the documents.
    pub fn split(&self, shard: ShardId, level: u8, buckets: &[Bucket]) -> Result<Vec<u64>, EngineError> {
        let parts: Vec<Bucket> = buckets.iter().flat_map(|bucket| bucket.split(level)).collect();
        let wanted = Wanted::new(level + 1, &parts);
        let mut sums = vec![0u64; parts.len()];
        self.visit(shard, &Range::default(), |name, found| {
            if let Some(place) = wanted.place(name) {
                sums[place] = sums[place].wrapping_add(found.sum);
            }
            ControlFlow::Continue(())
        })?;
        Ok(sums)
    }

    /// The next documents behind `after`, in key order, tombstones included, with what is staged: at most
    /// `max_documents`, and no more than fit into `max_bytes` (keys and values), but always one if there is one.
    pub fn page(
        &self,
        shard: ShardId,
        after: Option<&Key>,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        let from = after.map_or_else(String::new, behind);
        let range = Range { from: &from, until: None };
        self.some(shard, &range, Check::Document, max_documents, max_bytes)
    }

    /// The first documents of a range, like [`Engine::page`].
    pub fn range(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        self.some(shard, range, Check::PageOnly, max_documents, max_bytes)
    }

    fn some(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        check: Check,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        self.check()?;
        match self.view(shard) {
            Some(view) => view.page(range, check, max_documents, max_bytes),
            None => Ok(Page { documents: Vec::new(), more: false }),
        }
    }

    /// Visits the documents of a range where they lie, tombstones included, in key order: name (`collection \0 id`),
    /// version, value.
    pub fn scan(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        mut visit: impl FnMut(&str, Version, Option<&[u8]>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.check()?;
        match self.view(shard) {
            Some(view) => view.visit(range, Check::PageOnly, |name, found| visit(name, found.version, found.value)),
            None => Ok(()),
        }
    }

    /// Digest and count of a copy, computed from its documents and not from what was kept up on the way. `Damaged` if
    /// one of them is not what was written.
    pub fn recount(&self, shard: ShardId) -> Result<(Digest, u64), EngineError> {
        let (mut digest, mut count) = (Digest::default(), 0);
        self.visit(shard, &Range::default(), |name, found| {
            digest.add(Bucket::of(name, 0).0 as u16, record::checksum(name, found.version, found.value));
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok((digest, count))
    }

    /// Everything that a copy holds, tombstones included, in key order, with what is staged.
    pub fn documents(&self, shard: ShardId) -> Result<Vec<(Key, Version)>, EngineError> {
        let mut documents = Vec::new();
        self.visit(shard, &Range::default(), |name, found| {
            documents.extend(Key::from_encoded(name).map(|key| (key, found.version)));
            ControlFlow::Continue(())
        })?;
        Ok(documents)
    }

    /// Reads a document that a write will replace or take away, where it lies.
    pub(super) fn find<T>(
        &self,
        shard: ShardId,
        key: &Key,
        read: impl FnOnce(Borrowed<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        match self.view(shard) {
            Some(view) => view.read(key, Purpose::Write, read),
            None => Ok(None),
        }
    }

    pub(super) fn visit(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        visit: impl FnMut(&str, Borrowed<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.check()?;
        match self.view(shard) {
            Some(view) => view.visit(range, Check::Document, visit),
            None => Ok(()),
        }
    }

    fn view(&self, shard: ShardId) -> Option<View<'_>> {
        let copy = self.copies.get(shard)?;
        let Copy { incarnation, paged, memory, .. } = copy;
        let source = match &self.pages {
            Some(pages) if *paged => Source::Pages(pages),
            _ => Source::Nothing,
        };
        Some(View { shard, incarnation: *incarnation, memory, source })
    }
}

/// The least name behind a key.
pub fn behind(key: &Key) -> String {
    format!("{}\0", key.encoded())
}

/// The least bytes behind all that begin with `prefix`, which has a byte that is not 0xff.
pub fn end_of_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    while prefix.pop_if(|last| *last == u8::MAX).is_some() {}
    *prefix.last_mut().expect("a prefix with a byte that can be one more") += 1;
    prefix
}

/// Buckets that are looked for, and their places in the question.
struct Wanted {
    level: u8,
    places: BTreeMap<Bucket, usize>,
}

impl Wanted {
    fn new(level: u8, buckets: &[Bucket]) -> Wanted {
        Wanted { level, places: buckets.iter().enumerate().map(|(place, &bucket)| (bucket, place)).collect() }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(&Bucket::of(name, self.level)).copied()
    }
}

/// What a shard held at one moment; reading it holds up nobody.
#[derive(Clone)]
pub struct Snapshot {
    shards: BTreeMap<ShardId, (u64, Memory, Option<Frozen>)>,
}

impl Engine {
    /// Everything that is held now, staged changes included, to be read while writes go on. It costs nothing to take;
    /// the first flush behind it copies what is in memory. Its pages are not used again as long as it lives. It ends
    /// (`SnapshotGone`) when the page file is opened again or replaced: by a scrub, a compaction, or after an error.
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        self.check()?;
        let frozen = self.pages.as_ref().map(Pages::freeze).transpose()?;
        let shards = self.copies.iter().map(|(shard, copy)| {
            let frozen = frozen.clone().filter(|_| copy.paged);
            (shard, (copy.incarnation, copy.memory.clone(), frozen))
        });
        Ok(Snapshot { shards: shards.collect() })
    }
}

impl Snapshot {
    fn view(&self, shard: ShardId) -> Option<View<'_>> {
        let (incarnation, memory, frozen) = self.shards.get(&shard)?;
        let source = frozen.as_ref().map_or(Source::Nothing, Source::Frozen);
        Some(View { shard, incarnation: *incarnation, memory, source })
    }

    /// A document, like [`Engine::get`].
    pub fn get(&self, shard: ShardId, key: &Key) -> Result<Option<Stored>, EngineError> {
        match self.view(shard) {
            Some(view) => view.get(key),
            None => Ok(None),
        }
    }

    /// Visits the documents of a range, like [`Engine::scan`].
    pub fn scan(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        mut visit: impl FnMut(&str, Version, Option<&[u8]>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        match self.view(shard) {
            Some(view) => view.visit(range, Check::PageOnly, |name, found| visit(name, found.version, found.value)),
            None => Ok(()),
        }
    }

    /// The first documents of a range, like [`Engine::range`].
    pub fn range(
        &self,
        shard: ShardId,
        range: &Range<'_>,
        max_documents: usize,
        max_bytes: usize,
    ) -> Result<Page, EngineError> {
        match self.view(shard) {
            Some(view) => view.page(range, Check::PageOnly, max_documents, max_bytes),
            None => Ok(Page { documents: Vec::new(), more: false }),
        }
    }
}
