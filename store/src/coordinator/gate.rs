//! The safety gate: which combinations of anti-entropy and delta pass may cut over.
//!
//! | anti-entropy | delta pass | verdict |
//! |---|---|---|
//! | on | on | allowed |
//! | off | on | allowed, with a warning: no defence in depth |
//! | on, with repair | skipped | allowed, with a warning: a loss window opens at Activate and lasts until repair |
//! | off | skipped | refused: `UnsafeCutover` |
//!
//! A skipped delta pass is allowed only because the old replicas keep their copies until anti-entropy has passed. How many
//! replicas there are does not matter, and neither does whether anti-entropy gets through now: until it does, nobody drops
//! anything.

use serde::{Deserialize, Serialize};

use crate::config::Cutover;
use crate::env::{Nanos, millis};

/// How the replicas of a shard are kept equal in the background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntiEntropy {
    pub enabled: bool,
    /// Whether a pass repairs what it finds. Without repair it only reports, and defends nothing.
    pub repair: bool,
    /// Between the starts of two passes over a shard.
    pub period: Nanos,
}

impl Default for AntiEntropy {
    fn default() -> AntiEntropy {
        AntiEntropy { enabled: true, repair: true, period: millis(1_000) }
    }
}

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Allowed; the text is for the operator, once.
    Warned(&'static str),
    /// Nothing may be cut over like this.
    Refused,
}

/// The stable name of the refusal.
pub const UNSAFE_CUTOVER: &str = "UnsafeCutover";

/// What an operator reads with it.
pub const UNSAFE_CUTOVER_TEXT: &str = "anti-entropy is off and the delta pass is skipped: every write that misses the \
     joining nodes would be lost at Activate; switch anti-entropy on, or migrate with the delta pass";

/// When old replicas drop their copies after a skipped delta pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// After a clean anti-entropy pass that began after Activate.
    Gated,
    /// At once. Nothing but a simulator does this.
    Eager,
}

/// The one decision, evaluated at plan, at start, and again at Activate.
pub fn judge(anti_entropy: &AntiEntropy, cutover: Cutover, cleanup: Cleanup) -> Verdict {
    let repairs = anti_entropy.enabled && anti_entropy.repair;
    match (repairs, cutover) {
        (_, Cutover::Skipped) if cleanup == Cleanup::Eager => Verdict::Refused,
        (true, Cutover::Delta) => Verdict::Allowed,
        (false, Cutover::Delta) => {
            Verdict::Warned("anti-entropy is off: the delta pass alone protects this migration, with no second defence")
        }
        (true, Cutover::Skipped) => Verdict::Warned(
            "the delta pass is skipped: writes that missed the joining nodes are invisible from Activate until \
             anti-entropy has repaired them; the old replicas are kept until then",
        ),
        (false, Cutover::Skipped) => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_table() {
        let set = |enabled, repair| AntiEntropy { enabled, repair, period: 1 };
        assert_eq!(judge(&set(true, true), Cutover::Delta, Cleanup::Gated), Verdict::Allowed);
        assert!(matches!(judge(&set(false, true), Cutover::Delta, Cleanup::Gated), Verdict::Warned(_)));
        assert!(matches!(judge(&set(true, true), Cutover::Skipped, Cleanup::Gated), Verdict::Warned(_)));
        assert_eq!(judge(&set(false, true), Cutover::Skipped, Cleanup::Gated), Verdict::Refused);
        assert_eq!(judge(&set(true, false), Cutover::Skipped, Cleanup::Gated), Verdict::Refused);
        assert_eq!(judge(&set(false, false), Cutover::Skipped, Cleanup::Gated), Verdict::Refused);
        assert_eq!(judge(&set(true, true), Cutover::Skipped, Cleanup::Eager), Verdict::Refused);
        assert_eq!(judge(&set(true, true), Cutover::Delta, Cleanup::Eager), Verdict::Allowed);
    }
}
