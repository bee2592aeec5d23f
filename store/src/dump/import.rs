//! Pass 2: what a plan says, into a target.
//!
//! ```text
//! streaming:  dump -> lines -> batches -> ordinary writes
//! broadcast:  dump -> lines -> every node's staging area -> manifest -> shard by shard -> ordinary writes -> dropped
//! then, in both: unfinished tasks, in order
//! ```
//!
//! Every write is one that can be repeated, so an import that was cut short is run again from its beginning and completes;
//! a broadcast whose manifest is durable goes on from there. What is read of the dump is read again in the same order: at
//! the end its checksum must be that of the file that was analysed.

mod broadcast;
mod replay;
mod writes;

use std::io::Read;

use crate::dump::archive::{Archive, ReadBytes};
use crate::dump::collection::{self, KEYS, Record};
use crate::dump::document::{inspect, strip};
use crate::dump::layout::Role;
use crate::dump::limits::MAX_SMALL_BYTES;
use crate::dump::plan::{IfExists, Index, Mode, OnConflict, Options, Plan};
use crate::dump::progress::{self, Phase, Progress};
use crate::dump::records::{Framing, Records};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::survey::{Source, open};
use crate::dump::target::{Shape, Target};
use crate::id::{Key, MAX_VALUE_BYTES, Value};
use crate::router::Request;

use writes::Writes;

pub use broadcast::discard;

/// Documents that are read together, to see whether they are there already.
const COMPARED_TOGETHER: usize = 256;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Documents of the dump that were written.
    pub documents: u64,
    /// Documents that were there, and stayed (`--if-exists skip`).
    pub skipped: u64,
    /// Steps of unfinished tasks that were replayed.
    pub replayed: u64,
    /// A broadcast that had been cut short was gone on with.
    pub resumed: bool,
}

/// Carries out a plan of this dump.
pub async fn import<T: Target>(
    source: &dyn Source,
    plan: &Plan,
    options: &Options,
    target: &mut T,
    progress: &mut dyn Progress,
) -> Result<Imported, DumpError> {
    let shape = target.shape().await?;
    let mut it = Import { source, plan, options, shape, target, progress, has_begun: false, done: Imported::default() };
    match it.run().await {
        Ok(()) => Ok(it.done),
        Err(error) if it.has_begun => Err(error.after_writes()),
        Err(error) => Err(error),
    }
}

struct Import<'a, T> {
    source: &'a dyn Source,
    plan: &'a Plan,
    options: &'a Options,
    shape: Shape,
    target: &'a mut T,
    progress: &'a mut dyn Progress,
    /// Something was written: from here on no error may say that nothing was.
    has_begun: bool,
    done: Imported,
}

impl<T: Target> Import<'_, T> {
    async fn run(&mut self) -> Result<(), DumpError> {
        if self.options.if_exists == IfExists::Fail {
            self.compare().await?;
        }
        match self.plan.mode {
            Mode::Streaming => self.stream().await?,
            Mode::Broadcast => self.broadcast().await?,
        }
        self.replay().await
    }

    /// Writes what the dump holds, in batches.
    async fn stream(&mut self) -> Result<(), DumpError> {
        let mut reading = Reading::open(self.source, self.plan, self.options)?;
        let mut writes = Writes::new(self.options.limits.batch_documents);
        while let Some((key, value)) = reading.next()? {
            writes.push(Request::Put { key, value });
            if writes.is_full() {
                self.write(&mut writes).await?;
                self.tell(Phase::Write, reading.read.get(), self.done.documents);
            }
        }
        self.write(&mut writes).await?;
        self.tell(Phase::Write, reading.read.get(), self.done.documents);
        Ok(())
    }

    /// In a phase that reads the file.
    fn tell(&mut self, phase: Phase, bytes: u64, documents: u64) {
        self.progress.on(progress::Step { phase, bytes, of_bytes: self.plan.bytes, documents });
    }

    /// Looks whether anything of the dump is there already with other content, before anything is written.
    async fn compare(&mut self) -> Result<(), DumpError> {
        let mut reading = Reading::open(self.source, self.plan, self.options)?;
        let mut bodies = Vec::new();
        let (mut bytes, mut compared) = (0, 0);
        loop {
            let next = reading.next()?;
            let ended = next.is_none();
            bytes += next.as_ref().map_or(0, |(_, body)| body.len());
            bodies.extend(next);
            if ended || bodies.len() == COMPARED_TOGETHER || bytes >= writes::MAX_BYTES {
                compared += bodies.len() as u64;
                while !bodies.is_empty() {
                    let keys = bodies.iter().map(|(key, _): &(Key, Value)| key.clone()).collect();
                    let held = self.target.read(keys).await?;
                    for (held, (key, body)) in held.iter().zip(&bodies) {
                        if held.as_ref().is_some_and(|held| held[..] != body[..]) {
                            let reason = format!(
                                "{key} is there with other content; use `--if-exists overwrite` or `--if-exists skip`"
                            );
                            return Err(Refusal::new(reason).into());
                        }
                    }
                    bodies.drain(..held.len());
                }
                bytes = 0;
                self.tell(Phase::Compare, reading.read.get(), compared);
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Writes a batch, or what of it is not there yet.
    async fn write(&mut self, writes: &mut Writes) -> Result<(), DumpError> {
        let mut batch = writes.take();
        if self.options.if_exists == IfExists::Skip {
            let is_there = self.are_there(batch.iter().map(|write| write.key().clone()).collect()).await?;
            let mut is_there = is_there.into_iter();
            let asked = documents(&batch);
            batch.retain(|_| is_there.next() == Some(false));
            self.done.skipped += asked - documents(&batch);
        }
        self.done.documents += documents(&batch);
        self.put_all(batch).await
    }

    /// Writes; from here on the import has begun.
    async fn put_all(&mut self, batch: Vec<Request>) -> Result<(), DumpError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.has_begun = true;
        self.target.write(batch).await
    }

    /// Which of these are there. What they hold is not kept.
    async fn are_there(&mut self, mut keys: Vec<Key>) -> Result<Vec<bool>, DumpError> {
        let mut are_there = Vec::with_capacity(keys.len());
        while !keys.is_empty() {
            let held = self.target.read(keys.clone()).await?;
            keys.drain(..held.len());
            are_there.extend(held.iter().map(Option::is_some));
        }
        Ok(are_there)
    }

    fn strips(&self) -> bool {
        strips(self.plan, self.options)
    }

    fn index(&self, uid: &str) -> &Index {
        self.plan.indexes.iter().find(|index| index.uid == uid).expect("steps are of planned indexes")
    }
}

/// How many documents of the dump are written, besides what is kept of its indexes and keys.
fn documents(writes: &[Request]) -> u64 {
    writes.iter().filter(|write| !write.key().collection().starts_with('.')).count() as u64
}

/// Whether reserved fields are cut out. The ordinary write path refuses them instead.
fn strips(plan: &Plan, options: &Options) -> bool {
    plan.mode == Mode::Broadcast || options.on_conflict == OnConflict::Strip
}

/// A document as it is written.
pub(super) fn prepared(uid: &str, text: &[u8], key: &str, strips: bool) -> Result<(Key, Value), String> {
    let seen = inspect(text, Some(key))?;
    let id = seen.id?;
    let name = Key::new(uid, &id).map_err(|error| error.to_string())?;
    match seen.reserved {
        Some(_) if strips => Ok((name, strip(text).into())),
        Some(field) => Err(format!("the field `{}` is reserved", field.escape_debug())),
        None => Ok((name, text.into())),
    }
}

/// Reads the planned part of a dump again: what each index and each of its documents becomes.
struct Reading<'a> {
    plan: &'a Plan,
    strips: bool,
    with_keys: bool,
    archive: Archive<Box<dyn Read + 'a>>,
    read: ReadBytes,
    limit: usize,
    /// The documents of the index that is being read.
    current: Option<(&'a Index, String, Records)>,
    /// Keys that are being read, and how many there were.
    keys: Option<(Records, String)>,
}

impl<'a> Reading<'a> {
    fn open(source: &'a dyn Source, plan: &'a Plan, options: &Options) -> Result<Reading<'a>, DumpError> {
        let read = ReadBytes::default();
        let archive = open(source, read.clone())?;
        let (strips, with_keys) = (strips(plan, options), options.with_keys);
        let limit = options.limits.document_bytes;
        Ok(Reading { plan, strips, with_keys, archive, read, limit, current: None, keys: None })
    }

    /// The next document; `None` at the end, if what was read is what was analysed.
    fn next(&mut self) -> Result<Option<(Key, Value)>, DumpError> {
        loop {
            if let Some((index, path, records)) = &mut self.current {
                if let Some((line, text)) = records.next(&mut self.archive)? {
                    let key = index.documents_key.as_deref().ok_or(DumpError::Changed)?;
                    let prepared = prepared(&index.uid, text, key, self.strips);
                    return prepared.map(Some).map_err(|reason| Refusal::at(path, line, reason).into());
                }
                self.current = None;
            }
            if let Some((records, path)) = &mut self.keys {
                if let Some((line, text)) = records.next(&mut self.archive)? {
                    // What a key is called differs between versions; its place does not.
                    let key = Key::new(KEYS, &format!("{line:06}"));
                    let key = key.map_err(|error| Refusal::at(path, line, error.to_string()))?;
                    return Ok(Some((key, text.into())));
                }
                self.keys = None;
            }
            let Some(member) = self.archive.next_member()? else {
                let same = self.archive.fingerprint() == self.plan.fingerprint;
                return if same { Ok(None) } else { Err(DumpError::Changed) };
            };
            let folder = |name: &str| self.plan.indexes.iter().find(|index| index.folder.as_deref() == Some(name));
            match Role::of(&member.path, member.is_folder, Some(self.plan.version)) {
                Role::Documents(name) => {
                    let records = Records::new(&member.path, Framing::Lines, self.limit);
                    self.current = folder(&name).map(|index| (index, member.path, records));
                }
                Role::Settings(name) | Role::Meta(name) => {
                    if let Some(index) = folder(&name) {
                        let bytes = self.archive.read_all(MAX_SMALL_BYTES)?;
                        return self.record(index, bytes, &member.path).map(Some);
                    }
                }
                Role::Keys if self.with_keys => {
                    let records = Records::new(&member.path, Framing::Lines, MAX_SMALL_BYTES as usize);
                    self.keys = Some((records, member.path));
                }
                _ => {}
            }
        }
    }

    /// What is kept of an index besides its documents. That it is not too large has been seen when it was planned.
    fn record(&self, index: &Index, mut bytes: Vec<u8>, path: &str) -> Result<(Key, Value), DumpError> {
        collection::on_one_line(&mut bytes);
        let is_field = path.ends_with("/meta.json");
        let settings = collection::settings(&bytes, is_field).ok_or(DumpError::Changed)?;
        let body = Record::around(index, self.plan.version, settings);
        drop(bytes);
        let key = Record::key(&index.uid).map_err(|error| Refusal::in_member(path, error.to_string()))?;
        if body.len() > MAX_VALUE_BYTES { Err(DumpError::Changed) } else { Ok((key, body.into())) }
    }
}
