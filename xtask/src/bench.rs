//! `cargo xtask bench`: measurements of this machine, which should have nothing else to do.
//!
//! What is compared with others stands in workspaces of its own (`sim/bench`, `store/bench`), so that no other build
//! fetches or builds the others. Each judges itself and ends with exit code 100 where a target is missed.

mod cluster;
mod first_put;

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use miroir_sim::seed::Seed;

use crate::cli::{Bench, Overrides};
use crate::exit::{ExitCode, Failure};
use crate::print::out;
use crate::record::Recorded;
use crate::worker::{Build, Job, Worker};
use crate::workspace::{self, Workspace};

/// Measures what was asked for, or everything.
pub fn run(workspace: &Workspace, benches: &[Bench]) -> Result<ExitCode, Failure> {
    let all = [Bench::Sim, Bench::Engine, Bench::Seed, Bench::Dump, Bench::Cluster];
    let benches = if benches.is_empty() { &all[..] } else { benches };
    let mut exit = ExitCode::AsExpected;
    for bench in benches {
        let ended = match bench {
            Bench::Sim => program(workspace, workspace.simulator_cargo("run"), "sim/bench")?,
            Bench::Engine => program(workspace, in_its_own_target(workspace, "store/bench"), "store/bench")?,
            Bench::Seed => seed(workspace)?,
            Bench::Dump => dump(workspace)?,
            Bench::Cluster => cluster::run(workspace)?,
        };
        if ended != ExitCode::AsExpected {
            exit = ended;
        }
    }
    Ok(exit)
}

/// `cargo run` for an ordinary build, with a target folder in `folder`.
fn in_its_own_target(workspace: &Workspace, folder: &str) -> Command {
    let mut cargo = workspace.cargo("run");
    cargo.arg("--target-dir").arg(workspace.root().join(folder).join("target"));
    cargo
}

/// Builds and runs the program of another workspace.
fn program(workspace: &Workspace, mut cargo: Command, folder: &str) -> Result<ExitCode, Failure> {
    let manifest = Path::new(folder).join("Cargo.toml");
    cargo.args(["--release", "--locked", "--manifest-path"]).arg(manifest);
    cargo.env("MIROIR_BENCH_DIR", workspace.kept().join("bench"));
    let status = cargo.status().map_err(|error| Failure::io("start", "cargo", &error))?;
    if status.code() == Some(101) {
        return Err(Failure::already_said(ExitCode::BuildFailed));
    }
    judged(folder, status)
}

/// A program that judges itself has ended.
fn judged(what: &str, status: ExitStatus) -> Result<ExitCode, Failure> {
    match status.code() {
        Some(0) => Ok(ExitCode::AsExpected),
        Some(100) => Ok(ExitCode::Finding),
        _ => Err(Failure::internal(format!("{what}: {status}"))),
    }
}

/// An import into an embedded store: how fast, and with how much memory.
fn dump(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let mut cargo = workspace.cargo("bench");
    cargo.args(["--package", "miroir-store", "--bench", "dump", "--no-run"]);
    let program = workspace::built_by(cargo)?;
    let mut exit = ExitCode::AsExpected;
    for memory in [None, Some("memory")] {
        let mut command = Command::new(&program);
        command.arg("--bench").args(memory).env("MIROIR_BENCH_DIR", workspace.kept().join("bench"));
        let status = command.status().map_err(|error| Failure::io("start", program.display(), &error))?;
        exit = exit.max(judged("the bench of dumps", status)?);
    }
    Ok(exit)
}

/// The run that all others are measured by: three replicas, eight clients, about 2,000 operations, one migration.
const STANDARD: &str = "cutover/with_anti_entropy";
const STANDARD_SEEDS: u64 = 100;
const STANDARD_LIMIT_MS: u128 = 72;

/// How long a standard seed takes, one process after the other.
fn seed(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let worker = Worker::build(workspace, Build::Sim)?;
    let overrides = Overrides { set: vec!["replication=3".to_owned()], ..Overrides::default() };
    let mut walls: Vec<Duration> = Vec::new();
    for number in 0..STANDARD_SEEDS {
        let job = Job::bare(STANDARD, Seed(number), &overrides);
        let output = worker.record(&job, None)?;
        walls.push(output.wall);
        let recorded = Recorded::of(STANDARD, Seed(number), &output)?;
        if recorded.record.verdict.exit_code() != ExitCode::AsExpected {
            return Err(Failure::internal(format!("{STANDARD} seed {number}: {}", recorded.said())));
        }
    }
    walls.sort();
    let ms = |wall: Duration| format!("{:.1} ms", wall.as_secs_f64() * 1e3);
    let median = walls[walls.len() / 2];
    out(format!(
        "{STANDARD} {}, seeds 0..{STANDARD_SEEDS}, one process each, its start included: median {}, from {} to {}; \
         wanted: a median of at most {STANDARD_LIMIT_MS} ms",
        overrides.to_arguments().join(" "),
        ms(median),
        ms(walls[0]),
        ms(walls[walls.len() - 1])
    ));
    Ok(if median.as_millis() <= STANDARD_LIMIT_MS { ExitCode::AsExpected } else { ExitCode::Finding })
}
