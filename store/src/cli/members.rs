//! Nodes and shards: who belongs to the cluster, and who holds what.

use serde_json::json;

use crate::cli::arguments::{Global, NodesCommand, ShardsCommand};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, note, out, seconds, table};
use crate::cli::session::Session;
use crate::config::{Replica, ShardConfig};
use crate::id::NodeId;
use crate::wire::Command;

pub(super) async fn nodes(session: &mut Session, global: &Global, command: &NodesCommand) -> Result<ExitCode, Failure> {
    let command = match command {
        NodesCommand::List => return list(session, global).await,
        NodesCommand::Add { node, address } => Command::AddNode { node: *node, address: address.clone() },
        NodesCommand::Remove { node } => Command::RemoveNode { node: *node },
    };
    session.command(command, global.dry_run).await?;
    done(global);
    Ok(ExitCode::AsExpected)
}

/// What is said of a command that needs no other answer.
pub(super) fn done(global: &Global) {
    match (global.json, global.dry_run) {
        (true, dry_run) => print::json(&json!({ "done": !dry_run, "dry_run": dry_run })),
        (false, true) => out("would be done"),
        (false, false) => out("done"),
    }
}

async fn list(session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
    let inspection = session.inspect().await?;
    let held = |node: NodeId| inspection.configs.iter().filter(|config| config.is_member(node)).count();
    if global.json {
        for it in &inspection.nodes {
            print::json(&json!({
                "node": it.node.0, "address": it.address, "disk": it.disk.map(|disk| format!("{:032x}", disk.0)),
                "silent_ms": it.silent_for.map(|nanos| nanos / 1_000_000), "shards": held(it.node),
                "damaged": it.damaged.iter().map(|shard| shard.0).collect::<Vec<_>>(),
            }));
        }
        return Ok(ExitCode::AsExpected);
    }
    let rows = inspection.nodes.iter().map(|it| {
        let answered = it.silent_for.map_or_else(|| "never".to_owned(), |nanos| format!("{} ago", seconds(nanos)));
        let damaged: Vec<String> = it.damaged.iter().map(ToString::to_string).collect();
        vec![it.node.to_string(), it.address.clone(), answered, held(it.node).to_string(), damaged.join(" ")]
    });
    table(&["NODE", "ADDRESS", "ANSWERED", "SHARDS", "DAMAGED"], rows);
    Ok(ExitCode::AsExpected)
}

pub(super) async fn shards(
    session: &mut Session,
    global: &Global,
    command: &ShardsCommand,
) -> Result<ExitCode, Failure> {
    if let ShardsCommand::GiveUp { shard, copies } = command {
        let named: Vec<String> = copies.iter().map(ToString::to_string).collect();
        let command = Command::GiveUp { shard: *shard, copies: copies.clone() };
        session.command(command, global.dry_run).await?;
        let (named, given) = (named.join(" "), if global.dry_run { "would be" } else { "is" });
        note(format!(
            "warning: what only the copies of {shard} on {named} held {given} given up; acknowledged writes may be gone"
        ));
        done(global);
        return Ok(ExitCode::AsExpected);
    }
    let inspection = session.inspect().await?;
    if global.json {
        inspection.configs.iter().for_each(|config| print::json(&as_json(config)));
        return Ok(ExitCode::AsExpected);
    }
    let rows = inspection.configs.iter().map(|config| {
        let text = config.to_string();
        let (held, epoch) = text.rsplit_once(" epoch ").unwrap_or((&text, ""));
        vec![config.shard.to_string(), epoch.to_owned(), held.to_owned()]
    });
    table(&["SHARD", "EPOCH", "HELD BY"], rows);
    Ok(ExitCode::AsExpected)
}

fn as_json(config: &ShardConfig) -> serde_json::Value {
    let nodes = |replicas: &[Replica]| replicas.iter().map(|replica| replica.node.0).collect::<Vec<_>>();
    json!({
        "shard": config.shard.0, "epoch": config.epoch.to_string(), "form": format!("{:?}", config.form),
        "old": nodes(&config.old), "new": nodes(&config.new), "leaving": nodes(&config.leaving),
        "recovering": nodes(&config.recovering), "gate_unmet": config.gate_unmet(),
    })
}
