//! Documents that were read lately are found without the disk, and never after they have changed.

use std::ops::ControlFlow;
use std::sync::Arc;

use miroir_store::engine::{Engine, Options, Put, Range, Stored};
use miroir_store::error::EngineError;
use miroir_store::id::{ShardId, Version};

use crate::disk::{Failure, Rng, TestDisk};
use crate::model::{Model, Step, config, key, version};

const S0: ShardId = ShardId(0);

/// Every read of a page reads the disk.
fn open(disk: &TestDisk) -> Engine {
    let options = Options { flush_writes: 1_000, cache_bytes: 0, row_cache_bytes: 1 << 20, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, 1).expect("it opens")
}

fn stored(counter: u64, body: u8) -> Stored {
    Stored { version: version(counter, 1), value: Some(vec![body; 100].into()) }
}

/// Documents 0..50 in the pages.
fn paged(disk: &TestDisk) -> Engine {
    let mut engine = open(disk);
    for n in 0..50 {
        let Stored { version, value } = stored(1, 1);
        engine.put(S0, &key(n), version, value).expect("a put");
    }
    engine.commit().expect("a commit");
    engine.checkpoint().expect("a flush");
    engine
}

/// Whether something reads the disk.
fn reads_disk<T>(disk: &TestDisk, what: impl FnOnce() -> T) -> (T, bool) {
    let before = disk.operations();
    let done = what();
    (done, disk.operations() > before)
}

/// What a get finds, and whether it reads the disk.
fn get(disk: &TestDisk, engine: &Engine, n: u64) -> (Option<Stored>, bool) {
    reads_disk(disk, || engine.get(S0, &key(n)).expect("a read"))
}

#[test]
fn only_gets_fill_it() {
    let disk = TestDisk::default();
    let mut engine = paged(&disk);
    assert_eq!(get(&disk, &engine, 1), (Some(stored(1, 1)), true));
    for _ in 0..3 {
        assert_eq!(get(&disk, &engine, 1), (Some(stored(1, 1)), false));
        let (read, from_disk) = reads_disk(&disk, || engine.read(S0, &key(1), |version, _| version));
        assert_eq!((read.expect("a read"), from_disk), (Some(version(1, 1)), false));
    }
    let (_, from_disk) = reads_disk(&disk, || {
        let older = Version { counter: 0, ..version(1, 1) };
        // A copy that was never found on the disk knows its names, and looks only for what it has.
        assert!(matches!(engine.put(S0, &key(2), older, None), Ok(Put::Older(_))));
        engine.scan(S0, &Range::default(), |_, _, _| ControlFlow::Continue(())).expect("a scan");
        engine.snapshot().expect("a snapshot").get(S0, &key(2)).expect("a read");
    });
    assert!(from_disk);
    assert_eq!(get(&disk, &engine, 2), (Some(stored(1, 1)), true), "none of these is a get");
    assert_eq!(get(&disk, &engine, 2), (Some(stored(1, 1)), false));
    let (_, from_disk) = reads_disk(&disk, || engine.snapshot().expect("a snapshot").get(S0, &key(2)));
    assert!(from_disk, "a snapshot reads its own pages");
}

/// Whatever takes the table away takes the cache with it.
#[test]
fn it_ends_with_its_table() {
    let disk = TestDisk::default();
    let mut engine = paged(&disk);
    let again = |engine: &Engine, what: &str| {
        assert_eq!(get(&disk, engine, 1), (Some(stored(1, 1)), true), "{what}");
        assert_eq!(get(&disk, engine, 1), (Some(stored(1, 1)), false), "{what}");
    };
    again(&engine, "the first get");
    engine.put(S0, &key(49), version(2, 1), None).expect("a put");
    engine.commit().expect("a commit");
    assert!(!get(&disk, &engine, 1).1, "a commit changes no page");
    engine.checkpoint().expect("a flush");
    again(&engine, "a flush");
    engine.compact().expect("a compaction");
    again(&engine, "a compaction");
    engine.scrub(1_000).expect("a scrub");
    again(&engine, "a scrub");
    disk.fail(1, Failure::Error);
    assert!(engine.get(S0, &key(7)).is_err());
    again(&engine, "a failed read");
    drop(engine);
    again(&open(&disk), "an opening");
}

/// Each way in which a document changes, seen right behind a get that put the old one into the cache.
#[test]
fn a_get_behind_a_change_sees_it() {
    let disk = TestDisk::default();
    let mut engine = paged(&disk);
    let seen = |engine: &mut Engine, expected: Option<Stored>, what: &str| {
        for _ in 0..2 {
            assert_eq!(get(&disk, engine, 1).0, expected, "{what}, staged");
        }
        engine.commit().expect("a commit");
        assert_eq!(get(&disk, engine, 1).0, expected, "{what}, committed");
        engine.checkpoint().expect("a flush");
        for _ in 0..2 {
            assert_eq!(get(&disk, engine, 1).0, expected, "{what}, flushed");
        }
    };
    seen(&mut engine, Some(stored(1, 1)), "nothing");
    engine.put(S0, &key(1), version(2, 1), stored(2, 2).value).expect("a put");
    seen(&mut engine, Some(stored(2, 2)), "a put");
    engine.put(S0, &key(1), version(3, 1), None).expect("a put");
    seen(&mut engine, Some(Stored { version: version(3, 1), value: None }), "a deletion");
    assert!(engine.forget(S0, &key(1), version(3, 1)).expect("it is held"));
    seen(&mut engine, None, "a forgotten tombstone");
    for (counter, is_wipe) in [(4, true), (5, false), (6, true)] {
        let body = counter as u8;
        engine.put(S0, &key(1), version(counter, 1), stored(counter, body).value).expect("a put");
        seen(&mut engine, Some(stored(counter, body)), "a put into an incarnation");
        if is_wipe {
            engine.install(&config(S0, counter), true).expect("an install");
        } else {
            engine.drop_copy(S0).expect("a drop");
        }
        seen(&mut engine, None, "a wipe or a drop");
    }
}

/// Gets between steps, commits, flushes, full disks, compactions and crashes find what the model holds. How many of them
/// read the disk, and what was written to the disks.
fn work(seed: u64, cache_bytes: usize, row_cache_bytes: usize) -> (u64, Vec<u64>) {
    let mut rng = Rng(seed);
    let (mut disk, mut model, mut clock) = (TestDisk::default(), Model::default(), 0);
    let (mut disk_gets, mut traces) = (0, Vec::new());
    for _ in 0..4 {
        let flush_writes = [5, 40, 200][rng.below(3) as usize];
        let options = Options { flush_writes, cache_bytes, row_cache_bytes, ..Options::default() };
        let mut engine = Engine::open(Arc::new(disk.clone()), options, 1).expect("it opens");
        for _ in 0..200 {
            let before = model.clone();
            for _ in 0..rng.below(3) {
                let step = Step::draw(&mut rng, &mut clock);
                step.stage(&mut engine).expect("it stages");
                model.apply(&step);
            }
            for _ in 0..10 {
                let (shard, key) = (ShardId(rng.below(3) as u32), key(rng.below(60)));
                let (found, from_disk) = reads_disk(&disk, || engine.get(shard, &key).expect("a read"));
                let expected = model.0.get(&shard).and_then(|it| it.documents.get(&key));
                assert_eq!(found.as_ref(), expected, "seed {seed}: {shard} {key}");
                disk_gets += u64::from(from_disk);
            }
            match rng.below(40) {
                0 => drop(engine.compact().expect("a compaction")),
                1 => {
                    // More than the log has room for that is its own already, so nothing of the group is done.
                    let large = Some(vec![1; 100_000].into());
                    engine.put(S0, &key(70), version(u64::MAX, 1), large).expect("it stages");
                    disk.set_full(Some(""));
                    assert!(matches!(engine.commit(), Err(EngineError::Full(_))));
                    model = before;
                    disk.set_full(None);
                }
                _ => drop(engine.commit().expect("a commit")),
            }
        }
        drop(engine);
        traces.push(disk.trace());
        disk = disk.crash(&mut rng);
    }
    (disk_gets, traces)
}

/// Also with a cache of a few rows, where they push each other out.
#[test]
fn gets_find_what_the_model_holds() {
    for seed in 0..10 {
        let (all, _) = work(seed, 0, 0);
        for bytes in [400, 2_000, 100_000] {
            let (disk_gets, _) = work(seed, 0, bytes);
            assert!(disk_gets < all, "seed {seed}, {bytes} bytes: {disk_gets} gets of {all} read the disk");
        }
    }
}

/// Where pages have a cache. Where they have none, redb writes them in an order that depends on what was read.
#[test]
fn what_is_written_does_not_depend_on_it() {
    for seed in 0..4 {
        let (_, written) = work(seed, 4 << 20, 0);
        assert_eq!(work(seed, 4 << 20, 2_000).1, written, "seed {seed}");
    }
}
