//! A running cluster, and its event loop.
//!
//! One step is: the earliest thing that is due; if it is an input, the machine handles it, checks
//! itself, its effects are carried out in the order in which it asked for them, its deadline is
//! read again, and the system's invariant is asked. There are no threads in a run.
//!
//! **The host's contract** (see `quorate_machine`): `persist` appends to the node's log; what
//! `send` and `emit` carry is stamped with the length of the log and waits until the simulated disk
//! has synced that far; `send_now` and `emit_now` leave at once.
//!
//! **Two phases.** Faults strike until [`Run::active`]. Then the core ([`System::core`]) is healed;
//! outside it what holds goes on holding, and nothing strikes any more. From then on the run must
//! converge within [`Run::settle_us`], or [`System::excuse`] says why it cannot. Operations may
//! still come after that, and convergence is asked for only after the last.
//!
//! **Panics** of a machine or a hook are failures of the run. One handler catches them around the
//! whole loop, which costs nothing per step; the panic's node is the one that was acting.

use core::fmt;
use core::hash::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_machine::{Cx, Input, Machine};
use serde::{Deserialize, Serialize};

use crate::SimTime;
use crate::disk::Loses;
use crate::many::quiet;
use crate::network::Arrival;
use crate::queue::Due;
use crate::recording::{About, States};
use crate::schedule::{Action, Fork, Run};
use crate::system::{Event, HostCx, Message, System, View};
use crate::trace::{TraceEvent, What, Who};
use crate::world::{Effect, FIRST_START_US, Held, World};

/// A process that stopped because its disk was full starts again so much later, in microseconds.
const SUPERVISED_RESTART_US: u64 = 1_000_000;

/// What went wrong, in kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// A machine or a hook panicked.
    Panic,
    /// After a tick a machine's deadline was not later than its `now`.
    Timer,
    /// [`System::invariant`] did not hold.
    Invariant,
    /// The healed cluster did not converge in time.
    Liveness,
    /// [`System::finished`] found something wrong.
    Finished,
    /// A hook called [`HostCx::fail`].
    Reported,
    /// More machine steps than [`Run::steps_max`].
    Steps,
    /// More messages on their way at once than a run may have, about a million.
    Flood,
}

/// Why a run failed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How many steps the machines had made.
    pub step: u64,
    /// When, in simulated time.
    pub time: SimTime,
    /// At which node, if at one.
    pub node: Option<usize>,
    /// The kind of failure. Shrinking keeps it.
    pub kind: FailureKind,
    /// The panic's message, or what the hook said.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} (step {}", self.kind, self.time, self.step)?;
        if let Some(node) = self.node {
            write!(f, ", node {node}")?;
        }
        write!(f, "): {}", self.reason)
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The hash of all that happened, see [`trace`](crate::trace).
    pub trace_hash: u64,
    /// How many steps the machines made.
    pub steps: u64,
    /// Messages that machines sent to nodes that exist.
    pub sent: u64,
    /// Messages that machines got, duplicates included.
    pub delivered: u64,
    /// Messages that never arrived.
    pub dropped: u64,
    /// Messages that were on their way twice.
    pub duplicated: u64,
    /// How often each fault struck, by [`Fault::name`](crate::Fault::name); one that did not apply
    /// is not counted.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each [`View::mark`] was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// When the run ended, in simulated time.
    pub time: SimTime,
    /// Why the run need not converge, if it did not and [`System::excuse`] says so.
    pub excused: Option<String>,
    /// Whether all was well.
    pub result: Result<(), Failure>,
    /// Every event, if the run was recorded.
    pub trace: Option<Vec<TraceEvent>>,
    /// What the nodes' states were, if they were kept.
    pub states: Option<States>,
}

/// A running cluster. A clone is a fork: both go on from here in the same way unless one is given
/// other inputs.
#[derive(Clone)]
pub struct Sim<S: System> {
    /// The system under test, with what it has learnt so far.
    pub system: S,
    pub(crate) world: World<S>,
    pub(crate) run: Arc<Run<S::Op>>,
    /// The faults that hold and must be undone.
    pub(crate) holding: BTreeSet<u32>,
    pub(crate) last_action: u64,
    pub(crate) done: bool,
    /// How many of the run's forks were taken, and at which step the next one is.
    forks_taken: usize,
    next_fork: u64,
}

impl<S: System> fmt::Debug for Sim<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = &self.world;
        f.debug_struct("Sim")
            .field("seed", &self.run.seed)
            .field("now", &SimTime(world.now))
            .field("steps", &world.steps)
            .field("failure", &world.failure)
            .finish_non_exhaustive()
    }
}

impl<S: System> Sim<S> {
    /// A cluster before its first event. `record` keeps every event for [`Outcome::trace`].
    ///
    /// # Panics
    /// If [`System::leave_out`] says that the system cannot do without one of [`Run::absent`].
    #[must_use]
    pub fn new(mut system: S, run: Run<S::Op>, record: bool) -> Sim<S> {
        for &node in &run.absent {
            assert!(system.leave_out(node), "the system cannot do without node {node}");
        }
        let mut world = World::new(&system, &run, record);
        for (index, (at, _)) in run.schedule.iter().enumerate() {
            world.queue.push(at.0, Due::Action { index: index as u32 });
        }
        for node in 0..world.nodes.len() {
            let at = world.nodes[node].rng.within(FIRST_START_US);
            world.queue.push(at, Due::Start { node: node as u16, life: 0 });
        }
        world.queue.push(run.active.0, Due::Heal);
        let last_action = run.schedule.iter().map(|(at, _)| at.0).max().unwrap_or(0);
        let next_fork = run.forks.first().map_or(u64::MAX, |fork| fork.step);
        let (run, holding) = (Arc::new(run), BTreeSet::new());
        let (done, forks_taken) = (false, 0);
        Sim { system, world, run, holding, last_action, done, forks_taken, next_fork }
    }

    /// Takes the fork that is due.
    #[cold]
    fn fork(&mut self) {
        let run = Arc::clone(&self.run);
        if let Some(Fork { reseed, added, .. }) = run.forks.get(self.forks_taken) {
            self.reseed(*reseed);
            added.iter().for_each(|(at, action)| self.add(*at, action.clone()));
        }
        self.forks_taken += 1;
        self.next_fork = run.forks.get(self.forks_taken).map_or(u64::MAX, |fork| fork.step);
    }

    /// From now on what [`System::describe`] says is kept after every step, for
    /// [`Outcome::states`]. The run must be a recorded one: states belong to its events.
    ///
    /// # Panics
    /// If it is not.
    pub fn keep_states(&mut self) {
        assert!(self.world.trace.recorded.is_some(), "states are kept of recorded runs only");
        self.world.states = Some(Box::default());
    }

    #[cold]
    fn keep_state(&mut self, node: usize) {
        let lines = self.system.describe(node, &View { world: &self.world });
        let step = self.world.trace.in_flight.step();
        if let Some(states) = &mut self.world.states {
            states.keep(step, node, &lines);
        }
    }

    /// The same, with no text kept of the events that are recorded.
    pub(crate) fn without_texts(mut self) -> Sim<S> {
        self.world.trace.texts = false;
        self
    }

    /// A look at the cluster.
    #[must_use]
    pub fn view(&self) -> View<'_, S> {
        View { world: &self.world }
    }

    /// What the run does.
    #[must_use]
    pub fn plan(&self) -> &Run<S::Op> {
        &self.run
    }

    /// Whether the run is over: it converged or failed.
    #[must_use]
    pub fn done(&self) -> bool {
        self.done || self.world.failure.is_some()
    }

    /// What went wrong, if anything has so far.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.world.failure.as_ref()
    }

    /// The hash of all that happened so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.trace.hash()
    }

    /// Goes on until simulated time `until` or the run is over.
    pub fn advance(&mut self, until: SimTime) {
        self.guarded(|sim| {
            while !sim.done() && sim.next(until.0) {}
            if !sim.done() {
                sim.world.now = sim.world.now.max(until.0);
            }
        });
    }

    /// Goes on until the machines have made `steps` steps in all, or the run is over. One event can
    /// make up to three (a link down, up, and the message that showed it), so it may be two more.
    pub fn advance_to_step(&mut self, steps: u64) {
        self.guarded(|sim| while !sim.done() && sim.world.steps < steps && sim.next(u64::MAX) {});
    }

    /// Goes on until `stop`, asked after each event, says so or the run is over.
    pub fn advance_until(&mut self, mut stop: impl FnMut(&View<'_, S>) -> bool) {
        self.guarded(|sim| while !sim.done() && sim.next(u64::MAX) && !stop(&sim.view()) {});
    }

    /// Goes on to the end.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        self.guarded(|sim| while !sim.done() && sim.next(u64::MAX) {});
        self.world.outcome(self.run.seed)
    }

    /// Goes on, one thing that is due after another, until `until` or for as long as `wanted`.
    pub(crate) fn go_while(&mut self, until: SimTime, mut wanted: impl FnMut(&Self) -> bool) {
        self.guarded(|sim| while !sim.done() && wanted(sim) && sim.next(until.0) {});
    }

    /// Adds an action to the schedule of this run: what a search does at a fork. It comes at `at`,
    /// or at once if that is past. Faults added after the heal phase began do nothing.
    pub fn add(&mut self, at: SimTime, action: Action<S::Op>) {
        let at = SimTime(at.0.max(self.world.now));
        let schedule = &mut Arc::make_mut(&mut self.run).schedule;
        self.world.queue.push(at.0, Due::Action { index: schedule.len() as u32 });
        schedule.push((at, action));
        self.last_action = self.last_action.max(at.0);
    }

    /// Draws everything small (latencies, losses, sync times, entropy) from `seed` from now on: a
    /// fork gets another future. The schedule stays.
    pub fn reseed(&mut self, seed: u64) {
        self.world.reseed(seed);
    }

    /// What came of the run so far, without going on.
    #[must_use]
    pub fn stop(mut self) -> Outcome {
        self.world.outcome(self.run.seed)
    }

    /// Runs `body`; a panic in it becomes the run's failure.
    fn guarded(&mut self, body: impl FnOnce(&mut Self)) {
        if let Err(message) = quiet(|| catch_unwind(AssertUnwindSafe(|| body(self)))) {
            self.world.sink.0.clear();
            self.fail(self.world.acting, FailureKind::Panic, message);
        }
    }

    pub(crate) fn fail(&mut self, node: Option<usize>, kind: FailureKind, reason: String) {
        let (step, time) = (self.world.steps, SimTime(self.world.now));
        self.world.fail(Failure { step, time, node, kind, reason });
    }

    /// Does the next thing that is due by `until`; whether there was one.
    #[inline]
    fn next(&mut self, until: u64) -> bool {
        if self.world.steps >= self.next_fork {
            self.fork();
        }
        let Some((at, due)) = self.world.queue.pop(until) else { return false };
        self.world.now = at;
        self.world.acting = None;
        match due {
            Due::Deliver { to: node, .. }
            | Due::Tick { node }
            | Due::Synced { node, .. }
            | Due::Command { node, .. }
            | Due::Link { node, .. } => self.input_or_backlog(usize::from(node), due),
            Due::Connect { a, b } => self.world.connected(usize::from(a), usize::from(b)),
            Due::Wake { node, life } => self.wake(usize::from(node), life),
            Due::Strike { node, life, action } => self.strike(usize::from(node), life, action),
            Due::CrashAgain { node, left, life, action } => {
                self.crash_again(usize::from(node), life, left, action);
            }
            Due::Start { node, life } => self.start(usize::from(node), life),
            Due::Action { index } => self.act(index),
            Due::Undo { index } => self.undo(index),
            Due::Heal => self.heal(),
            Due::Poll => self.poll(),
        }
        true
    }

    #[inline]
    pub(crate) fn input_or_backlog(&mut self, node: usize, due: Due) {
        let state = &mut self.world.nodes[node];
        if state.blocked_until > self.world.now || !state.backlog.is_empty() {
            return self.set_aside(node, due);
        }
        self.input(due);
    }

    pub(crate) fn input(&mut self, due: Due) {
        match due {
            Due::Deliver { from, to, epoch, slot } => {
                self.deliver(usize::from(from), usize::from(to), epoch, slot);
            }
            Due::Tick { node } => self.tick(usize::from(node)),
            Due::Synced { node, life } => self.synced(usize::from(node), life),
            Due::Command { node, life, slot } => {
                let (node, command) = (usize::from(node), self.world.commands.take(slot));
                if self.world.nodes[node].life == life {
                    command.hash(&mut self.world.trace.hasher);
                    self.note(What::Command, Who::node(node), 0, || format!("{command:?}"));
                    self.step(node, Input::Command(command));
                }
            }
            Due::Link { node, peer, epoch, up } => {
                let (node, peer) = (usize::from(node), usize::from(peer));
                if up { self.link_up(node, peer, epoch) } else { self.link_down(node, peer, epoch) }
            }
            _ => unreachable!("{due:?} is not an input"),
        }
    }

    #[inline]
    pub(crate) fn note(
        &mut self,
        what: What,
        who: Who,
        content: u64,
        detail: impl FnOnce() -> String,
    ) {
        self.world.trace.note(self.world.now, what, who, content, detail);
    }

    #[inline]
    fn deliver(&mut self, from: usize, to: usize, epoch: u32, slot: u32) {
        if self.world.network.clogged(from, to) {
            return self.hold(from, to, epoch, slot);
        }
        let mut message = self.world.messages.take(slot);
        if from == to {
            if self.world.nodes[to].life == epoch {
                self.accept(from, to, slot, message);
            }
            return;
        }
        if !self.world.running(to) {
            return self.world.dropped(from, to, "node down", Some(slot));
        }
        match self.world.network.arrive(from, to, epoch) {
            Arrival::Dropped(why) => return self.world.dropped(from, to, why, Some(slot)),
            Arrival::UpFirst => {
                let (current, _) = self.world.network.connection(from, to);
                self.link_up(to, from, current);
            }
            Arrival::Accepted => {}
        }
        if let Some(entropy) = self.world.network.corrupts(from, to) {
            let Some(corrupt) = self.corrupt(from, to, slot, &message, entropy) else { return };
            message = corrupt;
        }
        self.accept(from, to, slot, message);
    }

    /// The slot stands for the content in the trace: that was hashed when the message was sent.
    #[inline]
    fn accept(&mut self, from: usize, to: usize, slot: u32, message: Message<S>) {
        self.world.counts.delivered += 1;
        let who = Who::pair(to, from);
        let (now, content) = (self.world.now, u64::from(slot));
        self.world.trace.note_about(now, What::Deliver, who, content, |in_flight| {
            (About::Message(in_flight.get(slot)), format!("{message:?}"))
        });
        let from = self.world.nodes[from].id;
        self.step(to, Input::Message { from, message });
    }

    fn tick(&mut self, node: usize) {
        let now = self.world.now;
        let state = &mut self.world.nodes[node];
        if state.armed > now {
            return;
        }
        state.armed = u64::MAX;
        let Some(machine) = &state.machine else { return };
        if machine.deadline().is_some_and(|deadline| deadline <= state.clock.monotonic(now)) {
            self.note(What::Tick, Who::node(node), 0, String::new);
            self.step(node, Input::Tick);
        } else {
            self.world.arm(node);
        }
    }

    fn synced(&mut self, node: usize, life: u32) {
        if self.world.nodes[node].life != life {
            return;
        }
        let durable = self.world.nodes[node].disk.finish_sync();
        self.note(What::Sync, Who::node(node), durable, || durable.to_string());
        self.world.start_sync(node);
        loop {
            let held = &mut self.world.nodes[node].held;
            if held.front().is_none_or(|(stamp, _)| *stamp > durable) {
                return;
            }
            match held.pop_front() {
                Some((_, Held::Send(to, message))) => {
                    self.world.transmit(&self.system, node, to, message);
                }
                Some((_, Held::Emit(event))) => self.emit(node, event),
                None => return,
            }
        }
    }

    fn emit(&mut self, node: usize, event: Event<S>) {
        event.hash(&mut self.world.trace.hasher);
        self.note(What::Emit, Who::node(node), 0, || format!("{event:?}"));
        self.system.event(node, event, &mut HostCx { world: &mut self.world, node });
    }

    fn link_up(&mut self, node: usize, peer: usize, epoch: u32) {
        let told = self.world.network.told(node, peer);
        if !self.world.running(node)
            || told == epoch
            || self.world.network.connection(node, peer) != (epoch, true)
        {
            return;
        }
        if told != 0 {
            self.tell(node, peer, 0);
        }
        self.tell(node, peer, epoch);
    }

    fn link_down(&mut self, node: usize, peer: usize, epoch: u32) {
        if !self.world.running(node) || self.world.network.told(node, peer) != epoch {
            return;
        }
        let (current, alive) = self.world.network.connection(node, peer);
        if alive && current == epoch {
            self.world.network.end(node, peer);
            self.world.end_reaches(peer, node);
        }
        self.tell(node, peer, 0);
        self.world.connect(node, peer, self.world.network.conditions.reconnect_after_us);
    }

    /// Tells an end that its link is up (an epoch) or down (zero).
    fn tell(&mut self, node: usize, peer: usize, epoch: u32) {
        // It may have died of what it was told before.
        if !self.world.running(node) {
            return;
        }
        let up = epoch != 0;
        self.world.network.tell(node, peer, epoch);
        let who = Who::pair(node, peer);
        self.note(What::Link, who, u64::from(up), || if up { "up" } else { "down" }.to_owned());
        let peer = self.world.nodes[peer].id;
        self.step(node, Input::Link { peer, up });
    }

    /// One step of a machine, and all that follows from it at once.
    #[inline]
    pub(crate) fn step(&mut self, node: usize, input: Input<S::Machine>) {
        let world = &mut self.world;
        let state = &mut world.nodes[node];
        let Some(machine) = &mut state.machine else { return };
        world.acting = Some(node);
        world.steps += 1;
        let cx = Cx {
            me: state.id,
            now: state.clock.monotonic(world.now),
            wall: state.clock.wall(world.now),
            entropy: state.entropy.next_u64(),
        };
        let ticked = matches!(input, Input::Tick);
        machine.handle(cx, input, &mut world.sink);
        machine.check();
        if ticked && machine.deadline().is_some_and(|deadline| deadline <= cx.now) {
            let reason = format!(
                "the deadline {:?} did not move past now, {:?}: the timer would fire for ever",
                machine.deadline(),
                cx.now
            );
            self.fail(Some(node), FailureKind::Timer, reason);
        }
        let disk_full = self.carry_out(node);
        self.world.arm(node);
        if self.world.states.is_some() {
            self.keep_state(node);
        }
        if let Err(reason) = self.system.invariant(node, &View { world: &self.world }) {
            self.fail(Some(node), FailureKind::Invariant, reason);
        }
        if self.world.steps > self.run.steps_max {
            let reason = format!("the run made more than {} steps", self.run.steps_max);
            self.fail(Some(node), FailureKind::Steps, reason);
        }
        if disk_full {
            // A disk that fails stops the host; a supervisor starts it again.
            return self.crash(node, Loses::Drawn, SUPERVISED_RESTART_US);
        }
        let state = &self.world.nodes[node];
        if state.step_us > 0 {
            let until = self.world.now + state.step_us;
            self.world.block(node, until);
        }
    }

    /// Carries out the effects of a step, up to a write for which the disk has no room; whether
    /// there was one.
    #[inline]
    fn carry_out(&mut self, node: usize) -> bool {
        let mut effects = std::mem::take(&mut self.world.sink.0);
        let (mut wrote, mut full) = (false, false);
        for effect in effects.drain(..) {
            let disk = &self.world.nodes[node].disk;
            let (written, durable) = (disk.written(), disk.durable());
            match effect {
                Effect::Persist(_) if disk.full => {
                    full = true;
                    break;
                }
                Effect::Persist(record) => {
                    record.hash(&mut self.world.trace.hasher);
                    self.note(What::Persist, Who::node(node), written, || {
                        format!("{written}: {record:?}")
                    });
                    self.world.nodes[node].disk.append(record);
                    wrote = true;
                }
                Effect::SendNow(to, message) => {
                    self.world.transmit(&self.system, node, to, message);
                }
                Effect::EmitNow(event) => self.emit(node, event),
                Effect::Send(to, message) if written == durable => {
                    self.world.transmit(&self.system, node, to, message);
                }
                Effect::Emit(event) if written == durable => self.emit(node, event),
                Effect::Send(to, message) => {
                    self.world.nodes[node].held.push_back((written, Held::Send(to, message)));
                }
                Effect::Emit(event) => {
                    self.world.nodes[node].held.push_back((written, Held::Emit(event)));
                }
            }
        }
        self.world.sink.0 = effects;
        if wrote {
            self.world.start_sync(node);
            self.spring(node);
        }
        full
    }
}
