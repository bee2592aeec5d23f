//! Checksums of documents, the rows of the page file, and the operations of the log.

use std::ops::Deref;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{Reader, Writer};
use super::digest::{BUCKETS, Digest};
use super::{ShardState, Stored};
use crate::config::ShardConfig;
use crate::id::{Key, ShardId, Value, Version, WriterId};

/// A document in memory, with the checksum that it adds to its copy's digest.
#[derive(Clone, Debug)]
pub struct Held {
    pub version: Version,
    pub value: Option<Value>,
    pub sum: u64,
}

impl Held {
    pub fn new(key: &Key, version: Version, value: Option<Value>) -> Held {
        let sum = checksum(key.encoded(), version, value.as_deref());
        Held { version, value, sum }
    }

    pub fn into_stored(self) -> Stored {
        Stored { version: self.version, value: self.value }
    }

    pub fn borrowed(&self) -> Borrowed<'_> {
        Borrowed { version: self.version, value: self.value.as_deref(), sum: self.sum }
    }

    /// What this document adds to the fill of the memory table.
    pub fn bytes(&self, key: &Key) -> usize {
        key.encoded().len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// What is counted of a document that gives way to another, or is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    pub sum: u64,
    pub is_tombstone: bool,
}

impl From<Borrowed<'_>> for Former {
    fn from(held: Borrowed<'_>) -> Former {
        Former { sum: held.sum, is_tombstone: held.value.is_none() }
    }
}

/// Covers key, version, whether there is a value, and the value. Two documents that differ in any of these differ
/// here, on every node alike.
pub fn checksum(name: &str, version: Version, value: Option<&[u8]>) -> u64 {
    let mut parts = [0; 41];
    parts[..8].copy_from_slice(&version.counter.to_le_bytes());
    parts[8..24].copy_from_slice(&version.writer.0.to_le_bytes());
    parts[24] = u8::from(value.is_some());
    parts[25..33].copy_from_slice(&xxh3_64(name.as_bytes()).to_le_bytes());
    parts[33..].copy_from_slice(&xxh3_64(value.unwrap_or_default()).to_le_bytes());
    xxh3_64(&parts)
}

/// The key of the one row that says what the page file is and up to where it was flushed.
pub const META_KEY: &[u8] = &[0];

/// `1 | shard`.
pub fn shard_key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [1, a, b, c, d]
}

/// At most so many bytes stand before the document's name in its row key: table, shard and incarnation.
pub const PREFIX_BYTES: usize = 1 + (1 + 4) + (1 + 8);

/// What the row keys of one copy begin with.
pub struct Prefix {
    bytes: [u8; PREFIX_BYTES],
    len: usize,
}

impl Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// How many bytes a number has without the zeros before it.
fn significant(n: u64) -> usize {
    8 - n.leading_zeros() as usize / 8
}

/// `2 | shard | incarnation`, both with how many bytes they have before those bytes, big-endian: they are nearly always
/// small, stand in every row, and lie in the order of the numbers.
pub fn document_prefix(shard: ShardId, incarnation: u64) -> Prefix {
    let mut prefix = Prefix { bytes: [0; PREFIX_BYTES], len: 1 };
    prefix.bytes[0] = 2;
    for n in [u64::from(shard.0), incarnation] {
        let digits = significant(n);
        prefix.bytes[prefix.len] = digits as u8;
        prefix.bytes[prefix.len + 1..][..digits].copy_from_slice(&n.to_be_bytes()[8 - digits..]);
        prefix.len += 1 + digits;
    }
    prefix
}

/// `prefix | collection \0 id`: the rows of one copy lie together, in key order.
pub fn document_key(out: &mut Vec<u8>, shard: ShardId, incarnation: u64, name: &str) {
    out.clear();
    out.extend_from_slice(&document_prefix(shard, incarnation));
    out.extend_from_slice(name.as_bytes());
}

/// Stands in the first byte of a document's row, beside how many bytes the counter has, if there is a value.
const HAS_VALUE: u8 = 0x80;

/// `bytes of the counter and whether there is a value | counter | writer | checksum | value`.
pub fn document_row(out: &mut Vec<u8>, document: Borrowed<'_>) {
    let Version { counter, writer } = document.version;
    let digits = significant(counter);
    out.clear();
    out.put_u8(digits as u8 | if document.value.is_some() { HAS_VALUE } else { 0 });
    out.extend_from_slice(&counter.to_le_bytes()[..digits]);
    out.put_u128(writer.0);
    out.put_u64(document.sum);
    out.extend_from_slice(document.value.unwrap_or_default());
}

/// A document where it was found.
#[derive(Clone, Copy, Debug)]
pub struct Borrowed<'a> {
    pub version: Version,
    pub value: Option<&'a [u8]>,
    pub sum: u64,
}

impl Borrowed<'_> {
    pub fn held(&self) -> Held {
        Held { version: self.version, value: self.value.map(Arc::from), sum: self.sum }
    }
}

/// Whether the checksum of a row is computed anew when the row is read.
///
/// Every page was checked when it came from the disk. A document's own checksum guards it beyond that, wherever it is
/// taken alone, passed on to another copy, or counted; pages of a scan, which go through thousands of rows that nobody
/// keeps, rely on the check of their pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Document,
    PageOnly,
}

/// What a row holds, if it is whole.
pub fn read_document<'a>(name: &str, row: &'a [u8], check: Check) -> Option<Borrowed<'a>> {
    let (&first, rest) = row.split_first()?;
    let (has_value, digits) = (first & HAS_VALUE != 0, usize::from(first & !HAS_VALUE));
    // Eight bytes at once: behind the counter stand more than eight others.
    let mut counter = u64::from_le_bytes(*rest.first_chunk()?);
    if digits < 8 {
        counter &= (1 << (8 * digits)) - 1;
    }
    if significant(counter) != digits {
        return None;
    }
    let mut reader = Reader(&rest[digits..]);
    let version = Version { counter, writer: WriterId(reader.u128()?) };
    let sum = reader.u64()?;
    let value = has_value.then_some(reader.0);
    if !has_value {
        reader.end()?;
    }
    let is_whole = check == Check::PageOnly || checksum(name, version, value) == sum;
    is_whole.then_some(Borrowed { version, value, sum })
}

/// The row of a shard: `incarnation | max counter | documents | damaged | digest | has config | config | checksum`.
pub fn shard_row(out: &mut Vec<u8>, shard: ShardId, incarnation: u64, state: &ShardState) {
    out.clear();
    out.put_u64(incarnation);
    out.put_u64(state.max_counter);
    out.put_u64(state.documents);
    out.put_u8(u8::from(state.damaged));
    for &sum in state.digest.0.iter() {
        out.put_u64(sum);
    }
    out.put_u8(u8::from(state.config.is_some()));
    if let Some(config) = &state.config {
        assert_eq!(config.shard, shard);
        out.put_config(config);
    }
    out.put_u64(xxh3_64(out) ^ u64::from(shard.0));
}

/// Incarnation and state of a shard, if its row is whole.
pub fn read_shard(shard: ShardId, row: &[u8]) -> Option<(u64, ShardState)> {
    let (body, sum) = row.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*sum) != xxh3_64(body) ^ u64::from(shard.0) {
        return None;
    }
    let mut reader = Reader(body);
    let incarnation = reader.u64()?;
    let max_counter = reader.u64()?;
    let documents = reader.u64()?;
    let damaged = reader.flag()?;
    let mut digest = Digest::default();
    for bucket in 0..BUCKETS {
        digest.0[bucket] = reader.u64()?;
    }
    let config = if reader.flag()? { Some(reader.config()?) } else { None };
    reader.end()?;
    if config.as_ref().is_some_and(|config| config.shard != shard) {
        return None;
    }
    Some((incarnation, ShardState { config, max_counter, damaged, digest, documents }))
}

/// One operation of a group in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        shard: ShardId,
        key: Key,
        version: Version,
        value: Option<Value>,
    },
    Raise {
        shard: ShardId,
        counter: u64,
    },
    /// With `wipe`, the copy's documents, digest, counter and damage go in the same step.
    Install {
        config: ShardConfig,
        wipe: bool,
    },
    Drop {
        shard: ShardId,
    },
    Damage {
        shard: ShardId,
    },
    /// A tombstone of exactly this version is gone.
    Forget {
        shard: ShardId,
        key: Key,
        version: Version,
    },
}

/// Appends an operation to a group: a tag, the shard, and what belongs to it. The put is written without building an
/// [`Operation`] first, because it is the one that comes by the million.
pub fn write_put(out: &mut Vec<u8>, shard: ShardId, key: &Key, held: &Held) {
    out.put_u8(match held.value {
        None => 0,
        Some(_) => 1,
    });
    out.put_u32(shard.0);
    out.put_version(held.version);
    put_name(out, key);
    if let Some(value) = &held.value {
        out.put_u32(u32::try_from(value.len()).expect("a value of less than 4 GiB"));
        out.extend_from_slice(value);
    }
}

fn put_name(out: &mut Vec<u8>, key: &Key) {
    let name = key.encoded().as_bytes();
    out.put_u16(u16::try_from(name.len()).expect("a key of at most 912 bytes"));
    out.extend_from_slice(name);
}

fn read_name(reader: &mut Reader<'_>) -> Option<Key> {
    let len = usize::from(reader.u16()?);
    Key::from_encoded(std::str::from_utf8(reader.take(len)?).ok()?)
}

pub fn write_raise(out: &mut Vec<u8>, shard: ShardId, counter: u64) {
    out.put_u8(2);
    out.put_u32(shard.0);
    out.put_u64(counter);
}

pub fn write_install(out: &mut Vec<u8>, config: &ShardConfig, wipe: bool) {
    out.put_u8(if wipe { 4 } else { 3 });
    out.put_config(config);
}

pub fn write_drop(out: &mut Vec<u8>, shard: ShardId) {
    out.put_u8(5);
    out.put_u32(shard.0);
}

pub fn write_damage(out: &mut Vec<u8>, shard: ShardId) {
    out.put_u8(6);
    out.put_u32(shard.0);
}

pub fn write_forget(out: &mut Vec<u8>, shard: ShardId, key: &Key, version: Version) {
    out.put_u8(7);
    out.put_u32(shard.0);
    out.put_version(version);
    put_name(out, key);
}

/// All operations of a group, or `None` if it is not exactly a sequence of them.
pub fn read_operations(group: &[u8]) -> Option<Vec<Operation>> {
    let mut reader = Reader(group);
    let mut operations = Vec::new();
    while reader.end().is_none() {
        operations.push(read_operation(&mut reader)?);
    }
    Some(operations)
}

fn read_operation(reader: &mut Reader<'_>) -> Option<Operation> {
    let tag = reader.u8()?;
    if tag == 3 || tag == 4 {
        return Some(Operation::Install { config: reader.config()?, wipe: tag == 4 });
    }
    let shard = ShardId(reader.u32()?);
    Some(match tag {
        0 | 1 => {
            let version = reader.version()?;
            let key = read_name(reader)?;
            let value = if tag == 1 {
                let len = reader.u32()? as usize;
                Some(Arc::from(reader.take(len)?))
            } else {
                None
            };
            Operation::Put { shard, key, version, value }
        }
        2 => Operation::Raise { shard, counter: reader.u64()? },
        5 => Operation::Drop { shard },
        6 => Operation::Damage { shard },
        7 => {
            let version = reader.version()?;
            Operation::Forget { shard, key: read_name(reader)?, version }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
