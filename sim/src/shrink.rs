//! Makes a failing thing smaller while it keeps failing. Pure: who runs the candidates, and how, is the caller's business.
//!
//! The caller is asked with candidates in the order of preference and names the first that still fails, so it may try
//! several at a time. What is asked depends on the answers alone; nothing here is random.
//!
//! [`ddmin`] is delta debugging (Zeller and Hildebrandt 2002) without its subset step, which on causes that are spread out
//! never succeeds: chunks are left out, large ones first, until no single item can be. [`least`] lowers a number. Neither
//! assumes that a smaller candidate of a failing one fails too; they only find less then.

/// Leaves out as many of `items` as possible, keeping their order. No single item of the result can be left out.
///
/// `first_failing` is given lists of items and returns the place of the first that still fails, if any does.
pub fn ddmin<T: Clone>(items: &[T], first_failing: &mut dyn FnMut(&[Vec<T>]) -> Option<usize>) -> Vec<T> {
    let mut kept = items.to_vec();
    if kept.is_empty() || first_failing(&[Vec::new()]).is_some() {
        return Vec::new();
    }
    let mut size = kept.len().div_ceil(2);
    loop {
        let removed = leave_out_chunks(&mut kept, size, first_failing);
        // Leaving one out may have made another superfluous.
        if size == 1 && !removed {
            return kept;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2).min(kept.len().max(1)) };
    }
}

/// One pass over all chunks of `size` items. True if something was left out.
fn leave_out_chunks<T: Clone>(
    kept: &mut Vec<T>,
    size: usize,
    first_failing: &mut dyn FnMut(&[Vec<T>]) -> Option<usize>,
) -> bool {
    let mut removed = false;
    let mut from = 0;
    // The whole list was left out before; what remains after a pass is never empty.
    while from < kept.len() && kept.len() > 1 {
        let starts: Vec<usize> = (from..kept.len()).step_by(size).filter(|&at| at > 0 || size < kept.len()).collect();
        let candidates: Vec<Vec<T>> = starts.iter().map(|&at| without(kept, at, size)).collect();
        if candidates.is_empty() {
            break;
        }
        let Some(found) = first_failing(&candidates) else { break };
        *kept = candidates[found].clone();
        // Chunks before this one were tried, with more items around them.
        from = starts[found];
        removed = true;
    }
    removed
}

fn without<T: Clone>(items: &[T], at: usize, size: usize) -> Vec<T> {
    let end = (at + size).min(items.len());
    [&items[..at], &items[end..]].concat()
}

/// Lowers `value`, which fails, towards `low`: tries `low`, then ever smaller steps down. No smaller number was found to
/// fail; if every number from some point on fails, the result is that point.
pub fn least(low: u64, value: u64, first_failing: &mut dyn FnMut(&[u64]) -> Option<usize>) -> u64 {
    let mut value = value;
    // Below this, nothing fails, as far as is known.
    let mut low = low;
    while low < value {
        let mut candidates = Vec::new();
        let mut step = value - low;
        while step > 0 {
            candidates.push(value - step);
            step /= 2;
        }
        match first_failing(&candidates) {
            None => return value,
            Some(found) => {
                value = candidates[found];
                low = if found == 0 { value } else { candidates[found - 1] + 1 };
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by a rule, one candidate after the other, and counts what was tried.
    fn asked<T>(tried: &mut usize, fails: impl Fn(&T) -> bool) -> impl FnMut(&[T]) -> Option<usize> {
        move |candidates| {
            candidates.iter().position(|candidate| {
                *tried += 1;
                fails(candidate)
            })
        }
    }

    #[test]
    fn what_matters_is_all_that_is_left() {
        let items: Vec<u32> = (0..1_000).collect();
        for wanted in [vec![], vec![0], vec![999], vec![3, 500, 501, 998], (0..1_000).step_by(100).collect()] {
            let mut tried = 0;
            let fails = |candidate: &Vec<u32>| wanted.iter().all(|item| candidate.contains(item));
            assert_eq!(ddmin(&items, &mut asked(&mut tried, fails)), wanted);
            assert!(tried < 600, "{tried} candidates for {} of 1,000 items", wanted.len());
        }
        assert!(ddmin(&[] as &[u32], &mut |_| panic!("nothing to try")).is_empty());
        assert_eq!(ddmin(&[7_u32], &mut |_| None), [7]);
    }

    #[test]
    fn an_item_that_another_needs_goes_with_it() {
        // 5 needs 4 (as an end needs its beginning); only 7 matters.
        let fails =
            |candidate: &Vec<u32>| candidate.contains(&7) && (!candidate.contains(&5) || candidate.contains(&4));
        let mut tried = 0;
        assert_eq!(ddmin(&(0..10).collect::<Vec<u32>>(), &mut asked(&mut tried, fails)), [7]);
    }

    #[test]
    fn no_single_item_of_the_result_can_be_left_out() {
        // At least three of these, whichever.
        let fails = |candidate: &Vec<u32>| candidate.iter().filter(|&&item| item % 3 == 0).count() >= 3;
        let mut tried = 0;
        let left = ddmin(&(0..100).collect::<Vec<u32>>(), &mut asked(&mut tried, fails));
        assert_eq!(left.len(), 3);
        assert!(fails(&left));
    }

    #[test]
    fn candidates_come_largest_cut_first_and_the_first_that_fails_is_taken() {
        let mut rounds: Vec<Vec<Vec<u32>>> = Vec::new();
        let left = ddmin(&[1, 2, 3, 4], &mut |candidates| {
            rounds.push(candidates.to_vec());
            candidates.iter().position(|candidate| candidate.contains(&3))
        });
        assert_eq!(left, [3]);
        assert_eq!(rounds[..2], [vec![vec![]], vec![vec![3, 4], vec![1, 2]]]);
    }

    #[test]
    fn numbers_go_as_low_as_they_fail() {
        for (low, value, threshold) in [(0, 1_000, 0), (0, 1_000, 1), (1, 2_000, 37), (5, 5, 5), (0, 64, 64)] {
            let mut tried = 0;
            assert_eq!(least(low, value, &mut asked(&mut tried, |n: &u64| *n >= threshold)), threshold.max(low));
            assert!(tried <= 70, "{tried} tries down to {threshold}");
        }
        // Not monotonous: an island at 10 is found or not, but the result always fails.
        let fails = |n: &u64| *n == 10 || *n >= 50;
        let mut tried = 0;
        assert!(fails(&least(0, 100, &mut asked(&mut tried, fails))));
    }
}
