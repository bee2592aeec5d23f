//! Who is reached where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::env::Peer;
use crate::id::NodeId;

/// The addresses of a cluster, as `host:port`. The greater `revision` is the newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// 0: from somebody's settings; otherwise that of the coordinator's record.
    pub revision: u64,
    pub coordinator: Option<String>,
    pub nodes: BTreeMap<NodeId, String>,
}

impl Book {
    pub fn address(&self, peer: Peer) -> Option<&str> {
        match peer {
            Peer::Node(node) => self.nodes.get(&node).map(String::as_str),
            Peer::Coordinator => self.coordinator.as_deref(),
            Peer::Client(_) => None,
        }
    }

    /// Takes the place of what is known, if the coordinator says so itself, or somebody has heard it later from him.
    /// Where the coordinator is is never forgotten. `true` if anything changed.
    pub(super) fn take(&mut self, from: Peer, mut told: Book) -> bool {
        if from != Peer::Coordinator && told.revision <= self.revision {
            return false;
        }
        told.coordinator = told.coordinator.or_else(|| self.coordinator.clone());
        let changed = *self != told;
        *self = told;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accident::fuzz_records;

    fn book(revision: u64, port: u16) -> Book {
        let nodes = BTreeMap::from([(NodeId(1), format!("127.0.0.1:{port}"))]);
        Book { revision, coordinator: None, nodes }
    }

    #[test]
    fn any_bytes_are_a_book_or_refused() {
        let whole = Book { coordinator: Some("127.0.0.1:9".to_owned()), ..book(3, 7) };
        fuzz_records("address books", &[whole, Book::default()]);
    }

    #[test]
    fn the_coordinator_is_believed_and_others_if_they_know_more() {
        let mut known = Book { coordinator: Some("127.0.0.1:1".to_owned()), ..book(3, 10) };
        assert!(!known.take(Peer::Node(NodeId(2)), book(3, 20)), "no newer");
        assert!(known.take(Peer::Node(NodeId(2)), book(4, 20)));
        assert_eq!(known.address(Peer::Node(NodeId(1))), Some("127.0.0.1:20"));
        assert!(known.take(Peer::Coordinator, book(1, 30)), "its records were rebuilt");
        assert_eq!(known.address(Peer::Coordinator), Some("127.0.0.1:1"), "not forgotten");
    }
}
