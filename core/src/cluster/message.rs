//! What a cluster is asked, answers and tells; what its nodes send each other and keep.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::log::{self, Ballot};
use crate::machine::NodeId;
use crate::registry::{self, Change, Query, Refusal, Reply, SnapshotError, Target};

/// Which cluster: drawn when it is made, and in every message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(5).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the host, for its clients, asks of a cluster's node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Makes a cluster with this node as its one voter, if the node is in none. Answered when the node
    /// leads it.
    Init {
        /// Comes back.
        ticket: u64,
    },
    /// Requests, each answered by its deadline: those that a host has at hand at once go together,
    /// which costs one write and one message for all of them.
    Ask(Vec<Asked>),
    /// Begins a watch. What it is told comes as [`Event::Watched`].
    Watch {
        /// The reader's name for it.
        watch: u64,
        /// What is watched.
        target: Target,
        /// From the changes of this revision on; from now on, if none is named.
        from: Option<u64>,
    },
    /// The reader has taken so many updates. At most [`WINDOW`](super::WINDOW) are on their way to it.
    Taken {
        /// The reader's name for the watch.
        watch: u64,
        /// How many.
        count: usize,
    },
    /// Ends a watch.
    Unwatch(u64),
    /// Takes part although the journal may be an old copy: nothing newer exists. Told by
    /// [`Event::TakesPart`].
    TakePart,
}

/// A request, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Comes back with the answer.
    pub ticket: u64,
    /// By then it is answered, whatever happens; at most
    /// [`MAX_TIMEOUT_MS`](super::MAX_TIMEOUT_MS).
    pub timeout_ms: u64,
    /// What.
    pub request: Request,
}

/// What a client or an operator asks for, of any node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Request {
    /// Change the registry.
    Change(registry::Command),
    /// Look at it.
    Query {
        /// At what.
        query: Query,
        /// How new the answer has to be.
        read: Read,
    },
    /// A lease goes on. Answered by [`Reply::Renewed`] with the leader's next entry of its own.
    KeepAlive {
        /// Its id.
        lease: u64,
    },
    /// A node of the mesh takes part. Answered when it does, in that seat; as a voter it first
    /// catches up as a learner, and is promoted by whoever leads then. If that takes longer than the
    /// request may, the answer is [`Error::Unknown`], and it goes on.
    Add {
        /// Who.
        node: NodeId,
        /// As what.
        seat: Seat,
    },
    /// A member takes part no longer. Answered when it is none.
    Remove {
        /// Who.
        node: NodeId,
    },
    /// A learner votes. Answered when it does; refused while it lacks more than
    /// [`CAUGHT_UP`](super::CAUGHT_UP) entries.
    Promote {
        /// Who.
        node: NodeId,
    },
    /// The leader hands over. Answered when it leads no longer.
    HandOver {
        /// To this voter; else to the one that is least behind.
        to: Option<NodeId>,
    },
}

/// As what a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Seat {
    /// Votes, keeps the data, may lead.
    Voter,
    /// Votes, keeps no data, never leads.
    Witness,
    /// Keeps the data, does not vote.
    Learner,
}

/// How new what is read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Read {
    /// Everything acknowledged before is seen: the leader asks a quorum whether it still leads.
    Linearizable,
    /// The same, as long as clocks differ in rate by no more than
    /// [`DRIFT_PERCENT`](crate::log::DRIFT_PERCENT): the leader trusts its own.
    ByLease,
    /// What this node has applied; may be old.
    Local,
}

/// Why a request was not, or may not have been, carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Error {
    /// This node is in no cluster.
    NoCluster,
    /// This node is in a cluster already.
    InCluster(ClusterId),
    /// This node was removed from its cluster while the request waited.
    Removed,
    /// Nothing was proposed by the deadline: no leader answered, or there is none.
    Unavailable {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
        /// The voters to which this node has a link, itself among them.
        reachable: Vec<NodeId>,
        /// Those to which it has none.
        unreachable: Vec<NodeId>,
    },
    /// It was proposed, or may have been, and by the deadline nothing more was heard of it: it may
    /// yet happen. Read before trying again.
    Unknown,
    /// The registry refused it, and has not changed.
    Refused(Refusal),
    /// Too much waits already; nothing was proposed.
    Busy,
    /// It has more than [`MAX_REQUEST_BYTES`](super::MAX_REQUEST_BYTES).
    TooLarge,
    /// A node that is no member.
    NotAMember(NodeId),
    /// A node to which the leader has no link: whether it is there at all is not known.
    Unreachable(NodeId),
    /// This node keeps a snapshot that it cannot read, and takes no part: see [`Event::Halted`].
    Halted,
    /// A node that takes part already, and not in this seat: remove it first.
    OtherSeat(NodeId),
    /// A node that may not lead, or not vote, as it is: only a learner is promoted, and only a voter
    /// that keeps data leads.
    WrongSeat(NodeId),
    /// Without it, nobody would be left who may lead.
    LastVoter,
    /// There are [`MAX_MEMBERS`](crate::log::MAX_MEMBERS) members.
    TooManyMembers,
    /// The learner lacks so many entries.
    Behind {
        /// So many.
        entries: u64,
    },
    /// This node's journal may be an old copy: it takes no part.
    OldCopy,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoCluster => f.write_str(
                "this node is in no cluster: make one with `cluster init`, or have a member add it",
            ),
            Error::InCluster(id) => write!(f, "this node is in the cluster {id:?} already"),
            Error::Removed => f.write_str("this node was removed from its cluster"),
            Error::Unavailable { leader, reachable, unreachable } => {
                match leader {
                    Some(leader) => write!(f, "the leader {leader:?} did not answer in time")?,
                    None => f.write_str("nobody leads")?,
                }
                let (here, all) = (reachable.len(), reachable.len() + unreachable.len());
                write!(f, "; this node reaches {here} of {all} voters")?;
                if !unreachable.is_empty() {
                    write!(f, ", not {unreachable:?}")?;
                }
                Ok(())
            }
            Error::Unknown => f.write_str(
                "whether it happened is not known, and it may yet: read, then try again",
            ),
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Busy => f.write_str("too much waits already: try again later"),
            Error::TooLarge => f.write_str("a request has at most 1,048,576 bytes"),
            Error::NotAMember(node) => write!(f, "{node:?} is not a member of the cluster"),
            Error::Unreachable(node) => write!(f, "the leader has no link to {node:?}"),
            Error::Halted => {
                f.write_str("this node cannot read its cluster's snapshot: upgrade and restart it")
            }
            Error::OtherSeat(node) => {
                write!(f, "{node:?} is a member in another role: remove it first")
            }
            Error::WrongSeat(node) => write!(f, "{node:?} cannot do that in its role"),
            Error::LastVoter => f.write_str("it is the last voter that keeps the data"),
            Error::TooManyMembers => f.write_str("a cluster has at most 64 members"),
            Error::Behind { entries } => write!(f, "it still lacks {entries} entries"),
            Error::OldCopy => f.write_str(
                "this node's directory is a copy or an old backup, so it may have forgotten what it \
                 promised to its cluster, and takes no part: while it runs, let a member remove it \
                 from the cluster, and add it again; or, if nothing newer exists, accept the \
                 directory with `doctor --trust-disk`",
            ),
        }
    }
}

impl core::error::Error for Error {}

/// What a cluster's node tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Answers a request, or [`Command::Init`].
    Answer {
        /// As given.
        ticket: u64,
        /// What it came to.
        result: Result<Reply, Error>,
    },
    /// For the reader of a watch.
    Watched {
        /// The reader's name for it.
        watch: u64,
        /// What it is told.
        update: WatchUpdate,
    },
    /// This node leads the cluster from now on, under this ballot.
    Leading(Ballot),
    /// This node leads no longer. Told before another can begin.
    Stopped(Ballot),
    /// Somebody else leads, or nobody does as far as this node knows.
    LeaderChanged(Option<Ballot>),
    /// The node's view of the cluster's health has changed.
    HealthChanged(Health),
    /// This node is a member of this cluster from now on.
    Joined(ClusterId),
    /// This node is no member any more.
    Left(ClusterId),
    /// The state that came from the leader, or from the disk, is of a version that this one does not
    /// know: the node takes no part until it is started again with one that does.
    Halted(SnapshotError),
    /// This node, which stood aside because its journal might be an old copy, takes part from now on.
    TakesPart,
    /// What this node keeps of the cluster begins anew with the last record of which
    /// [`Record::begins`] is true: the host may drop the records before it.
    Covered,
}

impl Event {
    /// Whether it need not wait for this node's disk: what it tells rests on what a quorum holds
    /// durably, or on nothing, and that a lead is over must be known before another begins. A parent
    /// passes these on by [`Effects::emit_now`](crate::machine::Effects::emit_now), so that they keep
    /// their order, and all others by [`Effects::emit`](crate::machine::Effects::emit).
    #[must_use]
    pub fn at_once(&self) -> bool {
        match self {
            Event::Answer { .. }
            | Event::Watched { .. }
            | Event::Leading(_)
            | Event::Stopped(_)
            | Event::LeaderChanged(_)
            | Event::HealthChanged(_) => true,
            Event::Joined(_)
            | Event::Left(_)
            | Event::Halted(_)
            | Event::TakesPart
            | Event::Covered => false,
        }
    }
}

/// What a watch's reader is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WatchUpdate {
    /// It has begun: changes from this revision on follow.
    Began {
        /// The first that is looked at.
        from: u64,
    },
    /// What happened at one revision, as far as it is watched.
    Changed {
        /// The revision. They rise.
        revision: u64,
        /// In the order in which they happened.
        changes: Vec<Change>,
    },
    /// Changes that were to be told are no longer known. The watch is over: list, and watch again
    /// from the revision after that of the list.
    Compacted {
        /// The oldest revision whose changes are all known.
        oldest: u64,
    },
    /// The watch is over, or was not begun.
    Ended(WatchEnd),
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchEnd {
    /// This node keeps no data of a cluster.
    NoData,
    /// There are [`MAX_WATCHES`](super::MAX_WATCHES) watches.
    TooMany,
}

/// How a node sees its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    /// Somebody leads, and this node has links to all members.
    Whole,
    /// Somebody leads, and this node has no link to some member.
    Degraded,
    /// Nobody leads, as far as this node knows.
    Leaderless,
    /// This node is in no cluster.
    Outside,
}

/// What travels between a cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Whose business it is: all others ignore it.
    pub cluster: ClusterId,
    /// What is said.
    pub body: Body,
}

/// What a cluster's nodes say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// The replicated log's.
    Log(log::Message),
    /// Carry these out, if you lead under this ballot.
    Requests {
        /// The sender's, as in the entries that come of it.
        life: u64,
        /// The leader's; under any other nothing is proposed.
        ballot: Ballot,
        /// What is asked.
        requests: Vec<Forwarded>,
    },
    /// What became of requests.
    Answers {
        /// As given.
        life: u64,
        /// As given.
        ballot: Ballot,
        /// Of each.
        answers: Vec<Answer>,
    },
    /// I am in no cluster: am I to be in yours?
    Stranger,
    /// You are a member, since this index.
    Join {
        /// Where the log says so, or later.
        since: u64,
    },
    /// Here I am: am I still a member?
    Hello,
    /// You are no member.
    Removed {
        /// As of this index, which is committed.
        at: u64,
    },
}

/// A request on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forwarded {
    /// The asking node's number for this attempt: another if it is put to a leader again, unless it does
    /// no harm twice.
    pub serial: u64,
    /// How much of its time is left.
    pub timeout_ms: u64,
    /// What.
    pub request: Request,
}

/// What became of a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// As given.
    pub serial: u64,
    /// What it came to; `None` if it certainly was not proposed, and never will be under this number: ask
    /// again.
    pub result: Option<Result<Reply, Error>>,
}

/// What a cluster's node keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The replicated log's.
    Log(log::Record),
    /// From here on this node is a member of this cluster.
    Joined {
        /// Which.
        cluster: ClusterId,
        /// Since this index of its log; 0 for who made it.
        since: u64,
    },
    /// From here on this node is no member any more: what was kept means nothing.
    Left {
        /// Which.
        cluster: ClusterId,
        /// As of this index of its log.
        at: u64,
    },
}

impl Record {
    /// Whether, once [`Event::Covered`] was told after it, the records before it are not needed.
    #[must_use]
    pub fn begins(&self) -> bool {
        matches!(self, Record::Log(log::Record::Snapshot(_)) | Record::Left { .. })
    }
}

/// What a node can say of its cluster, for status and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which cluster; none if the node is in none, and then the rest means nothing.
    pub cluster: Option<ClusterId>,
    /// If the journal may be an old copy: the node takes no part, and what is said here is as old.
    pub stands_aside: Option<Standing>,
    /// What this node does in it.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The highest ballot that it has promised: its number is the cluster's epoch.
    pub ballot: Ballot,
    /// Everybody, as of the end of the log.
    pub members: Vec<MemberStatus>,
    /// Its view.
    pub health: Health,
    /// The end of its log.
    pub last: u64,
    /// What is committed, as far as it knows.
    pub commit: u64,
    /// What it has applied: the registry's revision.
    pub applied: u64,
    /// The oldest revision from which a watch can begin.
    pub oldest_revision: u64,
    /// The entries at hand.
    pub entries: usize,
    /// The log's clock, as applied, in milliseconds.
    pub clock_ms: u64,
    /// Keys.
    pub keys: usize,
    /// The bytes of keys and values.
    pub bytes: u64,
    /// Leases.
    pub leases: usize,
    /// Names that are held or waited for.
    pub names: usize,
    /// Watches on this node.
    pub watches: usize,
    /// Requests at this node that wait for an answer.
    pub pending: usize,
    /// What it has counted since its start.
    pub counters: Counters,
}

/// Where a node stands that takes no part because its journal may be an old copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No leader has been heard that takes it for a member.
    Unheard,
    /// A leader takes it for a member: it is to be removed, and added again.
    Member,
    /// It was removed since: it is to be added again.
    Removed,
}

/// What a node has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that came from this node's clients.
    pub asked: u64,
    /// Of them, passed on to a leader elsewhere, each time counted.
    pub forwarded: u64,
    /// Of them, asked again because they were certainly not proposed.
    pub retried: u64,
    /// Of them, answered with [`Error::Unavailable`].
    pub unavailable: u64,
    /// Of them, answered with [`Error::Unknown`].
    pub unknown: u64,
    /// Times that this node began to lead.
    pub led: u64,
    /// Times that the leader changed, as far as it knows.
    pub leader_changes: u64,
    /// Snapshots that it made.
    pub compactions: u64,
}

/// What a node does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// It is in none.
    Outside,
    /// It leads.
    Leader,
    /// It votes, and follows.
    Follower,
    /// It votes, and keeps no data.
    Witness,
    /// It keeps the data, and does not vote.
    Learner,
}

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub node: NodeId,
    /// As what it takes part.
    pub seat: Seat,
    /// Whether it is a learner that will vote once it has caught up.
    pub aspires: bool,
    /// How far its log is the leader's, durably; known to the leader alone.
    pub matched: Option<u64>,
    /// Whether this node has a link to it, or is it.
    pub reachable: bool,
}
