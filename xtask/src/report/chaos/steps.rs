//! The coordinator dies before and after every step of a migration: not a sample, but all of them.

use crate::data::Row;
use crate::report::tables::{Table, number};
use crate::sweep::Tally;

use super::not_yet;

/// The mark of a seed that lies behind the last step.
const PASSED: &str = "the last step of a migration was passed";

/// The marks that say which step it was.
const BEFORE: &str = "the coordinator died before ";

fn passed(tally: &Tally) -> u64 {
    tally.marks().find(|(mark, _)| *mark == PASSED).map_or(0, |(_, reached)| reached.seeds)
}

/// Without a seed behind the last step, nobody knows whether there are more.
fn is_whole(tally: &Tally) -> bool {
    passed(tally) > 0
}

pub fn section(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify steps");
    }
    let header = ["row", "seeds", "died before", "in the migration", "after it", "no crash", "as expected", "windows"];
    let mut table = Table::new(&header, |column| column != 0 && column != 2);
    for Row { name, measured, .. } in rows {
        let before: Vec<_> =
            measured.marks().filter_map(|(mark, it)| Some((mark.strip_prefix(BEFORE)?, it.seeds))).collect();
        let deaths: u64 = before.iter().map(|(_, seeds)| seeds).sum();
        let before: Vec<String> = before.iter().map(|(step, seeds)| format!("{step}: {}", number(*seeds))).collect();
        let windows = &measured.windows;
        let (seeds, steps) = (measured.seeds(), measured.seeds() - passed(measured));
        let expected = seeds - measured.failing().len() as u64;
        let open = windows.transient + windows.superseded + windows.permanent;
        let counts = [steps, deaths.saturating_sub(steps), seeds.saturating_sub(deaths), expected, open];
        table.row([name.clone(), number(seeds), before.join(", ")].into_iter().chain(counts.map(number)));
    }
    table.text()
}

pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let sentence = |Row { measured, .. }: &Row<Tally>| {
        let (steps, failed) = (measured.seeds() - passed(measured), measured.failing().len() as u64);
        match failed {
            0 if is_whole(measured) => format!(
                "The coordinator may die at any of the {} steps of a migration: each was tried, one decision was made each \
                 time, and nothing was lost.",
                number(steps)
            ),
            0 => {
                format!("The coordinator may die at any of {} steps; **the last one was not reached**.", number(steps))
            }
            _ => format!("**The coordinator may not die at {} of {} steps.**", number(failed), number(steps)),
        }
    };
    rows.iter().map(sentence).collect()
}
