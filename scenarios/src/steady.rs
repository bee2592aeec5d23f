//! Scenarios in which no shard moves.

pub mod smoke;
