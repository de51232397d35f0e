//! The merge: which of the writes to a key stand, and which of those is read.
//!
//! Every write to a key cites the writes it has seen and replaces. What no other write replaces are the
//! key's *heads*. One head is the ordinary case; several are what concurrent writers leave behind. A
//! read answers with one of them, the *winner*, the same on every node: **causal dominance first, HLC
//! only among concurrent heads, the author's id last**. A later write that cites all heads makes them
//! one again.
//!
//! A write replaces (a) what its author wrote to the key before, (b) what the authors it cites wrote
//! to it up to the cited place. That is enough, although citing is not transitive: an honest author
//! cites every head it has, and whatever those replaced has gone already, because entries apply only
//! after what they cite. A dishonest author who cites less leaves more heads, on every node the same
//! ones: *heads = writes that count and that no write that counts replaces* is a function of the set
//! of entries.
//!
//! Where an author's chain is cut ([`crate::sigchain`], [`crate::membership`]), writes stop counting,
//! and what they had replaced comes back: [`Dag::recount`] computes the heads of the touched keys anew
//! from the key's whole history, which is kept (32 bytes a write). A chain that was
//! overtaken gets no short cut: an entry that cites a place above its cut did not wait for what lies
//! below, so what it replaces may come after it.
//!
//! **Slots.** A register or counter has one slot, and each member of a set has one of its own, so that a
//! set needs no other rule: a member is in while one of its slot's heads is an addition. A removal
//! replaces just the additions it has seen, so a concurrent addition survives (an *observed-remove*
//! set: Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of Convergent and Commutative
//! Replicated Data Types*, 2011, section 3.3.5).

mod name;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::cow::{CowMap, CowVec};
use crate::entry::Op;
use crate::machine::NodeId;
use crate::sigchain::{AuthorNo, Chains, Place};

pub use name::SlotName;

/// What kind of change a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A register was set; the value is in the entry's body.
    Put,
    /// The slot was emptied.
    Delete,
    /// A counter was added to.
    Add,
    /// The slot's member was put into the set.
    SetAdd,
    /// The slot's member was taken out of the set.
    SetRemove,
}

/// One write to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The place of its entry.
    pub place: Place,
    /// What it did.
    pub kind: Kind,
    /// For [`Kind::Add`], all that the author has added since the counter was last deleted.
    pub total: i64,
}

/// A slot: its heads, and every other write to it.
#[derive(Clone, Debug, Default)]
struct Slot {
    heads: Heads,
    past: CowVec<Write>,
}

/// The heads of a slot; nearly always one, which then costs no allocation.
#[derive(Clone, Debug, Default)]
enum Heads {
    #[default]
    None,
    One(Write),
    Many(Vec<Write>),
}

impl Heads {
    fn as_slice(&self) -> &[Write] {
        match self {
            Heads::None => &[],
            Heads::One(write) => core::slice::from_ref(write),
            Heads::Many(writes) => writes,
        }
    }

    fn set(&mut self, mut writes: Vec<Write>) {
        *self = match writes.len() {
            0 => Heads::None,
            1 => Heads::One(writes.remove(0)),
            _ => Heads::Many(writes),
        }
    }
}

/// Every slot of a store.
#[derive(Clone, Debug, Default)]
pub struct Dag {
    slots: CowMap<SlotName, Slot>,
}

impl Dag {
    /// Applies the operation `op` of the entry at `place`, which cites `parents`, and returns the name
    /// of the slot it changed; `None` for an operation that writes to no key.
    pub fn apply(
        &mut self,
        place: Place,
        parents: &[Place],
        op: &Op<'_>,
        chains: &Chains,
    ) -> Option<SlotName> {
        let (name, write) = write_of(place, op)?;
        let slot = self.slots.get_or_insert_with(name.clone(), Slot::default);
        if chains.chain(place.author).was_overtaken() {
            // The last operation of an entry on a slot is the one that counts, here as below.
            let others = |of: &&Write| of.place != place;
            let heads = slot.heads.as_slice().iter().filter(others).copied().collect();
            slot.past = slot.past.iter().filter(others).copied().chain([write]).collect();
            slot.heads.set(heads);
            self.recount_slot(&name, chains);
            return Some(name);
        }
        if matches!(slot.heads, Heads::None) {
            slot.heads = Heads::One(write);
            return Some(name);
        }
        let unseen = (bug!(set_remove_beats_unseen_add) && write.kind == Kind::SetRemove)
            || (bug!(last_writer_wins_without_history) && write.kind == Kind::Put);
        let replaces = |head: &Write| {
            let covers =
                |cited: &Place| cited.author == head.place.author && cited.seq >= head.place.seq;
            unseen
                || head.place.author == place.author
                || (!keeps(write.kind, head.kind) && parents.iter().any(covers))
        };
        let mut heads = Vec::with_capacity(slot.heads.as_slice().len() + 1);
        for head in slot.heads.as_slice() {
            if !replaces(head) {
                heads.push(*head);
            } else if head.place != place {
                slot.past.push(*head);
            }
        }
        heads.push(write);
        if bug!(tombstone_dropped_at_once) && write.kind == Kind::Delete {
            heads.clear();
        }
        sort(&mut heads, chains);
        slot.heads.set(heads);
        Some(name)
    }

    /// The heads of a slot, the winner first.
    #[must_use]
    pub fn heads(&self, name: &SlotName) -> &[Write] {
        self.slots.get(name.as_bytes()).map_or(&[], |slot| slot.heads.as_slice())
    }

    /// Every write to a slot, whether it counts or not, in no particular order.
    pub fn history(&self, name: &SlotName) -> impl Iterator<Item = Write> {
        let slot = self.slots.get(name.as_bytes());
        slot.into_iter().flat_map(|slot| slot.past.iter().chain(slot.heads.as_slice()).copied())
    }

    /// The slots from `from` on, in order, with their heads, the winner first.
    pub fn slots_from<'a>(
        &'a self,
        from: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a [Write])> {
        let range = (Bound::Included(from), Bound::Unbounded);
        self.slots.range::<[u8]>(range).map(|(name, slot)| (name.as_bytes(), slot.heads.as_slice()))
    }

    /// How many slots there are, emptied ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Computes anew the heads of every slot that `author` wrote to at a place in `places`, after a cut
    /// moved; returns the names of the slots whose heads changed. Costs a look at every slot: cuts are
    /// rare, and an index by author would cost memory on every write.
    pub fn recount(
        &mut self,
        author: AuthorNo,
        places: core::ops::RangeInclusive<u64>,
        chains: &Chains,
    ) -> Vec<SlotName> {
        let touched =
            |write: &Write| write.place.author == author && places.contains(&write.place.seq);
        let names: Vec<SlotName> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.heads.as_slice().iter().any(touched) || slot.past.iter().any(touched)
            })
            .map(|(name, _)| name.clone())
            .collect();
        names.into_iter().filter(|name| self.recount_slot(name, chains)).collect()
    }

    /// *heads = writes that count and that no write that counts replaces*, literally.
    fn recount_slot(&mut self, name: &SlotName, chains: &Chains) -> bool {
        let slot =
            self.slots.get_mut(name.as_bytes()).expect("only slots that exist are recounted");
        let before: Vec<Write> = slot.heads.as_slice().to_vec();
        let all: Vec<Write> = slot.past.iter().copied().chain(before.iter().copied()).collect();
        // For each author, the place up to which its writes are replaced: additions, other writes.
        let mut replaced: BTreeMap<AuthorNo, [u64; 2]> = BTreeMap::new();
        let mut replace = |place: &Place, kinds: &[usize]| {
            let up_to = replaced.entry(place.author).or_default();
            for kind in kinds {
                up_to[*kind] = place.seq.max(up_to[*kind]);
            }
        };
        for write in all.iter().filter(|write| chains.counts(write.place)) {
            let meta = chains.meta(write.place).expect("a write's entry is held");
            replace(&Place { seq: write.place.seq - 1, ..write.place }, &[0, 1]);
            let kinds: &[usize] = if write.kind == Kind::Add { &[1] } else { &[0, 1] };
            meta.parents().iter().for_each(|parent| replace(parent, kinds));
        }
        let is_head = |write: &Write| {
            let up_to = replaced.get(&write.place.author).copied().unwrap_or_default();
            let up_to = up_to[usize::from(write.kind != Kind::Add)];
            chains.counts(write.place) && write.place.seq > up_to
        };
        let (mut heads, past): (Vec<Write>, Vec<Write>) = all.into_iter().partition(is_head);
        sort(&mut heads, chains);
        let changed = heads != before;
        slot.heads.set(heads);
        slot.past = past.into_iter().collect();
        changed
    }
}

/// An addition to a counter leaves the additions of others in place: each speaks for its author.
fn keeps(write: Kind, head: Kind) -> bool {
    write == Kind::Add && head == Kind::Add
}

/// The winner first: highest clock, then highest author id.
fn sort(heads: &mut [Write], chains: &Chains) {
    let rank = |write: &Write| {
        let hlc = chains.meta(write.place).expect("a write's entry is held").hlc;
        let author = chains.chain(write.place.author).author();
        (hlc, if bug!(equal_clocks_not_told_apart) { NodeId([0; 32]) } else { author })
    };
    bug!(tie_broken_by_arrival => return);
    heads.sort_by_cached_key(|write| core::cmp::Reverse(rank(write)));
}

fn write_of(place: Place, op: &Op<'_>) -> Option<(SlotName, Write)> {
    let (name, kind, total) = match op {
        Op::Put { key, .. } => (SlotName::value(key), Kind::Put, 0),
        Op::Delete { key } => (SlotName::value(key), Kind::Delete, 0),
        Op::Add { key, total, .. } => (SlotName::value(key), Kind::Add, *total),
        Op::SetAdd { key, member } => (SlotName::member(key, member), Kind::SetAdd, 0),
        Op::SetRemove { key, member } => (SlotName::member(key, member), Kind::SetRemove, 0),
        Op::Invite { .. } | Op::Remove { .. } => return None,
    };
    Some((name, Write { place, kind, total }))
}
