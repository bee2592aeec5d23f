//! How a command ends: with one of the documented exit codes, and one line where there is no result.

use std::fmt;

pub use miroir_sim::verdict::ExitCode;

/// Reads the exit code of a worker. `None`: not one that a worker may use, as of a panic (101) or an abort.
pub const fn of_worker(code: i32) -> Option<ExitCode> {
    match code {
        0 => Some(ExitCode::AsExpected),
        2 => Some(ExitCode::Refused),
        70 => Some(ExitCode::Internal),
        100 => Some(ExitCode::Finding),
        _ => None,
    }
}

/// Why a command stopped before it had a result: one line for a person, one code for a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: ExitCode,
    /// One line: what happened, and what is allowed. Empty when a child process has already said it.
    pub line: String,
}

impl Failure {
    pub fn refused(line: impl Into<String>) -> Failure {
        Failure { exit: ExitCode::Refused, line: line.into() }
    }

    pub fn internal(line: impl Into<String>) -> Failure {
        Failure { exit: ExitCode::Internal, line: line.into() }
    }

    /// What a worker printed as it ended with `exit`, to be said again.
    pub fn of_worker(exit: ExitCode, stderr: &str) -> Failure {
        let line = stderr.trim_end();
        Failure { exit, line: line.strip_prefix("error: ").unwrap_or(line).to_owned() }
    }

    /// A child has printed its own reason; only its code is left to pass on.
    pub fn already_said(exit: ExitCode) -> Failure {
        Failure { exit, line: String::new() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_has_no_documented_code() {
        for exit in [ExitCode::AsExpected, ExitCode::Refused, ExitCode::Internal, ExitCode::Finding] {
            assert_eq!(of_worker(exit.code().into()), Some(exit));
        }
        assert_eq!(of_worker(101), None);
        assert_eq!(of_worker(134), None);
    }

    #[test]
    fn a_failure_is_its_line() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let failure = Failure::io("read", "plan.toml", &missing);
        assert_eq!(
            (failure.exit, failure.to_string().as_str()),
            (ExitCode::Internal, "cannot read plan.toml: entity not found")
        );
        assert_eq!(Failure::already_said(ExitCode::BuildFailed).to_string(), "");
    }
}
