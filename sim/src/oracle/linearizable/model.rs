//! Sequential specifications: what an operation does when nothing else is going on.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::history::{Op, Operation, Outcome};

/// A sequential specification of one key.
pub trait Model {
    /// What can be asked for, together with what was answered.
    type Op: Clone + PartialEq;

    /// Everything that later operations can depend on.
    type State: Clone + Ord;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `operation`, or none if it cannot have returned what it did. The results of operations of unknown outcome are not known
    /// and forbid nothing.
    fn step(&self, state: &Self::State, operation: &Operation<Self::Op>) -> Option<Self::State>;

    /// Which of these operations explain nothing: those that change nothing, and those whose effect none of these can have seen. If the rest is
    /// wrong without any number of them, it is wrong with them. Only such operations are left out of what is shown of a violation. With the
    /// default, none.
    fn dispensable(&self, operations: &[&Operation<Self::Op>]) -> Vec<bool> {
        vec![false; operations.len()]
    }
}

/// A value that can be read, written, deleted, and swapped; at first there is none.
#[derive(Clone, Copy, Debug)]
pub struct Register;

impl Model for Register {
    type Op = Op;
    type State = Option<String>;

    fn initial(&self) -> Option<String> {
        None
    }

    fn step(&self, state: &Option<String>, operation: &Operation) -> Option<Option<String>> {
        let known = operation.outcome == Outcome::Ok;
        match &operation.op {
            Op::Read { value } => (!known || value == state).then(|| state.clone()),
            Op::Write { value } => Some(Some(value.clone())),
            Op::Delete => Some(None),
            Op::Cas { from, to, swapped } => {
                let swaps = from == state;
                let possible = !known || *swapped == swaps;
                possible.then(|| if swaps { Some(to.clone()) } else { state.clone() })
            }
        }
    }

    /// What is read or swapped away was seen. Without a change that nobody saw, its neighbours find the value before it; only a swap that failed
    /// could object to that.
    fn dispensable(&self, operations: &[&Operation]) -> Vec<bool> {
        let failed = |operation: &Operation| {
            operation.outcome == Outcome::Ok && matches!(operation.op, Op::Cas { swapped: false, .. })
        };
        let mut seen: BTreeSet<Option<&str>> = BTreeSet::new();
        for operation in operations {
            match &operation.op {
                Op::Read { value } if operation.outcome == Outcome::Ok => _ = seen.insert(value.as_deref()),
                Op::Cas { from, .. } if !failed(operation) => _ = seen.insert(from.as_deref()),
                Op::Read { .. } | Op::Write { .. } | Op::Delete | Op::Cas { .. } => {}
            }
        }
        let none_failed = !operations.iter().any(|operation| failed(operation));
        let explains_nothing = |operation: &&Operation| match &operation.op {
            Op::Read { .. } => true,
            Op::Write { value } => none_failed && !seen.contains(&Some(value.as_str())),
            Op::Delete => none_failed && !seen.contains(&None),
            Op::Cas { to, .. } => failed(operation) || none_failed && !seen.contains(&Some(to.as_str())),
        };
        operations.iter().map(explains_nothing).collect()
    }
}

/// Which operations a history may consist of. All are checked key by key against [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Read and write.
    Register,
    /// Also compare-and-swap.
    CasRegister,
    /// Read, write, delete and compare-and-swap.
    Kv,
}

/// An operation that the model does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {index} ({operation}) does not belong to the model: {allowed}")]
pub struct ModelMismatch {
    /// Counted from 1.
    pub index: usize,
    /// The operation in words.
    pub operation: String,
    /// What the model allows.
    pub allowed: &'static str,
}

impl ModelKind {
    /// Fails at the first operation that does not belong to the model.
    pub fn admits(self, operations: &[Operation]) -> Result<(), ModelMismatch> {
        let allowed = match self {
            ModelKind::Register => "a register has read and write; try cas-register or kv",
            ModelKind::CasRegister => "a cas-register has read, write and cas; try kv",
            ModelKind::Kv => return Ok(()),
        };
        let stranger = operations.iter().position(|operation| match operation.op {
            Op::Read { .. } | Op::Write { .. } => false,
            Op::Cas { .. } => self != ModelKind::CasRegister,
            Op::Delete => true,
        });
        match stranger {
            None => Ok(()),
            Some(at) => Err(ModelMismatch { index: at + 1, operation: operations[at].to_string(), allowed }),
        }
    }
}

impl FromStr for ModelKind {
    type Err = String;

    fn from_str(text: &str) -> Result<ModelKind, String> {
        match text {
            "register" => Ok(ModelKind::Register),
            "cas-register" => Ok(ModelKind::CasRegister),
            "kv" => Ok(ModelKind::Kv),
            _ => Err(format!("`{text}` is no model: use register, cas-register or kv")),
        }
    }
}
