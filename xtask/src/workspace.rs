//! Where things are: the workspace, its target directory, the cargo that started us, and how to start it again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::exit::{ExitCode, Failure};

/// The cfg that turns an ordinary build into one for the simulator.
const SIMULATOR_CFG: [&str; 2] = ["--cfg", "madsim"];

/// The checked-out tree that the command works on.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace whose `cargo xtask` was typed.
    pub fn locate() -> Workspace {
        // cargo sets the variable for what it runs; a binary started by hand falls back on where it was built.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .filter(|dir| dir.ends_with("xtask"))
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = package.parent().map_or_else(|| package.clone(), Path::to_path_buf);
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            // As for cargo, relative to where the command was typed.
            Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
            None => root.join("target"),
        };
        Workspace { root, target }
    }

    /// A workspace at `root` whose build output and kept runs go to `target`.
    pub fn at(root: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Workspace {
        Workspace { root: root.into(), target: target.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs, sweeps and comparisons are kept below this folder.
    pub fn kept(&self) -> PathBuf {
        self.target.join("miroir")
    }

    /// `cargo SUBCOMMAND` in the root of the workspace, for an ordinary build.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut cargo = Command::new(program);
        cargo.arg(subcommand).current_dir(&self.root);
        cargo
    }

    /// `cargo SUBCOMMAND` for the simulator: its cfg after the user's own flags, and a target directory of its own, so
    /// that ordinary builds and these do not throw each other's work away.
    pub fn simulator_cargo(&self, subcommand: &str) -> Command {
        let mut cargo = self.cargo(subcommand);
        match std::env::var_os("CARGO_ENCODED_RUSTFLAGS") {
            Some(flags) => cargo.env("CARGO_ENCODED_RUSTFLAGS", append(flags, "\u{1f}")),
            None => cargo.env("RUSTFLAGS", append(std::env::var_os("RUSTFLAGS").unwrap_or_default(), " ")),
        };
        cargo.arg("--target-dir").arg(self.target.join("madsim"));
        cargo
    }

    /// `path` as a person would type it in the root of the workspace.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Runs a `cargo build` of one program, and returns where it is. Cargo's own output goes to stderr, so a failed build needs
/// no second explanation.
pub fn built_by(mut cargo: Command) -> Result<PathBuf, Failure> {
    cargo.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let output =
        cargo.spawn().and_then(Child::wait_with_output).map_err(|error| Failure::io("start", "cargo", &error))?;
    if !output.status.success() {
        return Err(Failure::already_said(ExitCode::BuildFailed));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| Failure::internal("cargo built a program and did not name it"))
}

/// The user's flags, then the simulator's.
fn append(mut flags: OsString, separator: &str) -> OsString {
    for flag in SIMULATOR_CFG {
        if !flags.is_empty() {
            flags.push(separator);
        }
        flags.push(flag);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_flags_stay_in_front() {
        assert_eq!(append(OsString::new(), " "), "--cfg madsim");
        assert_eq!(append(OsString::from("-C target-cpu=native"), " "), "-C target-cpu=native --cfg madsim");
        assert_eq!(append(OsString::from("-Copt-level=2"), "\u{1f}"), "-Copt-level=2\u{1f}--cfg\u{1f}madsim");
    }

    #[test]
    fn paths_are_shown_from_the_root() {
        let workspace = Workspace::at("/tree", "/tree/target");
        assert_eq!(workspace.shown(&workspace.kept()).to_string(), "target/miroir");
        assert_eq!(workspace.shown(Path::new("/elsewhere")).to_string(), "/elsewhere");
    }
}
