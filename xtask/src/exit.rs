//! How a command ends. Scripts rely on these numbers; the worker and `miroir` use the same.

use std::fmt;
use std::process::ExitCode;

/// What the exit code of a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything went as expected.
    Expected,
    /// The command was refused before anything was done: bad input, or unsafe.
    Refused,
    /// There was nothing to run. Green would be a lie, red as well.
    NothingRan,
    /// The tool itself broke.
    Internal,
    /// At least one finding: a violation, a stall, a crash, a divergence, an unreached mark, a broken alarm.
    Finding,
    /// A build failed; cargo's own output says why.
    BuildFailed,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Expected => 0,
            Exit::Refused => 2,
            Exit::NothingRan => 4,
            Exit::Internal => 70,
            Exit::Finding => 100,
            Exit::BuildFailed => 101,
        }
    }

    /// Reads the exit code of a worker. `None`: not one that a worker may use, as of a panic (101) or an abort.
    pub const fn of_worker(code: i32) -> Option<Exit> {
        match code {
            0 => Some(Exit::Expected),
            2 => Some(Exit::Refused),
            70 => Some(Exit::Internal),
            100 => Some(Exit::Finding),
            _ => None,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command stopped before it had a result: one line for a person, one code for a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// One line: what happened, and what is allowed. Empty when a child process has already said it.
    pub line: String,
}

impl Failure {
    pub fn refused(line: impl Into<String>) -> Failure {
        Failure { exit: Exit::Refused, line: line.into() }
    }

    pub fn internal(line: impl Into<String>) -> Failure {
        Failure { exit: Exit::Internal, line: line.into() }
    }

    /// A child has printed its own reason; only its code is left to pass on.
    pub fn already_said(exit: Exit) -> Failure {
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
    fn codes_are_those_of_the_contract() {
        let codes = [Exit::Expected, Exit::Refused, Exit::NothingRan, Exit::Internal, Exit::Finding, Exit::BuildFailed];
        assert_eq!(codes.map(Exit::code), [0, 2, 4, 70, 100, 101]);
    }

    #[test]
    fn a_worker_that_panics_has_no_documented_code() {
        assert_eq!(Exit::of_worker(100), Some(Exit::Finding));
        assert_eq!(Exit::of_worker(101), None);
        assert_eq!(Exit::of_worker(134), None);
    }
}
