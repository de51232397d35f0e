//! The shape every protocol has: a value that is fed inputs and asks for effects.
//!
//! A [`Machine`] has no clock, socket, disk, thread or random source. A *host* owns it and feeds it
//! one [`Input`] at a time together with a [`Cx`], which is everything the step may know of the
//! outside: who it is, what time it is, one word of entropy. What the machine wants done it pushes
//! into the host's [`Effects`]. Nothing is returned, so nothing can be left undrained, and a step is
//! wholly determined by (state, cx, input): a log of a production run replays in the simulator.
//!
//! **Timers are state.** [`Machine::deadline`] is derived from the machine; cancelling one is an
//! assignment, a crash erases them, a clone copies them. After a [`Input::Tick`] the deadline must
//! lie beyond `cx.now`: a timer that fires for ever is a broken machine, and hosts assert it.
//!
//! **Durability is the default.** What [`Effects::send`] and [`Effects::emit`] carry leaves the host
//! only once every record persisted before it is durable. Only [`Effects::send_now`] and
//! [`Effects::emit_now`] overtake the disk, and may reveal nothing that a crash could still take
//! back. There is no "wait until durable" call: a machine that must know sends a message to itself,
//! which is held like any other.
//!
//! **No storage and no `Result`.** Recovery is [`Machine::restore`] of every record that was durable,
//! in order, then [`Input::Start`]. A peer's bad input is an event, never a panic; a broken invariant
//! of our own asserts; a disk that fails stops the host.
//!
//! **Composition.** A parent owns its children, lifts their messages, records and events into its own
//! enums with [`Lift`], and drains the bus of child events before it returns. A thing that several
//! children use (a connection, the clock) has one owner.

#![no_std]
#![deny(missing_docs, clippy::missing_errors_doc)]
// Two machines must agree to the bit: what is decided is decided in integers.
#![cfg_attr(not(test), deny(clippy::float_arithmetic))]

extern crate alloc;

use alloc::collections::VecDeque;
use core::fmt;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// A protocol as a value. See the [module documentation](self) for the contract.
pub trait Machine: Clone {
    /// What travels between peers.
    type Message: Clone;
    /// What goes to the write-ahead log.
    type Record: Clone;
    /// What the host or the parent asks for.
    type Command;
    /// What the machine tells the host or the parent.
    type Event;

    /// Takes back one durable record. Called for each, in the order of their persisting, before
    /// [`Input::Start`]; there is no clock and nobody to talk to yet.
    fn restore(&mut self, record: Self::Record);

    /// One step.
    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>);

    /// When the machine wants its next [`Input::Tick`]; `None` for never.
    fn deadline(&self) -> Option<Time>;

    /// Asserts the machine's own invariants. The simulator calls it after every step.
    fn check(&self) {}
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<M: Machine> {
    /// Once, after the last [`Machine::restore`].
    Start,
    /// A peer's message. `from` is authenticated by the host.
    Message {
        /// The sender.
        from: NodeId,
        /// What it sent; not to be trusted.
        message: M::Message,
    },
    /// The host, or the parent, asks.
    Command(M::Command),
    /// A link to a peer came up or went down. Messages may be lost without any of these.
    Link {
        /// The other end.
        peer: NodeId,
        /// Whether messages may now pass.
        up: bool,
    },
    /// `cx.now` has reached [`Machine::deadline`].
    Tick,
}

/// Everything a step may know of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cx {
    /// The node this machine runs on.
    pub me: NodeId,
    /// Monotonic time: never goes back while the process lives, means nothing after it.
    pub now: Time,
    /// The wall clock as this host believes it: may jump either way.
    pub wall: WallTime,
    /// One word of randomness, fresh for each step. Expand it with [`Cx::random`].
    pub entropy: u64,
}

impl Cx {
    /// A generator for this step and `domain`. Two domains never share a stream, so one child's
    /// draws cannot shift another's.
    ///
    /// ```
    /// use quorate_machine::{Cx, NodeId, Time, WallTime};
    /// use rand_core::Rng;
    ///
    /// let cx = Cx { me: NodeId([0; 32]), now: Time::ZERO, wall: WallTime::ZERO, entropy: 7 };
    /// assert_eq!(cx.random("sync").next_u64(), cx.random("sync").next_u64());
    /// assert_ne!(cx.random("sync").next_u64(), cx.random("gap").next_u64());
    /// ```
    #[must_use]
    pub fn random(&self, domain: &str) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 machine entropy");
        hasher.update(&self.entropy.to_le_bytes());
        hasher.update(domain.as_bytes());
        ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
    }
}

/// Where a machine puts what it wants done. Implemented by hosts, and by [`Lift`].
pub trait Effects<M: Machine> {
    /// Appends to the write-ahead log.
    fn persist(&mut self, record: M::Record);
    /// Sends once every earlier [`persist`](Self::persist) is durable.
    fn send(&mut self, to: NodeId, message: M::Message);
    /// Sends at once. The message must reveal nothing that is not durable yet.
    fn send_now(&mut self, to: NodeId, message: M::Message);
    /// Tells the host or the parent; held like [`send`](Self::send).
    fn emit(&mut self, event: M::Event);
    /// Tells the host or the parent at once: for what must not wait for a slow disk, such as that
    /// this node leads no more. It overtakes what was emitted before and is still held, and must
    /// reveal nothing that is not durable yet.
    fn emit_now(&mut self, event: M::Event);
}

/// A child's effects, lifted into its parent's: messages and records pass through to the parent's
/// host wrapped in the parent's enums, events stop on the parent's bus.
///
/// No disk is between a child and that bus: the parent hears within the step whatever the child
/// emits, urgent or not, in the order in which it was emitted. Which way the parent passes it on is
/// for the parent to say: by [`Effects::emit_now`] again what its child told so, or it waits for the
/// disk there. A protocol that has such events says which they are (as `log::Event::at_once` does).
///
/// ```
/// # use quorate_machine::*;
/// # use std::collections::VecDeque;
/// # #[derive(Clone)] struct Child;
/// # impl Machine for Child {
/// #     type Message = u8; type Record = u8; type Command = (); type Event = u8;
/// #     fn restore(&mut self, _: u8) {}
/// #     fn handle(&mut self, _: Cx, _: Input<Self>, fx: &mut dyn Effects<Self>) { fx.emit(1) }
/// #     fn deadline(&self) -> Option<Time> { None }
/// # }
/// #[derive(Clone)]
/// struct Parent { child: Child }
///
/// #[derive(Clone)]
/// enum Wrapped { Child(u8) }
///
/// impl Machine for Parent {
///     type Message = Wrapped;
///     type Record = Wrapped;
///     type Command = ();
///     type Event = u8;
///
///     fn restore(&mut self, Wrapped::Child(record): Wrapped) { self.child.restore(record) }
///
///     fn handle(&mut self, cx: Cx, _: Input<Self>, fx: &mut dyn Effects<Self>) {
///         let mut bus = VecDeque::new();
///         let mut lift = Lift {
///             fx, bus: &mut bus, message: Wrapped::Child, record: Wrapped::Child, event: |e| e,
///         };
///         self.child.handle(cx, Input::Start, &mut lift);
///         while let Some(event) = bus.pop_front() { fx.emit(event) }
///     }
///
///     fn deadline(&self) -> Option<Time> { self.child.deadline() }
/// }
/// ```
pub struct Lift<'a, P: Machine, C: Machine, E> {
    /// The parent's effects.
    pub fx: &'a mut dyn Effects<P>,
    /// Where the child's events go; the parent drains it before it returns.
    pub bus: &'a mut VecDeque<E>,
    /// Wraps a child's message.
    pub message: fn(C::Message) -> P::Message,
    /// Wraps a child's record.
    pub record: fn(C::Record) -> P::Record,
    /// Wraps a child's event.
    pub event: fn(C::Event) -> E,
}

impl<P: Machine, C: Machine, E> Effects<C> for Lift<'_, P, C, E> {
    fn persist(&mut self, record: C::Record) {
        self.fx.persist((self.record)(record));
    }
    fn send(&mut self, to: NodeId, message: C::Message) {
        self.fx.send(to, (self.message)(message));
    }
    fn send_now(&mut self, to: NodeId, message: C::Message) {
        self.fx.send_now(to, (self.message)(message));
    }
    fn emit(&mut self, event: C::Event) {
        self.bus.push_back((self.event)(event));
    }
    fn emit_now(&mut self, event: C::Event) {
        self.bus.push_back((self.event)(event));
    }
}

impl<P: Machine, C: Machine, E> fmt::Debug for Lift<'_, P, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lift").field("bus", &self.bus.len()).finish_non_exhaustive()
    }
}

/// The record or message type of a machine that has none. It has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Never {}

/// A node's name: its Ed25519 public key, 32 bytes. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The first ten hexadecimal digits: for people, in logs and tables; not an identifier.
    #[must_use]
    pub fn short(&self) -> impl fmt::Display {
        struct Short([u8; 5]);
        impl fmt::Display for Short {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        let [a, b, c, d, e, ..] = self.0;
        Short([a, b, c, d, e])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.short(), f)
    }
}

/// A point on the host's monotonic clock, in microseconds from an origin that means nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Time = Time(0);

    /// This point and `ms` milliseconds, at most the end of time.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// This point and `us` microseconds, at most the end of time.
    #[must_use]
    pub const fn after_us(self, us: u64) -> Time {
        Time(self.0.saturating_add(us))
    }

    /// Microseconds since `earlier`, zero if that lies ahead.
    #[must_use]
    pub const fn since_us(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A reading of the host's wall clock, in milliseconds since 1970-01-01 00:00 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The epoch.
    pub const ZERO: WallTime = WallTime(0);
}

/// The earlier of two deadlines, where `None` is never.
#[must_use]
pub fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
