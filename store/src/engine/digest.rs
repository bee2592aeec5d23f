//! What two copies of a shard compare instead of their documents.
//!
//! A digest is 256 sums. A document adds its checksum, which covers key, version and value, to the sum of its bucket;
//! taking a document out subtracts it again. Addition wraps, so the order in which writes arrived leaves no trace:
//! two copies that hold the same documents have the same digest, however they came by them.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::Key;

/// How many buckets a shard's documents are spread over.
pub const BUCKETS: usize = 256;

/// Keeps buckets independent of the shard a key falls into, which is chosen by the unseeded hash.
const BUCKET_SEED: u64 = 0x6d69_726f_6972_2d62;

/// How many buckets of the next level a bucket splits into.
pub const FAN_OUT: usize = 16;

/// The finest level: 256 buckets, each split three times, 2^20 in all.
pub const MAX_LEVEL: u8 = 3;

/// A bucket of some level. Level 0 is what a [`Digest`] keeps up; the finer ones are computed when they are asked for.
/// Bucket `b` of one level splits into `b + 256 * 16^level * (0..16)` of the next: more bits of the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bucket(pub u32);

/// The hash that spreads the documents of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameHash(pub u64);

impl NameHash {
    /// Of a document's name (`collection \0 id`).
    pub fn of(name: &str) -> NameHash {
        NameHash(xxh3_64_with_seed(name.as_bytes(), BUCKET_SEED))
    }

    /// The bucket of level 0.
    pub fn bucket(self) -> u16 {
        (self.0 % BUCKETS as u64) as u16
    }
}

impl Bucket {
    /// The bucket of a document (`collection \0 id`).
    pub fn of(name: &str, level: u8) -> Bucket {
        Bucket((NameHash::of(name).0 % Bucket::count(level)) as u32)
    }

    /// How many buckets a level has.
    pub fn count(level: u8) -> u64 {
        assert!(level <= MAX_LEVEL);
        (BUCKETS as u64) << (4 * level)
    }

    /// The buckets of the next level that this one of `level` splits into.
    pub fn split(self, level: u8) -> impl Iterator<Item = Bucket> {
        (0..FAN_OUT as u32).map(move |part| Bucket(self.0 + part * Bucket::count(level) as u32))
    }
}

/// Order-free wrapping sums of the checksums of a copy's documents, tombstones included, per bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct Digest(pub Box<[u64; BUCKETS]>);

impl Default for Digest {
    fn default() -> Digest {
        Digest(Box::new([0; BUCKETS]))
    }
}

impl Digest {
    /// The bucket of a document, `0..BUCKETS`; the same on every node.
    pub fn bucket(key: &Key) -> u16 {
        NameHash::of(key.encoded()).bucket()
    }

    /// The buckets in which two copies differ, ascending.
    pub fn differing(&self, other: &Digest) -> Vec<u16> {
        (0..BUCKETS as u16).filter(|&bucket| self.0[usize::from(bucket)] != other.0[usize::from(bucket)]).collect()
    }

    pub(super) fn add(&mut self, bucket: u16, sum: u64) {
        let slot = &mut self.0[usize::from(bucket)];
        *slot = slot.wrapping_add(sum);
    }

    pub(super) fn subtract(&mut self, bucket: u16, sum: u64) {
        let slot = &mut self.0[usize::from(bucket)];
        *slot = slot.wrapping_sub(sum);
    }
}

impl From<Digest> for Vec<u64> {
    fn from(digest: Digest) -> Vec<u64> {
        digest.0.to_vec()
    }
}

impl TryFrom<Vec<u64>> for Digest {
    type Error = String;

    fn try_from(sums: Vec<u64>) -> Result<Digest, String> {
        let count = sums.len();
        let sums: Box<[u64; BUCKETS]> =
            sums.into_boxed_slice().try_into().map_err(|_| format!("a digest has {BUCKETS} sums, not {count}"))?;
        Ok(Digest(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_leaves_no_trace() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(7, u64::MAX);
        one.add(7, 5);
        one.add(9, 1);
        other.add(9, 1);
        other.add(7, 5);
        assert_eq!(one.differing(&other), vec![7]);
        other.add(7, u64::MAX);
        assert_eq!(one, other);
        one.subtract(7, 5);
        one.subtract(7, u64::MAX);
        one.subtract(9, 1);
        assert_eq!(one, Digest::default());
    }

    #[test]
    fn buckets_do_not_follow_shards() {
        let mut buckets = std::collections::BTreeSet::new();
        let mut of_shard_0 = 0;
        for n in 0..40_000 {
            let key = Key::new("films", &format!("{n}")).expect("a valid key");
            if key.shard(16).0 == 0 {
                of_shard_0 += 1;
                buckets.insert(Digest::bucket(&key));
            }
        }
        assert!(of_shard_0 > 2_000);
        assert!(buckets.len() > 250, "one shard uses nearly all buckets, not {}", buckets.len());
    }
}
