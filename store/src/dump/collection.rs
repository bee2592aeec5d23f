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

    /// The record of an index around settings that are a JSON text already; never two of them in memory.
    pub fn around(index: &Index, version: Version, settings: &[u8]) -> Vec<u8> {
        let mut text = Record::empty(index, version);
        // The settings stand last.
        assert!(text.ends_with(NO_SETTINGS), "a record ends with its settings");
        text.truncate(text.len() - NO_SETTINGS.len());
        text.reserve_exact(settings.len() + 1);
        text.extend_from_slice(settings);
        text.push(b'}');
        text
    }

    /// How long [`Record::around`] will be.
    pub fn bytes(index: &Index, version: Version, settings_bytes: u64) -> u64 {
        (Record::empty(index, version).len() - NO_SETTINGS.len() + 1) as u64 + settings_bytes
    }

    /// Without settings.
    pub fn empty(index: &Index, version: Version) -> Vec<u8> {
        let none = RawValue::from_string("{}".to_owned()).expect("an object");
        Record::new(index, version, &none).to_json()
    }
}

/// How the record of an index without settings ends.
const NO_SETTINGS: &[u8] = b"{}}";

/// The settings of a member: all of it (V1, V6), or its field `settings` (V2 to V5). They stand there on one line after
/// [`on_one_line`].
pub fn settings(bytes: &[u8], is_field: bool) -> Option<&[u8]> {
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow)]
        settings: &'a RawValue,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let raw: &RawValue = match is_field {
        true => serde_json::from_str::<Meta<'_>>(text).ok()?.settings,
        false => serde_json::from_str(text).ok()?,
    };
    Some(raw.get().as_bytes())
}

/// Inside JSON a line break can only be white space.
pub fn on_one_line(text: &mut [u8]) {
    text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
}
