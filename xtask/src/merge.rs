//! `cargo xtask merge`: one report out of the slices of a sweep that ran on many machines.
//!
//! A slice that is missing looks like one that found nothing, so completeness is checked first: every slice, every seed of
//! every scenario, one build, one request. Equal results of one seed collapse; unequal ones are a divergence. The merged
//! report is what one machine would have printed, but for wall time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use miroir_sim::record::Record;
use miroir_sim::seed::Seed;

use crate::cli::Merge;
use crate::exit::{ExitCode, Failure};
use crate::partition::Partition;
use crate::record::Recorded;
use crate::runs;
use crate::seeds::SeedRange;
use crate::sweep::manifest::{self, Manifest};
use crate::sweep::results::{self, Results};
use crate::sweep::{self, Asked, Outcome};
use crate::worker::Build;
use crate::workspace::Workspace;

/// A folder with the results of one slice.
struct Slice {
    folder: PathBuf,
    manifest: Manifest,
}

/// Merges as the command line says.
pub fn run(workspace: &Workspace, build: Build, merge: &Merge) -> Result<ExitCode, Failure> {
    let slices = find(&merge.folders)?;
    let first = &slices[0].manifest;
    let folder = match &merge.out {
        Some(folder) => fs::create_dir_all(folder)
            .map(|()| folder.clone())
            .map_err(|error| Failure::io("create", folder.display(), &error))?,
        None => runs::claim(&workspace.kept().join("sweeps"), "merged")?,
    };
    let asked = Asked {
        entries: first.scenarios.clone(),
        partition: Partition::WHOLE,
        overrides: first.overrides.clone(),
        build,
        folder: folder.clone(),
        shown: workspace.shown(&folder).to_string(),
    };
    let mut outcome = Outcome::new(asked, slices.iter().map(|slice| slice.manifest.jobs).sum());
    let seeds = SeedRange::from_str(&first.seeds)
        .map_err(|_| Failure::refused(format!("a sweep of the seeds `{}` has no end and no slices", first.seeds)))?;
    add_slices(&slices, &seeds, &folder, &mut outcome)?;

    let mut manifest = Manifest {
        partition: Partition::WHOLE,
        cut_short: outcome.cut_short.clone(),
        broken_alarm: outcome.broken_alarm.clone(),
        regressions: outcome.regressions.clone(),
        compared: outcome.tallies.iter().map(|tally| (tally.id().to_owned(), tally.compared)).collect(),
        groups: outcome.groups.by_frequency().into_iter().cloned().collect(),
        findings: outcome.findings(),
        jobs: outcome.jobs,
        ended_unix_s: Manifest::now(),
        ..first.clone()
    };
    manifest.wall_ms = u64::try_from(outcome.wall.as_millis()).unwrap_or(u64::MAX);
    outcome.last = manifest.last_like(&workspace.kept().join("sweeps"), &folder);
    sweep::conclude(&outcome, &manifest, &folder, merge.json);
    if merge.out.is_none() {
        runs::keep(&folder)?;
    }
    Ok(outcome.exit())
}

/// Every sweep in the named folders or right below them. What does not belong together is refused.
fn find(folders: &[PathBuf]) -> Result<Vec<Slice>, Failure> {
    let mut slices = Vec::new();
    for folder in folders {
        let mut found = Vec::new();
        if folder.join(manifest::FILE).exists() {
            found.push(folder.clone());
        } else if let Ok(entries) = fs::read_dir(folder) {
            let below = entries.filter_map(Result::ok).map(|entry| entry.path());
            found.extend(below.filter(|path| !path.is_symlink() && path.join(manifest::FILE).exists()));
            found.sort();
        }
        if found.is_empty() {
            return Err(Failure::refused(format!("{} is not the folder of a sweep, and holds none", folder.display())));
        }
        for folder in found {
            let manifest = Manifest::read(&folder)?;
            slices.push(Slice { folder, manifest });
        }
    }
    let first = &slices[0];
    for slice in &slices[1..] {
        let (one, other) = (first.folder.display(), slice.folder.display());
        if slice.manifest.build != first.manifest.build {
            let (a, b) = (&first.manifest.build, &slice.manifest.build);
            return Err(Failure::refused(format!("{one} was swept by build {a}, {other} by build {b}")));
        }
        if !slice.manifest.asked_the_same(&first.manifest) {
            return Err(Failure::refused(format!("{one} and {other} are slices of different sweeps")));
        }
    }
    Ok(slices)
}

/// Adds everything up, and says what is missing.
fn add_slices(slices: &[Slice], seeds: &SeedRange, folder: &Path, outcome: &mut Outcome) -> Result<(), Failure> {
    let of = slices[0].manifest.partition.of;
    for slice in 1..=of {
        if !slices.iter().any(|it| it.manifest.partition.slice == slice) {
            outcome.problems.push(format!("{} is missing", Partition { slice, of }));
        }
    }
    outcome.broken_alarm = slices.iter().find_map(|slice| slice.manifest.broken_alarm.clone());
    outcome.wall = Duration::from_millis(slices.iter().map(|slice| slice.manifest.wall_ms).max().unwrap_or_default());

    let unequal = unequal(slices)?;
    let mut seen: BTreeSet<(usize, Seed)> = BTreeSet::new();
    let mut results = Results::in_folder(folder);
    for slice in slices {
        for regression in &slice.manifest.regressions {
            // The worse of two opinions.
            match outcome.regressions.iter_mut().find(|it| it.path == regression.path) {
                None => outcome.regressions.push(regression.clone()),
                Some(known) if known.problem.is_none() => known.problem.clone_from(&regression.problem),
                Some(_) => {}
            }
        }
        read(slice, |run| {
            let place = outcome.tallies.iter().position(|tally| tally.id() == run.record.scenario);
            let Some(place) = place.filter(|_| seeds.0.contains(&run.record.seed.0)) else {
                let (id, seed) = (&run.record.scenario, run.record.seed);
                outcome
                    .problems
                    .push(format!("{} holds {id} seed {seed}, which was not asked for", slice.folder.display()));
                return;
            };
            if seen.insert((place, run.record.seed)) {
                let run = match unequal.get(&(run.record.scenario.clone(), run.record.seed)) {
                    None => run,
                    Some(other) => {
                        let cause = format!("{} in one slice, {other} in another", run.said());
                        run.diverged(cause)
                    }
                };
                outcome.add(place, &run, false);
                results.append(&run.line);
            }
        })?;
        for tally in &mut outcome.tallies {
            tally.compared += slice.manifest.compared.get(tally.id()).copied().unwrap_or_default();
        }
        if let Some(why) = &slice.manifest.cut_short {
            outcome.problems.push(format!(
                "{} of {} stopped early ({why})",
                slice.manifest.partition,
                slice.folder.display()
            ));
        }
    }
    let expected = seeds.len().saturating_mul(outcome.tallies.len() as u64);
    if (seen.len() as u64) < expected {
        outcome.problems.push(format!("{} of {expected} runs have no result", expected - seen.len() as u64));
    }
    if let Some((problem, _)) = results.lost() {
        return Err(Failure::internal(problem.to_owned()));
    }
    Ok(())
}

/// The seeds that two slices ran and that did not do the same there, by scenario, and what the later slice says of them.
fn unequal(slices: &[Slice]) -> Result<BTreeMap<(String, Seed), String>, Failure> {
    let mut said: BTreeMap<(String, Seed), String> = BTreeMap::new();
    let mut unequal = BTreeMap::new();
    for slice in slices {
        read(slice, |run| {
            let (key, now) = ((run.record.scenario.clone(), run.record.seed), run.said());
            if said.get(&key).is_some_and(|before| *before != now) {
                unequal.insert(key, now);
            } else {
                said.insert(key, now);
            }
        })?;
    }
    Ok(unequal)
}

/// Reads the results of a slice. Half a line at the end, as a machine leaves that was switched off, is a missing result.
fn read(slice: &Slice, mut each: impl FnMut(Recorded)) -> Result<(), Failure> {
    let path = slice.folder.join(results::FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        // A slice without a seed writes none; one that lost it is noticed by the count.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("read", path.display(), &error)),
    };
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| Failure::io("read", path.display(), &error))?;
        if let Ok(record) = Record::from_json(&line) {
            each(Recorded { record, line });
        }
    }
    Ok(())
}
