//! What the clients saw: one line per operation, and nothing that only an omniscient observer could know.
//!
//! In a file, a history is JSON lines with times in simulated nanoseconds:
//! `{"client":3,"op":"write","key":"a","value":"v17","call":120,"return":450,"outcome":"ok"}`. A read carries the value that was read, null if
//! there was none. `version` is an optional hint for fast checking: the version that was written or read, as `"counter:writer"`.

mod file;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

pub use self::file::{HistoryError, parse, to_jsonl};
use crate::sync::lock;
use crate::time::Nanos;
use crate::trace::Trace;

/// A version as clients know it: ordered by counter, then by writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows with every overwrite.
    pub counter: u64,
    /// Who wrote it.
    pub writer: u128,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:x}", self.counter, self.writer)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        let error = || format!("`{text}` is no version: write it as counter:writer, the writer in hexadecimal");
        let (counter, writer) = text.split_once(':').ok_or_else(error)?;
        Ok(Version {
            counter: counter.parse().map_err(|_| error())?,
            writer: u128::from_str_radix(writer, 16).map_err(|_| error())?,
        })
    }
}

/// What a client asked for, and (for reads and swaps) what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `value` is what was read, none if there was nothing; meaningless unless the outcome is ok.
    Read { value: Option<String> },
    /// Set the value.
    Write { value: String },
    /// Remove it.
    Delete,
    /// Set it to `to` if it is `from`. `swapped` is meaningless unless the outcome is ok.
    Cas { from: Option<String>, to: String, swapped: bool },
}

/// What a client knows about the fate of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done between call and return.
    Ok,
    /// Certainly not done.
    Rejected,
    /// May be done, now or later, or never.
    Unknown,
}

/// One operation on a value under a key, or, with an `O` of your own, on whatever a system offers. Times in simulated nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O = Op> {
    /// Which client.
    pub client: u32,
    /// On which key.
    pub key: Arc<str>,
    /// What.
    pub op: O,
    /// When it was called.
    pub call: Nanos,
    /// When it returned; none if its outcome is unknown.
    pub ret: Option<Nanos>,
    /// How it ended. Operations that never returned are unknown.
    pub outcome: Outcome,
    /// The version written or read, if the client learned it.
    pub version: Option<Version>,
}

impl fmt::Display for Operation {
    /// `client 3 write a = v17 (120..450)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
        let key = &self.key;
        write!(f, "client {} ", self.client)?;
        match &self.op {
            Op::Read { value } if self.outcome == Outcome::Ok => write!(f, "read {key} -> {}", null(value))?,
            Op::Read { .. } => write!(f, "read {key}")?,
            Op::Write { value } => write!(f, "write {key} = {value}")?,
            Op::Delete => write!(f, "delete {key}")?,
            Op::Cas { from, to, swapped } => {
                write!(f, "cas {key} {} => {to}", null(from))?;
                if self.outcome == Outcome::Ok {
                    write!(f, " -> {swapped}")?;
                }
            }
        }
        match (self.outcome, self.ret) {
            (Outcome::Ok, Some(ret)) => write!(f, " ({}..{ret})", self.call),
            (Outcome::Rejected, _) => write!(f, " ({}.., rejected)", self.call),
            _ => write!(f, " ({}.., unknown)", self.call),
        }
    }
}

/// Names an operation in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A history in the making. Clones write into the same one.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Arc<Mutex<Vec<Operation>>>,
    trace: Option<Trace>,
}

impl History {
    /// An empty history whose calls and returns also go into `trace`.
    pub fn traced(trace: Trace) -> History {
        History { operations: Arc::default(), trace: Some(trace) }
    }

    /// A client calls.
    pub fn call(&self, at: Nanos, client: u32, key: impl Into<Arc<str>>, op: Op) -> OpId {
        let operation =
            Operation { client, key: key.into(), op, call: at, ret: None, outcome: Outcome::Unknown, version: None };
        let mut operations = lock(&self.operations);
        let id = OpId(operations.len() as u64);
        if let Some(trace) = &self.trace {
            trace.record_operation(at, id.0, &operation, false);
        }
        operations.push(operation);
        id
    }

    /// The call returns. `value` matters for reads only. Panics if it has returned before.
    pub fn finish(&self, at: Nanos, id: OpId, outcome: Outcome, value: Option<String>, version: Option<Version>) {
        self.end(at, id, outcome, version, |op| {
            if let Op::Read { value: read } = op {
                *read = value;
            }
        });
    }

    /// A compare-and-swap returns.
    pub fn finish_cas(&self, at: Nanos, id: OpId, outcome: Outcome, swapped: bool, version: Option<Version>) {
        self.end(at, id, outcome, version, |op| {
            if let Op::Cas { swapped: it, .. } = op {
                *it = swapped;
            }
        });
    }

    fn end(&self, at: Nanos, id: OpId, outcome: Outcome, version: Option<Version>, result: impl FnOnce(&mut Op)) {
        let mut operations = lock(&self.operations);
        let operation = &mut operations[id.0 as usize];
        assert!(operation.ret.is_none() && at >= operation.call, "an operation returns once, after its call");
        result(&mut operation.op);
        operation.outcome = outcome;
        operation.version = version;
        operation.ret = (outcome != Outcome::Unknown).then_some(at);
        if let Some(trace) = &self.trace {
            trace.record_operation(at, id.0, operation, true);
        }
    }

    /// The operations so far, in the order of their calls. What has not returned is unknown.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.operations).clone()
    }

    /// Takes the operations out, leaving an empty history.
    pub fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *lock(&self.operations))
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        lock(&self.operations).len()
    }

    /// True before the first.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Acknowledged writes, deletes and successful swaps; rejected operations; unknown operations.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for operation in &*lock(&self.operations) {
            match (operation.outcome, &operation.op) {
                (Outcome::Ok, Op::Read { .. }) => totals.reads += 1,
                (Outcome::Ok, Op::Cas { swapped: false, .. }) => {}
                (Outcome::Ok, _) => totals.acked += 1,
                (Outcome::Rejected, _) => totals.rejected += 1,
                (Outcome::Unknown, _) => totals.unknown += 1,
            }
        }
        totals
    }
}

/// A history in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acknowledged writes, deletes and successful swaps.
    pub acked: u64,
    /// Reads that returned.
    pub reads: u64,
    /// Certainly not done.
    pub rejected: u64,
    /// Unknown.
    pub unknown: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Mode;

    #[test]
    fn calls_and_returns_make_operations() {
        let history = History::traced(Trace::new(Mode::Short));
        let write = history.call(120, 3, "a", Op::Write { value: "v17".to_owned() });
        let read = history.call(130, 4, "a", Op::Read { value: None });
        let lost = history.call(140, 5, "a", Op::Delete);
        let version = Version { counter: 2, writer: 0xab };
        history.finish(450, write, Outcome::Ok, None, Some(version));
        history.finish(460, read, Outcome::Ok, Some("v17".to_owned()), Some(version));
        history.finish(470, lost, Outcome::Unknown, None, None);
        let texts: Vec<String> = history.operations().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "client 3 write a = v17 (120..450)",
                "client 4 read a -> v17 (130..460)",
                "client 5 delete a (140.., unknown)"
            ]
        );
        assert_eq!(history.totals(), Totals { acked: 1, reads: 1, rejected: 0, unknown: 1 });
        assert_eq!(history.trace.as_ref().map(|trace| trace.lines().len()), Some(6));
    }

    #[test]
    fn versions_are_ordered_by_counter_first() {
        let version = |text: &str| text.parse::<Version>().expect(text);
        assert!(version("2:0") > version("1:ff"));
        assert!(version("2:1") > version("2:0"));
        assert_eq!(version("7:ab").to_string(), "7:ab");
        assert!("7".parse::<Version>().is_err());
    }
}
