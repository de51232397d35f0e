//! What a key holds: a register, a counter or a set, read from the heads of its slots.
//!
//! - A **register** is its winning head; the value itself is in that entry's body.
//! - A **counter** is the sum, over its heads, of what each head's author has added in all. An author's
//!   later addition replaces its earlier one, so there is a head for each author, and concurrent
//!   additions are not a conflict (a PN-counter: Shapiro et al. 2011, section 3.1.3, with the two
//!   vectors folded into one signed total for each author).
//! - A **set** is the members whose slot has a head that is an addition.
//!
//! A key has one type at a time. Writing another type is refused until the key is deleted; where two
//! nodes did it concurrently all the same, a register or counter hides a set, and the heads show both.
//! A deletion concurrent with a write is decided like two writes. An addition to a counter that reads
//! as deleted starts again from zero.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::dag::{Dag, Kind, SlotName, Write};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a tombstone.
    Nothing,
    /// A register, whose value is in the body of this write's entry.
    Register(Write),
    /// A counter and its value, which stops at the ends of the range.
    Counter(i64),
    /// A set and its members, in order.
    Set(Vec<Vec<u8>>),
}

/// What a key holds, and whether concurrent writers left it undecided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What is read.
    pub found: Found,
    /// Whether there are heads that lost: look at them, and write again to settle it.
    pub conflict: bool,
}

/// The type of what a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Type {
    /// One value, last writer wins.
    Register,
    /// A number to add to.
    Counter,
    /// Members, added and removed.
    Set,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Register => "register",
            Type::Counter => "counter",
            Type::Set => "set",
        })
    }
}

impl Found {
    /// Its type; `None` for nothing.
    #[must_use]
    pub fn kind(&self) -> Option<Type> {
        match self {
            Found::Nothing => None,
            Found::Register(_) => Some(Type::Register),
            Found::Counter(_) => Some(Type::Counter),
            Found::Set(_) => Some(Type::Set),
        }
    }
}

/// Reads `key`.
#[must_use]
pub fn read(dag: &Dag, key: &[u8]) -> Reading {
    read_slots(slots(dag, &SlotName::value(key), &SlotName::prefix(key)))
}

/// The type of what `key` holds; `None` for nothing. Unlike [`read`] it stops at a set's first member.
#[must_use]
pub fn kind(dag: &Dag, key: &[u8]) -> Option<Type> {
    match dag.heads(&SlotName::value(key)).first().map(|winner| winner.kind) {
        Some(Kind::Put) => return Some(Type::Register),
        Some(Kind::Add) => return Some(Type::Counter),
        _ => {}
    }
    let (from, prefix) = (SlotName::value(key), SlotName::prefix(key));
    let mut heads = slots(dag, &from, &prefix).flat_map(|(_, heads)| heads);
    heads.any(|head| head.kind == Kind::SetAdd).then_some(Type::Set)
}

/// The slots of the key whose value's slot is `from`.
fn slots<'a>(
    dag: &'a Dag,
    from: &'a SlotName,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], &'a [Write])> {
    dag.slots_from(from.as_bytes()).take_while(move |(name, _)| {
        name.strip_prefix(prefix).is_some_and(|rest| matches!(rest, [0, 1 | 2, ..]))
    })
}

/// The keys from `from` on that start with `prefix`, in order, with what each holds. Keys that hold
/// nothing are left out.
pub fn scan<'a>(
    dag: &'a Dag,
    from: &'a [u8],
    prefix: &'a [u8],
) -> impl Iterator<Item = (Vec<u8>, Reading)> + 'a {
    let mut slots = dag.slots_from(from).peekable();
    core::iter::from_fn(move || {
        loop {
            let (name, _) = slots.peek()?;
            let (key, _) = SlotName::parts(name);
            if !key.starts_with(prefix) {
                if key.as_slice() > prefix {
                    return None;
                }
                slots.next();
                continue;
            }
            let mut group = Vec::new();
            while let Some(slot) = slots.next_if(|(name, _)| SlotName::parts(name).0 == key) {
                group.push(slot);
            }
            let reading = read_slots(group.into_iter());
            if reading.found != Found::Nothing {
                return Some((key, reading));
            }
        }
    })
}

/// Reads one key's slots: its value's, then its members'.
fn read_slots<'a>(slots: impl Iterator<Item = (&'a [u8], &'a [Write])>) -> Reading {
    let mut value: &[Write] = &[];
    let mut members = Vec::new();
    for (name, heads) in slots {
        match SlotName::parts(name) {
            (_, None) => value = heads,
            (_, Some(member)) if heads.iter().any(|head| head.kind == Kind::SetAdd) => {
                members.push(member.to_vec());
            }
            (_, Some(_)) => {}
        }
    }
    let found = match value.first() {
        Some(winner) if winner.kind == Kind::Put => Found::Register(*winner),
        Some(winner) if winner.kind == Kind::Add => Found::Counter(sum(value)),
        _ if members.is_empty() => Found::Nothing,
        _ => Found::Set(core::mem::take(&mut members)),
    };
    let counters_only = value.iter().all(|head| head.kind == Kind::Add);
    let hidden = !members.is_empty();
    Reading { found, conflict: (value.len() > 1 && !counters_only) || hidden }
}

/// The value of a counter with these heads.
fn sum(heads: &[Write]) -> i64 {
    let heads = if bug!(counter_reads_the_winner) { &heads[..1] } else { heads };
    let additions = heads.iter().filter(|head| head.kind == Kind::Add);
    let sum: i128 = additions.map(|head| i128::from(head.total)).sum();
    i64::try_from(sum).unwrap_or(if sum > 0 { i64::MAX } else { i64::MIN })
}
