//! What somebody who looks on is told.

use miroir_store::dump::export;
use miroir_store::dump::import::import;
use miroir_store::dump::layout::Version;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{IfExists, Mode, Options, Pending, analyse};
use miroir_store::dump::progress::{Phase, Progress, Step};
use miroir_store::dump::target::embedded::{Embedded, at_once};

use crate::build::{DATE, Dump, Kind};
use crate::support::Scratch;

#[derive(Default)]
struct Told(Vec<Step>);

impl Progress for Told {
    fn on(&mut self, step: Step) {
        self.0.push(step);
    }
}

impl Told {
    /// The phases in their order; in each, bytes and documents grow, up to what was said that there is.
    fn phases(&self, name: &str) -> Vec<Phase> {
        let mut phases = Vec::new();
        for steps in self.0.chunk_by(|one, next| one.phase == next.phase) {
            phases.push(steps[0].phase);
            for pair in steps.windows(2) {
                assert!(pair[0].bytes <= pair[1].bytes, "{name}: {pair:?}");
                assert_eq!(pair[0].of_bytes, pair[1].of_bytes, "{name}: {pair:?}");
            }
            let last = steps.last().expect("a phase has a step");
            match last.phase {
                // How much there is is what this phase finds out.
                Phase::Measure => assert_eq!(last.of_bytes, 0, "{name}: {last:?}"),
                Phase::Commit | Phase::Export => assert_eq!(last.bytes, last.of_bytes, "{name}: {last:?}"),
                _ => assert!(0 < last.bytes && last.bytes <= last.of_bytes, "{name}: {last:?}"),
            }
        }
        phases
    }
}

#[test]
fn every_phase_tells_how_far_it_is_and_how_far_it_goes() {
    let documents: Vec<String> = (0..40).map(|n| format!("{{\"id\":{n},\"title\":\"film {n}\"}}")).collect();
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let dump = Dump::of(Version::V6).documents(&documents).task("films", Kind::Add("{\"id\":77}\n")).pack();
    let limits = Limits { batch_documents: 4, ..Limits::default() };
    let of = |mode, if_exists, pending| Options { mode, if_exists, pending, limits, ..Options::default() };
    let cases = [
        (of(None, IfExists::Overwrite, Pending::Replay), &[Phase::Analyse, Phase::Write, Phase::Replay][..]),
        (of(None, IfExists::Fail, Pending::Skip), &[Phase::Analyse, Phase::Compare, Phase::Write]),
        (
            of(Some(Mode::Broadcast), IfExists::Overwrite, Pending::Replay),
            &[Phase::Analyse, Phase::Stage, Phase::Commit, Phase::Replay],
        ),
    ];
    for (options, phases) in cases {
        let scratch = Scratch::new();
        let mut told = Told::default();
        let plan = analyse(&&dump[..], &options, &mut told).expect("a good dump");
        at_once(import(&&dump[..], &plan, &options, &mut Embedded(scratch.store()), &mut told)).expect("a good dump");
        assert_eq!(told.phases(&format!("{phases:?}")), phases);
        let commit = told.0.iter().filter(|step| step.phase == Phase::Commit);
        let mut documents: Vec<u64> = commit.map(|step| step.documents).collect();
        assert!(documents.is_sorted(), "{documents:?}");
        assert_eq!(documents.pop().unwrap_or(40), 40);

        let mut told = Told::default();
        let options = export::Options { date: DATE.to_owned(), ..export::Options::default() };
        let mut out = Vec::new();
        let done =
            at_once(export::export(&mut Embedded(scratch.store()), &options, &mut out, &mut told)).expect("an export");
        assert_eq!(told.phases("export"), [Phase::Measure, Phase::Export]);
        assert_eq!(told.0.last().expect("a step").documents, done.documents);
    }
}
