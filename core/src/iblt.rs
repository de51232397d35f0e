//! Rateless set reconciliation: finding the few ids in which two big sets differ.
//!
//! Two peers hold sets of 64-bit ids that are nearly equal. One streams *cells*; the other
//! subtracts its own cells and reads the difference off, as soon as it has some 1.35 to 1.72 cells
//! for each id that differs, whatever the size of the sets. Nobody has to guess the difference
//! beforehand: the encoder "incrementally encodes the set difference into an infinite stream of
//! coded symbols", and if those sent do not suffice, more are.
//!
//! A cell holds the xor of the ids mapped to it, the xor of their checksums, and their count. What
//! both sides hold cancels in the subtraction. A cell left with one id is *pure*: its count is +1
//! or -1 and its xor is the id, which the checksum confirms. That id is taken out of every other
//! cell it maps to, which leaves other cells pure, and so on until nothing is left (*peeling*).
//!
//! Paper: Yang, Gilad, Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024.
//! Its one rule is how dense a cell is: an id is in cell i with probability ρ(i) = 1/(1+i/2). So
//! every id is in cell 0, two thirds of them are in cell 1, half of them in cell 2.
//!
//! Where we depart:
//!
//! * The paper steps from one index of an id to its next by an approximation of that distribution
//!   in floating point. We invert it exactly, in integers (see `Indexes`): two machines must agree
//!   to the bit.
//! * Ids here are 8 bytes, and already keyed hashes: the caller draws a key for each session, so
//!   that nobody can prepare items whose ids collide or that fill a cell.
//! * The stream ends after [`MAX_CELLS`]; whoever has not decoded by then sends the set itself.
//!
//! Cells come from peers. Whatever they hold, [`Decoder::decode`] ends: it peels no id twice and no
//! more ids than there are cells, and it refuses an id that does not map to the cell it came from.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use serde::{Deserialize, Serialize};

/// Cells in one stream, at most.
pub const MAX_CELLS: u32 = 1 << 16;

/// What a cell takes on the wire, in bytes: 8 for the sum, 4 for the checksum, and mostly 1, at
/// times 2 for the count.
pub const CELL_BYTES: u64 = 14;

/// An item: a keyed hash, so that equal ids mean equal items. Eight bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id(#[serde(with = "postcard::fixint::le")] pub u64);

/// One coded symbol of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// The xor of the ids.
    #[serde(with = "postcard::fixint::le")]
    pub sum: u64,
    /// The xor of the ids' checksums.
    #[serde(with = "postcard::fixint::le")]
    pub check: u32,
    /// How many ids, less what a set of that size has in this cell on average (as the paper
    /// suggests): mostly one byte instead of two or three.
    pub count: i32,
}

/// The cells of `ids` in `range`, under `key`. Cuts the range at [`MAX_CELLS`].
///
/// Walks all ids, whatever the range: 0.15 to 0.7 µs for each, the later the cells the more. The ids
/// must be distinct.
///
/// ```
/// use quorate_core::iblt::{Decoder, Id, encode};
///
/// let (theirs, ours) = ([Id(11), Id(12), Id(13)], [Id(11), Id(13), Id(14)]);
/// let mut decoder = Decoder::new(7, 3, 3);
/// decoder.extend(&encode(7, theirs, 0..8), &encode(7, ours, 0..8));
/// let difference = decoder.decode().expect("eight cells are enough for these two ids");
/// assert_eq!((difference.theirs, difference.ours), (vec![Id(12)], vec![Id(14)]));
/// ```
#[must_use]
pub fn encode(key: u64, ids: impl IntoIterator<Item = Id>, range: Range<u32>) -> Vec<Cell> {
    let (from, to) = (range.start, range.end.min(MAX_CELLS));
    let mut cells = vec![Cell::default(); to.saturating_sub(from) as usize];
    let mut items = 0;
    for id in ids {
        items += 1;
        let check = checksum(key, id);
        for index in Indexes::of(id).take_while(|&index| index < to).filter(|&index| index >= from)
        {
            cells[(index - from) as usize].toggle(id, check, 1);
        }
    }
    for (index, cell) in (from..).zip(&mut cells) {
        cell.count = cell.count.wrapping_sub(expected(items, index));
    }
    cells
}

/// What was found: who alone holds which ids. Sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids that only the peer holds.
    pub theirs: Vec<Id>,
    /// Ids that only we hold.
    pub ours: Vec<Id>,
}

/// Collects a peer's cells, less our own, until they can be peeled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    key: u64,
    their_items: u64,
    our_items: u64,
    cells: Vec<Cell>,
}

impl Decoder {
    /// For a session's `key` and the sizes of both sets; `their_items` may be a lie.
    #[must_use]
    pub fn new(key: u64, their_items: u64, our_items: u64) -> Decoder {
        Decoder { key, their_items, our_items, cells: Vec::new() }
    }

    /// How many cells are here, so the index of the next.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CELLS")]
    pub fn len(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Whether there is no cell yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Appends the next cells: the peer's, and our own for the same range. What goes beyond
    /// [`MAX_CELLS`], or is not in both, is left out.
    pub fn extend(&mut self, theirs: &[Cell], ours: &[Cell]) {
        for (theirs, ours) in theirs.iter().zip(ours) {
            let index = self.len();
            if index == MAX_CELLS {
                return;
            }
            let their_count = theirs.count.wrapping_add(expected(self.their_items, index));
            let our_count = ours.count.wrapping_add(expected(self.our_items, index));
            self.cells.push(Cell {
                sum: theirs.sum ^ ours.sum,
                check: theirs.check ^ ours.check,
                count: their_count.wrapping_sub(our_count),
            });
        }
    }

    /// Peels; `None` if the cells do not suffice, or make no sense.
    #[must_use]
    pub fn decode(&self) -> Option<Difference> {
        let mut cells = self.cells.clone();
        let mut pure: Vec<u32> = (0..self.len()).filter(|&i| self.is_pure(&cells, i)).collect();
        let mut peeled = BTreeSet::new();
        let mut difference = Difference::default();
        while let Some(index) = pure.pop() {
            // Two cells may have been pure with one id: the other is empty by now.
            if !self.is_pure(&cells, index) {
                continue;
            }
            let Cell { sum, check, count } = cells[index as usize];
            // Honest cells never show an id twice, nor more ids than cells.
            if !peeled.insert(sum) || peeled.len() > cells.len() {
                return None;
            }
            let side = if count == 1 { &mut difference.theirs } else { &mut difference.ours };
            side.push(Id(sum));
            for index in Indexes::of(Id(sum)).take_while(|&index| index < self.len()) {
                cells[index as usize].toggle(Id(sum), check, count.wrapping_neg());
                if self.is_pure(&cells, index) {
                    pure.push(index);
                }
            }
        }
        // Every id is in cell 0, ρ(0) = 1: the difference is complete once that cell is empty.
        if cells.first() != Some(&Cell::default()) && !bug!(half_decoded_is_enough) {
            return None;
        }
        difference.theirs.sort_unstable();
        difference.ours.sort_unstable();
        Some(difference)
    }

    /// About how many ids differ, judged by cells that do not decode yet; within some 30 % if there
    /// are 48 of them, and whatever the peer likes if it lies.
    ///
    /// Not in the paper. A cell's count is a sum over the ids that differ, of +1 or -1 for each
    /// that maps to it: so over all cells its variance, known to be ρ(1-ρ) for each id, gives their
    /// number. Its mean is ρ times the net difference, which is the count of cell 0.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        const ONE: i128 = 1 << 16;
        let net = self.cells.first().map_or(0, |cell| i128::from(cell.count));
        let (mut squares, mut variance) = (0, 0);
        for (index, cell) in (0..).zip(&self.cells).skip(1) {
            let density = 2 * ONE / (index + 2);
            let deviation = i128::from(cell.count) * ONE - net * density;
            squares += deviation * deviation;
            variance += density * (ONE - density);
        }
        let spread = squares.checked_div(variance).unwrap_or(0);
        u64::try_from(spread.max(net.abs())).unwrap_or(u64::MAX)
    }

    fn is_pure(&self, cells: &[Cell], index: u32) -> bool {
        let Cell { sum, check, count } = cells[index as usize];
        (count == 1 || count == -1)
            && check == checksum(self.key, Id(sum))
            && Indexes::of(Id(sum)).find(|&mapped| mapped >= index) == Some(index)
    }
}

impl Cell {
    fn toggle(&mut self, id: Id, check: u32, by: i32) {
        self.sum ^= id.0;
        self.check ^= check;
        self.count = self.count.wrapping_add(by);
    }
}

/// How many of `items` ids cell `index` has on average: `items` · ρ(index), rounded down.
fn expected(items: u64, index: u32) -> i32 {
    let mean = u128::from(items) * 2 / (u128::from(index) + 2);
    i32::try_from(mean).unwrap_or(i32::MAX)
}

/// The cells an id maps to, ascending, all below [`MAX_CELLS`].
///
/// After index i, the next is beyond j with probability ∏ (1-ρ(k)) for k in i+1..=j, where
/// 1-ρ(k) = k/(k+2); the product is (i+1)(i+2) / ((j+1)(j+2)). With u uniform in (0, 1], the next
/// index is the least j at which that is below u:
///
/// > (j+1)(j+2) > q, where q = ⌊(i+1)(i+2)/u⌋
///
/// and since 4(j+1)(j+2) + 1 = (2j+3)², that is 2j+3 > ⌊√(4q+1)⌋: all in integers, nothing rounded.
/// (The paper's step is to add (1.5+i)(1/√(1-u) - 1), an approximation of this.)
struct Indexes {
    next: u32,
    state: u64,
}

impl Indexes {
    fn of(id: Id) -> Indexes {
        Indexes { next: 0, state: id.0 }
    }
}

impl Iterator for Indexes {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let index = self.next;
        if index >= MAX_CELLS {
            return None;
        }
        // SplitMix64, seeded with the id; u = r / 2^31.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let r = (mix(self.state) >> 33) + 1;
        let i = u64::from(index);
        // i < 2^16, so the numerator is below 2^64.
        let q = (((i + 1) * (i + 2)) << 31) / r;
        // Such a q lies beyond the last cell, and 4q might not fit.
        let beyond = u64::from(MAX_CELLS + 2) * u64::from(MAX_CELLS + 2);
        self.next = if q >= beyond {
            MAX_CELLS
        } else {
            u32::try_from(((4 * q + 1).isqrt() - 1) / 2).unwrap_or(MAX_CELLS)
        };
        debug_assert!(self.next > index, "indexes ascend");
        Some(index)
    }
}

fn checksum(key: u64, id: Id) -> u32 {
    (mix(key ^ mix(id.0 ^ 0x6a09_e667_f3bc_c908)) >> 32) as u32
}

/// A bijection that spreads every bit over all (the finalizer of SplitMix64).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `count` ids that look like hashes, a different lot for each `salt`.
    fn ids(salt: u64, count: u64) -> impl Iterator<Item = Id> + Clone {
        (0..count).map(move |n| Id(mix(mix(salt) ^ mix(n))))
    }

    /// How many cells it takes to decode, adding one at a time from `start` on.
    fn cells_needed(theirs: &[Id], ours: &[Id], start: u32) -> u32 {
        let all = start + 3 * u32::try_from(theirs.len() + ours.len()).unwrap() + 64;
        let (their_cells, our_cells) =
            (encode(1, theirs.iter().copied(), 0..all), encode(1, ours.iter().copied(), 0..all));
        let mut decoder = Decoder::new(1, theirs.len() as u64, ours.len() as u64);
        let first = start as usize;
        decoder.extend(&their_cells[..first], &our_cells[..first]);
        for (theirs, ours) in their_cells[first..].iter().zip(&our_cells[first..]) {
            decoder.extend(&[*theirs], &[*ours]);
            if decoder.decode().is_some() {
                return decoder.len();
            }
        }
        panic!("not decoded with {all} cells");
    }

    #[test]
    fn the_difference_is_found_whatever_the_sets_have_in_common() {
        let common: Vec<Id> = ids(0, 3_000).collect();
        for (salt, (more, fewer)) in (1..).zip([(0, 1), (1, 0), (5, 5), (200, 3), (0, 300)]) {
            let theirs: Vec<Id> = ids(salt, more).collect();
            let ours: Vec<Id> = ids(salt + 100, fewer).collect();
            let all_theirs = common.iter().chain(&theirs).copied();
            let all_ours = common.iter().chain(&ours).copied();
            let mut decoder = Decoder::new(9, 3_000 + more, 3_000 + fewer);
            for from in [0, 256, 512] {
                let range = from..from + 256;
                let (their_cells, our_cells) = (
                    encode(9, all_theirs.clone(), range.clone()),
                    encode(9, all_ours.clone(), range),
                );
                decoder.extend(&their_cells, &our_cells);
            }
            let found = decoder.decode().unwrap();
            let sorted = |ids: &[Id]| ids.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(sorted(&found.theirs), sorted(&theirs));
            assert_eq!(sorted(&found.ours), sorted(&ours));
        }
    }

    #[test]
    fn equal_sets_decode_from_the_first_cell() {
        let same: Vec<Id> = ids(3, 50).collect();
        assert_eq!(cells_needed(&same, &same, 0), 1);
    }

    /// ρ(i) = 1/(1+i/2): of 20,000 ids, cell i holds 40,000/(i+2), give or take five standard
    /// deviations.
    #[test]
    #[allow(clippy::disallowed_types, reason = "a statistic of the test's own")]
    fn density_is_the_papers() {
        let items = 20_000;
        for (index, cell) in (0..).zip(encode(0, ids(5, items), 0..2_000)) {
            let (mean, off) = (f64::from(expected(items, index)), f64::from(cell.count));
            assert!(off.abs() <= 5.0 * mean.sqrt() + 1.0, "cell {index}: {mean} and {off}");
        }
    }

    /// The paper, figure 4: overhead peaks at 1.72 for few differences and falls to 1.35 for many.
    #[test]
    #[allow(clippy::disallowed_types, reason = "a statistic of the test's own")]
    fn overhead_is_the_papers() {
        let overhead = |differences: u64, runs: u64, start: u32| {
            let cells: u64 = (0..runs)
                .map(|run| ids(1_000 * differences + run, differences).collect::<Vec<_>>())
                .map(|theirs| u64::from(cells_needed(&theirs, &[], start)))
                .sum();
            cells as f64 / (runs * differences) as f64
        };
        let (few, some, many) =
            (overhead(4, 300, 0), overhead(20, 300, 0), overhead(2_000, 6, 2_300));
        assert!((1.4..1.8).contains(&few), "4 differences: {few}");
        assert!((1.4..1.75).contains(&some), "20 differences: {some}");
        assert!((1.3..1.45).contains(&many), "2,000 differences: {many}");
    }

    #[test]
    fn the_number_of_differences_is_estimated() {
        for (more, fewer) in [(40, 0), (0, 300), (100, 100), (5_000, 20), (3_000, 3_000)] {
            let (mut within, runs) = (0, 40);
            for run in 0..runs {
                let mut decoder = Decoder::new(1, more, fewer);
                let theirs = encode(1, ids(10_000 + run, more), 0..48);
                decoder.extend(&theirs, &encode(1, ids(20_000 + run, fewer), 0..48));
                let (estimate, differ) = (decoder.estimate(), more + fewer);
                within += u64::from((differ * 7..=differ * 13).contains(&(estimate * 10)));
            }
            assert!(within * 10 >= runs * 7, "{more} and {fewer}: {within} of {runs} within 30 %");
        }
    }

    #[test]
    fn a_cell_takes_thirteen_or_fourteen_bytes() {
        let cells = encode(1, ids(8, 10_000), 0..48);
        let bytes = postcard::to_allocvec(&cells).unwrap();
        assert!(bytes.len() as u64 <= 48 * CELL_BYTES, "{} bytes", bytes.len());
        assert_eq!(postcard::from_bytes::<Vec<Cell>>(&bytes).unwrap(), cells);
    }

    #[test]
    fn an_id_that_does_not_belong_to_its_cell_is_refused() {
        // A cell that would be pure, put where its id does not map.
        let id = Id(mix(77));
        let stray = (1..).find(|&i| !Indexes::of(id).take(9).any(|mapped| mapped == i)).unwrap();
        let mut cells = vec![Cell::default(); 16];
        cells[stray as usize] = Cell { sum: id.0, check: checksum(4, id), count: 1 };
        let mut decoder = Decoder::new(4, 0, 0);
        decoder.extend(&cells, &encode(4, [], 0..16));
        assert!(!decoder.is_pure(&decoder.cells, stray));
    }

    #[test]
    fn the_stream_ends() {
        assert_eq!(encode(1, [Id(1)], MAX_CELLS - 2..u32::MAX).len(), 2);
        let mut decoder = Decoder::new(1, u64::MAX, 0);
        let many = vec![Cell::default(); MAX_CELLS as usize + 5];
        decoder.extend(&many, &many);
        assert_eq!(decoder.len(), MAX_CELLS);
        for id in ids(6, 2_000) {
            assert!(Indexes::of(id).count() < 100, "an id maps to some 2·ln(2^15) cells");
        }
    }

    proptest! {
        /// Cells made up by a peer: some are ones it would have to know the key for.
        #[test]
        fn made_up_cells_do_no_harm(
            made_up in prop::collection::vec((any::<u64>(), any::<u32>(), -2..3_i32, 0..3), 0..60),
            their_items in any::<u64>(),
        ) {
            let theirs: Vec<Cell> = made_up
                .into_iter()
                .map(|(sum, check, count, kind)| match kind {
                    0 => Cell { sum, check, count },
                    1 => Cell { sum: sum % 4, check: checksum(2, Id(sum % 4)), count },
                    _ => Cell::default(),
                })
                .collect();
            for their_items in [0, their_items] {
                let mut decoder = Decoder::new(2, their_items, 0);
                decoder.extend(&theirs, &encode(2, [], 0..60));
                if let Some(found) = decoder.decode() {
                    prop_assert!(found.theirs.len() + found.ours.len() <= theirs.len());
                }
            }
        }
    }
}
