//! `miroir dump`: what is in a Meilisearch dump, an import of it, and an export.

#![expect(clippy::disallowed_types, reason = "a dump is a file, and an export has a date")]

mod bar;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::arguments::Global;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, note, out};
use crate::cli::session::Session;
use crate::dump::export::{self, export};
use crate::dump::import::{Imported, discard, import};
use crate::dump::limits::Limits;
use crate::dump::plan::{self, Plan, analyse};
use crate::dump::refusal::{self, DumpError, SEE};
use crate::dump::report;
use crate::dump::survey::Source;
use crate::dump::target::Target;
use crate::dump::target::embedded::{Embedded, at_once, store_options};
use crate::error::StoreError;
use crate::store::Store;

use bar::Bar;

const MATRIX: &str = "What can be imported, and how: docs/dump-import/compatibility-matrix.md";

#[derive(Debug, Subcommand)]
pub enum DumpCommand {
    /// Read a whole dump, and say what an import of it would do
    #[command(after_help = MATRIX)]
    Analyze {
        /// A `.dump` of Meilisearch 0.15 to 1.50
        file: PathBuf,
        #[command(flatten)]
        choices: Choices,
    },
    /// Import a dump into the running cluster, or into a store in a directory
    #[command(after_help = MATRIX)]
    Import {
        /// A `.dump` of Meilisearch 0.15 to 1.50
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        choices: Choices,
    },
    /// Write a dump that Meilisearch can read
    #[command(after_help = MATRIX)]
    Export {
        /// The file to be written; it must not be there
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Only this collection
        #[arg(long, value_name = "UID")]
        index: Option<String>,
        /// The primary key of collections that were not imported
        #[arg(long, value_name = "FIELD")]
        primary_key: Option<String>,
        /// Write keys that were imported, which are secrets, as well
        #[arg(long)]
        with_keys: bool,
    },
    /// Free what imports in broadcast mode have staged that were cut short and will not be run again
    #[command(after_help = MATRIX)]
    Discard {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Place {
    /// A store in this directory, instead of the running cluster
    #[arg(long, value_name = "PATH")]
    store: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Choices {
    /// How documents get to their owners; without it: streaming, or broadcast where a document has a reserved field
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// What to do if a document has a reserved field (`_miroir_*`)
    #[arg(long, value_enum, default_value = "fallback")]
    on_conflict: OnConflict,
    /// What to do about unfinished tasks
    #[arg(long, value_enum, default_value = "replay")]
    pending: Pending,
    /// What to do if a document of the same id is there: an import overwrites what users have written since
    #[arg(long, value_enum, default_value = "overwrite")]
    if_exists: IfExists,
    /// The primary key of indexes that have none in the dump
    #[arg(long, value_name = "FIELD")]
    primary_key: Option<String>,
    /// Only this index
    #[arg(long, value_name = "UID")]
    index: Option<String>,
    /// Keep the keys of the dump, which are secrets
    #[arg(long)]
    with_keys: bool,
    /// The largest document that is taken
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().document_bytes, value_parser = document_bytes)]
    max_document_bytes: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Streaming,
    Broadcast,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnConflict {
    Fallback,
    Strip,
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pending {
    Replay,
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IfExists {
    Overwrite,
    Skip,
    Fail,
}

fn document_bytes(text: &str) -> Result<usize, String> {
    let most = Limits::default().document_bytes;
    match text.parse() {
        Ok(bytes) if (1..=most).contains(&bytes) => Ok(bytes),
        _ => Err(format!("allowed are 1 to {most}, which is what the store takes")),
    }
}

impl Choices {
    fn options(&self) -> plan::Options {
        plan::Options {
            mode: self.mode.map(|mode| match mode {
                Mode::Streaming => plan::Mode::Streaming,
                Mode::Broadcast => plan::Mode::Broadcast,
            }),
            on_conflict: match self.on_conflict {
                OnConflict::Fallback => plan::OnConflict::Fallback,
                OnConflict::Strip => plan::OnConflict::Strip,
                OnConflict::Refuse => plan::OnConflict::Refuse,
            },
            pending: match self.pending {
                Pending::Replay => plan::Pending::Replay,
                Pending::Skip => plan::Pending::Skip,
            },
            if_exists: match self.if_exists {
                IfExists::Overwrite => plan::IfExists::Overwrite,
                IfExists::Skip => plan::IfExists::Skip,
                IfExists::Fail => plan::IfExists::Fail,
            },
            primary_key: self.primary_key.clone(),
            index: self.index.clone(),
            with_keys: self.with_keys,
            limits: Limits { document_bytes: self.max_document_bytes, ..Limits::default() },
        }
    }
}

impl DumpCommand {
    /// Whether a running cluster is needed.
    pub fn wants_cluster(&self, global: &Global) -> bool {
        match self {
            DumpCommand::Analyze { .. } => false,
            DumpCommand::Import { place, .. } => place.store.is_none() && !global.dry_run,
            DumpCommand::Export { place, .. } => place.store.is_none(),
            DumpCommand::Discard { place } => place.store.is_none() && !global.dry_run,
        }
    }

    /// Everything that needs no cluster.
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        match self {
            DumpCommand::Analyze { file, choices } => {
                let (plan, options) = planned(file, choices)?;
                show(&plan, &options, global);
                Ok(ExitCode::AsExpected)
            }
            DumpCommand::Import { file, choices, .. } if global.dry_run => {
                let (plan, options) = planned(file, choices)?;
                show(&plan, &options, global);
                Ok(ExitCode::AsExpected)
            }
            DumpCommand::Import { file, place, choices } => {
                let path = place.store.as_deref().expect("a cluster is imported into elsewhere");
                let (plan, options) = planned(file, choices)?;
                let store = open(path)?;
                at_once(write(file, &plan, &options, &mut Embedded(&store), global))
            }
            DumpCommand::Discard { .. } if global.dry_run => {
                match global.json {
                    true => print::json(&json!({ "dry_run": true })),
                    false => out("what any import in broadcast mode has staged would be freed on every node"),
                }
                Ok(ExitCode::AsExpected)
            }
            DumpCommand::Export { place, .. } | DumpCommand::Discard { place } => {
                let path = place.store.as_deref().expect("a cluster is asked elsewhere");
                if !path.is_dir() {
                    return Err(Failure::nothing("NoStore", format!("{}: there is no store\n{SEE}", path.display())));
                }
                let store = open(path)?;
                at_once(self.take_out(&mut Embedded(&store), global))
            }
        }
    }

    /// What goes into, or comes out of, a running cluster.
    pub(super) async fn ask(&self, session: &mut Session, global: &Global) -> Result<ExitCode, Failure> {
        let mut cluster = session.import_target()?;
        match self {
            DumpCommand::Import { file, choices, .. } => {
                let (plan, options) = planned(file, choices)?;
                write(file, &plan, &options, &mut cluster, global).await
            }
            _ => self.take_out(&mut cluster, global).await,
        }
    }

    /// Everything but an import.
    async fn take_out<T: Target>(&self, target: &mut T, global: &Global) -> Result<ExitCode, Failure> {
        let DumpCommand::Discard { .. } = self else { return self.write_out(target, global).await };
        let nodes = discard(target).await.map_err(|error| failure(&error))?;
        match global.json {
            true => print::json(&json!({ "v": 1, "nodes": nodes })),
            false => out(format!("nothing is staged any more ({})", print_nodes(nodes))),
        }
        Ok(ExitCode::AsExpected)
    }

    async fn write_out<T: Target>(&self, target: &mut T, global: &Global) -> Result<ExitCode, Failure> {
        let DumpCommand::Export { file, index, primary_key, with_keys, .. } = self else {
            unreachable!("only an export writes a dump")
        };
        let options = export::Options {
            date: now(),
            index: index.clone(),
            primary_key: primary_key.clone(),
            with_keys: *with_keys,
        };
        let is_there =
            || Failure::refused("Exists", format!("{} is there already; name another file\n{SEE}", file.display()));
        let mut bar = Bar::new();
        if global.dry_run {
            if file.exists() {
                return Err(is_there());
            }
            // Everything is read, so that what an export would end with is found out.
            let read = export(target, &options, io::sink(), &mut bar).await;
            bar.end();
            let export::Exported { documents, indexes, .. } = read.map_err(|error| failure(&error))?;
            match global.json {
                true => print::json(&json!({ "indexes": indexes, "documents": documents, "dry_run": true })),
                false => {
                    out(format!("{}: {documents} documents in {indexes} indexes would be written", file.display()))
                }
            }
            return Ok(ExitCode::AsExpected);
        }
        let output = File::create_new(file).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(),
            _ => Failure::io("create", file.display(), &error),
        })?;
        let exported = export(target, &options, BufWriter::new(&output), &mut bar).await;
        bar.end();
        let exported = exported.and_then(|done| {
            output.sync_all().map_err(|error| DumpError::Io { what: "write the dump", error }).map(|()| done)
        });
        match exported {
            Ok(done) if global.json => {
                print::json(&json!({
                    "v": 1, "indexes": done.indexes, "documents": done.documents, "keys": done.keys,
                    "keys_left_out": done.keys_left_out,
                }));
            }
            Ok(done) => {
                out(format!("{}: {} documents in {} indexes", file.display(), done.documents, done.indexes));
                if done.keys_left_out > 0 {
                    let left_out = done.keys_left_out;
                    out(format!(
                        "Not exported: {left_out} keys of V4, which no later version reads; create them anew\n{SEE}"
                    ));
                }
            }
            Err(error) => {
                // Half a dump is none.
                let _gone = fs::remove_file(file);
                return Err(failure(&error));
            }
        }
        Ok(ExitCode::AsExpected)
    }
}

fn open(path: &Path) -> Result<Store, Failure> {
    store_options().open(path).map_err(|error| match error {
        StoreError::InUse { .. } | StoreError::Open { .. } => Failure::refused("Store", format!("{error}\n{SEE}")),
        error => Failure::internal(error.to_string()),
    })
}

fn planned(file: &Path, choices: &Choices) -> Result<(Plan, plan::Options), Failure> {
    let source = FileSource::find(file)?;
    let options = choices.options();
    let mut bar = Bar::new();
    let plan = analyse(&source, &options, &mut bar);
    bar.end();
    Ok((plan.map_err(|error| failure(&error))?, options))
}

fn print_nodes(nodes: u32) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

fn show(plan: &Plan, options: &plan::Options, global: &Global) {
    match global.json {
        true => print::json(&report::json(plan)),
        false => out(report::analysis(plan, options)),
    }
}

async fn write<T: Target>(
    file: &Path,
    plan: &Plan,
    options: &plan::Options,
    target: &mut T,
    global: &Global,
) -> Result<ExitCode, Failure> {
    if let (Some(conflict), true) = (&plan.conflict, plan.fell_back(options)) {
        let shape = target.shape().await.map_err(|error| failure(&error))?;
        note(report::fallback(conflict, shape));
    }
    report::before(plan, options).into_iter().for_each(note);
    let source = FileSource::find(file)?;
    let mut bar = Bar::new();
    let imported = import(&source, plan, options, target, &mut bar).await;
    bar.end();
    let Imported { documents, skipped, replayed, resumed } = imported.map_err(|error| failure(&error))?;
    if global.json {
        print::json(&json!({
            "v": 1, "mode": plan.mode.to_string(), "documents": documents, "skipped": skipped, "replayed": replayed,
            "resumed": resumed, "not_restored": plan.losses.phrases(), "see": refusal::MATRIX,
        }));
        return Ok(ExitCode::AsExpected);
    }
    let kept = if skipped > 0 { format!(", {skipped} kept as they were") } else { String::new() };
    let steps = match replayed {
        0 => String::new(),
        1 => ", 1 step of unfinished tasks".to_owned(),
        some => format!(", {some} steps of unfinished tasks"),
    };
    let how = if resumed { ", gone on with" } else { "" };
    out(format!("{documents} documents imported ({}{how}){kept}{steps}", plan.mode));
    if let Some(losses) = report::losses(plan) {
        out(losses);
    }
    Ok(ExitCode::AsExpected)
}

/// An import that ended in its middle is a finding: something was done, and not everything.
fn failure(error: &DumpError) -> Failure {
    let line = error.to_string();
    match error {
        DumpError::Refused(_) => Failure::refused("Dump", line),
        DumpError::Export(_) => Failure::refused("Export", line),
        DumpError::Changed => Failure::refused("Changed", line),
        DumpError::Cluster(_) => Failure::nothing("NoAnswer", line),
        DumpError::Io { .. } | DumpError::Store(_) => Failure::internal(line),
        DumpError::Incomplete(cause) => {
            let is_machine = matches!(**cause, DumpError::Io { .. } | DumpError::Store(_));
            let exit = if is_machine { ExitCode::Internal } else { ExitCode::Finding };
            Failure { exit, code: "Incomplete".to_owned(), line }
        }
    }
}

struct FileSource {
    path: PathBuf,
    bytes: u64,
}

impl FileSource {
    fn find(path: &Path) -> Result<FileSource, Failure> {
        let refused = |error: io::Error| Failure::refused("File", format!("{}: {error}\n{SEE}", path.display()));
        let metadata = fs::metadata(path).map_err(refused)?;
        if !metadata.is_file() {
            return Err(Failure::refused("File", format!("{} is not a file\n{SEE}", path.display())));
        }
        Ok(FileSource { path: path.to_path_buf(), bytes: metadata.len() })
    }
}

impl Source for FileSource {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(&self.path)?))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// This second, as RFC 3339.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

/// Days to a date by the proleptic Gregorian calendar, in eras of 400 years that begin in March.
fn rfc3339(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::refusal::Refusal;

    /// An import that has begun never ends like one that was refused.
    #[test]
    fn how_an_import_ends_says_whether_it_had_begun() {
        let errors = || {
            [
                (DumpError::from(Refusal::new("no")), ExitCode::Refused, ExitCode::Finding),
                (DumpError::Changed, ExitCode::Refused, ExitCode::Finding),
                (DumpError::Cluster("nobody".to_owned()), ExitCode::NothingRan, ExitCode::Finding),
                (DumpError::Store(StoreError::Panicked), ExitCode::Internal, ExitCode::Internal),
            ]
        };
        for (error, before, after) in errors() {
            assert_eq!(failure(&error).exit, before, "{error}");
            let begun = failure(&error.after_writes());
            assert_eq!((begun.exit, &begun.code[..]), (after, "Incomplete"), "{begun}");
            assert!(begun.line.contains("run it again") && begun.line.ends_with(SEE), "{begun}");
        }
    }

    #[test]
    fn a_date_is_the_one_on_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
    }
}
