//! Scans: one shard's documents in id order, a page at a time, each page by a quorum.
//!
//! Every replica of a quorum sends the first documents of the range that it holds. Behind the last document of the
//! shortest of these pages something may be missing, so the merged page ends there: up to that point the whole quorum
//! has spoken, and the greatest version of each document counts. The next page begins right behind it. A document that
//! exists throughout a scan therefore appears exactly once; one that comes or goes meanwhile may or may not appear.
//!
//! Nothing is written back, and pages are no snapshot: a get of a document settles what a scan may still show as old.

use std::collections::BTreeMap;

use super::{OperationId, Router};
use crate::config::ShardConfig;
use crate::engine::behind;
use crate::env::{Nanos, Peer};
use crate::id::{Epoch, Key, NodeId, ShardId, Value, Version};
use crate::wire::{Message, NameRange, Shipped, Token};

/// Which documents to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    pub shard: ShardId,
    pub range: NameRange,
    /// At most so many, and at least one if there is one; fewer if they are large, or if replicas differ.
    pub documents: u32,
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// In id order; without deleted ones.
    pub documents: Vec<(Key, Version, Value)>,
    /// Where the next page begins; `None` if this is the last one. A page may be empty and still not be the last.
    pub next: Option<String>,
}

/// A scan under way.
#[derive(Debug)]
struct Scan {
    request: ScanRequest,
    epoch: Epoch,
    attempt: u32,
    deadline: Nanos,
    resend_at: Nanos,
    /// What has been answered in this attempt.
    pages: BTreeMap<NodeId, (Vec<Shipped>, bool)>,
}

/// A router's scans.
#[derive(Debug, Default)]
pub(super) struct Scans {
    under_way: BTreeMap<u64, Scan>,
    sends: Vec<(NodeId, Message)>,
    done: Vec<(OperationId, Option<ScanPage>)>,
}

impl Scans {
    pub(super) fn deadline(&self) -> Nanos {
        self.under_way.values().map(|scan| scan.deadline.min(scan.resend_at)).min().unwrap_or(Nanos::MAX)
    }

    pub(super) fn drain_sends(&mut self) -> Vec<(NodeId, Message)> {
        std::mem::take(&mut self.sends)
    }

    /// Sends a scan's question to the voters that have not answered it, or to one of them.
    fn ask(&mut self, id: u64, config: &ShardConfig, only: Option<NodeId>) {
        let scan = &self.under_way[&id];
        let ScanRequest { shard, range, documents } = &scan.request;
        let asked = |node: &NodeId| !scan.pages.contains_key(node) && only.is_none_or(|only| only == *node);
        for node in config.voters().into_iter().filter(asked) {
            let token = Token { operation: id, attempt: scan.attempt };
            let (shard, epoch, range, documents) = (*shard, scan.epoch, range.clone(), *documents);
            self.sends.push((node, Message::Scan { shard, epoch, token, range, documents }));
        }
    }
}

impl Router {
    /// Begins to read a page; it comes out of [`Router::drain_scanned`].
    pub fn scan(&mut self, now: Nanos, request: ScanRequest) -> OperationId {
        assert!(request.documents > 0, "a page has room for a document");
        self.next += 1;
        let id = self.next;
        let deadline = now.saturating_add(self.timing.give_up);
        let scan = Scan { request, epoch: Epoch::ZERO, attempt: 0, deadline, resend_at: 0, pages: BTreeMap::new() };
        self.scans.under_way.insert(id, scan);
        self.begin_scan(now, id);
        OperationId(id)
    }

    /// The scans that have ended; `None` for those that no quorum answered in time.
    pub fn drain_scanned(&mut self) -> Vec<(OperationId, Option<ScanPage>)> {
        std::mem::take(&mut self.scans.done)
    }

    /// Starts a scan (again) under the newest known configuration.
    fn begin_scan(&mut self, now: Nanos, id: u64) {
        let scan = self.scans.under_way.get_mut(&id).expect("a scan under way");
        scan.resend_at = now.saturating_add(self.timing.resend);
        match self.configs.get(&scan.request.shard) {
            Some(config) => {
                scan.epoch = config.epoch;
                scan.attempt += 1;
                scan.pages.clear();
                self.scans.ask(id, config, None);
            }
            None => self.ask_for_configs(now),
        }
    }

    /// A newer configuration of a shard is known: its scans start their page again.
    pub(super) fn restart_scans(&mut self, now: Nanos, shard: ShardId, epoch: Epoch) {
        let is_behind = |scan: &Scan| scan.request.shard == shard && scan.epoch < epoch;
        let behind: Vec<u64> =
            self.scans.under_way.iter().filter(|(_, scan)| is_behind(scan)).map(|(&id, _)| id).collect();
        behind.into_iter().for_each(|id| self.begin_scan(now, id));
    }

    /// Asks a node again for the pages that it has not sent.
    pub(super) fn ask_for_pages(&mut self, shard: ShardId, node: NodeId) {
        let config = &self.configs[&shard];
        let asked = |scan: &Scan| scan.request.shard == shard && scan.epoch == config.epoch;
        let asked: Vec<u64> = self.scans.under_way.iter().filter(|(_, scan)| asked(scan)).map(|(&id, _)| id).collect();
        asked.into_iter().for_each(|id| self.scans.ask(id, config, Some(node)));
    }

    pub(super) fn tick_scans(&mut self, now: Nanos) {
        let is_due = |scan: &Scan| scan.deadline <= now || scan.resend_at <= now;
        let due: Vec<u64> = self.scans.under_way.iter().filter(|(_, scan)| is_due(scan)).map(|(&id, _)| id).collect();
        for id in due {
            let scan = self.scans.under_way.get_mut(&id).expect("collected above");
            scan.resend_at = now.saturating_add(self.timing.resend);
            if scan.deadline <= now {
                self.scans.under_way.remove(&id);
                self.scans.done.push((OperationId(id), None));
            } else if scan.epoch == Epoch::ZERO {
                self.begin_scan(now, id);
            } else {
                let shard = scan.request.shard;
                self.scans.ask(id, &self.configs[&shard], None);
            }
        }
    }

    /// Takes a replica's page in.
    pub(super) fn scanned(&mut self, from: Peer, epoch: Epoch, token: Token, documents: Vec<Shipped>, more: bool) {
        let (Peer::Node(node), Some(scan)) = (from, self.scans.under_way.get_mut(&token.operation)) else {
            return;
        };
        if scan.attempt != token.attempt || scan.epoch != epoch || (more && documents.is_empty()) {
            return;
        }
        scan.pages.insert(node, (documents, more));
        let config = &self.configs[&scan.request.shard];
        if config.is_quorum(|node| scan.pages.contains_key(&node)) {
            let scan = self.scans.under_way.remove(&token.operation).expect("found above");
            let page = merge(scan.pages.into_values(), scan.request.documents as usize);
            self.scans.done.push((OperationId(token.operation), Some(page)));
        }
    }
}

/// What several copies have in the same range, as one page of at most `limit` documents.
fn merge(mut pages: impl ExactSizeIterator<Item = (Vec<Shipped>, bool)>, limit: usize) -> ScanPage {
    if pages.len() == 1 {
        let (documents, more) = pages.next().expect("counted");
        let next = documents.last().filter(|_| more).map(|last| behind(&last.key));
        let held = documents.into_iter().filter_map(|it| it.value.map(|value| (it.key, it.version, value)));
        return cut(ScanPage { documents: held.collect(), next }, limit);
    }
    let mut merged: BTreeMap<Key, (Version, Option<Value>)> = BTreeMap::new();
    let mut end: Option<Key> = None;
    for (documents, more) in pages {
        if let (true, Some(last)) = (more, documents.last()) {
            end = Some(end.map_or_else(|| last.key.clone(), |end| end.min(last.key.clone())));
        }
        for Shipped { key, version, value } in documents {
            let held = merged.entry(key).or_default();
            if held.0 < version {
                *held = (version, value);
            }
        }
    }
    let inside = merged.into_iter().take_while(|(key, _)| end.as_ref().is_none_or(|end| key <= end));
    let documents = inside.filter_map(|(key, (version, value))| value.map(|value| (key, version, value))).collect();
    cut(ScanPage { documents, next: end.as_ref().map(behind) }, limit)
}

/// A page of the documents of several shards: the pages of each, merged up to where the first of them ends.
pub fn join(pages: Vec<ScanPage>, limit: usize) -> ScanPage {
    let next = pages.iter().filter_map(|page| page.next.clone()).min();
    let documents = pages.into_iter().flat_map(|page| page.documents);
    let mut documents: Vec<_> =
        documents.filter(|(key, ..)| next.as_deref().is_none_or(|next| key.encoded() < next)).collect();
    documents.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    cut(ScanPage { documents, next }, limit)
}

fn cut(mut page: ScanPage, limit: usize) -> ScanPage {
    if page.documents.len() > limit {
        page.documents.truncate(limit);
        page.next = page.documents.last().map(|(key, ..)| behind(key));
    }
    page
}
