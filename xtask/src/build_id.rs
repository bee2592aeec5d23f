//! Which build runs: the version, and a hash of the sources that decide what a run does.
//!
//! A hash of sources and not of the program, because it must be equal on every machine that takes part in a sweep, wherever
//! and however each of them built. Formatting and comments change it too: "another build" means "may differ", no more.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::exit::Failure;

/// What decides: the lock file, the toolchain, the profiles that are built in, and the sources of everything below the
/// worker.
const FILES: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "rust-toolchain.toml",
    "sim/profiles/calm.toml",
    "sim/profiles/storm.toml",
    "sim/profiles/usual.toml",
];
const FOLDERS: [&str; 3] = ["sim", "store", "scenarios"];

/// What is below them and in no worker: the command line of the store's own program.
const NOT_THERE: [&str; 3] = ["store/src/cli", "store/src/cli.rs", "store/src/bin"];

/// The name of the build that the tree at `root` gives, such as `0.1.0+3f9a00c1d2e4`.
pub fn of_sources(root: &Path) -> Result<String, Failure> {
    let mut paths: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for folder in FOLDERS {
        paths.push(Path::new(folder).join("Cargo.toml"));
        collect(root, &Path::new(folder).join("src"), &mut paths)?;
    }
    paths.sort();
    let mut hash = Xxh3::new();
    for path in paths {
        let bytes = fs::read(root.join(&path)).map_err(|error| Failure::io("read", path.display(), &error))?;
        hash.update(path.to_string_lossy().as_bytes());
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(named(hash.digest()))
}

/// The name of a program that was not built from these sources.
pub fn of_program(program: &Path) -> Result<String, Failure> {
    let bytes = fs::read(program).map_err(|error| Failure::io("start the worker", program.display(), &error))?;
    Ok(named(xxhash_rust::xxh3::xxh3_64(&bytes)))
}

fn named(digest: u64) -> String {
    format!("{}+{:012x}", env!("CARGO_PKG_VERSION"), digest >> 16)
}

fn collect(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::io("list", folder.display(), &error);
    for entry in fs::read_dir(root.join(folder)).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = folder.join(entry.file_name());
        if NOT_THERE.iter().any(|other| path == Path::new(other)) {
            continue;
        }
        if entry.file_type().map_err(cannot)?.is_dir() {
            collect(root, &path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a source takes in at build time has to be hashed with it; the README is only documentation.
    #[test]
    fn nothing_is_built_in_that_is_not_hashed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut paths = Vec::new();
        FOLDERS.iter().for_each(|folder| collect(root, &Path::new(folder).join("src"), &mut paths).unwrap());
        let mut built_in = 0;
        for path in paths {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            let taken_in = ["include_str!(\"", "include_bytes!(\""].map(|before| text.split(before).skip(1));
            for rest in taken_in.into_iter().flatten() {
                let (file, _) = rest.split_once('"').unwrap();
                let name = file.trim_start_matches("../");
                let is_hashed = FILES.iter().any(|hashed| hashed.ends_with(name)) || name == "README.md";
                assert!(is_hashed, "{}: {file} is not hashed", path.display());
                built_in += 1;
            }
        }
        assert!(built_in >= 3);
    }

    #[test]
    fn equal_sources_have_one_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let name = of_sources(root).unwrap();
        assert_eq!(name, of_sources(root).unwrap());
        assert_eq!(name.len(), env!("CARGO_PKG_VERSION").len() + 13, "{name}");
        assert!(of_sources(Path::new("/does/not/exist")).is_err());
        assert_ne!(named(1 << 20), named(2 << 20));
    }
}
