//! Little-endian numbers and byte strings, in and out. Everything the engine stores is built from these by hand, so
//! that the format on disk is what docs/formats.md says and not what a library of the day makes of a struct.

use crate::config::{Cutover, Form, Replica, ShardConfig};
use crate::id::{DiskId, Epoch, NodeId, Session, ShardId, Version, WriterId};

/// Takes a byte string apart from the front. Every method is `None` once there is too little left.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// One byte that can only be 0 or 1.
    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn version(&mut self) -> Option<Version> {
        Some(Version { counter: self.u64()?, writer: WriterId(self.u128()?) })
    }

    fn epoch(&mut self) -> Option<Epoch> {
        Some(Epoch { generation: self.u32()?, n: self.u64()? })
    }

    fn replicas(&mut self) -> Option<Vec<Replica>> {
        let count = self.u16()?;
        (0..count)
            .map(|_| {
                Some(Replica { node: NodeId(self.u32()?), session: Session(self.epoch()?), disk: DiskId(self.u128()?) })
            })
            .collect()
    }

    pub fn config(&mut self) -> Option<ShardConfig> {
        Some(ShardConfig {
            shard: ShardId(self.u32()?),
            shard_count: self.u32()?,
            epoch: self.epoch()?,
            form: match self.u8()? {
                0 => Form::Stable,
                1 => Form::DualWrite,
                2 => Form::Joint,
                _ => return None,
            },
            cutover: match self.u8()? {
                0 => Cutover::Delta,
                1 => Cutover::Skipped,
                _ => return None,
            },
            gc_barrier: self.epoch()?,
            old: self.replicas()?,
            new: self.replicas()?,
            leaving: self.replicas()?,
            recovering: self.replicas()?,
        })
    }

    /// `Some` if everything was taken: bytes after the end are as wrong as bytes that are missing.
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends to a byte string what [`Reader`] takes from one.
pub trait Writer {
    fn put_u8(&mut self, n: u8);
    fn put_u16(&mut self, n: u16);
    fn put_u32(&mut self, n: u32);
    fn put_u64(&mut self, n: u64);
    fn put_u128(&mut self, n: u128);
    fn put_version(&mut self, version: Version);
    fn put_config(&mut self, config: &ShardConfig);
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, n: u8) {
        self.push(n);
    }

    fn put_u16(&mut self, n: u16) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_u32(&mut self, n: u32) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_u64(&mut self, n: u64) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_u128(&mut self, n: u128) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_version(&mut self, version: Version) {
        self.put_u64(version.counter);
        self.put_u128(version.writer.0);
    }

    fn put_config(&mut self, config: &ShardConfig) {
        // Taken apart by name, so that a field that is added cannot be forgotten here.
        let ShardConfig { shard, shard_count, epoch, form, old, new, leaving, recovering, cutover, gc_barrier } =
            config;
        self.put_u32(shard.0);
        self.put_u32(*shard_count);
        put_epoch(self, *epoch);
        self.put_u8(match form {
            Form::Stable => 0,
            Form::DualWrite => 1,
            Form::Joint => 2,
        });
        self.put_u8(match cutover {
            Cutover::Delta => 0,
            Cutover::Skipped => 1,
        });
        put_epoch(self, *gc_barrier);
        for replicas in [old, new, leaving, recovering] {
            let count = u16::try_from(replicas.len()).expect("a replica set of fewer than 65,536 nodes");
            self.put_u16(count);
            for replica in replicas {
                self.put_u32(replica.node.0);
                put_epoch(self, replica.session.0);
                self.put_u128(replica.disk.0);
            }
        }
    }
}

fn put_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.put_u32(epoch.generation);
    out.put_u64(epoch.n);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ShardConfig {
        let replica = |node| Replica {
            node: NodeId(node),
            session: Session(Epoch { generation: 2, n: u64::from(node) }),
            disk: DiskId(u128::from(node) << 100),
        };
        ShardConfig {
            shard: ShardId(9),
            shard_count: 16,
            epoch: Epoch { generation: 2, n: 77 },
            form: Form::Joint,
            old: vec![replica(1), replica(2)],
            new: vec![replica(3)],
            leaving: vec![],
            recovering: vec![replica(4)],
            cutover: Cutover::Skipped,
            gc_barrier: Epoch { generation: 1, n: 3 },
        }
    }

    #[test]
    fn a_config_comes_back() {
        let mut out = Vec::new();
        out.put_config(&config());
        let mut reader = Reader(&out);
        assert_eq!(reader.config(), Some(config()));
        assert_eq!(reader.end(), Some(()));
    }

    #[test]
    fn a_cut_config_is_none() {
        let mut out = Vec::new();
        out.put_config(&config());
        for len in 0..out.len() {
            assert_eq!(Reader(&out[..len]).config(), None, "cut to {len} bytes");
        }
    }
}
