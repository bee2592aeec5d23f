//! The configurations that follow one another. Each function takes a shard's configuration and returns the whole next
//! one; the caller commits it.

use std::collections::BTreeMap;

use crate::config::{Cutover, Form, Replica, ShardConfig};
use crate::id::{DiskId, Epoch, NodeId, Session};

fn next(config: &ShardConfig) -> ShardConfig {
    ShardConfig { epoch: config.epoch.next(), ..config.clone() }
}

fn without(from: &[Replica], these: &[Replica]) -> Vec<Replica> {
    from.iter().filter(|replica| these.iter().all(|other| other.node != replica.node)).copied().collect()
}

/// `Stable(O)` to `DualWrite(O -> N)` with a fresh session for each joining node. `None` while the shard is not free
/// (a migration open, the cleanup gate unmet, a replica being readmitted) or a joining node's disk is not known.
pub fn open(
    config: &ShardConfig,
    target: &[NodeId],
    cutover: Cutover,
    disks: &BTreeMap<NodeId, DiskId>,
) -> Option<ShardConfig> {
    let gate_unmet = config.gate_unmet() && !mutant!("M46");
    if config.form != Form::Stable || gate_unmet || !config.recovering.is_empty() {
        return None;
    }
    let epoch = config.epoch.next();
    let old = config.new.clone();
    let mut new = Vec::with_capacity(target.len());
    for &node in target {
        let staying = old.iter().find(|replica| replica.node == node);
        new.push(match staying {
            Some(replica) => *replica,
            None => Replica { node, session: Session(epoch), disk: *disks.get(&node)? },
        });
    }
    let leaving = if mutant!("M54") { config.leaving.clone() } else { without(&config.leaving, &new) };
    Some(ShardConfig { form: Form::DualWrite, old, new, leaving, cutover, ..next(config) })
}

/// `DualWrite` to `Joint`.
pub fn join(config: &ShardConfig) -> ShardConfig {
    assert_eq!(config.form, Form::DualWrite);
    ShardConfig { form: Form::Joint, ..next(config) }
}

/// `Joint(O -> N)` to `Stable(N)`: the cutover. After a skipped delta pass O is kept until the cleanup gate is met.
pub fn activate(config: &ShardConfig) -> ShardConfig {
    assert_eq!(config.form, Form::Joint);
    let mut leaving = config.leaving.clone();
    leaving.extend(without(&config.old, &config.new));
    let old = match config.cutover {
        Cutover::Delta => Vec::new(),
        Cutover::Skipped => config.old.clone(),
    };
    ShardConfig { form: Form::Stable, old, leaving, ..next(config) }
}

/// Back to `Stable(O)`; the joining nodes drop what they copied.
pub fn abort(config: &ShardConfig) -> ShardConfig {
    assert_ne!(config.form, Form::Stable);
    let mut leaving = config.leaving.clone();
    leaving.extend(without(&config.new, &config.old));
    let mut new = config.old.clone();
    if mutant!("M22") {
        let stays = |replica: &&mut Replica| config.new.contains(replica);
        new.iter_mut().filter(stays).for_each(|replica| replica.session = Session(config.epoch.next()));
    }
    ShardConfig { form: Form::Stable, old: Vec::new(), new, leaving, cutover: Cutover::Delta, ..next(config) }
}

/// The cleanup gate of a skipped delta pass is met: ex-owners may drop from here on.
pub fn close_gate(config: &ShardConfig) -> ShardConfig {
    assert!(config.gate_unmet());
    ShardConfig { old: Vec::new(), cutover: Cutover::Delta, ..next(config) }
}

/// These nodes have confirmed dropping their copy.
pub fn forget_leavers(config: &ShardConfig, dropped: &[NodeId]) -> ShardConfig {
    let leaving = config.leaving.iter().filter(|replica| !dropped.contains(&replica.node)).copied().collect();
    ShardConfig { leaving, ..next(config) }
}

/// Replicas of a stable shard come back: in a fresh session on these disks, in every set, without a vote. More than one
/// at a time only where an operator has given up what they held.
pub fn begin_readmission(config: &ShardConfig, disks: &[(NodeId, DiskId)]) -> ShardConfig {
    let is_named = |replica: &Replica| disks.iter().any(|(node, _)| *node == replica.node);
    let may_come = config.form == Form::Stable || mutant!("M52");
    assert!(may_come && config.recovering.iter().all(is_named));
    let session = Session(config.epoch.next());
    let renew = |set: &[Replica]| -> Vec<Replica> {
        let renewed = |replica: &Replica| match disks.iter().find(|(node, _)| *node == replica.node) {
            Some(&(node, disk)) => Replica { node, session, disk },
            None => *replica,
        };
        set.iter().map(renewed).collect()
    };
    ShardConfig {
        old: renew(&config.old),
        new: renew(&config.new),
        leaving: renew(&config.leaving),
        recovering: disks.iter().map(|&(node, disk)| Replica { node, session, disk }).collect(),
        ..next(config)
    }
}

/// An operator gives up what lost copies held: those of them that serve are readmitted from whoever is left, and the
/// cleanup gate no longer waits for lost old ones.
pub fn give_up(config: &ShardConfig, lost: &[(NodeId, DiskId)], old_is_lost: bool) -> ShardConfig {
    let gate = match old_is_lost {
        true => ShardConfig { old: Vec::new(), cutover: Cutover::Delta, ..config.clone() },
        false => config.clone(),
    };
    begin_readmission(&gate, lost)
}

/// It has everything that the others have: it votes again.
pub fn end_readmission(config: &ShardConfig) -> ShardConfig {
    ShardConfig { recovering: Vec::new(), ..next(config) }
}

/// No write whose version was chosen, and no page that was read, before this commit is taken any more.
pub fn raise_barrier(config: &ShardConfig) -> ShardConfig {
    assert!(config.is_at_rest());
    ShardConfig { gc_barrier: config.epoch.next(), ..next(config) }
}

/// Where a shard stands after the coordinator lost its records: the replicas that served go on serving, whoever was on
/// the way in goes, and nobody drops anything before a clean anti-entropy pass.
pub fn restore(config: &ShardConfig, generation: u32) -> ShardConfig {
    let served = match config.form {
        Form::Stable => config.new.clone(),
        Form::DualWrite | Form::Joint => config.old.clone(),
    };
    let mut leaving = config.leaving.clone();
    leaving.extend(without(&config.new, &served));
    let old = if config.gate_unmet() { config.old.clone() } else { served.clone() };
    ShardConfig {
        epoch: Epoch { generation, n: 1 },
        form: Form::Stable,
        old,
        new: served,
        leaving,
        cutover: Cutover::Skipped,
        ..config.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;

    fn replicas(nodes: &[u32]) -> Vec<Replica> {
        let replica = |&n| Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(n.into()) };
        nodes.iter().map(replica).collect()
    }

    fn nodes(replicas: &[Replica]) -> Vec<u32> {
        replicas.iter().map(|replica| replica.node.0).collect()
    }

    fn disks() -> BTreeMap<NodeId, DiskId> {
        (1..=9).map(|n| (NodeId(n), DiskId(n.into()))).collect()
    }

    fn open_to(target: &[u32], cutover: Cutover) -> ShardConfig {
        let stable = ShardConfig::initial(ShardId(0), 1, replicas(&[1, 2, 3]));
        let target: Vec<NodeId> = target.iter().map(|&n| NodeId(n)).collect();
        open(&stable, &target, cutover, &disks()).unwrap()
    }

    #[test]
    fn joiners_get_the_session_of_the_commit_and_stayers_keep_theirs() {
        let dual = open_to(&[2, 3, 4], Cutover::Delta);
        assert_eq!(dual.new[0].session, Session(Epoch::FIRST));
        assert_eq!(dual.new[2].session, Session(dual.epoch));
        assert_eq!(nodes(&dual.joiners()), [4]);
        assert_eq!(dual.voters(), [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(dual.writers_to(), [NodeId(1), NodeId(2), NodeId(3), NodeId(4)]);
    }

    #[test]
    fn activation_after_a_delta_pass_empties_old_and_after_a_skipped_one_keeps_it() {
        let stable = activate(&join(&open_to(&[2, 3, 4], Cutover::Delta)));
        assert_eq!((nodes(&stable.old), nodes(&stable.leaving)), (vec![], vec![1]));
        let stable = activate(&join(&open_to(&[2, 3, 4], Cutover::Skipped)));
        assert_eq!((nodes(&stable.old), nodes(&stable.leaving)), (vec![1, 2, 3], vec![1]));
        assert!(stable.gate_unmet());
        assert_eq!(open(&stable, &[NodeId(5)], Cutover::Delta, &disks()), None);
        assert!(!close_gate(&stable).gate_unmet());
    }

    #[test]
    fn an_abort_sends_the_joiners_away_and_a_returning_leaver_is_no_leaver() {
        let aborted = abort(&open_to(&[2, 3, 4], Cutover::Delta));
        assert_eq!((nodes(&aborted.new), nodes(&aborted.leaving)), (vec![1, 2, 3], vec![4]));
        let again = open(&aborted, &[NodeId(3), NodeId(4), NodeId(1)], Cutover::Delta, &disks()).unwrap();
        assert_eq!(nodes(&again.leaving), Vec::<u32>::new());
        assert_eq!(again.new[1].session, Session(again.epoch));
        assert_eq!(nodes(&forget_leavers(&aborted, &[NodeId(4)]).leaving), Vec::<u32>::new());
    }

    #[test]
    fn a_joiner_without_a_known_disk_cannot_be_named() {
        let stable = ShardConfig::initial(ShardId(0), 1, replicas(&[1]));
        assert_eq!(open(&stable, &[NodeId(77)], Cutover::Delta, &disks()), None);
    }
}
