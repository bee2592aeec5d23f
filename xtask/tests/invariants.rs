//! What the parts of the tree must never do. Each invariant is an absence, so nothing else would notice that it is gone.
//!
//! Clippy refuses ambient effects in code that is compiled (`clippy.toml`, proved by `lints.rs`); the search below is a
//! second net, which sees every file whatever the cfg.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::docs;

const PACKAGES: [&str; 4] = ["sim", "store", "scenarios", "xtask"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent").to_path_buf()
}

fn manifest(package: &str) -> toml::Table {
    let path = root().join(package).join("Cargo.toml");
    fs::read_to_string(&path).expect("every package has a manifest").parse().expect("manifests are TOML")
}

/// The names of all dependencies of a package, whatever their kind and cfg.
fn dependencies(table: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in table {
        match value.as_table() {
            Some(entries) if key.ends_with("dependencies") => names.extend(entries.keys().cloned()),
            Some(nested) if key != "package" => names.extend(dependencies(nested)),
            _ => {}
        }
    }
    names
}

/// Every Rust file below `folder`, relative to the root, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("source folders can be listed") {
            let path = entry.expect("source folders can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources can be read");
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                found.push((name, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no source");
    found.sort();
    found
}

/// Lines of code, without comments and unit tests, that contain one of `words`, in files that `allowed` does not cover.
/// Unit tests stand at the end of a file; they start threads, because a run wants one of its own, and clippy has them say so.
fn uses(folder: &str, words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources(folder).iter().filter(|(name, _)| !allowed(name)) {
        let tested = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
        for (number, line) in (1..).zip(text[..tested].lines()) {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| names(code, word)) {
                found.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

/// Whether `code` has `word` with nothing before it that would make it the end of a longer name.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn simulator_and_store_do_not_know_each_other() {
    for (package, stranger) in [("sim", "store"), ("sim", "scenarios"), ("store", "sim"), ("store", "scenarios")] {
        let name = format!("miroir-{stranger}");
        assert!(!dependencies(&manifest(package)).contains(&name), "{package} depends on {name}");
        let module = name.replace('-', "_");
        assert_eq!(uses(&format!("{package}/src"), &[&module], |_| false), [""; 0], "{package} names {module}");
    }
}

#[test]
fn only_the_world_names_the_runtime_of_the_simulator() {
    for package in PACKAGES.iter().filter(|package| **package != "sim") {
        assert!(!dependencies(&manifest(package)).contains(&"madsim".to_owned()), "{package} depends on madsim");
    }
    for folder in ["sim/src", "store/src", "scenarios/src"] {
        let world = |name: &str| name == "sim/src/world.rs" || name.starts_with("sim/src/world/");
        assert_eq!(uses(folder, &["madsim::"], world), [""; 0]);
    }
}

#[test]
fn only_the_wire_names_its_encoding() {
    for folder in ["sim/src", "store/src", "scenarios/src"] {
        assert_eq!(uses(folder, &["bincode"], |name| name == "store/src/wire/frame.rs"), [""; 0]);
    }
}

#[test]
fn nothing_can_be_published_by_accident() {
    for package in PACKAGES {
        let publish = manifest(package)["package"].get("publish").cloned();
        assert_eq!(publish, Some(toml::Value::Boolean(false)), "{package}");
    }
}

#[test]
fn every_package_is_under_the_rules_of_the_workspace() {
    for package in PACKAGES {
        let inherits = manifest(package).get("lints").and_then(|lints| lints.get("workspace")).cloned();
        assert_eq!(inherits, Some(toml::Value::Boolean(true)), "{package}");
        let own = root().join(package).join("clippy.toml").exists();
        assert_eq!(own, package == "xtask", "{package}: only the command line has rules of its own");
    }
}

#[test]
fn no_ambient_effects_outside_env() {
    let ambient = [
        "std::time::Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "tokio::fs",
        "thread_rng",
    ];
    // Where the store meets the real world, and where it is a program; and how much its own tests try.
    let places =
        ["store/src/env", "store/src/net", "store/src/cli", "store/src/bin", "store/src/accident.rs", "sim/src/world"];
    let outside = |name: &str| places.iter().any(|place| name.starts_with(place));
    for folder in ["sim/src", "store/src"] {
        assert_eq!(uses(folder, &ambient, outside), [""; 0]);
    }
}

#[test]
fn documents_show_only_commands_and_files_that_exist() {
    let checked = docs::check(&root()).expect("documents can be read");
    assert_eq!(checked.failed, [""; 0]);
}

#[test]
fn the_search_sees_what_it_looks_for() {
    assert!(names("use madsim::rand;", "madsim::"));
    assert!(!names("use not_madsim::rand;", "madsim::"));
    assert!(dependencies(&manifest("sim")).contains(&"madsim".to_owned()), "dependencies of a cfg are found");
}
