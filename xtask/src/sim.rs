//! `cargo xtask sim`: one seed, run, reported, and kept.
//!
//! The seed is the first and the last thing printed, so that it can be found at either end of a scrolled-away terminal.
//! With `--json` those lines go to stderr, and stdout carries the record alone.

use std::fs;
use std::path::Path;

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use crate::bundle;
use crate::catalog;
use crate::cli::Sim;
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::print::{note, out, pass_on_stderr, quoted};
use crate::record::Recorded;
use crate::runs;
use crate::seeds;
use crate::twice;
use crate::worker::{Build, Ended, Job, Worker};
use crate::workspace::Workspace;

/// Runs one seed as the command line says.
pub fn run(workspace: &Workspace, build: Build, sim: &Sim) -> Result<ExitCode, Failure> {
    if sim.overrides.wants_help() {
        return Worker::build(workspace, build)?.print(&["set-help"]);
    }
    sim.overrides.check()?;
    // A plan says which scenario and which seed it is of. One that cannot be read the worker refuses, with the reason.
    let of_plan = sim.plan.as_deref().and_then(bundle::head);
    let seed = match (&sim.seed, &of_plan) {
        (None, Some((_, seed))) => *seed,
        (typed, _) => seeds::choose(typed.as_deref())?,
    };
    let say = |line: String| if sim.json { note(line) } else { out(line) };
    say(format!("seed {seed}"));

    let worker = Worker::build(workspace, build)?;
    let planned = of_plan.as_ref().map_or(catalog::DEFAULT, |(scenario, _)| scenario);
    let scenario = sim.scenario.as_deref().unwrap_or(planned);
    let folder = runs::claim(&workspace.kept().join("runs"), &format!("{scenario}-{seed}"))?;
    let job = Job {
        trace: sim.trace,
        until: sim.until.as_deref(),
        plan: sim.plan.as_deref(),
        out: Some(&folder),
        ..Job::bare(scenario, seed, &sim.overrides)
    };
    let result = if sim.json { recorded(&worker, &job, sim.twice) } else { shown(&worker, &job, sim.twice) };
    // Whatever happened, what the run wrote is kept, and a folder in which it wrote nothing goes.
    if runs::keep(&folder)? && result.is_ok() {
        say(format!("kept in {}", workspace.shown(&folder)));
        draw(workspace, sim, &folder, &say)?;
    }
    if let Ok(ExitCode::Finding) = result {
        say(next(workspace, sim, scenario, seed, build, &folder));
    }
    if result.is_ok() {
        say(format!("seed {seed}"));
    }
    result
}

/// Draws the run, if it left something to draw.
fn draw(workspace: &Workspace, sim: &Sim, folder: &Path, say: &impl Fn(String)) -> Result<(), Failure> {
    if !folder.join("record.json").exists() {
        return Ok(());
    }
    let page = explain::picture(folder)?;
    say(format!("picture {}", workspace.shown(&page)));
    match &sim.html {
        None => Ok(()),
        Some(file) => fs::copy(&page, file).map(drop).map_err(|error| Failure::io("write", file.display(), &error)),
    }
}

/// What to type after a failure.
fn next(workspace: &Workspace, sim: &Sim, scenario: &str, seed: Seed, build: Build, folder: &Path) -> String {
    let dev = if build == Build::Dev { " --dev" } else { "" };
    let mut again = format!("cargo xtask sim {} --seed {seed}", quoted(scenario));
    if let Some(plan) = &sim.plan {
        again.push_str(&format!(" --plan {}", quoted(&plan.display().to_string())));
    }
    for argument in sim.overrides.to_arguments() {
        again.push_str(&format!(" {}", quoted(&argument)));
    }
    let mut text = format!("\nNext:\n  {again}{dev}    again\n  {again} --trace short{dev}    with what happened");
    if folder.join(bundle::FILE).exists() {
        let folder = quoted(&workspace.shown(folder).to_string());
        text.push_str(&format!("\n  cargo xtask shrink {folder}{dev}    as a plan that reads in a minute"));
        text.push_str(&format!("\n  cargo xtask explain {folder}{dev}    how it came about"));
    }
    text
}

/// The report for a person comes straight from the worker; `--twice` adds what the comparison found.
fn shown(worker: &Worker, job: &Job, twice: bool) -> Result<ExitCode, Failure> {
    let exit = match worker.show(job)? {
        Ended::Exit(exit @ (ExitCode::AsExpected | ExitCode::Finding)) => exit,
        Ended::Exit(exit) => return Err(Failure::already_said(exit)),
        ended => {
            out(format!("verdict crashed: the worker {ended}"));
            ExitCode::Finding
        }
    };
    if !twice {
        return Ok(exit);
    }
    let twice = compared(worker, job)?;
    out(&twice.text);
    if twice.run.record.verdict == Verdict::Diverged {
        out("verdict diverged: the same seed did two different things");
        return Ok(ExitCode::Finding);
    }
    Ok(exit)
}

/// The record for a script.
fn recorded(worker: &Worker, job: &Job, twice: bool) -> Result<ExitCode, Failure> {
    let run = if twice {
        let twice = twice::run(worker, job, job.out.unwrap_or(Path::new(".")))?;
        note(&twice.text);
        twice.run
    } else {
        let output = worker.record(job, None)?;
        let run = Recorded::of(job.scenario, job.seed, &output)?;
        pass_on_stderr(&output.stderr);
        run
    };
    out(&run.line);
    Ok(run.record.verdict.exit_code())
}

/// The run is already kept: the two that are compared leave only their traces behind.
fn compared(worker: &Worker, job: &Job) -> Result<twice::Twice, Failure> {
    let folder = job.out.unwrap_or(Path::new("."));
    twice::run(worker, &Job { out: None, trace: None, ..job.clone() }, folder)
}
