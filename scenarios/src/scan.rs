//! Scans: what is planned of them, and what was read.

use miroir_sim::history::Version;
use miroir_sim::time::Nanos;
use serde::{Deserialize, Serialize};

/// A client that reads every shard from its first document to its last, page by page, over and over. It takes no part in
/// the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanPlan {
    /// By number, from 1.
    pub client: u32,
    /// Of a page, at most. Small, so that a scan takes long enough for something to happen meanwhile.
    pub page_documents: u32,
}

/// What a scan of one shard has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    pub client: u32,
    pub shard: u32,
    /// At least one.
    pub pages: Vec<Page>,
    /// Whether it came to the end of the shard.
    pub is_whole: bool,
}

impl Scan {
    /// When its first page was asked for.
    pub fn began(&self) -> Nanos {
        self.pages.first().map_or(0, |page| page.called)
    }

    /// When its last page was there.
    pub fn ended(&self) -> Nanos {
        self.pages.last().map_or(0, |page| page.returned)
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub called: Nanos,
    pub returned: Nanos,
    /// In the order in which the client got them.
    pub documents: Vec<(String, Version)>,
}
