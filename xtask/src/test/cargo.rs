//! The areas that are cargo's own: rustfmt, clippy, and tests, whose results are counted from what they print.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::exit::{ExitCode, Failure};
use crate::print::out;
use crate::workspace::Workspace;

use super::Count;

/// clippy with warnings denied: as an ordinary build, or inside the simulator, where this package, which is never built for it,
/// stays out. Always the same words, so that what was linted is not linted again.
pub fn clippy(workspace: &Workspace, simulated: bool, options: &[&str]) -> Command {
    let mut clippy = if simulated { workspace.simulator_cargo("clippy") } else { workspace.cargo("clippy") };
    clippy.arg("--workspace").args(if simulated { &["--exclude", "xtask"][..] } else { &[] });
    clippy.arg("--all-targets").args(options).args(["--", "-D", "warnings"]);
    clippy
}

/// rustfmt, and clippy in both ways.
pub fn lint(workspace: &Workspace) -> Result<Count, Failure> {
    let mut fmt = workspace.cargo("fmt");
    fmt.args(["--all", "--", "--check"]);
    let (plain, simulated) = (clippy(workspace, false, &[]), clippy(workspace, true, &[]));

    let mut count = Count::default();
    for (what, mut command) in
        [("cargo fmt --check", fmt), ("cargo clippy", plain), ("cargo clippy with the simulator's cfg", simulated)]
    {
        let clean = command.status().map_err(|error| Failure::io("start", "cargo", &error))?.success();
        count.check(if clean { Ok(()) } else { Err(what.to_owned()) });
    }
    Ok(count)
}

/// Runs `cargo test` with `selection`, and the test binaries with `filter`. Shows, and hears, every line that they print.
pub fn test(
    mut cargo: Command,
    selection: &[&str],
    filter: &[&str],
    mut hear: impl FnMut(&str),
) -> Result<Count, Failure> {
    cargo.args(selection);
    // Built first and by itself, because a failed build and a failed test have the same exit code.
    let mut build = again(&cargo);
    let built = build.arg("--no-run").status().map_err(|error| Failure::io("start", "cargo", &error))?;
    if !built.success() {
        return Err(Failure::already_said(ExitCode::BuildFailed));
    }
    cargo.arg("--no-fail-fast").arg("--").args(filter).stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(|error| Failure::io("start", "cargo", &error))?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| Failure::io("read", "the output of cargo test", &error))?;
            count.add(result(&line).unwrap_or_default());
            hear(&line);
            out(line);
        }
    }
    let status = child.wait().map_err(|error| Failure::io("wait for", "cargo test", &error))?;
    if !status.success() && count.failed == 0 {
        count.check(Err("a test binary ended without a result".to_owned()));
    }
    Ok(count)
}

/// The same command a second time; `Command` cannot be cloned.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        copy.current_dir(folder);
    }
    copy
}

/// Reads `test result: ok. 3 passed; 0 failed; ...`, the last line of every test binary.
fn result(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |noun: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(noun)).and_then(|number| number.trim().parse().ok())
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(result(line), Some(Count { passed: 12, failed: 3 }));
        assert_eq!(result("test cli::tests::x ... ok"), None);
        assert_eq!(result("test result: soon"), None);
    }

    #[test]
    fn a_command_is_repeated_with_its_surroundings() {
        let mut command = Command::new("cargo");
        command.arg("test").env("RUSTFLAGS", "--cfg madsim").current_dir("/");
        let copy = again(&command);
        assert!(copy.get_args().eq(command.get_args()) && copy.get_envs().eq(command.get_envs()));
        assert_eq!(copy.get_current_dir(), command.get_current_dir());
    }
}
