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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_node_only_takes_shards_over() {
        let before: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let after: Vec<NodeId> = (1..=6).map(NodeId).collect();
        let mut moved = 0;
        for shard in (0..600).map(ShardId) {
            let (old, new) = (place(shard, &before, 3), place(shard, &after, 3));
            moved += new.iter().filter(|node| !old.contains(node)).count();
        }
        // A sixth node takes about a sixth of the 1,800 copies.
        assert!((200..400).contains(&moved), "{moved}");
    }

    proptest! {
        /// Whoever joins, leaves or is replaced, at once and in whatever number: a copy goes away only from a node that
        /// leaves or in favour of one that joins, and comes only to a node that joins or for one that left. No copy
        /// moves between two nodes that were there before and are there after, unless one had to go.
        #[test]
        fn no_copy_moves_without_need(
            stay in proptest::collection::btree_set(0u32..40, 1..8),
            leave in proptest::collection::btree_set(40u32..60, 0..4),
            join in proptest::collection::btree_set(60u32..80, 0..4),
            shard in 0u32..1_000,
            replication in 1usize..4,
        ) {
            let nodes = |one: &BTreeSet<u32>, other: &BTreeSet<u32>| -> Vec<NodeId> {
                one.union(other).copied().map(NodeId).collect()
            };
            let (before, after) = (nodes(&stay, &leave), nodes(&stay, &join));
            prop_assume!(before.len() >= replication && after.len() >= replication);
            let old = place(ShardId(shard), &before, replication);
            let new = place(ShardId(shard), &after, replication);
            prop_assert_eq!(new.iter().collect::<BTreeSet<_>>().len(), replication);
            let came: Vec<&NodeId> = new.iter().filter(|node| !old.contains(node)).collect();
            let went: Vec<&NodeId> = old.iter().filter(|node| !new.contains(node)).collect();
            let joined = came.iter().filter(|node| join.contains(&node.0)).count();
            let left = went.iter().filter(|node| leave.contains(&node.0)).count();
            // Each node that comes without having joined fills the place of one that left, and the other way round.
            prop_assert!(came.len() - joined <= left, "{:?} -> {:?}", old, new);
            prop_assert!(went.len() - left <= joined, "{:?} -> {:?}", old, new);
            // So no placement over the new nodes moves fewer copies than it has to beside those that joined.
            prop_assert!(came.len() <= left + joined);
        }
    }
}
