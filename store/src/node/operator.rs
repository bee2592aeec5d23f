//! What operators ask of one node.

use crate::env::Peer;
use crate::error::EngineError;
use crate::node::Node;
use crate::wire::{CopyStats, Message, NodeQuestion, NodeReply};

/// Most documents that one step of a scrub reads: whoever asks for more asks again.
const SCRUB_DOCUMENTS: u32 = 4_096;

impl Node {
    pub(super) fn operator(&mut self, from: Peer, n: u64, question: NodeQuestion) -> Result<(), EngineError> {
        let reply = match question {
            NodeQuestion::Stats => NodeReply::Stats {
                node: self.id,
                disk: self.engine.disk_id(),
                log_bytes: self.engine.log_bytes(),
                unflushed: self.engine.unflushed_documents() as u64,
                copies: self.copy_stats(),
            },
            NodeQuestion::Scrub { documents } => {
                let done = self.scrub(documents.clamp(1, SCRUB_DOCUMENTS) as usize)?;
                NodeReply::Scrubbed {
                    node: self.id,
                    documents: done.documents,
                    damaged: done.damaged,
                    replaced: done.replaced,
                    finished: done.finished,
                }
            }
            NodeQuestion::Room => {
                let counted = self.engine.shards();
                let counted = counted.filter_map(|(shard, _)| Some((shard, self.engine.tombstones(shard)?)));
                NodeReply::Room {
                    node: self.id,
                    page_bytes: self.engine.page_bytes()?,
                    free_bytes: self.engine.free_bytes()?,
                    tombstones: counted.collect(),
                }
            }
        };
        self.answer(from, Message::NodeReply { n, reply });
        Ok(())
    }

    /// What this node holds of each shard.
    pub fn copy_stats(&self) -> Vec<CopyStats> {
        let copy = |(shard, state): (_, &crate::engine::ShardState)| CopyStats {
            shard,
            epoch: self.epoch(shard),
            member: state.config.as_ref().is_some_and(|config| config.is_member(self.id)),
            documents: state.documents,
            max_counter: state.max_counter,
            damaged: state.damaged,
        };
        self.engine.shards().map(copy).collect()
    }
}
