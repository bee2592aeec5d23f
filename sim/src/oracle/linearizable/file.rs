//! A history file, judged: what `check HISTORY.jsonl --model kv` prints.

use std::fmt;

use super::{BUDGET, Judgement, ModelKind, Report, check};
use crate::history::{Operation, Outcome, parse};
use crate::verdict::ExitCode;

/// The judgement on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// As typed.
    pub file: String,
    /// Operations in it.
    pub operations: usize,
    /// Those of unknown outcome.
    pub unknown: usize,
    /// What the checker says.
    pub report: Report,
}

/// Reads and judges the text of `file`. The error names file, line and field, and says what is allowed. Bounded: a key that needs more than
/// [`BUDGET`] states is given up as undecided.
pub fn check_file(file: &str, text: &str, model: ModelKind) -> Result<Checked, String> {
    let operations = parse(text).map_err(|error| format!("{file}, {error}"))?;
    let report = check(&operations, model, BUDGET).map_err(|mismatch| {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let line = lines.map(|(number, _)| number + 1).nth(mismatch.index - 1).unwrap_or(mismatch.index);
        format!("{file}, line {line}, field `op`: {mismatch}")
    })?;
    let unknown = operations.iter().filter(|operation: &&Operation| operation.outcome == Outcome::Unknown).count();
    Ok(Checked { file: file.to_owned(), operations: operations.len(), unknown, report })
}

impl Checked {
    /// As expected if every key is linearizable; a finding if one is not, or if it could not be decided. A file without operations
    /// was not judged.
    pub fn exit_code(&self) -> ExitCode {
        match self.report.judgement {
            _ if self.operations == 0 => ExitCode::NothingRan,
            Judgement::Linearizable => ExitCode::AsExpected,
            Judgement::Violation(_) | Judgement::Undecided { .. } => ExitCode::Finding,
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { file, operations, unknown, report } = self;
        if *operations == 0 {
            return write!(f, "{file}: no operation is in it; nothing was judged");
        }
        let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let (operations, keys) = (counted(*operations, "operation"), counted(report.keys, "key"));
        write!(f, "{file}: {operations} on {keys}, {unknown} of unknown outcome: ")?;
        match &report.judgement {
            Judgement::Linearizable => {
                write!(f, "linearizable ({} by their versions alone)", counted(report.by_versions, "key"))
            }
            Judgement::Violation(violation) => {
                write!(f, "not linearizable\n{}", violation.to_string().trim_end())
            }
            Judgement::Undecided { key, states } => {
                write!(f, "undecided: gave up on key {key} after {states} states; nothing is claimed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: &str = concat!(
        r#"{"client":1,"op":"write","key":"a","value":"old","call":0,"return":1,"outcome":"ok"}"#,
        "\n\n",
        r#"{"client":1,"op":"write","key":"a","value":"new","call":2,"return":3,"outcome":"ok"}"#,
        "\n",
        r#"{"client":2,"op":"read","key":"a","value":"old","call":4,"return":5,"outcome":"ok"}"#,
        "\n",
        r#"{"client":3,"op":"delete","key":"b","call":4,"return":null,"outcome":"unknown"}"#,
        "\n",
    );

    #[test]
    fn a_finding_is_shown_with_its_shortest_part() {
        let checked = check_file("h.jsonl", STALE, ModelKind::Kv).expect("a history");
        assert_eq!(
            checked.to_string(),
            "h.jsonl: 4 operations on 2 keys, 1 of unknown outcome: not linearizable\n\
             key a is not linearizable: no instant fits client 2 read a -> old (4..5)\n    \
             client 1 write a = old (0..1)\n    \
             client 1 write a = new (2..3)\n    \
             client 2 read a -> old (4..5)"
        );
        assert_eq!(checked.exit_code(), ExitCode::Finding);
        let good = check_file(
            "h.jsonl",
            &STALE.replace("\"value\":\"old\",\"call\":4", "\"value\":\"new\",\"call\":4"),
            ModelKind::Kv,
        );
        assert_eq!(good.expect("a history").exit_code(), ExitCode::AsExpected);
    }

    #[test]
    fn errors_name_file_line_field_and_what_is_allowed() {
        let error = |text: &str, model| check_file("h.jsonl", text, model).expect_err(text);
        assert_eq!(
            error(STALE, ModelKind::Register),
            "h.jsonl, line 5, field `op`: operation 4 (client 3 delete b (4.., unknown)) does not belong to the model: \
             a register has read and write; try cas-register or kv"
        );
        assert_eq!(
            error(&STALE.replace("\"return\":3", "\"return\":1"), ModelKind::Kv),
            "h.jsonl, line 3, field `return`: 1 is before the call at 2; 2 or later is allowed"
        );
        assert_eq!(
            error(&STALE.replace("\"delete\"", "\"erase\""), ModelKind::Kv),
            "h.jsonl, line 5, field `op`: `erase` is none of read, write, delete, cas"
        );
    }
}
