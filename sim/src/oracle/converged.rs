//! After heal and settle: are all replicas of a shard equal, and does nobody keep what is not his?

use std::collections::BTreeMap;
use std::fmt;

use crate::process::{Names, ProcessId};

/// The copy of a shard at one process: what its oracle reads, as (document -> entry). Entries are compared for equality and printed with
/// `Debug`; a tombstone is an entry like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy<E> {
    /// Who holds it.
    pub process: ProcessId,
    /// What is in it.
    pub entries: BTreeMap<String, E>,
    /// What the replica claims as its digest, if it does.
    pub digest: Option<u128>,
    /// The digest recomputed from `entries` by somebody else.
    pub recomputed: Option<u128>,
}

/// One way in which a shard has not converged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Two replicas disagree about a document.
    Entry {
        /// The document.
        doc: String,
        /// One replica, and its entry in words (`nothing` if it has none).
        left: (String, String),
        /// The other.
        right: (String, String),
    },
    /// A replica's digest does not match its own data.
    Digest {
        /// Who.
        process: String,
        /// Claimed.
        claimed: u128,
        /// From the data.
        recomputed: u128,
    },
    /// Somebody who is no replica still has a copy.
    Leftover {
        /// Who.
        process: String,
        /// With how many documents.
        documents: usize,
    },
    /// A replica has no copy at all.
    Missing {
        /// Who.
        process: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Entry { doc, left, right } => {
                write!(f, "{doc} differs: {} has {}, {} has {}", left.0, left.1, right.0, right.1)
            }
            Difference::Digest { process, claimed, recomputed } => {
                write!(f, "the digest of {process} is {claimed:032x}, its data say {recomputed:032x}")
            }
            Difference::Leftover { process, documents } => {
                write!(f, "{process} is no replica and still keeps {documents} documents")
            }
            Difference::Missing { process } => write!(f, "{process} is a replica and has no copy"),
        }
    }
}

/// Compares the copies of one shard, of which `replicas` should have equal ones and nobody else any. At most `limit` differing documents are
/// reported.
pub fn compare<E: PartialEq + fmt::Debug>(
    names: &Names,
    replicas: &[ProcessId],
    copies: &[Copy<E>],
    limit: usize,
) -> Vec<Difference> {
    let name = |process: ProcessId| names.name(process).to_string();
    let mut found = Vec::new();
    for &process in replicas {
        if copies.iter().all(|copy| copy.process != process) {
            found.push(Difference::Missing { process: name(process) });
        }
    }
    for copy in copies {
        if let (Some(claimed), Some(recomputed)) = (copy.digest, copy.recomputed)
            && claimed != recomputed
        {
            found.push(Difference::Digest { process: name(copy.process), claimed, recomputed });
        }
        if !replicas.contains(&copy.process) {
            found.push(Difference::Leftover { process: name(copy.process), documents: copy.entries.len() });
        }
    }
    let mut members = copies.iter().filter(|copy| replicas.contains(&copy.process));
    let Some(first) = members.next() else { return found };
    let mut entries = 0;
    for other in members {
        let docs = first.entries.keys().chain(other.entries.keys().filter(|doc| !first.entries.contains_key(*doc)));
        for doc in docs {
            let (left, right) = (first.entries.get(doc), other.entries.get(doc));
            if left != right && entries < limit {
                entries += 1;
                let text = |entry: Option<&E>| entry.map_or_else(|| "nothing".to_owned(), |entry| format!("{entry:?}"));
                found.push(Difference::Entry {
                    doc: doc.clone(),
                    left: (name(first.process), text(left)),
                    right: (name(other.process), text(right)),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(process: ProcessId, entries: &[(&str, u32)]) -> Copy<u32> {
        let entries = entries.iter().map(|&(doc, entry)| (doc.to_owned(), entry)).collect();
        Copy { process, entries, digest: Some(1), recomputed: Some(1) }
    }

    #[test]
    fn equal_copies_have_converged() {
        let names = Names::default();
        let [n1, n2] = ["n1", "n2"].map(|name| names.register(name));
        let copies = [copy(n1, &[("a", 1)]), copy(n2, &[("a", 1)])];
        assert_eq!(compare(&names, &[n1, n2], &copies, 10), vec![]);
    }

    #[test]
    fn every_difference_is_named() {
        let names = Names::default();
        let [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map(|name| names.register(name));
        let mut rotten = copy(n2, &[("a", 2), ("b", 1)]);
        rotten.digest = Some(7);
        let copies = [copy(n1, &[("a", 1)]), rotten, copy(n4, &[("a", 1)])];
        let found = compare(&names, &[n1, n2, n3], &copies, 10);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "n3 is a replica and has no copy",
                "the digest of n2 is 00000000000000000000000000000007, its data say 00000000000000000000000000000001",
                "n4 is no replica and still keeps 1 documents",
                "a differs: n1 has 1, n2 has 2",
                "b differs: n1 has nothing, n2 has 1",
            ]
        );
        assert_eq!(compare(&names, &[n1, n2, n3], &copies, 1).len(), 4, "limited");
    }
}
