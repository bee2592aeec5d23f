//! The one line that a run leaves behind, as JSON. A contract: fields are only ever added, and `v` grows when one changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coverage::Matrix;
use crate::seed::Seed;
use crate::verdict::Verdict;

/// Schema version, first field of every record.
pub const VERSION: u32 = 1;

/// One run. Serialises with the fields in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub v: u32,
    /// Id of the scenario, such as `cutover/swarm`.
    pub scenario: String,
    /// Seed of the run.
    pub seed: Seed,
    /// The verdict.
    pub verdict: Verdict,
    /// See [`crate::verdict::fingerprint`]; none for a pass.
    pub fingerprint: Option<String>,
    /// Hash over every event of the run, 32 hex digits.
    pub trace_hash: String,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Which build ran.
    pub build: String,
    /// Writes and deletes acknowledged.
    pub acked: u64,
    /// Operations certainly not applied.
    pub rejected: u64,
    /// Operations of unknown outcome.
    pub unknown: u64,
    /// Loss windows.
    pub windows: WindowTotals,
    /// Reasons for which something was refused, such as `UnsafeCutover`.
    pub refusals: Vec<String>,
    /// Acknowledged writes with a window of any kind, per million acknowledged.
    pub loss_ppm: u64,
    /// Longest gap between successes of one shard while clients were trying.
    pub unavailable_ns: Unavailable,
    /// How migrations ended.
    pub migrations: Migrations,
    /// Faults and lost frames by kind.
    pub faults: BTreeMap<String, u64>,
    /// Marks reached, by name.
    pub marks: BTreeMap<String, u64>,
    /// Simulated time, in nanoseconds.
    pub simulated_ns: u64,
    /// Wall time, in milliseconds. It and `peak_kib` are the only fields that differ between two runs of one seed.
    pub wall_ms: u64,
    /// The most memory that was resident, in KiB; 0 where the system does not tell.
    #[serde(default)]
    pub peak_kib: u64,
    /// The worst finding, in words; none for a pass.
    #[serde(default)]
    pub cause: Option<String>,
    /// Which oracle found it; none for a pass, or when nothing but the end of the process says so.
    #[serde(default)]
    pub oracle: Option<String>,
    /// When it went wrong, in simulated nanoseconds, if the finding has an instant.
    #[serde(default)]
    pub found_at_ns: Option<u64>,
    /// Faults by the phase in which they began.
    #[serde(default)]
    pub matrix: Matrix,
    /// How well writes were served while what they wrote to was in a stage, by its name.
    #[serde(default)]
    pub service: BTreeMap<String, Service>,
    /// What was to be lost by the arithmetic, beside what was lost; in runs that ask the question.
    #[serde(default)]
    pub prediction: Option<Prediction>,
    /// Loss windows, by what they came from and how long they lasted.
    #[serde(default, skip_serializing_if = "Losses::is_empty")]
    pub losses: Losses,
    /// What a frame takes there and back on the average, as drawn for this run's network.
    #[serde(default)]
    pub round_trip_ns: u64,
}

/// The name under which [`Record::service`] has the time before a shard's first migration and after its last.
pub const STEADY: &str = "steady";

/// Writes in one stage, at full load. Times in simulated nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// How long it lasted in all.
    pub lasted_ns: u64,
    /// Writes acknowledged in it.
    pub acked: u64,
    /// From call to return, of every two writes one took no longer.
    pub p50_ns: u64,
    /// Of a hundred writes 99 took no longer.
    pub p99_ns: u64,
    /// Gaps from one acknowledged write to the next; one that reaches into several stages counts in each.
    pub gaps: u64,
    /// Of a thousand gaps 999 were no longer.
    pub gap_p999_ns: u64,
    /// The longest.
    pub gap_max_ns: u64,
    /// The gaps, measured by the steady ones.
    #[serde(default)]
    pub of_steady: Gaps,
    /// The same of the steady state right before the migration, for as long as the stage lasted: what chance makes of it
    /// without a migration.
    #[serde(default)]
    pub alike: Gaps,
}

/// How long gaps are beside the p99.9 of the same run's steady gaps. Those of several runs add up, which quantiles do not: a
/// stage of a few gaps has no p99.9, a thousand runs of it have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    pub count: u64,
    /// Those of at least half of it, by their length in twentieths of it, rounded up.
    pub long: BTreeMap<u64, u64>,
}

impl Gaps {
    /// `steady`: the p99.9 to measure by; without one, nothing is measured.
    pub fn of(gaps: &[u64], steady: u64) -> Gaps {
        let mut measured = Gaps::default();
        if steady > 0 {
            measured.count = gaps.len() as u64;
            for gap in gaps.iter().filter(|gap| **gap * 2 >= steady) {
                *measured.long.entry((gap * 20).div_ceil(steady)).or_default() += 1;
            }
        }
        measured
    }

    pub fn merge(&mut self, more: &Gaps) {
        self.count += more.count;
        for (length, count) in &more.long {
            *self.long.entry(*length).or_default() += count;
        }
    }

    /// Of a thousand gaps 999 were no longer, in twentieths of the steady p99.9; 0: less than half of that.
    pub fn p999(&self) -> u64 {
        let mut beyond = self.count / 1_000;
        for (length, count) in self.long.iter().rev() {
            match beyond.checked_sub(*count) {
                Some(rest) => beyond = rest,
                None => return *length,
            }
        }
        0
    }

    /// The longest, likewise.
    pub fn longest(&self) -> u64 {
        self.long.keys().next_back().copied().unwrap_or(0)
    }
}

/// How many documents were to be missing, and how many were. Chances and means in millionths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// Replicas per shard.
    pub replication: u32,
    /// How many of them were replaced.
    pub joiners: u32,
    /// Chance that a joining replica misses a write.
    pub loss_millionths: u64,
    /// Writes that could be missed.
    pub exposed: u64,
    /// Chance that a missed document was written again in time.
    pub rewritten_millionths: u64,
    /// The mean number of documents to be missing.
    pub expected_millionths: u64,
    /// The number that was.
    pub missing: u64,
}

/// Loss windows of one run or of many, counted in four ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// By why a write was missed.
    pub by_cause: BTreeMap<String, u64>,
    /// By what was going on when they opened.
    pub by_stage: BTreeMap<String, u64>,
    /// By length: the least power of two of milliseconds that it stays below; 0 for those that never closed.
    pub by_length_ms: BTreeMap<u64, u64>,
    /// By stage, then cause, then length: milliseconds rounded up to two digits; 0 for those that never closed.
    #[serde(default)]
    pub lengths_ms: BTreeMap<String, BTreeMap<String, BTreeMap<u64, u64>>>,
}

impl Losses {
    /// No window at all.
    pub fn is_empty(&self) -> bool {
        self.by_cause.is_empty() && self.by_stage.is_empty() && self.by_length_ms.is_empty()
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Losses) {
        add(&mut self.by_cause, &other.by_cause);
        add(&mut self.by_stage, &other.by_stage);
        add(&mut self.by_length_ms, &other.by_length_ms);
        for (stage, causes) in &other.lengths_ms {
            for (cause, lengths) in causes {
                add(self.lengths_ms.entry(stage.clone()).or_default().entry(cause.clone()).or_default(), lengths);
            }
        }
    }
}

fn add<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *sums.entry(key.clone()).or_default() += count;
    }
}

/// Loss windows of a run, counted and measured in simulated nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowTotals {
    /// Closed by a repair.
    pub transient: u64,
    /// Ended by a newer acknowledged write of the same document.
    pub superseded: u64,
    /// Still open at the end.
    pub permanent: u64,
    /// Sum of their lengths.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Longest gaps, in simulated nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Between acknowledged writes.
    pub writes: u64,
    /// Between reads.
    pub reads: u64,
}

/// How migrations ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    /// At their target.
    pub done: u64,
    /// Back where they came from.
    pub aborted: u64,
    /// Never begun.
    pub refused: u64,
}

impl Record {
    /// A passing record of a run in which nothing happened yet.
    pub fn new(scenario: impl Into<String>, seed: Seed) -> Record {
        Record {
            v: VERSION,
            scenario: scenario.into(),
            seed,
            verdict: Verdict::Pass,
            fingerprint: None,
            trace_hash: String::new(),
            plan_hash: String::new(),
            build: String::new(),
            acked: 0,
            rejected: 0,
            unknown: 0,
            windows: WindowTotals::default(),
            refusals: Vec::new(),
            loss_ppm: 0,
            unavailable_ns: Unavailable::default(),
            migrations: Migrations::default(),
            faults: BTreeMap::new(),
            marks: BTreeMap::new(),
            simulated_ns: 0,
            wall_ms: 0,
            peak_kib: 0,
            cause: None,
            oracle: None,
            found_at_ns: None,
            matrix: Matrix::default(),
            service: BTreeMap::new(),
            prediction: None,
            losses: Losses::default(),
            round_trip_ns: 0,
        }
    }

    /// The record as one line of JSON, without a line break.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data")
    }

    /// Reads a line. Fails on another schema version.
    pub fn from_json(line: &str) -> Result<Record, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_str(line)?;
        if v != VERSION {
            return Err(RecordError::Version(v));
        }
        Ok(serde_json::from_str(line)?)
    }
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or a field is missing or wrong.
    #[error("no record: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by another version of the tool.
    #[error("record of schema version {0}; this tool reads version {VERSION}")]
    Version(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_contract() {
        let mut record = Record::new("cutover/with_anti_entropy", Seed(42));
        record.acked = 2100;
        record.faults.insert("drop".to_owned(), 31);
        record.marks.insert("delta pass shipped a missed document".to_owned(), 1);
        let line = record.to_json();
        assert_eq!(
            line,
            concat!(
                r#"{"v":1,"scenario":"cutover/with_anti_entropy","seed":42,"verdict":"pass","fingerprint":null,"trace_hash":"","plan_hash":"","#,
                r#""build":"","acked":2100,"rejected":0,"unknown":0,"windows":{"transient":0,"superseded":0,"permanent":0,"total_ns":0,"#,
                r#""max_ns":0},"refusals":[],"loss_ppm":0,"unavailable_ns":{"writes":0,"reads":0},"migrations":{"done":0,"aborted":0,"#,
                r#""refused":0},"faults":{"drop":31},"marks":{"delta pass shipped a missed document":1},"simulated_ns":0,"wall_ms":0,"peak_kib":0,"#,
                r#""cause":null,"oracle":null,"found_at_ns":null,"matrix":{},"service":{},"prediction":null,"round_trip_ns":0}"#
            )
        );
        assert_eq!(Record::from_json(&line).expect("reads what it wrote"), record);
    }

    #[test]
    fn other_versions_are_refused() {
        let line = Record::new("x", Seed(1)).to_json().replacen("\"v\":1", "\"v\":2", 1);
        assert_eq!(
            Record::from_json(&line).expect_err("from the future").to_string(),
            "record of schema version 2; this tool reads version 1"
        );
    }
}
