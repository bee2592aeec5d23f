//! What happens to bytes.

use crate::disk::Rng;

/// Does to bytes what disks, networks and enemies do: flips, cuts, doubles, overwrites, lies about lengths.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        let len = bytes.len() as u64;
        if len == 0 {
            bytes.push(rng.next() as u8);
            continue;
        }
        let at = rng.below(len) as usize;
        match rng.below(8) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + rng.below(40) as usize).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            4 => {
                let end = (at + 1 + rng.below(40) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let large = [u64::MAX, u64::from(u32::MAX), 1 << 40, 0, 255][rng.below(5) as usize].to_le_bytes();
                let width = [1, 2, 4, 8][rng.below(4) as usize].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&large[..width]);
            }
            6 if !other.is_empty() => {
                let from = rng.below(other.len() as u64) as usize;
                let width = (1 + rng.below(60) as usize).min(other.len() - from).min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&other[from..from + width]);
            }
            _ => bytes.insert(at, rng.next() as u8),
        }
    }
}
