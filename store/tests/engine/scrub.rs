//! What rots behind the back of a running engine is found by the next pass of the scrub.

use miroir_store::config::{Replica, ShardConfig};
use miroir_store::engine::Options;
use miroir_store::env::{Peer, millis};
use miroir_store::error::EngineError;
use miroir_store::id::{DiskId, Epoch, Key, NodeId, Session, ShardId};
use miroir_store::node::Node;
use miroir_store::wire::{Message, Op, Purpose, RequestId, Shipped, Token};

use crate::disk::{Rng, TestDisk};
use crate::model::{Model, config, key, version};
use crate::reconcile::env;
use crate::rot::{FLIPPED_FILES, Places, answers_are_right, filled, open, redb_walks_when_it_opens};
use crate::tried::{tell, wanted};

const S0: ShardId = ShardId(0);

/// A bit flips on the disk of an engine that has everything it needs in memory, so that no read would notice. One pass
/// later it is known: as an error, as the mark of a copy, or as a log that was replaced. A flip that the pass says
/// nothing about is one that changes nothing, also not for the process that starts on this disk next.
#[test]
fn what_a_flip_made_vanish_is_found_by_one_pass() {
    let (mut flips, mut files, mut copies, mut logs, mut harmless, mut undetected) = (0, 0, 0, 0, 0, 0);
    for seed in 10..14 {
        let (disk, _) = filled(seed);
        let mut rng = Rng(seed);
        for (name, _) in disk.files() {
            let places = Places::of(&disk.bytes(&name));
            for _ in 0..wanted("MIROIR_FLIPS", 3_200) / FLIPPED_FILES {
                flips += 1;
                let bit = places.draw(&mut rng);
                let rotten = disk.copy();
                let mut engine = open(&rotten, 1_000).expect("nothing has rotted yet");
                let model = Model::of(&engine).expect("it reads, and its caches are warm");
                rotten.flip(&name, bit);
                let (mut marked, mut replaced) = (false, false);
                let pass = loop {
                    match engine.scrub(1 + rng.below(40) as usize) {
                        Ok(step) => {
                            marked |= !step.damaged.is_empty();
                            replaced |= step.replaced;
                            if step.finished {
                                break Ok(());
                            }
                        }
                        Err(error) => break Err(error),
                    }
                };
                match pass {
                    Err(EngineError::Corrupt { .. }) => {
                        files += 1;
                        continue;
                    }
                    Err(error) => panic!("{name}, bit {bit}: {error}"),
                    Ok(()) => {}
                }
                engine.commit().expect("a commit");
                answers_are_right(&engine, &model, bit);
                match (marked, replaced) {
                    (true, _) => copies += 1,
                    (false, true) => logs += 1,
                    (false, false) => harmless += 1,
                }
                drop(engine);
                // What a pass found nothing wrong with, and what it repaired, is whole for the next process, too.
                match open(&rotten.restart(), 1_000) {
                    Ok(engine) if answers_are_right(&engine, &model, bit) || marked => {}
                    _ => undetected += 1,
                }
            }
        }
    }
    tell(
        "flips under a running engine",
        &[
            (flips, "flips"),
            (undetected, "undetected after one pass"),
            (files, "in what all shards need"),
            (copies, "in a copy"),
            (logs, "in the log or in what was wiped"),
            (harmless, "in nothing that is read"),
        ],
    );
    assert_eq!(undetected, 0);
    assert!(flips >= 3_000 && copies > 100 && logs > 300 && harmless > 0);
}

/// Writes, deletes and forgotten tombstones come between the steps, in front of the cursor and behind it.
#[test]
fn a_pass_follows_the_writes_that_come_between() {
    for seed in 0..30 {
        let mut rng = Rng(seed);
        let (disk, _) = filled(seed);
        let mut engine = open(&disk, 60).expect("it opens");
        let mut passes = 0;
        for n in 0..2_000 {
            let (name, counter) = (key(rng.below(60)), 10_000 + n);
            let shard = ShardId(rng.below(3) as u32);
            match rng.below(20) {
                0 => {
                    engine.drop_copy(shard).expect("a drop");
                }
                1 => engine.install(&config(shard, counter), true).expect("an install"),
                2..6 => {
                    let held = engine.get(shard, &name).expect("a read").map(|held| held.version);
                    engine.forget(shard, &name, held.unwrap_or_default()).expect("a tombstone or not");
                }
                6..10 => drop(engine.put(shard, &name, version(counter, 1), None).expect("a put")),
                10..14 => {
                    let body = vec![n as u8; rng.below(90) as usize].into();
                    engine.put(shard, &name, version(counter, 1), Some(body)).expect("a put");
                }
                _ => {
                    let step = engine.scrub(1 + rng.below(12) as usize).expect("a step");
                    assert!(step.damaged.is_empty(), "seed {seed}: nothing has rotted");
                    passes += u64::from(step.finished);
                }
            }
            if rng.chance(1, 3) {
                engine.commit().expect("a commit");
            }
        }
        assert!(passes > 10, "seed {seed}: {passes} passes");
    }
}

#[test]
fn a_budget_is_kept_and_an_empty_engine_is_clean() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 512).expect("a fresh disk opens");
    assert!(engine.scrub(10).expect("a step").finished);
    for n in 0..100 {
        engine.put(S0, &Key::new("c", &n.to_string()).expect("a key"), version(n + 1, 1), None).expect("a put");
    }
    engine.commit().expect("a commit");
    let mut steps = Vec::new();
    loop {
        let step = engine.scrub(30).expect("a step");
        steps.push(step.documents);
        if step.finished {
            break;
        }
    }
    assert_eq!(steps, [30, 30, 30, 10]);
}

/// A node that nobody asks for what has rotted finds it by itself, a little at a time. From then on its copy neither
/// answers nor is a source, also after a restart.
#[test]
fn a_node_searches_in_the_background() {
    if redb_walks_when_it_opens() {
        return;
    }
    let disk = TestDisk::default();
    let env = env(&disk);
    let options = Options { scrub_every: millis(10), scrub_documents: 20, ..Options::default() };
    let mut node = Node::open(NodeId(0), &env, options.clone()).expect("a fresh disk");
    let replica = Replica { node: NodeId(0), session: Session(Epoch::FIRST), disk: DiskId(7) };
    let config = ShardConfig::initial(S0, 1, vec![replica]);
    node.receive(0, Peer::Coordinator, Message::Install { config }).expect("an install");
    let documents =
        (0..200).map(|n| Shipped { key: key(n), version: version(n + 1, 1), value: Some([0xa5; 100].into()) });
    let request = RequestId { job: 0, n: 0 };
    let repair = Message::Repair {
        request,
        shard: S0,
        epoch: Epoch::FIRST,
        session: Session(Epoch::FIRST),
        purpose: Purpose::AntiEntropy,
        documents: documents.collect(),
        raise_to: 200,
        end: None,
    };
    node.receive(0, Peer::Coordinator, repair).expect("a repair");
    node.commit(&env).expect("a commit");
    node.checkpoint(&env).expect("a flush");
    node.drain_answers();
    let answer = |node: &mut Node, message: Message| {
        node.receive(0, Peer::Client(1), message).expect("a healthy disk");
        node.commit(&env).expect("a commit");
        node.drain_answers().pop().map(|(_, answer)| answer)
    };
    let ops = vec![(Token { operation: 1, attempt: 1 }, Op::Read { key: key(3) })];
    let read = Message::Batch { shard: S0, epoch: Epoch::FIRST, ops };
    let digest = Message::Digest { request, shard: S0, epoch: Epoch::FIRST };
    assert!(matches!(answer(&mut node, read.clone()), Some(Message::Answers { .. })));

    // A whole pass finds nothing.
    for _ in 0..12 {
        let now = node.deadline();
        node.tick(now).expect("a step");
    }
    assert!(!node.engine().shard(S0).expect("known").damaged);
    let at = disk.bytes("pages.1").windows(100).position(|bytes| bytes == [0xa5; 100]).expect("a document");
    disk.flip("pages.1", at as u64 * 8);
    let mut steps = 0;
    while !node.engine().shard(S0).expect("known").damaged {
        let now = node.deadline();
        node.tick(now - 1).expect("it is not due yet");
        node.tick(now).expect("a step");
        assert_eq!(node.deadline(), now + millis(10));
        steps += 1;
        assert!(steps <= 2 * 12, "two passes must find it");
    }
    for question in [&read, &digest] {
        let silence = answer(&mut node, question.clone());
        assert!(matches!(silence, Some(Message::Unable { .. } | Message::Unserved { .. })), "{silence:?}");
    }
    drop(node);
    let node = Node::open(NodeId(0), &crate::reconcile::env(&disk.crash(&mut Rng(1))), options).expect("it opens");
    assert!(node.engine().shard(S0).expect("known").damaged, "the mark is durable");
}

/// What a process has written itself it has counted; what it finds in the pages it counts as a pass goes over it.
#[test]
fn tombstones_that_were_there_are_counted_by_one_pass() {
    let disk = TestDisk::default();
    let mut engine = open(&disk, 4).expect("an empty disk");
    for n in 0..20_u64 {
        let value = (!n.is_multiple_of(5)).then(|| vec![1; 9].into());
        engine.put(S0, &key(n), version(n + 1, 5), value).expect("a put");
        engine.commit().expect("a commit");
    }
    assert_eq!(engine.tombstones(S0), Some(4));
    drop(engine);
    let mut engine = open(&disk.restart(), 4).expect("it recovers");
    assert_eq!(engine.tombstones(S0), None);
    engine.put(S0, &key(1), version(30, 5), None).expect("a put");
    assert_eq!(engine.tombstones(S0), None, "one more than nobody knows");
    while !engine.scrub(3).expect("no rot").finished {
        // Behind the cursor or in front of it, this one gives way to a document.
        engine.put(S0, &key(5), version(31, 5), Some(vec![2; 9].into())).expect("a put");
    }
    assert_eq!(engine.tombstones(S0), Some(4));
    assert!(engine.forget(S0, &key(0), version(1, 5)).expect("it is read"));
    assert_eq!(engine.tombstones(S0), Some(3));
    engine.drop_copy(S0).expect("a drop");
    assert_eq!(engine.tombstones(S0), Some(0));
}
