//! The folders in which runs and sweeps are kept, below `target/miroir`.
//!
//! A folder is named after what ran and a number that is free: `runs/cutover-swarm-42`, `runs/cutover-swarm-42.2`.
//! Claiming one is a single `mkdir`, so two commands at the same time never share one. `latest` names the last claimed
//! folder that was kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The name of the link to the last kept folder.
pub const LATEST: &str = "latest";

/// How much of a name goes into a folder's, in characters.
const STEM_MAX: usize = 100;

/// Claims a fresh folder in `parent` whose name begins with `stem`.
pub fn claim(parent: &Path, stem: &str) -> Result<PathBuf, Failure> {
    fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent.display(), &error))?;
    // A name may be anything that somebody typed; a folder's name is not.
    let tame = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let stem: String = stem.chars().map(tame).take(STEM_MAX).collect();
    for number in 1_u64.. {
        let name = if number == 1 { stem.clone() } else { format!("{stem}.{number}") };
        let folder = parent.join(name);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("create", folder.display(), &error)),
        }
    }
    unreachable!("one of 2^64 names is free")
}

/// Keeps a claimed folder: `latest` points to it from now on. An empty folder is given back instead; `false` says so.
pub fn keep(folder: &Path) -> Result<bool, Failure> {
    if fs::remove_dir(folder).is_ok() {
        return Ok(false);
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Ok(true);
    };
    // A new link beside the old one, renamed over it: whoever looks sees one or the other.
    let fresh = parent.join(format!(".{LATEST}.{}", std::process::id()));
    link(Path::new(name), &fresh)
        .and_then(|()| fs::rename(&fresh, parent.join(LATEST)))
        .map_err(|error| Failure::io("link", parent.join(LATEST).display(), &error))?;
    Ok(true)
}

#[cfg(unix)]
fn link(name: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(name, at)
}

/// Where links need privileges, `latest` is a file that holds the name.
#[cfg(not(unix))]
fn link(name: &Path, at: &Path) -> io::Result<()> {
    fs::write(at, name.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own in the system's temporary one, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("miroir-runs-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Scratch(folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_claim_is_fresh() {
        let scratch = Scratch::new("claim");
        let first = claim(&scratch.0, "cutover/swarm-42").unwrap();
        let second = claim(&scratch.0, "cutover/swarm-42").unwrap();
        assert!(first.ends_with("cutover-swarm-42"));
        assert!(second.ends_with("cutover-swarm-42.2"));
    }

    #[test]
    fn latest_follows_what_was_kept_and_empty_folders_go() {
        let scratch = Scratch::new("keep");
        let kept = claim(&scratch.0, "a").unwrap();
        fs::write(kept.join("repro.toml"), "seed = 1").unwrap();
        assert!(keep(&kept).unwrap());
        let empty = claim(&scratch.0, "b").unwrap();
        assert!(!keep(&empty).unwrap());
        assert!(!empty.exists());
        assert_eq!(fs::read_to_string(scratch.0.join(LATEST).join("repro.toml")).unwrap(), "seed = 1");
    }
}
