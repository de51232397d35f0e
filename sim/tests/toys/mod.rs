//! Small machines to try the simulator on.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(unreachable_pub, reason = "the test files are its users")]

pub mod author;
pub mod lock;
pub mod probe;
pub mod register;
