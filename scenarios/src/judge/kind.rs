//! What kind of thing a finding is: words that are equal for equal failures, whatever seed, document, node and time.
//!
//! A fingerprint is a hash of these words. A sweep groups failures by it, and shrinking holds on to it while everything
//! else gets smaller, so it names how a failure came about and nothing that a smaller plan changes.

use std::collections::BTreeSet;

use miroir_sim::history::{Op, Operation};
use miroir_sim::oracle::converged::Difference;
use miroir_sim::oracle::durable::{Kind, Window};

/// The kind of window, how it opened, and why members had to do without the version.
///
/// Whether a repair or a newer write ended it depends on who came first, so both are one kind. That a member missed the
/// write, by a lost frame, a fence or not being asked, is one reason; what happened to the copies of the others (a joiner's
/// is always wiped) counts only where nobody missed it.
pub fn of_window(window: &Window) -> String {
    let kind = match window.kind {
        Kind::Transient | Kind::Superseded => "passing",
        Kind::Permanent => "permanent",
    };
    let reasons: BTreeSet<String> = window.cause.split(';').map(skeleton).collect();
    let missed = |reason: &String| reason.starts_with("missed it") || reason.starts_with("was never sent it");
    let reason = if reasons.iter().any(missed) {
        "a write was missed".to_owned()
    } else {
        reasons.into_iter().collect::<Vec<_>>().join("; ")
    };
    format!("{kind} window opened by {}; {reason}", skeleton(&window.opened_by))
}

/// What kind of operation no instant fits.
pub fn of_stuck(stuck: &Operation) -> String {
    let op = match &stuck.op {
        Op::Read { value: None } => "read of nothing",
        Op::Read { value: Some(_) } => "read of a value",
        Op::Write { .. } => "write",
        Op::Delete => "delete",
        Op::Cas { .. } => "cas",
    };
    format!("no instant fits a {op}")
}

/// Which promise was broken.
pub fn of_promise(wrong: &str) -> String {
    format!("a durable promise was broken: {}", skeleton(wrong))
}

/// In which way replicas differ.
pub fn of_difference(difference: &Difference) -> &'static str {
    match difference {
        Difference::Entry { .. } => "two replicas disagree about a document",
        Difference::Digest { .. } => "a digest does not match its data",
        Difference::Leftover { .. } => "somebody who is no replica keeps a copy",
        Difference::Missing { .. } => "a replica has no copy",
    }
}

/// The words of a text without what stands in parentheses and without every word that carries a number.
fn skeleton(text: &str) -> String {
    let mut depth = 0_u32;
    let outside = |c: &char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    let kept: String = text.chars().filter(outside).collect();
    let words = kept.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.map(|word| word.trim_end_matches(',')).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(doc: &str, opened_by: &str, cause: &str) -> Window {
        Window {
            shard: 0,
            doc: doc.to_owned(),
            version: (7, 1),
            client: 3,
            acked_at: 10,
            opened_at: 20,
            closed_at: None,
            kind: Kind::Permanent,
            opened_by: opened_by.to_owned(),
            closed_by: None,
            cause: cause.to_owned(),
            stage: "Activate".to_owned(),
        }
    }

    #[test]
    fn equal_failures_are_of_one_kind() {
        let one = window(
            "d000342",
            "configuration committed: Stable(n1 n6 n3) leaving(n4 n2) epoch 1.8",
            "n1 missed it: the write from client-4 to n1 was lost (loss); n3 lost its copy: wiped for a new session",
        );
        let other = window(
            "d000007",
            "configuration committed: Stable(n2 n5 n4) leaving(n1) epoch 1.12",
            "n2 lost its copy: wiped for a new session; n5 missed it: the write from client-1 to n5 was lost (cut); \
             n4 lost its copy: wiped for a new session",
        );
        assert_eq!(of_window(&one), of_window(&other));
        assert_eq!(
            of_window(&one),
            "permanent window opened by configuration committed: Stable leaving epoch; a write was missed"
        );
        let lost =
            window("d000342", "acknowledged to client 3", "n1 lost its copy: wiped (by hand); n2 lost its copy: wiped");
        assert_eq!(of_window(&lost), "permanent window opened by acknowledged to client; lost its copy: wiped");
        let superseded = Window { kind: Kind::Superseded, ..one.clone() };
        assert_eq!(of_window(&superseded), of_window(&Window { kind: Kind::Transient, ..one }));
    }
}
