//! One seed in two processes: the whole traces are compared, event by event.
//!
//! A trace hash says *that* two runs differ. The comparison names the first event that does, with what came before it in
//! both and what each did next, because that is where somebody has to look.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use miroir_sim::verdict::Verdict;

use crate::exit::Failure;
use crate::record::Recorded;
use crate::worker::{Job, Worker};

/// How many equal events are shown before the first that differs, and how many of each run from there on.
const NEIGHBOURS: usize = 3;

/// Two traces, compared.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal {
        events: u64,
    },
    Differs {
        /// The first event that differs, counted from 1.
        event: u64,
        /// The last events that both runs share.
        before: Vec<String>,
        /// What the first run did from there on; empty when it had ended.
        first: Vec<String>,
        second: Vec<String>,
    },
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison::Differs { event, before, first, second } = self else {
            return f.write_str("the traces are equal");
        };
        writeln!(f, "event {event} is the first that differs:")?;
        before.iter().try_for_each(|line| writeln!(f, "  both    {line}"))?;
        for (name, lines) in [("first ", first), ("second", second)] {
            if lines.is_empty() {
                writeln!(f, "  {name}  (the trace ends here)")?;
            }
            lines.iter().try_for_each(|line| writeln!(f, "  {name}  {line}"))?;
        }
        Ok(())
    }
}

/// Reads two traces side by side, one line per event, holding only the neighbours in memory.
pub fn compare(first: impl BufRead, second: impl BufRead) -> io::Result<Comparison> {
    let (mut first, mut second) = (first.lines(), second.lines());
    let mut before: Vec<String> = Vec::new();
    let mut events = 0;
    loop {
        match (first.next().transpose()?, second.next().transpose()?) {
            (None, None) => return Ok(Comparison::Equal { events }),
            (Some(one), Some(other)) if one == other => {
                events += 1;
                if before.len() == NEIGHBOURS {
                    before.remove(0);
                }
                before.push(one);
            }
            (one, other) => {
                let rest = |head: Option<String>, tail: &mut dyn Iterator<Item = io::Result<String>>| {
                    head.map(Ok).into_iter().chain(tail).take(NEIGHBOURS).collect::<io::Result<Vec<_>>>()
                };
                let (first, second) = (rest(one, &mut first)?, rest(other, &mut second)?);
                return Ok(Comparison::Differs { event: events + 1, before, first, second });
            }
        }
    }
}

/// What two runs of one seed say together.
pub struct Twice {
    /// The first run's record, unless the two diverged: then that is the verdict.
    pub run: Recorded,
    /// How they differ, or how much was compared.
    pub text: String,
}

/// Runs `job` in two processes and compares their traces, which are kept in `folder` only if they differ.
pub fn run(worker: &Worker, job: &Job, folder: &Path) -> Result<Twice, Failure> {
    let traces = [folder.join("events-first.log"), folder.join("events-second.log")];
    let record = |job: &Job| Recorded::of(job.scenario, job.seed, &worker.record(job, None)?);
    let one = record(&Job { events: Some(&traces[0]), ..job.clone() })?;
    let other = record(&Job { events: Some(&traces[1]), out: None, ..job.clone() })?;

    if !one.agrees_with(&other) && one.record.verdict.max(other.record.verdict) == Verdict::Crashed {
        let text =
            format!("diverged: {} once, {} once ({}; {})", one.said(), other.said(), one.reason(), other.reason());
        return Ok(Twice { run: one.diverged(text.clone()), text });
    }
    if one.record.verdict == Verdict::Crashed {
        let text = format!("not compared: both runs crashed ({}; {})", one.reason(), other.reason());
        return Ok(Twice { run: one, text });
    }

    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(|e| Failure::io("read", path.display(), &e));
    let comparison =
        compare(open(&traces[0])?, open(&traces[1])?).map_err(|e| Failure::io("read", "the traces", &e))?;
    let text = match &comparison {
        Comparison::Equal { events: 0 } => "diverged: the traces hold no event, so nothing was compared".to_owned(),
        Comparison::Equal { events } if one.agrees_with(&other) => {
            let _ = traces.iter().try_for_each(fs::remove_file);
            let text = format!("deterministic: {events} events, trace hash {}", one.record.trace_hash);
            return Ok(Twice { run: one, text });
        }
        Comparison::Equal { events } => {
            format!("diverged: {events} equal events, but {} once, {} once", one.said(), other.said())
        }
        Comparison::Differs { .. } => format!("diverged: {comparison}traces kept in {}", folder.display()),
    };
    let fingerprint = text.lines().next().unwrap_or_default().to_owned();
    Ok(Twice { run: one.diverged(fingerprint), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first: &str, second: &str) -> Comparison {
        compare(first.as_bytes(), second.as_bytes()).unwrap()
    }

    #[test]
    fn equal_traces_are_counted() {
        assert_eq!(of("a\nb\n", "a\nb\n"), Comparison::Equal { events: 2 });
        assert_eq!(of("", ""), Comparison::Equal { events: 0 });
    }

    #[test]
    fn the_first_difference_comes_with_its_neighbours() {
        let comparison = of("1\n2\n3\n4\nx\n6\n7\n8\n", "1\n2\n3\n4\ny\n6\n");
        let Comparison::Differs { event, before, first, second } = &comparison else { panic!("{comparison:?}") };
        assert_eq!(*event, 5);
        assert_eq!(before, &["2", "3", "4"]);
        assert_eq!(first, &["x", "6", "7"]);
        assert_eq!(second, &["y", "6"]);
    }

    #[test]
    fn a_trace_that_ends_early_differs_where_it_ends() {
        let comparison = of("1\n2\n", "1\n");
        assert!(matches!(&comparison, Comparison::Differs { event: 2, second, .. } if second.is_empty()));
        assert!(comparison.to_string().contains("second  (the trace ends here)"), "{comparison}");
    }
}
