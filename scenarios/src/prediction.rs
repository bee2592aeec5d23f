//! How many documents are missing at Activate when nothing fetches what the joining replicas missed: by the arithmetic,
//! beside what was seen.
//!
//! A document is missing if its last write before Activate was missed by a majority of the new replicas. A new replica
//! misses a write if the link loses it after the document's page was read. Once a majority of the old replicas has
//! installed Joint, a write is not acknowledged before a majority of the new ones has it, and so makes up for what was missed
//! before. A write goes to document `d` with chance `s(d)`, so that over all writes `w` before that
//!
//! ```text
//! exposed   E = sum over d and w of  s(d)
//! expected  m = sum over d and w of  s(d) (chance that a majority misses w) (1 - s(d)) ^ (writes after w)
//! ```
//!
//! which is `E p (1 - q)` with `q`, the share of the missed writes whose document is written again in time. The chances
//! come from the plan: `s(d)`, and the loss of the link. How many writes there were, and when pages were read and
//! configurations installed, is taken from the run. Nothing is fitted.

use miroir_sim::Ratio;
use miroir_sim::history::{Op, Outcome};
use miroir_sim::record::Prediction;
use miroir_sim::time::{MICROS, Nanos};
use miroir_store::config::{Form, Replica};
use miroir_store::id::{Key, NodeId};
use miroir_store::migration::Stage;

use crate::audit::Books;
use crate::plan::Plan;
use crate::run::Seen;
use crate::workload::{document, share};

/// The prediction for a run whose only migration was let through without a defence; `None` for every other run.
pub fn predict(plan: &Plan, seen: &Seen) -> Option<Prediction> {
    let [migration] = plan.migrations.as_slice() else { return None };
    if !plan.cluster.unsafe_cutover || plan.cluster.shards != 1 {
        return None;
    }
    let journey = seen.books.journeys.values().next()?;
    let activated = journey.stages.iter().find(|(_, stage)| *stage == Stage::Cleanup).map(|(at, _)| *at)?;
    let (_, joint) = seen.books.config_log.iter().find(|(_, config)| config.form == Form::Joint)?;
    let installed = |replica: &Replica| {
        let at = seen.books.installed_at.get(&(joint.shard, replica.node, joint.epoch));
        at.copied().unwrap_or(Nanos::MAX)
    };
    let mut old: Vec<Nanos> = joint.old.iter().map(installed).collect();
    old.sort_unstable();
    let until = old[old.len() / 2].min(activated);

    let network = &plan.sim.network;
    // A node answers once what it has taken is durable. So much earlier than its client knew had a write come to its node; a
    // page was read before such a commit and a frame too, and after it comes the commit that makes it durable.
    let sync = plan.sim.disk.sync_mean_us * MICROS;
    let on_its_way = network.latency_mean_us * MICROS + sync;
    let acked = seen.history.iter().filter(|it| it.outcome == Outcome::Ok && !matches!(it.op, Op::Read { .. }));
    let mut writes: Vec<Nanos> = acked.filter_map(|it| it.ret?.checked_sub(on_its_way)).collect();
    writes.sort_unstable();
    let exposed_until = writes.partition_point(|at| *at < until);
    let under_joint = writes.partition_point(|at| *at < activated) - exposed_until;

    let loss = network.links.first().and_then(|link| link.loss).unwrap_or(Ratio::ZERO);
    let documents = u64::from(plan.workload.documents);
    let (mut exposed, mut last, mut expected): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for n in 0..documents {
        // A page that comes too late, or never, makes up for nothing.
        let read_at = |joiner: &Replica| {
            let durable = page_durable_at(&seen.books, joiner.node, n).filter(|at| *at < activated);
            durable.map_or(0, |at| at.saturating_sub(on_its_way + sync))
        };
        let read: Vec<Nanos> = joint.new.iter().map(read_at).collect();
        let share = share(n, documents);
        // From the last write back: the chance that it goes to this document, and none after it does.
        let mut last_one = share * (1.0 - share).powi(under_joint as i32);
        for at in writes[..exposed_until].iter().rev() {
            if read.iter().filter(|read| *read <= at).count() <= read.len() / 2 {
                break;
            }
            let chance = |read: &Nanos| if read <= at { as_float(loss) } else { 0.0 };
            let chances: Vec<f64> = read.iter().map(chance).collect();
            exposed += share;
            last += last_one;
            expected += last_one * majority(&chances);
            last_one *= 1.0 - share;
        }
    }
    let opened = seen.windows.iter().filter(|window| window.opened_at == activated);
    let millionths = |value: f64| (value * 1e6).round() as u64;
    Some(Prediction {
        replication: plan.cluster.replication,
        joiners: plan.joiners(migration).len() as u32,
        loss_millionths: millionths(as_float(loss)),
        exposed: exposed.round() as u64,
        rewritten_millionths: millionths(1.0 - last / exposed),
        expected_millionths: millionths(expected),
        missing: opened.count() as u64,
    })
}

fn as_float(ratio: Ratio) -> f64 {
    f64::from(ratio.num()) / f64::from(ratio.den())
}

/// The chance that a majority of replicas misses a write which each misses with a chance of its own.
fn majority(chances: &[f64]) -> f64 {
    // By how many of the replicas so far miss it.
    let mut missed_by = vec![1.0];
    for chance in chances {
        missed_by.push(0.0);
        for count in (0..missed_by.len()).rev() {
            let one_more = if count == 0 { 0.0 } else { missed_by[count - 1] * chance };
            missed_by[count] = missed_by[count] * (1.0 - chance) + one_more;
        }
    }
    missed_by[chances.len() / 2 + 1..].iter().sum()
}

/// When the page that brought a document to a node was durable there.
fn page_durable_at(books: &Books, node: NodeId, n: u64) -> Option<Nanos> {
    let key = document(n);
    let holds = |through: &Option<Key>| through.as_ref().is_none_or(|through| *through >= key);
    let mut pages = books.copied.iter().filter(|((of, _), _)| *of == node).flat_map(|(_, pages)| pages);
    pages.find(|(_, through)| holds(through)).map(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_three_is_two() {
        let (loss, close) = (0.1, |one: f64, other: f64| (one - other).abs() < 1e-12);
        assert!(close(majority(&[loss]), loss));
        assert!(close(majority(&[loss; 3]), 3.0 * loss * loss * (1.0 - loss) + loss * loss * loss));
        assert!(close(majority(&[1.0, loss, loss]), 1.0 - (1.0 - loss) * (1.0 - loss)));
        assert!(close(majority(&[1.0, 1.0, 0.0]), 1.0) && close(majority(&[1.0, 0.0, 0.0]), 0.0));
    }
}
