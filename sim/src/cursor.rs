//! Going back and forth in a run.
//!
//! A run is determined by its start, so going back is going forward again from an earlier point.
//! A [`Cursor`] keeps clones of the cluster along the way, at most [`CHECKPOINTS_MAX`], evenly
//! spread over all that it has seen: when there are too many every second one goes, and the
//! distance doubles. A step back costs at most that distance.
//!
//! What is recorded on the way is thrown away. The events of a stretch are told by running it once
//! more, from the checkpoint before it: a checkpoint never carries a trace with it, only which
//! message is whose.

use core::fmt;
use core::ops::Range;

use crate::run::Sim;
use crate::system::{System, View};
use crate::time::{FOREVER_US, SimTime};
use crate::trace::{TraceEvent, What};

/// How many clones of the cluster a cursor keeps at most; an even number.
pub const CHECKPOINTS_MAX: usize = 64;
/// Steps from one to the next in the beginning.
const FIRST_DISTANCE: u64 = 16;

/// Where a cursor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// How many steps the machines have made.
    pub step: u64,
    /// How many events the trace has: the number of the next one.
    pub event: u64,
    /// The simulated time.
    pub time: SimTime,
}

/// A run that can be stopped anywhere, looked at, and turned back.
///
/// A cursor stops between things that are due, never within one. One of them can make up to three
/// steps (see [`Sim::advance_to_step`]), so a cursor may stop at one or two more than asked for.
#[derive(Clone)]
pub struct Cursor<S: System> {
    sim: Sim<S>,
    /// In the order of their steps; the first is the start of the run.
    checkpoints: Vec<Sim<S>>,
    distance: u64,
}

impl<S: System> fmt::Debug for Cursor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checkpoints = self.checkpoints.len();
        f.debug_struct("Cursor").field("sim", &self.sim).field("checkpoints", &checkpoints).finish()
    }
}

impl<S: System> Cursor<S> {
    /// A cursor at where `sim` stands, which is as far back as it will go. What `sim` has recorded
    /// so far is dropped.
    #[must_use]
    pub fn new(mut sim: Sim<S>) -> Cursor<S> {
        sim.world.trace.recorded = Some(Vec::new());
        sim.world.trace.texts = false;
        sim.world.states = None;
        Cursor { checkpoints: vec![sim.clone()], sim, distance: FIRST_DISTANCE }
    }

    /// The cluster as it stands.
    #[must_use]
    pub fn sim(&self) -> &Sim<S> {
        &self.sim
    }

    /// A look at the cluster.
    #[must_use]
    pub fn view(&self) -> View<'_, S> {
        self.sim.view()
    }

    /// Where the cursor stands.
    #[must_use]
    pub fn place(&self) -> Place {
        place(&self.sim)
    }

    /// Goes, in either direction, to where the machines have just made `step` steps, or to the end.
    pub fn seek(&mut self, step: u64) {
        self.turn_back(|at| at.step < step);
        self.go(FOREVER, |sim| place(sim).step < step);
    }

    /// Goes to where all that is due by `time` has happened.
    pub fn seek_time(&mut self, time: SimTime) {
        self.turn_back(|at| at.time <= time);
        self.go(time, |_| true);
    }

    /// Goes to just behind the event of this number.
    pub fn seek_event(&mut self, event: u64) {
        self.turn_back(|at| at.event <= event);
        self.go(FOREVER, |sim| place(sim).event <= event);
    }

    /// Goes on by `steps` steps.
    pub fn forward(&mut self, steps: u64) {
        let to = self.place().step.saturating_add(steps);
        self.go(FOREVER, |sim| place(sim).step < to);
    }

    /// Goes back by `steps` steps, to the start at most.
    pub fn back(&mut self, steps: u64) {
        let mut to = self.place().step.saturating_sub(steps);
        self.seek(to);
        // What was due made more than one step: it is undone as a whole.
        while self.place().step > to && to > 0 {
            to -= 1;
            self.seek(to);
        }
    }

    /// Goes on until `node` has made its next step; whether it did before the end.
    pub fn next_at(&mut self, node: usize) -> bool {
        let mut before = self.place().step;
        let mut stepped = |sim: &Sim<S>| {
            let stepped = sim.world.steps > before && sim.world.acting == Some(node);
            if !stepped {
                before = sim.world.steps;
            }
            stepped
        };
        self.go(FOREVER, |sim| !stepped(sim));
        stepped(&self.sim)
    }

    /// Goes to the end of the run.
    pub fn finish(&mut self) {
        self.go(FOREVER, |_| true);
    }

    /// The events of these numbers, so far as the run has them; the cursor stays where it is.
    #[must_use]
    pub fn events(&self, numbers: Range<u64>) -> Vec<TraceEvent> {
        if numbers.is_empty() {
            return Vec::new();
        }
        let mut fork = self.checkpoint(|at| at.event <= numbers.start).clone();
        fork.world.trace.texts = true;
        fork.go_while(FOREVER, |sim| place(sim).event < numbers.end);
        let mut events = fork.world.trace.recorded.take().unwrap_or_default();
        events.retain(|event| numbers.contains(&event.number));
        events
    }

    /// The last checkpoint of which `early` holds, or the first of all.
    fn checkpoint(&self, early: impl Fn(Place) -> bool) -> &Sim<S> {
        let early = self.checkpoints.iter().rev().find(|sim| early(place(sim)));
        early.unwrap_or(&self.checkpoints[0])
    }

    /// Turns back to a checkpoint, unless the cursor itself is early enough.
    fn turn_back(&mut self, early: impl Fn(Place) -> bool) {
        if !early(self.place()) {
            self.sim = self.checkpoint(early).clone();
        }
    }

    /// Goes on while `wanted`, and keeps checkpoints on new ground.
    fn go(&mut self, until: SimTime, mut wanted: impl FnMut(&Sim<S>) -> bool) {
        loop {
            let last = self.checkpoints.last().map_or(0, |sim| place(sim).step);
            let next = last + self.distance;
            self.sim.go_while(until, |sim| place(sim).step < next && wanted(sim));
            self.sim.world.trace.recorded = Some(Vec::new());
            if self.place().step < next {
                return;
            }
            self.checkpoints.push(self.sim.clone());
            if self.checkpoints.len() > CHECKPOINTS_MAX {
                let mut index = 0;
                self.checkpoints.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.distance *= 2;
            }
        }
    }
}

const FOREVER: SimTime = SimTime(FOREVER_US);

fn place<S: System>(sim: &Sim<S>) -> Place {
    let world = &sim.world;
    Place { step: world.steps, event: world.trace.events, time: SimTime(world.now) }
}

impl TraceEvent {
    /// The event as a sentence about its node.
    #[must_use]
    pub fn narrate(&self) -> String {
        let name = |node: Option<usize>| {
            node.map_or_else(|| "a stranger".to_owned(), |node| format!("node {node}"))
        };
        let (node, peer, detail) = (name(self.node), name(self.peer), &self.detail);
        let told = match self.what {
            What::Send => format!("{node} sends to {peer}: {detail}"),
            What::Drop => format!("{node} to {peer}: lost, {detail}"),
            What::Duplicate => format!("{node} to {peer}: the same will arrive twice"),
            What::Deliver => format!("{node} gets from {peer}: {detail}"),
            What::Tick => format!("{node} has its timer fire"),
            What::Command => format!("{node} is asked: {detail}"),
            What::Link => format!("{node} is told that its link to {peer} is {detail}"),
            What::Connect => format!("{node} and {peer} are connected"),
            What::Persist => format!("{node} writes record {detail}"),
            What::Sync => format!("{node} has {detail} records durable"),
            What::Forget => format!("{node} forgets record {detail}"),
            What::Emit => format!("{node} tells its host: {detail}"),
            What::Start => format!("{node} starts with {detail}"),
            What::Crash => format!("{node} dies: {detail}"),
            What::Op => format!("{node} has a client who does {detail}"),
            What::Fault => format!("fault: {detail}"),
            What::Undo => format!("the end of a fault: {detail}"),
            What::Heal => format!("the faults stop; {detail} are healed"),
        };
        format!("#{} {} {told}", self.number, self.time)
    }
}
