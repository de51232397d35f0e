//! What a recording knows beyond the events' text: which message, which fault, which state.
//!
//! All of it is kept only of runs that are recorded; the trace's hash has nothing to do with it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::schedule::Fault;
use crate::trace::What;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing but its node.
    Nothing,
    /// A message, by the number of the event that sent it.
    Message(u64),
    /// A fault that begins or ends.
    Fault(Box<Fault>),
    /// The nodes that are healed.
    Nodes(Vec<usize>),
}

/// The recorded messages on their way: which send put each slot's message there.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    sent: Vec<u64>,
    last: u64,
    step: u64,
}

impl InFlight {
    pub(crate) fn noted(&mut self, number: u64, what: What) {
        match what {
            What::Send => self.last = number,
            what if what.begins_step() => self.step = number,
            _ => {}
        }
    }

    /// The last message sent lies in `slot`.
    #[cold]
    pub(crate) fn put(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.sent.len() <= slot {
            self.sent.resize(slot + 1, 0);
        }
        self.sent[slot] = self.last;
    }

    pub(crate) fn get(&self, slot: u32) -> u64 {
        self.sent[slot as usize]
    }

    /// The send noted last.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The event noted last that began a step.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }
}

impl What {
    /// Whether it is an input that a machine handles: one step.
    #[must_use]
    pub fn begins_step(self) -> bool {
        use What::{Command, Deliver, Link, Start, Tick};
        matches!(self, Deliver | Tick | Command | Link | Start)
    }
}

/// How much text of states is kept, in bytes; a text counts once however often it comes back.
pub const STATE_TEXT_MAX: usize = 4 << 20;
/// How many changes of states are kept.
pub const STATE_CHANGES_MAX: usize = 400_000;

/// A line of a node's state became another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The number of the event that began the step.
    pub event: u64,
    /// Where.
    pub node: usize,
    /// The line's label, in [`States::labels`].
    pub label: usize,
    /// Its value from now on, in [`States::values`]; `None` if there is no such line any more.
    pub value: Option<usize>,
}

/// The states of the nodes over a run, as the lines that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// The labels, each once, in the order in which they first came.
    pub labels: Vec<&'static str>,
    /// The values, each once.
    pub values: Vec<String>,
    /// What changed, in the order of the events.
    pub changes: Vec<StateChange>,
    /// The first event whose step was not kept because there was too much; see
    /// [`STATE_TEXT_MAX`] and [`STATE_CHANGES_MAX`].
    pub ended: Option<u64>,
    /// The lines of now, by node and label.
    now: BTreeMap<(usize, usize), usize>,
    numbers: BTreeMap<String, usize>,
    text: usize,
}

impl States {
    /// Keeps what changed since the last step of `node`.
    pub(crate) fn keep(&mut self, event: u64, node: usize, lines: &[(&'static str, String)]) {
        if self.ended.is_some() {
            return;
        }
        if self.text >= STATE_TEXT_MAX || self.changes.len() >= STATE_CHANGES_MAX {
            self.ended = Some(event);
            return;
        }
        let mut gone: Vec<usize> =
            self.now.range((node, 0)..(node + 1, 0)).map(|(&(_, label), _)| label).collect();
        for (label, value) in lines {
            let (label, value) = (self.label(label), self.value(value));
            gone.retain(|other| *other != label);
            if self.now.insert((node, label), value) != Some(value) {
                self.changes.push(StateChange { event, node, label, value: Some(value) });
            }
        }
        for label in gone {
            self.now.remove(&(node, label));
            self.changes.push(StateChange { event, node, label, value: None });
        }
    }

    fn label(&mut self, label: &'static str) -> usize {
        self.labels.iter().position(|known| *known == label).unwrap_or_else(|| {
            self.labels.push(label);
            self.labels.len() - 1
        })
    }

    fn value(&mut self, value: &str) -> usize {
        match self.numbers.entry(value.to_owned()) {
            Entry::Occupied(number) => *number.get(),
            Entry::Vacant(number) => {
                self.text += value.len();
                self.values.push(value.to_owned());
                *number.insert(self.values.len() - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_kept() {
        let mut states = States::default();
        let lines = |a: &str, b: &str| vec![("a", a.to_owned()), ("b", b.to_owned())];
        states.keep(1, 0, &lines("x", "y"));
        states.keep(2, 1, &lines("y", "y"));
        states.keep(3, 0, &lines("x", "z"));
        states.keep(4, 0, &lines("x", "z"));
        states.keep(5, 0, &lines("x", "z")[..1]);
        assert_eq!((states.labels.len(), states.values.len()), (2, 3));
        let change = |event, node, label, value| StateChange { event, node, label, value };
        let kept = [
            change(1, 0, 0, Some(0)),
            change(1, 0, 1, Some(1)),
            change(2, 1, 0, Some(1)),
            change(2, 1, 1, Some(1)),
            change(3, 0, 1, Some(2)),
            change(5, 0, 1, None),
        ];
        assert_eq!(states.changes, kept);
    }

    #[test]
    fn too_much_text_ends_it() {
        let mut states = States::default();
        states.keep(1, 0, &[("a", "x".repeat(STATE_TEXT_MAX))]);
        states.keep(2, 0, &[("a", "y".to_owned())]);
        states.keep(3, 0, &[("a", "z".to_owned())]);
        assert_eq!((states.changes.len(), states.ended), (1, Some(2)));
    }
}
