//! What small members say. Of each only what is needed is taken, so that one of many values takes no more memory than its
//! text does.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::dump::collection;

/// Text; anything else counts as nothing.
#[derive(Clone, Debug, Default)]
pub struct Text(pub Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Text(serde_json::from_str(raw.get()).ok()))
    }
}

/// How many fields an object has, and how many of them are `true`; anything else has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries {
    pub all: u64,
    pub on: u64,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut count = Entries::default();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let value: &RawValue = map.next_value()?;
                    count.all += 1;
                    count.on += u64::from(value.get() == "true");
                }
                Ok(count)
            }
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().starts_with('{') {
            true => serde_json::Deserializer::from_str(raw.get()).deserialize_map(Count).map_err(de::Error::custom),
            false => Ok(Entries::default()),
        }
    }
}

/// What is known of an index: an entry of V1's `metadata.json`, or V6's `metadata.json` of the index.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    uid: Text,
    primary_key: Text,
    created_at: Text,
    updated_at: Text,
}

impl About {
    pub fn uid(&self) -> Option<&String> {
        self.uid.0.as_ref()
    }

    pub fn primary_key(&self) -> Option<&String> {
        self.primary_key.0.as_ref()
    }

    pub fn created_at(&self) -> Option<&String> {
        self.created_at.0.as_ref()
    }

    pub fn updated_at(&self) -> Option<&String> {
        self.updated_at.0.as_ref()
    }

    /// Of everything it says.
    pub fn bytes(&self) -> usize {
        let all = [&self.uid, &self.primary_key, &self.created_at, &self.updated_at];
        size_of::<About>() + all.into_iter().flat_map(|text| &text.0).map(String::len).sum::<usize>()
    }
}

/// The root `metadata.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root<'a> {
    pub dump_version: Text,
    pub db_version: Text,
    pub dump_date: Text,
    /// V1.
    #[serde(borrow)]
    indexes: Option<&'a RawValue>,
}

impl Root<'_> {
    /// Hands over the indexes of V1, one after another, until `each` fails.
    pub fn indexes<E>(&self, mut each: impl FnMut(About) -> Result<(), E>) -> Result<(), E> {
        let mut result = Ok(());
        if let Some(raw) = self.indexes {
            elements(raw, |element| {
                if let (Ok(()), Ok(index)) = (&result, serde_json::from_str::<About>(element.get())) {
                    result = each(index);
                }
            });
        }
        result
    }
}

/// V1 and V6: `settings.json`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// As they are kept.
    pub bytes: u64,
    /// `displayedAttributes` is not everything.
    pub hides_fields: bool,
}

impl Settings {
    pub fn read(text: &[u8]) -> Result<Settings, Wrong> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Fields<'a> {
            #[serde(borrow)]
            displayed_attributes: Option<&'a RawValue>,
        }
        let fields: Fields<'_> = object(text)?;
        let settings = collection::settings(text, false).ok_or_else(Wrong::content)?;
        let mut shows_all = true;
        if let Some(raw) = fields.displayed_attributes.filter(|raw| raw.get().starts_with('[')) {
            shows_all = false;
            elements(raw, |name| shows_all |= name.get() == r#""*""#);
        }
        Ok(Settings { bytes: settings.len() as u64, hides_fields: !shows_all })
    }
}

/// V2 to V5: `meta.json`.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Of the settings, as they are kept.
    pub settings_bytes: u64,
    pub primary_key: Option<String>,
}

impl Meta {
    pub fn read(text: &[u8]) -> Result<Meta, Wrong> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            primary_key: Text,
        }
        let fields: Fields = object(text)?;
        let settings = collection::settings(text, true).filter(|settings| settings.starts_with(b"{"));
        let settings = settings.ok_or_else(Wrong::content)?;
        Ok(Meta { settings_bytes: settings.len() as u64, primary_key: fields.primary_key.0 })
    }
}

/// A line of `index_uuids/data.jsonl`: folder and uid.
pub fn uid_of(line: &[u8]) -> Result<(String, String), &'static str> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        uid: Text,
        #[serde(default)]
        uuid: Text,
        index_meta: Option<IndexMeta>,
    }
    #[derive(Deserialize)]
    struct IndexMeta {
        #[serde(default)]
        uuid: Text,
    }
    let line: Line = serde_json::from_slice(line).map_err(|_| "not valid JSON, or not what such a line says")?;
    let uuid = line.uuid.0.or(line.index_meta.and_then(|meta| meta.uuid.0));
    Ok((uuid.ok_or("no uuid")?, line.uid.0.ok_or("no uid")?))
}

/// What is wrong with a small member.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// 0 if it is not about a line.
    pub line: u64,
    pub reason: &'static str,
}

impl Wrong {
    fn content() -> Wrong {
        Wrong { line: 0, reason: "not what such a member says" }
    }
}

/// Reads a member that is one JSON object.
pub fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Wrong> {
    if !text.trim_ascii_start().starts_with(b"{") {
        let is_json = serde_json::from_slice::<IgnoredAny>(text);
        let reason = if is_json.is_ok() { "not a JSON object" } else { "not valid JSON" };
        return Err(Wrong { line: is_json.err().map_or(0, |error| error.line() as u64), reason });
    }
    serde_json::from_slice(text).map_err(|error| match error.classify() {
        Category::Data => Wrong::content(),
        _ => Wrong { line: error.line() as u64, reason: "not valid JSON" },
    })
}

/// Hands over the elements of an array one after another; of anything else there are none.
pub fn elements<'a>(raw: &'a RawValue, mut each: impl FnMut(&'a RawValue)) {
    struct Each<F>(F);
    impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(element) = seq.next_element()? {
                (self.0)(element);
            }
            Ok(())
        }
    }
    if raw.get().starts_with('[') {
        let read = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Each(&mut each));
        assert!(read.is_ok(), "what was read once can be read again");
    }
}
