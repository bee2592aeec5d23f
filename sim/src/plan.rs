//! What a run may go through, as data: printable, serialisable (TOML, JSON), shrinkable. Nothing here acts; see [`crate::fault`].
//!
//! ```toml
//! [network]
//! latency_min_us = 200
//! latency_mean_us = 800
//! loss = "1/100"
//!
//! [[faults]]
//! id = "f1"
//! at = { signal = "DeltaPass", nth = 1, after_us = 3000 }
//! kind = { crash = { process = "n1", down_ms = 400 } }
//! ```

use serde::{Deserialize, Serialize};

use crate::ratio::Ratio;
use crate::time::{MICROS, Nanos};

/// The simulator's part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimPlan {
    /// How messages travel.
    pub network: NetworkPlan,
    /// How disks behave.
    pub disk: DiskPlan,
    /// How many processes the faults may hurt at once. Without one, nothing is promised and nothing is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What goes wrong, and when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// The behaviour of every link, unless overridden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPlan {
    /// No message is faster, in microseconds.
    pub latency_min_us: u64,
    /// Mean latency, in microseconds; what is above the minimum is exponentially distributed.
    pub latency_mean_us: u64,
    /// Chance that a message takes the slow path on top.
    pub tail: Ratio,
    /// Mean extra latency of the slow path, in microseconds.
    pub tail_mean_us: u64,
    /// Chance that a message is lost.
    pub loss: Ratio,
    /// Chance that a message arrives twice.
    pub duplicate: Ratio,
    /// Chance that a message is held back on purpose, so that later ones overtake it.
    pub reorder: Ratio,
    /// A message held back is late by at most this, in microseconds.
    pub reorder_max_us: u64,
    /// Megabits per second of one directed link; 0 means unlimited.
    pub bandwidth_mbit: u64,
    /// Exceptions, one per directed link.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkPlan>,
}

impl NetworkPlan {
    /// What a frame takes there and back on the average.
    pub fn round_trip(&self) -> Nanos {
        2 * self.latency_mean_us * MICROS
    }
}

impl Default for NetworkPlan {
    fn default() -> Self {
        NetworkPlan {
            latency_min_us: 100,
            latency_mean_us: 500,
            tail: Ratio::ZERO,
            tail_mean_us: 0,
            loss: Ratio::ZERO,
            duplicate: Ratio::ZERO,
            reorder: Ratio::ZERO,
            reorder_max_us: 0,
            bandwidth_mbit: 0,
            links: Vec::new(),
        }
    }
}

/// What one directed link does differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkPlan {
    /// Sender, by name.
    pub from: String,
    /// Receiver, by name.
    pub to: String,
    /// Instead of the network's `loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Ratio>,
    /// Instead of the network's `duplicate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Ratio>,
    /// Instead of the network's `reorder`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Ratio>,
    /// Added to every latency, in microseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_us: u64,
    /// Instead of the network's `bandwidth_mbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbit: Option<u64>,
}

/// How every disk behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskPlan {
    /// Cost of one write, in microseconds.
    pub write_us: u64,
    /// No sync is faster, in microseconds.
    pub sync_min_us: u64,
    /// Mean cost of a sync, in microseconds; what is above the minimum is exponentially distributed.
    pub sync_mean_us: u64,
    /// Chance that a sync stalls.
    pub stall: Ratio,
    /// Mean length of a stall, in milliseconds.
    pub stall_mean_ms: u64,
    /// Chance, at a crash, that an unsynced write survives in whole or in part.
    pub survive: Ratio,
    /// Chance that a surviving unsynced write is torn at 512-byte sectors.
    pub torn: Ratio,
    /// Bytes that fit, over all files; 0 means unlimited.
    pub capacity: u64,
}

impl Default for DiskPlan {
    fn default() -> Self {
        DiskPlan {
            write_us: 5,
            sync_min_us: 100,
            sync_mean_us: 400,
            stall: Ratio::ZERO,
            stall_mean_ms: 0,
            survive: Ratio::of(1, 2),
            torn: Ratio::of(1, 4),
            capacity: 0,
        }
    }
}

/// One planned fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Unique in the plan; names the fault in traces, and keys what chance decides about it.
    pub id: String,
    /// When it begins.
    pub at: When,
    /// What it does.
    pub kind: FaultKind,
}

/// What a fault does. Processes go by name. Durations of zero mean "until the run heals".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// The process dies, loses its memory and (in part) its unsynced writes, and starts again after `down_ms`.
    Crash { process: String, down_ms: u64 },
    /// As `crash`, in the middle of the nth disk operation (write, set_len or sync) after the fault begins, if it comes to that within
    /// `within_ms` (0: at any time until the run heals).
    CrashInCommit {
        process: String,
        after_disk_ops: u64,
        down_ms: u64,
        #[serde(default)]
        within_ms: u64,
    },
    /// The process stands still with all its memory, then goes on in the belief that no time has passed.
    Pause { process: String, for_ms: u64 },
    /// No message passes between the two sides. With `flap_ms`, the cut opens and closes again every so often.
    Partition {
        a: Vec<String>,
        b: Vec<String>,
        #[serde(default)]
        direction: Direction,
        #[serde(default, skip_serializing_if = "is_zero")]
        flap_ms: u64,
        for_ms: u64,
    },
    /// A partition whose sides are drawn when it begins, anew at each occurrence, among these processes.
    Split { among: Vec<String>, shape: Shape, for_ms: u64 },
    /// A directed link gets worse: at least this loss, this delay on top, at most this bandwidth (0: no limit).
    Link {
        from: String,
        to: String,
        #[serde(default)]
        loss: Ratio,
        #[serde(default)]
        delay_us: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        bandwidth_mbit: u64,
        /// It loses at most so many frames; 0: as many as `loss` says.
        #[serde(default, skip_serializing_if = "is_zero")]
        frames: u64,
        for_ms: u64,
    },
    /// What is in flight on a directed link, or sent on it, waits; it arrives when the clog ends.
    Clog { from: String, to: String, for_ms: u64 },
    /// The next sync fails with an I/O error; what it should have made durable stays undecided until a crash.
    FailSync { process: String },
    /// Every sync takes this much longer.
    Stall { process: String, stall_ms: u64, for_ms: u64 },
    /// Every read and write fails with an I/O error; syncs work.
    DiskErrors { process: String, for_ms: u64 },
    /// Every write that needs more room fails.
    DiskFull { process: String, for_ms: u64 },
    /// Single bits of data at rest flip, silently.
    FlipBits { process: String, count: u32 },
    /// The process dies and comes back with an empty disk that carries a new id.
    Wipe { process: String, down_ms: u64 },
    /// The clock of the process jumps, then is set right again after `for_ms`.
    Clock {
        process: String,
        #[serde(default)]
        jump_ms: i64,
        #[serde(default)]
        drift_ppm: i64,
        for_ms: u64,
    },
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Nothing passes.
    #[default]
    Both,
    /// What `a` sends to `b` is lost; the other way works.
    AToB,
    /// What `b` sends to `a` is lost; the other way works.
    BToA,
}

/// How the sides of a [`FaultKind::Split`] are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One against all others.
    Isolate,
    /// Two halves; of an odd number, the larger half is drawn too.
    Halves,
    /// Each process is on either side by an even chance; neither side is empty.
    Random,
    /// One is not heard, or does not hear.
    OneWay,
    /// One against all others, cut and mended in turns, ten times in all.
    Flapping,
}

mod budget;
mod check;
mod locate;
mod when;
pub use budget::Budget;
pub use check::PlanError;
pub use when::When;

fn is_zero(number: &u64) -> bool {
    *number == 0
}
