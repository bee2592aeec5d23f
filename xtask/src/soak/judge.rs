//! What became of a round, judged by what its clients saw: is an acknowledged write missing, and is there an order of
//! instants that explains every answer?

use std::collections::BTreeMap;

use miroir_sim::history::{Op, Operation, Outcome, Version};

/// What is known of one document.
#[derive(Default)]
struct Document {
    acked: Option<Version>,
    /// The greatest delete that was acknowledged or may have been done.
    deleted: Option<Version>,
    /// A delete of unknown outcome whose version its client never learned.
    may_be_deleted: bool,
    read: Option<(Option<Version>, Option<String>)>,
}

/// Acknowledged writes that the last reader did not find, in words: what he read is older. Nothing at all may be read where
/// a delete was done that is newer, because a tombstone is forgotten once everybody has it.
pub fn missing(history: &[Operation], reader: u32) -> Vec<String> {
    let mut documents: BTreeMap<&str, Document> = BTreeMap::new();
    for operation in history {
        let document = documents.entry(&operation.key).or_default();
        match (&operation.op, operation.outcome) {
            (Op::Read { value }, Outcome::Ok) if operation.client == reader => {
                document.read = Some((operation.version, value.clone()));
            }
            (Op::Write { .. } | Op::Delete, Outcome::Ok) => document.acked = document.acked.max(operation.version),
            _ => {}
        }
        if operation.op == Op::Delete && operation.outcome != Outcome::Rejected {
            document.deleted = document.deleted.max(operation.version);
            document.may_be_deleted |= operation.version.is_none();
        }
    }
    let lost = documents.into_iter().filter_map(|(key, it)| {
        let acked = it.acked?;
        let (version, value) = it.read?;
        let newer_delete = it.may_be_deleted || it.deleted >= Some(acked);
        let found = version >= Some(acked) || value.is_none() && newer_delete;
        let read = version.map_or_else(|| "nothing".to_owned(), |version| version.to_string());
        (!found).then(|| format!("{key}: the acknowledged write {acked} is missing; {read} is there"))
    });
    lost.collect()
}

/// The longest time in which no write was acknowledged, in nanoseconds.
pub fn longest_gap(history: &[Operation]) -> u64 {
    let is_acked = |it: &&Operation| it.outcome == Outcome::Ok && !matches!(it.op, Op::Read { .. });
    let mut returns: Vec<u64> = history.iter().filter(is_acked).filter_map(|it| it.ret).collect();
    returns.sort_unstable();
    returns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use miroir_sim::history::parse;

    use super::*;

    const WRITTEN: &str =
        r#"{"client":1,"op":"write","key":"a","value":"x","call":0,"return":9,"outcome":"ok","version":"3:1"}"#;

    fn missing_after(rest: &str) -> usize {
        let history = parse(&format!("{WRITTEN}\n{rest}")).expect("a history");
        missing(&history, 99).len()
    }

    #[test]
    fn what_was_acknowledged_must_be_read() {
        let read = |value: &str, version: &str| {
            format!(
                r#"{{"client":99,"op":"read","key":"a","value":{value},"call":20,"return":21,"outcome":"ok","version":"{version}"}}"#
            )
        };
        assert_eq!(missing_after(&read("\"x\"", "3:1")), 0);
        assert_eq!(missing_after(&read("\"y\"", "4:7")), 0, "something newer");
        assert_eq!(missing_after(&read("\"w\"", "2:9")), 1, "something older");
        assert_eq!(missing_after(&read("null", "0:0")), 1, "nothing");
        let delete = |outcome: &str, rest: &str| {
            let end = if outcome == "unknown" { "null" } else { "11" };
            format!(r#"{{"client":2,"op":"delete","key":"a","call":10,"return":{end},"outcome":"{outcome}"{rest}}}"#)
                + "\n"
                + &read("null", "0:0")
        };
        assert_eq!(missing_after(&delete("unknown", "")), 0, "it may have been deleted");
        assert_eq!(missing_after(&delete("unknown", r#","version":"4:2""#)), 0);
        assert_eq!(missing_after(&delete("unknown", r#","version":"2:2""#)), 1, "an older delete");
        assert_eq!(missing_after(&delete("rejected", "")), 1, "a delete that was never sent");
    }

    #[test]
    fn gaps_lie_between_acknowledged_writes() {
        let line = |op: &str, ret: u64| {
            format!(r#"{{"client":1,"op":"{op}","key":"a","value":"v","call":0,"return":{ret},"outcome":"ok"}}"#)
        };
        let text = [line("write", 10), line("read", 500), line("write", 40), line("write", 15)].join("\n");
        assert_eq!(longest_gap(&parse(&text).expect("a history")), 25);
    }
}
