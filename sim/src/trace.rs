//! Every event of a run, with simulated time, and the running hash that is the run's identity.
//!
//! The hash covers every event with its time, whatever is kept: asking for more trace must not change a run, and two runs with equal hashes
//! have done the same. What is kept is a [`Mode`]; it goes to memory, or as JSON lines to a sink while the run goes on.

mod divergence;
mod event;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

pub use self::divergence::{Divergence, first_divergence};
pub use self::event::Event;
use crate::history::Operation;
use crate::process::{Names, ProcessId};
use crate::sync::lock;
use crate::time::{Nanos, in_seconds};

/// How much of the trace is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Only the hash.
    #[default]
    Off,
    /// Calls, returns, faults, signals, crashes, notes, marks.
    Short,
    /// Also every frame and every disk operation.
    Full,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "off" => Ok(Mode::Off),
            "short" => Ok(Mode::Short),
            "full" => Ok(Mode::Full),
            _ => Err(format!("`{text}` is no trace mode: use off, short or full")),
        }
    }
}

/// The identity of a run: 128 bits over all its events. Printed and serialised as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash(pub u128);

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When.
    pub at: Nanos,
    /// What.
    pub event: Event,
    /// What the frame says, for frames in a full trace.
    pub label: Option<String>,
}

/// Turns the bytes of a frame into words.
pub type Describe = Box<dyn Fn(&[u8]) -> String + Send>;

/// The trace of one run. Clones write into the same trace.
#[derive(Clone)]
pub struct Trace {
    names: Names,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    mode: Mode,
    hasher: Xxh3,
    buffer: Vec<u8>,
    count: u64,
    kept: Vec<Kept>,
    describe: Option<Describe>,
    sink: Option<Box<dyn Write + Send>>,
    sink_error: Option<io::Error>,
    closed: bool,
}

impl Trace {
    /// An empty trace, with its own register of names.
    pub fn new(mode: Mode) -> Trace {
        let inner = Inner {
            mode,
            hasher: Xxh3::new(),
            buffer: Vec::new(),
            count: 0,
            kept: Vec::new(),
            describe: None,
            sink: None,
            sink_error: None,
            closed: false,
        };
        Trace { names: Names::default(), inner: Arc::new(Mutex::new(inner)) }
    }

    /// The names that the trace is printed with.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// How much is kept.
    pub fn mode(&self) -> Mode {
        lock(&self.inner).mode
    }

    /// How frames are labelled in a full trace. Never called in other modes.
    pub fn describe(&self, describe: impl Fn(&[u8]) -> String + Send + 'static) {
        lock(&self.inner).describe = Some(Box::new(describe));
    }

    /// Kept events go to `sink` as JSON lines instead of to memory. Errors are reported by [`Trace::flush`].
    pub fn stream_to(&self, sink: Box<dyn Write + Send>) {
        lock(&self.inner).sink = Some(sink);
    }

    /// Registers a process and records that.
    pub fn register(&self, at: Nanos, name: &str) -> ProcessId {
        let process = self.names.register(name);
        self.record(at, Event::Process { process, name: name.into() });
        process
    }

    /// Adds an event.
    pub fn record(&self, at: Nanos, event: Event) {
        lock(&self.inner).add(&self.names, at, event, None);
    }

    /// Adds an event about a frame, labelled in a full trace.
    pub fn record_frame(&self, at: Nanos, event: Event, frame: &[u8]) {
        lock(&self.inner).add(&self.names, at, event, Some(frame));
    }

    /// Adds that a client calls, or that its call has returned. What the operation says is hashed as it is, and put into words only to be kept.
    pub(crate) fn record_operation(&self, at: Nanos, op: u64, operation: &Operation, returned: bool) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        inner.hash(at, |buffer| event::encode_operation(buffer, op, operation, returned));
        if inner.mode >= Mode::Short {
            let (client, text) = (operation.client, operation.to_string().into());
            let event = if returned { Event::Return { client, op, text } } else { Event::Call { client, op, text } };
            inner.keep(&self.names, at, event, None);
        }
    }

    /// Adds a remark.
    pub fn note(&self, at: Nanos, text: impl Into<Arc<str>>) {
        self.record(at, Event::Note { text: text.into() });
    }

    /// The hash over everything so far. Does not depend on the mode.
    pub fn hash(&self) -> TraceHash {
        TraceHash(lock(&self.inner).hasher.digest128())
    }

    /// Events so far, kept or not; marks are not counted.
    pub fn count(&self) -> u64 {
        lock(&self.inner).count
    }

    /// The kept events, oldest first.
    pub fn kept(&self) -> Vec<Kept> {
        lock(&self.inner).kept.clone()
    }

    /// The kept events as text: `    1.204512 s  n1 -> n3       drop #7 (loss)   <label>`.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.inner).kept.iter().map(|kept| kept.text(&self.names)).collect()
    }

    /// As [`Trace::lines`], without what a short trace leaves out.
    pub fn short_lines(&self) -> Vec<String> {
        let inner = lock(&self.inner);
        inner.kept.iter().filter(|kept| kept.event.is_short()).map(|kept| kept.text(&self.names)).collect()
    }

    /// Writes the kept events as JSON lines.
    pub fn write_jsonl(&self, out: &mut dyn Write) -> io::Result<()> {
        for kept in &lock(&self.inner).kept {
            write_line(out, kept, &self.names)?;
        }
        out.flush()
    }

    /// Nothing is added any more: the run is over, what is left is taking it down.
    pub fn close(&self) {
        lock(&self.inner).closed = true;
    }

    /// Flushes the sink. Reports the first error that it had.
    pub fn flush(&self) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        if let Some(error) = inner.sink_error.take() {
            return Err(error);
        }
        inner.sink.as_mut().map_or(Ok(()), |sink| sink.flush())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} events, {})", self.count(), self.hash())
    }
}

impl Kept {
    /// One line of text.
    pub fn text(&self, names: &Names) -> String {
        let mut line = format!("{:>14}  {}", in_seconds(self.at), self.event.text(names));
        if let Some(label) = &self.label {
            line.push_str("   ");
            line.push_str(label);
        }
        line
    }
}

impl Inner {
    fn add(&mut self, names: &Names, at: Nanos, event: Event, frame: Option<&[u8]>) {
        if self.closed {
            return;
        }
        self.hash(at, |buffer| event.encode(buffer));
        let wanted = match self.mode {
            Mode::Off => false,
            Mode::Short => event.is_short(),
            Mode::Full => true,
        };
        if wanted {
            self.keep(names, at, event, frame);
        }
    }

    /// Adds to the hash what `encode` appends; nothing if it says so.
    fn hash(&mut self, at: Nanos, encode: impl FnOnce(&mut Vec<u8>) -> bool) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&at.to_le_bytes());
        if encode(&mut self.buffer) {
            self.hasher.update(&self.buffer);
            self.count += 1;
        }
    }

    fn keep(&mut self, names: &Names, at: Nanos, event: Event, frame: Option<&[u8]>) {
        let label = match (&self.describe, frame) {
            (Some(describe), Some(frame)) if self.mode == Mode::Full => Some(describe(frame)),
            _ => None,
        };
        let kept = Kept { at, event, label };
        match &mut self.sink {
            None => self.kept.push(kept),
            Some(sink) => {
                if let Err(error) = write_line(sink, &kept, names) {
                    self.sink_error.get_or_insert(error);
                }
            }
        }
    }
}

fn write_line(out: &mut dyn Write, kept: &Kept, names: &Names) -> io::Result<()> {
    writeln!(out, "{}", kept.event.json(kept.at, kept.label.as_deref(), names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn little_run(mode: Mode) -> Trace {
        let trace = Trace::new(mode);
        trace.describe(|frame| format!("Put({})", frame.len()));
        let (n1, n3) = (trace.register(0, "n1"), trace.register(0, "n3"));
        trace.record_frame(5, Event::Send { from: n1, to: n3, id: 7, len: 2, hash: 9 }, b"ab");
        trace.record_frame(1_204_512_000, Event::Drop { from: n1, to: n3, id: 7, why: "loss".into() }, b"ab");
        trace.record(1_204_512_001, Event::Crash { process: n3, why: "fault f1".into() });
        trace.note(1_204_512_002, "so it goes");
        trace
    }

    #[test]
    fn the_mode_changes_what_is_kept_and_nothing_else() {
        let [off, short, full] = [Mode::Off, Mode::Short, Mode::Full].map(little_run);
        assert_eq!((off.hash(), off.hash()), (short.hash(), full.hash()));
        assert_eq!([off.kept().len(), short.kept().len(), full.kept().len()], [0, 4, 6]);
        assert_eq!(full.short_lines(), short.lines());
        assert_eq!(off.count(), 6);
    }

    #[test]
    fn lines_read_well() {
        let lines = little_run(Mode::Full).lines();
        assert_eq!(lines[3], "    1.204512 s  n1 -> n3       drop #7 (loss)   Put(2)");
        assert_eq!(lines[4], "    1.204512 s  n3             CRASH (fault f1)");
    }

    #[test]
    fn any_change_changes_the_hash() {
        let base = little_run(Mode::Off);
        let later = little_run(Mode::Off);
        later.note(1_204_512_002, "");
        assert_ne!(base.hash(), later.hash());
        let [one, two] = [3, 4].map(|at| {
            let trace = Trace::new(Mode::Off);
            trace.note(at, "x");
            trace.hash()
        });
        assert_ne!(one, two, "time counts");
        let marked = little_run(Mode::Off);
        marked.record(9, Event::Mark { name: "m".into() });
        assert_eq!(base.hash(), marked.hash(), "marks do not");
    }

    #[test]
    fn events_are_json_lines_in_memory_and_streamed() {
        let trace = little_run(Mode::Full);
        let mut memory = Vec::new();
        trace.write_jsonl(&mut memory).expect("memory takes all");
        let text = String::from_utf8(memory).expect("JSON is UTF-8");
        let drop: serde_json::Value = serde_json::from_str(text.lines().nth(3).expect("six lines")).expect("JSON");
        assert_eq!(drop["at"], 1_204_512_000_u64);
        assert_eq!(
            (&drop["event"], &drop["from"], &drop["why"], &drop["label"]),
            (&"drop".into(), &"n1".into(), &"loss".into(), &"Put(2)".into())
        );

        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trace = Trace::new(Mode::Full);
        trace.stream_to(Box::new(Broken));
        trace.note(1, "x");
        assert_eq!(trace.flush().expect_err("the sink is full").to_string(), "full");
        assert_eq!(trace.kept().len(), 0);
    }
}
