//! The workload on turmoil: UDP between four hosts. No history, no trace, no faults.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use turmoil::net::UdpSocket;

use crate::workload::{CLIENTS, LATENCY_MEAN_US, LATENCY_MIN_US, PAYLOAD, TIMEOUT_MS, share};

/// One world on a fresh thread.
pub fn run(seed: u64, total: u64) {
    std::thread::spawn(move || run_here(seed, total)).join().expect("runs");
}

fn run_here(seed: u64, total: u64) {
    let any = (IpAddr::from(Ipv4Addr::UNSPECIFIED), 9);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(100_000))
        .udp_capacity(1_000)
        .min_message_latency(Duration::from_micros(LATENCY_MIN_US))
        .max_message_latency(Duration::from_micros(2 * LATENCY_MEAN_US - LATENCY_MIN_US))
        .build();
    sim.host("server", move || async move {
        let socket = UdpSocket::bind(any).await?;
        let mut buffer = [0; PAYLOAD];
        let mut count: u64 = 0;
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            count += 1;
            buffer[8..16].copy_from_slice(&count.to_le_bytes());
            socket.send_to(&buffer[..len], from).await?;
        }
    });
    for client in 0..CLIENTS {
        sim.client(format!("client-{client}"), async move {
            let socket = UdpSocket::bind(any).await?;
            let mut buffer = [0; PAYLOAD];
            for number in 0..share(client, total) {
                loop {
                    buffer[..8].copy_from_slice(&number.to_le_bytes());
                    socket.send_to(&buffer, ("server", 9)).await?;
                    let answer = tokio::time::timeout(Duration::from_millis(TIMEOUT_MS), socket.recv_from(&mut buffer));
                    if answer.await.is_ok() && buffer[..8] == number.to_le_bytes() {
                        break;
                    }
                }
            }
            Ok(())
        });
    }
    sim.run().expect("every request is answered");
}
