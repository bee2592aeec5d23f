//! One run, from plan to verdict.
//!
//! Phases, and what each promises:
//! 1. *load*: the cluster is created, every document is written once, nothing goes wrong;
//! 2. *chaos*: faults are armed, clients work, the scenario directs; anything may fail, nothing acked may be lost;
//! 3. *heal*: faults stop; migrations end, nodes install what was committed, ex-owners drop their copies;
//! 4. *settle*: the load stops, anti-entropy finds nothing more, every document is read by quorum;
//! 5. *judge*: the oracles look at history, windows and disks.

use std::collections::BTreeMap;

use miroir_sim::history::{Operation, Totals};
use miroir_sim::oracle::durable::{self, Window};
use miroir_sim::record::{Migrations, Record, Service, Unavailable};
use miroir_sim::time::{MICROS, MILLIS, Nanos, SECONDS};
use miroir_sim::trace::Trace;
use miroir_sim::verdict::{Verdict, fingerprint};
use miroir_sim::world::{Ended, Failure, Setup, World};
use miroir_store::migration::Stage;

use crate::audit::Books;
use crate::catalog::Scenario;
use crate::cluster::Cluster;
use crate::judge::{self, Finding};
use crate::ledger::Line;
use crate::plan::Plan;
use crate::prediction;

/// Everything that is known after a run.
pub struct Outcome {
    pub record: Record,
    pub plan: Plan,
    pub seen: Seen,
    pub trace: Trace,
    /// In simulated nanoseconds.
    pub ended_at: Nanos,
}

/// What the world hands back.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The worst first.
    pub findings: Vec<Finding>,
    pub windows: Vec<Window>,
    pub books: Books,
    pub history: Vec<Operation>,
    pub totals: Totals,
    pub unavailable: Unavailable,
    /// Of the shards that moved, by stage.
    pub service: BTreeMap<String, Service>,
    /// Documents whose history had to be searched, as the versions did not settle it.
    pub documents_searched: u64,
    /// Who held what, when; empty without a full trace.
    pub ledger: Vec<Line>,
    /// Where it was stopped before its end, so that nothing was judged.
    pub stopped_at: Option<Nanos>,
}

/// Runs the plan. `mutant` activates a planted bug; the run stops at `until`, unjudged.
pub fn run(
    scenario: &'static Scenario,
    plan: &Plan,
    mutant: Option<&str>,
    trace: Trace,
    until: Option<Nanos>,
) -> Outcome {
    let setup = Setup { seed: plan.world(), plan: plan.sim.clone(), trace: trace.clone(), limit: plan.limit() };
    let (given, mutant) = (plan.clone(), mutant.map(str::to_owned));
    let ended = World::run(setup, move |world| async move {
        miroir_store::mutant::activate(mutant.as_deref());
        let it = Cluster::start(world, given).await;
        let Some(until) = until else {
            let findings = live(scenario, &it).await;
            return judge::judge(scenario, &it, findings);
        };
        tokio::select! {
            biased;
            () = it.world.sleep_until(until) => stopped(&it),
            findings = live(scenario, &it) => judge::judge(scenario, &it, findings),
        }
    });
    conclude(scenario, plan, ended)
}

/// What is known in the middle of a run.
fn stopped(it: &Cluster) -> Seen {
    let now = it.world.now();
    Seen {
        windows: it.audit.auditor().finish(),
        ledger: it.audit.ledger(),
        books: it.audit.take_books(),
        totals: it.history.totals(),
        history: it.history.take(),
        unavailable: it.audit.progress().unavailable(now),
        stopped_at: Some(now),
        ..Seen::default()
    }
}

/// Phases 1 to 4. Returns what went wrong on the way.
async fn live(scenario: &Scenario, it: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A script knows no loading: its operations and faults have times of their own, maybe from the beginning.
    let from = it.plan.timing.chaos_from_us * MICROS;
    let from_the_beginning = !it.plan.workload.script.is_empty() && from == 0;
    if from_the_beginning {
        arm(it, &mut findings);
    }
    it.until_created().await;
    let clients = u64::from(it.plan.workload.clients);
    it.until(60 * SECONDS, |it| it.load.loaded_clients() == clients).await;

    if !from_the_beginning {
        it.world.sleep_until(from).await;
        arm(it, &mut findings);
    }
    it.audit.chaos_begins();
    it.world.signal("chaos", "faults may happen");
    it.load.go();
    for wrong in (scenario.course)(it).await {
        findings.push(Finding::new(Verdict::Violation, "scenario", wrong));
    }

    it.world.heal();
    it.audit.healed();
    it.world.signal("heal", "faults stop");
    let settle = it.plan.timing.settle_ms * MILLIS;
    if !it.until(settle, |it| it.audit.migrations_ended() && it.audit.is_settled()).await {
        let stuck = Finding::new(Verdict::Stalled, "progress", it.audit.what_is_stuck());
        findings.push(stuck.of_kind("the healed cluster did not come to rest"));
    }
    if !it.until(settle, |it| it.starved().is_empty()).await {
        let starved: Vec<String> = it.starved().iter().map(ToString::to_string).collect();
        let finding = Finding::new(Verdict::Stalled, "progress", starved.join("; "));
        findings.push(finding.of_kind("clients starve on a healed cluster"));
    }
    it.load.stop();
    if !it.until(settle, |it| it.load.stopped_clients() == clients).await {
        findings.push(Finding::new(Verdict::Stalled, "progress", "clients did not end".to_owned()));
    }

    it.world.signal("settle", "the load has stopped");
    let unwritten = it.reader().write_one_per_shard().await;
    if let Some(first) = unwritten.first() {
        let text = format!("{first} cannot be written on a healed cluster");
        findings.push(Finding::new(Verdict::Stalled, "progress", text));
    }
    let since = it.world.now();
    if it.audit.anti_entropy_is_on() && !it.until(settle, |it| it.audit.is_quiet_since(since)).await {
        let text = "anti-entropy did not come to rest on a healed cluster without load";
        findings.push(Finding::new(Verdict::Stalled, "progress", text.to_owned()));
    }
    // Before anybody reads: reads write back what they find, and would repair what the oracles have to see.
    it.audit.auditor().finish();
    findings.extend(judge::judge_holdings(scenario, it));
    let unread = it.reader().read_all(u64::from(it.plan.workload.documents)).await;
    if let Some(first) = unread.first() {
        let text = format!("{} documents cannot be read on a healed cluster, {first} first", unread.len());
        findings.push(Finding::new(Verdict::Stalled, "progress", text).of_kind("documents cannot be read"));
    }
    findings
}

fn arm(it: &Cluster, findings: &mut Vec<Finding>) {
    it.load.bursts().arm();
    if let Err(error) = it.world.arm_faults() {
        findings.push(Finding::new(Verdict::Crashed, "plan", error.to_string()));
    }
}

/// Turns what was seen into a verdict and a record.
fn conclude(scenario: &'static Scenario, plan: &Plan, ended: Ended<Seen>) -> Outcome {
    let mut seen = match ended.result {
        Ok(seen) => seen,
        Err(failure) => {
            let verdict = match failure {
                Failure::Panic { .. } => Verdict::Crashed,
                Failure::TimeLimit { .. } => Verdict::Stalled,
            };
            let finding = Finding::new(verdict, "world", failure.to_string()).of_kind(kind_of(&failure));
            Seen { findings: vec![finding], ..Seen::default() }
        }
    };
    seen.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.verdict), finding.is_consequence()));
    let ended_at = ended.simulated_ns;
    let mut record = Record::new(scenario.id, plan.seed());
    if let Some(worst) = seen.findings.first() {
        record.verdict = worst.verdict;
        record.fingerprint = Some(fingerprint(worst.verdict, worst.oracle, &worst.kind));
        record.cause = worst.cause.lines().next().map(str::to_owned);
        record.oracle = Some(worst.oracle.to_owned());
        record.found_at_ns = worst.at;
    }
    record.trace_hash = ended.trace.hash().to_string();
    record.plan_hash = plan.hash();
    record.build = build();
    record.acked = seen.totals.acked;
    record.rejected = seen.totals.rejected;
    record.unknown = seen.totals.unknown;
    record.windows = durable::totals(&seen.windows, ended_at);
    record.losses = judge::told::losses(&seen.windows);
    record.loss_ppm = durable::loss_ppm(&seen.windows, seen.totals.acked);
    record.refusals = seen.books.refusals.iter().map(|(_, code, _)| code.clone()).collect();
    record.unavailable_ns = seen.unavailable.clone();
    record.migrations = migrations(&seen.books);
    record.faults = ended.faults;
    record.marks = ended.marks;
    record.matrix = ended.matrix;
    record.simulated_ns = ended_at;
    record.service = seen.service.clone();
    record.prediction = prediction::predict(plan, &seen);
    record.round_trip_ns = plan.sim.network.round_trip();
    Outcome { record, plan: plan.clone(), seen, trace: ended.trace, ended_at }
}

/// A panic by where and how it began, whoever panicked.
fn kind_of(failure: &Failure) -> String {
    match failure {
        Failure::Panic { message, location, .. } => {
            let first = message.lines().next().unwrap_or_default();
            format!("panic at {}: {first}", location.as_deref().unwrap_or("no location"))
        }
        Failure::TimeLimit { .. } => "over the limit of simulated time".to_owned(),
    }
}

fn migrations(books: &Books) -> Migrations {
    let ended = |wanted| {
        let journeys = books.journeys.values();
        journeys.filter(|journey| journey.stages.last().is_some_and(|(_, stage)| *stage == wanted)).count() as u64
    };
    let mut refusals: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, code, _) in &books.refusals {
        *refusals.entry(code).or_default() += 1;
    }
    Migrations { done: ended(Stage::Done), aborted: ended(Stage::Aborted), refused: refusals.values().sum() }
}

/// Which build ran: the package's version, and whether it carries optimisation-independent checks.
pub fn build() -> String {
    format!("{}+{}", env!("CARGO_PKG_VERSION"), option_env!("MIROIR_BUILD").unwrap_or("local"))
}
