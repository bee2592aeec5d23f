//! Taking one fault out of a plan leaves every other decision as it was: what the network does to the nth frame of a link, when the other faults
//! begin, which id a wiped disk gets, which bits rot.
//!
//! The system sends and writes by the clock alone, whatever it receives, so that both runs make the same decisions wherever they go on.
#![cfg(madsim)]

use std::collections::BTreeMap;

use miroir_sim::fault::{Intensity, Kind, draw_faults};
use miroir_sim::plan::{Fault, FaultKind, NetworkPlan, SimPlan};
use miroir_sim::time::{MICROS, MILLIS, Nanos, SECONDS};
use miroir_sim::world::Setup;
use miroir_sim::{Dice, Event, Mode, ProcessId, Ratio, Seed, Trace, World};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[derive(Debug, Default)]
struct Decisions {
    /// Per link and ordinal: lost, or late by this many simulated nanoseconds. Frames that a fault took are left out.
    frames: BTreeMap<(ProcessId, ProcessId, usize), Option<Nanos>>,
    /// Per fault: when it began.
    begun: BTreeMap<String, Nanos>,
    /// Per wipe: the new id.
    ids: BTreeMap<Nanos, u128>,
}

fn decisions(seed: u64, faults: Vec<Fault>) -> Decisions {
    let network = NetworkPlan { loss: Ratio::of(1, 10), ..NetworkPlan::default() };
    let plan = SimPlan { network, faults, ..SimPlan::default() };
    let setup = Setup { seed: Seed(seed), plan, trace: Trace::new(Mode::Full), limit: 10 * SECONDS };
    let ended = World::run(setup, |world| async move {
        let ids = NODES.map(|name| world.register(name));
        for process in ids {
            let (world, disk) = (world.clone(), world.new_disk(process));
            world.clone().start(process, move |life| {
                let (world, endpoint, disk) = (world.clone(), world.endpoint(life), disk.clone());
                async move {
                    loop {
                        world.sleep_until((world.now() / (2 * MILLIS) + 1) * 2 * MILLIS).await;
                        ids.into_iter().filter(|&to| to != process).for_each(|to| endpoint.send(to, vec![1; 20]));
                        let Ok(file) = disk.mount().open("data") else { return };
                        if file.write_at(0, &[1; 64]).and_then(|()| file.sync()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        world.arm_faults().expect("a good plan");
        world.sleep(SECONDS).await;
    });
    ended.result.expect("runs");
    let mut found = Decisions::default();
    let mut sent = BTreeMap::new();
    let mut count: BTreeMap<(ProcessId, ProcessId), usize> = BTreeMap::new();
    for kept in ended.trace.kept() {
        match kept.event {
            Event::Send { from, to, id, .. } => {
                sent.insert(id, (kept.at, *count.entry((from, to)).and_modify(|n| *n += 1).or_default()));
            }
            Event::Deliver { from, to, id } => {
                let (at, ordinal) = sent[&id];
                found.frames.insert((from, to, ordinal), Some(kept.at - at));
            }
            Event::Drop { from, to, id, why } if &*why == "loss" => {
                found.frames.insert((from, to, sent[&id].1), None);
            }
            Event::Fault { id, begin: true, .. } => _ = found.begun.insert(id.to_string(), kept.at),
            Event::DiskFormat { disk_id, .. } if kept.at > 0 => _ = found.ids.insert(kept.at / MILLIS, disk_id),
            _ => {}
        }
    }
    found
}

fn close(one: Nanos, two: Nanos) -> bool {
    one.abs_diff(two) < 20 * MICROS // the executor moves time on a little with each task that runs
}

#[test]
fn without_one_fault_every_other_decision_is_the_same() {
    // What holds frames back or changes a link's chances moves frames of that link by design; its own test is in `net`.
    let storm = Intensity { per_second: 15, min_ms: 5, max_ms: 80, budget: Some(3), ..Intensity::storm() };
    let storm = storm.with(&[Kind::Wipe, Kind::FlipBits]).without(&[Kind::Link, Kind::Clog]);
    let (mut compared, mut losses, mut ids, mut removed) = (0, 0, 0, 0);
    for seed in 0..60 {
        let faults = draw_faults(&Dice::new(Seed(seed)), &NODES, SECONDS, &storm);
        if faults.len() < 2 {
            continue;
        }
        let whole = decisions(seed, faults.clone());
        for out in [0, faults.len() / 2, faults.len() - 1] {
            let mut rest = faults.clone();
            let gone = rest.remove(out);
            let without = decisions(seed, rest);
            removed += 1;
            for (id, at) in whole.begun.iter().filter(|(id, _)| **id != gone.id) {
                assert!(close(*at, without.begun[id]), "seed {seed} without {}: {id} began elsewhere", gone.id);
            }
            for (frame, fate) in &whole.frames {
                let Some(other) = without.frames.get(frame) else { continue };
                let same = match (fate, other) {
                    (Some(one), Some(two)) => close(*one, *two),
                    (one, two) => one == two,
                };
                assert!(same, "seed {seed} without {}: frame {frame:?} had {fate:?} and has {other:?}", gone.id);
                compared += 1;
                losses += u64::from(fate.is_none());
            }
            for (at, id) in whole.ids.iter().filter(|_| !matches!(gone.kind, FaultKind::Wipe { .. })) {
                if let Some(other) = without.ids.get(at) {
                    assert_eq!(id, other, "seed {seed} without {}: a wiped disk got another id", gone.id);
                    ids += 1;
                }
            }
        }
    }
    assert!(
        compared > 100_000 && losses > 5_000 && ids > 20 && removed > 100,
        "{compared} frames, {losses} lost, {ids} ids, {removed} removed"
    );
}
