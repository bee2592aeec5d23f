//! One directed link: what it does to the message with a given ordinal.

use crate::dice::{Dice, Random, Stream};
use crate::plan::{LinkPlan, NetworkPlan};
use crate::process::ProcessId;
use crate::ratio::Ratio;
use crate::time::{MICROS, Nanos};

/// How a link treats messages. All durations in simulated nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// No message is faster.
    pub latency_min: Nanos,
    /// Mean latency; what is above the minimum is exponentially distributed.
    pub latency_mean: Nanos,
    /// Chance of the slow path.
    pub tail: Ratio,
    /// Mean extra latency of the slow path.
    pub tail_mean: Nanos,
    /// Chance of loss.
    pub loss: Ratio,
    /// Chance of arriving twice.
    pub duplicate: Ratio,
    /// Chance of being held back.
    pub reorder: Ratio,
    /// A message held back is late by at most this.
    pub reorder_max: Nanos,
    /// Bits per microsecond (megabits per second); 0 is unlimited.
    pub bandwidth_mbit: u64,
}

impl LinkProfile {
    /// The profile that a plan gives to every link.
    pub fn from_plan(plan: &NetworkPlan) -> LinkProfile {
        LinkProfile {
            latency_min: plan.latency_min_us * MICROS,
            latency_mean: plan.latency_mean_us * MICROS,
            tail: plan.tail,
            tail_mean: plan.tail_mean_us * MICROS,
            loss: plan.loss,
            duplicate: plan.duplicate,
            reorder: plan.reorder,
            reorder_max: plan.reorder_max_us * MICROS,
            bandwidth_mbit: plan.bandwidth_mbit,
        }
    }

    /// This profile with what one link does differently.
    #[must_use]
    pub fn overridden(&self, link: &LinkPlan) -> LinkProfile {
        LinkProfile {
            loss: link.loss.unwrap_or(self.loss),
            duplicate: link.duplicate.unwrap_or(self.duplicate),
            reorder: link.reorder.unwrap_or(self.reorder),
            latency_min: self.latency_min + link.delay_us * MICROS,
            latency_mean: self.latency_mean + link.delay_us * MICROS,
            bandwidth_mbit: link.bandwidth_mbit.unwrap_or(self.bandwidth_mbit),
            ..self.clone()
        }
    }

    /// A link that only takes `latency`: nothing lost, twice or out of order. For the operator of a test, who is not under test.
    pub fn faultless(latency: Nanos) -> LinkProfile {
        LinkProfile {
            latency_min: latency,
            latency_mean: latency,
            tail: Ratio::ZERO,
            tail_mean: 0,
            loss: Ratio::ZERO,
            duplicate: Ratio::ZERO,
            reorder: Ratio::ZERO,
            reorder_max: 0,
            bandwidth_mbit: 0,
        }
    }

    /// The same speed, without loss, duplication and holding back: what remains when a run heals.
    #[must_use]
    pub fn healed(&self) -> LinkProfile {
        LinkProfile {
            loss: Ratio::ZERO,
            duplicate: Ratio::ZERO,
            reorder: Ratio::ZERO,
            tail: Ratio::ZERO,
            ..self.clone()
        }
    }
}

/// A temporary worsening of a link by a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worse {
    pub token: u64,
    pub loss: Ratio,
    pub delay: Nanos,
    /// 0: no limit.
    pub bandwidth_mbit: u64,
    /// How many frames it may still lose; none: any number.
    pub frames_left: Option<u64>,
}

/// State of one directed link.
pub(super) struct Link {
    /// None: the fabric's default.
    pub profile: Option<LinkProfile>,
    pub worse: Vec<Worse>,
    /// How many faults clog it now.
    pub clogs: u32,
    /// How many partitions cut it now.
    pub cuts: u32,
    /// How many cuts there ever were: a frame that sees this number change in flight is lost.
    pub cuts_ever: u32,
    /// Frames sent: the ordinal of the next decision.
    pub sent: u64,
    /// Until when earlier frames occupy the wire.
    pub busy_until: Nanos,
    pub stream: Stream,
}

/// Every directed link that was ever used, by sender and receiver: dense, for it is looked up twice per frame.
#[derive(Default)]
pub(super) struct Links(Vec<Vec<Option<Box<Link>>>>);

impl Links {
    pub fn get(&self, from: ProcessId, to: ProcessId) -> Option<&Link> {
        self.0.get(from.index())?.get(to.index())?.as_deref()
    }

    pub fn get_or_make(&mut self, dice: Dice, from: ProcessId, to: ProcessId) -> &mut Link {
        if self.0.len() <= from.index() {
            self.0.resize_with(from.index() + 1, Vec::new);
        }
        let row = &mut self.0[from.index()];
        if row.len() <= to.index() {
            row.resize_with(to.index() + 1, || None);
        }
        row[to.index()].get_or_insert_with(|| {
            let key = u64::from(from.0) << 32 | u64::from(to.0);
            Box::new(Link::new(dice.stream("net", key)))
        })
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.iter_mut().flatten().flatten().map(|link| &mut **link)
    }
}

/// What becomes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Arrives { at: Nanos, twice_at: Option<Nanos> },
}

impl Link {
    pub fn new(stream: Stream) -> Link {
        Link { profile: None, worse: Vec::new(), clogs: 0, cuts: 0, cuts_ever: 0, sent: 0, busy_until: 0, stream }
    }

    /// Decides the fate of the next frame, from its ordinal on this link alone (and, with a bandwidth, from what is queued before it).
    pub fn decide(&mut self, default: &LinkProfile, now: Nanos, len: usize) -> Fate {
        let profile = self.profile.as_ref().unwrap_or(default);
        let mut draws = self.stream.at(self.sent);
        self.sent += 1;
        let losing = self.worse.iter().filter(|worse| worse.frames_left != Some(0));
        let loss = losing.fold(profile.loss, |loss, worse| loss.max(worse.loss));
        let delay: Nanos = self.worse.iter().map(|worse| worse.delay).sum();
        let limits = self.worse.iter().map(|worse| worse.bandwidth_mbit).chain([profile.bandwidth_mbit]);
        let bandwidth_mbit = limits.filter(|&limit| limit > 0).min().unwrap_or(0);
        // Always drawn, and in this order, so that a changed ratio shifts nothing else in this decision.
        let lost = draws.chance(loss);
        let twice = draws.chance(profile.duplicate);
        let held_back = draws.chance(profile.reorder);
        let slow = draws.chance(profile.tail);
        let spread = profile.latency_mean.saturating_sub(profile.latency_min);
        let latency = profile.latency_min + draws.exponential(spread);
        if lost {
            // One fault that wanted a frame has had it, whether or not it was the one that decided.
            let limited = self.worse.iter_mut().filter(|worse| worse.loss != Ratio::ZERO);
            if let Some(left) = limited.filter_map(|worse| worse.frames_left.as_mut()).find(|left| **left > 0) {
                *left -= 1;
            }
            return Fate::Lost;
        }
        let mut at = now;
        if let Some(wire) = (len as u64 * 8 * MICROS).checked_div(bandwidth_mbit) {
            self.busy_until = self.busy_until.max(now) + wire;
            at = self.busy_until;
        }
        at += latency + delay;
        if slow {
            at += draws.exponential(profile.tail_mean);
        }
        if held_back {
            at += draws.range(0..=profile.reorder_max);
        }
        let twice_at = twice.then(|| at + draws.exponential(spread.max(profile.latency_min)));
        Fate::Arrives { at, twice_at }
    }
}
