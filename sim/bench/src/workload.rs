//! What every simulator here runs: one server that counts, three clients that ask it one thing after the other.

/// Bytes of a request and of a reply.
pub const PAYLOAD: usize = 32;
/// No message is faster.
pub const LATENCY_MIN_US: u64 = 100;
/// Mean latency.
pub const LATENCY_MEAN_US: u64 = 500;
/// One message in so many is lost.
pub const LOSS_ONE_IN: u32 = 1_000;
/// A client asks again after this long.
pub const TIMEOUT_MS: u64 = 20;
/// Clients.
pub const CLIENTS: u64 = 3;
/// Round trips of a small world.
pub const SMALL: u64 = 200;

/// How many round trips this client (from 0) makes of `total`.
pub fn share(client: u64, total: u64) -> u64 {
    total / CLIENTS + u64::from(client < total % CLIENTS)
}
