//! Events and faults in words.

use miroir_sim::plan::FaultKind;
use miroir_sim::ratio::Ratio;
use miroir_sim::time::{MILLIS, in_seconds};

use crate::evidence::{Event, Evidence};

/// A fault as a person would say it: the shrinker writes lost frames down one by one.
pub fn of_fault(kind: &FaultKind) -> String {
    match kind {
        FaultKind::Link { from, to, loss, delay_us: 0, bandwidth_mbit: 0, frames: 1, for_ms }
            if *loss == Ratio::ONE =>
        {
            format!("the next frame from {from} to {to} is lost, within {}", in_seconds(for_ms * MILLIS))
        }
        other => other.to_string(),
    }
}

/// What begins or ends with this event of a fault, as it is planned.
pub fn of_planned(evidence: &Evidence, event: &Event) -> String {
    let id = event.id.as_str().unwrap_or_default();
    let planned = evidence.bundle.plan.sim.faults.iter().find(|fault| fault.id == id);
    // Some faults draw what they do when they begin: then the event knows more than the plan.
    match planned.map(|fault| &fault.kind) {
        Some(kind @ FaultKind::Link { .. }) => of_fault(kind),
        _ => event.text.clone(),
    }
}

/// One event of a trace as a sentence.
pub fn in_words(event: &Event) -> String {
    let process = event.process();
    match event.event.as_str() {
        "signal" => format!("{} {}", event.name, event.text),
        "crash" => format!("{process} crashes ({})", event.why),
        "start" => format!("{process} starts"),
        "pause" => format!("{process} is paused"),
        "resume" => format!("{process} goes on"),
        "fault_begin" => format!("fault {} begins: {}", event.id.as_str().unwrap_or_default(), event.text),
        "fault_end" => format!("fault {} ends", event.id.as_str().unwrap_or_default()),
        "send" => format!("{} sends {}: {}", event.from, event.to, in_short(&event.label)),
        "deliver" => format!("{} gets from {}: {}", event.to, event.from, in_short(&event.label)),
        "drop" => {
            format!("LOST ({}) on the way from {} to {}: {}", event.why, event.from, event.to, in_short(&event.label))
        }
        "call" | "return" => format!("client-{} {}s {}", event.client, event.event, without_times(&event.text)),
        kind => [kind, process, &event.text].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" "),
    }
}

/// What a frame is, where its label is the whole of it: `Command { id: 7, command: Plan { .. } }` is `Command Plan`.
fn in_short(label: &str) -> String {
    let named = |text: &str| text.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
    match label.split_once(" { ") {
        None => label.to_owned(),
        Some((kind, rest)) => match rest.split_once("command: ") {
            Some((_, command)) => format!("{kind} {}", named(command)),
            None => kind.to_owned(),
        },
    }
}

/// An operation as it prints, without whose it is and when: `client 1 write d000000 = c1-2 (711000116.., unknown)`.
fn without_times(operation: &str) -> &str {
    let words = operation.rsplit_once(" (").map_or(operation, |(words, _)| words);
    words.strip_prefix("client ").and_then(|rest| rest.split_once(' ')).map_or(words, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_told_without_its_times() {
        assert_eq!(without_times("client 1 write d000000 = c1-2 (711000116.., unknown)"), "write d000000 = c1-2");
        assert_eq!(without_times("client 12 read d000000 -> null (5..7)"), "read d000000 -> null");
    }

    #[test]
    fn a_frame_is_told_by_its_kind() {
        assert_eq!(in_short("Command { id: 7, command: Plan { shard: 0 } }"), "Command Plan");
        assert_eq!(in_short("Ping { request: 3 }"), "Ping");
        assert_eq!(in_short("ask s0 epoch 1.2: read d000001"), "ask s0 epoch 1.2: read d000001");
    }

    #[test]
    fn a_frame_lost_on_purpose_is_told_as_one() {
        let link = |frames| FaultKind::Link {
            from: "n1".to_owned(),
            to: "n2".to_owned(),
            loss: Ratio::ONE,
            delay_us: 0,
            bandwidth_mbit: 0,
            frames,
            for_ms: 20,
        };
        assert_eq!(of_fault(&link(1)), "the next frame from n1 to n2 is lost, within 0.020000 s");
        assert_eq!(of_fault(&link(2)), link(2).to_string());
    }
}
