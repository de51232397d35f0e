//! Quorate's machines in the simulator: what clients do, what goes wrong, and what must hold.
//!
//! [`Mesh`] is a mesh of nodes with clients, honest or not. [`catalogue`] names the scenarios: each is
//! a function from a seed to a mesh and a plan. Everything a scenario does is decided by its seed, so a
//! failure is a name and a number.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod actor;
mod capsule;
mod catalogue;
mod cuts;
mod fleet;
mod lies;
mod memo;
mod mesh;
mod planted;
mod readable;
mod replay;
mod rollouts;
mod simpler;
mod state;
mod station;
mod voters;

pub use actor::{Actor, Ask};
pub use capsule::origin;
pub use catalogue::{Named, catalogue, find};
pub use cuts::{Cut, cuts};
pub use fleet::{Act as FleetAct, Expect as FleetExpect, Fleet, Release};
pub use lies::Lie;
pub use mesh::{Expect, Mesh, Op};
pub use planted::{Planted, planted};
pub use replay::{Replay, describe, replay};
pub use rollouts::{Rollout, rollouts};
pub use station::{Carrier, Manners, Order, Station, Word, Written};
pub use voters::{Act, Voters};
