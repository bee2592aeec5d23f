//! What `Store` promises: documents, batches, scans, snapshots, scrub, compaction, one user at a time.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real files, processes and threads")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use miroir_store::env::Dice;
use miroir_store::env::real::OsDice;
use miroir_store::error::{EngineError, StoreError};
use miroir_store::store::{Batch, Ids, Options, Store};

use crate::disk::{Failure, Rng, TestDisk};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("miroir-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on(disk: &TestDisk, options: &Options) -> Store {
    Store::open_on(Arc::new(disk.clone()), Arc::new(OsDice), options).expect("it opens")
}

fn small() -> Options {
    Options::default().shards(3).memory(40, 1 << 20).cache_bytes(1 << 20)
}

type Model = BTreeMap<(String, String), Vec<u8>>;

/// What a collection holds, visited where it lies.
fn visited(store: &Store, name: &str, ids: &Ids, most: usize) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    store
        .visit(name, ids, |id, body| {
            found.push((id.to_owned(), body.to_vec()));
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .expect("a visit");
    found
}

fn of(store: &Store) -> Model {
    ["a", "b", "c"]
        .iter()
        .flat_map(|name| store.iter(name, Ids::all()))
        .map(|document| document.expect("a document"))
        .map(|it| ((it.collection().to_owned(), it.id().to_owned()), it.body.to_vec()))
        .collect()
}

/// Draws a few writes and does them, one by one or as a batch, to the store and to the model.
fn work(store: &Store, model: &mut Model, rng: &mut Rng) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    let mut after = model.clone();
    for _ in 0..=rng.below(6) {
        let name = ["a", "b", "c"][rng.below(3) as usize].to_owned();
        let id = format!("{:02}", rng.below(50));
        if rng.chance(1, 3) {
            batch.delete(&name, &id)?;
            after.remove(&(name, id));
        } else {
            let body = vec![rng.next() as u8; rng.below(200) as usize];
            batch.put(&name, &id, &body)?;
            after.insert((name, id), body);
        }
    }
    let result = store.batch(batch);
    if result.is_ok() {
        *model = after;
    }
    result
}

#[test]
fn documents_are_what_was_written_last() {
    let directory = Directory::new("last");
    let mut model = Model::new();
    let mut rng = Rng(1);
    for _ in 0..5 {
        let store = small().open(&directory.0).expect("it opens");
        assert_eq!(of(&store), model);
        for _ in 0..200 {
            work(&store, &mut model, &mut rng).expect("a batch");
        }
        for n in 0..50 {
            let found = store.get("a", &format!("{n:02}")).expect("a read");
            assert_eq!(found.as_deref(), model.get(&("a".to_owned(), format!("{n:02}"))).map(Vec::as_slice));
        }
        assert_eq!(of(&store), model);
        let scrub = store.scrub().expect("a scrub");
        assert!(scrub.damaged.is_empty() && !scrub.repaired && scrub.documents >= model.len() as u64);
        store.compact().expect("a compaction");
        assert_eq!(of(&store), model);
        let stats = store.stats().expect("counts");
        assert_eq!((stats.documents, stats.shards), (model.len() as u64, 3), "no tombstone is left");
    }
}

/// The power fails at any operation of the disk; a batch is there or it is not.
#[test]
fn batches_are_whole_after_every_crash() {
    let mut crashes = 0;
    for seed in 0..40 {
        let mut rng = Rng(seed);
        let (mut disk, mut model) = (TestDisk::default(), Model::new());
        for _ in 0..10 {
            disk.fail(1 + rng.below(300), Failure::Death);
            let opened = Store::open_on(Arc::new(disk.clone()), Arc::new(OsDice), &small());
            let before = model.clone();
            let mut attempted = None;
            if let Ok(store) = opened {
                loop {
                    let mut next = model.clone();
                    let mut replay = rng.clone();
                    let result = work(&store, &mut model, &mut rng);
                    if result.is_err() {
                        // What it would have left, drawn once more on a healthy disk.
                        let healthy = on(&TestDisk::default(), &small());
                        work(&healthy, &mut next, &mut replay).expect("a healthy disk");
                        attempted = Some(next);
                        break;
                    }
                    if rng.chance(1, 30) && store.compact().is_err() {
                        break;
                    }
                }
            } else {
                model = before;
            }
            disk = disk.crash(&mut rng);
            crashes += 1;
            let found = of(&on(&disk, &small()));
            assert!(found == model || Some(&found) == attempted.as_ref(), "seed {seed}");
            model = found;
            disk = disk.restart();
        }
    }
    // Not `println!`, which a passing test keeps to itself.
    writeln!(std::io::stdout(), "tried: {crashes} crashes of an embedded store").expect("somebody listens");
}

#[test]
fn scans_keep_to_their_bounds() {
    for shards in [1, 3] {
        scan_all_bounds(&on(&TestDisk::default(), &small().shards(shards)));
    }
}

fn scan_all_bounds(store: &Store) {
    let mut batch = Batch::new();
    for id in ["a", "ab", "abc", "abd", "b", "ba", "c", "\u{10ffff}", "\u{10ffff}z"] {
        for name in ["x", "y", "y\u{1}"] {
            batch.put(name, id, id.as_bytes()).expect("a name");
        }
    }
    store.batch(batch).expect("a batch");
    let y = store.collection("y").expect("a name");
    let ids = |ids: Ids| -> Vec<String> {
        let documents = y.iter(ids.clone()).map(|document| document.expect("a document"));
        let documents: Vec<_> = documents.map(|it| (it.id().to_owned(), it.body.to_vec())).collect();
        assert_eq!(visited(store, "y", &ids, usize::MAX), documents);
        assert_eq!(visited(store, "y", &ids, 2), documents[..documents.len().min(2)]);
        documents.into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(ids(Ids::all()).len(), 9);
    assert_eq!(ids(Ids::prefix("ab")), ["ab", "abc", "abd"]);
    assert_eq!(ids(Ids::prefix("\u{10ffff}")), ["\u{10ffff}", "\u{10ffff}z"]);
    assert_eq!(ids(Ids::range("ab".."b")), ["ab", "abc", "abd"]);
    assert_eq!(ids(Ids::range("ab"..="b")), ["ab", "abc", "abd", "b"]);
    assert_eq!(ids(Ids::range(.."ab")), ["a"]);
    assert_eq!(ids(Ids::range("c"..)), ["c", "\u{10ffff}", "\u{10ffff}z"]);
    assert_eq!(ids(Ids::prefix("ab").within("abc"..)), ["abc", "abd"]);
    assert_eq!(ids(Ids::prefix("ab").within("z"..).within(..="abc")), ["ab", "abc"]);
    assert_eq!(ids(Ids::prefix("ab").within("b"..)), [""; 0]);
    assert_eq!(ids(Ids::prefix("zz")), [""; 0]);
    assert_eq!(ids(Ids::range("c".."a")), [""; 0]);
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let page = y.scan(&Ids::all(), cursor.as_ref(), 2).expect("a page");
        assert!(page.documents.len() <= 2);
        pages.extend(page.documents.iter().map(|it| it.id().to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, ids(Ids::all()));
}

#[test]
fn a_snapshot_shows_one_moment() {
    let store = on(&TestDisk::default(), &small());
    let (mut model, mut rng) = (Model::new(), Rng(5));
    for _ in 0..100 {
        work(&store, &mut model, &mut rng).expect("a batch");
    }
    let (snapshot, then) = (store.snapshot().expect("a snapshot"), model.clone());
    for _ in 0..300 {
        work(&store, &mut model, &mut rng).expect("a batch");
    }
    assert_ne!(then, model);
    for name in ["a", "b", "c"] {
        let seen: Vec<_> = snapshot.iter(name, Ids::all()).map(|it| it.expect("a document")).collect();
        let expected: Vec<_> = then.iter().filter(|((collection, _), _)| collection == name).collect();
        assert_eq!(seen.len(), expected.len());
        for (document, ((_, id), body)) in seen.iter().zip(expected) {
            assert_eq!((document.id(), &document.body[..]), (id.as_str(), body.as_slice()));
            assert_eq!(snapshot.get(name, id).expect("a read").as_deref(), Some(body.as_slice()));
        }
    }
    store.compact().expect("a compaction");
    let gone = snapshot.get("a", "00");
    assert!(matches!(gone, Ok(None) | Err(StoreError::Engine(EngineError::SnapshotGone))), "{gone:?}");
}

/// Everything is deleted and written again, over and over; the files stay what one round takes.
#[test]
fn churn_stays_bounded() {
    let directory = Directory::new("churn");
    let store = Options::default().memory(500, 1 << 20).open(&directory.0).expect("it opens");
    let mut sizes = Vec::new();
    for round in 0..15 {
        for part in 0..10 {
            let mut batch = Batch::new();
            for n in 0..100 {
                batch.put("c", &format!("{round}-{part}-{n}"), &[round as u8; 500]).expect("a name");
            }
            store.batch(batch).expect("a batch");
        }
        let ids: Vec<String> = store.iter("c", Ids::all()).map(|it| it.expect("a document").id().to_owned()).collect();
        assert_eq!(ids.len(), 1_000);
        let mut batch = Batch::new();
        for id in &ids {
            batch.delete("c", id).expect("a name");
        }
        store.batch(batch).expect("a batch");
        store.compact().expect("a compaction");
        let stats = store.stats().expect("counts");
        assert_eq!(stats.documents, 0);
        sizes.push(stats.disk_bytes);
    }
    println!("15 rounds of 1,000 documents written and deleted: {sizes:?} bytes after each");
    assert!(sizes.iter().max() <= sizes.first().map(|first| first * 5 / 4).as_ref(), "{sizes:?}");
}

#[test]
fn a_full_disk_is_an_error_and_then_no_more() {
    let disk = TestDisk::default();
    let store = on(&disk, &Options::default());
    store.put("a", "1", b"one").expect("a put");
    disk.set_full(Some(""));
    // The log has some room that is its own already, but not so much.
    let large = vec![2; 100_000];
    assert!(matches!(store.put("a", "2", &large), Err(StoreError::Engine(EngineError::Full(_)))));
    assert!(matches!(store.compact(), Err(StoreError::Engine(EngineError::Full(_)))));
    assert_eq!(store.get("a", "1").expect("a read").as_deref(), Some(&b"one"[..]));
    disk.set_full(None);
    assert_eq!(store.get("a", "2").expect("a read"), None, "nothing was done");
    store.put("a", "2", &large).expect("there is room again");
    assert_eq!(store.get("a", "2").expect("a read").as_deref(), Some(&large[..]));
}

/// The disk of a store of three shards and 400 documents, of which document 7 has rotted.
fn rotten() -> TestDisk {
    let disk = TestDisk::default();
    let store = on(&disk, &small().memory(1_000, 1 << 20));
    for n in 0..400 {
        let byte = if n == 7 { 0x77 } else { 0xa5 };
        store.put("a", &n.to_string(), &[byte; 300]).expect("a put");
    }
    // All of it at once: these bytes are in the file in one place.
    store.flush().expect("a flush");
    drop(store);
    let at = disk.bytes("pages.1").windows(300).position(|bytes| bytes == [0x77; 300]).expect("a document");
    let disk = disk.restart();
    disk.flip("pages.1", at as u64 * 8);
    disk
}

/// Every document, as far as it can be read.
fn bodies(store: &Store) -> Vec<Option<Vec<u8>>> {
    let body = |n: i32| store.get("a", &n.to_string()).ok().flatten().map(|body| body.to_vec());
    (0..400).map(body).collect()
}

/// Document 7 cannot be read, so it cannot be replaced; the others of the batch are not written either.
#[test]
fn a_batch_that_meets_rot_is_not_written_at_all() {
    let disk = rotten();
    let store = on(&disk, &small());
    let mut batch = Batch::new();
    for n in 0..40 {
        batch.put("a", &n.to_string(), b"new").expect("a name");
    }
    let refused = store.batch(batch);
    assert!(matches!(refused, Err(StoreError::Engine(EngineError::Damaged { .. }))), "{refused:?}");
    let after = bodies(&store);
    assert!(after.iter().flatten().count() > 200, "two shards of three answer");
    assert!(after.iter().flatten().all(|body| body.len() == 300), "nothing of the batch is there");
    // The shard is silent from now on, and the others take what they are given.
    assert_eq!(store.stats().expect("counts").damaged.len(), 1);
    store.put("b", "1", b"one").or_else(|_| store.put("b", "2", b"two")).expect("some shard serves");
    drop(store);
    let store = on(&disk.restart(), &small());
    assert_eq!(store.stats().expect("counts").damaged.len(), 1, "the mark is durable");
    assert!(bodies(&store) == after, "it holds what it held");
}

/// The disk took the batch and could not say that it is durable: no call is answered any more, and the next opening shows
/// the batch whole or not at all.
#[test]
fn a_failed_sync_ends_a_store_until_it_is_opened_again() {
    for failure in [Failure::Sync, Failure::Forget] {
        for seed in 0..20 {
            let disk = TestDisk::default();
            let store = on(&disk, &small());
            let (mut model, mut rng) = (Model::new(), Rng(seed));
            for _ in 0..10 {
                work(&store, &mut model, &mut rng).expect("a batch");
            }
            let mut next = model.clone();
            let mut batch = Batch::new();
            for id in ["x", "y", "z"] {
                batch.put("a", id, b"new").expect("a name");
                next.insert(("a".to_owned(), id.to_owned()), b"new".to_vec());
            }
            disk.fail(1, failure);
            assert!(matches!(store.batch(batch), Err(StoreError::Engine(EngineError::Io(_)))));
            let poisoned = |result: Result<(), StoreError>| {
                assert!(matches!(result, Err(StoreError::Engine(EngineError::Poisoned))), "{result:?}");
            };
            poisoned(store.get("a", "x").map(drop));
            poisoned(store.put("a", "x", b"again"));
            poisoned(store.scan("a", &Ids::all(), None, 1).map(drop));
            poisoned(store.snapshot().map(drop));
            drop(store);
            let crashed = if seed % 2 == 0 { disk.restart() } else { disk.crash(&mut rng) };
            let found = of(&on(&crashed, &small()));
            assert!(found == model || found == next, "seed {seed}: a part of the batch is there");
        }
    }
}

/// Any read that a batch needs fails once; nothing of the batch is there then, nor comes with the next write.
#[test]
fn a_batch_that_cannot_read_is_not_written_at_all() {
    let mut failed = 0;
    for after in 1..60 {
        let disk = TestDisk::default();
        let store = on(&disk, &small().cache_bytes(0).memory(1_000, 1 << 20));
        for n in 0..400 {
            store.put("a", &n.to_string(), &[0xa5; 300]).expect("a put");
        }
        store.flush().expect("a flush");
        let before = bodies(&store);
        let mut batch = Batch::new();
        for n in (0..400).step_by(9) {
            batch.put("a", &n.to_string(), b"new").expect("a name");
        }
        disk.fail(after, Failure::Error);
        match store.batch(batch) {
            Ok(()) => continue,
            // The log itself failed: whether the batch is there is known after the next opening.
            Err(StoreError::Engine(EngineError::Io(_))) if store.put("b", "1", b"one").is_err() => continue,
            Err(StoreError::Engine(EngineError::Io(_))) => {}
            Err(error) => panic!("{error}"),
        }
        failed += 1;
        assert!(bodies(&store) == before, "a part of the batch is there, after {after} operations");
        store.put("b", "2", b"two").expect("it goes on");
        drop(store);
        let opened = on(&disk.restart(), &small());
        assert!(bodies(&opened) == before, "a part of the batch came back, after {after} operations");
    }
    assert!(failed > 10, "{failed} batches met a read that failed");
}

#[test]
fn a_rotten_shard_is_silent_and_the_others_answer() {
    let store = on(&rotten(), &small());
    let scrub = store.scrub().expect("a scrub");
    assert_eq!(scrub.damaged.len(), 1, "{scrub:?}");
    let answers = (0..400).map(|n| store.get("a", &n.to_string()));
    let (mut good, mut silent) = (0, 0);
    for answer in answers {
        match answer {
            Ok(body) => good += u32::from(body.is_some_and(|body| body.len() == 300)),
            Err(StoreError::Engine(EngineError::Damaged { .. })) => silent += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(good + silent, 400);
    assert!(good > 200 && silent > 50, "{good} and {silent}");
    assert_eq!(store.stats().expect("counts").damaged, scrub.damaged);
}

#[test]
fn names_and_sizes_are_checked() {
    let store = on(&TestDisk::default(), &Options::default());
    assert!(matches!(store.put("", "1", b""), Err(StoreError::Key(_))));
    assert!(matches!(store.get("a", ""), Err(StoreError::Key(_))));
    assert!(matches!(store.collection("a\0b").map(drop), Err(StoreError::Key(_))));
    assert!(matches!(store.scan("", &Ids::all(), None, 1), Err(StoreError::Key(_))));
    assert!(matches!(store.put("a", "1", &vec![0; (16 << 20) + 1]), Err(StoreError::BodyLength { .. })));
    store.put("a", "1", &vec![0; 16 << 20]).expect("as large as it may be");
}

#[test]
fn the_number_of_shards_is_fixed() {
    let disk = TestDisk::default();
    drop(on(&disk, &Options::default().shards(4)));
    let other = Store::open_on(Arc::new(disk.restart()), Arc::new(OsDice), &Options::default().shards(5));
    assert!(matches!(other.map(drop), Err(StoreError::Shards { found: 4, wanted: 5 })));
    assert_eq!(on(&disk.restart(), &Options::default()).stats().expect("counts").shards, 4);
}

#[test]
fn threads_share_a_store() {
    fn shared<T: Send + Sync>(_: &T) {}
    let store = on(&TestDisk::default(), &small());
    shared(&store);
    shared(&store.snapshot().expect("a snapshot"));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..100 {
                    store.put("a", &format!("{thread}-{n}"), b"x").expect("a put");
                }
            });
        }
    });
    assert_eq!(store.iter("a", Ids::all()).count(), 400);
}

/// This very program is started again as the second process.
#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = Directory::new("second");
    let store = Store::open(&directory.0).expect("a new store");
    store.put("a", "1", b"one").expect("a put");
    assert!(matches!(Store::open(&directory.0), Err(StoreError::InUse { .. })), "not even in this process");
    let second = |expected: &str| {
        let program = std::env::current_exe().expect("this program");
        let status = Command::new(program)
            .args(["--exact", "embedded::second_process", "--ignored"])
            .env("MIROIR_TEST_STORE", &directory.0)
            .env("MIROIR_TEST_EXPECTED", expected)
            .output()
            .expect("it starts");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    };
    second("in use");
    drop(store);
    second("free");
}

#[test]
#[ignore = "the other half of the test above"]
fn second_process() {
    let Some(path) = std::env::var_os("MIROIR_TEST_STORE") else { return };
    let expected = std::env::var("MIROIR_TEST_EXPECTED").expect("what to expect");
    match Store::open(&path) {
        Ok(store) => {
            assert_eq!(expected, "free");
            assert_eq!(store.get("a", "1").expect("a read").as_deref(), Some(&b"one"[..]));
        }
        Err(error @ StoreError::InUse { .. }) => {
            assert_eq!(expected, "in use");
            assert!(error.to_string().contains("is open already, in this program or in another"));
        }
        Err(error) => panic!("{error}"),
    }
}

/// Two writers of two openings of a store are told apart by these.
#[test]
fn dice_are_fresh() {
    assert_ne!(OsDice.bits(), OsDice.bits());
}
