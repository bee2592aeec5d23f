//! Chances as integer ratios: printed as they were meant, compared exactly, no float decides anything.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A chance between 0 and 1, written `1/100`.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    num: u32,
    den: u32,
}

/// Why a text or a pair of numbers is no chance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatioError {
    /// Neither `N/D` nor `0` nor `1`.
    #[error("`{0}` is no ratio: write it as 1/100 (or 0, or 1)")]
    Malformed(String),
    /// The denominator is zero.
    #[error("ratio {0}/0 divides by zero: the denominator is at least 1")]
    ZeroDenominator(u32),
    /// More than certain.
    #[error("ratio {0}/{1} is above 1: a chance is at most 1/1")]
    AboveOne(u32, u32),
}

impl Ratio {
    /// It never happens.
    pub const ZERO: Ratio = Ratio { num: 0, den: 1 };
    /// It always happens.
    pub const ONE: Ratio = Ratio { num: 1, den: 1 };

    /// `num` in `den`. Fails if `den` is zero or `num > den`.
    pub const fn new(num: u32, den: u32) -> Result<Ratio, RatioError> {
        if den == 0 {
            Err(RatioError::ZeroDenominator(num))
        } else if num > den {
            Err(RatioError::AboveOne(num, den))
        } else {
            Ok(Ratio { num, den })
        }
    }

    /// `num` in `den`, for constants in code. Panics where [`Ratio::new`] fails.
    pub const fn of(num: u32, den: u32) -> Ratio {
        assert!(den > 0 && num <= den, "a ratio is at most 1 and its denominator at least 1");
        Ratio { num, den }
    }

    /// Numerator.
    pub const fn num(self) -> u32 {
        self.num
    }

    /// Denominator, at least 1.
    pub const fn den(self) -> u32 {
        self.den
    }

    /// True if it never happens.
    pub const fn is_zero(self) -> bool {
        self.num == 0
    }

    /// Parts per million, rounded down: for printing and sorting only.
    pub const fn ppm(self) -> u64 {
        self.num as u64 * 1_000_000 / self.den as u64
    }

    /// The likelier of the two.
    #[must_use]
    pub fn max(self, other: Ratio) -> Ratio {
        if self.cross(other) >= other.cross(self) { self } else { other }
    }

    fn cross(self, other: Ratio) -> u64 {
        u64::from(self.num) * u64::from(other.den)
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Ratio::ZERO
    }
}

impl PartialEq for Ratio {
    /// `1/2` equals `2/4`: equal chances, not equal spellings.
    fn eq(&self, other: &Ratio) -> bool {
        self.cross(*other) == other.cross(*self)
    }
}

impl Eq for Ratio {}

impl FromStr for Ratio {
    type Err = RatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || RatioError::Malformed(text.to_owned());
        let number = |part: &str| {
            let clean = part.bytes().all(|b| b.is_ascii_digit());
            if clean { part.parse::<u32>().map_err(|_| malformed()) } else { Err(malformed()) }
        };
        match text.split_once('/') {
            Some((num, den)) => Ratio::new(number(num.trim())?, number(den.trim())?),
            None => Ratio::new(number(text)?, 1),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        for text in ["1/100", "0/1", "3/3"] {
            assert_eq!(text.parse::<Ratio>().expect(text).to_string(), text);
        }
        assert_eq!("0".parse(), Ok(Ratio::ZERO));
        assert_eq!("1".parse(), Ok(Ratio::ONE));
        assert_eq!(Ratio::of(1, 2), Ratio::of(2, 4));
    }

    #[test]
    fn refuses_more_than_certain_and_division_by_zero() {
        assert_eq!("2/1".parse::<Ratio>(), Err(RatioError::AboveOne(2, 1)));
        assert_eq!("1/0".parse::<Ratio>(), Err(RatioError::ZeroDenominator(1)));
        for text in ["", "/", "0.5", "1/-2", "1/2/3", "1%", "+1/2"] {
            assert!(matches!(text.parse::<Ratio>(), Err(RatioError::Malformed(_))), "{text}");
        }
        let error =
            toml::from_str::<std::collections::BTreeMap<String, Ratio>>("loss = \"2/1\"").expect_err("above one");
        assert!(error.to_string().contains("ratio 2/1 is above 1"), "{error}");
    }

    #[test]
    fn the_likelier_wins() {
        assert_eq!(Ratio::of(1, 100).max(Ratio::of(1, 10)), Ratio::of(1, 10));
        assert_eq!(Ratio::of(1, 10).max(Ratio::ZERO), Ratio::of(1, 10));
        assert_eq!(Ratio::of(5, 1000).ppm(), 5000);
    }
}
