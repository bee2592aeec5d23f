//! One sweep on many machines, without an engine of ours: each runs every nth seed, told by whoever started it.
//!
//! `slice:m/n` is told outright. `auto` reads what a scheduler leaves in the environment; what is ambiguous is refused,
//! because a slice that nobody runs looks exactly like a sweep that found nothing. `cargo xtask merge` notices a lost slice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// How many pods a Kubernetes Indexed Job has is not in its environment; the job's manifest has to say it.
pub const COUNT_VARIABLE: &str = "MIROIR_PARTITIONS";

/// One of `of` slices, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    pub slice: u64,
    pub of: u64,
}

impl Partition {
    /// All of it.
    pub const WHOLE: Partition = Partition { slice: 1, of: 1 };

    /// The place in the request of this slice's `n`th seed.
    pub fn place(self, n: u64) -> Option<u64> {
        n.checked_mul(self.of)?.checked_add(self.slice - 1)
    }

    /// How many of `total` seeds are this slice's.
    pub fn share(self, total: u64) -> u64 {
        total.saturating_sub(self.slice - 1).div_ceil(self.of)
    }

    /// Reads what was typed; `auto` asks `environment`.
    pub fn read(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Partition, Failure> {
        if text == "auto" {
            return auto(environment).map_err(|problem| Failure::refused(format!("--partition auto: {problem}")));
        }
        text.parse().map_err(|problem| Failure::refused(format!("--partition: {problem}")))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice:{}/{}", self.slice, self.of)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Partition, String> {
        let wrong = || format!("`{text}` is no slice; write slice:m/n with m from 1 to n, or auto");
        let (slice, of) = text.strip_prefix("slice:").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let (Ok(slice), Ok(of)) = (slice.parse(), of.parse()) else { return Err(wrong()) };
        if slice == 0 || slice > of {
            return Err(wrong());
        }
        Ok(Partition { slice, of })
    }
}

fn auto(environment: impl Fn(&str) -> Option<String>) -> Result<Partition, String> {
    let text = |name: &str| environment(name).filter(|value| !value.is_empty());
    let number = |name: &str| match text(name) {
        None => Ok(None),
        Some(value) => value.parse::<u64>().map(Some).map_err(|_| format!("{name}: `{value}` is not a number")),
    };
    let schedulers = [
        ("a Kubernetes Indexed Job", "JOB_COMPLETION_INDEX"),
        ("a Slurm array", "SLURM_ARRAY_TASK_ID"),
        ("GitLab", "CI_NODE_INDEX"),
    ];
    let found: Vec<&str> = schedulers.iter().filter(|(_, name)| text(name).is_some()).map(|(who, _)| *who).collect();
    let needed = |name: &str| number(name)?.ok_or_else(|| format!("{name} is not set"));
    let partition = match found.as_slice() {
        ["a Kubernetes Indexed Job"] => {
            let index = needed("JOB_COMPLETION_INDEX")?;
            let of = number(COUNT_VARIABLE)?.ok_or_else(|| {
                format!("a pod does not know how many there are; set {COUNT_VARIABLE} to the job's `completions`")
            })?;
            Partition { slice: index + 1, of }
        }
        ["a Slurm array"] => {
            let (first, last) = (needed("SLURM_ARRAY_TASK_MIN")?, needed("SLURM_ARRAY_TASK_MAX")?);
            let (id, of) = (needed("SLURM_ARRAY_TASK_ID")?, needed("SLURM_ARRAY_TASK_COUNT")?);
            if last < first || last - first + 1 != of || !(first..=last).contains(&id) {
                return Err(format!("the array's {of} tasks from {first} to {last} are not numbered without gaps"));
            }
            Partition { slice: id - first + 1, of }
        }
        ["GitLab"] => Partition { slice: needed("CI_NODE_INDEX")?, of: needed("CI_NODE_TOTAL")? },
        [] => {
            let names: Vec<&str> = schedulers.iter().map(|(_, name)| *name).collect();
            return Err(format!("none of {} is set; write slice:m/n", names.join(", ")));
        }
        several => return Err(format!("this looks like {} at once; write slice:m/n", several.join(" and "))),
    };
    if partition.slice == 0 || partition.slice > partition.of {
        return Err(format!("there is no slice {} of {}", partition.slice, partition.of));
    }
    Ok(partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Partition, String> {
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Partition::read(text, get).map_err(|failure| failure.line)
    }

    #[test]
    fn slices_are_disjoint_and_complete() {
        for (total, of) in [(0, 3), (2, 3), (10, 3), (12, 4), (7, 1)] {
            let mut all: Vec<u64> = Vec::new();
            for slice in 1..=of {
                let partition = Partition { slice, of };
                let mine: Vec<u64> = (0..).map_while(|n| partition.place(n).filter(|&at| at < total)).collect();
                assert_eq!(mine.len() as u64, partition.share(total), "{partition} of {total}");
                all.extend(mine);
            }
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn schedulers_are_understood() {
        let slurm = |id| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", "5"),
                ("SLURM_ARRAY_TASK_MAX", "8"),
                ("SLURM_ARRAY_TASK_COUNT", "4"),
            ]
        };
        assert_eq!(read("auto", &slurm("5")), Ok(Partition { slice: 1, of: 4 }));
        assert_eq!(read("auto", &slurm("8")), Ok(Partition { slice: 4, of: 4 }));
        let kubernetes = [("JOB_COMPLETION_INDEX", "0"), (COUNT_VARIABLE, "8")];
        assert_eq!(read("auto", &kubernetes), Ok(Partition { slice: 1, of: 8 }));
        let gitlab = [("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "3")];
        assert_eq!(read("auto", &gitlab), Ok(Partition { slice: 3, of: 3 }));
        assert_eq!(read("slice:2/7", &kubernetes), Ok(Partition { slice: 2, of: 7 }), "typed wins");
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let refused = |text: &str, environment: &[(&str, &str)], expected: &str| {
            let problem = read(text, environment).expect_err(text);
            assert!(problem.contains(expected), "{problem}");
        };
        for text in ["", "2/3", "slice:0/3", "slice:4/3", "slice:1/", "slice:a/b", "count:1/2"] {
            refused(text, &[], "write slice:m/n");
        }
        refused("auto", &[], "none of JOB_COMPLETION_INDEX");
        refused("auto", &[("JOB_COMPLETION_INDEX", "1")], "set MIROIR_PARTITIONS");
        refused("auto", &[("JOB_COMPLETION_INDEX", "8"), (COUNT_VARIABLE, "8")], "no slice 9 of 8");
        refused("auto", &[("CI_NODE_INDEX", "1"), ("SLURM_ARRAY_TASK_ID", "1")], "a Slurm array and GitLab at once");
        refused("auto", &[("CI_NODE_INDEX", "1")], "CI_NODE_TOTAL is not set");
        refused("auto", &[("CI_NODE_INDEX", "x"), ("CI_NODE_TOTAL", "3")], "not a number");
        let gaps = [
            ("SLURM_ARRAY_TASK_ID", "1"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_MAX", "7"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        refused("auto", &gaps, "without gaps");
    }
}
