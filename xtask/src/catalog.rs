//! Which scenarios there are, as the worker lists them, and which of them a pattern means.

use miroir_sim::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::exit::{ExitCode, Failure};
use crate::worker::{Ended, Worker};

/// What `sim` and `sweep` run when nothing is named.
pub const DEFAULT: &str = "cutover/swarm";

/// The scenario with a bug that must be found.
pub const CANARY: &str = "canary";

/// The seed with which a sweep runs the canary: its bug is found with any, and a fixed one makes the alarm comparable.
pub const CANARY_SEED: Seed = Seed(42);

/// One scenario, as `miroir-worker scenarios --json` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Entry {
    pub id: String,
    /// One line: what the scenario promises.
    #[serde(default)]
    pub promise: String,
    /// What at least one run of a sweep must reach.
    #[serde(default)]
    pub marks: Vec<String>,
    /// A twin that the safety gate would refuse: it loses data on purpose, and runs only when named.
    #[serde(default)]
    pub gate_overridden: bool,
    /// A scenario of volume takes seconds for a seed: so many seeds are enough, and one for the tests.
    #[serde(default)]
    pub seeds_at_most: Option<u64>,
    /// Other names by which it may be typed.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// All scenarios of one worker.
#[derive(Clone, Debug)]
pub struct Catalog(Vec<Entry>);

impl Catalog {
    /// Asks the worker.
    pub fn load(worker: &Worker) -> Result<Catalog, Failure> {
        let output = worker.scenarios()?;
        match output.ended {
            Ended::Exit(ExitCode::AsExpected) => {}
            Ended::Exit(exit) => return Err(Failure::of_worker(exit, &output.stderr)),
            ended => return Err(Failure::internal(format!("listing the scenarios, the worker {ended}"))),
        }
        Catalog::read(&output.stdout)
    }

    pub(crate) fn read(json: &str) -> Result<Catalog, Failure> {
        serde_json::from_str(json)
            .map(Catalog)
            .map_err(|error| Failure::internal(format!("the worker's list of scenarios cannot be read: {error}")))
    }

    /// The scenarios that `patterns` mean, each once, in the order of the list. A plain name is an id or an alias and
    /// must exist; a glob (`*`, `?`) leaves out the canary and the twins with the gate overridden.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<&Entry>, Failure> {
        let default = [DEFAULT.to_owned()];
        let patterns = if patterns.is_empty() { &default } else { patterns };
        if let Some(unknown) = patterns.iter().find(|pattern| !is_glob(pattern) && self.named(pattern).is_none()) {
            return Err(self.unknown(unknown));
        }
        let meant = |entry: &&Entry| {
            patterns.iter().any(|pattern| {
                if is_glob(pattern) {
                    entry.id != CANARY && !entry.gate_overridden && matches(pattern, &entry.id)
                } else {
                    self.named(pattern) == Some(*entry)
                }
            })
        };
        let entries: Vec<&Entry> = self.0.iter().filter(meant).collect();
        if entries.is_empty() {
            let line = format!("no scenario matches `{}`; `cargo xtask scenarios` lists them", patterns.join("` `"));
            return Err(Failure { exit: ExitCode::NothingRan, line });
        }
        Ok(entries)
    }

    /// Every scenario but the canary, twins included.
    pub fn all_but_canary(&self) -> Vec<&Entry> {
        self.0.iter().filter(|entry| entry.id != CANARY).collect()
    }

    /// The scenario with this id or alias.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.id == name || entry.aliases.iter().any(|alias| alias == name))
    }

    fn unknown(&self, name: &str) -> Failure {
        let ids = self.0.iter().map(|entry| entry.id.as_str());
        let hint = match nearest(name, ids) {
            Some(id) => format!("did you mean `{id}`?"),
            None => "`cargo xtask scenarios` lists them".to_owned(),
        };
        Failure::refused(format!("there is no scenario `{name}`; {hint}"))
    }
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Whether `name` matches `pattern`, where `*` is any text (slashes too) and `?` any one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Greedy with one point of return: the last star, and how much it has taken.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The candidate that `name` was probably meant to be: within a third of its length in edits.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::read(
            r#"[{"id":"cutover/swarm","promise":"p","marks":["m"],"gate_overridden":false,"aliases":["cutover_chaos_swarm"]},
                {"id":"cutover/skip_delta_with_ae"},
                {"id":"cutover/skip_delta_eager_cleanup","gate_overridden":true},
                {"id":"steady/smoke"}, {"id":"canary"}]"#,
        )
        .unwrap()
    }

    fn ids(patterns: &[&str]) -> Result<Vec<String>, Failure> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        catalog().select(&patterns).map(|entries| entries.iter().map(|entry| entry.id.clone()).collect())
    }

    #[test]
    fn globs_leave_out_the_canary_and_overridden_gates_but_names_do_not() {
        assert_eq!(ids(&["*"]).unwrap(), ["cutover/swarm", "cutover/skip_delta_with_ae", "steady/smoke"]);
        assert_eq!(ids(&["cutover/skip*"]).unwrap(), ["cutover/skip_delta_with_ae"]);
        assert_eq!(ids(&["canary"]).unwrap(), ["canary"]);
        assert_eq!(ids(&["cutover/skip_delta_eager_cleanup"]).unwrap(), ["cutover/skip_delta_eager_cleanup"]);
    }

    #[test]
    fn nothing_named_means_the_swarm_and_an_alias_means_its_scenario_once() {
        assert_eq!(ids(&[]).unwrap(), ["cutover/swarm"]);
        assert_eq!(ids(&["cutover_chaos_swarm", "cutover/swarm", "*swarm"]).unwrap(), ["cutover/swarm"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_and_an_empty_glob_ran_nothing() {
        let failure = ids(&["cutover/swamr"]).unwrap_err();
        assert_eq!(failure, Failure::refused("there is no scenario `cutover/swamr`; did you mean `cutover/swarm`?"));
        assert!(ids(&["zzz"]).unwrap_err().line.contains("cargo xtask scenarios"));
        assert_eq!(ids(&["dump/*"]).unwrap_err().exit, ExitCode::NothingRan);
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("cutover/?warm", "cutover/swarm", true),
            ("*/swarm", "cutover/swarm", true),
            ("cutover/", "cutover/swarm", false),
            ("*aab", "aaaab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
