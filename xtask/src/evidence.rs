//! What a kept run left behind, read back: for explanations and pictures.
//!
//! A folder holds the record, the bundle, and five files of lines (events, ledger, history, windows, findings). Here they are
//! read whole; a run of the default scenario has about 100,000 events, which is a second and some 50 MB.

use std::fs;
use std::path::Path;

use miroir_scenarios::ledger::{Entry, Line};
use miroir_sim::history::{self, Operation};
use miroir_sim::record::Record;
use miroir_sim::time::Nanos;
use miroir_sim::verdict::Verdict;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bundle::{self, Bundle};
use crate::exit::Failure;

/// One run, with everything that is known of it.
pub struct Evidence {
    pub record: Record,
    pub bundle: Bundle,
    pub findings: Vec<Finding>,
    pub windows: Vec<Window>,
    pub history: Vec<Operation>,
    pub ledger: Vec<Line>,
    pub events: Vec<Event>,
}

/// What an oracle found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Finding {
    pub verdict: Verdict,
    pub oracle: String,
    pub cause: String,
    #[serde(default)]
    pub at: Option<Nanos>,
}

impl Finding {
    /// Whether a client was told that a write is safe while no majority held it.
    pub fn is_early_ack(&self) -> bool {
        self.oracle == "promises" && self.cause.starts_with("client-")
    }
}

/// A loss window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Window {
    pub shard: u32,
    pub doc: String,
    pub version: String,
    pub client: u32,
    pub acked_at: Nanos,
    pub opened_at: Nanos,
    pub closed_at: Option<Nanos>,
    pub opened_by: String,
    pub closed_by: Option<String>,
    pub cause: String,
    pub declared: bool,
    pub text: String,
}

/// A line of the trace; what its kind of event does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Event {
    pub at: Nanos,
    pub event: String,
    pub from: String,
    pub to: String,
    /// Frames have a number, faults a name.
    pub id: serde_json::Value,
    pub why: String,
    pub label: String,
    pub name: String,
    pub text: String,
    /// A name; a number where the process is introduced.
    pub process: serde_json::Value,
    pub client: u32,
}

impl Event {
    /// The number of the frame; 0 for what is no frame.
    pub fn frame(&self) -> u64 {
        self.id.as_u64().unwrap_or_default()
    }

    /// The name of the process that it happened to.
    pub fn process(&self) -> &str {
        self.process.as_str().unwrap_or_default()
    }

    pub fn is(&self, kind: &str) -> bool {
        self.event == kind
    }

    /// A client that has done its work is gone, and not down.
    pub fn is_end_of_work(&self) -> bool {
        self.is("crash") && self.process().starts_with("client-") && self.why == "ended by itself"
    }

    /// Who asked for which reconcile job, or answered for it: `digest! job 7 n1: ...` is `("digest!", 7)`.
    pub fn job(&self) -> Option<(&str, u64)> {
        let (kind, rest) = self.label.split_once(" job ")?;
        Some((kind, rest.split(' ').next()?.parse().ok()?))
    }
}

impl Evidence {
    /// Reads the folder of a run.
    pub fn read(folder: &Path) -> Result<Evidence, Failure> {
        let record = text(folder, "record.json")?;
        let record = Record::from_json(record.trim())
            .map_err(|error| Failure::refused(format!("{}: {error}", folder.join("record.json").display())))?;
        let history = history::parse(&text(folder, "history.jsonl")?)
            .map_err(|error| Failure::refused(format!("{}: {error}", folder.join("history.jsonl").display())))?;
        Ok(Evidence {
            record,
            bundle: Bundle::read(&folder.join(bundle::FILE))?,
            findings: lines(folder, "findings.jsonl")?,
            windows: lines(folder, "windows.jsonl")?,
            history,
            ledger: lines(folder, "ledger.jsonl")?,
            events: lines(folder, "events.jsonl")?,
        })
    }

    /// The names of all processes, in the order in which they were introduced.
    pub fn processes(&self) -> Vec<&str> {
        self.events.iter().filter(|event| event.is("process")).map(|event| event.name.as_str()).collect()
    }

    /// When a stage of a shard's migration was entered, the last time before an instant.
    pub fn entered(&self, shard: u32, stage: &str, before: Nanos) -> Option<Nanos> {
        let entered = self.ledger.iter().take_while(|line| line.at <= before).filter(
            |line| matches!(&line.entry, Entry::Staged { shard: of, stage: it, .. } if *of == shard && it == stage),
        );
        entered.last().map(|line| line.at)
    }

    /// Whether the migration of a shard that was under way at an instant is planned without its delta pass.
    ///
    /// Migrations have the numbers of the plan; one that a scenario repeats by itself is as those planned for its shard.
    pub fn skips_delta(&self, shard: u32, at: Nanos) -> bool {
        let planned = &self.bundle.plan.migrations;
        let staged = self.ledger.iter().take_while(|line| line.at <= at).filter_map(|line| match &line.entry {
            Entry::Staged { migration, shard: of, .. } if *of == shard => migration.strip_prefix('m')?.parse().ok(),
            _ => None,
        });
        let number: Option<usize> = staged.last();
        let by_number = number.and_then(|number| planned.get(number.checked_sub(1)?)).filter(|it| it.shard == shard);
        by_number.or_else(|| planned.iter().find(|it| it.shard == shard)).is_some_and(|it| it.skip_delta)
    }

    /// The shard of a document, as far as anybody has written it.
    pub fn shard_of(&self, wanted: &str) -> Option<u32> {
        self.ledger.iter().find_map(|line| match &line.entry {
            Entry::Applied { shard, doc, .. } | Entry::Acked { shard, doc, .. } if doc == wanted => Some(*shard),
            _ => None,
        })
    }
}

fn text(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))
}

fn lines<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Vec<T>, Failure> {
    let text = text(folder, name)?;
    let numbered = text.lines().zip(1..);
    numbered
        .map(|(line, number)| {
            serde_json::from_str(line)
                .map_err(|error| Failure::refused(format!("{}, line {number}: {error}", folder.join(name).display())))
        })
        .collect()
}
