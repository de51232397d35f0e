//! A second opinion on linearizability, for a store that says itself which order it was.
//!
//! Many stores number their states: a revision, a log position, a version. If every answer carries
//! the number of the state that it saw or made, the store has named the order that the search of
//! [`linear`](super::linear) would have to find, and it is enough to check that one (Gibbons and
//! Korach, *Testing shared memories*, 1997, show that knowing the order of the writes makes the
//! question easy; Jepsen checks etcd by its revisions like this). Three things are asked:
//!
//! 1. **One write a revision.** Two writes that claim the same number did not know of each other.
//! 2. **Real time.** Going down the revisions, no operation was invoked after another one with a
//!    higher place had been answered. One sweep with a running minimum.
//! 3. **The model.** Applied in this order, the operations answer what they were answered.
//!
//! That is a sort and two passes. What comes out as right *is* linearizable: the claimed order shows
//! it. The reverse is not so: a store may number its states wrongly and still be linearizable, which
//! `linear` calls right and this calls wrong; unless the model counts revisions itself and answers
//! with them, and then the two ask the same question. They share no code, and check each other.
//!
//! **Open operations** have no number, but may have taken one: wherever numbers are missing, as many
//! open operations as are missing may have taken effect. None is put in unless the answers need it;
//! where several could be, each is tried, with a bound on the work. Numbers may also be missing for
//! good: a store may spend them on things of its own.

use core::fmt::{self, Debug};
use std::collections::{BTreeMap, BTreeSet};

use super::{Completion, History, Model, OpId, Operation, Verdict};

/// What an answer says of its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the state that the operation made, or saw.
    pub revision: u64,
    /// Whether it made that state. A compare-and-swap that did not swap only saw it.
    pub wrote: bool,
}

/// Why the claimed order is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Two writes have one revision.
    Twice {
        /// The revision.
        revision: u64,
        /// The two.
        writes: [OpId; 2],
    },
    /// The first was answered before the second was invoked, and is said to have come after it.
    RealTime {
        /// Answered earlier, placed later.
        earlier: (OpId, Place),
        /// Invoked later, placed earlier.
        later: (OpId, Place),
    },
    /// The model answers something else, whichever open operations took effect before.
    Answer {
        /// The operation.
        id: OpId,
        /// Where it says that it took place.
        place: Place,
        /// What it was answered and what the model answers if no open operation is put in further.
        answers: [String; 2],
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Twice { revision, writes: [OpId(a), OpId(b)] } => {
                write!(f, "the writes #{a} and #{b} both claim revision {revision}")
            }
            Wrong::RealTime { earlier: (OpId(a), before), later: (OpId(b), after) } => {
                let (before, after) = (before.revision, after.revision);
                write!(
                    f,
                    "#{a} was answered with revision {before} before #{b} was invoked, which was \
                     answered with revision {after}"
                )
            }
            Wrong::Answer { id: OpId(id), place, answers: [answered, expected] } => {
                let revision = place.revision;
                write!(f, "#{id} was answered {answered}; at revision {revision} it is {expected}")
            }
        }
    }
}

/// Whether the order that the answers claim, as `place` reads it, agrees with real time and with the
/// model, with at most `work_max` applications of the model.
#[must_use]
pub fn check<M: Model>(
    start: &M,
    history: &History<M::Call, M::Response>,
    place: impl Fn(&Operation<M::Call, M::Response>, &M::Response) -> Place,
    work_max: u64,
) -> Verdict<Wrong> {
    let operations = history.operations();
    let mut claimed: Vec<Claimed<'_, M>> = Vec::with_capacity(operations.len());
    let mut open = Vec::new();
    for operation in &operations {
        match &operation.completion {
            Completion::Answered { response, .. } => {
                let place = place(operation, response);
                claimed.push(Claimed { place, operation, response });
            }
            Completion::Open => open.push(operation),
            Completion::Failed => {}
        }
    }
    // The write of a revision comes before those who saw it.
    claimed.sort_by_key(|one| (one.place.revision, !one.place.wrote, one.operation.id));
    let twice =
        claimed.windows(2).find(|pair| pair[0].group() == pair[1].group() && pair[0].place.wrote);
    if let Some([a, b]) = twice {
        let (revision, writes) = (a.place.revision, [a.operation.id, b.operation.id]);
        return Verdict::Violated(Wrong::Twice { revision, writes });
    }
    match real_time(&claimed) {
        Err(wrong) => Verdict::Violated(wrong),
        Ok(latest) => {
            Replay { claimed: &claimed, open: &open, latest: &latest, work_max }.run(start)
        }
    }
}

struct Claimed<'a, M: Model> {
    place: Place,
    operation: &'a Operation<M::Call, M::Response>,
    response: &'a M::Response,
}

impl<M: Model> Claimed<'_, M> {
    /// Those of one group are not ordered among themselves: all saw the same state.
    fn group(&self) -> (u64, bool) {
        (self.place.revision, !self.place.wrote)
    }
}

/// For each place in the order, the first answer from there on: what takes effect before that place
/// must have been invoked by then.
fn real_time<M: Model>(claimed: &[Claimed<'_, M>]) -> Result<Vec<u64>, Wrong> {
    let mut latest = vec![u64::MAX; claimed.len()];
    // The first answer of all later groups, and of this group so far.
    let mut beyond: Option<&Claimed<'_, M>> = None;
    let mut first: Option<&Claimed<'_, M>> = None;
    let earliest = |a: Option<&'_ Claimed<'_, M>>| a.map_or(u64::MAX, |a| a.operation.answered());
    for (at, one) in claimed.iter().enumerate().rev() {
        if claimed.get(at + 1).is_some_and(|next| next.group() != one.group()) {
            beyond = first;
        }
        if let Some(earlier) = beyond
            && earlier.operation.answered() < one.operation.invoked
        {
            let name = |one: &Claimed<'_, M>| (one.operation.id, one.place);
            return Err(Wrong::RealTime { earlier: name(earlier), later: name(one) });
        }
        if one.operation.answered() < earliest(first) {
            first = Some(one);
        }
        latest[at] = earliest(first);
    }
    Ok(latest)
}

struct Replay<'a, M: Model> {
    claimed: &'a [Claimed<'a, M>],
    open: &'a [&'a Operation<M::Call, M::Response>],
    latest: &'a [u64],
    work_max: u64,
}

/// The objects that were touched, each as it is now.
type Objects<M> = BTreeMap<<M as Model>::Key, M>;

/// A place where an open operation could be put in, and which of them were not tried there yet.
struct Choice<M: Model> {
    at: usize,
    missing: u64,
    objects: Objects<M>,
    used: BTreeSet<usize>,
    next: usize,
}

impl<M: Model> Replay<'_, M> {
    fn run(&self, start: &M) -> Verdict<Wrong> {
        let apply = |objects: &mut Objects<M>, call: &M::Call| {
            objects.entry(M::key(call)).or_insert_with(|| start.clone()).apply(call)
        };
        let (mut at, mut objects, mut used) = (0, BTreeMap::new(), BTreeSet::new());
        let mut missing = self.missing_before(0);
        let mut choices: Vec<Choice<M>> = Vec::new();
        // The failure that got farthest: the others may be those of wrong choices.
        let mut wrong: Option<(usize, Wrong)> = None;
        let mut work = 0;
        while let Some(one) = self.claimed.get(at) {
            if missing > 0 && used.len() < self.open.len() {
                let (objects, used) = (objects.clone(), used.clone());
                choices.push(Choice { at, missing, objects, used, next: 0 });
            }
            work += 1;
            let answer = apply(&mut objects, &one.operation.call);
            if answer == *one.response {
                at += 1;
                missing = self.missing_before(at);
                continue;
            }
            if wrong.as_ref().is_none_or(|(farthest, _)| at > *farthest) {
                let answers = [format!("{:?}", one.response), format!("{answer:?}")];
                let (id, place) = (one.operation.id, one.place);
                wrong = Some((at, Wrong::Answer { id, place, answers }));
            }
            loop {
                if work >= self.work_max {
                    return Verdict::Unknown { work: self.work_max };
                }
                let Some(choice) = choices.last_mut() else {
                    return wrong.map_or(Verdict::Holds, |(_, wrong)| Verdict::Violated(wrong));
                };
                if let Some(open) = self.put_in(choice) {
                    (at, missing) = (choice.at, choice.missing - 1);
                    (objects, used) = (choice.objects.clone(), choice.used.clone());
                    work += 1;
                    let _ = apply(&mut objects, &self.open[open].call);
                    used.insert(open);
                    break;
                }
                choices.pop();
            }
        }
        Verdict::Holds
    }

    /// How many numbers are missing between the place before `at` and that.
    fn missing_before(&self, at: usize) -> u64 {
        let Some(one) = self.claimed.get(at) else { return 0 };
        let before = at.checked_sub(1).map_or(0, |before| self.claimed[before].place.revision);
        (one.place.revision - before).saturating_sub(u64::from(one.place.wrote))
    }

    /// The next open operation that can have taken effect at a choice's place.
    fn put_in(&self, choice: &mut Choice<M>) -> Option<usize> {
        while choice.next < self.open.len() {
            let open = choice.next;
            choice.next += 1;
            let in_time = self.open[open].invoked < self.latest[choice.at];
            if in_time && !choice.used.contains(&open) {
                return Some(open);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
