//! The worker's command line: `run`, `scenarios`, `set-help`.

// The worker is the one place of these crates that touches the real world: arguments, files, and the wall clock that a
// run is timed with. Nothing of it reaches a simulation.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod arguments;
mod check;
mod files;

use std::io::Write;
use std::process;
use std::time::Instant;

use miroir_sim::trace::{Mode, Trace};
use miroir_sim::verdict::ExitCode;
use serde_json::json;

use crate::catalog::{self, SCENARIOS, aliases};
use crate::{canary, report, run, settings};
use arguments::{Arguments, Command};

/// Runs the command line; for `main`.
pub fn main() -> process::ExitCode {
    miroir_sim::coverage::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = match arguments::parse(&arguments) {
        Ok(Command::Run(arguments)) => run_one(&arguments),
        Ok(Command::Scenarios { json }) => {
            list(json);
            Ok(ExitCode::AsExpected)
        }
        Ok(Command::SetHelp) => {
            print!("{}", settings::help());
            Ok(ExitCode::AsExpected)
        }
        Ok(Command::Check(dir)) => check::run(&dir),
        Err(problem) => Err(Problem::from(problem)),
    };
    match code {
        Ok(code) => code.into(),
        Err(problem) => {
            eprintln!("error: {}", problem.line);
            problem.exit.into()
        }
    }
}

/// Why nothing came of a command: one line, and whose fault it is.
struct Problem {
    exit: ExitCode,
    line: String,
}

/// What was typed is wrong.
impl From<String> for Problem {
    fn from(line: String) -> Problem {
        Problem { exit: ExitCode::Refused, line }
    }
}

/// This machine does not do what it should, such as write a file.
fn internal(line: String) -> Problem {
    Problem { exit: ExitCode::Internal, line }
}

fn list(as_json: bool) {
    if as_json {
        let all: Vec<_> = SCENARIOS
            .iter()
            .map(|scenario| {
                json!({
                    "id": scenario.id,
                    "promise": scenario.promise,
                    "marks": scenario.marks,
                    "gate_overridden": scenario.gate_overridden,
                    "seeds_at_most": catalog::seeds_at_most(scenario),
                    "aliases": aliases(scenario),
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(all));
        return;
    }
    for scenario in SCENARIOS {
        println!("{:<34} {}", scenario.id, scenario.promise);
        for mark in scenario.marks {
            println!("{:<34}   mark: {mark}", "");
        }
    }
}

/// Draws or reads the plan, runs it, and says what came of it.
fn run_one(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let (scenario, plan) = match &arguments.plan {
        None => {
            let scenario = catalog::find(&arguments.scenario)?;
            let plan = catalog::draw(scenario, arguments.seed, arguments.profile.clone(), &arguments.settings)?;
            (scenario, plan)
        }
        Some(path) => {
            let mut plan = files::read_plan(path)?;
            for setting in &arguments.settings {
                settings::apply(&mut plan, setting)?;
            }
            plan.check().map_err(|problem| format!("{}: {problem}", path.display()))?;
            let (of_plan, asked) = (catalog::find(&plan.scenario)?, catalog::find(&arguments.scenario)?);
            if of_plan.id != asked.id {
                return Err(format!(
                    "{}: scenario: a plan of `{}` cannot run as `{}`",
                    path.display(),
                    of_plan.id,
                    asked.id
                )
                .into());
            }
            // The same plan with other chances, where another seed is asked for.
            plan.seed = arguments.seed.to_string();
            (of_plan, plan)
        }
    };
    let mutant = arguments.mutant.as_deref().or((scenario.id == canary::SCENARIO.id).then_some(canary::MUTANT));
    // What is kept for later is kept whole; it changes nothing in the run.
    let kept = arguments.events.is_some() || arguments.out.is_some() || arguments.until.is_some();
    let mode = if kept { Mode::Full } else { arguments.trace };
    let trace = Trace::new(mode);
    trace.describe(crate::describe::describe);
    let began = Instant::now();
    let mut outcome = run::run(scenario, &plan, mutant, trace, arguments.until);
    let wall_ms = began.elapsed().as_millis() as u64;
    outcome.record.wall_ms = wall_ms;
    let peak_kib = files::peak_kib();
    outcome.record.peak_kib = peak_kib.unwrap_or_default();
    if let Some(build) = &arguments.build {
        outcome.record.build.clone_from(build);
    }
    if let Some(path) = &arguments.events {
        files::write_lines(path, outcome.trace.lines()).map_err(internal)?;
    }
    if let Some(dir) = &arguments.out {
        files::write_run(dir, arguments, scenario, &outcome, mutant).map_err(internal)?;
    }
    let mut out = std::io::stdout().lock();
    let text = if arguments.json {
        format!("{}\n", outcome.record.to_json())
    } else {
        let mut text = String::new();
        let lines = match arguments.trace {
            Mode::Off => Vec::new(),
            Mode::Short => outcome.trace.short_lines(),
            Mode::Full => outcome.trace.lines(),
        };
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        text + &report::report(scenario, &outcome, mutant, &report::Took { wall_ms, peak_kib })
    };
    // A reader that has gone away is no failure of the run.
    let _closed = out.write_all(text.as_bytes());
    Ok(outcome.record.verdict.exit_code())
}
