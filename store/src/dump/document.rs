//! One document as text: its id, the fields that are reserved, and how it is changed without touching what stays.
//!
//! Documents are forwarded as they are written: a number keeps its digits, a string its escapes. So nothing here takes a
//! document apart into values and puts it together again; fields are found, and cut out or replaced as text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::dump::limits::{LISTED, MAX_FIELDS};
use crate::id::MAX_ID_BYTES;
use crate::reserved::RESERVED;

/// What a document tells about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The id in string form, or why there is none; without a primary key there is nothing to look for.
    pub id: Result<Cow<'a, str>, String>,
    /// The first reserved field.
    pub reserved: Option<String>,
}

/// Reads a document; the error says why it is none.
pub fn inspect<'a>(text: &'a [u8], primary_key: Option<&str>) -> Result<Seen<'a>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut found = Found { ids: Vec::new(), reserved: None, fields: 0 };
    Fields { wanted: primary_key, found: &mut found, is_top: true }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| invalid(&error))?;
    if found.fields > MAX_FIELDS {
        return Err(format!("{} fields; allowed are {MAX_FIELDS}", found.fields));
    }
    let id = match (primary_key, &found.ids[..]) {
        (None, _) => Err("no primary key is known".to_owned()),
        (Some(key), []) => Err(format!("the primary key `{key}` is missing")),
        (Some(_), [one]) => id(one),
        (Some(key), _) => Err(format!("more than one field matches the primary key `{key}`")),
    };
    Ok(Seen { id, reserved: found.reserved })
}

/// Says what is wrong, and at which byte, without repeating what stands there.
fn invalid(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => "not a JSON object".to_owned(),
        _ => format!("not valid JSON at byte {}", error.column()),
    }
}

/// The string form of an id: integers, and strings of letters, digits, `-` and `_`.
fn id(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    let text = raw.get();
    if text.starts_with('"') {
        // Most strings have no escape and are taken as they stand.
        let id = match text.contains('\\') {
            false => Cow::Borrowed(&text[1..text.len() - 1]),
            true => Cow::Owned(serde_json::from_str::<String>(text).map_err(|_| "the id is no string".to_owned())?),
        };
        return check_id(&id).map(|()| id);
    }
    let is_integer = text != "-0" && (text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok());
    if is_integer { Ok(Cow::Borrowed(text)) } else { Err(format!("the id is {}", kind(text))) }
}

/// Whether a string can be the id of a document.
pub fn check_id(id: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match id.len() {
        0 => Err("the id is empty".to_owned()),
        bytes if bytes > MAX_ID_BYTES => Err(format!("the id has {bytes} bytes; allowed are {MAX_ID_BYTES}")),
        _ if !id.bytes().all(allowed) => {
            Err("the id has other characters than letters, digits, `-` and `_`".to_owned())
        }
        _ => Ok(()),
    }
}

fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        _ => "a number that is no integer of 64 bits",
    }
}

struct Found<'a> {
    ids: Vec<&'a RawValue>,
    reserved: Option<String>,
    /// Of the document itself.
    fields: usize,
}

/// Looks through the fields of an object for a primary key, which may be nested (`meta.sku`) or dotted.
struct Fields<'k, 'f, 'a> {
    wanted: Option<&'k str>,
    found: &'f mut Found<'a>,
    is_top: bool,
}

impl<'a> DeserializeSeed<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name { wanted: self.wanted, is_top: self.is_top })? {
            self.found.fields += usize::from(self.is_top);
            match name {
                Named::Other => drop(map.next_value::<IgnoredAny>()?),
                Named::Reserved(name) => {
                    self.found.reserved.get_or_insert(name);
                    map.next_value::<IgnoredAny>()?;
                }
                // Two are one too many already.
                Named::Wanted if self.found.ids.len() == 2 => drop(map.next_value::<IgnoredAny>()?),
                Named::Wanted => self.found.ids.push(map.next_value()?),
                Named::Above(length) => {
                    let raw: &RawValue = map.next_value()?;
                    let wanted = self.wanted.and_then(|wanted| wanted.get(length..));
                    if raw.get().starts_with('{') {
                        let mut reader = serde_json::Deserializer::from_str(raw.get());
                        let below = Fields { wanted, found: self.found, is_top: false };
                        below.deserialize(&mut reader).map_err(de::Error::custom)?;
                    }
                }
            }
        }
        Ok(())
    }
}

enum Named {
    Other,
    Reserved(String),
    Wanted,
    /// What is wanted is inside, if anywhere: so many bytes of its name are said.
    Above(usize),
}

struct Name<'k> {
    wanted: Option<&'k str>,
    is_top: bool,
}

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = Named;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Named, E> {
        if self.is_top && name.starts_with(RESERVED) {
            return Ok(Named::Reserved(name.to_owned()));
        }
        Ok(match self.wanted.and_then(|wanted| wanted.strip_prefix(name)) {
            Some("") => Named::Wanted,
            Some(rest) if rest.starts_with('.') => Named::Above(name.len() + 1),
            _ => Named::Other,
        })
    }
}

/// The fields of an object, each with its value as text.
struct Raw<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(FieldName(name)) = map.next_key()? {
                    pairs.push((name, map.next_value()?));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs).map(Raw)
    }
}

#[derive(Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

fn fields(text: &str) -> Vec<(Cow<'_, str>, &RawValue)> {
    serde_json::from_str::<Raw<'_>>(text).map(|raw| raw.0).unwrap_or_default()
}

/// The names by which Meilisearch would guess a primary key: those that end with `id`, in whatever case; the first of them,
/// if there are many.
pub fn candidates(text: &[u8]) -> Vec<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(FieldName(name)) = map.next_key()? {
                map.next_value::<IgnoredAny>()?;
                if names.len() < LISTED && name.to_lowercase().ends_with("id") {
                    names.push(name.into_owned());
                }
            }
            Ok(names)
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_map(Names).unwrap_or_default()
}

/// A document without its reserved fields; every other byte stays.
pub fn strip(text: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(text) else { return text.to_vec() };
    let fields = fields(text);
    let (Some(open), false) = (text.find('{'), fields.is_empty()) else { return text.as_bytes().to_vec() };
    let mut stripped = String::with_capacity(text.len());
    stripped.push_str(&text[..=open]);
    let mut end = open + 1;
    let mut is_first = true;
    for (name, value) in &fields {
        // What stands between the end of one value and the end of the next: a comma, a name, a colon, a value.
        let start = end;
        end = value.get().as_ptr() as usize - text.as_ptr() as usize + value.get().len();
        if !name.starts_with(RESERVED) {
            let field = &text[start..end];
            let without_comma = || field.trim_start().strip_prefix(',').unwrap_or(field);
            stripped.push_str(if is_first { without_comma() } else { field });
            is_first = false;
        }
    }
    stripped.push_str(&text[end..]);
    stripped.into_bytes()
}

/// `old` with the fields of `new` put over it, as an update of a document does: what both have is `new`'s.
pub fn merge(old: &[u8], new: &[u8]) -> Vec<u8> {
    let (Ok(old), Ok(new)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else { return new.to_vec() };
    let mut merged = fields(old);
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (place, (name, _)) in merged.iter().enumerate() {
        places.entry(name.clone().into_owned()).or_insert(place);
    }
    for (name, value) in fields(new) {
        match places.get(&*name) {
            Some(place) => merged[*place].1 = value,
            None => {
                places.insert(name.clone().into_owned(), merged.len());
                merged.push((name, value));
            }
        }
    }
    let mut text = String::with_capacity(old.len() + new.len());
    for (name, value) in merged {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&serde_json::Value::from(name).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    if text.is_empty() {
        text.push('{');
    }
    text.push('}');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(text: &str, key: &str) -> Result<String, String> {
        inspect(text.as_bytes(), Some(key)).and_then(|seen| seen.id.map(Cow::into_owned))
    }

    #[test]
    fn an_id_is_an_integer_or_a_plain_string() {
        for (text, id) in [
            (r#"{"id":7}"#, "7"),
            (r#"{"a":{"id":1},"id":"7"}"#, "7"),
            (r#"{"id":-5}"#, "-5"),
            (r#"{"id":18446744073709551615}"#, "18446744073709551615"),
            (r#"{"id":"a-B_9"}"#, "a-B_9"),
            (r#"{"id":"\u0061"}"#, "a"),
            (r#"{ "\u0069d" : 3 }"#, "3"),
        ] {
            assert_eq!(id_of(text, "id").as_deref(), Ok(id), "{text}");
        }
        for text in [
            r#"{"id":1.0}"#,
            r#"{"id":1e3}"#,
            r#"{"id":-0}"#,
            r#"{"id":18446744073709551616}"#,
            r#"{"id":null}"#,
            r#"{"id":[1]}"#,
            r#"{"id":true}"#,
            r#"{"id":""}"#,
            r#"{"id":"a b"}"#,
            r#"{"id":"ä"}"#,
            r#"{"ID":1}"#,
            r#"{"id":1,"id":1}"#,
            r#"[1]"#,
            r#"{"id":1"#,
            r#"{"id":1}}"#,
            r#"{"id":01}"#,
        ] {
            assert!(id_of(text, "id").is_err(), "{text}");
        }
        assert!(id_of(&format!(r#"{{"id":"{}"}}"#, "a".repeat(512)), "id").is_err());
        assert!(id_of(&format!(r#"{{"id":"{}"}}"#, "a".repeat(511)), "id").is_ok());
        assert_eq!(inspect(b"{\"id\":\"\xff\"}", Some("id")).unwrap_err(), "not UTF-8");
    }

    #[test]
    fn a_nested_key_matches_nested_and_dotted_fields() {
        assert_eq!(id_of(r#"{"meta":{"sku":"x"}}"#, "meta.sku").as_deref(), Ok("x"));
        assert_eq!(id_of(r#"{"meta.sku":"x"}"#, "meta.sku").as_deref(), Ok("x"));
        assert_eq!(id_of(r#"{"a":{"b.c":1}}"#, "a.b.c").as_deref(), Ok("1"));
        assert!(id_of(r#"{"meta.sku":"x","meta":{"sku":"y"}}"#, "meta.sku").unwrap_err().contains("more than one"));
        assert!(id_of(r#"{"meta":[{"sku":"y"}]}"#, "meta.sku").is_err());
    }

    #[test]
    fn reserved_fields_are_found_and_cut_out_and_nothing_else_moves() {
        let reserved = |text: &str| inspect(text.as_bytes(), None).unwrap().reserved;
        assert_eq!(reserved(r#"{"a":1,"_miroir_shard":3}"#).as_deref(), Some("_miroir_shard"));
        assert_eq!(reserved(r#"{"\u005fmiroir_x":3}"#).as_deref(), Some("_miroir_x"));
        assert_eq!(reserved(r#"{"a":{"_miroir_shard":3},"miroir":1}"#), None);
        for (text, stripped) in [
            (r#"{"a":1.10,"_miroir_shard":3}"#, r#"{"a":1.10}"#),
            (r#"{ "_miroir_shard" : [1, {"x":"}"}] , "a" : 1E+2 }"#, r#"{ "a" : 1E+2 }"#),
            (r#"{"a":1,"_miroir_x":0,"b":{"_miroir_y":1}}"#, r#"{"a":1,"b":{"_miroir_y":1}}"#),
            (r#"{"_miroir_x":0,"_miroir_y":1}"#, r#"{}"#),
            (r#"{}"#, r#"{}"#),
        ] {
            assert_eq!(String::from_utf8(strip(text.as_bytes())).unwrap(), stripped, "{text}");
        }
    }

    #[test]
    fn an_update_is_put_over_what_is_there() {
        let merged = |old: &str, new: &str| String::from_utf8(merge(old.as_bytes(), new.as_bytes())).unwrap();
        assert_eq!(
            merged(r#"{"id":1,"a":1.10,"b":2}"#, r#"{"id":1,"b":3.0,"c":[]}"#),
            r#"{"id":1,"a":1.10,"b":3.0,"c":[]}"#
        );
        assert_eq!(merged("{}", "{}"), "{}");
        assert_eq!(candidates(br#"{"tmdbID":1,"x":2,"idx":3,"Uuid":4}"#), ["tmdbID", "Uuid"]);
    }
}
