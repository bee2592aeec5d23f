//! `cargo xtask gallery`: what failures look like, for `docs/gallery.md`.
//!
//! Each saved plan of a planted bug gives one section: what is planted, the plan, the explanation, the picture. All of it comes from
//! running the plan now; only the pictures need a browser.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::browser::Browser;
use crate::bundle::Bundle;
use crate::exit::{ExitCode, Failure};
use crate::explain;
use crate::print::{note, out};
use crate::runs;
use crate::sweep::regressions;
use crate::worker::{Build, Worker};
use crate::workspace::Workspace;

/// The document, and the folder of its pictures beside it.
const DOCUMENT: &str = "docs/gallery.md";
const PICTURES: &str = "docs/gallery";

/// Size of a picture, in pixels.
const SIZE: (u32, u32) = (1_500, 900);

const HEAD: &str = "# What a failure looks like

Bugs planted on purpose, each found by `cargo xtask sweep --mutant M..`, made small by `cargo xtask shrink`, and told by
`cargo xtask explain`; the pictures are `report.html` of the same runs. `cargo xtask gallery` writes this page from the plans in
`scenarios/regressions`.
";

/// Renders the document and its pictures.
pub fn run(workspace: &Workspace, build: Build) -> Result<ExitCode, Failure> {
    let worker = Worker::build(workspace, build)?;
    let browser = Browser::find(workspace);
    if browser.is_none() {
        note("there is no chromium in the path: the pictures stay as they are");
    }
    let mut text = HEAD.to_owned();
    let folder = workspace.root().join(PICTURES);
    fs::create_dir_all(&folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
    for path in regressions::files(workspace.root()) {
        let bundle = Bundle::read(&workspace.root().join(&path))?;
        let Some(mutant) = bundle.mutant.clone() else { continue };
        out(format!("{mutant}: {}", path.display()));
        let kept = runs::claim(&workspace.kept().join("runs"), &format!("gallery-{mutant}"))?;
        let (story, page) = explain::kept(&worker, &bundle, &kept)?;
        runs::keep(&kept)?;
        let picture = picture(&path);
        if let Some(browser) = &browser {
            browser.screenshot(&page, "", SIZE, &workspace.root().join(PICTURES).join(&picture))?;
        }
        section(&mut text, workspace, &path, &mutant, &bundle, &story, &picture)?;
    }
    let document = workspace.root().join(DOCUMENT);
    fs::write(&document, text).map_err(|error| Failure::io("write", document.display(), &error))?;
    out(format!("wrote {DOCUMENT}"));
    Ok(ExitCode::AsExpected)
}

fn picture(path: &Path) -> PathBuf {
    PathBuf::from(path.file_stem().unwrap_or_default()).with_extension("png")
}

fn section(
    text: &mut String,
    workspace: &Workspace,
    path: &Path,
    mutant: &str,
    bundle: &Bundle,
    story: &str,
    picture: &Path,
) -> Result<(), Failure> {
    let (plan, name) = (path.display(), picture.display());
    let kills = bundle.fingerprint.as_deref().unwrap_or_default();
    let _ = write!(text, "\n## {mutant}\n\nPlan: [{plan}](../{plan}), fingerprint `{kills}`");
    let source = fs::read_to_string(workspace.root().join(path)).map_err(|error| Failure::io("read", &plan, &error))?;
    let plan_lines: Vec<&str> = shown(&source);
    let _ = write!(text, ".\n\n```toml\n{}\n```\n", plan_lines.join("\n"));
    let _ = write!(text, "\n```console\ncargo xtask explain {plan}\n```\n\n```text\n{}\n```\n", story.trim_end());
    let _ = write!(text, "\n![the run of {mutant}, from the write to the loss](gallery/{name})\n");
    Ok(())
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
}
