//! Finds the name somebody probably meant.

/// The candidate with the smallest edit distance to `name` (Wagner and Fischer, 1974), as a whole or behind its last
/// slash. Panics if there is none.
pub fn nearest<'a>(name: &str, candidates: &[&'a str]) -> &'a str {
    let far = |candidate: &&str| {
        let last = candidate.rsplit('/').next().unwrap_or(candidate);
        distance(name, candidate).min(distance(name, last))
    };
    candidates.iter().copied().min_by_key(far).expect("there are candidates")
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_the_one_with_the_fewest_edits() {
        let names = ["cutover/swarm", "cutover/with_anti_entropy", "steady/smoke", "canary"];
        assert_eq!(nearest("cutover/swam", &names), "cutover/swarm");
        assert_eq!(nearest("smoke", &names), "steady/smoke");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
