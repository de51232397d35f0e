//! Going back and forth in a run of any system.

use std::ops::Range;

use quorate_sim::cursor::Place;
use quorate_sim::trace::TraceEvent;
use quorate_sim::{Cursor, Failure, System};

use crate::replay::describe;

/// A run that can be stopped anywhere and turned back: see [`Cursor`], whose methods these are.
pub trait Walk {
    /// Where it stands.
    fn place(&self) -> Place;
    /// Goes to where the machines have just made `step` steps.
    fn seek(&mut self, step: u64);
    /// Goes on by `steps` steps.
    fn forward(&mut self, steps: u64);
    /// Goes back by `steps` steps.
    fn back(&mut self, steps: u64);
    /// Goes on until `node` has made its next step; whether it did before the end.
    fn next_at(&mut self, node: usize) -> bool;
    /// Goes to the end.
    fn finish(&mut self);
    /// The events of these numbers.
    fn events(&self, numbers: Range<u64>) -> Vec<TraceEvent>;
    /// How many nodes there are.
    fn nodes(&self) -> usize;
    /// How a node stands, in a few lines.
    fn describe(&self, node: usize) -> String;
    /// The hash of all that has happened.
    fn trace_hash(&self) -> u64;
    /// How it failed, if it has.
    fn failure(&self) -> Option<&Failure>;
    /// Whether it is at its end.
    fn done(&self) -> bool;
}

impl<S: System> Walk for Cursor<S> {
    fn place(&self) -> Place {
        self.place()
    }
    fn seek(&mut self, step: u64) {
        self.seek(step);
    }
    fn forward(&mut self, steps: u64) {
        self.forward(steps);
    }
    fn back(&mut self, steps: u64) {
        self.back(steps);
    }
    fn next_at(&mut self, node: usize) -> bool {
        self.next_at(node)
    }
    fn finish(&mut self) {
        self.finish();
    }
    fn events(&self, numbers: Range<u64>) -> Vec<TraceEvent> {
        self.events(numbers)
    }
    fn nodes(&self) -> usize {
        self.view().nodes()
    }
    fn describe(&self, node: usize) -> String {
        describe(self.sim(), node)
    }
    fn trace_hash(&self) -> u64 {
        self.sim().trace_hash()
    }
    fn failure(&self) -> Option<&Failure> {
        self.sim().failure()
    }
    fn done(&self) -> bool {
        self.sim().done()
    }
}
