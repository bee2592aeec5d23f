//! The operator's command line: reads what was typed, runs one command, ends with a documented exit code.
//!
//! Every command takes its settings from the same schema (`settings`) and prints text, or JSON with `--json`: results on
//! stdout, everything else on stderr. `process` runs nodes and the coordinator; everything else is a client of a running
//! cluster (`session`), and `local` runs a whole cluster on one machine.

#![expect(clippy::disallowed_methods, reason = "a program has arguments, variables and files")]

pub mod arguments;
mod documents;
mod dump;
pub mod exit;
mod local;
mod members;
mod metrics;
mod migrate;
pub mod print;
mod process;
pub mod session;
pub mod settings;
mod stats;
mod upkeep;
mod verify;

use std::path::PathBuf;

use arguments::{Cli, Command, Global, Stop};
use exit::{ExitCode, Failure};
use print::out;
use session::Session;
use settings::{FILE_VARIABLE, Settings};

use crate::net::key::SharedKey;

/// Runs the program.
pub fn main() -> std::process::ExitCode {
    let cli = match arguments::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Stop::Help(text)) => {
            out(text.trim_end());
            return ExitCode::AsExpected.into();
        }
        Err(Stop::Failure(failure)) => {
            return print::failure(&failure, arguments::want_json(std::env::args_os())).into();
        }
    };
    run(&cli).unwrap_or_else(|failure| print::failure(&failure, cli.global.json)).into()
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Key => {
            let key = SharedKey::fresh().to_hex();
            match global.json {
                true => print::json(&serde_json::json!({ "key": key })),
                false => out(key),
            }
            Ok(ExitCode::AsExpected)
        }
        Command::Config => config(global),
        Command::Node | Command::Coordinator { .. } if global.dry_run => Err(Failure::usage(
            "a process is run or it is not: there is no --dry-run of it; `miroir config` checks its settings",
        )),
        Command::Node => process::node(settings(global)?),
        Command::Coordinator { gone } => process::coordinator(settings(global)?, gone),
        Command::Cluster(command) => local::run(command, global),
        Command::Dump(command) if !command.wants_cluster(global) => command.run(global),
        command => {
            let settings = settings(global)?;
            process::runtime(1)?.block_on(async {
                let mut session = Session::open(settings).await?;
                let ended = ask(command, global, &mut session).await;
                session.close().await;
                ended
            })
        }
    }
}

/// What is asked of a running cluster.
async fn ask(command: &Command, global: &Global, session: &mut Session) -> Result<ExitCode, Failure> {
    match command {
        Command::Put { key, body } => documents::put(session, global, key, body).await,
        Command::Get { key } => documents::get(session, global, key).await,
        Command::Delete { key } => documents::delete(session, global, key).await,
        Command::Scan { collection, prefix, limit } => {
            documents::scan(session, global, collection, prefix, *limit).await
        }
        Command::Drop { collection } => documents::drop_collection(session, global, collection).await,
        Command::Nodes(command) => members::nodes(session, global, command).await,
        Command::Shards(command) => members::shards(session, global, command).await,
        Command::Migrate(command) => migrate::run(session, global, command).await,
        Command::AntiEntropy(command) => upkeep::anti_entropy(session, global, command).await,
        Command::Scrub { node } => upkeep::scrub(session, global, *node).await,
        Command::Stats => stats::stats(session, global).await,
        Command::Dump(command) => command.ask(session, global).await,
        Command::Node | Command::Coordinator { .. } | Command::Cluster(_) | Command::Key | Command::Config => {
            unreachable!("these ask nobody")
        }
    }
}

/// The settings of this process.
fn settings(global: &Global) -> Result<Settings, Failure> {
    let file = global.config.clone().or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
    let unicode = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    Settings::load(file.as_deref(), std::env::vars_os().filter_map(unicode), &global.set)
}

fn config(global: &Global) -> Result<ExitCode, Failure> {
    let settings = settings(global)?;
    match global.json {
        true => print::json(&settings),
        false => out(toml::to_string(&settings).expect("settings are TOML").trim_end()),
    }
    Ok(ExitCode::AsExpected)
}
