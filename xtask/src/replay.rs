//! `cargo xtask replay`: a bundle again, from anywhere. It goes by the plan, which survives what gives a seed another meaning.
//!
//! The same build must do the same, to the last event; another build may not, and then it is said what differs: the build,
//! the trace, the verdict.

use std::path::{Path, PathBuf};

use crate::bundle::{self, Bundle};
use crate::cli::Replay;
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::print::{note, out};
use crate::record::Recorded;
use crate::runs;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

/// Replays a file as the command line says.
pub fn run(workspace: &Workspace, build: Build, replay: &Replay) -> Result<ExitCode, Failure> {
    if !replay.file.exists() {
        return Err(Failure::refused(format!("there is no file {}", replay.file.display())));
    }
    let worker = Worker::build(workspace, build)?;
    if replay.check_only {
        return check_only(&worker, &replay.file);
    }
    let path = if replay.file.is_dir() { replay.file.join(bundle::FILE) } else { replay.file.clone() };
    let bundle = Bundle::read(&path)?;
    let folder = runs::claim(&workspace.kept().join("runs"), &format!("{}-{}", bundle.scenario, bundle.seed))?;
    let overrides = bundle.overrides();
    let job = Job { plan: Some(&path), out: Some(&folder), ..Job::bare(&bundle.scenario, bundle.seed, &overrides) };
    let run = Recorded::of(&bundle.scenario, bundle.seed, &worker.record(&job, None)?);
    runs::keep(&folder)?;
    let run = run?;
    if folder.join("record.json").exists() {
        explain::picture(&folder)?;
    }
    let differs = differences(&bundle, &run);
    if replay.json {
        differs.iter().for_each(note);
        out(&run.line);
    } else {
        let shown = Job { out: None, ..job };
        worker.show(&shown)?;
        out(format!("kept in {}", workspace.shown(&folder)));
        differs.iter().for_each(out);
        if differs.is_empty() && !bundle.trace_hash.is_empty() {
            out("the same run as recorded, to the last event");
        }
    }
    Ok(run.record.verdict.exit_code())
}

/// What this run did otherwise than the recorded one, one line each.
fn differences(bundle: &Bundle, run: &Recorded) -> Vec<String> {
    let record = &run.record;
    let mut lines = Vec::new();
    if !bundle.build.is_empty() && bundle.build != record.build {
        lines.push(format!("another build: recorded by {}, replayed by {}", bundle.build, record.build));
    }
    if !bundle.plan_hash.is_empty() && bundle.plan_hash != record.plan_hash {
        lines.push("the plan was edited, or means something else to this build".to_owned());
    }
    if !bundle.trace_hash.is_empty() && bundle.trace_hash != record.trace_hash {
        lines.push(format!("another run: trace hash {}, recorded was {}", record.trace_hash, bundle.trace_hash));
    }
    if let Some(verdict) = bundle.verdict
        && (verdict != record.verdict || bundle.fingerprint != record.fingerprint)
    {
        let name = |fingerprint: &Option<String>| fingerprint.clone().unwrap_or_default();
        let then = format!("{verdict} {}", name(&bundle.fingerprint));
        let now = format!("{} {}", record.verdict, name(&record.fingerprint));
        lines.push(format!("another verdict: {}, recorded was {}", now.trim_end(), then.trim_end()));
    }
    lines
}

/// The oracles on what is stored: nothing runs.
fn check_only(worker: &Worker, file: &Path) -> Result<ExitCode, Failure> {
    let folder = if file.is_dir() { Some(file.to_path_buf()) } else { file.parent().map(Path::to_path_buf) };
    let folder = folder.filter(|folder| folder.join("history.jsonl").exists());
    let Some(folder): Option<PathBuf> = folder else {
        return Err(Failure::refused(format!(
            "there is no history.jsonl beside {}: only a kept run has one",
            file.display()
        )));
    };
    let argument = folder.to_string_lossy();
    worker.print(&["check", &argument])
}

#[cfg(test)]
mod tests {
    use miroir_sim::record::Record;
    use miroir_sim::verdict::Verdict;

    use super::*;
    use crate::bundle::tests::plan;

    #[test]
    fn what_differs_is_said_line_by_line() {
        let record = Record {
            build: "b".to_owned(),
            trace_hash: "t".to_owned(),
            plan_hash: "p".to_owned(),
            ..Record::new("a", miroir_sim::seed::Seed(7))
        };
        let run = Recorded { line: String::new(), record };
        let same = Bundle {
            scenario: "a".to_owned(),
            seed: run.record.seed,
            build: "b".to_owned(),
            plan_hash: "p".to_owned(),
            trace_hash: "t".to_owned(),
            verdict: Some(Verdict::Pass),
            fingerprint: None,
            cause: None,
            settings: Vec::new(),
            mutant: None,
            plan: plan(),
        };
        assert_eq!(differences(&same, &run), Vec::<String>::new());
        let other = Bundle {
            build: "c".to_owned(),
            trace_hash: "u".to_owned(),
            verdict: Some(Verdict::Violation),
            fingerprint: Some("f".to_owned()),
            ..same
        };
        let lines = differences(&other, &run);
        assert_eq!(lines[0], "another build: recorded by c, replayed by b");
        assert_eq!(lines[2], "another verdict: pass, recorded was violation f");
    }
}
