//! Whatever was committed is there after any crash, and nothing that was not is there by half.

use std::sync::Arc;

use miroir_store::engine::{Effect, Engine, Options};
use miroir_store::error::EngineError;

use crate::disk::{Failure, Rng, TestDisk};
use crate::model::{Model, Step};
use crate::tried::{tell, wanted};

/// What a node left behind when it died.
struct Death {
    /// Everything whose commit returned `Ok`.
    committed: Model,
    /// That, and the group whose commit was cut short, if there was one.
    attempted: Option<Model>,
}

/// Works on an engine until the disk fails. What the engine answers on the way is compared with the model.
fn work(mut engine: Engine, mut committed: Model, rng: &mut Rng, clock: &mut u64) -> Death {
    loop {
        let mut staged = committed.clone();
        let mut effects: Vec<Effect> = Vec::new();
        for _ in 0..=rng.below(5) {
            let step = Step::draw(rng, clock);
            match step.stage(&mut engine) {
                Ok(answer) => {
                    let (expected, effect) = staged.apply(&step);
                    assert_eq!(answer, expected, "{step:?}");
                    effects.extend(effect);
                }
                Err(error) => {
                    assert_is_death(&error);
                    return Death { committed, attempted: None };
                }
            }
        }
        if rng.chance(1, 50)
            && let Ok(seen) = Model::of(&engine)
        {
            assert_eq!(seen, staged, "reads include what is staged");
        }
        let done = if rng.chance(1, 60) { engine.compact() } else { engine.commit() };
        match done {
            Ok(done) => {
                assert_eq!(done, effects);
                committed = staged;
            }
            Err(error) => {
                assert_is_death(&error);
                return Death { committed, attempted: Some(staged) };
            }
        }
    }
}

/// A process that dies sees its disk fail; anything else would be rot that nobody made.
fn assert_is_death(error: &EngineError) {
    assert!(matches!(error, EngineError::Io(_) | EngineError::Poisoned), "{error}");
}

fn options(rng: &mut Rng) -> Options {
    Options {
        flush_writes: [4, 12, 40, 200][rng.below(4) as usize],
        flush_bytes: [4_000, 60_000, 1 << 20][rng.below(3) as usize],
        cache_bytes: [0, 40_000, 1 << 20][rng.below(3) as usize],
        names_bytes: [0, 600, 1 << 20][rng.below(3) as usize],
        row_cache_bytes: [0, 1_000, 1 << 20][rng.below(3) as usize],
        ..Options::default()
    }
}

/// One machine, crashed again and again: in commits, in flushes, in recovery, in first creation. How many openings were cut
/// short, and after how many crashes something committed was gone or something else was there by half.
fn torture(seed: u64, crashes: u64) -> (u64, u64) {
    let mut rng = Rng(seed);
    let mut disk = TestDisk::default();
    let mut model = Model::default();
    let mut attempted = None;
    let mut clock = 0;
    let (mut recoveries_cut, mut broken) = (0, 0);
    let mut formatted = None;
    for crash in 0..crashes {
        // Often the next crash hits while the engine is being opened, or soon after.
        let span = [30, 60, 400][rng.below(3) as usize];
        disk.fail(1 + rng.below(span), Failure::Death);
        let fresh = rng.bits();
        match Engine::open(Arc::new(disk.clone()), options(&mut rng), fresh) {
            Err(EngineError::Io(_)) => recoveries_cut += 1,
            Err(error) => panic!("seed {seed}: no crash is rot: {error}"),
            Ok(engine) => {
                let id = *formatted.get_or_insert(engine.disk_id());
                assert_eq!(engine.disk_id(), id, "seed {seed}: a disk keeps its id from its first opening on");
                if let Ok(found) = Model::of(&engine) {
                    broken += u64::from(!is_whole(&found, &model, attempted.as_ref(), seed, crash));
                    let death = work(engine, found, &mut rng, &mut clock);
                    model = death.committed;
                    attempted = death.attempted;
                }
            }
        }
        // Mostly the power fails; sometimes only the process dies, and what it wrote stays in the cache.
        disk = if rng.chance(1, 4) { disk.restart() } else { disk.crash(&mut rng) };
    }
    let engine = Engine::open(Arc::new(disk), options(&mut rng), 0).expect("a healthy disk opens");
    let found = Model::of(&engine).expect("a healthy disk reads");
    broken += u64::from(!is_whole(&found, &model, attempted.as_ref(), seed, crashes));
    (recoveries_cut, broken)
}

/// Whether everything committed was found after these crashes, and a commit that was cut short wholly or not at all.
fn is_whole(found: &Model, committed: &Model, attempted: Option<&Model>, seed: u64, crashes: u64) -> bool {
    let whole = found == committed || Some(found) == attempted;
    if !whole {
        println!("seed {seed}, {crashes} crashes: {found:?} was found, and committed was {committed:?}");
    }
    whole
}

/// Compactions, scrubs and forgotten tombstones are among what is cut short.
#[test]
fn committed_groups_survive_every_crash() {
    const PER_MACHINE: u64 = 25;
    let machines = wanted("MIROIR_CRASHES", 1_500).div_ceil(PER_MACHINE);
    let (mut recoveries_cut, mut broken) = (0, 0);
    for (cut, lost) in (0..machines).map(|seed| torture(seed, PER_MACHINE)) {
        recoveries_cut += cut;
        broken += lost;
    }
    let crashes = machines * PER_MACHINE;
    tell(
        "crashes",
        &[(crashes, "crashes"), (recoveries_cut, "while an engine was being opened"), (broken, "lost or half there")],
    );
    assert_eq!(broken, 0);
    assert!(recoveries_cut > crashes / 15);
}
