//! The log: groups of operations, each appended and synced before anyone is answered.
//!
//! A log is one file, `log.<generation>`, of 512-byte sectors. Sector 0 is the header; behind it lie groups, each
//! starting on a sector of its own, so that no sync ever rewrites what an earlier one acknowledged. A group is
//! everything of one commit: it is replayed whole or not at all.
//!
//! ```text
//! header  magic "MIROIRLG" | version u32 | disk id u128 | generation u64 | page file u64
//! group   sequence u64 | length u32 | checksum u64 | operations
//! ```
//!
//! A flush begins a new generation in a new file. A sector is valid only under its disk, generation, group and place,
//! so nothing that an older log left on the disk is ever replayed.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{Reader, Writer};
use super::sectors::{self, Owner, PAYLOAD_BYTES, SECTOR_BYTES, Sector};
use crate::env::{Disk, File};
use crate::error::EngineError;
use crate::id::DiskId;

const MAGIC: &[u8; 8] = b"MIROIRLG";
/// The format of log and page file, raised together.
pub const FORMAT: u32 = 1;
const GROUP_HEADER_BYTES: usize = 20;

/// The first sector of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub disk: DiskId,
    pub generation: u64,
    /// Which page file holds everything before this generation; 0 if nothing was flushed yet.
    pub pages: u64,
}

impl Header {
    pub fn name(generation: u64) -> String {
        format!("log.{generation}")
    }

    /// The header of a log file; `None` if its creation never became durable.
    ///
    /// Fails with `Corrupt` if the file is foreign or its header rotted, with `Format` if another program wrote it.
    pub fn read(disk: &dyn Disk, generation: u64) -> Result<Option<Header>, EngineError> {
        let name = Header::name(generation);
        let corrupt = |what: &str| EngineError::Corrupt { file: name.clone(), what: what.to_owned() };
        let file = disk.open(&name)?;
        let len = file.len()?;
        let mut sector = [0; SECTOR_BYTES];
        let have = len.min(SECTOR_BYTES as u64) as usize;
        file.read_at(0, &mut sector[..have])?;
        if sector == [0; SECTOR_BYTES] {
            // Groups are written only after the header is durable.
            return if len <= SECTOR_BYTES as u64 { Ok(None) } else { Err(corrupt("its header is gone")) };
        }
        let mut reader = Reader(&sector);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(corrupt("it does not begin like a log"));
        }
        let version = reader.u32().unwrap_or(0);
        if version != FORMAT {
            return Err(EngineError::Format { file: name, found: version, supported: FORMAT });
        }
        let Sector::Valid(payload) = sectors::read(&sector, HEADER_OWNER, 0) else {
            return Err(corrupt("its header does not match its checksum"));
        };
        let header = Header::decode(payload).ok_or_else(|| corrupt("its header is undecodable"))?;
        if header.generation != generation {
            return Err(corrupt("it is the log of another generation"));
        }
        Ok(Some(header))
    }

    fn decode(payload: &[u8]) -> Option<Header> {
        let mut reader = Reader(payload);
        reader.take(MAGIC.len() + 4)?;
        Some(Header { disk: DiskId(reader.u128()?), generation: reader.u64()?, pages: reader.u64()? })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = MAGIC.to_vec();
        payload.put_u32(FORMAT);
        payload.put_u128(self.disk.0);
        payload.put_u64(self.generation);
        payload.put_u64(self.pages);
        sectors::write(out, HEADER_OWNER, 0, &payload);
    }

    fn owner(&self, sequence: u64) -> Owner {
        Owner { disk: self.disk.0, generation: self.generation, sequence }
    }
}

/// Who owns a header: it is read before anything is known.
const HEADER_OWNER: Owner = Owner { disk: 0, generation: 0, sequence: 0 };

/// A log that is being appended to.
pub struct Log {
    file: Arc<dyn File>,
    header: Header,
    /// The sequence number of the next group; the first is 1.
    sequence: u64,
    /// Where the next group goes, in bytes; a multiple of the sector.
    end: u64,
    group: Vec<u8>,
    sectors: Vec<u8>,
}

impl Log {
    /// Begins a log, durably. A file that is there already under its name is one whose creation was cut short.
    pub fn create(disk: &dyn Disk, header: Header) -> io::Result<Log> {
        let name = Header::name(header.generation);
        disk.remove(&name)?;
        let log = Log {
            file: disk.open(&name)?,
            header,
            sequence: 1,
            end: SECTOR_BYTES as u64,
            group: Vec::new(),
            sectors: Vec::new(),
        };
        let mut sector = Vec::new();
        header.encode(&mut sector);
        log.file.write_at(0, &sector)?;
        log.file.sync()?;
        Ok(log)
    }

    /// Opens a log whose header was read, and returns its committed groups, oldest first.
    ///
    /// The rest of a group that was cut short is cut off. The last group, which may have been read from a cache whose
    /// sync had failed, is written again and synced, so that whatever is replayed is durable before it is answered.
    /// Fails with `Corrupt` if anything but the tail does not fit.
    pub fn recover(disk: &dyn Disk, header: Header) -> Result<(Log, Vec<Vec<u8>>), EngineError> {
        let name = Header::name(header.generation);
        let file = disk.open(&name)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(0, &mut bytes)?;
        let mut groups = Vec::new();
        let mut starts = vec![0];
        let mut index = 1;
        while let Some((group, next)) = read_group(&bytes, &header, index, groups.len() as u64 + 1)
            .map_err(|what| EngineError::Corrupt { file: name.clone(), what })?
        {
            groups.push(group);
            starts.push(index);
            index = next;
        }
        let sequence = groups.len() as u64 + 1;
        check_tail(&bytes, header.owner(sequence), index)
            .map_err(|what| EngineError::Corrupt { file: name.clone(), what })?;
        let end = index * SECTOR_BYTES as u64;
        if bytes.len() as u64 > end {
            file.set_len(end)?;
        }
        let last = starts.last().map_or(0, |&index| index as usize * SECTOR_BYTES);
        file.write_at(last as u64, &bytes[last..end as usize])?;
        file.sync()?;
        let log = Log { file, header, sequence, end, group: Vec::new(), sectors: Vec::new() };
        Ok((log, groups))
    }

    pub fn header(&self) -> Header {
        self.header
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Writes a group behind the last one. It is durable, and counts, only after [`Log::sync`].
    pub fn append(&mut self, operations: &[u8]) -> io::Result<()> {
        let length = u32::try_from(operations.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "one commit of more than 4 GiB"))?;
        self.group.clear();
        self.group.put_u64(self.sequence);
        self.group.put_u32(length);
        self.group.put_u64(group_checksum(&self.header, self.sequence, operations));
        self.group.extend_from_slice(operations);
        let index = self.end / SECTOR_BYTES as u64;
        sectors::write(&mut self.sectors, self.header.owner(self.sequence), index, &self.group);
        self.file.write_at(self.end, &self.sectors)
    }

    /// Makes the appended group durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.end += self.sectors.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// Takes back an append that failed, durably: nothing of it can come back after a crash.
    pub fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync()
    }
}

/// Covers the length, the place in the order of commits, the log, and what is in the group.
fn group_checksum(header: &Header, sequence: u64, operations: &[u8]) -> u64 {
    let mut parts = [0; 48];
    parts[..16].copy_from_slice(&header.disk.0.to_le_bytes());
    parts[16..24].copy_from_slice(&header.generation.to_le_bytes());
    parts[24..32].copy_from_slice(&sequence.to_le_bytes());
    parts[32..40].copy_from_slice(&(operations.len() as u64).to_le_bytes());
    parts[40..].copy_from_slice(&xxh3_64(operations).to_le_bytes());
    xxh3_64(&parts)
}

/// The operations of the group that begins at sector `index`, and the sector behind it; `None` if a sector of it is
/// missing. Fails if all its sectors are there and it still is not a group.
fn read_group(bytes: &[u8], header: &Header, index: u64, sequence: u64) -> Result<Option<(Vec<u8>, u64)>, String> {
    let owner = header.owner(sequence);
    let Sector::Valid(first) = sectors::read(bytes, owner, index) else {
        return Ok(None);
    };
    let mut reader = Reader(first);
    let (Some(found), Some(length), Some(checksum)) = (reader.u64(), reader.u32(), reader.u64()) else {
        return Err(format!("group {sequence} has no header"));
    };
    let length = length as usize;
    let count = sectors::count(GROUP_HEADER_BYTES + length) as u64;
    if (bytes.len() as u64) < (index + count) * SECTOR_BYTES as u64 {
        return Ok(None);
    }
    let mut group = Vec::with_capacity(count as usize * PAYLOAD_BYTES);
    for index in index..index + count {
        let Sector::Valid(payload) = sectors::read(bytes, owner, index) else {
            return Ok(None);
        };
        group.extend_from_slice(payload);
    }
    group.truncate(GROUP_HEADER_BYTES + length);
    group.drain(..GROUP_HEADER_BYTES);
    if found != sequence || checksum != group_checksum(header, sequence, &group) {
        return Err(format!("group {sequence} does not match its checksum"));
    }
    Ok(Some((group, index + count)))
}

/// Behind the last whole group only sectors of the next one may lie, which a crash cut short. Anything else was
/// written and has changed since.
fn check_tail(bytes: &[u8], owner: Owner, from: u64) -> Result<(), String> {
    let sectors = (bytes.len() / SECTOR_BYTES) as u64;
    for index in from..sectors {
        if sectors::read(bytes, owner, index) == Sector::Foreign {
            let sequence = owner.sequence;
            return Err(format!(
                "sector {index} is damaged, in or behind group {sequence}; nothing is dropped silently"
            ));
        }
    }
    Ok(())
}
