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

/// One saved regression, run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regression {
    /// The file, from the root of the workspace.
    pub path: String,
    /// What is wrong; none if it holds.
    pub problem: Option<String>,
}

/// Runs all of them, in the order of their names.
pub fn run_all(root: &Path, worker: &Worker, limit: Duration) -> Result<Vec<Regression>, Failure> {
    files(root).into_iter().map(|path| run(root, worker, &path, limit)).collect()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(REGRESSIONS)).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Path::new(REGRESSIONS).join(entry.file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

fn run(root: &Path, worker: &Worker, path: &Path, limit: Duration) -> Result<Regression, Failure> {
    let shown = path.display().to_string();
    let bundle = match Bundle::read(&root.join(path)) {
        Ok(bundle) => bundle,
        Err(failure) => return Ok(Regression { path: shown, problem: Some(failure.line) }),
    };
    let verdict = |overrides: &Overrides| -> Result<Recorded, Failure> {
        let file = root.join(path);
        let job = Job { plan: Some(&file), ..Job::bare(&bundle.scenario, bundle.seed, overrides) };
        Recorded::of(&bundle.scenario, bundle.seed, &worker.record(&job, Some(limit))?)
    };
    let clean = verdict(&Overrides::default())?;
    let mut problem = (clean.record.verdict != Verdict::Pass)
        .then(|| format!("{} where it should pass: {}", clean.record.verdict, clean.reason()));
    if let (None, Some(mutant)) = (&problem, &bundle.mutant) {
        let planted = verdict(&bundle.overrides())?;
        if planted.record.verdict == Verdict::Pass {
            problem = Some(format!("passes with the planted bug {mutant}, which it found when it was saved"));
        }
    }
    Ok(Regression { path: shown, problem })
}
