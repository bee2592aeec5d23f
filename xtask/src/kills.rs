//! The known kills: for each planted bug one seed that finds it, committed in `scenarios/kills.toml`.
//!
//! ```toml
//! [[kill]]
//! mutant = "M29"
//! scenario = "cutover/swarm"
//! set = ["replication=1"]      # may be left out, as may `profile = "storm"`
//! seed = 17
//! expect = "violation"
//! oracle = "durable"           # may be left out: then whoever found it is right
//! ```
//! A row holds when the run with the mutant ends with exactly that verdict, found by that oracle, and the run without it
//! passes. The oracle is named because most bugs are seen by several: behind the verdict alone, one could go blind unseen.
//! The second half shows that it is the mutant that is found, not the seed.

use std::path::Path;
use std::time::Duration;

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::cli::Overrides;
use crate::exit::Failure;
use crate::record::Recorded;
use crate::worker::{Job, Worker};

/// Where the table stands, from the root of the workspace.
pub const TABLE: &str = "scenarios/kills.toml";

/// Wall time for one run.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    kill: Vec<Kill>,
}

/// One row: a planted bug and the seed that finds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    pub mutant: String,
    pub scenario: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    pub seed: Seed,
    pub expect: Verdict,
    /// Who found it; `None` also where the process ended and no oracle spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<String>,
}

/// Reads the table.
pub fn load(root: &Path) -> Result<Vec<Kill>, Failure> {
    let text = std::fs::read_to_string(root.join(TABLE)).map_err(|error| Failure::io("read", TABLE, &error))?;
    read(&text)
}

fn read(text: &str) -> Result<Vec<Kill>, Failure> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        Failure::refused(format!("{TABLE}, line {line}: {}", error.message().replace('\n', " ")))
    })?;
    match table.kill.iter().find(|kill| kill.expect == Verdict::Pass) {
        Some(kill) => Err(Failure::refused(format!("{TABLE}: {} expects a pass, which kills nothing", kill.mutant))),
        None => Ok(table.kill),
    }
}

/// What stands at the head of the table.
const HEAD: &str = "\
# One known kill per planted bug: the run with the bug must end as expected, by this oracle; the run without it must pass.
# `cargo xtask test mutants` runs them; a harness that goes blind turns red here. `cargo xtask mutants --pin` writes them.

";

/// Replaces the rows of these mutants, and leaves the others where they are.
pub fn pin(root: &Path, fresh: Vec<Kill>) -> Result<(), Failure> {
    let mut table = Table { kill: load(root)? };
    table.kill.retain(|old| fresh.iter().all(|kill| kill.mutant != old.mutant));
    table.kill.extend(fresh);
    table.kill.sort_by(|one, other| one.mutant.cmp(&other.mutant));
    let text = toml::to_string(&table).map_err(|error| Failure::internal(error.to_string()))?;
    std::fs::write(root.join(TABLE), format!("{HEAD}{text}")).map_err(|error| Failure::io("write", TABLE, &error))
}

impl Kill {
    /// Runs the seed with the mutant and without it. The error says which of the two did not do its part.
    pub fn check(&self, worker: &Worker) -> Result<(), Failure> {
        let mut with = self.verdict(worker, Some(self.mutant.clone()))?;
        if self.expect == Verdict::Diverged {
            let again = self.verdict(worker, Some(self.mutant.clone()))?;
            if !with.agrees_with(&again) {
                let cause = format!("{} once, {} once", with.said(), again.said());
                with = with.diverged(cause);
            }
        }
        self.holds(&with)?;
        let without = self.verdict(worker, None)?;
        if without.record.verdict != Verdict::Pass {
            let (found, why) = (without.record.verdict, without.reason());
            return Err(Failure::internal(format!("{self}: without the mutant it should pass; got {found} ({why})")));
        }
        Ok(())
    }

    /// Whether a run with the mutant ended as it is to, and the oracle that is to find it did.
    fn holds(&self, with: &Recorded) -> Result<(), Failure> {
        let (found, why) = (with.record.verdict, with.reason());
        if found != self.expect {
            return Err(Failure::internal(format!("{self}: expected {}, got {found} ({why})", self.expect)));
        }
        let oracle = with.record.oracle.as_deref().unwrap_or("none");
        match self.oracle.as_deref().filter(|expected| *expected != oracle) {
            Some(expected) => {
                let line = format!("{self}: expected {found} by the oracle {expected}, got it by {oracle} ({why})");
                Err(Failure::internal(line))
            }
            None => Ok(()),
        }
    }

    fn verdict(&self, worker: &Worker, mutant: Option<String>) -> Result<Recorded, Failure> {
        let overrides = Overrides { profile: self.profile.clone(), set: self.set.clone(), mutant };
        let output = worker.record(&Job::bare(&self.scenario, self.seed, &overrides), Some(LIMIT))?;
        Recorded::of(&self.scenario, self.seed, &output)
    }
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {} seed {}", self.mutant, self.scenario, self.seed)?;
        self.profile.iter().try_for_each(|profile| write!(f, " --profile {profile}"))?;
        self.set.iter().try_for_each(|pair| write!(f, " --set {pair}"))
    }
}

#[cfg(test)]
mod tests {
    use miroir_sim::record::Record;

    use super::*;

    #[test]
    fn rows_are_read() {
        let text =
            "[[kill]]\nmutant = 'M05'\nscenario = 'cutover/swarm'\nset = ['a=1']\nseed = 17\nexpect = 'violation'\n";
        let kills = read(text).unwrap();
        assert_eq!(kills[0].to_string(), "M05 by cutover/swarm seed 17 --set a=1");
        assert_eq!(kills[0].expect, Verdict::Violation);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn a_row_that_cannot_kill_is_refused() {
        let row = |expect: &str| format!("[[kill]]\nmutant = 'M05'\nscenario = 's'\nseed = 1\nexpect = '{expect}'\n");
        assert!(read(&row("pass")).unwrap_err().line.contains("kills nothing"));
        let failure = read(&row("death")).unwrap_err();
        assert!(failure.line.starts_with("scenarios/kills.toml, line 5: "), "{failure}");
        assert!(!failure.line.contains('\n'));
    }

    #[test]
    fn a_kill_by_another_oracle_does_not_hold() {
        let kill = |oracle: &str| {
            let row = "mutant = 'M05'\nscenario = 's'\nseed = 1\nexpect = 'violation'";
            read(&format!("[[kill]]\n{row}\n{oracle}")).unwrap().remove(0)
        };
        let run = |verdict, oracle: Option<&str>| {
            let (oracle, cause) = (oracle.map(str::to_owned), Some("a cause".to_owned()));
            let record = Record { verdict, oracle, cause, ..Record::new("s", Seed(1)) };
            Recorded { line: record.to_json(), record }
        };
        let said =
            |verdict, oracle| kill("oracle = 'durable'").holds(&run(verdict, oracle)).map_err(|error| error.line);
        assert_eq!(said(Verdict::Violation, Some("durable")), Ok(()));
        let by_another = "M05 by s seed 1: expected violation by the oracle durable, got it by";
        assert_eq!(said(Verdict::Violation, Some("scans")), Err(format!("{by_another} scans (a cause)")));
        assert_eq!(said(Verdict::Violation, None), Err(format!("{by_another} none (a cause)")));
        let otherwise = "M05 by s seed 1: expected violation, got stalled (a cause)".to_owned();
        assert_eq!(said(Verdict::Stalled, Some("durable")), Err(otherwise));
        assert!(kill("").holds(&run(Verdict::Violation, Some("scans"))).is_ok());
    }

    #[test]
    fn every_known_kill_names_who_found_it() {
        let kills = load(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap();
        let nameless: Vec<String> =
            kills.iter().filter(|kill| kill.oracle.is_none()).map(|kill| kill.mutant.clone()).collect();
        assert!(nameless.is_empty(), "{nameless:?}");
    }
}
