//! Makes dumps of every version, as Meilisearch lays them out, and takes them apart again to spoil them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use miroir_store::dump::layout::Version;
use serde_json::{Value, json};

/// A member by path and content.
pub type Member = (String, Vec<u8>);

/// An unfinished task, and its documents if it brings some.
#[derive(Clone, Debug)]
pub struct Task {
    pub index: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Add(&'static str),
    Update(&'static str),
    Delete(&'static [&'static str]),
    Clear,
    Create(Option<&'static str>),
    DeleteIndex,
    Settings,
}

#[derive(Clone, Debug)]
pub struct Index {
    pub uid: &'static str,
    pub primary_key: Option<&'static str>,
    pub settings: Value,
    /// `documents.jsonl`, as it is.
    pub documents: String,
}

/// A dump before it is packed.
#[derive(Clone, Debug)]
pub struct Dump {
    pub version: Version,
    pub indexes: Vec<Index>,
    pub tasks: Vec<Task>,
    /// Members beyond those that the version always has.
    pub more: Vec<Member>,
    /// The member that names the version stands last, as in most real dumps; otherwise first.
    pub metadata_last: bool,
    pub dot_slash: bool,
}

pub fn lines(documents: &[&str]) -> String {
    documents.iter().map(|document| format!("{document}\n")).collect()
}

impl Dump {
    /// One index `films` with three documents, and one finished task.
    pub fn of(version: Version) -> Dump {
        let documents = lines(&[
            r#"{"id":1,"title":"One","price":1.10}"#,
            r#"{"id":"2","title":"Two","big":123456789012345678901234567890}"#,
            r#"{"title":"Three","id":3,"x":1E+2}"#,
        ]);
        let films =
            Index { uid: "films", primary_key: Some("id"), settings: json!({"rankingRules": ["words"]}), documents };
        Dump {
            version,
            indexes: vec![films],
            tasks: Vec::new(),
            more: Vec::new(),
            metadata_last: true,
            dot_slash: true,
        }
    }

    pub fn documents(mut self, documents: &[&str]) -> Dump {
        self.indexes[0].documents = lines(documents);
        self
    }

    pub fn primary_key(mut self, key: Option<&'static str>) -> Dump {
        self.indexes[0].primary_key = key;
        self
    }

    pub fn task(mut self, index: &'static str, kind: Kind) -> Dump {
        self.tasks.push(Task { index, kind });
        self
    }

    pub fn with(mut self, path: &str, content: impl AsRef<[u8]>) -> Dump {
        self.more.push((path.to_owned(), content.as_ref().to_vec()));
        self
    }

    pub fn index(mut self, index: Index) -> Dump {
        self.indexes.push(index);
        self
    }

    /// Every member, in order.
    pub fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        let mut add = |path: String, content: Vec<u8>| members.push((path, content));
        let version = self.version;
        for index in &self.indexes {
            let folder = folder(version, index.uid);
            let settings = index.settings.to_string().into_bytes();
            add(format!("{folder}/documents.jsonl"), index.documents.clone().into_bytes());
            match version {
                Version::V1 => add(format!("{folder}/settings.json"), settings),
                Version::V6 => {
                    add(format!("{folder}/settings.json"), settings);
                    let metadata = json!({"uid": index.uid, "primaryKey": index.primary_key, "createdAt": DATE, "updatedAt": DATE});
                    add(format!("{folder}/metadata.json"), metadata.to_string().into_bytes());
                }
                _ => {
                    let meta = json!({"settings": index.settings, "primary_key": index.primary_key});
                    add(format!("{folder}/meta.json"), meta.to_string().into_bytes());
                }
            }
        }
        self.queue(&mut add);
        let uids: String = self.indexes.iter().map(|index| uid_line(version, index.uid) + "\n").collect();
        match version {
            Version::V1 => {}
            Version::V6 => add("keys.jsonl".to_owned(), Vec::new()),
            _ => add("index_uuids/data.jsonl".to_owned(), uids.into_bytes()),
        }
        let mut metadata = json!({"dumpVersion": version.to_string(), "dbVersion": "0.0.0", "dumpDate": DATE});
        if version == Version::V1 {
            let index = |it: &Index| json!({"name": it.uid, "uid": it.uid, "primaryKey": it.primary_key, "createdAt": DATE, "updatedAt": DATE});
            metadata["indexes"] = self.indexes.iter().map(index).collect();
        }
        members.extend(self.more.clone());
        let place = if self.metadata_last { members.len() } else { 0 };
        members.insert(place, ("metadata.json".to_owned(), metadata.to_string().into_bytes()));
        members
    }

    /// The queue: a finished task, and the unfinished ones; their documents in members of their own, last first.
    fn queue(&self, add: &mut impl FnMut(String, Vec<u8>)) {
        let version = self.version;
        let mut queue = vec![finished(version)];
        let mut contents = Vec::new();
        for (number, task) in (1..).zip(&self.tasks) {
            queue.push(unfinished(version, number, task));
            if let Kind::Add(documents) | Kind::Update(documents) = task.kind {
                contents.push(content(version, number, documents));
            }
        }
        contents.into_iter().rev().flatten().for_each(|(path, content)| add(path, content));
        if matches!(version, Version::V4 | Version::V5) {
            queue.reverse();
        }
        let text: String = queue.into_iter().map(|line| line + "\n").collect();
        let path = match version {
            Version::V1 => format!("{}/updates.jsonl", self.indexes[0].uid),
            Version::V6 => "tasks/queue.jsonl".to_owned(),
            _ => "updates/data.jsonl".to_owned(),
        };
        add(path, text.into_bytes());
    }

    pub fn pack(&self) -> Vec<u8> {
        let dot = if self.dot_slash { "./" } else { "" };
        pack(&self.members().into_iter().map(|(path, content)| (format!("{dot}{path}"), content)).collect::<Vec<_>>())
    }
}

pub const DATE: &str = "2024-01-01T00:00:00Z";

fn folder(version: Version, uid: &str) -> String {
    match version {
        Version::V1 => uid.to_owned(),
        Version::V2 => format!("indexes/index-uuid-{uid}"),
        // Not the uid, although it often is.
        Version::V6 => format!("indexes/{uid}-folder"),
        _ => format!("indexes/uuid-{uid}"),
    }
}

fn uid_line(version: Version, uid: &str) -> String {
    match version {
        Version::V2 | Version::V3 => json!({"uuid": format!("uuid-{uid}"), "uid": uid}),
        _ => json!({"uid": uid, "index_meta": {"uuid": format!("uuid-{uid}"), "creation_task_id": 0}}),
    }
    .to_string()
}

fn finished(version: Version) -> String {
    match version {
        Version::V1 => json!({"status": "processed", "updateId": 0, "type": {"name": "DocumentsAddition", "number": 3}}),
        Version::V2 => json!({"uuid": "uuid-films", "update": {"status": "processed", "updateId": 0, "content": null,
            "meta": {"type": "DocumentsAddition", "method": "ReplaceDocuments", "format": "Json", "primary_key": null}}}),
        Version::V3 => json!({"uuid": "uuid-films", "update": {"status": "processed", "updateId": 0, "meta": "ClearDocuments"}}),
        Version::V4 => json!({"id": 0, "index_uid": "films", "content": "IndexDeletion",
            "events": [{"Created": DATE}, {"Succeded": {"result": "Other", "timestamp": DATE}}]}),
        Version::V5 => json!({"id": 0, "content": {"IndexDeletion": {"index_uid": "films"}},
            "events": [{"Created": DATE}, {"Succeeded": {"result": "Other", "timestamp": DATE}}]}),
        Version::V6 => json!({"uid": 0, "indexUid": "films", "status": "succeeded", "type": "documentClear", "enqueuedAt": DATE}),
    }
    .to_string()
}

fn unfinished(version: Version, number: u64, task: &Task) -> String {
    let method = if matches!(task.kind, Kind::Update(_)) { "UpdateDocuments" } else { "ReplaceDocuments" };
    let name = format!("content-{number}");
    let uuid = format!("uuid-{}", task.index);
    match version {
        Version::V1 => json!({"status": "enqueued", "updateId": number, "type": {"name": "DocumentsAddition", "number": 1}}),
        Version::V2 => {
            let (meta, content) = match &task.kind {
                Kind::Add(_) | Kind::Update(_) => {
                    (json!({"type": "DocumentsAddition", "method": method, "format": "Json", "primary_key": null}), Some(name))
                }
                Kind::Delete(ids) => (json!({"type": "DeleteDocuments", "ids": ids}), None),
                Kind::Clear => (json!({"type": "ClearDocuments"}), None),
                _ => (json!({"type": "Settings"}), None),
            };
            json!({"uuid": uuid, "update": {"status": "enqueued", "updateId": number, "meta": meta, "content": content}})
        }
        Version::V3 => {
            let meta = match &task.kind {
                Kind::Add(_) | Kind::Update(_) => {
                    json!({"DocumentAddition": {"primary_key": null, "method": method, "content_uuid": name}})
                }
                Kind::Delete(ids) => json!({"DeleteDocuments": ids}),
                Kind::Clear => json!("ClearDocuments"),
                _ => json!({"Settings": {}}),
            };
            json!({"uuid": uuid, "update": {"status": "processing", "updateId": number, "meta": meta}})
        }
        Version::V4 | Version::V5 => {
            let is_v5 = version == Version::V5;
            let with_uid = |mut fields: Value| {
                if is_v5 {
                    fields["index_uid"] = task.index.into();
                }
                fields
            };
            let deletion = |what: Value| if is_v5 { with_uid(json!({"deletion": what})) } else { what };
            let content = match &task.kind {
                Kind::Add(_) | Kind::Update(_) => json!({"DocumentAddition": with_uid(json!({"content_uuid": name,
                    "merge_strategy": method, "primary_key": null, "documents_count": 1, "allow_index_creation": true}))}),
                Kind::Delete(ids) => json!({"DocumentDeletion": deletion(json!({"Ids": ids}))}),
                Kind::Clear => json!({"DocumentDeletion": deletion(json!("Clear"))}),
                Kind::Create(key) => json!({"IndexCreation": with_uid(json!({"primary_key": key}))}),
                Kind::DeleteIndex if is_v5 => json!({"IndexDeletion": with_uid(json!({}))}),
                Kind::DeleteIndex => json!("IndexDeletion"),
                Kind::Settings => json!({"SettingsUpdate": with_uid(json!({"settings": {}, "is_deletion": false}))}),
            };
            let mut line = json!({"id": number, "content": content, "events": [{"Created": DATE}]});
            if !is_v5 {
                line["index_uid"] = task.index.into();
            }
            line
        }
        Version::V6 => {
            let kind = match &task.kind {
                Kind::Add(_) | Kind::Update(_) => json!({"documentImport": {"primary_key": null, "method": method,
                    "documents_count": 1, "allow_index_creation": true}}),
                Kind::Delete(ids) => json!({"documentDeletion": {"documents_ids": ids}}),
                Kind::Clear => json!("documentClear"),
                Kind::Create(key) => json!({"indexCreation": {"primary_key": key}}),
                Kind::DeleteIndex => json!("indexDeletion"),
                Kind::Settings => json!({"settings": {"settings": {}, "is_deletion": false, "allow_index_creation": true}}),
            };
            json!({"uid": number, "batchUid": null, "indexUid": task.index, "status": "enqueued", "type": kind, "enqueuedAt": DATE})
        }
    }
    .to_string()
}

/// The documents of a task; V1 does not have them.
fn content(version: Version, number: u64, documents: &str) -> Option<Member> {
    let path = match version {
        Version::V1 => return None,
        Version::V2 => {
            let array = documents.lines().collect::<Vec<_>>().join(",\n ");
            return Some((
                format!("updates/update_files/update_content-{number}"),
                format!("[{array}]\n").into_bytes(),
            ));
        }
        Version::V6 => format!("tasks/update_files/{number}.jsonl"),
        _ => format!("updates/updates_files/content-{number}"),
    };
    Some((path, documents.as_bytes().to_vec()))
}

/// A tar with these members and the folders they are in.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut seen: Vec<String> = Vec::new();
    for (path, content) in members {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| *parent != ".");
        if let Some(parent) = parent.filter(|parent| !seen.iter().any(|known| known == parent)) {
            seen.push(parent.to_owned());
            let mut header = header(tar::EntryType::Directory, 0);
            archive.append_data(&mut header, parent, &[][..]).expect("memory takes it");
        }
        let mut header = header(tar::EntryType::Regular, content.len() as u64);
        archive.append_data(&mut header, path, &content[..]).expect("memory takes it");
    }
    archive.into_inner().expect("memory takes it")
}

pub fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

pub fn pack(members: &[Member]) -> Vec<u8> {
    gzip(&tar(members))
}
