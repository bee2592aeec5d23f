//! The decoders behind the checksums, fed with what accidents make of what was written.

use proptest::prelude::*;

use super::*;
use crate::accident::fuzz;
use crate::config::Replica;
use crate::id::{DiskId, Epoch, NodeId, Session, WriterId};

fn config() -> ShardConfig {
    let replica = |n| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(u128::from(n) << 70) };
    ShardConfig::initial(ShardId(3), 8, vec![replica(0), replica(1), replica(2)])
}

fn group() -> Vec<u8> {
    let mut out = Vec::new();
    let key = Key::new("films", "tt0062622").expect("a key");
    let version = Version { counter: 5, writer: WriterId(6) };
    for value in [Some(Value::from(&b"a body"[..])), None] {
        write_put(&mut out, ShardId(3), &key, &Held::new(&key, version, value));
    }
    write_raise(&mut out, ShardId(3), 9);
    write_install(&mut out, &config(), false);
    write_install(&mut out, &config(), true);
    write_drop(&mut out, ShardId(3));
    write_damage(&mut out, ShardId(3));
    write_forget(&mut out, ShardId(3), &key, version);
    out
}

fn written(operations: &[Operation]) -> Vec<u8> {
    let mut out = Vec::new();
    for operation in operations {
        match operation {
            Operation::Put { shard, key, version, value } => {
                write_put(&mut out, *shard, key, &Held::new(key, *version, value.clone()));
            }
            Operation::Raise { shard, counter } => write_raise(&mut out, *shard, *counter),
            Operation::Install { config, wipe } => write_install(&mut out, config, *wipe),
            Operation::Drop { shard } => write_drop(&mut out, *shard),
            Operation::Damage { shard } => write_damage(&mut out, *shard),
            Operation::Forget { shard, key, version } => write_forget(&mut out, *shard, key, *version),
        }
    }
    out
}

/// A group that is read is one that is written the same.
#[test]
fn groups() {
    fuzz("groups of the log", |accident| {
        let mut bytes = group();
        accident.happen(&mut bytes);
        if let Some(operations) = read_operations(&bytes) {
            prop_assert_eq!(written(&operations), bytes);
        }
        Ok(())
    });
}

#[test]
fn rows_of_shards() {
    const SHARD: ShardId = ShardId(3);
    let sealed = |body: &[u8]| [body, &(xxh3_64(body) ^ u64::from(SHARD.0)).to_le_bytes()].concat();
    let mut whole = Vec::new();
    let state = ShardState { config: Some(config()), max_counter: 7, documents: 2, ..ShardState::default() };
    shard_row(&mut whole, SHARD, 4, &state);
    fuzz("rows of shards", |accident| {
        let mut row = whole.clone();
        accident.happen(&mut row);
        prop_assert_eq!(read_shard(SHARD, &row).is_some(), row == whole);
        let mut body = whole[..whole.len() - 8].to_vec();
        accident.happen(&mut body);
        let row = sealed(&body);
        if let Some((incarnation, state)) = read_shard(SHARD, &row) {
            let mut again = Vec::new();
            shard_row(&mut again, SHARD, incarnation, &state);
            prop_assert_eq!(again, row);
        }
        Ok(())
    });
}

/// The rows of a copy lie together, and copies lie in the order of their shards and incarnations.
#[test]
fn row_keys_lie_in_the_order_of_what_they_name() {
    let numbers = || prop_oneof![any::<u64>(), 0_u64..600, (0_u32..64).prop_map(|bits| 1 << bits)];
    let copy = || (numbers().prop_map(|n| n as u32), numbers(), "[a-b\\x00]{0,3}");
    proptest!(|(one in copy(), other in copy())| {
        let [a, b] = [&one, &other].map(|(shard, incarnation, name)| {
            let mut key = Vec::new();
            document_key(&mut key, ShardId(*shard), *incarnation, name);
            let prefix = document_prefix(ShardId(*shard), *incarnation);
            assert_eq!(key.strip_prefix(&*prefix), Some(name.as_bytes()));
            key
        });
        prop_assert_eq!(a.cmp(&b), one.cmp(&other));
    });
}

/// Every counter is read as it was written.
#[test]
fn counters_of_rows() {
    let counters = (0..64).flat_map(|bits| [1_u64 << bits, (1 << bits) - 1]).chain([u64::MAX]);
    for counter in counters {
        let version = Version { counter, writer: WriterId(6) };
        for value in [None, Some(&b""[..]), Some(b"a body")] {
            let mut row = Vec::new();
            document_row(&mut row, Borrowed { version, value, sum: 7 });
            let read = read_document("films\0tt0062622", &row, Check::PageOnly).expect("what was written");
            assert_eq!((read.version, read.value, read.sum), (version, value, 7));
        }
    }
}

/// Nothing but what was written has the right checksum.
#[test]
fn rows_of_documents() {
    let key = Key::new("films", "tt0062622").expect("a key");
    let held = Held::new(&key, Version { counter: 5, writer: WriterId(6) }, Some(Value::from(&b"a body"[..])));
    let mut whole = Vec::new();
    document_row(&mut whole, held.borrowed());
    fuzz("rows of documents", |accident| {
        let mut row = whole.clone();
        accident.happen(&mut row);
        let read = read_document(key.encoded(), &row, Check::Document);
        prop_assert_eq!(read.is_some(), row == whole);
        // Without its own checksum it is taken for what it says, and never a panic.
        let taken = read_document(key.encoded(), &row, Check::PageOnly);
        prop_assert!(taken.is_none_or(|taken| taken.value.is_none_or(|value| row.ends_with(value))));
        Ok(())
    });
}
