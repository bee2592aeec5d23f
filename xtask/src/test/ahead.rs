//! The simulator's worker is built from the first moment on, beside whatever runs: it is what most areas need, and it takes
//! longest.
//!
//! Cargo locks each folder of builds for itself, so an area that needs what is under way waits for it and then finds it done.
//! A build that fails says why at once; the area that needed it fails later, and counts.

use std::process::{Child, Stdio};

use crate::exit::Failure;
use crate::worker::{self, Build};
use crate::workspace::Workspace;

/// A build under way.
pub struct Ahead(Child);

impl Ahead {
    /// Starts to build the worker.
    pub fn start(workspace: &Workspace, build: Build) -> Result<Ahead, Failure> {
        let mut cargo = worker::build_command(workspace, build);
        // Only what is wrong is worth a line in between.
        cargo.arg("--quiet").stdin(Stdio::null()).stdout(Stdio::null());
        cargo.spawn().map(Ahead).map_err(|error| Failure::io("start", "cargo", &error))
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<(), Failure> {
        self.0.wait().map(drop).map_err(|error| Failure::io("wait for", "cargo", &error))
    }
}
