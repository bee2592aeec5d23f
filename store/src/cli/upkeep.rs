//! Anti-entropy and scrubbing.

use serde_json::json;

use crate::cli::arguments::{AntiEntropyCommand, Global};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::members::done;
use crate::cli::print::{self, bar, out, seconds, table};
use crate::cli::session::Session;
use crate::env::millis;
use crate::id::{NodeId, ShardId};
use crate::wire::{Command, NodeQuestion, NodeReply, Reply};

/// Documents per step of a scrub: a node answers others between two steps.
const STEP_DOCUMENTS: u32 = 512;
/// How long nothing may happen to the passes that an operator waits for, in waits for one answer.
const PATIENCE_IN_REQUESTS: u64 = 6;

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
        let text = "every shard has one replica: there is nothing to compare";
        return Err(Failure::nothing("NothingToCompare", text));
    }
    if global.dry_run {
        done(global);
        return Ok(ExitCode::AsExpected);
    }
    let bar = bar(Some(shards.len() as u64), "{bar:30} {pos}/{len} shards compared, {msg}");
    let mut waiting = shards;
    let mut repaired = 0;
    let mut compared = 0;
    // Each pass that ends shows that the others may: only a silence of all is one too many.
    let patience_ms = PATIENCE_IN_REQUESTS * session.settings.request_timeout_ms;
    let mut advanced_at = started;
    while !waiting.is_empty() {
        if session.now() > advanced_at + millis(patience_ms) {
            bar.finish_and_clear();
            return Err(unfinished(&waiting, compared, patience_ms));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let since = session.now().saturating_sub(started);
        let passes = session.inspect().await?.passes;
        let before = compared;
        waiting.retain(|shard| {
            let ended = passes.iter().find(|pass| pass.shard == *shard && pass.ended_ago < since);
            if let Some(pass) = ended {
                repaired += pass.shipped;
                compared += 1;
            }
            ended.is_none()
        });
        if compared > before {
            advanced_at = session.now();
            bar.set_position(compared);
            bar.set_message(format!("{repaired} documents repaired"));
        }
    }
    bar.finish_and_clear();
    match global.json {
        true => print::json(&json!({ "shards": compared, "repaired": repaired, "dry_run": false })),
        false => out(format!("{compared} shards compared, {repaired} documents repaired")),
    }
    Ok(ExitCode::AsExpected)
}

/// Nobody waits for these passes any more; the coordinator goes on with them.
fn unfinished(waiting: &[ShardId], compared: u64, patience_ms: u64) -> Failure {
    let names: Vec<String> = waiting.iter().map(ToString::to_string).collect();
    let (names, seconds) = (names.join(" "), patience_ms as f64 / 1e3);
    Failure::nothing(
        "Unfinished",
        format!(
            "{compared} shards compared, and no pass over {names} has ended for {seconds} s; the passes go on all the \
             same: see `miroir anti-entropy status`, and `miroir nodes list` for who does not answer"
        ),
    )
}

/// Reads every document of one node, or of all, back.
pub(super) async fn scrub(session: &mut Session, global: &Global, node: Option<NodeId>) -> Result<ExitCode, Failure> {
    let nodes: Vec<NodeId> = match node {
        Some(node) => vec![node],
        None => session.inspect().await?.nodes.iter().map(|it| it.node).collect(),
    };
    let mut found = ExitCode::AsExpected;
    for node in nodes {
        let silent = || Failure::nothing("Unreachable", format!("{node} did not answer; see `miroir nodes list`"));
        let Some(NodeReply::Stats { copies, .. }) = session.ask_node(node, NodeQuestion::Stats).await else {
            return Err(silent());
        };
        let documents: u64 = copies.iter().map(|copy| copy.documents).sum();
        if global.dry_run {
            match global.json {
                true => print::json(&json!({ "node": node.0, "documents": documents, "dry_run": true })),
                false => out(format!("{node}: {documents} documents would be read")),
            }
            continue;
        }
        let scrubbed = scrub_node(session, node, documents).await.ok_or_else(silent)?;
        if !scrubbed.damaged.is_empty() {
            found = ExitCode::Finding;
        }
        let Pass { documents, damaged, replaced } = scrubbed;
        if global.json {
            let damaged: Vec<u32> = damaged.iter().map(|shard| shard.0).collect();
            print::json(&json!({ "node": node.0, "documents": documents, "damaged": damaged, "replaced": replaced,
                                 "dry_run": false }));
        } else {
            let names: Vec<String> = damaged.iter().map(ToString::to_string).collect();
            let verdict = if names.is_empty() { "no rot".to_owned() } else { format!("rot in {}", names.join(" ")) };
            out(format!("{node}: {documents} documents read, {verdict}"));
        }
    }
    Ok(found)
}

/// What a pass over one node has read and found.
#[derive(Default)]
struct Pass {
    documents: u64,
    damaged: Vec<ShardId>,
    replaced: bool,
}

/// One pass from its beginning to its end; `None` if the node falls silent. `expected`: about so many documents.
async fn scrub_node(session: &mut Session, node: NodeId, expected: u64) -> Option<Pass> {
    let bar = bar(Some(expected), &format!("{node} {{bar:30}} {{pos}}/{{len}} documents read, {{eta}} left"));
    let mut pass = Pass::default();
    // The first end may be that of a pass which others began: only a pass from its beginning has read everything.
    let mut ends = 0;
    while ends < 2 {
        let question = NodeQuestion::Scrub { documents: STEP_DOCUMENTS };
        let Some(NodeReply::Scrubbed { documents, damaged, replaced, finished, .. }) =
            session.ask_node(node, question).await
        else {
            bar.finish_and_clear();
            return None;
        };
        pass.documents += documents;
        pass.damaged.extend(damaged);
        pass.replaced |= replaced;
        if finished {
            ends += 1;
            if ends == 1 {
                pass.documents = 0;
            }
        }
        bar.set_position(pass.documents);
    }
    bar.finish_and_clear();
    Some(pass)
}
