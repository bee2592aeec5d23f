//! The periodic caller of [`reconcile`](crate::reconcile): which replicas are compared with which.

use crate::config::{Form, ShardConfig};
use crate::reconcile::{Source, Spec};
use crate::wire::Purpose;

/// What one pass over a shard reads and repairs under this configuration; `None` if there is nothing to compare. While
/// a migration is open it keeps the old replicas equal; what the joining nodes lack is the delta pass's business.
///
/// While the cleanup gate of a skipped delta pass is unmet, a majority of the old replicas is read as well: a pass
/// that began after Activate and is verified on a majority of the new ones is what meets the gate.
pub fn spec(config: &ShardConfig) -> Option<Spec> {
    if !config.recovering.is_empty() {
        return None;
    }
    let (sources, targets) = match config.form {
        Form::Stable if config.gate_unmet() => (vec![config.old.clone(), config.new.clone()], config.new.clone()),
        Form::Stable => (vec![config.new.clone()], config.new.clone()),
        Form::DualWrite | Form::Joint => (vec![config.old.clone()], config.old.clone()),
    };
    let sources: Vec<Source> = sources.iter().map(|group| Source::majority_of(group)).collect();
    let alone =
        sources.iter().flat_map(|source| &source.replicas).all(|it| targets.len() == 1 && it.node == targets[0].node);
    // With the gate unmet even a replica that is alone has to be verified.
    if alone && !config.gate_unmet() {
        return None;
    }
    Some(Spec {
        shard: config.shard,
        epoch: config.epoch,
        purpose: Purpose::AntiEntropy,
        sources,
        targets,
        counters_only: false,
    })
}
