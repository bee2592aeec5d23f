//! What can happen in a run, how it is hashed, and how it reads.

use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::history::{Op, Operation};
use crate::process::{Names, ProcessId};
use crate::time::Nanos;

/// One event. Processes are numbers here and names in print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process was registered.
    Process { process: ProcessId, name: Arc<str> },
    /// A frame was given to the network. `id` counts frames over the whole run; `hash` is xxh3 of the bytes.
    Send { from: ProcessId, to: ProcessId, id: u64, len: u32, hash: u64 },
    /// A frame reached the inbox of its receiver (twice, if it was duplicated).
    Deliver { from: ProcessId, to: ProcessId, id: u64 },
    /// A frame was lost.
    Drop { from: ProcessId, to: ProcessId, id: u64, why: Arc<str> },
    /// Bytes were written, not yet durable.
    DiskWrite { process: ProcessId, file: Arc<str>, offset: u64, len: u32, hash: u64 },
    /// A file was cut or extended, not yet durable.
    DiskSetLen { process: ProcessId, file: Arc<str>, len: u64 },
    /// Everything written to a file is durable now.
    DiskSync { process: ProcessId, file: Arc<str> },
    /// A disk operation failed on purpose.
    DiskError { process: ProcessId, file: Arc<str>, what: Arc<str> },
    /// What a crash left of the unsynced writes; `hash` is over all files as they are now.
    DiskCrash { process: ProcessId, survived: u32, torn: u32, lost: u32, hash: u64 },
    /// A disk was formatted or wiped and carries this id now.
    DiskFormat { process: ProcessId, disk_id: u128 },
    /// A process died.
    Crash { process: ProcessId, why: Arc<str> },
    /// A process began a life; the first one too.
    Start { process: ProcessId, incarnation: u32 },
    /// A process stopped running, with all its memory.
    Pause { process: ProcessId },
    /// A paused process runs again.
    Resume { process: ProcessId },
    /// A planned fault began or ended.
    Fault { id: Arc<str>, text: Arc<str>, begin: bool },
    /// A client called.
    Call { client: u32, op: u64, text: Arc<str> },
    /// A call returned.
    Return { client: u32, op: u64, text: Arc<str> },
    /// The system under test reached a named point that faults may wait for, such as a stage of a migration.
    Signal { name: Arc<str>, text: Arc<str> },
    /// A remark of an observer.
    Note { text: Arc<str> },
    /// A mark was reached for the first time. Not hashed: whether marks are counted must not change a run.
    Mark { name: Arc<str> },
}

impl Event {
    /// Shown in short traces.
    pub fn is_short(&self) -> bool {
        !matches!(
            self,
            Event::Send { .. }
                | Event::Deliver { .. }
                | Event::Drop { .. }
                | Event::DiskWrite { .. }
                | Event::DiskSetLen { .. }
                | Event::DiskSync { .. }
        )
    }

    /// Appends the bytes that the running hash is over. False if the event is not hashed.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> bool {
        let mut put = Encoder(out);
        match self {
            Event::Process { process, name } => put.tag(1).process(*process).text(name),
            Event::Send { from, to, id, len, hash } => {
                put.tag(2).process(*from).process(*to).number(*id).number(u64::from(*len)).number(*hash)
            }
            Event::Deliver { from, to, id } => put.tag(3).process(*from).process(*to).number(*id),
            Event::Drop { from, to, id, why } => put.tag(4).process(*from).process(*to).number(*id).text(why),
            Event::DiskWrite { process, file, offset, len, hash } => {
                put.tag(5).process(*process).text(file).number(*offset).number(u64::from(*len)).number(*hash)
            }
            Event::DiskSetLen { process, file, len } => put.tag(6).process(*process).text(file).number(*len),
            Event::DiskSync { process, file } => put.tag(7).process(*process).text(file),
            Event::DiskError { process, file, what } => put.tag(8).process(*process).text(file).text(what),
            Event::DiskCrash { process, survived, torn, lost, hash } => put
                .tag(9)
                .process(*process)
                .number(u64::from(*survived))
                .number(u64::from(*torn))
                .number(u64::from(*lost))
                .number(*hash),
            Event::DiskFormat { process, disk_id } => {
                put.tag(10).process(*process).number(*disk_id as u64).number((*disk_id >> 64) as u64)
            }
            Event::Crash { process, why } => put.tag(11).process(*process).text(why),
            Event::Start { process, incarnation } => put.tag(12).process(*process).number(u64::from(*incarnation)),
            Event::Pause { process } => put.tag(13).process(*process),
            Event::Resume { process } => put.tag(14).process(*process),
            Event::Fault { id, text, begin } => put.tag(15).text(id).text(text).number(u64::from(*begin)),
            Event::Call { client, op, text } => put.tag(16).number(u64::from(*client)).number(*op).text(text),
            Event::Return { client, op, text } => put.tag(17).number(u64::from(*client)).number(*op).text(text),
            Event::Signal { name, text } => put.tag(18).text(name).text(text),
            Event::Note { text } => put.tag(19).text(text),
            Event::Mark { .. } => return false,
        };
        true
    }

    /// `n1 -> n3   drop (loss)`.
    pub fn text(&self, names: &Names) -> String {
        let name = |process: &ProcessId| names.name(*process);
        let link = |from: &ProcessId, to: &ProcessId| format!("{} -> {}", name(from), name(to));
        match self {
            Event::Process { process, name } => format!("{name:<14} registered as process {}", process.0),
            Event::Send { from, to, id, len, .. } => format!("{:<14} send #{id}, {len} bytes", link(from, to)),
            Event::Deliver { from, to, id } => format!("{:<14} deliver #{id}", link(from, to)),
            Event::Drop { from, to, id, why } => format!("{:<14} drop #{id} ({why})", link(from, to)),
            Event::DiskWrite { process, file, offset, len, hash } => {
                format!("{:<14} write {file} {len} bytes at {offset}, hash {hash:016x}", name(process))
            }
            Event::DiskSetLen { process, file, len } => format!("{:<14} set length of {file} to {len}", name(process)),
            Event::DiskSync { process, file } => format!("{:<14} sync {file}", name(process)),
            Event::DiskError { process, file, what } => format!("{:<14} disk error on {file}: {what}", name(process)),
            Event::DiskCrash { process, survived, torn, lost, .. } => {
                format!(
                    "{:<14} of the unsynced writes {survived} survived, {torn} were torn, {lost} were lost",
                    name(process)
                )
            }
            Event::DiskFormat { process, disk_id } => format!("{:<14} formatted disk {disk_id:032x}", name(process)),
            Event::Crash { process, why } => format!("{:<14} CRASH ({why})", name(process)),
            Event::Start { process, incarnation } => format!("{:<14} start, life {incarnation}", name(process)),
            Event::Pause { process } => format!("{:<14} PAUSE", name(process)),
            Event::Resume { process } => format!("{:<14} resume", name(process)),
            Event::Fault { id, text, begin } => {
                format!("{:<14} {} {id}: {text}", "FAULT", if *begin { "begins" } else { "ends" })
            }
            Event::Call { client, op, text } => format!("{:<14} call {op}: {text}", format!("client {client}")),
            Event::Return { client, op, text } => format!("{:<14} return {op}: {text}", format!("client {client}")),
            Event::Signal { name, text } => format!("{:<14} {name} {text}", "SIGNAL"),
            Event::Note { text } => format!("{:<14} {text}", "note"),
            Event::Mark { name } => format!("{:<14} {name}", "mark"),
        }
    }

    /// One line of `events.jsonl`: `{"at":…,"event":"drop","from":"n1",…}`; hashes as hex strings.
    pub fn json(&self, at: Nanos, label: Option<&str>, names: &Names) -> Value {
        let name = |process: &ProcessId| names.name(*process).to_string();
        let (event, fields) = match self {
            Event::Process { process, name } => ("process", json!({"process": process.0, "name": **name})),
            Event::Send { from, to, id, len, hash } => (
                "send",
                json!({"from": name(from), "to": name(to), "id": id, "len": len, "hash": format!("{hash:016x}")}),
            ),
            Event::Deliver { from, to, id } => ("deliver", json!({"from": name(from), "to": name(to), "id": id})),
            Event::Drop { from, to, id, why } => {
                ("drop", json!({"from": name(from), "to": name(to), "id": id, "why": **why}))
            }
            Event::DiskWrite { process, file, offset, len, hash } => (
                "disk_write",
                json!({"process": name(process), "file": **file, "offset": offset, "len": len, "hash": format!("{hash:016x}")}),
            ),
            Event::DiskSetLen { process, file, len } => {
                ("disk_set_len", json!({"process": name(process), "file": **file, "len": len}))
            }
            Event::DiskSync { process, file } => ("disk_sync", json!({"process": name(process), "file": **file})),
            Event::DiskError { process, file, what } => {
                ("disk_error", json!({"process": name(process), "file": **file, "what": **what}))
            }
            Event::DiskCrash { process, survived, torn, lost, hash } => (
                "disk_crash",
                json!({"process": name(process), "survived": survived, "torn": torn, "lost": lost, "hash": format!("{hash:016x}")}),
            ),
            Event::DiskFormat { process, disk_id } => {
                ("disk_format", json!({"process": name(process), "disk_id": format!("{disk_id:032x}")}))
            }
            Event::Crash { process, why } => ("crash", json!({"process": name(process), "why": **why})),
            Event::Start { process, incarnation } => {
                ("start", json!({"process": name(process), "incarnation": incarnation}))
            }
            Event::Pause { process } => ("pause", json!({"process": name(process)})),
            Event::Resume { process } => ("resume", json!({"process": name(process)})),
            Event::Fault { id, text, begin } => {
                (if *begin { "fault_begin" } else { "fault_end" }, json!({"id": **id, "text": **text}))
            }
            Event::Call { client, op, text } => ("call", json!({"client": client, "op": op, "text": **text})),
            Event::Return { client, op, text } => ("return", json!({"client": client, "op": op, "text": **text})),
            Event::Signal { name, text } => ("signal", json!({"name": **name, "text": **text})),
            Event::Note { text } => ("note", json!({"text": **text})),
            Event::Mark { name } => ("mark", json!({"name": **name})),
        };
        let mut line = Map::new();
        line.insert("at".to_owned(), json!(at));
        line.insert("event".to_owned(), json!(event));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        if let Some(label) = label {
            line.insert("label".to_owned(), json!(label));
        }
        Value::Object(line)
    }
}

/// Appends the bytes that the running hash is over, for the call or the return of an operation.
pub(super) fn encode_operation(out: &mut Vec<u8>, number: u64, operation: &Operation, returned: bool) -> bool {
    let Operation { client, key, op, call: _, ret, outcome, version } = operation;
    let mut put = Encoder(out);
    put.tag(if returned { 17 } else { 16 }).number(u64::from(*client)).number(number).text(key);
    match op {
        Op::Read { value } => put.tag(1).optional(value.as_deref()),
        Op::Write { value } => put.tag(2).text(value),
        Op::Delete => put.tag(3),
        Op::Cas { from, to, swapped } => put.tag(4).optional(from.as_deref()).text(to).tag(u8::from(*swapped)),
    };
    put.tag(*outcome as u8).number(ret.unwrap_or(Nanos::MAX));
    if let Some(version) = version {
        put.number(version.counter).number(version.writer as u64).number((version.writer >> 64) as u64);
    }
    true
}

struct Encoder<'a>(&'a mut Vec<u8>);

impl Encoder<'_> {
    fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }

    fn process(&mut self, process: ProcessId) -> &mut Self {
        self.0.extend_from_slice(&process.0.to_le_bytes());
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.tag(1).text(text),
            None => self.tag(0),
        }
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}
