//! What a worker says of a run with `--json`: its record ([`miroir_sim::record`]), and the line in which it came.
//!
//! The line is passed on and kept as it came. For a worker that crashed, hung, or said nothing that can be read, a line is
//! written in its place, so that no run is missing from a result file.

use miroir_sim::record::Record;
use miroir_sim::seed::Seed;
use miroir_sim::verdict::{Verdict, fingerprint};

use crate::exit::{ExitCode, Failure};
use crate::worker::{Ended, Output};

/// All divergences are of one kind: how they differ varies from run to run.
const DIVERGED: &str = "two runs of one seed differ";

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
            Ended::Exit(exit @ (ExitCode::AsExpected | ExitCode::Finding)) => exit,
            Ended::Exit(exit) => return Err(Failure::of_worker(*exit, &output.stderr)),
            ended => return Ok(crashed(&ended.to_string(), &output.stderr)),
        };
        let Some(line) = output.only_line() else {
            return Ok(crashed("did not print exactly one record", &output.stderr));
        };
        Ok(match Record::from_json(line) {
            Err(error) => crashed(&format!("printed no readable record: {error}"), line),
            Ok(record) if record.verdict.exit_code() != *exit => {
                crashed(&format!("ended with exit code {} and the verdict {}", exit.code(), record.verdict), line)
            }
            Ok(record) => Recorded { record, line: line.to_owned() },
        })
    }

    /// The record of a run whose worker could not write its own. `fingerprint` says how it ended, equal for equal
    /// causes; `detail` is what is left of its output.
    pub fn crashed(scenario: &str, seed: Seed, fingerprint: &str, detail: &str, wall_ms: u64) -> Recorded {
        let record = Record {
            verdict: Verdict::Crashed,
            fingerprint: Some(fingerprint.to_owned()),
            wall_ms,
            ..Record::new(scenario, seed)
        };
        let mut line = record.to_json();
        let end = line.pop();
        assert_eq!(end, Some('}'), "a record is an object");
        line.push_str(&format!(",\"detail\":{}}}", serde_json::Value::from(detail)));
        Recorded { record, line }
    }

    /// The same run, found to have done two different things: the one case in which a worker is overruled.
    pub fn diverged(mut self, cause: String) -> Recorded {
        self.record.verdict = Verdict::Diverged;
        self.record.fingerprint = Some(fingerprint(Verdict::Diverged, "twice", DIVERGED));
        self.record.cause = Some(cause);
        self.record.oracle = Some("twice".to_owned());
        self.line = self.record.to_json();
        self
    }

    /// The same run, which the machine ended, with what another run of the seed said.
    pub fn beside(mut self, other: &Recorded) -> Recorded {
        self.record.cause = Some(format!("{}; another run of the seed said {}", self.reason(), other.record.verdict));
        self.line = self.record.to_json();
        self
    }

    /// Whether two runs of one seed did the same.
    pub fn agrees_with(&self, other: &Recorded) -> bool {
        self.record.trace_hash == other.record.trace_hash && self.record.verdict == other.record.verdict
    }

    /// The verdict and the trace hash, to be read in a sentence.
    pub fn said(&self) -> String {
        match self.record.trace_hash.as_str() {
            "" => format!("{} without a trace", self.record.verdict),
            hash => format!("{} with trace hash {hash}", self.record.verdict),
        }
    }

    /// Writes acked, in percent of all writes issued; `None` when there were none.
    pub fn acked_percent(&self) -> Option<u64> {
        let Record { acked, rejected, unknown, .. } = self.record;
        let issued = acked + rejected + unknown;
        (issued > 0).then(|| acked * 100 / issued)
    }

    /// Why this run counts as a finding.
    pub fn reason(&self) -> &str {
        let Record { cause, fingerprint, .. } = &self.record;
        cause.as_deref().or(fingerprint.as_deref()).unwrap_or("no reason given")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn output(ended: Ended, stdout: &str) -> Output {
        Output { ended, stdout: stdout.to_owned(), stderr: "last words\n".to_owned(), wall: Duration::from_millis(7) }
    }

    #[test]
    fn a_crash_has_a_record_too() {
        let killed = output(Ended::Abnormally("was killed by signal 9".to_owned()), "");
        let run = Recorded::of("cutover/swarm", Seed(u64::MAX), &killed).unwrap();
        assert_eq!((run.record.verdict, run.record.seed), (Verdict::Crashed, Seed(u64::MAX)));
        assert_eq!(run.reason(), "was killed by signal 9");
        assert!(
            run.line.starts_with("{\"v\":1,") && run.line.ends_with("\"detail\":\"last words\\n\"}"),
            "{}",
            run.line
        );
        assert_eq!(Record::from_json(&run.line).unwrap(), run.record);
        let diverged = Record::from_json(&run.diverged("two hashes".to_owned()).line).unwrap();
        assert_eq!((diverged.verdict, diverged.cause.as_deref()), (Verdict::Diverged, Some("two hashes")));
    }

    #[test]
    fn a_worker_that_says_nothing_or_contradicts_itself_has_crashed() {
        let pass = Record::new("a", Seed(1)).to_json();
        for (exit, stdout) in [(ExitCode::AsExpected, ""), (ExitCode::AsExpected, "hello"), (ExitCode::Finding, &pass)]
        {
            let run = Recorded::of("a", Seed(1), &output(Ended::Exit(exit), stdout)).unwrap();
            assert_eq!(run.record.verdict, Verdict::Crashed, "{stdout}");
        }
        let run = Recorded::of("a", Seed(1), &output(Ended::Exit(ExitCode::AsExpected), &pass)).unwrap();
        assert_eq!(run.record.verdict, Verdict::Pass);
    }

    #[test]
    fn a_refusal_is_no_result() {
        let failure = Recorded::of("a", Seed(1), &output(Ended::Exit(ExitCode::Refused), "")).unwrap_err();
        assert_eq!(failure, Failure::refused("last words"));
    }

    #[test]
    fn acked_writes_are_a_share_of_those_issued() {
        let record = Record { acked: 90, rejected: 4, unknown: 6, ..Record::new("a", Seed(1)) };
        let run = Recorded { line: record.to_json(), record };
        assert_eq!(run.acked_percent(), Some(90));
        assert_eq!(Recorded::crashed("a", Seed(1), "", "", 0).acked_percent(), None);
    }
}
