//! Reads that see memory and pages as one, in key order.

use std::borrow::Cow;
use std::ops::{Bound, ControlFlow};

use super::digest::{BUCKETS, Digest};
use super::record::{self, Held};
use super::{Engine, Page, Stored};
use crate::error::EngineError;
use crate::id::{Key, ShardId, Version};

impl Engine {
    /// The documents of these buckets, in key order, with what is staged.
    pub fn list(&self, shard: ShardId, buckets: &[u16]) -> Result<Vec<(Key, Version)>, EngineError> {
        let mut wanted = [false; BUCKETS];
        for &bucket in buckets {
            // A bucket that no document falls into is an empty one.
            if let Some(wanted) = wanted.get_mut(usize::from(bucket)) {
                *wanted = true;
            }
        }
        let mut documents = Vec::new();
        self.visit(shard, None, |key, held| {
            if wanted[usize::from(Digest::bucket(key))] {
                documents.push((key.clone(), held.version));
            }
            ControlFlow::Continue(())
        })?;
        Ok(documents)
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
        let mut page = Page { documents: Vec::new(), more: false };
        let mut bytes = 0;
        self.visit(shard, after, |key, held| {
            bytes += held.bytes(key);
            if !page.documents.is_empty() && (page.documents.len() >= max_documents || bytes > max_bytes) {
                page.more = true;
                return ControlFlow::Break(());
            }
            page.documents.push((key.clone(), Stored { version: held.version, value: held.value.clone() }));
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }

    /// Digest and count of a copy, computed from its documents and not from what was kept up on the way. `Damaged` if
    /// one of them is not what was written.
    pub fn recount(&self, shard: ShardId) -> Result<(Digest, u64), EngineError> {
        let (mut digest, mut count) = (Digest::default(), 0);
        self.visit(shard, None, |key, held| {
            digest.add(Digest::bucket(key), record::checksum(key, held.version, held.value.as_deref()));
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok((digest, count))
    }

    /// Everything that a copy holds, tombstones included, in key order, with what is staged.
    pub fn documents(&self, shard: ShardId) -> Result<Vec<(Key, Version)>, EngineError> {
        let mut documents = Vec::new();
        self.visit(shard, None, |key, held| {
            documents.push((key.clone(), held.version));
            ControlFlow::Continue(())
        })?;
        Ok(documents)
    }

    pub(super) fn find(&self, shard: ShardId, key: &Key) -> Result<Option<Cow<'_, Held>>, EngineError> {
        let Some(copy) = self.copies.get(shard) else {
            return Ok(None);
        };
        if let Some(held) = copy.table.get(key) {
            return Ok(Some(Cow::Borrowed(held)));
        }
        match &self.pages {
            Some(pages) if copy.paged => Ok(pages.get(shard, copy.incarnation, key)?.map(Cow::Owned)),
            _ => Ok(None),
        }
    }

    /// Visits the documents behind `after`, in key order; where memory and pages both hold one, memory's is newer.
    fn visit(
        &self,
        shard: ShardId,
        after: Option<&Key>,
        mut visit: impl FnMut(&Key, &Held) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.check()?;
        let Some(copy) = self.copies.get(shard) else {
            return Ok(());
        };
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut table = copy.table.range::<Key, _>(behind).peekable();
        let mut flow = ControlFlow::Continue(());
        if let Some(pages) = self.pages.as_ref().filter(|_| copy.paged) {
            pages.scan(shard, copy.incarnation, after, |key, held| {
                flow = (|| {
                    let mut is_newer = false;
                    while let Some((newer, held)) = table.next_if(|(newer, _)| **newer <= key) {
                        is_newer = *newer == key;
                        visit(newer, held)?;
                    }
                    if is_newer { ControlFlow::Continue(()) } else { visit(&key, &held) }
                })();
                flow
            })?;
        }
        if flow.is_continue() {
            for (key, held) in table {
                if visit(key, held).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}
