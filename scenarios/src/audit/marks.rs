//! What sweeps have to reach: where in a migration something befell a replica, and what the store did about it.

use miroir_sim::sometimes;
use miroir_store::config::{Form, ShardConfig};
use miroir_store::env::{Copy, Event};
use miroir_store::id::{DiskId, NodeId};
use miroir_store::migration::Stage;
use miroir_store::wire::Purpose;

use super::Books;

/// Configurations from one rest to the next: a node that is behind by so many has slept through a migration.
const WHOLE_MIGRATION: u64 = 4;

/// Looks at what a process has told, before the books are changed by it.
pub(super) fn mark(event: &Event, books: &Books, life: impl Fn(NodeId) -> u32) {
    match event {
        Event::Opened { node, disk, copies } => {
            let skipped = books.lives.get(node).is_some_and(|last| life(*node) > last + 1);
            sometimes!(skipped, "a node died while it recovered");
            opened(*node, *disk, copies, books);
        }
        Event::Committed { config } => {
            let last = books.configs.get(&config.shard);
            let rebuilt = last.is_some_and(|last| last.epoch.generation < config.epoch.generation);
            sometimes!(rebuilt, "the coordinator's records were rebuilt");
            let journeys = books.journeys.values().filter(|journey| rebuilt && journey.shard == config.shard.0);
            for (_, stage) in journeys.filter_map(|journey| journey.stages.last()) {
                sometimes!(*stage == Stage::DualWrite, "records were rebuilt after DualWrite");
                sometimes!(*stage == Stage::Drain, "records were rebuilt after Drain");
                sometimes!(*stage == Stage::DeltaPass, "records were rebuilt after DeltaPass");
                sometimes!(*stage == Stage::Cleanup, "records were rebuilt after Activate");
            }
            sometimes!(came_back(config, books), "a shard came back to where it had been");
        }
        Event::Installed { node, config, .. } => {
            let newest = books.configs.get(&config.shard);
            let slept = newest.is_some_and(|newest| newest.epoch.n >= config.epoch.n + WHOLE_MIGRATION);
            sometimes!(slept, "a node installed what was over by a whole migration");
            let known = books.installed.get(&(config.shard, *node));
            let missed = known.is_some_and(|known| config.epoch.n >= known.n + WHOLE_MIGRATION);
            sometimes!(missed, "a node missed a whole migration");
        }
        Event::TurnedAway { why, .. } => {
            sometimes!(*why == "another session", "a page of an earlier session was refused");
            sometimes!(*why == "not a member", "a page for a node that had left was refused");
            sometimes!(*why == "read below the tombstone barrier", "a page from before a barrier was refused");
            sometimes!(why.starts_with("a drop"), "a drop that came late was refused");
            sometimes!(
                *why == "a configuration of a lost coordinator",
                "a configuration of a lost coordinator was refused"
            );
        }
        Event::Rotted { .. } => sometimes!("rot was found in a copy"),
        Event::Forgotten { .. } => {
            sometimes!("tombstones were forgotten");
            sometimes!(books.cutovers() >= 1, "tombstones were forgotten after a shard had moved");
        }
        Event::Applied { shard, key, .. } => {
            let again = books.forgotten.contains(&(*shard, key.clone()));
            sometimes!(again, "a document was written again after its deletion was forgotten");
        }
        Event::Reconciled { shard, purpose: Purpose::AntiEntropy, .. } => {
            let journeys = books.journeys.values().filter(|journey| journey.shard == shard.0);
            let stage =
                journeys.filter_map(|journey| journey.stages.last()).map(|(_, stage)| *stage).max_by_key(|stage| {
                    // One that is under way counts, whatever others have ended.
                    (!matches!(stage, Stage::Planned | Stage::Done | Stage::Aborted), *stage)
                });
            sometimes!(stage == Some(Stage::DualWrite), "anti-entropy passed in DualWrite");
            sometimes!(stage == Some(Stage::Drain), "anti-entropy passed in Drain");
            sometimes!(stage == Some(Stage::DeltaPass), "anti-entropy passed in DeltaPass");
            sometimes!(stage == Some(Stage::Cleanup), "anti-entropy passed in Cleanup");
        }
        Event::Reconciled { purpose: Purpose::Readmission, .. } => {
            sometimes!("a replica that lost its disk was readmitted");
        }
        _ => {}
    }
}

fn opened(node: NodeId, disk: DiskId, copies: &[Copy], books: &Books) {
    let is_first = !books.disks.contains_key(&node);
    let replaced = books.disks.get(&node).is_some_and(|known| *known != disk);
    if is_first {
        return;
    }
    sometimes!(copies.iter().any(|copy| copy.damaged), "a node came back with a copy that had rotted");
    for config in books.configs.values().filter(|config| config.replica(node).is_some()) {
        let joins = is_joining(config, node);
        if replaced {
            sometimes!(config.is_at_rest(), "a replica lost its disk in peace");
            sometimes!(config.form != Form::Stable && joins, "a joining node lost its disk");
            sometimes!(config.form == Form::DualWrite && !joins, "an old replica lost its disk under DualWrite");
            sometimes!(config.form == Form::Joint && !joins, "an old replica lost its disk under Joint");
            sometimes!(config.form == Form::Stable && !config.leaving.is_empty(), "a disk was lost in cleanup");
            sometimes!(config.is_recovering(node), "a replica lost its disk again while it was readmitted");
        } else {
            sometimes!(config.form == Form::DualWrite && joins, "a joining node restarted under DualWrite");
            sometimes!(config.form == Form::Joint && joins, "a joining node restarted under Joint");
            sometimes!(config.form == Form::DualWrite && !joins, "an old replica restarted under DualWrite");
            sometimes!(config.form == Form::Joint && !joins, "an old replica restarted under Joint");
            sometimes!(config.is_recovering(node), "a replica restarted while it was readmitted");
        }
    }
}

/// Whether a cutover has brought the shard to the very nodes that served it at some time before another cutover.
fn came_back(config: &ShardConfig, books: &Books) -> bool {
    let nodes = |config: &ShardConfig| -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = config.new.iter().map(|replica| replica.node).collect();
        nodes.sort();
        nodes
    };
    let last = books.configs.get(&config.shard);
    let activated =
        config.form == Form::Stable && last.is_some_and(|last| last.form == Form::Joint && last.new == config.new);
    let of_shard = books.config_log.iter().map(|(_, config)| config).filter(|earlier| earlier.shard == config.shard);
    let mut stable = of_shard.filter(|earlier| earlier.form == Form::Stable);
    activated && stable.any(|earlier| nodes(earlier) == nodes(config))
}

fn is_joining(config: &ShardConfig, node: NodeId) -> bool {
    config.joiners().iter().any(|replica| replica.node == node)
}
