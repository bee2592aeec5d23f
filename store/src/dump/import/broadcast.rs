//! Broadcast: every node gets everything, and the documents are written to their owners from there.
//!
//! ```text
//! stage    each document, without reserved fields, to the staging area of every node, a file per shard
//! seal     a durable manifest on every node: how many bytes of which shard
//! commit   shard by shard: read from any node that has the manifest, written by ordinary versioned writes
//! drop     what was staged
//! ```
//!
//! Cut short before the manifest, it begins anew; after it, it goes on with the commit. A shard is written whole or not,
//! never all shards at once: readers see an import grow.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::dump::import::writes::Writes;
use crate::dump::import::{Import, Reading};
use crate::dump::progress::{Phase, Step};
use crate::dump::refusal::DumpError;
use crate::dump::target::Target;
use crate::id::{Key, ShardId};
use crate::router::Request;
use crate::staging::EVERY_IMPORT;
use crate::wire::{StagingAction, StagingReply, decode_record, encode_record};

/// Bytes that wait for all shards together before they are sent.
const WAITING_BYTES: usize = 1 << 20;
/// Bytes of one reading.
const READ_BYTES: u32 = 1 << 20;
/// In front of each document: its length, and a checksum.
const HEAD_BYTES: usize = 4 + 8;

/// What has been staged, by shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    fingerprint: u128,
    staged_bytes: Vec<u64>,
}

/// Frees what broadcasts have staged that were never run again, on every node; how many those are. An import that is under way
/// meanwhile ends with an error, and stages anew when it is run again.
pub async fn discard<T: Target>(target: &mut T) -> Result<u32, DumpError> {
    let nodes = target.shape().await?.nodes;
    for node in 0..nodes {
        if let StagingReply::Refused(why) = target.stage(node, EVERY_IMPORT, StagingAction::Drop).await? {
            return Err(DumpError::Cluster(why));
        }
    }
    Ok(nodes)
}

impl<T: Target> Import<'_, T> {
    pub(super) async fn broadcast(&mut self) -> Result<(), DumpError> {
        let import = self.import_id();
        let found = self.sealed(import).await?;
        self.done.resumed = found.is_some();
        let (node, manifest) = match found {
            Some(found) => found,
            None => (0, self.stage_all(import).await?),
        };
        for shard in 0..manifest.staged_bytes.len() as u32 {
            self.commit(import, node, &manifest, ShardId(shard)).await?;
        }
        for node in 0..self.shape.nodes {
            self.ask(node, import, StagingAction::Drop).await?;
        }
        Ok(())
    }

    /// The same for the same dump and the same choices, so that an import that is run again finds what it staged.
    fn import_id(&self) -> u128 {
        let choices = format!("{:?} {:?} {}", self.plan.fingerprint, self.plan.indexes, self.options.with_keys);
        xxh3_128(choices.as_bytes()).max(EVERY_IMPORT + 1)
    }

    /// A node on which a whole staging of this import is.
    async fn sealed(&mut self, import: u128) -> Result<Option<(u32, Manifest)>, DumpError> {
        for node in 0..self.shape.nodes {
            if let StagingReply::Manifest(Some(bytes)) = self.ask(node, import, StagingAction::Manifest).await? {
                let manifest: Option<Manifest> = decode_record(&bytes).ok();
                let manifest = manifest.filter(|manifest| manifest.fingerprint == self.plan.fingerprint);
                if let Some(manifest) = manifest {
                    return Ok(Some((node, manifest)));
                }
            }
        }
        Ok(None)
    }

    async fn stage_all(&mut self, import: u128) -> Result<Manifest, DumpError> {
        for node in 0..self.shape.nodes {
            self.ask(node, import, StagingAction::Drop).await?;
        }
        let shards = self.shape.shards as usize;
        let mut staged_bytes = vec![0; shards];
        let mut waiting: Vec<Vec<u8>> = vec![Vec::new(); shards];
        let mut waiting_bytes = 0;
        let mut documents = 0;
        let mut reading = Reading::open(self.source, self.plan, self.options)?;
        loop {
            let next = reading.next()?;
            let ended = next.is_none();
            if let Some((key, body)) = next {
                let part = &mut waiting[key.shard(self.shape.shards).0 as usize];
                let before = part.len();
                frame(part, &key, &body);
                waiting_bytes += part.len() - before;
                documents += 1;
            }
            if ended || waiting_bytes >= WAITING_BYTES || mutant!("M62") {
                self.append(import, &mut waiting, &mut staged_bytes).await?;
                if mutant!("M62") {
                    self.seal_all(import, &staged_bytes).await?;
                }
                waiting_bytes = 0;
                self.tell(Phase::Stage, reading.read.get(), documents);
            }
            if ended {
                break;
            }
        }
        self.seal_all(import, &staged_bytes).await
    }

    /// Makes durable on every node what was staged; from here on nothing is staged anew.
    async fn seal_all(&mut self, import: u128, staged_bytes: &[u64]) -> Result<Manifest, DumpError> {
        let manifest = Manifest { fingerprint: self.plan.fingerprint, staged_bytes: staged_bytes.to_vec() };
        for node in 0..self.shape.nodes {
            self.ask(node, import, StagingAction::Seal { manifest: encode_record(&manifest) }).await?;
        }
        Ok(manifest)
    }

    /// Sends what waits to every node.
    async fn append(&mut self, import: u128, waiting: &mut [Vec<u8>], staged: &mut [u64]) -> Result<(), DumpError> {
        for (shard, (part, offset)) in waiting.iter_mut().zip(staged).enumerate() {
            if part.is_empty() {
                continue;
            }
            // Not emptied but given up, so that no shard keeps the room that its largest part took.
            let part = std::mem::take(part);
            for node in 0..self.shape.nodes {
                let shard = ShardId(shard as u32);
                self.ask(node, import, StagingAction::Append { shard, offset: *offset, bytes: part.clone() }).await?;
            }
            *offset += part.len() as u64;
        }
        Ok(())
    }

    /// Writes a staged shard to its owners.
    async fn commit(&mut self, import: u128, node: u32, manifest: &Manifest, shard: ShardId) -> Result<(), DumpError> {
        let (before, rest) = manifest.staged_bytes.split_at(shard.0 as usize);
        let bytes = rest[0];
        let (before, of_bytes) = (before.iter().sum::<u64>(), manifest.staged_bytes.iter().sum());
        let mut writes = Writes::new(self.options.limits.batch_documents);
        let (mut offset, mut unread) = (0, Vec::new());
        while offset < bytes {
            let limit = READ_BYTES.min(u32::try_from(bytes - offset).unwrap_or(u32::MAX));
            let reply = self.ask(node, import, StagingAction::Read { shard, offset, limit }).await?;
            let read = match reply {
                StagingReply::Bytes(read) if !read.is_empty() => read,
                _ => return Err(lost(shard)),
            };
            offset += read.len() as u64;
            unread.extend(read);
            let mut used = 0;
            while let Some((key, body, length)) = unframe(&unread[used..]).map_err(|()| lost(shard))? {
                used += length;
                writes.push(Request::Put { key, value: body.into() });
                if writes.is_full() {
                    self.write(&mut writes).await?;
                    let (bytes, documents) = (before + offset, self.done.documents);
                    self.progress.on(Step { phase: Phase::Commit, bytes, of_bytes, documents });
                }
            }
            unread.drain(..used);
        }
        if !unread.is_empty() {
            return Err(lost(shard));
        }
        self.write(&mut writes).await?;
        let documents = self.done.documents;
        self.progress.on(Step { phase: Phase::Commit, bytes: before + bytes, of_bytes, documents });
        Ok(())
    }

    async fn ask(&mut self, node: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        self.has_begun |= !matches!(action, StagingAction::Manifest | StagingAction::Read { .. });
        match self.target.stage(node, import, action).await? {
            StagingReply::Refused(why) => Err(DumpError::Cluster(why)),
            reply => Ok(reply),
        }
    }
}

fn lost(shard: ShardId) -> DumpError {
    DumpError::Cluster(format!("what was staged of shard {shard} is not what was sent"))
}

fn frame(part: &mut Vec<u8>, key: &Key, body: &[u8]) {
    let name = key.encoded().as_bytes();
    let start = part.len();
    part.extend([0; HEAD_BYTES]);
    part.extend((name.len() as u16).to_le_bytes());
    part.extend(name);
    part.extend(body);
    let content = &part[start + HEAD_BYTES..];
    let (length, sum) = (content.len() as u32, xxh3_64(content));
    part[start..start + 4].copy_from_slice(&length.to_le_bytes());
    part[start + 4..start + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// The first document, if it is there whole, and how many bytes it takes.
fn unframe(bytes: &[u8]) -> Result<Option<(Key, Vec<u8>, usize)>, ()> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let sum = u64::from_le_bytes(head[4..].try_into().expect("eight bytes"));
    let Some(content) = rest.get(..length) else { return Ok(None) };
    if xxh3_64(content) != sum {
        return Err(());
    }
    let (name_bytes, content) = content.split_at_checked(2).ok_or(())?;
    let name_bytes = usize::from(u16::from_le_bytes(name_bytes.try_into().expect("two bytes")));
    let (name, body) = content.split_at_checked(name_bytes).ok_or(())?;
    let key = std::str::from_utf8(name).ok().and_then(Key::from_encoded).ok_or(())?;
    Ok(Some((key, body.to_vec(), HEAD_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accident::{fuzz, fuzz_records};

    #[test]
    fn any_bytes_are_a_manifest_or_refused() {
        fuzz_records("manifests of stagings", &[Manifest { fingerprint: 5, staged_bytes: vec![7, 0, 9] }]);
    }

    /// With a right sum over whatever an accident left, so that what stands behind the sum is reached.
    #[test]
    fn any_bytes_are_a_staged_document_or_refused() {
        let key = Key::new("films", "tt0062622").expect("a name");
        let mut whole = Vec::new();
        frame(&mut whole, &key, b"a body");
        fuzz("staged documents", |accident| {
            let mut content = whole[HEAD_BYTES..].to_vec();
            accident.happen(&mut content);
            let mut bytes = (content.len() as u32).to_le_bytes().to_vec();
            bytes.extend(xxh3_64(&content).to_le_bytes());
            bytes.extend(&content);
            if let Ok(Some((key, body, length))) = unframe(&bytes) {
                let mut again = Vec::new();
                frame(&mut again, &key, &body);
                prop_assert_eq!(length, bytes.len());
                prop_assert_eq!(again, bytes);
            }
            Ok(())
        });
    }
}
