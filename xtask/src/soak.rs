//! `cargo xtask soak`: rounds with real processes, in each of which something goes wrong while a shard moves.
//!
//! A seed decides what goes wrong, to whom, in which stage and for how long, and what the clients do; what the processes
//! make of it is their own affair, so the same seed plays the same round, but not step by step. What the clients saw is
//! judged by the oracles of the simulator. The folder of a round that found something is kept: logs, settings, data, and
//! the history, which `cargo xtask check` judges again.

pub mod clients;
pub mod judge;
pub mod round;
pub mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use miroir_sim::seed::Seed;

use crate::cluster;
use crate::exit::{ExitCode, Failure};
use crate::print::{counted, green, note, out, quoted, red};
use crate::report::tables::number;
use crate::runs;
use crate::signals::Signals;
use crate::workspace::Workspace;
use round::Played;
use trouble::Trouble;

/// What all rounds came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub played: u64,
    pub failed: u64,
    skipped: u64,
    /// How many of each kind of trouble.
    kinds: BTreeMap<&'static str, u64>,
    acked: u64,
    operations: u64,
    unknown: u64,
    missing: u64,
    not_linearizable: u64,
    longest_gap_ns: u64,
    /// The first seed that found something.
    first: Option<u64>,
}

/// Plays rounds, from `first` on.
pub fn run(workspace: &Workspace, rounds: u64, first: Seed) -> Result<ExitCode, Failure> {
    let last = first.0.checked_add(rounds);
    let last = last.ok_or_else(|| Failure::refused("--rounds: there are not so many seeds from there on"))?;
    let total = rounds_of(workspace, first.0..last)?;
    out(total.text());
    if let Some(seed) = total.first {
        out(format!("again: cargo xtask soak --rounds 1 --seed {seed}"));
    }
    Ok(match total {
        Total { failed: 1.., .. } => ExitCode::Finding,
        Total { played: 0, .. } => ExitCode::NothingRan,
        _ => ExitCode::AsExpected,
    })
}

/// Plays the rounds of these seeds, with a line for each.
pub fn rounds_of(workspace: &Workspace, seeds: impl IntoIterator<Item = u64>) -> Result<Total, Failure> {
    let program = cluster::build(workspace, "dev")?;
    let signals = Signals::install()?;
    let mut total = Total::default();
    for seed in seeds {
        if signals.is_interrupted() {
            note("interrupted");
            break;
        }
        let folder = runs::claim(&workspace.kept().join("soak"), &format!("round-{seed}"))?;
        let started = Instant::now();
        let played = round::play(&program, &folder, Seed(seed))?;
        let seconds = started.elapsed().as_secs_f64();
        out(line(seed, &played, seconds));
        total.add(seed, &played);
        match played.findings.is_empty() {
            true => fs::remove_dir_all(&folder).map_err(|error| Failure::io("remove", folder.display(), &error))?,
            false => tell(workspace, &folder, &played)?,
        }
    }
    Ok(total)
}

fn line(seed: u64, played: &Played, seconds: f64) -> String {
    let trouble = Trouble::of(Seed(seed));
    if let Some(why) = played.skipped {
        return format!("round {seed:>4}  skipped  {trouble}: {why}");
    }
    let verdict = if played.findings.is_empty() { green("ok     ") } else { red("failed ") };
    let Played { acked, unknown, attempts, longest_gap_ns, .. } = played;
    let hit = played.hit.map_or_else(|| "an unknown stage".to_owned(), |stage| stage.to_string());
    format!(
        "round {seed:>4}  {verdict} {trouble} (it was in {hit}): {} writes, {unknown} unknown, {}, longest gap {} ms, \
         {seconds:.1} s",
        number(*acked),
        counted((*attempts).into(), "attempt"),
        number(longest_gap_ns / 1_000_000),
    )
}

/// What was found, and how to look at it.
fn tell(workspace: &Workspace, folder: &Path, played: &Played) -> Result<(), Failure> {
    runs::keep(folder)?;
    for finding in &played.findings {
        out(format!("    {}", finding.replace('\n', "\n    ")));
    }
    let shown = quoted(&workspace.shown(folder).to_string());
    out(format!("    logs and settings: {shown}"));
    out(format!("    its history:       cargo xtask check {shown}/{} --model kv", round::HISTORY));
    Ok(())
}

impl Total {
    fn add(&mut self, seed: u64, played: &Played) {
        if played.skipped.is_some() {
            self.skipped += 1;
            return;
        }
        self.played += 1;
        *self.kinds.entry(Trouble::of(Seed(seed)).kind()).or_default() += 1;
        self.acked += played.acked;
        self.operations += played.operations;
        self.unknown += played.unknown;
        self.missing += played.missing;
        self.not_linearizable += u64::from(!played.is_linearizable);
        self.longest_gap_ns = self.longest_gap_ns.max(played.longest_gap_ns);
        if !played.findings.is_empty() {
            self.failed += 1;
            self.first.get_or_insert(seed);
        }
    }

    pub fn text(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!(
            "{} ({}){skipped}, {} failed: {} acknowledged writes, {} missing; {} operations, {} unknown; histories that are \
             not linearizable: {}; longest gap {} ms",
            counted(self.played, "round"),
            kinds.join(", "),
            self.failed,
            number(self.acked),
            number(self.missing),
            number(self.operations),
            number(self.unknown),
            self.not_linearizable,
            number(self.longest_gap_ns / 1_000_000),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_counts_what_failed_and_names_the_first() {
        let mut total = Total::default();
        let good = Played { acked: 1_000, operations: 1_500, is_linearizable: true, ..Played::default() };
        let bad = Played { missing: 1, findings: vec!["d001: missing".to_owned()], ..Played::default() };
        total.add(3, &good);
        total.add(4, &bad);
        total.add(5, &Played { skipped: Some("no mount"), ..Played::default() });
        assert_eq!((total.played, total.failed, total.first), (2, 1, Some(4)));
        let text = total.text();
        assert!(text.contains("1 skipped, 1 failed: 1,000 acknowledged writes, 1 missing; 1,500 operations"), "{text}");
        assert!(text.contains("not linearizable: 1;"), "{text}");
    }
}
