//! The workload on this simulator, with everything on: history, trace hash, link dice, four planned faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_sim::history::{History, Op, Outcome};
use miroir_sim::plan::{Direction, Fault, FaultKind, NetworkPlan, SimPlan, When};
use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_sim::world::Setup;
use miroir_sim::{Incarnation, Mode, ProcessId, Ratio, Seed, Trace, World};

use crate::workload::{CLIENTS, LATENCY_MEAN_US, LATENCY_MIN_US, LOSS_ONE_IN, PAYLOAD, TIMEOUT_MS, share};

fn faults() -> Vec<Fault> {
    let n = |name: &str| name.to_owned();
    let kinds = [
        FaultKind::Pause { process: n("n1"), for_ms: 3 },
        FaultKind::Partition { a: vec![n("n1")], b: vec![n("n2")], direction: Direction::Both, flap_ms: 0, for_ms: 5 },
        FaultKind::Crash { process: n("n1"), down_ms: 5 },
        FaultKind::Link {
            from: n("n3"),
            to: n("n1"),
            loss: Ratio::of(1, 2),
            delay_us: 1_000,
            bandwidth_mbit: 0,
            frames: 0,
            for_ms: 5,
        },
    ];
    let at = [10, 20, 30, 40];
    kinds.into_iter().zip(at).map(|(kind, ms)| Fault { id: format!("f{ms}"), at: When::ms(ms), kind }).collect()
}

/// One world on a fresh thread. Returns what identifies the run.
pub fn run(seed: u64, total: u64) -> u128 {
    let network = NetworkPlan {
        latency_min_us: LATENCY_MIN_US,
        latency_mean_us: LATENCY_MEAN_US,
        loss: Ratio::of(1, LOSS_ONE_IN),
        ..NetworkPlan::default()
    };
    let plan = SimPlan { network, faults: faults(), ..SimPlan::default() };
    let setup = Setup { seed: Seed(seed), plan, trace: Trace::new(Mode::Off), limit: 10_000 * SECONDS };
    let ended = World::run(setup, move |world| async move {
        let history = History::traced(world.trace().clone());
        let server = world.process("n1", {
            let world = world.clone();
            move |life| serve(world.clone(), life)
        });
        let left = Arc::new(AtomicU64::new(CLIENTS));
        for client in 0..CLIENTS {
            let (inner, history, left) = (world.clone(), history.clone(), left.clone());
            world.process(["n2", "n3", "n4"][client as usize], move |life| {
                ask(inner.clone(), life, server, client, total, history.clone(), left.clone())
            });
        }
        world.arm_faults().expect("a good plan");
        while left.load(Ordering::Relaxed) > 0 {
            world.sleep(5 * MILLIS).await;
        }
        assert_eq!(history.totals().acked, total);
    });
    ended.result.expect("every request is answered");
    ended.trace.hash().0
}

async fn serve(world: World, life: Incarnation) {
    let endpoint = world.endpoint(life);
    let mut count: u64 = 0;
    loop {
        for (from, mut frame) in endpoint.recv(Nanos::MAX).await {
            count += 1;
            frame[8..16].copy_from_slice(&count.to_le_bytes());
            endpoint.send(from, frame);
        }
    }
}

async fn ask(
    world: World,
    life: Incarnation,
    server: ProcessId,
    client: u64,
    total: u64,
    history: History,
    left: Arc<AtomicU64>,
) {
    let endpoint = world.endpoint(life);
    let key: Arc<str> = "count".into();
    for number in 0..share(client, total) {
        let id = history.call(world.now(), client as u32, key.clone(), Op::Write { value: number.to_string() });
        'asking: loop {
            let mut frame = vec![0; PAYLOAD];
            frame[..8].copy_from_slice(&number.to_le_bytes());
            endpoint.send(server, frame);
            let deadline = world.now() + TIMEOUT_MS * MILLIS;
            loop {
                let frames = endpoint.recv(deadline).await;
                if frames.is_empty() {
                    break;
                }
                if frames.iter().any(|(_, frame)| frame[..8] == number.to_le_bytes()) {
                    break 'asking;
                }
            }
        }
        history.finish(world.now(), id, Outcome::Ok, None, None);
    }
    left.fetch_sub(1, Ordering::Relaxed);
    std::future::pending().await
}
