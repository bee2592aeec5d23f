//! What the worker is asked for. `cargo xtask` writes these arguments; people rarely do.

use std::path::PathBuf;

use miroir_sim::Seed;
use miroir_sim::time::{Nanos, parse_instant};
use miroir_sim::trace::Mode;

use super::files;
use crate::plan::Profile;

pub enum Command {
    Run(Arguments),
    Scenarios {
        json: bool,
    },
    SetHelp,
    /// Judge what is stored in the folder of a run.
    Check(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Arguments {
    pub scenario: String,
    pub seed: Seed,
    pub plan: Option<PathBuf>,
    pub profile: Profile,
    pub settings: Vec<String>,
    pub mutant: Option<String>,
    pub trace: Mode,
    pub out: Option<PathBuf>,
    pub events: Option<PathBuf>,
    pub json: bool,
    /// Where the run stops.
    pub until: Option<Nanos>,
    /// What the record calls this build.
    pub build: Option<String>,
}

const USAGE: &str = "miroir-worker run --scenario ID --seed N [--plan FILE] [--profile calm|usual|storm|FILE] \
     [--set key=value]... [--mutant ID] [--trace off|short|full] [--until 3.2s] [--out DIR] [--events FILE] [--json] \
     [--build ID] | scenarios [--json] | set-help | check DIR";

/// Reads the arguments; the error is one line.
pub fn parse(arguments: &[String]) -> Result<Command, String> {
    let (command, rest) = arguments.split_first().ok_or_else(|| format!("usage: {USAGE}"))?;
    match command.as_str() {
        "run" => parse_run(rest).map(Command::Run),
        "scenarios" => match rest {
            [] => Ok(Command::Scenarios { json: false }),
            [flag] if flag == "--json" => Ok(Command::Scenarios { json: true }),
            _ => Err("`scenarios` takes --json and nothing else".to_owned()),
        },
        "set-help" => Ok(Command::SetHelp),
        "check" => match rest {
            [dir] => Ok(Command::Check(dir.into())),
            _ => Err("`check` takes the folder of a run".to_owned()),
        },
        other => Err(format!("unknown command `{other}`; usage: {USAGE}")),
    }
}

fn parse_run(arguments: &[String]) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        scenario: "cutover/swarm".to_owned(),
        seed: Seed(0),
        plan: None,
        profile: Profile::Usual,
        settings: Vec::new(),
        mutant: None,
        trace: Mode::Off,
        out: None,
        events: None,
        json: false,
        until: None,
        build: None,
    };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        if flag == "--json" {
            parsed.json = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("`{flag}` needs a value; usage: {USAGE}"))?;
        match flag.as_str() {
            "--scenario" => parsed.scenario = value.clone(),
            "--seed" => parsed.seed = value.parse().map_err(|error| format!("--seed: {error}"))?,
            "--plan" => parsed.plan = Some(value.into()),
            "--profile" => {
                parsed.profile = files::read_profile(value).map_err(|error| format!("--profile: {error}"))?
            }
            "--set" => parsed.settings.push(value.clone()),
            "--mutant" => parsed.mutant = Some(mutant(value)?),
            "--trace" => parsed.trace = value.parse().map_err(|error| format!("--trace: {error}"))?,
            "--out" => parsed.out = Some(value.into()),
            "--events" => parsed.events = Some(value.into()),
            "--until" => parsed.until = Some(parse_instant(value).map_err(|error| format!("--until: {error}"))?),
            "--build" => parsed.build = Some(value.clone()),
            _ => return Err(format!("unknown flag `{flag}`; usage: {USAGE}")),
        }
    }
    Ok(parsed)
}

fn mutant(name: &str) -> Result<String, String> {
    let known = miroir_store::mutant::PLANTED;
    if known.iter().any(|(id, _)| *id == name) {
        return Ok(name.to_owned());
    }
    let ids: Vec<&str> = known.iter().map(|(id, _)| *id).collect();
    Err(format!("there is no planted bug `{name}`; there are {}", ids.join(", ")))
}
