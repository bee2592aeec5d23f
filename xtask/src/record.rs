//! What the command line reads of a run's record: the line that a worker prints with `--json`.
//!
//! The whole line is kept as it came and passed on unchanged; this view takes only what a sweep adds up and compares.
//! For a worker that crashed, hung, or said nothing that can be read, a line is written in its place, so that no run is
//! missing from a result file.

use std::collections::BTreeMap;
use std::fmt;

use miroir_sim::seed::Seed;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::worker::{Ended, Output};

/// The version of the record that this command line reads and writes.
pub const RECORD_VERSION: u32 = 1;

/// How a run ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// A whole sweep never reached a mark that its scenario declares.
    Unreached,
    Stalled,
    Violation,
    /// The worker panicked, was killed, hung, or said nothing.
    Crashed,
    /// The same seed did two different things. Nothing else about it can be believed.
    Diverged,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Pass => "pass",
            Verdict::Unreached => "unreached",
            Verdict::Stalled => "stalled",
            Verdict::Violation => "violation",
            Verdict::Crashed => "crashed",
            Verdict::Diverged => "diverged",
        })
    }
}

/// Loss windows of one run, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    pub transient: u64,
    pub superseded: u64,
    pub permanent: u64,
}

/// Migrations of one run, by end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Migrations {
    pub done: u64,
    pub aborted: u64,
    pub refused: u64,
}

/// One run, as far as the command line looks at it. Fields that it does not know are left alone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Record {
    pub v: u32,
    pub scenario: String,
    pub seed: Seed,
    pub verdict: Verdict,
    /// Equal for runs that failed for the same reason.
    #[serde(default)]
    pub fingerprint: Option<String>,
    #[serde(default)]
    pub trace_hash: Option<String>,
    #[serde(default)]
    pub acked: u64,
    #[serde(default)]
    pub rejected: u64,
    #[serde(default)]
    pub unknown: u64,
    #[serde(default)]
    pub windows: Windows,
    #[serde(default)]
    pub refusals: Vec<serde_json::Value>,
    #[serde(default)]
    pub migrations: Migrations,
    /// Mark -> how often this run reached it.
    #[serde(default)]
    pub marks: BTreeMap<String, u64>,
    #[serde(default)]
    pub simulated_ns: u64,
    #[serde(default)]
    pub wall_ms: u64,
}

impl Record {
    /// Reads the one line of a worker. The error says what is wrong with it, for a bug report.
    pub fn read(line: &str) -> Result<Record, String> {
        let record: Record = serde_json::from_str(line).map_err(|error| format!("no record: {error}"))?;
        if record.v != RECORD_VERSION {
            return Err(format!("a record of version {}, where {RECORD_VERSION} is read", record.v));
        }
        Ok(record)
    }

    /// Writes acked, in percent of all writes issued; `None` when there were none.
    pub fn acked_percent(&self) -> Option<u64> {
        let issued = self.acked + self.rejected + self.unknown;
        (issued > 0).then(|| self.acked * 100 / issued)
    }

    /// Whether two runs of one seed did the same.
    pub fn agrees_with(&self, other: &Record) -> bool {
        self.trace_hash == other.trace_hash && self.verdict == other.verdict
    }
}

/// A record, and the line in which it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub record: Record,
    pub line: String,
}

impl Recorded {
    /// What a worker said of the run of `scenario` with `seed`, or what its end says. An error is no result at all: the
    /// worker refused its input, or is not able to run anything.
    pub fn of(scenario: &str, seed: Seed, output: &Output) -> Result<Recorded, Failure> {
        let wall_ms = u64::try_from(output.wall.as_millis()).unwrap_or(u64::MAX);
        let crashed = |fingerprint: &str, detail: &str| Recorded::crashed(scenario, seed, fingerprint, detail, wall_ms);
        let exit = match &output.ended {
            Ended::Exit(exit @ (Exit::Expected | Exit::Finding)) => exit,
            Ended::Exit(exit) => return Err(Failure { exit: *exit, line: output.stderr.trim_end().to_owned() }),
            ended => return Ok(crashed(&ended.to_string(), &output.stderr)),
        };
        let Some(line) = output.only_line() else {
            return Ok(crashed("did not print exactly one record", &output.stderr));
        };
        Ok(match Record::read(line) {
            Err(error) => crashed(&format!("printed {error}"), line),
            Ok(record) if (record.verdict == Verdict::Pass) != (*exit == Exit::Expected) => {
                crashed(&format!("ended with exit code {} and the verdict {}", exit.code(), record.verdict), line)
            }
            Ok(record) => Recorded { record, line: line.to_owned() },
        })
    }

    /// The record of a run whose worker could not write its own. `fingerprint` says how it ended, equal for equal
    /// causes; `detail` is what is left of its output.
    pub fn crashed(scenario: &str, seed: Seed, fingerprint: &str, detail: &str, wall_ms: u64) -> Recorded {
        let value = json!({
            "v": RECORD_VERSION, "scenario": scenario, "seed": seed, "verdict": Verdict::Crashed,
            "fingerprint": fingerprint, "trace_hash": null, "detail": detail, "wall_ms": wall_ms,
        });
        let line = value.to_string();
        let record = Record::read(&line).expect("a record that was just written can be read");
        Recorded { record, line }
    }

    /// The same run, found to have done two different things: the one case in which a worker is overruled.
    pub fn diverged(mut self, fingerprint: String) -> Recorded {
        // What a worker printed was read before, so it is JSON.
        if let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&self.line) {
            value["verdict"] = json!(Verdict::Diverged);
            value["fingerprint"] = json!(fingerprint);
            self.line = value.to_string();
        }
        self.record.verdict = Verdict::Diverged;
        self.record.fingerprint = Some(fingerprint);
        self
    }

    /// Why this run counts as a finding.
    pub fn reason(&self) -> &str {
        self.record.fingerprint.as_deref().unwrap_or("no reason given")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reads_the_record_of_the_contract() {
        let line = r#"{"v":1,"scenario":"cutover/with_anti_entropy","seed":42,"verdict":"pass","fingerprint":null,"trace_hash":"9f",
            "plan_hash":"1","build":"x","acked":2100,"rejected":0,"unknown":12,"windows":{"transient":1,"superseded":2,"permanent":3,
            "total_ns":0,"max_ns":0},"refusals":[],"loss_ppm":0,"unavailable_ns":{"writes":0,"reads":0},
            "migrations":{"done":1,"aborted":0,"refused":0},"faults":{"drop":31},"marks":{"delta pass shipped":1},
            "simulated_ns":9000000000,"wall_ms":80}"#;
        let record = Record::read(line).unwrap();
        assert_eq!((record.seed, record.verdict, record.windows.permanent), (Seed(42), Verdict::Pass, 3));
        assert_eq!(record.acked_percent(), Some(99));
        assert_eq!(record.marks["delta pass shipped"], 1);
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let error = Record::read(r#"{"v":2,"scenario":"a","seed":1,"verdict":"pass"}"#).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
        assert!(Record::read("thread panicked").is_err());
    }

    fn output(ended: Ended, stdout: &str) -> Output {
        Output { ended, stdout: stdout.to_owned(), stderr: "last words\n".to_owned(), wall: Duration::from_millis(7) }
    }

    #[test]
    fn a_crash_has_a_record_too() {
        let killed = output(Ended::Abnormally("was killed by signal 9".to_owned()), "");
        let run = Recorded::of("cutover/swarm", Seed(u64::MAX), &killed).unwrap();
        assert_eq!((run.record.verdict, run.record.seed), (Verdict::Crashed, Seed(u64::MAX)));
        assert_eq!(run.reason(), "was killed by signal 9");
        assert!(run.line.contains("last words"), "{}", run.line);
        let diverged = Record::read(&run.diverged("two hashes".to_owned()).line).unwrap();
        assert_eq!(diverged.verdict, Verdict::Diverged);
        assert_eq!(diverged.fingerprint.as_deref(), Some("two hashes"));
    }

    #[test]
    fn a_worker_that_says_nothing_or_contradicts_itself_has_crashed() {
        let pass = r#"{"v":1,"scenario":"a","seed":1,"verdict":"pass"}"#;
        for (exit, stdout) in [(Exit::Expected, ""), (Exit::Expected, "hello"), (Exit::Finding, pass)] {
            let run = Recorded::of("a", Seed(1), &output(Ended::Exit(exit), stdout)).unwrap();
            assert_eq!(run.record.verdict, Verdict::Crashed, "{stdout}");
        }
        let run = Recorded::of("a", Seed(1), &output(Ended::Exit(Exit::Expected), pass)).unwrap();
        assert_eq!(run.record.verdict, Verdict::Pass);
    }

    #[test]
    fn a_refusal_is_no_result() {
        let failure = Recorded::of("a", Seed(1), &output(Ended::Exit(Exit::Refused), "")).unwrap_err();
        assert_eq!(failure, Failure::refused("last words"));
    }
}
