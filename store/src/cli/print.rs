//! Everything that is printed: results on stdout, the rest on stderr, colour where a terminal has it.

use serde::Serialize;

use crate::cli::exit::{ExitCode, Failure};

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

/// One result as one line of JSON.
pub fn json(value: &impl Serialize) {
    out(serde_json::to_string(value).expect("results are JSON"));
}

/// Why there is no result.
pub fn failure(failure: &Failure, as_json: bool) -> ExitCode {
    if as_json {
        json(&serde_json::json!({ "v": 1, "error": failure.code, "text": failure.line }));
    } else {
        note(format!("error: {failure}"));
    }
    failure.exit
}
