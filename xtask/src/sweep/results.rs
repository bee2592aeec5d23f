//! `results.jsonl`: one record per line, written whole and at once, so that an interrupted sweep keeps what it has.
//!
//! A disk that is full ends the sweep, but loses nothing: what was written before stays readable (half a line is taken back),
//! and what could not be written is given back to be shown.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The name of the file in the folder of a sweep.
pub const FILE: &str = "results.jsonl";

/// The results of a sweep on disk. The file appears with the first record.
pub struct Results {
    path: PathBuf,
    file: Option<File>,
    /// How long the file is, up to the last whole line.
    length: u64,
    /// Why nothing is written any more.
    problem: Option<String>,
    unwritten: Vec<String>,
}

impl Results {
    pub fn in_folder(folder: &Path) -> Results {
        Results { path: folder.join(FILE), file: None, length: 0, problem: None, unwritten: Vec::new() }
    }

    /// Writes one line; `false` if that is not possible, now or any more.
    pub fn append(&mut self, line: &str) -> bool {
        if self.problem.is_none()
            && let Err(error) = self.try_append(line)
        {
            self.problem = Some(format!("cannot write {}: {error}", self.path.display()));
        }
        if self.problem.is_some() {
            self.unwritten.push(line.to_owned());
        }
        self.problem.is_none()
    }

    fn try_append(&mut self, line: &str) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                self.length = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        let line = format!("{line}\n");
        if let Err(error) = file.write_all(line.as_bytes()) {
            // Half a line is worse than none: whoever reads the file would stumble over it.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Why the disk did not take everything, and what it did not take.
    pub fn lost(&self) -> Option<(&str, &[String])> {
        self.problem.as_deref().map(|problem| (problem, self.unwritten.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let folder = std::env::temp_dir().join(format!("miroir-results-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for round in 0..2 {
            let mut results = Results::in_folder(&folder);
            assert!(results.append(&format!("{{\"round\":{round}}}")) && results.lost().is_none());
        }
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).unwrap(), "{\"round\":0}\n{\"round\":1}\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_gives_back_what_it_did_not_take() {
        let folder = std::env::temp_dir().join(format!("miroir-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join(FILE)).unwrap();
        let mut results = Results::in_folder(&folder);
        assert!(!results.append("one") && !results.append("two"));
        let (problem, lines) = results.lost().unwrap();
        assert!(problem.contains("No space left"), "{problem}");
        assert_eq!(lines, ["one", "two"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
