//! The client that scans.

use std::sync::atomic::Ordering;

use miroir_sim::time::MILLIS;
use miroir_store::id::ShardId;
use miroir_store::router::scan::ScanRequest;
use miroir_store::wire::NameRange;

use super::{Actor, Load, hint};
use crate::scan::{Page, Scan, ScanPlan};

impl Actor {
    /// Begins when the others are let go.
    pub(super) async fn scan_beside_a_script(&mut self, plan: &ScanPlan, load: &Load) {
        load.0.loaded_clients.fetch_add(1, Ordering::Relaxed);
        while !load.0.go.load(Ordering::Relaxed) {
            self.world.sleep(MILLIS).await;
        }
        self.scan(plan, load).await;
    }

    /// Reads one shard after the other until the load ends.
    pub(super) async fn scan(&mut self, plan: &ScanPlan, load: &Load) {
        let mut shards = (0..self.shards).cycle();
        while !load.0.stop.load(Ordering::Relaxed) {
            let shard = shards.next().expect("a cluster has a shard");
            let scan = self.scan_shard(shard, plan.page_documents, load).await;
            if !scan.pages.is_empty() {
                self.audit.scanned(scan);
            }
        }
        load.0.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// From the first document to the last. Ends early with the load, or where no quorum answers.
    async fn scan_shard(&mut self, shard: u32, documents: u32, load: &Load) -> Scan {
        let mut scan = Scan { client: self.number, shard, pages: Vec::new(), is_whole: false };
        let mut from = String::new();
        while !load.0.stop.load(Ordering::Relaxed) {
            let called = self.world.now();
            let range = NameRange { from, until: None };
            let request = ScanRequest { shard: ShardId(shard), range, documents };
            let Some(page) = self.client.scan(request).await else { break };
            let documents = page.documents.iter().map(|(key, version, _)| (key.id().to_owned(), hint(*version)));
            scan.pages.push(Page { called, returned: self.world.now(), documents: documents.collect() });
            match page.next {
                Some(next) => from = next,
                None => {
                    scan.is_whole = true;
                    break;
                }
            }
        }
        scan
    }
}
