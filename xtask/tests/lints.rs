//! The rules of determinism fire. `clippy.toml` names its targets by path, and a path that a dependency renamed would be
//! passed over in silence; so forbidden code is linted, as an ordinary build and with the simulator's cfg, and exactly the
//! marked lines must be refused.
//!
//! It is linted against what a lint of the workspace has just checked: the very packages that the rules are about.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::test::cargo::clippy;
use xtask::workspace::Workspace;

/// What must not pass.
const FORBIDDEN: &str = "xtask/tests/lints/forbidden.rs";

/// Forbidden code names these.
const PACKAGES: [(&str, &str); 3] = [("madsim", "madsim"), ("redb", "redb"), ("tokio", "madsim_tokio")];

/// The families of rules that the workspace denies.
const RULES: [&str; 4] = ["disallowed_methods", "disallowed_types", "disallowed_macros", "iter_over_hash_type"];

/// Lints the workspace, and returns where the metadata of each package is.
fn checked(mut clippy: Command) -> BTreeMap<String, PathBuf> {
    let output = clippy.output().expect("cargo starts");
    assert!(output.status.success(), "clippy: {}", String::from_utf8_lossy(&output.stderr));
    let artifacts = messages(&output.stdout).into_iter().filter(|message| message["reason"] == "compiler-artifact");
    let found = |artifact: serde_json::Value| {
        let file = artifact["filenames"]
            .as_array()?
            .iter()
            .find_map(|name| name.as_str()?.ends_with(".rmeta").then_some(name))?;
        Some((artifact["target"]["name"].as_str()?.replace('-', "_"), PathBuf::from(file.as_str()?)))
    };
    artifacts.filter_map(found).collect()
}

fn messages(output: &[u8]) -> Vec<serde_json::Value> {
    String::from_utf8_lossy(output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines of the forbidden code at which clippy reports an error.
fn refused(workspace: &Workspace, simulated: bool) -> BTreeSet<u64> {
    let checked = checked(clippy(workspace, simulated, &["--quiet", "--message-format", "json"]));
    // Beside the cargo that runs us; a cargo by itself finds it in the path.
    let driver = std::env::var_os("CARGO")
        .map_or_else(|| PathBuf::from("clippy-driver"), |cargo| Path::new(&cargo).with_file_name("clippy-driver"));
    let mut command = Command::new(driver);
    command.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--error-format", "json"]);
    command.args(["--check-cfg", "cfg(madsim)", "--out-dir"]).arg(env!("CARGO_TARGET_TMPDIR"));
    if simulated {
        command.args(["--cfg", "madsim"]);
    }
    for (name, package) in PACKAGES {
        let Some(metadata) = checked.get(package) else {
            assert!(package == "madsim" && !simulated, "{package} is not among {:?}", checked.keys());
            continue;
        };
        let mut named = OsString::from(format!("{name}="));
        named.push(metadata);
        command.arg("--extern").arg(named).arg("-L").arg(metadata.parent().expect("metadata is in a folder"));
    }
    command.args(RULES.map(|rule| format!("-Dclippy::{rule}"))).arg(FORBIDDEN);
    let output = command
        .current_dir(workspace.root())
        .env("CLIPPY_CONF_DIR", workspace.root())
        .output()
        .expect("clippy-driver starts");
    // Without cargo around it, the compiler writes its messages to standard error.
    let lines: BTreeSet<u64> = messages(&output.stderr)
        .iter()
        .filter(|message| message["level"] == "error")
        .filter_map(|message| line_of(&message["spans"][0]))
        .collect();
    assert!(!lines.is_empty(), "clippy refused nothing: {}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// The line of the forbidden code that a span is about; one inside a macro of another package is about where it was called.
fn line_of(span: &serde_json::Value) -> Option<u64> {
    match span["file_name"].as_str()? {
        FORBIDDEN => span["line_start"].as_u64(),
        _ => line_of(&span["expansion"]["span"]),
    }
}

/// The lines that carry a mark; those of the simulator's cfg only with it.
fn marked(workspace: &Workspace, simulated: bool) -> BTreeSet<u64> {
    let text = fs::read_to_string(workspace.root().join(FORBIDDEN)).expect("the forbidden code can be read");
    let counts = |line: &str| match line.split_once("//~") {
        Some((_, cfg)) => cfg.trim().is_empty() || simulated,
        None => false,
    };
    (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with("//!") && counts(line)).map(|(at, _)| at).collect()
}

#[test]
fn forbidden_code_is_refused_in_both_builds() {
    let workspace = Workspace::locate();
    assert_eq!(refused(&workspace, false), marked(&workspace, false), "as an ordinary build");
    assert_eq!(refused(&workspace, true), marked(&workspace, true), "with the simulator's cfg");
}
