//! What the documents claim and a machine can check: every command that they show can be typed, every file that they
//! link to is there.
//!
//! A command is a line of a fenced block marked `console`, `sh`, `bash` or `shell` that begins with `cargo xtask`; it must
//! parse as it stands. `cargo xtask NAME` in running text must at least name a command. Other blocks (`text`) may show
//! grammar. The changelog and the notes speak of other times: only their links are checked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{self, Stop};
use crate::exit::Failure;

/// What to type, in front of every command.
const PREFIX: &str = "cargo xtask";

/// Languages of fenced blocks whose commands must work.
const SHELLS: [&str; 4] = ["console", "sh", "bash", "shell"];

/// What was checked in all documents.
#[derive(Debug, Default)]
pub struct Checked {
    /// Commands and links that hold.
    pub passed: u64,
    /// One line for each that does not: where, and what is wrong.
    pub failed: Vec<String>,
}

/// Checks the README and everything below `docs` and `notes`.
pub fn check(root: &Path) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    for path in documents(root)? {
        let text = fs::read_to_string(root.join(&path)).map_err(|error| Failure::io("read", path.display(), &error))?;
        if !path.starts_with("notes") && path != Path::new("CHANGELOG.md") {
            for (line, command) in commands(&text) {
                checked.add(&path, line, works(&command));
            }
        }
        for (line, link) in links(&text) {
            let there = root.join(&path).parent().is_some_and(|folder| folder.join(&link).exists());
            checked.add(
                &path,
                line,
                if there { Ok(()) } else { Err(format!("links to `{link}`, which does not exist")) },
            );
        }
    }
    Ok(checked)
}

impl Checked {
    fn add(&mut self, path: &Path, line: usize, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => self.failed.push(format!("{}:{line}: {why}", path.display())),
        }
    }
}

/// The documents, relative to the root, in a fixed order.
fn documents(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md"].map(PathBuf::from).into_iter().filter(|path| root.join(path).exists()).collect();
    let mut folders = vec![PathBuf::from("notes"), PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        let mut names = entries
            .map(|entry| entry.map(|entry| folder.join(entry.file_name())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::io("list", folder.display(), &error))?;
        names.sort();
        for name in names {
            if root.join(&name).is_dir() {
                folders.push(name);
            } else if name.extension().is_some_and(|extension| extension == "md") {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// A command as a document shows it.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// In a block to be copied: the arguments.
    Whole(Vec<String>),
    /// In running text: the name.
    Name(String),
}

fn works(command: &Shown) -> Result<(), String> {
    match command {
        Shown::Whole(arguments) => match cli::parse([PREFIX.to_owned()].iter().chain(arguments)) {
            Ok(_) | Err(Stop::Help(_)) => Ok(()),
            Err(Stop::Failure(failure)) => Err(format!("`{PREFIX} {}`: {failure}", arguments.join(" "))),
        },
        Shown::Name(name) if cli::command_names().contains(name) => Ok(()),
        Shown::Name(name) => Err(format!("`{PREFIX} {name}` is not a command")),
    }
}

/// Every command in a document, with its line.
fn commands(text: &str) -> Vec<(usize, Shown)> {
    let mut found = Vec::new();
    let mut fence: Option<bool> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim_start();
        if let Some(language) = trimmed.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(SHELLS.contains(&language.trim())) };
            continue;
        }
        match fence {
            Some(true) => found.extend(typed(trimmed).map(|arguments| (number, Shown::Whole(arguments)))),
            Some(false) => {}
            None => found.extend(named(line).map(|name| (number, Shown::Name(name)))),
        }
    }
    found
}

/// The arguments of a line to be typed, without prompt, variables in front, comment, pipe and redirection.
fn typed(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let words = words(line);
    let start = words.iter().position(|word| !is_assignment(word))?;
    let rest = words[start..].strip_prefix(["cargo".to_owned(), "xtask".to_owned()].as_slice())?;
    let end = rest.iter().position(|word| matches!(word.as_str(), "|" | "||" | "&&" | ">" | ">>" | "2>" | ";"));
    Some(rest[..end.unwrap_or(rest.len())].to_vec())
}

fn is_assignment(word: &str) -> bool {
    let upper = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    word.split_once('=').is_some_and(|(name, _)| upper(name))
}

/// Splits as a shell does, as far as documents need it: quotes, and comments to the end of the line.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The names of commands in running text; `cargo xtask ...` and `cargo xtask` alone name none.
fn named(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split('`').skip(1).step_by(2).filter_map(|code| {
        let name = code.strip_prefix(PREFIX)?.split_whitespace().next()?;
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !name.starts_with('-');
        is_name.then(|| name.to_owned())
    })
}

/// Every link to a file, with its line: the target without its anchor.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Code spans stand at the odd places between backticks.
        for prose in line.split('`').step_by(2) {
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let files = targets.map(|target| target.split('#').next().unwrap_or_default());
            let local = files.filter(|file| !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:"));
            found.extend(local.map(|file| (number, file.to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_where_they_are_to_be_typed() {
        let text = "Run `cargo xtask sim` or `cargo xtask ...`.\n```console\n$ MIROIR_SEED=7 cargo xtask sim --set 'a=1' | head # x\nseed 7\n```\n\
                    ```text\ncargo xtask grammar [X]\n```\n";
        let whole = ["sim", "--set", "a=1"].map(str::to_owned).to_vec();
        assert_eq!(commands(text), [(1, Shown::Name("sim".to_owned())), (3, Shown::Whole(whole))]);
    }

    #[test]
    fn a_command_that_cannot_be_typed_does_not_work() {
        let shown = |line: &str| works(&Shown::Whole(typed(line).unwrap()));
        assert!(shown("cargo xtask sim --seed 42").is_ok());
        assert!(shown("cargo xtask sweep --help").is_ok());
        assert!(shown("cargo xtask soak --round 3").unwrap_err().contains("--round"));
        assert!(shown("cargo xtask soap").unwrap_err().contains("did you mean `soak`?"));
        assert!(works(&Shown::Name("soap".to_owned())).is_err());
        assert_eq!(typed("cargo test"), None);
    }

    #[test]
    fn links_to_files_are_found_and_others_left_alone() {
        let text = "[a](docs/a.md#part) [b](#here) [c](https://example.org) `[d](e)`\n```\n[f](g)\n```\n";
        assert_eq!(links(text), [(1, "docs/a.md".to_owned())]);
    }
}
