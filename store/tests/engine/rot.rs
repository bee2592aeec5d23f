//! Bits that flip in cold data, files that are missing, stale or foreign. What is read is right or an error.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use miroir_store::engine::{Engine, Options, Page, Range, Stored};
use miroir_store::env::Disk;
use miroir_store::error::EngineError;
use miroir_store::id::{Key, ShardId, Version};

use crate::disk::{Rng, TestDisk};
use crate::model::{Model, Step, config, key, version};
use crate::tried::{tell, wanted};

const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);
const S2: ShardId = ShardId(2);

fn options(flush_writes: usize) -> Options {
    Options { flush_writes, ..Options::default() }
}

pub fn open(disk: &TestDisk, flush_writes: usize) -> Result<Engine, EngineError> {
    Engine::open(Arc::new(disk.clone()), options(flush_writes), 1)
}

/// Built with its debug assertions, redb visits every page when it opens a file. Rot anywhere then keeps the engine
/// from opening: as right, but there is no telling what it does about rot that is met later.
pub fn redb_walks_when_it_opens() -> bool {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 100).expect("a fresh disk opens");
    for n in 0..100 {
        engine.put(S0, &key(n), version(1, 1), Some(vec![0xa5; 300].into())).expect("a put");
    }
    engine.commit().expect("a commit");
    let at = disk.bytes("pages.1").windows(300).position(|bytes| bytes == [0xa5; 300]).expect("a document");
    drop(engine);
    disk.flip("pages.1", at as u64 * 8);
    let walks = open(&disk.restart(), 100).is_err();
    if walks {
        println!("redb was built with debug assertions: rot that is met after opening was not tried");
    }
    walks
}

/// A disk with pages and a log of some groups, and what is on it.
pub fn filled(seed: u64) -> (TestDisk, Model) {
    let disk = TestDisk::default();
    let mut engine = Engine::open(Arc::new(disk.clone()), options(40), seed.into()).expect("a fresh disk opens");
    let (mut rng, mut clock) = (Rng(seed), 0);
    for _ in 0..150 {
        for _ in 0..3 {
            let step = Step::draw(&mut rng, &mut clock);
            if !matches!(step, Step::Damage(_)) {
                step.stage(&mut engine).expect("it stages");
            }
        }
        engine.commit().expect("a commit");
    }
    let model = Model::of(&engine).expect("it reads");
    (disk.copy(), model)
}

/// What an engine says of everything that was written to a disk with a flipped bit.
struct Answers {
    /// Not what was written.
    wrong: u64,
    /// An error, or the silence of a damaged copy.
    refused: u64,
}

impl Answers {
    fn of(engine: &Engine, model: &Model, bit: u64) -> Answers {
        let (mut wrong, mut refused) = (0, 0);
        let mut judge = |is_right: bool, what: std::fmt::Arguments<'_>| {
            if !is_right {
                println!("bit {bit}: {what}");
                wrong += 1;
            }
        };
        for (shard, expected) in &model.0 {
            let Some(state) = engine.shard(*shard) else {
                judge(false, format_args!("{shard} is forgotten"));
                continue;
            };
            judge(state.config == expected.config, format_args!("{shard} has {:?}", state.config));
            let counter = state.max_counter;
            judge(counter >= expected.max_counter, format_args!("{shard} has counted to {counter}"));
            if state.damaged {
                refused += 1;
                continue;
            }
            for (key, held) in &expected.documents {
                match engine.get(*shard, key) {
                    Ok(found) => judge(found.as_ref() == Some(held), format_args!("{shard} {key} is {found:?}")),
                    Err(_) => refused += 1,
                }
            }
            // The ways that leave the documents' own checksums out, and go by those of the pages.
            for found in scans(engine, *shard) {
                match found {
                    Ok(found) => judge(found == expected.documents, format_args!("{shard} is scanned as {found:?}")),
                    Err(_) => refused += 1,
                }
            }
            match (engine.documents(*shard), engine.recount(*shard)) {
                (Ok(found), Ok((digest, count))) => {
                    let listed = found.len();
                    judge(listed == expected.documents.len(), format_args!("{shard} lists {listed} documents"));
                    let is_counted = (&digest, count) == (&state.digest, state.documents);
                    judge(is_counted, format_args!("{shard} has other documents than its digest says"));
                }
                _ => refused += 1,
            }
        }
        Answers { wrong, refused }
    }
}

/// Everything that a shard holds, scanned and in one page, of the engine and of a snapshot of it.
fn scans(engine: &Engine, shard: ShardId) -> [Result<BTreeMap<Key, Stored>, EngineError>; 4] {
    let whole = Range::default();
    let (mut scanned, mut seen) = (BTreeMap::new(), BTreeMap::new());
    let scan = engine.scan(shard, &whole, take_into(&mut scanned));
    let page = |page: Page| page.documents.into_iter().collect();
    let range = engine.range(shard, &whole, usize::MAX, usize::MAX).map(page);
    let (seen_all, seen_page) = match engine.snapshot() {
        Ok(snapshot) => (
            snapshot.scan(shard, &whole, take_into(&mut seen)),
            snapshot.range(shard, &whole, usize::MAX, usize::MAX).map(page),
        ),
        Err(error) => (Err(error), Err(EngineError::Poisoned)),
    };
    [scan.map(|()| scanned), range, seen_all.map(|()| seen), seen_page]
}

fn take_into(
    found: &mut BTreeMap<Key, Stored>,
) -> impl FnMut(&str, Version, Option<&[u8]>) -> ControlFlow<()> + use<'_> {
    |name, version, value| {
        let key = Key::from_encoded(name).expect("a name that was written");
        found.insert(key, Stored { version, value: value.map(Into::into) });
        ControlFlow::Continue(())
    }
}

/// Whatever the engine answers about a disk with a flipped bit is true. Whether it answered everything.
pub fn answers_are_right(engine: &Engine, model: &Model, bit: u64) -> bool {
    let Answers { wrong, refused } = Answers::of(engine, model, bit);
    assert_eq!(wrong, 0, "bit {bit}");
    refused == 0
}

/// Where bits of a file flip: mostly where something was written, and now and then in room that is reserved or free.
pub struct Places {
    sectors: u64,
    used: Vec<u64>,
}

impl Places {
    pub fn of(bytes: &[u8]) -> Places {
        let used = |sector: &u64| bytes[*sector as usize * 512..][..512].iter().any(|&byte| byte != 0);
        let sectors = bytes.len() as u64 / 512;
        Places { sectors, used: (0..sectors).filter(used).collect() }
    }

    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let sector = match rng.chance(1, 4) {
            true => rng.below(self.sectors),
            false => self.used[rng.below(self.used.len() as u64) as usize],
        };
        sector * 4_096 + rng.below(4_096)
    }
}

/// Four disks of two files each.
pub const FLIPPED_FILES: u64 = 8;

#[test]
fn a_flipped_bit_never_changes_an_answer() {
    let (mut refused, mut partly, mut harmless, mut wrong) = (0, 0, 0, 0);
    for seed in 0..4 {
        let (disk, model) = filled(seed);
        let mut rng = Rng(seed);
        for (name, _) in disk.files() {
            let places = Places::of(&disk.bytes(&name));
            for _ in 0..wanted("MIROIR_FLIPS", 3_200) / FLIPPED_FILES {
                let bit = places.draw(&mut rng);
                let rotten = disk.copy();
                rotten.flip(&name, bit);
                match open(&rotten, 20) {
                    Err(EngineError::Corrupt { .. } | EngineError::Format { .. }) => refused += 1,
                    Err(error) => panic!("{name}, bit {bit}: {error}"),
                    Ok(mut engine) => {
                        let answers = Answers::of(&engine, &model, bit);
                        match answers.refused {
                            0 => harmless += 1,
                            _ => partly += 1,
                        }
                        wrong += answers.wrong + go_on(&rotten, &mut engine, &model, bit);
                    }
                }
            }
        }
    }
    tell(
        "flips in cold data",
        &[
            (refused + partly + harmless, "flips"),
            (wrong, "wrong values returned"),
            (refused, "kept an engine from opening"),
            (partly, "made some reads fail"),
            (harmless, "were in nothing that is read"),
        ],
    );
    assert_eq!(wrong, 0);
    assert!(refused > 100 && (partly > 100 || redb_walks_when_it_opens()));
}

/// The node goes on working on the disk, so that the engine has to write around what has rotted; then it restarts.
/// How many of its answers are wrong.
fn go_on(disk: &TestDisk, engine: &mut Engine, model: &Model, bit: u64) -> u64 {
    let mut model = model.clone();
    for n in 0..25 {
        let shard = ShardId(9);
        let step = Step::Put(shard, key(n), version(n + 1, 1), Some(vec![1; 50].into()));
        if step.stage(engine).is_err() || engine.commit().is_err() {
            return 0;
        }
        model.apply(&step);
    }
    let wrong = Answers::of(engine, &model, bit).wrong;
    wrong + open(&disk.restart(), 20).map_or(0, |engine| Answers::of(&engine, &model, bit).wrong)
}

/// A page of one shard rots, and one of another that nobody reads. The first shard is silenced and the others are
/// served and written on, until it is wiped. The wipe has to read the rotten page and cannot: what can be read moves
/// to a new file, and on the way the other shard's rot comes out.
#[test]
fn one_rotten_page_costs_one_shard() {
    if redb_walks_when_it_opens() {
        return;
    }
    let disk = three_shards();
    rot_document(&disk, S0, 0xa5);
    rot_document(&disk, S2, 0xa7);
    let mut engine = open(&disk, 100).expect("documents are not read when it opens");
    assert!(matches!(engine.recount(S0), Err(EngineError::Damaged { shard, .. }) if shard == S0));
    let failed = (0..400).filter(|&n| engine.get(S0, &key(n)).is_err()).count();
    assert!((1..40).contains(&failed), "one page of documents cannot be read, not {failed}");
    engine.mark_damaged(S0).expect("a mark");
    engine.commit().expect("a commit");

    let write = |engine: &mut Engine, shard, counter| {
        for n in 0..400 {
            engine.put(shard, &key(n), version(counter + n, 1), Some(vec![7; 300].into())).expect("a put");
            engine.commit().expect("a commit");
        }
    };
    write(&mut engine, S1, 1_000);
    assert!(disk.files().iter().any(|(name, _)| name == "pages.1"), "flushes go around what they need not read");

    engine.install(&config(S0, 2), true).expect("an install");
    write(&mut engine, S0, 1);
    let files = disk.files();
    assert!(files.iter().all(|(name, _)| name != "pages.1"), "the old file is gone: {files:?}");
    drop(engine);
    let engine = open(&disk.crash(&mut Rng(4)), 100).expect("it opens");
    for (shard, is_damaged) in [(S0, false), (S1, false), (S2, true)] {
        let state = engine.shard(shard).expect("known");
        assert_eq!(state.damaged, is_damaged, "{shard}");
        assert_eq!(engine.recount(shard).expect("it reads"), (state.digest.clone(), state.documents));
        assert_eq!(state.documents < 400, is_damaged, "{shard}");
    }
    let page = engine.page(S1, None, 400, usize::MAX).expect("a page");
    assert!(page.documents.iter().all(|(_, held)| held.version.counter >= 1_000));
}

/// Three shards of 400 documents each, all of them in the pages.
fn three_shards() -> TestDisk {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 100).expect("a fresh disk opens");
    for n in 0..400 {
        for (shard, byte) in [(S0, 0xa5), (S1, 0xa6), (S2, 0xa7)] {
            engine.put(shard, &key(n), version(n + 1, 1), Some(vec![byte; 300].into())).expect("a put");
        }
        engine.commit().expect("a commit");
    }
    disk.restart()
}

/// Flips a bit in a page that holds documents of this shard, and of no other.
fn rot_document(disk: &TestDisk, shard: ShardId, byte: u8) {
    let bytes = disk.bytes("pages.1");
    for at in (0..bytes.len()).step_by(4_608) {
        let Some(place) = bytes[at..]
            .iter()
            .take(4_096)
            .collect::<Vec<_>>()
            .windows(300)
            .position(|window| window.iter().all(|found| **found == byte))
        else {
            continue;
        };
        let rotten = disk.copy();
        rotten.flip("pages.1", (at + place) as u64 * 8);
        let engine = open(&rotten, 100).expect("documents are not read when it opens");
        let fails = [S0, S1, S2].map(|shard| engine.recount(shard).is_err());
        // Earlier flushes left pages behind that nothing leads to any more.
        if fails == [S0, S1, S2].map(|other| other == shard || disk_had(disk, other)) {
            disk.flip("pages.1", (at + place) as u64 * 8);
            return;
        }
    }
    panic!("no page of {shard} alone");
}

/// Whether a shard could not be read before this.
fn disk_had(disk: &TestDisk, shard: ShardId) -> bool {
    open(&disk.copy(), 100).expect("it opens").recount(shard).is_err()
}

#[test]
fn files_from_elsewhere_are_refused() {
    let (disk, _) = filled(5);
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    let [log, pages] = &names[..] else { panic!("one log and one page file, not {names:?}") };
    let refused = |change: &dyn Fn(&TestDisk)| {
        let other = disk.copy();
        change(&other);
        match open(&other, 100) {
            Err(EngineError::Corrupt { .. }) => {}
            Err(error) => panic!("refused for another reason: {error}"),
            Ok(_) => panic!("it opened"),
        }
    };
    refused(&|disk| disk.put_bytes(log, b"dear diary"));
    refused(&|disk| disk.put_bytes(log, &[b'x'; 5_000]));
    refused(&|disk| disk.put_bytes(pages, &[b'x'; 50_000]));
    refused(&|disk| disk.put_bytes(pages, b""));
    refused(&|disk| disk.put_bytes(log, b""));
    refused(&|disk| disk.remove(log).expect("removed"));
    refused(&|disk| disk.remove(pages).expect("removed"));
    // Pages of another disk, and of another time.
    refused(&|disk| disk.put_bytes(pages, &filled(6).0.bytes(pages)));
    // A log of another generation under this one's name.
    refused(&|disk| disk.put_bytes(log, &filled(6).0.bytes(&filled(6).0.files()[0].0)));
    // A tail that this log never had.
    refused(&|disk| {
        let mut bytes = disk.bytes(log);
        bytes.extend_from_within(512..1_024);
        disk.put_bytes(log, &bytes);
    });

    let newer = disk.copy();
    let mut bytes = newer.bytes(log);
    bytes[8] = 3;
    newer.put_bytes(log, &bytes);
    let found = open(&newer, 100);
    assert!(matches!(found, Err(EngineError::Format { found: 3, supported: 2, .. })));
}

/// A log that was replaced and came back, because its removal was undone by a restored backup, say.
#[test]
fn a_log_that_was_flushed_is_never_replayed() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 10).expect("a fresh disk opens");
    for n in 0..9 {
        engine.put(S0, &key(n), version(n + 1, 1), None).expect("a put");
        engine.commit().expect("a commit");
    }
    let old = disk.bytes("log.1");
    engine.install(&config(S0, 1), true).expect("an install");
    for n in 20..40 {
        engine.put(S0, &key(n), version(n + 1, 1), None).expect("a put");
        engine.commit().expect("a commit");
    }
    let model = Model::of(&engine).expect("it reads");
    drop(engine);
    disk.put_bytes("log.1", &old);
    let disk = disk.restart();
    let engine = open(&disk, 10).expect("it opens");
    assert_eq!(Model::of(&engine).expect("it reads"), model);
    assert!(disk.files().iter().all(|(name, _)| name != "log.1"), "leftovers go");
}
