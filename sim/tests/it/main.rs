//! What the simulator promises, a file a promise; [`toys`] are the machines that it is tried on.
//!
//! One program, since each would compile the simulator for its machines again.

mod capsule;
mod cursor;
mod determinism;
mod disks;
mod faults;
mod guided;
mod liveness;
mod network;
mod picture;
mod registers;
mod runs;
mod shiviz;
mod shrink;
mod small;
mod toys;
