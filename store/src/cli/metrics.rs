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

use crate::config::Form;
use crate::env::{Clock, Event, Measure, Nanos, Probe, millis};
use crate::id::{MigrationId, ShardId};
use crate::migration::Stage;
use crate::net::tcp::{Stats, TcpNet};
use crate::wire::Purpose;

/// Every metric but the network's: name, kind, meaning.
const METRICS: [(&str, &str, &str); 18] = [
    ("miroir_writes_total", "counter", "Client writes made durable on this node."),
    (
        "miroir_longest_write_gap_seconds",
        "gauge",
        "Longest time in which clients wanted to write to a shard on this node and nothing was written, since its last migration began.",
    ),
    (
        "miroir_stale_epoch_rejections_total",
        "counter",
        "Client writes turned away by an epoch: the node has not come to theirs, or its copy does not serve.",
    ),
    ("miroir_copied_documents_total", "counter", "Documents that pages brought to this node as it joined."),
    ("miroir_delta_documents_total", "counter", "Documents that delta passes found missing and shipped."),
    ("miroir_anti_entropy_repairs_total", "counter", "Documents that anti-entropy found missing and shipped."),
    (
        "miroir_lag_documents",
        "gauge",
        "Documents that replicas of a shard lacked when they were compared last; 0 once what was shipped is verified.",
    ),
    (
        "miroir_verify_differences_total",
        "counter",
        "Documents that verifications found still lacking, so that a pass ran again.",
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
    (
        "miroir_turned_away_total",
        "counter",
        "Requests that this node did not carry out, by reason; they are asked again.",
    ),
    ("miroir_disk_full", "gauge", "1 while this node turns writes away because its disk is full."),
    ("miroir_contradictions_total", "counter", "Documents found with two values under one version: a bug, or rot."),
    ("miroir_warnings_total", "counter", "Warnings for the operator."),
];

/// The counters that have a value for each label.
const LABELLED: [&str; 3] = ["miroir_refusals_total", "miroir_migrations_ended_total", "miroir_turned_away_total"];

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
    gaps: BTreeMap<ShardId, Gap>,
    lag: BTreeMap<ShardId, u64>,
    tombstones: BTreeMap<ShardId, u64>,
    disk_full: bool,
}

/// Clients ask again several times in this time; whoever does not has given up.
const GIVEN_UP: Nanos = millis(2_000);

/// How long clients have wanted to write to a shard, and nothing was written. When nobody wants to, there is no gap.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    /// When somebody wanted to for the first time since the last write, and for the last time.
    wanted: Option<(Nanos, Nanos)>,
    longest: Nanos,
}

impl Gap {
    fn tried(&mut self, now: Nanos) {
        let (first, last) = self.wanted.unwrap_or((now, now));
        if now.saturating_sub(last) > GIVEN_UP {
            self.longest = self.longest();
            self.wanted = Some((now, now));
        } else {
            self.wanted = Some((first, now));
        }
    }

    fn written(&mut self, now: Nanos) {
        if let Some((first, last)) = self.wanted.take() {
            let end = if now.saturating_sub(last) > GIVEN_UP { last } else { now };
            self.longest = self.longest.max(end.saturating_sub(first));
        }
    }

    fn longest(&self) -> Nanos {
        self.longest.max(self.wanted.map_or(0, |(first, last)| last.saturating_sub(first)))
    }
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
            .filter(|(name, kind, _)| *kind == "counter" && !LABELLED.contains(name))
            .map(|(name, ..)| ((*name).to_owned(), counted.counters.get(*name).copied().unwrap_or(0) as f64))
            .collect();
        let labelled = counted.counters.iter().filter(|(name, _)| name.contains('{'));
        values.extend(labelled.map(|(name, value)| (name.clone(), *value as f64)));
        let gaps = counted.gaps.iter().map(|(shard, gap)| (shard, gap.longest() as f64 / 1e9));
        values.extend(gaps.map(|(shard, it)| (format!("miroir_longest_write_gap_seconds{{shard=\"{shard}\"}}"), it)));
        values.push(("miroir_disk_full".to_owned(), f64::from(u8::from(counted.disk_full))));
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

fn turned_away(why: &str) -> String {
    format!("miroir_turned_away_total{{reason=\"{why}\"}}")
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
                counted.gaps.entry(shard).or_default().written(now);
            }
            Event::Fenced { node, shard, epoch, installed, writes } => {
                tracing::debug!(%node, %shard, %epoch, %installed, writes = writes.len(), "fenced");
                counted.add("miroir_stale_epoch_rejections_total", writes.len() as u64);
            }
            Event::Overtaken { node, shard, epoch, installed, writes } => {
                tracing::debug!(%node, %shard, %epoch, %installed, writes, "overtaken");
            }
            Event::Counted { shard, tombstones, .. } => {
                counted.tombstones.insert(shard, tombstones);
            }
            Event::Repaired { purpose: Purpose::Copy, .. } => counted.add("miroir_copied_documents_total", 1),
            Event::Reconciled { shard, purpose, shipped, reruns, verified } => {
                counted.lag.insert(shard, 0);
                let level_is_info = shipped > 0 || purpose != Purpose::AntiEntropy;
                match level_is_info {
                    true => tracing::info!(%shard, ?purpose, shipped, reruns, verified, "reconciled"),
                    false => tracing::debug!(%shard, ?purpose, shipped, reruns, verified, "reconciled"),
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
                if config.form == Form::DualWrite {
                    counted.gaps.insert(config.shard, Gap::default());
                }
                tracing::debug!(%node, shard = %config.shard, %config, wiped, "installed");
            }
            Event::Rotted { node, shard } => tracing::warn!(%node, %shard, "rot; silent until readmitted"),
            Event::TurnedAway { node, shard, why } => {
                tracing::debug!(%node, %shard, why, "turned away");
                counted.add(&turned_away(why), 1);
            }
            Event::Dropped { node, shard } => tracing::info!(%node, %shard, "dropped"),
            Event::Opened { node, disk, copies } => tracing::info!(%node, %disk, copies = copies.len(), "opened"),
            Event::Members { revision, nodes } => {
                if let Some(net) = self.members_to.get() {
                    net.publish_members(revision, nodes);
                }
            }
            Event::Served { .. }
            | Event::Repaired { .. }
            | Event::Copied { .. }
            | Event::Forgotten { .. }
            | Event::Reconciling { .. } => {}
        }
    }

    fn wants_documents(&self) -> bool {
        false
    }

    fn measure(&self, measure: Measure) {
        let now = self.clock.now();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match measure {
            Measure::Tried { shard } => counted.gaps.entry(shard).or_default().tried(now),
            Measure::TurnedAway { why, requests } => counted.add(&turned_away(why), requests),
            Measure::DiskFull(full) => counted.disk_full = full,
            Measure::Lacking { shard, documents } => {
                counted.lag.insert(shard, documents);
            }
            Measure::StillLacking { documents } => counted.add("miroir_verify_differences_total", documents),
        }
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
mod tests;
