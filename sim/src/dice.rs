//! All chance in a run, as keyed ChaCha streams.
//!
//! A stream is named by text and number (`"net"`, link), and its key depends on seed, name and number only: streams may be created in any
//! order, or not at all. Within a stream there are two ways to draw:
//! - in sequence ([`Stream`] itself): for generators, where the next draw depends on the last anyway;
//! - by address ([`Stream::at`]): one 64-byte block per ordinal. A decision is then a function of (stream, ordinal): leaving one out, or
//!   drawing more for one, moves no other. Faults, messages and disk writes use this.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::ratio::Ratio;
use crate::seed::Seed;

/// The root of all streams of one run.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    seed: Seed,
}

impl Dice {
    /// The dice of a run.
    pub fn new(seed: Seed) -> Dice {
        Dice { seed }
    }

    /// The seed that everything is drawn from.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The stream called `(name, key)`: the same stream whenever and however often it is asked for.
    pub fn stream(&self, name: &str, key: u64) -> Stream {
        let mut input = Vec::with_capacity(16 + name.len());
        input.extend_from_slice(&self.seed.0.to_le_bytes());
        input.extend_from_slice(&key.to_le_bytes());
        input.extend_from_slice(name.as_bytes());
        let mut chacha_key = [0; 32];
        chacha_key[..16].copy_from_slice(&xxh3_128_with_seed(&input, 0).to_le_bytes());
        chacha_key[16..].copy_from_slice(&xxh3_128_with_seed(&input, 1).to_le_bytes());
        let mut addressed = ChaCha8Rng::from_seed(chacha_key);
        addressed.set_stream(1);
        Stream {
            sequence: ChaCha8Rng::from_seed(chacha_key),
            addressed,
            window: Box::new(Window { start: None, words: [0; 32] }),
        }
    }
}

/// One named stream of random numbers. See the module for the two ways to draw.
#[derive(Clone, Debug)]
pub struct Stream {
    sequence: ChaCha8Rng,
    addressed: ChaCha8Rng,
    window: Box<Window>,
}

/// Four consecutive blocks, which is what ChaCha computes at once.
#[derive(Clone, Debug)]
struct Window {
    /// Ordinal of the first block, a multiple of four; none before first use.
    start: Option<u64>,
    words: [u64; 4 * BLOCK_WORDS],
}

const BLOCK_WORDS: usize = 8;

impl Stream {
    /// The draws of the decision number `ordinal`. Consecutive ordinals are cheap: four blocks are computed at once.
    pub fn at(&mut self, ordinal: u64) -> Draws {
        let start = ordinal & !3;
        if self.window.start != Some(start) {
            self.addressed.set_word_pos(u128::from(start) * 16);
            for word in &mut self.window.words {
                *word = self.addressed.next_u64();
            }
            self.window.start = Some(start);
        }
        let first = (ordinal & 3) as usize * BLOCK_WORDS;
        let mut block = [0; BLOCK_WORDS];
        block.copy_from_slice(&self.window.words[first..first + BLOCK_WORDS]);
        Draws { block, used: 0, refills: 0 }
    }
}

impl Random for Stream {
    fn next_u64(&mut self) -> u64 {
        self.sequence.next_u64()
    }
}

/// The draws that belong to one decision: eight 64-bit words of ChaCha, then (rarely needed) words hashed from them.
#[derive(Clone, Debug)]
pub struct Draws {
    block: [u64; BLOCK_WORDS],
    used: usize,
    refills: u64,
}

impl Random for Draws {
    fn next_u64(&mut self) -> u64 {
        if self.used == BLOCK_WORDS {
            self.refills += 1;
            let mut bytes = [0; BLOCK_WORDS * 8];
            for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.block) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            for (index, word) in self.block.iter_mut().enumerate() {
                *word = xxh3_64_with_seed(&bytes, self.refills * BLOCK_WORDS as u64 + index as u64);
            }
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

/// What can be drawn, from a [`Stream`] in sequence or from the [`Draws`] of one decision.
pub trait Random {
    /// 64 fresh bits.
    fn next_u64(&mut self) -> u64;

    /// 128 fresh bits.
    fn next_u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }

    /// Uniform in `0..n`, without bias. Panics if `n` is zero.
    fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing is below zero");
        // Multiply and shift; the few low products that would make small results likelier are drawn again (Lemire 2019).
        let unfair = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in `range`, both ends included. Panics if it is empty.
    fn range(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        assert!(low <= high, "empty range {low}..={high}");
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.next_u64(),
        }
    }

    /// True with the given chance. Uses one draw, whatever the chance, so that raising it from zero shifts nothing.
    fn chance(&mut self, ratio: Ratio) -> bool {
        self.below(u64::from(ratio.den())) < u64::from(ratio.num())
    }

    /// One of `items`, each as likely. Panics if there is none.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T
    where
        Self: Sized,
    {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Puts `items` into a uniformly drawn order.
    fn shuffle<T>(&mut self, items: &mut [T])
    where
        Self: Sized,
    {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// An exponentially distributed number with the given mean (at most 45 times the mean): the shape of waiting times. Integer arithmetic only.
    fn exponential(&mut self, mean: u64) -> u64 {
        let uniform = self.next_u64() | 1;
        ((u128::from(mean) * u128::from(minus_ln(uniform))) >> 32) as u64
    }
}

const LOG_STEPS: usize = 256;

/// `log2(1 + i / 256)` with 32 fractional bits, computed at compile time by repeated squaring.
const LOG2: [u64; LOG_STEPS + 1] = {
    let mut table = [0; LOG_STEPS + 1];
    let mut step = 0;
    while step <= LOG_STEPS {
        table[step] = log2_of_mantissa((1 << 32) + ((step as u64) << 24));
        step += 1;
    }
    table
};

/// `log2(m)` for `m` in `[1, 2]`, both with 32 fractional bits.
const fn log2_of_mantissa(mantissa: u64) -> u64 {
    let mut value = mantissa as u128;
    let mut result: u64 = 0;
    if value >= 2 << 32 {
        return 1 << 32;
    }
    let mut bit = 0;
    while bit < 32 {
        value = (value * value) >> 32;
        result <<= 1;
        if value >= 2 << 32 {
            value >>= 1;
            result |= 1;
        }
        bit += 1;
    }
    result
}

/// `-ln(u / 2^64)` with 32 fractional bits, for `u > 0`.
fn minus_ln(u: u64) -> u64 {
    const LN_2: u128 = 2_977_044_471; // ln(2) * 2^32
    let zeros = u.leading_zeros();
    let mantissa = u << zeros; // top bit set: the number is mantissa / 2^64 in [1/2, 1), halved `zeros` times
    let index = (mantissa >> 55) as usize & (LOG_STEPS - 1);
    let within = u128::from(mantissa >> 23 & 0xffff_ffff);
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let log2_of_doubled = low + ((u128::from(high - low) * within) >> 32) as u64;
    let minus_log2 = (u64::from(zeros + 1) << 32) - log2_of_doubled;
    ((u128::from(minus_log2) * LN_2) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_do_not_depend_on_each_other() {
        let dice = Dice::new(Seed(7));
        let mut early = dice.stream("net", 1);
        let _other = dice.stream("disk", 1).next_u64();
        let mut late = dice.stream("net", 1);
        assert_eq!(early.next_u64(), late.next_u64());
        let first = |name, key| dice.stream(name, key).next_u64();
        assert_ne!(first("net", 1), first("net", 2));
        assert_ne!(first("net", 1), first("disk", 1));
        assert_ne!(first("net", 1), Dice::new(Seed(8)).stream("net", 1).next_u64());
    }

    #[test]
    fn an_address_is_a_function_of_stream_and_ordinal() {
        let dice = Dice::new(Seed(7));
        let mut forwards = dice.stream("net", 1);
        let drawn: Vec<u64> = (0..100).map(|ordinal| forwards.at(ordinal).next_u64()).collect();
        let mut backwards = dice.stream("net", 1);
        for ordinal in (0..100).rev() {
            let mut draws = backwards.at(ordinal);
            assert_eq!(draws.next_u64(), drawn[ordinal as usize]);
            for _ in 0..40 {
                draws.next_u64(); // drawing more for one decision moves no other
            }
        }
        let mut unique = drawn.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), drawn.len());
        assert_ne!(dice.stream("net", 1).next_u64(), drawn[0], "the two ways to draw share no words");
    }

    #[test]
    fn draws_go_on_past_their_block() {
        let mut draws = Dice::new(Seed(7)).stream("x", 0).at(3);
        let mut words: Vec<u64> = (0..1000).map(|_| draws.next_u64()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 1000);
    }

    #[test]
    fn numbers_stay_in_range_and_are_fair() {
        let mut stream = Dice::new(Seed(1)).stream("t", 0);
        let mut seen = [0_u32; 6];
        for _ in 0..60_000 {
            seen[stream.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (9_500..10_500).contains(&count)), "{seen:?}");
        assert!((0..1000).all(|_| (5..=7).contains(&stream.range(5..=7))));
        assert_eq!(stream.range(9..=9), 9);
        let _whole = stream.range(0..=u64::MAX);
        let hits = (0..100_000).filter(|_| stream.chance(Ratio::of(1, 100))).count();
        assert!((850..1150).contains(&hits), "{hits}");
        assert!(!stream.chance(Ratio::ZERO) && stream.chance(Ratio::ONE));
        let mut order: Vec<u32> = (0..50).collect();
        stream.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn waiting_times_are_exponential() {
        let mut stream = Dice::new(Seed(1)).stream("t", 0);
        let mut drawn: Vec<u64> = (0..100_001).map(|_| stream.exponential(1_000_000)).collect();
        drawn.sort_unstable();
        let mean = drawn.iter().sum::<u64>() / drawn.len() as u64;
        assert!((985_000..1_015_000).contains(&mean), "{mean}");
        assert!((680_000..706_000).contains(&drawn[50_000]), "median is ln 2: {}", drawn[50_000]);
        assert!((4_450_000..4_750_000).contains(&drawn[99_000]), "p99 is ln 100: {}", drawn[99_000]);
        assert!(*drawn.last().expect("many") < 45_000_000);
        assert_eq!(minus_ln(u64::MAX) >> 8, 0);
        assert!((190_530_000_000..190_532_000_000).contains(&minus_ln(1)), "64 ln 2 = 44.3614");
    }
}
