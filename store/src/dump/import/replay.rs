//! Unfinished tasks, in order, after the documents.
//!
//! The documents of a task stand in a member of their own, and members may stand in any order. So the archive is read as
//! often as it takes: each reading carries out what comes next in the order of the tasks, and keeps small members that
//! come too early. One reading is enough if they are small, or in order.

use std::collections::BTreeMap;

use crate::dump::archive::ReadBytes;
use crate::dump::collection::Record;
use crate::dump::document::merge;
use crate::dump::import::writes::Writes;
use crate::dump::import::{Import, prepared};
use crate::dump::plan::Step;
use crate::dump::progress::Phase;
use crate::dump::records::{Bytes, Framing, Records};
use crate::dump::refusal::{DumpError, Refusal};
use crate::dump::survey::open;
use crate::dump::target::Target;
use crate::id::{Key, MAX_VALUE_BYTES, Value};
use crate::router::Request;
use crate::wire::NameRange;

/// Bytes of members that are kept because they came too early.
const KEPT_BYTES: u64 = 4 << 20;
/// Documents that are updated or deleted together, at most.
const TOGETHER: usize = 256;

impl<T: Target> Import<'_, T> {
    pub(super) async fn replay(&mut self) -> Result<(), DumpError> {
        let plan = self.plan;
        let mut steps = plan.steps.iter().peekable();
        while steps.peek().is_some() {
            let before = self.done.replayed;
            let read = ReadBytes::default();
            let mut archive = open(self.source, read.clone())?;
            let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let mut room = KEPT_BYTES;
            loop {
                // What needs no member that is still to come.
                while let Some(step) = steps.peek() {
                    match step {
                        Step::Add { path, .. } => match kept.remove(path) {
                            Some(bytes) => {
                                room += bytes.len() as u64;
                                self.add(step, &mut &bytes[..], &read).await?;
                            }
                            None => break,
                        },
                        step => self.change(step).await?,
                    }
                    self.done.replayed += 1;
                    steps.next();
                }
                let Some(Step::Add { path, .. }) = steps.peek() else { return Ok(()) };
                let Some(member) = archive.next_member()? else { break };
                if member.path == *path {
                    let step = steps.next().expect("it was peeked at");
                    self.add(step, &mut archive, &read).await?;
                    self.done.replayed += 1;
                } else if member.bytes <= room && is_awaited(steps.clone(), &member.path) {
                    room -= member.bytes;
                    kept.insert(member.path, archive.read_all(KEPT_BYTES)?);
                }
            }
            if self.done.replayed == before {
                return Err(DumpError::Changed);
            }
        }
        Ok(())
    }

    /// Adds documents, or puts them over those that are there.
    async fn add(&mut self, step: &Step, content: &mut impl Bytes, read: &ReadBytes) -> Result<(), DumpError> {
        let Step::Add { uid, path, primary_key, merges } = step else { unreachable!("a step with documents") };
        let framing = if path.starts_with("updates/update_files/") { Framing::Array } else { Framing::Lines };
        let mut records = Records::new(path, framing, self.options.limits.document_bytes);
        let mut writes = Writes::new(self.options.limits.batch_documents);
        let mut count = 0;
        while let Some((line, text)) = records.next(content)? {
            let (key, value) =
                prepared(uid, text, primary_key, self.strips()).map_err(|reason| Refusal::at(path, line, reason))?;
            writes.push(Request::Put { key, value });
            count += 1;
            if writes.is_full() || (*merges && count % TOGETHER as u64 == 0) {
                self.put(&mut writes, *merges).await?;
                self.tell(Phase::Replay, read.get(), count);
            }
        }
        self.put(&mut writes, *merges).await?;
        self.tell(Phase::Replay, read.get(), count);
        Ok(())
    }

    async fn put(&mut self, writes: &mut Writes, merges: bool) -> Result<(), DumpError> {
        let mut batch = writes.take();
        if !merges {
            return self.put_all(batch).await;
        }
        while !batch.is_empty() {
            // As many at a time as are read at once.
            let keys: Vec<Key> = batch.iter().map(|write| write.key().clone()).collect();
            let held = self.target.read(keys.clone()).await?;
            let mut bodies: BTreeMap<Key, Option<Value>> = keys.into_iter().zip(held.iter().cloned()).collect();
            let rest = batch.split_off(held.len());
            drop(held);
            for write in &mut batch {
                let Request::Put { key, value } = write else { unreachable!("only puts are added") };
                let body = bodies.get_mut(key).expect("every key was read");
                if let Some(held) = body {
                    let merged = merge(held, value);
                    if merged.len() > MAX_VALUE_BYTES {
                        let reason = format!(
                            "an unfinished task makes {key} {} bytes long; allowed are {MAX_VALUE_BYTES}; leave such tasks \
                             out with `--pending skip`",
                            merged.len()
                        );
                        return Err(Refusal::new(reason).into());
                    }
                    *value = merged.into();
                }
                *body = Some(value.clone());
            }
            drop(bodies);
            self.put_all(batch).await?;
            batch = rest;
        }
        Ok(())
    }

    async fn change(&mut self, step: &Step) -> Result<(), DumpError> {
        match step {
            Step::Add { .. } => unreachable!("a step without documents"),
            Step::Delete { uid, ids } => {
                let mut keys = Vec::new();
                for id in ids.iter() {
                    keys.push(Key::new(uid, id).map_err(|error| Refusal::new(error.to_string()))?);
                    if keys.len() == TOGETHER {
                        self.delete(std::mem::take(&mut keys)).await?;
                    }
                }
                self.delete(keys).await
            }
            Step::Clear { uid } => self.clear(uid).await,
            Step::Create { uid } => self.create(uid).await,
            Step::DeleteIndex { uid } => {
                self.clear(uid).await?;
                self.delete(vec![Record::key(uid).map_err(|error| Refusal::new(error.to_string()))?]).await
            }
        }
    }

    async fn delete(&mut self, keys: Vec<Key>) -> Result<(), DumpError> {
        let are_there = self.are_there(keys.clone()).await?;
        let there = keys.into_iter().zip(are_there).filter(|(_, is_there)| *is_there);
        self.put_all(there.map(|(key, _)| Request::Delete { key }).collect()).await
    }

    async fn clear(&mut self, uid: &str) -> Result<(), DumpError> {
        let mut from = Some(format!("{uid}\0"));
        while let Some(start) = from {
            let range = NameRange { from: start, until: Some(format!("{uid}\u{1}").into_bytes()) };
            let page = self.target.scan(range, TOGETHER as u32).await?;
            self.put_all(page.documents.into_iter().map(|(key, ..)| Request::Delete { key }).collect()).await?;
            from = page.next;
        }
        Ok(())
    }

    /// A collection that only an unfinished task brings (again): without settings.
    async fn create(&mut self, uid: &str) -> Result<(), DumpError> {
        let body = Record::empty(self.index(uid), self.plan.version);
        let key = Record::key(uid).map_err(|error| Refusal::new(error.to_string()))?;
        self.put_all(vec![Request::Put { key, value: body.into() }]).await
    }
}

fn is_awaited<'a>(mut steps: impl Iterator<Item = &'a Step>, wanted: &str) -> bool {
    steps.any(|step| matches!(step, Step::Add { path, .. } if path == wanted))
}
