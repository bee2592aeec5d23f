//! A stream of bytes cut into 512-byte sectors that each carry a checksum.
//!
//! A disk that loses power leaves a sector as it was or as it should be, never half of each. A sector that is neither
//! empty nor valid has therefore rotted, and can be told from one that was not written in time. That is what lets the
//! log end quietly at a torn tail and still refuse to lose an acknowledged group to a flipped bit.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::env::File;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// What a sector holds beside its checksum.
pub const PAYLOAD_BYTES: usize = SECTOR_BYTES - 8;

/// Which group of which log a sector belongs to; a sector of another one is not valid here, however whole it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub disk: u128,
    pub generation: u64,
    pub sequence: u64,
}

impl Owner {
    fn checksum(self, index: u64, payload: &[u8]) -> u64 {
        let mut place = [0; 48];
        place[..16].copy_from_slice(&self.disk.to_le_bytes());
        place[16..24].copy_from_slice(&self.generation.to_le_bytes());
        place[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        place[32..40].copy_from_slice(&index.to_le_bytes());
        place[40..].copy_from_slice(&xxh3_64(payload).to_le_bytes());
        xxh3_64(&place)
    }
}

/// What a sector was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sector<'a> {
    /// All zeros, or beyond the end of the file: never written, as far as the disk knows.
    Empty,
    Valid(&'a [u8]),
    /// Written, but not by this owner at this place.
    Foreign,
}

/// How many sectors hold `len` bytes.
pub const fn count(len: usize) -> usize {
    len.div_ceil(PAYLOAD_BYTES)
}

/// Replaces `out` by the sectors that hold `bytes`, the first of which is sector `index` of its file.
pub fn write(out: &mut Vec<u8>, owner: Owner, index: u64, bytes: &[u8]) {
    out.clear();
    for (index, payload) in (index..).zip(bytes.chunks(PAYLOAD_BYTES)) {
        let start = out.len();
        out.extend_from_slice(payload);
        out.resize(start + PAYLOAD_BYTES, 0);
        let sum = owner.checksum(index, &out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
    }
}

/// What was found at sector `index` of a file: 512 bytes, or fewer where the file ends.
pub fn read(sector: &[u8], owner: Owner, index: u64) -> Sector<'_> {
    if sector.len() < SECTOR_BYTES {
        return Sector::Empty;
    }
    // Most of what lies behind the last group is: that is seen faster than it is summed up.
    if sector == [0; SECTOR_BYTES] {
        return Sector::Empty;
    }
    let (payload, sum) = sector.split_at(PAYLOAD_BYTES);
    if owner.checksum(index, payload).to_le_bytes() == sum { Sector::Valid(payload) } else { Sector::Foreign }
}

/// A file of sectors, read a stretch at a time.
pub struct Stretch {
    file: Arc<dyn File>,
    len: u64,
    /// Where `bytes` begin in the file.
    start: u64,
    bytes: Vec<u8>,
}

/// How much of a file is in memory while it is read.
const STRETCH_BYTES: u64 = 1 << 20;

impl Stretch {
    pub fn new(file: Arc<dyn File>) -> io::Result<Stretch> {
        let len = file.len()?;
        Ok(Stretch { file, len, start: 0, bytes: Vec::new() })
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The bytes of a sector; fewer than 512 where the file ends.
    pub fn sector(&mut self, index: u64) -> io::Result<&[u8]> {
        let from = index * SECTOR_BYTES as u64;
        let end = (from + SECTOR_BYTES as u64).min(self.len);
        if from >= end {
            return Ok(&[]);
        }
        if from < self.start || end > self.start + self.bytes.len() as u64 {
            self.start = from;
            self.bytes.resize((self.len - from).min(STRETCH_BYTES) as usize, 0);
            self.file.read_at(from, &mut self.bytes)?;
        }
        Ok(&self.bytes[(from - self.start) as usize..(end - self.start) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { disk: 5, generation: 2, sequence: 9 };

    #[test]
    fn bytes_come_back() {
        let bytes: Vec<u8> = (0..1_300).map(|n| (n % 251) as u8 + 1).collect();
        let mut out = Vec::new();
        write(&mut out, OWNER, 0, &bytes);
        assert_eq!(out.len(), count(bytes.len()) * SECTOR_BYTES);
        let mut back = Vec::new();
        for index in 0..count(bytes.len()) as u64 {
            let Sector::Valid(payload) = read(&out[index as usize * SECTOR_BYTES..][..SECTOR_BYTES], OWNER, index)
            else {
                panic!("sector {index}")
            };
            back.extend_from_slice(payload);
        }
        assert_eq!(back[..bytes.len()], bytes);
        assert_eq!(read(&[], OWNER, 3), Sector::Empty);
        assert_eq!(read(&[0; SECTOR_BYTES], OWNER, 3), Sector::Empty);
    }

    #[test]
    fn a_sector_is_valid_for_its_owner_at_its_place_only() {
        let mut out = Vec::new();
        write(&mut out, OWNER, 0, &[7; 600]);
        for other in [Owner { disk: 6, ..OWNER }, Owner { generation: 3, ..OWNER }, Owner { sequence: 8, ..OWNER }] {
            assert_eq!(read(&out[..SECTOR_BYTES], other, 0), Sector::Foreign);
        }
        assert_eq!(read(&out[SECTOR_BYTES..], OWNER, 0), Sector::Foreign);
    }

    #[test]
    fn every_flipped_bit_shows() {
        let mut out = Vec::new();
        write(&mut out, OWNER, 0, b"a short group");
        for bit in 0..SECTOR_BYTES * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&out, OWNER, 0), Sector::Foreign, "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
