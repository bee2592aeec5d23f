//! A dump out of one cluster and into others, in both modes: the same documents, and as many copies of each as were asked for.

use std::collections::BTreeMap;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Cluster, MIROIR, folder};

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

/// A dump that a router of another store of this name has made: stale shards in all its documents. Where the fixtures are
/// not, nothing is tried; the fixtures' own test says how many there were.
#[test]
fn a_dump_with_reserved_fields_falls_back_to_broadcast_and_says_so() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/dumps");
    let fixtures = std::env::var_os("MIROIR_DUMPS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let dump = fixtures.join("synthetic/s01_shard_conflict_miroir_made.dump");
    if !dump.is_file() {
        return;
    }
    for (nodes, replication, factor) in [("3", "1", "3.0"), ("4", "3", "1.4")] {
        let up = ["--nodes", nodes, "--replication", replication, "--shards", "4"];
        let to = Cluster::up(&format!("dump-fallback-{replication}"), &up);
        let output = Command::new(MIROIR)
            .args(["dump", "import", dump.to_str().expect("a name in Unicode")])
            .env("MIROIR_CONFIG", to.folder.join("miroir.toml"))
            .output()
            .expect("it starts");
        let said = String::from_utf8(output.stderr).expect("text");
        let fallback = format!(
            "⚠️  Falling back to broadcast mode\n\
             Reason: _miroir_shard field conflict detected\n\
             Impact: every node temporarily stores the full corpus ({nodes} nodes / replication {replication} = {factor}x)\n\
             See: docs/dump-import/compatibility-matrix.md\n"
        );
        assert!(said.starts_with(&fallback) && output.status.code() == Some(0), "{said}");
        let printed = String::from_utf8(output.stdout).expect("text");
        assert!(printed.starts_with("200 documents imported (broadcast)\n"), "{printed}");
        let movies = to.miroir(&["scan", "movies"], 0);
        assert_eq!((movies.lines().count(), movies.contains("_miroir_")), (200, false));
        let copies = copies(&to);
        let wanted = replication.parse::<usize>().expect("a number");
        assert!(copies.values().all(|copies| copies.len() == wanted), "{copies:?}");
        assert_eq!(copies.values().map(|copies| copies[0]).sum::<u64>(), 200 + 1);
        assert_eq!(staged(&to), 0, "nothing is staged any more");
        // The way in that people use takes no such field.
        to.miroir(&["put", "movies/x", r#"{"id":"x","_miroir_shard":1}"#], 2);
        to.miroir(&["get", "movies/x"], 4);
    }
}

/// Files of the nodes that hold what was staged.
fn staged(cluster: &Cluster) -> usize {
    let mut found = 0;
    for node in std::fs::read_dir(&cluster.folder).expect("the cluster's folder") {
        let documents = node.expect("an entry").path().join("documents");
        let files = std::fs::read_dir(documents).into_iter().flatten();
        found += files
            .filter(|file| file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with("staging")))
            .count();
    }
    found
}

/// The process that imports is ended by the system at any moment, later each time, until it comes to its end by itself.
#[test]
fn an_import_into_a_cluster_that_is_killed_again_and_again_completes_in_the_end() {
    let dump = folder("dump-killed").join("films.dump");
    let dump = dump.to_str().expect("a name in Unicode");
    let store = folder("dump-killed-store").join("films.miroir");
    let from = miroir_store::store::Store::open(&store).expect("a new store");
    for n in 0..2_000 {
        from.put("films", &n.to_string(), format!(r#"{{"id":{n},"text":"{}"}}"#, "abc".repeat(n % 97)).as_bytes())
            .expect("a put");
    }
    drop(from);
    let store = store.to_str().expect("a name in Unicode");
    let mut scanned = Vec::new();
    for mode in ["streaming", "broadcast"] {
        let to = Cluster::up(&format!("dump-killed-{mode}"), &UP);
        if scanned.is_empty() {
            to.miroir(&["dump", "export", dump, "--store", store], 0);
        }
        let (mut waits_ms, mut killed) = (4, 0);
        loop {
            let mut import = Command::new(MIROIR);
            import.args(["dump", "import", dump, "--mode", mode]).env("MIROIR_CONFIG", to.folder.join("miroir.toml"));
            let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            std::thread::sleep(Duration::from_millis(waits_ms));
            import.kill().expect("it is there, or has ended");
            match import.wait().expect("it has ended").code() {
                Some(code) => break assert_eq!(code, 0, "{mode}"),
                None => killed += 1,
            }
            waits_ms += waits_ms / 2;
        }
        assert!(killed >= 5, "{mode}: killed {killed} times");
        let found = to.miroir(&["scan", "films"], 0);
        assert_eq!(found.lines().count(), 2_000, "{mode}: killed {killed} times");
        let copies = copies(&to);
        assert!(
            copies.values().all(|copies| copies.len() == 3 && copies.iter().all(|documents| *documents == copies[0])),
            "{mode}: {copies:?}"
        );
        assert_eq!(copies.values().map(|copies| copies[0]).sum::<u64>(), 2_000 + 1, "{mode}");
        assert_eq!(staged(&to), 0, "{mode}");
        to.miroir(&["dump", "discard"], 0);
        scanned.push(found);
    }
    assert_eq!(scanned[0], scanned[1]);
}
