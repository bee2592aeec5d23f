//! Is everything that was added still there? For systems that only grow: logs, sets, queues that nobody reads from.
//!
//! Each element is added at most once, by a write of the element as value; a read gives all elements, joined by one space. The last read decides:
//! an element whose addition was acknowledged before that read was called has to be in it (else it is *lost*); one that nobody ever added must not
//! be (*invented*); one that is there though its addition was rejected is *unwanted*; one of unknown outcome may be there or not. Earlier reads are
//! used for elements that were seen and are gone (*unstable*), and for those that appeared twice in one read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Op, Operation, Outcome};
use crate::time::Nanos;

/// What is wrong with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Acknowledged, and not in the last read.
    Lost,
    /// Seen in some read, and not in a later one.
    Unstable,
    /// Read, and never added.
    Invented,
    /// Read, though its addition was rejected.
    Unwanted,
    /// Twice in one read.
    Twice,
}

/// The verdict on a history of additions and reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Elements with what is wrong with them, in order.
    pub wrong: Vec<(Wrong, String)>,
    /// Acknowledged additions.
    pub acked: usize,
    /// Additions of unknown outcome that took effect.
    pub recovered: usize,
    /// True if there was no read to judge by.
    pub unread: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged, {} recovered", self.acked, self.recovered)?;
        if self.unread {
            write!(f, "; nobody has read")?;
        }
        self.wrong.iter().try_for_each(|(wrong, element)| write!(f, "; {element} is {wrong:?}"))
    }
}

/// Judges the operations on one set. Takes `n log n` in the elements read.
pub fn check(operations: &[Operation]) -> Report {
    let added: BTreeMap<&str, &Operation> = operations
        .iter()
        .filter_map(|operation| match &operation.op {
            Op::Write { value } => Some((value.as_str(), operation)),
            _ => None,
        })
        .collect();
    let mut reads: Vec<(Nanos, Nanos, Vec<&str>)> = operations
        .iter()
        .filter_map(|operation| match (&operation.op, operation.outcome, operation.ret) {
            (Op::Read { value }, Outcome::Ok, Some(ret)) => {
                Some((operation.call, ret, value.as_deref().unwrap_or_default().split_whitespace().collect()))
            }
            _ => None,
        })
        .collect();
    reads.sort_by_key(|&(call, ret, _)| (ret, call));
    let mut wrong = BTreeSet::new();
    let mut report = Report { unread: reads.is_empty(), ..Report::default() };
    // When each element was first read, as of the return of that read.
    let mut seen: BTreeMap<&str, Nanos> = BTreeMap::new();
    for (call, ret, elements) in &reads {
        let here: BTreeSet<&str> = elements.iter().copied().collect();
        let mut sorted = elements.clone();
        sorted.sort_unstable();
        wrong.extend(sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| (Wrong::Twice, pair[0])));
        let gone = seen.iter().filter(|&(element, since)| since < call && !here.contains(element));
        wrong.extend(gone.map(|(&element, _)| (Wrong::Unstable, element)));
        for element in here {
            seen.entry(element).or_insert(*ret);
        }
    }
    for element in seen.keys() {
        match added.get(element).map(|operation| operation.outcome) {
            None => _ = wrong.insert((Wrong::Invented, element)),
            Some(Outcome::Rejected) => _ = wrong.insert((Wrong::Unwanted, element)),
            Some(Outcome::Unknown) => report.recovered += 1,
            Some(Outcome::Ok) => {}
        }
    }
    let last = reads.last().map(|(call, _, elements)| (*call, elements.iter().copied().collect::<BTreeSet<&str>>()));
    for (&element, operation) in added.iter().filter(|(_, operation)| operation.outcome == Outcome::Ok) {
        report.acked += 1;
        let judged = last.as_ref().filter(|(call, _)| operation.ret.is_some_and(|ret| ret < *call));
        if judged.is_some_and(|(_, elements)| !elements.contains(element)) {
            wrong.insert((Wrong::Lost, element));
        }
    }
    report.wrong = wrong.into_iter().map(|(wrong, element)| (wrong, element.to_owned())).collect();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `add x call return outcome` or `read x,y call return`.
    fn history(text: &str) -> Vec<Operation> {
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let op = match words[0] {
                "add" => Op::Write { value: words[1].to_owned() },
                _ => Op::Read { value: Some(words[1].replace([',', '-'], " ")) },
            };
            let outcome = match words.get(4) {
                Some(&"unknown") => Outcome::Unknown,
                Some(&"rejected") => Outcome::Rejected,
                _ => Outcome::Ok,
            };
            let [call, ret] = [2, 3].map(|at: usize| words[at].parse().expect("a time"));
            let ret = (outcome != Outcome::Unknown).then_some(ret);
            Operation { client: 1, key: "set".into(), op, call, ret, outcome, version: None }
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(line).collect()
    }

    fn wrong(text: &str) -> Vec<(Wrong, String)> {
        check(&history(text)).wrong
    }

    #[test]
    fn what_may_be_may_be() {
        let text =
            "add a 0 1 \n add b 2 3 unknown \n add c 2 3 unknown \n add d 4 5 rejected \n add e 9 20 \n read a,b 10 11";
        let report = check(&history(text));
        assert_eq!((report.wrong, report.acked, report.recovered), (vec![], 2, 1), "e was added while it was read");
        assert!(check(&history("add a 0 1")).unread);
    }

    #[test]
    fn every_wrong_is_named() {
        let one = |wrong, element: &str| vec![(wrong, element.to_owned())];
        assert_eq!(wrong("add a 0 1 \n add b 2 3 \n read a 10 11"), one(Wrong::Lost, "b"));
        assert_eq!(wrong("add a 0 1 \n read a,x 10 11"), one(Wrong::Invented, "x"));
        assert_eq!(wrong("add a 0 1 \n add b 2 3 rejected \n read a,b 10 11"), one(Wrong::Unwanted, "b"));
        assert_eq!(wrong("add a 0 1 unknown \n read a 2 3 \n read - 10 11"), one(Wrong::Unstable, "a"));
        assert_eq!(wrong("add a 0 1 \n read a,a 10 11"), one(Wrong::Twice, "a"));
        let both = check(&history("add a 0 1 \n read a 2 3 \n read - 10 11"));
        assert_eq!(both.to_string(), "1 acknowledged, 0 recovered; a is Lost; a is Unstable");
    }
}
