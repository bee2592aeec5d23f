//! What is kept of an index besides its documents: a document of its own, in a collection that no index can be called.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dump::layout::Version;
use crate::dump::plan::Index;
use crate::error::KeyError;
use crate::id::Key;

/// Holds a [`Record`] for each collection that was imported. Uids have no dot.
pub const COLLECTIONS: &str = ".collections";
/// Holds the keys of an imported dump, if they were asked for. They are secrets.
pub const KEYS: &str = ".keys";

/// An index as it was: kept, shown, exported, never interpreted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub uid: String,
    pub primary_key: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    /// What its settings were written for.
    pub dump_version: String,
    pub settings: Box<RawValue>,
}

impl Record {
    pub fn new(index: &Index, version: Version, settings: &RawValue) -> Record {
        Record {
            uid: index.uid.clone(),
            primary_key: index.primary_key.as_ref().map(|(key, _)| key.clone()),
            created_at: index.created_at.clone(),
            updated_at: index.updated_at.clone(),
            dump_version: version.to_string(),
            settings: settings.to_owned(),
        }
    }

    pub fn key(uid: &str) -> Result<Key, KeyError> {
        Key::new(COLLECTIONS, uid)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and JSON are JSON")
    }
}

/// The settings of a member: all of it (V1, V6), or its field `settings` (V2 to V5). On one line.
pub fn settings(bytes: &[u8], is_field: bool) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow)]
        settings: &'a RawValue,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let raw = if is_field {
        serde_json::from_str::<Meta<'_>>(text).ok()?.settings
    } else {
        serde_json::from_str(text).ok()?
    };
    // Inside JSON a line break can only be white space.
    let line = raw.get().replace(['\n', '\r'], " ");
    RawValue::from_string(line).ok()
}
