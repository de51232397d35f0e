//! What a node holds of a store, in one value: the tip of every author's chain, and a digest of
//! them.
//!
//! A store is a set of chains, one for each author. A chain is contiguous and hash-linked, so its
//! [`Tip`] (author, height, hash there) describes all that is held of it, and the [`Frontier`], the
//! set of tips, describes the store: two nodes with equal frontiers hold the same entries, and
//! nodes compare frontiers, never lists of entries.
//!
//! The digest is the sum, modulo 2^256, of the BLAKE3 hashes of the tips, which is AdHash (Bellare
//! and Micciancio, "A New Paradigm for Collision-Free Hashing: Incrementality at Reduced Cost",
//! 1997): independent of order, and a changed tip costs two hashes, whatever the number of chains.
//! Tips that changed are only marked; [`Frontier::digest`] folds them in. So a bulk ingest of a
//! thousand entries by one author costs what one entry does.
//!
//! A sum of 256 bits is no collision-resistant hash against someone who may choose many elements
//! (Wagner's generalized birthday attack). Here an element is the tip of a member's own chain, and
//! what a forged sum would buy is that two nodes believe for a while that they are in sync. So the
//! digest serves to skip work, and is never evidence: what must be proven is in the entries' links.

use core::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::cow::CowMap;
use crate::hash::Hash;
use crate::machine::NodeId;

/// Where a chain ends: all that a node holds of one author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tip {
    /// Whose chain.
    pub author: NodeId,
    /// The number of entries held; 0 for none.
    pub height: u64,
    /// The hash of the entry at `height`; [`Hash::ZERO`] at height 0.
    pub hash: Hash,
    /// The chain is cut here for good, by a proven fork or by the author's removal. May be at 0.
    pub closed: bool,
}

impl Tip {
    /// The tip of a chain of which nothing is known.
    #[must_use]
    pub const fn absent(author: NodeId) -> Tip {
        Tip { author, height: 0, hash: Hash::ZERO, closed: false }
    }

    /// Whether nothing is known: no entries, and open.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.height == 0 && !self.closed
    }

    /// One fixed encoding, for hashing: author, height (little endian), hash, closed.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 73] {
        let mut bytes = [0; 73];
        bytes[..32].copy_from_slice(&self.author.0);
        bytes[32..40].copy_from_slice(&self.height.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.hash.0);
        bytes[72] = u8::from(self.closed);
        bytes
    }
}

/// The tips of a store's chains. Clones in constant time.
///
/// ```
/// use quorate_core::frontier::{Frontier, Tip};
/// use quorate_core::hash::Hash;
/// use quorate_core::machine::NodeId;
///
/// let ada = Tip { author: NodeId([1; 32]), height: 3, hash: Hash::of(b"third"), closed: false };
/// let mut frontier = Frontier::default();
/// let empty = frontier.digest();
/// frontier.set(ada);
/// assert_eq!(frontier.get(ada.author), Some(ada));
/// assert_ne!(frontier.digest(), empty);
///
/// frontier.set(Tip::absent(ada.author));
/// assert_eq!(frontier.digest(), empty);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    tips: CowMap<NodeId, Tip>,
    /// The sum over `tips` as they were before the changes in `unfolded`.
    sum: Sum,
    /// Of each author whose tip changed since: the tip that is in `sum`.
    unfolded: CowMap<NodeId, Option<Tip>>,
}

impl Frontier {
    /// Replaces the author's tip; an [absent](Tip::is_absent) one removes it.
    pub fn set(&mut self, tip: Tip) {
        let before = if tip.is_absent() {
            self.tips.remove(&tip.author)
        } else {
            self.tips.insert(tip.author, tip)
        };
        self.unfolded.get_or_insert_with(tip.author, || before);
    }

    /// The author's tip, unless absent.
    #[must_use]
    pub fn get(&self, author: NodeId) -> Option<Tip> {
        self.tips.get(&author).copied()
    }

    /// All tips, ascending by author.
    pub fn iter(&self) -> impl Iterator<Item = Tip> {
        self.tips.values().copied()
    }

    /// The tips of authors greater than `author` (all, if `None`), ascending.
    pub fn after(&self, author: Option<NodeId>) -> impl Iterator<Item = Tip> {
        let from = author.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.tips.range((from, Bound::Unbounded)).map(|(_, tip)| *tip)
    }

    /// How many chains there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tips.len()
    }

    /// Whether there is no chain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tips.is_empty()
    }

    /// The sum of the tips' hashes: equal for equal frontiers, in whatever order they came about.
    /// Two hashes for each author whose tip changed since the last call.
    pub fn digest(&mut self) -> Hash {
        for (author, folded) in core::mem::take(&mut self.unfolded).iter() {
            let now = self.tips.get(author);
            if folded.as_ref() != now {
                folded.iter().for_each(|tip| self.sum.subtract(tip));
                now.iter().for_each(|tip| self.sum.add(tip));
            }
        }
        self.sum.to_hash()
    }

    /// Asserts that the digest is the one that the tips have. Linear: for tests and simulation.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn check(&self) {
        let mut afresh = Sum::default();
        self.iter().for_each(|tip| afresh.add(&tip));
        assert_eq!(self.clone().digest(), afresh.to_hash(), "the digest is the sum over the tips");
    }
}

/// An integer modulo 2^256, least significant word first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, tip: &Tip) {
        let mut carry = false;
        for (word, other) in self.0.iter_mut().zip(element(tip)) {
            (*word, carry) = word.carrying_add(other, carry);
        }
    }

    fn subtract(&mut self, tip: &Tip) {
        let mut borrow = false;
        for (word, other) in self.0.iter_mut().zip(element(tip)) {
            (*word, borrow) = word.borrowing_sub(other, borrow);
        }
    }

    fn to_hash(self) -> Hash {
        let mut hash = Hash::ZERO;
        for (bytes, word) in hash.0.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        hash
    }
}

fn element(tip: &Tip) -> [u64; 4] {
    let hash = Hash::of(&tip.to_bytes()).0;
    core::array::from_fn(|word| core::array::from_fn(|byte| hash[8 * word + byte]))
        .map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tip(author: u8, height: u64, hash: u8, closed: bool) -> Tip {
        Tip { author: NodeId([author; 32]), height, hash: Hash([hash; 32]), closed }
    }

    #[test]
    fn a_bulk_ingest_leaves_one_author_to_fold() {
        let mut frontier = Frontier::default();
        (1..=5_000).for_each(|height| frontier.set(tip(1, height, 7, false)));
        assert_eq!(frontier.unfolded.len(), 1);
        frontier.digest();
        assert_eq!(frontier.unfolded.len(), 0);
        frontier.check();
    }

    #[test]
    fn a_chain_closed_before_its_first_entry_is_there() {
        let mut frontier = Frontier::default();
        frontier.set(tip(1, 0, 0, true));
        assert_eq!(frontier.len(), 1);
        assert_ne!(frontier.digest(), Frontier::default().digest());
    }

    #[test]
    fn the_sum_carries_over_all_its_words() {
        let one = tip(1, 1, 1, false);
        let mut sum = Sum([u64::MAX; 4]);
        sum.add(&one);
        let Sum(plus_one) = sum;
        // -1 + x = x - 1
        let mut expected = element(&one);
        expected[0] -= 1;
        assert_eq!(plus_one, expected);
        sum.subtract(&one);
        assert_eq!(sum, Sum([u64::MAX; 4]));
    }

    proptest! {
        #[test]
        fn equal_sets_have_equal_digests_however_they_came_about(
            steps in prop::collection::vec(
                ((0..6_u8, 0..4_u64, 0..2_u8, any::<bool>()), any::<bool>()),
                0..60,
            ),
        ) {
            let (mut frontier, mut model) = (Frontier::default(), BTreeMap::new());
            for ((author, height, hash, closed), fold) in steps {
                let tip = tip(author, height, hash, closed);
                let before = frontier.clone();
                frontier.set(tip);
                before.check();
                model.insert(tip.author, tip);
                if fold {
                    frontier.digest();
                }
            }
            model.retain(|_, tip| !tip.is_absent());
            prop_assert!(frontier.iter().eq(model.values().copied()));
            frontier.check();
            let mut afresh = Frontier::default();
            model.values().rev().for_each(|tip| afresh.set(*tip));
            prop_assert_eq!(frontier.digest(), afresh.digest());
            let rest = model.range(NodeId([3; 32])..).map(|(_, tip)| *tip);
            prop_assert!(frontier.after(Some(NodeId([2; 32]))).eq(rest));
            prop_assert!(frontier.after(None).eq(frontier.iter()));
        }
    }
}
