//! The search for rot in what nobody reads.
//!
//! A pass first forgets every page in memory, so that what it reads comes from the disk: this checks redb's own
//! bookkeeping, too. Then it walks the documents of each shard, some at a time, and adds up digest and count anew.
//! What cannot be read, or does not add up to what was kept current on every write, is rot, and the copy is marked
//! damaged. Writes that come between two steps are followed: a document in front of the cursor that changes is
//! exchanged in the sum. At the end the log is read back, and what wiped copies left; if that has rotted, memory,
//! which holds all of it, is flushed, and what was read takes the place of what was not.
//!
//! Not handled here: when to scrub and how fast (the caller decides with every step).

use std::ops::ControlFlow;

use super::Engine;
use super::digest::{Bucket, Digest};
use super::flush::Limits;
use super::reads::Range;
use super::record::Former;
use crate::error::EngineError;
use crate::id::{Key, ShardId};

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Documents that were read and checked.
    pub documents: u64,
    /// Copies that were found damaged. The mark is staged; it is durable after the next commit.
    pub damaged: Vec<ShardId>,
    /// Whether the log, or what wiped copies left in the page file, had rotted and was replaced. Nothing was lost.
    pub replaced: bool,
    /// Whether the pass has reached its end. The next step begins another.
    pub finished: bool,
}

/// A pass that is under way.
pub(super) struct Pass {
    shard: ShardId,
    /// Everything below this name was added up.
    next: String,
    digest: Digest,
    documents: u64,
    tombstones: u64,
}

impl Pass {
    fn of(shard: ShardId) -> Pass {
        Pass { shard, next: String::new(), digest: Digest::default(), documents: 0, tombstones: 0 }
    }

    /// A document changes from `old` to `new`; `None` where there is no document.
    pub(super) fn replaced(&mut self, shard: ShardId, key: &Key, old: Option<Former>, new: Option<Former>) {
        if shard != self.shard || key.encoded() >= self.next.as_str() {
            return;
        }
        let bucket = Digest::bucket(key);
        if let Some(old) = old {
            self.digest.subtract(bucket, old.sum);
            self.documents = self.documents.wrapping_sub(1);
            self.tombstones = self.tombstones.wrapping_sub(u64::from(old.is_tombstone));
        }
        if let Some(new) = new {
            self.digest.add(bucket, new.sum);
            self.documents = self.documents.wrapping_add(1);
            self.tombstones = self.tombstones.wrapping_add(u64::from(new.is_tombstone));
        }
    }
}

impl Engine {
    /// Takes the scrub on by at most `budget` documents (at least one), beginning a pass if none is under way.
    ///
    /// Fails with `Corrupt` if the page file cannot be opened any more, with `Io` if the disk fails; the pass then
    /// begins anew.
    pub fn scrub(&mut self, budget: usize) -> Result<Scrubbed, EngineError> {
        self.check()?;
        let pass = match self.scrub.take() {
            Some(pass) => pass,
            None => match self.begin_pass()? {
                Some(pass) => pass,
                None => return Ok(Scrubbed { replaced: self.scrub_rest()?, finished: true, ..Scrubbed::default() }),
            },
        };
        self.step(pass, budget.max(1))
    }

    /// Opens the pages anew and checks what is not a document.
    fn begin_pass(&mut self) -> Result<Option<Pass>, EngineError> {
        if let Some(pages) = &self.pages {
            pages.reopen()?;
            pages.flushed()?;
            pages.shards()?;
        }
        Ok(self.copies.iter().next().map(|(shard, _)| Pass::of(shard)))
    }

    fn step(&mut self, mut pass: Pass, budget: usize) -> Result<Scrubbed, EngineError> {
        let mut done = Scrubbed::default();
        let shard = pass.shard;
        let from = std::mem::take(&mut pass.next);
        let (mut next, mut more) = (String::new(), false);
        let visited = self.visit(shard, &Range { from: &from, until: None }, |name, found| {
            if done.documents as usize == budget {
                more = true;
                next.push_str(name);
                return ControlFlow::Break(());
            }
            done.documents += 1;
            pass.digest.add(Bucket::of(name, 0).0 as u16, found.sum);
            pass.documents += 1;
            pass.tombstones += u64::from(found.value.is_none());
            ControlFlow::Continue(())
        });
        let is_damaged = match visited {
            Ok(()) if more => {
                pass.next = next;
                self.scrub = Some(pass);
                return Ok(done);
            }
            Ok(()) => {
                self.shard(shard).is_some_and(|state| state.digest != pass.digest || state.documents != pass.documents)
            }
            Err(EngineError::Damaged { .. }) => true,
            Err(error) => return Err(error),
        };
        if !is_damaged {
            self.copies.counted(shard, pass.tombstones);
        }
        if is_damaged && self.shard(shard).is_some_and(|state| !state.damaged) {
            self.mark_damaged(shard)?;
            done.damaged.push(shard);
        }
        let next = self.copies.iter().map(|(other, _)| other).find(|other| *other > shard);
        match next {
            Some(other) => self.scrub = Some(Pass::of(other)),
            None => {
                done.replaced = self.scrub_rest()?;
                done.finished = true;
            }
        }
        Ok(done)
    }

    /// Reads what belongs to no copy: what wiped copies left, and the log. Memory and the other pages hold everything
    /// that counts, so what has rotted of this is written anew.
    fn scrub_rest(&mut self) -> Result<bool, EngineError> {
        let mut pages_whole = true;
        if let Some(pages) = &self.pages {
            for (shard, copy) in self.copies.iter().filter(|(shard, _)| self.copies.stale().contains(shard)) {
                pages_whole &= pages.reads_stale(shard, copy.incarnation)?;
            }
        }
        if pages_whole && self.log.is_whole(&*self.disk)? {
            return Ok(false);
        }
        tracing::warn!("log {} or what it wiped has rotted, and is replaced", self.log.header().generation);
        if self.has_staged() {
            // The commit that is due anyway brings it about; a flush that meets rotten pages moves to a new file.
            self.limits = Limits::reached();
        } else if let Err(error) = self.flush() {
            self.poisoned = true;
            return Err(error);
        }
        Ok(true)
    }

    /// The copy was wiped: what was added up is gone.
    pub(super) fn restart_scrub(&mut self, shard: ShardId) {
        if let Some(pass) = &mut self.scrub
            && pass.shard == shard
        {
            *pass = Pass::of(shard);
        }
    }
}
