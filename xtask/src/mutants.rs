//! `cargo xtask mutants`: plants every bug of the list, one at a time, and shows who finds it.
//!
//! A green sweep means nothing unless the same sweep would have been red. Each mutant is hunted with the scenarios that are
//! likely to find it, then with those that every mutant has to face: the swarm, and the swarm with one defence taken away,
//! because the protocol has several for most bugs and the others hide that one is gone. The first configuration that finds it
//! is searched again from other seeds, for a median. A kill counts only if the same seed passes without the mutant.
//!
//! What is listed for each (`scenarios/mutants.toml`) was written from what the bug is, after a first look: where it was
//! seen, and which words the named cause has to contain to be the right one.

mod hunt;
pub mod list;
mod report;

use std::path::Path;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::cli::Mutants;
use crate::data::{self, Stamp};
use crate::exit::{ExitCode, Failure};
use crate::kills;
use crate::print::out;
use crate::runs;
use crate::worker::{Build, Worker};
use crate::workspace::Workspace;

pub use list::{List, Try, load};
pub use report::{Killed, Row, Sums};

/// The name of the data.
pub const DATA: &str = "mutants";

/// Wall time for one run.
const LIMIT: Duration = Duration::from_secs(60);

/// Hunts the mutants that were asked for.
pub fn run(workspace: &Workspace, build: Build, options: &Mutants) -> Result<ExitCode, Failure> {
    let list = load(workspace.root())?;
    let chosen = list.select(&options.only)?;
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    list.check(&catalog)?;
    let folder = runs::claim(&workspace.kept().join("mutants"), "mutants")?;
    let pinned = worker.pinned_in(&folder)?;
    let hunt = hunt::Hunt {
        worker: &pinned,
        folder: &folder,
        seeds: options.seeds,
        starts: options.starts,
        budget: Duration::from_secs(options.budget_s),
        limit: LIMIT,
        jobs: options.jobs.map_or_else(crate::worker::cores, usize::from),
    };
    let mut rows = Vec::new();
    let result = chosen.iter().try_for_each(|mutant| {
        let row = Row::new(mutant, hunt.hunt(mutant, &list.common)?);
        out(if options.json { row.to_json() } else { row.to_line() });
        rows.push(row);
        Ok(())
    });
    let build = worker.build_name().to_owned();
    pinned.unpin();
    runs::keep(&folder)?;
    result?;
    if options.keep {
        keep(workspace.root(), &build, options, &rows)?;
    }
    if options.pin {
        kills::pin(workspace.root(), rows.iter().filter_map(Row::pin).collect())?;
    }
    let sums = Sums::of(rows.iter());
    out(if options.json { sums.to_json() } else { sums.to_string() });
    Ok(if sums.untested.is_empty() { ExitCode::AsExpected } else { ExitCode::Finding })
}

/// Replaces the rows of these mutants in the data that documents are rendered from.
fn keep(root: &Path, build: &str, options: &Mutants, rows: &[Row]) -> Result<(), Failure> {
    let mut file: data::File<Row> = data::File::read(root, DATA)?;
    for row in rows {
        let stamp = Stamp { command: options.command(&row.id), build: build.to_owned(), seeds: None };
        file.put(data::Row { name: row.id.clone(), stamp, measured: row.clone() });
    }
    file.rows.sort_by(|one, other| one.name.cmp(&other.name));
    file.write(root, DATA)
}
