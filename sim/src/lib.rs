//! A deterministic simulator for storage systems. It knows nothing of the store that is tested in it.
//!
//! Data flow of one run: a [`seed::Seed`] feeds the [`dice`]; a [`plan::SimPlan`] says what may go wrong; the world boots processes that
//! talk over the [`net`] fabric (some of them over [`tcp`], which is made of its frames) and keep their bytes on simulated [`disk`]s; the [`fault`] engine hurts them at planned instants; every
//! event goes through the [`trace`], whose running hash is the identity of the run; clients write down a [`history`]; the [`oracle`]s
//! judge it; the [`verdict`] and the [`record`] say so in one line.
//!
//! What is decided by chance is decided by keyed ChaCha streams addressed by (stream, ordinal), so that taking one fault away moves no other
//! decision. Only the order in which ready tasks run belongs to the executor. Nothing here reads a clock, the environment or ambient entropy.
//!
//! Not handled: threads inside a run, real sockets, real files.

#[cfg(madsim)]
mod panics;
mod sync;

pub mod clock;
pub mod coverage;
pub mod dice;
pub mod disk;
pub mod fault;
pub mod history;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod profile;
pub mod ratio;
pub mod record;
pub mod seed;
pub mod shrink;
pub mod tcp;
pub mod time;
pub mod trace;
pub mod verdict;
#[cfg(madsim)]
pub mod world;

#[doc(hidden)]
pub use tracing as __tracing;

pub use dice::{Dice, Draws, Random, Stream};
pub use process::{Incarnation, Names, ProcessId};
pub use ratio::Ratio;
pub use seed::Seed;
pub use time::{Nanos, Timers};
pub use trace::{Event, Mode, Trace};
#[cfg(madsim)]
pub use world::World;
