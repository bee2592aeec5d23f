//! A loss window in one sentence, and sums over windows: what was missed and how, whether a delta pass could have
//! carried it over, and which commit made the miss visible.

use miroir_sim::oracle::durable::Window;
use miroir_sim::record::Losses;
use miroir_sim::time::{MILLIS, Nanos};
use miroir_store::config::{Form, ShardConfig};

use crate::audit::Books;

/// `dual-write to n3 lost at 1.204000 s (loss 1/100); delta pass skipped; opened by Activate, epoch 1.7`.
pub fn in_words(window: &Window, books: &Books) -> String {
    let mut parts: Vec<String> = window.cause.split("; ").map(reason).collect();
    let (before, opening) = commits(window, books);
    if opening.or(before).is_some_and(ShardConfig::gate_unmet) {
        parts.push("delta pass skipped".to_owned());
    }
    parts.push(match opening {
        Some(config) => format!("opened by {}, epoch {}", commit_name(before, config), config.epoch),
        None => format!("opened: {}", window.opened_by),
    });
    parts.join("; ")
}

/// A reason as the auditor has it, without the words that only repeat who missed something.
fn reason(text: &str) -> String {
    text.split_once(" missed it: ").map_or(text, |(_, why)| why).to_owned()
}

/// The configuration of the window's shard before it opened, and the one whose commit opened it, if one did.
fn commits<'a>(window: &Window, books: &'a Books) -> (Option<&'a ShardConfig>, Option<&'a ShardConfig>) {
    let mut of_shard = books.config_log.iter().filter(|(_, config)| config.shard.0 == window.shard);
    let before = of_shard.clone().take_while(|(at, _)| *at < window.opened_at).last().map(|(_, config)| config);
    let opening = of_shard.rfind(|(at, _)| *at == window.opened_at).map(|(_, config)| config);
    if window.opened_by.starts_with("configuration committed") { (before, opening) } else { (opening.or(before), None) }
}

fn commit_name(before: Option<&ShardConfig>, config: &ShardConfig) -> &'static str {
    match (before.map(|before| before.form), config.form) {
        (Some(Form::Joint), Form::Stable) if before.is_some_and(|before| before.new == config.new) => "Activate",
        (Some(Form::Joint | Form::DualWrite), Form::Stable) => "an abort",
        (_, Form::DualWrite) => "DualWrite",
        (_, Form::Joint) => "Joint",
        (_, Form::Stable) => "a commit",
    }
}

/// Why a write was missed, in one word or two: the first reason decides.
fn cause(window: &Window) -> &'static str {
    const CAUSES: [(&str, &str); 8] = [
        ("dual-write to", "a dual-write was lost"),
        (" lost at ", "a write was lost"),
        ("under epoch", "a write was turned away by its epoch"),
        ("disk was lost", "a disk was lost"),
        ("had rotted", "a copy had rotted"),
        ("dropped in cleanup", "a copy was dropped"),
        ("wiped", "a copy was wiped"),
        ("never sent it", "never sent, or not yet durable"),
    ];
    CAUSES.iter().find(|(words, _)| window.cause.contains(words)).map_or("something else", |(_, name)| name)
}

/// Sums per cause, per stage and per length. Lengths are counted by the least power of two of milliseconds that they stay
/// below, and rounded up to two digits; windows that never closed by 0.
pub fn losses(windows: &[Window]) -> Losses {
    let mut losses = Losses::default();
    for window in windows {
        let (stage, cause) = (window.stage.clone(), cause(window).to_owned());
        *losses.by_cause.entry(cause.clone()).or_default() += 1;
        *losses.by_stage.entry(stage.clone()).or_default() += 1;
        let length = window.closed_at.map(|closed| closed.saturating_sub(window.opened_at));
        *losses.by_length_ms.entry(length.map_or(0, below_ms)).or_default() += 1;
        let lengths = losses.lengths_ms.entry(stage).or_default().entry(cause).or_default();
        *lengths.entry(length.map_or(0, rounded_ms)).or_default() += 1;
    }
    losses
}

fn below_ms(length: Nanos) -> u64 {
    (length / MILLIS + 1).next_power_of_two()
}

/// In milliseconds, rounded up to two digits: one in ten too long at most, and never too short.
fn rounded_ms(length: Nanos) -> u64 {
    let ms = length.div_ceil(MILLIS).max(1);
    let step = 10_u64.pow(ms.ilog10().saturating_sub(1));
    ms.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_sim::oracle::durable::Kind;
    use miroir_store::config::{Cutover, Replica};
    use miroir_store::id::{DiskId, Epoch, NodeId, Session, ShardId};

    fn window(opened_by: &str) -> Window {
        Window {
            shard: 0,
            doc: "d000007".to_owned(),
            version: (7, 1),
            client: 3,
            acked_at: 10,
            opened_at: 20,
            closed_at: Some(20 + 3 * MILLIS),
            kind: Kind::Transient,
            opened_by: opened_by.to_owned(),
            closed_by: Some("anti-entropy is durable on n3".to_owned()),
            cause: "n3 missed it: dual-write to n3 lost at 1.204000 s (loss 1/100)".to_owned(),
            stage: "DeltaPass".to_owned(),
        }
    }

    fn books() -> Books {
        let replica = |n: u32| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(n.into()) };
        let first = ShardConfig::initial(ShardId(0), 1, vec![replica(1)]);
        let epoch = |n| Epoch { generation: 1, n };
        let joint = ShardConfig {
            epoch: epoch(6),
            form: Form::Joint,
            old: vec![replica(1)],
            new: vec![replica(3)],
            cutover: Cutover::Skipped,
            ..first.clone()
        };
        let stable = ShardConfig { epoch: epoch(7), form: Form::Stable, ..joint.clone() };
        let mut books = Books::default();
        books.config_log.extend([(0, first), (15, joint), (20, stable)]);
        books
    }

    #[test]
    fn a_window_is_told_from_the_miss_to_the_commit_that_opened_it() {
        let told = in_words(&window("configuration committed: Stable(n3) epoch 1.7"), &books());
        let miss = "dual-write to n3 lost at 1.204000 s (loss 1/100)";
        assert_eq!(told, format!("{miss}; delta pass skipped; opened by Activate, epoch 1.7"));
        let late = in_words(&window("acknowledged to client 3"), &books());
        assert_eq!(late, format!("{miss}; delta pass skipped; opened: acknowledged to client 3"));
    }

    #[test]
    fn windows_are_summed_by_cause_stage_and_length() {
        let open = Window { closed_at: None, kind: Kind::Permanent, stage: "Cleanup".to_owned(), ..window("x") };
        let losses = losses(&[window("x"), open]);
        assert_eq!(losses.by_cause, [("a dual-write was lost".to_owned(), 2)].into());
        assert_eq!(losses.by_stage, [("Cleanup".to_owned(), 1), ("DeltaPass".to_owned(), 1)].into());
        assert_eq!(losses.by_length_ms, [(0, 1), (4, 1)].into());
        let lengths = |length| [("a dual-write was lost".to_owned(), [(length, 1)].into())].into();
        assert_eq!(
            losses.lengths_ms,
            [("Cleanup".to_owned(), lengths(0)), ("DeltaPass".to_owned(), lengths(3))].into()
        );
    }

    #[test]
    fn a_length_is_rounded_up_to_two_digits() {
        let rounded =
            [1, MILLIS, 99 * MILLIS, 99 * MILLIS + 1, 101 * MILLIS, 990 * MILLIS, 991 * MILLIS].map(rounded_ms);
        assert_eq!(rounded, [1, 1, 99, 100, 110, 990, 1_000]);
    }
}
