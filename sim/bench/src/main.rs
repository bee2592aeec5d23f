//! The simulator beside others on one workload, as ratios in one go: `cargo xtask bench sim`.
//!
//! The rounds of all simulators alternate, so that whatever else the machine does meets all of them; the best round of each counts. A run is a
//! fresh thread. Runs are spread over two threads that start them. With names as arguments, only those simulators run, beside this one.
//!
//! Ends with exit code 100 if it is not at least 1.3 times as fast as madsim's own rpc, or if its memory grows over 10,000 runs.

mod madsim_rpc;
mod memory;
mod on_moonpool;
mod on_turmoil;
mod ours;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Round trips in one large world.
const LARGE: u64 = 30_000;
const ROUNDS: u64 = 5;
/// Small worlds per round.
const WORLDS: u64 = 2_000;
/// How much faster than madsim's rpc this one has to be, in tenths.
const AT_LEAST_TENTHS: f64 = 13.0;

struct Simulator {
    name: &'static str,
    run: fn(u64, u64),
    /// How much less of it is run, so that a round of a slow one does not take minutes.
    fraction: u64,
}

const SIMULATORS: [Simulator; 4] = [
    Simulator { name: "this one", run: |seed, total| _ = ours::run(seed, total), fraction: 1 },
    Simulator { name: "madsim", run: madsim_rpc::run, fraction: 1 },
    Simulator { name: "moonpool", run: on_moonpool::run, fraction: 10 },
    Simulator { name: "turmoil", run: on_turmoil::run, fraction: 10 },
];

/// The best round of one simulator, per second.
#[derive(Clone, Copy, Default)]
struct Best {
    trips: f64,
    runs: f64,
}

fn main() -> ExitCode {
    assert_eq!(ours::run(7, 100), ours::run(7, 100), "a seed is one run");
    let names: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |at: usize| at == 0 || names.is_empty() || names.iter().any(|name| name == SIMULATORS[at].name);
    let mut best = [Best::default(); SIMULATORS.len()];
    for round in 0..ROUNDS {
        for (at, simulator) in SIMULATORS.iter().enumerate().filter(|&(at, _)| chosen(at)) {
            best[at].trips = best[at].trips.max(round_trips_per_second(simulator, round));
            best[at].runs = best[at].runs.max(runs_per_second(simulator));
        }
    }
    println!("{:<10} {:>14} {:>7} {:>10} {:>7}", "", "round trips/s", "ratio", "runs/s", "ratio");
    for at in (0..SIMULATORS.len()).filter(|&at| chosen(at)) {
        let (Best { trips, runs }, ours) = (best[at], best[0]);
        let name = SIMULATORS[at].name;
        println!("{name:<10} {trips:>14.0} {:>7.2} {runs:>10.0} {:>7.2}", ours.trips / trips, ours.runs / runs);
    }
    println!(
        "a run: a fresh thread, 4 nodes, {} round trips, on two threads; only this one has history, trace hash and faults on",
        workload::SMALL
    );
    match on_moonpool::FAILED.load(Ordering::Relaxed) {
        0 => (),
        failed => println!("moonpool called {failed} of its runs failed; they are counted as runs"),
    }
    let flat = memory::stays_flat(|seed| _ = ours::run(seed, workload::SMALL));
    let fast = !chosen(1) || 10.0 * best[0].trips >= AT_LEAST_TENTHS * best[1].trips;
    if fast && flat { ExitCode::SUCCESS } else { ExitCode::from(100) }
}

fn round_trips_per_second(simulator: &Simulator, seed: u64) -> f64 {
    let total = LARGE / simulator.fraction;
    let began = Instant::now();
    (simulator.run)(seed, total);
    total as f64 / began.elapsed().as_secs_f64()
}

fn runs_per_second(simulator: &Simulator) -> f64 {
    let worlds = WORLDS / simulator.fraction;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..worlds / 2).for_each(|number| (simulator.run)(2 * number + half, workload::SMALL)));
        }
    });
    worlds as f64 / began.elapsed().as_secs_f64()
}
