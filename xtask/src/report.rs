//! `cargo xtask report`: renders the measured documents from the committed data; `--check` demands that they are as rendered,
//! and runs a seed of each row again.
//!
//! A document is a template beside this file, with `{{name}}` where something measured goes. Nothing else in it is a number
//! that somebody measured, so a document cannot say what the data does not.

mod chaos;
mod engine;
mod mutants;
mod plot;
mod rate;
pub mod tables;

use std::fs;
use std::path::Path;

use miroir_sim::seed::Seed;
use miroir_sim::verdict::Verdict;

use crate::build_id;
use crate::catalog::Catalog;
use crate::cli::{Overrides, Report};
use crate::data::{File, Row};
use crate::exit::{ExitCode, Failure};
use crate::print::{counted, green, note, out, red};
use crate::qualify::Subject;
use crate::record::Recorded;
use crate::seeds::SeedRange;
use crate::sweep::Tally;
use crate::worker::{Build, Job, Worker};
use crate::workspace::Workspace;

/// One file that is rendered: where it stands, from the root of the workspace, and its text.
pub struct Rendered {
    pub path: &'static str,
    pub text: String,
}

/// Renders everything from the data below `root`. The catalog says what is to be there.
pub fn render(root: &Path, catalog: &Catalog) -> Result<Vec<Rendered>, Failure> {
    let mut rendered = chaos::render(root, catalog)?;
    rendered.extend(engine::render(root)?);
    Ok(rendered)
}

/// Renders, or checks, as the command line says.
pub fn run(workspace: &Workspace, build: Build, report: &Report) -> Result<ExitCode, Failure> {
    let worker = Worker::build(workspace, build)?;
    if !report.check {
        for Rendered { path, text } in &render(workspace.root(), &Catalog::load(&worker)?)? {
            let file = workspace.root().join(path);
            let folder = file.parent().unwrap_or(workspace.root());
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&file, text))
                .map_err(|error| Failure::io("write", path, &error))?;
            out(format!("wrote {path}"));
        }
        return Ok(ExitCode::AsExpected);
    }
    let checked = check(workspace.root(), &worker)?;
    checked.failed.iter().for_each(|line| out(format!("{}: {line}", red("stale"))));
    let (passed, failed) = (checked.passed, checked.failed.len() as u64);
    if failed == 0 {
        out(format!("{}: {}", green("as measured"), counted(passed, "check")));
        return Ok(ExitCode::AsExpected);
    }
    note("`cargo xtask report` renders the documents anew; `cargo xtask qualify` measures");
    Ok(ExitCode::Finding)
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Checked {
    pub passed: u64,
    /// One line for each document or row that is not as it says.
    pub failed: Vec<String>,
}

impl Checked {
    fn add(&mut self, holds: bool, line: impl FnOnce() -> String) {
        if holds { self.passed += 1 } else { self.failed.push(line()) }
    }

    fn compare(&mut self, root: &Path, Rendered { path, text }: &Rendered) {
        let stands = fs::read_to_string(root.join(path)).unwrap_or_default();
        self.add(stands == *text, || format!("{path}{}", first_difference(&stands, text)));
    }
}

/// Every document against its rendering, and a seed of every row against what it finds now.
pub fn check(root: &Path, worker: &Worker) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let catalog = Catalog::load(worker)?;
    render(root, &catalog)?.iter().for_each(|rendered| checked.compare(root, rendered));
    let now = build_id::of_sources(root)?;
    for subject in Subject::SWEPT {
        for row in File::<Tally>::read(root, subject.file())?.rows {
            // Marks are not asked of the curve: see `qualify`.
            if subject != Subject::Curve {
                declares(&catalog, &row, &mut checked);
            }
            again(root, worker, &catalog, &now, &row, &mut checked)?;
        }
    }
    Ok(checked)
}

/// A row says which marks its scenario declared when it was measured; one that has been added since was never asked for.
fn declares(catalog: &Catalog, Row { name, measured, .. }: &Row<Tally>, checked: &mut Checked) {
    let Some(entry) = catalog.named(measured.id()) else { return };
    let declared = measured.declared();
    let added = entry.marks.iter().find(|mark| !declared.contains(mark));
    let gone = declared.iter().find(|mark| !entry.marks.contains(mark));
    let line = |what: &str, mark: &str| format!("{name} was measured when its scenario {what} the mark `{mark}`");
    checked.add(added.is_none(), || line("did not declare", added.map_or("", String::as_str)));
    checked.add(gone.is_none(), || line("still declared", gone.map_or("", String::as_str)));
}

/// Runs the first seed of a row that passed again: it passes, and has no loss window where the row has none. The scenarios
/// of volume take too long for that.
fn again(
    root: &Path,
    worker: &Worker,
    catalog: &Catalog,
    now: &str,
    row: &Row<Tally>,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let Row { name, stamp, measured } = row;
    let entry = catalog.named(measured.id());
    checked.add(entry.is_some(), || format!("{name}: there is no scenario `{}` any more", measured.id()));
    let seeds = stamp.seeds.as_deref().and_then(|seeds| seeds.parse::<SeedRange>().ok());
    checked.add(seeds.as_ref().is_some_and(|seeds| seeds.len() == measured.seeds()), || {
        format!(
            "{name}: {} runs are no runs of the seeds {}",
            measured.seeds(),
            stamp.seeds.as_deref().unwrap_or("none")
        )
    });
    let mut passed =
        seeds.into_iter().flat_map(|seeds| seeds.0).map(Seed).filter(|it| !measured.failing().contains(it));
    let (true, Some(seed)) = (entry.is_some_and(|entry| entry.seeds_at_most.is_none()), passed.next()) else {
        return Ok(());
    };
    let overrides = overrides(&stamp.command).found_from(root);
    let job = Job::bare(measured.id(), seed, &overrides);
    let run = Recorded::of(measured.id(), seed, &worker.record(&job, None)?)?;
    let found = run.record.verdict;
    checked.add(found == Verdict::Pass, || {
        let build = &stamp.build;
        let whose = if build == now { "the same build" } else { "an earlier build" };
        format!("{name} seed {seed}: {found}, where {whose} passed")
    });
    let windows = &measured.windows;
    let none = windows.transient + windows.superseded + windows.permanent == 0;
    checked.add(!none || run.record.loss_ppm == 0, || format!("{name} seed {seed}: a loss window"));
    Ok(())
}

/// The overrides of a stamped command, which this program wrote.
fn overrides(command: &str) -> Overrides {
    let mut overrides = Overrides::default();
    let words: Vec<&str> = command.split_whitespace().collect();
    for pair in words.windows(2) {
        match pair[0] {
            "--profile" => overrides.profile = Some(pair[1].to_owned()),
            "--set" => overrides.set.push(pair[1].to_owned()),
            _ => {}
        }
    }
    overrides
}

/// Where two texts part, to be read after a path.
fn first_difference(stands: &str, rendered: &str) -> String {
    let pairs = stands.lines().map(Some).chain(std::iter::repeat(None)).zip(rendered.lines());
    match (1..).zip(pairs).find(|(_, (stands, rendered))| *stands != Some(rendered)) {
        Some((line, (Some(stands), rendered))) => format!(", line {line}: `{stands}` should be `{rendered}`"),
        Some((line, (None, _))) => format!(" ends at line {}", line - 1),
        None => " has lines after its end".to_owned(),
    }
}

/// Puts what was measured into a template. A name that the template lacks, or that nobody fills, is a bug of ours.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = format!("{{{{{name}}}}}");
        assert!(text.contains(&place), "no place for `{name}`");
        text = text.replace(&place, value.trim_end());
    }
    assert!(!text.contains("{{"), "a place without a value: {}", text.split("{{").nth(1).unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_changed_by_hand_is_named() {
        assert_eq!(first_difference("a\n18\nc\n", "a\n17\nc\n"), ", line 2: `18` should be `17`");
        assert_eq!(first_difference("a\n", "a\nb\n"), " ends at line 1");
        assert_eq!(first_difference("a\nb\n", "a\n"), " has lines after its end");
    }

    #[test]
    fn a_row_that_was_measured_with_other_marks_is_named() {
        let entry = |marks: &[&str]| crate::catalog::Entry {
            id: "a".to_owned(),
            promise: String::new(),
            marks: marks.iter().map(|&mark| mark.to_owned()).collect(),
            gate_overridden: false,
            seeds_at_most: None,
            aliases: Vec::new(),
        };
        let measured = Tally::new(&entry(&["kept", "gone"]));
        let stamp = crate::data::Stamp { command: String::new(), build: String::new(), seeds: None };
        let row = Row { name: "usual/a".to_owned(), stamp, measured };
        let failed = |marks: &[&str]| {
            let mut checked = Checked::default();
            let catalog = serde_json::to_string(&[entry(marks)]).unwrap();
            declares(&Catalog::read(&catalog).unwrap(), &row, &mut checked);
            checked.failed
        };
        assert_eq!(failed(&["gone", "kept"]), [""; 0]);
        assert_eq!(
            failed(&["kept", "new"]),
            [
                "usual/a was measured when its scenario did not declare the mark `new`",
                "usual/a was measured when its scenario still declared the mark `gone`",
            ]
        );
    }

    #[test]
    fn a_document_or_a_picture_that_was_changed_by_hand_is_red() {
        let root = std::env::temp_dir().join(format!("miroir-report-{}", std::process::id()));
        fs::create_dir_all(root.join("docs/pictures")).unwrap();
        let rendered = [("docs/a.md", "| 18 |\n"), ("docs/pictures/b.svg", "<circle r=\"3\"/>\n")]
            .map(|(path, text)| Rendered { path, text: text.to_owned() });
        let check = || {
            let mut checked = Checked::default();
            rendered.iter().for_each(|it| checked.compare(&root, it));
            checked
        };
        assert_eq!(check().failed.len(), 2, "nothing stands there yet");
        rendered.iter().for_each(|it| fs::write(root.join(it.path), &it.text).unwrap());
        assert_eq!((check().passed, check().failed.len()), (2, 0));
        fs::write(root.join("docs/a.md"), "| 17 |\n").unwrap();
        fs::write(root.join("docs/pictures/b.svg"), "<circle r=\"4\"/>\n").unwrap();
        let wanted = [
            "docs/a.md, line 1: `| 17 |` should be `| 18 |`",
            "docs/pictures/b.svg, line 1: `<circle r=\"4\"/>` should be `<circle r=\"3\"/>`",
        ];
        assert_eq!(check().failed, wanted);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_stamped_command_is_read_again() {
        let read = overrides("cargo xtask sweep a --seeds 0..9 --profile storm --set x=1 --set y=2/3");
        assert_eq!((read.profile.as_deref(), read.set), (Some("storm"), vec!["x=1".to_owned(), "y=2/3".to_owned()]));
    }

    #[test]
    fn a_template_is_filled() {
        assert_eq!(fill("a {{x}} b\n", &[("x", "1\n".to_owned())]), "a 1 b\n");
    }
}
