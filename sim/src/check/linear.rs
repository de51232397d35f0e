//! Linearizability: is there one order of all operations that explains every answer and that
//! respects real time?
//!
//! The definition is Herlihy and Wing's (*Linearizability*, 1990). The search is Wing and Gong's
//! (*Testing and verifying concurrent objects*, 1993) with the memo of Lowe (*Testing for
//! linearizability*, 2017): walk along the history; whenever an invocation is met, try to let that
//! operation take effect here; if the model answers what the client was answered, take it out of the
//! history and begin again at the front; when a *response* is met whose operation has not taken
//! effect, the last choice was wrong: put it back and try the next. Two ways of choosing that took
//! out the same operations and left the model in the same state have the same future, so each such
//! pair is looked into once. An open operation has no response to run into: it is taken out at any
//! later place, or never. Such operations are what makes histories under faults hard: twenty that
//! nobody answered are a million sets of those that took effect. Two things tame them. They are tried
//! only where no answered one will do, and not where they change nothing; and a way that spent *more*
//! of them than another one, to the same end, is not looked into: whatever follows, the other can do.
//!
//! Linearizability is *local*: a history of many objects is linearizable if and only if that of each
//! object is (Herlihy and Wing; used for speed by Horn and Kroening, *Faster linearizability
//! checking via P-compositionality*, 2015). So the history is split by [`Model::key`] first.
//!
//! The question is NP-complete (Gibbons and Korach, 1997). The work is therefore bounded, and running
//! out of it is the answer [`Verdict::Unknown`], not silence.
//!
//! **What is shown of a failure.** Linearizability is prefix-closed: there is a first answer at
//! which the history stops being linearizable, found by bisection. From there the search goes back:
//! which is the shortest stretch, up to that answer, that has no order *whatever* the object held
//! before, of all that the search ever saw it hold? That stretch stands for itself, and is mostly
//! two or three operations of thousands. Where no such stretch is shorter than all that came before,
//! the window begins with the history.

use core::fmt::{self, Debug};
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use std::collections::BTreeMap;

use super::{Completion, History, Model, OpId, Operation, Verdict};
use crate::trace::TraceHasher;

/// Enough for thousands of operations with a dozen clients at once; a few seconds at most.
pub const WORK_MAX: u64 = 5_000_000;

/// Operations that cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<K, C, R> {
    /// The object they went to.
    pub key: K,
    /// The operations, in the order of their invocations. Of what came after the culprit's answer
    /// nothing is used: what was answered later is open here.
    pub operations: Vec<Operation<C, R>>,
    /// The one whose answer cannot be explained any more.
    pub culprit: OpId,
    /// Where in the history the window begins. What was invoked before may have taken effect before.
    pub begin: u64,
    /// The window begins with the history, and holds only with the object's state then.
    pub from_start: bool,
}

impl<K: Debug, C: Debug, R: Debug> fmt::Display for Window<K, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.from_start { "from the start" } else { "whatever was there before" };
        write!(f, "no order of these explains the answers, {before} (key {:?}):", self.key)?;
        for operation in &self.operations {
            let Operation { id: OpId(id), client, node, call, at, .. } = operation;
            write!(f, "\n  #{id} client {client} at node {node}, {at}: {call:?} -> ")?;
            match &operation.completion {
                Completion::Answered { at, response, .. } => write!(f, "{response:?} at {at}")?,
                Completion::Failed => f.write_str("failed")?,
                Completion::Open => f.write_str("open")?,
            }
            if operation.invoked < self.begin {
                f.write_str(" (may have taken effect before)")?;
            }
            if operation.id == self.culprit {
                f.write_str("  <- cannot be explained")?;
            }
        }
        Ok(())
    }
}

type OperationOf<M> = Operation<<M as Model>::Call, <M as Model>::Response>;

/// The window of a model's operations.
pub type WindowOf<M> = Window<<M as Model>::Key, <M as Model>::Call, <M as Model>::Response>;

/// Whether `history` is linearizable for objects that begin as `start`, with at most `work_max`
/// applications of the model for each key.
#[must_use]
pub fn check<M: Model>(
    start: &M,
    history: &History<M::Call, M::Response>,
    work_max: u64,
) -> Verdict<WindowOf<M>> {
    let mut keys: BTreeMap<M::Key, Vec<OperationOf<M>>> = BTreeMap::new();
    for operation in history.operations() {
        if operation.completion != Completion::Failed {
            keys.entry(M::key(&operation.call)).or_default().push(operation);
        }
    }
    let mut unknown = false;
    for (key, operations) in &keys {
        let items = cut(operations, 0, u64::MAX);
        match Search::new(&items, work_max).run([start]) {
            Found::Order => {}
            Found::WorkRanOut => unknown = true,
            Found::Nothing => {
                return Verdict::Violated(narrow(start, key.clone(), operations, work_max));
            }
        }
    }
    if unknown { Verdict::Unknown { work: work_max } } else { Verdict::Holds }
}

/// One operation as the search sees it.
struct Item<'a, M: Model> {
    call: &'a M::Call,
    /// `None` if any answer will do.
    response: Option<&'a M::Response>,
    invoked: u64,
    /// By when it must have taken effect; `None` if it need not.
    answered: Option<u64>,
}

/// The operations between two places of the history. Those that began before may have taken effect
/// before; those that were not answered yet need not have.
fn cut<M: Model>(operations: &[OperationOf<M>], begin: u64, end: u64) -> Vec<Item<'_, M>> {
    let within = operations.iter().filter(|op| op.invoked <= end && op.answered() >= begin);
    let item = |op: &'_ OperationOf<M>| (op.invoked, op.answered());
    within
        .map(|op| {
            let (invoked, answered) = item(op);
            let response = match &op.completion {
                Completion::Answered { order, response, .. } if *order <= end => Some(response),
                _ => None,
            };
            let answered = (response.is_some() && invoked >= begin).then_some(answered);
            Item { call: &op.call, response, invoked, answered }
        })
        .collect()
}

/// The shortest window that ends with the first answer that cannot be explained.
fn narrow<M: Model>(
    start: &M,
    key: M::Key,
    operations: &[OperationOf<M>],
    work_max: u64,
) -> WindowOf<M> {
    let mut answers: Vec<(u64, OpId)> = operations
        .iter()
        .filter(|op| matches!(op.completion, Completion::Answered { .. }))
        .map(|op| (op.answered(), op.id))
        .collect();
    answers.sort_unstable();
    let fails = |begin: u64, end: u64, starts: &[M]| {
        let items = cut(operations, begin, end);
        Search::new(&items, work_max).run(starts) == Found::Nothing
    };
    let from = [start.clone()];
    let first = answers.partition_point(|&(order, _)| !fails(0, order, &from));
    // The whole history fails, so some answer is the first; where the work ran out, the last is.
    let (end, culprit) = answers[first.min(answers.len() - 1)];

    let items = cut(operations, 0, end);
    let mut search = Search::new(&items, work_max);
    let _ = search.run([start]);
    let mut states: Vec<M> = from.to_vec();
    states.extend(search.memo.into_values().flatten().map(|(_, state)| state));
    let states = distinct(states);
    let begins = operations.iter().rev().map(|op| op.invoked).filter(|&begin| begin <= end);
    let begin = begins.take(WINDOW_MAX).find(|&begin| fails(begin, end, &states));
    let (begin, from_start) = (begin.unwrap_or(0), begin.is_none());

    let within = operations.iter().filter(|op| op.invoked <= end && op.answered() >= begin);
    let shown = within.cloned().map(|op| {
        let later = op.answered() > end;
        Operation { completion: if later { Completion::Open } else { op.completion }, ..op }
    });
    Window { key, operations: shown.collect(), culprit, begin, from_start }
}

/// How many operations the search for a window goes back.
const WINDOW_MAX: usize = 200;

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = TraceHasher::new(0);
    value.hash(&mut hasher);
    hasher.finish()
}

fn distinct<M: Eq + Hash>(states: Vec<M>) -> Vec<M> {
    let mut by_hash: BTreeMap<u64, Vec<M>> = BTreeMap::new();
    for state in states {
        let same = by_hash.entry(hash_of(&state)).or_default();
        if !same.contains(&state) {
            same.push(state);
        }
    }
    by_hash.into_values().flatten().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Order,
    Nothing,
    WorkRanOut,
}

/// An invocation or a response in the list that the search walks along.
#[derive(Clone, Copy)]
struct Entry {
    item: usize,
    response: bool,
    before: usize,
    after: usize,
}

/// Which operations have taken effect, and the state they left: all that the future depends on.
type Memo<M> = BTreeMap<u64, Vec<(Box<[u64]>, M)>>;

struct Search<'a, M: Model> {
    items: &'a [Item<'a, M>],
    /// A doubly linked list in one vector; the first and the last are its ends.
    entries: Vec<Entry>,
    /// Where each item's invocation is in the list, and its response if it must have one.
    places: Vec<(usize, Option<usize>)>,
    taken: Box<[u64]>,
    /// Those that must take effect.
    required: Box<[u64]>,
    memo: Memo<M>,
    work_left: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(items: &'a [Item<'a, M>], work_max: u64) -> Search<'a, M> {
        let mut events: Vec<(u64, usize, bool)> = Vec::with_capacity(2 * items.len());
        for (item, Item { invoked, answered, .. }) in items.iter().enumerate() {
            events.push((*invoked, item, false));
            events.extend(answered.map(|answered| (answered, item, true)));
        }
        events.sort_unstable();
        let mut places = vec![(0, None); items.len()];
        let end = Entry { item: usize::MAX, response: true, before: 0, after: 1 };
        let mut entries = vec![end];
        for (at, &(_, item, response)) in (1..).zip(&events) {
            entries.push(Entry { item, response, before: at - 1, after: at + 1 });
            if response {
                places[item].1 = Some(at);
            } else {
                places[item].0 = at;
            }
        }
        entries.push(Entry { before: events.len(), ..end });
        let taken = vec![0; items.len().div_ceil(64)].into_boxed_slice();
        let mut required = taken.clone();
        for (item, _) in items.iter().enumerate().filter(|(_, item)| item.answered.is_some()) {
            required[item / 64] |= 1 << (item % 64);
        }
        let (memo, work_left) = (BTreeMap::new(), work_max);
        Search { items, entries, places, taken, required, memo, work_left }
    }

    /// Tries each of `starts`.
    fn run<'s>(&mut self, starts: impl IntoIterator<Item = &'s M>) -> Found
    where
        M: 's,
    {
        for start in starts {
            let found = self.from(start.clone());
            if found != Found::Nothing {
                return found;
            }
        }
        Found::Nothing
    }

    fn from(&mut self, start: M) -> Found {
        let mut state = start;
        let mut missing = self.items.iter().filter(|item| item.answered.is_some()).count();
        let mut stack: Vec<(usize, M)> = Vec::new();
        let mut at = self.entries[0].after;
        // Those that must take effect are tried first, then those that may.
        let mut optional = false;
        while missing > 0 {
            let Entry { item, response, after, .. } = self.entries[at];
            if response && !optional {
                (optional, at) = (true, self.entries[0].after);
                continue;
            }
            if response {
                let Some((item, before)) = stack.pop() else { return Found::Nothing };
                state = before;
                self.put_back(item);
                optional = self.items[item].answered.is_none();
                missing += usize::from(!optional);
                at = self.entries[self.places[item].0].after;
                continue;
            }
            if optional == self.items[item].answered.is_some() {
                at = after;
                continue;
            }
            if self.work_left == 0 {
                return Found::WorkRanOut;
            }
            self.work_left -= 1;
            let mut next = state.clone();
            let answer = next.apply(self.items[item].call);
            let explained = self.items[item].response.is_none_or(|response| *response == answer);
            // Nor is one put right after another that it makes useless, as a write does.
            let wasted = |(item, before): &(usize, M)| {
                self.items[*item].answered.is_none() && {
                    let mut alone = before.clone();
                    let _ = alone.apply(self.items[self.entries[at].item].call);
                    alone == next
                }
            };
            let idle = optional && (next == state || stack.last().is_some_and(wasted));
            if explained && !idle && self.is_new(item, &next) {
                stack.push((item, std::mem::replace(&mut state, next)));
                self.take_out(item);
                missing -= usize::from(!optional);
                (optional, at) = (false, self.entries[0].after);
            } else {
                at = after;
            }
        }
        Found::Order
    }

    /// Whether letting `item` take effect now leads to where the search has not been, nor where it
    /// had been with fewer of the optional ones spent.
    fn is_new(&mut self, item: usize, state: &M) -> bool {
        self.taken[item / 64] ^= 1 << (item % 64);
        let required = || self.taken.iter().zip(&self.required).map(|(taken, must)| taken & must);
        let mut hasher = TraceHasher::new(0);
        required().for_each(|word| hasher.write_u64(word));
        state.hash(&mut hasher);
        let known = self.memo.entry(hasher.finish()).or_default();
        let fewer = |known: &[u64]| {
            known.iter().zip(&self.taken).all(|(known, taken)| known & !taken == 0)
                && required().zip(known.iter().zip(&self.required)).all(|(r, (k, m))| r == k & m)
        };
        let new = !known.iter().any(|(taken, left)| left == state && fewer(taken));
        if new {
            known.push((self.taken.clone(), state.clone()));
        }
        self.taken[item / 64] ^= 1 << (item % 64);
        new
    }

    fn take_out(&mut self, item: usize) {
        self.taken[item / 64] |= 1 << (item % 64);
        let (call, response) = self.places[item];
        for at in [Some(call), response].into_iter().flatten() {
            let Entry { before, after, .. } = self.entries[at];
            self.entries[before].after = after;
            self.entries[after].before = before;
        }
    }

    /// Undoes the last [`take_out`](Self::take_out) that was not undone yet.
    fn put_back(&mut self, item: usize) {
        self.taken[item / 64] &= !(1 << (item % 64));
        let (call, response) = self.places[item];
        for at in [response, Some(call)].into_iter().flatten() {
            let Entry { before, after, .. } = self.entries[at];
            self.entries[before].after = at;
            self.entries[after].before = at;
        }
    }
}

/// What is asked of a register, by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Call<K, V> {
    /// What is there?
    Read(K),
    /// Put this there.
    Write(K, V),
    /// Put this there if that is what is there.
    Cas { key: K, expected: Option<V>, new: V },
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Response<V> {
    /// To a read: what is there.
    Value(Option<V>),
    /// To a write.
    Done,
    /// To a compare-and-swap: whether it was as expected.
    Swapped(bool),
}

/// A register that can be read, written, and compared and swapped. Empty at first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register<K, V> {
    /// What is there.
    pub value: Option<V>,
    key: PhantomData<K>,
}

impl<K, V> Default for Register<K, V> {
    fn default() -> Register<K, V> {
        Register { value: None, key: PhantomData }
    }
}

impl<K, V> Model for Register<K, V>
where
    K: Clone + Ord + Hash + Debug,
    V: Clone + Eq + Hash + Debug,
{
    type Call = Call<K, V>;
    type Response = Response<V>;
    type Key = K;

    fn key(call: &Call<K, V>) -> K {
        let (Call::Read(key) | Call::Write(key, _) | Call::Cas { key, .. }) = call;
        key.clone()
    }

    fn apply(&mut self, call: &Call<K, V>) -> Response<V> {
        match call {
            Call::Read(_) => Response::Value(self.value.clone()),
            Call::Write(_, value) => {
                self.value = Some(value.clone());
                Response::Done
            }
            Call::Cas { expected, new, .. } => {
                let swaps = self.value == *expected;
                if swaps {
                    self.value = Some(new.clone());
                }
                Response::Swapped(swaps)
            }
        }
    }
}

#[cfg(test)]
mod tests;
