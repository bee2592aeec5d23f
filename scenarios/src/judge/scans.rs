//! What a scan must obey: each document at most once and in order; one that exists throughout exactly once; none older
//! than what had been acknowledged when its page was asked for, as a page is read by a quorum.
//!
//! Whether a document existed throughout is known from the clients' history alone: an acknowledged put came before the
//! scan began, and every deletion that was called before it ended has a smaller version. Documents with a loss window
//! meanwhile are excepted, as reads are.

use std::collections::{BTreeMap, BTreeSet};

use miroir_sim::history::{Op, Operation, Outcome};
use miroir_sim::oracle::durable::Window;
use miroir_sim::sometimes;
use miroir_sim::time::{Nanos, in_seconds};
use miroir_store::config::Form;
use miroir_store::id::Key;

use super::{Finding, violation};
use crate::audit::Books;
use crate::scan::{Page, Scan};
use crate::workload::COLLECTION;

pub(super) fn judge(
    books: &Books,
    history: &[Operation],
    windows: &[Window],
    shards: u32,
    findings: &mut Vec<Finding>,
) {
    if books.scans.is_empty() {
        return;
    }
    let cutovers = cutovers(books);
    let writes = Writes::new(history, windows, shards);
    for scan in &books.scans {
        let crosses = |at: Nanos| scan.pages[0].returned < at && at < scan.pages[scan.pages.len() - 1].called;
        let crossed = scan.is_whole && cutovers.iter().any(|(shard, at)| *shard == scan.shard && crosses(*at));
        sometimes!(crossed, "a scan crossed a cutover");
        let commits = books.config_log.iter().filter(|(_, config)| config.shard.0 == scan.shard).map(|(at, _)| *at);
        let met = |page: &Page, at: Nanos| page.called < at && at < page.returned;
        let met = commits.into_iter().any(|at| scan.pages.iter().any(|page| met(page, at)));
        sometimes!(met, "a page of a scan met a newer configuration");
        if let Some(finding) = writes.wrong(scan, crossed) {
            findings.push(finding);
            return;
        }
    }
}

/// When which shard was cut over.
fn cutovers(books: &Books) -> Vec<(u32, Nanos)> {
    let of_shard = |shard| books.config_log.iter().filter(move |(_, config)| config.shard == shard);
    let pairs = books.configs.keys().flat_map(|shard| of_shard(*shard).zip(of_shard(*shard).skip(1)));
    let activates = pairs
        .filter(|((_, last), (_, next))| last.form == Form::Joint && next.form == Form::Stable && last.new == next.new);
    activates.map(|(_, (at, config))| (config.shard.0, *at)).collect()
}

/// What clients wrote to each document, and when it could be missed.
struct Writes<'a> {
    shards: u32,
    of: BTreeMap<&'a str, Vec<&'a Operation>>,
    lost: BTreeMap<&'a str, Vec<(Nanos, Nanos)>>,
}

impl<'a> Writes<'a> {
    fn new(history: &'a [Operation], windows: &'a [Window], shards: u32) -> Writes<'a> {
        let (mut of, mut lost) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let written = |it: &&Operation| !matches!(it.op, Op::Read { .. }) && it.outcome != Outcome::Rejected;
        for write in history.iter().filter(written) {
            of.entry(&*write.key).or_default().push(write);
        }
        for window in windows {
            let span = (window.opened_at, window.closed_at.unwrap_or(Nanos::MAX));
            lost.entry(window.doc.as_str()).or_default().push(span);
        }
        Writes { shards, of, lost }
    }

    /// The first thing that is wrong with a scan.
    fn wrong(&self, scan: &Scan, crossed: bool) -> Option<Finding> {
        out_of_order(scan)
            .or_else(|| scan.pages.iter().find_map(|page| self.stale(scan, page)))
            .or_else(|| if scan.is_whole { self.lacking(scan, crossed) } else { None })
    }

    fn is_excepted(&self, doc: &str, from: Nanos, to: Nanos) -> bool {
        let lost = self.lost.get(doc).into_iter().flatten();
        lost.into_iter().any(|&(opened, closed)| opened <= to && from <= closed)
    }

    /// A document that is older than what was acknowledged before its page was asked for.
    fn stale(&self, scan: &Scan, page: &Page) -> Option<Finding> {
        page.documents.iter().find_map(|(doc, version)| {
            let acked = self.newest(doc, |write| write.ret < Some(page.called))?;
            if acked.version <= Some(*version) || self.is_excepted(doc, page.called, page.returned) {
                return None;
            }
            let text = format!(
                "{}, and shows {doc} in an older version than {acked}: {}",
                of_page(scan, page),
                version.counter
            );
            let kind = "a scan shows an older version than one acknowledged before";
            Some(violation("scans", text).of_kind(kind).at(page.returned))
        })
    }

    /// The acknowledged write of a document with the greatest version.
    fn newest(&self, doc: &str, counts: impl Fn(&Operation) -> bool) -> Option<&'a Operation> {
        let acked = self.of.get(doc)?.iter().filter(|write| write.outcome == Outcome::Ok && counts(write));
        acked.max_by_key(|write| write.version).copied()
    }

    /// A document that exists throughout, and is not in the scan.
    fn lacking(&self, scan: &Scan, crossed: bool) -> Option<Finding> {
        let shown: BTreeSet<&str> = scan.pages.iter().flat_map(|page| &page.documents).map(|(doc, _)| &**doc).collect();
        let of_shard = |doc: &str| Key::new(COLLECTION, doc).is_ok_and(|key| key.shard(self.shards).0 == scan.shard);
        let (began, ended) = (scan.began(), scan.ended());
        let mut throughout = self.of.keys().copied().filter(|doc| of_shard(doc) && self.exists(doc, began, ended));
        throughout.find_map(|doc| {
            if shown.contains(doc) {
                let again = self.of[doc].iter().any(|write| {
                    write.outcome == Outcome::Ok && write.call > began && write.ret.is_some_and(|ret| ret < ended)
                });
                sometimes!(
                    crossed && again,
                    "a document was overwritten while a scan crossed a cutover, and is in it once"
                );
                return None;
            }
            if self.is_excepted(doc, began, ended) {
                return None;
            }
            let page = scan.pages.iter().find(|page| page.documents.last().is_some_and(|(last, _)| &**last > doc));
            let page = page.unwrap_or(&scan.pages[scan.pages.len() - 1]);
            let put = self.newest(doc, |write| write.ret < Some(began))?;
            let text = format!(
                "{doc} exists throughout a scan and is not in it: {put}; client-{} scanned s{} from {} to {}; {}",
                scan.client,
                scan.shard,
                in_seconds(began),
                in_seconds(ended),
                of_page(scan, page)
            );
            let kind = "a document that exists throughout a scan is not in it";
            Some(violation("scans", text).of_kind(kind).at(page.returned))
        })
    }

    /// Whether a document certainly existed from one instant to another.
    fn exists(&self, doc: &str, from: Nanos, to: Nanos) -> bool {
        let Some(newest) = self.newest(doc, |write| write.ret < Some(from) && matches!(write.op, Op::Write { .. }))
        else {
            return false;
        };
        let deletes = self.of[doc].iter().filter(|write| matches!(write.op, Op::Delete) && write.call <= to);
        deletes.into_iter().all(|delete| delete.version.is_some() && delete.version < newest.version)
    }
}

/// A document that comes behind a greater one, or behind itself.
fn out_of_order(scan: &Scan) -> Option<Finding> {
    let mut last: Option<&str> = None;
    for page in &scan.pages {
        for (doc, _) in &page.documents {
            if let Some(last) = last.filter(|last| *last >= &**doc) {
                let text = format!("{} and shows {doc} behind {last}", of_page(scan, page));
                let kind = "a scan shows a document twice or out of order";
                return Some(violation("scans", text).of_kind(kind).at(page.returned));
            }
            last = Some(doc);
        }
    }
    None
}

fn of_page(scan: &Scan, page: &Page) -> String {
    let n = scan.pages.iter().position(|it| it == page).map_or(0, |n| n + 1);
    let (called, returned) = (in_seconds(page.called), in_seconds(page.returned));
    format!(
        "page {n} of client-{}'s scan of s{} was asked for at {called}, came at {returned}",
        scan.client, scan.shard
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use miroir_sim::history::Version;

    use super::*;

    fn write(doc: &str, deletes: bool, call: u64, ret: u64, counter: u64) -> Operation {
        let op = if deletes { Op::Delete } else { Op::Write { value: "x".to_owned() } };
        Operation {
            client: 1,
            key: Arc::from(doc),
            op,
            call,
            ret: Some(ret),
            outcome: Outcome::Ok,
            version: Some(Version { counter, writer: 1 }),
        }
    }

    /// Two pages, from 100 to 120 and from 130 to 150.
    fn scan(pages: [&[(&str, u64)]; 2]) -> Scan {
        let page = |called, documents: &[(&str, u64)]| {
            let documents = documents.iter().map(|(doc, counter)| ((*doc).to_owned(), *counter));
            let documents = documents.map(|(doc, counter)| (doc, Version { counter, writer: 1 })).collect();
            Page { called, returned: called + 20, documents }
        };
        Scan { client: 3, shard: 0, pages: vec![page(100, pages[0]), page(130, pages[1])], is_whole: true }
    }

    fn found(history: &[Operation], windows: &[Window], scan: Scan) -> Vec<(String, Option<Nanos>)> {
        let mut findings = Vec::new();
        let mut books = Books::default();
        books.scans.push(scan);
        judge(&books, history, windows, 1, &mut findings);
        findings.into_iter().map(|finding| (finding.kind, finding.at)).collect()
    }

    #[test]
    fn a_document_that_exists_throughout_is_in_a_scan_once() {
        let history = [write("d000001", false, 0, 10, 1), write("d000002", false, 0, 10, 2)];
        let lacks = [("a document that exists throughout a scan is not in it".to_owned(), Some(150))];
        let twice = [("a scan shows a document twice or out of order".to_owned(), Some(150))];
        assert!(found(&history, &[], scan([&[("d000001", 1)], &[("d000002", 2)]])).is_empty());
        assert_eq!(found(&history, &[], scan([&[("d000001", 1)], &[]])), lacks);
        assert_eq!(found(&history, &[], scan([&[("d000001", 1)], &[("d000001", 1), ("d000002", 2)]])), twice);
        assert_eq!(found(&history, &[], scan([&[("d000002", 2)], &[("d000001", 1)]])), twice);
        assert!(found(&history, &[], Scan { is_whole: false, ..scan([&[("d000001", 1)], &[]]) }).is_empty());
    }

    #[test]
    fn one_that_comes_or_goes_meanwhile_may_be_in_it_or_not() {
        let history = [
            write("d000001", false, 0, 10, 1),
            write("d000001", true, 145, 160, 5),
            write("d000002", false, 90, 101, 2),
            write("d000003", true, 0, 10, 3),
            write("d000003", false, 20, 30, 4),
        ];
        assert_eq!(found(&history, &[], scan([&[], &[]])).len(), 1, "d000003 was there again in time");
        assert!(found(&history, &[], scan([&[], &[("d000003", 4)]])).is_empty());
        assert!(found(&history, &[], scan([&[("d000001", 1), ("d000002", 2)], &[("d000003", 4)]])).is_empty());
    }

    #[test]
    fn a_page_shows_what_was_acknowledged_before_it_was_asked_for() {
        let history = [write("d000001", false, 0, 10, 1), write("d000001", false, 20, 120, 2)];
        let stale = "a scan shows an older version than one acknowledged before".to_owned();
        assert!(found(&history, &[], scan([&[("d000001", 1)], &[]])).is_empty(), "it was acknowledged meanwhile");
        let late = scan([&[], &[("d000001", 1)]]);
        assert_eq!(found(&history, &[], late.clone()), [(stale, Some(150))]);
        let window = Window {
            shard: 0,
            doc: "d000001".to_owned(),
            version: (2, 1),
            client: 1,
            acked_at: 120,
            opened_at: 120,
            closed_at: Some(140),
            kind: miroir_sim::oracle::durable::Kind::Transient,
            opened_by: String::new(),
            closed_by: None,
            cause: String::new(),
            stage: String::new(),
        };
        assert!(found(&history, &[window], late).is_empty(), "reads in a loss window are excepted");
    }
}
