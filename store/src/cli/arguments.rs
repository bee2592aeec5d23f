//! What can be typed. Every refusal is one line with exit code 2.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::cli::dump::DumpCommand;
use crate::cli::exit::Failure;

#[derive(Debug, Parser)]
#[command(name = "miroir", version, disable_help_subcommand = true, max_term_width = 110)]
/// A document store that is sharded and replicated.
///
/// Exit codes: 0 done, 2 bad input or refused before anything was changed, 4 nothing there or nobody answered, 70 the
/// tool failed, 100 something was found.
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON on stdout, one value per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say whether it would be done, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dumps of Meilisearch: see what is in one, import it, export one
    #[command(subcommand)]
    Dump(DumpCommand),
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
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Stop::Failure(Failure::usage("a command is missing; `miroir --help` lists them"))
        }
        _ => Stop::Failure(Failure::usage(explain(&error))),
    })
}

/// Clap's error as one line.
fn explain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value.clone()),
        Some(ContextValue::Strings(values)) => Some(values.join(", ")),
        _ => None,
    };
    let mut line = first.trim_end_matches(':').to_owned();
    if first.ends_with(':') {
        // What is missing stands on lines of its own.
        let missing: Vec<&str> = text.lines().skip(1).take_while(|line| line.starts_with(' ')).map(str::trim).collect();
        line = format!("{line}: {}", missing.join(", "));
    }
    if let Some(suggested) = named(ContextKind::SuggestedSubcommand).or_else(|| named(ContextKind::SuggestedArg)) {
        line = format!("{line}; did you mean `{suggested}`?");
    }
    if let Some(possible) = named(ContextKind::ValidValue).filter(|possible| !possible.is_empty()) {
        line = format!("{line}; allowed: {possible}");
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_mistake_is_one_line() {
        for line in ["", "dmup", "dump", "dump import", "dump import x --stroe y", "dump import x --store y --mode z"] {
            match parse(format!("miroir {line}").split_whitespace()) {
                Err(Stop::Failure(failure)) => assert!(!failure.line.contains('\n'), "{failure}"),
                other => panic!("`{line}` was not refused: {other:?}"),
            }
        }
    }
}
