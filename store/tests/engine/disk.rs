//! A disk in memory with the worst manners that POSIX allows.
//!
//! Writes and length changes are pending until a sync of their file. A crash lets any subset of what is pending
//! survive, in order; a write that survives may be torn: any subset of its 512-byte sectors. A file whose creation
//! was never synced may be gone. From a chosen operation on, the process is dead: every call fails, and what the
//! failing write left is decided by the crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use miroir_store::env::{Disk, File};

const SECTOR: usize = 512;

/// A stream of numbers (splitmix64); a test is its seed.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `a` times out of `b`.
    pub fn chance(&mut self, a: u64, b: u64) -> bool {
        self.below(b) < a
    }

    pub fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let end = *offset as usize + data.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset as usize..end].copy_from_slice(data);
            }
            Change::SetLen(len) => image.resize(*len as usize, 0),
        }
    }

    /// What a crash in the middle leaves of a write.
    fn torn(&self, rng: &mut Rng) -> Vec<Change> {
        let Change::Write(offset, data) = self else { return vec![self.clone()] };
        let mut parts = Vec::new();
        let mut start = 0;
        while start < data.len() {
            // Tears lie on the disk's sectors, wherever the write began.
            let place = *offset as usize + start;
            let end = (start + SECTOR - place % SECTOR).min(data.len());
            if rng.chance(1, 2) {
                parts.push(Change::Write(place as u64, data[start..end].to_vec()));
            }
            start = end;
        }
        parts
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// `None` if not even its creation is durable.
    durable: Option<Vec<u8>>,
    /// What reads see.
    seen: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// From this operation on nothing works: the process is dead and does not know it.
    Death,
    /// This one operation fails.
    Error,
    /// The next sync fails, and what it should have made durable stays pending.
    Sync,
    /// The next sync fails, and what it should have made durable is taken for clean: reads see it, no later sync
    /// writes it. This is what Linux does.
    Forget,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Content>,
    /// Handles of an earlier process are dead.
    process: u64,
    operations: u64,
    writes: u64,
    fail: Option<(u64, Failure)>,
    /// Writes beyond the present end of a file whose name begins so find no room.
    full: Option<String>,
    /// Of everything written, in order.
    trace: u64,
}

/// The disk of one machine. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
    process: u64,
}

#[derive(Debug)]
struct Handle {
    disk: TestDisk,
    name: String,
}

enum Kind {
    Read,
    Write,
    Sync,
}

impl TestDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The next operation that counts; fails if it is the one that should.
    fn step(&self, kind: &Kind) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.process != self.process {
            return Err(io::Error::other("this process is dead"));
        }
        state.operations += 1;
        if matches!(kind, Kind::Write) {
            state.writes += 1;
        }
        match state.fail {
            Some((at, Failure::Death)) if state.operations >= at => Err(io::Error::other("the process died")),
            Some((at, Failure::Error)) if state.operations == at => Err(io::Error::other("input/output error")),
            Some((at, failure @ (Failure::Sync | Failure::Forget)))
                if state.operations >= at && matches!(kind, Kind::Sync) =>
            {
                state.fail = None;
                if failure == Failure::Forget {
                    for content in state.files.values_mut() {
                        content.pending.clear();
                    }
                }
                Err(io::Error::other("sync failed"))
            }
            _ => Ok(state),
        }
    }

    /// Lets the `after`-th operation from now fail.
    pub fn fail(&self, after: u64, failure: Failure) {
        let mut state = self.state();
        state.fail = Some((state.operations + after, failure));
    }

    /// From now on the files whose names begin so cannot grow; `None` makes room again.
    pub fn set_full(&self, prefix: Option<&str>) {
        self.state().full = prefix.map(str::to_owned);
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Writes, length changes and removals so far.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// A hash of everything that was written, synced and removed, in order.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// The power fails, and the machine starts again: what was durable is there, and some of what was pending.
    pub fn crash(&self, rng: &mut Rng) -> TestDisk {
        let mut state = self.state();
        state.process += 1;
        state.fail = None;
        let process = state.process;
        // How much survives at all: nothing, everything, or some of it.
        let survive = [0, 1, 2, 3, 4][rng.below(5) as usize];
        for content in state.files.values_mut() {
            let mut image = content.durable.take();
            for change in std::mem::take(&mut content.pending) {
                if !rng.chance(survive, 4) {
                    continue;
                }
                let parts = if rng.chance(1, 3) { change.torn(rng) } else { vec![change] };
                for part in parts {
                    part.apply(image.get_or_insert_default());
                }
            }
            if image.is_none() && rng.chance(1, 2) {
                image = Some(Vec::new());
            }
            content.seen = image.clone().unwrap_or_default();
            content.durable = image;
        }
        state.files.retain(|_, content| content.durable.is_some());
        drop(state);
        TestDisk { state: Arc::clone(&self.state), process }
    }

    /// The process starts again on a machine that kept running: what is pending stays pending.
    pub fn restart(&self) -> TestDisk {
        let mut state = self.state();
        state.process += 1;
        state.fail = None;
        let process = state.process;
        drop(state);
        TestDisk { state: Arc::clone(&self.state), process }
    }

    /// A disk of its own with the same content, all of it durable.
    pub fn copy(&self) -> TestDisk {
        let state = self.state();
        let files = state.files.iter().map(|(name, content)| {
            let seen = content.seen.clone();
            (name.clone(), Content { durable: Some(seen.clone()), seen, pending: Vec::new() })
        });
        TestDisk { state: Arc::new(Mutex::new(State { files: files.collect(), ..State::default() })), process: 0 }
    }

    /// A disk of its own in the same state: what is pending here is pending there.
    pub fn copy_unsynced(&self) -> TestDisk {
        let state = self.state();
        let copy = State { files: state.files.clone(), process: state.process, ..State::default() };
        TestDisk { state: Arc::new(Mutex::new(copy)), process: self.process }
    }

    /// Names and lengths of the files.
    pub fn files(&self) -> Vec<(String, usize)> {
        self.state().files.iter().map(|(name, content)| (name.clone(), content.seen.len())).collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.state().files[name].seen.clone()
    }

    pub fn put_bytes(&self, name: &str, bytes: &[u8]) {
        let content = Content { durable: Some(bytes.to_vec()), seen: bytes.to_vec(), pending: Vec::new() };
        self.state().files.insert(name.to_owned(), content);
    }

    pub fn flip(&self, name: &str, bit: u64) {
        let mut state = self.state();
        let content = state.files.get_mut(name).expect("a file to flip a bit of");
        content.seen[bit as usize / 8] ^= 1 << (bit % 8);
        content.durable = Some(content.seen.clone());
        content.pending.clear();
    }
}

impl State {
    fn note(&mut self, what: &[u8], offset: u64, name: &str) {
        let mut line = self.trace.to_le_bytes().to_vec();
        line.extend_from_slice(&offset.to_le_bytes());
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(what);
        self.trace = xxhash_rust::xxh3::xxh3_64(&line);
    }
}

impl Disk for TestDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.step(&Kind::Read)?.files.entry(name.to_owned()).or_default();
        Ok(Arc::new(Handle { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.step(&Kind::Write)?;
        state.note(b"remove", 0, name);
        state.files.remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.step(&Kind::Read)?.files.keys().cloned().collect())
    }
}

impl Handle {
    fn change(&self, change: Change) -> io::Result<()> {
        let result = self.disk.step(&Kind::Write);
        let mut state = match result {
            Ok(state) => state,
            Err(error) => {
                // The write that failed may have got anywhere.
                let mut state = self.disk.state();
                if state.process == self.disk.process
                    && state.fail.is_some_and(|(at, _)| at == state.operations)
                    && let Some(content) = state.files.get_mut(&self.name)
                {
                    change.apply(&mut content.seen);
                    content.pending.push(change);
                }
                return Err(error);
            }
        };
        let is_full = state.full.as_ref().is_some_and(|prefix| self.name.starts_with(prefix));
        let Some(content) = state.files.get_mut(&self.name) else { return Err(io::ErrorKind::NotFound.into()) };
        let (offset, end) = match &change {
            Change::Write(offset, data) => (*offset, offset + data.len() as u64),
            Change::SetLen(len) => (*len, *len),
        };
        if is_full && end > content.seen.len() as u64 {
            // Some of it may have found room.
            if let Change::Write(offset, data) = change {
                let half = Change::Write(offset, data[..data.len() / 2].to_vec());
                half.apply(&mut content.seen);
                content.pending.push(half);
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        change.apply(&mut content.seen);
        content.pending.push(change.clone());
        match &change {
            Change::Write(_, data) => state.note(data, offset, &self.name),
            Change::SetLen(_) => state.note(b"set_len", offset, &self.name),
        }
        Ok(())
    }
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.step(&Kind::Read)?;
        Ok(state.files.get(&self.name).map_or(0, |content| content.seen.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.step(&Kind::Read)?;
        let seen = state.files.get(&self.name).map_or(&[][..], |content| &content.seen[..]);
        let start = offset as usize;
        let bytes = seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.step(&Kind::Sync)?;
        state.note(b"sync", 0, &self.name);
        if let Some(content) = state.files.get_mut(&self.name) {
            // The durable image follows change by change: copying whole files would make the test quadratic.
            let mut durable = content.durable.take().unwrap_or_default();
            for change in content.pending.drain(..) {
                change.apply(&mut durable);
            }
            content.durable = Some(durable);
        }
        Ok(())
    }
}
