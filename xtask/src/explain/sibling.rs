//! The nearest passing sibling: the same plan with one fault less, and the first event in which it goes another way.

use std::path::Path;

use miroir_scenarios::plan::Plan;
use miroir_sim::plan::When;
use miroir_sim::ratio::Ratio;
use miroir_sim::time::{MILLIS, Nanos, in_seconds};

use crate::bundle::Bundle;
use crate::evidence::{Event, Evidence};
use crate::exit::Failure;
use crate::shrink::run_kept;
use crate::worker::Worker;

use super::story::in_words;

/// How many faults are tried, the latest before the failure first.
const TRIED: usize = 12;

/// One thing less, and what to call it.
struct Candidate {
    what: String,
    plan: Plan,
}

/// In a sentence; none if the run passes, or no fault is planned.
pub fn nearest(
    worker: &Worker,
    bundle: &Bundle,
    evidence: &Evidence,
    folder: &Path,
) -> Result<Option<String>, Failure> {
    let candidates = candidates(&bundle.plan, evidence.record.found_at_ns.unwrap_or(Nanos::MAX));
    if evidence.record.fingerprint.is_none() || candidates.is_empty() {
        return Ok(None);
    }
    let count = candidates.len();
    let mut best: Option<(Nanos, String)> = None;
    let beside = folder.join("sibling");
    for candidate in candidates.into_iter().filter(|candidate| candidate.plan.check().is_ok()) {
        let run = run_kept(worker, &bundle.scenario, &bundle.overrides(), &candidate.plan, &beside)?;
        if run.record.fingerprint.is_some() {
            continue;
        }
        let sibling = Evidence::read(&beside)?;
        let (at, how) = first_difference(&evidence.events, &sibling.events);
        // The nearest is the one that goes the same way for longest.
        if best.as_ref().is_none_or(|(other, _)| *other < at) {
            best = Some((
                at,
                format!(
                    "without {} the same plan passes; it first differs at {}: {how}",
                    candidate.what,
                    in_seconds(at)
                ),
            ));
        }
    }
    let _ = std::fs::remove_dir_all(&beside);
    let none = format!("the same plan without any one of {count} faults fails too: none of them alone is needed");
    Ok(Some(best.map_or(none, |(_, text)| text)))
}

fn candidates(plan: &Plan, found_at: Nanos) -> Vec<Candidate> {
    let mut faults: Vec<usize> = (0..plan.sim.faults.len()).collect();
    let begins = |&n: &usize| match plan.sim.faults[n].at {
        When::Time(at) if at > found_at => Nanos::MAX,
        When::Time(at) => found_at - at,
        _ => 0,
    };
    faults.sort_by_key(begins);
    let less = |n: usize| {
        let mut plan = plan.clone();
        let fault = plan.sim.faults.remove(n);
        Candidate { what: format!("{} ({})", fault.id, fault.kind), plan }
    };
    let mut candidates: Vec<Candidate> = faults.into_iter().take(TRIED).map(less).collect();
    if !plan.sim.network.links.is_empty() {
        let mut calm = plan.clone();
        calm.sim.network.links.clear();
        candidates.push(Candidate { what: "the loss on the links to the joining nodes".to_owned(), plan: calm });
    }
    if plan.sim.network.loss != Ratio::ZERO {
        let mut calm = plan.clone();
        calm.sim.network.loss = Ratio::ZERO;
        candidates.push(Candidate { what: "the loss of frames by chance".to_owned(), plan: calm });
    }
    candidates
}

/// The first event of each that the other does not have in its place; that a fault began says nothing yet.
fn first_difference(failing: &[Event], passing: &[Event]) -> (Nanos, String) {
    let worth = |event: &&Event| !event.event.starts_with("fault_") && !event.event.starts_with("mark");
    let mut one = failing.iter().filter(worth);
    let mut other = passing.iter().filter(worth);
    loop {
        match (one.next(), other.next()) {
            (Some(a), Some(b)) if is_same(a, b) => {}
            (Some(a), Some(b)) => {
                return (a.at.min(b.at), format!("\"{}\" here, \"{}\" there", in_words(a), in_words(b)));
            }
            (Some(a), None) => return (a.at, format!("\"{}\" here, and there it has ended", in_words(a))),
            (None, Some(b)) => return (b.at, format!("here it has ended, \"{}\" there", in_words(b))),
            (None, None) => return (Nanos::MAX, "not at all".to_owned()),
        }
    }
}

/// Whether two events are one: numbers of frames and the last microseconds may differ where nothing else does.
fn is_same(one: &Event, other: &Event) -> bool {
    let told = |it: &Event| (it.event.clone(), in_words(it), it.at / MILLIS);
    told(one) == told(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: Nanos, kind: &str, text: &str) -> Event {
        Event { at, event: kind.to_owned(), text: text.to_owned(), ..Event::default() }
    }

    #[test]
    fn the_first_difference_is_what_the_fault_did_and_not_that_it_began() {
        let common = event(1, "note", "same");
        let failing = [common.clone(), event(2, "fault_begin", "f0"), event(3, "note", "lost")];
        let passing = [common, event(3, "note", "arrived")];
        let (at, how) = first_difference(&failing, &passing);
        assert_eq!((at, how.as_str()), (3, "\"note  lost\" here, \"note  arrived\" there"));
        assert_eq!(first_difference(&failing, &failing).1, "not at all");
    }
}
