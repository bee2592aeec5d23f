//! Saved regressions: small plans of failures that were found, run before anything else.
//!
//! A plan of a real bug must pass. A plan of a planted one must pass without it and fail with it, which shows that the
//! oracles still see it. A plan that cannot be read any more is a failure too: it guards nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::cli::Overrides;
use crate::exit::Failure;
use crate::record::Recorded;
use crate::shrink::REGRESSIONS;
use crate::worker::{Job, Worker};

/// How many other seeds a plan of a planted bug gets.
const OTHER_SEEDS: u64 = 16;

/// One saved regression, run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regression {
    /// The file, from the root of the workspace.
    pub path: String,
    /// What is wrong; none if it holds.
    pub problem: Option<String>,
}

/// Runs all of them, in the order of their names.
///
/// `kept` is a folder in which a plan can be written down to be tried with another seed.
pub fn run_all(root: &Path, worker: &Worker, limit: Duration, kept: &Path) -> Result<Vec<Regression>, Failure> {
    files(root).into_iter().map(|path| run(root, worker, &path, limit, kept)).collect()
}

/// The saved regressions, from the root of the workspace, in the order of their names.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(REGRESSIONS)).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Path::new(REGRESSIONS).join(entry.file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

fn run(root: &Path, worker: &Worker, path: &Path, limit: Duration, kept: &Path) -> Result<Regression, Failure> {
    let shown = path.display().to_string();
    let bundle = match Bundle::read(&root.join(path)) {
        Ok(bundle) => bundle,
        Err(failure) => return Ok(Regression { path: shown, problem: Some(failure.line) }),
    };
    let file = root.join(path);
    let clean = verdict(worker, &bundle, &Overrides::default(), &file, limit)?;
    let mut problem = (clean.record.verdict != Verdict::Pass)
        .then(|| format!("{} where it should pass: {}", clean.record.verdict, clean.reason()));
    if let (None, Some(mutant)) = (&problem, &bundle.mutant)
        && !is_found(worker, &bundle, &file, limit, kept)?
    {
        problem =
            Some(format!("passes with the planted bug {mutant}, which it found when it was saved; shrink it again"));
    }
    Ok(Regression { path: shown, problem })
}

fn verdict(
    worker: &Worker,
    bundle: &Bundle,
    with: &Overrides,
    plan: &Path,
    limit: Duration,
) -> Result<Recorded, Failure> {
    let job = Job { plan: Some(plan), ..Job::bare(&bundle.scenario, bundle.seed, with) };
    Recorded::of(&bundle.scenario, bundle.seed, &worker.record(&job, Some(limit))?)
}

/// Whether the planted bug is found by the plan, or by the plan with one of a few other seeds: what is small hangs by a hair, and
/// another build may need other latencies and another order of tasks, which are all that a seed still decides.
fn is_found(worker: &Worker, bundle: &Bundle, file: &Path, limit: Duration, kept: &Path) -> Result<bool, Failure> {
    let fails = |plan: &Path| -> Result<bool, Failure> {
        Ok(verdict(worker, bundle, &bundle.overrides(), plan, limit)?.record.verdict != Verdict::Pass)
    };
    if fails(file)? {
        return Ok(true);
    }
    let other = kept.join(format!("regression.{}.toml", std::process::id()));
    let mut found = false;
    for n in 1..=OTHER_SEEDS {
        let mut plan = bundle.plan.clone();
        plan.seed = bundle.seed.0.wrapping_add(n).to_string();
        fs::write(&other, plan.to_toml()).map_err(|error| Failure::io("write", other.display(), &error))?;
        if fails(&other)? {
            found = true;
            break;
        }
    }
    let _ = fs::remove_file(&other);
    Ok(found)
}
