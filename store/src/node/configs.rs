//! Configurations: what is installed and passed on, what is promised, and what an ex-owner drops.

use crate::config::ShardConfig;
use crate::env::{Event, Nanos, Peer};
use crate::error::EngineError;
use crate::id::{Epoch, ShardId};
use crate::node::Node;
use crate::wire::{CopyState, Message};

/// No cluster has this shard. Its counter, which never falls, keeps the generation that a node has promised.
const PROMISE: ShardId = ShardId(u32::MAX);

impl Node {
    pub(super) fn config(&self, shard: ShardId) -> Option<&ShardConfig> {
        self.engine.shard(shard).and_then(|state| state.config.as_ref())
    }

    pub(super) fn epoch(&self, shard: ShardId) -> Epoch {
        self.config(shard).map_or(Epoch::ZERO, |config| config.epoch)
    }

    pub(super) fn copy_state(&self, shard: ShardId) -> CopyState {
        let damaged = self.engine.shard(shard).is_some_and(|state| state.damaged);
        CopyState { shard, epoch: self.epoch(shard), damaged }
    }

    /// The least generation whose configurations this node installs.
    fn promised(&self) -> u32 {
        self.engine.shard(PROMISE).map_or(0, |state| state.max_counter as u32)
    }

    /// A coordinator without records asks what is installed. What the one before it may still have under way is not
    /// installed any more once this is answered.
    pub(super) fn promise(&mut self, from: Peer, generation: u32) -> Result<(), EngineError> {
        if from != Peer::Coordinator {
            return Ok(());
        }
        self.engine.raise_counter(PROMISE, generation.into())?;
        let generation = self.promised();
        let configs = self.installed();
        self.answer(from, Message::Promised { node: self.id, generation, configs });
        Ok(())
    }

    /// Every installed configuration.
    pub(super) fn installed(&self) -> Vec<ShardConfig> {
        self.engine.shards().filter_map(|(_, state)| state.config.clone()).collect()
    }

    /// Tells another node that is behind what this one has installed, which somebody has committed.
    pub(super) fn pass_on(&mut self, to: Peer, shard: ShardId) {
        if let Some(config) = self.config(shard).cloned() {
            self.answer(to, Message::Install { config });
        }
    }

    /// Installs a greater configuration that the coordinator has committed, told by it or by another node; a copy of
    /// another session than the one it names here is wiped in the same durable step.
    pub(super) fn install(&mut self, from: Peer, config: &ShardConfig) -> Result<(), EngineError> {
        let shard = config.shard;
        if matches!(from, Peer::Client(_)) {
            return Ok(());
        }
        if config.epoch.generation < self.promised() && !mutant!("M64") {
            let why = "a configuration of a lost coordinator";
            self.turned_away.push(Event::TurnedAway { node: self.id, shard, why });
        } else if config.epoch > self.epoch(shard) {
            let held = self.config(shard).and_then(|config| config.replica(self.id)).map(|r| r.session);
            let named = config.replica(self.id).map(|replica| replica.session);
            let joins = config.old.iter().all(|replica| replica.node != self.id);
            let spared = match joins {
                true => mutant!("M21"),
                false => mutant!("M44"),
            };
            let wipe = named.is_some() && named != held && !spared;
            self.engine.install(config, wipe)?;
            self.tell_who_waits(config);
        }
        let copy = self.copy_state(shard);
        let installed = Message::Installed { node: self.id, disk: self.engine.disk_id(), copy };
        self.answer(Peer::Coordinator, installed);
        Ok(())
    }

    /// Tells the clients that found this node behind that it no longer is: they need not wait until they ask again.
    fn tell_who_waits(&mut self, config: &ShardConfig) {
        let caught_up = |(shard, _): &(ShardId, Peer), (_, epoch): &mut (Nanos, Epoch)| {
            *shard == config.shard && *epoch <= config.epoch
        };
        let told: Vec<Peer> = self.waiting.extract_if(.., caught_up).map(|((_, client), _)| client).collect();
        told.into_iter().for_each(|client| self.answer(client, Message::Stale { config: config.clone() }));
    }

    /// Drops an ex-owner's copy and keeps the configuration, unless the node is (again) a member.
    pub(super) fn drop_copy(
        &mut self,
        now: Nanos,
        from: Peer,
        shard: ShardId,
        epoch: Epoch,
    ) -> Result<(), EngineError> {
        let installed = self.epoch(shard);
        if installed < epoch {
            self.fetch(now, shard);
        }
        let member = self.config(shard).is_some_and(|config| config.is_member(self.id));
        let refused =
            if mutant!("M19") { installed < epoch } else { installed != epoch || (member && !mutant!("M54")) };
        if refused {
            let why = if member { "a drop of a member's copy" } else { "a drop of another epoch" };
            self.turned_away.push(Event::TurnedAway { node: self.id, shard, why });
            return Ok(());
        }
        if self.engine.shard(shard).is_some_and(|state| state.documents > 0 || state.max_counter > 0) {
            self.engine.drop_copy(shard)?;
        }
        self.answer(from, Message::Dropped { node: self.id, shard, epoch });
        Ok(())
    }
}
