//! The coordinator's durable records, behind a small guarded compare-and-swap.
//!
//! A commit names the revision of every record it replaces *and* of every record it was decided from; if one of them
//! has changed since, nothing is written. [`EngineRecords`] keeps them in an engine of their own on the coordinator's
//! disk.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::ShardConfig;
use crate::coordinator::gate::AntiEntropy;
use crate::engine::{Engine, Options};
use crate::env::Env;
use crate::error::{EngineError, WireError};
use crate::id::{Key, MigrationId, NodeId, ShardId, Version, WriterId};
use crate::migration::MigrationRecord;
use crate::wire::{CommandId, Reply, decode_record, encode_record};

/// The cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub cluster_id: u128,
    pub shard_count: u32,
    pub replication: u32,
    /// Every node, and where it is reached.
    pub nodes: BTreeMap<NodeId, String>,
    pub collections: Vec<String>,
    pub anti_entropy: AntiEntropy,
}

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    Cluster,
    Shard(ShardId),
    Migration(MigrationId),
    Commands,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordKey::Cluster => f.write_str("cluster"),
            RecordKey::Commands => f.write_str("commands"),
            RecordKey::Shard(shard) => write!(f, "shard-{:010}", shard.0),
            RecordKey::Migration(id) => write!(f, "migration-{:020}", id.0),
        }
    }
}

/// The last command of each operator, so that none is carried out twice or late. The longest silent go first: a
/// duplicate that is held back while so many other operators ask for something is beyond this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLog {
    /// The newest last.
    last: Vec<(CommandId, Answer)>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub reply: Reply,
    /// For the operator: told again to one who asks again after a crash.
    pub warning: Option<String>,
}

/// Operators that are remembered.
const OPERATORS: usize = 256;

/// What is known of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Recall<'a> {
    New,
    Answered(&'a Answer),
    /// Its operator has asked for something else since.
    Late,
}

impl CommandLog {
    pub fn recall(&self, id: CommandId) -> Recall<'_> {
        match self.last.iter().find(|(last, _)| last.operator == id.operator) {
            Some((last, answer)) if last.n == id.n => Recall::Answered(answer),
            Some((last, _)) if last.n > id.n => Recall::Late,
            _ => Recall::New,
        }
    }

    /// The log after this command.
    #[must_use]
    pub fn with(&self, id: CommandId, answer: Answer) -> CommandLog {
        let others = self.last.iter().filter(|(last, _)| last.operator != id.operator);
        let mut last: Vec<(CommandId, Answer)> = others.cloned().collect();
        last.push((id, answer));
        let forgotten = last.len().saturating_sub(OPERATORS);
        last.drain(..forgotten);
        CommandLog { last }
    }
}

/// A record of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Cluster(ClusterRecord),
    Shard(ShardConfig),
    Migration(MigrationRecord),
    Commands(CommandLog),
}

impl Record {
    pub fn key(&self) -> RecordKey {
        match self {
            Record::Cluster(_) => RecordKey::Cluster,
            Record::Shard(config) => RecordKey::Shard(config.shard),
            Record::Migration(record) => RecordKey::Migration(record.id),
            Record::Commands(_) => RecordKey::Commands,
        }
    }
}

/// Counts the commits; the revision of a record is that of the commit that wrote it, 0 if there is none.
pub type Revision = u64;

#[derive(Debug, Error)]
pub enum RecordsError {
    /// Somebody else changed it first: read again and decide again.
    #[error("the record {key} is at revision {found}, not {expected}; nothing was written")]
    Conflict { key: RecordKey, expected: Revision, found: Revision },
    #[error("the coordinator's records: {0}")]
    Disk(#[from] EngineError),
    #[error("the coordinator's record {key}: {error}")]
    Undecodable { key: String, error: WireError },
}

/// Read and guarded compare-and-swap.
pub trait Records: Send {
    /// Every record with its revision.
    fn read(&self) -> Result<Vec<(Record, Revision)>, RecordsError>;
    /// Writes all of `puts` in one durable step if every guard still holds. Returns their revision.
    fn commit(&mut self, guards: &[(RecordKey, Revision)], puts: &[Record]) -> Result<Revision, RecordsError>;
}

/// Records in an engine on the coordinator's own disk.
pub struct EngineRecords {
    engine: Engine,
    revisions: BTreeMap<String, Revision>,
    last: Revision,
}

const RECORDS: ShardId = ShardId(0);

fn document(key: &str) -> Key {
    Key::new("records", key).expect("record keys are short")
}

impl EngineRecords {
    /// Opens or creates them.
    pub fn open(env: &Env, options: Options) -> Result<EngineRecords, EngineError> {
        let engine = Engine::open(env.disk.clone(), options, env.dice.bits())?;
        let mut revisions = BTreeMap::new();
        for (key, version) in engine.documents(RECORDS)? {
            revisions.insert(key.id().to_owned(), version.counter);
        }
        let last = revisions.values().copied().max().unwrap_or(0);
        Ok(EngineRecords { engine, revisions, last })
    }
}

impl Records for EngineRecords {
    fn read(&self) -> Result<Vec<(Record, Revision)>, RecordsError> {
        let mut records = Vec::with_capacity(self.revisions.len());
        for (key, revision) in &self.revisions {
            let stored = self.engine.get(RECORDS, &document(key))?;
            let bytes = stored.and_then(|stored| stored.value).unwrap_or_else(|| [].into());
            let record =
                decode_record(&bytes).map_err(|error| RecordsError::Undecodable { key: key.clone(), error })?;
            records.push((record, *revision));
        }
        Ok(records)
    }

    fn commit(&mut self, guards: &[(RecordKey, Revision)], puts: &[Record]) -> Result<Revision, RecordsError> {
        for &(key, expected) in guards {
            let found = self.revisions.get(&key.to_string()).copied().unwrap_or(0);
            if found != expected {
                return Err(RecordsError::Conflict { key, expected, found });
            }
        }
        let revision = self.last + 1;
        let version = Version { counter: revision, writer: WriterId(0) };
        for record in puts {
            let key = document(&record.key().to_string());
            self.engine.put(RECORDS, &key, version, Some(encode_record(record).into()))?;
        }
        self.engine.commit()?;
        self.last = revision;
        for record in puts {
            self.revisions.insert(record.key().to_string(), revision);
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accident::fuzz_records;
    use crate::config::{Cutover, Replica};
    use crate::id::{DiskId, Epoch, Session};
    use crate::migration::{Reason, Stage};

    #[test]
    fn any_bytes_are_a_record_or_refused() {
        let replica = |n| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(u128::from(n)) };
        let cluster = ClusterRecord {
            cluster_id: 7,
            shard_count: 8,
            replication: 1,
            nodes: BTreeMap::from([(NodeId(1), "127.0.0.1:7701".to_owned()), (NodeId(2), String::new())]),
            collections: vec!["films".to_owned()],
            anti_entropy: AntiEntropy { enabled: true, repair: true, period: 5 },
        };
        let id = CommandId { operator: 7, n: 3 };
        let answer = Answer { reply: Reply::Done, warning: Some("no second defence".to_owned()) };
        let migration = MigrationRecord {
            id: MigrationId(4),
            shard: ShardId(3),
            target: vec![NodeId(2)],
            from: vec![NodeId(1)],
            cutover: Cutover::Delta,
            stage: Stage::Drain,
            attempt: 2,
            paused: true,
            reason: Some(Reason::DrainTimeout),
        };
        let records = [
            Record::Cluster(cluster),
            Record::Migration(migration),
            Record::Shard(ShardConfig::initial(ShardId(3), 8, vec![replica(1), replica(2)])),
            Record::Commands(CommandLog::default().with(id, answer)),
        ];
        fuzz_records("records of the coordinator", &records);
    }

    #[test]
    fn a_command_is_recalled_and_an_earlier_one_is_late() {
        let id = |operator, n| CommandId { operator, n };
        let done = || Answer { reply: Reply::Done, warning: None };
        let log = CommandLog::default().with(id(7, 3), done());
        assert_eq!(log.recall(id(7, 3)), Recall::Answered(&done()));
        assert_eq!(log.recall(id(7, 2)), Recall::Late);
        assert_eq!(log.recall(id(7, 4)), Recall::New);
        assert_eq!(log.recall(id(8, 1)), Recall::New);
        let full = (100..100 + OPERATORS as u64).fold(log, |log, operator| log.with(id(operator, 1), done()));
        assert_eq!((full.last.len(), full.recall(id(7, 3))), (OPERATORS, Recall::New));
    }
}
