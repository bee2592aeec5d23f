//! The real world: files in a directory, the machine's clock and its entropy.
//!
//! What [`FileDisk`] promises beyond what the operating system does: a file's name is durable after its first sync
//! (the directory is synced with it), a removal is durable when it returns, and one process has the directory to
//! itself as long as the disk is open.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the env that the rules point to")]

#[cfg(all(target_os = "linux", not(madsim)))]
mod through;

use std::fs::{self, File as OsFile, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::env::{Clock, Dice, Disk, File, Nanos};

/// The file whose lock says that the directory is in use. It stays behind, empty; only the lock means anything.
const LOCK: &str = "lock";

/// A directory of files, locked against other processes.
#[derive(Debug)]
pub struct FileDisk {
    directory: Arc<Directory>,
    /// Held as long as the disk lives.
    _lock: OsFile,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    handle: OsFile,
}

impl FileDisk {
    /// Opens a directory, creating it (not its parents) if it is not there.
    ///
    /// Fails with `ResourceBusy` if it is open already, in this process or in another.
    pub fn open(path: impl AsRef<Path>) -> io::Result<FileDisk> {
        let path = path.as_ref().to_path_buf();
        match fs::create_dir(&path) {
            Ok(()) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                OsFile::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let handle = OsFile::open(&path)?;
        Ok(FileDisk { directory: Arc::new(Directory { path, handle }), _lock: lock })
    }
}

impl FileDisk {
    fn file(&self, name: &str) -> io::Result<RealFile> {
        let path = self.directory.path.join(name);
        let options = OpenOptions::new().read(true).write(true).clone();
        let (file, is_new) = match options.open(&path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (options.clone().create_new(true).open(&path)?, true)
            }
            Err(error) => return Err(error),
        };
        // A file that is there may have been created by a process that died before its first sync.
        let is_empty = is_new || file.metadata()?.len() == 0;
        let (directory, unnamed) = (Arc::clone(&self.directory), AtomicBool::new(is_empty));
        Ok(RealFile { file, directory, unnamed, unsynced: AtomicBool::new(true), through: None })
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.file(name)?))
    }

    #[cfg(all(target_os = "linux", not(madsim)))]
    fn open_synced(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.file(name)?;
        Ok(Arc::new(RealFile { through: Through::open(&self.directory.path.join(name)), ..file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.path.join(name)) {
            Ok(()) => self.directory.handle.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory.path)? {
            // A name that is not Unicode is none of ours.
            names.extend(entry?.file_name().into_string().ok().filter(|name| name != LOCK));
        }
        names.sort();
        Ok(names)
    }

    #[cfg(not(madsim))]
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let system = rustix::fs::fstatvfs(&self.directory.handle)?;
        Ok(Some(system.f_bavail.saturating_mul(system.f_frsize)))
    }
}

#[derive(Debug)]
struct RealFile {
    file: OsFile,
    directory: Arc<Directory>,
    /// Whether the directory may not yet durably name this file.
    unnamed: AtomicBool,
    /// Whether something of it, or of what was there when it was opened, may not be durable.
    unsynced: AtomicBool,
    /// Another way to write.
    through: Option<Through>,
}

#[cfg(all(target_os = "linux", not(madsim)))]
use through::Through;

/// Elsewhere there is none.
#[cfg(not(all(target_os = "linux", not(madsim))))]
#[derive(Debug)]
enum Through {}

#[cfg(not(all(target_os = "linux", not(madsim))))]
impl Through {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<bool> {
        match *self {}
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(through) = &self.through
            && through.write_at(offset, data)?
        {
            return Ok(());
        }
        self.unsynced.store(true, Ordering::Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.unsynced.store(true, Ordering::Relaxed);
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        if self.through.is_none() || self.unsynced.load(Ordering::Relaxed) {
            self.file.sync_data()?;
            self.unsynced.store(false, Ordering::Relaxed);
        }
        if self.unnamed.load(Ordering::Relaxed) {
            self.directory.handle.sync_all()?;
            self.unnamed.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Counts from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock(Instant);

impl Default for MonotonicClock {
    fn default() -> MonotonicClock {
        MonotonicClock(Instant::now())
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Nanos {
        self.0.elapsed().as_nanos() as Nanos
    }
}

/// Draws from the operating system, by way of the keys that the standard library seeds its hash maps with.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDice;

impl Dice for OsDice {
    fn bits(&self) -> u128 {
        let half = || {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u32(std::process::id());
            u128::from(hasher.finish())
        };
        half() << 64 | half()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("miroir-file-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn files_are_kept_and_listed_and_removed() {
        let path = directory("files");
        let disk = FileDisk::open(&path).expect("a new directory");
        let file = disk.open("b.1").expect("a new file");
        file.write_at(3, b"four").expect("a write");
        file.sync().expect("a sync");
        disk.open("a").expect("a new file").sync().expect("a sync");
        assert_eq!(disk.list().expect("a list"), ["a", "b.1"]);
        drop((file, disk));
        let disk = FileDisk::open(&path).expect("it is free again");
        let file = disk.open("b.1").expect("a file");
        let mut out = [1; 7];
        file.read_at(0, &mut out).expect("a read");
        assert_eq!((&out, file.len().expect("a length")), (b"\0\0\0four", 7));
        assert_eq!(file.read_at(1, &mut out).expect_err("too far").kind(), io::ErrorKind::UnexpectedEof);
        disk.remove("b.1").expect("removed");
        disk.remove("b.1").expect("removing twice is removing once");
        assert_eq!(disk.list().expect("a list"), ["a"]);
        #[cfg(not(madsim))]
        assert!(disk.free_bytes().expect("an answer").is_some_and(|free| free > 0));
        fs::remove_dir_all(&path).expect("cleaned up");
    }

    #[test]
    fn both_ways_to_write_lead_to_one_file() {
        let path = directory("synced");
        let disk = FileDisk::open(&path).expect("a new directory");
        let file = disk.open_synced("log").expect("a new file");
        // Whole sectors, parts of them, and more than goes through at once; each over a part of what was there.
        let writes =
            [(0, 1_024, 1), (512, 2_048, 2), (700, 100, 3), (512, 2 << 20, 4), (1_024, 1_536, 5), (2_000, 9, 6)];
        let mut expected = Vec::new();
        for (offset, len, byte) in writes {
            file.write_at(offset, &vec![byte; len]).expect("a write");
            file.sync().expect("a sync");
            let end = offset as usize + len;
            expected.resize(expected.len().max(end), 0);
            expected[offset as usize..end].fill(byte);
            let mut found = vec![0; expected.len()];
            disk.open("log").and_then(|other| other.read_at(0, &mut found)).expect("a read");
            assert_eq!(file.len().expect("a length"), expected.len() as u64);
            assert!(found == expected, "after {len} bytes at {offset}");
        }
        file.set_len(1_536).expect("cut");
        file.write_at(1_536, &[7; 512]).expect("a write");
        file.sync().expect("a sync");
        let mut found = [0; 513];
        file.read_at(1_535, &mut found).expect("a read");
        assert_eq!((found[0], &found[1..]), (5, &[7; 512][..]));
        drop((file, disk));
        fs::remove_dir_all(&path).expect("cleaned up");
    }

    #[test]
    fn a_directory_has_one_user() {
        let path = directory("lock");
        let disk = FileDisk::open(&path).expect("a new directory");
        assert_eq!(FileDisk::open(&path).expect_err("it is in use").kind(), io::ErrorKind::ResourceBusy);
        drop(disk);
        FileDisk::open(&path).expect("it is free again");
        fs::remove_dir_all(&path).expect("cleaned up");
    }

    #[test]
    fn bits_are_fresh() {
        let drawn: std::collections::BTreeSet<u128> = (0..1_000).map(|_| OsDice.bits()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
