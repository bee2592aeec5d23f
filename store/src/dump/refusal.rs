//! Why a dump is not imported: what is wrong with it, in which member, on which line, and the way out.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::error::StoreError;

/// Where every refusal and every report of losses points to.
pub const SEE: &str = "See: docs/dump-import/compatibility-matrix.md";

/// A dump that is not taken. Nothing was written.
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
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the dump changed while it was imported; run the import again")]
    Changed,
    /// The store did not take a write. What was written stays; run the import again and it completes.
    #[error("{0}; run the import again: it completes what is missing")]
    Store(#[from] StoreError),
    #[error("{0}; run the import again: it completes what is missing")]
    Cluster(String),
    /// What is to be exported is not what a dump can hold.
    #[error("{0}")]
    Export(String),
}

impl From<Refusal> for DumpError {
    fn from(refusal: Refusal) -> DumpError {
        DumpError::Refused(refusal)
    }
}
