//! Batches by count and bytes: large enough that one sync serves many documents, small enough for any memory and frame.

use crate::router::Request;

/// Bytes of a batch, but for a single document that is larger.
pub const MAX_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Writes {
    writes: Vec<Request>,
    bytes: usize,
    most: usize,
}

impl Writes {
    /// `most`: documents of a batch.
    pub fn new(most: usize) -> Writes {
        Writes { writes: Vec::new(), bytes: 0, most }
    }

    pub fn push(&mut self, write: Request) {
        self.bytes += write.key().encoded().len();
        if let Request::Put { value, .. } = &write {
            self.bytes += value.len();
        }
        self.writes.push(write);
    }

    pub fn is_full(&self) -> bool {
        self.writes.len() >= self.most || self.bytes >= MAX_BYTES
    }

    pub fn take(&mut self) -> Vec<Request> {
        self.bytes = 0;
        std::mem::take(&mut self.writes)
    }
}
