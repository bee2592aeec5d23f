//! Histories as JSON lines, with errors that name line and field.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Op, Operation, Outcome, Version};
use crate::time::Nanos;

/// Why a text is no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {problem}", field.map(|field| format!(", field `{field}`")).unwrap_or_default())]
pub struct HistoryError {
    /// Counted from 1.
    pub line: usize,
    /// The field in question; none if the line as a whole is wrong.
    pub field: Option<&'static str>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// Writes operations as JSON lines.
pub fn to_jsonl(operations: &[Operation]) -> String {
    let mut text = String::new();
    for operation in operations {
        text.push_str(&line(operation));
        text.push('\n');
    }
    text
}

/// Reads JSON lines; empty lines are skipped.
pub fn parse(text: &str) -> Result<Vec<Operation>, HistoryError> {
    let mut keys = BTreeMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            operation(line, &mut keys).map_err(|(field, problem)| HistoryError { line: index + 1, field, problem })
        })
        .collect()
}

fn line(operation: &Operation) -> String {
    // Written by hand for the order of the fields, which the sorted map of the JSON library would lose.
    let Operation { client, key, op, call, ret, outcome, version } = operation;
    let name = match op {
        Op::Read { .. } => "read",
        Op::Write { .. } => "write",
        Op::Delete => "delete",
        Op::Cas { .. } => "cas",
    };
    let mut fields = vec![("client", json!(client)), ("op", json!(name)), ("key", json!(**key))];
    match op {
        Op::Read { value } => fields.push(("value", json!(value))),
        Op::Write { value } => fields.push(("value", json!(value))),
        Op::Delete => {}
        Op::Cas { from, to, swapped } => {
            fields.extend([("from", json!(from)), ("to", json!(to)), ("swapped", json!(swapped))]);
        }
    }
    let outcome = match outcome {
        Outcome::Ok => "ok",
        Outcome::Rejected => "rejected",
        Outcome::Unknown => "unknown",
    };
    fields.extend([("call", json!(call)), ("return", json!(ret)), ("outcome", json!(outcome))]);
    if let Some(version) = version {
        fields.push(("version", json!(version.to_string())));
    }
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

type Problem = (Option<&'static str>, String);

fn operation(line: &str, keys: &mut BTreeMap<String, Arc<str>>) -> Result<Operation, Problem> {
    let value: Value = serde_json::from_str(line).map_err(|error| (None, format!("not JSON: {error}")))?;
    let Value::Object(map) = value else { return Err((None, "not a JSON object".to_owned())) };
    let mut fields = Fields(map);
    let client = fields.number("client")?;
    let client = u32::try_from(client).map_err(|_| problem("client", "is at most 4294967295"))?;
    let key = fields.text("key")?;
    let key = keys.entry(key).or_insert_with_key(|key| key.as_str().into()).clone();
    let outcome = match fields.text("outcome")?.as_str() {
        "ok" => Outcome::Ok,
        "rejected" => Outcome::Rejected,
        "unknown" => Outcome::Unknown,
        other => return Err(problem("outcome", &format!("`{other}` is none of ok, rejected, unknown"))),
    };
    let (op, its_fields) = match fields.text("op")?.as_str() {
        // What was read is known only if the read has returned.
        "read" if outcome != Outcome::Ok && !fields.0.contains_key("value") => (Op::Read { value: None }, "value, "),
        "read" => (Op::Read { value: fields.text_or_null("value")? }, "value, "),
        "write" => (Op::Write { value: fields.text("value")? }, "value, "),
        "delete" => (Op::Delete, ""),
        "cas" => {
            let swapped = fields.0.remove("swapped").unwrap_or(Value::Bool(false));
            let swapped = swapped.as_bool().ok_or_else(|| problem("swapped", "is true or false"))?;
            (Op::Cas { from: fields.text_or_null("from")?, to: fields.text("to")?, swapped }, "from, to, swapped, ")
        }
        other => return Err(problem("op", &format!("`{other}` is none of read, write, delete, cas"))),
    };
    let call = fields.number("call")?;
    let ret = fields.returned(call, outcome)?;
    let version = match fields.0.remove("version") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.parse::<Version>().map_err(|error| problem("version", &error))?),
        Some(_) => return Err(problem("version", "is a string, counter:writer")),
    };
    match fields.0.keys().next() {
        Some(unknown) => {
            let allowed = format!("client, op, key, {its_fields}call, return, outcome, version");
            Err((None, format!("unknown field `{unknown}`; this operation has {allowed}")))
        }
        None => Ok(Operation { client, key, op, call, ret, outcome, version }),
    }
}

fn problem(field: &'static str, problem: &str) -> Problem {
    (Some(field), problem.to_owned())
}

struct Fields(Map<String, Value>);

impl Fields {
    fn number(&mut self, field: &'static str) -> Result<u64, Problem> {
        let value = self.0.remove(field).ok_or_else(|| problem(field, "is missing"))?;
        value.as_u64().ok_or_else(|| problem(field, &format!("{value} is no whole number from 0")))
    }

    fn text(&mut self, field: &'static str) -> Result<String, Problem> {
        self.text_or_null(field)?.ok_or_else(|| problem(field, "is null; a string is needed"))
    }

    fn text_or_null(&mut self, field: &'static str) -> Result<Option<String>, Problem> {
        match self.0.remove(field) {
            None => Err(problem(field, "is missing")),
            Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(problem(field, &format!("{other} is no string"))),
        }
    }

    fn returned(&mut self, call: Nanos, outcome: Outcome) -> Result<Option<Nanos>, Problem> {
        match (self.0.remove("return"), outcome) {
            (None | Some(Value::Null), Outcome::Unknown) => Ok(None),
            (None | Some(Value::Null), _) => Err(problem("return", "is null, but the outcome is known")),
            (Some(_), Outcome::Unknown) => Err(problem("return", "must be null while the outcome is unknown")),
            (Some(value), _) => match value.as_u64() {
                Some(ret) if ret >= call => Ok(Some(ret)),
                Some(ret) => {
                    Err(problem("return", &format!("{ret} is before the call at {call}; {call} or later is allowed")))
                }
                None => Err(problem("return", &format!("{value} is no whole number from 0"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"client":3,"op":"write","key":"a","value":"v17","call":120,"return":450,"outcome":"ok","version":"2:ab"}"#,
        "\n",
        r#"{"client":4,"op":"read","key":"a","value":null,"call":130,"return":460,"outcome":"ok"}"#,
        "\n",
        r#"{"client":5,"op":"delete","key":"a","call":140,"return":null,"outcome":"unknown"}"#,
        "\n",
        r#"{"client":6,"op":"cas","key":"b","from":null,"to":"x","swapped":true,"call":1,"return":2,"outcome":"ok"}"#,
        "\n",
    );

    #[test]
    fn a_history_survives_its_file() {
        let operations = parse(LINES).expect("a good history");
        assert_eq!(operations.len(), 4);
        assert_eq!(to_jsonl(&operations), LINES);
        assert_eq!(parse("\n\n"), Ok(vec![]));
        let lost = r#"{"client":4,"op":"read","key":"a","call":130,"outcome":"unknown"}"#;
        let read = parse(lost).expect("a read that never returned has read nothing");
        assert_eq!((&read[0].op, read[0].ret), (&Op::Read { value: None }, None));
    }

    #[test]
    fn errors_name_line_and_field() {
        let error = |from: &str, to: &str| parse(&LINES.replacen(from, to, 1)).expect_err(to).to_string();
        assert_eq!(
            error("\"unknown\"", "\"maybe\""),
            "line 3, field `outcome`: `maybe` is none of ok, rejected, unknown"
        );
        assert_eq!(
            error("\"return\":460", "\"return\":6"),
            "line 2, field `return`: 6 is before the call at 130; 130 or later is allowed"
        );
        assert_eq!(
            error("\"return\":460", "\"return\":null"),
            "line 2, field `return`: is null, but the outcome is known"
        );
        assert_eq!(error("\"call\":120,", ""), "line 1, field `call`: is missing");
        assert_eq!(error("\"value\":\"v17\"", "\"value\":null"), "line 1, field `value`: is null; a string is needed");
        assert_eq!(error("\"delete\"", "\"erase\""), "line 3, field `op`: `erase` is none of read, write, delete, cas");
        assert_eq!(
            error("\"client\":4", "\"client\":4,\"zeal\":1"),
            "line 2: unknown field `zeal`; this operation has client, op, key, value, call, return, outcome, version"
        );
        assert!(error("{\"client\":5", "{client:5").starts_with("line 3: not JSON"));
        assert!(error("2:ab", "2").starts_with("line 1, field `version`: `2` is no version"));
    }
}
