//! A shard moves while clients write, as elsewhere, but every process speaks through the store's own TCP transport, on
//! simulated TCP: segments are lost, late and twice, links are cut for longer than anybody's patience, processes die and
//! come back as strangers to their connections, or stand still until nobody can write to them. In some runs connections
//! are sealed under a key, and some nodes speak an older wire version.

use std::future::Future;
use std::pin::Pin;

use miroir_sim::plan::{Direction, Fault, FaultKind, When};
use miroir_sim::time::MICROS;
use miroir_sim::{Dice, Random, Ratio, Stream, sometimes};

use crate::catalog::{Scenario, Windows};
use crate::cluster::Cluster;
use crate::plan::{Plan, Profile, TcpPlan};

pub const SCENARIO: Scenario = Scenario {
    id: "transport/simulated_tcp",
    promise: "over the transport that ships: connections break and are opened again, and nothing acked is lost",
    marks: &[
        "a migration ended while faults could happen",
        "TCP: what was not confirmed was sent again",
        "TCP: a connection was reset",
        "TCP: a reader was behind until there was no room",
        "transport: a link was dialled again",
        "transport: a dial failed",
        "transport: a frame waited too long and was not sent",
    ],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan,
    course,
};

fn plan(plan: &mut Plan, dice: &Dice) {
    let mut stream = dice.stream("transport", 0);
    let key = stream.chance(Ratio::of(1, 2));
    let old_wire = (1..=plan.cluster.nodes).filter(|_| stream.chance(Ratio::of(1, 3))).collect();
    plan.tcp = Some(TcpPlan { key, old_wire });
    plan.workload.operations = 1_000;
    plan.workload.value_bytes = stream.range(200..=2_000) as u32;
    // As long as a dead connection may go unnoticed, twice.
    plan.timing.chaos_ms = 12_000;
    if plan.profile != Profile::Calm {
        let fault = fault(plan, &mut stream);
        plan.sim.faults.push(fault);
    }
}

/// What befalls a node that joins, or one that serves, soon after the migration has begun.
fn fault(plan: &Plan, stream: &mut Stream) -> Fault {
    let migration = &plan.migrations[0];
    let joiner = plan.joiners(migration)[0];
    let server = *stream.pick(&plan.placed(migration.shard));
    let process = format!("n{}", stream.pick(&[joiner, server]));
    let kind = match stream.below(3) {
        0 => FaultKind::Crash { process, down_ms: stream.range(20..=700) },
        1 => FaultKind::Pause { process, for_ms: stream.range(400..=1_500) },
        _ => {
            let others = plan.process_names().into_iter().filter(|name| *name != process && name != "operator");
            let (a, b) = (vec![process.clone()], others.collect());
            let direction = *stream.pick(&[Direction::Both, Direction::AToB, Direction::BToA]);
            FaultKind::Partition { a, b, direction, for_ms: stream.range(2_500..=7_000), flap_ms: 0 }
        }
    };
    let after = stream.range(0..=20_000) * MICROS;
    Fault { id: "trouble".to_owned(), at: When::Signal { name: "DualWrite".to_owned(), nth: 1, after }, kind }
}

fn course(it: &Cluster) -> Pin<Box<dyn Future<Output = Vec<String>> + '_>> {
    Box::pin(async {
        let wrong = crate::cutover::migrations(it).await;
        let counted = |name: &str| it.transport.counted(name);
        sometimes!(counted("miroir_net_dials_failed_total") > 0, "transport: a dial failed");
        sometimes!(counted("too late") > 0, "transport: a frame waited too long and was not sent");
        sometimes!(counted("queue full") > 0, "transport: a queue was full");
        sometimes!(counted("handshake not finished") > 0, "transport: a door waited for a handshake in vain");
        wrong
    })
}
