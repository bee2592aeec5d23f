//! Deleted documents are remembered until every replica has heard of the deletion: an operator sees how many there are.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Cluster;

const UP: [&str; 4] = ["--nodes", "3", "--shards", "1"];

impl Cluster {
    /// Live documents and tombstones of each node that answers; `None` where they have not been counted.
    fn counts(&self, code: i32) -> Vec<Option<(u64, u64)>> {
        let printed = self.miroir(&["--set", "request_timeout_ms=1000", "stats", "--json"], code);
        let nodes = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let nodes = nodes.filter(|line| line["node"].is_u64());
        nodes.map(|node| Some((node["live"].as_u64()?, node["tombstones"].as_u64()?))).collect()
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a process serves to Prometheus.
fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

#[test]
fn tombstones_are_counted_while_a_node_is_away_and_forgotten_when_it_is_back() {
    let cluster = Cluster::up("tombstones", &UP);
    let up = |cluster: &Cluster| {
        cluster.miroir(&[&["cluster", "up", "--detach", "--dir", cluster.dir()][..], &UP].concat(), 0);
    };
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let path = cluster.folder.join("n1.toml");
    let settings = std::fs::read_to_string(&path).expect("its settings");
    std::fs::write(&path, format!("metrics = \"{address}\"\n{settings}")).expect("a file");
    cluster.end("n1", "-TERM");
    up(&cluster);
    for n in 1..=3 {
        cluster.until(&["put", &format!("movies/{n}"), "here"], 0);
    }
    cluster.end("n3", "-KILL");
    cluster.until(&["delete", "movies/1"], 0);
    assert_eq!(cluster.counts(4), [Some((2, 1)); 2], "n3 cannot have heard of it");
    let told = "miroir_tombstones{shard=\"s0\"} 1";
    eventually("the gauge shows it", || metrics(address).lines().any(|line| line == told));
    up(&cluster);
    eventually("every replica holds it, and forgets it", || cluster.counts(0) == [Some((2, 0)); 3]);
    let told = "miroir_tombstones{shard=\"s0\"} 0";
    eventually("the gauge falls", || metrics(address).lines().any(|line| line == told));
}
