//! The protocol's rules, checked against what the store reports of itself: which configuration may follow which, whose
//! copy may be wiped or dropped, which repair may be taken, which tombstone may be forgotten.
//!
//! A broken rule need not lose anything in the run in which it is broken: versions, digests and quorums mask much. It is
//! a broken promise all the same, and is named where it happened and not where it hurt.

use std::sync::Arc;

use miroir_sim::ProcessId;
use miroir_sim::oracle::durable::Auditor;
use miroir_store::config::{Cutover, Form, Replica, ShardConfig, majority};
use miroir_store::env::Peer;
use miroir_store::id::{Epoch, Key, NodeId, Session, ShardId, Version};

use super::{Books, pair};
use crate::env::Directory;

/// Passes over a shard that were verified since its last commit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passes {
    pub delta: bool,
    pub anti_entropy: bool,
}

/// What is wrong with `next` after `last`. `eager` says that the simulator overrides what a skipped delta pass keeps.
pub fn of_commit(last: &ShardConfig, next: &ShardConfig, passes: Passes, eager: bool) -> Option<String> {
    if next.epoch.generation != last.epoch.generation {
        return None;
    }
    let what = of_sessions(last, next)
        .or_else(|| of_barrier(last, next).or(of_step(last, next, passes, eager)).map(str::to_owned));
    what.map(|what| format!("{what}: {next} was committed after {last}"))
}

/// Whether `next` is the Activate, after `last`, of a migration whose delta pass is skipped.
pub fn activates_without_delta(last: &ShardConfig, next: &ShardConfig) -> bool {
    let activates = last.form == Form::Joint && next.form == Form::Stable && nodes(&next.new) == nodes(&last.new);
    activates && last.cutover == Cutover::Skipped && last.epoch.generation == next.epoch.generation
}

/// What is wrong with activating `next` after `last` while nothing repairs what a skipped delta pass leaves out.
pub(super) fn of_cutover(last: &ShardConfig, next: &ShardConfig, may_repair: bool) -> Option<String> {
    (activates_without_delta(last, next) && !may_repair).then(|| {
        format!("activated without a delta pass while anti-entropy was off: {next} was committed after {last}")
    })
}

/// What is wrong with a node's installing a configuration, if `committed` is the one of its epoch.
pub(super) fn of_commitment(node: NodeId, config: &ShardConfig, committed: Option<&ShardConfig>) -> Option<String> {
    match committed {
        None => Some(format!("{node} installed {config}, which was never committed")),
        Some(committed) => {
            (committed != config).then(|| format!("{node} installed {config}, and committed is {committed}"))
        }
    }
}

fn of_barrier(last: &ShardConfig, next: &ShardConfig) -> Option<&'static str> {
    if next.gc_barrier < last.gc_barrier {
        return Some("the tombstone barrier fell");
    }
    let raised = next.gc_barrier > last.gc_barrier;
    let may_be = next.gc_barrier == next.epoch && last.is_at_rest();
    (raised && !may_be).then_some("the tombstone barrier was raised while replicas came or went")
}

/// A session begins with a DualWrite that a replica joins in, or with a readmission under a stable configuration.
fn of_sessions(last: &ShardConfig, next: &ShardConfig) -> Option<String> {
    let is_new =
        |replica: &&Replica| named(last).all(|known| (known.node, known.session) != (replica.node, replica.session));
    let fresh = named(next).find(is_new)?;
    let joins = next.form == Form::DualWrite && next.old.iter().all(|old| old.node != fresh.node);
    let returns = next.form == Form::Stable && next.is_recovering(fresh.node);
    let may_be = fresh.session == Session(next.epoch) && last.form == Form::Stable && (joins || returns);
    (!may_be).then(|| format!("{} was given another session", fresh.node))
}

fn of_step(last: &ShardConfig, next: &ShardConfig, passes: Passes, eager: bool) -> Option<&'static str> {
    let ends_at = |set: &[Replica]| nodes(&next.new) == nodes(set);
    match (last.form, next.form) {
        (Form::Stable, Form::DualWrite) if last.gate_unmet() => {
            Some("a migration was opened before the cleanup gate was met")
        }
        (Form::Stable, Form::DualWrite) if !last.recovering.is_empty() => {
            Some("a migration was opened while a replica was being readmitted")
        }
        (Form::Stable, Form::Stable) if last.gate_unmet() && !next.gate_unmet() && !passes.anti_entropy => {
            Some("the cleanup gate was met without a clean anti-entropy pass since Activate")
        }
        (Form::Stable, Form::Stable | Form::DualWrite) | (Form::DualWrite, Form::Joint) => None,
        (Form::DualWrite | Form::Joint, Form::Stable) if ends_at(&last.old) => None,
        (Form::Joint, Form::Stable) if ends_at(&last.new) => {
            let gate_is_left_out = last.cutover == Cutover::Skipped && next.old.is_empty() && !eager;
            match passes.delta {
                false => Some("activated without a delta pass since Joint"),
                true => gate_is_left_out.then_some("activated after a skipped delta pass without a cleanup gate"),
            }
        }
        _ => Some("no such step"),
    }
}

fn named(config: &ShardConfig) -> impl Iterator<Item = &Replica> {
    config.new.iter().chain(&config.old).chain(&config.leaving)
}

fn nodes(replicas: &[Replica]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = replicas.iter().map(|replica| replica.node).collect();
    nodes.sort();
    nodes
}

/// What is wrong with a node's installing a configuration after the one of epoch `known`, while its copy held so many
/// documents.
pub(super) fn of_install(
    books: &Books,
    node: NodeId,
    config: &ShardConfig,
    known: Epoch,
    wiped: bool,
    held: usize,
) -> Option<String> {
    if config.epoch <= known {
        return Some(format!("{node} installed {config} after epoch {known}"));
    }
    let session = config.replica(node).map(|replica| replica.session);
    let is_another = session.is_some() && session != books.session(config.shard, node, known);
    (is_another && held > 0 && !wiped)
        .then(|| format!("{node} kept the documents of its old copy in a new session: it installed {config}"))
}

/// What is wrong with a node's dropping its copy while it has installed `config`.
pub(super) fn of_drop(node: NodeId, config: Option<&ShardConfig>) -> Option<String> {
    let config = config.filter(|config| config.is_member(node))?;
    Some(format!("{node} dropped its copy, and counts under {config}"))
}

/// What is wrong with a document that became durable on a node: only a greater version replaces one.
pub(super) fn of_replacing(
    auditor: &Auditor,
    process: ProcessId,
    node: NodeId,
    key: &Key,
    version: Version,
    how: &str,
) -> Option<String> {
    let held = auditor.held(process, auditor.intern(key.id()))?;
    (held > pair(version)).then(|| format!("{how} replaced version {} of {key} on {node} by an older version", held.0))
}

/// What is wrong with a node's taking a repair while it has installed `config`.
pub(super) fn of_repair(
    node: NodeId,
    config: Option<&ShardConfig>,
    session: Session,
    read_at: Epoch,
) -> Option<String> {
    let config = config?;
    if read_at < config.gc_barrier {
        return Some(format!("{node} took a repair read below the tombstone barrier, at {read_at}, under {config}"));
    }
    let own = config.replica(node).map(|replica| replica.session)?;
    (own != session)
        .then(|| format!("{node} took a repair that was meant for another session, {session}, under {config}"))
}

/// What is wrong with a node's forgetting a tombstone while it has installed `config`. Only the first of a shard's nodes
/// to forget it is asked for what the others hold.
pub(super) fn of_forgetting(
    auditor: &Auditor,
    books: &Books,
    directory: &Directory,
    config: Option<&ShardConfig>,
    node: NodeId,
    (key, version): (&Key, Version),
) -> Option<String> {
    let config = config?;
    if config.gc_barrier != config.epoch {
        return Some(format!("{node} forgot the tombstone of {key} without a barrier, under {config}"));
    }
    let (doc, version) = (auditor.intern(key.id()), Some(pair(version)));
    if auditor.forgotten(doc) >= version {
        return None;
    }
    let held = |replica: &Replica| auditor.held(directory.process(Peer::Node(replica.node)).expect("a node"), doc);
    let has_its_disk = |replica: &&Replica| books.disks.get(&replica.node) == Some(&replica.disk);
    let lacking = config.new.iter().filter(has_its_disk).find(|replica| held(replica) < version)?;
    Some(format!("{node} forgot a tombstone that {} does not hold, that of {key}, under {config}", lacking.node))
}

/// What is wrong with a node's answering from its copy when it has installed `epoch`: clients, or the coordinator, which
/// reads at an epoch of its own.
pub(super) fn of_service(
    books: &Books,
    node: NodeId,
    shard: ShardId,
    epoch: Epoch,
    read_at: Option<Epoch>,
) -> Option<String> {
    if let Some(read_at) = read_at.filter(|read_at| *read_at != epoch) {
        return Some(format!("{node} was a source of {shard} at epoch {read_at}, and had installed epoch {epoch}"));
    }
    let Some(config) = books.committed(shard, epoch) else {
        return Some(format!(
            "{node} answered from its copy of {shard} under epoch {epoch}, which was never committed"
        ));
    };
    let own = config.replica(node).map(|replica| replica.disk);
    let why = if own.is_none() || own != books.disks.get(&node).copied() {
        "which does not name it with the disk it has"
    } else if config.is_recovering(node) {
        "while it was being readmitted"
    } else if books.silenced.contains(&(shard, node)) {
        "after it had found rot in its copy"
    } else {
        return None;
    };
    Some(format!("{node} answered from its copy under {config}, {why}"))
}

/// A version of a document that a replica held when others began to be readmitted.
#[derive(Clone, Debug)]
pub struct Owed {
    doc: Arc<str>,
    version: (u64, u128),
    source: NodeId,
}

/// What the replicas that are being readmitted under `config` have to hold before they vote again: whatever those hold that
/// have to be read, because without any one of them the others would be no majority. While the cleanup gate of a skipped
/// delta pass is unmet, a majority of the old replicas is read as well.
pub(super) fn owed(auditor: &Auditor, directory: &Directory, config: &ShardConfig) -> Vec<Owed> {
    if config.recovering.is_empty() {
        return Vec::new();
    }
    let was_old = config.old.iter().any(|replica| config.is_recovering(replica.node));
    let groups = [(&config.new, true), (&config.old, was_old)];
    let mut sources: Vec<NodeId> = Vec::new();
    for (group, _) in groups.into_iter().filter(|(_, is_read)| *is_read) {
        let others = group.iter().map(|replica| replica.node).filter(|node| !config.is_recovering(*node));
        let others: Vec<NodeId> = others.collect();
        if others.len() == majority(group.len()) {
            sources.extend(others);
        }
    }
    let members = config.recovering.iter().map(|replica| replica.node).chain(sources.iter().copied());
    let members: Vec<ProcessId> =
        members.map(|node| directory.process(Peer::Node(node)).expect("a node has a process")).collect();
    let differing = auditor.differing(config.shard.0, &members).into_iter();
    differing
        .filter_map(|(doc, held)| {
            let held = held.into_iter().skip(config.recovering.len()).zip(&sources);
            let (version, source) = held.filter_map(|(held, source)| Some((held?, *source))).max()?;
            Some(Owed { doc, version, source })
        })
        .collect()
}

/// What is wrong with letting those vote again that were being readmitted under `config`.
pub(super) fn of_readmission(
    auditor: &Auditor,
    directory: &Directory,
    config: &ShardConfig,
    owed: &[Owed],
) -> Option<String> {
    config.recovering.iter().find_map(|replica| {
        let process = directory.process(Peer::Node(replica.node)).expect("a node has a process");
        let lacking = owed.iter().find(|owed| auditor.held(process, auditor.intern(&owed.doc)) < Some(owed.version))?;
        let Owed { doc, version, source } = lacking;
        Some(format!(
            "{} was readmitted without version {} of {doc}, which {source} held when it began, under {config}",
            replica.node, version.0
        ))
    })
}

/// What is wrong with what a node found on its disk: so many documents that it had held before, in the session `before`.
pub(super) fn of_return(
    node: NodeId,
    epoch: Epoch,
    before: Option<Session>,
    now: Option<Session>,
    left: usize,
) -> Option<String> {
    let is_another = now.is_some() && now != before;
    (is_another && left > 0)
        .then(|| format!("{node} came back with the documents of its old copy in a new session, that of epoch {epoch}"))
}
