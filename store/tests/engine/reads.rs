//! Reads see memory and pages as one copy.

use std::ops::ControlFlow;
use std::sync::Arc;

use miroir_store::engine::{BUCKETS, Bucket, Digest, Engine, Options, Put, Range, Stored};
use miroir_store::id::{Key, ShardId, Version};

use crate::disk::TestDisk;
use crate::model::{config, key, version};

const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);

/// Documents 0..100 of shard 0: some in the pages, some in memory, some in both, some tombstones.
fn mixed() -> Engine {
    let options = Options { flush_writes: 30, ..Options::default() };
    let mut engine = Engine::open(Arc::new(TestDisk::default()), options, 1).expect("a fresh disk opens");
    for n in (0..100).chain((0..100).step_by(9)) {
        let counter = engine.shard(S0).map_or(0, |state| state.max_counter) + 1;
        let value = (n % 10 != 3).then(|| vec![n as u8; 100].into());
        assert_eq!(engine.put(S0, &key(n), version(counter, 1), value).expect("a put"), Put::Applied);
        engine.put(S1, &key(n), version(counter, 2), None).expect("a put");
        engine.commit().expect("a commit");
    }
    engine
}

#[test]
fn pages_are_read_to_the_end() {
    let engine = mixed();
    let whole = engine.page(S0, None, usize::MAX, usize::MAX).expect("a page");
    assert_eq!((whole.documents.len(), whole.more), (100, false));
    for size in [1, 2, 7, 99, 100, 101] {
        let (mut after, mut pieces): (Option<Key>, _) = (None, Vec::new());
        loop {
            let page = engine.page(S0, after.as_ref(), size, usize::MAX).expect("a page");
            assert!(page.documents.len() <= size);
            pieces.extend(page.documents);
            after = pieces.last().map(|(key, _)| key.clone());
            if !page.more {
                break;
            }
        }
        assert_eq!(pieces, whole.documents, "pages of {size}");
    }
    // Bytes count keys and values; one document always fits.
    let bytes = |n: usize| {
        whole.documents[..n]
            .iter()
            .map(|(key, held)| key.encoded().len() + held.value.as_ref().map_or(0, |v| v.len()))
            .sum()
    };
    assert_eq!(engine.page(S0, None, 50, bytes(5)).expect("a page").documents.len(), 5);
    assert_eq!(engine.page(S0, None, 50, bytes(6) - 1).expect("a page").documents.len(), 5);
    assert_eq!(engine.page(S0, None, 50, 0).expect("a page").documents.len(), 1);
    let end = engine.page(S0, Some(&key(99)), 50, usize::MAX).expect("a page");
    assert!(end.documents.is_empty() && !end.more);
}

/// The same, copied or where it lies, from the engine or from a snapshot.
#[test]
fn every_way_to_read_finds_the_same() {
    let engine = mixed();
    let snapshot = engine.snapshot().expect("a snapshot");
    let whole = engine.page(S0, None, usize::MAX, usize::MAX).expect("a page").documents;
    for n in 0..102 {
        let held = engine.get(S0, &key(n)).expect("a read");
        let read = engine.read(S0, &key(n), |version, value| Stored { version, value: value.map(Arc::from) });
        assert_eq!(read.expect("a read"), held);
        assert_eq!(snapshot.get(S0, &key(n)).expect("a read"), held);
        assert_eq!(whole.get(n as usize).map(|(_, held)| held), held.as_ref());
    }
    let (k20, k45, k50) = (key(20), key(45), key(50));
    let (k20, k45, k50) = (k20.encoded(), k45.encoded().as_bytes(), k50.encoded());
    for (from, until) in [("", None), (k50, None), (k20, Some(k45)), (k50, Some(k45)), ("g", None)] {
        let range = Range { from, until };
        let inside = |name: &str| name >= from && until.is_none_or(|until| name.as_bytes() < until);
        let expected: Vec<_> = whole.iter().filter(|(key, _)| inside(key.encoded())).cloned().collect();
        let (mut found, mut frozen) = (Vec::new(), Vec::new());
        let document = |name: &str, version, value: Option<&[u8]>| {
            (Key::from_encoded(name).expect("a key"), Stored { version, value: value.map(Arc::from) })
        };
        let scan = engine.scan(S0, &range, |name, version, value| {
            found.push(document(name, version, value));
            ControlFlow::Continue(())
        });
        let frozen_scan = snapshot.scan(S0, &range, |name, version, value| {
            frozen.push(document(name, version, value));
            ControlFlow::Continue(())
        });
        assert!(scan.is_ok() && frozen_scan.is_ok());
        assert_eq!(found, expected);
        assert_eq!(frozen, expected);
        assert_eq!(engine.range(S0, &range, usize::MAX, usize::MAX).expect("a page").documents, expected);
    }
}

#[test]
fn lists_are_of_the_buckets_asked_for() {
    let engine = mixed();
    let all = engine.documents(S0).expect("all documents");
    let mut seen = 0;
    for bucket in 0..BUCKETS as u16 {
        let listed = listed(&engine, &[Bucket(bucket.into()), Bucket(999)]);
        let expected: Vec<_> = all.iter().filter(|(key, _)| Digest::bucket(key) == bucket).cloned().collect();
        assert_eq!(listed, expected);
        seen += listed.len();
    }
    assert_eq!(seen, 100);
    let every: Vec<Bucket> = (0..BUCKETS as u32).map(Bucket).collect();
    assert_eq!(listed(&engine, &every), all);
}

/// What a listing names, once its checksums add up to those of the digest.
fn listed(engine: &Engine, buckets: &[Bucket]) -> Vec<(Key, Version)> {
    let listed = engine.list(S0, 0, buckets).expect("a list");
    let digest = &engine.shard(S0).expect("known").digest;
    let wanted = buckets.iter().filter_map(|bucket| digest.0.get(bucket.0 as usize));
    let sums = |sums: &mut dyn Iterator<Item = u64>| sums.fold(0u64, u64::wrapping_add);
    assert_eq!(sums(&mut listed.iter().map(|(_, mark)| mark.sum)), sums(&mut wanted.copied()));
    listed.into_iter().map(|(key, mark)| (key, mark.version)).collect()
}

#[test]
fn the_greater_version_stays() {
    let mut engine = mixed();
    let (held, value) = engine.get(S0, &key(20)).expect("a read").map(|it| (it.version, it.value)).expect("a document");
    assert_eq!(engine.put(S0, &key(20), held, value).expect("a put"), Put::Same);
    let older = version(held.counter, 0);
    assert_eq!(engine.put(S0, &key(20), older, None).expect("a put"), Put::Older(held));
    assert!(!engine.has_staged());
    let newer = version(held.counter, 2);
    assert_eq!(engine.put(S0, &key(20), newer, None).expect("a put"), Put::Applied);
    assert_eq!(engine.get(S0, &key(20)).expect("a read").map(|it| it.version), Some(newer), "staged is seen");
}

#[test]
fn copies_with_the_same_documents_have_the_same_digest() {
    let (engine, mut other) =
        (mixed(), Engine::open(Arc::new(TestDisk::default()), Options::default(), 2).expect("opens"));
    let documents = engine.page(S0, None, usize::MAX, usize::MAX).expect("a page").documents;
    for (key, held) in documents.iter().rev() {
        other.put(S1, key, held.version, held.value.clone()).expect("a put");
    }
    let digest = |engine: &Engine, shard| engine.shard(shard).expect("a known shard").digest.clone();
    assert_eq!(digest(&engine, S0), digest(&other, S1));
    let (changed, held) = &documents[17];
    other.put(S1, changed, version(held.version.counter + 1, 1), held.value.clone()).expect("a put");
    assert_eq!(digest(&engine, S0).differing(&digest(&other, S1)), vec![Digest::bucket(changed)]);
}

#[test]
fn a_wipe_is_one_step_with_its_install_and_leaves_others_alone() {
    let mut engine = mixed();
    engine.mark_damaged(S0).expect("a mark");
    engine.commit().expect("a commit");
    let others = engine.documents(S1).expect("all documents");

    engine.drop_copy(S0).expect("a drop");
    let state = engine.shard(S0).expect("a known shard");
    assert!(state.damaged, "dropping does not heal");
    assert_eq!((state.documents, state.max_counter), (0, 0));

    engine.install(&config(S0, 7), true).expect("an install");
    engine.put(S0, &key(5), version(1, 1), None).expect("a put");
    engine.commit().expect("a commit");
    let state = engine.shard(S0).expect("a known shard");
    assert!(!state.damaged);
    assert_eq!(state.config, Some(config(S0, 7)));
    assert_eq!((state.documents, state.max_counter), (1, 1));
    assert_eq!(engine.documents(S0).expect("all documents"), vec![(key(5), version(1, 1))]);
    assert_eq!(engine.get(S0, &key(6)).expect("a read"), None);
    assert_eq!(engine.documents(S1).expect("all documents"), others);
}

#[test]
fn an_unknown_shard_is_empty() {
    let engine = mixed();
    let shard = ShardId(77);
    assert_eq!(engine.shard(shard), None);
    assert_eq!(engine.get(shard, &key(1)).expect("a read"), None);
    assert_eq!(engine.documents(shard).expect("all documents"), vec![]);
    assert_eq!(engine.recount(shard).expect("a recount"), (Digest::default(), 0));
}

/// The rows of a wiped copy go at the next flush, and their room is used again.
#[test]
fn wiped_copies_give_their_room_back() {
    let disk = TestDisk::default();
    let options = Options { flush_writes: 50, ..Options::default() };
    let mut engine = Engine::open(Arc::new(disk.clone()), options, 1).expect("a fresh disk opens");
    let mut sizes = Vec::new();
    for round in 0..40 {
        for n in 0..100 {
            engine.put(S0, &key(n), version(n + 1, round), Some(vec![1; 2_000].into())).expect("a put");
            engine.commit().expect("a commit");
        }
        if round % 2 == 0 {
            engine.install(&config(S0, round as u64), true).expect("an install");
        } else {
            engine.drop_copy(S0).expect("a drop");
        }
        engine.commit().expect("a commit");
        sizes.push(disk.bytes("pages.1").len());
    }
    assert_eq!(sizes.iter().max(), sizes[..4].iter().max(), "{sizes:?}");
}

/// A copy that is too large to be removed by one flush goes with the next ones, also if a restart comes between.
#[test]
fn a_large_wiped_copy_goes_bit_by_bit() {
    let mut disk = TestDisk::default();
    let mut sizes = Vec::new();
    for round in 0..6 {
        let options = Options { flush_writes: 6_000, ..Options::default() };
        let mut engine = Engine::open(Arc::new(disk.clone()), options, 1).expect("it opens");
        let fill = |engine: &mut Engine, names: std::ops::Range<u64>| {
            for n in names {
                engine.put(S0, &key(n), version(n + 1, 1), Some(vec![1; 400].into())).expect("a put");
            }
            engine.commit().expect("a commit");
        };
        for part in 1..5 {
            fill(&mut engine, part * 6_000..(part + 1) * 6_000);
        }
        engine.install(&config(S0, round), true).expect("an install");
        // The flush behind the wipe, which removes less than half of it.
        fill(&mut engine, 0..6_000);
        sizes.push(disk.bytes("pages.1").len());
        disk = disk.restart();
    }
    assert_eq!(sizes.iter().max(), sizes[..2].iter().max(), "{sizes:?}");
}
