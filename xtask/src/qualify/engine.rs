//! The engine's tests again, as far as they go in minutes: crashes, flips, fuzzed inputs, and what it costs to
//! reconcile large copies.

use serde::{Deserialize, Serialize};

use crate::build_id;
use crate::data::{File, Row, Stamp};
use crate::exit::{ExitCode, Failure};
use crate::print::{note, out};
use crate::test::cargo;
use crate::workspace::Workspace;

use super::Subject;

/// How much is asked for, by the variables that the tests read.
const ASKED: [(&str, &str); 4] = [
    ("MIROIR_CRASHES", "100000"),
    ("MIROIR_FLIPS", "32000"),
    ("MIROIR_FUZZ", "100000"),
    ("MIROIR_RECONCILE", "10000,100000,1000000"),
];

/// Where the tests are.
const SELECTION: [&str; 6] = ["--release", "-p", "miroir-store", "--lib", "--test", "engine"];

/// What one or more lines `tried: WHAT: COUNT of what, COUNT of what` of a test say: the counts of each line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried(pub Vec<Vec<(u64, String)>>);

/// Tries it all, and writes down what was tried if nothing was found.
pub fn run(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let file = Subject::Engine.file();
    let mut command = workspace.cargo("test");
    command.envs(ASKED);
    let mut lines = Vec::new();
    let mut unread = None;
    let count = cargo::test(command, &SELECTION, &["--nocapture"], |line| match read(line) {
        Some(read) => lines.push(read),
        None if line.contains(TRIED) => unread = Some(line.to_owned()),
        None => {}
    })?;
    if let Some(line) = unread {
        return Err(Failure::internal(format!("a test says what it tried in words that nobody reads: `{line}`")));
    }
    if count.failed > 0 {
        out(format!("{} failed; the data of `{file}` is left as it was", count.failed));
        return Ok(ExitCode::Finding);
    }
    // Tests end in any order.
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    let stamp = Stamp {
        command: "cargo xtask qualify engine".to_owned(),
        build: build_id::of_sources(workspace.root())?,
        // Each test counts its own from 0 on, as far as it is asked to go.
        seeds: Some("0..".to_owned()),
    };
    let mut rows = File::<Tried>::default();
    for (name, counts) in lines {
        let mut measured = rows.row(&name).map_or_else(Tried::default, |row| row.measured.clone());
        measured.0.push(counts);
        rows.put(Row { name, stamp: stamp.clone(), measured });
    }
    rows.write(workspace.root(), file)?;
    note("`cargo xtask report` renders the documents from it");
    Ok(ExitCode::AsExpected)
}

/// What stands in front of it in a test's line.
const TRIED: &str = "tried: ";

/// Reads a line of a test: what was tried, and the counts.
fn read(line: &str) -> Option<(String, Vec<(u64, String)>)> {
    // A test that runs alone has its name in front of what it prints.
    let (_, told) = line.split_once(TRIED)?;
    let (what, counts) = told.split_once(": ")?;
    let count = |part: &str| {
        let (count, of_what) = part.split_once(' ')?;
        Some((count.parse().ok()?, of_what.to_owned()))
    };
    let counts: Option<Vec<(u64, String)>> = counts.split(", ").map(count).collect();
    Some((what.to_owned(), counts?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_says_is_read() {
        let tried = read("test a::b ... tried: crashes: 1500 crashes, 320 while an engine was being opened");
        let counts = vec![(1_500, "crashes".to_owned()), (320, "while an engine was being opened".to_owned())];
        assert_eq!(tried, Some(("crashes".to_owned(), counts)));
        assert_eq!(read("test a::b ... ok"), None);
        assert_eq!(read("tried: crashes: many"), None);
    }
}
