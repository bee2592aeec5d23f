//! From what was found to what it means: which folder is which index, what its primary key is, what is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::dump::layout::Version;
use crate::dump::plan::{Conflict, Index, KeySource, Losses, Mode, Options, Pending, Plan, Step};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::survey::{Documents, Folder, Keys, Survey, matters};
use crate::dump::tasks::{Task, Work};
use crate::id::MAX_COLLECTION_BYTES;

pub(super) enum Resolved {
    Plan(Box<Plan>),
    /// These members have to be read with these primary keys.
    ReadAgain(Keys),
}

/// Makes the plan, all but its mode.
pub(super) fn resolve(survey: Survey, bytes: u64, options: &Options) -> Result<Resolved, DumpError> {
    let version = version(&survey)?;
    if let Some(wrong) = survey.wrong.iter().find(|wrong| matters(wrong, version)) {
        return Err(wrong.clone().into());
    }
    let mut named = named(&survey, version)?;
    require(&survey, version)?;
    let mut losses = Losses { counts: survey.counts.clone(), ..Losses::default() };
    losses.counts.keys *= u64::from(!options.with_keys);
    losses.hidden = named.values().filter(|(_, folder)| version == Version::V1 && folder.hides_fields).count() as u64;
    let tasks = tasks(&survey, version, options, &mut losses);
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
        survey: &survey,
        keys: Keys::new(),
        sets: Vec::new(),
        indexes: BTreeMap::new(),
        deleted: BTreeSet::new(),
    };
    for (uid, (name, folder)) in named {
        it.index(uid, name, folder)?;
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
        None => Err(Refusal::new("there is no `metadata.json`: the dump was cut, or is none").into()),
        Some(text) => Version::parse(text).ok_or_else(|| {
            let reason =
                format!("`{}` is no dump version that this program knows; it reads V1 to V6", text.escape_debug());
            Refusal::in_member("metadata.json", reason).into()
        }),
    }
}

/// The indexes by uid, with the names of their folders.
fn named(survey: &Survey, version: Version) -> Result<BTreeMap<String, (String, &Folder)>, DumpError> {
    let mut named = BTreeMap::new();
    let below = version != Version::V1;
    for ((_, name), folder) in survey.folders.iter().filter(|((is_below, _), _)| *is_below == below) {
        let path = if below { format!("indexes/{name}") } else { name.clone() };
        let lacks =
            |what: &str| DumpError::from(Refusal::in_member(&path, format!("{what} is missing: the dump was cut")));
        let uid = match version {
            Version::V1 => folder.uid.clone().ok_or_else(|| {
                DumpError::from(Refusal::in_member(&path, "an index that `metadata.json` does not name"))
            })?,
            Version::V6 if !folder.has_metadata => return Err(lacks("`metadata.json`")),
            Version::V6 => folder.uid.clone().ok_or_else(|| lacks("the uid in `metadata.json`"))?,
            _ if !folder.has_metadata => return Err(lacks("`meta.json`")),
            _ => {
                let uuid = name.strip_prefix("index-").filter(|_| version == Version::V2).unwrap_or(name);
                let uid = survey.uids.get(uuid).cloned();
                uid.ok_or_else(|| lacks("its uid in `index_uuids/data.jsonl`"))?
            }
        };
        if !folder.has_settings {
            return Err(lacks("the settings file"));
        }
        if folder.documents.is_none() {
            return Err(lacks("`documents.jsonl`"));
        }
        check_uid(&uid).map_err(|reason| Refusal::in_member(&path, reason))?;
        if named.insert(uid.clone(), (name.clone(), folder)).is_some() {
            return Err(Refusal::in_member(&path, format!("a second index with the uid `{uid}`")).into());
        }
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
fn require(survey: &Survey, version: Version) -> Result<(), DumpError> {
    let has_queue = |path: &str| survey.has_tasks.contains_key(path);
    let uuids: BTreeSet<&str> =
        survey.folders.keys().map(|(_, name)| name.strip_prefix("index-").unwrap_or(name)).collect();
    let missing = match version {
        Version::V1 => None,
        Version::V6 if !has_queue("tasks/queue.jsonl") => Some("tasks/queue.jsonl"),
        Version::V6 if !survey.has_keys => Some("keys.jsonl"),
        Version::V6 => None,
        _ if !survey.has_uid_map => Some("index_uuids/data.jsonl"),
        _ if !has_queue("updates/data.jsonl") => Some("updates/data.jsonl"),
        _ => survey.uids.iter().find(|(uuid, _)| !uuids.contains(&uuid[..])).map(|(_, uid)| &uid[..]),
    };
    match missing {
        Some(missing) => Err(Refusal::in_member(missing, "missing: the dump was cut").into()),
        None => Ok(()),
    }
}

/// Unfinished tasks that are to be replayed, in order; what is not is a loss.
fn tasks(survey: &Survey, version: Version, options: &Options, losses: &mut Losses) -> Vec<Task> {
    let mut tasks = Vec::new();
    for task in &survey.tasks {
        let mut task = task.clone();
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
    survey: &'a Survey,
    /// What the documents of a member are to be read with.
    keys: Keys,
    sets: Vec<&'a Documents>,
    indexes: BTreeMap<String, Index>,
    /// By an unfinished task, and not created again yet.
    deleted: BTreeSet<String>,
}

impl<'a> Resolving<'a> {
    fn index(&mut self, uid: String, name: String, folder: &'a Folder) -> Result<(), DumpError> {
        let set = folder.documents.as_ref().expect("an index was required to have documents");
        let mut index = Index {
            uid,
            folder: Some(name),
            primary_key: folder.primary_key.clone().map(|key| (key, KeySource::Dump)),
            documents_key: None,
            documents: set.count,
            bytes: set.bytes,
            pending_documents: 0,
            created_at: folder.created_at.clone(),
            updated_at: folder.updated_at.clone(),
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
        self.keys.insert(set.path.clone(), key);
        self.sets.push(set);
        Ok(())
    }

    fn step(&mut self, task: Task, steps: &mut Vec<Step>, losses: &mut Losses) -> Result<(), DumpError> {
        let uid = task.index.expect("tasks of unknown indexes were counted as lost");
        if let Err(reason) = check_uid(&uid) {
            return Err(Refusal::new(format!("an unfinished task: {reason}")).into());
        }
        let set = match &task.work {
            Work::Add { content, count, .. } => match self.survey.pending.get(content) {
                Some(set) => Some(set),
                None if *count == Some(0) => None,
                None => {
                    let reason = "the documents of an unfinished task are missing: the dump was cut";
                    return Err(Refusal::in_member(content, reason).into());
                }
            },
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
