//! A node's staging area: what an import in broadcast mode has sent to every node, and that no shard holds yet.
//!
//! ```text
//! staging-<import>-<shard>     what was appended, byte for byte
//! staging-<import>-manifest    length, checksum, what the importer says about a complete staging
//! ```
//!
//! The node does not look into what is staged; it is no copy of any shard, nobody reads documents from it, and it takes no
//! part in quorums. Appending names the offset, so that a message that comes twice writes the same bytes to the same place.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::env::Disk;
use crate::error::EngineError;
use crate::id::ShardId;
use crate::wire::{StagingAction, StagingReply};

/// No import is called so: dropping it drops what any import has staged.
pub const EVERY_IMPORT: u128 = 0;
/// Bytes of a manifest's checksum.
const SUM_BYTES: usize = 8;

#[derive(Debug)]
pub struct Staging {
    disk: Arc<dyn Disk>,
}

impl Staging {
    pub fn new(disk: Arc<dyn Disk>) -> Staging {
        Staging { disk }
    }

    /// Does what is asked; it is durable when this returns.
    pub fn perform(&self, import: u128, action: StagingAction) -> Result<StagingReply, EngineError> {
        let done = match action {
            StagingAction::Append { shard, offset, bytes } => self.append(import, shard, offset, &bytes),
            StagingAction::Seal { manifest } => self.seal(import, &manifest),
            StagingAction::Manifest => self.manifest(import).map(StagingReply::Manifest),
            StagingAction::Read { shard, offset, limit } => self.read(import, shard, offset, limit),
            StagingAction::Drop => self.drop(import),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Ok(StagingReply::Refused(format!("no room to stage on: {error}")))
            }
            done => Ok(done?),
        }
    }

    fn append(&self, import: u128, shard: ShardId, offset: u64, bytes: &[u8]) -> io::Result<StagingReply> {
        let file = self.disk.open(&part(import, shard))?;
        if offset > file.len()? {
            return Ok(StagingReply::Refused(format!("{shard} has {} bytes staged, not {offset}", file.len()?)));
        }
        file.write_at(offset, bytes)?;
        file.sync()?;
        Ok(StagingReply::Done)
    }

    fn seal(&self, import: u128, manifest: &[u8]) -> io::Result<StagingReply> {
        let file = self.disk.open(&sealed(import))?;
        let sum = xxh3_64(manifest).to_le_bytes();
        file.set_len((SUM_BYTES + manifest.len()) as u64)?;
        file.write_at(0, &[&sum, manifest].concat())?;
        file.sync()?;
        Ok(StagingReply::Done)
    }

    /// A manifest that was not written whole is none.
    fn manifest(&self, import: u128) -> io::Result<Option<Vec<u8>>> {
        if !self.disk.list()?.contains(&sealed(import)) {
            return Ok(None);
        }
        let file = self.disk.open(&sealed(import))?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(0, &mut bytes)?;
        Ok(bytes
            .split_at_checked(SUM_BYTES)
            .and_then(|(sum, manifest)| (xxh3_64(manifest).to_le_bytes() == sum).then(|| manifest.to_vec())))
    }

    fn read(&self, import: u128, shard: ShardId, offset: u64, limit: u32) -> io::Result<StagingReply> {
        let name = part(import, shard);
        if !self.disk.list()?.contains(&name) {
            return Ok(StagingReply::Refused(format!("{shard} is not staged here")));
        }
        let file = self.disk.open(&name)?;
        let left = file.len()?.saturating_sub(offset);
        let mut bytes = vec![0; left.min(u64::from(limit)) as usize];
        file.read_at(offset, &mut bytes)?;
        Ok(StagingReply::Bytes(bytes))
    }

    /// The manifest goes first: without it what is left is nothing.
    fn drop(&self, import: u128) -> io::Result<StagingReply> {
        let mut names = self.disk.list()?;
        let prefix = if import == EVERY_IMPORT { PREFIX.to_owned() } else { prefix(import) };
        names.sort_by_key(|name| !name.ends_with(MANIFEST));
        for name in names {
            if name.starts_with(&prefix) {
                self.disk.remove(&name)?;
            }
        }
        Ok(StagingReply::Done)
    }
}

const PREFIX: &str = "staging-";
const MANIFEST: &str = "-manifest";

fn prefix(import: u128) -> String {
    format!("{PREFIX}{import:032x}-")
}

fn part(import: u128, shard: ShardId) -> String {
    format!("{}{}", prefix(import), shard.0)
}

fn sealed(import: u128) -> String {
    format!("{}manifest", prefix(import))
}
