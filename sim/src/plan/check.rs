//! Checks a plan before anything runs, with errors that say which fault, which field, and what is allowed.

use std::collections::BTreeSet;
use std::fmt;

use super::locate::line_at;
use super::{Direction, Fault, FaultKind, NetworkPlan, Shape, SimPlan, When};
use crate::time::{MILLIS, Nanos, in_seconds};

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not TOML, or a field that does not exist or cannot be read.
    #[error("{}{problem}", field.as_ref().map(|field| format!("field `{field}`: ")).unwrap_or_default())]
    Malformed {
        /// Counted from 1.
        line: Option<usize>,
        /// The key on that line, if there is one.
        field: Option<String>,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A field of the network or disk part.
    #[error("{field}: {problem}")]
    Field {
        /// `network.latency_mean_us`
        field: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A field of one fault.
    #[error("fault `{fault}`, field `{field}`: {problem}")]
    Fault {
        /// Id of the fault.
        fault: String,
        /// The field in question.
        field: &'static str,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

impl SimPlan {
    /// Reads a plan written in TOML.
    pub fn from_toml(text: &str) -> Result<SimPlan, PlanError> {
        toml::from_str(text).map_err(|error| PlanError::malformed(text, &error))
    }

    /// Reads and checks the plan in `file`; the error names file, line and field.
    pub fn read<S: AsRef<str>>(file: &str, text: &str, processes: &[S], end: Nanos) -> Result<SimPlan, String> {
        let plan = SimPlan::from_toml(text).map_err(|error| error.in_file(file, text))?;
        plan.check(processes, end).map_err(|error| error.in_file(file, text))?;
        Ok(plan)
    }

    /// Writes it as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan holds nothing that TOML lacks")
    }

    /// Checks the plan against the processes there will be and the end of the fault phase (`Nanos::MAX` if there is none).
    pub fn check<S: AsRef<str>>(&self, processes: &[S], end: Nanos) -> Result<(), PlanError> {
        let known = Known { processes: processes.iter().map(AsRef::as_ref).collect() };
        self.network.check(&known)?;
        if self.disk.sync_mean_us < self.disk.sync_min_us {
            return Err(field(
                "disk.sync_mean_us",
                format!("{} is below sync_min_us = {}", self.disk.sync_mean_us, self.disk.sync_min_us),
            ));
        }
        let mut ids = BTreeSet::new();
        for fault in &self.faults {
            if !ids.insert(fault.id.as_str()) {
                return Err(fault.error("id", "is used twice; ids are unique".to_owned()));
            }
            fault.check(&known, end)?;
        }
        self.check_budget()
    }
}

impl PlanError {
    /// From the error of the TOML reader, with its place.
    pub fn malformed(text: &str, error: &toml::de::Error) -> PlanError {
        let start = error.span().map(|span| span.start);
        let line = start.map(|start| line_at(text, start));
        let key = line.and_then(|line| text.lines().nth(line - 1)).and_then(|line| line.split_once('='));
        let field = key.map(|(key, _)| key.trim().to_owned()).filter(|key| !key.starts_with(['[', '#']));
        PlanError::Malformed { line, field, problem: error.message().trim().to_owned() }
    }
}

struct Known<'a> {
    processes: Vec<&'a str>,
}

impl Known<'_> {
    fn check(&self, name: &str) -> Result<(), String> {
        if self.processes.contains(&name) {
            Ok(())
        } else {
            Err(format!("unknown process `{name}`; there are {}", self.processes.join(", ")))
        }
    }
}

fn field(field: impl Into<String>, problem: String) -> PlanError {
    PlanError::Field { field: field.into(), problem }
}

impl NetworkPlan {
    fn check(&self, known: &Known) -> Result<(), PlanError> {
        if self.latency_mean_us < self.latency_min_us {
            let problem = format!("{} is below latency_min_us = {}", self.latency_mean_us, self.latency_min_us);
            return Err(field("network.latency_mean_us", problem));
        }
        for (index, link) in self.links.iter().enumerate() {
            for (end, name) in [("from", &link.from), ("to", &link.to)] {
                known.check(name).map_err(|problem| field(format!("network.links[{index}].{end}"), problem))?;
            }
        }
        Ok(())
    }
}

impl Fault {
    pub(super) fn error(&self, field: &'static str, problem: String) -> PlanError {
        PlanError::Fault { fault: self.id.clone(), field, problem }
    }

    fn check(&self, known: &Known, end: Nanos) -> Result<(), PlanError> {
        self.check_when(end)?;
        let name = |field, name: &str| known.check(name).map_err(|problem| self.error(field, problem));
        match &self.kind {
            FaultKind::Crash { process, .. }
            | FaultKind::Pause { process, .. }
            | FaultKind::FailSync { process }
            | FaultKind::DiskErrors { process, .. }
            | FaultKind::DiskFull { process, .. }
            | FaultKind::Wipe { process, .. } => name("process", process),
            FaultKind::Stall { process, stall_ms, .. } => {
                if *stall_ms == 0 {
                    return Err(self.error("stall_ms", "a stall takes at least 1 ms".to_owned()));
                }
                name("process", process)
            }
            FaultKind::CrashInCommit { process, after_disk_ops, .. } => {
                if *after_disk_ops == 0 {
                    return Err(self.error("after_disk_ops", "counts from 1: 1 means the next operation".to_owned()));
                }
                name("process", process)
            }
            FaultKind::FlipBits { process, count } => {
                if *count == 0 {
                    return Err(self.error("count", "at least one bit has to flip".to_owned()));
                }
                name("process", process)
            }
            FaultKind::Clock { process, drift_ppm, .. } => {
                if drift_ppm.abs() > 500_000 {
                    return Err(self.error("drift_ppm", format!("{drift_ppm} is outside -500000..=500000")));
                }
                name("process", process)
            }
            FaultKind::Partition { a, b, .. } => {
                for (field, side) in [("a", a), ("b", b)] {
                    if side.is_empty() {
                        return Err(self
                            .error(field, "is empty; each side of a partition names at least one process".to_owned()));
                    }
                    side.iter().try_for_each(|process| name(field, process))?;
                }
                match a.iter().find(|process| b.contains(process)) {
                    Some(both) => Err(self.error("b", format!("`{both}` is on both sides"))),
                    None => Ok(()),
                }
            }
            FaultKind::Split { among, .. } => {
                let different: BTreeSet<&String> = among.iter().collect();
                if different.len() < 2 || different.len() < among.len() {
                    return Err(self.error("among", "names at least two different processes, each once".to_owned()));
                }
                among.iter().try_for_each(|process| name("among", process))
            }
            FaultKind::Link { from, to, .. } | FaultKind::Clog { from, to, .. } => {
                if from == to {
                    return Err(self.error("to", format!("`{to}` is also `from`; a link has two ends")));
                }
                name("from", from)?;
                name("to", to)
            }
        }
    }

    /// True if a mark sets it in motion.
    pub fn waits_for_mark(&self) -> bool {
        matches!(self.at, When::Mark { .. })
    }

    fn check_when(&self, end: Nanos) -> Result<(), PlanError> {
        let late = |at: Nanos| {
            let problem = format!("{} is after the end of the fault phase at {}", in_seconds(at), in_seconds(end));
            self.error("at", problem)
        };
        match &self.at {
            When::Time(at) if *at >= end => Err(late(*at)),
            When::Every { from, until, .. } if from >= until => Err(self.error(
                "at.until_ms",
                format!("{} is not after from_ms = {}: it never begins", until / MILLIS, from / MILLIS),
            )),
            When::Every { until, .. } if *until > end => Err(late(*until)),
            When::Every { every, .. } => match self.kind.longest() {
                Some(longest) if longest < *every => Ok(()),
                Some(longest) => Err(self.error(
                    "at.every_ms",
                    format!(
                        "{} is not above the {} ms that it lasts; it would begin before it has ended",
                        every / MILLIS,
                        longest / MILLIS
                    ),
                )),
                None => Err(self.error(
                    "at.every_ms",
                    "it lasts until the run heals, so it cannot begin again; give it an end".to_owned(),
                )),
            },
            When::Signal { name, .. } if name.is_empty() => Err(self.error("at.signal", "is empty".to_owned())),
            When::Mark { name, .. } if name.is_empty() => Err(self.error("at.mark", "is empty".to_owned())),
            When::Time(_) | When::Signal { .. } | When::Mark { .. } => Ok(()),
        }
    }
}

impl FaultKind {
    /// The kind in one word, as counted in the record: `crash`, `partition`, …
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Crash { .. } => "crash",
            FaultKind::CrashInCommit { .. } => "crash_in_commit",
            FaultKind::Pause { .. } => "pause",
            FaultKind::Partition { flap_ms: 1.., .. } | FaultKind::Split { shape: Shape::Flapping, .. } => "flapping",
            FaultKind::Split { shape: Shape::OneWay, .. } => "one_way",
            FaultKind::Partition { direction: Direction::AToB | Direction::BToA, .. } => "one_way",
            FaultKind::Partition { .. } | FaultKind::Split { .. } => "partition",
            FaultKind::Link { .. } => "link",
            FaultKind::Clog { .. } => "clog",
            FaultKind::FailSync { .. } => "fail_sync",
            FaultKind::Stall { .. } => "stall",
            FaultKind::DiskErrors { .. } => "disk_errors",
            FaultKind::DiskFull { .. } => "disk_full",
            FaultKind::FlipBits { .. } => "flip_bits",
            FaultKind::Wipe { .. } => "wipe",
            FaultKind::Clock { .. } => "clock",
        }
    }

    /// Every name there is, in the order of [`FaultKind`].
    pub const NAMES: [&str; 15] = [
        "crash",
        "crash_in_commit",
        "pause",
        "partition",
        "one_way",
        "flapping",
        "link",
        "clog",
        "fail_sync",
        "stall",
        "disk_errors",
        "disk_full",
        "flip_bits",
        "wipe",
        "clock",
    ];

    /// How long it lasts, in simulated nanoseconds; none if it has no duration or lasts until the run heals.
    pub fn duration(&self) -> Option<Nanos> {
        let ms = match self {
            FaultKind::Crash { down_ms, .. }
            | FaultKind::CrashInCommit { down_ms, .. }
            | FaultKind::Wipe { down_ms, .. } => *down_ms,
            FaultKind::Pause { for_ms, .. }
            | FaultKind::Partition { for_ms, .. }
            | FaultKind::Split { for_ms, .. }
            | FaultKind::Link { for_ms, .. }
            | FaultKind::Clog { for_ms, .. }
            | FaultKind::Stall { for_ms, .. }
            | FaultKind::DiskErrors { for_ms, .. }
            | FaultKind::DiskFull { for_ms, .. }
            | FaultKind::Clock { for_ms, .. } => *for_ms,
            FaultKind::FailSync { .. } | FaultKind::FlipBits { .. } => 0,
        };
        (ms > 0).then(|| ms.saturating_mul(MILLIS))
    }

    /// From its beginning to its end, at the longest; none if it lasts until the run heals.
    pub(super) fn longest(&self) -> Option<Nanos> {
        match self {
            FaultKind::FailSync { .. } | FaultKind::FlipBits { .. } => Some(0),
            FaultKind::CrashInCommit { within_ms: 0, .. } => None,
            FaultKind::CrashInCommit { within_ms, .. } => {
                self.duration().map(|down| down.saturating_add(within_ms.saturating_mul(MILLIS)))
            }
            kind => kind.duration(),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Crash { process, .. } => write!(f, "crash {process}")?,
            FaultKind::CrashInCommit { process, after_disk_ops, .. } => {
                write!(f, "crash {process} in its disk operation {after_disk_ops} from now")?
            }
            FaultKind::Pause { process, .. } => write!(f, "pause {process}")?,
            FaultKind::Partition { a, b, direction, flap_ms, .. } => {
                let arrow = match direction {
                    Direction::Both => "<-/->",
                    Direction::AToB => "-/->",
                    Direction::BToA => "<-/-",
                };
                write!(f, "partition {} {arrow} {}", a.join(","), b.join(","))?;
                if *flap_ms > 0 {
                    write!(f, ", open and shut every {flap_ms} ms")?;
                }
            }
            FaultKind::Split { among, shape, .. } => {
                let shape = match shape {
                    Shape::Isolate => "isolate one",
                    Shape::Halves => "in halves",
                    Shape::Random => "at random",
                    Shape::OneWay => "one, one way",
                    Shape::Flapping => "one, open and shut",
                };
                write!(f, "split {} ({shape})", among.join(","))?;
            }
            FaultKind::Link { from, to, loss, delay_us, bandwidth_mbit, frames, .. } => {
                write!(f, "link {from} -> {to} loses {loss}, {delay_us} us late")?;
                if *frames > 0 {
                    write!(f, ", at most {frames} frames")?;
                }
                if *bandwidth_mbit > 0 {
                    write!(f, ", {bandwidth_mbit} Mbit/s")?;
                }
            }
            FaultKind::Clog { from, to, .. } => write!(f, "clog {from} -> {to}")?,
            FaultKind::FailSync { process } => write!(f, "fail the next sync of {process}")?,
            FaultKind::Stall { process, stall_ms, .. } => write!(f, "stall each sync of {process} {stall_ms} ms")?,
            FaultKind::DiskErrors { process, .. } => write!(f, "fail reads and writes of {process}")?,
            FaultKind::DiskFull { process, .. } => write!(f, "fill the disk of {process}")?,
            FaultKind::FlipBits { process, count } => write!(f, "flip {count} bits on the disk of {process}")?,
            FaultKind::Wipe { process, .. } => write!(f, "wipe the disk of {process}")?,
            FaultKind::Clock { process, jump_ms, drift_ppm, .. } => {
                write!(f, "clock of {process} jumps {jump_ms} ms, drifts {drift_ppm} ppm")?
            }
        }
        match self.duration() {
            Some(duration) => write!(f, " for {}", in_seconds(duration)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratio::Ratio;

    const PLAN: &str = r#"
        [network]
        loss = "1/100"
        [[network.links]]
        from = "n1"
        to = "n2"
        loss = "1/20"
        [disk]
        sync_mean_us = 900
        [[faults]]
        id = "f1"
        at = { ms = 1200 }
        kind = { crash = { process = "n1", down_ms = 300 } }
        [[faults]]
        id = "f2"
        at = { signal = "DeltaPass", nth = 2, after_us = 3000 }
        kind = { partition = { a = ["n1"], b = ["n2", "n3"], direction = "a_to_b", for_ms = 70 } }
    "#;

    fn check(text: &str) -> Result<(), String> {
        SimPlan::from_toml(text)
            .and_then(|plan| plan.check(&["n1", "n2", "n3"], 10_000 * MILLIS))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_plan_survives_toml() {
        let plan = SimPlan::from_toml(PLAN).expect("a good plan");
        assert_eq!(check(PLAN), Ok(()));
        assert_eq!(plan.network.links[0].loss, Some(Ratio::of(1, 20)));
        assert_eq!(plan.faults[1].at, When::Signal { name: "DeltaPass".to_owned(), nth: 2, after: 3 * MILLIS });
        assert_eq!(SimPlan::from_toml(&plan.to_toml()), Ok(plan.clone()));
        assert_eq!(SimPlan::from_toml(""), Ok(SimPlan::default()));
        assert_eq!(plan.faults[1].kind.to_string(), "partition n1 -/-> n2,n3 for 0.070000 s");
    }

    #[test]
    fn errors_name_the_fault_the_field_and_what_is_allowed() {
        let error = |from: &str, to: &str| check(&PLAN.replacen(from, to, 1)).expect_err(to);
        assert_eq!(
            error("{ process = \"n1\"", "{ process = \"n9\""),
            "fault `f1`, field `process`: unknown process `n9`; there are n1, n2, n3"
        );
        assert_eq!(
            error("ms = 1200", "ms = 10000"),
            "fault `f1`, field `at`: 10.000000 s is after the end of the fault phase at 10.000000 s"
        );
        assert_eq!(error("\"f2\"", "\"f1\""), "fault `f1`, field `id`: is used twice; ids are unique");
        assert_eq!(
            error("[\"n2\", \"n3\"]", "[]"),
            "fault `f2`, field `b`: is empty; each side of a partition names at least one process"
        );
        assert_eq!(error("[\"n2\", \"n3\"]", "[\"n1\"]"), "fault `f2`, field `b`: `n1` is on both sides");
        assert_eq!(error("\"1/100\"", "\"2/1\""), "field `loss`: ratio 2/1 is above 1: a chance is at most 1/1");
        assert!(error("down_ms", "down_mz").contains("down_ms"));
        assert!(error("nth = 2", "nth = 0").contains("counts from 1"));
        assert!(error("ms = 1200", "nth = 1").contains("`at` is { ms = 1200 }, {"));
        assert!(error("sync_mean_us = 900", "sync_mean_us = 1").starts_with("disk.sync_mean_us: 1 is below"));
        assert!(error("to = \"n2\"", "to = \"x\"").starts_with("network.links[0].to: unknown process `x`"));
        assert!(error("{ ms = 1200 }", "{ every_ms = 0, until_ms = 9 }").contains("at least 1"));
        let every = |text: &str| error("{ ms = 1200 }", &format!("{{ {text} }}"));
        assert!(every("every_ms = 300, until_ms = 900").contains("`at.every_ms`: 300 is not above the 300 ms"));
        assert!(every("every_ms = 400, from_ms = 900, until_ms = 900").contains("`at.until_ms`: 900 is not after"));
        assert!(every("every_ms = 400, until_ms = 90000").contains("after the end of the fault phase"));
    }

    #[test]
    fn errors_name_the_line() {
        let error = |from: &str, to: &str| {
            let text = PLAN.replacen(from, to, 1);
            SimPlan::read("plan.toml", &text, &["n1", "n2", "n3"], 10_000 * MILLIS).expect_err(to)
        };
        let begins = |error: String, expected: &str| assert!(error.starts_with(expected), "{error}");
        begins(error("\"1/100\"", "\"2/1\""), "plan.toml, line 3: field `loss`: ratio 2/1 is above 1");
        begins(
            error("loss = \"1/100\"", "los = \"1/100\""),
            "plan.toml, line 3: field `los`: unknown field `los`, expected one of `latency_min_us`,",
        );
        begins(
            error("to = \"n2\"", "to = \"x\""),
            "plan.toml, line 6: network.links[0].to: unknown process `x`; there are n1",
        );
        begins(error("sync_mean_us = 900", "sync_mean_us = 1"), "plan.toml, line 9: disk.sync_mean_us: 1 is below");
        begins(
            error("ms = 1200", "ms = 10000"),
            "plan.toml, line 12: fault `f1`, field `at`: 10.000000 s is after the end",
        );
        begins(
            error("{ process = \"n1\"", "{ process = \"n9\""),
            "plan.toml, line 13: fault `f1`, field `process`: unknown",
        );
        begins(error("\"f2\"", "\"f1\""), "plan.toml, line 15: fault `f1`, field `id`: is used twice");
        begins(error("[network]", "[network"), "plan.toml, line 2: ");
        let within =
            PLAN.replacen("n1", "n9", 1).replace("[[faults]]", "[[sim.faults]]").replace("[network]", "[sim.network]");
        let wrong = PlanError::Fault { fault: "f1".to_owned(), field: "process", problem: String::new() };
        assert_eq!(wrong.line(&within), Some(13), "also where the plan is part of another file");
    }
}
