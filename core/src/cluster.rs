//! A cluster: a few nodes of a mesh that agree on a registry.

mod guard;
mod message;

pub use guard::{Guard, Loss};
pub use message::{
    Answer, Asked, Body, ClusterId, Command, Counters, Error, Event, Forwarded, Health,
    MemberStatus, Message, Read, Record, Request, Role, Seat, Status, WatchEnd, WatchUpdate,
};

/// The longest time that a request may take, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 60 * 60 * 1_000;
/// The most requests of this node's clients that wait for an answer.
pub const MAX_PENDING: usize = 1 << 14;
/// The longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The most watches on a node.
pub const MAX_WATCHES: usize = 1_024;
/// The most updates on their way to a watch's reader.
pub const WINDOW: usize = 256;
/// A learner that lacks no more entries than this may vote.
pub const CAUGHT_UP: u64 = 64;
