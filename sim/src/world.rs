//! The simulated state: nodes, network, queue, trace. What the hooks of a [`System`] can reach.
//!
//! Everything here is plain data, cloned to fork a run. What also needs the system (steps of
//! machines, crashes, starts) is in [`run`](crate::run).

use core::hash::Hash;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_machine::{Effects, NodeId};

use crate::SimTime;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::network::{Fate, Network, REPLAY};
use crate::prng::{Rng, Span};
use crate::queue::{Due, Queue, Slab};
use crate::recording::{About, States};
use crate::run::{Failure, FailureKind, Outcome};
use crate::schedule::{Run, Topology};
use crate::system::{Command, Event, Message, Record, System};
use crate::trace::{Trace, What, Who};

/// Messages on their way at once; a run in which machines send more than that fails.
const IN_FLIGHT_MAX: usize = 1 << 20;
/// How long a message to oneself takes.
const SELF_SEND_US: u64 = 1;
/// Processes start somewhere within this time of the run's beginning.
pub(crate) const FIRST_START_US: Span = Span::new(0, 20_000);

/// An effect of a step, in the order in which the machine asked for them.
pub(crate) enum Effect<S: System> {
    Persist(Record<S>),
    Send(NodeId, Message<S>),
    SendNow(NodeId, Message<S>),
    Emit(Event<S>),
    EmitNow(Event<S>),
}

/// Collects a step's effects; used again for every step.
pub(crate) struct Sink<S: System>(pub(crate) Vec<Effect<S>>);

impl<S: System> Clone for Sink<S> {
    /// Between steps there is nothing in it.
    fn clone(&self) -> Sink<S> {
        assert!(self.0.is_empty(), "effects of a step outlived it");
        Sink(Vec::new())
    }
}

impl<S: System> Effects<S::Machine> for Sink<S> {
    fn persist(&mut self, record: Record<S>) {
        self.0.push(Effect::Persist(record));
    }
    fn send(&mut self, to: NodeId, message: Message<S>) {
        self.0.push(Effect::Send(to, message));
    }
    fn send_now(&mut self, to: NodeId, message: Message<S>) {
        self.0.push(Effect::SendNow(to, message));
    }
    fn emit(&mut self, event: Event<S>) {
        self.0.push(Effect::Emit(event));
    }
    fn emit_now(&mut self, event: Event<S>) {
        self.0.push(Effect::EmitNow(event));
    }
}

/// An effect that waits for the disk.
#[derive(Clone)]
pub(crate) enum Held<S: System> {
    Send(NodeId, Message<S>),
    Emit(Event<S>),
}

/// A crash that waits for unsynced writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambush {
    pub(crate) action: u32,
    /// Whether its moment has come and the crash is on its way.
    pub(crate) sprung: bool,
}

#[derive(Clone)]
pub(crate) struct Node<S: System> {
    pub(crate) id: NodeId,
    /// `None` while the process is down.
    pub(crate) machine: Option<S::Machine>,
    /// How often the process has died.
    pub(crate) life: u32,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk<Record<S>>,
    /// Effects with the log length that must be durable before they leave.
    pub(crate) held: VecDeque<(u64, Held<S>)>,
    /// When the earliest tick in the queue is due; `u64::MAX` for none.
    pub(crate) armed: u64,
    /// Inputs that came while the process was paused or busy.
    pub(crate) backlog: VecDeque<Due>,
    /// The process handles nothing before this time.
    pub(crate) blocked_until: u64,
    /// How long each step takes.
    pub(crate) step_us: u64,
    pub(crate) ambush: Option<Ambush>,
    pub(crate) entropy: Rng,
    pub(crate) rng: Rng,
}

/// Nodes by name: open addressing over the names' first bytes.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    slots: Vec<Option<(NodeId, u16)>>,
    mask: usize,
}

impl Table {
    fn new(ids: impl ExactSizeIterator<Item = NodeId>) -> Table {
        let size = (ids.len() * 4).next_power_of_two();
        let mut table = Table { slots: vec![None; size], mask: size - 1 };
        for (node, id) in ids.enumerate() {
            let mut slot = table.start(id);
            while let Some((other, _)) = table.slots[slot] {
                assert_ne!(other, id, "two nodes have the same name");
                slot = (slot + 1) & table.mask;
            }
            table.slots[slot] = Some((id, node as u16));
        }
        table
    }

    #[inline]
    fn start(&self, id: NodeId) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & self.mask
    }

    #[inline]
    pub(crate) fn index(&self, id: NodeId) -> Option<usize> {
        let mut slot = self.start(id);
        loop {
            let (found, node) = self.slots[slot]?;
            if found == id {
                return Some(usize::from(node));
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

/// What is counted over a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) duplicated: u64,
}

#[derive(Clone)]
pub(crate) struct World<S: System> {
    pub(crate) now: u64,
    pub(crate) steps: u64,
    pub(crate) nodes: Vec<Node<S>>,
    pub(crate) table: Table,
    pub(crate) network: Network,
    /// What would have arrived along clogged lanes, in order.
    pub(crate) clogged: BTreeMap<(usize, usize), Vec<Due>>,
    pub(crate) sync_us: Span,
    pub(crate) queue: Queue,
    pub(crate) messages: Slab<Message<S>>,
    pub(crate) commands: Slab<Command<S>>,
    pub(crate) sink: Sink<S>,
    pub(crate) trace: Trace,
    /// The nodes' states, if they are kept.
    pub(crate) states: Option<Box<States>>,
    pub(crate) counts: Counts,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) marks: RefCell<BTreeMap<&'static str, u64>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) excused: Option<String>,
    /// The nodes that were healed; `None` while faults go on.
    pub(crate) core: Option<Vec<usize>>,
    pub(crate) host_rng: Rng,
    /// Whose step or hook runs: whom a panic is put down to.
    pub(crate) acting: Option<usize>,
}

impl<S: System> World<S> {
    pub(crate) fn new(system: &S, run: &Run<S::Op>, record: bool) -> World<S> {
        let (seed, nodes) = (run.draws, system.nodes());
        assert!((1..usize::from(u16::MAX)).contains(&nodes), "{nodes} nodes: 1 to 65,534 can run");
        let node = |node: usize| {
            let stream = |purpose| Rng::stream(seed, purpose, node as u64);
            let mut rng = stream("node");
            Node {
                id: system.id(node),
                machine: None,
                life: 0,
                clock: Clock::new(
                    run.conditions.skew.get(node).copied().unwrap_or_default(),
                    &mut rng,
                ),
                disk: Disk::new(stream("disk"), stream("crash")),
                held: VecDeque::new(),
                armed: u64::MAX,
                backlog: VecDeque::new(),
                blocked_until: 0,
                step_us: 0,
                ambush: None,
                entropy: stream("entropy"),
                rng,
            }
        };
        // A list of pairs is looked up a million times among a thousand nodes.
        let listed: BTreeSet<(usize, usize)> = match &run.topology {
            Topology::Pairs(pairs) => pairs.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect(),
            _ => BTreeSet::new(),
        };
        let allows = |a: usize, b: usize| match &run.topology {
            Topology::Pairs(_) => listed.contains(&(a.min(b), a.max(b))),
            topology => topology.allows(nodes, a, b),
        };
        World {
            now: 0,
            steps: 0,
            nodes: (0..nodes).map(node).collect(),
            table: Table::new((0..nodes).map(|node| system.id(node))),
            network: Network::new(
                seed,
                nodes,
                allows,
                run.conditions.network,
                run.conditions.regions.clone().map(Arc::new),
            ),
            clogged: BTreeMap::new(),
            sync_us: run.conditions.sync_us,
            queue: Queue::default(),
            messages: Slab::new(),
            commands: Slab::new(),
            sink: Sink(Vec::new()),
            trace: Trace::new(seed, record),
            states: None,
            counts: Counts::default(),
            faults: BTreeMap::new(),
            marks: RefCell::default(),
            failure: None,
            excused: None,
            core: None,
            host_rng: Rng::stream(seed, "host", 0),
            acting: None,
        }
    }

    /// Draws everything from `seed` from now on.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.network.reseed(seed);
        self.host_rng = Rng::stream(seed, "host", 0);
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let stream = |purpose| Rng::stream(seed, purpose, index as u64);
            node.disk.reseed(stream("disk"), stream("crash"));
            node.entropy = stream("entropy");
            node.rng = stream("node");
        }
    }

    /// The run fails; the first failure stays.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    pub(crate) fn running(&self, node: usize) -> bool {
        self.nodes[node].machine.is_some()
    }

    /// A message leaves its node.
    #[inline]
    pub(crate) fn transmit(&mut self, system: &S, from: usize, to: NodeId, message: Message<S>) {
        message.hash(&mut self.trace.hasher);
        let Some(to) = self.table.index(to) else {
            self.counts.dropped += 1;
            let who = Who::node(from);
            self.trace.note(self.now, What::Drop, who, 0, || format!("unknown {to}: {message:?}"));
            return;
        };
        let who = Who::pair(from, to);
        self.trace.note(self.now, What::Send, who, 0, || format!("{message:?}"));
        self.counts.sent += 1;
        if self.messages.len() >= IN_FLIGHT_MAX {
            return self.flooded(from);
        }
        let (from16, to16) = (from as u16, to as u16);
        if from == to {
            let (epoch, slot) = (self.nodes[from].life, self.messages.insert(message));
            self.trace.lies_in(slot);
            let due = Due::Deliver { from: from16, to: to16, epoch, slot };
            self.queue.push(self.now + SELF_SEND_US, due);
            return;
        }
        let limited = self.network.conditions.bytes_per_ms > 0;
        let bytes = if limited { system.size(&message) as u64 } else { 0 };
        match self.network.send(from, to, self.now, bytes) {
            Fate::Dropped(why) => self.dropped(from, to, why, None),
            Fate::Arrives { epoch, at, again, replay } => {
                let copies =
                    [again.map(|again| (epoch, again)), replay.map(|at| (epoch | REPLAY, at))];
                if copies != [None; 2] {
                    self.repeat(from, to, &message, copies);
                }
                let slot = self.messages.insert(message);
                self.trace.lies_in(slot);
                self.queue.push(at, Due::Deliver { from: from16, to: to16, epoch, slot });
            }
        }
    }

    /// Further copies of a message, each with its epoch and its arrival.
    #[cold]
    fn repeat(
        &mut self,
        from: usize,
        to: usize,
        message: &Message<S>,
        copies: [Option<(u32, u64)>; 2],
    ) {
        for (epoch, at) in copies.into_iter().flatten() {
            self.counts.duplicated += 1;
            let who = Who::pair(from, to);
            self.trace.note_about(self.now, What::Duplicate, who, at, |in_flight| {
                (About::Message(in_flight.last()), String::new())
            });
            let slot = self.messages.insert(message.clone());
            self.trace.lies_in(slot);
            self.queue.push(at, Due::Deliver { from: from as u16, to: to as u16, epoch, slot });
        }
    }

    #[cold]
    fn flooded(&mut self, node: usize) {
        self.fail(Failure {
            step: self.steps,
            time: SimTime(self.now),
            node: Some(node),
            kind: FailureKind::Flood,
            reason: format!("{IN_FLIGHT_MAX} messages are on their way: the machines flood"),
        });
    }

    /// A message is lost: the one in `slot`, or the one that was just sent.
    pub(crate) fn dropped(&mut self, from: usize, to: usize, why: &'static str, slot: Option<u32>) {
        self.counts.dropped += 1;
        let (who, content) = (Who::pair(from, to), why.len() as u64);
        self.trace.note_about(self.now, What::Drop, who, content, |in_flight| {
            let sent = slot.map_or(in_flight.last(), |slot| in_flight.get(slot));
            (About::Message(sent), why.to_owned())
        });
    }

    /// Starts a sync of a node's disk if one is needed.
    #[inline]
    pub(crate) fn start_sync(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.machine.is_none() {
            return;
        }
        if let Some(takes) = state.disk.start_sync(self.sync_us) {
            let due = Due::Synced { node: node as u16, life: state.life };
            self.queue.push(self.now.saturating_add(takes), due);
        }
    }

    /// Puts the tick of a node's deadline into the queue, if none is there that is early enough.
    #[inline]
    pub(crate) fn arm(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(machine) = &state.machine else { return };
        let deadline = quorate_machine::Machine::deadline(machine);
        if let Some(at) = deadline.and_then(|deadline| state.clock.when(deadline)) {
            let at = at.max(self.now);
            if at < state.armed {
                state.armed = at;
                self.queue.push(at, Due::Tick { node: node as u16 });
            }
        }
    }

    /// The node handles nothing before `until`.
    pub(crate) fn block(&mut self, node: usize, until: u64) {
        let state = &mut self.nodes[node];
        if until > state.blocked_until {
            state.blocked_until = until;
            self.queue.push(until, Due::Wake { node: node as u16, life: state.life });
        }
    }

    /// Two nodes begin to connect if they can.
    pub(crate) fn connect(&mut self, a: usize, b: usize, after_us: Span) {
        if a != b
            && self.running(a)
            && self.running(b)
            && self.network.begin_connecting(a.min(b), a.max(b))
        {
            let at = self.now + self.network.draw(a.min(b), a.max(b), after_us);
            self.queue.push(at, Due::Connect { a: a.min(b) as u16, b: a.max(b) as u16 });
        }
    }

    /// The same with every other node.
    pub(crate) fn connect_all(&mut self, node: usize) {
        let after_us = self.network.conditions.connect_after_us;
        for peer in 0..self.nodes.len() {
            self.connect(node, peer, after_us);
        }
    }

    /// Two nodes have finished connecting.
    pub(crate) fn connected(&mut self, a: usize, b: usize) {
        let running = self.running(a) && self.running(b);
        let Some(epoch) = self.network.finish_connecting(a, b, running) else { return };
        let who = Who::pair(a, b);
        self.trace.note(self.now, What::Connect, who, u64::from(epoch), || epoch.to_string());
        for (node, peer) in [(a, b), (b, a)] {
            let at = self.now + self.network.latency(peer, node);
            self.link_due(at, node, peer, epoch, true);
        }
    }

    pub(crate) fn link_due(&mut self, at: u64, node: usize, peer: usize, epoch: u32, up: bool) {
        let (node, peer) = (node as u16, peer as u16);
        self.queue.push(at, Due::Link { node, peer, epoch, up });
    }

    /// News of the end of a link goes to `node`, if it can reach it.
    pub(crate) fn end_reaches(&mut self, node: usize, peer: usize) {
        let told = self.network.told(node, peer);
        if told == 0 {
            return;
        }
        if self.network.open(peer, node) {
            let at = self.now + self.network.latency(peer, node);
            self.link_due(at, node, peer, told, false);
        } else {
            self.may_notice(node, peer);
        }
    }

    /// `node` hears nothing from `peer` any more and is told so some time, or is not.
    pub(crate) fn may_notice(&mut self, node: usize, peer: usize) {
        let told = self.network.told(node, peer);
        if told != 0
            && let Some(after) = self.network.notice(node, peer)
        {
            self.link_due(self.now + after, node, peer, told, false);
        }
    }

    /// `node` closes its link to `peer`.
    pub(crate) fn disconnect(&mut self, node: usize, peer: usize) {
        let told = self.network.told(node, peer);
        let ended = self.network.end(node, peer);
        if told != 0 {
            self.link_due(self.now, node, peer, told, false);
        }
        if ended {
            self.end_reaches(peer, node);
        }
        self.connect(node, peer, self.network.conditions.reconnect_after_us);
    }

    pub(crate) fn outcome(&mut self, seed: u64) -> Outcome {
        Outcome {
            seed,
            trace_hash: self.trace.hash(),
            steps: self.steps,
            sent: self.counts.sent,
            delivered: self.counts.delivered,
            dropped: self.counts.dropped,
            duplicated: self.counts.duplicated,
            faults: std::mem::take(&mut self.faults),
            marks: self.marks.take(),
            time: SimTime(self.now),
            excused: self.excused.take(),
            result: self.failure.take().map_or(Ok(()), Err),
            trace: self.trace.recorded.take(),
            states: self.states.take().map(|states| *states),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_strangers_are_not() {
        let id = |n: u8| NodeId([n; 32]);
        let table = Table::new((0..100).map(id).collect::<Vec<_>>().into_iter());
        assert!((0..100).all(|n| table.index(id(n)) == Some(usize::from(n))));
        assert_eq!(table.index(id(100)), None);
    }
}
