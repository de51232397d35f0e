//! The generator from which everything in a run is drawn.
//!
//! xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021),
//! seeded through SplitMix64. Integers only: a ratio is two integers and a range has integer ends,
//! so a draw is the same on every machine. A run does not have one generator but a *stream* for
//! each purpose (each directed pair of nodes, each disk, …), all derived from the seed: when one
//! fault is taken out of a failing run, the draws of everything it did not touch stay as they were.

use serde::{Deserialize, Serialize};

/// A chance of `numerator` in `denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "(u32, u32)", try_from = "(u32, u32)")]
pub struct Ratio {
    /// How many of `denominator` draws succeed; at most `denominator`.
    pub numerator: u32,
    /// Not zero.
    pub denominator: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Ratio = Ratio { numerator: 0, denominator: 1 };
    /// Always.
    pub const ALWAYS: Ratio = Ratio { numerator: 1, denominator: 1 };

    /// `numerator` in `denominator`.
    #[must_use]
    pub const fn new(numerator: u32, denominator: u32) -> Ratio {
        assert!(denominator > 0 && numerator <= denominator);
        Ratio { numerator, denominator }
    }

    /// `n` in a thousand.
    #[must_use]
    pub const fn per_mille(n: u32) -> Ratio {
        Ratio::new(n, 1_000)
    }
}

impl From<Ratio> for (u32, u32) {
    fn from(ratio: Ratio) -> (u32, u32) {
        (ratio.numerator, ratio.denominator)
    }
}

impl TryFrom<(u32, u32)> for Ratio {
    type Error = String;
    fn try_from((numerator, denominator): (u32, u32)) -> Result<Ratio, String> {
        if denominator == 0 || numerator > denominator {
            return Err(format!("no chance is {numerator} in {denominator}"));
        }
        Ok(Ratio { numerator, denominator })
    }
}

/// The integers from `min` to `max`, both included. Durations are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", try_from = "(u64, u64)")]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The greatest; not below `min`.
    pub max: u64,
}

impl Span {
    /// From `min` to `max`.
    #[must_use]
    pub const fn new(min: u64, max: u64) -> Span {
        assert!(min <= max);
        Span { min, max }
    }

    /// Just `value`.
    #[must_use]
    pub const fn only(value: u64) -> Span {
        Span { min: value, max: value }
    }
}

impl From<Span> for (u64, u64) {
    fn from(span: Span) -> (u64, u64) {
        (span.min, span.max)
    }
}

impl TryFrom<(u64, u64)> for Span {
    type Error = String;
    fn try_from((min, max): (u64, u64)) -> Result<Span, String> {
        if min > max {
            return Err(format!("no span goes from {min} down to {max}"));
        }
        Ok(Span { min, max })
    }
}

/// A seeded generator. Cloning it forks the future: both copies draw the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Rng {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        let mut state = seed;
        Rng { state: [(); 4].map(|()| splitmix(&mut state)) }
    }

    /// The stream of `seed` that serves `purpose` for the thing numbered `index`.
    ///
    /// ```
    /// use quorate_sim::Rng;
    /// assert_eq!(Rng::stream(1, "disk", 0), Rng::stream(1, "disk", 0));
    /// assert_ne!(Rng::stream(1, "disk", 0), Rng::stream(1, "disk", 1));
    /// assert_ne!(Rng::stream(1, "disk", 0), Rng::stream(1, "clock", 0));
    /// ```
    #[must_use]
    pub fn stream(seed: u64, purpose: &str, index: u64) -> Rng {
        let mut state = seed;
        for byte in purpose.bytes() {
            state = splitmix(&mut state) ^ u64::from(byte);
        }
        state = splitmix(&mut state) ^ index;
        Rng::new(splitmix(&mut state))
    }

    /// The next word.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let word = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        word
    }

    /// A number below `limit`, which must not be zero; without bias (Lemire, 2019).
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "nothing lies below zero");
        let mut product = u128::from(self.next_u64()) * u128::from(limit);
        if (product as u64) < limit {
            let threshold = limit.wrapping_neg() % limit;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(limit);
            }
        }
        (product >> 64) as u64
    }

    /// A number of `span`.
    #[inline]
    pub fn within(&mut self, span: Span) -> u64 {
        match (span.max - span.min).checked_add(1) {
            Some(1) => span.min,
            Some(width) => span.min + self.below(width),
            None => self.next_u64(),
        }
    }

    /// A signed number from `-most` to `most`.
    pub fn around_zero(&mut self, most: u32) -> i64 {
        self.below(2 * u64::from(most) + 1) as i64 - i64::from(most)
    }

    /// Whether a chance of `ratio` succeeds. What cannot happen draws nothing.
    #[inline]
    pub fn chance(&mut self, ratio: Ratio) -> bool {
        ratio.numerator > 0 && self.below(u64::from(ratio.denominator)) < u64::from(ratio.numerator)
    }

    /// A ratio from never up to `most`.
    pub fn up_to(&mut self, most: Ratio) -> Ratio {
        let numerator = self.below(u64::from(most.numerator) + 1) as u32;
        Ratio { numerator, denominator: most.denominator }
    }

    /// One of `items`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| &items[self.below(items.len() as u64) as usize])
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_matches_the_published_reference() {
        // SplitMix64 of seed 1234567, from the reference implementation's published test vector.
        let mut state = 1_234_567;
        assert_eq!(splitmix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(splitmix(&mut state), 3_203_168_211_198_807_973);
        // xoshiro256** from the state 1, 2, 3, 4.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!(
            [(); 4].map(|()| rng.next_u64()),
            [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]
        );
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let mut rng = Rng::new(9);
        let draws: Vec<u64> = (0..1_000).map(|_| rng.within(Span::new(3, 6))).collect();
        assert!(draws.iter().all(|draw| (3..=6).contains(draw)));
        assert!((3..=6).all(|value| draws.contains(&value)));
        let hits = (0..10_000).filter(|_| rng.chance(Ratio::per_mille(250))).count();
        assert!((2_200..2_800).contains(&hits), "{hits} of 10000 at a quarter");
        assert!(!rng.chance(Ratio::NEVER) && rng.chance(Ratio::ALWAYS));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(4).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
