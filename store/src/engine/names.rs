//! Which names a copy surely does not hold.
//!
//! A write replaces what is held under its name, so each one looks for that first, and where most documents are new it
//! looks for nothing, at the price of reading pages all over the file. A copy that began empty while the engine was open
//! therefore keeps 32 bits of the hash of each name that it was given; whoever is not among them is new. Names are never
//! taken out: one that is gone, or that another document shares its bits with, is looked for as it always was.
//!
//! Not handled here: a copy that was found in the page file. To learn its names would be to read it.

use std::sync::Arc;

use super::digest::NameHash;

const SLOT_BYTES: usize = size_of::<u32>();
/// Slots and bytes of the first table.
const FIRST_SLOTS: usize = 64;
pub const FIRST_BYTES: usize = FIRST_SLOTS * SLOT_BYTES;

/// The names of one copy, or nothing about them.
#[derive(Clone, Debug)]
pub struct Names {
    /// Whether every name of the copy is here.
    are_known: bool,
    count: usize,
    /// An open hash table in the order of the hashes; 0 is an empty slot. Shared with the copy as it was before what is
    /// staged.
    slots: Arc<Vec<u32>>,
}

impl Default for Names {
    /// Those of a copy without documents.
    fn default() -> Names {
        Names { are_known: true, count: 0, slots: Arc::default() }
    }
}

impl Names {
    /// Those of a copy that nobody has read.
    pub fn unknown() -> Names {
        Names { are_known: false, ..Names::default() }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    /// Whether there may be a document of this name. `false` is certain.
    pub fn may_hold(&self, name: NameHash) -> bool {
        !self.are_known || (!self.slots.is_empty() && self.slots[place(&self.slots, mark(name))] != 0)
    }

    /// Takes a name in. `false` if it first has to grow, or to be given up.
    #[must_use]
    pub fn add(&mut self, name: NameHash) -> bool {
        if !self.are_known {
            return true;
        }
        if self.slots.is_empty() {
            return false;
        }
        let mark = mark(name);
        let place = place(&self.slots, mark);
        if self.slots[place] == mark {
            return true;
        }
        if 3 * self.count >= 2 * self.slots.len() {
            return false;
        }
        Arc::make_mut(&mut self.slots)[place] = mark;
        self.count += 1;
        true
    }

    /// Doubles its bytes.
    pub fn grow(&mut self) {
        let len = (2 * self.slots.len()).max(FIRST_SLOTS);
        let mut slots = vec![0; len];
        for &mark in self.slots.iter().filter(|&&mark| mark != 0) {
            let place = place(&slots, mark);
            slots[place] = mark;
        }
        self.slots = Arc::new(slots);
    }
}

/// What is kept of a name: the bits of its hash that say nothing about its bucket.
fn mark(name: NameHash) -> u32 {
    ((name.0 >> 32) as u32).max(1)
}

/// Where a mark is, or the empty slot where it would go.
fn place(slots: &[u32], mark: u32) -> usize {
    let mut place = ((u64::from(mark) * slots.len() as u64) >> 32) as usize;
    while slots[place] != 0 && slots[place] != mark {
        place = if place + 1 == slots.len() { 0 } else { place + 1 };
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> NameHash {
        NameHash::of(&format!("films\0{n}"))
    }

    #[test]
    fn what_was_added_may_be_held_and_nearly_nothing_else() {
        let mut names = Names::default();
        for n in 0..10_000 {
            assert!(!names.may_hold(hash(n)), "{n} is new");
            if !names.add(hash(n)) {
                names.grow();
                assert!(names.add(hash(n)));
            }
            assert!(names.add(hash(n)));
            assert_eq!(names.count, n as usize + 1);
        }
        assert!((0..10_000).all(|n| names.may_hold(hash(n))));
        assert!((10_000..20_000).filter(|&n| names.may_hold(hash(n))).count() < 10);
        assert!(names.bytes() <= 10_000 * SLOT_BYTES * 3, "{} bytes", names.bytes());
    }

    #[test]
    fn of_a_copy_that_nobody_has_read_anything_may_be_held() {
        let mut names = Names::unknown();
        assert!(names.may_hold(hash(1)) && names.add(hash(1)) && names.may_hold(hash(2)));
        assert_eq!(names.bytes(), 0);
    }
}
