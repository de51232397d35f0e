//! A seeded simulator for any [`Machine`](quorate_machine::Machine).
//!
//! A cluster of machines runs in one thread, in simulated time, over a simulated network, disks and
//! clocks, with all their faults; one seed decides everything. The same seed gives the same trace,
//! bit for bit, on any machine, and a failure is therefore a number.
//!
//! - [`System`] is what one writes: how to boot a machine, what a client does, what the host does
//!   with events, what must always hold, and when a healed cluster has converged.
//! - [`Plan`] says for how long and with which faults; [`Plan::draw`] turns it and a seed into a
//!   [`Run`], an explicit list of faults and operations.
//! - [`Sim`] is a running cluster: it can be run to the end, stepped, looked at and cloned.
//! - [`many()`] runs many seeds over all cores and sums up, in the order of the seeds.
//! - [`picture::html`] draws a recorded run as a page, [`shiviz::log`] writes it for ShiViz.
//! - [`check`] judges what clients were answered; [`explore`] searches by more than seeds.
//! - [`Capsule`] is a failing run as a file; [`shrink()`] makes it the smallest that still fails.
//! - [`Cursor`] goes back and forth in a run and tells what each node saw.
//!
//! A machine that counts, durably, and a scenario that finds what it acknowledged and lost, if it
//! ever does:
//!
//! ```
//! use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};
//! use quorate_sim::{Fault, HostCx, Options, Plan, SimTime, System, View, many, ms};
//!
//! #[derive(Clone, Default)]
//! struct Count(u64);
//!
//! impl Machine for Count {
//!     type Message = Never;
//!     type Record = u64;
//!     type Command = ();
//!     type Event = u64;
//!     fn restore(&mut self, count: u64) { self.0 = count }
//!     fn handle(&mut self, _: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
//!         if let Input::Command(()) = input {
//!             self.0 += 1;
//!             fx.persist(self.0);
//!             fx.emit(self.0); // leaves once the record is durable
//!         }
//!     }
//!     fn deadline(&self) -> Option<Time> { None }
//! }
//!
//! #[derive(Clone, Default)]
//! struct Counters { acknowledged: u64 }
//!
//! impl System for Counters {
//!     type Machine = Count;
//!     type Op = ();
//!     fn nodes(&self) -> usize { 1 }
//!     fn boot(&self, _: usize) -> Count { Count::default() }
//!     fn op(&mut self, _: usize, _: (), cx: &mut HostCx<'_, Self>) { cx.command(()); }
//!     fn event(&mut self, _: usize, count: u64, cx: &mut HostCx<'_, Self>) {
//!         self.acknowledged = count;
//!         cx.mark("acknowledged");
//!     }
//!     fn invariant(&mut self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
//!         match view.machine(node) {
//!             Some(count) if count.0 < self.acknowledged => Err("a count is lost".to_owned()),
//!             _ => Ok(()),
//!         }
//!     }
//! }
//!
//! let scenario = |_seed| {
//!     // The default swarm, and besides: a crash at two seconds, for 50 ms.
//!     let crash = Fault::crash(0).lasting(ms(50));
//!     let plan = Plan::new(SimTime::secs(10)).fault(SimTime::secs(2), crash);
//!     let plan = (0..100).fold(plan, |plan, n| plan.op(SimTime::ms(n * 90), 0, ()));
//!     (Counters::default(), plan)
//! };
//! let report = many(&scenario, 0..50, Options::default());
//! report.assert_ok(|seed| format!("quorate sim --scenario counters --seed {seed}"));
//! assert!(report.unreached(&["acknowledged"]).is_empty());
//! ```
#![deny(missing_docs, clippy::missing_errors_doc)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod atlas;
pub mod capsule;
pub mod check;
pub mod clock;
pub mod cursor;
mod cuts;
pub mod determinism;
pub mod disk;
mod draw;
pub mod explore;
mod faults;
mod fingerprint;
mod latency;
pub mod many;
pub mod network;
pub mod picture;
mod prng;
mod queue;
pub mod recording;
pub mod run;
pub mod schedule;
pub mod shiviz;
pub mod shrink;
pub mod swarm;
mod system;
mod time;
pub mod trace;
mod world;

pub use atlas::Atlas;
pub use capsule::{Capsule, Origin};
pub use clock::{Form, Skew, Wave};
pub use cursor::Cursor;
pub use cuts::Symmetry;
pub use determinism::check_determinism;
pub use disk::{Log, Loses, Loss};
pub use fingerprint::Fingerprint;
pub use latency::{Distribution, Regions};
pub use many::{Options, Report, Scenario, many, record, run};
pub use network::NetworkConditions;
pub use prng::{Ratio, Rng, Span};
pub use recording::{About, States};
pub use run::{Failure, FailureKind, Outcome, Sim};
pub use schedule::{Action, Conditions, Fault, Fork, Run, Schedule, Shape, Topology, When};
pub use shrink::{Shrunk, shrink};
pub use swarm::{Kind, Plan, Swarm, Timed};
pub use system::{Command, Event, HostCx, Message, Record, System, View};
pub use time::{FOREVER_US, SimTime, ms, secs};
