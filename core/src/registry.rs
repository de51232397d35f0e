//! The registry: what a cluster agrees on. Keys with revisions, leases, and names that at most one
//! holds.

mod command;

pub use command::{
    Act, Candidate, Change, Command, Compare, Fence, Holder, Item, LeaseView, NameView, Op, Origin,
    Outcome, Proposal, Query, Refusal, Relation, Reply, SteppingDown, Subject, Target,
};

/// The longest key or name, in bytes.
pub const MAX_KEY_BYTES: usize = 4_096;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 512 * 1024;
/// The most keys.
pub const MAX_KEYS: usize = 1 << 20;
/// The most bytes of keys and values.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most comparisons, and the most steps of each branch, of a transaction.
pub const MAX_OPS: usize = 128;
/// The most leases.
pub const MAX_LEASES: usize = 1 << 16;
/// The most keys, and the most names, that hang on one lease.
pub const MAX_PER_LEASE: usize = 1 << 12;
/// The shortest lease, in milliseconds.
pub const MIN_TTL_MS: u64 = 500;
/// The longest lease, in milliseconds.
pub const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// The most names.
pub const MAX_NAMES: usize = 1 << 14;
/// The most that wait for one name.
pub const MAX_CANDIDATES: usize = 256;
/// The most revisions whose changes are remembered for watches.
pub const MAX_HISTORY: usize = 8_192;
/// The most bytes of keys and values in them.
pub const MAX_HISTORY_BYTES: u64 = 16 << 20;
/// The most items in one answer.
pub const MAX_ITEMS: usize = 4_096;
/// The most bytes of keys and values in one answer, unless a single item has more.
pub const MAX_ITEM_BYTES: usize = 1 << 20;
