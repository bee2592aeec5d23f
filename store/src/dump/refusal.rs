//! Why a dump is not imported: what is wrong with it, in which member, on which line, and the way out.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::error::StoreError;

/// Where every refusal and every report of losses points to.
pub const SEE: &str = "See: docs/dump-import/compatibility-matrix.md";
pub const MATRIX: &str = "docs/dump-import/compatibility-matrix.md";

/// What is wrong with a dump, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The path of the member in the archive; empty if it is the archive itself.
    pub member: String,
    /// Counted from 1; 0 if it is not about a line.
    pub line: u64,
    pub reason: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Refusal {
        Refusal { member: String::new(), line: 0, reason: reason.into() }
    }

    pub fn in_member(member: &str, reason: impl Into<String>) -> Refusal {
        Refusal { member: member.to_owned(), line: 0, reason: reason.into() }
    }

    pub fn at(member: &str, line: u64, reason: impl Into<String>) -> Refusal {
        Refusal { member: member.to_owned(), line, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.member.is_empty() {
            // Names come from the dump: nothing in them reaches a terminal as it is.
            write!(f, "{}", self.member.escape_debug())?;
            if self.line > 0 {
                write!(f, ", line {}", self.line)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

/// What can go wrong with a dump.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The dump, or what it was asked to do, is not taken; nothing was written.
    #[error("{0}; nothing was written\n{SEE}")]
    Refused(Refusal),
    /// The machine failed while reading or writing the file.
    #[error("{what}: {error}\n{SEE}")]
    Io { what: &'static str, error: io::Error },
    /// What is read now is not what was analysed.
    #[error("the dump has changed since it was analysed\n{SEE}")]
    Changed,
    #[error("{0}\n{SEE}")]
    Store(#[from] StoreError),
    #[error("{0}\n{SEE}")]
    Cluster(String),
    /// What is to be exported is not what a dump can hold.
    #[error("{0}\n{SEE}")]
    Export(String),
    /// Whatever went wrong, it did so after the first write.
    #[error("{}; the import had begun, and what it has written stays: run it again, and it completes what is missing\n{SEE}", .0.reason())]
    Incomplete(Box<DumpError>),
}

impl DumpError {
    /// What went wrong, without what follows from it.
    fn reason(&self) -> String {
        match self {
            DumpError::Refused(refusal) => refusal.to_string(),
            other => other.to_string().trim_end_matches(SEE).trim_end().to_owned(),
        }
    }

    /// Of an import that has written something.
    pub(crate) fn after_writes(self) -> DumpError {
        match self {
            DumpError::Incomplete(_) => self,
            error => DumpError::Incomplete(Box::new(error)),
        }
    }
}

impl From<Refusal> for DumpError {
    fn from(refusal: Refusal) -> DumpError {
        DumpError::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_after_the_first_write_does_not_say_that_nothing_was_written() {
        let refusal = || DumpError::from(Refusal::at("a", 3, "not valid JSON"));
        assert_eq!(refusal().to_string(), format!("a, line 3: not valid JSON; nothing was written\n{SEE}"));
        for error in [refusal(), DumpError::Changed, DumpError::Cluster("nobody answers".to_owned())] {
            let reason = error.reason();
            let text = error.after_writes().after_writes().to_string();
            assert!(text.starts_with(&format!("{reason}; the import had begun")), "{text}");
            assert!(text.contains("run it again") && !text.contains("nothing was written"), "{text}");
            assert_eq!(text.matches(SEE).count(), 1, "{text}");
        }
    }
}
