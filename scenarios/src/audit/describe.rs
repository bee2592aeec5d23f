//! Frames, for people who read traces.

use miroir_sim::tcp;
use miroir_store::wire::{Message, Op, decode};

/// A frame in words, for full traces.
pub fn describe(frame: &[u8]) -> String {
    match decode(frame) {
        Ok(Message::Batch { shard, epoch, ops }) => {
            let ops: Vec<String> = ops
                .iter()
                .map(|(_, op)| match op {
                    Op::Counter => "counter".to_owned(),
                    Op::Read { key } => format!("read {}", key.id()),
                    Op::Write { key, version, value, .. } => {
                        format!("{} {} {version}", if value.is_some() { "write" } else { "delete" }, key.id())
                    }
                })
                .collect();
            format!("{shard} epoch {epoch}: {}", ops.join(", "))
        }
        Ok(Message::Install { config }) => format!("install {config}"),
        Ok(message) => {
            let text = format!("{message:?}");
            text.chars().take(120).collect()
        }
        Err(error) => tcp::describe(frame).unwrap_or_else(|| format!("undecodable: {error}")),
    }
}
