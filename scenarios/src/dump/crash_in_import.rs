//! The importer dies, once to three times, at any point of its work: while it stages, between manifest and commit, between
//! documents and unfinished tasks. Nodes and the coordinator die as well. Whoever runs the import again finds everything
//! done in the end: every document once, as the dump has it, whatever attempts were cut short before.

use miroir_sim::plan::{Fault, FaultKind, When};
use miroir_sim::time::MICROS;
use miroir_sim::{Random, Ratio};

use crate::catalog::{Scenario, Windows};
use crate::plan::{IMPORTER, ImportPlan, Profile};

pub const SCENARIO: Scenario = Scenario {
    id: "dump/crash_in_import",
    promise: "importer, nodes and coordinator die during an import: run again, it completes, every document exactly once",
    marks: &[
        "an import that was cut short was run again and completed",
        "a broadcast went on from its manifest",
        "the coordinator died during an import",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan: |plan, dice| {
        let mut stream = dice.stream("import", 0);
        plan.import = Some(ImportPlan {
            documents: stream.range(60..=200) as u32,
            broadcast: stream.chance(Ratio::of(2, 3)),
            batch_documents: stream.range(2..=16) as u32,
        });
        plan.workload.operations = 800;
        for migration in &mut plan.migrations {
            migration.after_operations = stream.range(0..=100) as u32;
        }
        if plan.profile == Profile::Calm {
            return;
        }
        let after = |stream: &mut miroir_sim::Stream, most: u64| When::Signal {
            name: "chaos".to_owned(),
            nth: 1,
            after: stream.range(1_000..=most) * MICROS,
        };
        for n in 0..stream.range(1..=3) {
            let at = after(&mut stream, 400_000);
            let kind = FaultKind::Crash { process: IMPORTER.to_owned(), down_ms: stream.range(1..=100) };
            plan.sim.faults.push(Fault { id: format!("importer-{n}"), at, kind });
        }
        let node = format!("n{}", stream.range(1..=u64::from(plan.cluster.nodes)));
        for (n, process) in [node, "coordinator".to_owned()].into_iter().enumerate() {
            let at = after(&mut stream, 600_000);
            let kind = FaultKind::Crash { process, down_ms: stream.range(5..=300) };
            plan.sim.faults.push(Fault { id: format!("other-{n}"), at, kind });
        }
    },
    course: super::import,
};
