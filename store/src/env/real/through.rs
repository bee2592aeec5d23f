//! Writes past the system's cache, each durable when it returns.
//!
//! A write and an `fdatasync` behind it are two waits for the system: until it has written back its cache, and until the
//! disk has emptied its own. A file that is opened with `O_DIRECT | O_DSYNC` waits once, and leaves nothing to write back.
//! It takes whole sectors only, from memory that begins where a sector could; not every file system does, and what one
//! refuses is written the other way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

const SECTOR_BYTES: u64 = 512;
/// No system wants more than a page.
const ALIGNMENT: usize = 4096;
/// Beyond that, a second copy in memory costs more than it saves.
const MOST_BYTES: usize = 1 << 20;

/// A file that was opened once more.
#[derive(Debug)]
pub struct Through {
    file: File,
    /// What is written now, where it can be.
    buffer: Mutex<Vec<u8>>,
    refused: AtomicBool,
}

impl Through {
    /// `None` where there is no such thing.
    pub fn open(path: &Path) -> Option<Through> {
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        let file = OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path).ok()?;
        Some(Through { file, buffer: Mutex::default(), refused: AtomicBool::new(false) })
    }

    /// Whether it was written, and is durable. If not, the other way is open.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<bool> {
        let whole = offset.is_multiple_of(SECTOR_BYTES) && (data.len() as u64).is_multiple_of(SECTOR_BYTES);
        if !whole || data.len() > MOST_BYTES || self.refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let len = buffer.len().max(data.len() + ALIGNMENT);
        buffer.resize(len, 0);
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        let aligned = &mut buffer[start..start + data.len()];
        aligned.copy_from_slice(data);
        match self.file.write_all_at(aligned, offset) {
            Ok(()) => Ok(true),
            // Sectors of this disk are larger, or the file system has thought better of it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
