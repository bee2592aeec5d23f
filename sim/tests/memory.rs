//! Memory stays flat over many runs in one process: what a run has allocated is gone when it has ended, also when it broke.
#![cfg(madsim)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use miroir_sim::fault::{Intensity, draw_faults};
use miroir_sim::plan::SimPlan;
use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_sim::world::Setup;
use miroir_sim::{Dice, Mode, Seed, Trace, World};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: everything is passed on to the system's allocator; the counter is on the side.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Three processes that gossip and write while faults happen.
fn run(seed: u64, breaks: bool) {
    let nodes = ["n1", "n2", "n3"];
    let storm = Intensity { per_second: 30, ..Intensity::storm() };
    let plan = SimPlan { faults: draw_faults(&Dice::new(Seed(seed)), &nodes, SECONDS, &storm), ..SimPlan::default() };
    let setup = Setup { seed: Seed(seed), plan, trace: Trace::new(Mode::Off), limit: 10 * SECONDS };
    let ended = World::run(setup, move |world| async move {
        let ids = nodes.map(|name| world.register(name));
        for process in ids {
            let (world, disk) = (world.clone(), world.new_disk(process));
            world.clone().start(process, move |life| {
                let (world, disk) = (world.clone(), disk.clone());
                async move {
                    let endpoint = world.endpoint(life);
                    let Ok(file) = disk.mount().open("log") else { return };
                    loop {
                        for peer in ids {
                            endpoint.send(peer, vec![7; 100]);
                        }
                        endpoint.recv(world.now() + 5 * MILLIS).await;
                        if file.write_at(0, &[7; 100]).and_then(|()| file.sync()).is_err() {
                            return;
                        }
                        let _abandoned: Nanos = abandon_a_sleep(&world).await;
                    }
                }
            });
        }
        world.arm_faults().expect("a good plan");
        world.sleep(SECONDS).await;
        assert!(!breaks, "on purpose");
    });
    assert_eq!(ended.result.is_err(), breaks);
    assert!(ended.trace.count() > 500, "something went on: {:?}", ended.trace);
}

/// Makes a long sleep and drops it: the entry has to go with it.
async fn abandon_a_sleep(world: &World) -> Nanos {
    let long = world.sleep(100 * SECONDS);
    world.sleep(MILLIS).await;
    drop(long);
    world.now()
}

#[test]
fn memory_stays_flat_over_many_runs() {
    for breaks in [false, true] {
        (0..30).for_each(|seed| run(seed, breaks));
        let before = LIVE.load(Ordering::Relaxed);
        (0..100).for_each(|seed| run(seed, breaks));
        let grown = LIVE.load(Ordering::Relaxed) - before;
        assert!(grown < 100 * 64, "{grown} bytes are left behind by 100 runs (broken on purpose: {breaks})");
    }
}

/// `cargo test -p miroir-sim --release --test memory -- --ignored`, with the simulator's cfg.
#[test]
#[ignore = "10,000 runs: a minute"]
fn memory_stays_flat_over_ten_thousand_runs() {
    (0..100).for_each(|seed| run(seed, false));
    let before = LIVE.load(Ordering::Relaxed);
    for thousand in 1..=10 {
        (0..1_000).for_each(|seed| run(seed, false));
        let grown = LIVE.load(Ordering::Relaxed) - before;
        println!("after {thousand}000 runs: {grown} bytes more than before");
        assert!(grown < 64 * 1024, "{grown} bytes are left behind");
    }
}
