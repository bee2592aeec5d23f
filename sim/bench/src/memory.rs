//! Memory over 10,000 runs in one process, as the operating system sees it. What exactly is left behind, byte by byte, is counted by
//! `sim/tests/memory.rs`.

const RUNS: u64 = 10_000;

/// What a process may grow by without anything being left behind: the allocator's own doing.
const SLACK_KIB: u64 = 2_048;

/// Runs and prints; false if memory grew. Without `/proc` nothing is measured, and said so.
pub fn stays_flat(run: impl Fn(u64)) -> bool {
    (0..RUNS / 10).for_each(&run);
    let Some(before) = resident_kib() else {
        println!("memory: not measured, there is no /proc/self/status here");
        return true;
    };
    (RUNS / 10..RUNS).for_each(&run);
    let after = resident_kib().unwrap_or(before);
    println!("memory: {before} KiB resident after {} runs, {after} KiB after {RUNS}", RUNS / 10);
    after <= before + SLACK_KIB
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
