//! Which of two places a document is taken from: the row cache, or the table that it belongs to.

use redb::backends::InMemoryBackend;

use super::*;
use crate::id::{Value, Version, WriterId};
use record::Held;

const S3: ShardId = ShardId(3);

fn key() -> Key {
    Key::new("films", "tt0062622").expect("a key")
}

/// The document, and its row under its row key.
fn document(body: &[u8]) -> (Held, Vec<u8>, Vec<u8>) {
    let held = Held::new(&key(), Version { counter: 5, writer: WriterId(6) }, Some(Value::from(body)));
    let (mut row_key, mut row) = (Vec::new(), Vec::new());
    record::document_key(&mut row_key, S3, 1, key().encoded());
    record::document_row(&mut row, held.borrowed());
    (held, row_key, row)
}

/// A table that holds a document, or none.
fn table(body: Option<&[u8]>) -> Table {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let mut rows = Rows { table: transaction.open_table(ROWS).expect("a table"), key: Vec::new(), row: Vec::new() };
    if let Some(body) = body {
        rows.put_document(S3, 1, key().encoded(), document(body).0.borrowed()).expect("a row");
    }
    drop(rows);
    transaction.commit().expect("a commit");
    database.begin_read().expect("a transaction").open_table(ROWS).expect("a table")
}

fn found(rows: &Table, row_cache: Option<(&mut RowCache, Purpose)>, incarnation: u64) -> Option<Vec<u8>> {
    let body = |found: Borrowed<'_>| found.value.expect("a body").to_vec();
    match find(rows, row_cache, S3, incarnation, &key(), body).expect("a read") {
        Ok(found) => found,
        Err(NotWhole) => panic!("the table's row is whole"),
    }
}

/// Bodies of one length in one version do not come up in one table; here they tell the two places apart.
#[test]
fn reads_fill_the_cache_and_writes_do_not() {
    let (full, empty) = (table(Some(b"of the table")), table(None));
    let mut row_cache = RowCache::new(10_000);
    for (purpose, is_kept) in [(Purpose::Write, false), (Purpose::Read, true)] {
        assert_eq!(found(&full, Some((&mut row_cache, purpose)), 1).as_deref(), Some(&b"of the table"[..]));
        for purpose in [Purpose::Write, Purpose::Read] {
            assert_eq!(found(&empty, Some((&mut row_cache, purpose)), 1).is_some(), is_kept);
        }
    }
    assert_eq!(found(&empty, None, 1), None, "a snapshot has no cache");
    assert_eq!(found(&empty, Some((&mut row_cache, Purpose::Read)), 2), None, "and a wiped copy no rows");
    row_cache.clear();
    assert_eq!(found(&empty, Some((&mut row_cache, Purpose::Read)), 1), None);
}

/// Whichever bit of a row in the cache flips, the answer is the table's.
#[test]
fn a_row_that_changed_in_memory_is_no_answer() {
    let (_, row_key, row) = document(b"of the cache");
    let full = table(Some(b"of the table"));
    for bit in 0..row.len() * 8 {
        let mut row_cache = RowCache::new(10_000);
        row_cache.put(&row_key, &row);
        assert_eq!(found(&full, Some((&mut row_cache, Purpose::Read)), 1).as_deref(), Some(&b"of the cache"[..]));
        let mut changed = row.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        row_cache.put(&row_key, &changed);
        for _ in 0..2 {
            let found = found(&full, Some((&mut row_cache, Purpose::Read)), 1);
            assert_eq!(found.as_deref(), Some(&b"of the table"[..]), "bit {bit}");
        }
    }
}

/// Rows of one copy end where the next incarnation's begin, also where the numbers have more bytes; names of one copy end
/// in front of `until`.
#[test]
fn a_scan_ends_with_its_copy_and_in_front_of_its_end() {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    let mut rows = Rows { table: transaction.open_table(ROWS).expect("a table"), key: Vec::new(), row: Vec::new() };
    let names = ["films\0a", "films\0b", "films\0\u{10ffff}"];
    let copies: Vec<(ShardId, u64)> = [0, 254, 255, 256, u32::MAX]
        .into_iter()
        .flat_map(|shard| [1, 255, 256, u64::MAX].map(|incarnation| (ShardId(shard), incarnation)))
        .collect();
    for &(shard, incarnation) in &copies {
        for name in names {
            let version = Version { counter: incarnation, writer: WriterId(shard.0.into()) };
            let value = Some(Value::from(&b"body"[..]));
            let held = Held::new(&Key::from_encoded(name).expect("a key"), version, value);
            rows.put_document(shard, incarnation, name, held.borrowed()).expect("a row");
        }
    }
    drop(rows);
    transaction.commit().expect("a commit");
    let table = database.begin_read().expect("a transaction").open_table(ROWS).expect("a table");
    for &(shard, incarnation) in &copies {
        for (from, until, expected) in [
            ("", None, &names[..]),
            ("films\0b", None, &names[1..]),
            ("", Some(&b"films\0b"[..]), &names[..1]),
            ("films\0a\0", Some(&b"films\0c"[..]), &names[1..2]),
            ("films\0c", Some(&b"films\0b"[..]), &[]),
        ] {
            let mut found = Vec::new();
            let range = Range { from, until };
            let scanned = scan(&table, shard, incarnation, &range, Check::Document, |name, document| {
                assert_eq!(document.version, Version { counter: incarnation, writer: WriterId(shard.0.into()) });
                found.push(name.to_owned());
                ControlFlow::Continue(())
            });
            assert!(scanned.expect("a scan").is_ok());
            assert_eq!(found, expected, "{shard}, incarnation {incarnation}, {range:?}");
        }
    }
}
