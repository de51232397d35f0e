//! Small machines to try the simulator on.
#![allow(unreachable_pub, reason = "the test files are its users")]

pub mod author;
pub mod lock;
pub mod probe;
pub mod register;
