//! From a red sweep to a small plan, as a person does it: a sweep that finds a planted bug, and the command that it names.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::exit::Failure;
use crate::runs;
use crate::workspace::Workspace;

use super::Count;

/// A bug that one seed in a few meets: the delta pass reads one replica of three.
const SWEEP: [&str; 10] =
    ["sweep", "cutover/swarm", "--seeds", "0..40", "--mutant", "M05", "--set", "network.loss=2/100", "--max-fail", "1"];

/// What a person can read: so many faults and operations at most.
const FAULTS: usize = 5;
const OPERATIONS: u64 = 20;

/// Sweeps, shrinks what the sweep found by the command that it prints, and looks at the plan that is left.
pub fn run(workspace: &Workspace) -> Result<Count, Failure> {
    let folder = runs::claim(&workspace.kept().join("shrunk"), "M05")?;
    let mut count = Count::default();
    count.check(small(workspace, &folder)?);
    runs::keep(&folder)?;
    Ok(count)
}

fn small(workspace: &Workspace, folder: &Path) -> Result<Result<(), String>, Failure> {
    let swept = folder.join("sweep");
    let sweep: Vec<&str> = SWEEP.into_iter().chain(["--json", "--out", swept.to_str().unwrap_or_default()]).collect();
    let said = typed(workspace, &sweep)?;
    let summary: Value = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let commands = summary["summary"]["failing"][0]["next"].as_array().cloned().unwrap_or_default();
    let shrink = commands.iter().filter_map(Value::as_str).find_map(|it| it.strip_prefix("cargo xtask shrink "));
    let Some(run) = shrink else { return Ok(Err(format!("`{}` names no run to shrink", SWEEP.join(" ")))) };
    let plan = folder.join("plan.toml");
    typed(workspace, &["shrink", run, "--out", plan.to_str().unwrap_or_default()])?;
    let Ok(text) = fs::read_to_string(&plan) else { return Ok(Err(format!("`shrink {run}` wrote no plan"))) };
    Ok(is_small(&text).map_err(|why| format!("{}: {why}", workspace.shown(&plan))))
}

fn is_small(text: &str) -> Result<(), String> {
    let bundle: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    let plan = bundle.get("plan").ok_or("has no plan")?;
    let faults = plan.get("sim").and_then(|sim| sim.get("faults")).and_then(toml::Value::as_array).map_or(0, Vec::len);
    let operations = plan.get("workload").and_then(|load| load.get("operations")).and_then(toml::Value::as_integer);
    let operations = operations.and_then(|count| u64::try_from(count).ok()).ok_or("says nothing of operations")?;
    match faults <= FAULTS && operations <= OPERATIONS {
        true => Ok(()),
        false => Err(format!(
            "{faults} faults and {operations} operations are left, where at most {FAULTS} and {OPERATIONS} should be"
        )),
    }
}

/// What `cargo xtask` prints for these arguments. How it ends is told by what it leaves.
fn typed(workspace: &Workspace, arguments: &[&str]) -> Result<String, Failure> {
    // By way of cargo: this very program may have been built anew since it began.
    let mut command = workspace.cargo("xtask");
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| Failure::io("start", "cargo", &error))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_nobody_reads_is_refused() {
        let plan = |faults: usize, operations: u64| {
            format!("[plan.workload]\noperations = {operations}\n{}", "[[plan.sim.faults]]\n".repeat(faults))
        };
        assert_eq!(is_small(&plan(5, 20)), Ok(()));
        for (faults, operations) in [(6, 20), (5, 21)] {
            assert!(is_small(&plan(faults, operations)).is_err());
        }
        assert!(is_small("").is_err() && is_small("[plan]").is_err());
    }
}
