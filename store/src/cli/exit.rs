//! How a command ends: one of the documented exit codes, and one line where there is no result.

use std::fmt;

/// What a script may rely on. The developers' command line uses the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// It was done, or it is as it should be.
    AsExpected,
    /// Bad input, or refused before anything was changed.
    Refused,
    /// Nothing was done: there was nothing there, or nobody answered.
    NothingRan,
    /// The tool or the machine under it failed.
    Internal,
    /// Something was found: replicas that differ, rot, a migration that was aborted, a write of unknown outcome.
    Finding,
}

impl ExitCode {
    pub const fn code(self) -> u8 {
        match self {
            ExitCode::AsExpected => 0,
            ExitCode::Refused => 2,
            ExitCode::NothingRan => 4,
            ExitCode::Internal => 70,
            ExitCode::Finding => 100,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(exit.code())
    }
}

/// Why a command stopped before it had a result: one line for a person, one code for a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: ExitCode,
    /// A stable name, for those who read `--json`.
    pub code: String,
    /// One line: what happened, and what is allowed.
    pub line: String,
}

impl Failure {
    /// Bad input.
    pub fn usage(line: impl Into<String>) -> Failure {
        Failure::refused("Usage", line)
    }

    pub fn refused(code: impl Into<String>, line: impl Into<String>) -> Failure {
        Failure { exit: ExitCode::Refused, code: code.into(), line: line.into() }
    }

    /// Nobody answered, or there is no such thing.
    pub fn nothing(code: impl Into<String>, line: impl Into<String>) -> Failure {
        Failure { exit: ExitCode::NothingRan, code: code.into(), line: line.into() }
    }

    pub fn internal(line: impl Into<String>) -> Failure {
        Failure { exit: ExitCode::Internal, code: "Internal".to_owned(), line: line.into() }
    }

    /// `doing` something with `what` failed in the operating system.
    pub fn io(doing: &str, what: impl fmt::Display, error: &std::io::Error) -> Failure {
        Failure::internal(format!("cannot {doing} {what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
