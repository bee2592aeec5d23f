//! The general checker: depth-first over the orders that real time allows, remembering what was tried.
//!
//! Events (calls and returns) of the operations with known outcome form a linked list in the order of time. An operation whose call stands before
//! the first return can come next; placing it unlinks its events. Meeting a return means that its operation had to be placed before. Two branches
//! that have placed the same operations and are in the same state have the same future, so each such pair is entered once.
//!
//! Operations of unknown outcome have no return, and the search succeeds without them. They are tried only where the known ones are stuck, only
//! if they change something, and of equal ones only the earliest: the later ones can do nothing that it cannot. Without that, a few dozen of them
//! would be hopeless.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Model;
use crate::history::{Operation, Outcome};
use crate::time::Nanos;

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Linearizable,
    /// No order fits. The search got furthest when this operation (an index) could not be placed.
    Stuck {
        operation: usize,
    },
    Undecided {
        states: usize,
    },
}

/// What to try next at the present depth.
#[derive(Clone, Copy)]
enum Cursor {
    /// The known operations from this node of the list.
    Known(usize),
    /// The unknown operations from this one.
    Unknown(usize),
}

/// A placement, and what to do if it is taken back.
struct Frame {
    operation: usize,
    state_before: u32,
    unknown: Option<usize>,
}

/// Checks the operations of one key, which are in the order of their calls and hold no rejected ones.
pub(super) fn search<M: Model>(model: &M, operations: &[Operation<M::Op>], budget: usize) -> Search {
    let mut events = Events::new(operations);
    let unknown = Unknown::of(operations);
    let mut placed = Placed::new(operations);
    let mut states = States::new(model.initial());
    let mut seen: BTreeSet<Box<[u64]>> = BTreeSet::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut state = 0;
    let mut deepest = (0, operations.len());
    let mut missing = operations.iter().filter(|operation| is_known(operation)).count();
    let mut cursor = Cursor::Known(events.first());
    while missing > 0 {
        let candidate = match cursor {
            Cursor::Known(node) => match events.at(node) {
                Event::Call(operation) => {
                    cursor = Cursor::Known(events.after(node));
                    Some((operation, None))
                }
                Event::Return(blocked) => {
                    if stack.len() >= deepest.0 {
                        deepest = (stack.len(), blocked);
                    }
                    cursor = Cursor::Unknown(0);
                    None
                }
                Event::Edge => unreachable!("an operation that is missing has a return in the list"),
            },
            Cursor::Unknown(index) => {
                match unknown.get(index).filter(|other| other.call <= events.first_return(operations)) {
                    Some(other) => {
                        cursor = Cursor::Unknown(index + 1);
                        let useful =
                            !placed.get(other.operation) && other.equal.is_none_or(|earlier| placed.get(earlier));
                        useful.then_some((other.operation, Some(index)))
                    }
                    None => {
                        let Some(frame) = stack.pop() else { return Search::Stuck { operation: deepest.1 } };
                        state = frame.state_before;
                        placed.set(frame.operation, false);
                        cursor = match frame.unknown {
                            Some(index) => Cursor::Unknown(index + 1),
                            None => {
                                missing += 1;
                                events.relink(frame.operation);
                                Cursor::Known(events.after(events.call_of(frame.operation)))
                            }
                        };
                        None
                    }
                }
            }
        };
        let Some((operation, index)) = candidate else { continue };
        let Some(after) = model.step(states.get(state), &operations[operation]) else { continue };
        let after = states.intern(after);
        if index.is_some() && after == state {
            continue;
        }
        placed.set(operation, true);
        if !seen.insert(placed.key(after)) {
            placed.set(operation, false);
            continue;
        }
        if seen.len() > budget {
            return Search::Undecided { states: seen.len() };
        }
        stack.push(Frame { operation, state_before: state, unknown: index });
        state = after;
        if index.is_none() {
            missing -= 1;
            events.unlink(operation);
        }
        cursor = Cursor::Known(events.first());
    }
    Search::Linearizable
}

/// An operation of unknown outcome.
struct Unknown {
    operation: usize,
    call: Nanos,
    /// The last one before it that does the same.
    equal: Option<usize>,
}

impl Unknown {
    /// All of them, in the order of their calls.
    fn of<O: PartialEq>(operations: &[Operation<O>]) -> Vec<Unknown> {
        let indices: Vec<usize> = (0..operations.len()).filter(|&index| !is_known(&operations[index])).collect();
        let equal = |at: usize| {
            indices[..at].iter().rev().copied().find(|&earlier| operations[earlier].op == operations[indices[at]].op)
        };
        let unknown = |(at, &operation): (usize, &usize)| Unknown {
            operation,
            call: operations[operation].call,
            equal: equal(at),
        };
        indices.iter().enumerate().map(unknown).collect()
    }
}

fn is_known<O>(operation: &Operation<O>) -> bool {
    operation.outcome == Outcome::Ok
}

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    Return(usize),
    /// Before the first or after the last.
    Edge,
}

/// The doubly linked list of the events of known operations. Node 0 is the head, the last node the end.
struct Events {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Nodes of each known operation: call and return.
    nodes: Vec<(usize, usize)>,
}

impl Events {
    fn new<O>(operations: &[Operation<O>]) -> Events {
        let mut order: Vec<(Nanos, bool, usize)> = Vec::with_capacity(operations.len() * 2);
        for (index, operation) in operations.iter().enumerate() {
            // At the same instant calls come first: operations that touch are concurrent.
            if let (true, Some(ret)) = (is_known(operation), operation.ret) {
                order.push((operation.call, false, index));
                order.push((ret, true, index));
            }
        }
        order.sort_unstable();
        let mut events = vec![Event::Edge];
        let mut nodes = vec![(0, 0); operations.len()];
        for (_, is_return, operation) in order {
            if is_return {
                nodes[operation].1 = events.len();
                events.push(Event::Return(operation));
            } else {
                nodes[operation].0 = events.len();
                events.push(Event::Call(operation));
            }
        }
        events.push(Event::Edge);
        let end = events.len() - 1;
        Events {
            next: (1..=end + 1).map(|node| node.min(end)).collect(),
            previous: (0..=end).map(|node| node.saturating_sub(1)).collect(),
            events,
            nodes,
        }
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn after(&self, node: usize) -> usize {
        self.next[node]
    }

    fn at(&self, node: usize) -> Event {
        self.events[node]
    }

    /// When the first operation that is not placed has returned.
    fn first_return<O>(&self, operations: &[Operation<O>]) -> Nanos {
        let mut node = self.first();
        loop {
            match self.events[node] {
                Event::Call(_) => node = self.next[node],
                Event::Return(operation) => return operations[operation].ret.unwrap_or(Nanos::MAX),
                Event::Edge => return Nanos::MAX,
            }
        }
    }

    fn call_of(&self, operation: usize) -> usize {
        self.nodes[operation].0
    }

    fn unlink(&mut self, operation: usize) {
        let (call, ret) = self.nodes[operation];
        for node in [call, ret] {
            let (previous, next) = (self.previous[node], self.next[node]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Undoes the last [`Events::unlink`], in the opposite order.
    fn relink(&mut self, operation: usize) {
        let (call, ret) = self.nodes[operation];
        for node in [ret, call] {
            let (previous, next) = (self.previous[node], self.next[node]);
            self.next[previous] = node;
            self.previous[next] = node;
        }
    }
}

/// Which operations are placed. Those of known outcome are mostly a prefix, so only what is beyond it is part of the key; those of unknown
/// outcome are kept apart, or the first that never happens would end the prefix.
struct Placed {
    slot: Vec<(bool, usize)>,
    known: Vec<u64>,
    unknown: Vec<u64>,
    /// First known one that is not placed.
    prefix: usize,
    known_count: usize,
}

impl Placed {
    fn new<O>(operations: &[Operation<O>]) -> Placed {
        let (mut known, mut unknown) = (0, 0);
        let slot = operations.iter().map(|operation| {
            let count = if is_known(operation) { &mut known } else { &mut unknown };
            *count += 1;
            (is_known(operation), *count - 1)
        });
        let slot = slot.collect();
        Placed {
            slot,
            known: vec![0; known / 64 + 1],
            unknown: vec![0; unknown / 64 + 1],
            prefix: 0,
            known_count: known,
        }
    }

    fn set(&mut self, operation: usize, placed: bool) {
        let (is_known, slot) = self.slot[operation];
        let words = if is_known { &mut self.known } else { &mut self.unknown };
        let bit = 1 << (slot % 64);
        if placed {
            words[slot / 64] |= bit;
        } else {
            words[slot / 64] &= !bit;
        }
        if is_known && !placed {
            self.prefix = self.prefix.min(slot);
        }
        while self.prefix < self.known_count && self.known[self.prefix / 64] >> (self.prefix % 64) & 1 == 1 {
            self.prefix += 1;
        }
    }

    fn get(&self, operation: usize) -> bool {
        let (is_known, slot) = self.slot[operation];
        let words = if is_known { &self.known } else { &self.unknown };
        words[slot / 64] >> (slot % 64) & 1 == 1
    }

    /// Names (placed, state) uniquely.
    fn key(&self, state: u32) -> Box<[u64]> {
        let known = trimmed(&self.known[self.prefix / 64..]);
        let unknown = trimmed(&self.unknown);
        let mut key = Vec::with_capacity(3 + known.len() + unknown.len());
        key.extend([u64::from(state), self.prefix as u64, known.len() as u64]);
        key.extend_from_slice(known);
        key.extend_from_slice(unknown);
        key.into_boxed_slice()
    }
}

fn trimmed(words: &[u64]) -> &[u64] {
    let len = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
    &words[..len]
}

/// Model states as small numbers.
struct States<S> {
    numbers: BTreeMap<S, u32>,
    states: Vec<S>,
}

impl<S: Clone + Ord> States<S> {
    fn new(initial: S) -> States<S> {
        let mut states = States { numbers: BTreeMap::new(), states: Vec::new() };
        states.intern(initial);
        states
    }

    fn get(&self, number: u32) -> &S {
        &self.states[number as usize]
    }

    fn intern(&mut self, state: S) -> u32 {
        if let Some(&number) = self.numbers.get(&state) {
            return number;
        }
        let number = self.states.len() as u32;
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }
}
