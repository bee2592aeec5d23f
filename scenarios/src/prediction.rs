//! How many documents are missing at Activate when nothing fetches what the joining replicas missed: by the arithmetic,
//! beside what was seen.
//!
//! A document is missing if its last write before Activate was lost on the way to a majority of the new replicas. A write
//! can be lost from the moment at which the document's page was read; a write under Joint is not acknowledged before a
//! majority of the new replicas has it, and so makes up for what was lost before. With `w` writes in a stage, of which
//! the share `s(d)` goes to document `d`, they come to `d` as a Poisson process, so that
//!
//! ```text
//! exposed   E = sum over d of  w s(d) (part of DualWrite after d's page was read)
//! expected  m = p * sum over d of  (1 - exp(-that)) * exp(-(writes under Joint) s(d))  =  E p (1 - q)
//! ```
//!
//! `s(d)` and the chance `p` come from the plan; the number of writes in a stage and the times of the pages are those of
//! the run. Nothing is fitted.

use miroir_sim::Ratio;
use miroir_sim::history::{Op, Outcome};
use miroir_sim::record::Prediction;
use miroir_sim::time::{MICROS, Nanos};
use miroir_store::id::Key;
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
    let first = |wanted: Stage| journey.stages.iter().find(|(_, stage)| *stage == wanted).map(|(at, _)| *at);
    let (dual, joint, activated) = (first(Stage::DualWrite)?, first(Stage::Drain)?, first(Stage::Cleanup)?);
    let writes_in = |from: Nanos, to: Nanos| {
        let acked = seen.history.iter().filter(|it| it.outcome == Outcome::Ok && !matches!(it.op, Op::Read { .. }));
        acked.filter(|it| it.ret.is_some_and(|ret| from <= ret && ret < to)).count() as f64
    };
    let (in_dual, in_joint) = (writes_in(dual, joint), writes_in(joint, activated));
    let loss = plan.sim.network.links.first().and_then(|link| link.loss).unwrap_or(Ratio::ZERO);
    let p = missed_by_majority(as_float(loss), migration.target.len());
    let network = &plan.sim.network;
    // A page is durable that much after it was read.
    let shipping = (network.latency_mean_us + plan.sim.disk.sync_mean_us) * MICROS;
    let documents = u64::from(plan.workload.documents);
    let (mut exposed, mut last) = (0.0, 0.0);
    for n in 0..documents {
        let read_at = page_read_at(&seen.books, n)?.saturating_sub(shipping).clamp(dual, joint);
        let part = (joint - read_at) as f64 / (joint - dual) as f64;
        let share = share(n, documents);
        let here = in_dual * share * part;
        exposed += here;
        last += (1.0 - (-here).exp()) * (-in_joint * share).exp();
    }
    let opened = seen.windows.iter().filter(|window| window.opened_at == activated);
    let millionths = |value: f64| (value * 1e6).round() as u64;
    Some(Prediction {
        replication: plan.cluster.replication,
        joiners: plan.joiners(migration).len() as u32,
        loss_millionths: millionths(as_float(loss)),
        exposed: exposed.round() as u64,
        rewritten_millionths: millionths(1.0 - last / exposed),
        expected_millionths: millionths(p * last),
        missing: opened.count() as u64,
    })
}

fn as_float(ratio: Ratio) -> f64 {
    f64::from(ratio.num()) / f64::from(ratio.den())
}

/// The chance that a majority of so many new replicas, none of which stayed, misses a write that each misses with this chance.
fn missed_by_majority(loss: f64, replicas: usize) -> f64 {
    match replicas {
        1 => loss,
        _ => 3.0 * loss * loss * (1.0 - loss) + loss * loss * loss,
    }
}

/// When the page that brought a document was durable, on the average over the joining nodes.
fn page_read_at(books: &Books, n: u64) -> Option<Nanos> {
    let key = document(n);
    let holds = |through: &Option<Key>| through.as_ref().is_none_or(|through| *through >= key);
    let pages = books.copied.values().filter_map(|pages| pages.iter().find(|(_, through)| holds(through)));
    let times: Vec<Nanos> = pages.map(|(at, _)| *at).collect();
    let count = times.len() as Nanos;
    (count > 0).then(|| times.iter().sum::<Nanos>() / count)
}
