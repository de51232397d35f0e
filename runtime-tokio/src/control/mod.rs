//! The control socket: how commands of a node's owner reach a running node, and how they work on the
//! data directory where none is running.

pub(crate) mod address;
mod cluster;
pub(crate) mod execute;
mod import;
pub(crate) mod lines;
mod pipeline;
pub(crate) mod protocol;
mod report;
pub(crate) mod server;
pub(crate) mod session;
mod socket;
