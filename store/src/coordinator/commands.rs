//! What operators may ask for. Each command is idempotent; each refusal says why and changes nothing.

use crate::config::{Cutover, Form};
use crate::coordinator::Coordinator;
use crate::coordinator::gate::{self, UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT, Verdict};
use crate::coordinator::records::{ClusterRecord, Record, RecordKey, RecordsError};
use crate::env::Nanos;
use crate::id::{MigrationId, NodeId, ShardId};
use crate::migration::{self, MigrationRecord, Reason, Stage};
use crate::placement::place;
use crate::wire::{Command, MigrationStatus, Reply};

fn refuse(code: &str, text: impl Into<String>) -> Reply {
    Reply::Refused { code: code.to_owned(), text: text.into() }
}

impl Coordinator {
    /// Carries out one command.
    pub(super) fn command(&mut self, now: Nanos, command: Command) -> Result<Reply, RecordsError> {
        if matches!(command, Command::Status) {
            return Ok(self.status());
        }
        if self.cluster.is_none() {
            return Ok(refuse("NotReady", "the cluster has not been created yet; ask again when its nodes are up"));
        }
        match command {
            Command::Plan { id, shard, target, cutover } => self.plan(now, id, shard, target, cutover),
            Command::Start { id } => self.start(now, id),
            Command::Pause { id } => self.set_paused(now, id, true),
            Command::Resume { id } => self.set_paused(now, id, false),
            Command::Abort { id } => self.abort(now, id),
            Command::Reverse { id, new } => self.reverse(now, id, new),
            Command::Rebalance { first, nodes, cutover } => self.rebalance(now, first, &nodes, cutover),
            Command::AddNode { node, address } => self.add_node(now, node, address),
            Command::SetAntiEntropy { enabled } => self.set_anti_entropy(now, enabled),
            Command::Inspect => Ok(self.inspect(now)),
            Command::RemoveNode { node } => self.remove_node(now, node),
            Command::CompareNow => Ok(self.compare(now)),
            Command::Status => unreachable!("answered above"),
        }
    }

    fn status(&self) -> Reply {
        let status = |record: &MigrationRecord| MigrationStatus {
            id: record.id,
            shard: record.shard,
            stage: record.stage,
            attempt: record.attempt,
            reason: record.reason.map(|reason| reason.to_string()),
        };
        Reply::Status {
            ready: self.cluster.is_some(),
            anti_entropy: self.cluster.as_ref().is_some_and(|cluster| cluster.value.anti_entropy.enabled),
            configs: self.configs.values().map(|config| config.value.clone()).collect(),
            migrations: self.migrations.values().map(|record| status(&record.value)).collect(),
        }
    }

    fn plan(
        &mut self,
        now: Nanos,
        id: MigrationId,
        shard: ShardId,
        target: Vec<NodeId>,
        cutover: Cutover,
    ) -> Result<Reply, RecordsError> {
        if let Some(known) = self.migrations.get(&id) {
            let same = known.value.shard == shard && known.value.target == target && known.value.cutover == cutover;
            let text = format!("migration {id} exists and is another one; choose another id");
            return Ok(if same { Reply::Done } else { refuse("Exists", text) });
        }
        let cluster = &self.cluster.as_ref().expect("checked by the caller").value;
        if let Some(reply) = self.refuse_target(cluster, shard, &target) {
            return Ok(reply);
        }
        if self.judge(cutover) == Verdict::Refused {
            return Ok(refuse(UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT));
        }
        let from = self.configs[&shard].value.new.iter().map(|replica| replica.node).collect();
        let record = MigrationRecord {
            id,
            shard,
            target,
            from,
            cutover,
            stage: Stage::Planned,
            attempt: 0,
            paused: false,
            reason: None,
        };
        self.commit(now, &[RecordKey::Cluster], vec![Record::Migration(record)])?;
        Ok(Reply::Done)
    }

    /// The way back of a migration that has activated: an ordinary migration in the other direction.
    fn reverse(&mut self, now: Nanos, id: MigrationId, new: MigrationId) -> Result<Reply, RecordsError> {
        let Some(record) = self.migrations.get(&id).map(|record| record.value.clone()) else {
            return Ok(refuse("NoSuchMigration", format!("there is no migration {id}")));
        };
        self.plan(now, new, record.shard, record.from, record.cutover)
    }

    /// Plans a migration for each shard that rendezvous hashing over `nodes` places elsewhere. All are planned or none.
    fn rebalance(
        &mut self,
        now: Nanos,
        first: MigrationId,
        nodes: &[NodeId],
        cutover: Cutover,
    ) -> Result<Reply, RecordsError> {
        let replication = self.cluster.as_ref().expect("checked by the caller").value.replication as usize;
        if nodes.len() < replication {
            let text = format!("{} nodes cannot hold {replication} copies of a shard", nodes.len());
            return Ok(refuse("BadTarget", text));
        }
        let mut moves = Vec::new();
        for (shard, config) in &self.configs {
            let present: Vec<NodeId> = config.value.new.iter().map(|replica| replica.node).collect();
            let placed = place(*shard, nodes, replication);
            if placed.iter().any(|node| !present.contains(node)) {
                moves.push((*shard, placed));
            }
        }
        let cluster = self.cluster.as_ref().expect("checked by the caller").value.clone();
        for (shard, target) in &moves {
            if let Some(reply) = self.refuse_target(&cluster, *shard, target) {
                return Ok(reply);
            }
        }
        let mut ids = Vec::new();
        for (n, (shard, target)) in moves.into_iter().enumerate() {
            let id = MigrationId(first.0 + n as u64);
            match self.plan(now, id, shard, target, cutover)? {
                Reply::Done => ids.push(id),
                refused => return Ok(refused),
            }
        }
        Ok(Reply::Planned { ids })
    }

    fn add_node(&mut self, now: Nanos, node: NodeId, address: String) -> Result<Reply, RecordsError> {
        let mut cluster = self.cluster.as_ref().expect("checked by the caller").value.clone();
        if cluster.nodes.get(&node) != Some(&address) {
            cluster.nodes.insert(node, address);
            self.commit(now, &[], vec![Record::Cluster(cluster)])?;
        }
        Ok(Reply::Done)
    }

    /// Only a node that holds nothing, and that nothing is planned for, may go.
    fn remove_node(&mut self, now: Nanos, node: NodeId) -> Result<Reply, RecordsError> {
        let mut cluster = self.cluster.as_ref().expect("checked by the caller").value.clone();
        if cluster.nodes.remove(&node).is_none() {
            return Ok(Reply::Done);
        }
        let named = self.configs.values().map(|config| &config.value).find(|config| config.replica(node).is_some());
        if let Some(config) = named {
            let text = format!("{node} holds {} ({config}); move its shards to other nodes first", config.shard);
            return Ok(refuse("HoldsShards", text));
        }
        let max = self.options.migration.max_attempts;
        let wanted = self.migrations.values().map(|record| &record.value).find(|record| {
            let waits = record.stage == Stage::Planned || record.is_unfinished(max);
            waits && record.target.contains(&node)
        });
        if let Some(record) = wanted {
            let text =
                format!("migration {} of {} is to bring a copy to {node}; abort it first", record.id, record.shard);
            return Ok(refuse("Busy", text));
        }
        let guards: Vec<RecordKey> = self.configs.keys().map(|shard| RecordKey::Shard(*shard)).collect();
        self.commit(now, &guards, vec![Record::Cluster(cluster)])?;
        Ok(Reply::Done)
    }

    fn compare(&mut self, now: Nanos) -> Reply {
        let settings = &self.cluster.as_ref().expect("checked by the caller").value.anti_entropy;
        if !settings.enabled || !settings.repair {
            return refuse(
                "AntiEntropyOff",
                "anti-entropy is off; switch it on to have replicas compared and repaired",
            );
        }
        Reply::Comparing { shards: self.compare_now(now) }
    }

    fn refuse_target(&self, cluster: &ClusterRecord, shard: ShardId, target: &[NodeId]) -> Option<Reply> {
        let Some(config) = self.configs.get(&shard) else {
            let text = format!("there is no shard {shard}; this cluster has {}", cluster.shard_count);
            return Some(refuse("NoSuchShard", text));
        };
        if let Some(node) = target.iter().find(|node| !cluster.nodes.contains_key(node)) {
            return Some(refuse("NoSuchNode", format!("{node} is not a node of this cluster; add it first")));
        }
        let mut distinct = target.to_vec();
        distinct.sort();
        distinct.dedup();
        if distinct.len() != cluster.replication as usize || distinct.len() != target.len() {
            let text = format!("a target names {} different nodes", cluster.replication);
            return Some(refuse("BadTarget", text));
        }
        let mut present: Vec<NodeId> = config.value.new.iter().map(|replica| replica.node).collect();
        present.sort();
        if present == distinct && config.value.form == Form::Stable {
            return Some(refuse("BadTarget", format!("{shard} is already there")));
        }
        let max = self.options.migration.max_attempts;
        let busy = self.migrations.values().find(|other| {
            let other = &other.value;
            let waits = other.stage == Stage::Planned || other.is_unfinished(max) && other.stage != Stage::Cleanup;
            other.shard == shard && waits
        });
        if let Some(other) = busy {
            let text =
                format!("{shard} is already being moved by migration {}; wait for it or abort it", other.value.id);
            return Some(refuse("Busy", text));
        }
        if config.value.gate_unmet() && !mutant!("M46") {
            let text =
                format!("{shard} waits for a clean anti-entropy pass after a skipped delta pass; try again then");
            return Some(refuse("CleanupGate", text));
        }
        None
    }

    fn start(&mut self, now: Nanos, id: MigrationId) -> Result<Reply, RecordsError> {
        let Some(record) = self.migrations.get(&id).map(|record| record.value.clone()) else {
            return Ok(refuse("NoSuchMigration", format!("there is no migration {id}; plan it first")));
        };
        if record.stage == Stage::Aborted && record.attempt == 0 {
            return Ok(refuse("Aborted", format!("migration {id} was aborted before it began; plan another")));
        }
        if record.attempt > 0 {
            return Ok(Reply::Done);
        }
        match self.judge(record.cutover) {
            Verdict::Refused => return Ok(refuse(UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT)),
            Verdict::Warned(text) => self.warn(format!("migration {id} of {}: {text}", record.shard)),
            Verdict::Allowed => {}
        }
        let record = MigrationRecord { attempt: 1, ..record };
        self.commit(now, &[RecordKey::Cluster], vec![Record::Migration(record)])?;
        Ok(Reply::Done)
    }

    fn set_paused(&mut self, now: Nanos, id: MigrationId, paused: bool) -> Result<Reply, RecordsError> {
        let Some(record) = self.migrations.get(&id).map(|record| record.value.clone()) else {
            return Ok(refuse("NoSuchMigration", format!("there is no migration {id}")));
        };
        if record.paused != paused {
            self.commit(now, &[], vec![Record::Migration(MigrationRecord { paused, ..record })])?;
        }
        Ok(Reply::Done)
    }

    fn abort(&mut self, now: Nanos, id: MigrationId) -> Result<Reply, RecordsError> {
        let Some(record) = self.migrations.get(&id).map(|record| record.value.clone()) else {
            return Ok(refuse("NoSuchMigration", format!("there is no migration {id}")));
        };
        let was_open = record.is_open();
        let shard = record.shard;
        let aborted = MigrationRecord { stage: Stage::Aborted, reason: Some(Reason::Operator), ..record };
        match aborted_from(&self.migrations[&id].value) {
            Abortable::Already => Ok(Reply::Done),
            Abortable::TooLate => {
                let text = format!("migration {id} has activated; a migration in the other direction takes it back");
                Ok(refuse("TooLate", text))
            }
            Abortable::Yes => {
                let mut puts = vec![Record::Migration(aborted)];
                if was_open {
                    puts.push(Record::Shard(migration::abort(&self.configs[&shard].value)));
                }
                self.commit(now, &[], puts)?;
                Ok(Reply::Done)
            }
        }
    }

    /// Off is refused while a skipped delta pass depends on it; decided from every shard's record.
    fn set_anti_entropy(&mut self, now: Nanos, enabled: bool) -> Result<Reply, RecordsError> {
        let cluster = self.cluster.as_ref().expect("checked by the caller").value.clone();
        if cluster.anti_entropy.enabled == enabled {
            return Ok(Reply::Done);
        }
        if !enabled && let Some(config) = self.configs.values().find(|config| config.value.gate_unmet()) {
            let text = format!(
                "{} was cut over without a delta pass and waits for anti-entropy; switch it off after its cleanup",
                config.value.shard
            );
            return Ok(refuse("CleanupGate", text));
        }
        let guards: Vec<RecordKey> = self.configs.keys().map(|shard| RecordKey::Shard(*shard)).collect();
        let anti_entropy = gate::AntiEntropy { enabled, ..cluster.anti_entropy.clone() };
        self.commit(now, &guards, vec![Record::Cluster(ClusterRecord { anti_entropy, ..cluster })])?;
        Ok(Reply::Done)
    }
}

enum Abortable {
    Yes,
    Already,
    TooLate,
}

fn aborted_from(record: &MigrationRecord) -> Abortable {
    match record.stage {
        Stage::Planned | Stage::DualWrite | Stage::Drain | Stage::DeltaPass | Stage::Activate => Abortable::Yes,
        Stage::Aborted if record.reason.is_some_and(Reason::is_passing) => Abortable::Yes,
        Stage::Aborted => Abortable::Already,
        Stage::Cleanup | Stage::Done => Abortable::TooLate,
    }
}
