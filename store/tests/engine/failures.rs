//! Disks that fail one operation, or have no room, and processes that go on.

use std::sync::Arc;

use miroir_store::engine::{Bucket, Engine, Options};
use miroir_store::error::EngineError;
use miroir_store::id::ShardId;

use crate::disk::{Failure, Rng, TestDisk};
use crate::model::{Model, Step, config, key, version};

const S0: ShardId = ShardId(0);

fn open(disk: &TestDisk, flush_writes: usize) -> Engine {
    let options = Options { flush_writes, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, 1).expect("a healthy disk opens")
}

fn put(engine: &mut Engine, n: u64, counter: u64) {
    engine.put(S0, &key(n), version(counter, 1), Some(vec![counter as u8; 40].into())).expect("a put");
}

/// fsync reported an error once, the node was told, and the kernel then claimed that the next one worked.
#[test]
fn a_failed_sync_poisons_the_engine_for_good() {
    for failure in [Failure::Sync, Failure::Forget] {
        let disk = TestDisk::default();
        let mut engine = open(&disk, 512);
        put(&mut engine, 1, 1);
        engine.commit().expect("a commit");
        put(&mut engine, 2, 2);
        disk.fail(1, failure);
        assert!(matches!(engine.commit(), Err(EngineError::Io(_))));

        let poisoned = |result: Result<(), EngineError>| assert!(matches!(result, Err(EngineError::Poisoned)));
        poisoned(engine.commit().map(drop));
        poisoned(engine.get(S0, &key(1)).map(drop));
        poisoned(engine.put(S0, &key(3), version(9, 1), None).map(drop));
        poisoned(engine.raise_counter(S0, 99));
        poisoned(engine.install(&config(S0, 1), true));
        poisoned(engine.drop_copy(S0));
        poisoned(engine.mark_damaged(S0));
        poisoned(engine.list(S0, 0, &[Bucket(1)]).map(drop));
        poisoned(engine.page(S0, None, 1, 1).map(drop));
        poisoned(engine.recount(S0).map(drop));
        poisoned(engine.split(S0, 0, &[Bucket(1)]).map(drop));
        poisoned(engine.forget(S0, &key(1), version(1, 1)).map(drop));
        poisoned(engine.scrub(10).map(drop));
        poisoned(engine.compact().map(drop));
        poisoned(engine.snapshot().map(drop));
        poisoned(engine.documents(S0).map(drop));

        // The process starts again and reads the group out of the cache. From then on it must not be lost.
        drop(engine);
        let disk = disk.restart();
        let found = Model::of(&open(&disk, 512)).expect("it reads");
        for seed in 0..50 {
            let crashed = disk.copy_unsynced().crash(&mut Rng(seed));
            assert_eq!(Model::of(&open(&crashed, 512)).expect("it reads"), found, "{failure:?}, seed {seed}");
        }
    }
}

/// One disk operation fails, whichever it is; the engine notices, and nothing acknowledged is lost.
#[test]
fn any_one_failed_operation_is_survived() {
    let mut failed = [0; 2];
    for failure in [Failure::Error, Failure::Sync, Failure::Forget] {
        for at in 1..400 {
            let mut rng = Rng(at);
            let disk = TestDisk::default();
            disk.fail(at, failure);
            let mut clock = 0;
            let (mut model, mut attempted) = (Model::default(), None);
            // Without a cache, reads come to the disk too.
            let options = Options { flush_writes: 10, cache_bytes: 0, ..Options::default() };
            let opened = Engine::open(Arc::new(disk.clone()), options, 1);
            if let Ok(mut engine) = opened {
                'work: for _ in 0..60 {
                    let mut staged = model.clone();
                    for _ in 0..2 {
                        let step = Step::draw(&mut rng, &mut clock);
                        match step.stage(&mut engine) {
                            Ok(answer) => assert_eq!(answer, staged.apply(&step).0),
                            // A read failed: nothing was staged by it, and the engine can go on.
                            Err(EngineError::Io(_)) => failed[0] += 1,
                            Err(error) => {
                                assert!(matches!(error, EngineError::Poisoned), "{error}");
                                break 'work;
                            }
                        }
                    }
                    match engine.commit() {
                        Ok(_) => model = staged,
                        Err(_) => {
                            failed[1] += 1;
                            attempted = Some(staged);
                            break;
                        }
                    }
                }
            }
            let disk = if at % 2 == 0 { disk.restart() } else { disk.crash(&mut rng) };
            let found = Model::of(&open(&disk, 10)).expect("a healthy disk reads");
            let crashed = disk.crash(&mut rng);
            assert_eq!(Model::of(&open(&crashed, 10)).expect("it reads"), found, "what was answered once stays");
            assert!(found == model || Some(&found) == attempted.as_ref(), "{failure:?} at operation {at}");
        }
    }
    assert!(failed[0] > 0 && failed[1] > 100, "reads and commits were hit: {failed:?}");
}

#[test]
fn a_full_disk_refuses_commits_and_takes_them_again() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 512);
    let mut model = Model::default();
    for (seed, round) in (0..).zip(["room", "full"].repeat(20)) {
        let (mut rng, mut clock) = (Rng(seed), 1_000 * seed);
        let mut staged = model.clone();
        for _ in 0..12 {
            let step = Step::draw(&mut rng, &mut clock);
            assert_eq!(step.stage(&mut engine).expect("it stages"), staged.apply(&step).0);
        }
        if round == "full" {
            // The log has some room that is its own already, but not so much.
            let large = Some(vec![1; 100_000].into());
            engine.put(S0, &key(70), version(u64::MAX, 1), large).expect("it stages");
            disk.set_full(Some(""));
            assert!(matches!(engine.commit(), Err(EngineError::Full(_))));
            disk.set_full(None);
            assert!(!engine.has_staged());
        } else {
            engine.commit().expect("a commit");
            model = staged;
        }
        let mut found = Model::of(&engine).expect("it reads");
        // A shard that was first heard of in an undone commit is not heard of.
        found.0.retain(|shard, _| model.0.contains_key(shard));
        assert_eq!(found, model, "round {seed}");
    }
    let crashed = disk.crash(&mut Rng(7));
    assert_eq!(Model::of(&open(&crashed, 512)).expect("it reads"), model);
}

/// The pages were written and the next log could not be: the old one goes on.
#[test]
fn a_flush_waits_for_the_room_of_the_next_log() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 512);
    for n in 0..3 {
        put(&mut engine, n, n + 1);
    }
    engine.commit().expect("a commit");
    engine.checkpoint().expect("a flush");
    for n in 2..5 {
        put(&mut engine, n, n + 10);
    }
    engine.commit().expect("a commit");
    disk.set_full(Some("log.3"));
    engine.checkpoint().expect("it waits");
    for n in 0..3 {
        put(&mut engine, n, n + 20);
        engine.commit().expect("the old log has room");
    }
    let model = Model::of(&engine).expect("it reads");
    for seed in 0..20 {
        let crashed = disk.copy();
        assert_eq!(Model::of(&open(&crashed.crash(&mut Rng(seed)), 512)).expect("it reads"), model);
    }
    engine.checkpoint().expect("it waits");
    disk.set_full(None);
    for n in 3..6 {
        put(&mut engine, n, n + 30);
        engine.commit().expect("there is room");
    }
    let model = Model::of(&engine).expect("it reads");
    assert_eq!(Model::of(&open(&disk.copy().crash(&mut Rng(4)), 512)).expect("it reads"), model);
    engine.checkpoint().expect("a flush");
    assert_eq!(Model::of(&open(&disk.crash(&mut Rng(5)), 512)).expect("it reads"), model);
}

/// There is room for the new page file of a compaction and none for the log behind it: nothing of either stays.
#[test]
fn a_compaction_without_room_leaves_nothing_behind() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 512);
    for n in 0..30 {
        put(&mut engine, n, n + 1);
    }
    engine.commit().expect("a commit");
    engine.checkpoint().expect("a flush");
    let files = disk.files();
    disk.set_full(Some("log.3"));
    assert!(matches!(engine.compact(), Err(EngineError::Full(_))));
    assert_eq!(disk.files(), files);
    // What the old log takes from now on is what a restart finds.
    put(&mut engine, 30, 40);
    engine.commit().expect("the old log has room");
    let model = Model::of(&engine).expect("it reads");
    for seed in 0..20 {
        let crashed = disk.copy().crash(&mut Rng(seed));
        assert_eq!(Model::of(&open(&crashed, 512)).expect("it reads"), model);
    }
    disk.set_full(None);
    engine.compact().expect("there is room");
    assert_eq!(Model::of(&open(&disk.crash(&mut Rng(3)), 512)).expect("it reads"), model);
}

#[test]
fn an_engine_cannot_be_created_on_a_full_disk_and_can_be_once_there_is_room() {
    let disk = TestDisk::default();
    disk.set_full(Some(""));
    let refused = Engine::open(Arc::new(disk.clone()), Options::default(), 1);
    assert!(matches!(refused.map(drop), Err(EngineError::Full(_))));
    disk.set_full(None);
    put(&mut open(&disk.restart(), 512), 1, 1);
}

#[test]
fn a_flush_waits_for_room() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 8);
    disk.set_full(Some("pages"));
    for n in 0..60 {
        put(&mut engine, n, n + 1);
        engine.commit().expect("the log has room");
    }
    assert!(disk.files().iter().all(|(name, _)| !name.starts_with("pages")), "what could not be written is gone");
    disk.set_full(None);
    for n in 60..80 {
        put(&mut engine, n, n + 1);
        engine.commit().expect("a commit");
    }
    assert!(disk.files().iter().any(|(name, _)| name == "pages.1"));
    // Now the file is there and cannot grow.
    disk.set_full(Some("pages"));
    let body: Arc<[u8]> = vec![5; 100_000].into();
    for n in 0..100 {
        engine.put(S0, &key(n), version(1_000 + n, 1), Some(body.clone())).expect("a put");
        engine.commit().expect("the log has room");
    }
    let model = Model::of(&engine).expect("it reads");
    let crashed = disk.copy();
    assert_eq!(Model::of(&open(&crashed, 8)).expect("it reads"), model);
    disk.set_full(None);
    for n in 100..140 {
        put(&mut engine, n, 2_000 + n);
        engine.commit().expect("a commit");
    }
    let model = Model::of(&engine).expect("it reads");
    assert_eq!(Model::of(&open(&disk.crash(&mut Rng(1)), 8)).expect("it reads"), model);
}

/// The commit that brought the flush about was durable before it, and is answered; nothing after it is.
#[test]
fn a_failed_flush_poisons_the_engine_after_its_commit() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 4);
    for n in 0..3 {
        put(&mut engine, n, n + 1);
        engine.commit().expect("a commit");
    }
    put(&mut engine, 3, 4);
    let model = Model::of(&engine).expect("it reads");
    // Behind the write and the sync of the group.
    disk.fail(8, Failure::Error);
    assert_eq!(engine.commit().expect("the group is durable").len(), 1);
    assert!(matches!(engine.get(S0, &key(1)), Err(EngineError::Poisoned)));
    assert_eq!(Model::of(&open(&disk.crash(&mut Rng(1)), 4)).expect("it reads"), model);
}

/// A shell may hold an engine across awaits, on whichever thread.
#[test]
fn engines_can_be_sent() {
    fn sent<T: Send + Sync>() {}
    sent::<Engine>();
}

/// A database flushes when it is dropped; a dead process does not.
#[test]
fn dropping_an_engine_writes_nothing() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 4);
    for n in 0..30 {
        put(&mut engine, n, n + 1);
        engine.commit().expect("a commit");
    }
    put(&mut engine, 99, 99);
    let (writes, trace) = (disk.writes(), disk.trace());
    drop(engine);
    assert_eq!((disk.writes(), disk.trace()), (writes, trace));
}

/// Two runs of the same calls write the same bytes in the same order.
#[test]
fn the_same_calls_write_the_same_bytes() {
    let run = || {
        let disk = TestDisk::default();
        let (mut rng, mut clock) = (Rng(3), 0);
        for _ in 0..3 {
            let mut engine = open(&disk.restart(), 20);
            for _ in 0..200 {
                Step::draw(&mut rng, &mut clock).stage(&mut engine).expect("it stages");
                engine.commit().expect("a commit");
            }
        }
        disk.trace()
    };
    assert_eq!(run(), run());
}
