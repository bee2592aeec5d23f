//! From what was found to what it means: which folder is which index, what its primary key is, what is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::dump::collection::Record;
use crate::dump::layout::Version;
use crate::dump::plan::{Conflict, Index, KeySource, Losses, Mode, Options, Pending, Plan, Step};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::survey::small::About;
use crate::dump::survey::{Documents, Folder, Keys, Survey};
use crate::dump::tasks::{Task, Work};
use crate::id::{MAX_COLLECTION_BYTES, MAX_VALUE_BYTES};

pub(super) enum Resolved {
    Plan(Box<Plan>),
    /// These members have to be read with these primary keys.
    ReadAgain(Keys),
}

/// Makes the plan, all but its mode.
pub(super) fn resolve(mut survey: Survey, bytes: u64, options: &Options) -> Result<Resolved, DumpError> {
    let version = version(&survey)?;
    if let Some(wrong) = survey.wrong.remove(&version) {
        return Err(wrong.into());
    }
    let mut losses = Losses { counts: survey.counts(version), ..Losses::default() };
    losses.counts.keys *= u64::from(!options.with_keys);
    let has_queue = survey.queue(version).is_there;
    let tasks = tasks(&mut survey, version, options, &mut losses);
    let mut named = named(&survey, version)?;
    require(&survey, version, has_queue)?;
    let hides = |folder: &Folder| folder.settings.as_ref().is_some_and(|settings| settings.hides_fields);
    losses.hidden = named.values().filter(|found| version == Version::V1 && hides(found.folder)).count() as u64;
    if let Some(wanted) = &options.index {
        let is_created = tasks.iter().any(|task| task.index.as_ref() == Some(wanted));
        if !named.contains_key(wanted) && !is_created {
            let uids: Vec<&str> = named.keys().map(String::as_str).collect();
            let reason = format!("the dump has no index `{wanted}`; it has {}", uids.join(", "));
            return Err(Refusal::new(reason).into());
        }
        named.retain(|uid, _| uid == wanted);
    }
    let mut it = Resolving {
        options,
        version,
        survey: &survey,
        keys: Keys::new(),
        sets: Vec::new(),
        indexes: BTreeMap::new(),
        deleted: BTreeSet::new(),
    };
    for (uid, found) in &named {
        it.index(uid, found)?;
    }
    let mut steps = Vec::new();
    for task in tasks {
        it.step(task, &mut steps, &mut losses)?;
    }
    let used = |set: &&Documents| set.key == it.keys.get(&set.path).cloned();
    if !it.sets.iter().all(used) {
        return Ok(Resolved::ReadAgain(it.keys));
    }
    for set in &it.sets {
        check_ids(set)?;
    }
    for index in it.indexes.values() {
        check_record(index, version, named.get(&index.uid))?;
    }
    let conflict = conflict(&it.sets);
    Ok(Resolved::Plan(Box::new(Plan {
        version,
        db_version: survey.db_version.clone(),
        dump_date: survey.dump_date.clone(),
        fingerprint: survey.fingerprint,
        bytes,
        unpacked_bytes: survey.unpacked_bytes,
        indexes: it.indexes.into_values().collect(),
        steps,
        conflict,
        losses,
        mode: Mode::Streaming,
    })))
}

fn version(survey: &Survey) -> Result<Version, DumpError> {
    let (has_version_file, has_database) = survey.is_snapshot;
    match &survey.version {
        _ if has_database && (has_version_file || survey.version.is_none()) => {
            let reason = "a snapshot, not a dump; restore it in Meilisearch and create a dump";
            Err(Refusal::new(reason).into())
        }
        None => {
            let none = Refusal::new("there is no `metadata.json`: the dump was cut, or is none");
            // If it is there, and is wrong, it is so in all versions.
            let wrong = survey.wrong.values().find(|wrong| wrong.member == "metadata.json").cloned();
            Err(wrong.unwrap_or(none).into())
        }
        Some(text) => Version::parse(text).ok_or_else(|| {
            let reason =
                format!("`{}` is no dump version that this program knows; it reads V1 to V6", text.escape_debug());
            Refusal::in_member("metadata.json", reason).into()
        }),
    }
}

/// What an index is made of.
struct Found<'a> {
    /// What its folder is called.
    name: &'a str,
    folder: &'a Folder,
    about: Option<&'a About>,
    documents: &'a Documents,
    primary_key: Option<&'a String>,
    /// Of its settings, as they are kept.
    settings_bytes: u64,
}

/// The indexes by uid.
fn named(survey: &Survey, version: Version) -> Result<BTreeMap<String, Found<'_>>, DumpError> {
    let mut named = BTreeMap::new();
    let below = version != Version::V1;
    for ((_, name), folder) in survey.folders.iter().filter(|((is_below, _), _)| *is_below == below) {
        let is_meant = folder.documents.is_some()
            || match version {
                Version::V1 => folder.settings.is_some(),
                Version::V6 => folder.has_folder || folder.settings.is_some() || folder.about.is_some(),
                _ => folder.has_folder || folder.meta.is_some(),
            };
        if !is_meant {
            // Files of another version.
            continue;
        }
        let path = if below { format!("indexes/{name}") } else { name.clone() };
        let lacks =
            |what: &str| DumpError::from(Refusal::in_member(&path, format!("{what} is missing: the dump was cut")));
        let meta = folder.meta.as_ref();
        let (uid, about) = match version {
            Version::V1 => match survey.listed.get(name) {
                Some(about) => (name.clone(), Some(about)),
                None => return Err(Refusal::in_member(&path, "an index that `metadata.json` does not name").into()),
            },
            Version::V6 => {
                let about = folder.about.as_ref().ok_or_else(|| lacks("`metadata.json`"))?;
                (about.uid().cloned().ok_or_else(|| lacks("the uid in `metadata.json`"))?, Some(about))
            }
            _ if meta.is_none() => return Err(lacks("`meta.json`")),
            _ => {
                let uuid = name.strip_prefix("index-").filter(|_| version == Version::V2).unwrap_or(name);
                let uid = survey.uids.get(uuid).cloned();
                (uid.ok_or_else(|| lacks("its uid in `index_uuids/data.jsonl`"))?, None)
            }
        };
        let settings_bytes = match version {
            Version::V1 | Version::V6 => folder.settings.as_ref().map(|settings| settings.bytes),
            _ => meta.map(|meta| meta.settings_bytes),
        };
        let settings_bytes = settings_bytes.ok_or_else(|| lacks("the settings file"))?;
        let documents = folder.documents.as_ref().ok_or_else(|| lacks("`documents.jsonl`"))?;
        let primary_key =
            about.map_or_else(|| meta.and_then(|meta| meta.primary_key.as_ref()), |about| about.primary_key());
        check_uid(&uid).map_err(|reason| Refusal::in_member(&path, reason))?;
        let found = Found { name, folder, about, documents, primary_key, settings_bytes };
        if named.insert(uid.clone(), found).is_some() {
            return Err(Refusal::in_member(&path, format!("a second index with the uid `{uid}`")).into());
        }
    }
    if version == Version::V1
        && let Some(uid) = survey.listed.keys().find(|uid| !named.contains_key(*uid))
    {
        return Err(Refusal::in_member(uid, "the settings file is missing: the dump was cut").into());
    }
    Ok(named)
}

fn check_uid(uid: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if uid.is_empty() || uid.len() > MAX_COLLECTION_BYTES || !uid.bytes().all(allowed) {
        return Err(format!("`{}` is no uid of an index", uid.escape_debug()));
    }
    Ok(())
}

/// What a dump of this version always has.
fn require(survey: &Survey, version: Version, has_queue: bool) -> Result<(), DumpError> {
    let is_there = |uuid: &String| {
        let name = if version == Version::V2 { format!("index-{uuid}") } else { uuid.clone() };
        let folder = survey.folders.get(&(true, name));
        folder.is_some_and(|folder| folder.documents.is_some())
    };
    let missing = match version {
        Version::V1 => None,
        _ if !has_queue => version.queue_path(),
        Version::V6 if !survey.keys.contains_key("keys.jsonl") => Some("keys.jsonl"),
        Version::V6 => None,
        _ if !survey.has_uid_map => Some("index_uuids/data.jsonl"),
        _ => survey.uids.iter().find(|(uuid, _)| !is_there(uuid)).map(|(_, uid)| &uid[..]),
    };
    match missing {
        Some(missing) => Err(Refusal::in_member(missing, "missing: the dump was cut").into()),
        None => Ok(()),
    }
}

/// Unfinished tasks that are to be replayed, in order; what is not is a loss.
fn tasks(survey: &mut Survey, version: Version, options: &Options, losses: &mut Losses) -> Vec<Task> {
    let mut tasks = Vec::new();
    let queue = match version {
        Version::V1 => &mut survey.updates_v1,
        Version::V2 | Version::V3 | Version::V4 | Version::V5 => &mut survey.updates,
        Version::V6 => &mut survey.tasks,
    };
    for mut task in std::mem::take(&mut queue.unfinished) {
        if version <= Version::V3 && version != Version::V1 {
            task.index = task.index.and_then(|uuid| survey.uids.get(&uuid).cloned());
        }
        if options.index.is_some() && task.index != options.index {
            continue;
        }
        let name = match &task.work {
            _ if version == Version::V1 => {
                losses.unrecoverable += 1;
                continue;
            }
            // Making a dump is what the dump is.
            Work::Other(kind) if kind == "dumpCreation" || kind == "Dump" => continue,
            Work::Other(kind) => Some(kind.clone()),
            _ if task.index.is_none() => Some("of an unknown index".to_owned()),
            work if options.pending == Pending::Skip => Some(work.name().to_owned()),
            _ => None,
        };
        match name {
            Some(name) => *losses.not_replayed.entry(name).or_default() += 1,
            None => tasks.push(task),
        }
    }
    tasks.sort_by_key(|task| task.order);
    tasks
}

struct Resolving<'a> {
    options: &'a Options,
    version: Version,
    survey: &'a Survey,
    /// What the documents of a member are to be read with.
    keys: Keys,
    sets: Vec<&'a Documents>,
    indexes: BTreeMap<String, Index>,
    /// By an unfinished task, and not created again yet.
    deleted: BTreeSet<String>,
}

impl<'a> Resolving<'a> {
    fn index(&mut self, uid: &str, found: &Found<'a>) -> Result<(), DumpError> {
        let set = found.documents;
        let mut index = Index {
            uid: uid.to_owned(),
            folder: Some(found.name.to_owned()),
            primary_key: found.primary_key.map(|key| (key.clone(), KeySource::Dump)),
            documents_key: None,
            documents: set.count,
            bytes: set.bytes,
            pending_documents: 0,
            created_at: found.about.and_then(|about| about.created_at().cloned()),
            updated_at: found.about.and_then(|about| about.updated_at().cloned()),
        };
        if set.count > 0 {
            self.look(&mut index, set)?;
            index.documents_key = self.keys.get(&set.path).cloned();
        }
        self.indexes.insert(index.uid.clone(), index);
        Ok(())
    }

    /// Finds out the primary key of documents, and has them looked at with it.
    fn look(&mut self, index: &mut Index, set: &'a Documents) -> Result<(), DumpError> {
        if index.primary_key.is_none() {
            index.primary_key = Some(match (&self.options.primary_key, &set.candidates[..]) {
                (Some(asked), _) => (asked.clone(), KeySource::Asked),
                (None, [only]) => (only.clone(), KeySource::Inferred),
                (None, candidates) => {
                    let found = match candidates {
                        [] => "no field of the first document ends with `id`".to_owned(),
                        several => format!("several fields end with `id`: {}", several.join(", ").escape_debug()),
                    };
                    let reason = format!(
                        "index `{}` has documents and no primary key, and {found}; name one with `--primary-key FIELD`",
                        index.uid
                    );
                    return Err(Refusal::in_member(&set.path, reason).into());
                }
            });
        }
        let key = index.primary_key.as_ref().map(|(key, _)| key.clone()).expect("found above");
        match self.keys.insert(set.path.clone(), key) {
            None => {
                self.sets.push(set);
                Ok(())
            }
            Some(other) if self.keys[&set.path] == other => Ok(()),
            Some(other) => {
                let reason = format!(
                    "two unfinished tasks take these documents, with the primary keys `{}` and `{}`",
                    other.escape_debug(),
                    self.keys[&set.path].escape_debug()
                );
                Err(Refusal::in_member(&set.path, reason).into())
            }
        }
    }

    fn step(&mut self, task: Task, steps: &mut Vec<Step>, losses: &mut Losses) -> Result<(), DumpError> {
        let uid = task.index.expect("tasks of unknown indexes were counted as lost");
        if let Err(reason) = check_uid(&uid) {
            return Err(Refusal::new(format!("an unfinished task: {reason}")).into());
        }
        let set = match &task.work {
            Work::Add { content, count, .. } => {
                let path = self.version.pending_path(content).unwrap_or_default();
                match self.survey.pending.get(&path) {
                    Some(set) => Some(set),
                    None if *count == Some(0) => None,
                    None => {
                        let reason = "the documents of an unfinished task are missing: the dump was cut";
                        return Err(Refusal::in_member(&path, reason).into());
                    }
                }
            }
            _ => None,
        };
        // Deleting what is not there changes nothing, and creates nothing.
        let creates = matches!(task.work, Work::Add { .. } | Work::CreateIndex { .. });
        let is_new = !self.indexes.contains_key(&uid) || self.deleted.contains(&uid);
        if !creates && is_new {
            *losses.not_replayed.entry(task.work.name().to_owned()).or_default() += 1;
            return Ok(());
        }
        let mut index = self.indexes.remove(&uid).unwrap_or_else(|| Index {
            uid: uid.clone(),
            folder: None,
            primary_key: None,
            documents_key: None,
            documents: 0,
            bytes: 0,
            pending_documents: 0,
            created_at: None,
            updated_at: None,
        });
        if is_new {
            self.deleted.remove(&uid);
            steps.push(Step::Create { uid: uid.clone() });
        }
        let from_dump = |key: Option<String>| key.map(|key| (key, KeySource::Dump));
        match task.work {
            Work::Add { merges, primary_key, .. } => {
                index.primary_key = index.primary_key.or(from_dump(primary_key));
                if let Some(set) = set.filter(|set| set.count > 0) {
                    self.look(&mut index, set)?;
                    index.pending_documents += set.count;
                    let (primary_key, _) = index.primary_key.clone().expect("found out just now");
                    steps.push(Step::Add { uid: uid.clone(), path: set.path.clone(), primary_key, merges });
                }
            }
            Work::Delete { ids } => steps.push(Step::Delete { uid: uid.clone(), ids }),
            Work::Clear => steps.push(Step::Clear { uid: uid.clone() }),
            Work::CreateIndex { primary_key } => {
                index.primary_key = index.primary_key.or(from_dump(primary_key));
            }
            Work::SetKey { primary_key } => {
                // A key can only be set as long as there are no documents.
                if index.documents == 0 && index.pending_documents == 0 {
                    index.primary_key = from_dump(primary_key).or(index.primary_key);
                }
            }
            Work::DeleteIndex => {
                steps.push(Step::DeleteIndex { uid: uid.clone() });
                index.primary_key = None;
                self.deleted.insert(uid.clone());
            }
            Work::Other(_) => unreachable!("counted as lost"),
        }
        self.indexes.insert(uid, index);
        Ok(())
    }
}

fn check_ids(set: &Documents) -> Result<(), DumpError> {
    let Some((line, _)) = set.wrong.first() else { return Ok(()) };
    let listed: Vec<String> = set.wrong.iter().map(|(line, why)| format!("line {line}: {why}")).collect();
    let more = set.wrong_count - listed.len() as u64;
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let reason = format!(
        "{} of {} documents have no usable id in `{}` ({}{more})",
        set.wrong_count,
        set.count,
        set.key.as_deref().unwrap_or_default().escape_debug(),
        listed.join("; ")
    );
    Err(Refusal::at(&set.path, *line, reason).into())
}

/// What is kept of an index besides its documents is a document, too, and has to be none that is too large.
fn check_record(index: &Index, version: Version, found: Option<&Found<'_>>) -> Result<(), DumpError> {
    let settings_bytes = found.map_or(2, |found| found.settings_bytes);
    let bytes = Record::bytes(index, version, settings_bytes);
    if bytes > MAX_VALUE_BYTES as u64 {
        let path = found.map_or(&index.uid[..], |found| found.documents.path.trim_end_matches("/documents.jsonl"));
        let reason = format!(
            "the settings of `{}` and what is kept with them take {bytes} bytes; allowed are {MAX_VALUE_BYTES}",
            index.uid
        );
        return Err(Refusal::in_member(path, reason).into());
    }
    Ok(())
}

fn conflict(sets: &[&Documents]) -> Option<Conflict> {
    let documents = sets.iter().map(|set| set.reserved_count).sum();
    let first = sets.iter().find_map(|set| set.reserved.as_ref().map(|found| (set, found)));
    first.map(|(set, (field, line))| Conflict {
        field: field.clone(),
        member: set.path.clone(),
        line: *line,
        documents,
    })
}
