//! `docs/engine.md`: what the store's engine promises, and what was tried to break it.

use std::path::Path;

use crate::data::{File, Row};
use crate::exit::Failure;
use crate::qualify::Subject;
use crate::qualify::engine::Tried;

use super::tables::{Table, number};
use super::{Rendered, fill};

const PATH: &str = "docs/engine.md";

const TEMPLATE: &str = include_str!("engine.md");

/// Where nothing was measured.
const NOT_YET: &str = "Not measured yet.";

/// The row that is a table of its own.
const RECONCILE: &str = "reconcile";

pub fn render(root: &Path) -> Result<Vec<Rendered>, Failure> {
    let file = File::<Tried>::read(root, Subject::Engine.file())?;
    let reconcile = file.row(RECONCILE).map_or_else(|| NOT_YET.to_owned(), |row| lines(&row.measured));
    let values = [("tried", tried(&file.rows)), ("reconcile", reconcile), ("stamp", stamp(&file.rows))];
    Ok(vec![Rendered { path: PATH, text: fill(TEMPLATE, &values) }])
}

fn tried(rows: &[Row<Tried>]) -> String {
    if rows.is_empty() {
        return NOT_YET.to_owned();
    }
    let mut table = Table::new(&["tried", "and what became of it"], |_| false);
    for Row { name, measured, .. } in rows.iter().filter(|row| row.name != RECONCILE) {
        let counts = measured.0.iter().flatten().map(|(count, of_what)| format!("{} {of_what}", number(*count)));
        table.row([name.clone(), counts.collect::<Vec<_>>().join("; ")]);
    }
    table.text()
}

/// One line of the table for each that was told; they all count the same things.
fn lines(Tried(lines): &Tried) -> String {
    let Some(first) = lines.first() else { return String::new() };
    let header: Vec<&str> = first.iter().map(|(_, of_what)| of_what.as_str()).collect();
    let mut table = Table::new(&header, |_| true);
    for line in lines {
        table.row(line.iter().map(|(count, _)| number(*count)));
    }
    table.text()
}

/// The rows come from one run.
fn stamp(rows: &[Row<Tried>]) -> String {
    rows.first().map_or_else(
        || NOT_YET.to_owned(),
        |Row { stamp, .. }| {
            let seeds = stamp.seeds.as_deref().unwrap_or("none");
            let whose = "each test has seeds of its own, as many from there on as it tries";
            format!("`{}`, build `{}`, seeds `{seeds}`: {whose}.", stamp.command, stamp.build)
        },
    )
}
