//! How much may be hurt at once, and the check that a plan keeps to what it says.
//!
//! A process is hurt while it is down, paused, cut off, or without a disk that works, and from when its data are damaged. Of a partition the smaller side is hurt. Faults at a time are
//! placed exactly; one that waits for a signal or a mark may come at any time, so it counts always.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Fault, FaultKind, PlanError, Shape, SimPlan, When};
use crate::time::{Nanos, in_seconds};

/// What a plan promises about its faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBudget", into = "RawBudget")]
pub enum Budget {
    /// Never more processes are hurt at once.
    AtMost(usize),
    /// Any number may be, for this reason; the trace says so.
    Lifted(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    #[serde(skip_serializing_if = "Option::is_none")]
    hurt_at_most: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted: Option<String>,
}

impl TryFrom<RawBudget> for Budget {
    type Error = String;

    fn try_from(raw: RawBudget) -> Result<Budget, String> {
        match raw {
            RawBudget { hurt_at_most: Some(most), lifted: None } => Ok(Budget::AtMost(most)),
            RawBudget { hurt_at_most: None, lifted: Some(why) } if !why.trim().is_empty() => Ok(Budget::Lifted(why)),
            _ => Err("`budget` is { hurt_at_most = 1 } or { lifted = \"why\" }".to_owned()),
        }
    }
}

impl From<Budget> for RawBudget {
    fn from(budget: Budget) -> RawBudget {
        match budget {
            Budget::AtMost(most) => RawBudget { hurt_at_most: Some(most), lifted: None },
            Budget::Lifted(why) => RawBudget { hurt_at_most: None, lifted: Some(why) },
        }
    }
}

/// Whom a fault hurts, and when.
struct Hurt<'a> {
    fault: &'a Fault,
    from: Nanos,
    until: Nanos,
    named: Vec<&'a str>,
    /// Hurt as well, nobody knows who before it begins.
    drawn: usize,
}

impl SimPlan {
    pub(super) fn check_budget(&self) -> Result<(), PlanError> {
        let Some(Budget::AtMost(most)) = self.budget else { return Ok(()) };
        let hurts: Vec<Hurt> = self.faults.iter().filter_map(Hurt::of).collect();
        for here in &hurts {
            let others = hurts.iter().filter(|other| other.from <= here.from && here.from < other.until);
            let mut named = BTreeSet::new();
            let mut drawn = 0;
            for other in others {
                named.extend(other.named.iter().copied());
                drawn += other.drawn;
            }
            if named.len() + drawn > most {
                let mut who: Vec<String> = named.into_iter().map(str::to_owned).collect();
                if drawn > 0 {
                    who.push(format!("{drawn} drawn"));
                }
                let problem = format!(
                    "{} would be hurt at {}, the budget of the plan is {most}; begin it later, or lift the budget with \
                     budget = {{ lifted = \"why\" }}",
                    who.join(", "),
                    in_seconds(here.from),
                );
                return Err(here.fault.error("at", problem));
            }
        }
        Ok(())
    }
}

impl<'a> Hurt<'a> {
    fn of(fault: &'a Fault) -> Option<Hurt<'a>> {
        let (named, drawn) = fault.kind.hurts();
        if named.is_empty() && drawn == 0 {
            return None;
        }
        let lasts = match &fault.kind {
            FaultKind::CrashInCommit { within_ms: 0, .. } => Nanos::MAX,
            FaultKind::CrashInCommit { within_ms, .. } => {
                fault.kind.duration().map_or(Nanos::MAX, |down| down.saturating_add(within_ms * crate::time::MILLIS))
            }
            // What is damaged stays damaged; whether the system repairs it is not known here.
            FaultKind::Wipe { .. } | FaultKind::FlipBits { .. } => Nanos::MAX,
            kind => kind.duration().unwrap_or(Nanos::MAX),
        };
        let (from, until) = match fault.at {
            When::Time(at) => (at, at.saturating_add(lasts)),
            When::Every { from, until, .. } => (from, until.saturating_add(lasts)),
            When::Signal { .. } | When::Mark { .. } => (0, Nanos::MAX),
        };
        Some(Hurt { fault, from, until, named, drawn })
    }
}

impl FaultKind {
    /// Whom it hurts by name, and how many that are drawn when it begins.
    pub(crate) fn hurts(&self) -> (Vec<&str>, usize) {
        match self {
            FaultKind::Crash { process, .. }
            | FaultKind::CrashInCommit { process, .. }
            | FaultKind::Pause { process, .. }
            | FaultKind::Stall { process, .. }
            | FaultKind::DiskErrors { process, .. }
            | FaultKind::DiskFull { process, .. }
            | FaultKind::FlipBits { process, .. }
            | FaultKind::Wipe { process, .. } => (vec![process], 0),
            FaultKind::Partition { a, b, .. } => {
                let smaller = if a.len() <= b.len() { a } else { b };
                (smaller.iter().map(String::as_str).collect(), 0)
            }
            FaultKind::Split { among, shape, .. } => match shape {
                Shape::Isolate | Shape::OneWay | Shape::Flapping => (Vec::new(), 1),
                Shape::Halves | Shape::Random => (Vec::new(), among.len() / 2),
            },
            FaultKind::Link { .. } | FaultKind::Clog { .. } | FaultKind::FailSync { .. } | FaultKind::Clock { .. } => {
                (Vec::new(), 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        budget = { hurt_at_most = 1 }
        [[faults]]
        id = "f1"
        at = { ms = 100 }
        kind = { crash = { process = "n1", down_ms = 50 } }
        [[faults]]
        id = "f2"
        at = { ms = 150 }
        kind = { pause = { process = "n2", for_ms = 50 } }
    "#;

    fn check(text: &str) -> Result<(), String> {
        let plan = SimPlan::from_toml(text).map_err(|error| error.to_string())?;
        assert_eq!(SimPlan::from_toml(&plan.to_toml()), Ok(plan.clone()), "survives TOML");
        plan.check(&["n1", "n2", "n3"], 1_000 * crate::time::MILLIS).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plan_keeps_to_its_budget_or_lifts_it_and_says_so() {
        assert_eq!(check(PLAN), Ok(()), "one ends when the other begins");
        let both = PLAN.replace("150", "149");
        let error = check(&both).expect_err("two at once");
        assert!(error.starts_with("fault `f2`, field `at`: n1, n2 would be hurt at 0.149000 s, the budget"), "{error}");
        assert_eq!(check(&both.replace("hurt_at_most = 1", "hurt_at_most = 2")), Ok(()));
        assert_eq!(check(&both.replace("hurt_at_most = 1", "lifted = \"to see it break\"")), Ok(()));
        assert!(check(&both.replace("hurt_at_most = 1", "lifted = \"\"")).is_err_and(|error| error.contains("why")));
        assert_eq!(check(&both.replace("n2", "n1")), Ok(()), "twice the same");
        assert_eq!(check(&both.replace("budget = { hurt_at_most = 1 }", "")), Ok(()), "no promise, no check");
    }

    #[test]
    fn what_may_come_at_any_time_counts_always() {
        let signal = PLAN.replace("{ ms = 150 }", "{ signal = \"Drain\" }");
        assert!(check(&signal).is_err());
        let split = PLAN.replace(
            "pause = { process = \"n2\", for_ms = 50 }",
            "split = { among = [\"n1\", \"n2\", \"n3\"], shape = \"halves\", for_ms = 50 }",
        );
        assert_eq!(check(&split), Ok(()));
        assert!(check(&split.replace("150", "120")).is_err_and(|error| error.contains("n1, 1 drawn")));
    }
}
