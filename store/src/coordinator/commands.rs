//! What operators may ask for. Each command is decided from the records and carried out in one commit, which also
//! remembers that it was: what comes twice is done once, what comes after a later command of the same operator is not
//! done at all. Each refusal says why and changes nothing.

use crate::config::{Cutover, Form};
use crate::coordinator::Coordinator;
use crate::coordinator::gate::{self, UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT, Verdict};
use crate::coordinator::records::{Answer, ClusterRecord, Recall, Record, RecordKey, RecordsError};
use crate::env::Nanos;
use crate::id::{MigrationId, NodeId, ShardId};
use crate::migration::{self, MigrationRecord, Reason, Stage};
use crate::placement::place;
use crate::wire::{Command, CommandId, MigrationStatus, Reply};

/// What a command comes to: an answer, and what is committed with it in one step.
struct Decided {
    reply: Reply,
    /// Decided from these, beside what is put: if one has changed since, nothing is done.
    guards: Vec<RecordKey>,
    puts: Vec<Record>,
    /// For the operator, once it is done.
    warning: Option<String>,
}

impl Decided {
    /// Nothing has to be done.
    fn done() -> Decided {
        Decided { reply: Reply::Done, guards: Vec::new(), puts: Vec::new(), warning: None }
    }

    /// Nothing is done, for this reason.
    fn refused(reply: Reply) -> Decided {
        Decided { reply, ..Decided::done() }
    }

    fn put(record: Record) -> Decided {
        Decided { puts: vec![record], ..Decided::done() }
    }

    fn guarded(self, guards: Vec<RecordKey>) -> Decided {
        Decided { guards, ..self }
    }
}

fn refuse(code: &str, text: impl Into<String>) -> Reply {
    Reply::Refused { code: code.to_owned(), text: text.into() }
}

impl Coordinator {
    /// Carries out one command, unless it has been.
    pub(super) fn command(&mut self, now: Nanos, id: CommandId, command: Command) -> Result<Reply, RecordsError> {
        if matches!(command, Command::Status) {
            return Ok(self.status());
        }
        if self.cluster.is_none() {
            let text = "the cluster has not been created yet; ask again when its nodes are up";
            return Ok(refuse("NotReady", text));
        }
        // What changes no record is answered anew each time, and so is what is only being tried.
        match command {
            Command::Inspect => return Ok(self.inspect(now)),
            Command::CompareNow => return Ok(self.compare(now)),
            _ => {}
        }
        if self.rehearsing {
            return Ok(self.decide(command).reply);
        }
        match self.commands.value.recall(id) {
            Recall::Answered(answer) => {
                let Answer { reply, warning } = answer.clone();
                self.warn_of(id, warning);
                return Ok(reply);
            }
            Recall::Late => {
                let text = "this command came after a later one of the same operator, and was not carried out";
                return Ok(refuse("Late", text));
            }
            Recall::New => {}
        }
        let Decided { reply, guards, mut puts, warning } = self.decide(command);
        let answer = Answer { reply: reply.clone(), warning: warning.clone() };
        puts.push(Record::Commands(self.commands.value.with(id, answer)));
        self.commit(now, &guards, puts)?;
        self.warn_of(id, warning);
        Ok(reply)
    }

    /// Issues a command's warning, once per start of the coordinator: one that died after its commit may not have.
    fn warn_of(&mut self, id: CommandId, warning: Option<String>) {
        if let Some(text) = warning
            && self.warned.insert(format!("{id:?}"))
        {
            self.warn(text);
        }
    }

    fn decide(&self, command: Command) -> Decided {
        let decided = match command {
            Command::Plan { id, shard, target, cutover } => self.plan(id, shard, target, cutover),
            Command::Start { id } => self.start(id),
            Command::Pause { id } => self.set_paused(id, true),
            Command::Resume { id } => self.set_paused(id, false),
            Command::Abort { id } => self.abort(id),
            Command::Reverse { id, new } => self.reverse(id, new),
            Command::Rebalance { first, nodes, cutover } => self.rebalance(first, &nodes, cutover),
            Command::AddNode { node, address } => self.add_node(node, address),
            Command::RemoveNode { node } => self.remove_node(node),
            Command::SetAntiEntropy { enabled } => self.set_anti_entropy(enabled),
            Command::GiveUp { shard, copies } => self.give_up(shard, &copies),
            Command::Status | Command::Inspect | Command::CompareNow => unreachable!("answered without a decision"),
        };
        decided.unwrap_or_else(Decided::refused)
    }

    fn record(&self) -> &ClusterRecord {
        &self.cluster.as_ref().expect("commands are decided in a cluster").value
    }

    fn migration(&self, id: MigrationId) -> Result<&MigrationRecord, Reply> {
        let known = self.migrations.get(&id).map(|record| &record.value);
        known.ok_or_else(|| refuse("NoSuchMigration", format!("there is no migration {id}; plan it first")))
    }

    fn shards(&self) -> Vec<RecordKey> {
        self.configs.keys().map(|shard| RecordKey::Shard(*shard)).collect()
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

    fn plan(&self, id: MigrationId, shard: ShardId, target: Vec<NodeId>, cutover: Cutover) -> Result<Decided, Reply> {
        if let Some(known) = self.migrations.get(&id).map(|known| &known.value) {
            let same = known.shard == shard && known.target == target && known.cutover == cutover;
            let text = format!("migration {id} exists and is another one; choose another id");
            return if same { Ok(Decided::done()) } else { Err(refuse("Exists", text)) };
        }
        let record = self.planned(id, shard, target, cutover)?;
        Ok(Decided::put(Record::Migration(record)).guarded(vec![RecordKey::Cluster]))
    }

    /// The record of a new migration, if it may be planned.
    fn planned(
        &self,
        id: MigrationId,
        shard: ShardId,
        target: Vec<NodeId>,
        cutover: Cutover,
    ) -> Result<MigrationRecord, Reply> {
        self.check_target(shard, &target)?;
        if self.judge(cutover) == Verdict::Refused {
            return Err(refuse(UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT));
        }
        Ok(MigrationRecord {
            id,
            shard,
            target,
            from: self.configs[&shard].value.new.iter().map(|replica| replica.node).collect(),
            cutover,
            stage: Stage::Planned,
            attempt: 0,
            paused: false,
            reason: None,
        })
    }

    /// The way back of a migration that has activated: an ordinary migration in the other direction.
    fn reverse(&self, id: MigrationId, new: MigrationId) -> Result<Decided, Reply> {
        let record = self.migration(id)?;
        self.plan(new, record.shard, record.from.clone(), record.cutover)
    }

    /// Plans a migration for each shard that rendezvous hashing over `nodes` places elsewhere: all in one commit, or
    /// none. Asked again with the same first id, it answers what it planned then.
    fn rebalance(&self, first: MigrationId, nodes: &[NodeId], cutover: Cutover) -> Result<Decided, Reply> {
        let replication = self.record().replication as usize;
        if nodes.len() < replication {
            let text = format!("{} nodes cannot hold {replication} copies of a shard", nodes.len());
            return Err(refuse("BadTarget", text));
        }
        let mut moves = Vec::new();
        for (shard, config) in &self.configs {
            let present: Vec<NodeId> = config.value.new.iter().map(|replica| replica.node).collect();
            let placed = place(*shard, nodes, replication);
            if placed.iter().any(|node| !present.contains(node)) {
                moves.push((MigrationId(first.0.saturating_add(moves.len() as u64)), *shard, placed));
            }
        }
        let ids = moves.iter().map(|(id, ..)| *id).collect();
        if let Some((id, ..)) = moves.iter().find(|(id, ..)| self.migrations.contains_key(id)) {
            let is_planned = |(id, shard, target): &(MigrationId, ShardId, Vec<NodeId>)| {
                let known = self.migrations.get(id).map(|record| &record.value);
                known.is_some_and(|it| it.shard == *shard && it.target == *target && it.cutover == cutover)
            };
            if moves.iter().all(is_planned) {
                return Ok(Decided { reply: Reply::Planned { ids }, ..Decided::done() });
            }
            return Err(refuse("Exists", format!("migration {id} exists and is another one; choose another first id")));
        }
        let planned = moves.into_iter().map(|(id, shard, target)| self.planned(id, shard, target, cutover));
        let records = planned.collect::<Result<Vec<MigrationRecord>, Reply>>()?;
        Ok(Decided {
            reply: Reply::Planned { ids },
            // Decided from where every shard is, and from who is in the cluster.
            guards: self.shards().into_iter().chain([RecordKey::Cluster]).collect(),
            puts: records.into_iter().map(Record::Migration).collect(),
            warning: None,
        })
    }

    fn add_node(&self, node: NodeId, address: String) -> Result<Decided, Reply> {
        if self.record().nodes.get(&node) == Some(&address) {
            return Ok(Decided::done());
        }
        let mut cluster = self.record().clone();
        cluster.nodes.insert(node, address);
        Ok(Decided::put(Record::Cluster(cluster)))
    }

    /// Only a node that holds nothing, and that nothing is planned for, may go: decided from every shard's record, and from
    /// every migration that would bring something there.
    fn remove_node(&self, node: NodeId) -> Result<Decided, Reply> {
        if !self.record().nodes.contains_key(&node) {
            return Ok(Decided::done());
        }
        let named =
            self.configs.values().map(|config| &config.value).find(|config| config.named().any(|it| it == node));
        if let Some(config) = named {
            let text = format!("{node} holds {} ({config}); move its shards to other nodes first", config.shard);
            return Err(refuse("HoldsShards", text));
        }
        let max = self.options.migration.max_attempts;
        let wanted = self.migrations.values().map(|record| &record.value).find(|record| {
            let waits = record.stage == Stage::Planned || record.is_unfinished(max);
            waits && record.target.contains(&node)
        });
        if let Some(record) = wanted {
            let text =
                format!("migration {} of {} is to bring a copy to {node}; abort it first", record.id, record.shard);
            return Err(refuse("Busy", text));
        }
        let mut cluster = self.record().clone();
        cluster.nodes.remove(&node);
        Ok(Decided::put(Record::Cluster(cluster)).guarded(self.shards()))
    }

    fn compare(&mut self, now: Nanos) -> Reply {
        let settings = &self.record().anti_entropy;
        if !settings.enabled || !settings.repair {
            let text = "anti-entropy is off; switch it on to have replicas compared and repaired";
            return refuse("AntiEntropyOff", text);
        }
        Reply::Comparing { shards: self.compare_now(now) }
    }

    /// Whether a shard may be planned to move to these nodes.
    fn check_target(&self, shard: ShardId, target: &[NodeId]) -> Result<(), Reply> {
        let cluster = self.record();
        let Some(config) = self.configs.get(&shard) else {
            let text = format!("there is no shard {shard}; this cluster has {}", cluster.shard_count);
            return Err(refuse("NoSuchShard", text));
        };
        if let Some(node) = target.iter().find(|node| !cluster.nodes.contains_key(node)) {
            return Err(refuse("NoSuchNode", format!("{node} is not a node of this cluster; add it first")));
        }
        let mut distinct = target.to_vec();
        distinct.sort();
        distinct.dedup();
        if distinct.len() != cluster.replication as usize || distinct.len() != target.len() {
            let text = format!("a target names {} different nodes", cluster.replication);
            return Err(refuse("BadTarget", text));
        }
        let mut present: Vec<NodeId> = config.value.new.iter().map(|replica| replica.node).collect();
        present.sort();
        if present == distinct && config.value.form == Form::Stable {
            return Err(refuse("BadTarget", format!("{shard} is already there")));
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
            return Err(refuse("Busy", text));
        }
        if config.value.gate_unmet() && !mutant!("M46") {
            let text =
                format!("{shard} waits for a clean anti-entropy pass after a skipped delta pass; try again then");
            return Err(refuse("CleanupGate", text));
        }
        Ok(())
    }

    fn start(&self, id: MigrationId) -> Result<Decided, Reply> {
        let record = self.migration(id)?.clone();
        if record.stage == Stage::Aborted && record.attempt == 0 {
            return Err(refuse("Aborted", format!("migration {id} was aborted before it began; plan another")));
        }
        if record.attempt > 0 {
            return Ok(Decided::done());
        }
        let warning = match self.judge(record.cutover) {
            Verdict::Refused => return Err(refuse(UNSAFE_CUTOVER, UNSAFE_CUTOVER_TEXT)),
            Verdict::Warned(text) => Some(format!("migration {id} of {}: {text}", record.shard)),
            Verdict::Allowed => None,
        };
        let started = Decided::put(Record::Migration(MigrationRecord { attempt: 1, ..record }));
        Ok(Decided { warning, ..started.guarded(vec![RecordKey::Cluster]) })
    }

    fn set_paused(&self, id: MigrationId, paused: bool) -> Result<Decided, Reply> {
        let record = self.migration(id)?;
        if record.paused == paused {
            return Ok(Decided::done());
        }
        Ok(Decided::put(Record::Migration(MigrationRecord { paused, ..record.clone() })))
    }

    fn abort(&self, id: MigrationId) -> Result<Decided, Reply> {
        let record = self.migration(id)?;
        match aborted_from(record) {
            Abortable::Already => Ok(Decided::done()),
            Abortable::TooLate => {
                let text = format!("migration {id} has activated; a migration in the other direction takes it back");
                Err(refuse("TooLate", text))
            }
            Abortable::Yes => {
                let aborted =
                    MigrationRecord { stage: Stage::Aborted, reason: Some(Reason::Operator), ..record.clone() };
                let mut decided = Decided::put(Record::Migration(aborted));
                if record.is_open() {
                    decided.puts.push(Record::Shard(migration::abort(&self.configs[&record.shard].value)));
                }
                Ok(decided)
            }
        }
    }

    /// Off is refused while a skipped delta pass depends on it; decided from every shard's record.
    fn set_anti_entropy(&self, enabled: bool) -> Result<Decided, Reply> {
        let cluster = self.record().clone();
        if cluster.anti_entropy.enabled == enabled {
            return Ok(Decided::done());
        }
        if !enabled && let Some(config) = self.configs.values().find(|config| config.value.gate_unmet()) {
            let text = format!(
                "{} was cut over without a delta pass and waits for anti-entropy; switch it off after its cleanup",
                config.value.shard
            );
            return Err(refuse("CleanupGate", text));
        }
        let anti_entropy = gate::AntiEntropy { enabled, ..cluster.anti_entropy.clone() };
        Ok(Decided::put(Record::Cluster(ClusterRecord { anti_entropy, ..cluster })).guarded(self.shards()))
    }

    /// Readmits lost copies of which too many are gone for the ordinary way.
    fn give_up(&self, shard: ShardId, copies: &[NodeId]) -> Result<Decided, Reply> {
        let Some(config) = self.configs.get(&shard).map(|config| &config.value) else {
            return Err(refuse("NoSuchShard", format!("there is no shard {shard}")));
        };
        let Some(lost) = self.beyond_readmission(config).filter(|_| config.form == Form::Stable) else {
            let text = format!("{shard} is being moved, or lost no more copies than are readmitted from the others");
            return Err(refuse("NotLost", text));
        };
        let nodes: Vec<String> = lost.nodes().iter().map(ToString::to_string).collect();
        let nodes = nodes.join(" ");
        let mut named = copies.to_vec();
        named.sort();
        if named != lost.nodes() {
            return Err(refuse("NotLost", format!("{shard} has lost its copies on {nodes}; name exactly these")));
        }
        let text = "held was given up by an operator; acknowledged writes may be gone";
        let warning = Some(format!("{shard}: what only the lost copies on {nodes} {text}"));
        let given_up = migration::give_up(config, &lost.new, !lost.old.is_empty());
        Ok(Decided { warning, ..Decided::put(Record::Shard(given_up)) })
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
