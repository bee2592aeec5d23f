//! What is tried to make a plan smaller, in rounds until nothing helps: the cheap and large cuts first.
//!
//! Nothing here weakens a promise that the oracles check: anti-entropy stays as it is, limits of time stay, and faults are
//! only ever left out. Every step offers plans; whether they fail in the wanted way, the trials say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use miroir_scenarios::plan::Plan;
use miroir_scenarios::script::Scripted;
use miroir_sim::plan::When;
use miroir_sim::ratio::Ratio;
use miroir_sim::shrink::{ddmin, least};
use miroir_sim::time::{MICROS, MILLIS, Nanos};

use crate::exit::Failure;
use crate::record::Recorded;

use super::edit::{is_smaller, mentioned, rename, with_script};
use super::trial::Trials;
use super::write_down::Observed;

/// Of so few faults each is tried to be replaced by a migration that begins later.
const FEW_FAULTS: usize = 4;

/// How long before the failure such a migration enters a stage.
const SHORTLY_BEFORE_US: [u64; 8] = [500, 1_000, 2_000, 3_000, 4_500, 7_000, 10_000, 15_000];

/// How many other seeds are tried in each round of steps; the last is repeated until nothing gets smaller.
const LUCK: [u64; 3] = [0, 4, 16];

/// How many other seeds the first step gets: without it, every other step is worth less.
const FIRST_LUCK: u64 = 12;

/// How many other seeds a failure gets that goes away when it is written down: a handful of operations is cheap to run.
const CLOSE_LUCK: u64 = 400;

/// What was done with a document this long before such a failure.
const CLOSELY: Nanos = 15 * MILLIS;

/// By how much the beginning of a migration is varied when it is moved.
const GIVE_OR_TAKE_US: [i64; 13] =
    [0, -500, 500, -1_000, 1_000, -1_500, 1_500, -2_000, 2_000, -2_500, 2_500, -4_000, 4_000];

/// What a client did this long before a failure may be why its next operation failed: it learned a configuration then.
const SHORTLY: Nanos = 100 * MILLIS;

/// With how many of its stages, the nearest to the failure first, a moved migration is tried to be in time.
const STAGES: usize = 4;

/// Takes every step, in rounds. `original` is the folder of the first run, and `first` what came of it.
pub fn all(trials: &mut Trials, original: &Path, first: &Recorded, plan: &Plan) -> Result<Plan, Failure> {
    let mut shrinking = Shrinking { trials, best: plan.clone(), luck: FIRST_LUCK, failure: None };
    shrinking.pass(&Observed::read(original)?, first)?;
    // A small plan that is written down again begins from other seeds and loses less by chance; often it gets smaller still.
    while !shrinking.is_over() {
        let before = shrinking.best.clone();
        let (observed, run) = shrinking.trials.observe(&before)?;
        shrinking.pass(&observed, &run)?;
        if !is_smaller(&shrinking.best, &before) {
            shrinking.trials.improved("as it was", &before)?;
            shrinking.best = before;
            break;
        }
    }
    shrinking.failure.map_or(Ok(shrinking.best), Err)
}

struct Shrinking<'t, 'a> {
    trials: &'t mut Trials<'a>,
    best: Plan,
    luck: u64,
    failure: Option<Failure>,
}

impl Shrinking<'_, '_> {
    /// From a run that is written down to a plan that no step makes smaller.
    fn pass(&mut self, observed: &Observed, run: &Recorded) -> Result<(), Failure> {
        self.luck = FIRST_LUCK;
        self.write_down(observed, run);
        self.focus()?;
        let mut round = 0;
        while !self.is_over() {
            self.luck = LUCK[round.min(LUCK.len() - 1)];
            let before = self.best.to_toml();
            self.round()?;
            let helped = self.best.to_toml().len() < before.len();
            if round >= LUCK.len() - 1 && !helped {
                break;
            }
            round += 1;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.failure.is_some() || self.trials.is_over()
    }

    /// Tries plans; the first that fails as wanted is the best from now on.
    fn offer(&mut self, step: &str, plans: Vec<Plan>) -> Option<usize> {
        if self.is_over() {
            return None;
        }
        let found = self.trials.first(&plans, self.luck);
        let found = found.and_then(|found| match found {
            Some((at, plan)) => {
                self.trials.improved(step, &plan)?;
                self.best = plan;
                Ok(Some(at))
            }
            None => Ok(None),
        });
        found.unwrap_or_else(|failure| {
            self.failure.get_or_insert(failure);
            None
        })
    }

    /// Leaves out as many items of a plan as possible. `with` gives the plan that has only the given ones.
    fn leave_out<T: Clone>(&mut self, step: &str, items: &[T], with: impl Fn(&Plan, &[T]) -> Plan) {
        ddmin(items, &mut |candidates| {
            let plans = candidates.iter().map(|kept| with(&self.best, kept)).collect();
            self.offer(step, plans)
        });
    }

    /// Lowers a number of a plan.
    fn lower(&mut self, step: &str, low: u64, value: u64, with: impl Fn(&Plan, u64) -> Plan) {
        least(low, value, &mut |candidates| {
            let plans = candidates.iter().map(|&number| with(&self.best, number)).collect();
            self.offer(step, plans)
        });
    }

    /// One change, if it is one.
    fn change(&mut self, step: &str, change: impl Fn(&mut Plan)) {
        let mut plan = self.best.clone();
        change(&mut plan);
        if plan != self.best {
            self.offer(step, vec![plan]);
        }
    }

    /// Operations and losses by name instead of by chance, or at least one of the two, or the plain load shortened.
    fn write_down(&mut self, observed: &Observed, first: &Recorded) {
        let scripted = observed.scripted(&self.best);
        let plans = vec![observed.without_loss(&scripted), scripted.clone()];
        if self.offer("write down what happened", plans).is_none() && !self.closely(&scripted, observed, first) {
            self.shorten_load();
        }
        self.change("faults from the beginning", |plan| plan.timing.chaos_from_us = 0);
    }

    /// Some failures hang by latencies that no script brings back: then only what was done with the document shortly before,
    /// with so many seeds that they come again.
    fn closely(&mut self, scripted: &Plan, observed: &Observed, first: &Recorded) -> bool {
        let found_at = first.record.found_at_ns.unwrap_or_default();
        let documents = mentioned(first.reason());
        let is_close = |it: &&Scripted| {
            let at = it.at_us * MICROS;
            documents.contains(&it.document) && (found_at.saturating_sub(CLOSELY)..=found_at).contains(&at)
        };
        let script: Vec<Scripted> = scripted.workload.script.iter().filter(is_close).cloned().collect();
        if script.is_empty() {
            return false;
        }
        let close = with_script(scripted, &script);
        self.luck = CLOSE_LUCK;
        let found = self.offer("only what came just before", vec![observed.without_loss(&close), close]).is_some();
        self.luck = FIRST_LUCK;
        found
    }

    /// Only the documents that the finding speaks of, or those and what the same clients did shortly before: that is what
    /// most failures need, and spares most of the way.
    fn focus(&mut self) -> Result<(), Failure> {
        let (observed, run) = self.trials.observe(&self.best)?;
        let found_at = run.record.found_at_ns.unwrap_or_default();
        let documents = mentioned(run.reason());
        let script = &self.best.workload.script;
        let of_documents = |it: &Scripted| documents.contains(&it.document);
        let clients: BTreeSet<u32> = script.iter().filter(|it| of_documents(it)).map(|it| it.client).collect();
        let shortly_before = |it: &Scripted| {
            let at = it.at_us * MICROS;
            clients.contains(&it.client) && (found_at.saturating_sub(SHORTLY)..=found_at).contains(&at)
        };
        let narrow: Vec<Scripted> = script.iter().filter(|it| of_documents(it)).cloned().collect();
        let wide = script.iter().filter(|it| of_documents(it) || shortly_before(it)).cloned().collect();
        for script in [narrow, wide] {
            if !script.is_empty() && self.only(&script, &observed, found_at)? {
                break;
            }
        }
        Ok(())
    }

    /// Only these operations. A migration of few documents is over before its operations come; it begins later then, so
    /// that one of its stages comes when it came before, give or take a little.
    fn only(&mut self, script: &[Scripted], observed: &Observed, found_at: Nanos) -> Result<bool, Failure> {
        let focused = with_script(&self.best, script);
        if self.offer("only what failed", vec![focused.clone()]).is_some() {
            return Ok(true);
        }
        let (alone, _) = self.trials.observe(&focused)?;
        let later = observed.delays(&alone, found_at).into_iter().take(STAGES).flat_map(|(n, delay_us)| {
            let focused = &focused;
            GIVE_OR_TAKE_US.into_iter().map(move |jitter_us| {
                let mut plan = focused.clone();
                let migration = &mut plan.migrations[n];
                migration.after_us = (migration.after_us + delay_us).saturating_add_signed(jitter_us).max(1);
                plan
            })
        });
        let later = later.collect();
        Ok(self.offer("only what failed, later", later).is_some())
    }

    /// For a plan that fails only with a drawn load.
    fn shorten_load(&mut self) {
        self.luck = LUCK[1];
        self.change("end the load", |plan| plan.workload.exact = true);
        let operations = u64::from(self.best.workload.operations);
        self.lower("fewer operations", 1, operations, |plan, count| {
            let mut plan = plan.clone();
            let before = u64::from(plan.workload.operations);
            plan.workload.operations = count as u32;
            for migration in &mut plan.migrations {
                migration.after_operations = (u64::from(migration.after_operations) * count / before) as u32;
            }
            plan
        });
        self.lower("fewer clients", 1, u64::from(self.best.workload.clients), |plan, count| {
            let mut plan = plan.clone();
            plan.workload.clients = count as u32;
            plan.workload.scan.iter_mut().for_each(|scan| scan.client = count as u32);
            let names = plan.process_names();
            plan.sim.network.links.retain(|link| names.contains(&link.from) && names.contains(&link.to));
            plan
        });
        self.lower("fewer documents", 1, u64::from(self.best.workload.documents), |plan, count| {
            let mut plan = plan.clone();
            plan.workload.documents = count as u32;
            plan
        });
    }

    fn round(&mut self) -> Result<(), Failure> {
        self.change("no scans", |plan| plan.workload.scan = None);
        self.cut_after();
        self.leave_out_operations();
        let faults = self.best.sim.faults.clone();
        self.leave_out("fewer faults", &faults, |plan, kept| {
            let mut plan = plan.clone();
            plan.sim.faults = kept.to_vec();
            plan
        });
        self.later_instead_of_a_fault()?;
        let migrations = self.best.migrations.clone();
        self.leave_out("fewer migrations", &migrations, |plan, kept| {
            let mut plan = plan.clone();
            plan.migrations = kept.to_vec();
            plan
        });
        let links = self.best.sim.network.links.clone();
        self.leave_out("fewer lossy links", &links, |plan, kept| {
            let mut plan = plan.clone();
            plan.sim.network.links = kept.to_vec();
            plan
        });
        self.calm("network");
        self.calm("disk");
        self.fewer_shards_and_nodes();
        self.plain_load();
        self.renumber();
        self.round_times();
        Ok(())
    }

    /// Some faults only hold a migration in a stage until something else happens. Without such a fault, the migration begins
    /// later, so that it is in one of its stages then by itself.
    fn later_instead_of_a_fault(&mut self) -> Result<(), Failure> {
        if self.best.sim.faults.len() > FEW_FAULTS || self.best.migrations.is_empty() {
            return Ok(());
        }
        let mut n = 0;
        while n < self.best.sim.faults.len() && !self.is_over() {
            let (_, run) = self.trials.observe(&self.best)?;
            let found_at = run.record.found_at_ns.unwrap_or_default();
            let mut without = self.best.clone();
            without.sim.faults.remove(n);
            let (alone, _) = self.trials.observe(&without)?;
            let later = alone.waits(found_at).into_iter().take(STAGES).flat_map(|(migration, wait_us)| {
                let without = &without;
                SHORTLY_BEFORE_US.into_iter().map(move |earlier_us| {
                    let mut plan = without.clone();
                    let migration = &mut plan.migrations[migration];
                    migration.after_us = (migration.after_us + wait_us).saturating_sub(earlier_us).max(1);
                    plan
                })
            });
            let later = later.collect();
            if self.offer("no fault, but later", later).is_none() {
                n += 1;
            }
        }
        Ok(())
    }

    /// Nothing is planned after some instant.
    fn cut_after(&mut self) {
        let script = self.best.workload.script.iter().map(|it| it.at_us / 1_000 + 1);
        let faults = self.best.sim.faults.iter().filter_map(|fault| match fault.at {
            When::Time(at) => Some(at / MILLIS + 1),
            _ => None,
        });
        let Some(last) = script.chain(faults).max() else { return };
        self.lower("cut the end", 1, last, |plan, end_ms| {
            let mut plan = plan.clone();
            plan.sim.faults.retain(|fault| !matches!(fault.at, When::Time(at) if at / MILLIS >= end_ms));
            let mut script = std::mem::take(&mut plan.workload.script);
            script.retain(|it| it.at_us / 1_000 < end_ms);
            with_script(&plan, &script)
        });
    }

    fn leave_out_operations(&mut self) {
        let parts = [
            ("fewer clients", (|it: &Scripted| u64::from(it.client)) as fn(&Scripted) -> u64),
            ("fewer documents", |it: &Scripted| it.document),
        ];
        for (step, of) in parts {
            let parts: BTreeSet<u64> = self.best.workload.script.iter().map(of).collect();
            let parts: Vec<u64> = parts.into_iter().collect();
            self.leave_out(step, &parts, |plan, kept| {
                let script = plan.workload.script.iter().filter(|it| kept.contains(&of(it)));
                with_script(plan, &script.cloned().collect::<Vec<_>>())
            });
        }
        let script = self.best.workload.script.clone();
        self.leave_out("fewer operations", &script, with_script);
    }

    /// Defaults instead of what was drawn: all of them, or one at a time.
    fn calm(&mut self, part: &str) {
        let Ok(table) = toml::Table::try_from(&self.best) else { return };
        let Some(keys) = table["sim"].get(part).and_then(toml::Value::as_table) else { return };
        let keys: Vec<String> = keys.keys().filter(|key| *key != "links").cloned().collect();
        let without = |plan: &Plan, keys: &[&String]| -> Option<Plan> {
            let mut table = toml::Table::try_from(plan).ok()?;
            let fields = table.get_mut("sim")?.get_mut(part)?.as_table_mut()?;
            keys.iter().for_each(|key| drop(fields.remove(*key)));
            table.try_into().ok().filter(|changed| changed != plan)
        };
        let step = format!("calmer {part}");
        let all = without(&self.best, &keys.iter().collect::<Vec<_>>());
        if all.is_none_or(|all| self.offer(&step, vec![all]).is_some()) {
            return;
        }
        for key in &keys {
            if let Some(plan) = without(&self.best, &[key]) {
                self.offer(&step, vec![plan]);
            }
        }
    }

    fn fewer_shards_and_nodes(&mut self) {
        self.lower("fewer shards", 1, u64::from(self.best.cluster.shards), |plan, count| {
            let mut plan = plan.clone();
            plan.cluster.shards = count as u32;
            plan.migrations.iter_mut().for_each(|migration| migration.shard = migration.shard.min(count as u32 - 1));
            plan
        });
        let least_nodes = u64::from(self.best.cluster.replication) + 1;
        self.lower("fewer nodes", least_nodes, u64::from(self.best.cluster.nodes), |plan, count| {
            let mut plan = plan.clone();
            plan.cluster.nodes = count as u32;
            plan
        });
    }

    /// What a script leaves without meaning, and the size of values.
    fn plain_load(&mut self) {
        self.change("plain load", |plan| {
            plan.workload.value_bytes = plan.workload.value_bytes.min(16);
            if !plan.workload.script.is_empty() {
                plan.workload.pipelined = Ratio::ZERO;
                plan.workload.reads = Ratio::ZERO;
                plan.workload.deletes = Ratio::ZERO;
            }
        });
    }

    /// Clients and documents from the first on.
    fn renumber(&mut self) {
        if self.best.workload.script.is_empty() {
            return;
        }
        self.change("renumber documents", |plan| {
            let numbers: BTreeSet<u64> = plan.workload.script.iter().map(|it| it.document).collect();
            let new: BTreeMap<u64, u64> = numbers.into_iter().zip(0..).collect();
            plan.workload.script.iter_mut().for_each(|it| it.document = new[&it.document]);
            plan.workload.documents = new.len() as u32;
        });
        self.change("fewer documents", |plan| {
            let last = plan.workload.script.iter().map(|it| it.document).max();
            plan.workload.documents = last.map_or(1, |last| last as u32 + 1);
        });
        self.change("renumber clients", |plan| {
            let scans = plan.workload.scan.iter().map(|scan| scan.client);
            let numbers: BTreeSet<u32> = plan.workload.script.iter().map(|it| it.client).chain(scans).collect();
            let new: BTreeMap<u32, u32> = numbers.into_iter().zip(1..).collect();
            plan.workload.script.iter_mut().for_each(|it| it.client = new[&it.client]);
            plan.workload.scan.iter_mut().for_each(|scan| scan.client = new[&scan.client]);
            plan.workload.clients = new.len() as u32;
            let names = new.iter().map(|(old, new)| (format!("client-{old}"), format!("client-{new}"))).collect();
            rename(plan, &names);
        });
    }

    /// Whole milliseconds.
    fn round_times(&mut self) {
        let uneven: Vec<usize> = self
            .best
            .workload
            .script
            .iter()
            .enumerate()
            .filter(|(_, it)| it.at_us % 1_000 != 0)
            .map(|(n, _)| n)
            .collect();
        self.leave_out("round times", &uneven, |plan, kept| {
            let mut plan = plan.clone();
            for (n, it) in plan.workload.script.iter_mut().enumerate() {
                it.at_us -= if kept.contains(&n) { 0 } else { it.at_us % 1_000 };
            }
            plan
        });
        self.change("round times", |plan| {
            plan.migrations.iter_mut().for_each(|it| it.after_us -= it.after_us % 1_000);
        });
        for n in 0..self.best.sim.faults.len() {
            self.change("round times", |plan| {
                if let When::Time(at) = &mut plan.sim.faults[n].at {
                    *at -= *at % MILLIS;
                }
            });
        }
    }
}
