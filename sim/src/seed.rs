//! The one number that a run is a function of.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// The seed of a run.
///
/// Written as a decimal number. In serialised form it is a number up to `i64::MAX` and a `"0x…"` string above, because TOML has no larger
/// integers; both are read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

/// A text that is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no seed: use a decimal number (42), a hexadecimal one (0x2a), or a commit hash of 40 hex digits")]
pub struct SeedError {
    text: String,
}

impl FromStr for Seed {
    type Err = SeedError;

    /// Reads `42`, `0x2a`, or a 40-digit commit hash, which is folded to 64 bits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SeedError { text: text.to_owned() };
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Seed(xxh3_64(text.to_ascii_lowercase().as_bytes())));
        }
        let digits = |text: &str, radix| {
            let clean = text.bytes().all(|b| (b as char).is_digit(radix));
            if clean { u64::from_str_radix(text, radix).map_err(|_| error()) } else { Err(error()) }
        };
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => digits(hex, 16).map(Seed),
            None => digits(text, 10).map(Seed),
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if i64::try_from(self.0).is_ok() {
            serializer.serialize_u64(self.0)
        } else {
            serializer.serialize_str(&format!("{:#x}", self.0))
        }
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedVisitor;
        impl Visitor<'_> for SeedVisitor {
            type Value = Seed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a seed: a number, or a string such as \"0x2a\"")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seed, E> {
                u64::try_from(value).map(Seed).map_err(|_| E::custom("a seed is not negative"))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Seed, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SeedVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_forms() {
        assert_eq!("42".parse(), Ok(Seed(42)));
        assert_eq!("0x2A".parse(), Ok(Seed(42)));
        let commit = "e6bcd36e6bcd36e6bcd36e6bcd36e6bcd36e6bcd";
        assert_eq!(commit.parse::<Seed>(), commit.to_uppercase().parse());
        assert_ne!(commit.parse::<Seed>(), commit.replace('e', "f").parse());
        assert_eq!(Seed(42).to_string(), "42");
    }

    #[test]
    fn refuses_the_rest_and_names_what_is_allowed() {
        for text in ["", "+4", "-1", "4 2", "0x", "0xg", "18446744073709551616", "e6bcd36"] {
            let error = text.parse::<Seed>().expect_err(text).to_string();
            assert!(error.contains("decimal") && error.contains("0x2a") && error.contains("commit"), "{error}");
        }
    }

    #[test]
    fn survives_toml_at_any_size() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct File {
            seed: Seed,
        }
        for seed in [0, 42, i64::MAX as u64, u64::MAX] {
            let file = File { seed: Seed(seed) };
            let text = toml::to_string(&file).expect("serialises");
            assert_eq!(toml::from_str::<File>(&text).expect("parses"), file);
        }
        assert_eq!(serde_json::to_string(&Seed(42)).expect("serialises"), "42");
    }
}
