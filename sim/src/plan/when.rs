//! When a fault begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::is_zero;
use crate::time::{MICROS, MILLIS, Nanos, in_seconds};

/// When a fault begins: at a time, again and again, or when something has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawWhen", into = "RawWhen")]
pub enum When {
    /// Simulated time since the start of the run.
    Time(Nanos),
    /// At `from`, and every `every` after that, before `until`.
    Every {
        /// From one beginning to the next.
        every: Nanos,
        /// The first.
        from: Nanos,
        /// There is none at or after this time.
        until: Nanos,
    },
    /// After the `nth` (from 1) time that the system reported `name`.
    Signal {
        /// Name of the signal, such as a stage.
        name: String,
        /// Which occurrence, from 1.
        nth: u32,
        /// Delay after it.
        after: Nanos,
    },
    /// After the mark was reached for the first time. Marks are counted only after [`crate::coverage::init`].
    Mark {
        /// Name of the mark.
        name: String,
        /// Delay after it.
        after: Nanos,
    },
}

impl When {
    /// At so many milliseconds.
    pub fn ms(ms: u64) -> When {
        When::Time(ms * MILLIS)
    }

    /// At the first occurrence of a signal.
    pub fn signal(name: &str) -> When {
        When::Signal { name: name.to_owned(), nth: 1, after: 0 }
    }

    /// When the first mark of this name is reached.
    pub fn mark(name: &str) -> When {
        When::Mark { name: name.to_owned(), after: 0 }
    }

    /// Every so many milliseconds, from the first of them on.
    pub fn every_ms(every_ms: u64, until_ms: u64) -> When {
        When::Every { every: every_ms * MILLIS, from: every_ms * MILLIS, until: until_ms * MILLIS }
    }
}

impl fmt::Display for When {
    /// `at 1.200000 s`, `every 0.100000 s until 2.000000 s`, `0.003000 s after DeltaPass`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = |f: &mut fmt::Formatter<'_>, after: Nanos| match after {
            0 => write!(f, "at "),
            _ => write!(f, "{} after ", in_seconds(after)),
        };
        match self {
            When::Time(at) => write!(f, "at {}", in_seconds(*at)),
            When::Every { every, from, until } => {
                write!(f, "every {} from {} until {}", in_seconds(*every), in_seconds(*from), in_seconds(*until))
            }
            When::Signal { name, nth, after } => {
                delay(f, *after)?;
                f.write_str(name)?;
                if *nth > 1 { write!(f, " number {nth}") } else { Ok(()) }
            }
            When::Mark { name, after } => {
                delay(f, *after)?;
                write!(f, "the mark \"{name}\"")
            }
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWhen {
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    after_us: u64,
}

const FORMS: &str = "`at` is { ms = 1200 }, { every_ms = 100, from_ms = 500, until_ms = 2000 }, \
     { signal = \"DeltaPass\", nth = 1, after_us = 3000 } or { mark = \"read repaired\", after_us = 0 }";

impl TryFrom<RawWhen> for When {
    type Error = String;

    fn try_from(raw: RawWhen) -> Result<When, String> {
        let after = raw.after_us.saturating_mul(MICROS);
        let ms = |ms: u64| ms.saturating_mul(MILLIS);
        match raw {
            RawWhen {
                ms: Some(at),
                every_ms: None,
                from_ms: None,
                until_ms: None,
                signal: None,
                nth: None,
                mark: None,
                ..
            } => Ok(When::Time(ms(at).saturating_add(after))),
            RawWhen {
                every_ms: Some(every),
                from_ms,
                until_ms: Some(until),
                ms: None,
                signal: None,
                nth: None,
                mark: None,
                after_us: 0,
            } => match every {
                0 => Err("`at.every_ms` is at least 1".to_owned()),
                _ => Ok(When::Every { every: ms(every), from: ms(from_ms.unwrap_or(every)), until: ms(until) }),
            },
            RawWhen { nth: Some(0), .. } => Err("`at.nth` counts from 1".to_owned()),
            RawWhen {
                signal: Some(name),
                nth,
                ms: None,
                every_ms: None,
                from_ms: None,
                until_ms: None,
                mark: None,
                ..
            } => Ok(When::Signal { name, nth: nth.unwrap_or(1), after }),
            RawWhen {
                mark: Some(name),
                nth: None,
                ms: None,
                every_ms: None,
                from_ms: None,
                until_ms: None,
                signal: None,
                ..
            } => Ok(When::Mark { name, after }),
            _ => Err(FORMS.to_owned()),
        }
    }
}

impl From<When> for RawWhen {
    fn from(when: When) -> RawWhen {
        match when {
            When::Time(at) => RawWhen { ms: Some(at / MILLIS), after_us: at % MILLIS / MICROS, ..RawWhen::default() },
            When::Every { every, from, until } => RawWhen {
                every_ms: Some(every / MILLIS),
                from_ms: Some(from / MILLIS),
                until_ms: Some(until / MILLIS),
                ..RawWhen::default()
            },
            When::Signal { name, nth, after } => {
                RawWhen { signal: Some(name), nth: Some(nth), after_us: after / MICROS, ..RawWhen::default() }
            }
            When::Mark { name, after } => RawWhen { mark: Some(name), after_us: after / MICROS, ..RawWhen::default() },
        }
    }
}
