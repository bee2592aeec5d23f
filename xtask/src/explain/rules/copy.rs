//! What a migration moves before anybody writes to the joining nodes.

use miroir_scenarios::ledger::{Entry, State, short};
use miroir_sim::time::{Nanos, in_seconds};

use crate::evidence::{Evidence, Window};

/// Every old replica held it before the migration began, and the pages did not bring it: no delta pass is needed for that.
pub fn incomplete(evidence: &Evidence, window: &Window) -> Option<String> {
    let Window { shard, doc, version, opened_at, .. } = window;
    let began = evidence.entered(*shard, "DualWrite", *opened_at)?;
    let before = State::at(&evidence.ledger, began);
    let held = before.holders(*shard, doc, version);
    let (_, groups) = before.configs.get(shard)?;
    let old = groups.first()?;
    if !old.iter().all(|node| held.contains(node)) {
        return None;
    }
    let after = State::at(&evidence.ledger, *opened_at);
    let has = after.holders(*shard, doc, version);
    let joining = after.configs.get(shard)?.1.iter().flatten().filter(|node| !old.contains(node));
    let lacking = joining.clone().find(|node| !has.contains(*node))?;
    let page = evidence.ledger.iter().find_map(|line| match &line.entry {
        Entry::Copied { node, shard: of, through }
            if (node, *of) == (lacking, *shard) && (began..*opened_at).contains(&line.at) =>
        {
            through.as_ref().is_none_or(|through| through >= doc).then_some(line.at)
        }
        _ => None,
    });
    let old = old.join(" ");
    Some(match page {
        Some(at) => format!(
            "pages bring everything that their source holds: by {} they had gone past {doc} on {lacking} and not brought {}, which {old} \
             had held since before DualWrite",
            in_seconds(at),
            short(version)
        ),
        None => format!(
            "Joint is committed when every joining node has every page: the one that {doc} belongs to had not come to {lacking} at {}, \
             and {old} had held {} since before DualWrite",
            in_seconds(joint(evidence, *shard, *opened_at)?),
            short(version)
        ),
    })
}

/// When the last Joint before an instant was committed.
fn joint(evidence: &Evidence, shard: u32, before: Nanos) -> Option<Nanos> {
    let committed = evidence.ledger.iter().take_while(|line| line.at <= before).filter(
        |line| matches!(&line.entry, Entry::Committed { shard: of, groups, .. } if *of == shard && groups.len() == 2),
    );
    committed.last().map(|line| line.at)
}
