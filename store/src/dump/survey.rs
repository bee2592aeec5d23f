//! Reads a whole dump once and notes what is there: pass 1.
//!
//! Which field is the primary key often stands behind the documents. Then the guess that Meilisearch itself would make is
//! looked at; only where it turns out to be wrong are the documents read again ([`plan`](crate::dump::plan) asks for that).
//! The version may stand last as well: what is found is kept apart by where it belongs, and what is of another version than
//! turns out is ignored. What is kept of all members together is limited; of documents, nothing is.

pub mod small;

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dump::archive::{Archive, Member, ReadBytes};
use crate::dump::document::{candidates, inspect};
use crate::dump::layout::{Role, Version};
use crate::dump::limits::{LISTED, Limits, MAX_KEPT_BYTES, MAX_PENDING_BYTES, MAX_SMALL_BYTES, MIN_TASK_BYTES};
use crate::dump::plan::Index;
use crate::dump::progress::{Phase, Progress, Step};
use crate::dump::records::{Framing, Records};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::tasks::{self, Task};

use small::{About, Entries, Meta, Root, Settings, Text, Wrong, object, uid_of};

/// Where the bytes of a dump come from; they are read more than once.
pub trait Source {
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
    /// Compressed.
    fn bytes(&self) -> u64;
}

impl Source for &[u8] {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(*self))
    }

    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// Begins to read a dump.
pub(super) fn open<'a>(source: &'a dyn Source, read: ReadBytes) -> Result<Archive<Box<dyn Read + 'a>>, DumpError> {
    let input = source.open().map_err(|error| DumpError::Io { what: "open the dump", error })?;
    Archive::open(input, read)
}

/// The documents of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    pub path: String,
    pub count: u64,
    pub bytes: u64,
    /// What the first document offers as a primary key.
    pub candidates: Vec<String>,
    /// The primary key with which ids were looked at.
    pub key: Option<String>,
    /// The first documents whose id is wrong, with why, and how many there are.
    pub wrong: Vec<(u64, String)>,
    pub wrong_count: u64,
    /// The first reserved field, where it is, and how many documents have one.
    pub reserved: Option<(String, u64)>,
    pub reserved_count: u64,
}

/// What was found of an index.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// The folder itself stands in the archive.
    pub has_folder: bool,
    pub documents: Option<Documents>,
    /// V1 and V6.
    pub settings: Option<Settings>,
    /// V2 to V5.
    pub meta: Option<Meta>,
    /// V6.
    pub about: Option<About>,
}

/// A queue of tasks.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub is_there: bool,
    pub finished: u64,
    /// With the folder, in V1.
    pub unfinished: Vec<Task>,
}

/// What a dump has that lands nowhere, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub finished_tasks: u64,
    pub keys: u64,
    // From here on in V6 alone.
    pub batches: u64,
    pub webhooks: u64,
    pub features: u64,
    pub remotes: u64,
    pub chat_settings: u64,
    pub search_rules: u64,
    pub internal_indexes: u64,
}

/// Everything that one reading has shown, of whatever version it is.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// `dumpVersion` as it is written.
    pub version: Option<String>,
    pub db_version: Option<String>,
    pub dump_date: Option<String>,
    /// By whether it lies below `indexes/`, and its name.
    pub folders: BTreeMap<(bool, String), Folder>,
    /// V1: the indexes that `metadata.json` names, by uid.
    pub listed: BTreeMap<String, About>,
    pub has_uid_map: bool,
    /// V2 to V5: folder to uid.
    pub uids: BTreeMap<String, String>,
    pub updates_v1: Queue,
    pub updates: Queue,
    pub tasks: Queue,
    /// Documents of tasks, by path.
    pub pending: BTreeMap<String, Documents>,
    /// How many keys there are, by path.
    pub keys: BTreeMap<String, u64>,
    /// Of members that only V6 has.
    pub counts: Counts,
    pub is_snapshot: (bool, bool),
    /// What is wrong first inside the members of each version.
    pub wrong: BTreeMap<Version, Refusal>,
    pub fingerprint: u128,
    pub unpacked_bytes: u64,
}

impl Survey {
    /// The tasks of a dump of this version.
    pub fn queue(&self, version: Version) -> &Queue {
        match version {
            Version::V1 => &self.updates_v1,
            Version::V2 | Version::V3 | Version::V4 | Version::V5 => &self.updates,
            Version::V6 => &self.tasks,
        }
    }

    /// What is counted in a dump of this version.
    pub fn counts(&self, version: Version) -> Counts {
        let counts = if version == Version::V6 { self.counts.clone() } else { Counts::default() };
        let keys = version.keys_path().and_then(|path| self.keys.get(path));
        Counts { finished_tasks: self.queue(version).finished, keys: keys.copied().unwrap_or(0), ..counts }
    }
}

/// Primary keys by the path of a member with documents.
pub type Keys = BTreeMap<String, String>;

/// Reads everything, to the last checksum.
pub fn survey(
    source: &dyn Source,
    limits: Limits,
    keys: &Keys,
    progress: &mut dyn Progress,
) -> Result<Survey, DumpError> {
    let read = ReadBytes::default();
    let mut archive = open(source, read.clone())?;
    let survey = Survey::default();
    let of_bytes = source.bytes();
    let mut reading = Reading { limits, keys, survey, pending_bytes: 0, kept_bytes: 0, read, of_bytes, progress };
    while let Some(member) = archive.next_member()? {
        reading.survey.unpacked_bytes += member.bytes;
        reading.take(&mut archive, &member)?;
        if reading.survey.is_snapshot == (true, true) {
            break;
        }
    }
    let mut survey = reading.survey;
    survey.fingerprint = archive.fingerprint();
    Ok(survey)
}

struct Reading<'a> {
    limits: Limits,
    keys: &'a Keys,
    survey: Survey,
    pending_bytes: u64,
    kept_bytes: usize,
    read: ReadBytes,
    of_bytes: u64,
    progress: &'a mut dyn Progress,
}

impl Reading<'_> {
    fn take<R: Read>(&mut self, archive: &mut Archive<R>, member: &Member) -> Result<(), DumpError> {
        let path = &member.path;
        let version = self.survey.version.as_deref().and_then(Version::parse);
        match Role::of(path, member.is_folder, version) {
            Role::Index(name) => self.folder(path, name)?.has_folder = true,
            Role::Documents(name) => {
                let documents = self.documents(archive, path, Framing::Lines)?;
                self.folder(path, name)?.documents = Some(documents);
            }
            Role::Pending => {
                let is_v2 = path.starts_with("updates/update_files/");
                let documents = self.documents(archive, path, if is_v2 { Framing::Array } else { Framing::Lines })?;
                self.survey.pending.insert(path.clone(), documents);
            }
            Role::UidMap => {
                self.survey.has_uid_map = true;
                self.lines(archive, path, |it, line| {
                    Ok(match uid_of(line) {
                        Ok((uuid, uid)) => {
                            it.keep(path, 2 * (uuid.len() + uid.len()) + ENTRY_BYTES)?;
                            it.survey.uids.insert(uuid, uid);
                            None
                        }
                        Err(reason) => Some(reason.to_owned()),
                    })
                })?;
            }
            Role::Tasks => self.tasks(archive, path, None)?,
            Role::Updates(folder) => self.tasks(archive, path, Some(folder))?,
            Role::Keys => {
                let count = self.lines(archive, path, |_, line| Ok(not_json(line)))?;
                self.survey.keys.insert(path.clone(), count);
            }
            Role::Batches => self.survey.counts.batches += self.lines(archive, path, |_, line| Ok(not_json(line)))?,
            Role::ChatSettings => self.survey.counts.chat_settings += 1,
            Role::SearchRules => self.survey.counts.search_rules += 1,
            Role::Internal => self.survey.counts.internal_indexes = 1,
            Role::SnapshotVersion => self.survey.is_snapshot.0 = true,
            Role::Database => self.survey.is_snapshot.1 = true,
            Role::Ignored => {}
            role @ (Role::Metadata
            | Role::IndexMetadata(_)
            | Role::Settings(_)
            | Role::Meta(_)
            | Role::Features
            | Role::Webhooks
            | Role::Network) => {
                if member.bytes > MAX_SMALL_BYTES {
                    let reason = format!("{} bytes, where at most {MAX_SMALL_BYTES} are sensible", member.bytes);
                    self.note(Refusal::in_member(path, reason));
                } else {
                    let text = archive.read_all(MAX_SMALL_BYTES)?;
                    if let Some(Wrong { line, reason }) = self.small(path, role, &text)? {
                        self.note(Refusal::at(path, line, reason));
                    }
                }
            }
        }
        Ok(())
    }

    /// A member that is one object; what is wrong with it, if anything is.
    fn small(&mut self, path: &str, role: Role, text: &[u8]) -> Result<Option<Wrong>, DumpError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Listed {
            webhooks: Entries,
            remotes: Entries,
        }
        let counts = &mut self.survey.counts;
        let read = match role {
            Role::Metadata => match object::<Root<'_>>(text) {
                Ok(root) => return self.root(path, &root).map(|()| None),
                Err(wrong) => Err(wrong),
            },
            Role::IndexMetadata(name) => match object::<About>(text) {
                Ok(about) => {
                    self.keep(path, 2 * about.bytes())?;
                    self.folder(path, name)?.about = Some(about);
                    Ok(())
                }
                Err(wrong) => Err(wrong),
            },
            Role::Settings(name) => {
                let settings = Settings::read(text);
                settings.map(|settings| self.folder(path, name).map(|it| it.settings = Some(settings))).map(drop)
            }
            Role::Meta(name) => match Meta::read(text) {
                Ok(meta) => {
                    self.keep(path, 2 * meta.primary_key.as_ref().map_or(0, String::len))?;
                    self.folder(path, name)?.meta = Some(meta);
                    Ok(())
                }
                Err(wrong) => Err(wrong),
            },
            Role::Features => object::<Entries>(text).map(|features| counts.features += features.on),
            Role::Webhooks => object::<Listed>(text).map(|listed| counts.webhooks += listed.webhooks.all),
            Role::Network => object::<Listed>(text).map(|listed| counts.remotes += listed.remotes.all),
            _ => unreachable!("no small member"),
        };
        Ok(read.err())
    }

    fn root(&mut self, path: &str, root: &Root<'_>) -> Result<(), DumpError> {
        let text = |text: &Text| text.0.clone();
        self.survey.version = Some(text(&root.dump_version).unwrap_or_default());
        self.survey.db_version = text(&root.db_version);
        self.survey.dump_date = text(&root.dump_date);
        root.indexes(|index| {
            let Some(uid) = index.uid().cloned() else { return Ok(()) };
            self.keep(path, 2 * index.bytes() + 4 * uid.len() + size_of::<Index>() + ENTRY_BYTES)?;
            self.survey.listed.insert(uid, index);
            Ok(())
        })
    }

    /// What is known of the index in this folder. What is made of it later is counted as well.
    fn folder(&mut self, path: &str, name: String) -> Result<&mut Folder, DumpError> {
        let is_below = path.strip_prefix("indexes/").is_some_and(|rest| rest == name || rest.contains('/'));
        let place = (is_below, name);
        if !self.survey.folders.contains_key(&place) {
            self.keep(path, size_of::<Folder>() + size_of::<Index>() + 6 * place.1.len() + ENTRY_BYTES)?;
        }
        Ok(self.survey.folders.entry(place).or_default())
    }

    /// Counts what is kept until the plan is made.
    fn keep(&mut self, path: &str, bytes: usize) -> Result<(), DumpError> {
        self.kept_bytes += bytes;
        if self.kept_bytes > MAX_KEPT_BYTES {
            let reason =
                format!("what is to be kept of all members, such as names, takes more than {MAX_KEPT_BYTES} bytes");
            return Err(Refusal::in_member(path, reason).into());
        }
        Ok(())
    }

    /// Something is wrong inside a member. It counts in dumps of those versions that have such a member.
    fn note(&mut self, refusal: Refusal) {
        for version in Version::ALL {
            if Role::of(&refusal.member, false, Some(version)) != Role::Ignored {
                self.survey.wrong.entry(version).or_insert_with(|| refusal.clone());
            }
        }
    }

    /// The next record; `None` at the end, and where something is wrong with it.
    fn next<'r, R: Read>(
        &mut self,
        records: &'r mut Records,
        archive: &mut Archive<R>,
    ) -> Result<Option<(u64, &'r [u8])>, DumpError> {
        match records.next(archive) {
            // What is wrong with the archive has no line.
            Err(DumpError::Refused(refusal)) if refusal.line > 0 => {
                self.note(refusal);
                Ok(None)
            }
            other => other,
        }
    }

    /// Hands each line of a member to `each`, which may say what is wrong with it; says how many there are.
    fn lines<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        path: &str,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<Option<String>, DumpError>,
    ) -> Result<u64, DumpError> {
        let mut records = Records::new(path, Framing::Lines, MAX_SMALL_BYTES as usize);
        let mut count = 0;
        while let Some((line, text)) = self.next(&mut records, archive)? {
            count += 1;
            if let Some(reason) = each(self, text)? {
                self.note(Refusal::at(path, line, reason));
                break;
            }
        }
        Ok(count)
    }

    fn tasks<R: Read>(&mut self, archive: &mut Archive<R>, path: &str, index: Option<String>) -> Result<(), DumpError> {
        let mut found = Queue { is_there: true, ..Queue::default() };
        self.lines(archive, path, |it, text| {
            match tasks::is_unfinished(path, text) {
                Ok(true) => {}
                Ok(false) => {
                    found.finished += 1;
                    return Ok(None);
                }
                Err(reason) => return Ok(Some(reason)),
            }
            it.pending_bytes += (text.len() as u64).max(MIN_TASK_BYTES);
            if it.pending_bytes > MAX_PENDING_BYTES {
                return Ok(Some(format!(
                    "more than {MAX_PENDING_BYTES} bytes of unfinished tasks, of which the least counts as \
                     {MIN_TASK_BYTES}; let Meilisearch finish them and create another dump"
                )));
            }
            Ok(match tasks::parse(path, text) {
                Ok(task) => {
                    let index = index.clone().or(task.index);
                    found.unfinished.push(Task { index, ..task });
                    None
                }
                Err(reason) => Some(reason),
            })
        })?;
        let queue = match path {
            "tasks/queue.jsonl" => &mut self.survey.tasks,
            "updates/data.jsonl" => &mut self.survey.updates,
            _ => &mut self.survey.updates_v1,
        };
        queue.is_there = true;
        queue.finished += found.finished;
        queue.unfinished.append(&mut found.unfinished);
        Ok(())
    }

    fn documents<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        path: &str,
        framing: Framing,
    ) -> Result<Documents, DumpError> {
        self.keep(path, size_of::<Documents>() + 4 * path.len() + ENTRY_BYTES)?;
        let mut found = Documents { path: path.to_owned(), key: self.keys.get(path).cloned(), ..Documents::default() };
        let mut records = Records::new(path, framing, self.limits.document_bytes);
        while let Some((line, text)) = self.next(&mut records, archive)? {
            if found.count == 0 {
                found.candidates = candidates(text);
                self.keep(path, 4 * found.candidates.iter().map(String::len).sum::<usize>())?;
                if let (None, [only]) = (&found.key, &found.candidates[..]) {
                    found.key = Some(only.clone());
                }
            }
            found.count += 1;
            found.bytes += text.len() as u64;
            let seen = match inspect(text, found.key.as_deref()) {
                Ok(seen) => seen,
                Err(reason) => {
                    self.note(Refusal::at(path, line, reason));
                    break;
                }
            };
            if let Err(why) = seen.id {
                found.wrong_count += 1;
                if found.wrong.len() < LISTED {
                    self.keep(path, why.len() + size_of::<(u64, String)>())?;
                    found.wrong.push((line, why));
                }
            }
            if let Some(field) = seen.reserved {
                found.reserved_count += 1;
                if found.reserved.is_none() {
                    self.keep(path, 2 * field.len())?;
                    found.reserved = Some((field, line));
                }
            }
            if found.count.is_multiple_of(1_024) {
                self.tell(found.count);
            }
        }
        self.tell(found.count);
        Ok(found)
    }

    fn tell(&mut self, documents: u64) {
        let (bytes, of_bytes) = (self.read.get(), self.of_bytes);
        self.progress.on(Step { phase: Phase::Analyse, bytes, of_bytes, documents });
    }
}

/// About what an entry of a map takes besides what it holds, and what is made of it later.
const ENTRY_BYTES: usize = 128;

fn not_json(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<IgnoredAny>(line).is_err().then(|| "not valid JSON".to_owned())
}
