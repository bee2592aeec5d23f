//! Documents: put, get, delete, scan.

use std::io::Read as _;

use serde_json::json;

use crate::cli::arguments::Global;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, bar, out};
use crate::cli::session::Session;
use crate::env::Nanos;
use crate::error::StoreError;
use crate::id::{Key, MAX_VALUE_BYTES, ShardId, Value, Version};
use crate::reserved;
use crate::router::client::Client;
use crate::router::scan::{ScanRequest, join};
use crate::router::{Outcome, Request};
use crate::store::Ids;
use crate::wire::NameRange;

/// Documents of one page of a scan.
const PAGE_DOCUMENTS: u32 = 256;

pub(super) async fn put(session: &mut Session, global: &Global, key: &Key, body: &str) -> Result<ExitCode, Failure> {
    let mut bytes = body.as_bytes().to_vec();
    if body == "-" {
        bytes.clear();
        // One byte more than allowed is enough to know.
        let input = std::io::stdin().take(MAX_VALUE_BYTES as u64 + 1);
        std::io::BufReader::new(input).read_to_end(&mut bytes).map_err(|error| Failure::io("read", "stdin", &error))?;
    }
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(Failure::refused("TooLong", format!("the body of {key} is longer than {MAX_VALUE_BYTES} bytes")));
    }
    if let Some(field) = reserved::field_in(&bytes) {
        let reason = StoreError::Reserved { field: field.escape_debug().to_string() };
        return Err(Failure::refused("Reserved", format!("{key}: {reason}")));
    }
    write(session, global, key, Request::Put { key: key.clone(), value: bytes.into() }).await
}

pub(super) async fn delete(session: &mut Session, global: &Global, key: &Key) -> Result<ExitCode, Failure> {
    write(session, global, key, Request::Delete { key: key.clone() }).await
}

async fn write(session: &mut Session, global: &Global, key: &Key, request: Request) -> Result<ExitCode, Failure> {
    if global.dry_run {
        let inspection = session.inspect().await?;
        let shard = key.shard(inspection.shard_count);
        let config = inspection.configs.iter().find(|config| config.shard == shard);
        let config = config.map_or_else(|| "nobody knows where".to_owned(), ToString::to_string);
        match global.json {
            true => print::json(&json!({ "dry_run": true, "shard": shard.0, "config": config })),
            false => out(format!("would be written to {shard}: {config}")),
        }
        return Ok(ExitCode::AsExpected);
    }
    match session.client()?.call(request).await {
        Outcome::Ok { version, .. } => {
            match global.json {
                true => print::json(&json!({ "outcome": "ok", "version": print::version(version) })),
                false => out(format!("ok {version}")),
            }
            Ok(ExitCode::AsExpected)
        }
        outcome => Err(failed(session, key, &outcome)),
    }
}

/// An operation that did not end well.
fn failed(session: &Session, key: &Key, outcome: &Outcome) -> Failure {
    let waited = session.settings.request_timeout_ms;
    match outcome {
        Outcome::Unknown { .. } => Failure {
            exit: ExitCode::Finding,
            code: "Unknown".to_owned(),
            line: format!("{key} may or may not have been written: no quorum confirmed it within {waited} ms; read it"),
        },
        Outcome::TooLong { limit } => {
            let line = format!(
                "the body of {key} is longer than {limit} bytes, the most that the nodes take (document_bytes)"
            );
            Failure::refused("TooLong", line)
        }
        _ => Failure::nothing("Rejected", format!("{key}: no quorum answered within {waited} ms; nothing was written")),
    }
}

pub(super) async fn get(session: &mut Session, global: &Global, key: &Key) -> Result<ExitCode, Failure> {
    match session.client()?.call(Request::Get { key: key.clone() }).await {
        Outcome::Ok { version, value: Some(value) } => {
            match global.json {
                true => print::json(&json!({ "version": print::version(version), "body": body(&value) })),
                false => out(String::from_utf8_lossy(&value)),
            }
            Ok(ExitCode::AsExpected)
        }
        Outcome::Ok { value: None, .. } => Err(Failure::nothing("Absent", format!("{key} is not there"))),
        _ => {
            let waited = session.settings.request_timeout_ms;
            Err(Failure::nothing("Rejected", format!("{key}: no quorum answered within {waited} ms")))
        }
    }
}

/// A body as JSON: itself if it is JSON, else a text.
fn body(value: &Value) -> serde_json::Value {
    serde_json::from_slice(value).unwrap_or_else(|_| String::from_utf8_lossy(value).into())
}

/// A collection of the cluster, read from its beginning to its end, a page at a time.
struct Reading {
    range: NameRange,
    shards: u32,
    /// Documents read so far.
    read: u64,
    ended: bool,
}

impl Reading {
    async fn begin(session: &mut Session, collection: &str, prefix: &str) -> Result<Reading, Failure> {
        let range =
            Ids::prefix(prefix).in_collection(collection, None).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Reading { range, shards: session.inspect().await?.shard_count, read: 0, ended: false })
    }

    /// The next documents, at most so many; `None` behind the last.
    async fn next(
        &mut self,
        client: &mut Client,
        documents: u32,
    ) -> Result<Option<Vec<(Key, Version, Value)>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut pages = Vec::new();
        for shard in (0..self.shards).map(ShardId) {
            let page = client.scan(ScanRequest { shard, range: self.range.clone(), documents }).await;
            let read = self.read;
            pages.push(page.ok_or_else(|| {
                Failure::nothing("Rejected", format!("no quorum of {shard} answered after {read} documents"))
            })?);
        }
        let page = join(pages, documents as usize);
        self.read += page.documents.len() as u64;
        match page.next {
            Some(next) => self.range.from = next,
            None => self.ended = true,
        }
        Ok(Some(page.documents))
    }
}

pub(super) async fn scan(
    session: &mut Session,
    global: &Global,
    collection: &str,
    prefix: &str,
    limit: u64,
) -> Result<ExitCode, Failure> {
    let mut reading = Reading::begin(session, collection, prefix).await?;
    let mut client = session.client()?;
    while reading.read < limit {
        let most = PAGE_DOCUMENTS.min((limit - reading.read).min(u64::from(u32::MAX)) as u32);
        let Some(documents) = reading.next(&mut client, most).await? else { break };
        for (key, version, value) in &documents {
            match global.json {
                true => {
                    print::json(&json!({ "id": key.id(), "version": print::version(*version), "body": body(value) }))
                }
                false => out(format!("{}\t{}", key.id(), String::from_utf8_lossy(value))),
            }
        }
    }
    if reading.read == 0 {
        return Err(Failure::nothing("Absent", format!("{collection} has no such documents")));
    }
    Ok(ExitCode::AsExpected)
}

/// Deletes every document of a collection, page by page. What others write there meanwhile may stay.
pub(super) async fn drop_collection(
    session: &mut Session,
    global: &Global,
    collection: &str,
) -> Result<ExitCode, Failure> {
    let mut reading = Reading::begin(session, collection, "").await?;
    let mut client = session.client()?;
    let mut unknown = 0;
    let doing = if global.dry_run { "found" } else { "deleted" };
    let bar = bar(None, &format!("{{spinner}} {{pos}} documents {doing}, {{per_sec}}, {{elapsed}}"));
    while let Some(documents) = reading.next(&mut client, PAGE_DOCUMENTS).await? {
        if global.dry_run {
            bar.set_position(reading.read);
            continue;
        }
        let deletes = documents.into_iter().map(|(key, ..)| Request::Delete { key }).collect();
        let mut waiting = client.submit_all(deletes).len();
        while waiting > 0 {
            if let Some((_, outcome)) = client.completed(Nanos::MAX).await {
                waiting -= 1;
                unknown += u64::from(!matches!(outcome, Outcome::Ok { .. }));
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let count = reading.read;
    if unknown > 0 {
        return Err(Failure {
            exit: ExitCode::Finding,
            code: "Unknown".to_owned(),
            line: format!("{unknown} of {count} documents of {collection} may still be there; do it again"),
        });
    }
    match (global.json, global.dry_run) {
        (true, dry_run) => print::json(&json!({ "documents": count, "dry_run": dry_run })),
        (false, true) => out(format!("{count} documents would be deleted")),
        (false, false) => out(format!("{count} documents are deleted")),
    }
    Ok(if count == 0 { ExitCode::NothingRan } else { ExitCode::AsExpected })
}
