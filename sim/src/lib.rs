//! A seeded simulator for any [`Machine`](quorate_core::machine::Machine).
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
//! - [`many`] runs many seeds over all cores and sums up, in the order of the seeds.
#![deny(missing_docs)]

pub mod clock;
pub mod disk;
mod faults;
pub mod many;
pub mod network;
mod prng;
mod queue;
pub mod run;
pub mod schedule;
pub mod swarm;
mod system;
mod time;
pub mod trace;
mod world;

pub use clock::Skew;
pub use disk::{Log, Loses, Loss};
pub use many::{Options, Report, Scenario, check_determinism, many, record, run};
pub use network::NetworkConditions;
pub use prng::{Ratio, Rng, Span};
pub use run::{Failure, FailureKind, Outcome, Sim};
pub use schedule::{Action, Conditions, Fault, Run, Schedule, Shape, Topology, When};
pub use swarm::{Kind, Plan, Swarm, Timed};
pub use system::{Command, Event, HostCx, Message, Record, System, View};
pub use time::{FOREVER_US, SimTime, ms, secs};
