//! Reads a whole dump once and notes what is there: pass 1.
//!
//! Which field is the primary key often stands behind the documents. Then the guess that Meilisearch itself would make is
//! looked at; only where it turns out to be wrong are the documents read again ([`plan`](crate::dump::plan) asks for that).

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::Value;

use crate::dump::archive::{Archive, Member, ReadBytes};
use crate::dump::document::{candidates, inspect};
use crate::dump::layout::{Role, Version};
use crate::dump::limits::{LISTED, Limits, MAX_PENDING_BYTES, MAX_SMALL_BYTES};
use crate::dump::progress::{Phase, Progress};
use crate::dump::records::{Framing, Records};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::tasks::{self, Task};

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
    pub documents: Option<Documents>,
    pub has_settings: bool,
    /// V6: `metadata.json`, V2 to V5: `meta.json`.
    pub has_metadata: bool,
    pub uid: Option<String>,
    pub primary_key: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    /// V1: `displayedAttributes` is not everything, so documents lack what is not displayed.
    pub hides_fields: bool,
}

/// What a dump has that lands nowhere, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub finished_tasks: u64,
    pub batches: u64,
    pub keys: u64,
    pub webhooks: u64,
    pub features: u64,
    pub remotes: u64,
    pub chat_settings: u64,
    pub search_rules: u64,
    pub internal_indexes: u64,
}

/// Everything that one reading has shown.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// `dumpVersion` as it is written.
    pub version: Option<String>,
    pub db_version: Option<String>,
    pub dump_date: Option<String>,
    /// By folder, in which version it belongs, and whether a path says so.
    pub folders: BTreeMap<(bool, String), Folder>,
    /// V1: the indexes that `metadata.json` names.
    pub listed: Vec<String>,
    pub has_uid_map: bool,
    /// Folder to uid.
    pub uids: BTreeMap<String, String>,
    pub has_tasks: BTreeMap<String, ()>,
    /// With the folder, in V1.
    pub tasks: Vec<Task>,
    pub pending: BTreeMap<String, Documents>,
    pub has_keys: bool,
    pub counts: Counts,
    pub is_snapshot: (bool, bool),
    /// What is wrong inside members; it counts if the member belongs to the dump's version.
    pub wrong: Vec<Refusal>,
    pub fingerprint: u128,
    pub unpacked_bytes: u64,
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
    let mut reading = Reading { limits, keys, survey: Survey::default(), pending_bytes: 0, read, progress };
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
    read: ReadBytes,
    progress: &'a mut dyn Progress,
}

impl Reading<'_> {
    fn take<R: Read>(&mut self, archive: &mut Archive<R>, member: &Member) -> Result<(), DumpError> {
        let path = &member.path;
        let below = path.starts_with("indexes/") && path.matches('/').count() == 2;
        match Role::of(path, member.is_folder, None) {
            Role::Metadata => self.metadata(&archive.read_all(MAX_SMALL_BYTES)?),
            Role::Index(folder) => drop(self.survey.folders.entry((true, folder)).or_default()),
            Role::Documents(folder) => {
                let documents = self.documents(archive, path, Framing::Lines)?;
                self.survey.folders.entry((below, folder)).or_default().documents = Some(documents);
            }
            Role::IndexMetadata(folder) => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                let it = self.survey.folders.entry((below, folder)).or_default();
                it.has_metadata = true;
                it.uid = text(&value, "uid");
                it.primary_key = text(&value, "primaryKey");
                it.created_at = text(&value, "createdAt");
                it.updated_at = text(&value, "updatedAt");
            }
            Role::Settings(folder) => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                let it = self.survey.folders.entry((below, folder)).or_default();
                it.has_settings = true;
                let displayed = value.get("displayedAttributes").and_then(Value::as_array);
                it.hides_fields = displayed.is_some_and(|names| names.iter().all(|name| name != "*"));
            }
            Role::Meta(folder) => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                let it = self.survey.folders.entry((below, folder)).or_default();
                (it.has_metadata, it.has_settings) = (true, value.get("settings").is_some_and(Value::is_object));
                it.primary_key = text(&value, "primary_key");
            }
            Role::UidMap => {
                self.survey.has_uid_map = true;
                let mut uids = BTreeMap::new();
                self.lines(archive, path, |value| {
                    let uid = text(value, "uid").ok_or("no uid")?;
                    let uuid =
                        text(value, "uuid").or_else(|| text(value.get("index_meta")?, "uuid")).ok_or("no uuid")?;
                    uids.insert(uuid, uid);
                    Ok(())
                })?;
                self.survey.uids = uids;
            }
            Role::Tasks => self.tasks(archive, path, None)?,
            Role::Updates(folder) => self.tasks(archive, path, Some(folder))?,
            Role::Pending(name) => {
                let is_v2 = path.starts_with("updates/update_files/");
                let documents = self.documents(archive, path, if is_v2 { Framing::Array } else { Framing::Lines })?;
                self.survey.pending.insert(name, documents);
            }
            Role::Keys => {
                self.survey.has_keys = true;
                self.survey.counts.keys += self.lines(archive, path, |_| Ok(()))?;
            }
            Role::Batches => self.survey.counts.batches += self.lines(archive, path, |_| Ok(()))?,
            Role::Features => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                let on = value.as_object().into_iter().flatten().filter(|(_, value)| **value == Value::Bool(true));
                self.survey.counts.features += on.count() as u64;
            }
            Role::Webhooks => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                self.survey.counts.webhooks += entries(&value, "webhooks");
            }
            Role::Network => {
                let value = self.object(path, &archive.read_all(MAX_SMALL_BYTES)?);
                self.survey.counts.remotes += entries(&value, "remotes");
            }
            Role::ChatSettings => self.survey.counts.chat_settings += 1,
            Role::SearchRules => self.survey.counts.search_rules += 1,
            Role::Internal => self.survey.counts.internal_indexes = 1,
            Role::SnapshotVersion => self.survey.is_snapshot.0 = true,
            Role::Database => self.survey.is_snapshot.1 = true,
            Role::Ignored => {}
        }
        Ok(())
    }

    fn metadata(&mut self, bytes: &[u8]) {
        let value = self.object("metadata.json", bytes);
        self.survey.version = Some(text(&value, "dumpVersion").unwrap_or_default());
        self.survey.db_version = text(&value, "dbVersion");
        self.survey.dump_date = text(&value, "dumpDate");
        for index in value.get("indexes").and_then(Value::as_array).into_iter().flatten() {
            let Some(uid) = text(index, "uid") else { continue };
            let it = self.survey.folders.entry((false, uid.clone())).or_default();
            it.uid = Some(uid.clone());
            it.primary_key = text(index, "primaryKey");
            it.created_at = text(index, "createdAt");
            it.updated_at = text(index, "updatedAt");
            self.survey.listed.push(uid);
        }
    }

    /// The object that a small member is; notes it if it is none.
    fn object(&mut self, path: &str, bytes: &[u8]) -> Value {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) if value.is_object() => value,
            Ok(_) => self.note(path, 0, "not a JSON object"),
            Err(error) => self.note(path, error.line() as u64, "not valid JSON"),
        }
    }

    fn note(&mut self, path: &str, line: u64, reason: &str) -> Value {
        self.survey.wrong.push(Refusal::at(path, line, reason));
        Value::Null
    }

    /// Hands each line of a member to `each`, as JSON; says how many there are.
    fn lines<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        path: &str,
        mut each: impl FnMut(&Value) -> Result<(), &'static str>,
    ) -> Result<u64, DumpError> {
        let mut records = Records::new(path, Framing::Lines, MAX_SMALL_BYTES as usize);
        let mut count = 0;
        while let Some((line, text)) = records.next(archive)? {
            count += 1;
            let value = serde_json::from_slice::<Value>(text).map_err(|_| "not valid JSON");
            if let Err(reason) = value.and_then(|value| each(&value)) {
                self.note(path, line, reason);
                break;
            }
        }
        Ok(count)
    }

    fn tasks<R: Read>(&mut self, archive: &mut Archive<R>, path: &str, index: Option<String>) -> Result<(), DumpError> {
        self.survey.has_tasks.insert(path.to_owned(), ());
        let mut records = Records::new(path, Framing::Lines, MAX_SMALL_BYTES as usize);
        while let Some((line, text)) = records.next(archive)? {
            match tasks::parse(path, text) {
                Ok(None) => self.survey.counts.finished_tasks += 1,
                Ok(Some(task)) => {
                    self.pending_bytes += text.len() as u64;
                    if self.pending_bytes > MAX_PENDING_BYTES {
                        let reason = format!(
                            "more than {MAX_PENDING_BYTES} bytes of unfinished tasks; let Meilisearch finish them and create another dump"
                        );
                        return Err(Refusal::at(path, line, reason).into());
                    }
                    let index = index.clone().or(task.index);
                    self.survey.tasks.push(Task { index, ..task });
                }
                Err(reason) => {
                    self.note(path, line, &reason);
                    break;
                }
            }
        }
        Ok(())
    }

    fn documents<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        path: &str,
        framing: Framing,
    ) -> Result<Documents, DumpError> {
        let mut found = Documents { path: path.to_owned(), key: self.keys.get(path).cloned(), ..Documents::default() };
        let mut records = Records::new(path, framing, self.limits.document_bytes);
        while let Some((line, text)) = records.next(archive)? {
            if found.count == 0 {
                found.candidates = candidates(text);
                if let (None, [only]) = (&found.key, &found.candidates[..]) {
                    found.key = Some(only.clone());
                }
            }
            found.count += 1;
            found.bytes += text.len() as u64;
            let seen = match inspect(text, found.key.as_deref()) {
                Ok(seen) => seen,
                Err(reason) => {
                    self.survey.wrong.push(Refusal::at(path, line, reason));
                    break;
                }
            };
            if let Err(why) = seen.id {
                found.wrong_count += 1;
                if found.wrong.len() < LISTED {
                    found.wrong.push((line, why));
                }
            }
            if let Some(field) = seen.reserved {
                found.reserved_count += 1;
                found.reserved.get_or_insert((field, line));
            }
            if found.count.is_multiple_of(1_024) {
                self.progress.on(Phase::Analyse, self.read.get(), found.count);
            }
        }
        Ok(found)
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn entries(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_object).map_or(0, |map| map.len() as u64)
}

/// Whether what is wrong with a member matters in a dump of this version.
pub(super) fn matters(refusal: &Refusal, version: Version) -> bool {
    Role::of(&refusal.member, false, Some(version)) != Role::Ignored
}
