//! Bytes that were written once are read for ever, or refused by name. docs/formats.md draws them.
//!
//! `MIROIR_BLESS=1 cargo test -p miroir-store --test engine golden` writes the files anew; a difference is a new
//! version of the format.
//!
//! [`examples`] has one of each message, configuration and record; [`variants`] counts them, [`sums`] recomputes the
//! checksums.

#![expect(clippy::disallowed_methods, reason = "golden files are files")]

mod examples;
mod sums;
mod variants;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use miroir_store::config::ShardConfig;
use miroir_store::coordinator::records::{EngineRecords, Records as _};
use miroir_store::engine::{Engine, Options, Stored};
use miroir_store::error::{EngineError, WireError};
use miroir_store::id::{Key, ShardId};
use miroir_store::wire::{Message, WIRE_VERSIONS, decode, encode, inward, outward};

use crate::disk::TestDisk;
use crate::model::{Model, config, key, version};
use crate::reconcile::env;
use examples::{configurations, records};
use variants::{Seen, every_variant};

pub use examples::{messages, nested};

const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The committed bytes; what was written now, where they are to be blessed.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    if std::env::var_os("MIROIR_BLESS").is_some() {
        std::fs::write(path(name), now).expect("a golden file is written");
    }
    committed(name)
}

pub fn committed(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

fn open(disk: &TestDisk, flush_writes: usize) -> Result<Engine, EngineError> {
    let options = Options { flush_writes, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
}

/// Every document that these disks ever held.
pub fn history() -> Vec<(Key, Stored)> {
    let document = |n: u64| {
        let value = (!n.is_multiple_of(3)).then(|| vec![n as u8 + 1; 20 * n as usize].into());
        (key(n), Stored { version: version(n + 1, 5), value })
    };
    let last = (key(9), Stored { version: version(9, 5), value: Some(vec![9; 700].into()) });
    (0..6).map(document).chain([last]).collect()
}

/// Every operation that a log knows.
fn written(flush_writes: usize) -> TestDisk {
    let disk = TestDisk::default();
    let mut engine = open(&disk, flush_writes).expect("a fresh disk opens");
    engine.install(&config(S0, 3), false).expect("an install");
    engine.commit().expect("a commit");
    for (key, Stored { version, value }) in history() {
        let is_last = key == self::key(9);
        engine.put(S0, &key, version, value).expect("a put");
        if !is_last {
            engine.commit().expect("a commit");
        }
    }
    engine.forget(S0, &key(0), version(1, 5)).expect("a tombstone");
    engine.raise_counter(S0, 77).expect("a raise");
    engine.install(&config(S1, 4), true).expect("a wipe");
    engine.commit().expect("a commit");
    engine.drop_copy(S1).expect("a drop");
    engine.mark_damaged(S1).expect("a mark");
    engine.commit().expect("a commit");
    disk
}

/// Every configuration, each installed in a shard of its own that has a document.
fn configured() -> (TestDisk, Engine) {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 512).expect("a fresh disk opens");
    for config in configurations() {
        engine.install(&config, false).expect("an install");
        engine.put(config.shard, &key(1), version(1, 5), Some(vec![1].into())).expect("a put");
        engine.commit().expect("a commit");
    }
    (disk, engine)
}

/// What an engine has installed.
fn installed(disk: &TestDisk) -> Vec<ShardConfig> {
    let engine = open(disk, 512).expect("what was written once opens");
    engine.shards().filter_map(|(_, state)| state.config.clone()).collect()
}

/// A disk as the sectors of its files that are not empty.
pub fn image(disk: &TestDisk) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, len) in disk.files() {
        let bytes = disk.bytes(&name);
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
        let sectors: Vec<usize> = (0..len.div_ceil(512))
            .filter(|sector| bytes[sector * 512..].iter().take(512).any(|&byte| byte != 0))
            .collect();
        out.extend_from_slice(&(sectors.len() as u32).to_le_bytes());
        for sector in sectors {
            let end = (sector * 512 + 512).min(len);
            out.extend_from_slice(&(sector as u32).to_le_bytes());
            let mut padded = bytes[sector * 512..end].to_vec();
            padded.resize(512, 0);
            out.extend_from_slice(&padded);
        }
    }
    out
}

pub fn disk_of(mut image: &[u8]) -> TestDisk {
    fn take<'a>(image: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (head, tail) = image.split_at(len);
        *image = tail;
        head
    }
    fn number(image: &mut &[u8]) -> usize {
        u32::from_le_bytes(take(image, 4).try_into().expect("four bytes")) as usize
    }
    let disk = TestDisk::default();
    while !image.is_empty() {
        let len = number(&mut image);
        let name = String::from_utf8(take(&mut image, len).to_vec()).expect("a name");
        let len = u64::from_le_bytes(take(&mut image, 8).try_into().expect("eight bytes")) as usize;
        let mut bytes = vec![0; len.next_multiple_of(512)];
        for _ in 0..number(&mut image) {
            let sector = number(&mut image);
            bytes[sector * 512..][..512].copy_from_slice(take(&mut image, 512));
        }
        bytes.truncate(len);
        disk.put_bytes(&name, &bytes);
    }
    disk
}

#[test]
fn a_log_is_written_as_it_always_was() {
    let (configured, _) = configured();
    for (name, disk) in [("log-v2.bin", written(512)), ("configurations-v2.bin", configured)] {
        assert_eq!(disk.files().len(), 1);
        let bytes = disk.bytes("log.1");
        // Behind the groups lies room for others, which is no part of the format.
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(512));
        assert!(golden(name, &bytes[..end]) == bytes[..end], "{name}: the log's format has changed: raise its version");
    }
}

/// A page file need not be written byte by byte as it was, because redb lays it out; it must be read.
#[test]
fn a_disk_of_this_version_is_read() {
    let now = written(4);
    assert!(now.files().iter().any(|(name, _)| name == "pages.1"));
    let disk = disk_of(&golden("disk-v2.image", &image(&now)));
    let found = Model::of(&open(&disk, 512).expect("what was written once opens")).expect("it reads");
    assert_eq!(found, Model::of(&open(&now.restart(), 512).expect("it opens")).expect("it reads"));
}

/// A configuration is the same in the log, in the page file, and to whoever reads them.
#[test]
fn configurations_are_read_as_they_were_installed() {
    let (disk, mut engine) = configured();
    let logged = disk.copy();
    engine.checkpoint().expect("a flush");
    drop(engine);
    let flushed = disk_of(&golden("configurations-v2.image", &image(&disk)));
    assert!(flushed.files().iter().any(|(name, _)| name == "pages.1"));
    for disk in [logged, flushed] {
        assert_eq!(installed(&disk), configurations());
    }
}

/// Older and newer files are refused by the version they carry, and left alone.
#[test]
fn other_versions_are_refused_by_name() {
    let marked = |found: u32| {
        let disk = written(512);
        let mut bytes = disk.bytes("log.1");
        bytes[8..12].copy_from_slice(&found.to_le_bytes());
        disk.put_bytes("log.1", &bytes);
        (found, "log.1", disk)
    };
    // The rows of the first version had longer keys.
    let first = (1, "log.3", disk_of(&committed("disk-v1.image")));
    for (found, file, disk) in [0, 1, 3, u32::MAX].map(marked).into_iter().chain([first]) {
        let before = image(&disk);
        match open(&disk, 512).map(drop) {
            Err(error @ EngineError::Format { .. }) => assert_eq!(
                error.to_string(),
                format!("{file}: format version {found}, this program reads 2; use the program that wrote it")
            ),
            other => panic!("{other:?}"),
        }
        assert!(image(&disk) == before, "nothing was written");
    }
    let frame = encode(&Message::GetConfigs);
    for version in [0, 1, 3, 200] {
        let mut other = frame.clone();
        other[0] = version;
        assert_eq!(decode(&other), Err(WireError::Version { found: version, supported: 2 }));
    }
}

/// A page file of another version than its log comes from elsewhere. It is refused by its own name, and nothing that
/// was committed is changed: under the right version it can be read.
#[test]
fn page_files_of_other_versions_are_refused_by_name() {
    let disk = written(4);
    let (log, _) = disk.files().into_iter().find(|(name, _)| name.starts_with("log.")).expect("a log");
    let held = Model::of(&open(&disk.copy(), 512).expect("it opens")).expect("it reads");
    for found in [0, 1, 3, u32::MAX] {
        let disk = disk.copy();
        sums::set_page_version(&disk, &log, found);
        match open(&disk, 512).map(drop) {
            Err(error @ EngineError::Format { .. }) => assert_eq!(
                error.to_string(),
                format!("pages.1: format version {found}, this program reads 2; use the program that wrote it")
            ),
            other => panic!("{other:?}"),
        }
        sums::set_page_version(&disk, &log, 2);
        assert_eq!(Model::of(&open(&disk, 512).expect("it opens")).expect("it reads"), held);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares lines with those that were committed, one by one, so that it says which has changed.
fn expect_lines(name: &str, now: &str, otherwise: &str) -> String {
    let golden = String::from_utf8(golden(name, now.as_bytes())).expect("text");
    for (n, (golden, now)) in (1..).zip(golden.lines().zip(now.lines())) {
        assert_eq!(golden, now, "{name}, line {n}: {otherwise}");
    }
    assert_eq!(golden.lines().count(), now.lines().count(), "{name}: some are missing or new");
    golden
}

#[test]
fn frames_are_what_they_always_were() {
    for (name, messages) in [("frames", messages()), ("nested", nested())] {
        for version in WIRE_VERSIONS.0..=WIRE_VERSIONS.1 {
            let frames: String = messages
                .iter()
                .map(|message| {
                    let text = format!("{message:?}");
                    let name = text.split([' ', '{']).next().unwrap_or_default();
                    format!("{name} {}\n", hex(&outward(encode(message), version)))
                })
                .collect();
            expect_lines(&format!("{name}-v{version}.txt"), &frames, "a changed frame is a new wire version");
            for message in &messages {
                let read = inward(outward(encode(message), version), version).and_then(|frame| decode(&frame));
                assert_eq!(read.as_ref(), Ok(message));
            }
        }
    }
}

/// The coordinator's records: where they lie, under which keys, and what they are. Each is read back as it was decided.
#[test]
fn records_of_the_coordinator_are_what_they_always_were() {
    let mut lines = String::new();
    let mut written = Vec::new();
    for kind in records() {
        let disk = TestDisk::default();
        for record in kind {
            let mut records = EngineRecords::open(&env(&disk), Options::default()).expect("records open");
            let revision = records.commit(&[], std::slice::from_ref(&record)).expect("a commit");
            drop(records);
            let engine = open(&disk, 512).expect("it is an engine");
            let shards: Vec<ShardId> = engine.shards().map(|(shard, _)| shard).collect();
            let documents = engine.documents(S0).expect("it reads");
            let (key, version) = documents.into_iter().max_by_key(|(_, version)| *version).expect("a record");
            let value = engine.get(S0, &key).expect("it reads").and_then(|stored| stored.value).expect("a value");
            assert_eq!(shards, [S0]);
            writeln!(lines, "{key} {} {} {}", version.counter, version.writer.0, hex(&value)).expect("text");
            written.push((record, revision));
        }
    }
    let golden = expect_lines("records-v2.txt", &lines, "a changed record is a new version of log and page file");
    for (line, written) in golden.lines().zip(written) {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, counter, writer, value] = words[..] else { panic!("{line}") };
        let byte = |at| u8::from_str_radix(&value[at..at + 2], 16).expect("hexadecimal digits");
        let value: Vec<u8> = (0..value.len()).step_by(2).map(byte).collect();
        let version = version(counter.parse().expect("a counter"), writer.parse().expect("a writer"));
        let disk = TestDisk::default();
        let mut engine = open(&disk, 512).expect("a fresh disk opens");
        engine.put(S0, &key.parse().expect("a key"), version, Some(value.into())).expect("a put");
        engine.commit().expect("a commit");
        drop(engine);
        let records = EngineRecords::open(&env(&disk), Options::default()).expect("records open");
        assert_eq!(records.read().expect("they read"), [written], "{key}");
    }
}

/// Whatever can be written is written in one of the golden files, and is numbered as it always was.
#[test]
fn golden_files_have_one_of_each() {
    let (mut in_frames, mut in_records) = (Seen::default(), Seen::default());
    messages().iter().chain(&nested()).for_each(|message| in_frames.visit(message));
    records().iter().flatten().for_each(|record| in_records.visit(record));

    let every = every_variant();
    let mut seen = in_frames.variants();
    seen.extend(in_records.variants().into_iter().filter(|(name, _)| *name == "Record"));
    assert_eq!(seen, every);
    // Of the replies, records have those that are remembered.
    for (name, variants) in in_records.variants().into_iter().filter(|(name, _)| *name != "Reply") {
        assert_eq!(variants, every[name], "{name} in records");
    }
    assert_eq!(in_frames.never_filled(), []);
    assert_eq!(in_records.never_filled(), []);
}
