//! What a commit costs. The numbers are printed and not judged: machines differ. The counts are judged.
//!
//! `cargo test --release -p miroir-store --test engine cost -- --nocapture`

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement reads the wall clock")]

use std::sync::Arc;
use std::time::Instant;

use miroir_store::engine::{Engine, Options};
use miroir_store::id::ShardId;

use crate::disk::TestDisk;
use crate::model::{key, version};

#[test]
fn cost_of_commits() {
    let disk = TestDisk::default();
    let mut engine = Engine::open(Arc::new(disk.clone()), Options::default(), 1).expect("a fresh disk opens");
    let value: Arc<[u8]> = vec![7; 100].into();
    let mut slowest = 0;
    let started = Instant::now();
    for n in 0..10_000 {
        let before = Instant::now();
        let name = key(n * 7919 % 3_000);
        engine.put(ShardId((n % 4) as u32), &name, version(n + 1, 1), Some(value.clone())).expect("a put");
        engine.commit().expect("a commit");
        slowest = slowest.max(before.elapsed().as_micros());
    }
    let total = started.elapsed();
    let per_commit = total.as_nanos() / 10_000;
    println!(
        "10,000 commits of one put in {total:?}: {per_commit} ns each, flushes included; the slowest {slowest} us"
    );

    let started = Instant::now();
    for n in 0..10_000 {
        engine.get(ShardId((n % 4) as u32), &key(n * 7919 % 3_000)).expect("a get");
    }
    println!("10,000 gets in {:?}", started.elapsed());

    drop(engine);
    let started = Instant::now();
    drop(Engine::open(Arc::new(disk.restart()), Options::default(), 1).expect("it opens again"));
    println!("opening it again in {:?}", started.elapsed());
}

#[test]
fn cost_of_a_fresh_engine() {
    let started = Instant::now();
    for n in 0..100 {
        drop(Engine::open(Arc::new(TestDisk::default()), Options::default(), n).expect("a fresh disk opens"));
    }
    println!("opening a fresh engine in {:?}", started.elapsed() / 100);
}

/// One append and one sync, however much is staged: that is what a group commit is for.
#[test]
fn a_commit_is_one_write_and_one_sync() {
    let disk = TestDisk::default();
    let mut engine = Engine::open(Arc::new(disk.clone()), Options::default(), 1).expect("a fresh disk opens");
    for size in [1, 10, 100] {
        for n in 0..size {
            engine.put(ShardId(0), &key(n), version(size * 1_000 + n, 1), None).expect("a put");
        }
        let before = disk.operations();
        engine.commit().expect("a commit");
        assert_eq!(disk.operations() - before, 2, "{size} puts");
    }
    let before = disk.operations();
    engine.commit().expect("an empty commit");
    assert_eq!(disk.operations(), before, "nothing staged, nothing done");
}
