//! The workload on moonpool: one process, three clients, a stream each, its own default latencies and faults (refused and closed connections, flipped
//! bits), so a client connects and asks anew. No history, no trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use moonpool_sim::{
    NetworkProvider, Process, SimContext, SimulationBuilder, SimulationResult, TaskProvider, TcpListenerTrait,
    TimeProvider, Workload, WorkloadCount,
};

use crate::workload::{CLIENTS, PAYLOAD, share};

/// Its delays are up to a hundred times longer than the latency of the workload.
const PATIENCE: Duration = Duration::from_millis(500);

/// A world that has not come to its end by then does not: moonpool ends it, and calls it failed.
const BUDGET: Duration = Duration::from_secs(60);

/// Runs that it called failed. Its own faults can leave a client without an answer for good.
pub static FAILED: AtomicU64 = AtomicU64::new(0);

/// One world on a fresh thread.
pub fn run(seed: u64, total: u64) {
    std::thread::spawn(move || run_here(seed, total)).join().expect("runs");
}

fn run_here(seed: u64, total: u64) {
    let report = SimulationBuilder::new()
        .processes(1, || Box::new(Server))
        .workloads(WorkloadCount::Fixed(CLIENTS as usize), move |client| {
            Box::new(Client { name: format!("client-{client}"), requests: share(client as u64, total) })
        })
        .set_iterations(1)
        .run_time_budget(BUDGET)
        .set_debug_seeds(vec![seed])
        .run();
    FAILED.fetch_add(report.failed_runs as u64, Ordering::Relaxed);
}

/// Before what failed is tried again, so that time goes on.
async fn pause(context: &SimContext) {
    let _slept = context.time().sleep(Duration::from_millis(1)).await;
}

struct Server;

#[async_trait]
impl Process for Server {
    fn name(&self) -> &'static str {
        "server"
    }

    async fn run(&mut self, context: &SimContext) -> SimulationResult<()> {
        let listener = loop {
            if let Ok(listener) = context.network().bind(context.my_ip()).await {
                break listener;
            }
            pause(context).await;
        };
        let count = Arc::new(AtomicU64::new(0));
        loop {
            let (mut stream, _) = moonpool_sim::select! {
                biased;
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(_) => {
                        pause(context).await;
                        continue;
                    }
                },
                () = context.shutdown().cancelled() => return Ok(()),
            };
            let count = count.clone();
            let answer = async move {
                let mut buffer = [0; PAYLOAD];
                while stream.read_exact(&mut buffer).await.is_ok() {
                    let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                    buffer[8..16].copy_from_slice(&number.to_le_bytes());
                    if stream.write_all(&buffer).await.is_err() {
                        return;
                    }
                }
            };
            context.task().spawn_task("answer", answer);
        }
    }
}

struct Client {
    name: String,
    requests: u64,
}

#[async_trait]
impl Workload for Client {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(&mut self, context: &SimContext) -> SimulationResult<()> {
        let server = context.topology().all_process_ips()[0].clone();
        let mut stream = None;
        for number in 0..self.requests {
            loop {
                let mut open = match stream.take() {
                    Some(open) => open,
                    None => match context.time().timeout(PATIENCE, context.network().connect(&server)).await {
                        Ok(Ok(open)) => open,
                        _ => {
                            pause(context).await;
                            continue;
                        }
                    },
                };
                let mut buffer = [0; PAYLOAD];
                buffer[..8].copy_from_slice(&number.to_le_bytes());
                let exchange = async {
                    open.write_all(&buffer).await?;
                    open.read_exact(&mut buffer).await
                };
                let answered = matches!(context.time().timeout(PATIENCE, exchange).await, Ok(Ok(())));
                if answered && buffer[..8] == number.to_le_bytes() {
                    stream = Some(open);
                    break;
                }
            }
        }
        Ok(())
    }
}
