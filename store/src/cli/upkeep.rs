//! Anti-entropy, scrubbing, and what nodes hold.

use serde_json::json;

use crate::cli::arguments::{AntiEntropyCommand, Global};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::members::done;
use crate::cli::print::{self, note, out, seconds, table};
use crate::cli::session::Session;
use crate::env::millis;
use crate::id::{NodeId, ShardId};
use crate::wire::{Command, NodeQuestion, NodeReply, Reply};

/// Documents per step of a scrub: a node answers others between two steps.
const STEP_DOCUMENTS: u32 = 512;

pub(super) async fn anti_entropy(
    session: &mut Session,
    global: &Global,
    command: &AntiEntropyCommand,
) -> Result<ExitCode, Failure> {
    match command {
        AntiEntropyCommand::Status => status(session, global).await,
        AntiEntropyCommand::Run => compare(session, global).await,
        AntiEntropyCommand::On | AntiEntropyCommand::Off => {
            let enabled = matches!(command, AntiEntropyCommand::On);
            session.command(Command::SetAntiEntropy { enabled }, global.dry_run).await?;
            done(global);
            Ok(ExitCode::AsExpected)
        }
    }
}

async fn status(session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
    let inspection = session.inspect().await?;
    let settings = &inspection.anti_entropy;
    if global.json {
        let pass = |pass: &crate::coordinator::inspection::Pass| {
            json!({ "shard": pass.shard.0, "ended_ms_ago": pass.ended_ago / 1_000_000, "repaired": pass.shipped,
                    "running": pass.running })
        };
        print::json(&json!({
            "enabled": settings.enabled, "repair": settings.repair, "period_ms": settings.period / 1_000_000,
            "passes": inspection.passes.iter().map(pass).collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::AsExpected);
    }
    match settings.enabled {
        true => out(format!("on, a pass over each shard every {}", seconds(settings.period))),
        false => out("off"),
    }
    if !inspection.passes.is_empty() {
        let rows = inspection.passes.iter().map(|pass| {
            vec![pass.shard.to_string(), format!("{} ago", seconds(pass.ended_ago)), pass.shipped.to_string()]
        });
        table(&["SHARD", "LAST PASS ENDED", "DOCUMENTS REPAIRED"], rows);
    }
    Ok(ExitCode::AsExpected)
}

/// A pass over every shard, now, and what it repaired.
async fn compare(session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
    let started = session.now();
    let shards = match session.command(Command::CompareNow, global.dry_run).await? {
        Reply::Comparing { shards } => shards,
        other => return Err(Failure::internal(format!("the coordinator answered something else: {other:?}"))),
    };
    if shards.is_empty() {
        note("every shard has one replica: there is nothing to compare");
        return Ok(ExitCode::NothingRan);
    }
    if global.dry_run {
        done(global);
        return Ok(ExitCode::AsExpected);
    }
    let mut waiting = shards;
    let mut repaired = 0;
    let mut compared = 0;
    let patience = millis(6 * session.settings.request_timeout_ms);
    while !waiting.is_empty() {
        if session.now() > started + patience {
            let names: Vec<String> = waiting.iter().map(ToString::to_string).collect();
            return Err(Failure::nothing("Unfinished", format!("no pass over {} has ended yet", names.join(" "))));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let since = session.now().saturating_sub(started);
        let passes = session.inspect().await?.passes;
        waiting.retain(|shard| {
            let ended = passes.iter().find(|pass| pass.shard == *shard && pass.ended_ago < since);
            if let Some(pass) = ended {
                repaired += pass.shipped;
                compared += 1;
            }
            ended.is_none()
        });
    }
    match global.json {
        true => print::json(&json!({ "shards": compared, "repaired": repaired })),
        false => out(format!("{compared} shards compared, {repaired} documents repaired")),
    }
    Ok(ExitCode::AsExpected)
}

pub(super) async fn scrub(session: &mut Session, global: &Global, node: Option<NodeId>) -> Result<ExitCode, Failure> {
    let nodes: Vec<NodeId> = match node {
        Some(node) => vec![node],
        None => session.inspect().await?.nodes.iter().map(|it| it.node).collect(),
    };
    let mut found = ExitCode::AsExpected;
    for node in nodes {
        let (mut read, mut rotten, mut again) = (0, Vec::<ShardId>::new(), false);
        // The first end may be that of a pass which others began: only a pass from its beginning has read everything.
        let mut ends = 0;
        while ends < 2 {
            let question = NodeQuestion::Scrub { documents: STEP_DOCUMENTS };
            let Some(NodeReply::Scrubbed { documents, damaged, replaced, finished, .. }) =
                session.ask_node(node, question).await
            else {
                return Err(Failure::nothing("Unreachable", format!("{node} did not answer; see `miroir nodes list`")));
            };
            read += documents;
            rotten.extend(damaged);
            again |= replaced;
            if finished {
                ends += 1;
                if ends == 1 {
                    read = 0;
                }
            }
        }
        if !rotten.is_empty() {
            found = ExitCode::Finding;
        }
        if global.json {
            let damaged: Vec<u32> = rotten.iter().map(|shard| shard.0).collect();
            print::json(&json!({ "node": node.0, "documents": read, "damaged": damaged, "replaced": again }));
        } else {
            let damaged: Vec<String> = rotten.iter().map(ToString::to_string).collect();
            let verdict =
                if damaged.is_empty() { "no rot".to_owned() } else { format!("rot in {}", damaged.join(" ")) };
            out(format!("{node}: {read} documents read, {verdict}"));
        }
    }
    Ok(found)
}

pub(super) async fn stats(session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
    let nodes: Vec<NodeId> = session.inspect().await?.nodes.iter().map(|it| it.node).collect();
    let mut rows = Vec::new();
    let mut silent = Vec::new();
    for node in nodes {
        let Some(NodeReply::Stats { disk, log_bytes, unflushed, copies, .. }) =
            session.ask_node(node, NodeQuestion::Stats).await
        else {
            silent.push(node);
            continue;
        };
        let held: Vec<_> = copies.iter().filter(|copy| copy.member || copy.documents > 0).collect();
        let documents: u64 = held.iter().map(|copy| copy.documents).sum();
        if global.json {
            let copies: Vec<_> = held
                .iter()
                .map(|copy| {
                    json!({ "shard": copy.shard.0, "epoch": copy.epoch.to_string(), "member": copy.member,
                            "documents": copy.documents, "damaged": copy.damaged })
                })
                .collect();
            print::json(&json!({ "node": node.0, "disk": format!("{:032x}", disk.0), "documents": documents,
                                 "log_bytes": log_bytes, "unflushed": unflushed, "copies": copies }));
        } else {
            let damaged = held.iter().filter(|copy| copy.damaged).count();
            rows.push(vec![
                node.to_string(),
                disk.to_string(),
                held.len().to_string(),
                documents.to_string(),
                log_bytes.to_string(),
                damaged.to_string(),
            ]);
        }
    }
    if !global.json {
        table(&["NODE", "DISK", "COPIES", "DOCUMENTS", "LOG BYTES", "DAMAGED"], rows);
    }
    match silent.first() {
        Some(node) => Err(Failure::nothing("Unreachable", format!("{node} did not answer; see `miroir nodes list`"))),
        None => Ok(ExitCode::AsExpected),
    }
}
