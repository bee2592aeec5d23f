//! The planted bugs: who finds each, how soon, and whether it is named right.

use std::collections::BTreeMap;
use std::path::Path;

use crate::data::{File, Row as Kept};
use crate::exit::Failure;
use crate::mutants::list::Mutant;
use crate::mutants::{DATA, Killed, Row, Sums, load};
use crate::print::counted;

use super::tables::{Table, number};

/// How much of a cause or a rule a cell shows, in characters.
const TEXT_MAX: usize = 140;

pub fn section(root: &Path) -> Result<String, Failure> {
    let rows = File::<Row>::read(root, DATA)?.rows;
    if rows.is_empty() {
        return Ok("*Not measured yet: `cargo xtask mutants --keep`.*\n".to_owned());
    }
    let planted = load(root)?.mutants;
    let mut text = format!("{}.\n\n{}", sentence(&rows), table(&rows, &planted));
    let missing = planted.iter().filter(|it| rows.iter().all(|row| row.measured.id != it.id));
    let missing: Vec<&str> = missing.map(|it| it.id.as_str()).collect();
    if !missing.is_empty() {
        text.push_str(&format!("\n**Not measured yet: {}.**\n", missing.join(", ")));
    }
    text.push_str(&format!("\n{}", origins(&rows)));
    Ok(text)
}

fn sentence(rows: &[Kept<Row>]) -> String {
    let sums = Sums::of(rows.iter().map(|row| &row.measured));
    let Sums { mutants, killed, untested, named_right, .. } = &sums;
    let kills = || rows.iter().filter_map(|row| Some((row.name.as_str(), row.measured.killed.as_ref()?)));
    let seeds = |seeds: Option<u64>| seeds.map_or("more than were allowed".to_owned(), number);
    let most = kills().filter_map(|(_, killed)| killed.median_seeds).max();
    let late: String = kills().filter(|(_, killed)| killed.median_seeds.is_none()).map(late).collect();
    let untested = match untested.as_slice() {
        [] => "none is untested".to_owned(),
        some => format!("**untested: {}**", some.join(", ")),
    };
    let equivalent = match mutants - killed - sums.untested.len() {
        0 => "none is argued away".to_owned(),
        some => format!("{some} are argued away as equivalent"),
    };
    format!(
        "{killed} of {mutants} are found, {equivalent}, {untested}. Seeds to the first kill: median {}, at most {}{late}. \
         Cause or rule have a word that was expected for {named_right} of {killed}",
        seeds(sums.median_seeds),
        seeds(most),
    )
}

/// A bug that most starts did not find among as many seeds as they had.
fn late((id, killed): (&str, &Killed)) -> String {
    let found = killed.seeds.iter().flatten().count();
    format!("; of {id}, only {found} of {} found it", counted(killed.seeds.len() as u64, "start"))
}

fn table(rows: &[Kept<Row>], planted: &[Mutant]) -> String {
    let header = [
        "bug",
        "what it does",
        "seen in",
        "found by",
        "oracle",
        "seeds",
        "cause named",
        "rule named",
        "named as expected",
    ];
    let mut table = Table::new(&header, |column| column == 5);
    for Row { id, does, seen_in, killed, equivalent, .. } in rows.iter().map(|row| &row.measured) {
        // As the list says it now: where a bug was seen is nothing that is measured.
        let seen_in = planted.iter().find(|it| it.id == *id).map_or(seen_in, |it| &it.seen_in);
        let found = match killed {
            Some(killed) => found(killed),
            None => {
                let why = equivalent.clone().unwrap_or_else(|| "**untested**".to_owned());
                [String::new(), String::new(), "-".to_owned(), why, String::new(), String::new()]
            }
        };
        table.row([id.clone(), does.clone(), seen_in.clone()].into_iter().chain(found));
    }
    table.text()
}

fn found(killed: &Killed) -> [String; 6] {
    [
        format!("`{}`", killed.by),
        killed.oracle.clone().unwrap_or_else(|| killed.verdict.to_string()),
        killed.median_seeds.map_or("-".to_owned(), number),
        cut(&killed.cause_named),
        killed.rule_named.as_deref().map_or_else(|| "-".to_owned(), cut),
        if killed.named_right { "yes" } else { "**no**" }.to_owned(),
    ]
}

/// By which command, with which build, which bugs were hunted.
fn origins(rows: &[Kept<Row>]) -> String {
    let mut origins: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
    for Kept { name, stamp, .. } in rows {
        let command = stamp.command.replace(&format!("--only {name} "), "--only M.. ");
        origins.entry((command, stamp.build.as_str())).or_default().push(name.as_str());
    }
    let mut table = Table::new(&["command", "build", "bugs"], |_| false);
    for ((command, build), names) in origins {
        table.row([format!("`{command}`"), build.to_owned(), names.join(" ")]);
    }
    table.text()
}

/// As much as a cell shows.
fn cut(text: &str) -> String {
    let shown: String = text.chars().take(TEXT_MAX).collect();
    if shown.len() == text.len() { shown } else { format!("{}…", shown.trim_end()) }
}
