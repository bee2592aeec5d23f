//! `cargo xtask check`: is a history from anywhere linearizable? Nothing is run and nothing is built.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use miroir_sim::oracle::linearizable::{ModelKind, check_file};

use crate::exit::{ExitCode, Failure};
use crate::print::out;

/// Judges the file, and prints what the checker says: if it is not linearizable, the shortest part that is wrong.
pub fn run(file: &Path, model: ModelKind) -> Result<ExitCode, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::InvalidData => {
            Failure::refused(format!("{shown}: {error}; give a file of JSON lines, such as the history.jsonl of a run"))
        }
        _ => Failure::io("read", file.display(), &error),
    })?;
    let checked = check_file(&shown.to_string(), &text, model).map_err(Failure::refused)?;
    out(&checked);
    Ok(checked.exit_code())
}
