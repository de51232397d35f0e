//! What crosses crates. Here are the parts that tests and fuzz targets share:
//!
//! - [`decoders`]: every decoder of bytes that somebody else may have chosen, each as a function that
//!   takes any bytes and asserts what must hold of them;
//! - [`control`]: the lines of the control socket, which are the binary's own;
//! - [`hostile`]: a peer that follows no rules, driven by bytes, against a whole node machine;
//! - [`seeds`]: real values for both to start from;
//! - [`host`]: the smallest host there is for a node machine.
#![deny(missing_docs)]

pub mod control;
pub mod decoders;
pub mod host;
pub mod hostile;
pub mod seeds;
