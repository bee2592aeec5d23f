//! The rules of determinism fire. `clippy.toml` names its targets by path, and a path that a dependency renamed would be
//! passed over in silence; so a package of forbidden code is linted, as an ordinary build and with the simulator's cfg, and
//! exactly the marked lines must be refused.
//!
//! The package stands in `tests/lints`. It is copied, because a package inside another's tests would leave its build
//! output there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent").to_path_buf()
}

/// Copies the package, with the workspace's lock file, and returns where it is.
fn forbidden() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lints");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lints");
    fs::create_dir_all(to.join("src")).expect("the copy has a folder");
    for file in ["Cargo.toml", "src/lib.rs"] {
        fs::copy(from.join(file), to.join(file)).expect("the package is copied");
    }
    fs::copy(root().join("Cargo.lock"), to.join("Cargo.lock")).expect("the lock file is copied");
    to
}

/// The lines of `src/lib.rs` at which clippy reports an error.
fn refused(package: &Path, rustflags: &str, target: &str) -> BTreeSet<u64> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["clippy", "--quiet", "--message-format", "json", "--target-dir", target])
        .current_dir(package)
        .env("CLIPPY_CONF_DIR", root())
        .env("RUSTFLAGS", rustflags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo starts");
    let lines: BTreeSet<u64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["message"]["level"] == "error")
        .filter_map(|message| line_of(&message["message"]["spans"][0]))
        .collect();
    assert!(!lines.is_empty(), "clippy refused nothing: {}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// The line of `src/lib.rs` that a span is about; one inside a macro of another package is about where it was called.
fn line_of(span: &serde_json::Value) -> Option<u64> {
    match span["file_name"].as_str()? {
        "src/lib.rs" => span["line_start"].as_u64(),
        _ => line_of(&span["expansion"]["span"]),
    }
}

/// The lines that carry a mark; those of the simulator's cfg only with it.
fn marked(package: &Path, simulated: bool) -> BTreeSet<u64> {
    let text = fs::read_to_string(package.join("src/lib.rs")).expect("the package can be read");
    let counts = |line: &str| match line.split_once("//~") {
        Some((_, cfg)) => cfg.trim().is_empty() || simulated,
        None => false,
    };
    (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with("//!") && counts(line)).map(|(at, _)| at).collect()
}

#[test]
fn forbidden_code_is_refused_in_both_builds() {
    let package = forbidden();
    assert_eq!(refused(&package, "", "plain"), marked(&package, false), "as an ordinary build");
    assert_eq!(refused(&package, "--cfg madsim", "madsim"), marked(&package, true), "with the simulator's cfg");
}
