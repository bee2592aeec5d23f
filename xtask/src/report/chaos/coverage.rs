//! Every scenario in the profiles usual and storm: what ran, what it met, and what it found.

use miroir_scenarios::plan::NEVER_DRAWN;
use miroir_sim::coverage::Matrix;
use miroir_sim::plan::FaultKind;

use crate::data::Row;
use crate::report::rate::{self, percent};
use crate::report::tables::{Table, ms, number};
use crate::sweep::Tally;

use super::{bullets, not_yet, stage_place};

/// Those in which every scenario runs.
const PROFILES: [&str; 2] = ["usual", "storm"];

/// Frames that did not arrive: lost on a link, sent to a process that was down, or over a link that was cut.
const LOST_FRAMES: [&str; 3] = ["drop", "drop_down", "drop_cut"];

/// Where a row stands: as the scenarios are listed, the profiles of each together.
pub fn place(scenarios: &[String], name: &str) -> (usize, usize, String) {
    let (profile, id) = parts(name);
    let of = |found: Option<usize>| found.unwrap_or(usize::MAX);
    let scenario = scenarios.iter().position(|scenario| scenario == id);
    (of(scenario), of(PROFILES.iter().position(|it| *it == profile)), name.to_owned())
}

/// Profile and scenario of a row.
pub fn parts(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("", name))
}

pub fn table(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify coverage");
    }
    let header = [
        "scenario",
        "profile",
        "seeds",
        "as expected",
        "acked",
        "refused or unknown",
        "planned faults",
        "lost frames",
        "transient",
        "superseded",
        "permanent",
        "longest window",
        "loss",
        "marks",
    ];
    let mut table = Table::new(&header, |column| column > 1);
    for Row { name, measured, .. } in rows {
        let (profile, id) = parts(name);
        let windows = &measured.windows;
        let faults = planned(measured);
        let frames = LOST_FRAMES.iter().filter_map(|kind| measured.faults.get(*kind)).sum();
        let passed = measured.seeds() - measured.failing().len() as u64;
        let declared = measured.declared().len();
        let reached = declared - measured.unreached().len();
        let numbers = [measured.seeds(), passed, measured.acked, measured.rejected + measured.unknown, faults, frames];
        let windows_of_a_kind = [windows.transient, windows.superseded, windows.permanent];
        let longest = if windows.max_ns == 0 { "-".to_owned() } else { ms(windows.max_ns) };
        let cells = numbers.into_iter().chain(windows_of_a_kind).map(number);
        let ends = [longest, loss(measured), format!("{reached} of {declared}")];
        table.row([id.to_owned(), profile.to_owned()].into_iter().chain(cells).chain(ends));
    }
    table.text()
}

/// Planned faults that struck.
fn planned(measured: &Tally) -> u64 {
    FaultKind::NAMES.iter().map(|kind| measured.matrix.total(kind)).sum()
}

/// The share of acknowledged writes that had a window, or what bounds it.
fn loss(measured: &Tally) -> String {
    let rate = rate::of(measured);
    match measured.lost.writes {
        0 if measured.acked == 0 => "-".to_owned(),
        0 => format!("below {}", percent(rate.high)),
        _ => format!("{} to {}", percent(rate.low), percent(rate.high)),
    }
}

/// Which scenarios run with fewer seeds than the others, and why.
pub fn fewer(volume: &[(String, u64)]) -> String {
    let named: Vec<String> = volume.iter().map(|(id, seeds)| format!("`{id}` ({})", number(*seeds))).collect();
    match named.as_slice() {
        [] => String::new(),
        _ => format!("Scenarios of volume take seconds for a seed and run with fewer: {}.", named.join(", ")),
    }
}

/// Which scenarios plan no faults: not even in storms, in which every other one does.
pub fn without_faults(rows: &[Row<Tally>]) -> String {
    let storms = rows.iter().filter(|row| parts(&row.name).0 == PROFILES[1]);
    let calm = storms.filter(|row| planned(&row.measured) == 0);
    let named: Vec<String> = calm.map(|row| format!("`{}`", parts(&row.name).1)).collect();
    match named.as_slice() {
        [] => String::new(),
        _ => format!("These plan no faults in either profile, as they measure something else: {}.", named.join(", ")),
    }
}

/// Which fault began in which stage, all rows together, and why some never did.
pub fn matrix(rows: &[Row<Tally>]) -> String {
    if rows.is_empty() {
        return not_yet("cargo xtask qualify coverage");
    }
    let mut whole = Matrix::default();
    rows.iter().for_each(|row| whole.merge(&row.measured.matrix));
    let mut phases: Vec<&str> = whole.rows().map(|(phase, _)| phase).collect();
    phases.sort_by_key(|phase| stage_place(phase));
    let header: Vec<&str> = ["fault"].into_iter().chain(phases.iter().copied()).collect();
    let mut table = Table::new(&header, |column| column > 0);
    for kind in FaultKind::NAMES {
        let counts = phases.iter().map(|phase| number(whole.get(phase, kind)));
        table.row([kind.to_owned()].into_iter().chain(counts));
    }
    let never = FaultKind::NAMES.into_iter().filter(|kind| whole.total(kind) == 0);
    let lines: Vec<String> = never.map(|kind| format!("{kind}: never, {}", why_never(kind))).collect();
    format!("{}\n{}", table.text(), bullets(lines))
}

/// As at the end of a sweep.
fn why_never(kind: &str) -> &'static str {
    let known = NEVER_DRAWN.iter().find(|(known, _)| *known == kind);
    known.map_or("drawn for other seeds, scenarios or profiles", |(_, why)| *why)
}
