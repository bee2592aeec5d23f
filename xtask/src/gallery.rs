//! `cargo xtask gallery`: what failures look like, for `docs/gallery.md` and the README.
//!
//! Each saved plan of a planted bug gives one section: what is planted, the plan, the explanation, the picture. All of it comes from
//! running the plan now; only the pictures need a browser. `cargo xtask test docs` runs the plans again and draws nothing: times
//! move with every change of the store, but what happened has to be what the document says.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::browser::Browser;
use crate::bundle::Bundle;
use crate::docs::Checked;
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::mutants::list;
use crate::print::{note, out};
use crate::runs;
use crate::sweep::regressions;
use crate::worker::{Build, Worker};
use crate::workspace::Workspace;

/// The document, and the folder of its pictures beside it.
const DOCUMENT: &str = "docs/gallery.md";
const PICTURES: &str = "docs/gallery";

/// The part of the README that shows one of them, and whose it is.
const README: &str = "README.md";
const BEGIN: &str = "<!-- from here on: cargo xtask gallery -->";
const END: &str = "<!-- to here -->";
const SHOWN: &str = "M05";

/// Size of a picture, in pixels.
const SIZE: (u32, u32) = (1_280, 800);

const HEAD: &str = "# What a failure looks like

Bugs planted on purpose, each found by `cargo xtask sweep --mutant M..`, made small by `cargo xtask shrink`, and told by
`cargo xtask explain`; the pictures are `report.html` of the same runs. `cargo xtask gallery` writes this page from the plans in
`scenarios/regressions`.
";

/// One planted bug, run and explained.
struct Exhibit {
    mutant: String,
    /// The plan, from the root of the workspace.
    path: PathBuf,
    story: String,
    page: PathBuf,
}

/// The documents as they should be.
struct Rendered {
    gallery: String,
    readme: String,
}

/// Renders the documents and their pictures.
pub fn run(workspace: &Workspace, build: Build) -> Result<ExitCode, Failure> {
    let worker = Worker::build(workspace, build)?;
    let exhibits = exhibits(workspace, &worker)?;
    let root = workspace.root();
    match Browser::find(workspace) {
        None => note("there is no chromium in the path: the pictures stay as they are"),
        Some(browser) => {
            let folder = root.join(PICTURES);
            fs::create_dir_all(&folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
            for exhibit in &exhibits {
                browser.screenshot(&exhibit.page, "", SIZE, &folder.join(picture(&exhibit.path)))?;
            }
        }
    }
    let Rendered { gallery, readme } = render(root, &exhibits)?;
    for (path, text) in [(DOCUMENT, gallery), (README, readme)] {
        fs::write(root.join(path), text).map_err(|error| Failure::io("write", path, &error))?;
        out(format!("wrote {path}"));
    }
    Ok(ExitCode::AsExpected)
}

/// Whether the documents tell what happens now, whatever the times.
pub fn check(workspace: &Workspace, worker: &Worker) -> Result<Checked, Failure> {
    let root = workspace.root();
    let exhibits = exhibits(workspace, worker)?;
    let Rendered { gallery, readme } = render(root, &exhibits)?;
    let mut checked = Checked::default();
    for (path, text) in [(DOCUMENT, gallery), (README, readme)] {
        let stands = fs::read_to_string(root.join(path)).unwrap_or_default();
        match differing_line(&stands, &text) {
            None => checked.passed += 1,
            Some(line) => checked.failed.push(format!("{path} is stale, line {line}; `cargo xtask gallery` writes it")),
        }
    }
    for path in exhibits.iter().map(|exhibit| Path::new(PICTURES).join(picture(&exhibit.path))) {
        match root.join(&path).exists() {
            true => checked.passed += 1,
            false => checked.failed.push(format!("there is no {}; `cargo xtask gallery` draws it", path.display())),
        }
    }
    Ok(checked)
}

/// The number of the first line that differs by more than times and versions.
fn differing_line(one: &str, other: &str) -> Option<usize> {
    let (mut one, mut other) = (one.lines(), other.lines());
    for number in 1.. {
        match (one.next(), other.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if without_numbers(a) == without_numbers(b) => {}
            _ => return Some(number),
        }
    }
    None
}

fn without_numbers(line: &str) -> String {
    let plain = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_version = bare.starts_with('v') && bare.contains(':');
        if is_number || is_version { String::new() } else { word.to_owned() }
    };
    line.split_whitespace().map(plain).collect::<Vec<_>>().join(" ")
}

/// Runs every saved plan of a planted bug.
fn exhibits(workspace: &Workspace, worker: &Worker) -> Result<Vec<Exhibit>, Failure> {
    let mut exhibits = Vec::new();
    for path in regressions::files(workspace.root()) {
        let bundle = Bundle::read(&workspace.root().join(&path))?;
        let Some(mutant) = bundle.mutant.clone() else { continue };
        let folder = runs::claim(&workspace.kept().join("runs"), &format!("gallery-{mutant}"))?;
        let (story, page) = explain::kept(worker, &bundle, &folder)?;
        runs::keep(&folder)?;
        exhibits.push(Exhibit { mutant, path, story, page });
    }
    Ok(exhibits)
}

fn render(root: &Path, exhibits: &[Exhibit]) -> Result<Rendered, Failure> {
    let list = list::load(root)?;
    let mut gallery = HEAD.to_owned();
    for exhibit in exhibits {
        let source = root.join(&exhibit.path);
        let source = fs::read_to_string(&source).map_err(|error| Failure::io("read", source.display(), &error))?;
        let (id, plan) = (&exhibit.mutant, exhibit.path.display());
        let _ = write!(gallery, "\n## {id}");
        if let Some(mutant) = list.mutants.iter().find(|mutant| mutant.id == *id) {
            let _ = write!(gallery, ": {}\n\nSeen in {}.", mutant.does, mutant.seen_in);
        }
        let _ = write!(
            gallery,
            " Plan: [{plan}](../{plan}), of which this matters:\n\n```toml\n{}\n```\n",
            shown(&source).join("\n")
        );
        let _ = write!(gallery, "\n{}", told(exhibit, "gallery"));
    }
    let readme = fs::read_to_string(root.join(README)).map_err(|error| Failure::io("read", README, &error))?;
    let exhibit = exhibits.iter().find(|exhibit| exhibit.mutant == SHOWN);
    let part = exhibit.map_or(String::new(), |exhibit| told(exhibit, PICTURES));
    let readme = between(&readme, &part)
        .ok_or_else(|| Failure::refused(format!("{README} has no place for a failure: `{BEGIN}` to `{END}`")))?;
    Ok(Rendered { gallery, readme })
}

/// The command, its output, and the picture.
fn told(exhibit: &Exhibit, pictures: &str) -> String {
    let (plan, picture) = (exhibit.path.display(), picture(&exhibit.path));
    format!(
        "```console\ncargo xtask explain {plan}\n```\n\n```text\n{}\n```\n\n![the run of {}, where it went wrong]({pictures}/{})\n",
        exhibit.story.trim_end(),
        exhibit.mutant,
        picture.display()
    )
}

/// A document with another part between its marks.
fn between(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
}

fn picture(path: &Path) -> PathBuf {
    PathBuf::from(path.file_stem().unwrap_or_default()).with_extension("png")
}

/// What a plan is about: its load, its migrations and its faults.
fn shown(source: &str) -> Vec<&str> {
    let parts = ["[plan.workload]", "[[plan.migrations]]", "[[plan.sim.faults]]", "[plan.sim.faults"];
    let mut inside = false;
    let told = source.lines().filter(|line| {
        if line.starts_with('[') {
            inside = parts.iter().any(|part| line.starts_with(part));
        }
        inside && !line.is_empty()
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_by_what_it_is_about() {
        let source = "# x\na = 1\n\n[plan.cluster]\nnodes = 4\n\n[plan.workload]\nscript = []\n\n[[plan.sim.faults]]\nid = 'f'\n[plan.sim.faults.at]\nms = 1\n[plan.timing]\nb = 1\n";
        let expected =
            ["[plan.workload]", "script = []", "[[plan.sim.faults]]", "id = 'f'", "[plan.sim.faults.at]", "ms = 1"];
        assert_eq!(shown(source), expected);
        assert_eq!(picture(Path::new("scenarios/regressions/m05-x.toml")), Path::new("m05-x.png"));
    }

    #[test]
    fn a_part_stands_between_its_marks() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(between(&text, "new\n"), Some(format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n")));
        assert_eq!(between("a\n", "new\n"), None);
    }

    #[test]
    fn times_and_versions_may_differ_and_nothing_else() {
        assert_eq!(differing_line("x\n0.081 s  n1 MISSES v1:f2d9\n", "x\n0.0799 s  n1 MISSES v2:aa\n"), None);
        assert_eq!(differing_line("x\n0.081 s  n1 MISSES v1:ab\n", "x\n0.081 s  n2 MISSES v1:ab\n"), Some(2));
        assert_eq!(differing_line("x\n", "x\ny\n"), Some(2));
    }
}
