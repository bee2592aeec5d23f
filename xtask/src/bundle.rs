//! One file from which a run can be had again, anywhere: seed, plan with all overrides applied, build, and what came of it.
//!
//! Every run folder has one (`repro.toml`), and so has every saved regression. A plan by itself (`plan.toml`) is a bundle
//! that expects nothing. A plan survives refactorings that give a seed another meaning; so replaying goes by the plan.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use miroir_scenarios::plan::Plan;
use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::cli::Overrides;
use crate::exit::{ExitCode, Failure};
use crate::runs::LATEST;
use crate::worker::{Ended, Job, Worker};
use crate::workspace::Workspace;

/// The name of the bundle in the folder of a run.
pub const FILE: &str = "repro.toml";

/// What a file says about a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub scenario: String,
    pub seed: Seed,
    /// Which build ran; empty for a plan by itself.
    #[serde(default)]
    pub build: String,
    #[serde(default)]
    pub plan_hash: String,
    #[serde(default)]
    pub trace_hash: String,
    #[serde(default)]
    pub verdict: Option<Verdict>,
    #[serde(default)]
    pub fingerprint: Option<String>,
    #[serde(default)]
    pub cause: Option<String>,
    /// What was typed; the plan has it applied.
    #[serde(default)]
    pub settings: Vec<String>,
    #[serde(default)]
    pub mutant: Option<String>,
    pub plan: Plan,
}

impl Bundle {
    /// Reads a bundle, or a plan by itself. The error says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Bundle, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?;
        Bundle::parse(&text).map_err(|problem| Failure::refused(format!("{}: {problem}", path.display())))
    }

    fn parse(text: &str) -> Result<Bundle, String> {
        let one_line = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", error.message().replace('\n', " "))
        };
        let table: toml::Table = text.parse().map_err(one_line)?;
        let bundle = if table.contains_key("plan") {
            toml::from_str(text).map_err(one_line)?
        } else {
            let plan: Plan = toml::from_str(text).map_err(one_line)?;
            Bundle::of_plan(plan)?
        };
        bundle.plan.check()?;
        Ok(bundle)
    }

    fn of_plan(plan: Plan) -> Result<Bundle, String> {
        Ok(Bundle {
            scenario: plan.scenario.clone(),
            seed: plan.seed.parse().map_err(|error| format!("seed: {error}"))?,
            build: String::new(),
            plan_hash: String::new(),
            trace_hash: String::new(),
            verdict: None,
            fingerprint: None,
            cause: None,
            settings: Vec::new(),
            mutant: None,
            plan,
        })
    }

    /// What is typed besides the plan to run it again.
    pub fn overrides(&self) -> Overrides {
        Overrides { mutant: self.mutant.clone(), ..Overrides::default() }
    }
}

/// A bundle, and where it was found.
#[derive(Debug)]
pub struct Found {
    pub bundle: Bundle,
    pub path: PathBuf,
}

/// Finds a run by seed, run id, folder, bundle file, or `latest`.
///
/// A seed means the newest kept run with it; if there is none, the default scenario runs with it now.
pub fn find(workspace: &Workspace, worker: &Worker, run: &str) -> Result<Found, Failure> {
    let kept = workspace.kept().join("runs");
    let typed = Path::new(run);
    let candidates = [typed.to_path_buf(), workspace.root().join(typed), kept.join(typed)];
    let existing = if run == LATEST { latest(&kept) } else { candidates.into_iter().find(|path| path.exists()) };
    let path = match (existing, Seed::from_str(run)) {
        (Some(path), _) => path,
        (None, Ok(seed)) => match newest_with(&kept, seed) {
            Some(folder) => folder,
            None => run_now(worker, &kept, seed)?,
        },
        (None, Err(_)) => {
            return Err(Failure::refused(format!(
                "there is no run `{run}`; name a seed, a run id from {}, a folder, a bundle file, or `{LATEST}`",
                workspace.shown(&kept)
            )));
        }
    };
    let path = if path.is_dir() { path.join(FILE) } else { path };
    Ok(Found { bundle: Bundle::read(&path)?, path })
}

/// The last kept run; a link, or where there are none a file with its name.
fn latest(kept: &Path) -> Option<PathBuf> {
    let link = kept.join(LATEST);
    let name = fs::read_to_string(&link).ok();
    name.map(|name| kept.join(name)).or(Some(link)).filter(|path| path.exists())
}

fn newest_with(kept: &Path, seed: Seed) -> Option<PathBuf> {
    let folders = fs::read_dir(kept).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let with_seed = folders.filter(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        stem.rsplit('-').next() == Some(&seed.to_string())
    });
    with_seed.max_by_key(|folder| fs::metadata(folder.join(FILE)).and_then(|it| it.modified()).ok())
}

fn run_now(worker: &Worker, kept: &Path, seed: Seed) -> Result<PathBuf, Failure> {
    let folder = crate::runs::claim(kept, &format!("{}-{seed}", catalog::DEFAULT))?;
    let overrides = Overrides::default();
    let job = Job { out: Some(&folder), ..Job::bare(catalog::DEFAULT, seed, &overrides) };
    let output = worker.record(&job, None)?;
    crate::runs::keep(&folder)?;
    match output.ended {
        Ended::Exit(ExitCode::AsExpected | ExitCode::Finding) => Ok(folder),
        Ended::Exit(exit) => Err(Failure::of_worker(exit, &output.stderr)),
        ended => Err(Failure::internal(format!("seed {seed} left no files: the worker {ended}"))),
    }
}

/// The scenario and the seed that a bundle or a plan is of, whatever else is wrong with the file.
pub fn head(path: &Path) -> Option<(String, Seed)> {
    let table: toml::Table = fs::read_to_string(path).ok()?.parse().ok()?;
    let plan = table.get("plan").and_then(toml::Value::as_table).unwrap_or(&table);
    let text = |name: &str| plan.get(name).and_then(toml::Value::as_str);
    Some((text("scenario")?.to_owned(), text("seed")?.parse().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use miroir_scenarios::plan::{Profile, Shape};

    use super::*;

    /// The plan of some seed.
    pub(crate) fn plan() -> Plan {
        Plan::draw("cutover/swarm", Seed(7), Profile::Usual, &Shape::default())
    }

    #[test]
    fn a_plan_and_a_bundle_say_what_they_are_of() {
        let path = std::env::temp_dir().join(format!("miroir-head-{}.toml", std::process::id()));
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            head(&path)
        };
        let plan = plan();
        let wanted = Some((plan.scenario.clone(), plan.seed.parse().unwrap()));
        assert_eq!(of(&plan.to_toml()), wanted);
        assert_eq!(of(&toml::to_string(&Bundle::of_plan(plan).unwrap()).unwrap()), wanted);
        assert_eq!(of("scenario = 7"), None);
        assert_eq!(head(Path::new("/nowhere.toml")), None);
    }

    #[test]
    fn a_bundle_survives_its_file_and_a_plan_is_one() {
        let mut bundle = Bundle::of_plan(plan()).unwrap();
        assert_eq!(Bundle::parse(&plan().to_toml()).unwrap(), bundle);
        bundle.mutant = Some("M05".to_owned());
        bundle.verdict = Some(Verdict::Violation);
        assert_eq!(Bundle::parse(&toml::to_string(&bundle).unwrap()).unwrap(), bundle);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_one_line() {
        for (text, expected) in [
            ("seed = ", "line 1: "),
            ("scenario = 'x'\nseed = '7'\n", "missing field"),
            (&plan().to_toml().replace("clients = 8", "clients = 0"), "workload.clients"),
        ] {
            let problem = Bundle::parse(text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains('\n'), "{problem}");
        }
    }
}
