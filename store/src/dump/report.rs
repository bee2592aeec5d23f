//! What a plan and its result look like to a person, and to a script.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::dump::plan::{Conflict, IfExists, Index, KeySource, Options, Plan};
use crate::dump::refusal::{MATRIX, SEE};
use crate::dump::target::Shape;

/// Said when reserved fields, and nothing that was asked for, lead to broadcast.
pub fn fallback(conflict: &Conflict, shape: Shape) -> String {
    // Tenths, rounded up: who plans for room wants no less than it takes.
    let tenths = (10 * shape.nodes).div_ceil(shape.replication.max(1));
    let nodes = if shape.nodes == 1 { "node" } else { "nodes" };
    format!(
        "⚠️  Falling back to broadcast mode\n\
         Reason: {} field conflict detected\n\
         Impact: every node temporarily stores the full corpus ({} {nodes} / replication {} = {}.{}x)\n\
         {SEE}",
        conflict.field.escape_debug(),
        shape.nodes,
        shape.replication,
        tenths / 10,
        tenths % 10
    )
}

/// What `dump analyze` prints: version, a line for each index, what is lost, the mode to use.
pub fn analysis(plan: &Plan, options: &Options) -> String {
    let db_version = plan.db_version.as_deref().unwrap_or("an unknown version").escape_debug();
    let mut text = format!(
        "Meilisearch dump {} of {db_version}: {} bytes, {} unpacked\n",
        plan.version, plan.bytes, plan.unpacked_bytes
    );
    for index in &plan.indexes {
        let _ = writeln!(text, "  {}; goes in by {}", line(index), plan.mode);
    }
    if plan.indexes.is_empty() {
        text.push_str("  no index\n");
    }
    if let Some(conflict) = &plan.conflict {
        let field = conflict.field.escape_debug();
        let (documents, member, line) = (conflict.documents, conflict.member.escape_debug(), conflict.line);
        let _ = writeln!(text, "Reserved field: `{field}` in {documents} documents, first in {member}, line {line}");
    }
    let _ = writeln!(text, "Mode: {}", plan.mode);
    if !plan.losses.is_empty() {
        let _ = writeln!(text, "Not restored: {}", plan.losses);
    }
    if options.if_exists == IfExists::Overwrite {
        let _ = writeln!(text, "{OVERWRITES}");
    }
    text.push_str(SEE);
    text
}

const OVERWRITES: &str = "An import overwrites documents of the same ids, also where users have written since the dump";

/// What whoever imports has to know before the first write: primary keys that the dump does not tell, and that documents are
/// overwritten.
pub fn before(plan: &Plan, options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    for index in &plan.indexes {
        if let Some((key, KeySource::Inferred)) = &index.primary_key {
            let key = key.escape_debug();
            lines.push(format!("{}: primary key `{key}` (inferred: the only field that ends with `id`)", index.uid));
        }
    }
    if options.if_exists == IfExists::Overwrite {
        lines.push(OVERWRITES.to_owned());
    }
    lines
}

/// One index, on one line.
fn line(index: &Index) -> String {
    let mut line = format!("{}: {} documents, {} bytes", index.uid, index.documents, index.bytes);
    if index.pending_documents > 0 {
        let _ = write!(line, ", {} more in unfinished tasks", index.pending_documents);
    }
    match &index.primary_key {
        None => line.push_str("; no primary key"),
        Some((key, source)) => {
            let from = match source {
                KeySource::Dump => "",
                KeySource::Inferred => " (inferred: the only field that ends with `id`)",
                KeySource::Asked => " (as asked)",
            };
            let _ = write!(line, "; primary key `{}`{from}", key.escape_debug());
        }
    }
    if index.folder.is_none() {
        line.push_str("; created by an unfinished task");
    }
    line
}

/// What `dump analyze --json` prints, on one line. Nothing of a key, a webhook or a document is in it.
pub fn json(plan: &Plan) -> Value {
    let index = |index: &Index| {
        let (key, source) = index.primary_key.clone().unzip();
        json!({
            "uid": index.uid,
            "documents": index.documents,
            "bytes": index.bytes,
            "pending_documents": index.pending_documents,
            "primary_key": key,
            "primary_key_from": source.map(|source| match source {
                KeySource::Dump => "dump",
                KeySource::Inferred => "inferred",
                KeySource::Asked => "asked",
            }),
        })
    };
    json!({
        "v": 1,
        "dump_version": plan.version.to_string(),
        "db_version": plan.db_version,
        "dump_date": plan.dump_date,
        "bytes": plan.bytes,
        "unpacked_bytes": plan.unpacked_bytes,
        "indexes": plan.indexes.iter().map(index).collect::<Vec<_>>(),
        "conflict": plan.conflict.as_ref().map(|conflict| json!({
            "field": conflict.field,
            "member": conflict.member,
            "line": conflict.line,
            "documents": conflict.documents,
        })),
        "not_restored": plan.losses.phrases(),
        "mode": plan.mode.to_string(),
        "see": MATRIX,
    })
}

/// What stays to be said after an import.
pub fn losses(plan: &Plan) -> Option<String> {
    (!plan.losses.is_empty()).then(|| format!("Not restored: {}\n{SEE}", plan.losses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_is_announced_in_these_words() {
        let conflict = Conflict { field: "_miroir_shard".to_owned(), member: String::new(), line: 1, documents: 1 };
        let said = |nodes, replication| fallback(&conflict, Shape { nodes, replication, shards: 1 });
        assert_eq!(
            said(3, 1),
            "⚠️  Falling back to broadcast mode\n\
             Reason: _miroir_shard field conflict detected\n\
             Impact: every node temporarily stores the full corpus (3 nodes / replication 1 = 3.0x)\n\
             See: docs/dump-import/compatibility-matrix.md"
        );
        assert!(said(5, 3).contains("(5 nodes / replication 3 = 1.7x)"));
        assert!(said(1, 1).contains("(1 node / replication 1 = 1.0x)"));
    }
}
