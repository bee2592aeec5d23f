//! What the areas need is built from the first moment on, beside whatever runs: cargo leaves cores idle wherever one package
//! waits for another, and tests do where they wait.
//!
//! Cargo locks each folder of builds for itself, so an area that needs what is under way waits for it and then finds it done.
//! A build that fails says why at once; the area that needed it fails later, and counts.

use std::process::{Child, Command, Stdio};

use crate::exit::Failure;
use crate::worker::{self, Build};
use crate::workspace::Workspace;

use super::OUTSIDE;

/// A build under way.
pub struct Ahead(Child);

impl Ahead {
    fn start(mut cargo: Command) -> Result<Ahead, Failure> {
        // Only what is wrong is worth a line in between.
        cargo.arg("--quiet").stdin(Stdio::null()).stdout(Stdio::null());
        cargo.spawn().map(Ahead).map_err(|error| Failure::io("start", "cargo", &error))
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<(), Failure> {
        self.0.wait().map(drop).map_err(|error| Failure::io("wait for", "cargo", &error))
    }
}

/// Starts to build the simulator's worker, and the tests that run outside of it.
pub fn build(workspace: &Workspace, build: Build) -> Result<Vec<Ahead>, Failure> {
    let mut tests = workspace.cargo("test");
    tests.args(OUTSIDE).arg("--no-run");
    [worker::build_command(workspace, build), tests].into_iter().map(Ahead::start).collect()
}
