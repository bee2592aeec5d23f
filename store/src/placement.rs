//! Where shards live: rendezvous hashing, so that a node that joins or leaves moves only its own share.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::id::{NodeId, ShardId};

/// The `replication` nodes with the greatest weight for this shard, heaviest first (Thaler and Ravishankar, 1998).
pub fn place(shard: ShardId, nodes: &[NodeId], replication: usize) -> Vec<NodeId> {
    let weight = |node: &NodeId| xxh3_64_with_seed(&node.0.to_le_bytes(), u64::from(shard.0));
    let mut ranked = nodes.to_vec();
    ranked.sort_by_key(|node| (std::cmp::Reverse(weight(node)), *node));
    ranked.truncate(replication);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_only_takes_shards_over() {
        let before: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let after: Vec<NodeId> = (1..=6).map(NodeId).collect();
        let mut moved = 0;
        for shard in (0..600).map(ShardId) {
            let (old, new) = (place(shard, &before, 3), place(shard, &after, 3));
            let joined: Vec<&NodeId> = new.iter().filter(|node| !old.contains(node)).collect();
            assert!(joined.iter().all(|node| **node == NodeId(6)), "{shard}: {old:?} -> {new:?}");
            moved += joined.len();
        }
        // A sixth node takes about a sixth of the 1,800 copies.
        assert!((200..400).contains(&moved), "{moved}");
    }
}
