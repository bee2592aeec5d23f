//! What the largest runs take of the machine.

use crate::data::Row;
use crate::report::tables::{Table, number};
use crate::sweep::{Most, Tally};

use super::{coverage, not_yet};

/// The scenario that has limits, and what they are.
const MILLION: &str = "cutover/loss_rate_1m_ae_on";
const WALL_MS: u64 = 60_000;
const PEAK_KIB: u64 = 2 << 20;

pub fn section(rows: &[Row<Tally>], volume: &[(String, u64)]) -> String {
    let is_volume = |row: &&Row<Tally>| volume.iter().any(|(id, _)| id == coverage::parts(&row.name).1);
    let rows: Vec<_> = rows.iter().filter(is_volume).filter(|row| row.measured.most != Most::default()).collect();
    if rows.is_empty() {
        return not_yet("cargo xtask qualify coverage");
    }
    let header =
        ["scenario", "profile", "seeds", "acked, largest run", "wall time, slowest run", "memory, largest run"];
    let mut table = Table::new(&header, |column| column > 1);
    for Row { name, measured, .. } in rows {
        let (profile, id) = coverage::parts(name);
        let Most { acked, wall_ms, peak_kib } = measured.most;
        let limited = |over: bool, text: String| if id == MILLION && over { format!("**{text}**") } else { text };
        let wall = limited(wall_ms > WALL_MS, format!("{:.1} s", wall_ms as f64 / 1e3));
        let peak = limited(peak_kib > PEAK_KIB, format!("{} MiB", number(peak_kib.div_ceil(1_024))));
        table.row([id.to_owned(), profile.to_owned(), number(measured.seeds()), number(acked), wall, peak]);
    }
    table.text()
}

/// What follows for runs of a million writes.
pub fn follows(rows: &[Row<Tally>]) -> Vec<String> {
    let rows = rows.iter().filter(|row| coverage::parts(&row.name).1 == MILLION).map(|row| &row.measured);
    let rows: Vec<&Tally> = rows.filter(|measured| measured.most != Most::default()).collect();
    let most = |of: fn(&Most) -> u64| rows.iter().map(|measured| of(&measured.most)).max();
    let (Some(acked), Some(wall_ms), Some(peak_kib)) =
        (most(|it| it.acked), most(|it| it.wall_ms), most(|it| it.peak_kib))
    else {
        return Vec::new();
    };
    let kept = wall_ms <= WALL_MS && peak_kib <= PEAK_KIB;
    let claim = if kept { "A million writes fit into one run" } else { "**A million writes take too much**" };
    vec![format!(
        "{claim} (`{MILLION}`): {} acknowledged writes in the largest, {:.1} s of wall time in the slowest beside another one \
         (promised: at most {} s), {} MiB in the largest (promised: at most {}).",
        number(acked),
        wall_ms as f64 / 1e3,
        WALL_MS / 1_000,
        number(peak_kib.div_ceil(1_024)),
        number(PEAK_KIB / 1_024),
    )]
}
