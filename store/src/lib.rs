//! A sharded, replicated document store that moves shards between nodes while clients write.
//!
//! One sentence runs the tree: a client asks a [`router`]; the router finds the quorum that holds the shard;
//! [`node`]s apply to their [`engine`]s; a [`coordinator`] moves shards between nodes while all this goes on.
//!
//! Router, migration and reconcile are plain state machines (`step(event) -> commands`), driven by thin async shells.
//! Everything they do to the world goes through [`env`].

#[macro_use]
pub mod mutant;

#[cfg(test)]
mod accident;
pub mod env;
pub mod error;
pub mod id;
pub mod reserved;

pub mod wire;

pub mod router;

pub mod config;
pub mod node;

pub mod engine;
pub mod staging;

pub mod reconcile;

pub mod anti_entropy;
pub mod coordinator;
pub mod migration;
pub mod placement;

pub mod store;

pub mod dump;

#[cfg(all(unix, not(madsim)))]
pub mod cli;
pub mod net;

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
