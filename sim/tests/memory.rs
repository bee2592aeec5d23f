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

/// Three processes that gossip and write while faults happen, for so long in simulated time.
fn run(seed: u64, lasts: Nanos, breaks: bool) {
    let nodes = ["n1", "n2", "n3"];
    let per_second = 30 * SECONDS / lasts;
    let storm = Intensity { per_second, min_ms: 1, max_ms: lasts / (2 * MILLIS), ..Intensity::storm() };
    let plan = SimPlan { faults: draw_faults(&Dice::new(Seed(seed)), &nodes, lasts, &storm), ..SimPlan::default() };
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
        world.sleep(lasts).await;
        assert!(!breaks, "on purpose");
    });
    assert_eq!(ended.result.is_err(), breaks);
    assert!(ended.trace.count() > 15, "something went on: {:?}", ended.trace);
}

/// Makes a long sleep and drops it: the entry has to go with it.
async fn abandon_a_sleep(world: &World) -> Nanos {
    let long = world.sleep(100 * SECONDS);
    world.sleep(MILLIS).await;
    drop(long);
    world.now()
}

/// Bytes that `runs` runs leave behind.
fn left_behind(runs: u64, lasts: Nanos, breaks: bool) -> i64 {
    (0..30).for_each(|seed| run(seed, lasts, breaks));
    let before = LIVE.load(Ordering::Relaxed);
    (0..runs).for_each(|seed| run(seed, lasts, breaks));
    LIVE.load(Ordering::Relaxed) - before
}

#[test]
fn memory_stays_flat_over_ten_thousand_runs() {
    // One after the other: what is alive is counted over the whole process.
    for breaks in [false, true] {
        let left = left_behind(100, SECONDS, breaks);
        assert!(left < 100 * 64, "{left} bytes are left behind by 100 long runs (broken on purpose: {breaks})");
    }
    let left = left_behind(10_000, 20 * MILLIS, false);
    assert!(left < 64 * 1024, "{left} bytes are left behind by 10,000 short runs");
    println!("{left} bytes are left behind by 10,000 runs");
}
