//! Which seeds a command runs: one for `sim`, a range for `sweep`.
//!
//! What a single seed may look like is the simulator's business ([`miroir_sim::seed::Seed`]); this file adds where it
//! comes from (`--seed`, then `MIROIR_SEED`, then chance) and ranges of them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::str::FromStr;

use miroir_sim::seed::Seed;

use crate::exit::Failure;

/// The environment variable that stands in for `--seed`.
pub const SEED_VARIABLE: &str = "MIROIR_SEED";

/// The seed of a run: what was typed, else the environment, else a fresh one.
pub fn choose(typed: Option<&str>) -> Result<Seed, Failure> {
    let environment = std::env::var(SEED_VARIABLE).ok().filter(|value| !value.is_empty());
    match (typed, environment) {
        (Some(text), _) => parse(text, "--seed"),
        (None, Some(text)) => parse(&text, SEED_VARIABLE),
        (None, None) => Ok(random()),
    }
}

/// Reads one seed; `source` names where a malformed one was found.
fn parse(text: &str, source: &str) -> Result<Seed, Failure> {
    Seed::from_str(text).map_err(|error| Failure::refused(format!("{source}: {error}")))
}

/// A seed that nobody chose: short enough to type again.
fn random() -> Seed {
    Seed(RandomState::new().build_hasher().finish() >> 32)
}

/// The seeds of a sweep, half-open: `0..20` has twenty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedRange(pub Range<u64>);

impl SeedRange {
    /// `count` seeds from the environment's on, or from chance's.
    pub fn counted(count: u64) -> Result<SeedRange, Failure> {
        let first = choose(None)?.0;
        let last = first.checked_add(count).ok_or_else(|| {
            Failure::refused(format!("--count: {count} seeds from {first} on run past the largest seed"))
        })?;
        Ok(SeedRange(first..last))
    }

    /// All seeds from the environment's on, or from chance's: for a sweep that ends with its time.
    pub fn open() -> Result<SeedRange, Failure> {
        Ok(SeedRange(choose(None)?.0..u64::MAX))
    }

    pub fn len(&self) -> u64 {
        self.0.end.saturating_sub(self.0.start)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromStr for SeedRange {
    type Err = Failure;

    fn from_str(text: &str) -> Result<SeedRange, Failure> {
        let Some((first, last)) = text.split_once("..") else {
            return Err(Failure::refused(format!(
                "--seeds: `{text}` is not a range; write A..B, as in 0..1000 (B is left out)"
            )));
        };
        let first = parse(first, "--seeds")?.0;
        let last = match last.strip_prefix('=') {
            Some(inclusive) => parse(inclusive, "--seeds")?
                .0
                .checked_add(1)
                .ok_or_else(|| Failure::refused("--seeds: the range runs past the largest seed"))?,
            None => parse(last, "--seeds")?.0,
        };
        if last < first {
            return Err(Failure::refused(format!("--seeds: `{text}` runs backwards; write the smaller seed first")));
        }
        Ok(SeedRange(first..last))
    }
}

impl std::fmt::Display for SeedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    #[test]
    fn ranges_are_half_open_unless_they_say_otherwise() {
        assert_eq!("0..20".parse::<SeedRange>().unwrap().len(), 20);
        assert_eq!("0x10..0x12".parse::<SeedRange>().unwrap(), SeedRange(16..18));
        assert_eq!("3..=5".parse::<SeedRange>().unwrap(), SeedRange(3..6));
        assert!("7..7".parse::<SeedRange>().unwrap().is_empty());
    }

    #[test]
    fn malformed_ranges_are_refused_in_one_line() {
        for text in ["", "7", "..", "1..", "a..b", "9..3", "0..=18446744073709551615"] {
            let failure = text.parse::<SeedRange>().unwrap_err();
            assert_eq!(failure.exit, ExitCode::Refused, "{text}");
            assert!(failure.line.starts_with("--seeds: ") && !failure.line.contains('\n'), "{text}: {failure}");
        }
    }

    #[test]
    fn a_typed_seed_wins_and_a_bad_one_says_where_it_was_typed() {
        assert_eq!(choose(Some("42")).unwrap(), Seed(42));
        assert_eq!(choose(Some("0x2a")).unwrap(), Seed(42));
        assert!(choose(Some("forty-two")).unwrap_err().line.starts_with("--seed: "));
    }
}
