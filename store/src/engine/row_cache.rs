//! Rows of the page file that were read lately, by their keys.
//!
//! A get that finds its pages in memory still walks from the root to a leaf and searches each page on the way: a dozen
//! places or more all over the memory, each waited for. A row that is kept here is found in two: the index says where
//! it is, and key and row lie there in one piece.
//!
//! ```text
//! index: sets of 8 places            place: tag u16 | position u48; 0: empty
//! ring:  entries, the newest over the oldest    entry: bytes of the key u16 | bytes of the row u16 | key | row
//! ```
//!
//! What is here belongs to one table that nobody writes any more. Whoever takes another table calls
//! [`RowCache::clear`], which forgets everything at once: a position only counts up, so what lies before the present one
//! is known to be gone. An entry ends in the same way when another is written over it.
//!
//! The oldest row goes first. Once the ring is full, one new row in four is taken: what is read often comes in all the
//! same, and a walk through more rows than there is room for leaves most of the others where they are, instead of pushing
//! out each before it is read again (Qureshi et al., "Adaptive Insertion Policies for High Performance Caching", 2007).
//!
//! Not handled here: whether a row is whole. Whoever reads it checks the document's checksum.

use xxhash_rust::xxh3::xxh3_64;

/// Places that a row may have in the index: one set, a cache line.
const WAYS: usize = 8;
const SET_BYTES: usize = WAYS * size_of::<u64>();

/// So much memory has one set of its own. Its places are enough for rows of 128 bytes, keys included.
const BYTES_PER_SET: usize = 1024;

/// Positions are counted in grains, and an entry begins with one.
const GRAIN: usize = 8;

/// Bits of a place that say where the entry is; the tag has the others.
const POSITION_BITS: u32 = 48;

/// From here on positions begin anew, after 1 PiB of entries; those of one entry still fit in.
const LAST_POSITION: u64 = 1 << (POSITION_BITS - 1);

/// One in so many rows is taken once the ring is full.
const TAKEN_ONE_IN: u64 = 4;

const HEADER_BYTES: usize = 2 * size_of::<u16>();

/// Longer entries are not kept: reading one costs its own bytes, wherever they lie, and it would push out many others.
const MAX_ENTRY_BYTES: usize = 2048;

/// Rows of one table.
pub struct RowCache {
    bytes: usize,
    /// Both are empty until the first row comes, and the system provides their memory as it fills.
    index: Vec<u64>,
    ring: Vec<u8>,
    /// The position of the next entry, and the least that may be read.
    next: u64,
    first: u64,
    /// Rows that came when the ring was full.
    late: u64,
}

impl RowCache {
    /// One that takes so many bytes of memory, index included. 0: it keeps nothing.
    pub fn new(bytes: usize) -> RowCache {
        RowCache { bytes, index: Vec::new(), ring: Vec::new(), next: 1, first: 1, late: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.first = self.next;
    }

    /// The row that was kept under this key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        if self.index.is_empty() {
            return None;
        }
        let (set, tag) = self.set_of(key);
        self.index[set..][..WAYS].iter().find_map(|&place| {
            let (of, position) = split(place);
            if of == tag && (self.first..self.next).contains(&position) { self.row_at(position, key) } else { None }
        })
    }

    /// Keeps a row, over the oldest ones.
    pub fn put(&mut self, key: &[u8], row: &[u8]) {
        let len = HEADER_BYTES + key.len() + row.len();
        if len > MAX_ENTRY_BYTES || len > self.ring_bytes() {
            return;
        }
        if self.index.is_empty() || self.next >= LAST_POSITION {
            self.begin();
        }
        let grains = len.div_ceil(GRAIN) as u64;
        if self.next + grains > self.first + self.ring_grains() {
            self.late += 1;
            if !self.late.is_multiple_of(TAKEN_ONE_IN) {
                return;
            }
        }
        let position = self.make_room(grains);
        let at = self.offset(position);
        let (header, rest) = self.ring[at..][..len].split_at_mut(HEADER_BYTES);
        header[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
        header[2..].copy_from_slice(&(row.len() as u16).to_le_bytes());
        rest[..key.len()].copy_from_slice(key);
        rest[key.len()..].copy_from_slice(row);

        // In the place of what has its tag, which is most likely the same row; else of the oldest.
        let (set, tag) = self.set_of(key);
        let places = &mut self.index[set..][..WAYS];
        let rank = |place: &&mut u64| match split(**place) {
            (of, _) if of == tag => 0,
            (_, position) => position,
        };
        let place = places.iter_mut().min_by_key(rank).expect("a set has places");
        *place = u64::from(tag) << POSITION_BITS | position;
    }

    fn set_count(&self) -> usize {
        self.bytes.div_ceil(BYTES_PER_SET)
    }

    fn ring_bytes(&self) -> usize {
        self.bytes.saturating_sub(self.set_count() * SET_BYTES) / GRAIN * GRAIN
    }

    fn ring_grains(&self) -> u64 {
        (self.ring.len() / GRAIN) as u64
    }

    /// Takes the memory; also when positions are used up.
    fn begin(&mut self) {
        self.index = vec![0; self.set_count() * WAYS];
        self.ring = vec![0; self.ring_bytes()];
        (self.next, self.first) = (1, 1);
    }

    /// Where the set of a key begins, and the tag of its place, which is not that of an empty one. Both come from one hash
    /// and share no bits.
    fn set_of(&self, key: &[u8]) -> (usize, u16) {
        let hash = xxh3_64(key);
        let set = ((hash >> 32) * (self.index.len() / WAYS) as u64) >> 32;
        (set as usize * WAYS, (hash as u16).max(1))
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.ring_grains()) as usize * GRAIN
    }

    /// The position of an entry of so many grains. Entries lie in one piece; an end of the ring that is too short for
    /// one stays empty.
    fn make_room(&mut self, grains: u64) -> u64 {
        let ring = self.ring_grains();
        let left = ring - self.next % ring;
        let position = if grains <= left { self.next } else { self.next + left };
        self.next = position + grains;
        // What began more than a ring ago was written over, at least in part.
        self.first = self.first.max(self.next.saturating_sub(ring));
        position
    }

    /// The row of the entry at a position, if its key is this one. Memory may have changed its lengths.
    fn row_at(&self, position: u64, key: &[u8]) -> Option<&[u8]> {
        let (header, rest) = self.ring.get(self.offset(position)..)?.split_first_chunk::<HEADER_BYTES>()?;
        let [a, b, c, d] = *header;
        let (key_len, row_len) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let (found, rest) = rest.split_at_checked(usize::from(key_len))?;
        if found == key { rest.get(..usize::from(row_len)) } else { None }
    }
}

fn split(place: u64) -> (u16, u64) {
    ((place >> POSITION_BITS) as u16, place & ((1 << POSITION_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(n: u64) -> Vec<u8> {
        format!("films\0{n}").into_bytes()
    }

    /// The row of a key in some table.
    fn row(n: u64, table: u64) -> Vec<u8> {
        let len = [0, 1, 30, 150, 150, 700, 3_000][(n % 7) as usize];
        std::iter::repeat_n(xxh3_64(&[n.to_le_bytes(), table.to_le_bytes()].concat()).to_le_bytes(), len / 8 + 1)
            .flatten()
            .take(len)
            .collect()
    }

    fn kept(cache: &RowCache, keys: u64) -> usize {
        (0..keys).filter(|&n| cache.get(&key(n)).is_some()).count()
    }

    proptest! {
        /// Whatever was pushed out on the way, what is found is what the present table holds.
        #[test]
        fn what_is_found_is_of_the_present_table(
            bytes in 0..8_000usize,
            steps in vec((0..40u64, prop::bool::weighted(0.02)), 1..400),
        ) {
            let (mut cache, mut table) = (RowCache::new(bytes), 0);
            for (n, is_next_table) in steps {
                if is_next_table {
                    table += 1;
                    cache.clear();
                    prop_assert_eq!(kept(&cache, 40), 0);
                }
                match cache.get(&key(n)) {
                    Some(found) => prop_assert_eq!(found, &row(n, table)[..]),
                    None => cache.put(&key(n), &row(n, table)),
                }
                prop_assert!(cache.index.len() * 8 + cache.ring.len() <= bytes.max(SET_BYTES));
            }
        }
    }

    #[test]
    fn nearly_all_that_fits_is_kept() {
        let mut cache = RowCache::new(1 << 20);
        for round in 0..3 {
            (0..4_000).for_each(|n| cache.put(&key(n), &[round; 200]));
            let count = kept(&cache, 4_000);
            assert!(count >= 3_950, "{count} of 4,000");
            cache.clear();
        }
    }

    /// Rows for twice the room, read in turn again and again: most reads of what there is room for find it.
    #[test]
    fn a_walk_through_too_many_rows_leaves_some_where_they_are() {
        let mut cache = RowCache::new(1 << 20);
        let (mut found, mut read) = (0, 0);
        for n in (0..10).flat_map(|_| 0..9_000) {
            match cache.get(&key(n)) {
                Some(_) => found += 1,
                None => cache.put(&key(n), &[7; 200]),
            }
            read += 1;
        }
        assert!(found * 3 > read, "{found} of {read}");
    }

    #[test]
    fn long_rows_and_no_memory() {
        let (mut cache, mut none) = (RowCache::new(1 << 20), RowCache::new(0));
        cache.put(&key(1), &[1; MAX_ENTRY_BYTES]);
        none.put(&key(1), &[1; 10]);
        assert_eq!((cache.get(&key(1)), none.get(&key(1))), (None, None));
        assert_eq!((cache.ring.len(), none.ring.len()), (0, 0), "and nothing was taken for them");
    }

    #[test]
    fn positions_begin_anew() {
        let mut cache = RowCache::new(10_000);
        cache.put(&key(1), &[1; 10]);
        (cache.next, cache.first) = (LAST_POSITION, LAST_POSITION);
        cache.put(&key(2), &[2; 10]);
        assert_eq!((cache.get(&key(1)), cache.get(&key(2))), (None, Some(&[2; 10][..])));
    }

    /// Memory that changes is nobody's fault here, as long as it ends in no panic.
    #[test]
    fn any_bit_may_flip() {
        let mut cache = RowCache::new(600);
        for n in 0..4 {
            cache.put(&key(n), &[n as u8; 100]);
        }
        for bit in 0..cache.ring.len() * 8 {
            cache.ring[bit / 8] ^= 1 << (bit % 8);
            kept(&cache, 4);
            cache.ring[bit / 8] ^= 1 << (bit % 8);
        }
        for bit in 0..cache.index.len() * 64 {
            cache.index[bit / 64] ^= 1 << (bit % 64);
            kept(&cache, 4);
            cache.index[bit / 64] ^= 1 << (bit % 64);
        }
        assert_eq!(kept(&cache, 4), 4);
    }
}
