//! A dump out of one cluster and into others, in both modes: the same documents, and as many copies of each as were asked for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Cluster, folder};

const UP: [&str; 6] = ["--nodes", "4", "--replication", "3", "--shards", "4"];

/// How many nodes hold a shard, and how many documents each of them has of it.
fn copies(cluster: &Cluster) -> BTreeMap<u64, Vec<u64>> {
    let mut copies: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in cluster.miroir(&["stats", "--json"], 0).lines() {
        let node: Value = serde_json::from_str(line).expect("JSON");
        for copy in node["copies"].as_array().expect("copies") {
            let number = |name: &str| copy[name].as_u64().expect("a number");
            copies.entry(number("shard")).or_default().push(number("documents"));
        }
    }
    copies
}

#[test]
fn a_dump_imported_into_a_cluster_is_on_as_many_nodes_as_there_are_replicas() {
    let dump = folder("dump").join("films.dump");
    let dump = dump.to_str().expect("a name in Unicode");
    let from = Cluster::up("dump-from", &UP);
    for n in 0..12 {
        from.miroir(&["put", &format!("films/{n}"), &format!(r#"{{"id":{n},"title":"film {n}"}}"#)], 0);
    }
    let films = from.miroir(&["scan", "films"], 0);
    assert_eq!(films.lines().count(), 12);
    from.miroir(&["dump", "export", dump, "--primary-key", "id"], 0);
    drop(from);

    let mut held = Vec::new();
    for mode in ["streaming", "broadcast"] {
        let to = Cluster::up(&format!("dump-{mode}"), &UP);
        let said = to.miroir(&["dump", "import", dump, "--mode", mode], 0);
        assert!(said.starts_with(&format!("12 documents imported ({mode})\n")), "{said}");
        assert_eq!(to.miroir(&["scan", "films"], 0), films);
        let copies = copies(&to);
        assert!(copies.values().all(|copies| copies.len() == 3), "{copies:?}");
        assert!(copies.values().all(|copies| copies.iter().all(|documents| *documents == copies[0])), "{copies:?}");
        held.push(copies);
    }
    // The collection has a document of its own, with its settings.
    assert_eq!(held[0].values().map(|copies| copies[0]).sum::<u64>(), 12 + 1);
    assert_eq!(held[0], held[1]);
}
