//! Reading and checking a plan. An error names the field and what is allowed, and, of a file, the line.

use miroir_sim::Seed;
use miroir_sim::plan::{PlanError, When};
use miroir_sim::time::MILLIS;
use serde::Deserialize;

use super::Plan;

/// A bundle is read for its plan.
#[derive(Deserialize)]
struct Bundle {
    plan: Plan,
}

impl Plan {
    /// Reads and checks the plan in `file`, which may be a bundle that holds one.
    pub fn read(file: &str, text: &str) -> Result<Plan, String> {
        let is_bundle = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("plan"));
        let read = if is_bundle {
            toml::from_str::<Bundle>(text).map(|bundle| bundle.plan)
        } else {
            toml::from_str::<Plan>(text)
        };
        let plan = read.map_err(|error| PlanError::malformed(text, &error).in_file(file, text))?;
        plan.first_wrong().map_or(Ok(plan), |error| Err(error.in_file(file, text)))
    }

    /// Whether it can be run: the first impossible value is the error.
    pub fn check(&self) -> Result<(), String> {
        self.first_wrong().map_or(Ok(()), |error| Err(error.to_string()))
    }

    fn first_wrong(&self) -> Option<PlanError> {
        self.check_fields().err()
    }

    fn check_fields(&self) -> Result<(), PlanError> {
        self.seed.parse::<Seed>().map_err(|error| wrong("seed", error.to_string()))?;
        if let Some(world) = &self.world {
            world.parse::<Seed>().map_err(|error| wrong("world", error.to_string()))?;
        }
        let (cluster, workload) = (&self.cluster, &self.workload);
        in_range("cluster.nodes", u64::from(cluster.nodes), 1, 64)?;
        in_range("cluster.replication", u64::from(cluster.replication), 1, u64::from(cluster.nodes))?;
        in_range("cluster.shards", u64::from(cluster.shards), 1, 1_024)?;
        in_range("cluster.anti_entropy_period_ms", cluster.anti_entropy_period_ms, 1, 600_000)?;
        in_range("workload.clients", u64::from(workload.clients), 1, 1_000)?;
        in_range("workload.documents", u64::from(workload.documents), 1, 10_000_000)?;
        in_range("workload.value_bytes", u64::from(workload.value_bytes), 1, 1 << 24)?;
        in_range("workload.give_up_ms", workload.give_up_ms, 1, 600_000)?;
        in_range("timing.page_documents", u64::from(self.timing.page_documents), 1, 100_000)?;
        in_range("timing.chaos_ms", self.timing.chaos_ms, 1, 3_600_000)?;
        in_range("timing.settle_ms", self.timing.settle_ms, 1, 3_600_000)?;
        for (n, migration) in self.migrations.iter().enumerate() {
            let field = |name: &str| format!("migrations[{n}].{name}");
            in_range(&field("shard"), u64::from(migration.shard), 0, u64::from(cluster.shards) - 1)?;
            for node in &migration.target {
                in_range(&field("target"), u64::from(*node), 1, u64::from(cluster.nodes))?;
            }
        }
        if let Some(import) = &self.import {
            in_range("import.documents", u64::from(import.documents), 1, 100_000)?;
            in_range("import.batch_documents", u64::from(import.batch_documents), 1, 10_000)?;
        }
        for node in self.tcp.iter().flat_map(|tcp| &tcp.old_wire) {
            in_range("tcp.old_wire", u64::from(*node), 1, u64::from(cluster.nodes))?;
        }
        for (n, scripted) in workload.script.iter().enumerate() {
            let field = |name: &str| format!("workload.script[{n}].{name}");
            in_range(&field("client"), u64::from(scripted.client), 1, u64::from(workload.clients))?;
            in_range(&field("document"), scripted.document, 0, u64::from(workload.documents) - 1)?;
        }
        for (n, burst) in workload.bursts.iter().enumerate() {
            let field = |name: &str| format!("workload.bursts[{n}].{name}");
            in_range(&field("client"), u64::from(burst.client), 1, u64::from(workload.clients))?;
            if !matches!(burst.at, When::Signal { .. }) {
                return Err(wrong(&field("at"), format!("a burst waits for a signal, and this is {}", burst.at)));
            }
            for wish in &burst.operations {
                in_range(&field("document"), wish.document, 0, u64::from(workload.documents) - 1)?;
            }
        }
        if let Some(scan) = &workload.scan {
            in_range("workload.scan.client", u64::from(scan.client), 1, u64::from(workload.clients))?;
            in_range("workload.scan.page_documents", u64::from(scan.page_documents), 1, 100_000)?;
        }
        in_range("workload.clients without bursts and scans", u64::from(workload.workers()), 1, 1_000)?;
        for (n, placed) in cluster.placement.iter().enumerate() {
            let field = format!("cluster.placement[{n}]");
            in_range(&field, placed.len() as u64, u64::from(cluster.replication), u64::from(cluster.replication))?;
            placed.iter().try_for_each(|node| in_range(&field, u64::from(*node), 1, u64::from(cluster.nodes)))?;
        }
        self.sim.check(&self.process_names(), self.timing.chaos_ms * MILLIS)
    }
}

fn wrong(field: &str, problem: String) -> PlanError {
    PlanError::Field { field: field.to_owned(), problem }
}

fn in_range(field: &str, value: u64, low: u64, high: u64) -> Result<(), PlanError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(wrong(field, format!("{value} is outside {low} to {high}")))
    }
}
