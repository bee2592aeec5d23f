//! What is said about a run in one word, and the exit code that follows.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The verdict on a run or a sweep, ordered from good to bad: the verdict of many is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As the scenario declares.
    Pass,
    /// A mark that the scenario declares was not reached in a whole sweep: it tested less than it says.
    Unreached,
    /// Something that has to end did not, in bounded simulated time.
    Stalled,
    /// An oracle found a broken promise.
    Violation,
    /// A panic.
    Crashed,
    /// The same seed gave two different runs: nothing else that was said can be trusted.
    Diverged,
}

impl Verdict {
    /// As in the record: `pass`, `violation`, …
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Unreached => "unreached",
            Verdict::Stalled => "stalled",
            Verdict::Violation => "violation",
            Verdict::Crashed => "crashed",
            Verdict::Diverged => "diverged",
        }
    }

    /// Success for a pass, a finding for everything else.
    pub fn exit_code(self) -> ExitCode {
        if self == Verdict::Pass { ExitCode::AsExpected } else { ExitCode::Finding }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a command ends. Scripts rely on these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything as expected.
    AsExpected = 0,
    /// Wrong usage, or refused before anything was done: unsafe, or bad input.
    Refused = 2,
    /// Nothing ran.
    NothingRan = 4,
    /// The tool itself is broken.
    Internal = 70,
    /// At least one finding.
    Finding = 100,
    /// A build failed.
    BuildFailed = 101,
}

impl ExitCode {
    /// The number for the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

/// A short stable name for a failure: equal for the same oracle and the same cause, whatever the seed. 12 hex digits.
///
/// The cause is normalised: numbers become `#` (also hexadecimal ones of eight digits or more, and those within names such as `n3`), as they
/// vary from seed to seed.
pub fn fingerprint(verdict: Verdict, oracle: &str, cause: &str) -> String {
    let text = format!("{verdict}\n{oracle}\n{}", normalised(cause));
    format!("{:012x}", xxh3_64(text.as_bytes()) >> 16)
}

fn normalised(cause: &str) -> String {
    let mut result = String::with_capacity(cause.len());
    for word in cause.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let body = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let tail = &word[body.len()..];
        let is_hash =
            body.len() >= 8 && body.bytes().all(|b| b.is_ascii_hexdigit()) && body.bytes().any(|b| b.is_ascii_digit());
        if is_hash {
            result.push('#');
        } else {
            let mut in_number = false;
            for c in body.chars() {
                if !c.is_ascii_digit() {
                    result.push(c);
                } else if !in_number {
                    result.push('#');
                }
                in_number = c.is_ascii_digit();
            }
        }
        result.push_str(tail);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_wins() {
        let all = [
            Verdict::Stalled,
            Verdict::Diverged,
            Verdict::Pass,
            Verdict::Crashed,
            Verdict::Violation,
            Verdict::Unreached,
        ];
        assert_eq!(all.iter().max(), Some(&Verdict::Diverged));
        for verdict in all {
            assert_eq!(serde_json::to_string(&verdict).expect("JSON"), format!("\"{verdict}\""));
            assert_eq!(verdict.exit_code().code(), if verdict == Verdict::Pass { 0 } else { 100 });
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            ExitCode::AsExpected,
            ExitCode::Refused,
            ExitCode::NothingRan,
            ExitCode::Internal,
            ExitCode::Finding,
            ExitCode::BuildFailed,
        ];
        assert_eq!(codes.map(ExitCode::code), [0, 2, 4, 70, 100, 101]);
    }

    #[test]
    fn equal_causes_have_equal_fingerprints() {
        let of = |cause| fingerprint(Verdict::Violation, "durable", cause);
        assert_eq!(of("doc-17 missed on n3 at 1.204512 s"), of("doc-4 missed on n1 at 22.0 s"));
        assert_eq!(of("disk 00ff12ab34cd is new"), of("disk 91234567 is new"));
        assert_ne!(of("missed on n3: loss"), of("missed on n3: cut"));
        assert_ne!(of("x"), fingerprint(Verdict::Violation, "linearizable", "x"));
        assert_eq!(normalised("the cabbage of n12, epoch (3, 44)"), "the cabbage of n#, epoch (#, #)");
        assert_eq!(of("x").len(), 12);
    }
}
