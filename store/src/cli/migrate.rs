//! Moving a shard: plan, start, watch, pause, abort, reverse, explain.

use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::{Global, MigrateCommand};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::members::done;
use crate::cli::print::{self, note, out, seconds, table};
use crate::cli::session::Session;
use crate::cli::verify;
use crate::config::{Cutover, ShardConfig, majority};
use crate::coordinator::inspection::{Inspection, MigrationInspection};
use crate::id::{MigrationId, NodeId, ShardId};
use crate::migration::{Stage, Timing};
use crate::wire::Command;

/// How often a watched migration is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Attempts to find an id that nobody else has taken meanwhile.
const ATTEMPTS: u64 = 5;

pub(super) async fn run(session: &mut Session, global: &Global, command: &MigrateCommand) -> Result<ExitCode, Failure> {
    let simple = match command {
        MigrateCommand::Plan { shard, to, skip_delta } => {
            let cutover = if *skip_delta { Cutover::Skipped } else { Cutover::Delta };
            return plan(session, global, |id| Command::Plan { id, shard: *shard, target: to.clone(), cutover }).await;
        }
        MigrateCommand::Reverse { id } => {
            return plan(session, global, |new| Command::Reverse { id: *id, new }).await;
        }
        MigrateCommand::Status { id, watch: false } => return status(session, global, *id).await,
        MigrateCommand::Status { id, watch: true } => {
            return watch(session, global, id.expect("asked for by the arguments")).await;
        }
        MigrateCommand::Verify { id } => {
            let shard = find(&session.inspect().await?, *id)?.record.shard;
            return verify::shard(session, global, shard).await;
        }
        MigrateCommand::Explain { id } => return explain(session, global, *id).await,
        MigrateCommand::Start { id, .. } => Command::Start { id: *id },
        MigrateCommand::Pause { id } => Command::Pause { id: *id },
        MigrateCommand::Resume { id } => Command::Resume { id: *id },
        MigrateCommand::Abort { id } => Command::Abort { id: *id },
    };
    session.command(simple, global.dry_run).await?;
    match command {
        MigrateCommand::Start { id, watch: true } if !global.dry_run => watch(session, global, *id).await,
        _ => {
            done(global);
            Ok(ExitCode::AsExpected)
        }
    }
}

/// Plans under the next free id.
async fn plan(
    session: &mut Session,
    global: &Global,
    command: impl Fn(MigrationId) -> Command,
) -> Result<ExitCode, Failure> {
    let last = session.inspect().await?.migrations.iter().map(|it| it.record.id.0).max().unwrap_or(0);
    for id in (last + 1..).map(MigrationId).take(ATTEMPTS as usize) {
        match session.command(command(id), global.dry_run).await {
            // Another operator was faster.
            Err(failure) if failure.code == "Exists" => {}
            Err(failure) => return Err(failure),
            Ok(_) => {
                match (global.json, global.dry_run) {
                    (true, dry_run) => print::json(&json!({ "id": id.0, "dry_run": dry_run })),
                    (false, true) => out(format!("would be planned as {id}")),
                    (false, false) => out(format!("planned {id}; `miroir migrate start {id}` begins it")),
                }
                return Ok(ExitCode::AsExpected);
            }
        }
    }
    Err(Failure::refused("Exists", "others are planning at the same time; try again"))
}

fn find(inspection: &Inspection, id: MigrationId) -> Result<MigrationInspection, Failure> {
    let found = inspection.migrations.iter().find(|it| it.record.id == id);
    found.cloned().ok_or_else(|| Failure::nothing("NoSuchMigration", format!("there is no migration {id}")))
}

fn nodes(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn as_json(it: &MigrationInspection) -> serde_json::Value {
    let record = &it.record;
    let stages: Vec<serde_json::Value> =
        stages(it).iter().map(|(stage, took)| json!({ "stage": stage.to_string(), "ms": took / 1_000_000 })).collect();
    json!({
        "id": record.id.0, "shard": record.shard.0, "stage": record.stage.to_string(), "stages": stages,
        "attempt": record.attempt, "paused": record.paused, "skip_delta": record.cutover == Cutover::Skipped,
        "from": record.from.iter().map(|node| node.0).collect::<Vec<_>>(),
        "to": record.target.iter().map(|node| node.0).collect::<Vec<_>>(),
        "pages": it.copies.iter().map(|copy| copy.pages).sum::<u64>(), "delta_documents": it.delta_documents,
        "reason": record.reason.map(|reason| reason.to_string()),
    })
}

/// The stages of the present attempt, each with how long it took, or has taken so far.
fn stages(it: &MigrationInspection) -> Vec<(Stage, u64)> {
    let ends = it.journey.iter().skip(1).map(|(_, ago)| *ago).chain([0]);
    it.journey.iter().zip(ends).map(|((stage, began), ended)| (*stage, began.saturating_sub(ended))).collect()
}

async fn status(session: &mut Session, global: &Global, id: Option<MigrationId>) -> Result<ExitCode, Failure> {
    let inspection = session.inspect().await?;
    let shown = match id {
        Some(id) => vec![find(&inspection, id)?],
        None => inspection.migrations,
    };
    if shown.is_empty() {
        return Err(Failure::nothing("NoMigrations", "no migration has been planned"));
    }
    if global.json {
        shown.iter().for_each(|it| print::json(&as_json(it)));
    } else {
        let rows = shown.iter().map(|it| {
            let record = &it.record;
            let paused = if record.paused { " (paused)" } else { "" };
            vec![
                record.id.to_string(),
                record.shard.to_string(),
                format!("{} -> {}", nodes(&record.from), nodes(&record.target)),
                format!("{}{paused}", record.stage),
                record.attempt.to_string(),
                record.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            ]
        });
        table(&["ID", "SHARD", "FROM -> TO", "STAGE", "ATTEMPT", "LAST ABORTED BECAUSE"], rows);
    }
    Ok(ExitCode::AsExpected)
}

/// Prints every stage as it ends, until the migration has ended.
async fn watch(session: &mut Session, global: &Global, id: MigrationId) -> Result<ExitCode, Failure> {
    let mut printed = 0;
    let mut attempt = None;
    let mut progress = 0;
    loop {
        let it = find(&session.inspect().await?, id)?;
        if attempt != Some(it.record.attempt) || it.journey.len() < printed {
            if attempt.is_some() {
                note(format!("attempt {}", it.record.attempt));
            }
            attempt = Some(it.record.attempt);
            printed = 0;
        }
        let ended = matches!(it.record.stage, Stage::Done) || is_aborted_for_good(&it);
        let all = stages(&it);
        let over = if ended { all.len() } else { all.len().saturating_sub(1) };
        for (stage, took) in all[printed.min(over)..over].iter().filter(|_| !global.json) {
            match stage {
                Stage::Done => {
                    out(format!("{id} is done: {} is held by {}", it.record.shard, nodes(&it.record.target)))
                }
                Stage::Aborted => {}
                stage => out(format!("{:<10} {:>9}{}", stage.to_string(), seconds(*took), detail(*stage, &it))),
            }
        }
        if global.json && over > printed {
            print::json(&as_json(&it));
        }
        printed = over.max(printed);
        if ended {
            return match it.record.stage {
                Stage::Done => Ok(ExitCode::AsExpected),
                _ => Err(Failure {
                    exit: ExitCode::Finding,
                    code: "Aborted".to_owned(),
                    line: format!(
                        "{id} was aborted: {}; {} stays with {}",
                        it.record.reason.map(|reason| reason.to_string()).unwrap_or_default(),
                        it.record.shard,
                        nodes(&it.record.from)
                    ),
                }),
            };
        }
        let pages = it.copies.iter().map(|copy| copy.pages).sum::<u64>();
        if pages / 100 > progress {
            progress = pages / 100;
            note(format!("{:?}: {pages} pages copied", it.record.stage));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn detail(stage: Stage, it: &MigrationInspection) -> String {
    match (stage, it.delta_documents) {
        (Stage::DeltaPass, Some(shipped)) => format!("  {shipped} documents shipped"),
        _ => String::new(),
    }
}

/// How often a migration is tried is no setting: the coordinator counts to the same number.
fn is_aborted_for_good(it: &MigrationInspection) -> bool {
    it.record.stage == Stage::Aborted && !it.record.will_retry(Timing::default().max_attempts)
}

async fn explain(session: &mut Session, global: &Global, id: MigrationId) -> Result<ExitCode, Failure> {
    let inspection = session.inspect().await?;
    let it = find(&inspection, id)?;
    let config = inspection.configs.iter().find(|config| config.shard == it.record.shard);
    let config = config.ok_or_else(|| Failure::internal(format!("{} has no configuration", it.record.shard)))?;
    let (waits, next) = waiting(&inspection, &it, config);
    if global.json {
        print::json(&json!({ "migration": as_json(&it), "config": config.to_string(), "waits": waits, "next": next }));
    } else {
        let ShardId(shard) = it.record.shard;
        out(format!("{id} moves s{shard} from {} to {}", nodes(&it.record.from), nodes(&it.record.target)));
        out(format!("stage:  {}, for {}, attempt {}", it.record.stage, seconds(it.in_stage_for), it.record.attempt));
        out(format!("config: {config}"));
        out(format!("waits:  {waits}"));
        out(format!("next:   {next}"));
    }
    Ok(ExitCode::AsExpected)
}

/// What a migration is waiting for, and what comes then.
fn waiting(inspection: &Inspection, it: &MigrationInspection, config: &ShardConfig) -> (String, String) {
    let id = it.record.id;
    let installed = |node: NodeId| it.installed.iter().any(|(of, epoch)| *of == node && *epoch >= config.epoch);
    let silent: Vec<String> = inspection
        .nodes
        .iter()
        .filter(|node| it.record.target.contains(&node.node) || it.record.from.contains(&node.node))
        .filter(|node| node.silent_for.is_none_or(|nanos| nanos > 2_000_000_000))
        .map(|node| node.node.to_string())
        .collect();
    let silent = if silent.is_empty() { String::new() } else { format!("; {} do not answer", silent.join(" ")) };
    let (waits, next): (String, String) = match it.record.stage {
        stage if it.record.paused => {
            let next = match stage {
                Stage::Drain | Stage::DeltaPass => "the stage goes on; until then its timeout still runs",
                _ => "the stage goes on",
            };
            (format!("for `miroir migrate resume {id}`"), next.into())
        }
        Stage::Planned if it.record.attempt == 0 => {
            (format!("for `miroir migrate start {id}`"), "DualWrite: writes also go to the joining nodes".into())
        }
        Stage::Planned => {
            ("for the new nodes to answer".into(), "DualWrite: writes also go to the joining nodes".into())
        }
        Stage::DualWrite => {
            let lacking: Vec<String> = config
                .joiners()
                .iter()
                .filter(|joiner| !it.copies.iter().any(|copy| copy.node == joiner.node && copy.done))
                .map(|joiner| {
                    let pages = it.copies.iter().find(|copy| copy.node == joiner.node).map_or(0, |copy| copy.pages);
                    format!("{} ({pages} pages)", joiner.node)
                })
                .collect();
            (format!("for the copy to {}", lacking.join(", ")), "Drain: old and new replicas serve together".into())
        }
        Stage::Drain => {
            let lacking: Vec<String> =
                config.old.iter().filter(|it| !installed(it.node)).map(|it| it.node.to_string()).collect();
            let needed = majority(config.old.len());
            (
                format!(
                    "until {needed} of {} old replicas have installed it; missing: {}",
                    config.old.len(),
                    lacking.join(" ")
                ),
                "DeltaPass: what the old replicas hold is made present on the new ones and verified".into(),
            )
        }
        Stage::DeltaPass => (
            "for the delta pass to be verified on a majority of the new replicas".into(),
            "Activate: the cutover".into(),
        ),
        Stage::Activate => ("for the commit of the cutover".into(), "Cleanup: old replicas drop their copies".into()),
        Stage::Cleanup if config.gate_unmet() => (
            "for a clean anti-entropy pass, as the delta pass was skipped".into(),
            "old replicas drop their copies; until then they are kept".into(),
        ),
        Stage::Cleanup => {
            let leaving: Vec<String> = config.leaving.iter().map(|replica| replica.node.to_string()).collect();
            (format!("for {} to drop their copies", leaving.join(" ")), "Done".into())
        }
        Stage::Done => ("for nothing".into(), format!("`miroir migrate reverse {id}` plans the way back")),
        Stage::Aborted if !is_aborted_for_good(it) => {
            let why = it.record.reason.map(|reason| reason.to_string()).unwrap_or_default();
            (
                format!("to try again, after: {why}"),
                format!("another attempt, unless `miroir migrate abort {id}` ends it"),
            )
        }
        Stage::Aborted => {
            let why = it.record.reason.map(|reason| reason.to_string()).unwrap_or_default();
            let tried =
                if it.record.attempt > 1 { format!(", in attempt {}", it.record.attempt) } else { String::new() };
            (format!("for nothing: {why}{tried}"), "a new plan, if the shard is still to be moved".into())
        }
    };
    (waits + &silent, next)
}
