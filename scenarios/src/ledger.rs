//! Who held what, when: what the observer heard in one run, in order, as lines that a person or a program can read back.
//!
//! The trace says what crossed the network and the disks; the ledger says what became of it: what is durable where, which
//! configuration holds, who missed which write and why. It is kept when the whole trace is, goes to `ledger.jsonl`, and is what
//! explanations and the state at an instant are made of. It changes nothing in the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use miroir_sim::time::{Nanos, in_seconds};
use miroir_store::env::{Copy, Event};
use miroir_store::id::{Key, NodeId, ShardId, Version};
use miroir_store::wire::Purpose;
use serde::{Deserialize, Serialize};

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
        | Event::Served { .. }
        | Event::Rotted { .. }
        | Event::Members { .. }
        | Event::Refused { .. }
        | Event::Contradicted { .. }
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

/// The cluster at one instant, as far as the ledger knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Per shard: the committed configuration in words, and its groups.
    pub configs: BTreeMap<u32, (String, Vec<Vec<String>>)>,
    /// Per migration: its shard, its stage, and since when.
    pub stages: BTreeMap<String, (u32, String, Nanos)>,
    /// Per shard and node: the epoch that is installed there.
    pub installed: BTreeMap<(u32, String), String>,
    /// Per shard and document: the version that each node holds durably.
    pub held: BTreeMap<(u32, String), BTreeMap<String, String>>,
    /// Per document: the newest version that a client was told is safe.
    pub acked: BTreeMap<String, String>,
}

impl State {
    /// After every line up to `at`, that instant included.
    pub fn at(lines: &[Line], at: Nanos) -> State {
        let mut state = State::default();
        lines.iter().take_while(|line| line.at <= at).for_each(|line| state.add(line));
        state
    }

    /// After one line more.
    pub fn add(&mut self, line: &Line) {
        match &line.entry {
            Entry::Acked { doc, version, .. } => {
                let newest = self.acked.entry(doc.clone()).or_default();
                if counter(newest) <= counter(version) {
                    newest.clone_from(version);
                }
            }
            Entry::Applied { node, shard, doc, version, .. } => {
                self.held.entry((*shard, doc.clone())).or_default().insert(node.clone(), version.clone());
            }
            Entry::Forgotten { node, shard, doc, .. } => {
                self.held.entry((*shard, doc.clone())).or_default().remove(node);
            }
            Entry::Dropped { node, shard, .. } => self.lose(node, Some(*shard)),
            Entry::Opened { node, copies } => {
                self.lose(node, None);
                for copy in copies {
                    self.installed.extend(copy.epoch.clone().map(|epoch| ((copy.shard, node.clone()), epoch)));
                    for (doc, version) in &copy.documents {
                        let held = self.held.entry((copy.shard, doc.clone())).or_default();
                        held.insert(node.clone(), version.clone());
                    }
                }
            }
            Entry::Installed { node, shard, epoch } => {
                self.installed.insert((*shard, node.clone()), epoch.clone());
            }
            Entry::Committed { shard, text, groups, .. } => {
                self.configs.insert(*shard, (text.clone(), groups.clone()));
            }
            Entry::Staged { migration, shard, stage, .. } => {
                self.stages.insert(migration.clone(), (*shard, stage.clone(), line.at));
            }
            Entry::Missed { .. } | Entry::Copied { .. } | Entry::Reconciled { .. } => {}
        }
    }

    fn lose(&mut self, node: &str, shard: Option<u32>) {
        let of_shard = self.held.iter_mut().filter(|((of, _), _)| shard.is_none_or(|shard| shard == *of));
        of_shard.for_each(|(_, held)| drop(held.remove(node)));
        if shard.is_none() {
            self.installed.retain(|(_, of), _| of != node);
        }
    }

    /// A screen of text: configurations, stages, installed epochs; of one document who holds what, else how many each holds.
    pub fn text(&self, doc: Option<&str>) -> String {
        let mut out = String::new();
        let mut line =
            |label: &str, text: &str| writeln!(out, "{label:<12} {text}").expect("a String takes everything");
        for (shard, (config, _)) in &self.configs {
            line(&format!("s{shard}"), config);
            let installed = self.installed.iter().filter(|((of, _), _)| of == shard);
            let installed: Vec<String> = installed.map(|((_, node), epoch)| format!("{node} {epoch}")).collect();
            line("  installed", &installed.join(", "));
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for (_, held) in self.held.iter().filter(|((of, _), _)| of == shard) {
                held.keys().for_each(|node| *counts.entry(node).or_default() += 1);
            }
            let counts: Vec<String> = counts.iter().map(|(node, count)| format!("{node} {count}")).collect();
            line("  documents", &counts.join(", "));
        }
        for (migration, (shard, stage, since)) in &self.stages {
            line(migration, &format!("{stage} of s{shard}, since {}", in_seconds(*since)));
        }
        if let Some(doc) = doc {
            let known: BTreeSet<u32> = self.held.keys().filter(|(_, of)| of == doc).map(|(shard, _)| *shard).collect();
            for shard in known {
                let held = &self.held[&(shard, doc.to_owned())];
                let held: Vec<String> =
                    held.iter().map(|(node, version)| format!("{node} {}", short(version))).collect();
                line(
                    doc,
                    &format!("of s{shard}: {}", if held.is_empty() { "nobody".to_owned() } else { held.join(", ") }),
                );
            }
            let acked = self.acked.get(doc).map_or("never".to_owned(), |version| short(version));
            line("  acked", &acked);
        }
        out
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

    fn line(at: Nanos, json: &str) -> Line {
        serde_json::from_str(&format!("{{\"at\":{at},{json}}}")).expect(json)
    }

    #[test]
    fn the_state_at_an_instant_is_what_had_become_so() {
        let lines = [
            line(1, r#""what":"committed","shard":0,"epoch":"1.1","text":"Stable(n1)","groups":[["n1"]]"#),
            line(2, r#""what":"applied","node":"n1","shard":0,"doc":"d000001","version":"7:ab","by":"a write""#),
            line(3, r#""what":"acked","client":3,"shard":0,"doc":"d000001","version":"7:ab""#),
            line(4, r#""what":"dropped","node":"n1","shard":0,"why":"wiped""#),
        ];
        let before = State::at(&lines, 3);
        assert_eq!(before.held[&(0, "d000001".to_owned())], [("n1".to_owned(), "7:ab".to_owned())].into());
        assert_eq!((before.acked["d000001"].as_str(), before.configs[&0].0.as_str()), ("7:ab", "Stable(n1)"));
        assert!(before.text(Some("d000001")).contains("of s0: n1 v7:0000"), "{}", before.text(Some("d000001")));
        assert!(State::at(&lines, 4).text(Some("d000001")).contains("of s0: nobody"));
        assert_eq!(
            serde_json::to_string(&lines[3]).unwrap(),
            r#"{"at":4,"what":"dropped","node":"n1","shard":0,"why":"wiped"}"#
        );
    }

    #[test]
    fn versions_are_ordered_as_the_store_orders_them() {
        assert!(counter("9:ff") < counter("10:0") && counter("10:0") < counter("10:1"));
        assert_eq!(short("78:8be5df41ab2a59b0b081c3b12fd74c2f"), "v78:8be5");
    }
}
