//! What of a dump lands nowhere, counted.

use std::collections::BTreeMap;
use std::fmt;

use crate::dump::survey::Counts;

/// What will not be there after the import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub counts: Counts,
    /// V1: unfinished updates, whose documents are not in the dump.
    pub unrecoverable: u64,
    /// Unfinished tasks that do nothing to documents here, or were not to be replayed, by what they are.
    pub not_replayed: BTreeMap<String, u64>,
    /// V1: indexes whose documents lack what was not displayed.
    pub hidden: u64,
}

impl Losses {
    /// One phrase for each, in a fixed order.
    pub fn phrases(&self) -> Vec<String> {
        let counts = &self.counts;
        let mut phrases = Vec::new();
        let mut say = |count: u64, one: &str, many: &str| {
            if count > 0 {
                phrases.push(format!("{count} {}", if count == 1 { one } else { many }));
            }
        };
        say(self.unrecoverable, "enqueued update cannot be recovered", "enqueued updates cannot be recovered");
        say(counts.batches, "batch", "batches");
        say(counts.finished_tasks, "finished task", "finished tasks");
        say(counts.keys, "key", "keys");
        say(counts.webhooks, "webhook", "webhooks");
        say(counts.features, "experimental feature", "experimental features");
        say(counts.remotes, "remote of the network", "remotes of the network");
        say(counts.chat_settings, "chat setting", "chat settings");
        say(counts.search_rules, "search rule", "search rules");
        say(counts.internal_indexes, "internal index", "internal indexes");
        say(
            self.hidden,
            "index without the fields that were not displayed",
            "indexes without the fields that were not displayed",
        );
        for (kind, count) in &self.not_replayed {
            let kind = kind.escape_debug();
            let tasks = if *count == 1 { "task" } else { "tasks" };
            phrases.push(format!("{count} unfinished {tasks} `{kind}`"));
        }
        phrases
    }

    pub fn is_empty(&self) -> bool {
        self.phrases().is_empty()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.phrases()[..] {
            [] => f.write_str("nothing"),
            [one] => f.write_str(one),
            [first @ .., last] => write!(f, "{} and {last}", first.join(", ")),
        }
    }
}
