//! A store: chains, their merge, their members and what waits, kept in step.
//!
//! The store is the data half of a node: it takes entries, from here or from peers, decides what each
//! one is (applied, waiting, a duplicate, refused, half of a fork), and says what came of it as a list
//! of [`Outcome`]s. It sends nothing and writes nothing: the node turns outcomes into records, pushes,
//! requests and events. It is also what a restart rebuilds: fed the same log it makes the same
//! decisions, because each record carries the wall clock's reading that the decisions were made with.
//!
//! The path of an entry: *authentic?* ([`crate::sigchain::authenticate`]) → *of this store, by a member,
//! below its cut?* → *new?* (held already: a duplicate, or a fork) → *predecessor here?* → *what it
//! cites here?* → *not from the future?* → applied, and whatever waited for it is tried again, in a
//! loop, never by recursion.
//!
//! **The store's id commits to its founder**, so that an id alone (in a ticket) is enough to check
//! every entry, invitation and removal that a stranger sends.

mod settle;
#[cfg(test)]
mod tests;
mod write;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dag::{Dag, SlotName, Write};
use crate::entry::{Entry, Link};
use crate::frontier::Tip;
use crate::hash::Hash;
use crate::hlc::Clock;
use crate::identity::Verify;
use crate::machine::{NodeId, Time, WallTime};
use crate::membership::Membership;
use crate::orphans::Orphans;
use crate::sigchain::{Chains, Fork, ForkProof, MAX_PROOF_RUN, Meta, ProofError, authenticate};

use settle::Incoming;

pub use write::{Change, WriteError};

/// Who made a store, and a number that tells apart the stores of one founder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Founding {
    /// Who made it.
    pub founder: NodeId,
    /// Drawn at random when it was made.
    pub nonce: [u8; 16],
}

impl Founding {
    /// The store's id.
    #[must_use]
    pub fn store(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 store id");
        hasher.update(&self.founder.0);
        hasher.update(&self.nonce);
        Hash(*hasher.finalize().as_bytes())
    }
}

/// Why an entry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refusal {
    /// It belongs to another store.
    WrongStore,
    /// Neither its signature nor an authentic successor vouches for it.
    NotAuthentic,
    /// Its author is not a member, as far as is known here.
    NotAMember,
    /// Its author was removed, or forked, below its place.
    Closed,
    /// Its clock does not lie above its predecessor's.
    ClockOrder,
    /// It waits for something, and there is no room to wait.
    NoRoom,
}

/// What came of offering entries to a store, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A new entry has a place in the log: persist it there, now.
    Stored {
        /// Its record's position.
        position: u64,
        /// The entry.
        entry: Entry,
    },
    /// An entry took effect.
    Applied {
        /// The entry.
        entry: Entry,
        /// The peer that brought it; the author itself for an entry written here.
        from: NodeId,
    },
    /// Heads changed.
    Changed(SlotName),
    /// An entry waits, because these places of a chain have not come.
    Missing {
        /// Whose chain.
        author: NodeId,
        /// The first missing place.
        from: u64,
        /// The last.
        to: u64,
        /// Who brought the entry that waits, and so should have them.
        shown_by: NodeId,
    },
    /// An entry waits for the wall clock: it claims to be from the future.
    Parked(Link),
    /// Entries that waited for the wall clock were let go at this reading of it: persist that.
    Released(WallTime),
    /// An entry waited too long for what it cites, and takes effect without: persist that.
    Waived(Link),
    /// An entry was refused.
    Refused {
        /// Which.
        link: Link,
        /// Who brought it.
        from: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// The author signed another entry than the one held at this place: a proof can be assembled from
    /// this run and from what is held.
    Conflict {
        /// Whose chain.
        author: NodeId,
        /// The place.
        seq: u64,
        /// The other story: signed headers from that place on.
        theirs: Vec<Bytes>,
    },
    /// An authentic entry contradicts what is held of `author` at or below `seq`: look for the fork.
    Diverged {
        /// Whose chain.
        author: NodeId,
        /// The place where the two stories are known to differ.
        seq: u64,
        /// Who brought it, and so knows the other story.
        with: NodeId,
    },
    /// A fork is proven: persist the proof, and pass it on.
    Forked {
        /// What is proven.
        fork: Fork,
        /// The position of the proof's record in the log.
        position: u64,
        /// The proof.
        proof: ForkProof,
    },
    /// A chain now ends at another place, or no longer ends.
    Cut {
        /// Whose chain.
        author: NodeId,
        /// Above which place nothing counts.
        cut: Option<u64>,
    },
    /// The members, or how they stand, changed.
    Members,
    /// The record at this position of the log is not needed any more.
    Forgotten(u64),
}

/// A store, as far as it is held here.
#[derive(Clone, Debug)]
pub struct Store {
    me: NodeId,
    founding: Founding,
    id: Hash,
    verify: Verify,
    chains: Chains,
    dag: Dag,
    membership: Membership,
    orphans: Orphans,
    forks: BTreeMap<NodeId, Proven>,
    clock: Clock,
    next_position: u64,
    applied: u64,
    moved_tips: BTreeSet<NodeId>,
    /// Entries from the log whose author is not known, because the log is damaged where it was invited.
    strays: Vec<Incoming>,
}

/// A fork, and what proves it.
#[derive(Clone, Debug)]
pub struct Proven {
    /// What is proven.
    pub fork: Fork,
    /// The proof.
    pub proof: ForkProof,
    /// The position of its record in the log.
    pub position: u64,
}

/// What brought a batch, and when: the outside that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The peer that brought it.
    pub from: NodeId,
    /// The monotonic clock.
    pub now: Time,
    /// The wall clock.
    pub wall: WallTime,
}

impl Store {
    /// A new, empty store, as `me` holds it. `first_position` is that of its first record in the log.
    #[must_use]
    pub fn new(me: NodeId, founding: Founding, verify: Verify, first_position: u64) -> Store {
        let mut store = Store {
            me,
            founding,
            id: founding.store(),
            verify,
            chains: Chains::default(),
            dag: Dag::default(),
            membership: Membership::new(founding.founder),
            orphans: Orphans::default(),
            forks: BTreeMap::new(),
            clock: Clock::default(),
            next_position: first_position,
            applied: 0,
            moved_tips: BTreeSet::new(),
            strays: Vec::new(),
        };
        store.number(founding.founder);
        store
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Hash {
        self.id
    }

    /// Who made it.
    #[must_use]
    pub fn founding(&self) -> Founding {
        self.founding
    }

    /// Its members.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Its chains.
    #[must_use]
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// The merge of its writes.
    #[must_use]
    pub fn dag(&self) -> &Dag {
        &self.dag
    }

    /// What waits.
    #[must_use]
    pub fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// The proven forks, the lowest of each author.
    #[must_use]
    pub fn forks(&self) -> &BTreeMap<NodeId, Proven> {
        &self.forks
    }

    /// The hybrid clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The position that the next record will have.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    /// How many entries took effect, ever.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What is kept of the entry that made `write`.
    #[must_use]
    pub fn meta(&self, write: &Write) -> &Meta {
        self.chains.meta(write.place).expect("a write's entry is held")
    }

    /// A reference to the entry that made `write`.
    #[must_use]
    pub fn link(&self, write: &Write) -> Link {
        let author = self.chains.chain(write.place.author).author();
        Link { author, seq: write.place.seq, hash: self.meta(write).hash }
    }

    /// The chain of `author` as peers are told of it. Only a member's is: what was kept of one who
    /// turned out not to be a member is nobody's business.
    #[must_use]
    pub fn tip(&self, author: &NodeId) -> Tip {
        let Some(member) = self.membership.get(author) else { return Tip::absent(*author) };
        let empty = Tip { closed: member.limit.is_some(), ..Tip::absent(*author) };
        self.chains.of(author).map_or(empty, |chain| chain.tip())
    }

    /// A digest of what can be read: every slot's heads, and the members. Equal digests mean equal
    /// stores, whatever each still holds above its cuts. Costs a look at every slot.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 store state");
        hasher.update(&self.id.0);
        for (name, heads) in self.dag.slots_from(&[]) {
            if heads.is_empty() {
                continue;
            }
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update(&(heads.len() as u64).to_le_bytes());
            for head in heads {
                hasher.update(&self.meta(head).hash.0);
            }
        }
        for (node, member) in self.membership.iter() {
            hasher.update(&node.0);
            hasher.update(&member.limit.unwrap_or(u64::MAX).to_le_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// The tips that moved since this was last asked.
    pub fn take_moved_tips(&mut self) -> Vec<Tip> {
        let moved = core::mem::take(&mut self.moved_tips);
        moved.iter().map(|author| self.tip(author)).collect()
    }

    /// Takes a position in the log for a record of the node's own.
    pub fn take_position(&mut self) -> u64 {
        self.next_position += 1;
        self.next_position - 1
    }

    /// Takes entries that a peer sent.
    pub fn ingest(&mut self, mut batch: Vec<Entry>, arrival: Arrival, out: &mut Vec<Outcome>) {
        let Arrival { from, now, wall } = arrival;
        batch.retain(|entry| !self.has(entry) || bug!(duplicate_applied_twice));
        let named_prev = |author: &NodeId, seq| {
            let next = self.orphans.get(author, seq + 1)?;
            Some((next.entry.header().prev, next.entry.header().hlc))
        };
        let mut authentic = authenticate(&batch, self.verify, named_prev).into_iter();
        let mut conflicts = BTreeSet::new();
        let mut batch = batch.into_iter();
        while let (Some(entry), Some(authentic)) = (batch.next(), authentic.next()) {
            let link = entry.link();
            if entry.header().store != self.id {
                out.push(Outcome::Refused { link, from, reason: Refusal::WrongStore });
                continue;
            }
            if !authentic {
                out.push(Outcome::Refused { link, from, reason: Refusal::NotAuthentic });
                continue;
            }
            if self.contradicts(&entry) {
                // One conflict of an author is as good as many: the first stands lowest.
                if !conflicts.insert(link.author) || bug!(second_story_dropped) {
                    continue;
                }
                let theirs = self.story(&entry, batch.as_slice());
                out.push(Outcome::Conflict { author: link.author, seq: link.seq, theirs });
                continue;
            }
            let incoming = Incoming::new(entry, from, now);
            self.settle(VecDeque::from([incoming]), wall, out);
        }
    }

    /// Takes back an entry from the log, where it stands at `position`; `wall` is the reading that it
    /// was stored with. `sheltered` says that a record before it was damaged: then it may lack what it
    /// was once applied upon, and is kept until that is here again, however long it takes.
    pub fn restore(
        &mut self,
        entry: Entry,
        position: u64,
        wall: WallTime,
        sheltered: bool,
    ) -> Vec<Outcome> {
        let mut out = Vec::new();
        self.next_position = position + u64::from(!bug!(record_position_off_by_one));
        if !self.has(&entry) && !self.contradicts(&entry) {
            let from = entry.header().author;
            let position = Some(position);
            let incoming =
                Incoming { position, sheltered, ..Incoming::new(entry, from, Time::ZERO) };
            self.settle(VecDeque::from([incoming]), wall, &mut out);
        }
        out
    }

    /// Takes back a proof from the log. One that does not hold any more is a damaged record: skipped.
    pub fn restore_proof(
        &mut self,
        proof: ForkProof,
        position: u64,
        wall: WallTime,
    ) -> Vec<Outcome> {
        let mut out = Vec::new();
        self.next_position = position;
        // A proof that was superseded later is in the log before its successor, so this order is right.
        let _ = self.prove(proof, wall, &mut out);
        self.next_position = position + 1;
        out
    }

    /// Takes back the position of a record that is not an entry's.
    pub fn restore_position(&mut self, position: u64) {
        self.next_position = position + 1;
    }

    /// After the last record: nobody knows how long orphans have waited, so their time starts now.
    pub fn restored(&mut self, now: Time) {
        self.orphans.restart_clock(now);
        self.strays.iter_mut().for_each(|stray| stray.since = now);
    }

    /// Lets go what was parked and is no longer from the future.
    pub fn unpark(&mut self, wall: WallTime, out: &mut Vec<Outcome>) {
        let due = |entry: &Entry| !entry.header().hlc.is_future(wall);
        let queue: VecDeque<Incoming> =
            self.orphans.unparked(due).into_iter().map(Incoming::again).collect();
        if !queue.is_empty() {
            out.push(Outcome::Released(wall));
            self.settle(queue, wall, out);
        }
    }

    /// Applies the orphans that have waited too long for what they cite, and drops the others whose
    /// time is up.
    ///
    /// To cite is to say what one's writes replace; to wait for it is a courtesy to the reader, who is
    /// shown causes before effects. It cannot be a duty: whether a citation can be met depends on who is a
    /// member and where chains are cut, which changes, so one node may have had nothing to wait for where
    /// another would wait for ever.
    pub fn expire(&mut self, now: Time, wall: WallTime, out: &mut Vec<Outcome>) {
        // What one waiver lets go may cite something else that is overdue. Each round applies some.
        let mut overdue = self.orphans.overdue(now);
        while !overdue.is_empty() {
            for (author, seq) in overdue {
                self.waive(&author, seq, wall, out);
            }
            overdue = self.orphans.overdue(now);
        }
        out.extend(self.orphans.expire(now).into_iter().map(Outcome::Forgotten));
    }

    /// Applies the orphan of `author` at `seq`, if it is there still, and those that wait for it, without
    /// what they cite.
    pub fn waive(&mut self, author: &NodeId, seq: u64, wall: WallTime, out: &mut Vec<Outcome>) {
        if let Some(orphan) = self.orphans.remove(*author, seq) {
            out.push(Outcome::Waived(orphan.entry.link()));
            let incoming = Incoming { waived: true, ..Incoming::again(orphan) };
            self.settle(VecDeque::from([incoming]), wall, out);
        }
    }

    /// Takes a proof of a fork, from a peer or assembled here.
    ///
    /// # Errors
    ///
    /// Where it proves nothing.
    pub fn prove(
        &mut self,
        proof: ForkProof,
        wall: WallTime,
        out: &mut Vec<Outcome>,
    ) -> Result<(), ProofError> {
        let fork = proof.check(self.id, self.verify)?;
        let known = self.forks.get(&fork.author);
        let known = known.is_some_and(|of| of.fork.seq <= fork.seq || bug!(first_fork_stays));
        if known || self.membership.get(&fork.author).is_none() {
            return Ok(());
        }
        let position = self.take_position();
        let proven = Proven { fork, proof: proof.clone(), position };
        let superseded = self.forks.insert(fork.author, proven);
        self.membership.forked(fork.author, fork.seq);
        out.push(Outcome::Forked { fork, position, proof });
        out.extend(superseded.map(|of| Outcome::Forgotten(of.position)));
        let mut queue = VecDeque::new();
        self.recount_members(&mut queue, out);
        self.settle(queue, wall, out);
        Ok(())
    }

    /// The hash of what is held of `author` at `seq`, applied or waiting.
    #[must_use]
    pub fn hash_at(&self, author: &NodeId, seq: u64) -> Option<Hash> {
        let held = self.chains.of(author).and_then(|chain| chain.get(seq)).map(|meta| meta.hash);
        held.or_else(|| self.orphans.get(author, seq).map(|orphan| orphan.entry.hash()))
    }

    /// The log positions of what is held of `author` from place `seq` on, applied or waiting: one side
    /// of a proof, longer than needed perhaps.
    #[must_use]
    pub fn story_positions(&self, author: &NodeId, seq: u64) -> Vec<u64> {
        let chain = self.chains.of(author);
        let held = chain.map_or(0, |chain| chain.held());
        let applied = (seq..=held).filter_map(|seq| chain.and_then(|chain| chain.get(seq)));
        let waiting = self.orphans.of(*author, seq.max(held + 1));
        applied
            .map(|meta| meta.position)
            .chain(waiting.map(|orphan| orphan.position))
            .take(MAX_PROOF_RUN)
            .collect()
    }

    /// Asserts what must hold between the parts.
    pub fn check(&self) {
        self.orphans.check();
        for chain in self.chains.iter() {
            assert_eq!(
                chain.cut(),
                self.cut_of(&chain.author()),
                "a chain is cut where membership says"
            );
        }
    }
}
