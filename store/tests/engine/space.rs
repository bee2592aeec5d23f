//! Room that is no longer needed comes back.

use std::sync::Arc;

use miroir_store::engine::{Engine, Options};
use miroir_store::id::ShardId;

use crate::disk::{Rng, TestDisk};
use crate::model::{Model, key, version};

const S0: ShardId = ShardId(0);

fn open(disk: &TestDisk) -> Engine {
    let options = Options { flush_writes: 100, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, 1).expect("it opens")
}

fn bytes(disk: &TestDisk) -> usize {
    disk.files().iter().map(|(_, len)| len).sum()
}

/// Two hundred documents are replaced, deleted and forgotten ten thousand times over. What lies on the disk stays
/// what two hundred documents take.
#[test]
fn churn_stays_bounded() {
    let disk = TestDisk::default();
    let mut engine = open(&disk);
    let mut rng = Rng(1);
    let mut sizes = Vec::new();
    for n in 0..20_000 {
        let name = key(rng.below(200));
        let value = rng.chance(2, 3).then(|| vec![n as u8; 100 + rng.below(900) as usize].into());
        let is_tombstone = value.is_none();
        engine.put(S0, &name, version(n + 1, 1), value).expect("a put");
        if is_tombstone && rng.chance(9, 10) {
            engine.commit().expect("a commit");
            assert!(engine.forget(S0, &name, version(n + 1, 1)).expect("a tombstone"));
        }
        engine.commit().expect("a commit");
        if n % 500 == 499 {
            sizes.push(bytes(&disk));
        }
    }
    let (early, late) = sizes.split_at(4);
    println!(
        "20,000 writes over 200 documents: {} bytes after 2,000, at most {} later",
        early[3],
        late.iter().max().unwrap()
    );
    assert!(late.iter().max() <= early.iter().max().map(|most| most * 5 / 4).as_ref(), "{sizes:?}");
    assert!(engine.shard(S0).expect("known").documents < 200, "forgotten tombstones are no documents");
}

#[test]
fn a_compaction_gives_back_what_deleted_documents_took() {
    let disk = TestDisk::default();
    let mut engine = open(&disk);
    for n in 0..900 {
        engine.put(S0, &key(n), version(n + 1, 1), Some(vec![7; 2_000].into())).expect("a put");
        engine.commit().expect("a commit");
    }
    let full = bytes(&disk);
    for n in 0..900 {
        if n % 10 > 0 {
            engine.put(S0, &key(n), version(1_000 + n, 1), None).expect("a put");
            assert!(engine.forget(S0, &key(n), version(1_000 + n, 1)).expect("a tombstone"));
        }
    }
    engine.commit().expect("a commit");
    let model = Model::of(&engine).expect("it reads");
    engine.compact().expect("a compaction");
    assert_eq!(Model::of(&engine).expect("it reads"), model);
    let compact = bytes(&disk);
    println!("900 documents of 2,000 bytes: {full} bytes; after 810 of them were deleted and a compaction: {compact}");
    assert!(compact * 3 < full, "{full} bytes before, {compact} after");
    let crashed = disk.crash(&mut Rng(3));
    assert_eq!(Model::of(&open(&crashed)).expect("it reads"), model);
}

/// A compaction needs room for a second page file. Without it nothing changes.
#[test]
fn a_compaction_without_room_is_refused() {
    let disk = TestDisk::default();
    let mut engine = open(&disk);
    for n in 0..300 {
        engine.put(S0, &key(n), version(n + 1, 1), Some(vec![7; 500].into())).expect("a put");
        engine.commit().expect("a commit");
    }
    let model = Model::of(&engine).expect("it reads");
    disk.set_full(Some("pages.2"));
    assert!(matches!(engine.compact(), Err(miroir_store::error::EngineError::Full(_))));
    assert_eq!(Model::of(&engine).expect("it reads"), model);
    assert!(disk.files().iter().all(|(name, _)| name != "pages.2"));
    disk.set_full(None);
    engine.compact().expect("there is room again");
    assert_eq!(Model::of(&engine).expect("it reads"), model);
}

/// What a snapshot shows does not change, and what it holds on to is let go of with it.
#[test]
fn a_snapshot_stays_as_it_was() {
    let disk = TestDisk::default();
    let mut engine = open(&disk);
    let write = |engine: &mut Engine, round: u64| {
        for n in 0..150 {
            let value = (n % 7 != round % 7).then(|| vec![round as u8; 300].into());
            engine.put(S0, &key(n), version(1_000 * (round + 1) + n, 1), value).expect("a put");
            engine.commit().expect("a commit");
        }
    };
    let everything = |engine: &Engine| engine.page(S0, None, usize::MAX, usize::MAX).expect("a page");
    let mut sizes = Vec::new();
    for round in 0..12 {
        write(&mut engine, round);
        let before = everything(&engine);
        let snapshot = engine.snapshot().expect("a snapshot");
        write(&mut engine, round + 100);
        let name = key(3);
        engine.forget(S0, &name, engine.get(S0, &name).expect("a read").expect("held").version).expect("it may be one");
        engine.commit().expect("a commit");
        let seen = snapshot.range(S0, &miroir_store::engine::Range::default(), usize::MAX, usize::MAX);
        assert_eq!(seen.expect("a page"), before);
        for (key, held) in &before.documents {
            assert_eq!(snapshot.get(S0, key).expect("a read").as_ref(), Some(held));
        }
        sizes.push(bytes(&disk));
    }
    assert!(sizes[11] <= sizes[3] * 5 / 4, "{sizes:?}");
    let snapshot = engine.snapshot().expect("a snapshot");
    engine.compact().expect("a compaction");
    let gone = snapshot.get(S0, &key(1));
    assert!(matches!(gone, Err(miroir_store::error::EngineError::SnapshotGone)), "{gone:?}");
}
