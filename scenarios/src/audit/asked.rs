//! What scenarios tell the audit and ask it: how far things have come, and what has been seen so far.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use miroir_sim::oracle::durable::Auditor;
use miroir_sim::oracle::progress::Progress;
use miroir_sim::time::Nanos;
use miroir_store::config::{Form, ShardConfig};
use miroir_store::id::{MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;

use super::{Audit, Journey, Pass};

impl Audit {
    /// Clients are let go, and faults may happen.
    pub fn chaos_begins(&self) {
        let at = self.0.world.now();
        self.books().chaos_from = Some(at);
    }

    pub fn chaos_from(&self) -> Option<Nanos> {
        self.books().chaos_from
    }

    /// How each migration has gone so far.
    pub fn journeys(&self) -> BTreeMap<MigrationId, Journey> {
        self.books().journeys.clone()
    }

    /// Whether some anti-entropy pass has found all replicas equal.
    pub fn has_found_replicas_equal(&self) -> bool {
        let books = self.books();
        let replicas = |shard: &ShardId| books.configs.get(shard).map(|config| config.new.len());
        let found = |(shard, pass): (&ShardId, &Pass)| pass.shipped == 0 && Some(pass.verified) == replicas(shard);
        books.passes.iter().flat_map(|(shard, passes)| passes.iter().map(move |pass| (shard, pass))).any(found)
    }

    /// How many documents delta passes have shipped so far.
    pub fn delta_shipped(&self) -> u64 {
        self.books().delta_shipped
    }

    /// Whether one migration entered `ahead` while another one stood in `behind`.
    pub fn were_apart(&self, ahead: Stage, behind: Stage) -> bool {
        let books = self.books();
        let stands = |journey: &Journey, at: Nanos| {
            let last = journey.stages.iter().take_while(|(entered, _)| *entered <= at).last();
            last.is_some_and(|(_, stage)| *stage == behind)
        };
        books.journeys.iter().any(|(id, journey)| {
            let entered = journey.stages.iter().filter(|(_, stage)| *stage == ahead).map(|(at, _)| *at);
            let mut others = books.journeys.iter().filter(|(other, _)| *other != id);
            let entered: Vec<Nanos> = entered.collect();
            others.any(|(_, other)| entered.iter().any(|at| stands(other, *at)))
        })
    }

    /// How many migrations were under way at one instant, at most.
    pub fn most_at_once(&self) -> usize {
        let books = self.books();
        let is_open = |stage: &Stage| !matches!(stage, Stage::Planned | Stage::Done | Stage::Aborted);
        let open_at = |at: Nanos| {
            let standing = books.journeys.values().filter_map(|journey| {
                let entered = journey.stages.iter().take_while(|(entered, _)| *entered <= at);
                entered.last().map(|(_, stage)| stage)
            });
            standing.filter(|stage| is_open(stage)).count()
        };
        let begun = books.journeys.values().flat_map(|journey| &journey.stages).map(|(at, _)| open_at(*at));
        begun.max().unwrap_or(0)
    }

    /// Faults have stopped.
    pub fn healed(&self) {
        let at = self.0.world.now();
        self.books().healed_at = Some(at);
    }

    /// The loss windows.
    pub fn auditor(&self) -> &Auditor {
        &self.0.auditor
    }

    /// Who had to wait.
    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Whether the coordinator runs anti-entropy, as far as has been seen.
    pub fn anti_entropy_is_on(&self) -> bool {
        self.0.anti_entropy.load(Ordering::Relaxed)
    }

    /// An operator is about to switch it on: from now on it may be.
    pub fn may_repair(&self) {
        self.0.may_repair.store(true, Ordering::Relaxed);
    }

    /// An operator has switched it.
    pub fn set_anti_entropy(&self, enabled: bool) {
        self.0.anti_entropy.store(enabled, Ordering::Relaxed);
        self.0.may_repair.store(enabled, Ordering::Relaxed);
    }

    /// What a cluster that does not come to rest is waiting for.
    pub fn what_is_stuck(&self) -> String {
        let books = self.books();
        let mut stuck = Vec::new();
        for (id, journey) in &books.journeys {
            let last = journey.stages.last().map_or("nothing".to_owned(), |(_, stage)| stage.to_string());
            if last != "Done" {
                stuck.push(format!("migration {id} stands in {last}"));
            }
        }
        for config in books.configs.values() {
            let behind = self
                .0
                .directory
                .nodes()
                .map(|(node, _)| node)
                .filter(|node| books.installed.get(&(config.shard, *node)).copied() < Some(config.epoch));
            let behind: Vec<String> = behind.map(|node| node.to_string()).collect();
            if !behind.is_empty() {
                stuck.push(format!("{config} is not installed on {}", behind.join(" ")));
            }
            if config.form != Form::Stable || !config.leaving.is_empty() || !config.old.is_empty() {
                stuck.push(format!("{} is at {config}", config.shard));
            }
        }
        format!("the healed cluster did not come to rest: {}", stuck.join("; "))
    }

    /// What operators were warned of.
    pub fn warnings(&self) -> Vec<String> {
        self.books().warnings.iter().map(|(_, text)| text.clone()).collect()
    }

    /// The newest configuration of every shard.
    pub fn configs(&self) -> Vec<ShardConfig> {
        self.books().configs.values().cloned().collect()
    }

    /// How many configurations were committed so far in which a shard is on the move. Readmissions and tombstone barriers,
    /// which go on whatever an operator is refused, move nothing.
    pub fn moves_committed(&self) -> usize {
        self.books().config_log.iter().filter(|(_, config)| config.form != Form::Stable).count()
    }

    /// Whether this migration went back from Activate, and an attempt was aborted for a reason that names `code`.
    pub fn was_aborted_at_activate(&self, id: MigrationId, code: &str) -> bool {
        self.books().journeys.get(&id).is_some_and(|journey| {
            let mut steps = journey.stages.windows(2).map(|pair| (pair[0].1, pair[1].1));
            let went_back = steps.any(|step| step == (Stage::Activate, Stage::Aborted));
            went_back && journey.reasons.iter().any(|reason| reason.contains(code))
        })
    }

    /// Whether some node has found rot in a copy.
    pub fn has_found_rot(&self) -> bool {
        self.books().rot_found
    }

    /// The coordinator refused an operator.
    pub fn refused(&self, code: &str, text: &str) {
        let at = self.0.world.now();
        self.0.world.note(&format!("refused: {code}: {text}"));
        self.books().refusals.push((at, code.to_owned(), text.to_owned()));
    }

    /// Whether these nodes, and no others, serve a shard.
    pub fn is_placed(&self, shard: u32, nodes: &[u32]) -> bool {
        self.books().configs.get(&ShardId(shard)).is_some_and(|config| {
            config.form == Form::Stable
                && config.new.len() == nodes.len()
                && config.new.iter().all(|replica| nodes.contains(&replica.node.0))
        })
    }

    /// The coordinator accepted the start of a migration.
    pub fn started(&self, id: MigrationId) {
        self.books().journeys.entry(id).or_default().started = true;
    }

    pub fn stage(&self, id: MigrationId) -> Option<Stage> {
        self.books().journeys.get(&id).and_then(|journey| journey.stages.last()).map(|(_, stage)| *stage)
    }

    /// Whether some migration is done and no other is under way.
    pub fn has_activated(&self) -> bool {
        let done = |journey: &Journey| journey.stages.last().is_some_and(|(_, stage)| *stage == Stage::Done);
        self.books().journeys.values().any(done) && self.migrations_ended()
    }

    /// Whether some migration was aborted and done in a later attempt.
    pub fn was_retried(&self) -> bool {
        self.books().journeys.values().any(|journey| {
            let stages: Vec<Stage> = journey.stages.iter().map(|(_, stage)| *stage).collect();
            stages.contains(&Stage::Aborted) && stages.last() == Some(&Stage::Done)
        })
    }

    /// The newest generation of configurations.
    pub fn generation(&self) -> u32 {
        self.books().configs.values().map(|config| config.epoch.generation).max().unwrap_or(0)
    }

    /// Whether somebody who was being readmitted votes again.
    pub fn has_readmitted(&self) -> bool {
        let books = self.books();
        let mut configs = books.config_log.iter().map(|(_, config)| config);
        let began = configs.any(|config| !config.recovering.is_empty());
        began && configs.any(|config| config.recovering.is_empty())
    }

    /// Whether every migration that was started has ended, cleanup included.
    pub fn migrations_ended(&self) -> bool {
        self.books().journeys.values().all(|journey| match journey.stages.last() {
            Some((_, Stage::Done)) => true,
            Some((_, Stage::Aborted)) => journey.reasons.last().is_some_and(|reason| !is_passing(reason)),
            Some((_, Stage::Planned)) => !journey.started,
            _ => false,
        })
    }

    /// Whether every node has installed the newest of these configurations.
    pub fn is_installed_everywhere(&self, configs: &[ShardConfig]) -> bool {
        let books = self.books();
        configs.iter().all(|config| {
            let installed = |node: NodeId| books.installed.get(&(config.shard, node)).copied();
            self.0.directory.nodes().all(|(node, _)| installed(node) >= Some(config.epoch))
        })
    }

    /// Whether everything the coordinator has committed is installed, with nobody left to drop a copy.
    pub fn is_settled(&self) -> bool {
        let configs: Vec<ShardConfig> = self.books().configs.values().cloned().collect();
        configs.iter().all(ShardConfig::is_at_rest) && self.is_installed_everywhere(&configs)
    }

    /// Whether each shard has seen a whole anti-entropy pass that began after `since`, reached all replicas and found nothing
    /// to ship: a connection may need longer than a pass waits until it has noticed that the network is whole again.
    pub fn is_quiet_since(&self, since: Nanos) -> bool {
        let books = self.books();
        books.configs.values().all(|config| {
            let alone = config.new.len() == 1;
            let passes = books.passes.get(&config.shard).map_or(&[][..], Vec::as_slice);
            let later: Vec<&Pass> = passes.iter().filter(|pass| pass.ended > since).collect();
            let is_quiet = |pass: &&Pass| pass.shipped == 0 && pass.verified == config.new.len();
            // The first pass to end may have begun before.
            alone || (later.len() >= 2 && later.last().is_some_and(is_quiet))
        })
    }
}

/// Whether another attempt follows by itself.
fn is_passing(reason: &str) -> bool {
    use miroir_store::migration::Reason;
    [Reason::CopyTimeout, Reason::DrainTimeout, Reason::JointTimeout].iter().any(|r| r.to_string() == reason)
}
