//! Copies one shard to one joining node, page by page, from whichever old replica answers.

use crate::config::{Replica, ShardConfig};
use crate::env::Nanos;
use crate::id::{Key, NodeId};
use crate::migration::Timing;
use crate::wire::{Message, PageEnd, Purpose, RequestId, Selection};

/// The copy to one joining node. One page is under way at a time; a page that is not confirmed is asked for again,
/// from the next source. Pages merge by version, so a page that comes twice or late does no harm.
#[derive(Clone, Debug)]
pub struct Copy {
    to: Replica,
    after: Option<Key>,
    done: bool,
    /// Every question for the present page: an answer to any of them will do.
    under_way: Vec<RequestId>,
    asked_at: Option<Nanos>,
    turn: usize,
    pages: u64,
}

impl Copy {
    pub fn new(to: Replica) -> Copy {
        Copy { to, after: None, done: false, under_way: Vec::new(), asked_at: None, turn: 0, pages: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Pages that the joining node has made durable.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether a page was asked for and has not been confirmed.
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// When the next page is asked for, or the last one again.
    pub fn deadline(&self, timing: &Timing) -> Nanos {
        let rest = if self.is_under_way() { timing.page_resend } else { timing.page_interval };
        match (self.done, self.asked_at) {
            (true, _) => Nanos::MAX,
            (false, None) => 0,
            (false, Some(at)) => at + rest,
        }
    }

    /// The next page to ask for, if it is time to; `request` names the question.
    pub fn ask(
        &mut self,
        now: Nanos,
        timing: &Timing,
        config: &ShardConfig,
        request: RequestId,
    ) -> Option<(NodeId, Message)> {
        if now < self.deadline(timing) {
            return None;
        }
        if self.is_under_way() && mutant!("M23") {
            self.under_way.clear();
            self.done = true;
            return None;
        }
        if self.is_under_way() {
            self.turn += 1;
        }
        self.under_way.push(request);
        self.asked_at = Some(now);
        let source = config.old[self.turn % config.old.len()].node;
        let ship = Message::Ship {
            request,
            shard: config.shard,
            epoch: config.epoch,
            purpose: Purpose::Copy,
            selection: Selection::Page { after: self.after.clone(), documents: timing.page_documents },
            to: self.to,
            raise_to: 0,
        };
        Some((source, ship))
    }

    /// The joining node has made a page durable.
    pub fn confirmed(&mut self, request: RequestId, end: &PageEnd) {
        if !self.under_way.contains(&request) && !mutant!("M25") {
            return;
        }
        self.under_way.clear();
        self.pages += 1;
        self.after = end.last.clone();
        self.done = !end.more;
    }
}
