//! A replicated register: the majority's, as Attiya, Bar-Noy and Dolev have it (*Sharing memory
//! robustly in message-passing systems*, 1995); and one that leaves something out.
//!
//! A write asks a majority for the latest tag, and stores its value under a higher one at a
//! majority. A read asks a majority for the latest value and *writes it back* to a majority before
//! it answers: otherwise a later read may ask others and see an older value. Tags and values are
//! durable before they are acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_sim::check::linear::{self, Call, Register, Response};
use quorate_sim::check::revision::{self, Place};
use quorate_sim::check::{History, OpId, Operation, Verdict};
use quorate_sim::{HostCx, Loss, Rng, SimTime, System, View};

/// What orders writes: a counter, and the writer and operation that break ties.
pub type Tag = (u64, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Query(u32),
    Latest(u32, Tag, u64),
    Store(u32, Tag, u64),
    Stored(u32),
}

/// An operation, by its number; a value to write or nothing to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask(pub u32, pub Option<u64>);

/// The operation is done: the tag and the value that it wrote or read.
pub type Done = (u32, Tag, u64);

#[derive(Clone)]
struct Under {
    write: Option<u64>,
    /// What is stored once the latest is known.
    storing: Option<(Tag, u64)>,
    latest: (Tag, u64),
    answered: BTreeSet<NodeId>,
}

#[derive(Clone)]
pub struct Replica {
    pub peers: Vec<NodeId>,
    /// Reads do not write back.
    pub forgetful: bool,
    latest: (Tag, u64),
    under: BTreeMap<u32, Under>,
}

impl Replica {
    fn tell_all(&self, word: Word, fx: &mut dyn Effects<Self>) {
        self.peers.iter().for_each(|&peer| fx.send(peer, word));
    }

    fn answered(&mut self, op: u32, from: NodeId, fx: &mut dyn Effects<Self>) {
        let majority = self.peers.len() / 2 + 1;
        let Some(under) = self.under.get_mut(&op) else { return };
        under.answered.insert(from);
        if under.answered.len() < majority {
            return;
        }
        under.answered.clear();
        let done = match (under.storing, under.write) {
            (Some(stored), _) => Some(stored),
            (None, None) if self.forgetful => Some(under.latest),
            (None, write) => {
                let ((counter, _), _) = under.latest;
                let stored = write.map_or(under.latest, |value| ((counter + 1, op), value));
                under.storing = Some(stored);
                self.tell_all(Word::Store(op, stored.0, stored.1), fx);
                None
            }
        };
        if let Some((tag, value)) = done {
            self.under.remove(&op);
            fx.emit((op, tag, value));
        }
    }
}

impl Machine for Replica {
    type Message = Word;
    type Record = (Tag, u64);
    type Command = Ask;
    type Event = Done;

    fn restore(&mut self, latest: (Tag, u64)) {
        self.latest = latest;
    }

    fn handle(&mut self, _: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Command(Ask(op, write)) => {
                let (latest, answered) = (((0, 0), 0), BTreeSet::new());
                self.under.insert(op, Under { write, storing: None, latest, answered });
                self.tell_all(Word::Query(op), fx);
            }
            Input::Message { from, message: Word::Query(op) } => {
                fx.send(from, Word::Latest(op, self.latest.0, self.latest.1));
            }
            Input::Message { from, message: Word::Store(op, tag, value) } => {
                if tag > self.latest.0 {
                    self.latest = (tag, value);
                    fx.persist(self.latest);
                }
                fx.send(from, Word::Stored(op));
            }
            Input::Message { from, message: Word::Latest(op, tag, value) } => {
                if let Some(under) = self.under.get_mut(&op)
                    && under.storing.is_none()
                {
                    under.latest = under.latest.max((tag, value));
                    self.answered(op, from, fx);
                }
            }
            Input::Message { from, message: Word::Stored(op) }
                if self.under.get(&op).is_some_and(|under| under.storing.is_some()) =>
            {
                self.answered(op, from, fx);
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// A cluster of replicas and its clients, who write down what they ask and are answered.
#[derive(Clone)]
pub struct Registers {
    pub nodes: usize,
    pub forgetful: bool,
    history: History<Call<(), u64>, Response<u64>>,
    tags: BTreeMap<OpId, Tag>,
    /// Which node is at which operation.
    waiting: BTreeMap<u32, (usize, Option<u64>)>,
}

impl Registers {
    pub fn new(nodes: usize, forgetful: bool) -> Registers {
        let (tags, waiting) = (BTreeMap::new(), BTreeMap::new());
        Registers { nodes, forgetful, history: History::new(), tags, waiting }
    }
}

impl System for Registers {
    type Machine = Replica;
    type Op = Option<u64>;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, _: usize) -> Replica {
        Replica {
            peers: (0..self.nodes).map(|peer| self.id(peer)).collect(),
            forgetful: self.forgetful,
            latest: ((0, 0), 0),
            under: BTreeMap::new(),
        }
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, Option<u64>)> {
        let op = |n: u64| {
            let write = (rng.below(2) == 0).then_some(n + 1);
            (SimTime(rng.below(active.0)), rng.below(self.nodes as u64) as usize, write)
        };
        (0..60).map(op).collect()
    }

    fn op(&mut self, node: usize, write: Option<u64>, cx: &mut HostCx<'_, Self>) {
        let call = write.map_or(Call::Read(()), |value| Call::Write((), value));
        let id = self.history.invoke(node as u64, node, cx.now(), call);
        if cx.command(Ask(id.0, write)) {
            self.waiting.insert(id.0, (node, write));
        } else {
            self.history.fail(id, cx.now());
        }
    }

    fn event(&mut self, _: usize, (op, tag, value): Done, cx: &mut HostCx<'_, Self>) {
        let Some((_, write)) = self.waiting.remove(&op) else { return };
        let read = Response::Value((value > 0).then_some(value));
        let response = if write.is_some() { Response::Done } else { read };
        self.tags.insert(OpId(op), tag);
        self.history.answer(OpId(op), cx.now(), response);
    }

    /// What the node was at is open for ever: nobody will answer, and it may have been done.
    fn crashed(&mut self, node: usize, _: Loss, cx: &mut HostCx<'_, Self>) {
        let before = self.waiting.len();
        self.waiting.retain(|_, (at, _)| *at != node);
        if self.waiting.len() < before {
            cx.mark("an operation stays open");
        }
    }

    fn finished(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let (start, work_max) = (Register::default(), 200_000);
        let place = |op: &Operation<_, _>, _: &_| {
            let (counter, writer) = self.tags[&op.id];
            let wrote = matches!(op.call, Call::Write(..));
            Place { revision: counter << 32 | u64::from(writer), wrote }
        };
        let by_tags = revision::check(&start, &self.history, place, work_max).into_result();
        let by_search = match linear::check(&start, &self.history, work_max) {
            // Many operations open for long: the tags must decide alone.
            Verdict::Unknown { .. } => {
                view.mark("the search gave up");
                return by_tags;
            }
            verdict => verdict.into_result(),
        };
        match (by_search, by_tags) {
            (Err(search), Ok(())) => Err(format!("the checkers disagree: {search}")),
            (Err(search), Err(tags)) => Err(format!("{search}\nby tags: {tags}")),
            // Reads that went back in time, but by values that no other read denies.
            (Ok(()), Err(tags)) => Err(format!("only by tags: {tags}")),
            (Ok(()), Ok(())) => Ok(()),
        }
    }
}
