//! The workload on madsim's own `Endpoint` rpc: no history, no trace, no faults but loss.

use std::time::Duration;

use madsim::net::Endpoint;
use madsim::runtime::Runtime;
use serde::{Deserialize, Serialize};

use crate::workload::{CLIENTS, LATENCY_MEAN_US, LATENCY_MIN_US, LOSS_ONE_IN, TIMEOUT_MS, share};

#[derive(Serialize, Deserialize, Clone)]
struct Ask(u64, [u64; 3]);

impl madsim::net::rpc::Request for Ask {
    type Response = Ask;
    const ID: u64 = 7;
}

/// One world on a fresh thread.
pub fn run(seed: u64, total: u64) {
    std::thread::spawn(move || run_here(seed, total)).join().expect("runs");
}

fn run_here(seed: u64, total: u64) {
    let mut config = madsim::Config::default();
    config.net.packet_loss_rate = 1.0 / f64::from(LOSS_ONE_IN);
    let mean = Duration::from_micros(LATENCY_MEAN_US);
    let min = Duration::from_micros(LATENCY_MIN_US);
    config.net.send_latency = min..(mean * 2 - min);
    let runtime = Runtime::with_seed_and_config(seed, config);
    runtime.block_on(async move {
        let handle = madsim::runtime::Handle::current();
        let address: std::net::SocketAddr = "10.0.0.1:1".parse().expect("an address");
        let server = handle.create_node().name("n1").ip(address.ip()).build();
        server.spawn(async move {
            let endpoint = Endpoint::bind(address).await.expect("binds");
            let mut count = 0;
            endpoint.add_rpc_handler(move |Ask(number, _)| {
                count += 1;
                async move { Ask(number, [count, 0, 0]) }
            });
            std::future::pending::<()>().await;
        });
        madsim::time::sleep(Duration::from_millis(1)).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let node =
                    handle.create_node().ip(format!("10.0.0.{}", client + 2).parse().expect("an address")).build();
                node.spawn(async move {
                    let endpoint = Endpoint::bind("0.0.0.0:0").await.expect("binds");
                    for number in 0..share(client, total) {
                        loop {
                            let timeout = Duration::from_millis(TIMEOUT_MS);
                            match endpoint.call_timeout(address, Ask(number, [0; 3]), timeout).await {
                                Ok(Ask(echo, _)) => break assert_eq!(echo, number),
                                Err(_) => continue,
                            }
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("answered");
        }
    });
}
