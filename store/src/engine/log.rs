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
//! The file is longer than its groups: now and then zeros are written behind one, so that those that follow change no
//! length and their syncs write one thing and not two.
//!
//! A flush begins a new generation in a new file. A sector is valid only under its disk, generation, group and place,
//! so nothing that an older log left on the disk is ever replayed.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{Reader, Writer};
use super::sectors::{self, Owner, SECTOR_BYTES, Sector, Stretch};
use crate::env::{Disk, File};
use crate::error::EngineError;
use crate::id::DiskId;

const MAGIC: &[u8; 8] = b"MIROIRLG";
/// The format of log and page file, raised together.
pub const FORMAT: u32 = 2;
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
        if len < SECTOR_BYTES as u64 && generation > 1 {
            // There was room for a part of it. The log before it is still there; without that, nothing opens.
            return Ok(None);
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

/// A log grows to the next multiple of this, unless it is for a group so large that growing costs little beside it.
const RESERVE_BYTES: u64 = 64 << 10;
const LARGE_GROUP_BYTES: u64 = RESERVE_BYTES / 4;

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
    /// How long the file is: zeros behind `end`.
    reserved: u64,
    group: Vec<u8>,
    sectors: Vec<u8>,
    /// Bytes of the group that was appended and is not synced.
    appended: u64,
}

impl Log {
    /// Begins a log, durably. A file that is there already under its name is one whose creation was cut short.
    ///
    /// Fails with `Full` if there is no room; then there is no such file. Were its header on the disk all the same, whatever an
    /// older log takes from now on would be lost behind it, and half of a first header would be taken for rot.
    pub fn create(disk: &dyn Disk, header: Header) -> Result<Log, EngineError> {
        match Log::begin(disk, header).map_err(super::io_error) {
            Err(error @ EngineError::Full(_)) => {
                disk.remove(&Header::name(header.generation))?;
                Err(error)
            }
            result => result,
        }
    }

    fn begin(disk: &dyn Disk, header: Header) -> io::Result<Log> {
        let name = Header::name(header.generation);
        disk.remove(&name)?;
        let log = Log {
            file: disk.open_synced(&name)?,
            header,
            sequence: 1,
            end: SECTOR_BYTES as u64,
            reserved: SECTOR_BYTES as u64,
            group: Vec::new(),
            sectors: Vec::new(),
            appended: 0,
        };
        let mut sector = Vec::new();
        header.encode(&mut sector);
        log.file.write_at(0, &sector)?;
        log.file.sync()?;
        Ok(log)
    }

    /// Opens a log whose header was read, and passes on its committed groups, oldest first.
    ///
    /// The rest of a group that was cut short is cut off. The last group, which may have been read from a cache whose
    /// sync had failed, is written again and synced, so that whatever is replayed is durable before it is answered.
    /// Fails with `Corrupt` if anything but the tail does not fit.
    pub fn recover(
        disk: &dyn Disk,
        header: Header,
        mut replay: impl FnMut(&[u8]) -> Result<(), EngineError>,
    ) -> Result<Log, EngineError> {
        let name = Header::name(header.generation);
        let corrupt = |what| EngineError::Corrupt { file: name.clone(), what };
        let file = disk.open_synced(&name)?;
        let mut stretch = Stretch::new(Arc::clone(&file))?;
        let (mut index, mut sequence) = (1, 1);
        let mut group = Group::default();
        // The last whole group, as it lies in the file.
        let (mut last, mut start) = (stretch.sector(0)?.to_vec(), 0);
        while let Some(next) = group.read(&mut stretch, &header, index, sequence)?.map_err(corrupt)? {
            replay(group.operations())?;
            std::mem::swap(&mut last, &mut group.sectors);
            start = index;
            index = next;
            sequence += 1;
        }
        let tail = check_tail(&mut stretch, header.owner(sequence), index)?.map_err(corrupt)?;
        let end = index * SECTOR_BYTES as u64;
        let mut reserved = stretch.len();
        if tail == Tail::CutShort {
            file.set_len(end)?;
            reserved = end;
        }
        file.write_at(start * SECTOR_BYTES as u64, &last)?;
        file.sync()?;
        Ok(Log { file, header, sequence, end, reserved, group: Vec::new(), sectors: Vec::new(), appended: 0 })
    }

    /// Whether header and groups can still be read back from the disk, and nothing but zeros lies behind them: anything
    /// else would keep the next process from opening it.
    pub fn is_whole(&self, disk: &dyn Disk) -> Result<bool, EngineError> {
        match Header::read(disk, self.header.generation) {
            Ok(Some(header)) if header == self.header => {}
            Ok(_) | Err(EngineError::Corrupt { .. } | EngineError::Format { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut stretch = Stretch::new(Arc::clone(&self.file))?;
        let mut group = Group::default();
        let mut index = 1;
        for sequence in 1..self.sequence {
            match group.read(&mut stretch, &self.header, index, sequence)? {
                Ok(Some(next)) => index = next,
                Ok(None) | Err(_) => return Ok(false),
            }
        }
        let tail = check_tail(&mut stretch, self.header.owner(self.sequence), index)?;
        Ok(index * SECTOR_BYTES as u64 == self.end && tail == Ok(Tail::Empty))
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
        self.appended = self.sectors.len() as u64;
        let end = self.end + self.appended;
        if end > self.reserved {
            let is_large = self.appended > LARGE_GROUP_BYTES;
            self.reserved = if is_large { end } else { end.next_multiple_of(RESERVE_BYTES) };
            self.sectors.resize((self.reserved - self.end) as usize, 0);
        }
        self.file.write_at(self.end, &self.sectors)
    }

    /// Makes the appended group durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync().or_else(|error| if mutant!("M30") { Ok(()) } else { Err(error) })?;
        self.end += self.appended;
        self.sequence += 1;
        Ok(())
    }

    /// Takes back an append that failed, durably: nothing of it can come back after a crash.
    pub fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.reserved = self.end;
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

/// A group as it was read.
#[derive(Default)]
struct Group {
    sectors: Vec<u8>,
    payload: Vec<u8>,
}

impl Group {
    fn operations(&self) -> &[u8] {
        &self.payload[GROUP_HEADER_BYTES..]
    }

    /// Reads the group that begins at sector `index`; the sector behind it, or `None` if a sector of it is missing.
    /// The inner error says what is wrong if all its sectors are there and it still is not a group.
    fn read(
        &mut self,
        stretch: &mut Stretch,
        header: &Header,
        index: u64,
        sequence: u64,
    ) -> io::Result<Result<Option<u64>, String>> {
        let owner = header.owner(sequence);
        self.sectors.clear();
        self.payload.clear();
        if !self.take(stretch, owner, index)? {
            return Ok(Ok(None));
        }
        let mut reader = Reader(&self.payload);
        let (Some(found), Some(length), Some(checksum)) = (reader.u64(), reader.u32(), reader.u64()) else {
            return Ok(Err(format!("group {sequence} has no header")));
        };
        let bytes = GROUP_HEADER_BYTES + length as usize;
        let end = index + sectors::count(bytes) as u64;
        if stretch.len() < end * SECTOR_BYTES as u64 {
            return Ok(Ok(None));
        }
        for index in index + 1..end {
            if !self.take(stretch, owner, index)? {
                return Ok(Ok(None));
            }
        }
        self.payload.truncate(bytes);
        if found != sequence || checksum != group_checksum(header, sequence, self.operations()) {
            return Ok(Err(format!("group {sequence} does not match its checksum")));
        }
        Ok(Ok(Some(end)))
    }

    /// Takes one more sector in; `false` if it is not of this group.
    fn take(&mut self, stretch: &mut Stretch, owner: Owner, index: u64) -> io::Result<bool> {
        let sector = stretch.sector(index)?;
        let Sector::Valid(payload) = sectors::read(sector, owner, index) else {
            return Ok(false);
        };
        self.sectors.extend_from_slice(sector);
        self.payload.extend_from_slice(payload);
        Ok(true)
    }
}

/// What lies behind the last whole group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// Nothing, or room that is reserved.
    Empty,
    /// A part of the next group, or half a sector.
    CutShort,
}

/// Behind the last whole group only sectors of the next one may lie, which a crash cut short, and zeros. Anything else
/// was written and has changed since.
fn check_tail(stretch: &mut Stretch, owner: Owner, from: u64) -> io::Result<Result<Tail, String>> {
    let mut tail = if stretch.len().is_multiple_of(SECTOR_BYTES as u64) { Tail::Empty } else { Tail::CutShort };
    for index in from..stretch.len() / SECTOR_BYTES as u64 {
        match sectors::read(stretch.sector(index)?, owner, index) {
            Sector::Empty => {}
            Sector::Valid(_) => tail = Tail::CutShort,
            Sector::Foreign => {
                let sequence = owner.sequence;
                return Ok(Err(format!(
                    "sector {index} is damaged, in or behind group {sequence}; nothing is dropped silently"
                )));
            }
        }
    }
    Ok(Ok(tail))
}
