//! What all rounds came to: which combinations were played, in which stages, and what was found.

use std::collections::BTreeMap;

use miroir_sim::seed::Seed;
use miroir_store::migration::Stage;
use serde_json::json;

use super::round::Played;
use super::trouble::{STAGES, Trouble};
use crate::exit::ExitCode;
use crate::print::counted;
use crate::report::tables::{Table, number};

/// Rounds of one combination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    rounds: u64,
    /// Of them, those whose trouble began in the stage that was meant.
    met: u64,
    /// Of these, those whose processes shared a key.
    keyed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub played: u64,
    pub failed: u64,
    /// Rounds without a finding whose trouble did not begin in the stage that was meant.
    pub missed: u64,
    skipped: u64,
    keyed: u64,
    asked: BTreeMap<Trouble, Asked>,
    acked: u64,
    operations: u64,
    unknown: u64,
    missing: u64,
    not_linearizable: u64,
    longest_gap_ns: u64,
    /// The first seed that found something.
    pub first: Option<u64>,
}

impl Total {
    pub fn add(&mut self, seed: Seed, played: &Played) {
        if played.skipped.is_some() {
            self.skipped += 1;
            return;
        }
        let trouble = Trouble::of(seed);
        let (met, keyed) = (trouble.is_met(played.hit), Trouble::has_key(seed));
        self.played += 1;
        self.keyed += u64::from(keyed);
        let asked = self.asked.entry(trouble).or_default();
        asked.rounds += 1;
        asked.met += u64::from(met);
        asked.keyed += u64::from(met && keyed);
        self.acked += played.acked;
        self.operations += played.operations;
        self.unknown += played.unknown;
        self.missing += played.missing;
        self.not_linearizable += u64::from(!played.is_linearizable);
        self.longest_gap_ns = self.longest_gap_ns.max(played.longest_gap_ns);
        if !played.findings.is_empty() {
            self.failed += 1;
            self.first.get_or_insert(seed.0);
        } else if !met {
            self.missed += 1;
        }
    }

    /// Combinations that were asked for and not met in any round.
    fn never_met(&self) -> Vec<String> {
        self.asked.iter().filter(|(_, asked)| asked.met == 0).map(|(trouble, _)| trouble.to_string()).collect()
    }

    /// Nothing found is not all: what was asked for has to have happened.
    pub fn exit(&self) -> ExitCode {
        match self {
            Total { failed: 1.., .. } => ExitCode::Finding,
            Total { played: 0, .. } => ExitCode::NothingRan,
            _ if !self.never_met().is_empty() => ExitCode::NothingRan,
            _ => ExitCode::AsExpected,
        }
    }

    /// Who suffers how, and in how many rounds it began in each stage: `2 of 3` where a round missed it, nothing where it
    /// was not asked for.
    fn table(&self) -> String {
        let mut header = vec!["trouble".to_owned(), "victim".to_owned(), "before the start".to_owned()];
        header.extend(STAGES.map(|stage| stage.to_string()));
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = Table::new(&header, |column| column > 1);
        let mut rows: Vec<(&str, String)> = Trouble::all().into_iter().map(Trouble::row).collect();
        rows.dedup();
        for row in rows {
            let cell = |stage: Option<Stage>| {
                let found = self.asked.iter().find(|(trouble, _)| trouble.row() == row && trouble.stage() == stage);
                found.map_or_else(String::new, |(_, Asked { rounds, met, .. })| match met == rounds {
                    true => number(*met),
                    false => format!("{met} of {rounds}"),
                })
            };
            let cells = std::iter::once(None).chain(STAGES.map(Some)).map(cell);
            table.row([row.0.to_owned(), row.1.clone()].into_iter().chain(cells));
        }
        table.text()
    }

    pub fn text(&self) -> String {
        let combinations = Trouble::all().len();
        let met = self.asked.values().filter(|asked| asked.met > 0).count();
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        let mut text = format!(
            "{}\n{} ({} under a key){skipped}, {} failed, {} missed their stage: {met} of {combinations} combinations met; {} \
             acknowledged writes, {} missing; {} operations, {} unknown; histories that are not linearizable: {}; longest gap \
             {} ms",
            self.table(),
            counted(self.played, "round"),
            self.keyed,
            self.failed,
            self.missed,
            number(self.acked),
            number(self.missing),
            number(self.operations),
            number(self.unknown),
            self.not_linearizable,
            number(self.longest_gap_ns / 1_000_000),
        );
        for trouble in self.never_met() {
            text.push_str(&format!("\nasked for and never met: {trouble}"));
        }
        text
    }

    pub fn json(&self) -> String {
        let combination = |trouble: &Trouble, asked: &Asked| {
            let (kind, victim) = trouble.row();
            json!({
                "trouble": kind, "victim": victim, "stage": trouble.stage().map(|stage| stage.to_string()),
                "rounds": asked.rounds, "met": asked.met, "met_under_a_key": asked.keyed,
            })
        };
        let combinations: Vec<_> = self.asked.iter().map(|(trouble, asked)| combination(trouble, asked)).collect();
        let total = json!({
            "v": 1, "rounds": self.played, "under_a_key": self.keyed, "skipped": self.skipped, "failed": self.failed,
            "missed_their_stage": self.missed, "combinations": combinations, "never_met": self.never_met(),
            "combinations_there_are": Trouble::all().len(), "acknowledged": self.acked, "missing": self.missing,
            "operations": self.operations, "unknown": self.unknown, "not_linearizable": self.not_linearizable,
            "longest_gap_ms": self.longest_gap_ns / 1_000_000, "first_seed_with_a_finding": self.first,
        });
        total.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::trouble::Hit;
    use super::*;

    fn played(seed: u64) -> Played {
        let stage = Trouble::of(Seed(seed)).stage().unwrap_or(Stage::Planned);
        let hit = Some(Hit { before: stage, after: stage });
        Played { hit, acked: 1_000, operations: 1_500, is_linearizable: true, ..Played::default() }
    }

    #[test]
    fn a_total_counts_what_failed_and_names_the_first() {
        let mut total = Total::default();
        total.add(Seed(3), &played(3));
        total.add(Seed(4), &Played { missing: 1, findings: vec!["d001: missing".to_owned()], ..played(4) });
        total.add(Seed(5), &Played { skipped: Some("no mount"), ..Played::default() });
        assert_eq!((total.played, total.failed, total.first), (2, 1, Some(4)));
        let text = total.text();
        assert!(text.contains("2 rounds (1 under a key), 1 skipped, 1 failed, 0 missed their stage: 2 of "), "{text}");
        assert!(text.contains("2,000 acknowledged writes, 1 missing; 3,000 operations"), "{text}");
        assert_eq!(total.exit(), ExitCode::Finding);
    }

    #[test]
    fn what_was_asked_for_and_not_met_is_told_and_is_no_success() {
        let kill = |seed: &u64| Trouble::of(Seed(*seed)).to_string() == "kill -9 the coordinator in Drain";
        let seed = (0..100).find(kill).expect("it is dealt");
        let mut total = Total::default();
        total.add(Seed(seed), &Played { hit: None, ..played(seed) });
        assert_eq!((total.missed, total.exit()), (1, ExitCode::NothingRan));
        assert!(total.text().contains("asked for and never met: kill -9 the coordinator in Drain"), "{}", total.text());
        assert!(total.text().contains("| kill -9 | the coordinator |  |  | 0 of 1 |  |  |"), "{}", total.text());
        let again = seed + Trouble::all().len() as u64;
        total.add(Seed(again), &played(again));
        assert_eq!((total.missed, total.exit()), (1, ExitCode::AsExpected));
        let told: serde_json::Value = serde_json::from_str(&total.json()).expect("JSON");
        assert_eq!(told["combinations"][0]["met"], 1);
        assert_eq!(told["never_met"], json!([]));
    }
}
