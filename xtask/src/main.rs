//! `cargo xtask`: reads the command line, runs one command, ends with a documented exit code.

use xtask::cli::{self, Cli, Command, Stop};
use xtask::exit::{ExitCode, Failure};
use xtask::print::{note, out, red};
use xtask::worker::Worker;
use xtask::workspace::Workspace;
use xtask::{
    bench, check, explain, gallery, merge, mutants, qualify, replay, report, seeds, shrink, sim, soak, sweep, test,
};

fn main() -> std::process::ExitCode {
    let result = match cli::parse(std::env::args_os()) {
        Ok(cli) => run(&cli),
        Err(Stop::Help(text)) => {
            out(text.trim_end());
            Ok(ExitCode::AsExpected)
        }
        Err(Stop::Failure(failure)) => Err(failure),
    };
    let exit = result.unwrap_or_else(|failure| {
        if !failure.line.is_empty() {
            note(format!("{}: {failure}", red("error")));
        }
        failure.exit
    });
    exit.into()
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let workspace = Workspace::locate();
    let build = cli.build()?;
    match &cli.command {
        Command::Sim(options) => sim::run(&workspace, build, options),
        Command::Scenarios { json } => {
            let arguments: &[&str] = if *json { &["scenarios", "--json"] } else { &["scenarios"] };
            Worker::build(&workspace, build)?.print(arguments)
        }
        Command::Sweep(options) => sweep::run(&workspace, build, options),
        Command::Merge(options) => merge::run(&workspace, build, options),
        Command::Replay(options) => replay::run(&workspace, build, options),
        Command::Shrink(options) => shrink::run(&workspace, build, options),
        Command::Mutants(options) => mutants::run(&workspace, build, options),
        Command::Check { file, model } => check::run(file, *model),
        Command::Explain(options) => explain::run(&workspace, build, options),
        Command::Gallery => gallery::run(&workspace, build),
        Command::Test { areas } => test::run(&workspace, build, areas),
        Command::Bench { benches } => bench::run(&workspace, benches),
        Command::Soak { rounds, seed, json } => soak::run(&workspace, *rounds, seeds::choose(seed.as_deref())?, *json),
        Command::Ci => test::run(&workspace, build, &[]),
        Command::Report(options) => report::run(&workspace, build, options),
        Command::Qualify(options) => qualify::run(&workspace, build, options),
    }
}
