//! The page file: a redb database of one table, behind the log.
//!
//! ```text
//! 0                                -> format u32 | disk id u128 | flushed generation u64 | checksum u64
//! 1 | shard                        -> incarnation, counter, digest, configuration | checksum
//! 2 | shard | incarnation | name   -> version | checksum | value or tombstone
//! ```
//!
//! A flush is one transaction, which also says which log generation it ends. It is two-phase and saves redb's
//! allocator state, so that opening after a crash reads a few pages and not the whole file.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use xxhash_rust::xxh3::xxh3_64;

use super::blocks::{Backend, Blocks};
use super::bytes::{Reader, Writer};
use super::log::FORMAT;
use super::reads::{Range, end_of_prefix};
use super::record::{self, Borrowed, Check, META_KEY};
use super::row_cache::RowCache;
use super::{Options, ShardState};
use crate::env::Disk;
use crate::error::EngineError;
use crate::id::{DiskId, Key, ShardId};

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A shard's row: what a copy is called in the page file, and its state.
pub type ShardRow = (ShardId, u64, ShardState);

/// One page file.
pub struct Pages {
    disk: Arc<dyn Disk>,
    disk_id: DiskId,
    number: u64,
    cache_bytes: usize,
    row_cache_bytes: usize,
    /// `None` after a failure; the next access opens the file again.
    open: Mutex<Option<Open>>,
}

struct Open {
    blocks: Arc<Blocks>,
    /// Of the last flush. Taken once: a read transaction per read would cost more than the read.
    rows: Option<Arc<Table>>,
    /// Some of `rows`, emptied whenever they are taken anew.
    row_cache: RowCache,
    database: Database,
}

/// Why a document is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Read,
    /// To be replaced: the next flush, at the latest, takes it away, so it is not worth keeping.
    Write,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.blocks.fence();
    }
}

impl Pages {
    pub fn name(number: u64) -> String {
        format!("pages.{number}")
    }

    /// Begins a page file; whatever lay under its name is gone. It means nothing until a log names it.
    pub fn create(disk: &Arc<dyn Disk>, disk_id: DiskId, number: u64, options: &Options) -> Result<Pages, EngineError> {
        disk.remove(&Pages::name(number))?;
        Pages::open(disk, disk_id, number, options)
    }

    pub fn open(disk: &Arc<dyn Disk>, disk_id: DiskId, number: u64, options: &Options) -> Result<Pages, EngineError> {
        let Options { cache_bytes, row_cache_bytes, .. } = *options;
        let (disk, open) = (Arc::clone(disk), Mutex::new(None));
        let pages = Pages { disk, disk_id, number, cache_bytes, row_cache_bytes, open };
        drop(pages.opened()?);
        Ok(pages)
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The generation of the last log whose groups are all in here. Fails with `Corrupt` if this file is not what a
    /// flush left.
    pub fn flushed(&self) -> Result<u64, EngineError> {
        let row = self.read(|rows| Ok(rows.get(META_KEY)?.map(|row| row.value().to_vec())))?;
        let (format, generation) = row
            .and_then(|row| self.read_meta(&row))
            .ok_or_else(|| self.corrupt("its first row is missing or damaged"))?;
        if format != FORMAT {
            return Err(EngineError::Format { file: Pages::name(self.number), found: format, supported: FORMAT });
        }
        Ok(generation)
    }

    /// Every shard, as the last flush left it.
    pub fn shards(&self) -> Result<Vec<ShardRow>, EngineError> {
        let rows: Option<Vec<ShardRow>> = self.read(|rows| {
            let range = rows.range::<&[u8]>(&[1][..]..&[2][..])?;
            let rows: Result<_, redb::StorageError> =
                range.map(|row| row.map(|(key, value)| read_shard(key.value(), value.value()))).collect();
            Ok(rows?)
        })?;
        rows.ok_or_else(|| self.corrupt("the row of a shard is damaged"))
    }

    /// Whether there are documents of earlier incarnations, which a flush has yet to remove. If that cannot be read,
    /// there are: the flush finds out, and moves what can be read to another file.
    pub fn has_stale(&self, shard: ShardId, incarnation: u64) -> Result<bool, EngineError> {
        let (first, end) = stale_range(shard, incarnation);
        match self.read(|rows| Ok(rows.range::<&[u8]>(&first[..]..&end[..])?.next().transpose()?.is_some())) {
            Err(EngineError::Corrupt { .. }) => Ok(true),
            result => result,
        }
    }

    /// Whether everything of the earlier incarnations can be read.
    pub fn reads_stale(&self, shard: ShardId, incarnation: u64) -> Result<bool, EngineError> {
        let (first, end) = stale_range(shard, incarnation);
        let read = self.read(|rows| {
            rows.range::<&[u8]>(&first[..]..&end[..])?.try_for_each(|row| row.map(drop)).map_err(redb::Error::from)
        });
        match read {
            Ok(()) => Ok(true),
            Err(EngineError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a document of a copy where it lies. Fails with `Damaged` if what is there is not what was written.
    pub fn document<T>(
        &self,
        shard: ShardId,
        incarnation: u64,
        key: &Key,
        purpose: Purpose,
        read: impl FnOnce(Borrowed<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        let found = self
            .read_cached(|rows, row_cache| find(rows, Some((row_cache, purpose)), shard, incarnation, key, read))
            .map_err(|error| damaged(shard, self.disk_id, error))?;
        found.map_err(|NotWhole| EngineError::Damaged { shard, disk: self.disk_id })
    }

    /// Visits the documents of a copy from `range.from` on, in key order, until told to stop. The name of a document
    /// is `collection \0 id`.
    pub fn scan(
        &self,
        shard: ShardId,
        incarnation: u64,
        range: &Range<'_>,
        check: Check,
        visit: impl FnMut(&str, Borrowed<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let scanned = self
            .read(|rows| scan(rows, shard, incarnation, range, check, visit))
            .map_err(|error| damaged(shard, self.disk_id, error))?;
        scanned.map_err(|NotWhole| EngineError::Damaged { shard, disk: self.disk_id })
    }

    /// The documents as they are now, to be read while the file is written on.
    pub fn freeze(&self) -> Result<Frozen, EngineError> {
        let open = self.opened()?;
        let rows = open.as_ref().and_then(|handle| handle.rows.clone());
        Ok(Frozen { rows: rows.ok_or_else(|| self.corrupt("its table is missing"))?, disk_id: self.disk_id })
    }

    /// Forgets what was read, so that every later read comes from the disk. What was frozen can no longer be read.
    pub fn reopen(&self) -> Result<(), EngineError> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self.opened()?);
        Ok(())
    }

    /// Writes one transaction. After an error the file is as it was before, or as the transaction left it.
    pub fn write<T>(
        &self,
        fill: impl FnOnce(&mut Rows<'_>) -> Result<T, redb::Error>,
        generation: u64,
    ) -> Result<T, EngineError> {
        let mut open = self.opened()?;
        let Some(handle) = open.as_mut() else {
            return Err(EngineError::Poisoned);
        };
        handle.rows = None;
        let result = self.write_rows(&handle.database, fill, generation);
        match result.and_then(|filled| handle.read_rows().map(|()| filled)) {
            Ok(filled) => Ok(filled),
            Err(error) => Err(self.failed(&mut open, error)),
        }
    }

    fn write_rows<T>(
        &self,
        database: &Database,
        fill: impl FnOnce(&mut Rows<'_>) -> Result<T, redb::Error>,
        generation: u64,
    ) -> Result<T, redb::Error> {
        let mut transaction: WriteTransaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let filled = {
            let mut rows = Rows { table: transaction.open_table(ROWS)?, key: Vec::new(), row: Vec::new() };
            let filled = fill(&mut rows)?;
            rows.table.insert(META_KEY, &self.meta(generation)[..])?;
            filled
        };
        transaction.commit()?;
        Ok(filled)
    }

    fn meta(&self, generation: u64) -> Vec<u8> {
        let mut row = Vec::new();
        row.put_u32(FORMAT);
        row.put_u128(self.disk_id.0);
        row.put_u64(generation);
        row.put_u64(xxh3_64(&row));
        row
    }

    /// Format and generation, if the row is whole and of this disk.
    fn read_meta(&self, row: &[u8]) -> Option<(u32, u64)> {
        let (body, sum) = row.split_last_chunk::<8>()?;
        let mut reader = Reader(body);
        let (format, disk, generation) = (reader.u32()?, reader.u128()?, reader.u64()?);
        reader.end()?;
        let whole = u64::from_le_bytes(*sum) == xxh3_64(body) && disk == self.disk_id.0;
        whole.then_some((format, generation))
    }

    fn opened(&self) -> Result<MutexGuard<'_, Option<Open>>, EngineError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            let file = self.disk.open(&Pages::name(self.number))?;
            let blocks = Arc::new(Blocks::new(file, self.disk_id.0, self.number));
            let mut builder = Database::builder();
            let builder = builder.set_cache_size(self.cache_bytes);
            // redb asserts some of what it believes about a file, and a file that was cut or mixed up proves it wrong.
            let opening = AssertUnwindSafe(|| builder.create_with_backend(Backend(Arc::clone(&blocks))));
            let database = panic::catch_unwind(opening)
                .map_err(|_| self.corrupt("its pages contradict each other"))?
                .map_err(|error| self.classify(&blocks, error.into()))?;
            let row_cache = RowCache::new(self.row_cache_bytes);
            let mut handle = Open { blocks, rows: None, row_cache, database };
            handle.read_rows().map_err(|error| self.classify(&handle.blocks, error))?;
            *open = Some(handle);
        }
        Ok(open)
    }

    fn read<T>(&self, read: impl FnOnce(&Table) -> Result<T, redb::Error>) -> Result<T, EngineError> {
        self.read_cached(|rows, _| read(rows))
    }

    fn read_cached<T>(
        &self,
        read: impl FnOnce(&Table, &mut RowCache) -> Result<T, redb::Error>,
    ) -> Result<T, EngineError> {
        let mut open = self.opened()?;
        let Some(Open { rows: Some(rows), row_cache, .. }) = open.as_mut() else {
            return Err(self.corrupt("its table is missing"));
        };
        match read(rows, row_cache) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&mut open, error)),
        }
    }

    /// redb refuses everything after its first failed access, so the file is closed, and opened again when needed:
    /// one rotten page does not silence the others.
    fn failed(&self, open: &mut Option<Open>, error: redb::Error) -> EngineError {
        match open.take() {
            Some(handle) => self.classify(&handle.blocks, error),
            None => EngineError::Poisoned,
        }
    }

    fn classify(&self, blocks: &Blocks, error: redb::Error) -> EngineError {
        match error {
            _ if blocks.is_rotten() => self.corrupt("a page does not match its checksum"),
            redb::Error::Io(error) => super::io_error(error),
            redb::Error::Corrupted(what) => self.corrupt(&what),
            error => EngineError::Io(io::Error::other(error)),
        }
    }

    fn corrupt(&self, what: &str) -> EngineError {
        EngineError::Corrupt { file: Pages::name(self.number), what: what.to_owned() }
    }
}

/// Rot met while a document was looked for is that shard's damage.
fn damaged(shard: ShardId, disk: DiskId, error: EngineError) -> EngineError {
    match error {
        EngineError::Corrupt { .. } => EngineError::Damaged { shard, disk },
        error => error,
    }
}

impl Open {
    fn read_rows(&mut self) -> Result<(), redb::Error> {
        self.row_cache.clear();
        self.rows = match self.database.begin_read()?.open_table(ROWS) {
            Ok(rows) => Some(Arc::new(rows)),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }
}

/// The documents of a page file at the time of a flush.
#[derive(Clone)]
pub struct Frozen {
    rows: Arc<Table>,
    disk_id: DiskId,
}

impl Frozen {
    pub fn document<T>(
        &self,
        shard: ShardId,
        incarnation: u64,
        key: &Key,
        read: impl FnOnce(Borrowed<'_>) -> T,
    ) -> Result<Option<T>, EngineError> {
        let found = find(&self.rows, None, shard, incarnation, key, read).map_err(|_| EngineError::SnapshotGone)?;
        found.map_err(|NotWhole| EngineError::Damaged { shard, disk: self.disk_id })
    }

    pub fn scan(
        &self,
        shard: ShardId,
        incarnation: u64,
        range: &Range<'_>,
        check: Check,
        visit: impl FnMut(&str, Borrowed<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let scanned =
            scan(&self.rows, shard, incarnation, range, check, visit).map_err(|_| EngineError::SnapshotGone)?;
        scanned.map_err(|NotWhole| EngineError::Damaged { shard, disk: self.disk_id })
    }
}

/// A row that is not what was written.
struct NotWhole;

/// Finds a document, in the cache or in the table. A row of the cache that is not whole was changed by the memory it
/// lies in, and the table decides.
fn find<T>(
    rows: &Table,
    row_cache: Option<(&mut RowCache, Purpose)>,
    shard: ShardId,
    incarnation: u64,
    key: &Key,
    read: impl FnOnce(Borrowed<'_>) -> T,
) -> Result<Result<Option<T>, NotWhole>, redb::Error> {
    let name = key.encoded();
    let prefix = record::document_prefix(shard, incarnation);
    // Nearly all names are short, and a get is worth more than an allocation.
    let mut short = [0; record::PREFIX_BYTES + 64];
    let mut long = Vec::new();
    let row_key = match short.get_mut(..prefix.len() + name.len()) {
        Some(short) => {
            let (before, rest) = short.split_at_mut(prefix.len());
            before.copy_from_slice(&prefix);
            rest.copy_from_slice(name.as_bytes());
            &short[..]
        }
        None => {
            record::document_key(&mut long, shard, incarnation, name);
            &long[..]
        }
    };
    if let Some((row_cache, _)) = &row_cache
        && let Some(row) = row_cache.get(row_key)
        && let Some(found) = record::read_document(name, row, Check::Document)
    {
        return Ok(Ok(Some(read(found))));
    }
    let Some(row) = rows.get(row_key)? else {
        return Ok(Ok(None));
    };
    let Some(found) = record::read_document(name, row.value(), Check::Document) else {
        return Ok(Err(NotWhole));
    };
    if let Some((row_cache, Purpose::Read)) = row_cache {
        row_cache.put(row_key, row.value());
    }
    Ok(Ok(Some(read(found))))
}

fn scan(
    rows: &Table,
    shard: ShardId,
    incarnation: u64,
    range: &Range<'_>,
    check: Check,
    mut visit: impl FnMut(&str, Borrowed<'_>) -> ControlFlow<()>,
) -> Result<Result<(), NotWhole>, redb::Error> {
    if range.until.is_some_and(|until| range.from.as_bytes() >= until) {
        return Ok(Ok(()));
    }
    let mut first = Vec::new();
    record::document_key(&mut first, shard, incarnation, range.from);
    let prefix = record::document_prefix(shard, incarnation);
    let end = match range.until {
        Some(until) => [&*prefix, until].concat(),
        None => end_of_prefix(prefix.to_vec()),
    };
    // A cursor knows of no end, and so does less for a row than a range does; it reads the same pages.
    let mut cursor = rows.lower_bound(Bound::Included(&first[..]))?;
    while let Some((key, value)) = cursor.next()? {
        let key = key.value();
        if key >= &*end {
            break;
        }
        let name = key.get(prefix.len()..).unwrap_or_default();
        let found = std::str::from_utf8(name).ok();
        let found = found.and_then(|name| Some((name, record::read_document(name, value.value(), check)?)));
        let Some((name, found)) = found else {
            return Ok(Err(NotWhole));
        };
        if visit(name, found).is_break() {
            break;
        }
    }
    Ok(Ok(()))
}

fn read_shard(key: &[u8], row: &[u8]) -> Option<ShardRow> {
    let shard = ShardId(u32::from_be_bytes(key.get(1..)?.try_into().ok()?));
    let (incarnation, state) = record::read_shard(shard, row)?;
    Some((shard, incarnation, state))
}

/// The table while a flush writes it.
pub struct Rows<'txn> {
    table: redb::Table<'txn, &'static [u8], &'static [u8]>,
    key: Vec<u8>,
    row: Vec<u8>,
}

impl Rows<'_> {
    pub fn put_document(
        &mut self,
        shard: ShardId,
        incarnation: u64,
        name: &str,
        found: Borrowed<'_>,
    ) -> Result<(), redb::Error> {
        record::document_key(&mut self.key, shard, incarnation, name);
        record::document_row(&mut self.row, found);
        self.table.insert(&self.key[..], &self.row[..])?;
        Ok(())
    }

    pub fn put_shard(&mut self, shard: ShardId, incarnation: u64, state: &ShardState) -> Result<(), redb::Error> {
        record::shard_row(&mut self.row, shard, incarnation, state);
        self.table.insert(&record::shard_key(shard)[..], &self.row[..])?;
        Ok(())
    }

    pub fn remove_document(&mut self, shard: ShardId, incarnation: u64, key: &Key) -> Result<(), redb::Error> {
        record::document_key(&mut self.key, shard, incarnation, key.encoded());
        self.table.remove(&self.key[..])?;
        Ok(())
    }

    /// Removes documents that the shard had under earlier incarnations, `limit` at most; how many.
    pub fn remove_stale(&mut self, shard: ShardId, incarnation: u64, limit: usize) -> Result<usize, redb::Error> {
        let (first, end) = stale_range(shard, incarnation);
        let mut removed = 0;
        for row in self.table.extract_from_if::<&[u8], _>(&first[..]..&end[..], |_, _| true)?.take(limit) {
            row?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// Where the documents of the incarnations before this one lie.
fn stale_range(shard: ShardId, incarnation: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut first, mut end) = (Vec::new(), Vec::new());
    record::document_key(&mut first, shard, 0, "");
    record::document_key(&mut end, shard, incarnation, "");
    (first, end)
}

#[cfg(test)]
mod tests;
