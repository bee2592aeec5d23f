//! The simulator beside others on one workload, as ratios in one go: `cargo xtask bench sim`.
//!
//! The rounds of all simulators alternate, so that whatever else the machine does meets all of them; the best round of each counts. A run is a
//! fresh thread. Runs are spread over two threads that start them.
//!
//! Ends with exit code 100 if it is not at least 1.3 times as fast as madsim's own rpc.

mod madsim_rpc;
mod on_turmoil;
mod ours;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

/// Round trips in one large world.
const LARGE: u64 = 30_000;
const ROUNDS: usize = 5;
/// Small worlds per round.
const WORLDS: u64 = 1_000;

struct Simulator {
    name: &'static str,
    run: fn(u64, u64),
    /// How much less of it is run, so that a round of a slow one does not take minutes.
    fraction: u64,
}

const SIMULATORS: [Simulator; 3] = [
    Simulator { name: "this one", run: |seed, total| _ = ours::run(seed, total), fraction: 1 },
    Simulator { name: "madsim's rpc", run: madsim_rpc::run, fraction: 1 },
    Simulator { name: "turmoil", run: on_turmoil::run, fraction: 10 },
];

fn main() -> ExitCode {
    assert_eq!(ours::run(7, 100), ours::run(7, 100), "a seed is one run");
    let (mut trips, mut runs) = ([0.0_f64; 3], [0.0_f64; 3]);
    for round in 0..ROUNDS as u64 {
        for (at, simulator) in SIMULATORS.iter().enumerate() {
            let total = LARGE / simulator.fraction;
            let began = Instant::now();
            (simulator.run)(round, total);
            trips[at] = trips[at].max(total as f64 / began.elapsed().as_secs_f64());
            runs[at] = runs[at].max(worlds_per_second(simulator));
        }
    }
    println!("{:<14} {:>14} {:>7} {:>10} {:>7}", "", "round trips/s", "ratio", "runs/s", "ratio");
    for (at, simulator) in SIMULATORS.iter().enumerate() {
        println!(
            "{:<14} {:>14.0} {:>7.2} {:>10.0} {:>7.2}",
            simulator.name,
            trips[at],
            trips[0] / trips[at],
            runs[at],
            runs[0] / runs[at]
        );
    }
    println!(
        "a run: a fresh thread, 4 nodes, {} round trips; only this one has history, trace hash and faults on",
        workload::SMALL
    );
    if trips[0] >= 1.3 * trips[1] { ExitCode::SUCCESS } else { ExitCode::from(100) }
}

fn worlds_per_second(simulator: &Simulator) -> f64 {
    let worlds = WORLDS / simulator.fraction;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..worlds / 2).for_each(|number| (simulator.run)(2 * number + half, workload::SMALL)));
        }
    });
    worlds as f64 / began.elapsed().as_secs_f64()
}
