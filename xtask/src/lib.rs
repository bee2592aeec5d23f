//! The command line of developers and CI: `cargo xtask ...`.
//!
//! One sentence: [`cli`] says what can be typed; [`worker`] builds and starts the program that runs one seed inside the
//! simulator; [`sim`] runs one seed, [`sweep`] many, [`twice`] one seed two times; [`test`] strings these together with
//! cargo's own tests, and CI runs that.
//!
//! Nothing here is simulated: this package is built without the simulator's cfg, starts processes, and measures wall
//! time. Nothing here judges a run either. Verdicts come from the worker; the command line adds only those that a worker
//! cannot speak for itself: it crashed, it hung, it said two different things, or a whole sweep never reached a mark.

pub mod bench;
pub mod browser;
pub mod build_id;
pub mod bundle;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod data;
pub mod docs;
pub mod evidence;
pub mod exit;
pub mod explain;
pub mod gallery;
pub mod kills;
pub mod merge;
pub mod mutants;
pub mod page;
pub mod partition;
pub mod print;
pub mod qualify;
pub mod record;
pub mod replay;
pub mod report;
pub mod runs;
pub mod seeds;
pub mod shrink;
pub mod signals;
pub mod sim;
pub mod soak;
pub mod sweep;
pub mod test;
pub mod twice;
pub mod worker;
pub mod workspace;
