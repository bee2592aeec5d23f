//! The queue of a dump: what is finished is history, what is not is data that has not arrived yet.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

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
        ids: Vec<String>,
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

/// An unfinished task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Tasks of an index are carried out in this order.
    pub order: u64,
    /// Uid of the index (V2, V3: what the uid map has for it).
    pub index: Option<String>,
    pub work: Work,
}

/// Reads a line of the queue at `path`: `None` if the task is finished. The error says what is wrong.
///
/// V2 to V5 keep their queues in the same place; their lines tell which they are.
pub fn parse(path: &str, line: &[u8]) -> Result<Option<Task>, String> {
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
    parsed.map_err(|error| match error.classify() {
        Category::Data => "not a task of any version".to_owned(),
        _ => format!("not valid JSON at byte {}", error.column()),
    })
}

fn is_open(status: &str) -> bool {
    status == "enqueued" || status == "processing"
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn ids(value: Option<&Value>) -> Vec<String> {
    let ids = value.and_then(Value::as_array).into_iter().flatten();
    ids.filter_map(|id| id.as_str().map(str::to_owned).or_else(|| id.as_number().map(ToString::to_string))).collect()
}

fn merges(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_str) == Some("UpdateDocuments")
}

/// The name and the content of an enum as serde writes it: `"Name"` or `{"Name": content}`.
fn variant(value: &Value) -> Option<(&str, &Value)> {
    match value {
        Value::String(name) => Some((name, &Value::Null)),
        Value::Object(map) if map.len() == 1 => map.iter().next().map(|(name, content)| (name.as_str(), content)),
        _ => None,
    }
}

fn v1(line: &[u8]) -> serde_json::Result<Option<Task>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        status: String,
        update_id: u64,
        #[serde(rename = "type")]
        kind: Value,
    }
    let line: Line = serde_json::from_slice(line)?;
    let name = text(&line.kind, "name").unwrap_or_else(|| "update".to_owned());
    Ok(is_open(&line.status).then_some(Task { order: line.update_id, index: None, work: Work::Other(name) }))
}

fn v2(line: &[u8]) -> serde_json::Result<Option<Task>> {
    #[derive(Deserialize)]
    struct Line {
        uuid: String,
        update: Update,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        status: String,
        update_id: u64,
        meta: Value,
        content: Option<String>,
    }
    let Line { uuid, update } = serde_json::from_slice(line)?;
    if !is_open(&update.status) {
        return Ok(None);
    }
    let meta = &update.meta;
    // V2 writes the kind into the object, V3 around it.
    let tagged = meta.get("type").and_then(Value::as_str).map(|kind| (kind, meta));
    let (kind, fields) = tagged.or_else(|| variant(meta)).unwrap_or(("update", &Value::Null));
    let work = match kind {
        "DocumentsAddition" | "DocumentAddition" => Work::Add {
            content: text(fields, "content_uuid").or(update.content).unwrap_or_default(),
            merges: merges(fields, "method"),
            primary_key: text(fields, "primary_key"),
            count: None,
        },
        "DeleteDocuments" => {
            Work::Delete { ids: ids(if fields.is_array() { Some(fields) } else { fields.get("ids") }) }
        }
        "ClearDocuments" => Work::Clear,
        kind => Work::Other(kind.to_owned()),
    };
    Ok(Some(Task { order: update.update_id, index: Some(uuid), work }))
}

fn v4(line: &[u8]) -> serde_json::Result<Option<Task>> {
    #[derive(Deserialize)]
    struct Line<'a> {
        id: u64,
        index_uid: Option<String>,
        #[serde(borrow)]
        content: &'a RawValue,
        events: Vec<Value>,
    }
    let line: Line<'_> = serde_json::from_slice(line)?;
    let last = line.events.last().and_then(variant).map_or("", |(name, _)| name);
    // V4 writes `Succeded`.
    if matches!(last, "Succeded" | "Succeeded" | "Failed") {
        return Ok(None);
    }
    let content: Value = serde_json::from_str(line.content.get())?;
    let (kind, fields) = variant(&content).unwrap_or(("task", &Value::Null));
    let primary_key = text(fields, "primary_key");
    let work = match kind {
        "DocumentAddition" => Work::Add {
            content: text(fields, "content_uuid").unwrap_or_default(),
            merges: merges(fields, "merge_strategy"),
            primary_key,
            count: fields.get("documents_count").and_then(Value::as_u64),
        },
        "DocumentDeletion" => match variant(fields.get("deletion").unwrap_or(fields)) {
            Some(("Clear", _)) => Work::Clear,
            Some(("Ids", given)) => Work::Delete { ids: ids(Some(given)) },
            _ => Work::Other(kind.to_owned()),
        },
        "IndexCreation" => Work::CreateIndex { primary_key },
        "IndexUpdate" => Work::SetKey { primary_key },
        "IndexDeletion" => Work::DeleteIndex,
        kind => Work::Other(kind.to_owned()),
    };
    let index = line.index_uid.or_else(|| text(fields, "index_uid"));
    Ok(Some(Task { order: line.id, index, work }))
}

fn v6(line: &[u8]) -> serde_json::Result<Option<Task>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line<'a> {
        uid: u64,
        index_uid: Option<String>,
        status: String,
        #[serde(borrow, rename = "type")]
        kind: &'a RawValue,
    }
    let line: Line<'_> = serde_json::from_slice(line)?;
    if !is_open(&line.status) {
        return Ok(None);
    }
    let kind: Value = serde_json::from_str(line.kind.get())?;
    let (kind, fields) = variant(&kind).unwrap_or(("task", &Value::Null));
    let primary_key = text(fields, "primary_key");
    let work = match kind {
        "documentImport" => Work::Add {
            content: line.uid.to_string(),
            merges: merges(fields, "method"),
            primary_key,
            count: fields.get("documents_count").and_then(Value::as_u64),
        },
        "documentDeletion" => Work::Delete { ids: ids(fields.get("documents_ids")) },
        "documentClear" => Work::Clear,
        "indexCreation" => Work::CreateIndex { primary_key },
        "indexUpdate" => Work::SetKey { primary_key },
        "indexDeletion" => Work::DeleteIndex,
        kind => Work::Other(kind.to_owned()),
    };
    Ok(Some(Task { order: line.uid, index: line.index_uid, work }))
}
