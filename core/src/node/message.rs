//! What a node sends, persists, is asked and tells.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entry::Link;
use crate::hash;
use crate::machine::{NodeId, WallTime};
use crate::sigchain::{Fork, ForkProof};
use crate::spread::News;
use crate::store::{Change, Founding, Refusal, WriteError};
use crate::watch::{Pattern, Update};
use crate::{cluster, detector, gap, handshake, hunt, sync, transfer};

/// What travels between nodes, by protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Who are you, and what do we both speak?
    Handshake(handshake::Message),
    /// Are you there?
    Detector(detector::Message),
    /// What do you have that I lack?
    Sync(sync::Message),
    /// I miss these places.
    Gap(gap::Message),
    /// Entries that were missing.
    Transfer(transfer::Message),
    /// Entries that are new.
    News(News),
    /// Where do our accounts of a chain differ?
    Hunt(hunt::Message),
    /// An author has signed two entries for one place.
    Proof(ForkProof),
    /// Where others listen.
    Contacts(Vec<Contact>),
    /// The cluster's.
    Cluster(cluster::Message),
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub node: NodeId,
    /// Its address, as `host:port`.
    pub address: String,
}

/// What a node writes down. The two kinds go different ways: the store's records are kept one by one,
/// for their entries are read again, and forgotten one by one; the cluster's are only ever replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The store's.
    Store(StoreRecord),
    /// The cluster's.
    Cluster(cluster::Record),
}

/// A store's record is hashed as it was when there was no other kind, so that the trace of a run
/// without a cluster stays what it was.
impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Record::Store(record) => record.hash(state),
            Record::Cluster(record) => {
                "cluster".hash(state);
                record.hash(state);
            }
        }
    }
}

impl Record {
    /// The entry in it, if it is an entry's record.
    #[must_use]
    pub fn entry(&self) -> Option<Bytes> {
        match self {
            Record::Store(record) => record.entry(),
            Record::Cluster(_) => None,
        }
    }
}

/// What a node writes to the log of its store. Each record names its own position, so that positions
/// survive the forgetting of records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreRecord {
    /// Its position in the log.
    pub position: u64,
    /// The wall clock when it was written: decisions that depended on it are made again with it.
    pub wall: WallTime,
    /// What is recorded.
    pub body: Body,
}

/// What a record records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// This node belongs to this store from here on.
    Founding {
        /// The store.
        founding: Founding,
        /// Whom to ask for it, while nothing is known of its members.
        contacts: Vec<Contact>,
    },
    /// An entry, applied or waiting.
    Entry(Bytes),
    /// Entries that waited for the clock were let go.
    Released,
    /// A fork was proven.
    Proof(ForkProof),
    /// A member was met at this address.
    Contact(Contact),
    /// What stood here is lost: the host hands this out in place of a record that is not what was
    /// written. It is never written itself.
    Damaged,
    /// The entry at this place was applied without what it cites.
    Waived(Link),
}

impl StoreRecord {
    /// The entry in it, if it is an entry's record.
    #[must_use]
    pub fn entry(&self) -> Option<Bytes> {
        match &self.body {
            Body::Entry(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

/// What a node can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make a store of one's own, if there is none.
    Found,
    /// Leave one's own empty store and join another's.
    Join {
        /// Comes back with the answer.
        ticket: u64,
        /// The store.
        founding: Founding,
        /// Whom to ask for it.
        contacts: Vec<Contact>,
    },
    /// Change something. Answered with [`Event::Written`] once it is durable.
    Write {
        /// Comes back with the answer.
        ticket: u64,
        /// What to change, all of it or nothing.
        changes: Vec<Change>,
    },
    /// Answers [`Event::Read`].
    Bodies {
        /// The read's.
        ticket: u64,
        /// The entries at the positions asked for; `None` for one that is not to be had.
        bodies: Vec<Option<Bytes>>,
    },
    /// Sync now, with one peer or with all.
    Sync(Option<NodeId>),
    /// Begin a watch.
    Watch {
        /// The reader's name for it.
        watch: u64,
        /// What to watch.
        pattern: Pattern,
    },
    /// The reader has taken so many updates.
    Taken {
        /// The reader's name for the watch.
        watch: u64,
        /// How many.
        count: usize,
    },
    /// The reader fell behind, knows, and begins again.
    Resync(u64),
    /// End a watch.
    Unwatch(u64),
    /// The disk lacks, or may lack, what was durable once: write nothing until every member has been
    /// found to hold no more.
    SuspectDisk,
    /// Write on, although the disk may be an old copy: what it lacks is lost for sure.
    TrustDisk,
    /// For the cluster.
    Cluster(cluster::Command),
    /// The operator gave the address at which this peer answered: it is let in while too little is known
    /// of the members to tell whether it is one, as those are whom the ticket names.
    Trust(NodeId),
}

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Answers [`Command::Write`].
    Written {
        /// The command's.
        ticket: u64,
        /// The entry written, or why not.
        result: Result<Link, WriteError>,
    },
    /// Answers [`Command::Join`].
    Joined {
        /// The command's.
        ticket: u64,
        /// Whether the node now belongs to the store, as far as it can know before it has synced.
        result: Result<hash::Hash, JoinError>,
    },
    /// Read the entries at these positions of the log; answer with [`Command::Bodies`].
    Read {
        /// Goes back with the answer.
        ticket: u64,
        /// Where.
        positions: Vec<u64>,
    },
    /// The record at this position is not needed any more.
    Forget(u64),
    /// Close the link to a peer.
    Disconnect {
        /// Whose.
        peer: NodeId,
        /// Why.
        reason: Disconnect,
    },
    /// Keep a link to a node that listens here.
    Dial {
        /// Who, and where.
        contact: Contact,
        /// The peer on whose word alone, if it was told and not given or met.
        told_by: Option<NodeId>,
    },
    /// Dial this node no more.
    Undial(NodeId),
    /// For the reader of a watch.
    Watched {
        /// The reader's name for it.
        watch: u64,
        /// What it is told, and where in the log a register's value is.
        update: WatchUpdate,
    },
    /// Something an operator may want to know.
    Notice(Notice),
    /// The cluster tells.
    Cluster(cluster::Event),
}

/// An update of a watch, with what a host needs to show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WatchUpdate {
    /// What a key held when the watch began.
    Now(Shown),
    /// What follows are changes.
    Live,
    /// What a key holds now.
    Changed(Shown),
    /// Updates were dropped: resync.
    Lagged,
    /// There are too many watches.
    Refused,
}

/// A key and what it holds, except for a register's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    /// The key.
    pub key: Vec<u8>,
    /// What it holds.
    pub holds: Holds,
    /// Whether concurrent writers left it undecided.
    pub conflict: bool,
}

/// What a key holds, as a host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// A register whose value is in the entry at this position of the log.
    Register {
        /// The position.
        position: u64,
    },
    /// A counter.
    Counter(i64),
    /// A set.
    Set(Vec<Vec<u8>>),
}

/// Why a store cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinError {
    /// This node belongs to a store that holds entries already.
    HasEntries {
        /// How many.
        entries: u64,
    },
    /// It belongs to this very store.
    AlreadyJoined,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::HasEntries { entries } => write!(
                f,
                "this node's own store holds {entries} entries: join with a new data directory"
            ),
            JoinError::AlreadyJoined => f.write_str("this node belongs to that mesh already"),
        }
    }
}

impl core::error::Error for JoinError {}

/// Why a node closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disconnect {
    /// We refused it.
    Refused(handshake::Reason),
    /// It refused us.
    RefusedBy(handshake::Reason),
    /// It did not answer the handshake.
    Silent,
    /// It answers no more.
    Dead,
    /// It sent what no honest node sends.
    Malformed,
    /// Too many of the entries it sent were refused.
    Refusals(Refusal),
    /// There are too many peers.
    Full,
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disconnect::Refused(reason) => write!(f, "refused: {reason}"),
            Disconnect::RefusedBy(reason) => write!(f, "it refused us: {reason}"),
            Disconnect::Silent => f.write_str("did not answer the handshake"),
            Disconnect::Dead => f.write_str("answers no more"),
            Disconnect::Malformed => f.write_str("sent a malformed entry"),
            Disconnect::Refusals(reason) => {
                write!(f, "sent too many entries that were refused: {reason}")
            }
            Disconnect::Full => f.write_str("too many peers"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::WrongStore => "of another store",
            Refusal::NotAuthentic => "not signed by their author",
            Refusal::NotAMember => "their author is not a member",
            Refusal::Closed => "their author was removed, or forked, before them",
            Refusal::ClockOrder => "their clock runs backwards",
            Refusal::NoRoom => "no room to let them wait",
        })
    }
}

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A peer is there.
    Opened(NodeId),
    /// A peer has gone.
    Closed(NodeId),
    /// A peer is suspected to be gone.
    Suspect(NodeId),
    /// An entry was refused.
    Refused {
        /// Which.
        link: Link,
        /// Who brought it.
        from: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// An entry claims to be from the future, and waits.
    Parked(Link),
    /// Entries that waited for the clock were let go.
    Released,
    /// An entry cites what did not come in time: it took effect without.
    Waived(Link),
    /// An author signed two entries for one place.
    Forked(Fork),
    /// A chain ends at another place now, or no longer ends.
    Cut {
        /// Whose.
        author: NodeId,
        /// Above which place nothing counts.
        cut: Option<u64>,
    },
    /// The members changed.
    Members,
    /// Places of a chain were asked for everywhere and nobody has them; sync tries again.
    Unfilled {
        /// Whose chain.
        author: NodeId,
        /// The first place.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Pages that went to this peer were never acknowledged: what was to follow them is not sent.
    Stalled(NodeId),
    /// A sync broke off; it is retried.
    SyncFailed {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: sync::Reason,
    },
    /// The log holds something else at this position than was written there. It is not served; a
    /// restart fetches it again from others.
    Damaged(u64),
    /// Both hold the same.
    InSync(NodeId),
}

/// Turns an update into what a host is told; `position` finds a register's value.
pub(super) fn shown(update: Update, position: impl Fn(&crate::dag::Write) -> u64) -> WatchUpdate {
    let shown = |key, reading: crate::value::Reading| {
        let holds = match reading.found {
            crate::value::Found::Nothing => Holds::Nothing,
            crate::value::Found::Register(write) => Holds::Register { position: position(&write) },
            crate::value::Found::Counter(value) => Holds::Counter(value),
            crate::value::Found::Set(members) => Holds::Set(members),
        };
        Shown { key, holds, conflict: reading.conflict }
    };
    match update {
        Update::Now { key, reading } => WatchUpdate::Now(shown(key, reading)),
        Update::Live => WatchUpdate::Live,
        Update::Changed { key, reading } => WatchUpdate::Changed(shown(key, reading)),
        Update::Lagged => WatchUpdate::Lagged,
    }
}
