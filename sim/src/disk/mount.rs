//! The side of the disk that the system under test uses: one life's access to files.

use std::io;
use std::sync::{Arc, MutexGuard};

use super::{Change, Event, LONG_WAIT, MICROS, MILLIS, Nanos, Random, SimDisk, State, lock, xxh3_64};

/// One life's access to a disk. Fails for ever once that life is over.
#[derive(Clone, Debug)]
pub struct Mount {
    pub(super) disk: SimDisk,
    pub(super) life: u64,
}

/// One open file. Send and Sync, cheap to clone; needs no closing.
#[derive(Clone, Debug)]
pub struct SimFile {
    mount: Mount,
    name: Arc<str>,
}

fn over() -> io::Error {
    io::Error::other("crashed: this life of the process is over")
}

impl Mount {
    /// Opens a file, and creates it empty if there is none. Creation is durable at once.
    pub fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.alive()?;
        let name: Arc<str> = match state.files.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => {
                let name: Arc<str> = name.into();
                state.files.insert(name.clone(), Default::default());
                name
            }
        };
        drop(state);
        Ok(SimFile { mount: self.clone(), name })
    }

    /// Removes a file, durably. Not found is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.alive()?.files.remove(name);
        Ok(())
    }

    /// Names of all files, sorted.
    pub fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.files.keys().map(|name| name.to_string()).collect())
    }

    /// The id drawn when the disk was formatted.
    pub fn disk_id(&self) -> io::Result<u128> {
        Ok(self.alive()?.disk_id)
    }

    /// The modelled latency of everything since the last call, in simulated nanoseconds. The caller sleeps it.
    pub fn take_latency(&self) -> Nanos {
        let Ok(mut state) = self.alive() else { return 0 };
        let latency = std::mem::take(&mut state.latency);
        if latency >= LONG_WAIT {
            let now = self.disk.0.timers.now();
            state.waits.push((now, now.saturating_add(latency)));
        }
        latency
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life && !state.broken { Ok(state) } else { Err(over()) }
    }

    /// Counts one operation. Fails, and breaks the disk, if the armed crash goes off in it; the world is told afterwards.
    fn operation(&self) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.alive()?;
        state.operations += 1;
        let goes_off = state.crash_at == Some(state.operations);
        if goes_off {
            state.crash_at = None;
        }
        Ok((state, goes_off))
    }

    fn break_down(&self, mut state: MutexGuard<'_, State>) -> io::Error {
        state.broken = true;
        drop(state);
        let observer = lock(&self.disk.0.on_crash).clone();
        if let Some(observer) = observer {
            observer(self.disk.0.process);
        }
        io::Error::other("crashed: the process died in this operation")
    }

    fn fail(&self, state: MutexGuard<'_, State>, file: &Arc<str>, kind: io::ErrorKind, what: &str) -> io::Error {
        drop(state);
        self.disk.record(Event::DiskError { process: self.disk.0.process, file: file.clone(), what: what.into() });
        io::Error::new(kind, what.to_owned())
    }
}

impl SimFile {
    /// Bytes in the file.
    pub fn len(&self) -> io::Result<u64> {
        self.with(|state, name| Ok(state.image(name)?.live.len() as u64))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`. Fails with `UnexpectedEof` if the file ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.mount.alive()?;
        if state.failing > 0 {
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::Other, "read failed (injected I/O error)"));
        }
        drop(state);
        self.with(|state, name| {
            let live = &state.image(name)?.live;
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let bytes = start.checked_add(buffer.len()).and_then(|end| live.get(start..end));
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    /// Writes `data` at `offset`, extending the file with zeroes if need be. Not durable until [`SimFile::sync`].
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, goes_off) = self.mount.operation()?;
        if !goes_off && state.failing > 0 {
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::Other, "write failed (injected I/O error)"));
        }
        let end = offset + data.len() as u64;
        if !goes_off && state.lacks_room(&self.name, end)? {
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::StorageFull, "no space left on the disk"));
        }
        state.latency += state.plan.write_us * MICROS;
        let ordinal = state.operations;
        state.image(&self.name)?.change(ordinal, Change::Write { offset, data: data.to_vec() });
        self.done(
            state,
            goes_off,
            Event::DiskWrite {
                process: self.mount.disk.0.process,
                file: self.name.clone(),
                offset,
                len: data.len() as u32,
                hash: xxh3_64(data),
            },
        )
    }

    /// Cuts or extends (with zeroes) the file. Not durable until [`SimFile::sync`].
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, goes_off) = self.mount.operation()?;
        if !goes_off && state.failing > 0 {
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::Other, "write failed (injected I/O error)"));
        }
        if !goes_off && state.lacks_room(&self.name, len)? {
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::StorageFull, "no space left on the disk"));
        }
        let ordinal = state.operations;
        state.image(&self.name)?.change(ordinal, Change::SetLen { len });
        self.done(
            state,
            goes_off,
            Event::DiskSetLen { process: self.mount.disk.0.process, file: self.name.clone(), len },
        )
    }

    /// Makes everything written to this file durable.
    pub fn sync(&self) -> io::Result<()> {
        let (mut state, goes_off) = self.mount.operation()?;
        let cost = state.sync_cost();
        state.latency += cost;
        if goes_off {
            return Err(self.mount.break_down(state));
        }
        if state.fail_syncs > 0 {
            state.fail_syncs -= 1;
            return Err(self.mount.fail(state, &self.name, io::ErrorKind::Other, "sync failed (injected I/O error)"));
        }
        state.image(&self.name)?.sync();
        self.done(state, false, Event::DiskSync { process: self.mount.disk.0.process, file: self.name.clone() })
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State, &Arc<str>) -> io::Result<T>) -> io::Result<T> {
        use_it(&mut *self.mount.alive()?, &self.name)
    }

    fn done(&self, state: MutexGuard<'_, State>, goes_off: bool, event: Event) -> io::Result<()> {
        if goes_off {
            return Err(self.mount.break_down(state));
        }
        drop(state);
        self.mount.disk.record(event);
        Ok(())
    }
}

impl State {
    fn image(&mut self, name: &Arc<str>) -> io::Result<&mut super::Image> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// True if growing a file to `end` bytes does not fit.
    fn lacks_room(&mut self, name: &Arc<str>, end: u64) -> io::Result<bool> {
        let len = self.image(name)?.live.len() as u64;
        if end <= len {
            return Ok(false);
        }
        let used: u64 = self.files.values().map(|image| image.live.len() as u64).sum();
        Ok(self.full > 0 || (self.plan.capacity > 0 && used - len + end > self.plan.capacity))
    }

    fn sync_cost(&mut self) -> Nanos {
        let mut draws = self.speeds.at(self.syncs);
        self.syncs += 1;
        let spread = self.plan.sync_mean_us.saturating_sub(self.plan.sync_min_us);
        let mut cost = self.plan.sync_min_us * MICROS + draws.exponential(spread * MICROS);
        cost += self.stalled;
        if draws.chance(self.plan.stall) {
            cost += draws.exponential(self.plan.stall_mean_ms * MILLIS);
        }
        cost
    }
}
