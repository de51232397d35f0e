//! No effect without its cause: what a node shows never includes an item without its past.
//!
//! Items name what their authors had seen when they made them: their *dependencies*. Causal
//! delivery (Birman and Joseph, *Reliable communication in the presence of failures*, 1987; as
//! *causal memory*, Ahamad and others, 1995) means that a node which shows an item shows everything
//! before it: a reply never stands there without the question.
//!
//! It is enough to look at direct dependencies: if each item that is shown has all of its direct
//! ones shown, the whole past of each is, by induction. So the check of one item costs its
//! dependencies, and a run can be checked at every step with a [`Shown`] for each node. [`closed`]
//! is the same asked of a set at once.
//!
//! ```
//! use quorate_sim::check::causal::{Gap, Shown};
//!
//! let mut shown = Shown::new();
//! shown.show("question", []).unwrap();
//! let gap = shown.show("thanks", ["question", "answer"]).unwrap_err();
//! assert_eq!(gap, Gap { item: "thanks", missing: "answer" });
//! assert_eq!(gap.to_string(), r#""thanks" is shown without "answer", which it depends on"#);
//! ```

use core::fmt::{self, Debug};
use std::collections::BTreeSet;

/// An item that is shown, and one of its past that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<I> {
    /// What is shown.
    pub item: I,
    /// What it depends on.
    pub missing: I,
}

impl<I: Debug> fmt::Display for Gap<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is shown without {:?}, which it depends on", self.item, self.missing)
    }
}

/// What a node has shown so far. A node that loses its memory in a crash begins with a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shown<I: Ord> {
    items: BTreeSet<I>,
}

impl<I: Ord> Default for Shown<I> {
    fn default() -> Shown<I> {
        Shown::new()
    }
}

impl<I: Ord> Shown<I> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Shown<I> {
        Shown { items: BTreeSet::new() }
    }

    /// The node shows an item that depends on `past`.
    ///
    /// # Errors
    /// The first dependency that it does not show.
    pub fn show(&mut self, item: I, past: impl IntoIterator<Item = I>) -> Result<(), Gap<I>> {
        let missing = past.into_iter().find(|one| !self.items.contains(one));
        if let Some(missing) = missing {
            return Err(Gap { item, missing });
        }
        self.items.insert(item);
        Ok(())
    }

    /// Whether the node shows an item.
    #[must_use]
    pub fn contains(&self, item: &I) -> bool {
        self.items.contains(item)
    }
}

/// Whether a set that a node shows is closed: with each item, all that `past` says of it.
///
/// # Errors
/// The first gap, in the order of the items.
pub fn closed<I: Ord + Clone, P: IntoIterator<Item = I>>(
    shown: &BTreeSet<I>,
    past: impl Fn(&I) -> P,
) -> Result<(), Gap<I>> {
    for item in shown {
        if let Some(missing) = past(item).into_iter().find(|one| !shown.contains(one)) {
            return Err(Gap { item: item.clone(), missing });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Rng;

    /// Everything before an item, by walking.
    fn ancestors(item: usize, past: &[Vec<usize>]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut todo = vec![item];
        while let Some(item) = todo.pop() {
            todo.extend(past[item].iter().filter(|&&one| found.insert(one)));
        }
        found
    }

    #[test]
    fn direct_dependencies_decide_for_the_whole_past() {
        let mut rng = Rng::new(3);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..2_000 {
            let past: Vec<Vec<usize>> =
                (0..6).map(|item| (0..item).filter(|_| rng.below(3) == 0).collect()).collect();
            let set: BTreeSet<usize> = (0..6).filter(|_| rng.below(3) > 0).collect();
            let whole = set.iter().all(|&item| ancestors(item, &past).is_subset(&set));
            let found = closed(&set, |&item| past[item].clone());
            assert_eq!(found.is_ok(), whole, "{set:?} of {past:?}");
            if let Err(Gap { item, missing }) = found {
                assert!(ancestors(item, &past).contains(&missing) && !set.contains(&missing));
            }
            // Item by item, in an order of its own: each must come after its whole past.
            let mut order: Vec<usize> = set.iter().copied().collect();
            rng.shuffle(&mut order);
            let mut shown = Shown::new();
            let step_by_step =
                order.iter().try_for_each(|&item| shown.show(item, past[item].clone()));
            let in_order = order.iter().enumerate().all(|(at, &item)| {
                ancestors(item, &past).iter().all(|one| order[..at].contains(one))
            });
            assert_eq!(step_by_step.is_ok(), in_order);
            *(if in_order { &mut good } else { &mut bad }) += 1;
        }
        assert!(good > 100 && bad > 100, "{good} {bad}");
    }
}
