//! Checkers of what a cluster promised: of histories, of merges, of causality.
//!
//! A [`System`](crate::System) records what its clients did into a [`History`], which is part of it
//! and is cloned with it, and asks a checker in [`System::finished`](crate::System::finished).
//!
//! - [`linear`]: is there an order of the operations that explains every answer? It needs to know
//!   nothing of the store, and may take long.
//! - [`revision`]: the same asked of a store that says itself which order it was. Quick.
//! - [`merge`]: does it matter in which order, and how often, items are applied?
//! - [`causal`]: is anything shown without its past?
//!
//! ```
//! use quorate_sim::SimTime;
//! use quorate_sim::check::linear::{self, Call, Register, Response};
//! use quorate_sim::check::{History, Verdict};
//!
//! let mut history = History::new();
//! let mut done = |client, at, call, response| {
//!     let id = history.invoke(client, 0, SimTime::ms(at), call);
//!     history.answer(id, SimTime::ms(at + 1), response);
//! };
//! done(1, 0, Call::Write("x", 7), Response::Done);
//! done(2, 5, Call::Read("x"), Response::Value(None)); // the write was done, and is not seen
//! let verdict = linear::check(&Register::default(), &history, linear::WORK_MAX);
//! let Verdict::Violated(window) = verdict else { panic!("it is not linearizable") };
//! assert_eq!(window.operations.len(), 2);
//! ```

pub mod causal;
mod history;
pub mod linear;
pub mod merge;
pub mod revision;

pub use history::{Completion, History, OpId, Operation};

/// What a model of an object says its operations do. The model is the object's state.
pub trait Model: Clone + Eq + core::hash::Hash {
    /// An operation as a client asks for it.
    type Call: Clone + core::fmt::Debug;
    /// What it answers.
    type Response: Clone + PartialEq + core::fmt::Debug;
    /// The independent objects that calls go to, such as the keys of a map; `()` for only one.
    type Key: Clone + Ord + core::fmt::Debug;

    /// The object that a call goes to. Each begins as the model that is given to the checker.
    fn key(call: &Self::Call) -> Self::Key;

    /// Does `call`, and says what it answers.
    fn apply(&mut self, call: &Self::Call) -> Self::Response;
}

/// A checker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<V> {
    /// What is promised holds.
    Holds,
    /// It does not, and this shows it.
    Violated(V),
    /// The work ran out before an answer was found. It says nothing for the store, nor against it.
    Unknown {
        /// How many applications of the model were allowed, and made.
        work: u64,
    },
}

impl<V: core::fmt::Display> Verdict<V> {
    /// For [`System::finished`](crate::System::finished).
    ///
    /// # Errors
    /// The violation in words. Running out of work is an error too: a check that silently gave up
    /// would be read as one that passed.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            Verdict::Holds => Ok(()),
            Verdict::Violated(violation) => Err(violation.to_string()),
            Verdict::Unknown { work } => Err(format!(
                "no verdict: {work} steps of the model did not decide it; check a shorter history, \
                 split it by key, or allow more work"
            )),
        }
    }
}
