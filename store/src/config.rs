//! A shard's configuration: who holds it, who votes, and under which epoch.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DiskId, Epoch, NodeId, Session, ShardId};

/// A copy of a shard: the node, the session in which the copy joined, and the disk it lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replica {
    pub node: NodeId,
    pub session: Session,
    pub disk: DiskId,
}

/// Whose acknowledgements count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Form {
    /// `new` serves. `old` is non-empty exactly while the cleanup gate of a skipped delta is unmet.
    Stable,
    /// `old` serves; every write is also sent to the joining nodes, uncounted.
    DualWrite,
    /// A majority of `old` and a majority of `new` serve together.
    Joint,
}

/// Whether a migration reconciles the documents before it activates the new replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cutover {
    Delta,
    Skipped,
}

/// One durable record per shard, replaced as a whole by each commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardConfig {
    pub shard: ShardId,
    /// How many shards the cluster has; the same in every configuration, so that any one of them routes documents.
    pub shard_count: u32,
    pub epoch: Epoch,
    pub form: Form,
    pub old: Vec<Replica>,
    pub new: Vec<Replica>,
    /// Ex-owners (and joiners of aborted migrations) that have not yet confirmed dropping their copy.
    pub leaving: Vec<Replica>,
    /// Replicas being readmitted: they neither vote nor acknowledge.
    pub recovering: Vec<Replica>,
    pub cutover: Cutover,
    /// Writes whose version was chosen below this epoch, and pages read below it, are refused. Never decreases.
    pub gc_barrier: Epoch,
}

/// How many of `n` replicas are a majority.
pub const fn majority(n: usize) -> usize {
    n / 2 + 1
}

impl ShardConfig {
    /// The first configuration of a shard.
    pub fn initial(shard: ShardId, shard_count: u32, replicas: Vec<Replica>) -> ShardConfig {
        ShardConfig {
            shard,
            shard_count,
            epoch: Epoch::FIRST,
            form: Form::Stable,
            old: Vec::new(),
            new: replicas,
            leaving: Vec::new(),
            recovering: Vec::new(),
            cutover: Cutover::Delta,
            gc_barrier: Epoch::ZERO,
        }
    }

    /// The replica sets of which a quorum needs a majority each; the same for reads and writes in every form.
    pub fn groups(&self) -> impl Iterator<Item = &[Replica]> {
        let (first, second): (&[Replica], Option<&[Replica]>) = match self.form {
            Form::Stable => (&self.new, None),
            Form::DualWrite => (&self.old, None),
            Form::Joint => (&self.old, Some(&self.new)),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether the nodes for which `answered` holds form a quorum.
    pub fn is_quorum(&self, answered: impl Fn(NodeId) -> bool) -> bool {
        self.groups().all(|group| {
            let count = group.iter().filter(|replica| answered(replica.node)).count();
            count >= majority(group.len())
        })
    }

    /// The nodes whose answers count, each once.
    pub fn voters(&self) -> Vec<NodeId> {
        distinct(self.groups().flatten())
    }

    /// The nodes every write is sent to: the voters and, under `DualWrite`, the joining nodes.
    pub fn writers_to(&self) -> Vec<NodeId> {
        match self.form {
            Form::Stable => distinct(self.new.iter()),
            Form::DualWrite | Form::Joint => distinct(self.old.iter().chain(&self.new)),
        }
    }

    /// Nodes of `new` that are not in `old`, while a migration is open.
    pub fn joiners(&self) -> Vec<Replica> {
        match self.form {
            Form::Stable => Vec::new(),
            Form::DualWrite | Form::Joint => {
                self.new.iter().filter(|r| self.old.iter().all(|o| o.node != r.node)).copied().collect()
            }
        }
    }

    /// Every node that this configuration names, in whichever set; some twice.
    pub fn named(&self) -> impl Iterator<Item = NodeId> {
        self.new.iter().chain(&self.old).chain(&self.leaving).map(|replica| replica.node)
    }

    /// The replica that this configuration names on `node`, in whichever set.
    pub fn replica(&self, node: NodeId) -> Option<&Replica> {
        self.new.iter().chain(&self.old).chain(&self.leaving).find(|replica| replica.node == node)
    }

    /// Whether `node` stands in `old` or `new`.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.new.iter().chain(&self.old).any(|replica| replica.node == node)
    }

    /// Whether `node`'s copy may answer, acknowledge and be read from, as far as the configuration knows.
    pub fn is_recovering(&self, node: NodeId) -> bool {
        self.recovering.iter().any(|replica| replica.node == node)
    }

    /// Nobody is on the way in or out, and no gate is unmet.
    pub fn is_at_rest(&self) -> bool {
        self.form == Form::Stable && self.old.is_empty() && self.leaving.is_empty() && self.recovering.is_empty()
    }

    /// Whether the cleanup gate of a skipped delta pass is still unmet.
    pub fn gate_unmet(&self) -> bool {
        self.form == Form::Stable && !self.old.is_empty()
    }
}

fn distinct<'a>(replicas: impl Iterator<Item = &'a Replica>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    for replica in replicas {
        if !nodes.contains(&replica.node) {
            nodes.push(replica.node);
        }
    }
    nodes
}

fn names(replicas: &[Replica]) -> String {
    let names: Vec<String> = replicas.iter().map(|r| r.node.to_string()).collect();
    names.join(" ")
}

impl fmt::Display for ShardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Stable => write!(f, "Stable({})", names(&self.new))?,
            Form::DualWrite => write!(f, "DualWrite({} -> {})", names(&self.old), names(&self.new))?,
            Form::Joint => write!(f, "Joint({} -> {})", names(&self.old), names(&self.new))?,
        }
        if self.gate_unmet() {
            write!(f, " after skipped delta from ({})", names(&self.old))?;
        }
        if !self.leaving.is_empty() {
            write!(f, " leaving({})", names(&self.leaving))?;
        }
        if !self.recovering.is_empty() {
            write!(f, " recovering({})", names(&self.recovering))?;
        }
        write!(f, " epoch {}", self.epoch)
    }
}
