//! What a run has reached: marks in the code under test, and the matrix of phases and faults.
//!
//! A mark is an ordinary `tracing` event with target [`TARGET`] and the fields `kind` and `name`, so code under test needs nothing from here:
//! it may emit such events with macros of its own. [`MarkLayer`] counts them per OS thread, as one run is one thread, and ignores everything
//! else at the call site, for the executor emits many events.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::plan::FaultKind;

/// Target of the tracing events that are marks.
pub const TARGET: &str = "miroir::mark";

/// Asserts that a condition holds, always; counts how often it was looked at. Panics otherwise, which makes the run `Crashed`.
#[macro_export]
macro_rules! always {
    ($condition:expr, $name:literal) => {{
        $crate::__tracing::event!(target: "miroir::mark", $crate::__tracing::Level::TRACE, kind = "always", name = $name);
        assert!($condition, "always: {}", $name);
    }};
}

/// Marks something that has to happen in some runs: `sometimes!("read repaired")`, or with a condition first.
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {
        $crate::__tracing::event!(target: "miroir::mark", $crate::__tracing::Level::TRACE, kind = "sometimes", name = $name)
    };
    ($condition:expr, $name:literal) => {
        if $condition {
            $crate::sometimes!($name)
        }
    };
}

/// Marks a place that some run has to reach.
#[macro_export]
macro_rules! reachable {
    ($name:literal) => {
        $crate::__tracing::event!(target: "miroir::mark", $crate::__tracing::Level::TRACE, kind = "reachable", name = $name)
    };
}

/// How often each mark was reached, by name.
pub type Marks = BTreeMap<String, u64>;

static COUNTING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static MARKS: RefCell<Marks> = const { RefCell::new(BTreeMap::new()) };
    static FIRST: RefCell<Option<FirstObserver>> = const { RefCell::new(None) };
}

/// Installs [`MarkLayer`] as the global subscriber, once. Call it from the main thread before any run; the layer would otherwise be met by
/// call sites that were first used without it. Does nothing if there is a global subscriber already.
pub fn init() {
    static INSTALLED: Once = Once::new();
    COUNTING.store(true, Ordering::Relaxed);
    INSTALLED.call_once(|| {
        let _already = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(MarkLayer));
    });
}

/// True if marks are counted in this process, as far as is known: [`init`] was called.
pub fn counting() -> bool {
    COUNTING.load(Ordering::Relaxed)
}

/// Takes the marks counted on this thread since the last time.
pub fn take_marks() -> Marks {
    MARKS.take()
}

/// Whether a mark was counted on this thread since the marks were last taken.
pub fn is_reached(name: &str) -> bool {
    MARKS.with_borrow(|marks| marks.contains_key(name))
}

/// Counts a mark on this thread; what the layer does with an event, for callers without `tracing`.
pub fn count_mark(name: &str) {
    let first = MARKS.with_borrow_mut(|marks| match marks.get_mut(name) {
        Some(count) => {
            *count += 1;
            false
        }
        None => {
            marks.insert(name.to_owned(), 1);
            true
        }
    });
    if first {
        FIRST.with_borrow_mut(|observer| {
            if let Some(observer) = observer {
                observer(name);
            }
        });
    }
}

/// Who is told on this thread when a mark is reached for the first time. It must not reach marks itself.
#[cfg(madsim)]
pub(crate) fn on_first(observer: Option<FirstObserver>) {
    FIRST.set(observer);
}

type FirstObserver = Box<dyn FnMut(&str)>;

/// Counts marks; never interested in anything else.
#[derive(Clone, Copy, Debug)]
pub struct MarkLayer;

impl<S: Subscriber> Layer<S> for MarkLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Name;
        impl Visit for Name {
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "name" {
                    count_mark(value);
                }
            }
            fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
        }
        event.record(&mut Name);
    }
}

/// How often each kind of fault began in each phase: the pairs that a sweep has covered, and those it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Matrix(BTreeMap<String, BTreeMap<String, u64>>);

impl Matrix {
    /// A fault of this kind began while the last signal was `phase`.
    pub fn count(&mut self, phase: &str, kind: &str) {
        *self.0.entry(phase.to_owned()).or_default().entry(kind.to_owned()).or_default() += 1;
    }

    /// How often that was.
    pub fn get(&self, phase: &str, kind: &str) -> u64 {
        self.0.get(phase).and_then(|kinds| kinds.get(kind)).copied().unwrap_or(0)
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Matrix) {
        for (phase, kinds) in &other.0 {
            for (kind, count) in kinds {
                *self.0.entry(phase.clone()).or_default().entry(kind.clone()).or_default() += count;
            }
        }
    }

    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How often this kind began, in any phase.
    pub fn total(&self, kind: &str) -> u64 {
        self.0.values().filter_map(|kinds| kinds.get(kind)).sum()
    }

    /// One line per kind of fault, one column per phase. A kind that never began needs a reason, from `(kind, why)`; the second result lists those
    /// that have none.
    pub fn table(&self, reasons: &[(&str, &str)]) -> (String, Vec<&'static str>) {
        let phases: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let width = |phase: &str| phase.chars().count().max(6);
        let mut text = format!("{:<16}", "fault");
        phases.iter().for_each(|phase| text += &format!("  {phase:>0$}", width(phase)));
        text += "\n";
        let mut unexplained = Vec::new();
        for kind in FaultKind::NAMES {
            text += &format!("{kind:<16}");
            if self.total(kind) > 0 {
                phases.iter().for_each(|phase| text += &format!("  {:>1$}", self.get(phase, kind), width(phase)));
            } else if let Some((_, why)) = reasons.iter().find(|(known, _)| *known == kind) {
                text += &format!("  never: {why}");
            } else {
                text += "  never, and nobody says why";
                unexplained.push(kind);
            }
            text += "\n";
        }
        (text, unexplained)
    }

    /// Phases, each with its faults and counts, sorted.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, u64>)> {
        self.0.iter().map(|(phase, kinds)| (phase.as_str(), kinds))
    }
}

/// The coverage of many runs: how often each mark was reached, in how many runs, and the matrix of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Runs added.
    pub runs: u64,
    /// Runs that reached the mark, and how often it was reached in all.
    pub marks: BTreeMap<String, (u64, u64)>,
    /// Faults by phase, over all runs.
    pub matrix: Matrix,
}

impl Coverage {
    /// Adds one run.
    pub fn add(&mut self, marks: &Marks, matrix: &Matrix) {
        self.runs += 1;
        for (name, times) in marks {
            let (runs, total) = self.marks.entry(name.clone()).or_default();
            *runs += 1;
            *total += times;
        }
        self.matrix.merge(matrix);
    }

    /// Adds what was counted elsewhere, for instance in another partition of a sweep.
    pub fn merge(&mut self, other: &Coverage) {
        self.runs += other.runs;
        for (name, (runs, times)) in &other.marks {
            let (all_runs, all_times) = self.marks.entry(name.clone()).or_default();
            *all_runs += runs;
            *all_times += times;
        }
        self.matrix.merge(&other.matrix);
    }

    /// Which of the declared marks no run has reached.
    pub fn unreached<'a>(&self, declared: &[&'a str]) -> Vec<&'a str> {
        declared.iter().copied().filter(|name| !self.marks.contains_key(*name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "counts are per thread, so the test needs a second one")]
    fn marks_are_counted_per_thread_and_nothing_else_is() {
        init();
        let marks = std::thread::spawn(|| {
            for round in 0..3 {
                crate::sometimes!("a round");
                crate::sometimes!(round == 2, "the last round");
                crate::sometimes!(round == 9, "never");
                crate::always!(round < 3, "rounds end");
                tracing::error!(name = "not a mark", "{round}");
            }
            crate::reachable!("the end");
            take_marks()
        });
        crate::reachable!("elsewhere");
        let marks = marks.join().expect("counts");
        let expected = [("a round", 3), ("rounds end", 3), ("the end", 1), ("the last round", 1)];
        assert_eq!(marks, expected.map(|(name, count)| (name.to_owned(), count)).into());
        assert!(take_marks().contains_key("elsewhere"));
        assert!(take_marks().is_empty());
    }

    #[test]
    #[should_panic(expected = "always: water is dry")]
    fn always_means_always() {
        crate::always!(false, "water is dry");
    }

    #[test]
    fn the_matrix_adds_up() {
        let (mut one, mut two) = (Matrix::default(), Matrix::default());
        one.count("Drain", "crash");
        two.count("Drain", "crash");
        two.count("Joint", "pause");
        one.merge(&two);
        assert_eq!((one.get("Drain", "crash"), one.get("Joint", "pause"), one.get("Joint", "crash")), (2, 1, 0));
        assert_eq!(serde_json::to_string(&one).expect("JSON"), r#"{"Drain":{"crash":2},"Joint":{"pause":1}}"#);
    }

    #[test]
    fn coverage_is_merged_over_runs_and_partitions() {
        let marks = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 2)).collect::<Marks>();
        let (mut one, mut two) = (Coverage::default(), Coverage::default());
        one.add(&marks(&["a"]), &Matrix::default());
        one.add(&marks(&["a", "b"]), &Matrix::default());
        let mut matrix = Matrix::default();
        matrix.count("Drain", "crash");
        two.add(&marks(&["b"]), &matrix);
        one.merge(&two);
        assert_eq!((one.runs, one.marks["a"], one.marks["b"]), (3, (2, 4), (2, 4)));
        assert_eq!(one.unreached(&["a", "c"]), ["c"]);
        let (table, unexplained) = one.matrix.table(&[("wipe", "nobody can take it")]);
        assert!(table.starts_with("fault              Drain\ncrash                  1\n"), "{table}");
        assert!(table.contains("wipe              never: nobody can take it\n"), "{table}");
        assert_eq!(unexplained.len(), FaultKind::NAMES.len() - 2);
    }
}
