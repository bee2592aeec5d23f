//! Anti-entropy on and off, with the delta pass and without it.

use miroir_sim::ratio::Ratio;

use crate::data::Row;
use crate::report::rate::{self, percent};
use crate::report::tables::{Table, ms, number};
use crate::sweep::Tally;

use super::{not_yet, windows};

/// The cells, by whether anti-entropy is on and what becomes of the delta pass, and what the coordinator says to each.
const CELLS: [(&str, &str); 4] = [
    ("on/on", "allowed, the default"),
    ("off/on", "allowed, with a warning: no second defence"),
    ("on/skipped", "allowed, with a warning: windows open at Activate"),
    ("off/skipped", "refused: `UnsafeCutover`; measured with the gate overridden"),
];

/// Where a row stands: the four of one replica first.
pub fn place(name: &str) -> (String, usize) {
    let (cell, rest) = parts(name);
    (rest.to_owned(), CELLS.iter().position(|(known, _)| *known == cell).unwrap_or(CELLS.len()))
}

/// The cell of a row, and what its name says besides.
fn parts(name: &str) -> (&str, &str) {
    name.split_once(", ").unwrap_or((name, ""))
}

/// Passes of anti-entropy that ended while a migration of their shard was under way.
fn passes(measured: &Tally) -> u64 {
    ["DualWrite", "Drain", "DeltaPass", "Cleanup"]
        .map(|stage| measured.times(&format!("anti-entropy passed in {stage}")))
        .iter()
        .sum()
}

pub fn table(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify configurations");
    }
    let header = [
        "anti-entropy",
        "delta pass",
        "replication",
        "runs",
        "passes in migrations",
        "acked",
        "lost for good",
        "lost for a while",
        "loss",
        "95 % interval",
        "the coordinator says",
    ];
    let mut table = Table::new(&header, |column| (2..10).contains(&column));
    for Row { name, stamp, measured } in rows {
        let cell = parts(name).0;
        let (anti_entropy, delta) = cell.split_once('/').unwrap_or((cell, ""));
        let rate = rate::of(measured);
        let interval = match measured.lost.writes {
            0 => format!("below {}", percent(rate.high)),
            _ => format!("{} to {}", percent(rate.low), percent(rate.high)),
        };
        let permanent = measured.windows.permanent;
        let for_a_while = measured.lost.writes.saturating_sub(permanent);
        let numbers = [measured.seeds(), passes(measured), measured.acked, permanent, for_a_while];
        let said = CELLS.iter().find(|(known, _)| *known == cell).map_or("", |(_, said)| said);
        let names = [anti_entropy.to_owned(), delta.to_owned(), replication(&stamp.command)];
        let ends = [percent(rate.measured), interval, said.to_owned()];
        table.row(names.into_iter().chain(numbers.map(number)).chain(ends));
    }
    table.text()
}

/// What a row's command sets a key of the plan to.
fn set<'a>(command: &'a str, key: &str) -> Option<&'a str> {
    command.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The replication that a row's command sets.
fn replication(command: &str) -> String {
    set(command, "replication").unwrap_or("1 and 3").to_owned()
}

/// The loss of the links to joining nodes that a row's command sets.
fn loss(command: &str) -> String {
    let loss = set(command, "network.joiner_loss").and_then(|loss| loss.parse::<Ratio>().ok());
    loss.map_or("drawn".to_owned(), |loss| percent(loss.ppm() as f64 / 1e6))
}

/// What follows from the cells, with their numbers.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    rows.iter().map(|Row { name, stamp, measured }| sentence(name, &stamp.command, measured)).collect()
}

fn sentence(name: &str, command: &str, measured: &Tally) -> String {
    let here =
        format!("In the four configurations, at {} loss and replication {}", loss(command), replication(command));
    let (runs, acked) = (number(measured.seeds()), number(measured.acked));
    let (lost, permanent) = (measured.lost.writes, measured.windows.permanent);
    let (cell, rest) = parts(name);
    // Said once, of one replica; with three it is the same.
    let and = |advice: &'static str| if rest.is_empty() { advice } else { "" };
    match (cell, lost) {
        ("on/on", 0) if passes(measured) == 0 => format!(
            "Keep the delta pass. {here}, with it, none of {acked} acknowledged writes in {runs} runs was ever missing. \
             Anti-entropy was on and had nothing to compare: see replication 3."
        ),
        ("on/on", 0) => format!(
            "{here}, with the delta pass and {} passes of anti-entropy while migrations went on, none of {acked} acknowledged \
             writes in {runs} runs was ever missing.",
            number(passes(measured))
        ),
        ("off/on", 0) => format!(
            "{here}, the delta pass alone held as well: none of {acked} writes was missing.{}",
            and(" Anti-entropy is then the defence against what nobody thought of, and it is off.")
        ),
        ("on/skipped", 1..) if permanent == 0 => format!(
            "{}{here}, {} of {acked} writes could be missed for a while, the longest for {}, with passes of anti-entropy {}; \
             every one ended by itself.{}",
            and("Skipping the delta pass trades safety for time. "),
            number(lost),
            ms(measured.windows.max_ns),
            set(command, "anti_entropy.period_ms").map_or_else(windows::apart, |period| format!("{period} ms apart")),
            and(" Skip it only for data that may be read stale for your own period and the time of a pass."),
        ),
        ("off/skipped", _) if permanent > 0 => format!(
            "{here}, {} of {acked} acknowledged writes were lost for good with both off.{}",
            number(permanent),
            and(" That is why the coordinator refuses, and why no flag overrides it.")
        ),
        ("on/skipped" | "off/skipped", 0) => {
            format!("{here}, **{name}** lost nothing in {runs} runs: too few to say what the missing defence costs.")
        }
        _ => format!(
            "**{name} is not as promised**: {} of {acked} writes had a loss window, {} of them for good.",
            number(lost),
            number(permanent)
        ),
    }
}
