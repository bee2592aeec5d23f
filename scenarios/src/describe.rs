//! What a frame says, in words: for traces, explanations and pictures.
//!
//! The first word is the kind of message; what follows names shard, epoch, documents and versions as everything else does.

use miroir_sim::tcp;
use miroir_store::id::{Key, Version};
use miroir_store::wire::{Answer, Message, Op, Purpose, decode};

/// How many documents are named; the rest is counted.
const NAMED: usize = 6;

/// How much of a message without words of its own is shown, in characters.
const SHOWN: usize = 120;

/// A frame in words.
pub fn describe(frame: &[u8]) -> String {
    match decode(frame) {
        Ok(message) => words(&message),
        Err(error) => tcp::describe(frame).unwrap_or_else(|| format!("undecodable: {error}")),
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::Batch { shard, epoch, ops } => {
            format!("ask {shard} epoch {epoch}: {}", listed(ops.iter().map(|(_, op)| asked(op))))
        }
        Message::Answers { shard, epoch, answers } => {
            format!("answer {shard} epoch {epoch}: {}", listed(answers.iter().map(|(_, answer)| answered(answer))))
        }
        Message::Stale { config } => format!("stale: the node has {config}"),
        Message::Behind { shard, epoch } => format!("behind: the node has {shard} epoch {epoch}"),
        Message::Unable { shard, epoch } => format!("unable: no copy of {shard} to answer from, epoch {epoch}"),
        Message::Install { config } => format!("install {config}"),
        Message::Installed { node, copy, .. } => format!("installed {} epoch {} on {node}", copy.shard, copy.epoch),
        Message::Fetch { shard } => format!("fetch the configuration of {shard}"),
        Message::Digest { request, shard, epoch } => format!("digest? job {} {shard} epoch {epoch}", request.job),
        Message::Digests { request, node, documents, .. } => {
            format!("digest! job {} {node}: {documents} documents", request.job)
        }
        Message::Split { request, shard, epoch, .. } => format!("split? job {} {shard} epoch {epoch}", request.job),
        Message::Sums { request, node, .. } => format!("split! job {} {node}", request.job),
        Message::List { request, shard, epoch, .. } => format!("list? job {} {shard} epoch {epoch}", request.job),
        Message::Listing { request, node, entries } => {
            format!(
                "list! job {} {node}: {}",
                request.job,
                listed(entries.iter().map(|(key, mark)| named(key, mark.version)))
            )
        }
        Message::Ship { request, shard, purpose, to, .. } => {
            format!("ship job {} {shard} to {} ({})", request.job, to.node, for_what(*purpose))
        }
        Message::Repair { request, shard, purpose, documents, .. } => format!(
            "repair job {} {shard} ({}): {}",
            request.job,
            for_what(*purpose),
            listed(documents.iter().map(|it| named(&it.key, it.version)))
        ),
        Message::Repaired { request, node, applied, .. } => {
            format!("repaired job {} {node}: {applied} were lacking", request.job)
        }
        Message::Drop { shard, epoch } => format!("drop {shard} epoch {epoch}"),
        Message::Dropped { node, shard, .. } => format!("dropped {shard} on {node}"),
        other => format!("{other:?}").chars().take(SHOWN).collect(),
    }
}

fn asked(op: &Op) -> String {
    match op {
        Op::Counter => "counter".to_owned(),
        Op::Read { key } => format!("read {}", key.id()),
        Op::Write { key, version, value, .. } => {
            format!("{} {}", if value.is_some() { "write" } else { "delete" }, named(key, *version))
        }
    }
}

fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Counter(counter) => format!("counter {counter}"),
        Answer::Read { version, .. } if *version == Version::ZERO => "read nothing".to_owned(),
        Answer::Read { version, value: None } => format!("read a tombstone {version}"),
        Answer::Read { version, value: Some(_) } => format!("read {version}"),
        Answer::Written => "written".to_owned(),
        Answer::BelowBarrier => "below the barrier".to_owned(),
        Answer::TooLong { limit } => format!("longer than {limit} bytes"),
    }
}

fn for_what(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Copy => "page",
        Purpose::Delta => "delta",
        Purpose::AntiEntropy => "anti-entropy",
        Purpose::Readmission => "readmission",
    }
}

fn named(key: &Key, version: Version) -> String {
    format!("{} {version}", key.id())
}

fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let count = items.len();
    let mut shown: Vec<String> = items.take(NAMED).collect();
    if count > NAMED {
        shown.push(format!("and {} more", count - NAMED));
    }
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use miroir_store::id::{Epoch, ShardId, WriterId};
    use miroir_store::wire::{Token, encode};

    use super::*;

    #[test]
    fn frames_read_as_sentences() {
        let key = Key::new("movies", "d000063").expect("a short id");
        let version = Version { counter: 78, writer: WriterId(0x8be5 << 112) };
        let token = Token { operation: 1, attempt: 0 };
        let (shard, epoch) = (ShardId(0), Epoch::ZERO);
        let write = Op::Write { key: key.clone(), version, chosen_at: epoch, value: None };
        let ask = Message::Batch { shard, epoch, ops: vec![(token, write), (token, Op::Read { key })] };
        assert_eq!(describe(&encode(&ask)), "ask s0 epoch 0.0: delete d000063 v78:8be5, read d000063");
        let answers = vec![(token, Answer::Written); NAMED + 2];
        let answer = describe(&encode(&Message::Answers { shard, epoch, answers }));
        assert!(answer.starts_with("answer s0 epoch 0.0: written") && answer.ends_with("and 2 more"), "{answer}");
        assert!(describe(b"no frame").starts_with("undecodable"));
    }
}
