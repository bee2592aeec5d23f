//! The coordinator dies before and after every step of a migration: not a sample, but all of them.

use crate::data::Row;
use crate::report::tables::{Table, number};
use crate::sweep::Tally;

use super::not_yet;

/// The marks of seeds that lie behind the last step of a course.
const PASSED: [&str; 4] = [
    "the last step of a migration was passed",
    "the last step of a migration without a delta pass was passed",
    "the last step of a second attempt was passed",
    "the last step of a readmission was passed",
];

/// The marks that say which step it was.
const BEFORE: &str = "the coordinator died before ";

fn passed(tally: &Tally, course: &str) -> u64 {
    tally.marks().find(|(mark, _)| *mark == course).map_or(0, |(_, reached)| reached.seeds)
}

/// What it died before, and in how many seeds.
fn deaths(tally: &Tally) -> impl Iterator<Item = (&str, u64)> {
    tally.marks().filter_map(|(mark, it)| Some((mark.strip_prefix(BEFORE)?, it.seeds)))
}

fn steps(tally: &Tally) -> u64 {
    deaths(tally).map(|(_, seeds)| seeds).sum()
}

/// Without a seed behind the last step of each course, nobody knows whether there are more.
fn is_whole(tally: &Tally) -> bool {
    PASSED.iter().all(|course| passed(tally, course) > 0)
}

pub fn section(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify steps");
    }
    let header = ["row", "seeds", "died before", "steps", "no crash", "as expected", "windows"];
    let mut table = Table::new(&header, |column| column != 0 && column != 2);
    for Row { name, measured, .. } in rows {
        let before: Vec<String> = deaths(measured).map(|(step, seeds)| format!("{step}: {}", number(seeds))).collect();
        let windows = &measured.windows;
        let (seeds, steps) = (measured.seeds(), steps(measured));
        let expected = seeds - measured.failing().len() as u64;
        let open = windows.transient + windows.superseded + windows.permanent;
        let counts = [steps, seeds.saturating_sub(steps), expected, open];
        table.row([name.clone(), number(seeds), before.join(", ")].into_iter().chain(counts.map(number)));
    }
    table.text()
}

pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let sentence = |Row { measured, .. }: &Row<Tally>| {
        let (steps, failed) = (steps(measured), measured.failing().len() as u64);
        match failed {
            0 if is_whole(measured) => format!(
                "The coordinator may die at any of the {} steps of a migration with its delta pass, of one without, of one \
                 that is aborted and tried again, and of a readmission (`{}`): each was tried, one decision was made each \
                 time, and nothing was lost.",
                number(steps),
                measured.id(),
            ),
            0 => {
                format!(
                    "The coordinator may die at any of {} steps; **the last ones were not reached**.",
                    number(steps)
                )
            }
            _ => format!("**The coordinator may not die at {} of {} steps.**", number(failed), number(steps)),
        }
    };
    rows.iter().map(sentence).collect()
}
