//! The committed data behind the measured tables of `docs/`: one JSON file per subject below `docs/data`, each row stamped
//! with the command that made it, the build, and the seeds.
//!
//! `cargo xtask qualify` writes it, `cargo xtask report` renders it. A row that is measured again replaces the row of the same
//! name; others keep their own stamp.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// Where the files stand, from the root of the workspace.
pub const FOLDER: &str = "docs/data";

/// Version of the files.
const VERSION: u32 = 1;

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// What to type to have it again.
    pub command: String,
    /// As in [`crate::build_id`].
    pub build: String,
    /// As in `0..1000`; none where nothing is drawn from a seed.
    pub seeds: Option<String>,
}

/// One measured row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<T> {
    pub name: String,
    pub stamp: Stamp,
    pub measured: T,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File<T> {
    v: u32,
    pub rows: Vec<Row<T>>,
}

impl<T> Default for File<T> {
    fn default() -> File<T> {
        File { v: VERSION, rows: Vec::new() }
    }
}

impl<T: Serialize + DeserializeOwned> File<T> {
    /// Reads `docs/data/NAME.json`; a file that is not there has no rows.
    pub fn read(root: &Path, name: &str) -> Result<File<T>, Failure> {
        let path = path(name);
        let text = match fs::read_to_string(root.join(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
            Err(error) => return Err(Failure::io("read", path.display(), &error)),
        };
        let file: File<T> = serde_json::from_str(&text)
            .map_err(|error| Failure::refused(format!("{}, line {}: {error}", path.display(), error.line())))?;
        if file.v != VERSION {
            let (path, v) = (path.display(), file.v);
            return Err(Failure::refused(format!("{path} has version {v}, this is {VERSION}; measure it again")));
        }
        Ok(file)
    }

    /// Writes the file whole, or leaves it as it was.
    pub fn write(&self, root: &Path, name: &str) -> Result<(), Failure> {
        let path = root.join(path(name));
        let cannot = |error: std::io::Error| Failure::io("write", path.display(), &error);
        let mut text = serde_json::to_string_pretty(self).expect("rows are plain data");
        text.push('\n');
        fs::create_dir_all(root.join(FOLDER)).map_err(cannot)?;
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path)).map_err(cannot)
    }

    /// Puts a row in the place of the one of the same name, or at the end.
    pub fn put(&mut self, row: Row<T>) {
        match self.rows.iter_mut().find(|it| it.name == row.name) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
    }

    /// Takes a row out.
    pub fn take(&mut self, name: &str) -> Option<Row<T>> {
        let at = self.rows.iter().position(|row| row.name == name)?;
        Some(self.rows.remove(at))
    }

    pub fn row(&self, name: &str) -> Option<&Row<T>> {
        self.rows.iter().find(|row| row.name == name)
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, measured: u64) -> Row<u64> {
        let stamp = Stamp { command: "cargo xtask sweep".to_owned(), build: "0+0".to_owned(), seeds: None };
        Row { name: name.to_owned(), stamp, measured }
    }

    #[test]
    fn a_row_measured_again_replaces_the_old_one() {
        let root = std::env::temp_dir().join(format!("miroir-data-{}", std::process::id()));
        let mut file = File::read(&root, "x").unwrap();
        assert_eq!(file, File::default());
        for row in [row("a", 1), row("b", 2), row("a", 3)] {
            file.put(row);
        }
        file.write(&root, "x").unwrap();
        let again = File::<u64>::read(&root, "x").unwrap();
        assert_eq!(again.rows, [row("a", 3), row("b", 2)]);
        assert_eq!(again.row("b"), Some(&row("b", 2)));
        let mut less = again.clone();
        assert_eq!((less.take("b"), less.take("b"), less.rows.len()), (Some(row("b", 2)), None, 1));
        fs::write(root.join(path("x")), "{\"v\":1,\n\"rows\":3}").unwrap();
        let failure = File::<u64>::read(&root, "x").unwrap_err();
        assert!(failure.line.starts_with("docs/data/x.json, line 2: "), "{failure}");
        fs::write(root.join(path("x")), "{\"v\":9,\"rows\":[]}").unwrap();
        assert!(File::<u64>::read(&root, "x").unwrap_err().line.contains("version 9"));
        fs::remove_dir_all(&root).unwrap();
    }
}
