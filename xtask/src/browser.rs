//! A headless Chromium, for what only a browser can tell: whether a page works, and how it looks.
//!
//! It is found in the path, or named by `MIROIR_CHROMIUM`. Every start has a fresh profile and reaches no network; a machine without
//! one says so, and nothing else depends on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::Failure;
use crate::workspace::Workspace;

/// The environment variable that names the browser.
const VARIABLE: &str = "MIROIR_CHROMIUM";

/// Under which names it is looked for.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// How long a page may take, in milliseconds of the browser's own virtual time.
const PATIENCE_MS: u32 = 10_000;

/// A browser that can be started.
pub struct Browser {
    program: PathBuf,
    profile: PathBuf,
}

impl Browser {
    /// Finds it; none if this machine has no browser.
    pub fn find(workspace: &Workspace) -> Option<Browser> {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = || {
            let places =
                NAMES.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
            places.into_iter().find(|program| program.is_file())
        };
        let program = named.or_else(found)?;
        Some(Browser { program, profile: workspace.kept().join(format!("browser.{}", std::process::id())) })
    }

    /// The page as it is after its scripts have run.
    pub fn dom(&self, page: &Path, hash: &str) -> Result<String, Failure> {
        self.start(page, hash, &["--dump-dom".to_owned()])
    }

    /// What the page looks like.
    pub fn screenshot(&self, page: &Path, hash: &str, size: (u32, u32), into: &Path) -> Result<(), Failure> {
        let (width, height) = size;
        self.start(
            page,
            hash,
            &[format!("--window-size={width},{height}"), format!("--screenshot={}", into.display())],
        )?;
        match into.exists() {
            true => Ok(()),
            false => {
                Err(Failure::internal(format!("{} took no picture of {}", self.program.display(), page.display())))
            }
        }
    }

    fn start(&self, page: &Path, hash: &str, what: &[String]) -> Result<String, Failure> {
        let page = fs::canonicalize(page).map_err(|error| Failure::io("find", page.display(), &error))?;
        let output = Command::new(&self.program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .arg(format!("--virtual-time-budget={PATIENCE_MS}"))
            .args(what)
            .arg(format!("file://{}#{hash}", page.display()))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::io("start", self.program.display(), &error))?;
        let _ = fs::remove_dir_all(&self.profile);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
                Err(Failure::internal(format!("{} failed: {last}", self.program.display())))
            }
        }
    }
}
