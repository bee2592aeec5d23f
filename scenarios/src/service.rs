//! How well writes were served, stage by stage: what a migration costs those who write meanwhile.
//!
//! Only the shard that moves counts, and only the time in which every client was at it: later the load is thinner on
//! purpose, and its gaps say nothing.

use std::collections::BTreeMap;

use miroir_sim::coverage::count_mark;
use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::record::{Gaps, STEADY, Service};
use miroir_sim::time::Nanos;
use miroir_store::id::Key;
use miroir_store::migration::Stage;

use crate::audit::Journey;
use crate::workload::COLLECTION;

/// From when to when a stage lasted, both included: Activate is over at the instant at which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    stage: String,
    from: Nanos,
    to: Nanos,
}

impl Span {
    fn touches(&self, (before, after): (Nanos, Nanos)) -> bool {
        before <= self.to && after >= self.from
    }
}

/// The stages of a shard's migrations in order of time, with what lies between them.
fn spans(journeys: &[&Journey], from: Nanos, to: Nanos) -> Vec<Span> {
    let steady = |stage: Stage| matches!(stage, Stage::Planned | Stage::Done | Stage::Aborted);
    let mut entered: Vec<(Nanos, String)> = vec![(from, STEADY.to_owned())];
    for (at, stage) in journeys.iter().flat_map(|journey| &journey.stages) {
        let name = if steady(*stage) { STEADY.to_owned() } else { stage.to_string() };
        entered.push(((*at).max(from), name));
    }
    // Stages of one instant stay in the order in which they were entered.
    entered.sort_by_key(|(at, _)| *at);
    let ends = entered.iter().skip(1).map(|(at, _)| *at).chain([to]);
    let spans = entered.iter().zip(ends).map(|((from, stage), to)| Span { stage: stage.clone(), from: *from, to });
    spans.filter(|span| span.from <= to).map(|span| Span { to: span.to.min(to), ..span }).collect()
}

/// What the writes to one shard met with in each stage, over some of which several shards may be put together.
#[derive(Default)]
struct Met {
    lasted: Nanos,
    latencies: Vec<Nanos>,
    gaps: Vec<Nanos>,
    /// Those of stretches of the steady state that are as long.
    alike: Vec<Nanos>,
}

/// Measures service per stage between `from` and `to`. Reaches the mark `write in stage X` for every stage in which a
/// write was under way that was acknowledged.
pub fn measure(
    history: &[Operation],
    journeys: &BTreeMap<miroir_store::id::MigrationId, Journey>,
    shard_count: u32,
    from: Nanos,
    to: Nanos,
) -> BTreeMap<String, Service> {
    let mut moved: BTreeMap<u32, Vec<&Journey>> = BTreeMap::new();
    for journey in journeys.values().filter(|journey| journey.started) {
        moved.entry(journey.shard).or_default().push(journey);
    }
    let mut acked: BTreeMap<u32, Vec<(Nanos, Nanos)>> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.outcome == Outcome::Ok) {
        let (Op::Write { .. } | Op::Delete, Some(ret)) = (&operation.op, operation.ret) else { continue };
        let key = Key::new(COLLECTION, &operation.key).expect("it was written under this key");
        let shard = key.shard(shard_count).0;
        if moved.contains_key(&shard) {
            acked.entry(shard).or_default().push((ret, operation.call));
        }
    }
    let mut met: BTreeMap<String, Met> = BTreeMap::new();
    for (shard, journeys) in &moved {
        let mut acked = acked.remove(shard).unwrap_or_default();
        acked.sort_unstable();
        let whole = spans(journeys, from, Nanos::MAX);
        for span in whole.iter().filter(|span| span.stage != STEADY) {
            if acked.iter().any(|(ret, call)| *call <= span.to && *ret >= span.from) {
                count_mark(&format!("write in stage {}", span.stage));
            }
        }
        let spans = spans(journeys, from, to);
        for span in &spans {
            let met = met.entry(span.stage.clone()).or_default();
            meet(met, span, &acked);
            if span.stage != STEADY
                && let Some(stretch) = alike(&spans, span)
            {
                met.alike
                    .extend(gaps(&acked).filter(|gap| stretch.touches(*gap)).map(|(before, after)| after - before));
            }
        }
    }
    met.values_mut().for_each(|met| met.gaps.sort_unstable());
    let steady = met.get(STEADY).map_or(0, |met| quantile(&met.gaps, 999));
    met.into_iter().map(|(stage, met)| (stage, met.service(steady))).collect()
}

/// The last of the steady state before the first migration, for as long as a stage lasted, if it was steady for so long.
fn alike(spans: &[Span], stage: &Span) -> Option<Span> {
    let to = spans.iter().find(|span| span.stage != STEADY)?.from;
    let from = to.checked_sub(stage.to - stage.from).filter(|from| *from >= spans[0].from)?;
    Some(Span { stage: STEADY.to_owned(), from, to })
}

/// From one acknowledged write to the next.
fn gaps(acked: &[(Nanos, Nanos)]) -> impl Iterator<Item = (Nanos, Nanos)> {
    acked.windows(2).map(|pair| (pair[0].0, pair[1].0))
}

/// Adds what a stage of one shard was like. `acked`: return and call of each acknowledged write, in order.
fn meet(met: &mut Met, span: &Span, acked: &[(Nanos, Nanos)]) {
    met.lasted += span.to - span.from;
    let within = |at: Nanos| span.from <= at && at <= span.to;
    met.latencies.extend(acked.iter().filter(|(ret, _)| within(*ret)).map(|(ret, call)| ret - call));
    // A steady gap lies between two migrations; one that touches a stage is that stage's.
    let counts = |gap: (Nanos, Nanos)| match span.stage.as_str() {
        STEADY => span.from <= gap.0 && gap.1 <= span.to,
        _ => span.touches(gap),
    };
    met.gaps.extend(gaps(acked).filter(|gap| counts(*gap)).map(|(before, after)| after - before));
}

impl Met {
    /// `steady`: the p99.9 of the steady gaps.
    fn service(mut self, steady: Nanos) -> Service {
        self.latencies.sort_unstable();
        Service {
            lasted_ns: self.lasted,
            acked: self.latencies.len() as u64,
            p50_ns: quantile(&self.latencies, 500),
            p99_ns: quantile(&self.latencies, 990),
            gaps: self.gaps.len() as u64,
            gap_p999_ns: quantile(&self.gaps, 999),
            gap_max_ns: self.gaps.last().copied().unwrap_or(0),
            of_steady: Gaps::of(&self.gaps, steady),
            alike: Gaps::of(&self.alike, steady),
        }
    }
}

/// The least of the sorted values that so many of a thousand do not exceed; 0 of none.
fn quantile(sorted: &[Nanos], of_thousand: usize) -> Nanos {
    let rank = (sorted.len() * of_thousand).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_store::id::MigrationId;

    fn write(call: Nanos, ret: Nanos) -> Operation {
        Operation {
            client: 1,
            key: "d000001".into(),
            op: Op::Delete,
            call,
            ret: Some(ret),
            outcome: Outcome::Ok,
            version: None,
        }
    }

    #[test]
    fn each_gap_counts_in_every_stage_that_it_touches() {
        let stages = [(0, Stage::Planned), (100, Stage::DualWrite), (200, Stage::Drain), (200, Stage::Done)];
        let journey = Journey { started: true, stages: stages.to_vec(), ..Journey::default() };
        let history: Vec<Operation> = [(0, 10), (12, 30), (40, 60), (100, 160), (190, 210), (215, 220), (400, 500)]
            .map(|(c, r)| write(c, r))
            .into();
        let service = measure(&history, &[(MigrationId(1), journey)].into(), 1, 0, 300);
        let gaps: BTreeMap<&str, (u64, u64)> =
            service.iter().map(|(stage, it)| (stage.as_str(), (it.gaps, it.gap_max_ns))).collect();
        // 10-30-60 and 210-220 are steady; 60-160 and 160-210 touch DualWrite; 160-210 touches Drain, of one instant.
        assert_eq!(gaps, [("steady", (3, 30)), ("DualWrite", (2, 100)), ("Drain", (1, 50))].into());
        assert_eq!(
            (service["steady"].lasted_ns, service["DualWrite"].lasted_ns, service["Drain"].lasted_ns),
            (200, 100, 0)
        );
        // 20 and 30 are steady, whose p99.9 is 30. A stage of 100 has its like in 0 to 100: 20, 30 and 100.
        assert_eq!(service["DualWrite"].of_steady, Gaps { count: 2, long: [(67, 1), (34, 1)].into() });
        assert_eq!(service["DualWrite"].alike, Gaps { count: 3, long: [(14, 1), (20, 1), (67, 1)].into() });
        assert_eq!((service["DualWrite"].acked, service["DualWrite"].p99_ns), (1, 60));
        assert_eq!(service["steady"].acked, 5);
    }

    #[test]
    fn a_quantile_is_a_value_that_occurred() {
        assert_eq!(
            [quantile(&[], 999), quantile(&[7], 500), quantile(&[1, 2, 3, 4], 500), quantile(&[1, 9], 999)],
            [0, 7, 2, 9]
        );
    }
}
