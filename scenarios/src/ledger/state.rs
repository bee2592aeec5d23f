//! The cluster at one instant, as far as the ledger knows it: configurations, stages, and who holds what.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use miroir_sim::time::{Nanos, in_seconds};

use super::{Entry, Line, counter, short};

/// How many documents are listed of a shard whose replicas differ.
const DIFFERING: usize = 12;

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
            Entry::Acked { shard, doc, version, .. } => {
                self.held.entry((*shard, doc.clone())).or_default();
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

    /// Who holds this version of a document or a newer one.
    pub fn holders(&self, shard: u32, doc: &str, version: &str) -> BTreeSet<String> {
        let held = self.held.get(&(shard, doc.to_owned()));
        let holds = held.into_iter().flatten().filter(|(_, held)| counter(held) >= counter(version));
        holds.map(|(node, _)| node.clone()).collect()
    }

    /// Who holds this version or a newer one, against who is asked: `of n1 n2 n4, only n4 holds it durably; n3 holds it, but
    /// does not count`.
    pub fn held_by(&self, shard: u32, doc: &str, version: &str) -> String {
        let mut outside = self.holders(shard, doc, version);
        let holders = outside.clone();
        let groups = self.configs.get(&shard).map(|(_, groups)| groups.as_slice()).unwrap_or_default();
        let mut said: Vec<String> = Vec::new();
        for group in groups {
            let holding: Vec<&str> = group.iter().filter(|it| holders.contains(*it)).map(String::as_str).collect();
            said.push(match (group.as_slice(), holding.as_slice()) {
                ([alone], []) => format!("{alone} does not hold it durably"),
                ([alone], _) => format!("{alone} holds it durably"),
                (_, []) => format!("of {}, none holds it durably", group.join(" ")),
                (_, [one]) => format!("of {}, only {one} holds it durably", group.join(" ")),
                (all, some) if all.len() == some.len() => format!("of {}, all hold it durably", all.join(" ")),
                (_, some) => format!("of {}, {} hold it durably", group.join(" "), listed(some)),
            });
            outside.retain(|node| !group.contains(node));
        }
        let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
        match outside.as_slice() {
            [] if said.is_empty() => said.push("nobody holds it durably".to_owned()),
            [] => {}
            [one] => said.push(format!("{one} holds it, but does not count")),
            some => said.push(format!("{} hold it, but do not count", listed(some))),
        }
        said.join("; ")
    }

    /// Documents of a shard that its replicas do not hold as acknowledged or not in the same version, those that most of them
    /// lack first.
    pub fn differing(&self, shard: u32) -> Vec<&str> {
        let groups = self.configs.get(&shard).map(|(_, groups)| groups.as_slice()).unwrap_or_default();
        let members: BTreeSet<&String> = groups.iter().flatten().collect();
        let of_shard = self.held.iter().filter(|((of, _), _)| *of == shard);
        let mut differing: Vec<(Reverse<usize>, &str)> = of_shard
            .filter_map(|((_, doc), held)| {
                let newest = self.acked.get(doc).map(|version| counter(version));
                let lacks = |node: &&&String| held.get(**node).map(|held| counter(held)) < newest;
                let lacking = members.iter().filter(lacks).count();
                let is_one = members.iter().map(|node| held.get(*node)).collect::<BTreeSet<_>>().len() < 2;
                (lacking > 0 || !is_one).then_some((Reverse(lacking), doc.as_str()))
            })
            .collect();
        differing.sort_unstable();
        differing.into_iter().map(|(_, doc)| doc).collect()
    }

    /// A screen of text: per shard its configuration and, by node, what is installed there and how many documents it holds. Of
    /// one document who holds which version, else of those that the replicas hold differently.
    pub fn text(&self, doc: Option<&str>) -> String {
        let mut out = String::new();
        for (migration, (shard, stage, since)) in &self.stages {
            let _ = writeln!(out, "{migration:<12} {stage} of s{shard}, since {}", in_seconds(*since));
        }
        for (shard, (config, _)) in &self.configs {
            let wanted: Vec<&str> = match doc {
                Some(doc) => vec![doc],
                None => self.differing(*shard),
            };
            // Only the shard that a document belongs to has to do with it.
            if doc.is_some_and(|doc| !self.held.contains_key(&(*shard, doc.to_owned()))) {
                continue;
            }
            let _ = writeln!(out, "\n{:<12} {config}", format!("s{shard}"));
            out.push_str(&self.table(*shard, &wanted));
            if let Some(doc) = doc {
                let said = self.acked.get(doc).map(|version| {
                    format!(
                        "{} is the newest that was acknowledged: {}",
                        short(version),
                        self.held_by(*shard, doc, version)
                    )
                });
                let _ = writeln!(out, "{:<12} {}", "", said.as_deref().unwrap_or("never acknowledged to a client"));
            }
        }
        match doc {
            Some(doc) if !self.held.keys().any(|(_, it)| it == doc) => {
                let _ = writeln!(out, "\n{doc:<12} nobody holds it yet");
            }
            _ => {}
        }
        out
    }

    /// What a node is to a shard, in a word. Configurations name those who are not asked, too: `DualWrite(n1 -> n2)`,
    /// `Stable(n2) leaving(n1)`.
    fn role(&self, shard: u32, node: &str) -> &'static str {
        let Some((text, groups)) = self.configs.get(&shard) else { return "-" };
        let (told, leaving) = text.split_once("leaving(").unwrap_or((text, ""));
        let names = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == node);
        match () {
            () if groups.iter().flatten().any(|member| member == node) => "replica",
            () if names(leaving) => "leaving",
            () if told.contains("->") && names(told) => "joining",
            () => "-",
        }
    }

    /// By node, in columns.
    fn table(&self, shard: u32, docs: &[&str]) -> String {
        let groups = self.configs.get(&shard).map(|(_, groups)| groups.as_slice()).unwrap_or_default();
        let members: BTreeSet<&str> = groups.iter().flatten().map(String::as_str).collect();
        let of_shard = || self.held.iter().filter(|((of, _), _)| *of == shard);
        let mut nodes = members.clone();
        nodes.extend(
            self.installed
                .keys()
                .filter(|(of, node)| *of == shard && self.role(shard, node) != "-")
                .map(|(_, node)| node.as_str()),
        );
        nodes.extend(of_shard().flat_map(|(_, held)| held.keys().map(String::as_str)));
        let row = |label: &str, cell: &dyn Fn(&str) -> String, last: &str| {
            let cells: String = nodes.iter().map(|node| format!(" {:<9}", cell(node))).collect();
            format!("{label:<12}{cells} {last}").trim_end().to_owned() + "\n"
        };
        let mut out = row("", &|node| node.to_owned(), "acknowledged");
        out += &row("  role", &|node| self.role(shard, node).to_owned(), "");
        let installed = |node: &str| self.installed.get(&(shard, node.to_owned())).cloned();
        out += &row("  installed", &|node| installed(node).unwrap_or_else(|| "-".to_owned()), "");
        let count = |node: &str| of_shard().filter(|(_, held)| held.contains_key(node)).count();
        out += &row("  documents", &|node| count(node).to_string(), "");
        for doc in docs.iter().take(DIFFERING) {
            let held = self.held.get(&(shard, (*doc).to_owned()));
            let version = |node: &str| held.and_then(|held| held.get(node)).map(|version| short(version));
            // What is not there is told only of those who should have it.
            let cell = |node: &str| {
                version(node).unwrap_or_else(|| if members.contains(node) { "nothing" } else { "-" }.to_owned())
            };
            let acked = self.acked.get(*doc).map_or("never".to_owned(), |version| short(version));
            out += &row(&format!("  {doc}"), &cell, &acked);
        }
        if docs.len() > DIFFERING {
            let _ =
                writeln!(out, "  and {} more documents that replicas lack or hold differently", docs.len() - DIFFERING);
        }
        out
    }
}

/// `n1`, `n1 and n2`, `n1, n2 and n3`.
pub fn listed(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: Nanos, json: &str) -> Line {
        serde_json::from_str(&format!("{{\"at\":{at},{json}}}")).expect(json)
    }

    fn lines() -> [Line; 6] {
        [
            line(1, r#""what":"committed","shard":0,"epoch":"1.1","text":"Stable(n1 n2)","groups":[["n1","n2"]]"#),
            line(2, r#""what":"applied","node":"n1","shard":0,"doc":"d000001","version":"7:ab","by":"a write""#),
            line(2, r#""what":"applied","node":"n3","shard":0,"doc":"d000001","version":"7:ab","by":"a page""#),
            line(3, r#""what":"acked","client":3,"shard":0,"doc":"d000001","version":"7:ab""#),
            line(4, r#""what":"dropped","node":"n1","shard":0,"why":"wiped""#),
            line(5, r#""what":"opened","node":"n3","copies":[]"#),
        ]
    }

    #[test]
    fn the_state_at_an_instant_is_what_had_become_so() {
        let lines = lines();
        let before = State::at(&lines, 3);
        assert_eq!(before.held[&(0, "d000001".to_owned())].len(), 2);
        assert_eq!((before.acked["d000001"].as_str(), before.configs[&0].0.as_str()), ("7:ab", "Stable(n1 n2)"));
        assert_eq!(State::at(&lines, 5).held[&(0, "d000001".to_owned())], BTreeMap::new());
        assert_eq!(
            serde_json::to_string(&lines[4]).unwrap(),
            r#"{"at":4,"what":"dropped","node":"n1","shard":0,"why":"wiped"}"#
        );
    }

    #[test]
    fn who_holds_it_is_said_of_those_who_are_asked() {
        let lines = lines();
        let said = |at| State::at(&lines, at).held_by(0, "d000001", "7:ab");
        assert_eq!(said(1), "of n1 n2, none holds it durably");
        assert_eq!(said(3), "of n1 n2, only n1 holds it durably; n3 holds it, but does not count");
        assert_eq!(said(4), "of n1 n2, none holds it durably; n3 holds it, but does not count");
        assert_eq!(said(0), "nobody holds it durably");
        assert_eq!(listed(&["n1", "n2", "n3"]), "n1, n2 and n3");
    }

    #[test]
    fn who_joins_and_who_leaves_is_no_replica() {
        let at = |text: &str| {
            let groups = vec![vec!["n1".to_owned()]];
            let state = State { configs: [(0, (text.to_owned(), groups))].into(), ..State::default() };
            ["n1", "n2", "n3"].map(|node| state.role(0, node))
        };
        assert_eq!(at("DualWrite(n1 -> n2) epoch 1.2"), ["replica", "joining", "-"]);
        assert_eq!(
            at("Stable(n1) after skipped delta from (n3) leaving(n2 n3) epoch 1.4"),
            ["replica", "leaving", "leaving"]
        );
    }

    #[test]
    fn an_instant_is_shown_by_node() {
        let shown = State::at(&lines(), 3);
        let expected = "
s0           Stable(n1 n2)
             n1        n2        n3        acknowledged
  role       replica   replica   -
  installed  -         -         -
  documents  1         0         1
  d000001    v7:0000   nothing   v7:0000   v7:0000
";
        assert_eq!(shown.text(None), expected);
        assert!(shown.text(Some("d000001")).starts_with(expected), "{}", shown.text(Some("d000001")));
        assert!(shown.text(Some("d000002")).contains("nobody holds it yet"));
        assert_eq!(State::at(&lines(), 5).differing(0), ["d000001"]);
        assert_eq!(State::at(&lines(), 1).differing(0), Vec::<&str>::new());
    }
}
