//! What accidents make of bytes, for the tests of decoders that only this crate can reach.
//!
//! The accidents are drawn from a fixed seed, so that an input that fails once fails again. `MIROIR_FUZZ=100000` tries
//! more.

#![expect(clippy::disallowed_methods, reason = "how much to try is the caller's choice and no part of a run")]

use std::fmt::Debug;
use std::io::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{decode_record, encode_record};

/// What an accident does to bytes: some are other bytes, and some at the end are missing or double.
#[derive(Clone, Debug)]
pub struct Accident {
    changes: Vec<(usize, u8)>,
    cut: usize,
    doubled: usize,
    /// Which of several examples it happens to.
    which: usize,
}

fn accident() -> impl Strategy<Value = Accident> {
    let changes = vec((any::<usize>(), any::<u8>()), 0..4);
    let sizes = (0usize..30, 0usize..30, any::<usize>());
    (changes, sizes).prop_map(|(changes, (cut, doubled, which))| Accident { changes, cut, doubled, which })
}

impl Accident {
    pub fn happen(&self, bytes: &mut Vec<u8>) {
        for (at, byte) in &self.changes {
            let len = bytes.len().max(1);
            if let Some(changed) = bytes.get_mut(at % len) {
                *changed = *byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(self.cut));
        bytes.extend_from_within(bytes.len().saturating_sub(self.doubled)..);
    }
}

/// Behind every checksum stands a decoder, which has to take whatever a bug may have put under a right one.
pub fn fuzz(what: &str, check: impl Fn(Accident) -> Result<(), TestCaseError>) {
    let cases = std::env::var("MIROIR_FUZZ").map_or(10_000, |text| text.parse().expect("MIROIR_FUZZ: a number"));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let dice = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, dice).run(&accident(), check).unwrap_or_else(|error| panic!("{error}"));
    // Not `println!`, which a passing test keeps to itself.
    writeln!(std::io::stdout(), "tried: fuzzed {what}: {cases} fuzz inputs").expect("somebody listens");
}

/// What is decoded from the bytes of an example after an accident is refused, or is something that is encoded and decoded
/// as itself.
pub fn fuzz_records<T: Serialize + DeserializeOwned + Debug>(what: &str, examples: &[T]) {
    let whole: Vec<Vec<u8>> = examples.iter().map(encode_record).collect();
    fuzz(what, |accident| {
        let mut bytes = whole[accident.which % whole.len()].clone();
        accident.happen(&mut bytes);
        if let Ok(record) = decode_record::<T>(&bytes) {
            let again = encode_record(&record);
            let read = decode_record::<T>(&again);
            prop_assert_eq!(read.map(|read| encode_record(&read)), Ok(again));
        }
        Ok(())
    });
}
