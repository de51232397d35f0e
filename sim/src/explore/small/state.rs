//! A state of a small configuration, and the steps out of it.
//!
//! Nodes and messages are shared between states until a step changes them, and each carries its own
//! hash: a step costs one machine's clone, not the cluster's.

use core::hash::{Hash, Hasher};
use std::collections::VecDeque;
use std::sync::Arc;

use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time, WallTime};

use super::{Bounds, Small};
use crate::trace::TraceHasher;

type Message<S> = <<S as Small>::Machine as Machine>::Message;
type Record<S> = <<S as Small>::Machine as Machine>::Record;
type Command<S> = <<S as Small>::Machine as Machine>::Command;
type Event<S> = <<S as Small>::Machine as Machine>::Event;

/// A host may answer events with commands so many times in one step; more is going round in circles.
const COMMANDS_MAX: usize = 1_000;

/// One thing that can happen. Messages are numbered as they lie in their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The processes start.
    Begin,
    /// A client gives its next command.
    Give {
        /// To which node.
        node: u16,
    },
    /// A message arrives.
    Deliver {
        /// Which.
        message: u32,
    },
    /// A timer fires.
    Tick {
        /// Whose.
        node: u16,
    },
    /// A node's writes become durable.
    Sync {
        /// Whose.
        node: u16,
    },
    /// A message is lost.
    Drop {
        /// Which.
        message: u32,
    },
    /// A message arrives, and is on its way still.
    Duplicate {
        /// Which.
        message: u32,
    },
    /// A process dies and starts again.
    Crash {
        /// Whose.
        node: u16,
        /// How many records are left.
        keeps: u32,
    },
}

#[derive(Hash)]
enum Effect<M, R, E> {
    Persist(R),
    Send(NodeId, M),
    SendNow(NodeId, M),
    Emit(E),
    EmitNow(E),
}

impl<M: Clone, R: Clone, E: Clone> Clone for Effect<M, R, E> {
    fn clone(&self) -> Effect<M, R, E> {
        match self {
            Effect::Persist(record) => Effect::Persist(record.clone()),
            Effect::Send(to, message) => Effect::Send(*to, message.clone()),
            Effect::SendNow(to, message) => Effect::SendNow(*to, message.clone()),
            Effect::Emit(event) => Effect::Emit(event.clone()),
            Effect::EmitNow(event) => Effect::EmitNow(event.clone()),
        }
    }
}

type EffectOf<S> = Effect<Message<S>, Record<S>, Event<S>>;

struct Sink<S: Small>(Vec<EffectOf<S>>);

impl<S: Small> Effects<S::Machine> for Sink<S> {
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

struct Node<S: Small> {
    machine: S::Machine,
    log: Vec<Record<S>>,
    durable: usize,
    /// Effects with the length of the log that must be durable before they leave.
    held: VecDeque<(usize, EffectOf<S>)>,
    now: Time,
    /// How many of the script's commands were given.
    given: usize,
    hash: u64,
}

impl<S: Small> Clone for Node<S> {
    fn clone(&self) -> Node<S> {
        Node {
            machine: self.machine.clone(),
            log: self.log.clone(),
            held: self.held.clone(),
            ..*self
        }
    }
}

struct Flight<S: Small> {
    from: u16,
    to: u16,
    message: Message<S>,
    hash: u64,
}

/// A state: what an invariant is asked about.
pub struct State<S: Small> {
    /// What the host and the clients remember.
    pub system: S,
    nodes: Vec<Arc<Node<S>>>,
    flights: Vec<Arc<Flight<S>>>,
    /// What is left of the faults.
    left: Bounds,
    /// What the last step did, if it is to be told.
    told: Option<Vec<String>>,
}

impl<S: Small> Clone for State<S> {
    fn clone(&self) -> State<S> {
        State {
            system: self.system.clone(),
            nodes: self.nodes.clone(),
            flights: self.flights.clone(),
            left: self.left,
            told: self.told.clone(),
        }
    }
}

impl<S: Small> core::fmt::Debug for State<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<S: Small> State<S> {
    /// A node's machine.
    #[must_use]
    pub fn machine(&self, node: usize) -> &S::Machine {
        &self.nodes[node].machine
    }

    /// All machines, in the order of their nodes.
    pub fn machines(&self) -> impl Iterator<Item = &S::Machine> {
        self.nodes.iter().map(|node| &node.machine)
    }

    /// A node's log, and how many of its records are durable.
    #[must_use]
    pub fn log(&self, node: usize) -> (&[Record<S>], usize) {
        (&self.nodes[node].log, self.nodes[node].durable)
    }

    /// The messages on their way: from, to, content.
    pub fn in_flight(&self) -> impl Iterator<Item = (usize, usize, &Message<S>)> {
        self.flights.iter().map(|one| (one.from.into(), one.to.into(), &one.message))
    }

    pub(super) fn new(system: &S, bounds: Bounds, told: bool) -> State<S> {
        let node = |node| {
            let (log, held) = (Vec::new(), VecDeque::new());
            let machine = system.boot(node);
            let now = Time::ZERO;
            Arc::new(Node { machine, log, durable: 0, held, now, given: 0, hash: 0 })
        };
        let mut state = State {
            system: system.clone(),
            nodes: (0..system.nodes()).map(node).collect(),
            flights: Vec::new(),
            left: bounds,
            told: told.then(Vec::new),
        };
        for node in 0..state.nodes.len() {
            state.step(node, Input::Start);
        }
        for node in 0..state.nodes.len() {
            state.link_all(node);
        }
        for node in 0..state.nodes.len() {
            state.hash_node(node);
        }
        state.told();
        state
    }

    /// What the last step did, in words.
    pub(super) fn told(&mut self) -> Vec<String> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(what());
        }
    }

    /// The same for states with the same future. Messages have no order, unless lanes do.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = TraceHasher::new(0);
        self.system.hash(&mut hasher);
        self.left.hash(&mut hasher);
        self.nodes.iter().for_each(|node| hasher.write_u64(node.hash));
        let mut sum = 0u64;
        for (at, flight) in self.flights.iter().enumerate() {
            let place = if self.left.ordered { self.before_in_lane(at) } else { 0 };
            let mut hasher = TraceHasher::new(place);
            hasher.write_u64(flight.hash);
            sum = sum.wrapping_add(hasher.finish());
        }
        hasher.write_u64(sum);
        hasher.finish()
    }

    fn before_in_lane(&self, at: usize) -> u64 {
        let lane = |one: &Flight<S>| (one.from, one.to);
        let this = lane(&self.flights[at]);
        self.flights[..at].iter().filter(|one| lane(one) == this).count() as u64
    }

    fn hash_node(&mut self, at: usize) {
        let mut hasher = TraceHasher::new(1);
        let node = &self.nodes[at];
        self.system.digest(&node.machine, &mut hasher);
        (&node.log, node.durable, &node.held, node.now, node.given).hash(&mut hasher);
        Arc::make_mut(&mut self.nodes[at]).hash = hasher.finish();
    }

    /// All that can happen next; what comes to the same is there once.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (node, state) in (0u16..).zip(&self.nodes) {
            if state.given < self.system.script(node.into()).len() {
                choices.push(Choice::Give { node });
            }
            if state.durable < state.log.len() {
                choices.push(Choice::Sync { node });
            }
            if self.left.ticks > 0 && state.machine.deadline().is_some() {
                choices.push(Choice::Tick { node });
            }
            if self.left.crashes > 0 {
                let keeps = state.durable as u32..=state.log.len() as u32;
                choices.extend(keeps.map(|keeps| Choice::Crash { node, keeps }));
            }
        }
        for (at, flight) in self.flights.iter().enumerate() {
            let message = at as u32;
            let known = self.flights[..at].iter().any(|one| one.hash == flight.hash);
            if known || self.left.ordered && self.before_in_lane(at) > 0 {
                continue;
            }
            choices.push(Choice::Deliver { message });
            if self.left.drops > 0 {
                choices.push(Choice::Drop { message });
            }
            if self.left.duplicates > 0 {
                choices.push(Choice::Duplicate { message });
            }
        }
        choices
    }

    /// Whether nothing but faults can happen, now or with more ticks.
    pub(super) fn quiet(&self, choices: &[Choice]) -> bool {
        let fault = |choice: &Choice| matches!(choice, Choice::Crash { .. });
        choices.iter().all(fault) && self.machines().all(|machine| machine.deadline().is_none())
    }

    /// A choice in words, before it is taken.
    pub(super) fn describe(&self, choice: Choice) -> String {
        let message = |message: u32| {
            let Flight { from, to, message, .. } = &*self.flights[message as usize];
            format!("{message:?} from node {from} to node {to}")
        };
        match choice {
            Choice::Begin => "the processes start".to_owned(),
            Choice::Give { node } => {
                let node = usize::from(node);
                let next = self.nodes[node].given;
                format!("node {node} is asked {:?}", self.system.script(node)[next])
            }
            Choice::Deliver { message: one } => format!("{} arrives", message(one)),
            Choice::Tick { node } => format!("the timer of node {node} fires"),
            Choice::Sync { node } => format!("the disk of node {node} syncs"),
            Choice::Drop { message: one } => format!("{} is lost", message(one)),
            Choice::Duplicate { message: one } => {
                format!("{} arrives, and is still on its way", message(one))
            }
            Choice::Crash { node, keeps } => {
                let Node { log, durable, .. } = &*self.nodes[usize::from(node)];
                format!(
                    "node {node} dies and starts again with {keeps} of {} records ({durable} \
                     durable)",
                    log.len()
                )
            }
        }
    }

    /// Lets a choice of [`choices`](Self::choices) happen.
    pub(super) fn take(&mut self, choice: Choice) -> Result<(), String> {
        let node = match choice {
            Choice::Begin => return Ok(()),
            Choice::Drop { message } => {
                self.flights.remove(message as usize);
                self.left.drops -= 1;
                return Ok(());
            }
            Choice::Give { node } => {
                let node = usize::from(node);
                let state = Arc::make_mut(&mut self.nodes[node]);
                state.given += 1;
                let command = self.system.script(node).swap_remove(state.given - 1);
                self.step(node, Input::Command(command));
                node
            }
            Choice::Deliver { message } => {
                let flight = self.flights.remove(message as usize);
                self.deliver(&flight)
            }
            Choice::Duplicate { message } => {
                self.left.duplicates -= 1;
                let flight = self.flights[message as usize].clone();
                self.deliver(&flight)
            }
            Choice::Tick { node } => {
                self.left.ticks -= 1;
                self.tick(node.into())?
            }
            Choice::Sync { node } => self.sync(node.into()),
            Choice::Crash { node, keeps } => {
                self.left.crashes -= 1;
                self.crash(node.into(), keeps as usize);
                // Its peers made steps too.
                (0..self.nodes.len()).for_each(|node| self.hash_node(node));
                return Ok(());
            }
        };
        self.hash_node(node);
        Ok(())
    }

    fn deliver(&mut self, flight: &Flight<S>) -> usize {
        let (from, to) = (self.system.id(flight.from.into()), usize::from(flight.to));
        self.step(to, Input::Message { from, message: flight.message.clone() });
        to
    }

    fn tick(&mut self, node: usize) -> Result<usize, String> {
        let state = Arc::make_mut(&mut self.nodes[node]);
        let deadline = state.machine.deadline().ok_or("no timer is set")?;
        state.now = state.now.max(deadline);
        let now = state.now;
        self.step(node, Input::Tick);
        match self.nodes[node].machine.deadline() {
            Some(deadline) if deadline <= now => Err(format!(
                "the deadline {deadline:?} of node {node} did not move past now, {now:?}"
            )),
            _ => Ok(node),
        }
    }

    fn sync(&mut self, node: usize) -> usize {
        let state = Arc::make_mut(&mut self.nodes[node]);
        state.durable = state.log.len();
        let released: Vec<_> = state.held.drain(..).map(|(_, effect)| effect).collect();
        let commands = self.carry_out(node, released);
        self.obey(node, commands);
        node
    }

    fn crash(&mut self, node: usize, keeps: usize) {
        let mut machine = self.system.boot(node);
        let state = Arc::make_mut(&mut self.nodes[node]);
        state.log.truncate(keeps);
        state.log.iter().for_each(|record| machine.restore(record.clone()));
        state.machine = machine;
        state.durable = keeps;
        state.held.clear();
        if !self.left.stale {
            let dead = node as u16;
            self.flights.retain(|flight| flight.from != dead && flight.to != dead);
        }
        self.system.crashed(node);
        self.step(node, Input::Start);
        self.link_all(node);
        let id = self.system.id(node);
        for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
            self.step(peer, Input::Link { peer: id, up: false });
            self.step(peer, Input::Link { peer: id, up: true });
        }
    }

    /// Tells a node that its links to all others are up.
    fn link_all(&mut self, node: usize) {
        for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
            let peer = self.system.id(peer);
            self.step(node, Input::Link { peer, up: true });
        }
    }

    /// A step of a machine, and of what its host answers.
    fn step(&mut self, node: usize, input: Input<S::Machine>) {
        let commands = self.handle(node, input);
        self.obey(node, commands);
    }

    fn obey(&mut self, node: usize, commands: Vec<Command<S>>) {
        let mut commands = VecDeque::from(commands);
        for _ in 0..COMMANDS_MAX {
            let Some(command) = commands.pop_front() else { return };
            commands.extend(self.handle(node, Input::Command(command)));
        }
        panic!("the host answered with more than {COMMANDS_MAX} commands in one step");
    }

    fn handle(&mut self, node: usize, input: Input<S::Machine>) -> Vec<Command<S>> {
        let me = self.system.id(node);
        let state = Arc::make_mut(&mut self.nodes[node]);
        let cx = Cx { me, now: state.now, wall: WallTime(state.now.0 / 1_000), entropy: 0 };
        let mut sink: Sink<S> = Sink(Vec::new());
        state.machine.handle(cx, input, &mut sink);
        state.machine.check();
        self.carry_out(node, sink.0)
    }

    fn carry_out(&mut self, node: usize, effects: Vec<EffectOf<S>>) -> Vec<Command<S>> {
        let mut commands = Vec::new();
        for effect in effects {
            let state = Arc::make_mut(&mut self.nodes[node]);
            let written = state.log.len();
            let durable = written == state.durable;
            match effect {
                Effect::Persist(record) => {
                    self.tell(|| format!("node {node} writes {record:?}"));
                    Arc::make_mut(&mut self.nodes[node]).log.push(record);
                }
                Effect::SendNow(to, message) => self.send(node, to, message),
                Effect::Send(to, message) if durable => self.send(node, to, message),
                Effect::EmitNow(event) => {
                    self.tell(|| format!("node {node} tells {event:?} at once"));
                    commands.extend(self.system.event(node, event));
                }
                Effect::Emit(event) if durable => {
                    self.tell(|| format!("node {node} tells {event:?}"));
                    commands.extend(self.system.event(node, event));
                }
                waits => state.held.push_back((written, waits)),
            }
        }
        commands
    }

    fn send(&mut self, node: usize, to: NodeId, message: Message<S>) {
        let Some(peer) = (0..self.nodes.len()).find(|&peer| self.system.id(peer) == to) else {
            return;
        };
        self.tell(|| format!("node {node} sends {message:?} to node {peer}"));
        let (from, to) = (node as u16, peer as u16);
        let mut hasher = TraceHasher::new(2);
        (from, to, &message).hash(&mut hasher);
        let hash = hasher.finish();
        self.flights.push(Arc::new(Flight { from, to, message, hash }));
    }
}
