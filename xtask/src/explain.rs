//! `cargo xtask explain`: from a failing run to its cause, in simulated time, on one screen.
//!
//! ```text
//! RUN -> run again, everything kept -> what was lost, who missed it and why, which rule was broken -> a passing sibling
//! ```
//! Nothing is guessed from the name of a planted bug: the story is what the ledger and the frames say, and a rule is named only
//! where the lines show that it was broken. The sibling is the same plan with one thing less that passes; the first event in which
//! the two runs differ is where that did its work.

mod rules;
mod sibling;
mod story;
mod words;

use std::path::{Path, PathBuf};

use miroir_scenarios::ledger::State;
use miroir_sim::time::{MICROS, Nanos, in_seconds, parse_instant};

use crate::bundle::{self, Bundle};
use crate::cli::Explain;
use crate::evidence::Evidence;
use crate::exit::{ExitCode, Failure};
use crate::page;
use crate::print::{note, out, quoted};
use crate::runs;
use crate::shrink::run_kept;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

pub use story::Story;
pub use words::of_planned;

/// Explains a run as the command line says.
pub fn run(workspace: &Workspace, build: Build, options: &Explain) -> Result<ExitCode, Failure> {
    let at = match &options.at {
        // Printed times are cut off after microseconds: what has one of them has happened.
        Some(text) => {
            let at = parse_instant(text).map_err(|problem| Failure::refused(format!("--at: {problem}")))?;
            Some(if at % MICROS == 0 { at + MICROS - 1 } else { at })
        }
        None => None,
    };
    let worker = Worker::build(workspace, build)?;
    let found = bundle::find(workspace, &worker, &options.run)?;
    let bundle = &found.bundle;
    let folder =
        runs::claim(&workspace.kept().join("runs"), &format!("{}-{}-explained", bundle.scenario, bundle.seed))?;
    let evidence = again(&worker, bundle, &folder);
    runs::keep(&folder)?;
    let evidence = evidence?;
    if let Some(at) = at {
        out(state_at(&evidence, at, options.doc.as_deref()));
        return Ok(ExitCode::AsExpected);
    }
    let Some(mut story) = Story::of(&evidence, options.doc.as_deref())? else {
        let (scenario, seed) = (&bundle.scenario, bundle.seed);
        out(format!("{scenario} seed {seed} passes, without a loss window: there is nothing to explain"));
        return Ok(ExitCode::AsExpected);
    };
    story.sibling = sibling::nearest(&worker, bundle, &evidence, story.doc.as_deref(), &folder)?;
    out(story.text());
    let page = page::write(&evidence, Some(&story), &folder)?;
    out(format!("\npicture  {}", quoted(&workspace.shown(&page).to_string())));
    Ok(ExitCode::AsExpected)
}

/// Runs a bundle again, with everything kept in `folder`.
fn again(worker: &Worker, bundle: &Bundle, folder: &Path) -> Result<Evidence, Failure> {
    let run = run_kept(worker, &bundle.scenario, &bundle.overrides(), &bundle.plan, folder)?;
    if !folder.join("record.json").exists() {
        return Err(Failure::refused(format!("the run left nothing to explain: {}", run.reason())));
    }
    if !bundle.trace_hash.is_empty() && bundle.trace_hash != run.record.trace_hash {
        note(format!("this build ({}) does not do what was recorded by {}", run.record.build, bundle.build));
    }
    Evidence::read(folder)
}

/// The explanation of a bundle and its picture, in `folder`.
pub fn kept(worker: &Worker, bundle: &Bundle, folder: &Path) -> Result<(String, PathBuf), Failure> {
    let evidence = again(worker, bundle, folder)?;
    let Some(mut story) = Story::of(&evidence, None)? else {
        return Err(Failure::refused(format!("{} passes with this build", evidence.record.scenario)));
    };
    story.sibling = sibling::nearest(worker, bundle, &evidence, story.doc.as_deref(), folder)?;
    Ok((story.text(), page::write(&evidence, Some(&story), folder)?))
}

/// The rule that a run with everything kept in `folder` shows broken; none if no check from outside sees one.
pub fn rule(worker: &Worker, job: &Job<'_>, folder: &Path) -> Result<Option<String>, Failure> {
    worker.record(&Job { out: Some(folder), ..job.clone() }, None)?;
    if !folder.join("record.json").exists() {
        return Ok(None);
    }
    let story = Story::of(&Evidence::read(folder)?, None)?;
    Ok(story.map(|story| story.rule).filter(|rule| rule != rules::NONE))
}

/// The cluster at one instant.
fn state_at(evidence: &Evidence, at: Nanos, doc: Option<&str>) -> String {
    let mut text = format!("{} seed {} at {}\n", evidence.bundle.scenario, evidence.bundle.seed, in_seconds(at));
    let so_far = evidence.events.iter().take_while(|event| event.at <= at);
    let mut down: Vec<String> = Vec::new();
    for event in so_far {
        match event.event.as_str() {
            _ if event.is_end_of_work() => {}
            "crash" => down.push(format!("{} down", event.process())),
            "pause" => down.push(format!("{} paused", event.process())),
            "start" | "resume" => down.retain(|it| it.split(' ').next() != Some(event.process())),
            _ => {}
        }
    }
    if !down.is_empty() {
        text.push_str(&format!("{:<12} {}\n", "processes", down.join(", ")));
    }
    text.push_str(&State::at(&evidence.ledger, at).text(doc));
    let open = evidence.windows.iter().filter(|it| it.opened_at <= at && it.closed_at.is_none_or(|closed| at < closed));
    for window in open {
        text.push_str(&format!("{:<12} {}\n", "window open", window.text));
    }
    text.trim_end().to_owned()
}

/// Writes the picture of a kept run beside its files, with its explanation if it has one to tell.
pub fn picture(folder: &Path) -> Result<PathBuf, Failure> {
    let evidence = Evidence::read(folder)?;
    let story = Story::of(&evidence, None)?;
    page::write(&evidence, story.as_ref(), folder)
}
