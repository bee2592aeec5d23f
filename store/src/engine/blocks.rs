//! The page file as redb sees it, on a disk that forgets and rots.
//!
//! redb checks its pages when it repairs, not when it reads. So every 4,096-byte page is stored as a block of nine
//! sectors: eight of page, one with its checksum, and no page gets past this layer that is not what was written. The
//! database header is the first sector of block 0 and carries its checksum at the sector's end, because redb relies
//! on its being replaced whole.
//!
//! Commits are two-phase: a page is durable before anything leads to it. A page that a crash tore is therefore never
//! read, and one that is read and does not match has rotted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use xxhash_rust::xxh3::xxh3_64;

use super::sectors::{PAYLOAD_BYTES, SECTOR_BYTES};
use crate::env::File;

const PAGE_BYTES: usize = 4096;
const BLOCK_BYTES: usize = PAGE_BYTES + SECTOR_BYTES;

/// One page file.
#[derive(Debug)]
pub struct Blocks {
    file: Arc<dyn File>,
    /// Tells the blocks of this file from those of any other.
    salt: u64,
    rotten: AtomicBool,
    fenced: AtomicBool,
}

/// What redb is given; the pages keep the other end.
#[derive(Clone, Debug)]
pub struct Backend(pub Arc<Blocks>);

impl Blocks {
    pub fn new(file: Arc<dyn File>, disk: u128, number: u64) -> Blocks {
        let mut parts = [0; 24];
        parts[..16].copy_from_slice(&disk.to_le_bytes());
        parts[16..].copy_from_slice(&number.to_le_bytes());
        Blocks { file, salt: xxh3_64(&parts), rotten: AtomicBool::new(false), fenced: AtomicBool::new(false) }
    }

    /// Whether a page was read that is not what was written.
    pub fn is_rotten(&self) -> bool {
        self.rotten.load(Ordering::Relaxed)
    }

    /// Lets nothing through any more. A database writes when it is dropped; an engine that is dropped, because its
    /// process died or because its state is not to be trusted, must not.
    pub fn fence(&self) {
        self.fenced.store(true, Ordering::Relaxed);
    }

    fn check_fence(&self) -> io::Result<()> {
        if self.fenced.load(Ordering::Relaxed) { Err(io::Error::other("the page file is closed")) } else { Ok(()) }
    }

    fn checksum(&self, page: u64, bytes: &[u8]) -> u64 {
        let mut parts = [0; 24];
        parts[..8].copy_from_slice(&self.salt.to_le_bytes());
        parts[8..16].copy_from_slice(&page.to_le_bytes());
        parts[16..].copy_from_slice(&xxh3_64(bytes).to_le_bytes());
        xxh3_64(&parts)
    }

    fn rot(&self, page: u64) -> io::Error {
        self.rotten.store(true, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::InvalidData, format!("page {page} does not match its checksum"))
    }

    fn read_header(&self, out: &mut [u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        self.file.read_at(0, &mut sector)?;
        let (payload, sum) = sector.split_at(PAYLOAD_BYTES);
        // A file that was created and never initialised is all zeros, which redb knows how to refuse.
        if sector != [0; SECTOR_BYTES] && self.checksum(0, payload).to_le_bytes() != sum {
            return Err(self.rot(0));
        }
        out.copy_from_slice(&payload[..out.len()]);
        Ok(())
    }

    fn write_header(&self, data: &[u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        sector[..data.len()].copy_from_slice(data);
        let sum = self.checksum(0, &sector[..PAYLOAD_BYTES]);
        sector[PAYLOAD_BYTES..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_at(0, &sector)
    }
}

/// The first page and the byte offset of its block. Everything but the header is asked for in whole pages.
fn place(offset: u64, len: usize) -> io::Result<(u64, u64)> {
    if !offset.is_multiple_of(PAGE_BYTES as u64) || !len.is_multiple_of(PAGE_BYTES) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "redb asked for a part of a page"));
    }
    let page = offset / PAGE_BYTES as u64;
    Ok((page, page * BLOCK_BYTES as u64))
}

/// Room for so many blocks, all zeros. Nearly always it is one, which needs no allocation.
fn with_room(count: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    if count == 1 { fill(&mut [0; BLOCK_BYTES]) } else { fill(&mut vec![0; count * BLOCK_BYTES]) }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.check_fence()?;
        Ok(self.0.file.len()? / BLOCK_BYTES as u64 * PAGE_BYTES as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.check_fence()?;
        if offset == 0 && out.len() <= PAYLOAD_BYTES {
            return self.0.read_header(out);
        }
        let (first, start) = place(offset, out.len())?;
        with_room(out.len() / PAGE_BYTES, |blocks| {
            self.0.file.read_at(start, blocks)?;
            for ((page, block), out) in
                (first..).zip(blocks.chunks_exact(BLOCK_BYTES)).zip(out.chunks_exact_mut(PAGE_BYTES))
            {
                let (bytes, trailer) = block.split_at(PAGE_BYTES);
                if self.0.checksum(page, bytes).to_le_bytes() != trailer[..8] {
                    return Err(self.0.rot(page));
                }
                out.copy_from_slice(bytes);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.check_fence()?;
        self.0.file.set_len(len.div_ceil(PAGE_BYTES as u64) * BLOCK_BYTES as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check_fence()?;
        self.0.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.check_fence()?;
        if offset == 0 && data.len() <= PAYLOAD_BYTES {
            return self.0.write_header(data);
        }
        let (first, start) = place(offset, data.len())?;
        with_room(data.len() / PAGE_BYTES, |blocks| {
            for ((page, block), bytes) in
                (first..).zip(blocks.chunks_exact_mut(BLOCK_BYTES)).zip(data.chunks_exact(PAGE_BYTES))
            {
                block[..PAGE_BYTES].copy_from_slice(bytes);
                block[PAGE_BYTES..PAGE_BYTES + 8].copy_from_slice(&self.0.checksum(page, bytes).to_le_bytes());
            }
            self.0.file.write_at(start, blocks)
        })
    }
}
