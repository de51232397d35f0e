//! What clients asked and were answered, in the order in which it happened.
//!
//! A history is a sequence of *invocations* and *responses* (Herlihy and Wing, *Linearizability: a
//! correctness condition for concurrent objects*, 1990). One operation precedes another if its
//! response comes before the other's invocation; otherwise the two are concurrent, and either may
//! have taken effect first. Simulated time is kept for people: many things happen in one
//! microsecond, so what precedes what is the order of recording, which in a run of one thread is
//! the true one.
//!
//! An operation ends in one of three ways, and to confuse the last two is the classic error of a
//! test harness:
//!
//! - *Answered*: it took effect between its invocation and its response.
//! - *Failed*: it is known that it never takes effect: the node was down, the request was refused.
//! - *Open*: nobody knows. The client timed out, its connection broke, the run ended. It may have
//!   taken effect, may still do so at any later time, or never.
//!
//! The history only grows, by events. Sealed chunks of it are shared between clones, so a fork of a
//! system that carries a long history costs next to nothing.

use crate::SimTime;
use crate::disk::Log;

/// The name of an operation within its history: 0, 1, 2, … in the order of the invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u32);

#[derive(Clone, Debug)]
enum Event<C, R> {
    Invoke { client: u64, node: usize, call: C },
    Answer { id: OpId, response: R },
    Fail { id: OpId },
}

/// What clients did. `C` is what they ask, `R` what they are answered.
#[derive(Clone, Debug)]
pub struct History<C, R> {
    events: Log<(SimTime, Event<C, R>)>,
    invoked: u32,
}

/// How an operation ended. Orders are positions in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion<R> {
    /// With an answer: it took effect before this.
    Answered {
        /// Where in the history.
        order: u64,
        /// When.
        at: SimTime,
        /// What it was.
        response: R,
    },
    /// It never takes effect.
    Failed,
    /// Nobody knows.
    Open,
}

/// An operation, put together from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// Its name.
    pub id: OpId,
    /// Who asked.
    pub client: u64,
    /// Which node was asked.
    pub node: usize,
    /// What for.
    pub call: C,
    /// Where in the history it was invoked.
    pub invoked: u64,
    /// When.
    pub at: SimTime,
    /// How it ended.
    pub completion: Completion<R>,
}

impl<C, R> Operation<C, R> {
    /// Where in the history it was answered; the end of time if it never was.
    #[must_use]
    pub fn answered(&self) -> u64 {
        match self.completion {
            Completion::Answered { order, .. } => order,
            Completion::Failed | Completion::Open => u64::MAX,
        }
    }
}

impl<C: Clone, R: Clone> Default for History<C, R> {
    fn default() -> History<C, R> {
        History::new()
    }
}

impl<C: Clone, R: Clone> History<C, R> {
    /// An empty history.
    #[must_use]
    pub fn new() -> History<C, R> {
        History { events: Log::new(), invoked: 0 }
    }

    /// How many operations were invoked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.invoked as usize
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.invoked == 0
    }

    /// A client asks a node. The operation is open until it is answered or known to have failed.
    pub fn invoke(&mut self, client: u64, node: usize, at: SimTime, call: C) -> OpId {
        let id = OpId(self.invoked);
        self.invoked += 1;
        self.events.push((at, Event::Invoke { client, node, call }));
        id
    }

    /// The client got its answer.
    pub fn answer(&mut self, id: OpId, at: SimTime, response: R) {
        self.events.push((at, Event::Answer { id, response }));
    }

    /// It is certain that the operation took no effect and never will.
    pub fn fail(&mut self, id: OpId, at: SimTime) {
        self.events.push((at, Event::Fail { id }));
    }

    /// The operations, in the order of their invocations.
    ///
    /// # Panics
    /// If an operation ended twice, or before it was invoked: the recording is wrong then, and
    /// whatever a checker said of it would be too.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation<C, R>> {
        let mut operations: Vec<Operation<C, R>> = Vec::with_capacity(self.len());
        for (order, (at, event)) in self.events.iter() {
            let at = *at;
            let (id, completion) = match event {
                Event::Invoke { client, node, call } => {
                    operations.push(Operation {
                        id: OpId(operations.len() as u32),
                        client: *client,
                        node: *node,
                        call: call.clone(),
                        invoked: order,
                        at,
                        completion: Completion::Open,
                    });
                    continue;
                }
                Event::Answer { id, response } => {
                    (id, Completion::Answered { order, at, response: response.clone() })
                }
                Event::Fail { id } => (id, Completion::Failed),
            };
            let Some(operation) = operations.get_mut(id.0 as usize) else {
                panic!("{id:?} ended before it was invoked")
            };
            assert!(matches!(operation.completion, Completion::Open), "{id:?} ended twice");
            operation.completion = completion;
        }
        operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_end_in_three_ways() {
        let mut history = History::new();
        let ids = ["a", "b", "c"].map(|call| history.invoke(1, 0, SimTime::ZERO, call));
        history.answer(ids[1], SimTime::ms(2), 20);
        history.fail(ids[0], SimTime::ms(3));
        let operations = history.operations();
        let ends: Vec<_> = operations.iter().map(|op| op.completion.clone()).collect();
        let answered = Completion::Answered { order: 3, at: SimTime::ms(2), response: 20 };
        assert_eq!(ends, [Completion::Failed, answered, Completion::Open]);
        assert_eq!(
            operations.iter().map(Operation::answered).collect::<Vec<_>>()[1..],
            [3, u64::MAX]
        );
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut history: History<u32, ()> = History::new();
        for call in 0..1_000 {
            let id = history.invoke(0, 0, SimTime::ZERO, call);
            history.answer(id, SimTime::ZERO, ());
        }
        let mut fork = history.clone();
        fork.invoke(0, 0, SimTime::ZERO, 7);
        assert_eq!((history.operations().len(), fork.operations().len()), (1_000, 1_001));
        assert_eq!(history.operations()[..], fork.operations()[..1_000]);
    }

    #[test]
    #[should_panic(expected = "ended twice")]
    fn two_answers_to_one_operation_are_an_error_of_the_recording() {
        let mut history = History::new();
        let id = history.invoke(1, 0, SimTime::ZERO, ());
        history.answer(id, SimTime::ZERO, ());
        history.fail(id, SimTime::ZERO);
        let _ = history.operations();
    }
}
