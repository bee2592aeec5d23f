//! A disk in memory that tells the truth only about what was synced.
//!
//! Reads see every write. A crash keeps, of the operations since the last sync of their file, any subset: each survives, is torn into a subset
//! of its 512-byte sectors, or is lost, as decided by the disk's own stream, addressed by the operation's ordinal. `set_len` survives or not.
//! What a planned fault draws (how much a crash takes, which bits flip, the id after a wipe) is addressed by the fault, not by a count of such
//! events, so that taking one fault away moves no other.
//! The calls are synchronous, for engines that know no futures; what they would have taken is summed up and fetched by
//! [`Mount::take_latency`], for the asynchronous shell around to sleep.
//!
//! [`SimDisk`] is the operator's side: crash, wipe, break, inspect. [`Mount`] and [`SimFile`] are one process life's side, and fail once that
//! life is over. Not handled: directories, renames, and sync of less than a file.

mod image;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::image::{Change, Fate, Image};
use crate::dice::{Dice, Random, Stream};
use crate::plan::DiskPlan;
use crate::process::ProcessId;
use crate::sync::lock;
use crate::time::{MICROS, MILLIS, Nanos, Timers};
use crate::trace::{Event, Trace};

/// Keys of what happens by hand; those of faults are hashes, and this bit keeps most of them apart.
const BY_HAND: u64 = 1 << 63;

/// Told, outside all locks of the disk, that an armed crash has gone off in the middle of an operation of this process.
pub type CrashObserver = Arc<dyn Fn(ProcessId) + Send + Sync>;

/// The disk of one process, as its operator sees it. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    process: ProcessId,
    timers: Timers,
    trace: Trace,
    state: Mutex<State>,
    on_crash: Mutex<Option<CrashObserver>>,
}

struct State {
    plan: DiskPlan,
    files: BTreeMap<Arc<str>, Image>,
    disk_id: u128,
    formats: u64,
    crashes: u64,
    flipped: u64,
    /// Which life may use the disk; every crash begins a new one.
    life: u64,
    /// The armed crash has gone off: nothing works until [`SimDisk::crash`] has taken its toll.
    broken: bool,
    operations: u64,
    syncs: u64,
    crash_at: Option<u64>,
    fail_syncs: u32,
    /// Faults that fill the disk now, and those that fail its reads and writes.
    full: u32,
    failing: u32,
    /// What faults add to each sync now.
    stalled: Nanos,
    latency: Nanos,
    /// The waits of at least [`LONG_WAIT`], in order.
    waits: Vec<(Nanos, Nanos)>,
    ids: Stream,
    fates: Stream,
    severities: Stream,
    speeds: Stream,
    flips: Stream,
}

/// The least wait for a disk, in simulated nanoseconds, that [`SimDisk::long_waits`] remembers: one in which a process stands
/// still as far as others can see.
pub const LONG_WAIT: Nanos = 10 * MILLIS;

/// What a crash left of the unsynced operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Kept whole.
    pub survived: u32,
    /// Kept in part.
    pub torn: u32,
    /// Gone.
    pub lost: u32,
}

impl SimDisk {
    /// A freshly formatted disk.
    pub fn new(process: ProcessId, timers: Timers, trace: Trace, dice: Dice, plan: &DiskPlan) -> SimDisk {
        let key = u64::from(process.0);
        let state = State {
            plan: plan.clone(),
            files: BTreeMap::new(),
            disk_id: 0,
            formats: 0,
            crashes: 0,
            flipped: 0,
            life: 0,
            broken: false,
            operations: 0,
            syncs: 0,
            crash_at: None,
            fail_syncs: 0,
            full: 0,
            failing: 0,
            stalled: 0,
            latency: 0,
            waits: Vec::new(),
            ids: dice.stream("disk-id", key),
            fates: dice.stream("disk-crash", key),
            severities: dice.stream("disk-crash-severity", key),
            speeds: dice.stream("disk-speed", key),
            flips: dice.stream("disk-flip", key),
        };
        let disk =
            SimDisk(Arc::new(Shared { process, timers, trace, state: Mutex::new(state), on_crash: Mutex::new(None) }));
        disk.wipe();
        disk
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn record(&self, event: Event) {
        self.0.trace.record(self.0.timers.now(), event);
    }

    /// Access for the life of the process that begins now. Earlier mounts go on to work until the next crash.
    pub fn mount(&self) -> Mount {
        Mount { disk: self.clone(), life: self.state().life }
    }

    /// Who is told when an armed crash goes off.
    pub fn on_crash(&self, observer: CrashObserver) {
        *lock(&self.0.on_crash) = Some(observer);
    }

    /// The process dies: draws what survives of the unsynced operations, and ends the life of all mounts and files.
    pub fn crash(&self) -> CrashReport {
        let key = {
            let mut state = self.state();
            state.crashes += 1;
            state.crashes - 1
        };
        self.crash_for(BY_HAND | key)
    }

    /// As [`SimDisk::crash`]; `key` addresses how much it takes.
    pub(crate) fn crash_for(&self, key: u64) -> CrashReport {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut report = CrashReport::default();
        let mut hasher = Xxh3::new();
        // Some crashes take all, some nothing, most a mixture: drawn once per crash, before the fate of each operation.
        let survive = match state.severities.at(key).below(8) {
            0 => crate::Ratio::ZERO,
            1 if !state.plan.survive.is_zero() => crate::Ratio::ONE,
            _ => state.plan.survive,
        };
        for (name, image) in &mut state.files {
            for fate in image.crash(survive, state.plan.torn, |ordinal| state.fates.at(ordinal)) {
                match fate {
                    Fate::Survived => report.survived += 1,
                    Fate::Torn => report.torn += 1,
                    Fate::Lost => report.lost += 1,
                }
            }
            hasher.update(name.as_bytes());
            hasher.update(&image.durable);
        }
        state.life += 1;
        state.broken = false;
        state.crash_at = None;
        state.latency = 0;
        // Nobody waits any longer.
        let now = self.0.timers.now();
        for (_, to) in state.waits.iter_mut().rev().take_while(|(_, to)| *to > now) {
            *to = now;
        }
        drop(guard);
        let CrashReport { survived, torn, lost } = report;
        self.record(Event::DiskCrash { process: self.0.process, survived, torn, lost, hash: hasher.digest() });
        report
    }

    /// Arms a crash in the middle of the `operations`th next write, set_len or sync: it fails, has happened in part or not at all, and
    /// nothing works until [`SimDisk::crash`]. Panics if `operations` is zero.
    pub fn crash_after(&self, operations: u64) {
        assert!(operations > 0, "operations are counted from 1");
        let mut state = self.state();
        state.crash_at = Some(state.operations + operations);
    }

    /// Takes [`SimDisk::crash_after`] back, if it has not gone off.
    pub fn disarm(&self) {
        self.state().crash_at = None;
    }

    /// Lets the next sync fail. What it should have made durable stays pending.
    pub fn fail_next_sync(&self) {
        self.state().fail_syncs += 1;
    }

    /// While full, everything that needs more room fails. Counted: each filling needs its own freeing.
    pub fn set_full(&self, full: bool) {
        let mut state = self.state();
        state.full = if full { state.full + 1 } else { state.full.saturating_sub(1) };
    }

    /// While failing, every read, write and set_len ends in an I/O error. Counted like fullness.
    pub fn set_failing(&self, failing: bool) {
        let mut state = self.state();
        state.failing = if failing { state.failing + 1 } else { state.failing.saturating_sub(1) };
    }

    /// Every sync takes `by` longer, in simulated nanoseconds, until [`SimDisk::unstall`] by as much.
    pub fn stall(&self, by: Nanos) {
        self.state().stalled += by;
    }

    /// Takes [`SimDisk::stall`] back.
    pub fn unstall(&self, by: Nanos) {
        let mut state = self.state();
        state.stalled = state.stalled.saturating_sub(by);
    }

    /// From when to when its process waited for this disk, in order: each wait that was to take at least [`LONG_WAIT`].
    pub fn long_waits(&self) -> Vec<(Nanos, Nanos)> {
        self.state().waits.clone()
    }

    /// Ends every armed failure: crash, failing operations and syncs, fullness, stalls.
    pub fn heal(&self) {
        let mut state = self.state();
        state.crash_at = None;
        state.fail_syncs = 0;
        state.full = 0;
        state.failing = 0;
        state.stalled = 0;
        state.plan.stall = crate::Ratio::ZERO;
    }

    /// Empties the disk and gives it a new id: a new disk in the same place. Ends the life of all mounts.
    pub fn wipe(&self) {
        let key = {
            let mut state = self.state();
            state.formats += 1;
            state.formats - 1
        };
        self.wipe_for(BY_HAND | key);
    }

    /// As [`SimDisk::wipe`]; `key` addresses the new id.
    pub(crate) fn wipe_for(&self, key: u64) {
        let mut state = self.state();
        state.files.clear();
        state.life += 1;
        state.broken = false;
        state.disk_id = state.ids.at(key).next_u128();
        let disk_id = state.disk_id;
        drop(state);
        self.record(Event::DiskFormat { process: self.0.process, disk_id });
    }

    /// Flips one drawn bit among the durable bytes of all files. False if there are none.
    pub fn flip_bit(&self) -> bool {
        let key = {
            let mut state = self.state();
            state.flipped += 1;
            state.flipped - 1
        };
        self.flip_bit_for(BY_HAND | key)
    }

    /// As [`SimDisk::flip_bit`]; `key` addresses which bit.
    pub(crate) fn flip_bit_for(&self, key: u64) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let total: u64 = state.files.values().map(|image| image.durable.len() as u64).sum();
        if total == 0 {
            return false;
        }
        let mut draws = state.flips.at(key);
        let mut position = draws.below(total);
        let mask = 1_u8 << draws.below(8);
        let mut flipped = None;
        for (name, image) in &mut state.files {
            let len = image.durable.len() as u64;
            if position < len {
                image.durable[position as usize] ^= mask;
                if let Some(byte) = image.live.get_mut(position as usize) {
                    *byte ^= mask;
                }
                flipped = Some((name.clone(), position));
                break;
            }
            position -= len;
        }
        drop(guard);
        if let Some((file, position)) = flipped {
            let what = format!("bit flipped at {position}").into();
            self.record(Event::DiskError { process: self.0.process, file, what });
        }
        true
    }

    /// The id given by the last format.
    pub fn disk_id(&self) -> u128 {
        self.state().disk_id
    }

    /// What would survive a crash that keeps no unsynced operation, by file name: for oracles.
    pub fn durable(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().files.iter().map(|(name, image)| (name.to_string(), image.durable.clone())).collect()
    }

    /// Operations (write, set_len, sync) so far: to choose where to crash.
    pub fn operation_count(&self) -> u64 {
        self.state().operations
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "SimDisk({:032x}, {} files)", state.disk_id, state.files.len())
    }
}

mod mount;
pub use mount::{Mount, SimFile};

#[cfg(test)]
mod tests;
