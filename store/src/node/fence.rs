//! Who is answered: the epoch of a request is compared with the installed one, and the copy has to be sound.

use std::collections::BTreeSet;

use crate::config::ShardConfig;
use crate::env::{Nanos, Peer};
use crate::id::{Epoch, NodeId, ShardId};
use crate::node::{FETCH_EVERY, MOST_WAITING, Node, WAITS_FOR};
use crate::wire::{Message, RequestId};

impl Node {
    /// Whether this node's copy may answer, acknowledge, and be a source: the installed configuration names it with
    /// this very disk, it is not being readmitted, and its data is sound.
    fn is_sound(&self, shard: ShardId) -> bool {
        let Some(state) = self.engine.shard(shard) else {
            return false;
        };
        let Some(config) = &state.config else {
            return false;
        };
        let disk = self.engine.disk_id();
        let named = config.replica(self.id).is_some_and(|replica| replica.disk == disk || mutant!("M31"));
        let sound = !state.damaged || mutant!("M53");
        named && sound && (!config.is_recovering(self.id) || mutant!("M55"))
    }

    /// Whether this copy is being readmitted, on this very disk, and is sound otherwise.
    fn is_coming_back(&self, shard: ShardId) -> bool {
        let Some(state) = self.engine.shard(shard) else { return false };
        let back = state.config.as_ref().and_then(|config| config.recovering.iter().find(|it| it.node == self.id));
        back.is_some_and(|replica| replica.disk == self.engine.disk_id()) && !state.damaged
    }

    /// Asks for a configuration that somebody has heard of: the coordinator, and every node that may have it.
    pub(super) fn fetch(&mut self, now: Nanos, shard: ShardId) {
        let due = self.fetched_at.get(&shard).is_none_or(|at| now >= at + FETCH_EVERY);
        if !due {
            return;
        }
        self.fetched_at.insert(shard, now);
        self.answer(Peer::Coordinator, Message::Fetch { shard });
        let configs = self.engine.shards().filter_map(|(_, state)| state.config.as_ref());
        let others: BTreeSet<NodeId> = configs.flat_map(ShardConfig::named).filter(|node| *node != self.id).collect();
        others.into_iter().for_each(|node| self.answer(Peer::Node(node), Message::Fetch { shard }));
    }

    /// The epoch fence of clients' requests. `None` lets the request through; otherwise what is answered instead.
    pub(super) fn fence(&mut self, now: Nanos, from: Peer, shard: ShardId, epoch: Epoch) -> Option<Message> {
        let installed = self.epoch(shard);
        if epoch < installed && !mutant!("M34") {
            let config = self.config(shard).expect("an installed epoch has a configuration").clone();
            return Some(Message::Stale { config });
        }
        if epoch > installed {
            self.fetch(now, shard);
            self.let_wait(now, from, shard, epoch);
            if !mutant!("M34") {
                return Some(Message::Behind { shard, epoch: installed });
            }
        }
        if !self.serves_clients(shard) {
            return Some(Message::Unable { shard, epoch: installed });
        }
        self.has_served(shard, None);
        None
    }

    /// Whether clients are answered under the installed epoch, as [`Node::fence`] says.
    pub(super) fn serves_clients(&self, shard: ShardId) -> bool {
        self.config(shard).is_some_and(|config| config.is_member(self.id)) && self.is_sound(shard)
    }

    /// Keeps who asked under an epoch that is yet to be installed, to be told when it is.
    fn let_wait(&mut self, now: Nanos, client: Peer, shard: ShardId, epoch: Epoch) {
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.retain(|_, (at, _)| now < at.saturating_add(WAITS_FOR));
        }
        if self.waiting.len() < MOST_WAITING {
            self.waiting.insert((shard, client), (now, epoch));
        }
    }

    /// Keeps for the probe that this copy answers a client, or the coordinator that reads at an epoch.
    pub(super) fn has_served(&mut self, shard: ShardId, read_at: Option<Epoch>) {
        let installed = self.epoch(shard);
        let served = self.served.entry(shard).or_default();
        served.retain(|(epoch, _)| *epoch == installed);
        if served.insert((installed, read_at)) {
            self.serving.push((shard, installed, read_at));
        }
    }

    /// The fence of digests and listings: a copy that may be a source, or one that is being readmitted. The latter is
    /// compared and never read from: whoever asks knows which of the two it is.
    pub(super) fn may_be_compared(
        &mut self,
        now: Nanos,
        from: Peer,
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
    ) -> bool {
        let is_coming_back = self.is_coming_back(shard);
        let sound = self.is_sound(shard) || is_coming_back;
        let serves = self.serves_if(sound, now, from, request, shard, epoch);
        if serves && !is_coming_back {
            self.has_served(shard, Some(epoch));
        }
        serves
    }

    /// The fence of the coordinator's reads: exactly this epoch, from a copy that may be a source.
    pub(super) fn serves(&mut self, now: Nanos, from: Peer, request: RequestId, shard: ShardId, epoch: Epoch) -> bool {
        let sound = self.is_sound(shard);
        let serves = self.serves_if(sound, now, from, request, shard, epoch);
        if serves {
            self.has_served(shard, Some(epoch));
        }
        serves
    }

    fn serves_if(
        &mut self,
        sound: bool,
        now: Nanos,
        from: Peer,
        request: RequestId,
        shard: ShardId,
        epoch: Epoch,
    ) -> bool {
        let installed = self.epoch(shard);
        if installed < epoch {
            self.fetch(now, shard);
        }
        let early = mutant!("M03", "M47") && installed < epoch;
        let why = if installed != epoch && !early {
            format!("{} has installed epoch {installed} of {shard}, not {epoch}", self.id)
        } else if !sound {
            format!("{} has no sound copy of {shard}", self.id)
        } else {
            return true;
        };
        self.answer(from, Message::Unserved { request, node: self.id, why });
        false
    }
}
