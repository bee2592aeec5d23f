//! Who takes part in a run: numbers for speed, names for people.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// A process of the run (a node, a coordinator, a client), numbered in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// As an index into a dense table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One life of a process. Everything a process touches is opened for an incarnation, and refuses the earlier ones: the futures of a killed
/// process are dropped *after* its death, and their destructors must not reach into the next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Whose life.
    pub process: ProcessId,
    /// Counted from 1.
    pub number: u32,
}

/// The register of process names, shared by everything that prints.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<Vec<Arc<str>>>>);

impl Names {
    /// Registers `name` and returns its number. Panics if the name is taken: two processes under one name would be one in every trace.
    pub fn register(&self, name: &str) -> ProcessId {
        let mut names = lock(&self.0);
        assert!(names.iter().all(|known| &**known != name), "process name `{name}` is taken");
        names.push(name.into());
        ProcessId(names.len() as u32 - 1)
    }

    /// The process called `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<ProcessId> {
        lock(&self.0).iter().position(|known| &**known == name).map(|index| ProcessId(index as u32))
    }

    /// The name of a process; `p7` if it was never registered.
    pub fn name(&self, process: ProcessId) -> Arc<str> {
        match lock(&self.0).get(process.index()) {
            Some(name) => name.clone(),
            None => format!("p{}", process.0).into(),
        }
    }

    /// All names, in the order of registration.
    pub fn all(&self) -> Vec<Arc<str>> {
        lock(&self.0).clone()
    }

    /// `n1, n2, n3`.
    pub fn list(&self, processes: &[ProcessId]) -> String {
        processes.iter().map(|&process| self.name(process).to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_both_ways() {
        let names = Names::default();
        let (n1, n2) = (names.register("n1"), names.register("n2"));
        assert_eq!((names.find("n2"), names.find("n3")), (Some(n2), None));
        assert_eq!(&*names.name(n1), "n1");
        assert_eq!(&*names.name(ProcessId(9)), "p9");
        assert_eq!(names.list(&[n2, n1]), "n2, n1");
    }

    #[test]
    #[should_panic(expected = "`n1` is taken")]
    fn a_name_is_given_once() {
        let names = Names::default();
        names.register("n1");
        names.register("n1");
    }
}
