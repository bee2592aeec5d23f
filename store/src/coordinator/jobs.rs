//! What the coordinator has nodes do for it: pages to joining nodes, the delta pass, anti-entropy.

use crate::anti_entropy;
use crate::config::ShardConfig;
use crate::coordinator::Coordinator;
use crate::coordinator::records::{Record, RecordsError};
use crate::env::{Event, Measure, Nanos, Peer};
use crate::id::{Epoch, MigrationId, NodeId, ShardId};
use crate::migration::{Copy, MigrationRecord, close_gate, end_readmission};
use crate::reconcile::{Reconcile, Source, Spec};
use crate::wire::{PageEnd, Purpose, RequestId};

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Delta(MigrationId),
    AntiEntropy(ShardId),
    Readmission(ShardId),
}

/// A reconcile under way. It belongs to one epoch of its shard and is void after it.
pub(super) struct Job {
    pub(super) owner: Owner,
    pub(super) reconcile: Reconcile,
}

impl Coordinator {
    pub(super) fn is_page(&self, job: u64) -> bool {
        job == self.page_job
    }

    /// Asks for the next page of each joining node that has installed the configuration.
    pub(super) fn copy_pages(&mut self, now: Nanos, id: MigrationId, config: &ShardConfig) {
        let timing = self.options.migration.clone();
        for joiner in config.joiners() {
            let installed = self.installed.get(&(config.shard, joiner.node)).copied().unwrap_or(Epoch::ZERO);
            if installed < config.epoch {
                continue;
            }
            let under_way = self.progress.values().flat_map(|progress| progress.copies.values());
            let under_way = under_way.filter(|copy| copy.is_under_way()).count();
            let progress = self.progress.entry(id).or_default();
            let copy = progress.copies.entry(joiner.node).or_insert_with(|| Copy::new(joiner));
            let request = RequestId { job: self.page_job, n: self.next_page };
            // Migrations share what copies may take of the network and the disks.
            let is_another = !copy.is_under_way();
            if is_another && under_way >= timing.pages_under_way {
                tracing::event!(target: "miroir::mark", tracing::Level::TRACE, kind = "sometimes", name = "a page waited for its turn");
                continue;
            }
            if let Some((source, ship)) = copy.ask(now, &timing, config, request) {
                assert!(under_way + usize::from(is_another) <= timing.pages_under_way, "migrations share one limit");
                self.next_page += 1;
                self.send(Peer::Node(source), ship);
            }
        }
    }

    pub(super) fn page_confirmed(&mut self, request: RequestId, node: NodeId, end: &PageEnd) {
        for progress in self.progress.values_mut() {
            if let Some(copy) = progress.copies.get_mut(&node) {
                copy.confirmed(request, end);
            }
        }
    }

    /// Starts the delta pass of a migration, unless it is running.
    pub(super) fn run_delta(&mut self, now: Nanos, id: MigrationId, record: &MigrationRecord, config: &ShardConfig) {
        if self.jobs.values().any(|job| job.owner == Owner::Delta(id)) {
            return;
        }
        let spec = Spec {
            shard: config.shard,
            epoch: config.epoch,
            purpose: Purpose::Delta,
            sources: vec![Source::majority_of(&config.old)],
            targets: config.new.clone(),
            counters_only: record.cutover == crate::config::Cutover::Skipped,
        };
        self.start_job(now, Owner::Delta(id), spec);
    }

    pub(super) fn start_job(&mut self, now: Nanos, owner: Owner, spec: Spec) {
        self.next_job = self.next_job.wrapping_add(1).max(1);
        self.env.probe.on(Event::Reconciling { shard: spec.shard, purpose: spec.purpose });
        let reconcile = Reconcile::new(now, self.next_job, spec, self.options.reconcile.clone());
        self.jobs.insert(self.next_job, Job { owner, reconcile });
    }

    /// Starts an anti-entropy pass over each shard whose turn it is.
    pub(super) fn schedule_anti_entropy(&mut self, now: Nanos) {
        let cluster = self.cluster.as_ref().expect("ticks past creation");
        let settings = cluster.value.anti_entropy.clone();
        if !settings.enabled || !settings.repair {
            self.jobs.retain(|_, job| !matches!(job.owner, Owner::AntiEntropy(_)));
            return;
        }
        let shards: Vec<ShardId> = self.configs.keys().copied().collect();
        let due = |&shard: &ShardId| (*self.anti_entropy_at.entry(shard).or_insert(now + settings.period), shard);
        let mut due: Vec<(Nanos, ShardId)> = shards.iter().map(due).filter(|(at, _)| now >= *at).collect();
        #[cfg(madsim)]
        if mutant!("M60") {
            let is_early = |at: Nanos, shard| self.configs[&shard].value.gate_unmet() && now < at + 4 * settings.period;
            due.retain(|(at, shard)| !is_early(*at, *shard));
        }
        // Who has waited longest is first: with more shards than there is room for, all of them have their turn.
        due.sort();
        for (_, shard) in due {
            let running = self.jobs.values().any(|job| job.owner == Owner::AntiEntropy(shard));
            let passes = self.jobs.values().filter(|job| matches!(job.owner, Owner::AntiEntropy(_))).count();
            if running || passes >= self.options.anti_entropy_passes {
                continue;
            }
            if !mutant!("M38") {
                self.anti_entropy_at.insert(shard, now + settings.period);
            }
            if let Some(spec) = anti_entropy::spec(&self.configs[&shard].value) {
                self.start_job(now, Owner::AntiEntropy(shard), spec);
            }
        }
    }

    /// Moves every job on, and acts on those that have finished.
    pub(super) fn run_jobs(&mut self, now: Nanos) -> Result<(), RecordsError> {
        let mut finished = Vec::new();
        for (&number, job) in &mut self.jobs {
            job.reconcile.tick(now);
            let (shard, found) = (job.reconcile.spec().shard, job.reconcile.take_found());
            if let Some(documents) = found.lacking {
                self.env.probe.measure(Measure::Lacking { shard, documents });
            }
            if found.still_lacking > 0 {
                self.env.probe.measure(Measure::StillLacking { documents: found.still_lacking });
            }
            let sends = job.reconcile.drain_sends();
            self.sends.extend(sends.into_iter().map(|(node, message)| (Peer::Node(node), message)));
            if let Some(report) = job.reconcile.report() {
                finished.push((number, job.owner, report.clone()));
            }
        }
        for (number, owner, report) in finished {
            let Some(job) = self.jobs.remove(&number) else {
                continue;
            };
            tracing::debug!(?owner, ?report, "reconciled");
            for (key, version) in &report.contradictions {
                let shard = job.reconcile.spec().shard;
                tracing::error!(%shard, %key, %version, "replicas hold different values under one version");
                self.env.probe.on(Event::Contradicted { shard, key: key.clone(), version: *version });
            }
            match owner {
                Owner::Delta(id) => {
                    self.env.probe.on(Event::Reconciled {
                        shard: job.reconcile.spec().shard,
                        purpose: Purpose::Delta,
                        shipped: report.shipped,
                        reruns: report.reruns,
                        verified: report.verified.len(),
                    });
                    self.progress.entry(id).or_default().delta = Some(report);
                    while self.advance(now, id)? {}
                }
                Owner::AntiEntropy(shard) => {
                    self.passes.insert(shard, (now, report.shipped));
                    self.env.probe.on(Event::Reconciled {
                        shard,
                        purpose: Purpose::AntiEntropy,
                        shipped: report.shipped,
                        reruns: report.reruns,
                        verified: report.verified.len(),
                    });
                    let config = self.configs[&shard].value.clone();
                    assert_eq!(config.epoch, job.reconcile.spec().epoch, "a commit voids the shard's jobs");
                    if config.gate_unmet() {
                        self.commit(now, &[], vec![Record::Shard(close_gate(&config))])?;
                    }
                }
                Owner::Readmission(shard) => {
                    self.env.probe.on(Event::Reconciled {
                        shard,
                        purpose: Purpose::Readmission,
                        shipped: report.shipped,
                        reruns: report.reruns,
                        verified: report.verified.len(),
                    });
                    let config = self.configs[&shard].value.clone();
                    assert_eq!(config.epoch, job.reconcile.spec().epoch, "a commit voids the shard's jobs");
                    self.commit(now, &[], vec![Record::Shard(end_readmission(&config))])?;
                }
            }
        }
        Ok(())
    }
}
