//! Bytes that nobody meant: every decoder is fed with what golden files look like after an accident. Nothing panics,
//! nothing is taken for what it is not, and nothing allocates what it only claims to hold.
//!
//! The corpus is what tests/golden holds. The mutations are drawn from a seed, so that an input that fails once fails
//! again. `MIROIR_FUZZ=1000000` tries more.

use std::sync::Arc;

use miroir_store::config::ShardConfig;
use miroir_store::engine::{Engine, Options, Stored};
use miroir_store::error::EngineError;
use miroir_store::id::Key;
use miroir_store::wire::{Message, decode, decode_record, encode, encode_record, inward, outward};

use crate::accident::mutate;
use crate::disk::{Rng, TestDisk};
use crate::golden::{committed, disk_of, history, messages, nested};
use crate::tried::{tell, wanted};

fn inputs(default: u64) -> u64 {
    wanted("MIROIR_FUZZ", default)
}

/// A frame that is decoded is one that is encoded the same: there are no two ways to say something.
#[test]
fn frames() {
    let corpus: Vec<Vec<u8>> = messages().iter().chain(&nested()).map(encode).collect();
    let (mut rng, mut decoded) = (Rng(1), 0);
    let tried = inputs(60_000);
    for n in 0..tried {
        let mut frame = corpus[rng.below(corpus.len() as u64) as usize].clone();
        let other = &corpus[rng.below(corpus.len() as u64) as usize];
        mutate(&mut frame, other, &mut rng);
        if let Ok(message) = decode(&frame) {
            decoded += 1;
            assert_eq!(encode(&message), frame, "input {n}: {message:?}");
        }
    }
    tell("fuzzed frames", &[(tried, "fuzz inputs"), (decoded, "were frames as well")]);
    assert!(decoded > tried / 100);
}

/// A frame that comes with a sum is the one that was sent, or an error.
#[test]
fn summed_frames() {
    const SUMMED: u8 = 3;
    let corpus: Vec<Vec<u8>> =
        messages().iter().chain(&nested()).map(|message| outward(encode(message), SUMMED)).collect();
    let mut rng = Rng(4);
    let tried = inputs(60_000);
    for n in 0..tried {
        let sent = &corpus[rng.below(corpus.len() as u64) as usize];
        let mut frame = sent.clone();
        let other = &corpus[rng.below(corpus.len() as u64) as usize];
        mutate(&mut frame, other, &mut rng);
        assert_eq!(inward(frame.clone(), SUMMED).is_ok(), corpus.contains(&frame), "input {n}");
    }
    tell("fuzzed frames with a sum", &[(tried, "fuzz inputs")]);
}

#[test]
fn records() {
    let corpus: Vec<Vec<u8>> = messages()
        .iter()
        .chain(&nested())
        .filter_map(|message| match message {
            Message::Install { config } => Some(encode_record(config)),
            Message::Listing { entries, .. } => Some(encode_record(&entries[0].0)),
            _ => None,
        })
        .collect();
    let mut rng = Rng(2);
    let tried = inputs(30_000);
    for n in 0..tried {
        let mut record = corpus[rng.below(corpus.len() as u64) as usize].clone();
        mutate(&mut record, &corpus[0], &mut rng);
        if let Ok(config) = decode_record::<ShardConfig>(&record) {
            assert_eq!(encode_record(&config), record, "input {n}");
        }
        if let Ok(key) = decode_record::<Key>(&record) {
            assert!(!key.id().is_empty() && !key.collection().is_empty(), "input {n}");
        }
    }
    tell("fuzzed records", &[(tried, "fuzz inputs")]);
}

/// Opens a disk of which a file was mutated. How much of what it then holds was never written; `None`: it does not open.
fn open_mutated(corpus: &TestDisk, history: &[(Key, Stored)], rng: &mut Rng) -> Option<u64> {
    let disk = corpus.copy();
    let files = disk.files();
    let (name, _) = &files[rng.below(files.len() as u64) as usize];
    let mut bytes = disk.bytes(name);
    // Accidents happen where something is; a page file is mostly empty.
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut used = bytes[..end].to_vec();
    let other = used.clone();
    mutate(&mut used, &other, rng);
    bytes.splice(..end, used);
    disk.put_bytes(name, &bytes);
    match Engine::open(Arc::new(disk), Options::default(), 1) {
        Ok(engine) => {
            let mut made_up = 0;
            for (shard, _) in engine.shards() {
                if shard.0 >= 2 {
                    println!("{name}: {shard} was never written");
                    made_up += 1;
                }
                let Ok(page) = engine.page(shard, None, usize::MAX, usize::MAX) else { continue };
                for document in page.documents.iter().filter(|document| !history.contains(document)) {
                    println!("{name}: {shard} {document:?} was never written");
                    made_up += 1;
                }
            }
            Some(made_up)
        }
        Err(EngineError::Corrupt { .. } | EngineError::Format { .. } | EngineError::Io(_)) => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Logs and page files: headers, groups, operations, configurations, rows.
#[test]
fn disks() {
    let log = TestDisk::default();
    log.put_bytes("log.1", &committed("log-v2.bin"));
    let flushed = disk_of(&committed("disk-v2.image"));
    let (mut rng, mut opened, mut with_made_up) = (Rng(3), 0u64, 0u64);
    let tried = inputs(4_000);
    for corpus in [&log, &flushed] {
        for made_up in (0..tried / 2).filter_map(|_| open_mutated(corpus, &history(), &mut rng)) {
            opened += 1;
            with_made_up += u64::from(made_up > 0);
        }
    }
    tell(
        "fuzzed logs and page files",
        &[(tried, "fuzz inputs"), (opened, "opened"), (with_made_up, "with anything that was never written")],
    );
    assert_eq!(with_made_up, 0);
}
