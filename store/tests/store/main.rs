//! The store as a program uses it: on real files, in one process.

mod embedded;
mod overtaken;
mod scans;

#[path = "../engine/disk.rs"]
#[expect(dead_code, reason = "the engine's tests use all of it")]
mod disk;
