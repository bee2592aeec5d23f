//! What a cluster takes from clients has limits; who exceeds them is told so at once.

use crate::Cluster;

const SIZE: [&str; 5] = ["--nodes", "3", "--shards", "1", "--detach"];

#[test]
fn a_document_that_is_too_long_is_refused_at_once_and_nothing_of_it_is_written() {
    let cluster = Cluster::up("limits", &SIZE[..4]);
    cluster.set(&["n1", "n2", "n3"], "document_bytes", "1000", &SIZE);
    let put = |id: &str, bytes: usize, code| cluster.miroir(&["--json", "put", id, &"x".repeat(bytes)], code);
    cluster.until(&["put", "movies/1", &"x".repeat(1_000)], 0);
    // Nobody waits for an answer that will not come: it would be another code, after an hour.
    let refused =
        cluster.miroir(&["--json", "--set", "request_timeout_ms=3600000", "put", "movies/1", &"x".repeat(1_001)], 2);
    assert!(refused.contains(r#""error":"TooLong""#), "{refused}");
    assert!(refused.contains("longer than 1000 bytes, the most that the nodes take (document_bytes)"), "{refused}");
    assert_eq!(cluster.miroir(&["get", "movies/1"], 0).trim_end().len(), 1_000);
    put("movies/2", 1_001, 2);
    cluster.miroir(&["get", "movies/2"], 4);
    // Ids have a limit that is no setting.
    put(&format!("movies/{}", "i".repeat(511)), 1, 0);
    put(&format!("movies/{}", "i".repeat(512)), 1, 2);
}
