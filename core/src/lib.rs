//! Quorate's protocols, each a pure state machine.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

pub mod cow;
pub mod frontier;
pub mod hash;
pub mod iblt;
pub mod machine;
