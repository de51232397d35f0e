//! What changes the registry, what is asked of it, and what it answers.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::machine::NodeId;

/// What is in one committed entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// The log's clock as the proposing leader reckons it, in milliseconds.
    pub at_ms: u64,
    /// Whose request it answers.
    pub origin: Origin,
    /// What is done.
    pub act: Act,
}

/// By what a node knows its own request again when it is committed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Origin {
    /// Drawn by the asking node at its start; 0 for a leader's own.
    pub life: u64,
    /// Counted by it from there.
    pub serial: u64,
}

/// What one committed entry does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// What somebody asked for.
    Command(Command),
    /// Moves the clock, and renews these leases.
    Beat {
        /// Their ids.
        renewals: Vec<u64>,
    },
    /// This learner is to vote as soon as it has caught up.
    Aspire {
        /// The learner.
        node: NodeId,
    },
}

/// What the registry can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// One key gets a value. Answered by [`Reply::Written`].
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// The lease with which it goes.
        lease: Option<u64>,
        /// The revision of the key's last change that the writer has seen; 0 for "it is not there".
        previous: Option<u64>,
        /// The grant under which the writer acts.
        fence: Option<Fence>,
    },
    /// One key goes. Answered by [`Reply::Deleted`].
    Delete {
        /// The key.
        key: Bytes,
        /// As for a put.
        previous: Option<u64>,
        /// As for a put.
        fence: Option<Fence>,
    },
    /// If all comparisons hold, `then`, else `otherwise`; all of it or nothing. Answered by
    /// [`Reply::Txn`].
    Txn {
        /// What must hold.
        compare: Vec<Compare>,
        /// What is done if it does.
        then: Vec<Op>,
        /// What is done if it does not.
        otherwise: Vec<Op>,
        /// As for a put.
        fence: Option<Fence>,
    },
    /// A new lease; its id is the revision. Answered by [`Reply::Granted`].
    Grant {
        /// For so long, from here and from each renewal, in milliseconds of the log's clock.
        ttl_ms: u64,
        /// Whose it is. A node fills in itself, whatever its client said.
        node: NodeId,
    },
    /// A lease ends now, and with it what hangs on it. Answered by [`Reply::Done`].
    Revoke {
        /// Its id.
        lease: u64,
    },
    /// The lease's holder would have the name: at once if it is free, else after those before it.
    /// Answered by [`Reply::Held`] or [`Reply::Queued`]; asked again, it changes nothing.
    Campaign {
        /// Of the election or the lock.
        name: Bytes,
        /// With which it stands and falls.
        lease: u64,
        /// Higher is granted earlier. It takes the name from nobody.
        priority: u8,
        /// For whoever looks the holder up.
        value: Bytes,
    },
    /// A candidate leaves the queue. Answered by [`Reply::Done`]; who holds the name already is
    /// refused by [`Refusal::Holds`] and releases it instead.
    Withdraw {
        /// Of the election or the lock.
        name: Bytes,
        /// The candidate's.
        lease: u64,
    },
    /// The holder gives the name back. Answered by [`Reply::Done`].
    Release {
        /// Of the election or the lock.
        name: Bytes,
        /// The grant that is given back, and no other.
        token: u64,
    },
    /// The holder is to give the name back; if it has not after its lease's time, it loses it.
    /// Answered by [`Reply::SteppingDown`].
    StepDown {
        /// Of the election or the lock.
        name: Bytes,
        /// To a candidate of this node; else to the next.
        to: Option<NodeId>,
    },
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// A key gets a value.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// The lease with which it goes.
        lease: Option<u64>,
    },
    /// A key goes, if it is there.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// What a key holds, after the steps before.
    Get {
        /// The key.
        key: Bytes,
    },
}

/// What must hold of a key. A key that is not there has revisions and version 0, and no value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What of it.
    pub subject: Subject,
    /// How it stands to the subject's number or value.
    pub relation: Relation,
}

impl Compare {
    /// How much it carries, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match &self.subject {
            Subject::Value(value) => value.len(),
            Subject::CreateRevision(_) | Subject::ModRevision(_) | Subject::Version(_) => 0,
        };
        self.key.len() + value
    }
}

/// What of a key is compared, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The revision at which it came to be.
    CreateRevision(u64),
    /// The revision at which it last changed.
    ModRevision(u64),
    /// How often it was written since it came to be.
    Version(u64),
    /// Its value; a key that is not there is neither equal to, less nor greater than any.
    Value(Bytes),
}

/// How two things stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Relation {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

/// A grant under which a write is made: refused once the name is another's, or nobody's.
///
/// The registry checks it by itself. A store of your own, which does not see who holds the name, checks
/// it thus: it keeps, in the same transaction as what is written, the highest token that it has seen of
/// each name, and refuses every lower one. A holder that was paused, or cut off, or whose clock was
/// wrong, then changes nothing once its successor has written.
///
/// ```
/// use std::collections::BTreeMap;
///
/// /// A store that somebody leads, one name for each of its tables.
/// #[derive(Default)]
/// struct Store {
///     tokens: BTreeMap<&'static str, u64>,
///     rows: BTreeMap<&'static str, Vec<&'static str>>,
/// }
///
/// impl Store {
///     /// Refused with the token that was seen.
///     fn append(&mut self, table: &'static str, token: u64, row: &'static str) -> Result<(), u64> {
///         let highest = self.tokens.entry(table).or_default();
///         if token < *highest {
///             return Err(*highest);
///         }
///         *highest = token; // on a disk: durable together with the row
///         self.rows.entry(table).or_default().push(row);
///         Ok(())
///     }
/// }
///
/// let mut store = Store::default();
/// assert_eq!(store.append("jobs", 41, "by the first holder"), Ok(()));
/// assert_eq!(store.append("jobs", 57, "by the second"), Ok(()));
/// // The first one wakes, and does not know yet.
/// assert_eq!(store.append("jobs", 41, "too late"), Err(57));
/// assert_eq!(store.append("jobs", 57, "undisturbed"), Ok(()));
/// assert_eq!(store.rows["jobs"].len(), 3);
/// ```
///
/// Between the grant and its first write a successor has not been seen yet; so a holder writes once as
/// it begins, if anything depends on its predecessor's silence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Of the election or the lock.
    pub name: Bytes,
    /// The grant.
    pub token: u64,
}

/// What can be asked without changing anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Query {
    /// What a key holds: [`Reply::Value`].
    Get {
        /// The key.
        key: Bytes,
    },
    /// The keys that start so, ascending: [`Reply::Items`].
    List {
        /// How they start.
        prefix: Bytes,
        /// Only those after this one: the last of the page before.
        after: Option<Bytes>,
        /// At most so many; never more than [`MAX_ITEMS`](super::MAX_ITEMS).
        limit: u32,
        /// Without the values.
        keys_only: bool,
    },
    /// How a lease stands: [`Reply::Lease`].
    Lease {
        /// Its id.
        lease: u64,
    },
    /// All leases: [`Reply::Leases`].
    Leases {
        /// Only those after this one.
        after: u64,
        /// As for keys.
        limit: u32,
    },
    /// Who holds a name, and who waits: [`Reply::Name`].
    Name {
        /// The name.
        name: Bytes,
    },
    /// The names that start so: [`Reply::Names`], without those who wait.
    Names {
        /// How they start.
        prefix: Bytes,
        /// Only those after this one.
        after: Option<Bytes>,
        /// As for keys.
        limit: u32,
    },
}

/// What a command or a query comes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// It is so.
    Done {
        /// As of which revision.
        revision: u64,
    },
    /// The key has the value.
    Written {
        /// Its new revision.
        revision: u64,
        /// How often it was written since it came to be.
        version: u64,
    },
    /// The key is gone.
    Deleted {
        /// As of which revision.
        revision: u64,
        /// Whether it had been there.
        existed: bool,
    },
    /// A transaction was carried out.
    Txn {
        /// As of which revision.
        revision: u64,
        /// Whether the comparisons held.
        held: bool,
        /// What each step came to.
        outcomes: Vec<Outcome>,
    },
    /// A lease was granted.
    Granted {
        /// Its id, which is the revision.
        lease: u64,
        /// For how long.
        ttl_ms: u64,
    },
    /// A lease was renewed.
    Renewed {
        /// As of which revision.
        revision: u64,
        /// For how long.
        ttl_ms: u64,
        /// The tokens that the lease's holder is asked to give back: those names will be lost.
        stepping_down: Vec<u64>,
    },
    /// The name is the lease's.
    Held {
        /// The fencing token: it is greater than all that were granted for the name before.
        token: u64,
    },
    /// The name is another's.
    Queued {
        /// As of which revision: a watch from the next on tells when it is granted.
        revision: u64,
        /// How many are before, the holder not among them.
        before: u32,
        /// The holder's token.
        token: u64,
    },
    /// The holder was asked to give the name back.
    SteppingDown {
        /// As of which revision.
        revision: u64,
        /// The grant that ends.
        token: u64,
        /// Within so long, in milliseconds of the log's clock.
        within_ms: u64,
    },
    /// What a key holds.
    Value {
        /// As of which revision.
        revision: u64,
        /// What; nothing if it is not there.
        item: Option<Item>,
    },
    /// What keys hold.
    Items {
        /// As of which revision.
        revision: u64,
        /// Ascending.
        items: Vec<Item>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// How a lease stands.
    Lease {
        /// As of which revision.
        revision: u64,
        /// How.
        lease: LeaseView,
    },
    /// How leases stand.
    Leases {
        /// As of which revision.
        revision: u64,
        /// By id.
        leases: Vec<LeaseView>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Who holds a name, and who waits.
    Name {
        /// As of which revision.
        revision: u64,
        /// Who.
        name: NameView,
    },
    /// Who holds names.
    Names {
        /// As of which revision.
        revision: u64,
        /// Ascending.
        names: Vec<NameView>,
        /// Whether there are more after the last one.
        more: bool,
    },
}

/// What one step of a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The key has the value.
    Put {
        /// How often it was written since it came to be.
        version: u64,
    },
    /// The key is gone.
    Deleted {
        /// Whether it had been there.
        existed: bool,
    },
    /// What the key holds.
    Got(Option<Item>),
}

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision at which it came to be.
    pub create_revision: u64,
    /// The revision at which it last changed.
    pub mod_revision: u64,
    /// How often it was written since it came to be, from 1.
    pub version: u64,
    /// The lease with which it goes.
    pub lease: Option<u64>,
}

/// A lease, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id.
    pub lease: u64,
    /// Whose it is.
    pub node: NodeId,
    /// From each renewal.
    pub ttl_ms: u64,
    /// From now, by the log's clock.
    pub left_ms: u64,
    /// How many keys go with it.
    pub keys: u32,
    /// The names that it holds or stands in the queue of, as many as fit; none in a list of leases.
    pub names: Vec<Bytes>,
}

/// A name, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NameView {
    /// The name.
    pub name: Bytes,
    /// Whose it is.
    pub holder: Option<Holder>,
    /// Who waits, the next first.
    pub queue: Vec<Candidate>,
}

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// On which node.
    pub node: NodeId,
    /// With which it stands and falls.
    pub lease: u64,
    /// The fencing token.
    pub token: u64,
    /// As it campaigned.
    pub priority: u8,
    /// As it campaigned.
    pub value: Bytes,
    /// Set once it has been asked to give the name back.
    pub stepping_down: Option<SteppingDown>,
}

/// How a holder is to give a name back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SteppingDown {
    /// To a candidate of this node, if there still is one then.
    pub to: Option<NodeId>,
    /// When it loses the name at the latest, by the log's clock.
    pub deadline_ms: u64,
}

/// Who waits for a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// On which node.
    pub node: NodeId,
    /// With which it stands and falls.
    pub lease: u64,
    /// The revision since which it waits.
    pub since: u64,
    /// Higher is granted earlier.
    pub priority: u8,
    /// For whoever looks the holder up.
    pub value: Bytes,
}

/// What a watch is told happened at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// A key was written.
    Put(Item),
    /// A key went.
    Deleted {
        /// The key.
        key: Bytes,
    },
    /// A name is another's, or nobody's; or its holder has been asked to give it back.
    Name {
        /// The name.
        name: Bytes,
        /// Whose it is now.
        holder: Option<Holder>,
    },
}

/// What a watch looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// One key.
    Key(Bytes),
    /// The keys that start so.
    Prefix(Bytes),
    /// One name.
    Name(Bytes),
    /// The names that start so.
    Names(Bytes),
}

impl Target {
    /// Whether a change concerns it.
    #[must_use]
    pub fn matches(&self, change: &Change) -> bool {
        match (self, change) {
            (Target::Key(wanted), Change::Put(Item { key, .. }) | Change::Deleted { key }) => {
                wanted == key
            }
            (Target::Prefix(prefix), Change::Put(Item { key, .. }) | Change::Deleted { key }) => {
                key.starts_with(prefix)
            }
            (Target::Name(wanted), Change::Name { name, .. }) => wanted == name,
            (Target::Names(prefix), Change::Name { name, .. }) => name.starts_with(prefix),
            (Target::Key(_) | Target::Prefix(_), Change::Name { .. })
            | (Target::Name(_) | Target::Names(_), Change::Put(_) | Change::Deleted { .. }) => {
                false
            }
        }
    }
}

/// Why the registry did not do what it was asked. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refusal {
    /// The key has changed since, or has come or gone.
    StaleRevision {
        /// The revision of its last change; 0 if it is not there.
        current: u64,
    },
    /// The token is not that of the name's holder.
    StaleToken {
        /// The holder's; none if nobody holds the name.
        current: Option<u64>,
    },
    /// Nobody holds the name, and nobody waits for it.
    UnknownName,
    /// There is no such lease: it was never granted, has expired or was revoked.
    UnknownLease,
    /// The lease neither holds the name nor waits for it.
    NotACandidate,
    /// Nobody of the node that the name is to be handed to waits for it.
    NoSuchCandidate,
    /// The name is the lease's: it can be released, not withdrawn from.
    Holds {
        /// The grant.
        token: u64,
    },
    /// A key is longer than [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES), or empty.
    BadKey,
    /// A name is longer than [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES), or empty.
    BadName,
    /// A value is longer than [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES), or a campaign's longer than
    /// [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES).
    BadValue,
    /// A lease's time is not between [`MIN_TTL_MS`](super::MIN_TTL_MS) and
    /// [`MAX_TTL_MS`](super::MAX_TTL_MS).
    BadTtl,
    /// A transaction has more than [`MAX_OPS`](super::MAX_OPS) comparisons or steps.
    TooManyOps,
    /// A transaction writes a key twice.
    DuplicateKey,
    /// A transaction reads more than [`MAX_ITEM_BYTES`](super::MAX_ITEM_BYTES).
    ReadsTooMuch,
    /// There are [`MAX_KEYS`](super::MAX_KEYS) keys, or they hold
    /// [`MAX_BYTES`](super::MAX_BYTES) bytes.
    Full,
    /// There are [`MAX_LEASES`](super::MAX_LEASES) leases.
    TooManyLeases,
    /// There are [`MAX_NAMES`](super::MAX_NAMES) names.
    TooManyNames,
    /// So many wait for the name already: [`MAX_CANDIDATES`](super::MAX_CANDIDATES).
    TooManyCandidates,
    /// As much hangs on the lease already: [`MAX_PER_LEASE`](super::MAX_PER_LEASE).
    TooManyPerLease,
    /// The committed bytes are not a command that this version knows.
    Undecodable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::StaleRevision { current: 0 } => return f.write_str("the key is not there"),
            Refusal::StaleRevision { current } => {
                return write!(f, "the key has changed: its revision is {current} now");
            }
            Refusal::StaleToken { current: Some(current) } => {
                return write!(f, "the token is not the holder's: that is {current} now");
            }
            Refusal::StaleToken { current: None } => "the token is old: nobody holds the name now",
            Refusal::UnknownName => "nobody holds this name or waits for it",
            Refusal::UnknownLease => "there is no such lease: it has expired, or never was",
            Refusal::NotACandidate => "the lease does not wait for this name",
            Refusal::NoSuchCandidate => "nobody on that node waits for this name",
            Refusal::Holds { token } => {
                return write!(f, "the lease holds the name: release it with the token {token}");
            }
            Refusal::BadKey => "a key has 1 to 4,096 bytes",
            Refusal::BadName => "a name has 1 to 4,096 bytes",
            Refusal::BadValue => "a value has at most 524,288 bytes, a campaign's 4,096",
            Refusal::BadTtl => "a lease lasts 500 milliseconds to a day",
            Refusal::TooManyOps => "a transaction has at most 128 comparisons and 128 steps",
            Refusal::ReadsTooMuch => "a transaction reads at most 1,048,576 bytes",
            Refusal::DuplicateKey => "a transaction writes each key once",
            Refusal::Full => "the registry is full: delete something",
            Refusal::TooManyLeases => "there are too many leases",
            Refusal::TooManyNames => "there are too many names",
            Refusal::TooManyCandidates => "too many wait for this name",
            Refusal::TooManyPerLease => "too much hangs on this lease",
            Refusal::Undecodable => "the command is of a version that is not known here",
        })
    }
}

impl core::error::Error for Refusal {}
