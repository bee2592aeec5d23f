//! Who is measured.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use fjall::PersistMode;
use miroir_store::engine::{Engine, Options, Range};
use miroir_store::env::real::FileDisk;
use miroir_store::id::{Key, ShardId, Version, WriterId};
use miroir_store::store::{Batch, Ids, Store};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

/// Everything returns when it is durable. Reads leave what they found in `out`: bodies, or names and bodies.
pub trait Contender {
    fn put(&mut self, id: &str, body: &[u8]);
    fn batch(&mut self, rows: &[(String, Vec<u8>)]);
    fn get(&self, id: &str, out: &mut Vec<u8>);
    fn scan(&self, from: &str, rows: usize, out: &mut Vec<u8>);
    /// Finishes what was put off.
    fn flush(&mut self);
}

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

pub struct Redb {
    database: redb::Database,
    rows: Option<redb::ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Redb {
    fn write<'a>(&mut self, rows: impl Iterator<Item = (&'a str, &'a [u8])>) {
        self.rows = None;
        let transaction = self.database.begin_write().expect("a transaction");
        {
            let mut table = transaction.open_table(ROWS).expect("a table");
            for (id, body) in rows {
                table.insert(id.as_bytes(), body).expect("an insert");
            }
        }
        transaction.commit().expect("a commit");
    }

    fn take_rows(&mut self) {
        self.rows = self.database.begin_read().expect("a transaction").open_table(ROWS).ok();
    }

    pub fn open(path: &Path, cache: usize) -> Redb {
        let mut builder = redb::Database::builder();
        let database = builder.set_cache_size(cache).create(path.join("redb")).expect("it opens");
        let mut it = Redb { database, rows: None };
        it.take_rows();
        it
    }
}

impl Contender for Redb {
    fn put(&mut self, id: &str, body: &[u8]) {
        self.write(std::iter::once((id, body)));
    }

    fn batch(&mut self, rows: &[(String, Vec<u8>)]) {
        self.write(rows.iter().map(|(id, body)| (id.as_str(), body.as_slice())));
    }

    fn get(&self, id: &str, out: &mut Vec<u8>) {
        let row = self.rows.as_ref().expect("flushed").get(id.as_bytes()).expect("a read");
        out.extend_from_slice(row.expect("a document").value());
    }

    fn scan(&self, from: &str, rows: usize, out: &mut Vec<u8>) {
        let first = Bound::Included(from.as_bytes());
        let mut cursor = self.rows.as_ref().expect("flushed").lower_bound(first).expect("a cursor");
        for _ in 0..rows {
            let Some((key, value)) = cursor.next().expect("a row") else {
                break;
            };
            out.extend_from_slice(key.value());
            out.extend_from_slice(value.value());
        }
    }

    fn flush(&mut self) {
        self.take_rows();
    }
}

/// What a store chooses by itself, in memory as much as fjall.
fn options(cache: usize) -> Options {
    Options {
        flush_writes: 256 << 10,
        flush_bytes: 64 << 20,
        cache_bytes: cache - cache / 4,
        row_cache_bytes: cache / 4,
        names_bytes: cache / 8,
        ..Options::default()
    }
}

pub struct EngineAlone {
    engine: Engine,
    counter: u64,
}

const SHARD: ShardId = ShardId(0);

fn key(id: &str) -> Key {
    Key::new("c", id).expect("a key")
}

impl EngineAlone {
    fn stage(&mut self, id: &str, body: &[u8]) {
        self.counter += 1;
        let version = Version { counter: self.counter, writer: WriterId(1) };
        self.engine.put(SHARD, &key(id), version, Some(Arc::from(body))).expect("a put");
    }

    pub fn open(path: &Path, cache: usize) -> EngineAlone {
        let disk = FileDisk::open(path).expect("a directory");
        let engine = Engine::open(Arc::new(disk), options(cache), 1).expect("it opens");
        let counter = engine.shard(SHARD).map_or(0, |state| state.max_counter);
        EngineAlone { engine, counter }
    }
}

impl Contender for EngineAlone {
    fn put(&mut self, id: &str, body: &[u8]) {
        self.stage(id, body);
        self.engine.commit().expect("a commit");
    }

    fn batch(&mut self, rows: &[(String, Vec<u8>)]) {
        for (id, body) in rows {
            self.stage(id, body);
        }
        self.engine.commit().expect("a commit");
    }

    fn get(&self, id: &str, out: &mut Vec<u8>) {
        let found = self.engine.read(SHARD, &key(id), |_, body| out.extend_from_slice(body.expect("no tombstone")));
        found.expect("a read").expect("a document");
    }

    fn scan(&self, from: &str, rows: usize, out: &mut Vec<u8>) {
        let from = format!("c\0{from}");
        let mut count = 0;
        let range = Range { from: &from, until: None };
        self.engine
            .scan(SHARD, &range, |name, _, value| {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(value.unwrap_or_default());
                count += 1;
                if count < rows { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .expect("a scan");
    }

    fn flush(&mut self) {
        self.engine.checkpoint().expect("a flush");
    }
}

pub struct Whole(Store);

impl Whole {
    pub fn open(path: &Path, cache: usize) -> Whole {
        Whole(miroir_store::store::Options::default().cache_bytes(cache).open(path).expect("it opens"))
    }
}

impl Contender for Whole {
    fn put(&mut self, id: &str, body: &[u8]) {
        self.0.put("c", id, body).expect("a put");
    }

    fn batch(&mut self, rows: &[(String, Vec<u8>)]) {
        let mut batch = Batch::new();
        for (id, body) in rows {
            batch.put("c", id, body).expect("a name");
        }
        self.0.batch(batch).expect("a batch");
    }

    fn get(&self, id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.get("c", id).expect("a read").expect("a document"));
    }

    fn scan(&self, from: &str, rows: usize, out: &mut Vec<u8>) {
        let mut count = 0;
        self.0
            .visit("c", &Ids::range(from..), |id, body| {
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(body);
                count += 1;
                if count < rows { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .expect("a scan");
    }

    fn flush(&mut self) {
        self.0.flush().expect("a flush");
    }
}

pub struct Fjall {
    database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    pub fn open(path: &Path, cache: usize) -> Fjall {
        let database = fjall::Database::builder(path.join("fjall")).cache_size(cache as u64).open().expect("it opens");
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        Fjall { database, rows }
    }
}

impl Contender for Fjall {
    fn put(&mut self, id: &str, body: &[u8]) {
        self.rows.insert(id, body).expect("an insert");
        self.database.persist(PersistMode::SyncData).expect("a sync");
    }

    fn batch(&mut self, rows: &[(String, Vec<u8>)]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (id, body) in rows {
            batch.insert(&self.rows, id.as_str(), body.as_slice());
        }
        batch.commit().expect("a commit");
    }

    fn get(&self, id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows.get(id).expect("a read").expect("a document"));
    }

    fn scan(&self, from: &str, rows: usize, out: &mut Vec<u8>) {
        for row in self.rows.range(from..).take(rows) {
            let (key, value) = row.into_inner().expect("a row");
            out.extend_from_slice(&key);
            out.extend_from_slice(&value);
        }
    }

    fn flush(&mut self) {
        self.database.persist(PersistMode::SyncAll).expect("a sync");
        self.rows.rotate_memtable_and_wait().expect("a flush");
    }
}
