//! What faults do to the world, as plain data.

use crate::plan::{Direction, FaultKind};
use crate::process::{Names, ProcessId};
use crate::ratio::Ratio;
use crate::time::{MICROS, MILLIS, Nanos};

/// One action on the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing has to be done.
    Nothing,
    /// Kill the process and keep it down until [`Act::Release`] by the same fault.
    Crash { process: ProcessId, wipe: bool },
    /// Arm a crash in the disk.
    ArmCrash { process: ProcessId, after_disk_ops: u64 },
    /// Disarm it, if it has not gone off.
    Disarm { process: ProcessId },
    /// No longer keep the process down.
    Release { process: ProcessId },
    /// Stop it.
    Pause { process: ProcessId },
    /// Let it run.
    Resume { process: ProcessId },
    /// Cut directed links.
    Cut { links: Vec<(ProcessId, ProcessId)> },
    /// Take that back.
    Mend { links: Vec<(ProcessId, ProcessId)> },
    /// Make a directed link worse, under the fault's token.
    Worsen { from: ProcessId, to: ProcessId, loss: Ratio, delay: Nanos, bandwidth_mbit: u64, frames: u64 },
    /// Take that back.
    Relieve { from: ProcessId, to: ProcessId },
    /// Hold what travels on a directed link.
    Clog { from: ProcessId, to: ProcessId },
    /// Let it arrive.
    Unclog { from: ProcessId, to: ProcessId },
    /// Let the next sync fail.
    FailSync { process: ProcessId },
    /// Each sync takes so much longer.
    Stall { process: ProcessId, by: Nanos },
    /// Take that back.
    Unstall { process: ProcessId, by: Nanos },
    /// Fail reads and writes, or no longer.
    DiskErrors { process: ProcessId, on: bool },
    /// Fill the disk, or free it.
    DiskFull { process: ProcessId, full: bool },
    /// Flip bits at rest.
    FlipBits { process: ProcessId, count: u32 },
    /// Jump and drift a clock.
    Clock { process: ProcessId, jump_ns: i64, drift_ppm: i64 },
    /// Set it right.
    RepairClock { process: ProcessId },
}

/// The action that begins a fault. A split has to be drawn before.
pub(super) fn act(kind: &FaultKind, names: &Names) -> Act {
    let id = |name: &str| names.find(name).expect("a checked plan names registered processes");
    match kind {
        FaultKind::Crash { process, .. } => Act::Crash { process: id(process), wipe: false },
        FaultKind::Wipe { process, .. } => Act::Crash { process: id(process), wipe: true },
        FaultKind::CrashInCommit { process, after_disk_ops, .. } => {
            Act::ArmCrash { process: id(process), after_disk_ops: *after_disk_ops }
        }
        FaultKind::Pause { process, .. } => Act::Pause { process: id(process) },
        FaultKind::Partition { a, b, direction, .. } => {
            let mut links = Vec::new();
            for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (id(a), id(b)))) {
                if *direction != Direction::BToA {
                    links.push((a, b));
                }
                if *direction != Direction::AToB {
                    links.push((b, a));
                }
            }
            Act::Cut { links }
        }
        FaultKind::Split { .. } => unreachable!("the sides are drawn before"),
        FaultKind::Link { from, to, loss, delay_us, bandwidth_mbit, frames, .. } => Act::Worsen {
            from: id(from),
            to: id(to),
            loss: *loss,
            delay: delay_us.saturating_mul(MICROS),
            bandwidth_mbit: *bandwidth_mbit,
            frames: *frames,
        },
        FaultKind::Clog { from, to, .. } => Act::Clog { from: id(from), to: id(to) },
        FaultKind::FailSync { process } => Act::FailSync { process: id(process) },
        FaultKind::Stall { process, stall_ms, .. } => {
            Act::Stall { process: id(process), by: stall_ms.saturating_mul(MILLIS) }
        }
        FaultKind::DiskErrors { process, .. } => Act::DiskErrors { process: id(process), on: true },
        FaultKind::DiskFull { process, .. } => Act::DiskFull { process: id(process), full: true },
        FaultKind::FlipBits { process, count } => Act::FlipBits { process: id(process), count: *count },
        FaultKind::Clock { process, jump_ms, drift_ppm, .. } => {
            Act::Clock { process: id(process), jump_ns: jump_ms.saturating_mul(MILLIS as i64), drift_ppm: *drift_ppm }
        }
    }
}

/// The action that takes one back; none if there is nothing to take back.
pub(super) fn end_of(act: &Act) -> Option<Act> {
    match act {
        Act::Crash { process, .. } => Some(Act::Release { process: *process }),
        Act::ArmCrash { process, .. } => Some(Act::Disarm { process: *process }),
        Act::Pause { process } => Some(Act::Resume { process: *process }),
        Act::Cut { links } => Some(Act::Mend { links: links.clone() }),
        Act::Worsen { from, to, .. } => Some(Act::Relieve { from: *from, to: *to }),
        Act::Clog { from, to } => Some(Act::Unclog { from: *from, to: *to }),
        Act::Stall { process, by } => Some(Act::Unstall { process: *process, by: *by }),
        Act::DiskErrors { process, .. } => Some(Act::DiskErrors { process: *process, on: false }),
        Act::DiskFull { process, .. } => Some(Act::DiskFull { process: *process, full: false }),
        Act::Clock { process, .. } => Some(Act::RepairClock { process: *process }),
        _ => None,
    }
}
