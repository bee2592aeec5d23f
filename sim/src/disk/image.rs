//! The bytes of one file: what a reader sees, what is durable, and the operations in between.

use crate::dice::{Draws, Random};
use crate::ratio::Ratio;

/// Disks write whole sectors; a torn write is a subset of them.
pub(super) const SECTOR: u64 = 512;

/// An operation that no sync has covered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Ordinal over all operations of the disk: addresses its fate at a crash.
    pub ordinal: u64,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen { len: u64 },
}

/// What a crash did with one pending operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Survived,
    Torn,
    Lost,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// What reads see: durable bytes with everything pending applied.
    pub live: Vec<u8>,
    /// What a crash cannot take.
    pub durable: Vec<u8>,
    pub pending: Vec<Pending>,
}

impl Image {
    pub fn change(&mut self, ordinal: u64, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(Pending { ordinal, change });
    }

    pub fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            pending.change.apply(&mut self.durable);
        }
    }

    /// Applies the crash lottery in the order of the operations and returns what became of each. `draws` gives the draws of an ordinal.
    pub fn crash(&mut self, survive: Ratio, torn: Ratio, mut draws: impl FnMut(u64) -> Draws) -> Vec<Fate> {
        let fates = self
            .pending
            .drain(..)
            .map(|pending| {
                let mut draws = draws(pending.ordinal);
                if !draws.chance(survive) {
                    return Fate::Lost;
                }
                match &pending.change {
                    Change::Write { offset, data } if draws.chance(torn) => {
                        tear(&mut self.durable, *offset, data, &mut draws)
                    }
                    change => {
                        change.apply(&mut self.durable);
                        Fate::Survived
                    }
                }
            })
            .collect();
        self.live = self.durable.clone();
        fates
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => put(bytes, *offset, data),
            Change::SetLen { len } => bytes.resize(*len as usize, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

/// Writes each sector of `data` or not, by an even chance each.
fn tear(bytes: &mut Vec<u8>, offset: u64, data: &[u8], draws: &mut Draws) -> Fate {
    let (mut written, mut skipped) = (0_u32, 0_u32);
    let mut at = 0;
    while at < data.len() {
        let position = offset + at as u64;
        let sector = (SECTOR - position % SECTOR) as usize;
        let end = (at + sector).min(data.len());
        if draws.chance(Ratio::of(1, 2)) {
            put(bytes, position, &data[at..end]);
            written += 1;
        } else {
            skipped += 1;
        }
        at = end;
    }
    match (written, skipped) {
        (_, 0) => Fate::Survived,
        (0, _) => Fate::Lost,
        _ => Fate::Torn,
    }
}
