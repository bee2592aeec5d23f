//! What is drawn after the shape: the migration, the network, the faults.

use miroir_sim::fault::{Intensity, Kind, draw_faults};
use miroir_sim::plan::{Budget, LinkPlan, SimPlan};
use miroir_sim::profile;
use miroir_sim::time::{MILLIS, Nanos};
use miroir_sim::{Dice, Random, Ratio, Seed};

use super::{MigrationPlan, Plan, Profile};

/// At replication 1 no fault is in the minority of a shard; at 3, one node may be hurt.
const HURT_AT_MOST: usize = 1;

impl Plan {
    /// One migration of shard 0 that replaces one of its replicas, or several.
    pub fn draw_migration(&mut self, dice: &Dice) {
        let mut stream = dice.stream("migration", 0);
        let placed = self.placed(0);
        let mut spare: Vec<u32> = (1..=self.cluster.nodes).filter(|node| !placed.contains(node)).collect();
        stream.shuffle(&mut spare);
        let most = spare.len().min(placed.len());
        let moved = if stream.chance(Ratio::of(2, 3)) { 1 } else { stream.range(1..=most as u64) as usize };
        let first = stream.below(placed.len() as u64) as usize;
        let mut target = placed.clone();
        for (n, joiner) in spare.into_iter().take(moved).enumerate() {
            target[(first + n) % placed.len()] = joiner;
        }
        let after_operations = self.workload.operations / 10;
        self.migrations = vec![MigrationPlan::of(0, target, after_operations)];
    }

    /// Latencies, loss and faults of the profile, and the lossy links to the joining nodes.
    pub fn draw_world(&mut self, dice: &Dice) {
        if let Profile::File(ranges) = self.profile.clone() {
            return self.draw_from_file(dice, *ranges);
        }
        let mut stream = dice.stream("world", 0);
        self.sim = SimPlan::default();
        let network = &mut self.sim.network;
        network.latency_min_us = stream.range(100..=400);
        network.latency_mean_us = network.latency_min_us + stream.range(100..=900);
        self.sim.disk.sync_min_us = stream.range(50..=200);
        self.sim.disk.sync_mean_us = self.sim.disk.sync_min_us + stream.range(50..=400);
        if self.profile == Profile::Calm {
            return;
        }
        let storm = self.profile == Profile::Storm;
        let network = &mut self.sim.network;
        network.tail = Ratio::of(1, 200);
        network.tail_mean_us = stream.range(2_000..=20_000);
        network.loss = Ratio::of(if storm { stream.range(0..=20) } else { stream.range(0..=2) } as u32, 1_000);
        network.duplicate = Ratio::of(stream.range(0..=10) as u32, 1_000);
        network.reorder = Ratio::of(stream.range(0..=20) as u32, 1_000);
        network.reorder_max_us = stream.range(1_000..=10_000);
        let loss = Ratio::of(stream.range(20..=50) as u32, 1_000);
        self.lossy_links(loss);
        self.draw_faults(dice, storm, stream.chance(Ratio::of(1, 3)));
    }

    /// Every link from a client to a joining node loses this share.
    pub fn lossy_links(&mut self, loss: Ratio) {
        let mut links = Vec::new();
        for migration in &self.migrations {
            for joiner in self.joiners(migration) {
                for client in self.client_names() {
                    let to = format!("n{joiner}");
                    links.push(LinkPlan { from: client, to, loss: Some(loss), ..LinkPlan::default() });
                }
            }
        }
        links.dedup();
        self.sim.network.links = links;
    }

    /// Crashes, pauses, partitions and failing syncs: in storms always, otherwise in some runs.
    fn draw_faults(&mut self, dice: &Dice, storm: bool, some: bool) {
        if !storm && !some {
            return;
        }
        let intensity = if storm { Intensity::storm() } else { Intensity { max_ms: 300, ..Intensity::usual() } };
        let horizon = if storm { 4_000 } else { 2_000 } * MILLIS;
        let names = self.node_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let nodes = Intensity { budget: Some(HURT_AT_MOST), ..intensity.clone() };
        self.sim.faults = draw_faults(dice, &names, horizon, &nodes);
        self.draw_coordinator_faults(dice, horizon, intensity);
    }

    /// What the file says, and nothing that it does not say: no lossy links to joining nodes. The coordinator is hurt as
    /// often as the nodes are, and beside them.
    fn draw_from_file(&mut self, dice: &Dice, mut ranges: profile::Profile) {
        if ranges.faults.lifted.is_none() {
            ranges.faults.hurt_at_most.get_or_insert(HURT_AT_MOST);
        }
        let horizon = self.timing.chaos_ms * MILLIS;
        let names = self.node_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.sim = ranges.draw(dice, &names, horizon);
        // The budget is that of the nodes, and they keep to it as drawn; the plan's would count the coordinator too.
        self.sim.budget = self.sim.budget.take().filter(|budget| matches!(budget, Budget::Lifted(_)));
        self.draw_coordinator_faults(dice, horizon, ranges.intensity(1).without(&Kind::OPT_IN));
    }

    fn draw_coordinator_faults(&mut self, dice: &Dice, horizon: Nanos, intensity: Intensity) {
        let other = Dice::new(Seed(dice.stream("coordinator-faults", 0).next_u64()));
        let mut coordinator =
            draw_faults(&other, &["coordinator"], horizon, &Intensity { budget: Some(1), ..intensity });
        for fault in &mut coordinator {
            fault.id = format!("c-{}", fault.id);
        }
        self.sim.faults.extend(coordinator);
    }
}
