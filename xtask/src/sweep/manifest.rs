//! `sweep.json`: what a sweep was asked for and how it ended, for `merge` and for the next sweep.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::catalog::Entry;
use crate::cli::Overrides;
use crate::exit::Failure;
use crate::partition::Partition;

use super::groups::Group;
use super::regressions::Regression;

/// The name of the file in the folder of a sweep.
pub const FILE: &str = "sweep.json";

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub v: u32,
    pub build: String,
    /// What was swept, with the marks that had to be reached.
    pub scenarios: Vec<Entry>,
    /// As in `0..1000`, of all slices together.
    pub seeds: String,
    pub overrides: Overrides,
    pub partition: Partition,
    /// Why it ended before its last seed; none if it did not.
    pub cut_short: Option<String>,
    /// Why the alarm is broken; none if the canary's bug was found.
    pub broken_alarm: Option<String>,
    pub regressions: Vec<Regression>,
    /// Seeds that ran in two processes, by scenario.
    pub compared: BTreeMap<String, u64>,
    pub groups: Vec<Group>,
    pub findings: u64,
    pub jobs: usize,
    pub wall_ms: u64,
    /// Seconds since 1970.
    pub ended_unix_s: u64,
}

impl Manifest {
    pub const fn version() -> u32 {
        VERSION
    }

    /// Now, in seconds since 1970.
    pub fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Writes it whole, or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let cannot = |error| Failure::io("write", folder.join(FILE).display(), &error);
        let text = serde_json::to_string(self).map_err(|error| Failure::internal(format!("{FILE}: {error}")))?;
        let fresh = folder.join(format!(".{FILE}.{}", std::process::id()));
        fs::write(&fresh, format!("{text}\n")).and_then(|()| fs::rename(&fresh, folder.join(FILE))).map_err(cannot)
    }

    pub fn read(folder: &Path) -> Result<Manifest, Failure> {
        let path = folder.join(FILE);
        let refused = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        match manifest.v {
            VERSION => Ok(manifest),
            other => Err(refused(format!("version {other}; this tool reads version {VERSION}"))),
        }
    }

    /// Whether another sweep asked for the same, whatever its slice.
    pub fn asked_the_same(&self, other: &Manifest) -> bool {
        self.is_comparable(other) && self.seeds == other.seeds && self.partition.of == other.partition.of
    }

    /// Whether the failures of another sweep mean the same: equal scenarios and overrides, whatever seeds.
    pub fn is_comparable(&self, other: &Manifest) -> bool {
        let ids = |manifest: &Manifest| manifest.scenarios.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>();
        ids(self) == ids(other) && self.overrides == other.overrides
    }

    /// The last comparable sweep of the same slice among the folders in `parent`, this one aside.
    pub fn last_like(&self, parent: &Path, own: &Path) -> Option<Manifest> {
        let folders = fs::read_dir(parent).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        let others = folders.filter(|folder| folder != own && !folder.is_symlink());
        let manifests = others.filter_map(|folder| Manifest::read(&folder).ok());
        let alike = manifests.filter(|manifest| self.is_comparable(manifest) && self.partition == manifest.partition);
        alike.max_by_key(|manifest| manifest.ended_unix_s)
    }
}
