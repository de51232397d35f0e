//! What the three have in common: each is a machine that can be asked who leads.

use std::fmt::Debug;
use std::hash::Hash;

use quorate_machine::{Machine, NodeId, Time};

/// A tick is a one-way delay.
pub const TICK_US: u64 = 10_000;
/// Elections begin when a leader was not heard for so many ticks, or one and a half to two times as
/// many where the crate draws them.
pub const ELECTION_TICKS: usize = 10;

/// One of the three as a machine.
pub trait Peer:
    Machine<
        Message: Debug + Hash,
        Record: Debug + Hash,
        Command: Clone + Debug + Hash,
        Event: Clone + Debug + Hash,
    >
{
    /// In the tables.
    const NAME: &'static str;
    /// Node `me` of `nodes`.
    fn new(me: usize, nodes: usize) -> Self;
    /// What the node is told at its first start.
    fn found(nodes: usize) -> Option<Self::Command>;
    /// An entry, where this node leads.
    fn write() -> Self::Command;
    /// Whether it says of itself that it leads.
    fn leads(&self, now: Time) -> bool;
    /// The number of the term, ballot or epoch that it has accepted.
    fn epoch(&self) -> u64;
}

/// A node's name, as the simulator gives it.
pub fn id(node: usize) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(node as u64).to_be_bytes());
    NodeId(id)
}

/// The number of a name.
pub fn number(id: NodeId) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize
}
