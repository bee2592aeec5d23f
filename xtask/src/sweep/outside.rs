//! What a sweep tells others than the person who typed it: JUnit for every CI, step summary and annotations for GitHub.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use miroir_sim::verdict::Verdict;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::exit::Failure;
use crate::print::{counted, note};

use super::outcome::Outcome;
use super::report;
use super::tally::Tally;

/// The name of the JUnit file in the folder of a sweep.
pub const JUNIT: &str = "junit.xml";

/// Writes one suite per scenario: a case for its seeds together, one per kind of failure, one per declared mark; and a
/// suite for the sweep itself.
pub fn write_junit(outcome: &Outcome, folder: &Path) -> Result<(), Failure> {
    let path = folder.join(JUNIT);
    let text = junit(outcome).to_string().map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
    fs::write(&path, text).map_err(|error| Failure::io("write", path.display(), &error))
}

fn junit(outcome: &Outcome) -> Report {
    let mut report = Report::new("miroir sweep");
    report.set_time(outcome.wall);
    let mut itself = TestSuite::new("sweep");
    itself.add_test_case(case("canary", outcome.broken_alarm.as_deref()));
    for regression in &outcome.regressions {
        itself.add_test_case(case(&regression.path, regression.problem.as_deref()));
    }
    for problem in &outcome.problems {
        itself.add_test_case(case("complete", Some(problem)));
    }
    report.add_test_suite(itself);
    for tally in &outcome.tallies {
        report.add_test_suite(suite(outcome, tally));
    }
    report
}

fn suite(outcome: &Outcome, tally: &Tally) -> TestSuite {
    let mut suite = TestSuite::new(tally.id());
    let passed = format!("{} of {} passed", tally.count(Verdict::Pass), counted(tally.seeds(), "seed"));
    suite.add_test_case(case(&passed, None));
    for group in outcome.groups.by_frequency().into_iter().filter(|group| group.scenario == tally.id()) {
        let name = format!("{} {}", group.verdict, group.fingerprint);
        let why = format!("{}: seed {}: {}", counted(group.runs, "run"), group.exemplar, group.cause);
        let mut failed = case(&name, Some(&why));
        failed.set_system_out(report::next(outcome, group).join("\n"));
        suite.add_test_case(failed);
    }
    for (mark, _) in tally.marks() {
        let unreached = outcome.unreached().contains(&(tally.id(), mark));
        suite.add_test_case(case(&format!("reached: {mark}"), unreached.then_some("no seed reached it")));
    }
    for pause in tally.pauses() {
        suite.add_test_case(case("no pause", Some(&pause)));
    }
    suite
}

fn case(name: &str, problem: Option<&str>) -> TestCase {
    let status = match problem {
        None => TestCaseStatus::success(),
        Some(problem) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(problem);
            status
        }
    };
    TestCase::new(name, status)
}

/// Adds to the step's summary and annotates it, if this runs as a step of a GitHub workflow.
pub fn tell_github(outcome: &Outcome) -> Result<(), Failure> {
    if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) {
        let path = Path::new(&path);
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(markdown(outcome).as_bytes()))
            .map_err(|error| Failure::io("write", path.display(), &error))?;
    }
    if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
        // On stderr, where the runner reads them too, because stdout may be for a script.
        annotations(outcome).iter().for_each(note);
    }
    Ok(())
}

fn markdown(outcome: &Outcome) -> String {
    let mut text = "### Sweep\n\n| scenario | seeds | passed | failing |\n|---|---:|---:|---:|\n".to_owned();
    for tally in &outcome.tallies {
        let (seeds, passed) = (tally.seeds(), tally.count(Verdict::Pass));
        let _ = writeln!(text, "| {} | {seeds} | {passed} | {} |", tally.id(), seeds - passed);
    }
    for group in outcome.groups.by_frequency() {
        let (verdict, runs) = (group.verdict, counted(group.runs, "run"));
        let _ =
            writeln!(text, "\n**{verdict} {} of {}**, {runs}: {}\n", group.fingerprint, group.scenario, group.cause);
        let _ = writeln!(text, "```\n{}\n```", report::next(outcome, group).join("\n"));
    }
    for line in others(outcome) {
        let _ = writeln!(text, "\n- {line}");
    }
    let _ = writeln!(text, "\n{} in {:.0} s", counted(outcome.seeds(), "seed"), outcome.wall.as_secs_f64());
    text
}

/// What is wrong beyond single seeds, one line each.
fn others(outcome: &Outcome) -> Vec<String> {
    let alarm = outcome.broken_alarm.iter().map(|why| format!("the alarm is broken: {why}"));
    let regressed = outcome.regressed().map(|(path, problem)| format!("regression {path}: {problem}"));
    let unreached = outcome.unreached().into_iter().map(|(id, mark)| format!("{id} never reached `{mark}`"));
    let pauses = outcome.pauses().into_iter().map(|(id, pause)| format!("{id}: {pause}"));
    outcome.problems.iter().cloned().chain(alarm).chain(regressed).chain(unreached).chain(pauses).collect()
}

fn annotations(outcome: &Outcome) -> Vec<String> {
    let groups = outcome.groups.by_frequency();
    let failures = groups.iter().map(|group| {
        let title = format!("{} of {}", group.verdict, group.scenario);
        let body = format!("{}\n{}", group.cause, report::next(outcome, group).join("\n"));
        format!("::error title={}::{}", escaped(&title).replace(',', "%2C").replace(':', "%3A"), escaped(&body))
    });
    failures.chain(others(outcome).iter().map(|line| format!("::error title=sweep::{}", escaped(line)))).collect()
}

/// What a workflow command takes as data.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use miroir_sim::record::Record;
    use miroir_sim::seed::Seed;

    use super::*;
    use crate::cli::Overrides;
    use crate::partition::Partition;
    use crate::record::Recorded;
    use crate::sweep::Asked;
    use crate::worker::Build;

    fn outcome() -> Outcome {
        let entry = serde_json::from_str(r#"{"id":"a/b","marks":["m"]}"#).unwrap();
        let asked = Asked {
            entries: vec![entry],
            partition: Partition::WHOLE,
            overrides: Overrides { mutant: Some("M05".to_owned()), ..Overrides::default() },
            build: Build::Sim,
            folder: "/does/not/exist".into(),
            shown: "target/x".to_owned(),
        };
        let mut outcome = Outcome::new(asked, 1);
        outcome.broken_alarm = None;
        let record = Record {
            verdict: Verdict::Violation,
            fingerprint: Some("0123".to_owned()),
            cause: Some("100 % lost:\nall <of> it".to_owned()),
            ..Record::new("a/b", Seed(7))
        };
        outcome.add(0, &Recorded { line: record.to_json(), record }, true);
        outcome
    }

    #[test]
    fn every_reader_finds_the_failure_and_the_command() {
        let outcome = outcome();
        let junit = junit(&outcome).to_string().unwrap();
        assert!(junit.contains(r#"<testsuite name="a/b" tests="3""#), "{junit}");
        assert!(junit.contains("violation 0123") && junit.contains("all &lt;of&gt; it"), "{junit}");
        assert!(junit.contains("cargo xtask sim a/b --seed 7 --mutant M05"), "{junit}");
        assert!(markdown(&outcome).contains("| a/b | 1 | 0 | 1 |"));
        let [failure, unreached] = annotations(&outcome).try_into().unwrap();
        assert!(failure.starts_with("::error title=violation of a/b::100 %25 lost:%0Aall"), "{failure}");
        assert!(unreached.ends_with("a/b never reached `m`"));
    }
}
