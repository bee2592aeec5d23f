//! The stages of a migration, and what each waits for.
//!
//! [`decide`] is a plain function: from the durable record, the shard's configuration and what is known of the nodes
//! it says what happens next. The coordinator commits it. Nothing here is remembered across a restart: [`Progress`]
//! is rebuilt by repeating the stage, which every stage allows.

pub mod copy;
mod transition;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Cutover, ShardConfig, majority};
use crate::env::{Nanos, millis};
use crate::id::{DiskId, Epoch, MigrationId, NodeId, ShardId};
use crate::reconcile::Report;

pub use copy::Copy;
pub use transition::{
    abort, activate, begin_readmission, close_gate, end_readmission, forget_leavers, give_up, join, open,
    raise_barrier, restore,
};

/// `Planned -> DualWrite -> Drain -> DeltaPass -> Activate -> Cleanup -> Done`, or `Aborted` before `Activate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    Planned,
    DualWrite,
    Drain,
    DeltaPass,
    Activate,
    Cleanup,
    Done,
    Aborted,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a migration went back to its old replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    CopyTimeout,
    DrainTimeout,
    JointTimeout,
    UnsafeCutover,
    Operator,
}

impl Reason {
    /// Whether another attempt may go better.
    pub fn is_passing(self) -> bool {
        matches!(self, Reason::CopyTimeout | Reason::DrainTimeout | Reason::JointTimeout)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::CopyTimeout => "a majority of the new replicas did not take the copy in time",
            Reason::DrainTimeout => "a majority of the old replicas did not install Joint in time (drain_timeout)",
            Reason::JointTimeout => "the delta pass did not finish in time (joint_timeout)",
            Reason::UnsafeCutover => "UnsafeCutover: anti-entropy is off and the delta pass is skipped",
            Reason::Operator => "aborted by an operator",
        })
    }
}

/// A migration's durable record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationRecord {
    pub id: MigrationId,
    pub shard: ShardId,
    /// The nodes that shall hold the shard.
    pub target: Vec<NodeId>,
    /// The nodes that held it when the migration was planned.
    pub from: Vec<NodeId>,
    pub cutover: Cutover,
    pub stage: Stage,
    /// 0: planned and not started.
    pub attempt: u32,
    pub paused: bool,
    /// Why the last attempt was aborted.
    pub reason: Option<Reason>,
}

impl MigrationRecord {
    /// Started, and not yet past the point where the shard is free for another migration.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::DualWrite | Stage::Drain | Stage::DeltaPass | Stage::Activate)
    }

    /// Whether it will do something more by itself.
    pub fn is_unfinished(&self, max_attempts: u32) -> bool {
        match self.stage {
            Stage::Planned => self.attempt > 0,
            Stage::Aborted => self.will_retry(max_attempts),
            Stage::Done => false,
            Stage::DualWrite | Stage::Drain | Stage::DeltaPass | Stage::Activate | Stage::Cleanup => true,
        }
    }

    pub fn will_retry(&self, max_attempts: u32) -> bool {
        self.reason.is_some_and(Reason::is_passing) && self.attempt < max_attempts
    }
}

/// How long a stage may take.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Documents per copied page, and the least time between two pages to one joining node: what a copy may take of
    /// the network and the disks.
    pub page_documents: u32,
    pub page_interval: Nanos,
    /// A page that is not confirmed is asked for again this often.
    pub page_resend: Nanos,
    /// Pages under way at once, over all migrations.
    pub pages_under_way: usize,
    /// How long stragglers among the joining nodes are waited for once a majority of the new set has the copy.
    pub copy_grace: Nanos,
    pub copy_timeout: Nanos,
    /// From the commit of Joint until a majority of the old replicas has installed it.
    pub drain_timeout: Nanos,
    /// From the commit of Joint until Activate.
    pub joint_timeout: Nanos,
    /// Between an abort and the next attempt.
    pub retry_after: Nanos,
    pub max_attempts: u32,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            page_documents: 64,
            page_interval: 0,
            page_resend: millis(40),
            pages_under_way: 4,
            copy_grace: millis(300),
            copy_timeout: millis(5_000),
            drain_timeout: millis(800),
            joint_timeout: millis(2_500),
            retry_after: millis(200),
            max_attempts: 20,
        }
    }
}

/// What a coordinator knows of a stage's progress; gone with a restart.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub stage_since: Nanos,
    pub joint_since: Nanos,
    pub copies: BTreeMap<NodeId, Copy>,
    pub delta: Option<Report>,
    /// The stages of this attempt and when they began.
    pub journey: Vec<(Stage, Nanos)>,
}

impl Progress {
    /// A stage begins. After a restart its time is counted from the restart.
    pub fn enter(&mut self, now: Nanos, stage: Stage) {
        self.stage_since = now;
        self.copies.clear();
        if stage == Stage::DualWrite {
            self.journey.clear();
        }
        self.journey.push((stage, now));
        if stage == Stage::Drain {
            self.joint_since = now;
            self.delta = None;
        }
        if stage == Stage::DeltaPass && self.joint_since == 0 {
            self.joint_since = now;
        }
    }
}

/// Everything a decision is made from.
pub struct View<'a> {
    pub now: Nanos,
    pub record: &'a MigrationRecord,
    pub config: &'a ShardConfig,
    pub progress: &'a Progress,
    pub timing: &'a Timing,
    /// What the nodes were last known to have installed of this shard.
    pub installed: &'a dyn Fn(NodeId) -> Epoch,
    /// The disks of the nodes that can be reached.
    pub disks: &'a BTreeMap<NodeId, DiskId>,
    /// The safety gate, as it stands now.
    pub is_safe: bool,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet; the coordinator keeps copying, installing, reconciling.
    Wait,
    /// Commit this configuration and stage together.
    Commit { config: ShardConfig, stage: Stage },
    /// Only the migration's own record changes.
    Enter(Stage),
    /// It was not open, and will not be: only its record changes.
    GiveUp { reason: Reason },
    /// Back to the old replicas.
    Abort { config: ShardConfig, reason: Reason },
    /// Start (or keep running) the delta pass.
    RunDelta,
}

/// When Drain or the delta pass is given up, unless it has ended by then.
pub fn time_is_over(stage: Stage, progress: &Progress, timing: &Timing) -> Nanos {
    let joint = progress.joint_since + timing.joint_timeout;
    match stage {
        Stage::Drain => joint.min(progress.stage_since + timing.drain_timeout),
        Stage::DeltaPass => joint,
        _ => Nanos::MAX,
    }
}

/// The next step of a migration.
pub fn decide(view: &View<'_>) -> Decision {
    let (record, progress, timing) = (view.record, view.progress, view.timing);
    match record.stage {
        Stage::Planned if record.attempt == 0 || record.paused => Decision::Wait,
        Stage::Planned => try_open(view),
        Stage::Aborted => {
            let rested = view.now >= progress.stage_since + timing.retry_after;
            let again = record.will_retry(timing.max_attempts) && rested && !record.paused;
            if again { try_open(view) } else { Decision::Wait }
        }
        Stage::DualWrite => copied(view),
        Stage::Drain => {
            let old = &view.config.old;
            let drained = old.iter().filter(|r| (view.installed)(r.node) >= view.config.epoch).count();
            let needed = if mutant!("M03") { 0 } else { majority(old.len()) };
            if drained >= needed && !record.paused {
                Decision::Enter(Stage::DeltaPass)
            } else if view.now >= time_is_over(record.stage, progress, timing) {
                let drain = view.now >= progress.stage_since + timing.drain_timeout;
                let reason = if drain { Reason::DrainTimeout } else { Reason::JointTimeout };
                Decision::Abort { config: abort(view.config), reason }
            } else {
                Decision::Wait
            }
        }
        Stage::DeltaPass => {
            if progress.delta.is_some() && !record.paused {
                Decision::Enter(Stage::Activate)
            } else if view.now >= time_is_over(record.stage, progress, timing) {
                Decision::Abort { config: abort(view.config), reason: Reason::JointTimeout }
            } else {
                Decision::RunDelta
            }
        }
        Stage::Activate => {
            if view.is_safe || mutant!("M36") {
                Decision::Commit { config: activate(view.config), stage: Stage::Cleanup }
            } else {
                Decision::Abort { config: abort(view.config), reason: Reason::UnsafeCutover }
            }
        }
        Stage::Cleanup => {
            let superseded = view.config.form != crate::config::Form::Stable;
            let clean = view.config.old.is_empty() && view.config.leaving.is_empty();
            if clean || superseded { Decision::Enter(Stage::Done) } else { Decision::Wait }
        }
        Stage::Done => Decision::Wait,
    }
}

fn try_open(view: &View<'_>) -> Decision {
    if !view.is_safe {
        return Decision::GiveUp { reason: Reason::UnsafeCutover };
    }
    match open(view.config, &view.record.target, view.record.cutover, view.disks) {
        Some(config) => Decision::Commit { config, stage: Stage::DualWrite },
        None => Decision::Wait,
    }
}

/// DualWrite ends when the joining nodes have the copy: all of them, or enough of them after a grace period.
fn copied(view: &View<'_>) -> Decision {
    let (config, progress, timing) = (view.config, view.progress, view.timing);
    let joiners = config.joiners();
    let has_copy = |node: NodeId| progress.copies.get(&node).is_some_and(Copy::is_done);
    let lacking = joiners.iter().filter(|replica| !has_copy(replica.node)).count();
    let holding = config.new.len() - lacking;
    let waited = view.now >= progress.stage_since + timing.copy_grace;
    let enough = lacking == 0 || (holding >= majority(config.new.len()) && waited);
    if enough && !view.record.paused {
        Decision::Commit { config: join(config), stage: Stage::Drain }
    } else if view.now >= progress.stage_since + timing.copy_timeout && !view.record.paused {
        Decision::Abort { config: abort(config), reason: Reason::CopyTimeout }
    } else {
        Decision::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Replica;
    use crate::id::Session;

    /// The next step of a migration of shard 0 from n1 to n2 that stands in `stage`, long after it came there.
    fn decided(stage: Stage, reason: Option<Reason>, is_safe: bool) -> Decision {
        let disks: BTreeMap<NodeId, DiskId> = [1, 2].map(|n| (NodeId(n), DiskId(n.into()))).into();
        let replica = Replica { node: NodeId(1), session: Session(Epoch::FIRST), disk: DiskId(1) };
        let record = MigrationRecord {
            id: MigrationId(1),
            shard: ShardId(0),
            target: vec![NodeId(2)],
            from: vec![NodeId(1)],
            cutover: Cutover::Skipped,
            stage,
            attempt: 1,
            paused: false,
            reason,
        };
        decide(&View {
            now: Nanos::MAX,
            record: &record,
            config: &ShardConfig::initial(ShardId(0), 1, vec![replica]),
            progress: &Progress::default(),
            timing: &Timing::default(),
            installed: &|_| Epoch::FIRST,
            disks: &disks,
            is_safe,
        })
    }

    #[test]
    fn what_may_not_be_opened_any_more_is_given_up_and_does_not_wait() {
        let refused = Decision::GiveUp { reason: Reason::UnsafeCutover };
        assert_eq!(decided(Stage::Planned, None, false), refused);
        assert_eq!(decided(Stage::Aborted, Some(Reason::DrainTimeout), false), refused);
        assert_eq!(decided(Stage::Aborted, Some(Reason::UnsafeCutover), false), Decision::Wait);
        for (stage, reason) in [(Stage::Planned, None), (Stage::Aborted, Some(Reason::DrainTimeout))] {
            let opened = decided(stage, reason, true);
            assert!(matches!(opened, Decision::Commit { stage: Stage::DualWrite, .. }), "{opened:?}");
        }
    }
}
