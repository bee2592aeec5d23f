//! What a process counts, as Prometheus reads it, and its events as log lines.
//!
//! The counters come from the store's own events ([`Event`]) and from the network's. They are served as text to whoever
//! asks on the loopback address of the settings: `GET /metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::env::{Clock, Event, Nanos, Probe};
use crate::id::{MigrationId, ShardId};
use crate::migration::Stage;
use crate::net::tcp::{Stats, TcpNet};
use crate::wire::Purpose;

/// Every metric but the network's: name, kind, meaning.
const METRICS: [(&str, &str, &str); 16] = [
    ("miroir_writes_total", "counter", "Client writes made durable on this node."),
    ("miroir_longest_write_gap_seconds", "gauge", "Longest time between two client writes of one shard on this node."),
    ("miroir_stale_epoch_rejections_total", "counter", "Client writes turned away because of their epoch."),
    ("miroir_copied_documents_total", "counter", "Documents that pages brought to this node as it joined."),
    ("miroir_delta_documents_total", "counter", "Documents that delta passes found missing and shipped."),
    ("miroir_anti_entropy_repairs_total", "counter", "Documents that anti-entropy found missing and shipped."),
    ("miroir_lag_documents", "gauge", "Documents that some replica lacked when a shard's replicas were compared last."),
    (
        "miroir_verify_differences_total",
        "counter",
        "Verifications that found replicas still different, so that a pass ran again.",
    ),
    ("miroir_anti_entropy_passes_total", "counter", "Anti-entropy passes that ended verified."),
    (
        "miroir_tombstones",
        "gauge",
        "Deleted documents that this node's copy still has to remember; absent until they were counted.",
    ),
    ("miroir_migration_stage", "gauge", "1 for the stage that a migration is in."),
    ("miroir_migration_stage_age_seconds", "gauge", "Time since a migration that has not ended entered its stage."),
    ("miroir_migrations_ended_total", "counter", "Migrations that ended, by how."),
    ("miroir_refusals_total", "counter", "Operators' commands that were refused, by reason."),
    ("miroir_contradictions_total", "counter", "Documents found with two values under one version: a bug, or rot."),
    ("miroir_warnings_total", "counter", "Warnings for the operator."),
];

/// Counts and logs the events of one process.
pub(super) struct Meter {
    clock: Arc<dyn Clock>,
    net: Arc<Stats>,
    counted: Mutex<Counted>,
    /// Where the coordinator's decisions about addresses go.
    members_to: OnceLock<TcpNet>,
}

#[derive(Default)]
struct Counted {
    counters: BTreeMap<String, u64>,
    stages: BTreeMap<MigrationId, (ShardId, Stage, Nanos)>,
    written_at: BTreeMap<ShardId, Nanos>,
    lag: BTreeMap<ShardId, u64>,
    tombstones: BTreeMap<ShardId, u64>,
    longest_gap: Nanos,
}

impl Counted {
    fn add(&mut self, name: &str, more: u64) {
        *self.counters.entry(name.to_owned()).or_default() += more;
    }
}

impl Meter {
    pub(super) fn new(clock: Arc<dyn Clock>, net: Arc<Stats>) -> Meter {
        Meter { clock, net, counted: Mutex::default(), members_to: OnceLock::new() }
    }

    /// From now on, what the coordinator decides about addresses is told to everybody.
    pub(super) fn publish_members_to(&self, net: TcpNet) {
        let _second = self.members_to.set(net);
    }

    /// Everything, in the text format of Prometheus.
    fn text(&self) -> String {
        let now = self.clock.now();
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values: Vec<(String, f64)> = METRICS
            .iter()
            .filter(|(name, kind, _)| {
                *kind == "counter" && !matches!(*name, "miroir_refusals_total" | "miroir_migrations_ended_total")
            })
            .map(|(name, ..)| ((*name).to_owned(), counted.counters.get(*name).copied().unwrap_or(0) as f64))
            .collect();
        let labelled = counted.counters.iter().filter(|(name, _)| name.contains('{'));
        values.extend(labelled.map(|(name, value)| (name.clone(), *value as f64)));
        values.push(("miroir_longest_write_gap_seconds".to_owned(), counted.longest_gap as f64 / 1e9));
        let lag = counted.lag.iter();
        values.extend(lag.map(|(shard, it)| (format!("miroir_lag_documents{{shard=\"{shard}\"}}"), *it as f64)));
        let tombstones = counted.tombstones.iter();
        values.extend(tombstones.map(|(shard, it)| (format!("miroir_tombstones{{shard=\"{shard}\"}}"), *it as f64)));
        for (id, (shard, stage, since)) in &counted.stages {
            let labels = format!("{{migration=\"{id}\",shard=\"{shard}\",stage=\"{stage}\"}}");
            values.push((format!("miroir_migration_stage{labels}"), 1.0));
            if !matches!(stage, Stage::Done | Stage::Aborted) {
                let age = now.saturating_sub(*since) as f64 / 1e9;
                values.push((format!("miroir_migration_stage_age_seconds{labels}"), age));
            }
        }
        drop(counted);
        values.extend(self.net.list().into_iter().map(|(name, value)| (name.to_owned(), value as f64)));

        let mut text = String::new();
        for (name, kind, help) in METRICS {
            let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (full, value) in values.iter().filter(|(full, _)| family(full) == name) {
                let _infallible = writeln!(text, "{full} {value}");
            }
        }
        let mut last = "";
        for (full, value) in values.iter().filter(|(full, _)| full.starts_with("miroir_net_")) {
            if family(full) != last {
                last = family(full);
                let _infallible = writeln!(text, "# TYPE {last} counter");
            }
            let _infallible = writeln!(text, "{full} {value}");
        }
        text
    }
}

/// A metric's name without its labels.
fn family(full: &str) -> &str {
    full.split('{').next().unwrap_or(full)
}

impl Probe for Meter {
    fn on(&self, event: Event) {
        let now = self.clock.now();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Applied { shard, .. } => {
                counted.add("miroir_writes_total", 1);
                if let Some(before) = counted.written_at.insert(shard, now) {
                    counted.longest_gap = counted.longest_gap.max(now.saturating_sub(before));
                }
            }
            Event::Fenced { node, shard, epoch, installed, writes } => {
                tracing::debug!(%node, %shard, %epoch, %installed, writes = writes.len(), "fenced");
                counted.add("miroir_stale_epoch_rejections_total", writes.len() as u64);
            }
            Event::Counted { shard, tombstones, .. } => {
                counted.tombstones.insert(shard, tombstones);
            }
            Event::Repaired { purpose: Purpose::Copy, .. } => counted.add("miroir_copied_documents_total", 1),
            Event::Reconciled { shard, purpose, shipped, reruns } => {
                counted.lag.insert(shard, shipped);
                counted.add("miroir_verify_differences_total", reruns.into());
                let level_is_info = shipped > 0 || purpose != Purpose::AntiEntropy;
                match level_is_info {
                    true => tracing::info!(%shard, ?purpose, shipped, "reconciled"),
                    false => tracing::debug!(%shard, ?purpose, shipped, "reconciled"),
                }
                match purpose {
                    Purpose::Delta => counted.add("miroir_delta_documents_total", shipped),
                    Purpose::AntiEntropy => {
                        counted.add("miroir_anti_entropy_repairs_total", shipped);
                        counted.add("miroir_anti_entropy_passes_total", 1);
                    }
                    Purpose::Copy | Purpose::Readmission => {}
                }
            }
            Event::Staged { migration, shard, stage, reason } => {
                tracing::info!(%migration, %shard, %stage, reason, "stage");
                let before = counted.stages.insert(migration, (shard, stage, now)).map(|(_, stage, _)| stage);
                if before.is_some_and(|before| before != stage) {
                    match stage {
                        Stage::Done => counted.add("miroir_migrations_ended_total{how=\"done\"}", 1),
                        Stage::Aborted => counted.add("miroir_migrations_ended_total{how=\"aborted\"}", 1),
                        _ => {}
                    }
                }
            }
            Event::Refused { code } => {
                tracing::warn!(code, "a command was refused");
                counted.add(&format!("miroir_refusals_total{{reason=\"{code}\"}}"), 1);
            }
            Event::Warned { text } => {
                tracing::warn!("{text}");
                counted.add("miroir_warnings_total", 1);
            }
            Event::Contradicted { shard, key, version } => {
                tracing::error!(%shard, %key, %version, "two values under one version");
                counted.add("miroir_contradictions_total", 1);
            }
            Event::Committed { config } => tracing::info!(shard = %config.shard, %config, "committed"),
            Event::Installed { node, config, wiped } => {
                tracing::debug!(%node, shard = %config.shard, %config, wiped, "installed");
            }
            Event::Rotted { node, shard } => tracing::warn!(%node, %shard, "rot; silent until readmitted"),
            Event::TurnedAway { node, shard, why } => tracing::debug!(%node, %shard, why, "turned away"),
            Event::Dropped { node, shard } => tracing::info!(%node, %shard, "dropped"),
            Event::Opened { node, disk, copies } => tracing::info!(%node, %disk, copies = copies.len(), "opened"),
            Event::Members { revision, nodes } => {
                if let Some(net) = self.members_to.get() {
                    net.publish_members(revision, nodes);
                }
            }
            Event::Served { .. } | Event::Repaired { .. } | Event::Copied { .. } | Event::Forgotten { .. } => {}
        }
    }

    fn wants_documents(&self) -> bool {
        false
    }
}

/// Bytes of a request that are looked at, and how long it may take.
const REQUEST_BYTES: usize = 4_096;
const REQUEST_TIME: Duration = Duration::from_secs(2);

/// Answers `GET /metrics`, one request per connection and one connection at a time.
pub(super) async fn serve(address: SocketAddr, meter: Arc<Meter>) -> std::io::Result<()> {
    #[expect(clippy::disallowed_types, reason = "metrics are no messages of the store")]
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let answered = async {
                let mut request = Vec::new();
                let mut part = [0; 512];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES {
                    match stream.read(&mut part).await? {
                        0 => break,
                        count => request.extend_from_slice(&part[..count]),
                    }
                }
                let (status, body) = match request.starts_with(b"GET /metrics ") {
                    true => ("200 OK", meter.text()),
                    false => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body.as_bytes()).await?;
                stream.shutdown().await
            };
            let _whoever_asked_has_gone: Result<std::io::Result<()>, _> =
                tokio::time::timeout(REQUEST_TIME, answered).await;
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::MonotonicClock;
    use crate::id::NodeId;

    #[test]
    fn every_metric_is_described_and_counted() {
        let meter = Meter::new(Arc::new(MonotonicClock::default()), Arc::default());
        let (migration, shard) = (MigrationId(1), ShardId(2));
        for stage in [Stage::DualWrite, Stage::Done] {
            meter.on(Event::Staged { migration, shard, stage, reason: None });
        }
        meter.on(Event::Reconciled { shard, purpose: Purpose::Delta, shipped: 7, reruns: 2 });
        meter.on(Event::Counted { node: NodeId(3), shard, tombstones: 5 });
        meter.on(Event::Refused { code: "UnsafeCutover".to_owned() });
        let text = meter.text();
        for line in [
            "miroir_migration_stage{migration=\"m1\",shard=\"s2\",stage=\"Done\"} 1",
            "miroir_migrations_ended_total{how=\"done\"} 1",
            "miroir_delta_documents_total 7",
            "miroir_lag_documents{shard=\"s2\"} 7",
            "miroir_tombstones{shard=\"s2\"} 5",
            "miroir_verify_differences_total 2",
            "miroir_refusals_total{reason=\"UnsafeCutover\"} 1",
            "miroir_writes_total 0",
            "miroir_net_refused_total{reason=\"key\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        let described = |name: &str| text.contains(&format!("# TYPE {name} "));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(described(family(line.split(' ').next().expect("a name"))), "{line}");
        }
    }
}
