//! The registry: what a cluster agrees on. Keys with revisions, leases, and names that at most one
//! holds.
//!
//! A value that is fed the committed entries of a [replicated log](crate::log), in order, and nothing
//! else: no clock, no configuration, no chance. So all who have applied the same entries have the same
//! registry, to the byte of its snapshot.
//!
//! **Revisions.** The revision is the index of the last entry applied, whatever was in it. A key
//! carries the revisions at which it came to be and last changed; a lease's id and a grant's *token*
//! are the revision at which they were granted. So tokens only rise, through restarts, snapshots and
//! changes of leader, and the registry needs no counter that could be reset.
//!
//! **Time.** An entry says what the log's clock is as its leader reckons it, and the registry takes
//! the later of that and what it had. A lease ends at the first entry at or after its deadline which
//! does not renew it; nothing else ends it but being revoked. (Gray and Cheriton, *Leases* (1989): "a
//! lease is a contract that gives its holder specified rights over property for a limited period of
//! time". Theirs is of physical time; ours is of entries that carry one, so that no two machines'
//! clocks are ever compared. How the leader's clock runs is told in [`cluster`](crate::cluster).)
//!
//! **Names.** A leader's election and a lock are one thing here: a name, at most one holder, a queue.
//! The next is granted the name when the holder releases it, its lease ends, or it has stepped down.
//! The order is by priority, then by age; a higher priority never takes the name away from who holds
//! it, or two would play ping-pong with it. All grants are made at the end of an entry: a name changes
//! hands at most once in one revision, or two grants would have one token.
//!
//! **Stepping down** takes nothing away at once either. The holder is asked: watches tell it, and the
//! answer to its next renewal does. It stops its work and releases; if it does not, it loses the name
//! when its lease's time has passed since it was asked, by which time it has either heard or has not
//! renewed and counts as gone by its own clock.
//!
//! **Fences.** A write may name a grant under which it is made, and is refused unless that is the
//! grant of the name's holder at this very entry. ("The storage server must take an active role in
//! checking tokens, and rejecting any writes on which the token has gone backwards": Kleppmann, *How to
//! do distributed locking* (2016).)
//!
//! **Bounds.** Everything is bounded by a constant of this module, and refused beyond it, the same on
//! every node. Bytes that are no command are refused too: they were committed, so they must not panic.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::cow::CowMap;
use crate::log::Members;
use crate::machine::NodeId;

mod command;
mod history;
mod keys;
mod leases;
mod names;
mod snapshot;
#[cfg(test)]
mod tests;

pub use command::{
    Act, Candidate, Change, Command, Compare, Fence, Holder, Item, LeaseView, NameView, Op, Origin,
    Outcome, Proposal, Query, Refusal, Relation, Reply, SteppingDown, Subject, Target,
};
use history::History;
use keys::Value;
use leases::{Lease, Timer};
use names::Name;
pub use snapshot::SnapshotError;

/// The longest key or name, in bytes.
pub const MAX_KEY_BYTES: usize = 4_096;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 512 * 1024;
/// The most keys.
pub const MAX_KEYS: usize = 1 << 20;
/// The most bytes of keys, of names for each that holds or waits for them, and of their values.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most comparisons, and the most steps of each branch, of a transaction.
pub const MAX_OPS: usize = 128;
/// The most leases.
pub const MAX_LEASES: usize = 1 << 16;
/// The most keys and names together that hang on one lease.
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

/// What a cluster agrees on. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    revision: u64,
    clock_ms: u64,
    keys: CowMap<Bytes, Value>,
    bytes: u64,
    leases: CowMap<u64, Lease>,
    names: CowMap<Bytes, Name>,
    /// What ends by itself, and when.
    timers: CowMap<(u64, Timer), ()>,
    history: History,
    /// Learners that are to vote once they have caught up.
    aspirants: BTreeSet<NodeId>,
}

/// What one entry brings about, until its end.
#[derive(Debug, Default)]
struct Turn {
    changes: Vec<Change>,
    /// Names that lost their holder, and the node that is preferred for the next.
    vacant: BTreeMap<Bytes, Option<NodeId>>,
}

impl Registry {
    /// Applies the entry at `index`, which follows that of the last call. What it comes to is for
    /// whoever asked.
    ///
    /// # Errors
    ///
    /// The command is refused: apart from the clock and what it ends, nothing has changed.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Result<Reply, Refusal> {
        debug_assert!(index > self.revision, "entries are applied in order");
        self.revision = index;
        self.clock_ms = self.clock_ms.max(proposal.at_ms);
        let mut turn = Turn::default();
        if let Act::Beat { renewals } = &proposal.act {
            renewals.iter().for_each(|lease| self.renew(*lease));
        }
        self.expire(&mut turn);
        let done = Ok(Reply::Done { revision: index });
        let result = match &proposal.act {
            Act::Beat { .. } => done,
            Act::Aspire { node } => {
                self.aspirants.insert(*node);
                done
            }
            Act::Command(command) => self.command(&mut turn, command),
        };
        self.fill_vacancies(&mut turn);
        self.history.push(index, turn.changes);
        // Whether a campaign was granted is known now.
        match (&proposal.act, result) {
            (Act::Command(Command::Campaign { name, lease, .. }), Ok(_)) => {
                self.standing(name, *lease)
            }
            (_, result) => result,
        }
    }

    /// Applies an entry that is nobody's command: only the revision moves.
    pub fn pass(&mut self, index: u64) {
        debug_assert!(index > self.revision, "entries are applied in order");
        self.revision = index;
    }

    /// Applies a change of the log's members.
    pub fn members(&mut self, index: u64, members: &Members) {
        self.pass(index);
        self.aspirants.retain(|node| members.learners.contains(node));
    }

    fn command(&mut self, turn: &mut Turn, command: &Command) -> Result<Reply, Refusal> {
        match command {
            Command::Put { key, value, lease, previous, fence } => {
                self.check_fence(fence.as_ref())?;
                self.check_previous(key, *previous)?;
                let version = self.put(turn, key, value, *lease)?;
                Ok(Reply::Written { revision: self.revision, version })
            }
            Command::Delete { key, previous, fence } => {
                self.check_fence(fence.as_ref())?;
                self.check_previous(key, *previous)?;
                let existed = self.delete(turn, key);
                Ok(Reply::Deleted { revision: self.revision, existed })
            }
            Command::Txn { compare, then, otherwise, fence } => {
                self.check_fence(fence.as_ref().filter(|_| !bug!(transactions_need_no_token)))?;
                self.txn(turn, compare, then, otherwise)
            }
            Command::Grant { ttl_ms, node } => self.grant_lease(*ttl_ms, *node),
            Command::Revoke { lease } => self.revoke(turn, *lease),
            Command::Campaign { name, lease, priority, value } => {
                self.campaign(turn, name, *lease, *priority, value)
            }
            Command::Withdraw { name, lease } => self.withdraw(name, *lease),
            Command::Release { name, token } => self.release(turn, name, *token),
            Command::StepDown { name, to } => self.step_down(turn, name, *to),
        }
    }

    /// Answers a query from the state as it is.
    ///
    /// # Errors
    ///
    /// What is asked for by its id or name is not there.
    pub fn query(&self, query: &Query) -> Result<Reply, Refusal> {
        let revision = self.revision;
        match query {
            Query::Get { key } => Ok(Reply::Value { revision, item: self.item(key) }),
            Query::List { prefix, after, limit, keys_only } => {
                Ok(self.list(prefix, after.as_ref(), *limit, *keys_only))
            }
            Query::Lease { lease } => {
                let lease = self.lease(*lease).ok_or(Refusal::UnknownLease)?;
                Ok(Reply::Lease { revision, lease })
            }
            Query::Leases { after, limit } => Ok(self.list_leases(*after, *limit)),
            Query::Name { name } => {
                let name = self.name(name).ok_or(Refusal::UnknownName)?;
                Ok(Reply::Name { revision, name })
            }
            Query::Names { prefix, after, limit } => {
                Ok(self.list_names(prefix, after.as_ref(), *limit))
            }
        }
    }

    /// The index of the last entry applied.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The log's clock, in milliseconds.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// When something next ends by itself, by the log's clock.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((deadline_ms, _), ())| *deadline_ms)
    }

    /// Learners that are to vote once they have caught up.
    #[must_use]
    pub fn aspirants(&self) -> &BTreeSet<NodeId> {
        &self.aspirants
    }

    /// What happened at each revision from `from` on, as far as anything did that can be watched.
    ///
    /// # Errors
    ///
    /// Not all of that is known any more: the oldest revision from which on it is.
    pub fn changes(&self, from: u64) -> Result<impl Iterator<Item = (u64, &[Change])>, u64> {
        self.history.since(from)
    }

    /// The oldest revision from which on all changes are known.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.history.oldest()
    }

    /// How many keys there are, and the bytes of keys, names and values.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.keys.len(), self.bytes)
    }

    /// How many leases there are.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// How many names are held or waited for.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Asserts what must hold of any registry; takes time in proportion to its size.
    pub fn check(&self) {
        self.check_keys();
        self.check_leases();
        self.check_names();
        self.history.check(self.revision);
    }
}

/// The entries after `after` whose keys start with `prefix`.
fn page<'a, V>(
    map: &'a CowMap<Bytes, V>,
    prefix: &'a Bytes,
    after: Option<&Bytes>,
) -> impl Iterator<Item = (&'a Bytes, &'a V)> {
    use core::ops::Bound;
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let range = map.range::<Bytes>((start, Bound::Unbounded));
    range.take_while(move |(key, _)| key.starts_with(prefix))
}
