//! Time in which nobody got anything done although somebody was trying.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::record::Unavailable;
use crate::sync::lock;
use crate::time::{Nanos, in_seconds};

/// Writes (with deletes) and reads are measured apart: quorums may allow one and not the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Puts and deletes.
    Write,
    /// Gets.
    Read,
}

/// Measures, per shard, the longest gap between successes while clients were trying. Clones are the same measure.
///
/// A gap begins with the last success, or with the first attempt after everybody had been served; it ends with the next success. Attempts that
/// fail do not end it: their clients were turned away.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<(u32, Access), Gap>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    trying: u32,
    /// Since when somebody has been trying in vain.
    since: Option<Nanos>,
    longest: Nanos,
    longest_began: Nanos,
}

impl Gap {
    fn end(&mut self, at: Nanos) {
        if let Some(since) = self.since
            && at.saturating_sub(since) > self.longest
        {
            self.longest = at - since;
            self.longest_began = since;
        }
    }
}

/// A shard in which somebody has been trying in vain for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which shard.
    pub shard: u32,
    /// Doing what.
    pub access: Access,
    /// Since when, in simulated nanoseconds.
    pub since: Nanos,
    /// How many clients are waiting.
    pub trying: u32,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Write => "write to",
            Access::Read => "read from",
        };
        write!(
            f,
            "{} clients try to {access} shard {} in vain since {}",
            self.trying,
            self.shard,
            in_seconds(self.since)
        )
    }
}

impl Progress {
    fn gap(&self, shard: u32, access: Access, change: impl FnOnce(&mut Gap)) {
        change(lock(&self.0).entry((shard, access)).or_default());
    }

    /// A client begins to try.
    pub fn call(&self, at: Nanos, shard: u32, access: Access) {
        self.gap(shard, access, |gap| {
            gap.trying += 1;
            gap.since.get_or_insert(at);
        });
    }

    /// A client is done. Panics if nobody was trying.
    pub fn done(&self, at: Nanos, shard: u32, access: Access, succeeded: bool) {
        self.gap(shard, access, |gap| {
            gap.trying = gap.trying.checked_sub(1).expect("who is done has called");
            if succeeded {
                gap.end(at);
                gap.since = (gap.trying > 0).then_some(at);
            }
        });
    }

    /// The longest gaps over all shards up to `at`, including those that last.
    pub fn unavailable(&self, at: Nanos) -> Unavailable {
        let mut longest = Unavailable::default();
        for (&(_, access), gap) in &*lock(&self.0) {
            let mut gap = *gap;
            if gap.trying > 0 {
                gap.end(at);
            }
            let slot = match access {
                Access::Write => &mut longest.writes,
                Access::Read => &mut longest.reads,
            };
            *slot = (*slot).max(gap.longest);
        }
        longest
    }

    /// The longest gap of one shard that has ended: when it began, and its length.
    pub fn longest(&self, shard: u32, access: Access) -> Option<(Nanos, Nanos)> {
        lock(&self.0).get(&(shard, access)).filter(|gap| gap.longest > 0).map(|gap| (gap.longest_began, gap.longest))
    }

    /// Shards in which somebody has been trying in vain for more than `limit`.
    pub fn stalled(&self, at: Nanos, limit: Nanos) -> Vec<Stalled> {
        let gaps = lock(&self.0);
        let stalled = gaps.iter().filter_map(|(&(shard, access), gap)| {
            let since = gap.since.filter(|&since| gap.trying > 0 && at.saturating_sub(since) > limit)?;
            Some(Stalled { shard, access, since, trying: gap.trying })
        });
        stalled.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_runs_from_success_to_success_while_somebody_tries() {
        let progress = Progress::default();
        progress.call(10, 1, Access::Write);
        progress.call(20, 1, Access::Write);
        progress.done(30, 1, Access::Write, true);
        progress.done(75, 1, Access::Write, true);
        assert_eq!(progress.longest(1, Access::Write), Some((30, 45)));
        progress.call(1000, 1, Access::Write); // nobody tried in between: no gap
        progress.done(1010, 1, Access::Write, true);
        assert_eq!(progress.unavailable(2000), Unavailable { writes: 45, reads: 0 });
    }

    #[test]
    fn failures_do_not_end_a_gap() {
        let progress = Progress::default();
        progress.call(0, 1, Access::Read);
        progress.done(50, 1, Access::Read, false);
        progress.call(60, 1, Access::Read);
        assert_eq!(progress.stalled(90, 100), vec![]);
        let stalled = progress.stalled(101, 100);
        assert_eq!(stalled, [Stalled { shard: 1, access: Access::Read, since: 0, trying: 1 }]);
        assert_eq!(stalled[0].to_string(), "1 clients try to read from shard 1 in vain since 0.000000 s");
        assert_eq!(progress.unavailable(200).reads, 200);
        progress.done(210, 1, Access::Read, true);
        assert_eq!(progress.unavailable(9999).reads, 210);
    }
}
