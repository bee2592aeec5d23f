//! `cargo xtask qualify`: the large runs behind the numbers in the documents, on demand.
//!
//! Each row is one sweep, as anybody could type it; its sums go to `docs/data/SUBJECT.json` as soon as it ends, so a
//! qualification that is interrupted keeps what it has. A row with a finding is written too: the report shows it in red, and
//! the command ends as a sweep does. The engine's tests, which no worker runs, are a subject of their own ([`engine`]).

pub mod engine;
mod plan;
pub mod sums;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use miroir_sim::record::Record;

use crate::build_id;
use crate::catalog::Catalog;
use crate::cli::{MaxFail, Qualify};
use crate::data::{self, Row, Stamp};
use crate::exit::{ExitCode, Failure};
use crate::partition::Partition;
use crate::print::{note, out, quoted};
use crate::seeds::SeedRange;
use crate::sweep::{self, results};
use crate::worker::{Build, Worker};
use crate::workspace::Workspace;

use plan::Measurement;
pub use plan::Subject;
use sums::Sums;

/// Wall time for one run: the largest scenarios take about a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures what the command line names, or all.
pub fn run(workspace: &Workspace, build: Build, qualify: &Qualify) -> Result<ExitCode, Failure> {
    let mut worst = ExitCode::AsExpected;
    if qualify.subjects.contains(&Subject::Engine) || (qualify.subjects.is_empty() && qualify.only.is_none()) {
        worst = engine::run(workspace)?;
    }
    if qualify.subjects == [Subject::Engine] {
        return Ok(worst);
    }
    let worker = Worker::build(workspace, build)?;
    let catalog = Catalog::load(&worker)?;
    let mut measurements = plan::all(&catalog, &qualify.subjects, qualify.seeds);
    if let Some(only) = &qualify.only {
        measurements.retain(|it| it.name.contains(only.as_str()));
    }
    if measurements.is_empty() {
        let line = "nothing is measured by that name; docs/data/*.json has the names of all rows".to_owned();
        return Err(Failure { exit: ExitCode::NothingRan, line });
    }
    for measurement in &measurements {
        out(format!("== {} {}", measurement.subject.file(), measurement.name));
        let exit = measure(workspace, build, &worker, &catalog, measurement)?;
        if exit != ExitCode::AsExpected {
            worst = exit;
        }
    }
    note("`cargo xtask report` renders the documents from it");
    Ok(worst)
}

/// One sweep, and its row.
fn measure(
    workspace: &Workspace,
    build: Build,
    worker: &Worker,
    catalog: &Catalog,
    measurement: &Measurement,
) -> Result<ExitCode, Failure> {
    let folder = workspace.kept().join("qualify").join(measurement.name.replace('/', "-"));
    // What an earlier measurement left there is not part of this one.
    let _ = std::fs::remove_dir_all(&folder);
    let request = sweep::Request {
        entries: catalog.select(std::slice::from_ref(&measurement.scenario))?,
        seeds: SeedRange(measurement.seeds.clone()),
        time: None,
        partition: Partition::WHOLE,
        overrides: measurement.overrides.clone(),
        build,
        jobs: None,
        max_fail: MaxFail(None),
        limit: LIMIT,
        out: Some(folder.clone()),
        json: false,
    };
    let outcome = sweep::execute(workspace, worker, catalog, &request)?;
    let mut sums = Sums::new(request.entries[0]);
    read(&folder, |record| sums.add(record))?;
    let stamp = Stamp {
        command: command(measurement),
        build: build_id::of_sources(workspace.root())?,
        seeds: Some(request.seeds.to_string()),
    };
    let file = measurement.subject.file();
    // Read again each time: another qualification may have added rows meanwhile.
    let mut rows = data::File::read(workspace.root(), file)?;
    rows.put(Row { name: measurement.name.clone(), stamp, measured: sums });
    rows.write(workspace.root(), file)?;
    Ok(outcome.exit())
}

/// The sweep as it is typed.
fn command(measurement: &Measurement) -> String {
    let Measurement { scenario, seeds, overrides, .. } = measurement;
    let arguments: String = overrides.to_arguments().iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!("cargo xtask sweep {scenario} --seeds {}{arguments}", SeedRange(seeds.clone()))
}

fn read(folder: &Path, mut each: impl FnMut(&Record)) -> Result<(), Failure> {
    let path = folder.join(results::FILE);
    let file = File::open(&path).map_err(|error| Failure::io("read", path.display(), &error))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| Failure::io("read", path.display(), &error))?;
        let record =
            Record::from_json(&line).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
        each(&record);
    }
    Ok(())
}
