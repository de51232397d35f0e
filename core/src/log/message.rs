//! What voters say to each other, what they keep, and what both are made of.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::page::Page;
use crate::machine::{NodeId, Time};

/// Who leads, and since when: no two nodes ever have the same one, and each leader's is higher than
/// all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// One more than any that the node had heard of.
    pub number: u64,
    /// Whose it is.
    pub node: NodeId,
}

impl Ballot {
    /// Before the first.
    pub const ZERO: Ballot = Ballot { number: 0, node: NodeId([0; 32]) };
}

/// A place in a log and the ballot of the entry there. The greater of two last positions belongs to
/// the log that may hold more of what was committed: the later ballot, then the longer log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The ballot under which the entry was proposed.
    pub ballot: Ballot,
    /// From 1.
    pub index: u64,
}

impl Position {
    /// Before the first entry.
    pub const ZERO: Position = Position { ballot: Ballot::ZERO, index: 0 };
}

/// What the log holds at one index.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Under which it was proposed.
    pub ballot: Ballot,
    /// What is in it.
    pub payload: Payload,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Noop,
    /// The state machine's.
    Data(Bytes),
    /// From here on these are the members.
    Members(Box<Members>),
    /// What a witness keeps instead of data.
    Blank,
}

impl Payload {
    /// How much of a message it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Payload::Noop | Payload::Blank => 0,
            Payload::Data(data) => data.len(),
            Payload::Members(members) => 33 * (members.voters.len() + members.learners.len()),
        }
    }
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Members {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Those of the voters that keep no data, and so never lead.
    pub witnesses: BTreeSet<NodeId>,
    /// Who gets the log and does not vote.
    pub learners: BTreeSet<NodeId>,
}

impl Members {
    /// Voters that all keep data.
    #[must_use]
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Members {
        Members { voters: voters.into_iter().collect(), ..Members::default() }
    }

    /// How many voters decide.
    #[must_use]
    pub fn quorum(&self) -> usize {
        bug!(half_is_a_quorum => return self.voters.len().div_ceil(2));
        self.voters.len() / 2 + 1
    }

    /// Whether the node may lead.
    #[must_use]
    pub fn leads(&self, node: &NodeId) -> bool {
        self.voters.contains(node) && !self.witnesses.contains(node)
    }

    /// Everyone who gets the log.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether quorums of the one and of the other always share a voter, whichever they are: at most
    /// one voter comes or goes.
    #[must_use]
    pub fn one_step_from(&self, other: &Members) -> bool {
        self.voters.symmetric_difference(&other.voters).count() <= 1
    }

    /// Whether it makes sense by itself.
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.voters.is_empty()
            && self.witnesses.is_subset(&self.voters)
            && self.witnesses.len() < self.voters.len()
            && self.learners.is_disjoint(&self.voters)
            && self.voters.len() + self.learners.len() <= super::MAX_MEMBERS
    }
}

/// The state up to a position, in place of the entries up to there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry in it.
    pub at: Position,
    /// The members there.
    pub members: Members,
    /// The state machine's.
    pub data: Bytes,
}

/// A piece of a snapshot, on its way to a node that lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// Which snapshot.
    pub at: Position,
    /// The members there.
    pub members: Members,
    /// Where the piece belongs.
    pub offset: u64,
    /// How long the whole is.
    pub total: u64,
    /// The piece.
    pub data: Bytes,
}

/// What a voter says to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Would you promise this ballot?
    Ask {
        /// The asker's next.
        ballot: Ballot,
    },
    /// Yes or no; it binds nobody.
    Answer {
        /// As asked.
        ballot: Ballot,
        /// Whether.
        granted: bool,
        /// The highest ballot promised.
        promised: Ballot,
    },
    /// Promise this ballot.
    Prepare {
        /// The candidate's.
        ballot: Ballot,
        /// The end of the candidate's log.
        last: Position,
        /// What the candidate knows to be committed.
        commit: u64,
        /// The leader that handed over to the candidate.
        released: Option<Box<Ballot>>,
    },
    /// No lower ballot will be heeded.
    Promise {
        /// The candidate's.
        ballot: Ballot,
        /// The end of the voter's log.
        last: Position,
        /// Where [`tail`](Self::Promise::tail) begins: the entry before it.
        after: u64,
        /// What the candidate lacks, as far as it fits.
        tail: Page,
    },
    /// A higher one was promised, or a leader is alive.
    Refuse {
        /// As asked.
        ballot: Ballot,
        /// The highest promised.
        promised: Ballot,
    },
    /// More of the tail, or the snapshot before it.
    Fetch {
        /// The candidate's.
        ballot: Ballot,
        /// What comes after this.
        after: u64,
    },
    /// More of the tail.
    Tail {
        /// The candidate's.
        ballot: Ballot,
        /// What comes after this.
        after: u64,
        /// In order.
        entries: Page,
    },
    /// The leader's: entries, or none.
    Append {
        /// The leader's.
        ballot: Ballot,
        /// What must be there before the first entry.
        after: Position,
        /// In order.
        entries: Page,
        /// What is committed.
        commit: u64,
        /// The leader's time of sending; comes back.
        sent: Time,
    },
    /// The answer to an append.
    Appended {
        /// The leader's.
        ballot: Ballot,
        /// So far the follower's log is the leader's, durably; or where the leader should begin.
        matched: Result<u64, u64>,
        /// As it came.
        sent: Time,
    },
    /// The leader's own write has become durable: to itself.
    Durable {
        /// The leader's.
        ballot: Ballot,
        /// So far.
        index: u64,
    },
    /// A piece of a snapshot.
    Chunk {
        /// The leader's, or the candidate's.
        ballot: Ballot,
        /// What it is a piece of, and itself.
        piece: Box<Piece>,
    },
    /// The next piece, please.
    Pull {
        /// The leader's, or the candidate's.
        ballot: Ballot,
        /// Which snapshot.
        at: Position,
        /// From where.
        offset: u64,
    },
    /// The leader is none any more: its followers need not wait for it.
    Released {
        /// The leader's.
        ballot: Ballot,
    },
    /// Campaign now: the leader has stepped down for you.
    TakeOver {
        /// The leader's.
        ballot: Ballot,
    },
}

/// What a voter keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// No lower ballot will be heeded.
    Promised(Ballot),
    /// Entries from this index on, in place of whatever was there.
    Entries {
        /// Of the first.
        from: u64,
        /// In order.
        entries: Page,
    },
    /// The state so far and what a voter holds besides it. It makes every earlier record unnecessary:
    /// once it is durable, whatever lies before it in the journal may be dropped.
    Snapshot(Box<Checkpoint>),
}

/// All that a voter must remember, in one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The state machine's state and the members, up to a position.
    pub snapshot: Snapshot,
    /// The highest ballot promised: a voter that forgot it could promise a lower one again.
    pub promised: Ballot,
    /// The entries after the snapshot's position, committed or not.
    pub tail: Vec<Page>,
}
