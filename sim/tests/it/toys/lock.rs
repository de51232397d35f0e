//! A lock that one node hands out, durably, to the others.

use core::hash::Hash;
use std::collections::VecDeque;

use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_sim::explore::small::{Small, State};
use quorate_sim::trace::TraceHasher;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Request,
    Grant,
    Release,
}

/// Who got the lock; nobody, once it was given back.
pub type Holder = Option<NodeId>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Lock,
    Unlock,
}

/// Node 0 hands out; the others ask.
#[derive(Clone, Hash)]
pub struct Locker {
    /// A grant is sent before it is durable.
    hasty: bool,
    server: NodeId,
    holder: Holder,
    waiting: VecDeque<NodeId>,
    pub holds: bool,
}

impl Locker {
    fn give(&mut self, fx: &mut dyn Effects<Self>) {
        if self.holder.is_some() {
            return;
        }
        let Some(next) = self.waiting.pop_front() else { return };
        self.holder = Some(next);
        fx.persist(self.holder);
        if self.hasty {
            fx.send_now(next, Word::Grant);
        } else {
            fx.send(next, Word::Grant);
        }
    }
}

impl Machine for Locker {
    type Message = Word;
    type Record = Holder;
    type Command = Ask;
    type Event = bool;

    fn restore(&mut self, holder: Holder) {
        self.holder = holder;
    }

    fn handle(&mut self, _: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Command(Ask::Lock) => fx.send(self.server, Word::Request),
            Input::Command(Ask::Unlock) if self.holds => {
                self.holds = false;
                fx.send(self.server, Word::Release);
            }
            Input::Message { from, message: Word::Request } => {
                self.waiting.push_back(from);
                self.give(fx);
            }
            Input::Message { message: Word::Grant, .. } => {
                self.holds = true;
                fx.emit(true);
            }
            Input::Message { from, message: Word::Release } if self.holder == Some(from) => {
                self.holder = None;
                fx.persist(None);
                self.give(fx);
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// A server and its clients, each of which locks once, and unlocks once it has the lock.
#[derive(Clone, Hash)]
pub struct Locks {
    pub clients: usize,
    pub hasty: bool,
    /// Whether a client gives the lock back.
    pub polite: bool,
}

impl Small for Locks {
    type Machine = Locker;

    fn nodes(&self) -> usize {
        1 + self.clients
    }

    fn boot(&self, _: usize) -> Locker {
        let (holder, waiting) = (None, VecDeque::new());
        Locker { hasty: self.hasty, server: self.id(0), holder, waiting, holds: false }
    }

    fn digest(&self, machine: &Locker, hasher: &mut TraceHasher) {
        machine.hash(hasher);
    }

    fn script(&self, node: usize) -> Vec<Ask> {
        match (node, self.polite) {
            (0, _) => vec![],
            (_, true) => vec![Ask::Lock, Ask::Unlock],
            (_, false) => vec![Ask::Lock],
        }
    }

    fn invariant(&self, state: &State<Locks>) -> Result<(), String> {
        let holders: Vec<usize> = (1..=self.clients).filter(|&n| state.machine(n).holds).collect();
        if holders.len() > 1 { Err(format!("{holders:?} hold the lock")) } else { Ok(()) }
    }
}
