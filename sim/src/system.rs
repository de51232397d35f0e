//! What the author of a scenario writes: a [`System`], and what it can see and do.
//!
//! The simulator knows machines only by their trait. Everything particular (which machine to boot,
//! what a client does, what the host makes of an event, what must hold) comes through these hooks.
//! A system is part of the simulated state: it is cloned with the run and must not reach outside
//! it, and its own collections must be ordered ones.

use core::fmt::{self, Debug};
use core::hash::Hash;

use quorate_machine::{Machine, NodeId, Time, WallTime};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::SimTime;
use crate::disk::{Log, Loss};
use crate::prng::Rng;
use crate::queue::Due;
use crate::run::{Failure, FailureKind};
use crate::trace::{What, Who};
use crate::world::World;

/// The message type of a system's machine.
pub type Message<S> = <<S as System>::Machine as Machine>::Message;
/// The record type of a system's machine.
pub type Record<S> = <<S as System>::Machine as Machine>::Record;
/// The command type of a system's machine.
pub type Command<S> = <<S as System>::Machine as Machine>::Command;
/// The event type of a system's machine.
pub type Event<S> = <<S as System>::Machine as Machine>::Event;

/// A cluster under test: its machines, its host, its clients and its invariants. Nodes are numbers
/// from 0. Every hook may panic: that is a failure of the run with the panic's message.
pub trait System: Clone {
    /// The machine under test.
    type Machine: Machine<
            Message: Debug + Hash,
            Record: Debug + Hash,
            Command: Clone + Debug + Hash,
            Event: Clone + Debug + Hash,
        >;
    /// An explicit operation of the workload, such as "put k v at node 2".
    type Op: Clone + Debug + Hash + Serialize + DeserializeOwned;

    /// How many nodes there are; from 1 to 65,534, the same throughout a run.
    fn nodes(&self) -> usize;

    /// A node's name. Names must differ; by default the number, big-endian, in the first bytes.
    fn id(&self, node: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(node as u64).to_be_bytes());
        NodeId(id)
    }

    /// A fresh machine, before any record is restored.
    fn boot(&self, node: usize) -> Self::Machine;

    /// The workload of a run: operations with their times and nodes, all up to `active`.
    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, Self::Op)> {
        let _ = (rng, active);
        Vec::new()
    }

    /// A client does `op` at `node`, whether it runs or not.
    fn op(&mut self, node: usize, op: Self::Op, cx: &mut HostCx<'_, Self>) {
        let _ = (node, op, cx);
    }

    /// `node` emitted `event`; every record it persisted before is durable.
    fn event(&mut self, node: usize, event: Event<Self>, cx: &mut HostCx<'_, Self>) {
        let _ = (node, event, cx);
    }

    /// `node` died and its disk lost `loss`. The log is already cut.
    fn crashed(&mut self, node: usize, loss: Loss, cx: &mut HostCx<'_, Self>) {
        let _ = (node, loss, cx);
    }

    /// `node` is up: every record is restored and [`Input::Start`](quorate_machine::Input) is
    /// what it handles next. Called at the first start too.
    fn restarted(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        let _ = (node, cx);
    }

    /// What bit rot makes of a durable record; `None` if nothing can happen to this one.
    fn rot(&self, record: &Record<Self>, entropy: u64) -> Option<Record<Self>> {
        let _ = (record, entropy);
        None
    }

    /// Which record this is a copy of, as a number that is the same at every node: see
    /// [`Atlas`](crate::Atlas). By default the position, which is right where every node writes the
    /// same log.
    fn copy(&self, position: u64, record: &Record<Self>) -> u64 {
        let _ = record;
        position
    }

    /// What the machine gets of a message that was corrupted on its way; `None` if the transport's
    /// checksum finds it: then the message is lost and the link breaks.
    fn corrupt(&self, message: &Message<Self>, entropy: u64) -> Option<Message<Self>> {
        let _ = (message, entropy);
        None
    }

    /// How many bytes a message takes on the wire, where bandwidth is limited.
    fn size(&self, message: &Message<Self>) -> usize {
        let _ = message;
        0
    }

    /// A node's state in lines of a label and a value, for the picture of a run: asked after each
    /// of its steps when states are kept. The labels of a node must differ.
    fn describe(&self, node: usize, view: &View<'_, Self>) -> Vec<(&'static str, String)> {
        let _ = (node, view);
        Vec::new()
    }

    /// Which nodes are healed when the faults stop, such as a random quorum; the others stay as
    /// they are, dead, paused or cut off, and no fault goes on anywhere. `None` heals all.
    fn core(&mut self, rng: &mut Rng) -> Option<Vec<usize>> {
        let _ = rng;
        None
    }

    /// Asks whether the cluster can do without `node`, which will never start. A system that says
    /// yes expects nothing of it from then on. Called before the first event, if at all: this is
    /// how a failing run is made smaller by whole nodes.
    fn leave_out(&mut self, node: usize) -> bool {
        let _ = node;
        false
    }

    /// Operations that do less than `op` and might do in its place, the simplest first: what a
    /// failing run is made smaller by. None of them may lead back to `op`.
    fn simpler(&self, op: &Self::Op) -> Vec<Self::Op> {
        let _ = op;
        Vec::new()
    }

    /// What must hold after every step; `node` just made one.
    ///
    /// # Errors
    /// What does not hold. The run fails with it.
    fn invariant(&mut self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
        let _ = (node, view);
        Ok(())
    }

    /// Whether the healed cluster has done all that it must; asked until it has.
    ///
    /// # Errors
    /// What is still missing. The run fails with the last answer if it never converges.
    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }

    /// Why a run that did not converge in time is no failure, if there is a reason: what was taken
    /// from it leaves nothing to recover from, for example. Excused runs are counted, with their
    /// reasons: an excuse that is always good tests nothing.
    fn excuse(&self, view: &View<'_, Self>) -> Option<String> {
        let _ = view;
        None
    }

    /// The last word on a run that converged, such as a check of the whole history.
    ///
    /// # Errors
    /// What is wrong with it.
    fn finished(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let _ = view;
        Ok(())
    }
}

/// A look at the whole cluster.
pub struct View<'a, S: System> {
    pub(crate) world: &'a World<S>,
}

impl<S: System> fmt::Debug for View<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl<'a, S: System> View<'a, S> {
    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        SimTime(self.world.now)
    }

    /// How many steps all machines have made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world.steps
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.world.nodes.len()
    }

    /// A node's machine; `None` while it is down.
    #[must_use]
    pub fn machine(&self, node: usize) -> Option<&'a S::Machine> {
        self.world.nodes[node].machine.as_ref()
    }

    /// The machines that run, with their numbers.
    pub fn machines(&self) -> impl Iterator<Item = (usize, &'a S::Machine)> {
        let nodes = self.world.nodes.iter().enumerate();
        nodes.filter_map(|(node, state)| Some((node, state.machine.as_ref()?)))
    }

    /// Whether a node runs.
    #[must_use]
    pub fn running(&self, node: usize) -> bool {
        self.machine(node).is_some()
    }

    /// How often a node has died.
    #[must_use]
    pub fn deaths(&self, node: usize) -> u32 {
        self.world.nodes[node].life
    }

    /// A node's log as written: what a crash now could keep at most.
    #[must_use]
    pub fn log(&self, node: usize) -> &'a Log<Record<S>> {
        &self.world.nodes[node].disk.log
    }

    /// How many records of a node's log are durable.
    #[must_use]
    pub fn durable(&self, node: usize) -> u64 {
        self.world.nodes[node].disk.durable()
    }

    /// A node's name.
    #[must_use]
    pub fn id(&self, node: usize) -> NodeId {
        self.world.nodes[node].id
    }

    /// The node with a name.
    #[must_use]
    pub fn index(&self, id: NodeId) -> Option<usize> {
        self.world.table.index(id)
    }

    /// What a node reads as its monotonic time.
    #[must_use]
    pub fn monotonic(&self, node: usize) -> Time {
        self.world.nodes[node].clock.monotonic(self.world.now)
    }

    /// What a node takes for the time of day.
    #[must_use]
    pub fn wall(&self, node: usize) -> WallTime {
        self.world.nodes[node].clock.wall(self.world.now)
    }

    /// Whether `node` was told that its link to `peer` is up.
    #[must_use]
    pub fn linked(&self, node: usize, peer: usize) -> bool {
        self.world.network.told(node, peer) != 0
    }

    /// Whether messages pass from one node to another as far as cuts go.
    #[must_use]
    pub fn open(&self, from: usize, to: usize) -> bool {
        self.world.network.open(from, to)
    }

    /// The nodes that were healed when faults stopped; `None` before that.
    #[must_use]
    pub fn healed(&self) -> Option<&'a [usize]> {
        self.world.core.as_deref()
    }

    /// Notes that the run came by here. Reports say how often each mark was reached, and in how
    /// many seeds: a rare branch that no seed reaches was not tested.
    pub fn mark(&self, name: &'static str) {
        *self.world.marks.borrow_mut().entry(name).or_default() += 1;
    }

    /// How many different marks the run has reached.
    #[must_use]
    pub fn marks_reached(&self) -> usize {
        self.world.marks.borrow().len()
    }

    /// The marks that the run has reached, in the order of their names.
    #[must_use]
    pub fn marks(&self) -> Vec<&'static str> {
        self.world.marks.borrow().keys().copied().collect()
    }
}

/// What a host can do for its node.
pub struct HostCx<'a, S: System> {
    pub(crate) world: &'a mut World<S>,
    pub(crate) node: usize,
}

impl<S: System> fmt::Debug for HostCx<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCx").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<S: System> HostCx<'_, S> {
    /// The node this is about.
    #[must_use]
    pub fn node(&self) -> usize {
        self.node
    }

    /// A look at the whole cluster.
    #[must_use]
    pub fn view(&self) -> View<'_, S> {
        View { world: self.world }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        SimTime(self.world.now)
    }

    /// Gives the node a command, as its next input of this moment. Whether it runs: a command to a
    /// node that is down is lost.
    pub fn command(&mut self, command: Command<S>) -> bool {
        self.command_after(0, command)
    }

    /// Gives the node a command `us` microseconds from now, unless it dies before.
    pub fn command_after(&mut self, us: u64, command: Command<S>) -> bool {
        let node = &self.world.nodes[self.node];
        if node.machine.is_none() {
            return false;
        }
        let life = node.life;
        let slot = self.world.commands.insert(command);
        let at = self.world.now.saturating_add(us);
        self.world.queue.push(at, Due::Command { node: self.node as u16, life, slot });
        true
    }

    /// The record at a position of the node's durable log.
    #[must_use]
    pub fn read(&self, position: u64) -> Option<&Record<S>> {
        let disk = &self.world.nodes[self.node].disk;
        if position < disk.durable() { disk.log.get(position) } else { None }
    }

    /// The record at `position` is not needed any more; the next restart skips it, unless a crash
    /// comes before the next sync.
    pub fn forget(&mut self, position: u64) {
        let now = self.world.now;
        self.world
            .trace
            .note(now, What::Forget, Who::node(self.node), position, || position.to_string());
        self.world.nodes[self.node].disk.forget(position);
        self.world.start_sync(self.node);
    }

    /// Closes the node's link to `peer`, if there is one: both ends are told, and they connect
    /// again later.
    pub fn disconnect(&mut self, peer: NodeId) {
        if let Some(peer) = self.world.table.index(peer)
            && peer != self.node
        {
            self.world.disconnect(self.node, peer);
        }
    }

    /// Draws for the host: its own stream, so that machines' draws stay as they are.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.world.host_rng
    }

    /// See [`View::mark`].
    pub fn mark(&self, name: &'static str) {
        self.view().mark(name);
    }

    /// The run fails here. The first failure of a run is the one reported.
    pub fn fail(&mut self, reason: impl Into<String>) {
        let failure = Failure {
            step: self.world.steps,
            time: self.now(),
            node: Some(self.node),
            kind: FailureKind::Reported,
            reason: reason.into(),
        };
        self.world.fail(failure);
    }
}
