//! Reading many documents: bounds, pages, iterators, snapshots.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, ControlFlow, RangeBounds};

use crate::engine::{self, Range};
use crate::error::StoreError;
use crate::id::{Key, ShardId, Value};
use crate::router::scan::{ScanPage, join};
use crate::wire::NameRange;

/// Documents per page of an iterator, and the bytes at which a page of a snapshot ends before.
const PAGE_DOCUMENTS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    key: Key,
    pub body: Value,
}

impl Document {
    pub fn id(&self) -> &str {
        self.key.id()
    }

    pub fn collection(&self) -> &str {
        self.key.collection()
    }
}

/// Which ids of a collection to read; they are ordered bytewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    prefix: String,
    from: Bound<String>,
    until: Bound<String>,
}

impl Ids {
    /// Every id.
    pub fn all() -> Ids {
        Ids::prefix("")
    }

    /// Ids that begin so.
    pub fn prefix(prefix: &str) -> Ids {
        Ids { prefix: prefix.to_owned(), from: Bound::Unbounded, until: Bound::Unbounded }
    }

    /// Ids in a range: `Ids::range("a".."f")`, `Ids::range("b"..)`.
    pub fn range<'a>(ids: impl RangeBounds<&'a str>) -> Ids {
        Ids::all().within(ids)
    }

    /// Those of them that are in this range, instead of one that was given before:
    /// `Ids::prefix("2026-").within("2026-03".."2026-07")`.
    pub fn within<'a>(self, ids: impl RangeBounds<&'a str>) -> Ids {
        let owned = |bound: Bound<&&str>| bound.map(|id| (*id).to_owned());
        Ids { from: owned(ids.start_bound()), until: owned(ids.end_bound()), ..self }
    }

    /// These, in front of and without `until`, and from `from` on.
    pub(crate) fn in_collection(&self, collection: &str, cursor: Option<&Cursor>) -> Result<NameRange, StoreError> {
        Key::new(collection, "id")?;
        let name = |id: &str| format!("{collection}\0{id}");
        let mut from = name(&self.prefix);
        match &self.from {
            Bound::Included(id) => from = from.max(name(id)),
            Bound::Excluded(id) => from = from.max(name(id) + "\0"),
            Bound::Unbounded => {}
        }
        if let Some(Cursor(cursor)) = cursor {
            from = from.max(cursor.clone());
        }
        let mut until = engine::end_of_prefix(name(&self.prefix).into_bytes());
        match &self.until {
            Bound::Included(id) => until = until.min(format!("{}\0", name(id)).into_bytes()),
            Bound::Excluded(id) => until = until.min(name(id).into_bytes()),
            Bound::Unbounded => {}
        }
        Ok(NameRange { from, until: Some(until) })
    }
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

/// Some documents, in id order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<Document>,
    /// Where the next page begins; `None` if this is the last one. A page may be empty and still not be the last.
    pub next: Option<Cursor>,
}

impl From<ScanPage> for Page {
    fn from(page: ScanPage) -> Page {
        let documents = page.documents.into_iter().map(|(key, _, body)| Document { key, body });
        Page { documents: documents.collect(), next: page.next.map(Cursor) }
    }
}

type NextPage<'a> = Box<dyn FnMut(Option<&Cursor>, usize) -> Result<Page, StoreError> + Send + 'a>;

/// Documents in id order, read a page at a time. Ends after its first error.
pub struct Documents<'a> {
    next_page: NextPage<'a>,
    waiting: VecDeque<Document>,
    /// `None` when everything was read.
    from: Option<Option<Cursor>>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(
        next_page: impl FnMut(Option<&Cursor>, usize) -> Result<Page, StoreError> + Send + 'a,
    ) -> Documents<'a> {
        Documents { next_page: Box::new(next_page), waiting: VecDeque::new(), from: Some(None) }
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Document, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(document) = self.waiting.pop_front() {
                return Some(Ok(document));
            }
            let from = self.from.take()?;
            match (self.next_page)(from.as_ref(), PAGE_DOCUMENTS) {
                Ok(page) => {
                    self.waiting.extend(page.documents);
                    self.from = page.next.map(Some);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Documents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("waiting", &self.waiting.len()).field("from", &self.from).finish()
    }
}

/// A store as it was at one moment; see [`Store::snapshot`](crate::store::Store::snapshot).
#[derive(Clone)]
pub struct Snapshot {
    engine: engine::Snapshot,
    shard_count: u32,
}

impl Snapshot {
    pub(super) fn new(engine: engine::Snapshot, shard_count: u32) -> Snapshot {
        Snapshot { engine, shard_count }
    }

    /// The body of a document at that moment; `None` if there was none.
    ///
    /// Fails with `Key` if nothing can be named so, with `Engine(Damaged)` if the document has rotted, with
    /// `Engine(SnapshotGone)` if a scrub or a compaction has ended the snapshot.
    pub fn get(&self, collection: &str, id: &str) -> Result<Option<Value>, StoreError> {
        let key = Key::new(collection, id)?;
        let held = self.engine.get(key.shard(self.shard_count), &key)?;
        Ok(held.and_then(|held| held.value))
    }

    /// The next documents of a collection at that moment, like [`Store::scan`](crate::store::Store::scan). Fails as
    /// [`Snapshot::get`] does.
    pub fn scan(&self, collection: &str, ids: &Ids, from: Option<&Cursor>, page: usize) -> Result<Page, StoreError> {
        let NameRange { from, until } = ids.in_collection(collection, from)?;
        let range = Range { from: &from, until: until.as_deref() };
        let mut pages = Vec::new();
        for shard in (0..self.shard_count).map(ShardId) {
            let found = self.engine.range(shard, &range, page.max(1), PAGE_BYTES)?;
            let last = found.documents.last().map(|(key, _)| engine::behind(key));
            let documents = found.documents.into_iter();
            let documents = documents.filter_map(|(key, held)| held.value.map(|value| (key, held.version, value)));
            pages.push(ScanPage { documents: documents.collect(), next: last.filter(|_| found.more) });
        }
        Ok(join(pages, page.max(1)).into())
    }

    /// Visits the documents of a collection in these bounds at that moment, like [`Store::visit`]. Fails as
    /// [`Snapshot::get`] does, perhaps after it has visited some.
    ///
    /// [`Store::visit`]: crate::store::Store::visit
    pub fn visit(
        &self,
        collection: &str,
        ids: &Ids,
        mut visit: impl FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if self.shard_count > 1 {
            // Their documents take turns, so each has to be kept until it is next.
            for document in self.iter(collection, ids.clone()) {
                let document = document?;
                if visit(document.id(), &document.body).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let NameRange { from, until } = ids.in_collection(collection, None)?;
        let id_at = collection.len() + 1;
        let range = Range { from: &from, until: until.as_deref() };
        self.engine.scan(ShardId(0), &range, |name, _, value| match value {
            Some(body) => visit(&name[id_at..], body),
            None => ControlFlow::Continue(()),
        })?;
        Ok(())
    }

    /// All documents of a collection in these bounds at that moment, in id order, read a page at a time. What fails as
    /// [`Snapshot::get`] does is its last item.
    pub fn iter<'a>(&'a self, collection: &str, ids: Ids) -> Documents<'a> {
        let collection = collection.to_owned();
        Documents::new(move |from, page| self.scan(&collection, &ids, from, page))
    }
}
