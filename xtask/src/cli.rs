//! What can be typed. A contract: scripts and documents rely on it, and a test parses every command the README shows.
//!
//! Every refusal is one line that says what is allowed, with exit code 2.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use miroir_sim::oracle::linearizable::ModelKind;

use crate::catalog::nearest;
use crate::exit::Failure;
use crate::partition::Partition;
use crate::qualify::Subject;
use crate::seeds::{SEED_VARIABLE, SeedRange};
use crate::worker::Build;

/// The environment variable that stands in for `--dev`.
pub const PROFILE_VARIABLE: &str = "MIROIR_PROFILE";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
/// Runs shard cutovers under chaos inside a deterministic simulator, one seed or many.
///
/// Exit codes: 0 as expected, 2 refused or bad input, 4 nothing ran, 70 internal error, 100 at least one finding,
/// 101 a build failed.
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Build the worker with cargo's dev profile: builds faster, runs slower, same traces (also: MIROIR_PROFILE=dev)
    #[arg(long, global = true)]
    pub dev: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one seed and report what happened
    Sim(Sim),
    /// List the scenarios: id, promise, marks
    Scenarios {
        /// One JSON array on stdout
        #[arg(long)]
        json: bool,
    },
    /// Run many seeds, one process each, and add them up
    Sweep(Sweep),
    /// Make one report out of the slices of a sweep
    Merge(Merge),
    /// Run a bundle again, from anywhere
    Replay(Replay),
    /// Make the plan of a failing run smaller while it fails in the same way
    Shrink(Shrink),
    /// Plant every known bug, one at a time, and show who finds it
    Mutants(Mutants),
    /// Judge a history from anywhere: is it linearizable?
    Check {
        /// JSON lines, one operation each
        #[arg(value_name = "HISTORY.jsonl")]
        file: PathBuf,
        /// What the operations may be: register (read, write), cas-register (and cas), kv (and delete)
        #[arg(long, value_name = "register|cas-register|kv", value_parser = ModelKind::from_str)]
        model: ModelKind,
    },
    /// Say how a run came to fail: which replica missed what, which fault or rule did it
    Explain(Explain),
    /// Write docs/gallery.md: every saved plan of a planted bug, explained and drawn
    Gallery,
    /// Run the tests, or some areas of them
    Test {
        /// Default: all that are not part of another, in this order
        #[arg(value_enum)]
        areas: Vec<Area>,
    },
    /// Measure this machine, which should have nothing else to do
    Bench {
        /// Default: all of them
        #[arg(value_enum)]
        benches: Vec<Bench>,
    },
    /// Play rounds with real processes: a shard moves under load, and something goes wrong
    Soak {
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        rounds: u64,
        /// The seed of the first round; the others follow. Default: MIROIR_SEED, else a random one
        #[arg(long, value_name = "N")]
        seed: Option<String>,
        /// One JSON object for all rounds, in the place of the table
        #[arg(long)]
        json: bool,
    },
    /// What CI runs: every area of `test`
    Ci,
    /// Render the measured documents from the committed data
    Report(Report),
    /// Run the large sweeps and tests behind the measured documents, and write their data
    Qualify(Qualify),
}

#[derive(Debug, Args)]
pub struct Sim {
    /// Default: cutover/swarm
    pub scenario: Option<String>,
    /// Decimal, 0x hex, or a commit hash of 40 hex digits. Default: MIROIR_SEED, else a random one
    #[arg(long, value_name = "N")]
    pub seed: Option<String>,
    /// Run this plan instead of the one that the seed draws
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Run the seed in two processes and compare the whole event traces
    #[arg(long)]
    pub twice: bool,
    /// How much of the event trace the report shows
    #[arg(long, value_enum)]
    pub trace: Option<TraceLevel>,
    /// Stop at this simulated time, as in 3.2s
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Also write the picture of the run to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// One JSON record on stdout instead of the report
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["seeds", "count", "time"])))]
pub struct Sweep {
    /// Ids or globs; globs leave out the canary and twins with the gate overridden. Default: cutover/swarm
    pub scenarios: Vec<String>,
    /// The seeds A to B, without B
    #[arg(long, value_name = "A..B")]
    pub seeds: Option<String>,
    /// N seeds from MIROIR_SEED on, else from a random one
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Seeds from MIROIR_SEED on, else from a random one, for this long: 90s, 10m, 8h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Duration>,
    /// Only these seeds of all: the mth of n equal slices, or `auto`: what the scheduler says that started this
    #[arg(long, value_name = "slice:M/N|auto")]
    pub partition: Option<String>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Processes at a time. Default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Stop after this many different failures (by fingerprint), or `all`: never
    #[arg(long, value_name = "N|all", default_value = "10", value_parser = MaxFail::parse)]
    pub max_fail: MaxFail,
    /// A seed that takes longer than this is killed and reported as crashed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub wall_limit_s: u64,
    /// A seed that takes more simulated time than this is reported as stalled. Default: what its plan allows
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub simulated_limit_s: Option<u64>,
    /// Where results.jsonl, sweep.json, junit.xml and the files of failing seeds go. Default: a fresh folder in target/miroir/sweeps
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One record per run on stdout, then one summary line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Folders of sweeps, or folders that hold such folders
    #[arg(required = true)]
    pub folders: Vec<PathBuf>,
    /// Where the merged results go. Default: a fresh folder in target/miroir/sweeps
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One summary line on stdout instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// A bundle (repro.toml, a saved regression), a plan, or the folder of a run
    pub file: PathBuf,
    /// Run nothing; judge the stored history of the run again
    #[arg(long)]
    pub check_only: bool,
    /// One JSON record on stdout instead of the report
    #[arg(long, conflicts_with = "check_only")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Shrink {
    /// A seed, a run id, a folder, a bundle file, or `latest`
    pub run: String,
    /// Stop after this long with the smallest plan so far
    #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Processes at a time. Default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Where the smallest plan goes. Default: a file in scenarios/regressions
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Change nothing; fail if a document is not as rendered, or a seed of its data no longer holds
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct Qualify {
    /// Default: all
    #[arg(value_enum)]
    pub subjects: Vec<Subject>,
    /// Only rows whose name contains this text; the engine has none of its own
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// At most so many seeds a row; the steps of the coordinator stay whole
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// Only rows that the data lacks, or has from another build or another command; one that was interrupted goes on
    #[arg(long)]
    pub missing: bool,
}

#[derive(Debug, Args)]
pub struct Mutants {
    /// Only this one, as in M05; may be repeated. Default: all
    #[arg(long, value_name = "M")]
    pub only: Vec<String>,
    /// Seeds in each configuration, from each start
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Starts of the search, whose median is told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub starts: u64,
    /// Wall time for one mutant until it is found, and as much again for the other starts
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub budget_s: u64,
    /// Processes at a time. Default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Keep each result in docs/data/mutants.json, in the place of the one that stands there
    #[arg(long)]
    pub keep: bool,
    /// Write each kill into scenarios/kills.toml, in the place of the one that stands there
    #[arg(long)]
    pub pin: bool,
    /// One line of JSON per mutant, then one summary line
    #[arg(long)]
    pub json: bool,
}

impl Mutants {
    /// What to type to hunt one of them again.
    pub fn command(&self, id: &str) -> String {
        let Mutants { seeds, starts, budget_s, .. } = self;
        format!("cargo xtask mutants --only {id} --seeds {seeds} --starts {starts} --budget-s {budget_s}")
    }
}

#[derive(Debug, Args)]
pub struct Explain {
    /// A seed, a run id, a folder, a bundle file, or `latest`
    pub run: String,
    /// Tell the story of this document, as in d000063
    #[arg(long, value_name = "ID")]
    pub doc: Option<String>,
    /// Show the cluster at this simulated time instead, as in 3.2s
    #[arg(long, value_name = "T")]
    pub at: Option<String>,
}

/// What changes a run besides its seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Serialize, serde::Deserialize)]
pub struct Overrides {
    /// How rough the plan is: calm, usual, storm, or a file
    #[arg(long, value_name = "P")]
    pub profile: Option<String>,
    /// Override one key of the plan; `--set help` lists the keys
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Switch on a planted bug, as in M05
    #[arg(long, value_name = "M")]
    pub mutant: Option<String>,
}

impl Overrides {
    /// As they are typed: for the worker, and for a person who reproduces a run.
    pub fn to_arguments(&self) -> Vec<String> {
        let profile = self.profile.iter().map(|profile| ("--profile", profile));
        let set = self.set.iter().map(|pair| ("--set", pair));
        let mutant = self.mutant.iter().map(|mutant| ("--mutant", mutant));
        profile.chain(set).chain(mutant).flat_map(|(flag, value)| [flag.to_owned(), value.clone()]).collect()
    }

    /// The same with a profile of the project's own found from its root, wherever the command is typed.
    pub fn found_from(&self, root: &Path) -> Overrides {
        let profile = self.profile.as_ref().map(|profile| {
            let file = root.join(profile);
            if file.is_file() { file.display().to_string() } else { profile.clone() }
        });
        Overrides { profile, ..self.clone() }
    }

    /// Whether the keys were asked for.
    pub fn wants_help(&self) -> bool {
        self.set.iter().any(|pair| pair == "help")
    }

    /// Each `--set` must look like one; whether the key exists and the value is in range, the worker knows.
    pub fn check(&self) -> Result<(), Failure> {
        match self.set.iter().find(|pair| !matches!(pair.split_once('='), Some((key, _)) if !key.is_empty())) {
            Some(pair) => Err(Failure::refused(format!(
                "--set: `{pair}` is not key=value; `cargo xtask sim --set help` lists the keys"
            ))),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceLevel {
    Off,
    Short,
    Full,
}

impl TraceLevel {
    pub const fn name(self) -> &'static str {
        match self {
            TraceLevel::Off => "off",
            TraceLevel::Short => "short",
            TraceLevel::Full => "full",
        }
    }
}

/// One group of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// rustfmt, and clippy with and without the simulator's cfg
    Lint,
    /// One seed twice, in two builds, with and without its trace: always the same trace hash
    Determinism,
    /// cargo's tests of the whole workspace, on real tokio
    Unit,
    /// cargo's tests of the simulator and the scenarios, inside the simulator
    Sim,
    /// Every scenario over 20 seeds
    Scenarios,
    /// One known kill per planted bug
    Mutants,
    /// Those of the unit tests that are about the store's engine
    Engine,
    /// Those of the unit tests that are about Meilisearch dumps: made ones of every version, hostile ones, and real ones where
    /// MIROIR_DUMPS names some
    Dump,
    /// Rounds with real processes, one of each kind of trouble
    Cluster,
    /// The picture of a run, in headless Chromium
    Html,
    /// Every command and link in README and docs
    Docs,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// The simulator beside madsim's rpc and turmoil
    Sim,
    /// The store's engine beside redb and fjall, and the memory that it takes to read a store of 1 GiB
    Engine,
    /// A standard seed of the simulator
    Seed,
    /// The import of a Meilisearch dump beside parsing it and beside the engine's batches, and the memory that it takes
    Dump,
    /// A real cluster on loopback before, during and after migrations
    Cluster,
}

/// After how many failing seeds a sweep stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxFail(pub Option<u64>);

impl MaxFail {
    fn parse(text: &str) -> Result<MaxFail, String> {
        match (text, text.parse::<u64>()) {
            ("all", _) => Ok(MaxFail(None)),
            (_, Ok(count @ 1..)) => Ok(MaxFail(Some(count))),
            _ => Err("write a number from 1 on, or `all`".to_owned()),
        }
    }
}

impl Sweep {
    /// The seeds that were asked for; the group above sees to it that exactly one of the three was.
    pub fn range(&self) -> Result<SeedRange, Failure> {
        match (&self.seeds, self.count) {
            (Some(range), _) => SeedRange::from_str(range),
            (None, Some(count)) => SeedRange::counted(count),
            (None, None) => SeedRange::open(),
        }
    }

    /// The slice that was asked for. Slices of different seeds would be no slices of one sweep.
    pub fn partition(&self) -> Result<Partition, Failure> {
        let environment = |name: &str| std::env::var(name).ok();
        let Some(text) = &self.partition else { return Ok(Partition::WHOLE) };
        let partition = Partition::read(text, environment)?;
        let start_is_known = self.seeds.is_some() || environment(SEED_VARIABLE).is_some_and(|seed| !seed.is_empty());
        match (self.time, start_is_known) {
            (Some(_), _) => {
                Err(Failure::refused("--partition: `--for` has no set of seeds to divide; use --seeds A..B"))
            }
            (None, false) => Err(Failure::refused(format!(
                "--partition: every slice would begin with another random seed; use --seeds A..B, or set {SEED_VARIABLE}"
            ))),
            (None, true) => Ok(partition),
        }
    }

    /// The overrides, with the limit of simulated time as what it is.
    pub fn all_overrides(&self) -> Overrides {
        let mut overrides = self.overrides.clone();
        overrides.set.extend(self.simulated_limit_s.map(|seconds| format!("limit_ms={}", seconds * 1_000)));
        overrides
    }
}

/// Reads `90s`, `10m`, `8h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with s, m or h, as in 10m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

impl Cli {
    /// How the worker is to be built: `--dev`, else the environment.
    pub fn build(&self) -> Result<Build, Failure> {
        if self.dev {
            return Ok(Build::Dev);
        }
        match std::env::var(PROFILE_VARIABLE).as_deref() {
            Err(_) | Ok("" | "sim") => Ok(Build::Sim),
            Ok("dev") => Ok(Build::Dev),
            Ok(other) => Err(Failure::refused(format!("{PROFILE_VARIABLE}: `{other}` is not a build; use sim or dev"))),
        }
    }
}

/// Why there is no command to run.
#[derive(Debug)]
pub enum Stop {
    /// Help was asked for.
    Help(String),
    Failure(Failure),
}

/// Reads a command line, the program's name first.
pub fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, Stop> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Help(error.render().ansi().to_string()),
        _ => Stop::Failure(Failure::refused(explain(&error))),
    })
}

/// Clap's error as one line.
fn explain(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            format!("name a command; available: {}", available())
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let hint = nearest(name, command_names().iter().map(String::as_str))
                .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            format!("there is no command `{name}`; {hint}available: {}", available())
        }
        _ => {
            let text = error.render().to_string();
            let first_paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            format!("{}; `--help` lists what is allowed", first_paragraph.join(" ").trim_start_matches("error: "))
        }
    }
}

/// The names of all commands of this version.
pub fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn available() -> String {
    command_names().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    fn refusal(line: &str) -> String {
        match parse(format!("xtask {line}").split_whitespace()) {
            Err(Stop::Failure(failure)) => {
                assert_eq!(failure.exit, ExitCode::Refused);
                assert!(!failure.line.contains('\n'), "{failure}");
                failure.line
            }
            other => panic!("`{line}` was not refused: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_mistake_says_what_is_allowed() {
        assert!(refusal("swep").contains("did you mean `sweep`?"));
        assert!(refusal("").contains(
            "available: sim, scenarios, sweep, merge, replay, shrink, mutants, check, explain, gallery, test, bench, soak, ci, report, qualify"
        ));
        assert!(refusal("sim --trace loud").contains("off, short, full"));
        assert!(refusal("sweep cutover/swarm").contains("--seeds <A..B>"));
        assert!(refusal("sweep --for ten").contains("as in 10m"));
        assert!(refusal("sweep --for 10m --count 5").contains("--count"));
        assert!(refusal("sweep --seeds 0..1 --max-fail none").contains("or `all`"));
        assert!(refusal("sweep --seeds 0..1 --jobs 0").contains("--jobs"));
        assert!(refusal("sweep --seeds 0..1 --count 2").contains("--count"));
        assert!(refusal("test nothing").contains("determinism"));
        assert!(refusal("check h.jsonl --model map").contains("use register, cas-register or kv"));
        assert!(refusal("check h.jsonl").contains("--model"));
        assert!(refusal("bench everything").contains("sim"));
    }

    #[test]
    fn overrides_are_typed_again_as_they_were() {
        let line = "xtask sim steady/smoke --mutant M05 --set a=1 --set b=1/2 --profile storm";
        let Ok(Cli { command: Command::Sim(sim), .. }) = parse(line.split(' ')) else { panic!("{line}") };
        assert_eq!(sim.overrides.to_arguments().join(" "), "--profile storm --set a=1 --set b=1/2 --mutant M05");
        assert!(sim.overrides.check().is_ok());
        let bad = Overrides { set: vec!["=1".to_owned()], ..Overrides::default() };
        assert!(bad.check().unwrap_err().line.contains("--set help"));
    }
}
