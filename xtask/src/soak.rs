//! `cargo xtask soak`: rounds with real processes, in each of which something goes wrong while a shard moves.
//!
//! A seed decides what goes wrong, to whom, in which stage and for how long, whether the processes share a key, and what
//! the clients do; what the processes make of it is their own affair, so the same seed plays the same round, but not step
//! by step. A round whose trouble did not begin in the stage it was meant for is counted as such. What the clients saw is
//! judged by the oracles of the simulator. The folder of a round that found something is kept: logs, settings, data, and
//! the history, which `cargo xtask check` judges again.

pub mod clients;
pub mod judge;
pub mod round;
pub mod total;
pub mod trouble;

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
use total::Total;
use trouble::{Hit, Trouble};

/// Plays rounds, from `first` on.
pub fn run(workspace: &Workspace, rounds: u64, first: Seed, json: bool) -> Result<ExitCode, Failure> {
    let last = first.0.checked_add(rounds);
    let last = last.ok_or_else(|| Failure::refused("--rounds: there are not so many seeds from there on"))?;
    let say: fn(String) = if json { |line| note(line) } else { |line| out(line) };
    let total = rounds_of(workspace, first.0..last, say)?;
    out(if json { total.json() } else { total.text() });
    if let Some(seed) = total.first {
        note(format!("again: cargo xtask soak --rounds 1 --seed {seed}"));
    }
    Ok(total.exit())
}

/// Plays the rounds of these seeds, and says a line for each.
pub fn rounds_of(
    workspace: &Workspace,
    seeds: impl IntoIterator<Item = u64>,
    say: fn(String),
) -> Result<Total, Failure> {
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
        say(line(Seed(seed), &played, seconds));
        total.add(Seed(seed), &played);
        match played.findings.is_empty() {
            true => fs::remove_dir_all(&folder).map_err(|error| Failure::io("remove", folder.display(), &error))?,
            false => tell(workspace, &folder, &played, say)?,
        }
    }
    Ok(total)
}

fn line(seed: Seed, played: &Played, seconds: f64) -> String {
    let trouble = Trouble::of(seed);
    if let Some(why) = played.skipped {
        return format!("round {seed:>4}  skipped  {trouble}: {why}");
    }
    let verdict = match (played.findings.is_empty(), trouble.is_met(played.hit)) {
        (false, _) => red("failed "),
        (true, true) => green("ok     "),
        (true, false) => red("missed "),
    };
    let hit = match played.hit {
        Some(Hit { before, after }) if before == after => format!("begun in {before}"),
        Some(Hit { before, after }) => format!("begun between {before} and {after}"),
        None => "never begun".to_owned(),
    };
    let until = played.until.map_or_else(String::new, |stage| format!(", over in {stage}"));
    let key = if Trouble::has_key(seed) { ", under a key" } else { "" };
    let Played { acked, unknown, attempts, migrations, longest_gap_ns, .. } = played;
    format!(
        "round {seed:>4}  {verdict} {trouble} ({hit}{until}{key}): {} writes, {unknown} unknown, {}, {}, longest gap {} ms, \
         {seconds:.1} s",
        number(*acked),
        counted(*migrations, "migration"),
        counted((*attempts).into(), "attempt"),
        number(longest_gap_ns / 1_000_000),
    )
}

/// What was found, and how to look at it.
fn tell(workspace: &Workspace, folder: &Path, played: &Played, say: fn(String)) -> Result<(), Failure> {
    runs::keep(folder)?;
    for finding in &played.findings {
        say(format!("    {}", finding.replace('\n', "\n    ")));
    }
    let shown = quoted(&workspace.shown(folder).to_string());
    say(format!("    logs and settings: {shown}"));
    say(format!("    its history:       cargo xtask check {shown}/{} --model kv", round::HISTORY));
    Ok(())
}
