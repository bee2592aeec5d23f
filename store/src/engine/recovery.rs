//! From what a crash left on the disk back to an engine.
//!
//! A flush goes through three durable steps: the page file takes everything of log `g` and says so; log `g + 1` is
//! created, naming that page file; log `g` is removed, and with it a page file that was replaced. So whatever was
//! interrupted, the newest log with a whole header decides, and the page file that it names was flushed up to
//!
//! - the log before it: the usual case;
//! - this log itself: the crash came before the next log was durable. Replaying it once more changes nothing, because
//!   an operation replaces and never adds;
//! - anything else, or it is missing: rot, or a file from elsewhere, and the engine refuses to open.
//!
//! Every other file of ours is a leftover and goes. A disk with no log and no page file is formatted.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Options;
use super::copies::Copies;
use super::digest::NameHash;
use super::log::{Header, Log};
use super::pages::{Pages, Purpose};
use super::record::{self, Former, Held, Operation};
use crate::env::Disk;
use crate::error::EngineError;
use crate::id::{DiskId, Key, ShardId, Version};

/// What recovery hands to the engine.
pub struct Recovered {
    pub disk_id: DiskId,
    pub log: Log,
    pub pages: Option<Pages>,
    pub copies: Copies,
}

/// Recovers what is on the disk, or formats it under the id `fresh`. A crash at any point of this is recovered from
/// by the next call.
pub fn recover(disk: &Arc<dyn Disk>, options: &Options, fresh: u128) -> Result<Recovered, EngineError> {
    let files = Files::list(&**disk)?;
    let Some(header) = newest(&**disk, &files)? else {
        return format(disk, options, &files, DiskId(fresh));
    };

    let mut copies = Copies::new(options.names_bytes);
    let pages = load(disk, options, &files, &header, &mut copies)?;
    let log = Log::recover(&**disk, header, |group| {
        let operations = record::read_operations(group).ok_or_else(|| EngineError::Corrupt {
            file: Header::name(header.generation),
            what: "a group holds something that is no operation".to_owned(),
        })?;
        for operation in operations {
            replay(&mut copies, pages.as_ref(), operation)?;
        }
        copies.keep();
        Ok(())
    })?;

    for &generation in files.logs.iter().filter(|&&generation| generation != header.generation) {
        disk.remove(&Header::name(generation))?;
    }
    for &number in files.pages.iter().filter(|&&number| number != header.pages) {
        disk.remove(&Pages::name(number))?;
    }
    Ok(Recovered { disk_id: header.disk, log, pages, copies })
}

/// The files of ours, by number.
struct Files {
    logs: BTreeSet<u64>,
    pages: BTreeSet<u64>,
}

impl Files {
    fn list(disk: &dyn Disk) -> Result<Files, EngineError> {
        let names = disk.list()?;
        let numbered = |prefix: &str| {
            names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect::<BTreeSet<u64>>()
        };
        Ok(Files { logs: numbered("log."), pages: numbered("pages.") })
    }
}

/// The header of the newest log, passing over one whose creation was cut short.
fn newest(disk: &dyn Disk, files: &Files) -> Result<Option<Header>, EngineError> {
    for &generation in files.logs.iter().rev() {
        if let Some(header) = Header::read(disk, generation)? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn format(disk: &Arc<dyn Disk>, options: &Options, files: &Files, disk_id: DiskId) -> Result<Recovered, EngineError> {
    // A page file is created under a log, and a log is removed under its successor.
    if let Some(&number) = files.pages.first() {
        let what = "there are pages, and no log that leads to them".to_owned();
        return Err(EngineError::Corrupt { file: Pages::name(number), what });
    }
    if files.logs.iter().any(|&generation| generation != 1) {
        let what = "there are logs, and not one whole header".to_owned();
        return Err(EngineError::Corrupt { file: "log".to_owned(), what });
    }
    let header = Header { disk: disk_id, generation: 1, pages: 0 };
    let log = Log::create(&**disk, header)?;
    Ok(Recovered { disk_id, log, pages: None, copies: Copies::new(options.names_bytes) })
}

/// Opens the page file that the log names and takes in its shards.
fn load(
    disk: &Arc<dyn Disk>,
    options: &Options,
    files: &Files,
    header: &Header,
    copies: &mut Copies,
) -> Result<Option<Pages>, EngineError> {
    let corrupt = |what: &str| EngineError::Corrupt { file: Pages::name(header.pages), what: what.to_owned() };
    if header.pages == 0 {
        // Nothing was ever flushed: this can only be the first log.
        return if header.generation == 1 { Ok(None) } else { Err(corrupt("no log leads to its pages")) };
    }
    if !files.pages.contains(&header.pages) || disk.open(&Pages::name(header.pages))?.is_empty()? {
        return Err(corrupt("the log names it, and it is missing"));
    }
    let pages = Pages::open(disk, header.disk, header.pages, options)?;
    let flushed = pages.flushed()?;
    if flushed != header.generation && flushed + 1 != header.generation {
        return Err(corrupt("it was flushed up to another log"));
    }
    for (shard, incarnation, state) in pages.shards()? {
        let has_stale = pages.has_stale(shard, incarnation)?;
        copies.load(shard, incarnation, state, has_stale);
    }
    Ok(Some(pages))
}

fn replay(copies: &mut Copies, pages: Option<&Pages>, operation: Operation) -> Result<(), EngineError> {
    match operation {
        Operation::Put { shard, key, version, value } => {
            let name = NameHash::of(key.encoded());
            let old = if copies.may_hold(shard, name) { held(copies, pages, shard, &key)? } else { None };
            copies.put(shard, &key, name, Held::new(&key, version, value), old.map(|(_, former)| former));
        }
        Operation::Forget { shard, key, version } => {
            if let Some((found, former)) = held(copies, pages, shard, &key)?
                && found == version
            {
                copies.forget(shard, &key, former.sum);
            }
        }
        Operation::Raise { shard, counter } => copies.raise(shard, counter),
        Operation::Install { config, wipe } => copies.install(&config, wipe),
        Operation::Drop { shard } => copies.drop_copy(shard),
        Operation::Damage { shard } => copies.damage(shard),
    }
    Ok(())
}

/// Version of what a copy holds under this key, and what is counted of it.
fn held(
    copies: &mut Copies,
    pages: Option<&Pages>,
    shard: ShardId,
    key: &Key,
) -> Result<Option<(Version, Former)>, EngineError> {
    let Some(copy) = copies.get(shard) else {
        return Ok(None);
    };
    if let Some(held) = copy.memory.table.get(key) {
        return Ok(Some((held.version, held.borrowed().into())));
    }
    let Some(pages) = pages.filter(|_| copy.paged && !copy.memory.forgotten.contains(key)) else {
        return Ok(None);
    };
    match pages.document(shard, copy.incarnation, key, Purpose::Write, |held| (held.version, held.into())) {
        Ok(held) => Ok(held),
        // What was replaced has rotted since. The copy is silent from here on, and the rest can open.
        Err(EngineError::Damaged { .. }) => {
            copies.damage(shard);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
