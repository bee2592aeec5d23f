//! The stages of a migration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `Planned -> DualWrite -> Drain -> DeltaPass -> Activate -> Cleanup -> Done`, or `Aborted` before `Activate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    Planned,
    DualWrite,
    Drain,
    DeltaPass,
    Activate,
    Cleanup,
    Done,
    Aborted,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
