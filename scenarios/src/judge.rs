//! What the oracles say about a run.

mod due;
pub mod kind;
mod scans;
pub mod told;
mod unacknowledged;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use miroir_sim::history::{Op, Operation};
use miroir_sim::oracle::converged::{self, Copy};
use miroir_sim::oracle::durable::{Kind, Window};
use miroir_sim::oracle::linearizable::{self, Judgement, ModelKind};
use miroir_sim::time::{Nanos, in_seconds};
use miroir_sim::verdict::Verdict;
use miroir_sim::{ProcessId, sometimes};
use miroir_store::config::{Form, ShardConfig};
use miroir_store::engine::Engine;
use miroir_store::env::Peer;
use miroir_store::error::EngineError;
use miroir_store::id::{Epoch, Key, NodeId, ShardId};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::audit::Books;
use crate::audit::promises::activates_without_delta;
use crate::catalog::{Scenario, Windows};
use crate::cluster::{Cluster, engine_options};
use crate::env::StoreDisk;
use crate::run::Seen;
use crate::service;
use crate::workload::COLLECTION;

/// One thing that is not as promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// Which oracle says so.
    pub oracle: &'static str,
    /// What happened, in words.
    pub cause: String,
    /// What kind of thing happened: equal for equal failures, whatever documents, nodes and times. Its hash is the
    /// fingerprint.
    pub kind: String,
    /// When it went wrong, if that is an instant.
    pub at: Option<Nanos>,
}

impl Finding {
    pub fn new(verdict: Verdict, oracle: &'static str, cause: String) -> Finding {
        let kind = cause.clone();
        Finding { verdict, oracle, cause, kind, at: None }
    }

    /// Gives it a kind of its own, where the words of the cause vary from run to run.
    pub fn of_kind(mut self, kind: impl Into<String>) -> Finding {
        self.kind = kind.into();
        self
    }

    /// A promise that was broken is named before what came of it.
    pub fn is_consequence(&self) -> bool {
        self.oracle != "promises"
    }

    fn at(mut self, at: Nanos) -> Finding {
        self.at = Some(at);
        self
    }
}

/// How many of each kind are reported.
const SHOWN: usize = 5;

/// Looks at windows, history and disks. Ends every process first.
pub fn judge(scenario: &Scenario, it: &Cluster, mut findings: Vec<Finding>) -> Seen {
    let now = it.world.now();
    let windows = it.audit.auditor().finish();
    let books = it.audit.take_books();
    let totals = it.history.totals();
    let history = it.history.take();
    judge_durability(scenario, &windows, &books, &history, &mut findings);
    if scenario.windows == Windows::UntilRepair {
        findings.extend(due::judge(it, &windows, &books, &history));
    }
    for risen in it.audit.auditor().risen().iter().take(SHOWN) {
        let name = it.world.trace().names().name(risen.process);
        let text = format!(
            "{} came back from the dead on {name}: version {} after the deletion {} was forgotten everywhere",
            risen.doc, risen.version.0, risen.forgotten.0
        );
        findings.push(violation("durable", text).of_kind("a document came back from the dead").at(risen.at));
    }
    let lost = windows.iter().map(|window| (window.doc.as_str(), window.opened_at, window.closed_at));
    let unacknowledged = unacknowledged::spans(scenario.windows, &books, &history, it.plan.cluster.shards);
    let documents_searched = judge_history(&history, lost.chain(unacknowledged), &mut findings);
    versions::judge(
        &history,
        it.plan.cluster.shards,
        books.versions.as_ref().unwrap_or(&BTreeSet::new()),
        &mut findings,
    );
    scans::judge(&books, &history, &windows, it.plan.cluster.shards, &mut findings);
    for (at, wrong) in books.wrong.iter().take(SHOWN) {
        findings.push(violation("promises", wrong.clone()).of_kind(kind::of_promise(wrong)).at(*at));
    }
    judge_copies(scenario, it, &books, &mut findings);
    let until = it.load.thinned_at().unwrap_or(now).min(books.healed_at.unwrap_or(now));
    let from = books.chaos_from.unwrap_or(now);
    let service = service::measure(&history, &books.journeys, it.plan.cluster.shards, from, until);
    let unavailable = it.audit.progress().unavailable(now);
    let ledger = it.audit.ledger();
    let stopped_at = None;
    Seen { findings, windows, books, history, totals, unavailable, service, documents_searched, ledger, stopped_at }
}

fn violation(oracle: &'static str, cause: String) -> Finding {
    Finding::new(Verdict::Violation, oracle, cause)
}

/// Whether the window opened by the very commit of Activate.
fn opened_at_activate(window: &Window, books: &Books) -> bool {
    let commits =
        books.config_log.iter().filter(|(at, config)| *at == window.opened_at && config.shard.0 == window.shard);
    let mut commits = commits.map(|(_, config)| config);
    commits.any(|config| config.form == Form::Stable)
}

/// Whether the window opened because of a skipped delta pass: at Activate, or after it by the late acknowledgement of a
/// write that was called before it, and that old replicas took. Both happen while the cleanup gate of that pass is unmet.
fn opened_by_skipping(window: &Window, books: &Books, history: &[Operation]) -> bool {
    let Some((activated, config)) = unmet_since(window, books) else { return false };
    let is_acknowledged = |it: &&Operation| *it.key == *window.doc && it.ret == Some(window.acked_at);
    let was_called_before = || history.iter().filter(is_acknowledged).any(|it| it.call < activated);
    !should_have_been_copied(window, books, config) && (activated == window.opened_at || was_called_before())
}

/// When the shard activated without its delta pass, and its configuration as the window opened, if the cleanup gate of that
/// pass is still unmet. One that is unmet because the coordinator's records were rebuilt is another one.
fn unmet_since<'a>(window: &Window, books: &'a Books) -> Option<(Nanos, &'a ShardConfig)> {
    let of_shard = books.config_log.iter().filter(|(_, config)| config.shard.0 == window.shard);
    let mut last: Option<&ShardConfig> = None;
    let mut activated = None;
    for (at, config) in of_shard.take_while(|(at, _)| *at <= window.opened_at) {
        if !config.gate_unmet() {
            activated = None;
        } else if last.is_some_and(|last| activates_without_delta(last, config)) {
            activated = Some(*at);
        }
        last = Some(config);
    }
    Some((activated?, last?))
}

/// Whether the version was acknowledged before the copying to the present replicas began, and its only holder was copied:
/// then pages brought it, or should have. With several old replicas a page may come from one that missed the write.
fn should_have_been_copied(window: &Window, books: &Books, config: &ShardConfig) -> bool {
    let began = books.config_log.iter().rev().find(|(at, earlier)| {
        let same = earlier.shard == config.shard && earlier.form == Form::DualWrite;
        same && *at <= window.opened_at && earlier.new == config.new
    });
    config.old.len() == 1 && began.is_some_and(|(at, _)| window.acked_at < *at)
}

/// What may end the window of a skipped delta pass without a newer write. The auditor's words stand in
/// `miroir_sim::oracle::durable`.
const ENDS: [&str; 5] = [
    "anti-entropy",
    // The write that was missed came late after all.
    "a write is durable",
    // As did what the delta pass of the migration before had sent to a node that stood still.
    "the delta pass is durable",
    // One of the two was durable in the commit in which its node died, and is seen when the node is back.
    "restarted from its disk",
    // Who lacked it lost its disk, and misleads nobody until it is readmitted, which has a check of its own.
    "a replica fell silent",
];

/// Whether it ended as it may.
fn ended_well(window: &Window, books: &Books) -> bool {
    let ends = |by: &str| ENDS.iter().any(|end| by.contains(end));
    let came_late = |by: &str| by.contains("a page is durable") && was_left_out(window, books);
    match window.kind {
        Kind::Superseded => true,
        Kind::Transient => window.closed_by.as_ref().is_some_and(|by| ends(by) || came_late(by)),
        Kind::Permanent => false,
    }
}

/// Whether the copy may have ended without the page of this document, on a node that was too slow: it may where a majority
/// of the new replicas had it, from before the migration or by pages.
fn was_left_out(window: &Window, books: &Books) -> bool {
    let (Some((_, config)), Ok(key)) = (unmet_since(window, books), Key::new(COLLECTION, &window.doc)) else {
        return false;
    };
    let brings = |through: &Option<Key>| through.as_ref().is_none_or(|through| *through >= key);
    let had_page = |node: NodeId| {
        let pages = books.copied.get(&(node, config.shard));
        pages.is_some_and(|pages| pages.iter().any(|(at, through)| *at <= window.opened_at && brings(through)))
    };
    let stays = |node: NodeId| config.old.iter().any(|replica| replica.node == node);
    let had_it = config.new.iter().filter(|replica| stays(replica.node) || had_page(replica.node)).count();
    had_it > config.new.len() / 2
}

/// Whether the scenario says that such windows open.
pub fn is_declared(scenario: &Scenario, window: &Window, books: &Books, history: &[Operation]) -> bool {
    match scenario.windows {
        Windows::None => false,
        Windows::Any => true,
        Windows::UntilRepair => opened_by_skipping(window, books, history) && ended_well(window, books),
    }
}

fn judge_durability(
    scenario: &Scenario,
    windows: &[Window],
    books: &Books,
    history: &[Operation],
    findings: &mut Vec<Finding>,
) {
    for (at, vanished) in books.vanished.iter().take(SHOWN) {
        let text = format!(
            "{} lost {} from its disk: it had version {}, durable, and came back at {} with {:?}",
            vanished.process.0,
            vanished.doc,
            vanished.had.0,
            in_seconds(*at),
            vanished.has.map(|version| version.0),
        );
        findings.push(violation("durable", text).of_kind("a durable document vanished from a disk").at(*at));
    }
    for window in windows {
        let at_activate = opened_at_activate(window, books);
        sometimes!(at_activate, "a loss window opened at Activate");
        let behind = !at_activate && opened_by_skipping(window, books, history);
        sometimes!(behind, "a loss window opened behind Activate");
        let by_repair = window.closed_by.as_ref().is_some_and(|by| by.contains("anti-entropy"));
        sometimes!(by_repair, "anti-entropy closed a loss window");
        sometimes!(window.kind == Kind::Permanent, "an acked write was lost for good");
    }
    for window in windows.iter().filter(|window| !is_declared(scenario, window, books, history)).take(SHOWN) {
        findings.push(violation("durable", window.to_string()).of_kind(kind::of_window(window)).at(window.opened_at));
    }
}

/// Linearizability of each document, but for reads that overlap a loss window of it. Declared windows are excepted;
/// undeclared ones are findings of their own already. `windows`: documents, and from when to when they could be missed.
/// Returns how many documents had to be searched.
pub fn judge_history<'a>(
    history: &[Operation],
    windows: impl Iterator<Item = (&'a str, Nanos, Option<Nanos>)>,
    findings: &mut Vec<Finding>,
) -> u64 {
    let mut lost: BTreeMap<&str, Vec<(Nanos, Nanos)>> = BTreeMap::new();
    for (doc, opened_at, closed_at) in windows {
        lost.entry(doc).or_default().push((opened_at, closed_at.unwrap_or(Nanos::MAX)));
    }
    let excepted = |operation: &Operation| {
        let Some(spans) = lost.get(&*operation.key) else { return false };
        let (call, end) = (operation.call, operation.ret.unwrap_or(Nanos::MAX));
        matches!(operation.op, Op::Read { .. }) && spans.iter().any(|&(open, close)| call <= close && open <= end)
    };
    let judged: Vec<Operation> = history.iter().filter(|operation| !excepted(operation)).cloned().collect();
    let report = linearizable::check(&judged, ModelKind::Kv, linearizable::BUDGET)
        .expect("clients read, write and delete, which the model admits");
    match report.judgement {
        Judgement::Linearizable => {}
        Judgement::Violation(violated) => {
            let finding = violation("linearizable", violated.to_string());
            findings.push(finding.of_kind(kind::of_stuck(&violated.stuck)).at(violated.stuck.call));
        }
        Judgement::Undecided { key, states } => {
            let text = format!("{key} is undecided after {states} states");
            findings.push(Finding::new(Verdict::Stalled, "linearizable", text).of_kind("undecided"));
        }
    }
    (report.keys - report.by_versions) as u64
}

/// Whether replicas hold the same after anti-entropy has come to rest. Looks at what the auditor knows, as reading would
/// repair it.
pub fn judge_holdings(scenario: &Scenario, it: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !scenario.converges || !it.audit.anti_entropy_is_on() {
        return findings;
    }
    let names = it.world.trace().names().clone();
    for config in it.audit.configs() {
        let members: Vec<ProcessId> =
            config.new.iter().filter_map(|replica| it.directory.process(Peer::Node(replica.node))).collect();
        for (doc, held) in it.audit.auditor().differing(config.shard.0, &members).into_iter().take(SHOWN) {
            let held = members.iter().zip(held).map(|(member, held)| match held {
                Some(version) => format!("{} has version {}", names.name(*member), version.0),
                None => format!("{} has nothing", names.name(*member)),
            });
            let text = format!("{}: {doc} differs: {}", config.shard, held.collect::<Vec<_>>().join(", "));
            let finding = violation("converged", text).of_kind("replicas differ after anti-entropy came to rest");
            findings.push(finding.at(it.world.now()));
        }
    }
    findings
}

/// Reads every disk as a restart would, and compares what is there.
fn judge_copies(scenario: &Scenario, it: &Cluster, books: &Books, findings: &mut Vec<Finding>) {
    let names = it.world.trace().names().clone();
    let process = |node: NodeId| it.directory.process(Peer::Node(node)).expect("a node has a process");
    let mut engines: Vec<(ProcessId, Engine)> = Vec::new();
    for (node, disk) in &it.disks {
        it.world.crash(process(*node));
        let disk = StoreDisk::new(disk.mount(), it.world.timers().clone());
        match Engine::open(Arc::new(disk), engine_options(), 0) {
            Ok(engine) => engines.push((process(*node), engine)),
            // Rot that nobody could place before the run ended: whoever runs the node replaces the disk.
            Err(EngineError::Corrupt { .. }) if it.plan.rots(&node.to_string()) => {}
            Err(error) => {
                let text = format!("the disk of {node} cannot be opened: {error}");
                findings.push(violation("converged", text).of_kind("a disk cannot be opened"))
            }
        }
    }
    for (holder, engine) in &engines {
        for (shard, state) in engine.shards() {
            let epoch = state.config.as_ref().map_or(Epoch::ZERO, |config| config.epoch);
            let told = it.directory.node(*holder).and_then(|node| books.installed.get(&(shard, node)));
            if let Some(told) = told.filter(|told| epoch < **told) {
                let text =
                    format!("{} had installed epoch {told} of {shard}; on its disk is {epoch}", names.name(*holder));
                findings.push(violation("promises", text).of_kind("an installed configuration is not on the disk"));
            }
        }
    }
    for (shard, config) in &books.configs {
        // A disk that has rotted may not open any more, and a copy on it may be silent to the end.
        let rotted = |engine: &Engine| engine.shard(*shard).is_some_and(|state| state.damaged);
        let sound: Vec<ProcessId> = engines
            .iter()
            .filter(|(holder, engine)| !(rotted(engine) && it.plan.rots(&names.name(*holder))))
            .map(|(holder, _)| *holder)
            .collect();
        let replicas = config.new.iter().map(|replica| process(replica.node));
        let replicas: Vec<ProcessId> = replicas.filter(|replica| sound.contains(replica)).collect();
        let mut copies = Vec::new();
        for (holder, engine) in engines.iter().filter(|(holder, _)| sound.contains(holder)) {
            match copy(*holder, engine, *shard) {
                Ok(Some(copy)) => copies.push(copy),
                Ok(None) if replicas.contains(holder) => copies.push(empty(*holder)),
                Ok(None) => {}
                Err(error) => {
                    let text = format!("{shard}: {error}");
                    findings.push(violation("converged", text).of_kind("a copy cannot be read"));
                }
            }
        }
        let mut differences = converged::compare(&names, &replicas, &copies, SHOWN);
        if !config.is_at_rest() {
            // That it did not come to rest was said; whoever is still on the way in or out keeps a copy.
            differences.retain(|difference| !matches!(difference, converged::Difference::Leftover { .. }));
        }
        if !scenario.converges || !it.audit.anti_entropy_is_on() {
            // Without anti-entropy a minority may stay behind for ever; everything else still has to be right.
            differences.retain(|difference| !matches!(difference, converged::Difference::Entry { .. }));
        }
        findings.extend(differences.iter().map(|difference| {
            violation("converged", format!("shard {shard}: {difference}")).of_kind(kind::of_difference(difference))
        }));
    }
}

fn empty(process: ProcessId) -> Copy<String> {
    Copy { process, entries: BTreeMap::new(), digest: None, recomputed: None }
}

/// What a disk holds of a shard; `None` if nothing.
fn copy(process: ProcessId, engine: &Engine, shard: ShardId) -> Result<Option<Copy<String>>, String> {
    let Some(state) = engine.shard(shard) else { return Ok(None) };
    if state.damaged {
        return Err("the copy is marked damaged".to_owned());
    }
    let (digest, documents) = engine.recount(shard).map_err(|error| error.to_string())?;
    if documents != state.documents {
        return Err(format!("{} documents are counted, {documents} are there", state.documents));
    }
    if documents == 0 {
        return Ok(None);
    }
    let mut entries = BTreeMap::new();
    let mut after = None;
    loop {
        let page = engine.page(shard, after.as_ref(), 1_000, usize::MAX).map_err(|error| error.to_string())?;
        // A tombstone and nothing say the same: replicas forget deletions one after another.
        for (key, stored) in &page.documents {
            if let Some(value) = &stored.value {
                let version = stored.version;
                let text = format!("{}:{:x} {:016x}", version.counter, version.writer.0, xxh3_64(value));
                entries.insert(key.id().to_owned(), text);
            }
        }
        after = page.documents.last().map(|(key, _)| key.clone());
        if !page.more {
            break;
        }
    }
    let sum = |digest: &miroir_store::engine::Digest| {
        digest.0.iter().fold(0u128, |sum, bucket| sum.wrapping_mul(31).wrapping_add(u128::from(*bucket)))
    };
    Ok(Some(Copy { process, entries, digest: Some(sum(&state.digest)), recomputed: Some(sum(&digest)) }))
}

#[cfg(test)]
mod tests {
    use miroir_store::config::{Cutover, Replica};
    use miroir_store::id::{DiskId, Session};

    use super::*;

    #[test]
    fn the_window_of_a_skipped_delta_pass_ends_by_a_repair_and_not_by_another_configuration() {
        let ended = |kind, by: Option<&str>| ended_well(&window(kind, by), &Books::default());
        for by in ["anti-entropy is durable on n3", "a write is durable on n3", "n3 restarted from its disk"] {
            assert!(ended(Kind::Transient, Some(by)), "{by}");
        }
        assert!(ended(Kind::Transient, Some("a replica fell silent, or speaks again")));
        assert!(!ended(Kind::Transient, Some("configuration committed: Stable(n1) epoch 1.5")));
        assert!(!ended(Kind::Transient, Some("a page is durable on n3")));
        assert!(ended(Kind::Superseded, None) && !ended(Kind::Permanent, None));
    }

    /// A migration without a delta pass: Stable at 5, Joint at 10, activated at 20, its cleanup gate met at 40.
    pub(super) fn without_delta(old: &[u32], new: &[u32]) -> Books {
        let replica = |n: u32| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(u128::from(n)) };
        let set = |nodes: &[u32]| nodes.iter().map(|n| replica(*n)).collect::<Vec<_>>();
        let stable = ShardConfig::initial(ShardId(0), 1, set(old));
        let mut joint = stable.clone();
        (joint.epoch, joint.form, joint.cutover) = (stable.epoch.next(), Form::Joint, Cutover::Skipped);
        (joint.old, joint.new) = (set(old), set(new));
        let mut activated = joint.clone();
        (activated.epoch, activated.form) = (joint.epoch.next(), Form::Stable);
        let mut met = activated.clone();
        (met.epoch, met.old) = (activated.epoch.next(), Vec::new());
        let mut books = Books::default();
        books.config_log.extend([(5, stable), (10, joint), (20, activated), (40, met)]);
        books
    }

    /// The last of three replicas is new, or the only one: with two that stayed, the copy may end without it.
    #[test]
    fn a_late_page_ends_a_window_where_a_majority_did_not_need_it() {
        let late = window(Kind::Transient, Some("a page is durable on n4"));
        assert!(ended_well(&late, &without_delta(&[1, 2, 3], &[1, 2, 4])));
        assert!(!ended_well(&late, &without_delta(&[1], &[4])));
        let mut copied = without_delta(&[1, 2, 3], &[1, 4, 5]);
        assert!(!ended_well(&late, &copied));
        copied.copied.insert((NodeId(5), ShardId(0)), vec![(19, None)]);
        assert!(ended_well(&late, &copied));
    }

    fn window(kind: Kind, closed_by: Option<&str>) -> Window {
        Window {
            shard: 0,
            doc: "d000001".to_owned(),
            version: (7, 1),
            client: 3,
            acked_at: 10,
            opened_at: 20,
            closed_at: closed_by.map(|_| 30),
            kind,
            opened_by: "configuration committed: Stable(n2)".to_owned(),
            closed_by: closed_by.map(str::to_owned),
            cause: String::new(),
            stage: "Activate".to_owned(),
        }
    }
}
