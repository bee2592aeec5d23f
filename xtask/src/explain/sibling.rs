//! The nearest passing sibling: the same plan with one thing less, and the first event in which it goes another way.

use std::cmp::Reverse;
use std::path::Path;

use miroir_scenarios::plan::Plan;
use miroir_sim::plan::When;
use miroir_sim::ratio::Ratio;
use miroir_sim::time::{MICROS, MILLIS, Nanos, in_seconds};

use crate::bundle::Bundle;
use crate::evidence::{Event, Evidence};
use crate::exit::Failure;
use crate::shrink::run_kept;
use crate::worker::Worker;

use super::words::{in_words, of_fault};

/// How many faults are tried, the latest before the failure first.
const TRIED: usize = 12;

/// One thing less or otherwise, and what to call it.
struct Candidate {
    what: String,
    plan: Plan,
}

/// In a sentence; none if the run is as it should be. A run that passes with loss windows has a sibling without any of `doc`.
///
/// What a plan does of its own accord comes first: a fault less, then a migration less, then an operation less. Of those that
/// pass, the nearest is the one that goes the same way for longest.
pub fn nearest(
    worker: &Worker,
    bundle: &Bundle,
    evidence: &Evidence,
    doc: Option<&str>,
    folder: &Path,
) -> Result<Option<String>, Failure> {
    let fails = evidence.record.fingerprint.is_some();
    let is_lost = |in_run: &Evidence| in_run.windows.iter().any(|window| Some(&*window.doc) == doc);
    if !fails && !is_lost(evidence) {
        return Ok(None);
    }
    let beside = folder.join("sibling");
    let mut in_vain: Vec<String> = Vec::new();
    let mut best: Option<(Nanos, String)> = None;
    for (kind, candidates) in kinds(&bundle.plan, evidence.record.found_at_ns.unwrap_or(Nanos::MAX)) {
        let candidates: Vec<Candidate> = candidates.into_iter().filter(|it| it.plan.check().is_ok()).collect();
        let count = candidates.len();
        for Candidate { what, plan } in candidates {
            let run = run_kept(worker, &bundle.scenario, &bundle.overrides(), &plan, &beside)?;
            if run.record.fingerprint.is_some() {
                continue;
            }
            let sibling = Evidence::read(&beside)?;
            if !fails && is_lost(&sibling) {
                continue;
            }
            let (at, how) = first_difference(&evidence.events, &sibling.events);
            if best.as_ref().is_none_or(|(other, _)| *other < at) {
                let passes = if fails { "passes" } else { "never loses it" };
                let text = format!("{what} the same plan {passes}; the two first differ at {}: {how}", in_seconds(at));
                best = Some((at, text));
            }
        }
        if best.is_some() {
            break;
        }
        match count {
            0 => {}
            1 => in_vain.push(format!("its one {kind}")),
            count => in_vain.push(format!("any one of {count} {kind}s")),
        }
    }
    let _ = std::fs::remove_dir_all(&beside);
    let too = if fails { "it fails too" } else { "it is lost too" };
    Ok(Some(match (best, in_vain.as_slice()) {
        (Some((_, text)), []) => text,
        (Some((_, text)), in_vain) => format!("{text} (without {} {too})", in_vain.join(", or ")),
        (None, []) => "none: nothing can be left out of this plan".to_owned(),
        (None, in_vain) => format!("none: without {} {too}", in_vain.join(", or ")),
    }))
}

/// What can be left out, one at a time: faults, else migrations, else operations.
fn kinds(plan: &Plan, found_at: Nanos) -> [(&'static str, Vec<Candidate>); 3] {
    [
        ("fault", without_a_fault(plan, found_at)),
        ("migration", without_a_migration(plan)),
        ("operation", without_an_operation(plan, found_at)),
    ]
}

fn without_a_fault(plan: &Plan, found_at: Nanos) -> Vec<Candidate> {
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
        Candidate { what: format!("without {} ({})", fault.id, of_fault(&fault.kind)), plan }
    };
    let mut candidates: Vec<Candidate> = faults.into_iter().take(TRIED).map(less).collect();
    if !plan.sim.network.links.is_empty() {
        let mut calm = plan.clone();
        calm.sim.network.links.clear();
        candidates
            .push(Candidate { what: "without the loss on the links to the joining nodes".to_owned(), plan: calm });
    }
    if plan.sim.network.loss != Ratio::ZERO {
        let mut calm = plan.clone();
        calm.sim.network.loss = Ratio::ZERO;
        candidates.push(Candidate { what: "without the loss of frames by chance".to_owned(), plan: calm });
    }
    candidates
}

/// A migration that skips its delta pass may also do it.
fn without_a_migration(plan: &Plan) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (n, migration) in plan.migrations.iter().enumerate().take(TRIED) {
        let target = migration.target.iter().map(|node| format!("n{node}")).collect::<Vec<_>>().join(" ");
        let which = format!("the migration of s{} to {target}", migration.shard);
        if migration.skip_delta {
            let mut careful = plan.clone();
            careful.migrations[n].skip_delta = false;
            candidates.push(Candidate { what: format!("with the delta pass in {which}"), plan: careful });
        }
        let mut less = plan.clone();
        less.migrations.remove(n);
        candidates.push(Candidate { what: format!("without {which}"), plan: less });
    }
    candidates
}

/// Operations that are written down, the latest before the failure first.
fn without_an_operation(plan: &Plan, found_at: Nanos) -> Vec<Candidate> {
    let script = &plan.workload.script;
    if script.len() < 2 {
        // Without any, the load would be drawn.
        return Vec::new();
    }
    let mut before: Vec<usize> = (0..script.len()).filter(|&n| script[n].at_us * MICROS <= found_at).collect();
    before.sort_by_key(|&n| Reverse(script[n].at_us));
    let less = |n: usize| {
        let mut plan = plan.clone();
        let operation = plan.workload.script.remove(n);
        plan.workload.operations = plan.workload.script.len() as u32;
        Candidate { what: format!("without `{operation}`"), plan }
    };
    before.into_iter().take(TRIED).map(less).collect()
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
                return (a.at.min(b.at), format!("here \"{}\", there \"{}\"", in_words(a), in_words(b)));
            }
            (Some(a), None) => return (a.at, format!("here \"{}\", and there it has ended", in_words(a))),
            (None, Some(b)) => return (b.at, format!("here it has ended, there \"{}\"", in_words(b))),
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
    use crate::bundle::tests::plan;

    #[test]
    fn what_can_be_left_out_is_left_out_one_at_a_time() {
        let mut given = plan();
        given.workload.script = vec!["1 ms client-1 put 3".parse().unwrap(), "9 ms client-1 get 3".parse().unwrap()];
        given.migrations.truncate(1);
        given.migrations[0].skip_delta = true;
        let [_, (_, migrations), (_, operations)] = kinds(&given, 5_000_000);
        let said: Vec<&str> = migrations.iter().chain(&operations).map(|it| it.what.as_str()).collect();
        assert!(said[0].starts_with("with the delta pass in the migration of s"), "{said:?}");
        assert!(said[1].starts_with("without the migration of s"), "{said:?}");
        // What comes after the failure has nothing to do with it.
        assert_eq!(said[2..], ["without `1 ms client-1 put 3`"]);
        assert_eq!(operations[0].plan.workload.operations, 1);
    }

    fn event(at: Nanos, kind: &str, text: &str) -> Event {
        Event { at, event: kind.to_owned(), text: text.to_owned(), ..Event::default() }
    }

    #[test]
    fn the_first_difference_is_what_the_fault_did_and_not_that_it_began() {
        let common = event(1, "note", "same");
        let failing = [common.clone(), event(2, "fault_begin", "f0"), event(3, "note", "lost")];
        let passing = [common, event(3, "note", "arrived")];
        let (at, how) = first_difference(&failing, &passing);
        assert_eq!((at, how.as_str()), (3, "here \"note lost\", there \"note arrived\""));
        assert_eq!(first_difference(&failing, &failing).1, "not at all");
    }
}
