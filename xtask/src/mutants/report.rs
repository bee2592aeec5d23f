//! What a hunt is told as: a line per mutant, sums, and the rows that documents are rendered from.

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::hunt::{Found, Kill};
use super::list::Mutant;
use crate::kills;
use crate::print::{counted, green, red};

/// Schema version of the lines.
const VERSION: u32 = 1;

/// How much of a cause a line shows, in characters.
const CAUSE_MAX: usize = 200;

/// One mutant and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub does: String,
    pub seen_in: String,
    /// One of these words stands in the cause that the harness has to name.
    pub cause_expected: Vec<String>,
    /// Why nothing can find it.
    pub equivalent: Option<String>,
    /// Seeds that passed with it, in configurations that were tried before the one that killed it, or at all.
    pub seeds_in_vain: u64,
    pub wall_ms: u64,
    pub killed: Option<Killed>,
}

/// Who killed it, and how soon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// As it is typed behind `cargo xtask sim`.
    pub by: String,
    pub scenario: String,
    pub profile: Option<String>,
    pub set: Vec<String>,
    pub seed: Seed,
    pub verdict: Verdict,
    /// None: the process ended otherwise.
    pub oracle: Option<String>,
    /// Seeds to the first kill, of each start; null: more than were allowed.
    pub seeds: Vec<Option<u64>>,
    pub median_seeds: Option<u64>,
    pub cause_named: String,
    /// The rule that the explanation of the kill names.
    #[serde(default)]
    pub rule_named: Option<String>,
    /// Whether one of the two has a word that was expected.
    pub named_right: bool,
}

impl Row {
    pub fn new(mutant: &Mutant, found: Found) -> Row {
        let (seeds_in_vain, wall, kill) = match found {
            Found::Killed(kill) => (kill.in_vain, kill.wall, Some(kill)),
            Found::Survived { seeds, wall } => (seeds, wall, None),
        };
        Row {
            id: mutant.id.clone(),
            does: mutant.does.clone(),
            seen_in: mutant.seen_in.clone(),
            cause_expected: mutant.expect.clone(),
            equivalent: mutant.equivalent.clone(),
            seeds_in_vain,
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            killed: kill.map(|kill| Killed::new(mutant, *kill)),
        }
    }

    /// It survived, and there is no argument why it has to.
    pub fn is_untested(&self) -> bool {
        self.killed.is_none() && self.equivalent.is_none()
    }

    /// The seed of the first start.
    pub fn pin(&self) -> Option<kills::Kill> {
        let Killed { scenario, profile, set, seed, verdict, oracle, .. } = self.killed.clone()?;
        Some(kills::Kill { mutant: self.id.clone(), scenario, profile, set, seed, expect: verdict, oracle })
    }

    pub fn to_line(&self) -> String {
        let Row { id, does, .. } = self;
        let tried = counted(self.seeds_in_vain, "seed");
        match (&self.killed, &self.equivalent) {
            (Some(killed), _) => {
                let seconds = self.wall_ms as f64 / 1_000.0;
                let wrong = match killed.named_right {
                    true => String::new(),
                    false => format!("\n    {} {}", red("expected a cause with:"), self.cause_expected.join(" | ")),
                };
                format!("{} {does}\n    {killed}, {seconds:.1} s{wrong}", green(&format!("{id} killed:")))
            }
            (None, Some(why)) => format!("{id} equivalent: {does}; survived {tried}\n    {why}"),
            (None, None) => format!("{} {does}; survived {tried}", red(&format!("{id} untested:"))),
        }
    }

    pub fn to_json(&self) -> String {
        format!("{{\"v\":{VERSION},\"mutant\":{}}}", json!(self))
    }
}

impl Killed {
    fn new(mutant: &Mutant, kill: Kill) -> Killed {
        let (record, cause) = (&kill.run.record, kill.run.reason());
        let rule = kill.rule.as_deref().unwrap_or_default();
        let named = |words: &str| cause.contains(words) || rule.contains(words);
        Killed {
            by: kill.by.to_string(),
            scenario: kill.by.scenario.clone(),
            profile: kill.by.overrides.profile.clone(),
            set: kill.by.overrides.set.clone(),
            seed: record.seed,
            verdict: record.verdict,
            oracle: record.oracle.clone(),
            median_seeds: median(&kill.seeds),
            cause_named: cause.to_owned(),
            named_right: mutant.expect.iter().any(|words| named(words)),
            rule_named: kill.rule.clone(),
            seeds: kill.seeds,
        }
    }
}

impl std::fmt::Display for Killed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let oracle = self.oracle.as_deref().unwrap_or("end of the process");
        let median = self.median_seeds.map_or("more seeds than were allowed".to_owned(), |n| counted(n, "seed"));
        let starts = counted(self.seeds.len() as u64, "start");
        let cause: String = self.cause_named.chars().take(CAUSE_MAX).collect();
        write!(f, "{cause}\n    ")?;
        if let Some(rule) = &self.rule_named {
            write!(f, "rule: {rule}\n    ")?;
        }
        write!(f, "by {} seed {} ({oracle}, {}); ", self.by, self.seed, self.verdict)?;
        write!(f, "after {median}, the median of {starts}")
    }
}

/// The median of what the starts took; a start without a kill took longer than any other.
fn median(seeds: &[Option<u64>]) -> Option<u64> {
    let mut seeds: Vec<u64> = seeds.iter().map(|seeds| seeds.unwrap_or(u64::MAX)).collect();
    seeds.sort_unstable();
    seeds.get((seeds.len().max(1) - 1) / 2).copied().filter(|seeds| *seeds < u64::MAX)
}

/// What is said about all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    pub mutants: usize,
    pub killed: usize,
    pub untested: Vec<String>,
    pub named_right: usize,
    /// Of the medians.
    pub median_seeds: Option<u64>,
    pub most_seeds: Option<u64>,
}

impl Sums {
    pub fn of<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Sums {
        let kills = rows.clone().filter_map(|row| row.killed.as_ref());
        let medians: Vec<Option<u64>> = kills.clone().map(|killed| killed.median_seeds).collect();
        Sums {
            mutants: rows.clone().count(),
            killed: medians.len(),
            untested: rows.filter(|row| row.is_untested()).map(|row| row.id.clone()).collect(),
            named_right: kills.filter(|killed| killed.named_right).count(),
            median_seeds: median(&medians),
            most_seeds: medians.iter().copied().collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().max()),
        }
    }

    pub fn to_json(&self) -> String {
        let Sums { mutants, killed, untested, named_right, median_seeds, most_seeds } = self;
        let sums: Value = json!({
            "mutants": mutants, "killed": killed, "untested": untested, "named_right": named_right,
            "median_seeds": median_seeds, "most_seeds": most_seeds,
        });
        format!("{{\"v\":{VERSION},\"summary\":{sums}}}")
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sums { mutants, killed, named_right, .. } = self;
        let number = |seeds: Option<u64>| seeds.map_or("more than were allowed".to_owned(), |n| n.to_string());
        let (median, most) = (number(self.median_seeds), number(self.most_seeds));
        write!(f, "{killed} of {mutants} killed, {} equivalent, ", mutants - killed - self.untested.len())?;
        match self.untested.is_empty() {
            true => f.write_str("none untested")?,
            false => f.write_str(&red(&format!("untested: {}", self.untested.join(" "))))?,
        }
        write!(f, "; seeds to a kill: median {median}, at most {most}; ")?;
        write!(f, "the cause is named right for {named_right} of {killed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_without_a_kill_counts_as_the_longest() {
        assert_eq!(median(&[Some(3), None, Some(9)]), Some(9));
        assert_eq!(median(&[Some(3), None, None]), None);
        assert_eq!(median(&[Some(4)]), Some(4));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_survivor_without_an_argument_is_untested() {
        let survivor = |equivalent: Option<&str>| Row {
            id: "M99".to_owned(),
            does: "nothing".to_owned(),
            seen_in: "a dream".to_owned(),
            cause_expected: vec!["x".to_owned()],
            equivalent: equivalent.map(str::to_owned),
            seeds_in_vain: 3,
            wall_ms: 5,
            killed: None,
        };
        let rows = [survivor(None), survivor(Some("it does nothing"))];
        let sums = Sums::of(rows.iter());
        assert_eq!((sums.killed, sums.untested.as_slice()), (0, ["M99".to_owned()].as_slice()));
        assert!(sums.to_string().starts_with("0 of 2 killed, 1 equivalent, "), "{sums}");
        assert!(rows[1].to_line().contains("survived 3 seeds"), "{}", rows[1].to_line());
    }
}
