//! Operations written down one by one: what a drawn load becomes when a failing run is made smaller.
//!
//! A drawn load is addressed by (client, ordinal), but its clients work in closed loops, so leaving one operation out
//! moves the others in time. A script gives every operation its own time; leaving one out moves nothing.
//!
//! ```toml
//! script = ["12.345 ms client-3 put 17", "80.002 ms client-1 get 17"]
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use miroir_sim::history::{Op, Operation};
use miroir_sim::plan::When;
use miroir_sim::time::{MICROS, Nanos};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// One operation of one client. Operations of a client at the same time are under way together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scripted {
    /// Simulated time, in microseconds; later if the client is still busy then.
    pub at_us: u64,
    /// By number, from 1.
    pub client: u32,
    pub what: What,
    /// By number, from 0.
    pub document: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Put,
    Delete,
    Get,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Put => "put",
            What::Delete => "delete",
            What::Get => "get",
        })
    }
}

impl FromStr for What {
    type Err = ();

    fn from_str(text: &str) -> Result<What, ()> {
        [What::Put, What::Delete, What::Get].into_iter().find(|what| what.to_string() == text).ok_or(())
    }
}

/// An operation without a time of its own: `put 17`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wish {
    pub what: What,
    /// By number, from 0.
    pub document: u64,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.document)
    }
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Wish, String> {
        let wrong = || format!("`{text}` is no operation; write `put 17` (or delete, get)");
        let (what, document) = text.split_once(' ').ok_or_else(wrong)?;
        let what = what.parse().map_err(|()| wrong())?;
        Ok(Wish { what, document: document.parse().map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for Wish {
    type Error = String;

    fn try_from(text: String) -> Result<Wish, String> {
        text.parse()
    }
}

impl From<Wish> for String {
    fn from(wish: Wish) -> String {
        wish.to_string()
    }
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        write!(f, "{}", self.at_us / 1_000)?;
        if !self.at_us.is_multiple_of(1_000) {
            write!(f, ".{:03}", self.at_us % 1_000)?;
        }
        write!(f, " ms client-{} {what} {}", self.client, self.document)
    }
}

impl FromStr for Scripted {
    type Err = String;

    fn from_str(text: &str) -> Result<Scripted, String> {
        let wrong = || format!("`{text}` is no operation; write `12.345 ms client-3 put 17` (or delete, get)");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [at, "ms", client, what, document] = words[..] else { return Err(wrong()) };
        let (whole, part) = at.split_once('.').unwrap_or((at, "000"));
        let (whole, part): (u64, u64) = match (whole.parse(), part.parse(), part.len()) {
            (Ok(whole), Ok(part), 3) => (whole, part),
            _ => return Err(wrong()),
        };
        Ok(Scripted {
            at_us: whole.checked_mul(1_000).and_then(|us| us.checked_add(part)).ok_or_else(wrong)?,
            client: client.strip_prefix("client-").and_then(|number| number.parse().ok()).ok_or_else(wrong)?,
            what: what.parse().map_err(|()| wrong())?,
            document: document.parse().map_err(|_| wrong())?,
        })
    }
}

impl TryFrom<String> for Scripted {
    type Error = String;

    fn try_from(text: String) -> Result<Scripted, String> {
        text.parse()
    }
}

impl From<Scripted> for String {
    fn from(scripted: Scripted) -> String {
        scripted.to_string()
    }
}

/// What a run did, as far as a script needs it: when faults were armed, when they stopped, when each migration began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    pub chaos_from: Nanos,
    pub healed_at: Nanos,
    /// By the number of the migration in the plan, from 0.
    pub began: BTreeMap<usize, Nanos>,
}

/// How much before its first stage a migration was asked for.
const ASKED_BEFORE: Nanos = 1_000 * MICROS;

impl Plan {
    /// The plan of a run with what its clients did written down, and the times at which things happened instead of how
    /// far the load had come.
    ///
    /// Faults that were planned for a time before they were armed begin when that was.
    pub fn scripted(&self, history: &[Operation], course: &Course) -> Plan {
        let mut plan = self.clone();
        let clients = 1..=self.workload.clients;
        let before_heal = history.iter().filter(|it| clients.contains(&it.client) && it.call < course.healed_at);
        plan.workload.script = before_heal.filter_map(scripted).collect();
        plan.workload.script.sort_by_key(|it| (it.at_us, it.client));
        plan.workload.operations = plan.workload.script.len() as u32;
        plan.workload.bursts.clear();
        plan.workload.exact = true;
        plan.timing.chaos_from_us = course.chaos_from / MICROS;
        for fault in &mut plan.sim.faults {
            if let When::Time(at) = &mut fault.at {
                *at = (*at).max(course.chaos_from);
            }
        }
        for (n, migration) in plan.migrations.iter_mut().enumerate() {
            if let Some(began) = course.began.get(&n) {
                migration.after_us = (began.saturating_sub(ASKED_BEFORE) / MICROS).max(1);
            }
        }
        plan
    }
}

fn scripted(operation: &Operation) -> Option<Scripted> {
    let what = match operation.op {
        Op::Write { .. } => What::Put,
        Op::Delete => What::Delete,
        Op::Read { .. } => What::Get,
        Op::Cas { .. } => return None,
    };
    let document = operation.key.strip_prefix('d')?.parse().ok()?;
    Some(Scripted { at_us: operation.call / MICROS, client: operation.client, what, document })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Profile, Shape};
    use miroir_sim::Seed;
    use miroir_sim::history;

    #[test]
    fn an_operation_is_one_readable_line() {
        for text in ["12.345 ms client-3 put 17", "0 ms client-1 get 0", "7.001 ms client-12 delete 4"] {
            assert_eq!(text.parse::<Scripted>().expect(text).to_string(), text);
        }
        for text in ["", "12 client-3 put 17", "1.5 ms client-3 put 1", "1 ms 3 put 1", "1 ms client-1 sing 1"] {
            assert!(text.parse::<Scripted>().expect_err(text).contains("write `12.345 ms client-3 put 17`"), "{text}");
        }
    }

    #[test]
    fn a_script_is_what_clients_did_before_faults_stopped() {
        let line = |client: u32, key: &str, call: u64| {
            let rest = r#""return":null,"outcome":"unknown""#;
            format!(r#"{{"client":{client},"op":"delete","key":"{key}","call":{call},{rest}}}"#)
        };
        let lines = [line(2, "d000007", 3_000_000), line(1, "d000001", 2_001_900), line(1, "d000001", 9_000_000)];
        let history = history::parse(&[lines.join("\n"), line(0, "d000001", 5)].join("\n")).expect("a good history");
        let plan = Plan::draw("cutover/swarm", Seed(1), Profile::Usual, &Shape::default());
        let course = Course { chaos_from: 1_500_000, healed_at: 8_000_000, began: [(0, 5_000_000)].into() };
        let plan = plan.scripted(&history, &course);
        let script: Vec<String> = plan.workload.script.iter().map(ToString::to_string).collect();
        assert_eq!(script, ["2.001 ms client-1 delete 1", "3 ms client-2 delete 7"]);
        assert_eq!((plan.timing.chaos_from_us, plan.migrations[0].after_us), (1_500, 4_000));
        assert_eq!(Plan::read("plan.toml", &plan.to_toml()), Ok(plan));
    }
}
