//! Every state that a small configuration can reach.
//!
//! Most mistakes in protocols show with two or three nodes and a handful of steps, if these are the
//! right ones (Jackson's *small scope hypothesis*, *Software abstractions*, 2006; Yuan and others,
//! *Simple testing can prevent most critical failures*, 2014: three nodes reproduce 98 % of them).
//! So instead of drawing one of the orders in which things can happen, all are tried, breadth first,
//! as explicit-state model checkers do; and on the machines themselves instead of on a model of them
//! (Killian and others, *Life, death, and the critical transition*, 2007; Yang and others, *MODIST*,
//! 2009).
//!
//! **A state** is the machines with their logs, the messages on their way, what the system keeps, and
//! what is left of the budget. **What can happen next**: a client gives its next command, any message
//! arrives, a timer fires, a disk syncs, and, while the budget lasts, a message is lost or arrives
//! and is still on its way, or a process dies, keeps any prefix of what was written and not durable,
//! and starts again at once. The host's contract is that of the simulator (`send` and `emit` wait for
//! the disk, `send_now` does not); all else is less of it, so that states are few:
//!
//! - There is no latency, and no common time: a node's clock stands at the deadline that fired last.
//!   Any timer may fire before any message arrives, as if the network were as slow and clocks as
//!   different as you like. A protocol that relies on bounded delays is not safe here, by design.
//! - Links are up; a crash takes what its node had on the way ([`Bounds::stale`] leaves it), and the
//!   peers are told `down` and `up` in the same step. A step's entropy is zero.
//!
//! Breadth first means that a violation is found by a shortest path, which is told in words. Visited
//! states are kept as 64-bit hashes: among a million of them, two are mistaken for one another with
//! a chance of about one in forty million.
//!
//! What has to be hashed of a machine its author knows best: [`Small::digest`] is one line for one
//! that derives `Hash`, and can leave out caches and statistics, which multiply states.
//!
//! ```
//! use core::hash::Hash;
//! use quorate_machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};
//! use quorate_sim::explore::small::{Bounds, Small, State, explore};
//! use quorate_sim::trace::TraceHasher;
//!
//! /// Counts what it is sent. Node 0 tells node 1 of each command.
//! #[derive(Clone, Hash)]
//! struct Count { peer: NodeId, count: u32 }
//!
//! impl Machine for Count {
//!     type Message = ();
//!     type Record = Never;
//!     type Command = ();
//!     type Event = Never;
//!     fn restore(&mut self, record: Never) { match record {} }
//!     fn handle(&mut self, _: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
//!         match input {
//!             Input::Command(()) => fx.send(self.peer, ()),
//!             Input::Message { .. } => self.count += 1,
//!             _ => {}
//!         }
//!     }
//!     fn deadline(&self) -> Option<Time> { None }
//! }
//!
//! #[derive(Clone, Hash)]
//! struct Pair;
//!
//! impl Small for Pair {
//!     type Machine = Count;
//!     fn nodes(&self) -> usize { 2 }
//!     fn boot(&self, node: usize) -> Count { Count { peer: self.id(1 - node), count: 0 } }
//!     fn digest(&self, machine: &Count, hasher: &mut TraceHasher) { machine.hash(hasher) }
//!     fn script(&self, node: usize) -> Vec<()> { if node == 0 { vec![()] } else { vec![] } }
//!     fn invariant(&self, state: &State<Pair>) -> Result<(), String> {
//!         if state.machine(1).count > 1 { Err("one message was counted twice".into()) } else { Ok(()) }
//!     }
//! }
//!
//! let calm = explore(&Pair, Bounds::default(), |_| {});
//! assert_eq!((calm.states, calm.violation), (3, None)); // not given, on its way, arrived
//! let twice = explore(&Pair, Bounds { duplicates: 1, ..Bounds::default() }, |_| {});
//! assert_eq!(twice.violation.unwrap().path.len(), 3);
//! ```

use core::fmt::{self, Debug};
use core::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_machine::{Machine, NodeId};

use crate::many::quiet;
use crate::trace::TraceHasher;

mod state;

pub use state::{Choice, State};

/// A small configuration: its machines, its clients' commands, and what must hold. Its own fields
/// are what the host and the clients remember; they are part of the state.
pub trait Small: Clone + Hash {
    /// The machine under test.
    type Machine: Machine<
            Message: Debug + Hash,
            Record: Debug + Hash,
            Command: Clone + Debug + Hash,
            Event: Clone + Debug + Hash,
        >;

    /// How many nodes there are.
    fn nodes(&self) -> usize;

    /// A node's name, as in [`System::id`](crate::System::id).
    fn id(&self, node: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(node as u64).to_be_bytes());
        NodeId(id)
    }

    /// A fresh machine, before any record is restored.
    fn boot(&self, node: usize) -> Self::Machine;

    /// Mixes in all of a machine that its future depends on: `machine.hash(hasher)` if it derives
    /// `Hash`.
    fn digest(&self, machine: &Self::Machine, hasher: &mut TraceHasher);

    /// What a node's client will ask, one after the other, each at any moment.
    fn script(&self, node: usize) -> Vec<<Self::Machine as Machine>::Command> {
        let _ = node;
        Vec::new()
    }

    /// `node` emitted `event`; the commands returned are its next inputs.
    fn event(
        &mut self,
        node: usize,
        event: <Self::Machine as Machine>::Event,
    ) -> Vec<<Self::Machine as Machine>::Command> {
        let _ = (node, event);
        Vec::new()
    }

    /// `node` died. It has already started again.
    fn crashed(&mut self, node: usize) {
        let _ = node;
    }

    /// What must hold in every state.
    ///
    /// # Errors
    /// What does not.
    fn invariant(&self, state: &State<Self>) -> Result<(), String>;

    /// What must hold where nothing can happen any more except faults: a state with a client still
    /// waiting is a deadlock. Not asked where a timer waits for which the budget has no tick.
    ///
    /// # Errors
    /// What does not.
    fn settled(&self, state: &State<Self>) -> Result<(), String> {
        let _ = state;
        Ok(())
    }
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// How many messages may be lost on one path.
    pub drops: u32,
    /// How many may arrive and be on their way still.
    pub duplicates: u32,
    /// How many times a process may die.
    pub crashes: u32,
    /// How many timers may fire.
    pub ticks: u32,
    /// Messages from one node to another arrive in order.
    pub ordered: bool,
    /// What a dead process had on the way, to it or from it, may still arrive.
    pub stale: bool,
    /// The longest path.
    pub depth_max: u32,
    /// The most states.
    pub states_max: u64,
}

impl Default for Bounds {
    /// No faults and no timers, unordered, a million states.
    fn default() -> Bounds {
        Bounds {
            drops: 0,
            duplicates: 0,
            crashes: 0,
            ticks: 0,
            ordered: false,
            stale: false,
            depth_max: 1_000,
            states_max: 1_000_000,
        }
    }
}

/// How far the search has come. Told after every depth, and every 65,536 states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How long the paths are.
    pub depth: u32,
    /// How many states were found.
    pub states: u64,
}

/// Why the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every state was looked at: within the budget of faults, there is no other.
    Complete,
    /// At [`Bounds::depth_max`], with states left whose successors were not looked at.
    Depth,
    /// At [`Bounds::states_max`].
    States,
    /// At a violation.
    Violation,
}

/// What does not hold, and the shortest way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold, or a panic's message.
    pub reason: String,
    /// What happened, to be repeated with [`narrate`].
    pub choices: Vec<Choice>,
    /// The same in words, one line for each.
    pub path: Vec<String>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// How far it was to look.
    pub bounds: Bounds,
    /// How many states it found, the first included.
    pub states: u64,
    /// How many steps it tried, most of which led to states that were known.
    pub transitions: u64,
    /// The longest of the shortest paths to a state.
    pub depth: u32,
    /// Why it ended.
    pub ended: Ended,
    /// The first violation, if there is one.
    pub violation: Option<Violation>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { drops, duplicates, crashes, ticks, depth_max, states_max, .. } = self.bounds;
        let order = if self.bounds.ordered { "in order" } else { "in any order" };
        writeln!(
            f,
            "{drops} drops, {duplicates} duplicates, {crashes} crashes, {ticks} ticks, messages \
             {order}; at most {depth_max} deep, {states_max} states"
        )?;
        let Explored { states, transitions, depth, .. } = self;
        let ended = match self.ended {
            Ended::Complete => "all there are",
            Ended::Depth => "NOT ALL: the depth was reached",
            Ended::States => "NOT ALL: the number of states was reached",
            Ended::Violation => "up to the first violation",
        };
        writeln!(f, "{states} states by {transitions} steps, {depth} deep: {ended}")?;
        if let Some(violation) = &self.violation {
            for (number, line) in (1..).zip(&violation.path) {
                writeln!(f, "{number:3}. {line}")?;
            }
            writeln!(f, "     violated: {}", violation.reason)?;
        }
        Ok(())
    }
}

/// Hashes what is a hash.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only words are hashed")
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[allow(clippy::disallowed_types, reason = "asked whether it contains, never iterated")]
type Visited = std::collections::HashSet<u64, BuildHasherDefault<Same>>;

struct Search<S: Small> {
    explored: Explored,
    visited: Visited,
    /// For each state how it was first reached: from which state, and by what.
    parents: Vec<(u32, Choice)>,
    frontier: Vec<(u32, State<S>)>,
}

/// Looks at every state within `bounds`, breadth first, until one violates what must hold.
///
/// # Panics
/// If more than 2^32 states are asked for.
pub fn explore<S: Small>(
    system: &S,
    bounds: Bounds,
    mut progress: impl FnMut(&Progress),
) -> Explored {
    assert!(bounds.states_max <= u64::from(u32::MAX), "a state's number has 32 bits");
    let explored = Explored {
        bounds,
        states: 0,
        transitions: 0,
        depth: 0,
        ended: Ended::Complete,
        violation: None,
    };
    let (visited, parents, frontier) = (Visited::default(), Vec::new(), Vec::new());
    let mut search = Search { explored, visited, parents, frontier };
    match guarded(|| Ok(State::new(system, bounds, false))) {
        Ok(first) => search.reached(first, (0, Choice::Begin), system),
        Err(reason) => search.violated(reason, Vec::new(), system),
    }
    while !search.frontier.is_empty() && search.explored.ended == Ended::Complete {
        if search.explored.depth == bounds.depth_max {
            search.explored.ended = Ended::Depth;
            break;
        }
        search.deeper(system, &mut progress);
        let Explored { depth, states, .. } = search.explored;
        progress(&Progress { depth, states });
    }
    search.explored
}

/// Goes along `choices` again and says in words what happens; the last line may be a panic's.
#[must_use]
pub fn narrate<S: Small>(system: &S, bounds: Bounds, choices: &[Choice]) -> Vec<String> {
    let mut lines = Vec::new();
    let told = guarded(|| {
        let mut state = State::new(system, bounds, true);
        for &choice in choices {
            let before = state.describe(choice);
            lines.push(before);
            state.take(choice)?;
            let effects = state.told();
            if let (Some(line), false) = (lines.last_mut(), effects.is_empty()) {
                *line += &format!(": {}", effects.join(", "));
            }
        }
        Ok(())
    });
    if let (Err(reason), Some(line)) = (told, lines.last_mut()) {
        *line += &format!(": {reason}");
    }
    lines
}

/// A panic is a violation with the panic's message.
fn guarded<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    quiet(|| catch_unwind(AssertUnwindSafe(body))).and_then(|result| result)
}

impl<S: Small> Search<S> {
    /// Looks at all successors of the frontier, which become the new one.
    fn deeper(&mut self, system: &S, progress: &mut impl FnMut(&Progress)) {
        let depth = self.explored.depth + 1;
        for (number, state) in std::mem::take(&mut self.frontier) {
            let choices = state.choices();
            let settled =
                guarded(
                    || {
                        if state.quiet(&choices) { state.system.settled(&state) } else { Ok(()) }
                    },
                );
            if let Err(reason) = settled {
                return self.violated(reason, self.path(number), system);
            }
            for choice in choices {
                self.explored.transitions += 1;
                let mut next = state.clone();
                if let Err(reason) = guarded(|| next.take(choice)) {
                    let mut path = self.path(number);
                    path.push(choice);
                    self.explored.depth = depth;
                    return self.violated(reason, path, system);
                }
                let before = self.explored.states;
                self.reached(next, (number, choice), system);
                let Explored { states, ended, .. } = self.explored;
                if states > before {
                    self.explored.depth = depth;
                    if states % 65_536 == 0 {
                        progress(&Progress { depth, states });
                    }
                }
                if ended != Ended::Complete {
                    return;
                }
            }
        }
    }

    /// A state was reached: if it is new, it must hold what must hold, and is gone on from.
    fn reached(&mut self, state: State<S>, from: (u32, Choice), system: &S) {
        if self.visited.contains(&state.hash()) {
            return;
        }
        if self.explored.states == self.explored.bounds.states_max {
            self.explored.ended = Ended::States;
            return;
        }
        self.visited.insert(state.hash());
        self.explored.states += 1;
        let number = self.parents.len() as u32;
        self.parents.push(from);
        match guarded(|| state.system.invariant(&state)) {
            Ok(()) => self.frontier.push((number, state)),
            Err(reason) => self.violated(reason, self.path(number), system),
        }
    }

    fn violated(&mut self, reason: String, choices: Vec<Choice>, system: &S) {
        let path = narrate(system, self.explored.bounds, &choices);
        self.explored.violation = Some(Violation { reason, choices, path });
        self.explored.ended = Ended::Violation;
    }

    /// The choices that led to a state.
    fn path(&self, number: u32) -> Vec<Choice> {
        let (mut path, mut at) = (Vec::new(), number);
        while at != 0 {
            let (parent, choice) = self.parents[at as usize];
            path.push(choice);
            at = parent;
        }
        path.reverse();
        path
    }
}
