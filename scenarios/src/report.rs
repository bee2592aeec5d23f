//! The human report of one run: what the cluster was, what went wrong on purpose, what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use miroir_sim::time::{MICROS, MILLIS, in_seconds};
use miroir_sim::verdict::Verdict;
use miroir_store::migration::Stage;

use crate::catalog::Scenario;
use crate::judge::told;
use crate::ledger::State;
use crate::run::Outcome;

/// How many of each kind are listed.
const SHOWN: usize = 8;

/// What a run took of the machine, as its caller has measured it.
pub struct Took {
    pub wall_ms: u64,
    /// The most memory that was resident, in KiB, where the system tells.
    pub peak_kib: Option<u64>,
}

/// Writes the report.
pub fn report(scenario: &Scenario, outcome: &Outcome, mutant: Option<&str>, took: &Took) -> String {
    let mut out = String::new();
    head(&mut out, scenario, outcome, mutant);
    faults(&mut out, outcome);
    migrations(&mut out, outcome);
    operations(&mut out, outcome);
    windows(&mut out, outcome);
    verdict(&mut out, outcome);
    let record = &outcome.record;
    line(&mut out, "trace hash", &format!("{} over {} events", record.trace_hash, outcome.trace.count()));
    let simulated = in_seconds(record.simulated_ns);
    let memory = took.peak_kib.map_or_else(String::new, |kib| format!(", in {} MiB of memory", kib.div_ceil(1024)));
    line(&mut out, "time", &format!("{simulated} simulated in {} ms of wall time{memory}", took.wall_ms));
    out
}

fn line(out: &mut String, label: &str, text: &str) {
    writeln!(out, "{label:<12} {text}").expect("a String takes everything");
}

fn head(out: &mut String, scenario: &Scenario, outcome: &Outcome, mutant: Option<&str>) {
    let (plan, cluster, load) = (&outcome.plan, &outcome.plan.cluster, &outcome.plan.workload);
    line(out, "scenario", &format!("{} (profile {:?})", scenario.id, plan.profile).to_lowercase());
    line(out, "promise", scenario.promise);
    if let Some(mutant) = mutant {
        line(out, "planted bug", mutant);
    }
    let anti_entropy = match cluster.anti_entropy {
        true => format!("anti-entropy every {} ms", cluster.anti_entropy_period_ms),
        false => "anti-entropy off".to_owned(),
    };
    let text = format!(
        "{} nodes, replication {}, {}, {anti_entropy}",
        cluster.nodes,
        cluster.replication,
        counted(u64::from(cluster.shards), "shard"),
    );
    line(out, "cluster", &text);
    let text = format!(
        "{} clients, {} operations on {} documents: {} reads, {} of the rest deletes",
        load.clients, load.operations, load.documents, load.reads, load.deletes
    );
    line(out, "load", &text);
    for (n, migration) in plan.migrations.iter().enumerate() {
        let nodes = |numbers: &[u32]| numbers.iter().map(|n| format!("n{n}")).collect::<Vec<_>>().join(" ");
        let delta = if migration.skip_delta { "delta pass skipped" } else { "with delta pass" };
        let text = format!(
            "m{}: s{} from {} to {}, {delta}, after {} operations",
            n + 1,
            migration.shard,
            nodes(&plan.placed(migration.shard)),
            nodes(&migration.target),
            migration.after_operations
        );
        line(out, if n == 0 { "plan" } else { "" }, &text);
    }
    let network = &plan.sim.network;
    let mut text = format!(
        "latency {} to {} us, loss {}, duplication {}, reordering {}",
        network.latency_min_us, network.latency_mean_us, network.loss, network.duplicate, network.reorder
    );
    if let Some(link) = network.links.first() {
        let mut to: Vec<&str> = network.links.iter().map(|link| link.to.as_str()).collect();
        to.sort_unstable();
        to.dedup();
        let loss = link.loss.map_or("0".to_owned(), |loss| loss.to_string());
        write!(text, "; clients lose {loss} of what they send to joining {}", to.join(" ")).expect("a String");
    }
    line(out, "network", &text);
}

fn faults(out: &mut String, outcome: &Outcome) {
    let planned = &outcome.plan.sim.faults;
    if planned.is_empty() {
        line(out, "faults", "none planned beyond the network's");
    }
    for (n, fault) in planned.iter().take(SHOWN).enumerate() {
        line(out, if n == 0 { "faults" } else { "" }, &format!("{} {}: {}", fault.id, when(&fault.at), fault.kind));
    }
    if planned.len() > SHOWN {
        line(out, "", &format!("and {} more; plan.toml has them all", planned.len() - SHOWN));
    }
    let happened = &outcome.record.faults;
    if !happened.is_empty() {
        let list: Vec<String> = happened.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        line(out, "happened", &list.join(", "));
    }
}

fn when(at: &miroir_sim::plan::When) -> String {
    match at {
        miroir_sim::plan::When::Time(at) => format!("at {}", in_seconds(*at)),
        miroir_sim::plan::When::Signal { name, nth, after } => {
            format!("{} us after {name} (no. {nth})", after / MICROS)
        }
        other => other.to_string(),
    }
}

fn migrations(out: &mut String, outcome: &Outcome) {
    let books = &outcome.seen.books;
    for (id, journey) in &books.journeys {
        let stages: Vec<String> =
            journey.stages.iter().map(|(at, stage)| format!("{stage} {}", in_seconds(*at))).collect();
        line(out, "migration", &format!("{id} of s{}: {}", journey.shard, stages.join(" > ")));
        for reason in &journey.reasons {
            line(out, "", &format!("aborted: {reason}"));
        }
        let done = journey.stages.last().is_some_and(|(_, stage)| *stage == Stage::Done);
        if !done {
            line(out, "", "it did not end at its target");
        }
    }
    if !books.journeys.is_empty() {
        let text = format!(
            "{} shipped by pages, {} by delta passes, {} by anti-entropy",
            counted(books.copied_documents, "document"),
            books.delta_shipped,
            books.repaired_documents
        );
        line(out, "moved", &text);
    }
    for (_, warning) in &books.warnings {
        line(out, "warning", warning);
    }
    for (at, code, text) in &books.refusals {
        line(out, "refused", &format!("{} {code}: {text}", in_seconds(*at)));
    }
}

fn operations(out: &mut String, outcome: &Outcome) {
    let (record, totals) = (&outcome.record, &outcome.seen.totals);
    let text = format!(
        "{} acked, {} reads answered; {} rejected, {} of unknown outcome",
        record.acked, totals.reads, record.rejected, record.unknown
    );
    line(out, "operations", &text);
    let gaps = &record.unavailable_ns;
    let text = format!(
        "longest wait of a shard with clients trying: {} ms for a write, {} ms for a read",
        gaps.writes / MILLIS,
        gaps.reads / MILLIS
    );
    line(out, "", &text);
    for (n, (stage, it)) in record.service.iter().filter(|(_, it)| it.gaps > 0).enumerate() {
        let ms = |ns: u64| format!("{}.{:02}", ns / MILLIS, ns % MILLIS / (MILLIS / 100));
        let text = format!(
            "{stage} {} ms: {} writes acked, p50 {} ms, p99 {} ms; gaps p99.9 {} ms, longest {} ms",
            ms(it.lasted_ns),
            it.acked,
            ms(it.p50_ns),
            ms(it.p99_ns),
            ms(it.gap_p999_ns),
            ms(it.gap_max_ns)
        );
        line(out, if n == 0 { "service" } else { "" }, &text);
    }
}

fn windows(out: &mut String, outcome: &Outcome) {
    let (totals, windows) = (&outcome.record.windows, &outcome.seen.windows);
    if windows.is_empty() {
        line(out, "loss windows", "none");
        return;
    }
    let text = format!(
        "{} transient, {} superseded, {} permanent; longest {} ms",
        totals.transient,
        totals.superseded,
        totals.permanent,
        totals.max_ns / MILLIS
    );
    line(out, "loss windows", &text);
    let losses = &outcome.record.losses;
    let sums = |sums: &BTreeMap<String, u64>| {
        sums.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    line(out, "by cause", &sums(&losses.by_cause));
    line(out, "by stage", &sums(&losses.by_stage));
    let lengths = losses.by_length_ms.iter().map(|(below, count)| match below {
        0 => format!("for ever {count}"),
        below => format!("under {below} ms {count}"),
    });
    line(out, "by length", &lengths.collect::<Vec<_>>().join(", "));
    for window in windows.iter().take(SHOWN) {
        line(out, "", &window.to_string());
        line(out, "", &format!("because: {}", told::in_words(window, &outcome.seen.books)));
    }
    if windows.len() > SHOWN {
        line(out, "", &format!("and {} more", windows.len() - SHOWN));
    }
}

fn verdict(out: &mut String, outcome: &Outcome) {
    if let Some(at) = outcome.seen.stopped_at {
        line(out, "stopped", &format!("at {}, before its end, and not judged; the cluster then:", in_seconds(at)));
        out.push_str(&State::at(&outcome.seen.ledger, at).text(None));
        return;
    }
    let verdict = outcome.record.verdict;
    match verdict {
        Verdict::Pass => line(out, "verdict", "pass: as the scenario promises"),
        _ => line(out, "verdict", &verdict.to_string().to_uppercase()),
    }
    for finding in &outcome.seen.findings {
        line(out, "", &format!("{} ({}): {}", finding.verdict, finding.oracle, finding.cause));
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
