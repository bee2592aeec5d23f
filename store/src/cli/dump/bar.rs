//! How far a long command has come, on a terminal.

use indicatif::ProgressBar;

use crate::cli::print;
use crate::dump::progress::{Phase, Progress, Step};

/// Phase, bytes, documents, rate, and how long it will take once that can be said; nothing where nobody looks on.
pub struct Bar {
    bar: ProgressBar,
    phase: Option<Phase>,
}

impl Bar {
    pub fn new() -> Bar {
        let style = "{prefix:8} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}{msg}, {eta} left";
        Bar { bar: print::bar(Some(0), style), phase: None }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn on(&mut self, Step { phase, bytes, of_bytes, documents }: Step) {
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            self.bar.reset();
            self.bar.set_prefix(phase.name());
        }
        self.bar.set_length(of_bytes.max(bytes));
        self.bar.set_position(bytes);
        let rate = documents as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!(", {documents} documents, {rate:.0}/s"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_phase_bytes_and_documents() {
        let mut bar = Bar::new();
        let shown = |bar: &Bar| (bar.bar.prefix(), bar.bar.position(), bar.bar.length());
        for (phase, bytes, of_bytes) in
            [(Phase::Stage, 5, 90), (Phase::Stage, 90, 90), (Phase::Commit, 7, 70), (Phase::Measure, 3, 0)]
        {
            bar.on(Step { phase, bytes, of_bytes, documents: bytes });
            // Without a total there is no time left to be told, but a bar all the same.
            assert_eq!(shown(&bar), (phase.name().to_owned(), bytes, Some(of_bytes.max(bytes))));
            assert!(bar.bar.message().starts_with(&format!(", {bytes} documents, ")), "{}", bar.bar.message());
        }
        bar.end();
    }
}
