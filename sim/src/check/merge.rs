//! Does it matter in which order, and how often, items are applied?
//!
//! Replicas that get the same updates by different ways, some of them twice, agree if applying is
//! commutative and idempotent (Helland and Campbell's *ACID 2.0*, in *Building on quicksand*, 2009;
//! Shapiro and others, *Conflict-free replicated data types*, 2011). Some merges promise that for
//! every order ([`Orders::Any`]); others only for orders that respect causality, and leave it to a
//! layer below to see to that ([`Orders::Causal`]). [`items`] tries such orders, all of them if they
//! are few, and in each puts items in again that were applied before. A merge of whole *states* must
//! be a join, associative as well: [`states`] checks the three laws on every triple.
//!
//! A failure is made small: first items are left out for as long as two orders still differ, so what
//! is shown are mostly two items and the two digests.
//!
//! ```
//! use quorate_sim::check::merge::{self, Orders};
//!
//! // The last writer wins, by a stamp: any order will do.
//! let writes = [(3, "c"), (1, "a"), (2, "b")];
//! let wins = |state: &mut (u32, &'static str), write: &_| *state = (*state).max(*write);
//! assert_eq!(merge::items(&(0, ""), &writes, Orders::Any, 7, wins, |state| *state).unwrap().orders, 6);
//!
//! // Whoever comes last wins: it does not.
//! let overwrites = |state: &mut &'static str, write: &(u32, &'static str)| *state = write.1;
//! let differs = merge::items(&"", &writes, Orders::Any, 7, overwrites, |state| *state).unwrap_err();
//! assert_eq!(differs.to_string(), "\
//! [(1, \"a\"), (2, \"b\")] gives \"b\"
//! [(2, \"b\"), (1, \"a\")] gives \"a\"");
//! ```

use core::fmt::{self, Debug};

use crate::prng::Rng;

/// So many orders are tried at most; if there are more, this many random ones are.
pub const ORDERS_MAX: usize = 1_000;

/// Which orders must make no difference.
#[derive(Clone, Copy, Debug)]
pub enum Orders<'a> {
    /// Every one.
    Any,
    /// Those in which an item comes after its past: for each item, the indices of that.
    Causal(&'a [Vec<usize>]),
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How many orders.
    pub orders: usize,
    /// Whether that were all.
    pub all: bool,
}

/// Two ways of applying the same items that gave different results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs<I, D> {
    /// What was applied, in order, and what came of it.
    pub left: (Vec<I>, D),
    /// The other.
    pub right: (Vec<I>, D),
}

impl<I: Debug, D: Debug> fmt::Display for Differs<I, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(left, gives_left), (right, gives_right)] = [&self.left, &self.right];
        write!(f, "{left:?} gives {gives_left:?}\n{right:?} gives {gives_right:?}")
    }
}

/// Whether `items`, applied to `start` in any of `orders` and any of them again later, always give
/// the same digest.
///
/// # Errors
/// Two short ways that do not.
pub fn items<S: Clone, I: Clone, D: PartialEq>(
    start: &S,
    items: &[I],
    orders: Orders<'_>,
    seed: u64,
    apply: impl Fn(&mut S, &I),
    digest: impl Fn(&S) -> D,
) -> Result<Checked, Differs<I, D>> {
    let gives = |way: &[usize]| {
        let mut state = start.clone();
        way.iter().for_each(|&item| apply(&mut state, &items[item]));
        digest(&state)
    };
    let every: Vec<usize> = (0..items.len()).collect();
    let mut rng = Rng::stream(seed, "merge", 0);
    let ways = ways(&every, orders, &mut rng);
    let Some(mut pair) = differing(&ways.0, gives) else {
        return Ok(Checked { orders: ways.0.len() / 2, all: ways.1 });
    };
    // Leave out one item after the other, if the rest differs still.
    let mut left_in = every;
    while let Some((fewer, found)) = (0..left_in.len()).find_map(|out| {
        let mut fewer = left_in.clone();
        let gone = fewer.remove(out);
        // What has lost its past cannot be applied.
        let whole = match orders {
            Orders::Any => true,
            Orders::Causal(past) => fewer.iter().all(|&item| !past[item].contains(&gone)),
        };
        let ways = if whole { self::ways(&fewer, orders, &mut rng).0 } else { Vec::new() };
        differing(&ways, gives).map(|pair| (fewer, pair))
    }) {
        (left_in, pair) = (fewer, found);
    }
    let [left, right] = pair.map(|way| {
        let applied = way.iter().map(|&item| items[item].clone()).collect();
        (applied, gives(&way))
    });
    Err(Differs { left, right })
}

/// Two ways with different results, the shorter ones first.
fn differing<D: PartialEq>(
    ways: &[Vec<usize>],
    gives: impl Fn(&[usize]) -> D,
) -> Option<[Vec<usize>; 2]> {
    let (first, rest) = ways.split_first()?;
    let expected = gives(first);
    let other = rest.iter().find(|way| gives(way) != expected)?;
    Some([first.clone(), other.clone()])
}

/// The orders, first as they are and then each with repetitions; and whether they are all.
fn ways(items: &[usize], orders: Orders<'_>, rng: &mut Rng) -> (Vec<Vec<usize>>, bool) {
    let mut ways = Vec::new();
    let all = extend(&mut Vec::new(), items, orders, &mut ways);
    if !all {
        ways.truncate(1);
        ways.extend((1..ORDERS_MAX).map(|_| random(items, orders, rng)));
    }
    let repeated: Vec<Vec<usize>> = ways.iter().map(|way| repeated(way, rng)).collect();
    ways.extend(repeated);
    (ways, all)
}

fn ready(item: usize, way: &[usize], items: &[usize], orders: Orders<'_>) -> bool {
    let after = |past: &[Vec<usize>]| {
        past[item].iter().all(|one| way.contains(one) || !items.contains(one))
    };
    !way.contains(&item)
        && match orders {
            Orders::Any => true,
            Orders::Causal(past) => after(past),
        }
}

/// Every order that begins with `way`; whether there was room for all.
fn extend(
    way: &mut Vec<usize>,
    items: &[usize],
    orders: Orders<'_>,
    found: &mut Vec<Vec<usize>>,
) -> bool {
    if way.len() == items.len() {
        found.push(way.clone());
        return found.len() <= ORDERS_MAX;
    }
    for &item in items {
        if ready(item, way, items, orders) {
            way.push(item);
            let all = extend(way, items, orders, found);
            way.pop();
            if !all {
                return false;
            }
        }
    }
    true
}

fn random(items: &[usize], orders: Orders<'_>, rng: &mut Rng) -> Vec<usize> {
    let mut way = Vec::with_capacity(items.len());
    while way.len() < items.len() {
        let ready: Vec<usize> =
            items.iter().copied().filter(|&item| ready(item, &way, items, orders)).collect();
        let next = rng.pick(&ready).expect("the past has no cycles, and is among the items");
        way.push(*next);
    }
    way
}

/// The same order with each item again at up to two later places.
fn repeated(way: &[usize], rng: &mut Rng) -> Vec<usize> {
    let mut longer = way.to_vec();
    for &item in way {
        for _ in 0..rng.below(3) {
            let first = longer.iter().position(|&one| one == item).map_or(0, |at| at + 1);
            let at = first + rng.below((longer.len() - first) as u64 + 1) as usize;
            longer.insert(at, item);
        }
    }
    longer
}

/// A law that a merge of states breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// a with a is a.
    Idempotent,
    /// a with b is b with a.
    Commutative,
    /// (a with b) with c is a with (b with c).
    Associative,
}

/// Whether merging is a join on `states`: idempotent, commutative and associative.
///
/// # Errors
/// The law and the indices of the first states that break it.
pub fn states<S, D: PartialEq>(
    states: &[S],
    merge: impl Fn(&S, &S) -> S,
    digest: impl Fn(&S) -> D,
) -> Result<(), (Law, Vec<usize>)> {
    let same = |a: &S, b: &S| digest(a) == digest(b);
    for (i, a) in states.iter().enumerate() {
        if !same(&merge(a, a), a) {
            return Err((Law::Idempotent, vec![i]));
        }
        for (j, b) in states.iter().enumerate() {
            let both = merge(a, b);
            if !same(&both, &merge(b, a)) {
                return Err((Law::Commutative, vec![i, j]));
            }
            for (k, c) in states.iter().enumerate() {
                if !same(&merge(&both, c), &merge(a, &merge(b, c))) {
                    return Err((Law::Associative, vec![i, j, k]));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
