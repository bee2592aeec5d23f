//! The operator's command line: reads what was typed, runs one command, ends with a documented exit code.
//!
//! Every command prints text, or JSON with `--json`: results on stdout, everything else on stderr.

#![expect(clippy::disallowed_methods, reason = "a program has arguments, variables and files")]

pub mod arguments;
mod dump;
pub mod exit;
pub mod print;

use arguments::{Cli, Command, Stop};
use exit::{ExitCode, Failure};
use print::{note, out};

/// Runs the program.
pub fn main() -> std::process::ExitCode {
    let cli = match arguments::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Stop::Help(text)) => {
            out(text.trim_end());
            return ExitCode::AsExpected.into();
        }
        Err(Stop::Failure(failure)) => {
            note(format!("error: {failure}"));
            return failure.exit.into();
        }
    };
    run(&cli).unwrap_or_else(|failure| print::failure(&failure, cli.global.json)).into()
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Dump(command) => command.run(&cli.global),
    }
}
