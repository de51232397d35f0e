//! Quorate's protocols, each a pure state machine.
#![no_std]
#![deny(missing_docs, clippy::missing_errors_doc)]
// Two machines must agree to the bit: what is decided is decided in integers.
#![cfg_attr(not(test), deny(clippy::float_arithmetic))]

extern crate alloc;

#[macro_use]
pub mod planted;

pub mod cluster;
pub mod cow;
pub mod dag;
pub mod detector;
pub mod entry;
pub mod frontier;
pub mod gap;
pub mod handshake;
pub mod hash;
pub mod hlc;
pub mod hooks;
pub mod hunt;
pub mod iblt;
pub mod identity;
pub mod log;
pub mod membership;
pub mod node;
pub mod orphans;
pub mod quorum;
pub mod registry;
pub mod sigchain;
pub mod spread;
pub mod store;
pub mod sync;
pub mod ticket;
pub mod transfer;
pub mod value;
pub mod watch;

pub use quorate_machine as machine;
