//! Compares the replicas of a shard: digests first, then the documents of the parts that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::cli::arguments::Global;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, out};
use crate::cli::session::Session;
use crate::config::ShardConfig;
use crate::engine::{Bucket, Mark};
use crate::env::Peer;
use crate::id::{Key, NodeId, ShardId, Version};
use crate::wire::{Message, RequestId};

/// Looks that are taken, as long as replicas differ: a write under way is no difference.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(400);
/// Documents that are named.
const NAMED: usize = 20;

/// What replicas hold of the documents in which they differ.
type Differences = BTreeMap<Key, BTreeMap<NodeId, Version>>;

pub(super) async fn shard(session: &mut Session, global: &Global, shard: ShardId) -> Result<ExitCode, Failure> {
    let mut lasting: Option<Differences> = None;
    let mut documents = 0;
    let mut compared = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let config = config(session, shard).await?;
        let (held, found) = match differences(session, &config).await {
            Ok(looked) => looked,
            Err(failure) => {
                // Nodes answer only under the epoch that they have installed: a shard that moved on is looked at again.
                let moved_on = self::config(session, shard).await?.epoch != config.epoch;
                if moved_on && look + 1 < LOOKS {
                    continue;
                }
                return Err(failure);
            }
        };
        documents = held;
        compared = config.new.iter().map(|replica| replica.node).collect();
        // Only what differs at every look, in the same way, is a difference.
        let found = match lasting {
            None => found,
            Some(before) => before.into_iter().filter(|(key, held)| found.get(key) == Some(held)).collect(),
        };
        let equal = found.is_empty();
        lasting = Some(found);
        if equal {
            break;
        }
    }
    let lasting = lasting.expect("there was a look");
    let names: Vec<String> = compared.iter().map(ToString::to_string).collect();
    if global.json {
        let shown: Vec<String> = lasting.keys().take(NAMED).map(ToString::to_string).collect();
        print::json(&json!({
            "shard": shard.0, "nodes": compared.iter().map(|node| node.0).collect::<Vec<_>>(),
            "documents": documents, "differences": lasting.len(), "named": shown,
        }));
    } else if lasting.is_empty() {
        out(format!("{shard}: {documents} documents are the same on {}", names.join(" ")));
    } else {
        out(format!("{shard}: {} of {documents} documents differ between {}", lasting.len(), names.join(" ")));
        for (key, held) in lasting.iter().take(NAMED) {
            let held = compared.iter().map(|node| match held.get(node) {
                Some(version) => format!("{node} {version}"),
                None => format!("{node} nothing"),
            });
            out(format!("  {key}: {}", held.collect::<Vec<_>>().join(", ")));
        }
    }
    Ok(if lasting.is_empty() { ExitCode::AsExpected } else { ExitCode::Finding })
}

async fn config(session: &mut Session, shard: ShardId) -> Result<ShardConfig, Failure> {
    let configs = session.inspect().await?.configs;
    let found = configs.into_iter().find(|config| config.shard == shard);
    found.ok_or_else(|| Failure::nothing("NoSuchShard", format!("there is no shard {shard}")))
}

/// The number of documents, and those in which the replicas of `new` differ.
async fn differences(session: &mut Session, config: &ShardConfig) -> Result<(u64, Differences), Failure> {
    let (shard, epoch) = (config.shard, config.epoch);
    let mut digests = BTreeMap::new();
    for node in config.new.iter().map(|replica| replica.node) {
        let request = request(session);
        let answer = |message| match message {
            Message::Digests { request: answered, buckets, documents, .. } if answered == request => {
                Some((buckets, documents))
            }
            _ => None,
        };
        let question = Message::Digest { request, shard, epoch };
        digests.insert(node, session.ask(Peer::Node(node), &question, answer).await.ok_or_else(|| silent(node))?);
    }
    let most = digests.values().map(|(_, documents)| *documents).max().unwrap_or(0);
    let first = digests.values().next().map(|(buckets, _)| buckets.clone()).unwrap_or_default();
    let differs = |bucket: &usize| digests.values().any(|(buckets, _)| buckets.get(*bucket) != first.get(*bucket));
    let buckets: Vec<Bucket> = (0..first.len()).filter(differs).map(|bucket| Bucket(bucket as u32)).collect();
    let mut held: BTreeMap<NodeId, BTreeMap<Key, Mark>> = BTreeMap::new();
    // Few buckets at a time, so that a listing fits into a frame.
    for part in buckets.chunks(4) {
        for node in digests.keys() {
            let request = request(session);
            let answer = |message| match message {
                Message::Listing { request: answered, entries, .. } if answered == request => Some(entries),
                _ => None,
            };
            let question = Message::List { request, shard, epoch, level: 0, buckets: part.to_vec() };
            let entries = session.ask(Peer::Node(*node), &question, answer).await.ok_or_else(|| silent(*node))?;
            held.entry(*node).or_default().extend(entries);
        }
    }
    let keys: BTreeSet<&Key> = held.values().flat_map(BTreeMap::keys).collect();
    let mut differing = Differences::new();
    for key in keys {
        let marks: BTreeMap<NodeId, Mark> =
            held.iter().filter_map(|(node, held)| Some((*node, *held.get(key)?))).collect();
        let same = marks.len() == digests.len() && marks.values().all(|it| Some(it) == marks.values().next());
        if !same {
            differing.insert(key.clone(), marks.into_iter().map(|(node, mark)| (node, mark.version)).collect());
        }
    }
    Ok((most, differing))
}

fn request(session: &mut Session) -> RequestId {
    RequestId { job: session.fresh(), n: 0 }
}

fn silent(node: NodeId) -> Failure {
    Failure::nothing(
        "Unreachable",
        format!("{node} did not answer, so its copy cannot be compared; see `miroir nodes list`"),
    )
}
