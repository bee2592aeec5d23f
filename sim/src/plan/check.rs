//! Checks a plan before anything runs, with errors that say which fault, which field, and what is allowed.

use std::collections::BTreeSet;
use std::fmt;

use super::{Direction, Fault, FaultKind, NetworkPlan, SimPlan, When};
use crate::time::{MILLIS, Nanos, in_seconds};

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not TOML, or a field that does not exist or cannot be read.
    #[error("the plan cannot be read: {0}")]
    Malformed(String),
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
        toml::from_str(text).map_err(|error| PlanError::Malformed(error.to_string()))
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
        Ok(())
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
    fn error(&self, field: &'static str, problem: String) -> PlanError {
        PlanError::Fault { fault: self.id.clone(), field, problem }
    }

    fn check(&self, known: &Known, end: Nanos) -> Result<(), PlanError> {
        if let When::Time(at) = self.at
            && at >= end
        {
            return Err(self.error(
                "at",
                format!("{} is after the end of the fault phase at {}", in_seconds(at), in_seconds(end)),
            ));
        }
        if let When::Signal { name, .. } = &self.at
            && name.is_empty()
        {
            return Err(self.error("at.signal", "is empty".to_owned()));
        }
        let name = |field, name: &str| known.check(name).map_err(|problem| self.error(field, problem));
        match &self.kind {
            FaultKind::Crash { process, .. }
            | FaultKind::Pause { process, .. }
            | FaultKind::FailSync { process }
            | FaultKind::DiskFull { process, .. }
            | FaultKind::Wipe { process, .. } => name("process", process),
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
            FaultKind::Link { from, to, .. } => {
                name("from", from)?;
                name("to", to)
            }
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
            FaultKind::Partition { .. } => "partition",
            FaultKind::Link { .. } => "link",
            FaultKind::FailSync { .. } => "fail_sync",
            FaultKind::DiskFull { .. } => "disk_full",
            FaultKind::FlipBits { .. } => "flip_bits",
            FaultKind::Wipe { .. } => "wipe",
            FaultKind::Clock { .. } => "clock",
        }
    }

    /// How long it lasts, in simulated nanoseconds; none if it has no duration or lasts until the run heals.
    pub fn duration(&self) -> Option<Nanos> {
        let ms = match self {
            FaultKind::Crash { down_ms, .. }
            | FaultKind::CrashInCommit { down_ms, .. }
            | FaultKind::Wipe { down_ms, .. } => *down_ms,
            FaultKind::Pause { for_ms, .. }
            | FaultKind::Partition { for_ms, .. }
            | FaultKind::Link { for_ms, .. }
            | FaultKind::DiskFull { for_ms, .. }
            | FaultKind::Clock { for_ms, .. } => *for_ms,
            FaultKind::FailSync { .. } | FaultKind::FlipBits { .. } => 0,
        };
        (ms > 0).then(|| ms.saturating_mul(MILLIS))
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
            FaultKind::Partition { a, b, direction, .. } => {
                let arrow = match direction {
                    Direction::Both => "<-/->",
                    Direction::AToB => "-/->",
                    Direction::BToA => "<-/-",
                };
                write!(f, "partition {} {arrow} {}", a.join(","), b.join(","))?;
            }
            FaultKind::Link { from, to, loss, delay_us, .. } => {
                write!(f, "link {from} -> {to} loses {loss}, {delay_us} us late")?
            }
            FaultKind::FailSync { process } => write!(f, "fail the next sync of {process}")?,
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
        assert!(error("\"1/100\"", "\"2/1\"").contains("ratio 2/1 is above 1"));
        assert!(error("down_ms", "down_mz").contains("down_ms"));
        assert!(error("nth = 2", "nth = 0").contains("counts from 1"));
        assert!(error("ms = 1200", "nth = 1").contains("{ ms = 1200 } or { signal"));
        assert!(error("sync_mean_us = 900", "sync_mean_us = 1").starts_with("disk.sync_mean_us: 1 is below"));
        assert!(error("to = \"n2\"", "to = \"x\"").starts_with("network.links[0].to: unknown process `x`"));
    }
}
