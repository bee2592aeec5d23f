//! `cargo xtask shrink`: a smaller plan that fails in the same way, small enough to be read in a minute.
//!
//! ```text
//! RUN -> its plan, run once with the whole trace -> the same with chance written down: operations and lost frames by name
//!     -> leave out, lower, calm, as long as the fingerprint stays -> scenarios/regressions/NAME.toml
//! ```
//! What is drawn by chance while a run goes on (who loses which frame, when a client's next operation comes) changes as
//! soon as anything is left out, so the first step writes it down in the plan: after that, leaving one thing out moves
//! little else. What little it moves may be enough to make a candidate pass that would fail a moment later, so small plans
//! are tried with a few other seeds too, which changes nothing but scheduling and latencies.
//!
//! Everything is decided by running workers; which candidates are tried is the business of [`miroir_sim::shrink`] and of
//! [`steps`]. The best plan so far is always on disk.

mod edit;
mod steps;
mod trial;
mod write_down;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use miroir_scenarios::plan::Plan;
use miroir_sim::verdict::Verdict;

use crate::bundle::{self, Bundle};
use crate::cli::{Overrides, Shrink};
use crate::exit::{ExitCode, Failure};
use crate::print::{note, out, quoted};
use crate::record::Recorded;
use crate::runs;
use crate::signals::Signals;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

use trial::Trials;
pub use trial::run_kept;

/// Where saved regressions stand, from the root of the workspace.
pub const REGRESSIONS: &str = "scenarios/regressions";

/// Shrinks a run as the command line says.
pub fn run(workspace: &Workspace, build: Build, options: &Shrink) -> Result<ExitCode, Failure> {
    let worker = Worker::build(workspace, build)?;
    let started = Instant::now();
    let found = bundle::find(workspace, &worker, &options.run)?;
    let folder =
        runs::claim(&workspace.kept().join("shrink"), &format!("{}-{}", found.bundle.scenario, found.bundle.seed))?;
    let worker = worker.pinned_in(&folder)?;
    let result = shrink(workspace, &worker, &found.bundle, options, &folder, started);
    worker.unpin();
    runs::keep(&folder)?;
    result
}

fn shrink(
    workspace: &Workspace,
    worker: &Worker,
    bundle: &Bundle,
    options: &Shrink,
    folder: &Path,
    started: Instant,
) -> Result<ExitCode, Failure> {
    let overrides = bundle.overrides();
    let run = |plan: &Plan, folder: &Path| trial::run_kept(worker, &bundle.scenario, &overrides, plan, folder);
    let original = folder.join("original");
    let first = run(&bundle.plan, &original)?;
    let Some(fingerprint) = first.record.fingerprint.clone() else {
        let line =
            format!("{} seed {} passes with this build: there is nothing to shrink", bundle.scenario, bundle.seed);
        return Err(Failure::refused(line));
    };
    out(format!("shrinking {} seed {}: {} {fingerprint}", bundle.scenario, bundle.seed, first.record.verdict));
    out(format!("  {}", first.reason()));
    if bundle.fingerprint.as_ref().is_some_and(|recorded| *recorded != fingerprint) {
        note(format!(
            "it failed in another way when it was recorded: {}",
            bundle.cause.as_deref().unwrap_or("unknown")
        ));
    }

    let deadline = started + Duration::from_secs(options.seconds);
    let jobs = options.jobs.map_or_else(crate::worker::cores, usize::from);
    let signals = Signals::install()?;
    let mut trials = Trials::new(worker, bundle, &fingerprint, folder, jobs, deadline, &first, signals);
    let plan = steps::all(&mut trials, &original, &first, &bundle.plan)?;
    trials.finish();

    // The end counts, not the way: the smallest plan once more, alone, in two processes.
    let last = run(&plan, &folder.join("smallest"))?;
    let again = run(&plan, &folder.join("smallest"))?;
    if last.record.fingerprint.as_ref() != Some(&fingerprint) || !last.agrees_with(&again) {
        let line = format!("the smallest plan does not fail reliably: {}, then {}", last.said(), again.said());
        return Err(Failure::internal(line));
    }
    let target = target(workspace, options, bundle, &fingerprint);
    let smallest = Bundle {
        seed: last.record.seed,
        build: last.record.build.clone(),
        plan_hash: last.record.plan_hash.clone(),
        trace_hash: last.record.trace_hash.clone(),
        verdict: Some(last.record.verdict),
        fingerprint: Some(fingerprint.clone()),
        cause: last.record.cause.clone(),
        settings: Vec::new(),
        plan: plan.clone(),
        ..bundle.clone()
    };
    save(&target, &smallest, bundle)?;

    out(format!("\n{}", comparison(&bundle.plan, &plan)));
    out(format!("{} runs in {:.0} s; {}", trials.runs(), started.elapsed().as_secs_f64(), trials.ended()));
    out(format!("  {}", last.reason()));
    if let Some(mutant) = &bundle.mutant {
        let none = Overrides::default();
        let without = trial::run_kept(worker, &bundle.scenario, &none, &plan, &folder.join("without-mutant"))?;
        if without.record.verdict != Verdict::Pass {
            note(format!("without {mutant} the plan does not pass either: {}", without.reason()));
        }
    }
    let shown = quoted(&workspace.shown(&target).to_string());
    out(format!(
        "\nsaved as {shown}; every sweep runs it first\n\nNext:\n  cargo xtask explain {shown}\n  cargo xtask replay {shown}"
    ));
    Ok(ExitCode::AsExpected)
}

/// What was typed, else a name that says what fails.
fn target(workspace: &Workspace, options: &Shrink, bundle: &Bundle, fingerprint: &str) -> PathBuf {
    options.out.clone().unwrap_or_else(|| {
        let mutant = bundle.mutant.as_ref().map(|mutant| format!("{}-", mutant.to_lowercase())).unwrap_or_default();
        let name = format!("{mutant}{}-{fingerprint}.toml", bundle.scenario.replace('/', "-"));
        workspace.root().join(REGRESSIONS).join(name)
    })
}

/// Writes the bundle with a head for people.
fn save(target: &Path, smallest: &Bundle, original: &Bundle) -> Result<(), Failure> {
    let mut text = format!("# {}\n", smallest.cause.as_deref().unwrap_or("a failure without words"));
    let from = format!("{} seed {}", original.scenario, original.seed);
    match &smallest.mutant {
        Some(mutant) => text.push_str(&format!(
            "# Shrunk from {from}. With the planted bug {mutant} this must fail, without it must pass.\n\n"
        )),
        None => text.push_str(&format!("# Shrunk from {from}. It failed like this; it must pass.\n\n")),
    }
    text.push_str(&toml::to_string(smallest).map_err(|error| Failure::internal(format!("a plan as TOML: {error}")))?);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent.display(), &error))?;
    }
    std::fs::write(target, text).map_err(|error| Failure::io("write", target.display(), &error))
}

/// Before and after, line by line.
fn comparison(before: &Plan, after: &Plan) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "before", "after"]);
    for (size, then, now) in edit::sizes(before).into_iter().zip(edit::sizes(after)).map(|(a, b)| (a.0, a.1, b.1)) {
        table.add_row([size.to_owned(), then.to_string(), now.to_string()]);
    }
    table
}

/// A run for its record, in a process of its own.
fn record(worker: &Worker, job: &Job, limit: Option<Duration>) -> Result<Recorded, Failure> {
    Recorded::of(job.scenario, job.seed, &worker.record(job, limit)?)
}
