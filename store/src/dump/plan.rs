//! What an import will do, decided before anything is written.
//!
//! ```text
//! survey -> resolve (uids, primary keys, what is missing, what is pending) -> Plan -> decide (streaming or broadcast)
//! ```
//!
//! A plan is made of what the dump says and what was asked for, never of what the store holds.

mod losses;
mod resolve;

use std::fmt;

use crate::dump::layout::Version;
use crate::dump::limits::Limits;
use crate::dump::progress::Progress;
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::survey::{Keys, Source, survey};
use crate::dump::tasks::Ids;

pub use losses::Losses;

/// How documents get to where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each is written to its owners, in batches.
    Streaming,
    /// All are staged on every node first, and written from there.
    Broadcast,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Streaming => "streaming",
            Mode::Broadcast => "broadcast",
        })
    }
}

/// What to do about documents with reserved fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Import in broadcast mode, which strips the fields.
    #[default]
    Fallback,
    /// Strip the fields, and stream.
    Strip,
    Refuse,
}

/// What to do about unfinished tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    #[default]
    Replay,
    Skip,
}

/// What to do about documents that are in the store already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    #[default]
    Overwrite,
    Skip,
    /// Refuse the import if one is there with other content.
    Fail,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mode: Option<Mode>,
    pub on_conflict: OnConflict,
    pub pending: Pending,
    pub if_exists: IfExists,
    /// For indexes whose primary key the dump does not tell.
    pub primary_key: Option<String>,
    /// Only this index.
    pub index: Option<String>,
    /// Keep the keys of the dump, which are secrets.
    pub with_keys: bool,
    pub limits: Limits,
}

/// Where a primary key is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    Dump,
    /// By Meilisearch's rule: the only field of the first document whose name ends with `id`.
    Inferred,
    Asked,
}

/// One index, which becomes a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub uid: String,
    /// What its folder is called; `None` if only an unfinished task creates it.
    pub folder: Option<String>,
    pub primary_key: Option<(String, KeySource)>,
    /// With which its documents are read, if it has any; unfinished tasks may set another one for later.
    pub documents_key: Option<String>,
    pub documents: u64,
    pub bytes: u64,
    /// Documents in unfinished additions.
    pub pending_documents: u64,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
}

/// A step of the replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The documents of this member.
    Add {
        uid: String,
        path: String,
        primary_key: String,
        merges: bool,
    },
    Delete {
        uid: String,
        ids: Ids,
    },
    Clear {
        uid: String,
    },
    Create {
        uid: String,
    },
    /// The documents, the settings, and the name.
    DeleteIndex {
        uid: String,
    },
}

/// A reserved field in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub field: String,
    /// Where it was found first.
    pub member: String,
    pub line: u64,
    /// How many documents have one.
    pub documents: u64,
}

/// What an import will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub version: Version,
    pub db_version: Option<String>,
    pub dump_date: Option<String>,
    /// Of the compressed bytes: the same file has the same.
    pub fingerprint: u128,
    pub bytes: u64,
    pub unpacked_bytes: u64,
    /// By uid.
    pub indexes: Vec<Index>,
    pub steps: Vec<Step>,
    pub conflict: Option<Conflict>,
    pub losses: Losses,
    pub mode: Mode,
}

impl Plan {
    /// Whether broadcast was not asked for, and is used nevertheless.
    pub fn fell_back(&self, options: &Options) -> bool {
        self.mode == Mode::Broadcast && options.mode != Some(Mode::Broadcast)
    }

    pub fn documents(&self) -> u64 {
        self.indexes.iter().map(|index| index.documents).sum()
    }

    pub fn pending_documents(&self) -> u64 {
        self.indexes.iter().map(|index| index.pending_documents).sum()
    }
}

/// Pass 1: reads all of a dump, and decides. Nothing is written.
pub fn analyse(source: &dyn Source, options: &Options, progress: &mut dyn Progress) -> Result<Plan, DumpError> {
    let mut keys = Keys::new();
    loop {
        let survey = survey(source, options.limits, &keys, progress)?;
        match resolve::resolve(survey, source.bytes(), options)? {
            resolve::Resolved::Plan(mut plan) => {
                plan.mode = decide(&plan, options)?;
                return Ok(*plan);
            }
            // Documents were read with another primary key than turned out to be theirs.
            resolve::Resolved::ReadAgain(wanted) => {
                assert!(wanted != keys, "with these keys everything was read as it should be");
                keys = wanted;
            }
        }
    }
}

/// Which mode it will be. Two things lead to broadcast: that it was asked for, and a reserved field.
pub fn decide(plan: &Plan, options: &Options) -> Result<Mode, DumpError> {
    let documents_change = plan.steps.iter().any(|step| !matches!(step, Step::Create { .. }));
    if options.if_exists != IfExists::Overwrite && documents_change {
        let reason = "the dump has unfinished tasks, which change documents after they were imported, and then nobody \
                      can tell whose a document is; use `--if-exists overwrite`, or `--pending skip`";
        return Err(Refusal::new(reason).into());
    }
    match (&plan.conflict, options.on_conflict) {
        (Some(conflict), OnConflict::Refuse) => {
            let reason = format!(
                "the field `{}` is reserved, and {} documents have such a field; use `--on-conflict fallback` or \
                 `--on-conflict strip`",
                conflict.field.escape_debug(),
                conflict.documents
            );
            Err(Refusal::at(&conflict.member, conflict.line, reason).into())
        }
        (Some(_), OnConflict::Fallback) => Ok(Mode::Broadcast),
        _ => Ok(options.mode.unwrap_or(Mode::Streaming)),
    }
}
