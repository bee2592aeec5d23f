//! The queue of a dump: what is finished is history, what is not is data that has not arrived yet.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::dump::document::check_id;
use crate::dump::survey::small::{Text, elements};

/// What an unfinished task was going to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Documents that stand in a member of their own.
    Add {
        /// Names the member.
        content: String,
        /// Fields are put over those that are there (`UpdateDocuments`), rather than documents replaced.
        merges: bool,
        primary_key: Option<String>,
        /// How many there are said to be.
        count: Option<u64>,
    },
    Delete {
        ids: Ids,
    },
    Clear,
    CreateIndex {
        primary_key: Option<String>,
    },
    SetKey {
        primary_key: Option<String>,
    },
    DeleteIndex,
    /// Nothing that is done to documents here; by the name Meilisearch gives it.
    Other(String),
}

impl Work {
    pub fn name(&self) -> &str {
        match self {
            Work::Add { merges: false, .. } => "document addition",
            Work::Add { merges: true, .. } => "document update",
            Work::Delete { .. } => "document deletion",
            Work::Clear => "document clear",
            Work::CreateIndex { .. } => "index creation",
            Work::SetKey { .. } => "index update",
            Work::DeleteIndex => "index deletion",
            Work::Other(kind) => kind,
        }
    }
}

/// Ids of documents, in one piece: a task may name millions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Each ends with a line break, which no id has.
    text: String,
}

impl Ids {
    /// Those of an array. What no document can be called names none.
    fn of(raw: Option<&RawValue>) -> Ids {
        let mut text = String::new();
        if let Some(raw) = raw {
            elements(raw, |id| {
                let id = if id.get().starts_with('"') {
                    serde_json::from_str(id.get()).unwrap_or_default()
                } else {
                    id.get().to_owned()
                };
                if check_id(&id).is_ok() {
                    text.push_str(&id);
                    text.push('\n');
                }
            });
        }
        Ids { text }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }
}

/// An unfinished task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Tasks of an index are carried out in this order.
    pub order: u64,
    /// Uid of the index (V2, V3: what the uid map has for it).
    pub index: Option<String>,
    pub work: Work,
}

/// Whether a line of the queue at `path` is an unfinished task; the error says what is wrong.
///
/// V2 to V5 keep their queues in the same place; their lines tell which they are.
pub fn is_unfinished(path: &str, line: &[u8]) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(default)]
        status: Text,
        #[serde(borrow)]
        update: Option<&'a RawValue>,
        #[serde(borrow)]
        events: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Update {
        status: String,
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
    let is_open = |status: &str| status == "enqueued" || status == "processing";
    let status = match line.update {
        Some(update) if path == "updates/data.jsonl" => {
            Some(serde_json::from_str::<Update>(update.get()).map_err(|error| wrong(&error))?.status)
        }
        _ => line.status.0,
    };
    match (status, line.events) {
        (_, Some(events)) if path == "updates/data.jsonl" => {
            let mut last = None;
            elements(events, |event| last = Some(event));
            let last = last.and_then(variant).map_or(String::new(), |(name, _)| name);
            // V4 writes `Succeded`.
            Ok(!matches!(&last[..], "Succeded" | "Succeeded" | "Failed"))
        }
        (Some(status), _) => Ok(is_open(&status)),
        (None, _) => Err(NO_TASK.to_owned()),
    }
}

/// Reads an unfinished task; the error says what is wrong.
pub fn parse(path: &str, line: &[u8]) -> Result<Task, String> {
    #[derive(Deserialize)]
    struct Peek {
        update: Option<IgnoredAny>,
    }
    let parsed = match path {
        "tasks/queue.jsonl" => v6(line),
        "updates/data.jsonl" => match serde_json::from_slice(line) {
            Ok(Peek { update: Some(_) }) => v2(line),
            Ok(Peek { update: None }) => v4(line),
            Err(error) => Err(error),
        },
        _ => v1(line),
    };
    parsed.map_err(|error| wrong(&error))
}

const NO_TASK: &str = "not a task of any version";

fn wrong(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => NO_TASK.to_owned(),
        _ => format!("not valid JSON at byte {}", error.column()),
    }
}

/// The name and the content of an enum as serde writes it: `"Name"` or `{"Name": content}`.
fn variant(raw: &RawValue) -> Option<(String, Option<&RawValue>)> {
    struct Only;
    impl<'de> Visitor<'de> for Only {
        type Value = Option<(String, Option<&'de RawValue>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with one field")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let Some(name) = map.next_key::<String>()? else { return Ok(None) };
            let content: &RawValue = map.next_value()?;
            let mut is_only = true;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                is_only = false;
            }
            Ok(is_only.then_some((name, Some(content))))
        }
    }
    match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get()).ok().map(|name| (name, None)),
        Some(b'{') => serde_json::Deserializer::from_str(raw.get()).deserialize_map(Only).ok().flatten(),
        _ => None,
    }
}

/// What the content of a task may say, in whatever version.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(rename = "type")]
    kind: Text,
    content_uuid: Text,
    method: Text,
    merge_strategy: Text,
    primary_key: Text,
    index_uid: Text,
    #[serde(borrow)]
    documents_count: Option<&'a RawValue>,
    #[serde(borrow)]
    deletion: Option<&'a RawValue>,
    #[serde(borrow)]
    ids: Option<&'a RawValue>,
    #[serde(borrow)]
    documents_ids: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Anything but an object says nothing.
    fn of(raw: Option<&'a RawValue>) -> serde_json::Result<Fields<'a>> {
        match raw.filter(|raw| raw.get().starts_with('{')) {
            Some(raw) => serde_json::from_str(raw.get()),
            None => Ok(Fields::default()),
        }
    }

    fn count(&self) -> Option<u64> {
        self.documents_count.and_then(|count| count.get().parse().ok())
    }
}

fn merges(method: &Text) -> bool {
    method.0.as_deref() == Some("UpdateDocuments")
}

fn v1(line: &[u8]) -> serde_json::Result<Task> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        update_id: u64,
        #[serde(rename = "type")]
        kind: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        name: Text,
    }
    let Line { update_id, kind } = serde_json::from_slice(line)?;
    let name = kind.name.0.unwrap_or_else(|| "update".to_owned());
    Ok(Task { order: update_id, index: None, work: Work::Other(name) })
}

fn v2(line: &[u8]) -> serde_json::Result<Task> {
    #[derive(Deserialize)]
    struct Line<'a> {
        uuid: String,
        #[serde(borrow)]
        update: Update<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update<'a> {
        update_id: u64,
        #[serde(borrow)]
        meta: &'a RawValue,
        content: Option<String>,
    }
    let Line { uuid, update } = serde_json::from_slice(line)?;
    // V2 writes the kind into the object, V3 around it.
    let tagged = Fields::of(Some(update.meta)).ok().and_then(|fields| fields.kind.0);
    let (kind, content) = match tagged {
        Some(kind) => (kind, Some(update.meta)),
        None => variant(update.meta).unwrap_or_else(|| ("update".to_owned(), None)),
    };
    let fields = Fields::of(content)?;
    let work = match &kind[..] {
        "DocumentsAddition" | "DocumentAddition" => Work::Add {
            content: fields.content_uuid.0.or(update.content).unwrap_or_default(),
            merges: merges(&fields.method),
            primary_key: fields.primary_key.0,
            count: None,
        },
        "DeleteDocuments" => Work::Delete { ids: Ids::of(fields.ids.or(content)) },
        "ClearDocuments" => Work::Clear,
        _ => Work::Other(kind),
    };
    Ok(Task { order: update.update_id, index: Some(uuid), work })
}

fn v4(line: &[u8]) -> serde_json::Result<Task> {
    #[derive(Deserialize)]
    struct Line<'a> {
        id: u64,
        index_uid: Option<String>,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let line: Line<'_> = serde_json::from_slice(line)?;
    let (kind, content) = variant(line.content).unwrap_or_else(|| ("task".to_owned(), None));
    let fields = Fields::of(content)?;
    let count = fields.count();
    let index = line.index_uid.or(fields.index_uid.0);
    let primary_key = fields.primary_key.0;
    let work = match &kind[..] {
        "DocumentAddition" => Work::Add {
            content: fields.content_uuid.0.unwrap_or_default(),
            merges: merges(&fields.merge_strategy),
            primary_key,
            count,
        },
        "DocumentDeletion" => match fields.deletion.or(content).and_then(variant) {
            Some((name, _)) if name == "Clear" => Work::Clear,
            Some((name, given)) if name == "Ids" => Work::Delete { ids: Ids::of(given) },
            _ => Work::Other(kind),
        },
        "IndexCreation" => Work::CreateIndex { primary_key },
        "IndexUpdate" => Work::SetKey { primary_key },
        "IndexDeletion" => Work::DeleteIndex,
        _ => Work::Other(kind),
    };
    Ok(Task { order: line.id, index, work })
}

fn v6(line: &[u8]) -> serde_json::Result<Task> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line<'a> {
        uid: u64,
        index_uid: Option<String>,
        #[serde(borrow, rename = "type")]
        kind: &'a RawValue,
    }
    let line: Line<'_> = serde_json::from_slice(line)?;
    let (kind, content) = variant(line.kind).unwrap_or_else(|| ("task".to_owned(), None));
    let fields = Fields::of(content)?;
    let count = fields.count();
    let primary_key = fields.primary_key.0;
    let work = match &kind[..] {
        "documentImport" => {
            Work::Add { content: line.uid.to_string(), merges: merges(&fields.method), primary_key, count }
        }
        "documentDeletion" => Work::Delete { ids: Ids::of(fields.documents_ids) },
        "documentClear" => Work::Clear,
        "indexCreation" => Work::CreateIndex { primary_key },
        "indexUpdate" => Work::SetKey { primary_key },
        "indexDeletion" => Work::DeleteIndex,
        _ => Work::Other(kind),
    };
    Ok(Task { order: line.uid, index: line.index_uid, work })
}
