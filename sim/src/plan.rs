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
use crate::time::{MICROS, MILLIS, Nanos};

/// The simulator's part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimPlan {
    /// How messages travel.
    pub network: NetworkPlan,
    /// How disks behave.
    pub disk: DiskPlan,
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
    /// Unique in the plan; names the fault in traces.
    pub id: String,
    /// When it begins.
    pub at: When,
    /// What it does.
    pub kind: FaultKind,
}

/// When a fault begins: at a time, or after the nth occurrence of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawWhen", into = "RawWhen")]
pub enum When {
    /// Simulated time since the start of the run.
    Time(Nanos),
    /// After the `nth` (from 1) time that the system reported `name`.
    Signal {
        /// Name of the signal, such as a stage.
        name: String,
        /// Which occurrence, from 1.
        nth: u32,
        /// Delay after it.
        after: Nanos,
    },
}

impl When {
    /// At so many milliseconds.
    pub fn ms(ms: u64) -> When {
        When::Time(ms * MILLIS)
    }

    /// At the first occurrence of a signal.
    pub fn signal(name: &str) -> When {
        When::Signal { name: name.to_owned(), nth: 1, after: 0 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhen {
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    after_us: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TryFrom<RawWhen> for When {
    type Error = String;

    fn try_from(raw: RawWhen) -> Result<When, String> {
        match (raw.ms, raw.signal, raw.nth) {
            (Some(ms), None, None) => {
                Ok(When::Time(ms.saturating_mul(MILLIS).saturating_add(raw.after_us.saturating_mul(MICROS))))
            }
            (None, Some(_), Some(0)) => Err("`at.nth` counts from 1".to_owned()),
            (None, Some(name), nth) => {
                Ok(When::Signal { name, nth: nth.unwrap_or(1), after: raw.after_us.saturating_mul(MICROS) })
            }
            _ => Err("`at` is { ms = 1200 } or { signal = \"DeltaPass\", nth = 1, after_us = 3000 }".to_owned()),
        }
    }
}

impl From<When> for RawWhen {
    fn from(when: When) -> RawWhen {
        match when {
            When::Time(at) => {
                RawWhen { ms: Some(at / MILLIS), signal: None, nth: None, after_us: at % MILLIS / MICROS }
            }
            When::Signal { name, nth, after } => {
                RawWhen { ms: None, signal: Some(name), nth: Some(nth), after_us: after / MICROS }
            }
        }
    }
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
    /// No message passes between the two sides.
    Partition {
        a: Vec<String>,
        b: Vec<String>,
        #[serde(default)]
        direction: Direction,
        for_ms: u64,
    },
    /// A directed link gets worse: at least this loss, and this delay on top.
    Link {
        from: String,
        to: String,
        #[serde(default)]
        loss: Ratio,
        #[serde(default)]
        delay_us: u64,
        for_ms: u64,
    },
    /// The next sync fails with an I/O error; what it should have made durable stays undecided until a crash.
    FailSync { process: String },
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

mod check;
pub use check::PlanError;
