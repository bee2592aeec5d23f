//! What each node holds, and the room that it takes and has left.

use serde_json::json;

use crate::cli::arguments::Global;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, note, table};
use crate::cli::session::Session;
use crate::id::{DiskId, NodeId, ShardId};
use crate::wire::{CopyStats, NodeQuestion, NodeReply};

const HEADINGS: [&str; 9] =
    ["NODE", "DISK", "COPIES", "DOCUMENTS", "TOMBSTONES", "LOG BYTES", "PAGE BYTES", "FREE BYTES", "DAMAGED"];

/// One node, as it answers.
struct Held {
    node: NodeId,
    disk: DiskId,
    log_bytes: u64,
    unflushed: u64,
    copies: Vec<CopyStats>,
    /// `None`: its program is older than the question.
    room: Option<Room>,
}

struct Room {
    page_bytes: u64,
    free_bytes: Option<u64>,
    tombstones: Vec<(ShardId, u64)>,
}

pub(super) async fn stats(session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
    let nodes: Vec<NodeId> = session.inspect().await?.nodes.iter().map(|it| it.node).collect();
    let mut rows = Vec::new();
    let (mut silent, mut uncounted) = (None, Vec::new());
    for node in nodes {
        let Some(held) = Held::ask(session, node).await else {
            silent = silent.or(Some(node));
            continue;
        };
        if held.tombstones().is_none() {
            uncounted.push(node.to_string());
        }
        match global.json {
            true => print::json(&held.as_json()),
            false => rows.push(held.row()),
        }
    }
    if !global.json {
        table(&HEADINGS, rows);
    }
    if !uncounted.is_empty() {
        let names = uncounted.join(" ");
        note(format!("tombstones are not counted yet since the start of {names}; `miroir scrub` does it at once"));
    }
    match silent {
        Some(node) => Err(Failure::nothing("Unreachable", format!("{node} did not answer; see `miroir nodes list`"))),
        None => Ok(ExitCode::AsExpected),
    }
}

impl Held {
    async fn ask(session: &mut Session, node: NodeId) -> Option<Held> {
        let NodeReply::Stats { disk, log_bytes, unflushed, copies, .. } =
            session.ask_node(node, NodeQuestion::Stats).await?
        else {
            return None;
        };
        let room = match session.ask_node(node, NodeQuestion::Room).await {
            Some(NodeReply::Room { page_bytes, free_bytes, tombstones, .. }) => {
                Some(Room { page_bytes, free_bytes, tombstones })
            }
            _ => None,
        };
        let copies = copies.into_iter().filter(|copy| copy.member || copy.documents > 0).collect();
        Some(Held { node, disk, log_bytes, unflushed, copies, room })
    }

    /// Tombstones of one copy, if they have been counted.
    fn tombstones_of(&self, shard: ShardId) -> Option<u64> {
        let counted = self.room.as_ref()?.tombstones.iter().find(|(of, _)| *of == shard);
        counted.map(|(_, count)| *count)
    }

    /// Tombstones of all copies, if those of each have been counted.
    fn tombstones(&self) -> Option<u64> {
        self.copies.iter().map(|copy| self.tombstones_of(copy.shard)).sum()
    }

    /// Documents of all copies, tombstones included.
    fn documents(&self) -> u64 {
        self.copies.iter().map(|copy| copy.documents).sum()
    }

    fn as_json(&self) -> serde_json::Value {
        let copy = |copy: &CopyStats| {
            let tombstones = self.tombstones_of(copy.shard);
            json!({ "shard": copy.shard.0, "epoch": copy.epoch.to_string(), "member": copy.member,
                    "documents": copy.documents, "tombstones": tombstones, "live": live(copy.documents, tombstones),
                    "damaged": copy.damaged })
        };
        let (documents, tombstones) = (self.documents(), self.tombstones());
        json!({
            "node": self.node.0, "disk": format!("{:032x}", self.disk.0), "documents": documents,
            "tombstones": tombstones, "live": live(documents, tombstones), "log_bytes": self.log_bytes,
            "page_bytes": self.room.as_ref().map(|room| room.page_bytes),
            "free_bytes": self.room.as_ref().and_then(|room| room.free_bytes), "unflushed": self.unflushed,
            "copies": self.copies.iter().map(copy).collect::<Vec<_>>(),
        })
    }

    fn row(&self) -> Vec<String> {
        let known = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        let (documents, tombstones) = (self.documents(), self.tombstones());
        let live = live(documents, tombstones);
        vec![
            self.node.to_string(),
            self.disk.to_string(),
            self.copies.len().to_string(),
            live.map_or_else(|| format!("at most {documents}"), |live| live.to_string()),
            known(tombstones),
            self.log_bytes.to_string(),
            known(self.room.as_ref().map(|room| room.page_bytes)),
            known(self.room.as_ref().and_then(|room| room.free_bytes)),
            self.copies.iter().filter(|copy| copy.damaged).count().to_string(),
        ]
    }
}

/// Documents that are no tombstones. The two were asked for one after the other, and a write may lie between.
fn live(documents: u64, tombstones: Option<u64>) -> Option<u64> {
    tombstones.map(|tombstones| documents.saturating_sub(tombstones))
}
