//! Who held what, when: what the observer heard in one run, in order, as lines that a person or a program can read back.
//!
//! The trace says what crossed the network and the disks; the ledger says what became of it: what is durable where, which
//! configuration holds, who missed which write and why. It is kept when the whole trace is, goes to `ledger.jsonl`, and is what
//! explanations and the state at an instant are made of. It changes nothing in the run.

mod state;

use miroir_sim::time::Nanos;
use miroir_store::env::{Copy, Event};
use miroir_store::id::{Key, NodeId, ShardId, Version};
use miroir_store::wire::Purpose;
use serde::{Deserialize, Serialize};

pub use state::{State, listed};

/// One line: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: Nanos,
    #[serde(flatten)]
    pub entry: Entry,
}

/// What became so. Nodes, documents, versions and epochs are as they print; shards are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// A client was told that its write is safe.
    Acked { client: u32, shard: u32, doc: String, version: String },
    /// A version is durable on a node; `by` says what brought it.
    Applied { node: String, shard: u32, doc: String, version: String, by: String },
    /// A write did not come to a node, or was turned away there.
    Missed { node: String, shard: u32, doc: String, version: String, why: String },
    /// A node's copy of a shard is gone.
    Dropped { node: String, shard: u32, why: String },
    /// A node removed a tombstone that every replica held.
    Forgotten { node: String, shard: u32, doc: String, version: String },
    /// A node began a life with what its disk holds: per shard the epoch and every document.
    Opened { node: String, copies: Vec<Opened> },
    /// A configuration is durable on a node.
    Installed { node: String, shard: u32, epoch: String },
    /// The coordinator committed a configuration; a quorum is a majority of every group.
    Committed { shard: u32, epoch: String, text: String, groups: Vec<Vec<String>> },
    /// A migration entered a stage.
    Staged { migration: String, shard: u32, stage: String, reason: Option<String> },
    /// A joining node has everything its source had up to this document when the page was read; `None`: to the end.
    Copied { node: String, shard: u32, through: Option<String> },
    /// A pass over a shard has ended.
    Reconciled { shard: u32, by: String, shipped: u64 },
}

/// What a node found of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub shard: u32,
    pub epoch: Option<String>,
    pub documents: Vec<(String, String)>,
}

/// A version with its whole writer, as windows and histories name it.
fn named(version: &Version) -> String {
    format!("{}:{:x}", version.counter, version.writer.0)
}

/// What ships documents, in words.
pub fn by(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Copy => "a page",
        Purpose::Delta => "the delta pass",
        Purpose::AntiEntropy => "anti-entropy",
        Purpose::Readmission => "readmission",
    }
}

/// A client was told that its write is safe.
pub fn acked(client: u32, shard: ShardId, key: &Key, version: Version) -> Entry {
    Entry::Acked { client, shard: shard.0, doc: key.id().to_owned(), version: named(&version) }
}

/// A write did not come to a node.
pub fn missed(node: NodeId, shard: ShardId, key: &Key, version: Version, why: String) -> Entry {
    let (node, doc) = (node.to_string(), key.id().to_owned());
    Entry::Missed { node, shard: shard.0, doc, version: named(&version), why }
}

/// What the store said, as entries.
pub fn entries(event: &Event) -> Vec<Entry> {
    let one = match event {
        Event::Opened { node, disk: _, copies } => {
            Entry::Opened { node: node.to_string(), copies: copies.iter().map(opened).collect() }
        }
        Event::Fenced { node, shard, epoch, installed, writes } => {
            let why = format!("it came to {node} under epoch {epoch}, which had installed {installed}");
            return writes.iter().map(|(key, version)| missed(*node, *shard, key, *version, why.clone())).collect();
        }
        Event::Applied { node, shard, key, version } => Entry::Applied {
            node: node.to_string(),
            shard: shard.0,
            doc: key.id().to_owned(),
            version: named(version),
            by: "a write".to_owned(),
        },
        Event::Repaired { node, shard, key, version, purpose, .. } => Entry::Applied {
            node: node.to_string(),
            shard: shard.0,
            doc: key.id().to_owned(),
            version: named(version),
            by: by(*purpose).to_owned(),
        },
        Event::Installed { node, config, wiped } => {
            let (node, shard) = (node.to_string(), config.shard.0);
            let installed = Entry::Installed { node: node.clone(), shard, epoch: config.epoch.to_string() };
            let wiped = wiped.then(|| Entry::Dropped { node, shard, why: "wiped for a new session".to_owned() });
            return wiped.into_iter().chain([installed]).collect();
        }
        Event::Dropped { node, shard } => {
            Entry::Dropped { node: node.to_string(), shard: shard.0, why: "dropped in cleanup".to_owned() }
        }
        Event::Forgotten { node, shard, key, version } => Entry::Forgotten {
            node: node.to_string(),
            shard: shard.0,
            doc: key.id().to_owned(),
            version: named(version),
        },
        Event::Committed { config } => Entry::Committed {
            shard: config.shard.0,
            epoch: config.epoch.to_string(),
            text: config.to_string(),
            groups: config
                .groups()
                .map(|group| group.iter().map(|replica| replica.node.to_string()).collect())
                .collect(),
        },
        Event::Staged { migration, shard, stage, reason } => Entry::Staged {
            migration: migration.to_string(),
            shard: shard.0,
            stage: stage.to_string(),
            reason: reason.clone(),
        },
        Event::Copied { node, shard, through } => Entry::Copied {
            node: node.to_string(),
            shard: shard.0,
            through: through.as_ref().map(|key| key.id().to_owned()),
        },
        Event::Reconciled { shard, purpose, shipped, .. } => {
            Entry::Reconciled { shard: shard.0, by: by(*purpose).to_owned(), shipped: *shipped }
        }
        // Nothing is held otherwise because of these.
        Event::TurnedAway { .. }
        | Event::Reconciling { .. }
        | Event::Served { .. }
        | Event::Rotted { .. }
        | Event::Counted { .. }
        | Event::Members { .. }
        | Event::Refused { .. }
        | Event::Contradicted { .. }
        | Event::Overtaken { .. }
        | Event::Warned { .. } => return Vec::new(),
    };
    vec![one]
}

fn opened(copy: &Copy) -> Opened {
    Opened {
        shard: copy.shard.0,
        epoch: copy.installed.map(|epoch| epoch.to_string()),
        documents: copy.documents.iter().map(|(key, version)| (key.id().to_owned(), named(version))).collect(),
    }
}

/// A version as frames and people name it: the counter, and enough of the writer to tell two apart.
pub fn short(version: &str) -> String {
    let (counter, writer) = counter(version);
    format!("v{counter}:{:04x}", writer >> 112)
}

/// The order of versions: counter, then writer.
pub fn counter(version: &str) -> (u64, u128) {
    let (counter, writer) = version.split_once(':').unwrap_or((version, "0"));
    (counter.parse().unwrap_or_default(), u128::from_str_radix(writer, 16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_store_orders_them() {
        assert!(counter("9:ff") < counter("10:0") && counter("10:0") < counter("10:1"));
        assert_eq!(short("78:8be5df41ab2a59b0b081c3b12fd74c2f"), "v78:8be5");
    }
}
