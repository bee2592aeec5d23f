//! The planted bugs: who finds each, how soon, and whether it is named right.

use std::path::Path;

use crate::data::{File, Row as Kept};
use crate::exit::Failure;
use crate::mutants::{DATA, Killed, Row, Sums, load};

use super::tables::{Table, number};

/// How much of a cause or a rule a cell shows, in characters.
const TEXT_MAX: usize = 140;

pub fn section(root: &Path) -> Result<String, Failure> {
    let rows = File::<Row>::read(root, DATA)?.rows;
    let Some(first) = rows.first() else { return Ok("*Not measured yet: `cargo xtask mutants --keep`.*\n".to_owned()) };
    let sums = Sums::of(rows.iter().map(|row| &row.measured));
    let mut text = format!("{}.\n\n{}", sentence(&sums), table(&rows));
    let builds: Vec<&str> = rows.iter().map(|row| row.stamp.build.as_str()).collect();
    let (same, command) = (builds.iter().all(|build| *build == builds[0]), &first.stamp.command);
    let builds = if same { builds[0].to_owned() } else { format!("{} and others", builds[0]) };
    let planted = load(root)?.mutants;
    let missing = planted.iter().filter(|it| rows.iter().all(|row| row.measured.id != it.id));
    let missing: Vec<&str> = missing.map(|it| it.id.as_str()).collect();
    if !missing.is_empty() {
        text.push_str(&format!("\n**Not measured yet: {}.**\n", missing.join(", ")));
    }
    text.push_str(&format!("\nEach row by a command like `{command}`, with build {builds}.\n"));
    Ok(text)
}

fn sentence(sums: &Sums) -> String {
    let Sums { mutants, killed, untested, named_right, .. } = sums;
    let seeds = |seeds: Option<u64>| seeds.map_or("more than were allowed".to_owned(), number);
    let untested = match untested.as_slice() {
        [] => "none is untested".to_owned(),
        some => format!("**untested: {}**", some.join(", ")),
    };
    let equivalent = match mutants - killed - sums.untested.len() {
        0 => "none is argued away".to_owned(),
        some => format!("{some} are argued away as equivalent"),
    };
    format!(
        "{killed} of {mutants} are found, {equivalent}, {untested}. Seeds to the first kill: median {}, at most \
         {}. Cause or rule have a word that was expected for {named_right} of {killed}",
        seeds(sums.median_seeds),
        seeds(sums.most_seeds),
    )
}

fn table(rows: &[Kept<Row>]) -> String {
    let header =
        ["bug", "what it does", "seen in", "found by", "oracle", "seeds", "cause named", "rule named", "as expected"];
    let mut table = Table::new(&header, |column| column == 5);
    for Row { id, does, seen_in, killed, equivalent, .. } in rows.iter().map(|row| &row.measured) {
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

/// As much as a cell shows.
fn cut(text: &str) -> String {
    let shown: String = text.chars().take(TEXT_MAX).collect();
    if shown.len() == text.len() { shown } else { format!("{}…", shown.trim_end()) }
}
