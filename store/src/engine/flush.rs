//! From memory into the page file, and from a rotten page file into a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::copies::Copies;
use super::digest::{Bucket, Digest};
use super::log::{Header, Log};
use super::pages::{Pages, Rows};
use super::reads::Range;
use super::record::Check;
use super::{Effect, Engine, Options};
use crate::error::EngineError;
use crate::id::ShardId;

/// How many rows of wiped copies one flush removes, so that a large copy does not hold up the node when it goes.
const REMOVED_PER_FLUSH: usize = 10_000;

/// How far memory, and the log that backs it, may grow before they are flushed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    documents: usize,
    bytes: usize,
    log_bytes: u64,
}

impl Limits {
    /// The next commit flushes.
    pub fn reached() -> Limits {
        Limits { documents: 0, bytes: 0, log_bytes: 0 }
    }

    /// As much again as the options allow, from what there is already.
    pub fn behind(options: &Options, copies: &Copies, log: &Log) -> Limits {
        // Configurations and counters fill the log only, and every commit pads it.
        let log_bytes = 4 * (options.flush_bytes as u64 + 512 * options.flush_writes as u64);
        Limits {
            documents: copies.documents() + options.flush_writes,
            bytes: copies.bytes() + options.flush_bytes,
            log_bytes: log.len() + log_bytes,
        }
    }
}

impl Engine {
    /// Whether memory, or the log that backs it, has grown enough.
    pub(super) fn wants_flush(&self) -> bool {
        let Limits { documents, bytes, log_bytes } = self.limits;
        self.copies.documents() >= documents || self.copies.bytes() >= bytes || self.log.len() >= log_bytes
    }

    /// Moves everything in memory to the page file and begins a new log. Everything is durable before and after, so
    /// that a crash in between costs nothing.
    ///
    /// A full disk postpones the flush: memory and log keep growing until there is room. After any other error the
    /// engine is to be recovered from disk.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        match self.flush_into(false) {
            Err(EngineError::Full(error)) => {
                tracing::warn!("the flush of log {} waits for room: {error}", self.log.header().generation);
                self.limits = Limits::behind(&self.options, &self.copies, &self.log);
                Ok(())
            }
            result => result,
        }
    }

    /// Moves everything into a new page file that holds nothing else, and removes the old one: what deleted and
    /// replaced documents took comes back. While it works it takes the room of both files, and everybody waits.
    ///
    /// What is staged is committed first. On a full disk nothing changes, and it fails with `Full`. What a snapshot
    /// reads is gone afterwards.
    pub fn compact(&mut self) -> Result<Vec<Effect>, EngineError> {
        let effects = self.commit()?;
        self.check()?;
        match self.flush_into(true) {
            Ok(()) => Ok(effects),
            Err(EngineError::Full(error)) => Err(EngineError::Full(error)),
            Err(error) => {
                self.poisoned = true;
                Err(error)
            }
        }
    }

    /// After `Full` nothing has changed: what the pages have already stays in memory and in the old log, whose replay
    /// changes nothing.
    fn flush_into(&mut self, fresh: bool) -> Result<(), EngineError> {
        let before = self.log.header();
        let (replaced, stale) = match fresh {
            true => (Some(self.rewrite(before.generation)?), BTreeSet::new()),
            false => self.write_pages(before.generation)?,
        };
        let pages = replaced.as_ref().or(self.pages.as_ref()).map_or(0, Pages::number);
        let header = Header { generation: before.generation + 1, pages, ..before };
        self.log = match (Log::create(&*self.disk, header), &replaced) {
            (Err(error @ EngineError::Full(_)), Some(replaced)) => {
                // No log names it, and its room is wanted now.
                self.disk.remove(&Pages::name(replaced.number()))?;
                return Err(error);
            }
            (created, _) => created?,
        };
        // Before anything is committed to the new log: were its header to rot while the old log is there, the old
        // log would be taken for the newest.
        self.disk.remove(&Header::name(before.generation))?;
        if let Some(replaced) = replaced {
            self.pages = Some(replaced);
            if before.pages > 0 {
                self.disk.remove(&Pages::name(before.pages))?;
            }
        }
        self.copies.flushed(stale);
        self.limits = Limits::behind(&self.options, &self.copies, &self.log);
        Ok(())
    }

    /// Writes what is in memory, into a new page file if there is none yet or if the present one has rotted. The new
    /// file, and the shards that left rows behind which are still to be removed.
    fn write_pages(&mut self, generation: u64) -> Result<(Option<Pages>, BTreeSet<ShardId>), EngineError> {
        let Some(pages) = &self.pages else { return Ok((Some(self.rewrite(generation)?), BTreeSet::new())) };
        match pages.write(|rows| write_changes(rows, &self.copies), generation) {
            Ok(stale) => Ok((None, stale)),
            Err(EngineError::Corrupt { file, what }) => {
                tracing::warn!("{file}: {what}; what can be read of it moves to a new file");
                Ok((Some(self.rewrite(generation)?), BTreeSet::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes everything that can be read into a new page file. A copy of which something cannot be read keeps the
    /// documents in front of that, in key order, and is marked damaged.
    fn rewrite(&mut self, generation: u64) -> Result<Pages, EngineError> {
        self.mark_unreadable()?;
        let number = self.log.header().pages + 1;
        let written = Pages::create(&self.disk, self.disk_id, number, &self.options)
            .and_then(|fresh| fresh.write(|rows| self.write_all(rows), generation).map(|()| fresh));
        if written.is_err() {
            // No log names it. It would go at the next start; its room is wanted now.
            self.disk.remove(&Pages::name(number))?;
        }
        written
    }

    fn write_all(&self, rows: &mut Rows<'_>) -> Result<(), redb::Error> {
        for (shard, copy) in self.copies.iter() {
            if let Some(pages) = self.pages.as_ref().filter(|_| copy.paged) {
                let mut put = Ok(());
                let scanned = pages.scan(shard, copy.incarnation, &Range::default(), Check::Document, |name, found| {
                    if copy.memory.forgotten.contains(name) || copy.memory.table.contains_key(name) {
                        return ControlFlow::Continue(());
                    }
                    put = rows.put_document(shard, copy.incarnation, name, found);
                    if put.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                put?;
                match scanned {
                    Ok(()) => {}
                    Err(EngineError::Damaged { .. }) if copy.state.damaged => {}
                    Err(EngineError::Io(error)) => return Err(error.into()),
                    Err(error) => return Err(redb::Error::Corrupted(error.to_string())),
                }
            }
            for (key, held) in copy.memory.table.iter() {
                rows.put_document(shard, copy.incarnation, key.encoded(), held.borrowed())?;
            }
            rows.put_shard(shard, copy.incarnation, &copy.state)?;
        }
        Ok(())
    }

    /// Marks the copies of which something cannot be read, and counts what is left of them.
    fn mark_unreadable(&mut self) -> Result<(), EngineError> {
        let Some(pages) = &self.pages else {
            return Ok(());
        };
        for (shard, copy) in self.copies.iter_mut().filter(|(_, copy)| copy.paged) {
            let whole = Range::default();
            match pages.scan(shard, copy.incarnation, &whole, Check::Document, |_, _| ControlFlow::Continue(())) {
                Ok(()) if !copy.state.damaged => {}
                Ok(()) | Err(EngineError::Damaged { .. }) => {
                    let mut sums = BTreeMap::new();
                    // What stops this scan stopped the one above.
                    let _ = pages.scan(shard, copy.incarnation, &whole, Check::Document, |name, found| {
                        if !copy.memory.forgotten.contains(name) {
                            sums.insert(name.to_owned(), found.sum);
                        }
                        ControlFlow::Continue(())
                    });
                    sums.extend(copy.memory.table.iter().map(|(key, held)| (key.encoded().to_owned(), held.sum)));
                    copy.state.damaged = true;
                    copy.dirty = true;
                    copy.state.documents = sums.len() as u64;
                    copy.tombstones = None;
                    copy.state.digest = Digest::default();
                    for (name, sum) in &sums {
                        copy.state.digest.add(Bucket::of(name, 0).0 as u16, *sum);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes what changed, and removes some of what wiped copies left. The shards of which something is still left.
fn write_changes(rows: &mut Rows<'_>, copies: &Copies) -> Result<BTreeSet<ShardId>, redb::Error> {
    let mut stale = BTreeSet::new();
    let mut room = REMOVED_PER_FLUSH;
    for (shard, copy) in copies.iter().filter(|(shard, _)| copies.stale().contains(shard)) {
        room -= rows.remove_stale(shard, copy.incarnation, room)?;
        if room == 0 {
            stale.insert(shard);
        }
    }
    for (shard, copy) in copies.iter().filter(|(_, copy)| copy.dirty) {
        rows.put_shard(shard, copy.incarnation, &copy.state)?;
    }
    for (shard, copy) in copies.iter() {
        for key in copy.memory.forgotten.iter() {
            rows.remove_document(shard, copy.incarnation, key)?;
        }
        for (key, held) in copy.memory.table.iter() {
            rows.put_document(shard, copy.incarnation, key.encoded(), held.borrowed())?;
        }
    }
    Ok(stale)
}
