//! The list of planted bugs: where each was seen, what should find it, and what the named cause should say.
//!
//! ```toml
//! common = ["cutover/swarm", "cutover/swarm --set delta=skipped"]   # what every mutant faces
//!
//! [[mutant]]
//! id = "M05"
//! does = "the delta pass reads a single old replica instead of a majority"
//! seen_in = "CASSANDRA-2434"
//! expect = ["the delta pass did not bring it"]      # one of these stands in the named cause
//! near = ["cutover/swarm --set replication=3"]      # tried first; may be left out
//! equivalent = "..."                                # the argument, if nothing can find it
//! ```

use std::path::Path;

use serde::Deserialize;

use crate::catalog::Catalog;
use crate::cli::Overrides;
use crate::exit::Failure;

/// Where the list stands, from the root of the workspace.
pub const FILE: &str = "scenarios/mutants.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub common: Vec<Try>,
    #[serde(rename = "mutant")]
    pub mutants: Vec<Mutant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    pub id: String,
    pub does: String,
    pub seen_in: String,
    pub expect: Vec<String>,
    #[serde(default)]
    pub near: Vec<Try>,
    pub equivalent: Option<String>,
}

/// A scenario and what changes in it: written as it is typed behind `cargo xtask sim`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Try {
    pub scenario: String,
    pub overrides: Overrides,
}

impl TryFrom<String> for Try {
    type Error = String;

    fn try_from(text: String) -> Result<Try, String> {
        let wrong = || format!("`{text}` is not of the form: SCENARIO [--set KEY=VALUE]... [--profile P]");
        let mut words = text.split_whitespace();
        let scenario = words.next().ok_or_else(wrong)?.to_owned();
        let mut overrides = Overrides::default();
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(wrong)?.to_owned();
            match flag {
                "--set" => overrides.set.push(value),
                "--profile" => overrides.profile = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(Try { scenario, overrides })
    }
}

impl std::fmt::Display for Try {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.scenario)?;
        self.overrides.to_arguments().iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// Reads the list.
pub fn load(root: &Path) -> Result<List, Failure> {
    let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| Failure::io("read", FILE, &error))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        Failure::refused(format!("{FILE}, line {line}: {}", error.message().replace('\n', " ")))
    })
}

impl List {
    /// Those that were asked for; nobody asked: all.
    pub fn select(&self, only: &[String]) -> Result<Vec<&Mutant>, Failure> {
        let known = |id: &&String| self.mutants.iter().all(|mutant| mutant.id != **id);
        if let Some(unknown) = only.iter().find(known) {
            let ids: Vec<&str> = self.mutants.iter().map(|mutant| mutant.id.as_str()).collect();
            return Err(Failure::refused(format!("--only: there is no `{unknown}`; there are {}", ids.join(" "))));
        }
        Ok(self.mutants.iter().filter(|mutant| only.is_empty() || only.contains(&mutant.id)).collect())
    }

    /// Every scenario that is named has to exist.
    pub fn check(&self, catalog: &Catalog) -> Result<(), Failure> {
        let tries = self.mutants.iter().flat_map(|mutant| &mutant.near).chain(&self.common);
        match tries.into_iter().find(|it| catalog.named(&it.scenario).is_none()) {
            Some(unknown) => Err(Failure::refused(format!("{FILE}: there is no scenario `{}`", unknown.scenario))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_is_written_as_it_is_typed() {
        let text = "cutover/swarm --profile storm --set a=1 --set b=2";
        let it = Try::try_from(text.to_owned()).unwrap();
        assert_eq!(it.to_string(), text);
        for wrong in ["", "cutover/swarm --set", "cutover/swarm --seed 1"] {
            assert!(Try::try_from(wrong.to_owned()).unwrap_err().contains("SCENARIO"), "{wrong}");
        }
    }

    #[test]
    fn the_list_has_every_bug_that_is_planted_and_no_other() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let list = load(root).unwrap();
        let ids: Vec<&str> = list.mutants.iter().map(|mutant| mutant.id.as_str()).collect();
        let source = std::fs::read_to_string(root.join("store/src/mutant.rs")).unwrap();
        let planted: Vec<&str> =
            source.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect();
        assert_eq!(ids, planted);
        assert!(list.mutants.iter().all(|mutant| !mutant.expect.is_empty()));
        // What the audit says when it does not know why names no cause.
        let is_unknown =
            |words: &String| "was never sent it, or lost it before it was durable".contains(words.as_str());
        assert!(list.mutants.iter().all(|mutant| !mutant.expect.iter().any(is_unknown)));
    }
}
