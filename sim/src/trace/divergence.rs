//! Two traces that should be equal: where do they part?

use std::fmt;

/// The first event in which two runs differ, with its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Index of the first line that differs, from 0.
    pub index: usize,
    /// Lines before it, equal in both.
    pub before: Vec<String>,
    /// The differing line and what follows, in the first run; empty if that trace has ended.
    pub left: Vec<String>,
    /// The same in the second run.
    pub right: Vec<String>,
}

/// Compares two traces line by line; `context` neighbours are kept on each side. None if they are equal.
pub fn first_divergence<S: AsRef<str>>(left: &[S], right: &[S], context: usize) -> Option<Divergence> {
    let common = left.iter().zip(right).take_while(|(l, r)| l.as_ref() == r.as_ref()).count();
    if common == left.len() && common == right.len() {
        return None;
    }
    let owned = |lines: &[S]| lines.iter().take(context + 1).map(|line| line.as_ref().to_owned()).collect();
    Some(Divergence {
        index: common,
        before: left[common.saturating_sub(context)..common].iter().map(|line| line.as_ref().to_owned()).collect(),
        left: owned(&left[common..]),
        right: owned(&right[common..]),
    })
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the runs differ at event {}", self.index)?;
        for line in &self.before {
            writeln!(f, "    {line}")?;
        }
        for (sign, lines) in [('-', &self.left), ('+', &self.right)] {
            match lines.split_first() {
                None => writeln!(f, "  {sign} (this run has ended)")?,
                Some((first, rest)) => {
                    writeln!(f, "  {sign} {first}")?;
                    for line in rest {
                        writeln!(f, "  {sign}   {line}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_difference_and_its_neighbours() {
        let left = ["a", "b", "c", "d"];
        assert_eq!(first_divergence(&left, &left, 2), None);
        let found = first_divergence(&left, &["a", "b", "x", "d"], 1).expect("c is not x");
        assert_eq!((found.index, &found.before), (2, &vec!["b".to_owned()]));
        assert_eq!((found.left.join(""), found.right.join("")), ("cd".to_owned(), "xd".to_owned()));
        assert!(found.to_string().contains("differ at event 2"));
    }

    #[test]
    fn a_shorter_run_differs_where_it_ends() {
        let found = first_divergence(&["a", "b"], &["a"], 3).expect("one is longer");
        assert_eq!((found.index, found.right.len()), (1, 0));
        assert!(found.to_string().contains("has ended"));
    }
}
