//! The worker: the program that runs one seed inside the simulator, one process per seed.
//!
//! It is built here, with the simulator's cfg, before every command that needs it; cargo makes that cheap when nothing
//! changed. A process per seed costs about a millisecond and buys two things: nothing of one run can leak into another
//! (hash keys, process-wide counters), and a run that crashes or hangs takes nobody with it.
//!
//! `MIROIR_WORKER=PATH` names a program to use instead of building one. The tests of this package use it, to see the
//! command line meet workers that crash, hang and contradict themselves.

use std::fmt;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use miroir_sim::seed::Seed;

use crate::build_id;
use crate::cli::{Overrides, TraceLevel};
use crate::exit::{ExitCode, Failure, of_worker};
use crate::signals::Signals;
use crate::workspace::{self, Workspace};

/// The environment variable that names a worker to use instead of building one.
pub const WORKER_VARIABLE: &str = "MIROIR_WORKER";

/// How a worker ended that an impatient operator killed.
pub const INTERRUPTED: &str = "was interrupted";

/// How a worker ended that somebody else killed.
const KILLED: &str = "was killed by signal 9";

/// How many workers run at a time when nobody says: one per core.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// How much of a failed worker's stderr goes into its record, in bytes from the end.
const STDERR_TAIL: usize = 2_000;

/// What glibc's allocator is told where nobody has told it anything: to grow by 16 MiB, in large pages. A run of a few
/// megabytes then takes a sixth of the page faults, and a tenth less time; other allocators do not look.
const TUNABLES: &str = "GLIBC_TUNABLES";
const LARGE_PAGES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=16777216";

/// How the worker is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Release speed with assertions: what sweeps use.
    Sim,
    /// Builds faster, runs slower.
    Dev,
}

impl Build {
    /// The name of cargo's profile.
    pub const fn profile(self) -> &'static str {
        match self {
            Build::Sim => "sim",
            Build::Dev => "dev",
        }
    }
}

/// The command that builds the worker.
pub fn build_command(workspace: &Workspace, build: Build) -> Command {
    let mut cargo = workspace.simulator_cargo("build");
    cargo.args(["--workspace", "--exclude", "xtask", "--bin", "miroir-worker", "--profile", build.profile()]);
    cargo
}

/// A program that can run seeds.
#[derive(Clone, Debug)]
pub struct Worker {
    program: PathBuf,
    /// What its records call this build.
    build: String,
    /// Who may end it before it ends by itself.
    signals: Option<Signals>,
}

/// One run: what the worker's command line says.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub scenario: &'a str,
    pub seed: Seed,
    pub overrides: &'a Overrides,
    pub trace: Option<TraceLevel>,
    pub until: Option<&'a str>,
    /// A file with the plan to run instead of the seed's.
    pub plan: Option<&'a Path>,
    /// The folder for the run's files.
    pub out: Option<&'a Path>,
    /// The file for the whole event trace.
    pub events: Option<&'a Path>,
}

impl<'a> Job<'a> {
    /// A run that leaves nothing behind but its record.
    pub fn bare(scenario: &'a str, seed: Seed, overrides: &'a Overrides) -> Job<'a> {
        Job { scenario, seed, overrides, trace: None, until: None, plan: None, out: None, events: None }
    }
}

/// How a worker's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a documented exit code.
    Exit(ExitCode),
    /// In any other way: a signal, a panic. The text names it, equal for equal causes.
    Abnormally(String),
    /// It was killed at this wall limit.
    Hung(Duration),
}

impl Ended {
    /// Somebody killed it outright: an operator, or a system that is out of memory. No worker does that to itself.
    pub fn is_kill(&self) -> bool {
        matches!(self, Ended::Abnormally(how) if how == KILLED)
    }
}

/// What follows "the worker".
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exit(exit) => write!(f, "ended with exit code {}", exit.code()),
            Ended::Abnormally(how) => f.write_str(how),
            Ended::Hung(limit) => write!(f, "hung: no end within {} s of wall time", limit.as_secs_f64()),
        }
    }
}

/// What a worker left behind.
#[derive(Clone, Debug)]
pub struct Output {
    pub ended: Ended,
    pub stdout: String,
    /// The end of stderr.
    pub stderr: String,
    pub wall: Duration,
}

impl Worker {
    /// Builds the worker. Cargo's own output goes to stderr, so a failed build needs no second explanation.
    pub fn build(workspace: &Workspace, build: Build) -> Result<Worker, Failure> {
        if let Some(program) = std::env::var_os(WORKER_VARIABLE) {
            let program = PathBuf::from(program);
            let build = build_id::of_program(&program)?;
            return Ok(Worker { program, build, signals: None });
        }
        // First, so that an edit during the build gives a name that the next build does not have.
        let name = build_id::of_sources(workspace.root())?;
        let program = workspace::built_by(build_command(workspace, build))?;
        Ok(Worker { program, build: name, signals: None })
    }

    /// This worker under a second name in `folder`, which a later build does not replace under a running sweep.
    pub fn pinned_in(&self, folder: &Path) -> Result<Worker, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
        let program = folder.join(format!("worker.{}", std::process::id()));
        // What an interrupted sweep left may be a link to the very file that a copy would read.
        let _ = std::fs::remove_file(&program);
        // Cargo writes a new file for every build, so a second link keeps this one; across file systems, a copy does.
        std::fs::hard_link(&self.program, &program)
            .or_else(|_| std::fs::copy(&self.program, &program).map(drop))
            .map_err(|error| Failure::io("keep a copy of the worker at", program.display(), &error))?;
        Ok(Worker { program, ..self.clone() })
    }

    /// This worker with every run in a process group of its own, so that Ctrl-C does not reach it; a second Ctrl-C kills it.
    pub fn listening_to(self, signals: Signals) -> Worker {
        Worker { signals: Some(signals), ..self }
    }

    /// What its records call this build.
    pub fn build_name(&self) -> &str {
        &self.build
    }

    /// Removes a pinned worker. One that is left behind only takes space.
    pub fn unpin(self) {
        let _ = std::fs::remove_file(self.program);
    }

    /// Runs a job whose output goes where ours goes.
    pub fn show(&self, job: &Job) -> Result<Ended, Failure> {
        self.pass_through(&mut self.run(job))
    }

    /// Runs a job for its record; a worker that takes longer than `limit` is killed.
    pub fn record(&self, job: &Job, limit: Option<Duration>) -> Result<Output, Failure> {
        self.capture(self.run(job).arg("--json"), limit)
    }

    /// The worker's list of scenarios, one JSON array.
    pub fn scenarios(&self) -> Result<Output, Failure> {
        self.capture(self.command().args(["scenarios", "--json"]), None)
    }

    /// Prints what the worker prints for `arguments`.
    pub fn print(&self, arguments: &[&str]) -> Result<ExitCode, Failure> {
        match self.pass_through(self.command().args(arguments))? {
            Ended::Exit(exit) => Ok(exit),
            ended => Err(Failure::internal(format!("the worker {ended}; this is a bug of the tool"))),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        if std::env::var_os(TUNABLES).is_none() {
            command.env(TUNABLES, LARGE_PAGES);
        }
        command
    }

    fn run(&self, job: &Job) -> Command {
        let mut command = self.command();
        command.args(["run", "--scenario", job.scenario, "--seed", &job.seed.to_string(), "--build", &self.build]);
        command.args(job.overrides.to_arguments());
        if let Some(level) = job.trace {
            command.args(["--trace", level.name()]);
        }
        if let Some(until) = job.until {
            command.args(["--until", until]);
        }
        for (flag, path) in [("--plan", job.plan), ("--out", job.out), ("--events", job.events)] {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        command
    }

    fn pass_through(&self, command: &mut Command) -> Result<Ended, Failure> {
        let status = command.status().map_err(|error| self.cannot_start(&error))?;
        Ok(ended(status))
    }

    fn capture(&self, command: &mut Command, limit: Option<Duration>) -> Result<Output, Failure> {
        let started = Instant::now();
        if self.signals.is_some() {
            apart(command);
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| self.cannot_start(&error))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let ended = wait(&mut child, limit, self.signals.as_ref())
            .map_err(|error| Failure::io("wait for", "the worker", &error))?;
        let stderr = finish(&stderr);
        let tail = stderr.len().saturating_sub(STDERR_TAIL);
        Ok(Output {
            ended,
            stdout: String::from_utf8_lossy(&finish(&stdout)).into_owned(),
            stderr: String::from_utf8_lossy(&stderr[tail..]).into_owned(),
            wall: started.elapsed(),
        })
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::io("start the worker", self.program.display(), error)
    }
}

impl Output {
    /// The one line of a worker that printed exactly one.
    pub fn only_line(&self) -> Option<&str> {
        let mut lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        lines.next().filter(|_| lines.next().is_none())
    }
}

/// Waits for `child`, and kills it at the wall limit.
fn wait(child: &mut Child, limit: Option<Duration>, signals: Option<&Signals>) -> std::io::Result<Ended> {
    if limit.is_none() && signals.is_none() {
        return child.wait().map(ended);
    }
    let limit = limit.unwrap_or(Duration::MAX);
    let started = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ended(status));
        }
        if started.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Hung(limit));
        }
        if signals.is_some_and(Signals::is_impatient) {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Abnormally(INTERRUPTED.to_owned()));
        }
        thread::sleep(pause);
        // A run takes tens of milliseconds; waiting longer than this would show in the seeds per minute.
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

/// Reads a pipe on a thread of its own, so that a worker never waits for us to read the other one.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut buffer = [0; 8_192];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// All that a pipe carried, now that its process has ended. A grandchild that keeps it open is waited for only briefly.
fn finish(pipe: &mpsc::Receiver<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(chunk) = pipe.recv_timeout(Duration::from_secs(1)) {
        bytes.extend(chunk);
    }
    bytes
}

#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

fn ended(status: ExitStatus) -> Ended {
    match status.code() {
        Some(code) => match of_worker(code) {
            Some(exit) => Ended::Exit(exit),
            None if code == 101 => Ended::Abnormally("panicked".to_owned()),
            None => Ended::Abnormally(format!("ended with exit code {code}, which no worker uses")),
        },
        None => Ended::Abnormally(killed(status)),
    }
}

#[cfg(unix)]
fn killed(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().map_or_else(|| "was killed".to_owned(), |signal| format!("was killed by signal {signal}"))
}

#[cfg(not(unix))]
fn killed(_: ExitStatus) -> String {
    "was killed".to_owned()
}
