//! The general checker: depth-first over the orders that real time allows, remembering what was tried.
//!
//! Events (calls and returns) form a linked list in the order of time. An operation whose call stands before the first return can come next;
//! placing it unlinks its events. Meeting a return means that its operation had to be placed before: the last placement is taken back. Two
//! branches that have placed the same operations and are in the same state have the same future, so each such pair is entered once.
//!
//! Operations of unknown outcome have a call and no return. The search succeeds when all others are placed.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Model;
use crate::history::{Operation, Outcome};

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

/// Checks the operations of one key, which are in the order of their calls and hold no rejected ones.
pub(super) fn search<M: Model>(model: &M, operations: &[Operation], budget: usize) -> Search {
    let mut events = Events::new(operations);
    let mut placed = Placed::new(operations);
    let mut states = States::new(model.initial());
    let mut seen: BTreeSet<Box<[u64]>> = BTreeSet::new();
    let mut stack: Vec<(usize, u32)> = Vec::new();
    let mut state = 0;
    let mut deepest = (0, operations.len());
    let mut missing = operations.iter().filter(|operation| is_known(operation)).count();
    let mut cursor = events.first();
    while missing > 0 {
        match events.at(cursor) {
            Some(Event::Call(operation)) => {
                let after = model.step(states.get(state), &operations[operation]).map(|after| states.intern(after));
                if let Some(after) = after {
                    placed.set(operation, true);
                    if seen.insert(placed.key(after)) {
                        if seen.len() > budget {
                            return Search::Undecided { states: seen.len() };
                        }
                        stack.push((operation, state));
                        state = after;
                        missing -= usize::from(is_known(&operations[operation]));
                        events.unlink(operation);
                        cursor = events.first();
                        continue;
                    }
                    placed.set(operation, false);
                }
                cursor = events.after(cursor);
            }
            Some(Event::Return(blocked)) => {
                if stack.len() >= deepest.0 {
                    deepest = (stack.len(), blocked);
                }
                let Some((operation, before)) = stack.pop() else { return Search::Stuck { operation: deepest.1 } };
                state = before;
                missing += usize::from(is_known(&operations[operation]));
                placed.set(operation, false);
                events.relink(operation);
                cursor = events.after(events.call_of(operation));
            }
            None => unreachable!("an operation that is missing has a return in the list"),
        }
    }
    Search::Linearizable
}

fn is_known(operation: &Operation) -> bool {
    operation.outcome == Outcome::Ok
}

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    Return(usize),
}

/// The doubly linked list of events. Node 0 is the head, the last node the end.
struct Events {
    events: Vec<Option<Event>>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Nodes of each operation: call, and return if there is one.
    nodes: Vec<(usize, Option<usize>)>,
}

impl Events {
    fn new(operations: &[Operation]) -> Events {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(operations.len() * 2);
        for (index, operation) in operations.iter().enumerate() {
            // At the same instant calls come first: operations that touch are concurrent.
            order.push((operation.call, false, index));
            if let (true, Some(ret)) = (is_known(operation), operation.ret) {
                order.push((ret, true, index));
            }
        }
        order.sort_unstable();
        let mut events = vec![None];
        let mut nodes = vec![(0, None); operations.len()];
        for (_, is_return, operation) in order {
            if is_return {
                nodes[operation].1 = Some(events.len());
                events.push(Some(Event::Return(operation)));
            } else {
                nodes[operation].0 = events.len();
                events.push(Some(Event::Call(operation)));
            }
        }
        events.push(None);
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

    fn at(&self, node: usize) -> Option<Event> {
        self.events[node]
    }

    fn call_of(&self, operation: usize) -> usize {
        self.nodes[operation].0
    }

    fn unlink(&mut self, operation: usize) {
        let (call, ret) = self.nodes[operation];
        for node in [Some(call), ret].into_iter().flatten() {
            let (previous, next) = (self.previous[node], self.next[node]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Undoes the last [`Events::unlink`], in the opposite order.
    fn relink(&mut self, operation: usize) {
        let (call, ret) = self.nodes[operation];
        for node in [ret, Some(call)].into_iter().flatten() {
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
    fn new(operations: &[Operation]) -> Placed {
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
