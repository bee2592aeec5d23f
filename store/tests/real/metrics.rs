//! What a process of a real cluster tells of itself: metrics over HTTP, and a log as JSON.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use miroir_store::net::tcp::ports;

use crate::{Cluster, held};

const SIZE: [&str; 5] = ["--nodes", "4", "--shards", "2", "--detach"];
const ALL: [&str; 5] = ["coordinator", "n1", "n2", "n3", "n4"];

/// What a process answers to a request for a path.
fn answer(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").expect("room");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// The values of all processes, added up by the names of the metrics with their labels.
fn scrape(addresses: &[SocketAddr]) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for address in addresses {
        let answer = answer(*address, "/metrics");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            *values.entry(name.to_owned()).or_default() += value.parse::<f64>().expect("a number");
        }
    }
    values
}

#[test]
fn metrics_and_logs_tell_of_a_migration() {
    let cluster = Cluster::up("metrics", &SIZE[..4]);
    let addresses = ports::free(ALL.len()).expect("free ports");
    for (name, address) in ALL.iter().zip(&addresses) {
        cluster.set(&[name], "metrics", &format!("\"{address}\""), &SIZE);
    }
    cluster.set(&ALL, "log_format", "\"json\"", &SIZE);
    for n in 0..20 {
        cluster.until(&["put", &format!("movies/{n}"), "body"], 0);
    }
    let target = held(&cluster);
    cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
    let age = r#"miroir_migration_stage_age_seconds{migration="m1",shard="s0",stage="Planned"}"#;
    assert!(scrape(&addresses).contains_key(age), "{:?}", scrape(&addresses));
    cluster.miroir(&["migrate", "start", "m1", "--watch"], 0);
    cluster.miroir(&["migrate", "abort", "m1"], 2);
    for n in 0..20 {
        cluster.miroir(&["put", &format!("movies/{n}"), "again"], 0);
    }
    cluster.miroir(&["anti-entropy", "run"], 0);
    let values = scrape(&addresses);
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name} is not in {values:#?}"));
    assert_eq!(value(r#"miroir_migration_stage{migration="m1",shard="s0",stage="Done"}"#), 1.0);
    assert_eq!(value(r#"miroir_migrations_ended_total{how="done"}"#), 1.0);
    assert!(value("miroir_copied_documents_total") > 0.0, "{values:#?}");
    assert!(value("miroir_writes_total") > 0.0, "{values:#?}");
    assert!(value("miroir_anti_entropy_passes_total") > 0.0, "{values:#?}");
    assert!(value(r#"miroir_longest_write_gap_seconds{shard="s0"}"#) > 0.0, "{values:#?}");
    assert_eq!(value(r#"miroir_lag_documents{shard="s0"}"#), 0.0, "replicas were compared, and are equal");
    let refusals: f64 = values
        .iter()
        .filter(|(name, _)| name.starts_with("miroir_refusals_total{reason="))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(refusals, 1.0, "the abort that came too late: {values:#?}");
    for name in [
        "miroir_delta_documents_total",
        "miroir_verify_differences_total",
        "miroir_stale_epoch_rejections_total",
        "miroir_anti_entropy_repairs_total",
        "miroir_contradictions_total",
        "miroir_disk_full",
    ] {
        assert!(value(name) >= 0.0);
    }
    assert!(answer(addresses[0], "/").starts_with("HTTP/1.1 404 "));

    let log = std::fs::read_to_string(cluster.folder.join("coordinator.log")).expect("a log");
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let events: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut stages: Vec<&str> = events
        .iter()
        .filter(|event| event["message"] == "stage" && event["migration"] == "m1")
        .filter_map(|event| event["stage"].as_str())
        .collect();
    // Planned, and then planned and started.
    stages.dedup();
    assert_eq!(stages, ["Planned", "DualWrite", "Drain", "DeltaPass", "Activate", "Cleanup", "Done"]);
}
