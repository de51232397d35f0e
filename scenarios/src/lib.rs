//! Quorate's machines in the simulator: what clients do, what goes wrong, and what must hold.
//!
//! A *system* is a cluster under test with its clients and invariants: [`Mesh`], a mesh of stores,
//! honest or not; [`Voters`], a group and its log; [`coordination`], a cluster with its registry, leases
//! and names; [`Fleet`], nodes that take releases. [`catalogue`] names the scenarios of all of them:
//! each is a function from a seed to a system and a plan, and a [`Trial`] is what can be done with one,
//! whatever it is of. Everything a scenario does is decided by its seed, so a failure is a name and a
//! number.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod actor;
mod catalogue;
pub mod coordination;
mod cuts;
mod fleet;
mod lies;
mod memo;
mod mesh;
pub mod meshes;
mod planted;
mod prompt;
mod readable;
mod replay;
mod rollouts;
mod simpler;
pub mod small;
mod state;
mod station;
mod trial;
mod voters;
mod walk;

pub use actor::{Actor, Ask};
pub use catalogue::{Named, catalogue, find};
pub use fleet::{Act as FleetAct, Expect as FleetExpect, Fleet, Release};
pub use lies::Lie;
pub use mesh::{Expect, Mesh, Op};
pub use planted::{Planted, planted};
pub use replay::Replay;
pub use station::{Carrier, Manners, Order, Station, Word, Written};
pub use trial::{Compared, Keep, Refused, Smaller, Start, Trial, origin, subject};
pub use voters::{Act, Voters};
pub use walk::Walk;
