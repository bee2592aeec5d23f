//! Meilisearch dumps: what is in one, what an import of it will do, the import, and the way back.
//!
//! ```text
//! file -> archive (gzip, tar) -> survey (what is there) -> plan (what it means) -> import (into a target)
//!                                                                                  export (out of a store)
//! ```
//!
//! Two passes: [`plan::analyse`] reads everything and decides, [`import::import`] reads it again and writes. Nothing is
//! unpacked, memory is bounded whatever the size of the dump, and every refusal comes before the first write.
//!
//! Not handled here: where files come from (the caller gives a [`Source`](survey::Source)), what a terminal shows (the
//! command line), and what settings mean (they are kept, not interpreted).

pub mod archive;
pub mod collection;
pub mod document;
pub mod export;
pub mod import;
pub mod layout;
pub mod limits;
pub mod plan;
pub mod progress;
pub mod records;
pub mod refusal;
pub mod report;
pub mod survey;
pub mod target;
pub mod tasks;
