//! Who holds what, and which windows are open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{DocId, How, Kind, Risen, Vanished, Version, Window};
use crate::process::ProcessId;
use crate::time::Nanos;
use crate::trace::Trace;

/// Reasons kept for one process and document, beyond the newest acknowledged version. More than a few would only be writes that nobody
/// acknowledged, so the oldest goes.
const REASONS_KEPT: usize = 8;

pub(super) struct State {
    trace: Trace,
    ids: BTreeMap<Arc<str>, DocId>,
    docs: Vec<Doc>,
    shards: BTreeMap<u32, Shard>,
    general_note: Arc<str>,
    open_count: usize,
    pub windows: Vec<Window>,
    pub acked_count: u64,
    pub risen: Vec<Risen>,
    now: Nanos,
}

struct Doc {
    name: Arc<str>,
    shard: Option<u32>,
    /// What each process holds; no entry if nothing.
    held: Vec<(ProcessId, Version)>,
    acked: Option<Acked>,
    missed: Vec<Miss>,
    open: Option<Open>,
    /// The newest deletion that was forgotten everywhere: nothing older may ever come back.
    floor: Option<Version>,
}

#[derive(Clone, Copy)]
struct Acked {
    version: Version,
    at: Nanos,
    client: u32,
}

struct Miss {
    process: ProcessId,
    version: Version,
    at: Nanos,
    why: Arc<str>,
}

struct Open {
    at: Nanos,
    by: Arc<str>,
    cause: String,
    stage: Arc<str>,
}

#[derive(Default)]
struct Shard {
    groups: Vec<Vec<ProcessId>>,
    docs: Vec<DocId>,
    note: Option<Arc<str>>,
    /// Why each process last lost its copy.
    lost_copy: BTreeMap<ProcessId, (Nanos, Arc<str>)>,
    /// Members that answer nobody: they stay in every denominator and mislead no reader.
    silent: BTreeSet<ProcessId>,
    /// The last pass that compared copies, and when it ended.
    pass: Option<(Nanos, Arc<str>)>,
}

impl State {
    pub fn new(trace: Trace) -> State {
        State {
            trace,
            ids: BTreeMap::new(),
            docs: Vec::new(),
            shards: BTreeMap::new(),
            general_note: "".into(),
            open_count: 0,
            windows: Vec::new(),
            acked_count: 0,
            risen: Vec::new(),
            now: 0,
        }
    }

    pub fn intern(&mut self, doc: &str) -> DocId {
        if let Some(&id) = self.ids.get(doc) {
            return id;
        }
        let id = DocId(self.docs.len() as u32);
        let name: Arc<str> = doc.into();
        self.docs.push(Doc {
            name: name.clone(),
            shard: None,
            held: Vec::new(),
            acked: None,
            missed: Vec::new(),
            open: None,
            floor: None,
        });
        self.ids.insert(name, id);
        id
    }

    fn advance(&mut self, at: Nanos) {
        assert!(at >= self.now, "the auditor is told what happens in the order in which it happens");
        self.now = at;
    }

    /// The document, entered into its shard on first sight.
    fn doc(&mut self, shard: u32, doc: DocId) -> &mut Doc {
        let it = &mut self.docs[doc.0 as usize];
        match it.shard {
            None => {
                it.shard = Some(shard);
                self.shards.entry(shard).or_default().docs.push(doc);
            }
            Some(known) => assert_eq!(known, shard, "document {} stays in its shard", it.name),
        }
        it
    }

    pub fn config(&mut self, at: Nanos, shard: u32, text: &str, groups: Vec<Vec<ProcessId>>) {
        self.advance(at);
        self.shards.entry(shard).or_default().groups = groups;
        self.evaluate_all(shard, &format!("configuration committed: {text}"));
    }

    pub fn applied(&mut self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version, how: How<'_>) {
        self.advance(at);
        let it = self.doc(shard, doc);
        if let Some(floor) = it.floor.filter(|floor| version < *floor) {
            let risen = Risen { at, process, shard, doc: it.name.clone(), version, forgotten: floor };
            self.risen.push(risen);
        }
        let it = self.doc(shard, doc);
        // Whatever it replaces: that an older version replaced a newer one is for the windows to show.
        let mut regressed = false;
        match it.held.iter_mut().find(|(holder, _)| *holder == process) {
            Some((_, held)) if *held == version => return,
            Some((_, held)) => {
                regressed = *held > version;
                *held = version;
            }
            None => it.held.push((process, version)),
        }
        it.missed.retain(|miss| miss.process != process || miss.version > version);
        if it.open.is_some() || regressed {
            let overtaken = it.acked.is_some_and(|acked| acked.version < version);
            let name = self.trace.names().name(process);
            let (how, closing) = match how {
                How::Write if overtaken => ("a newer write", Kind::Superseded),
                How::Write => ("a write", Kind::Transient),
                How::Shipped(by) => (by, Kind::Transient),
            };
            self.evaluate_closing(doc, &format!("{how} is durable on {name}"), closing);
        }
    }

    pub fn forgot(&mut self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version) {
        self.advance(at);
        let it = self.doc(shard, doc);
        it.held.retain(|&(holder, held)| holder != process || held != version);
        it.floor = it.floor.max(Some(version));
        // A deletion that replaced what was acknowledged need not have been acknowledged itself.
        if it.acked.is_some_and(|acked| acked.version <= version) {
            if it.open.is_some() {
                self.close(doc, Kind::Superseded, Some("every replica held a deletion, and forgot it".into()));
            }
            self.docs[doc.0 as usize].acked = None;
        }
    }

    pub fn silence(&mut self, at: Nanos, shard: u32, silent: BTreeSet<ProcessId>) {
        self.advance(at);
        let it = self.shards.entry(shard).or_default();
        if it.silent != silent {
            it.silent = silent;
            self.evaluate_all(shard, "a replica fell silent, or speaks again");
        }
    }

    pub fn dropped(&mut self, at: Nanos, process: ProcessId, shard: u32, why: &str) {
        self.advance(at);
        let it = self.shards.entry(shard).or_default();
        let mut held = 0;
        for &doc in &it.docs {
            let holders = &mut self.docs[doc.0 as usize].held;
            let before = holders.len();
            holders.retain(|&(holder, _)| holder != process);
            held += before - holders.len();
        }
        // Where nothing was, nothing was lost.
        if held > 0 {
            it.lost_copy.insert(process, (at, why.into()));
        }
        let name = self.trace.names().name(process);
        self.evaluate_all(shard, &format!("{name} lost its copy: {why}"));
    }

    pub fn lacking(&self, process: ProcessId, shard: u32, found: &BTreeSet<DocId>) -> Vec<(DocId, Version)> {
        let docs = self.shards.get(&shard).map_or(&[][..], |shard| &shard.docs);
        let missing = docs.iter().filter(|doc| !found.contains(doc));
        missing.filter_map(|doc| Some((*doc, self.held(process, *doc)?))).collect()
    }

    pub fn reset(
        &mut self,
        at: Nanos,
        process: ProcessId,
        shard: u32,
        entries: BTreeMap<DocId, Version>,
    ) -> Vec<Vanished> {
        self.advance(at);
        for &doc in entries.keys() {
            self.doc(shard, doc);
        }
        let mut vanished = Vec::new();
        for &doc in &self.shards.entry(shard).or_default().docs {
            let it = &mut self.docs[doc.0 as usize];
            let has = entries.get(&doc).copied();
            let slot = it.held.iter().position(|&(holder, _)| holder == process);
            let had = slot.map(|slot| it.held[slot].1);
            match (slot, has) {
                (Some(slot), Some(has)) => it.held[slot].1 = has,
                (Some(slot), None) => drop(it.held.swap_remove(slot)),
                (None, Some(has)) => it.held.push((process, has)),
                (None, None) => {}
            }
            if let Some(had) = had
                && has.is_none_or(|has| has < had)
            {
                vanished.push(Vanished { process, shard, doc: it.name.clone(), had, has });
            }
        }
        let name = self.trace.names().name(process);
        if !vanished.is_empty() {
            let why: Arc<str> = "its disk came back with less than was durable".into();
            if let Some(it) = self.shards.get_mut(&shard) {
                it.lost_copy.insert(process, (at, why));
            }
        }
        self.evaluate_all(shard, &format!("{name} restarted from its disk"));
        vanished
    }

    pub fn acked(&mut self, at: Nanos, shard: u32, doc: DocId, version: Version, client: u32) {
        self.advance(at);
        self.acked_count += 1;
        let it = self.doc(shard, doc);
        if it.acked.is_some_and(|newest| newest.version >= version) || it.floor >= Some(version) {
            return; // an older write, acknowledged late: whoever reads gets the newer one
        }
        if it.open.is_some() {
            let by = format!("a newer write was acknowledged to client {client}").into();
            self.close(doc, Kind::Superseded, Some(by));
        }
        let it = &mut self.docs[doc.0 as usize];
        it.acked = Some(Acked { version, at, client });
        it.missed.retain(|miss| miss.version >= version);
        self.evaluate(doc, &format!("acknowledged to client {client}"));
    }

    pub fn missed(&mut self, at: Nanos, process: ProcessId, shard: u32, doc: DocId, version: Version, why: &str) {
        self.advance(at);
        let it = self.doc(shard, doc);
        let held = it.held.iter().find(|&&(holder, _)| holder == process).map(|&(_, held)| held);
        let obsolete =
            held.is_some_and(|held| held >= version) || it.acked.is_some_and(|acked| acked.version > version);
        let known = it.missed.iter().any(|miss| miss.process == process && miss.version == version);
        if obsolete || known {
            return;
        }
        let newest_acked = it.acked.map(|acked| acked.version);
        let of_process = it.missed.iter().filter(|miss| miss.process == process).count();
        if of_process >= REASONS_KEPT {
            let oldest =
                it.missed.iter().position(|miss| miss.process == process && Some(miss.version) != newest_acked);
            if let Some(oldest) = oldest {
                it.missed.remove(oldest);
            }
        }
        it.missed.push(Miss { process, version, at, why: why.into() });
    }

    pub fn note(&mut self, shard: Option<u32>, text: &str) {
        match shard {
            Some(shard) => self.shards.entry(shard).or_default().note = Some(text.into()),
            None => {
                self.general_note = text.into();
                self.shards.values_mut().for_each(|shard| shard.note = None);
            }
        }
    }

    fn evaluate_all(&mut self, shard: u32, by: &str) {
        let docs = std::mem::take(&mut self.shards.entry(shard).or_default().docs);
        for &doc in &docs {
            self.evaluate(doc, by);
        }
        self.shards.entry(shard).or_default().docs = docs;
    }

    /// Opens or closes the window of a document, after the event `by`.
    fn evaluate(&mut self, doc: DocId, by: &str) {
        self.evaluate_closing(doc, by, Kind::Transient);
    }

    /// As [`State::evaluate`], with the way in which a window that closes now has ended.
    fn evaluate_closing(&mut self, doc: DocId, by: &str, closing: Kind) {
        let it = &self.docs[doc.0 as usize];
        let (Some(acked), Some(shard)) = (it.acked, it.shard) else { return };
        let shard = &self.shards[&shard];
        let exposed = !shard.groups.is_empty()
            && shard.groups.iter().all(|group| it.is_stale(group, &shard.silent, acked.version));
        match (exposed, it.open.is_some()) {
            (true, false) => {
                let cause = self.cause(it, shard, acked);
                let stage = shard.note.clone().unwrap_or_else(|| self.general_note.clone());
                let name = it.name.clone();
                self.docs[doc.0 as usize].open = Some(Open { at: self.now, by: by.into(), cause, stage });
                self.open_count += 1;
                self.trace.note(self.now, format!("loss window of {name} opens: {by}"));
            }
            (false, true) => self.close(doc, closing, Some(by.into())),
            _ => {}
        }
    }

    fn close(&mut self, doc: DocId, kind: Kind, by: Option<Arc<str>>) {
        let it = &mut self.docs[doc.0 as usize];
        let (Some(open), Some(acked), Some(shard)) = (it.open.take(), it.acked, it.shard) else { return };
        self.open_count -= 1;
        let text = by.as_deref().unwrap_or("still open at the end");
        self.trace.note(self.now, format!("loss window of {} closes: {text}", it.name));
        self.windows.push(Window {
            shard,
            doc: it.name.to_string(),
            version: acked.version,
            client: acked.client,
            acked_at: acked.at,
            opened_at: open.at,
            closed_at: (kind != Kind::Permanent).then_some(self.now),
            kind,
            opened_by: open.by.to_string(),
            closed_by: by.map(|by| by.to_string()),
            cause: open.cause,
            stage: open.stage.to_string(),
        });
    }

    /// Why the stale members of the groups do not have the version: for each the first thing that made it miss it.
    fn cause(&self, doc: &Doc, shard: &Shard, acked: Acked) -> String {
        let mut stale: Vec<ProcessId> = shard.groups.iter().flatten().copied().collect();
        stale.retain(|process| !shard.silent.contains(process) && doc.holds_older(*process, acked.version));
        stale.sort_unstable();
        stale.dedup();
        let reasons = stale.iter().map(|&process| {
            let name = self.trace.names().name(process);
            let miss = doc.missed.iter().find(|miss| miss.process == process && miss.version == acked.version);
            let lost = shard.lost_copy.get(&process);
            let (since, reason) = match (miss, lost) {
                (Some(miss), Some((at, why))) if *at > acked.at && *at > miss.at => {
                    (*at, format!("{name} lost its copy: {why}"))
                }
                (Some(miss), _) => (miss.at, format!("{name} missed it: {}", miss.why)),
                (None, Some((at, why))) if *at >= acked.at => (*at, format!("{name} lost its copy: {why}")),
                (None, _) => (acked.at, format!("{name} was never sent it, or lost it before it was durable")),
            };
            match &shard.pass {
                Some((at, pass)) if *at > since.max(acked.at) => format!("{reason}, and {pass} did not bring it"),
                _ => reason,
            }
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    pub fn passed(&mut self, at: Nanos, shard: u32, what: &str) {
        self.advance(at);
        self.shards.entry(shard).or_default().pass = Some((at, what.into()));
    }

    pub fn held(&self, process: ProcessId, doc: DocId) -> Option<Version> {
        let held = &self.docs[doc.0 as usize].held;
        held.iter().find(|&&(holder, _)| holder == process).map(|&(_, held)| held)
    }

    pub fn holdings(&self, process: ProcessId, shard: u32) -> usize {
        let docs = self.shards.get(&shard).map_or(&[][..], |shard| &shard.docs);
        docs.iter().filter(|doc| self.held(process, **doc).is_some()).count()
    }

    pub fn forgotten(&self, doc: DocId) -> Option<Version> {
        self.docs[doc.0 as usize].floor
    }

    pub fn finish(&mut self) -> Vec<Window> {
        for doc in (0..self.docs.len() as u32).map(DocId) {
            self.close(doc, Kind::Permanent, None);
        }
        let mut windows = self.windows.clone();
        windows.sort_by_key(|window| window.opened_at);
        windows
    }

    pub fn differing(&self, shard: u32, members: &[ProcessId]) -> Vec<(Arc<str>, Vec<Option<Version>>)> {
        let docs = self.shards.get(&shard).map_or(&[][..], |shard| &shard.docs);
        let differing = docs.iter().map(|doc| &self.docs[doc.0 as usize]).filter_map(|doc| {
            let held = |member: &ProcessId| doc.held.iter().find(|(holder, _)| holder == member).map(|&(_, held)| held);
            let held: Vec<Option<Version>> = members.iter().map(held).collect();
            let visible = |held: &Option<Version>| held.filter(|held| doc.floor != Some(*held));
            let differs = held.iter().any(|one| visible(one) != visible(&held[0]));
            differs.then(|| (doc.name.clone(), held))
        });
        differing.collect()
    }

    pub fn is_under_acked(&self, shard: u32, doc: DocId, version: Version) -> bool {
        let Some(shard) = self.shards.get(&shard) else { return false };
        let doc = &self.docs[doc.0 as usize];
        let holds = |member: &ProcessId| doc.held.iter().any(|&(holder, held)| holder == *member && held >= version);
        shard.groups.iter().any(|group| group.iter().filter(|member| holds(member)).count() * 2 <= group.len())
    }

    pub fn open_count(&self) -> usize {
        self.open_count
    }

    pub fn newest_acked(&self, doc: DocId) -> Option<Version> {
        self.docs.get(doc.0 as usize)?.acked.map(|acked| acked.version)
    }

    pub fn footprint(&self) -> usize {
        self.docs.iter().map(|doc| 1 + doc.held.len() + doc.missed.len()).sum()
    }
}

impl Doc {
    fn holds_older(&self, process: ProcessId, version: Version) -> bool {
        self.held.iter().find(|&&(holder, _)| holder == process).is_none_or(|&(_, held)| held < version)
    }

    /// True if a majority of `group` would answer with something older. Who is silent does not answer.
    fn is_stale(&self, group: &[ProcessId], silent: &BTreeSet<ProcessId>, version: Version) -> bool {
        let speaks = |member: &ProcessId| !silent.contains(member);
        let older = group.iter().filter(|member| speaks(member) && self.holds_older(**member, version)).count();
        older * 2 > group.len()
    }
}
