//! Fields that are the store's own: none of a document may begin with `_miroir_`.
//!
//! Bodies are bytes, and need not be JSON. Where one is a JSON object, the ways in that people use (a put into an embedded
//! store, `miroir put`) refuse it if a field of its own, not one further down, is reserved. A body is searched for the name
//! first, and only where that could be one are its fields looked at. Importers strip such fields instead.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// How reserved fields begin.
pub const RESERVED: &str = "_miroir_";
/// How a character of the name may be written instead.
const ESCAPED: &str = r"\u00";

/// The first reserved field of a body that is a JSON object.
pub fn field_in(body: &[u8]) -> Option<String> {
    if [RESERVED, ESCAPED].iter().all(|part| memmem::find(body, part.as_bytes()).is_none()) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = reader.deserialize_map(First).ok()?;
    reader.end().ok().and(found)
}

struct First;

impl<'de> Visitor<'de> for First {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut first = None;
        while let Some(Name(name)) = map.next_key()? {
            map.next_value::<IgnoredAny>()?;
            if first.is_none() && name.starts_with(RESERVED) {
                first = Some(name.into_owned());
            }
        }
        Ok(first)
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_of_the_document_itself_are_reserved() {
        for (body, field) in [
            (r#"{"id":1,"_miroir_shard":3}"#, Some("_miroir_shard")),
            (r#" {"a":{},"_miroir_":null,"_miroir_x":1} "#, Some("_miroir_")),
            (r#"{"\u005f\u006diroir_x":3}"#, Some("_miroir_x")),
            (r#"{"\u005F\u006d\u0069\u0072\u006f\u0069\u0072\u005fx":3}"#, Some("_miroir_x")),
            (r#"{"a":{"_miroir_shard":3},"b":"_miroir_shard","x_miroir_":1}"#, None),
            (r#"{"a":"\u003c"}"#, None),
            (r#"["_miroir_shard"]"#, None),
            // What is no JSON has no fields.
            ("_miroir_shard", None),
            (r#"{"_miroir_shard":3"#, None),
            (r#"{"_miroir_shard":3}}"#, None),
            ("\u{0}\u{1}", None),
        ] {
            assert_eq!(field_in(body.as_bytes()).as_deref(), field, "{body}");
        }
    }
}
