//! Everything that is printed: results on stdout, the rest on stderr, colour where a terminal has it.

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use serde::Serialize;

use crate::cli::exit::{ExitCode, Failure};
use crate::env::Nanos;
use crate::id::Version;

/// One result.
pub fn out(text: impl std::fmt::Display) {
    use std::io::Write as _;
    // A reader that has gone away ends the output, not the command.
    let _gone = writeln!(anstream::stdout(), "{text}");
}

/// For a person.
pub fn note(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _gone = writeln!(anstream::stderr(), "{text}");
}

/// One result as one line of JSON, the version of the schema first.
pub fn json(value: &impl Serialize) {
    #[derive(Serialize)]
    struct Versioned {
        v: u32,
        #[serde(flatten)]
        value: serde_json::Value,
    }
    let mut value = serde_json::to_value(value).expect("results are JSON");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("v");
    }
    out(serde_json::to_string(&Versioned { v: 1, value }).expect("results are JSON"));
}

/// Rows under their headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.to_vec());
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    out(lines.join("\n"));
}

/// How far something has come that may take long; nothing where nobody looks on.
pub fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a good template");
    total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style)
}

/// A duration as a person reads it.
pub fn seconds(nanos: Nanos) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}

/// A version as JSON.
pub fn version(version: Version) -> serde_json::Value {
    serde_json::json!({ "counter": version.counter, "writer": format!("{:032x}", version.writer.0) })
}

/// Why there is no result.
pub fn failure(failure: &Failure, as_json: bool) -> ExitCode {
    if as_json {
        json(&serde_json::json!({ "error": failure.code, "text": failure.line }));
    } else {
        note(format!("error: {failure}"));
    }
    failure.exit
}
