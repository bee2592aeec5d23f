//! Areas that wait more than they compute (for processes, sockets, a browser) run in a process of their own, beside the rest.
//! What it prints goes to a file, and is shown when it has ended.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::cli::Area;
use crate::exit::{ExitCode, Failure};
use crate::print::note;
use crate::worker::Build;
use crate::workspace::Workspace;

use super::{Count, name};

/// What is worth running beside the rest, in this order.
pub const AREAS: [Area; 3] = [Area::Unit, Area::Cluster, Area::Html];

/// A `cargo xtask test` of some areas, under way.
pub struct Beside {
    child: Child,
    printed: PathBuf,
}

/// What it said.
pub struct Ended {
    /// All that it printed but the table at the end.
    pub text: String,
    /// The lines of its table, one per area.
    pub lines: Vec<String>,
    pub count: Count,
    pub build_failed: bool,
}

impl Beside {
    /// Starts this very program on [`AREAS`].
    pub fn start(workspace: &Workspace, build: Build) -> Result<Beside, Failure> {
        let printed = workspace.kept().join("tests-beside.txt");
        let file = || -> std::io::Result<(File, File)> {
            fs::create_dir_all(workspace.kept())?;
            let file = File::create(&printed)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) = file().map_err(|error| Failure::io("write", workspace.shown(&printed), &error))?;
        let program = std::env::current_exe().map_err(|error| Failure::io("find", "this program", &error))?;
        let mut command = Command::new(program);
        command.arg("test").args(AREAS.map(name)).args((build == Build::Dev).then_some("--dev"));
        command.current_dir(workspace.root()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command.spawn().map_err(|error| Failure::io("start", "the areas beside the rest", &error))?;
        let areas = AREAS.map(name).join(", ");
        note(format!("beside the rest: {areas}; until they are shown, {} has them", workspace.shown(&printed)));
        Ok(Beside { child, printed })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Ended, Failure> {
        let status = self.child.wait().map_err(|error| Failure::io("wait for", "the areas beside the rest", &error))?;
        let printed =
            fs::read_to_string(&self.printed).map_err(|error| Failure::io("read", self.printed.display(), &error))?;
        let mut ended = read(&printed);
        ended.build_failed = status.code() == Some(ExitCode::BuildFailed.code().into());
        Ok(ended)
    }
}

/// Takes apart what `cargo xtask test` prints. Without its table, something went wrong that is no area's fault, and counts.
fn read(printed: &str) -> Ended {
    let table = |printed: &str| -> Option<(String, Vec<String>, Count)> {
        let (text, table) = printed.trim_end().rsplit_once("\n\n")?;
        let (lines, total) = table.rsplit_once('\n')?;
        Some((text.to_owned(), lines.lines().map(str::to_owned).collect(), Count::read(total)?))
    };
    let (text, lines, count) = table(printed).unwrap_or_else(|| {
        let count = Count { passed: 0, failed: 1 };
        (printed.to_owned(), vec![super::line("beside", count, None)], count)
    });
    Ended { text, lines, count, build_failed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_beside_the_rest_is_counted_with_it() {
        let ended = read("== unit\na line\n\nok      unit  7 passed, 0 failed, 1.0 s\n7 passed, 0 failed\n");
        assert_eq!(ended.text, "== unit\na line");
        assert_eq!(ended.lines, ["ok      unit  7 passed, 0 failed, 1.0 s"]);
        assert_eq!(ended.count, Count { passed: 7, failed: 0 });
    }

    #[test]
    fn what_ended_without_its_table_has_failed() {
        let ended = read("== unit\nkilled");
        assert_eq!((ended.text.as_str(), ended.count), ("== unit\nkilled", Count { passed: 0, failed: 1 }));
    }
}
