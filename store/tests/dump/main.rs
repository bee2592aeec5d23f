//! Meilisearch dumps: dumps of every version and variant that a generator here makes, hostile ones, and real ones.
#![cfg(not(madsim))]

mod accepted;
mod build;
mod command_line;
mod export;
mod fixtures;
mod hostile;
mod import;
mod killed;
mod matrix;
mod memory;
mod progress;
mod strays;
mod support;
