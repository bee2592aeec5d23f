//! Ex-owners, and the joiners of aborted migrations, drop their copies.

use crate::config::Form;
use crate::coordinator::Coordinator;
use crate::coordinator::records::{Record, RecordsError};
use crate::env::{Nanos, Peer, millis};
use crate::id::{Epoch, NodeId, ShardId};
#[cfg(madsim)]
use crate::migration::close_gate;
use crate::migration::forget_leavers;
use crate::wire::Message;

/// Once one drop is confirmed, the others are waited for this long, so that they share a commit.
const GRACE: Nanos = millis(60);

/// The drops of one shard under one epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleanup {
    sent_at: Option<Nanos>,
    confirmed: Vec<NodeId>,
    first_at: Option<Nanos>,
}

impl Coordinator {
    /// Sends drops where the configuration permits them, and commits those that were confirmed.
    pub(super) fn clean_up(&mut self, now: Nanos) -> Result<(), RecordsError> {
        #[cfg(madsim)]
        if mutant!("M35") {
            self.close_gates_of_earlier_passes(now)?;
        }
        let ready: Vec<ShardId> = self
            .configs
            .values()
            .map(|config| &config.value)
            .filter(|config| config.form == Form::Stable && config.old.is_empty() && !config.leaving.is_empty())
            .map(|config| config.shard)
            .collect();
        for shard in ready {
            let config = self.configs[&shard].value.clone();
            // A leaving replica whose disk is gone has nothing left to drop.
            let replaced =
                config.leaving.iter().filter(|it| self.disks.get(&it.node).is_some_and(|disk| *disk != it.disk));
            let replaced: Vec<NodeId> = replaced.map(|replica| replica.node).collect();
            let cleanup = self.cleanups.entry(shard).or_default();
            for node in replaced {
                if !cleanup.confirmed.contains(&node) {
                    cleanup.confirmed.push(node);
                    cleanup.first_at.get_or_insert(now);
                }
            }
            let complete = cleanup.confirmed.len() == config.leaving.len();
            if complete || cleanup.first_at.is_some_and(|first| now >= first + GRACE) {
                let next = forget_leavers(&config, &cleanup.confirmed);
                self.commit(now, &[], vec![Record::Shard(next)])?;
                continue;
            }
            if cleanup.sent_at.is_none_or(|at| now >= at + self.options.resend) {
                cleanup.sent_at = Some(now);
                let confirmed = cleanup.confirmed.clone();
                for replica in config.leaving.iter().filter(|replica| !confirmed.contains(&replica.node)) {
                    self.send(Peer::Node(replica.node), Message::Drop { shard, epoch: config.epoch });
                }
            }
        }
        Ok(())
    }

    /// The planted bug M35: a pass that began within this period is taken for one that began after Activate.
    #[cfg(madsim)]
    fn close_gates_of_earlier_passes(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let begun = |shard: &ShardId| self.anti_entropy_at.get(shard).is_some_and(|next| *next > now);
        let configs = self.configs.values().map(|config| config.value.clone());
        let passed: Vec<_> = configs.filter(|config| config.gate_unmet() && begun(&config.shard)).collect();
        for config in passed {
            self.commit(now, &[], vec![Record::Shard(close_gate(&config))])?;
        }
        Ok(())
    }

    /// A node has dropped its copy, durably.
    pub(super) fn dropped(&mut self, now: Nanos, node: NodeId, shard: ShardId, epoch: Epoch) {
        let Some(config) = self.configs.get(&shard) else {
            return;
        };
        let leaves = config.value.leaving.iter().any(|replica| replica.node == node);
        if epoch != config.value.epoch || !leaves {
            return;
        }
        let cleanup = self.cleanups.entry(shard).or_default();
        if !cleanup.confirmed.contains(&node) {
            cleanup.confirmed.push(node);
            cleanup.first_at.get_or_insert(now);
        }
    }
}
