//! The picture of a run in a real browser: it draws without an error, whatever is asked of it, and bounds what it draws at once.

use std::collections::BTreeSet;
use std::path::Path;

use miroir_sim::seed::Seed;

use crate::browser::Browser;
use crate::catalog;
use crate::cli::Overrides;
use crate::evidence::{Event, Evidence};
use crate::exit::Failure;
use crate::explain;
use crate::page;
use crate::print::out;
use crate::record::Recorded;
use crate::runs;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

use super::{Count, LIMIT, SEED};

/// How many events the large page has at least.
const MANY: usize = 100_000;

/// What the script may draw in one frame: lines of frames, and marks of everything else.
const LINES_AT_MOST: u64 = 4_000;
const MARKS_AT_MOST: u64 = 40_000;

/// A run that passes with several lost documents.
const LOSSY: (&str, Seed) = ("cutover/skip_delta_eager_cleanup", Seed(5));

/// Draws the standard seed, and the same with its events many times over; asks both for a document, an instant, the dark. Of a run
/// that loses documents, asks for the story of each and for who holds it.
pub fn run(workspace: &Workspace, build: Build) -> Result<Count, Failure> {
    let mut count = Count::default();
    let Some(browser) = Browser::find(workspace) else {
        out("html: not run, 1 skipped: there is no chromium in the path (Debian: apt-get install chromium)");
        return Ok(Count { passed: 0, failed: 0 });
    };
    let worker = Worker::build(workspace, build)?;
    let folder = runs::claim(&workspace.kept().join("html"), "page")?;
    kept(&worker, catalog::DEFAULT, SEED, &folder)?;
    let small = explain::picture(&folder)?;
    let mut evidence = Evidence::read(&folder)?;
    let document = evidence.history.first().map(|operation| operation.key.to_string()).unwrap_or_default();
    multiply(&mut evidence);
    let beside = folder.join("large");
    std::fs::create_dir_all(&beside).map_err(|error| Failure::io("create", beside.display(), &error))?;
    let large = page::write(&evidence, None, &beside)?;

    for page in [&small, &large] {
        for hash in ["", &format!("doc={document}"), "at=0.290s&span=4ms&shard=0", "theme=dark"] {
            count.check(drawn(&browser, page, hash, page == &large));
        }
    }
    let lossy = folder.join("lossy");
    kept(&worker, LOSSY.0, LOSSY.1, &lossy)?;
    let page = explain::picture(&lossy)?;
    let lost: BTreeSet<String> = Evidence::read(&lossy)?.windows.into_iter().map(|window| window.doc).collect();
    count.check(if lost.len() > 1 { Ok(()) } else { Err(format!("{}: {} documents are lost", LOSSY.0, lost.len())) });
    for doc in &lost {
        count.check(told(&browser, &page, doc));
    }
    runs::keep(&folder)?;
    Ok(count)
}

/// Runs a seed with everything kept in a folder.
fn kept(worker: &Worker, scenario: &str, seed: Seed, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
    let overrides = Overrides::default();
    let job = Job { out: Some(folder), ..Job::bare(scenario, seed, &overrides) };
    Recorded::of(job.scenario, job.seed, &worker.record(&job, Some(LIMIT))?)?;
    Ok(())
}

/// Whether the page tells of a lost document its own story, and who holds it at an instant.
fn told(browser: &Browser, page: &Path, doc: &str) -> Result<(), String> {
    let hash = format!("at=0.5s&doc={doc}");
    let dom = browser.dom(page, &hash).map_err(|failure| failure.line)?;
    for wanted in
        [format!(">What happened to {doc}<"), ">Who holds what at 0.500000 s<".to_owned(), format!(">{doc}</th>")]
    {
        if !dom.contains(&wanted) {
            return Err(format!("{}#{hash} does not say `{wanted}`", page.display()));
        }
    }
    Ok(())
}

/// As if more had happened at the same times, until there are enough events.
fn multiply(evidence: &mut Evidence) {
    let frames: Vec<Event> = evidence.events.iter().filter(|it| it.frame() > 0).cloned().collect();
    let mut turn = 0;
    while evidence.events.len() < MANY && !frames.is_empty() {
        turn += 1_u64 << 40;
        evidence.events.extend(frames.iter().map(|it| Event { id: (it.frame() + turn).into(), ..it.clone() }));
    }
    evidence.events.sort_by_key(|event| event.at);
}

fn drawn(browser: &Browser, page: &Path, hash: &str, is_large: bool) -> Result<(), String> {
    let what = format!("{}#{hash}", page.display());
    let dom = browser.dom(page, hash).map_err(|failure| failure.line)?;
    let said = |name: &str| {
        let (_, rest) = dom.split_once("<body")?.1.split_once(&format!("data-{name}=\""))?;
        rest.split('"').next().map(str::to_owned)
    };
    let number = |name: &str| said(name).and_then(|text| text.parse::<u64>().ok());
    if let Some(error) = said("error") {
        return Err(format!("{what}: {error}"));
    }
    if said("ready").as_deref() != Some("yes") {
        return Err(format!("{what}: its script did not come to its end"));
    }
    let (lines, marks) = (number("lines").unwrap_or(u64::MAX), number("marks").unwrap_or(u64::MAX));
    if lines > LINES_AT_MOST || marks > MARKS_AT_MOST {
        return Err(format!("{what}: draws {lines} lines and {marks} marks at once"));
    }
    if is_large && number("messages").is_none_or(|messages| messages < MANY as u64 / 4) {
        return Err(format!("{what}: holds {:?} messages", number("messages")));
    }
    let wanted = hash.strip_prefix("doc=").unwrap_or_default();
    if said("doc").as_deref() != Some(wanted) {
        return Err(format!("{what}: shows the document {:?}", said("doc")));
    }
    if hash.starts_with("at=") && (number("from"), number("to")) != (Some(288_000), Some(292_000)) {
        return Err(format!("{what}: shows {:?} to {:?} us", number("from"), number("to")));
    }
    Ok(())
}
