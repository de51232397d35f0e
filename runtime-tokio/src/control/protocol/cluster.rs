//! What is asked of a cluster over the control socket, and answered.
//!
//! Every ask but `list` and `watch` has exactly one answer, so several requests may be sent at once on
//! one connection: they are carried out together and answered in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_core::cluster::{Read, Role, Seat, Status};
use quorate_core::registry::{
    Change, Compare, Fence, Holder, Item, Op, Outcome, Relation, Subject, Target,
};
use serde::{Deserialize, Serialize};

use super::Blob;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    Init,
    Add {
        node: String,
        seat: SeatDoc,
    },
    Remove {
        node: String,
    },
    Promote {
        node: String,
    },
    Status,
    Get {
        key: Blob,
        read: ReadDoc,
    },
    List {
        prefix: Blob,
        limit: Option<u64>,
        keys_only: bool,
        read: ReadDoc,
    },
    Put {
        key: Blob,
        value: Blob,
        lease: Option<u64>,
        given: GivenDoc,
    },
    /// A put, if the key holds what is expected.
    Cas {
        key: Blob,
        expected: Blob,
        value: Blob,
        lease: Option<u64>,
        fence: Option<FenceDoc>,
    },
    Delete {
        key: Blob,
        given: GivenDoc,
    },
    Txn(TxnDoc),
    Watch {
        target: TargetDoc,
        from: Option<u64>,
    },
    Grant {
        ttl_ms: u64,
    },
    KeepAlive {
        lease: u64,
    },
    Revoke {
        lease: u64,
    },
    Campaign {
        name: Blob,
        lease: u64,
        priority: u8,
        value: Blob,
    },
    Release {
        name: Blob,
        token: u64,
    },
    Withdraw {
        name: Blob,
        lease: u64,
    },
    StepDown {
        name: Blob,
        to: Option<String>,
    },
    Name {
        name: Blob,
    },
    WaitLeader {
        name: Blob,
    },
}

impl Ask {
    /// Whether it has any number of answers.
    pub(crate) fn streams(&self) -> bool {
        matches!(self, Ask::List { .. } | Ask::Watch { .. })
    }
}

/// As what a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeatDoc {
    Voter,
    Witness,
    Learner,
}

impl From<Seat> for SeatDoc {
    fn from(seat: Seat) -> SeatDoc {
        match seat {
            Seat::Voter => SeatDoc::Voter,
            Seat::Witness => SeatDoc::Witness,
            Seat::Learner => SeatDoc::Learner,
        }
    }
}

impl From<SeatDoc> for Seat {
    fn from(seat: SeatDoc) -> Seat {
        match seat {
            SeatDoc::Voter => Seat::Voter,
            SeatDoc::Witness => Seat::Witness,
            SeatDoc::Learner => Seat::Learner,
        }
    }
}

/// How new what is read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadDoc {
    Linearizable,
    ByLease,
    Local,
}

impl From<ReadDoc> for Read {
    fn from(read: ReadDoc) -> Read {
        match read {
            ReadDoc::Linearizable => Read::Linearizable,
            ReadDoc::ByLease => Read::ByLease,
            ReadDoc::Local => Read::Local,
        }
    }
}

/// Under what condition something is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GivenDoc {
    /// The revision of the key's last change; 0 if it must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<FenceDoc>,
}

/// The grant under which something is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FenceDoc {
    pub(crate) name: Blob,
    pub(crate) token: u64,
}

impl From<FenceDoc> for Fence {
    fn from(fence: FenceDoc) -> Fence {
        Fence { name: fence.name.0.into(), token: fence.token }
    }
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TxnDoc {
    pub(crate) compare: Vec<CompareDoc>,
    pub(crate) then: Vec<OpDoc>,
    pub(crate) otherwise: Vec<OpDoc>,
    pub(crate) fence: Option<FenceDoc>,
}

/// What must hold of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompareDoc {
    pub(crate) key: Blob,
    pub(crate) subject: SubjectDoc,
    pub(crate) relation: RelationDoc,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SubjectDoc {
    CreateRevision(u64),
    ModRevision(u64),
    Version(u64),
    Value(Blob),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RelationDoc {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

impl From<CompareDoc> for Compare {
    fn from(compare: CompareDoc) -> Compare {
        let subject = match compare.subject {
            SubjectDoc::CreateRevision(revision) => Subject::CreateRevision(revision),
            SubjectDoc::ModRevision(revision) => Subject::ModRevision(revision),
            SubjectDoc::Version(version) => Subject::Version(version),
            SubjectDoc::Value(value) => Subject::Value(value.0.into()),
        };
        let relation = match compare.relation {
            RelationDoc::Equal => Relation::Equal,
            RelationDoc::NotEqual => Relation::NotEqual,
            RelationDoc::Less => Relation::Less,
            RelationDoc::Greater => Relation::Greater,
        };
        Compare { key: compare.key.0.into(), subject, relation }
    }
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum OpDoc {
    Put { key: Blob, value: Blob, lease: Option<u64> },
    Delete { key: Blob },
    Get { key: Blob },
}

impl From<OpDoc> for Op {
    fn from(op: OpDoc) -> Op {
        match op {
            OpDoc::Put { key, value, lease } => {
                Op::Put { key: key.0.into(), value: value.0.into(), lease }
            }
            OpDoc::Delete { key } => Op::Delete { key: key.0.into() },
            OpDoc::Get { key } => Op::Get { key: key.0.into() },
        }
    }
}

/// What a watch looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TargetDoc {
    Key(Blob),
    Prefix(Blob),
    Name(Blob),
    Names(Blob),
}

impl From<TargetDoc> for Target {
    fn from(target: TargetDoc) -> Target {
        match target {
            TargetDoc::Key(key) => Target::Key(key.0.into()),
            TargetDoc::Prefix(prefix) => Target::Prefix(prefix.0.into()),
            TargetDoc::Name(name) => Target::Name(name.0.into()),
            TargetDoc::Names(prefix) => Target::Names(prefix.0.into()),
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A cluster was made.
    Made {
        cluster: String,
    },
    /// A node takes part.
    Seated {
        node: String,
        seat: SeatDoc,
    },
    /// A node takes part no longer.
    Unseated {
        node: String,
    },
    /// How the cluster stands.
    Standing(Box<ClusterDoc>),
    /// What a key holds.
    Item(KeyDoc),
    Written {
        revision: u64,
        version: u64,
    },
    Deleted {
        revision: u64,
    },
    Txn {
        revision: u64,
        held: bool,
        outcomes: Vec<OutcomeDoc>,
    },
    Change(ChangeDoc),
    Granted {
        lease: u64,
        ttl_ms: u64,
    },
    Renewed {
        ttl_ms: u64,
        stepping_down: Vec<u64>,
    },
    Done {
        revision: u64,
    },
    /// The name is the lease's.
    Held {
        token: u64,
    },
    /// The name is another's: a watch from the next revision on tells when it is granted.
    Queued {
        revision: u64,
        before: u32,
        token: u64,
    },
    /// The holder has gone; who is the next, if there is one.
    SteppedDown {
        token: u64,
        next: Option<HolderDoc>,
    },
    /// Who holds a name, if somebody does, and how many wait for it.
    Name {
        revision: u64,
        holder: Option<HolderDoc>,
        waiting: u64,
    },
    /// Who holds it now.
    Leader(HolderDoc),
}

/// A key of the registry, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyDoc {
    pub(crate) key: Blob,
    pub(crate) value: Blob,
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<u64>,
}

impl From<Item> for KeyDoc {
    fn from(item: Item) -> KeyDoc {
        let Item { key, value, create_revision, mod_revision, version, lease } = item;
        let (key, value) = (blob(&key), blob(&value));
        KeyDoc { key, value, create_revision, mod_revision, version, lease }
    }
}

/// What one step of a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeDoc {
    Put { version: u64 },
    Deleted { existed: bool },
    Got(Option<KeyDoc>),
}

impl From<Outcome> for OutcomeDoc {
    fn from(outcome: Outcome) -> OutcomeDoc {
        match outcome {
            Outcome::Put { version } => OutcomeDoc::Put { version },
            Outcome::Deleted { existed } => OutcomeDoc::Deleted { existed },
            Outcome::Got(item) => OutcomeDoc::Got(item.map(KeyDoc::from)),
        }
    }
}

/// What a watch is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum ChangeDoc {
    /// What a key holds as the watch begins.
    Now(KeyDoc),
    /// Changes follow, from this revision on.
    Live {
        from: u64,
    },
    Put {
        revision: u64,
        #[serde(flatten)]
        item: KeyDoc,
    },
    Deleted {
        revision: u64,
        key: Blob,
    },
    Name {
        revision: u64,
        name: Blob,
        holder: Option<HolderDoc>,
    },
}

impl ChangeDoc {
    pub(crate) fn at(revision: u64, change: Change) -> ChangeDoc {
        match change {
            Change::Put(item) => ChangeDoc::Put { revision, item: item.into() },
            Change::Deleted { key } => ChangeDoc::Deleted { revision, key: blob(&key) },
            Change::Name { name, holder } => {
                ChangeDoc::Name { revision, name: blob(&name), holder: holder.map(HolderDoc::from) }
            }
        }
    }
}

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HolderDoc {
    pub(crate) node: String,
    pub(crate) lease: u64,
    pub(crate) token: u64,
    pub(crate) priority: u8,
    pub(crate) value: Blob,
    /// Whether it has been asked to give the name back.
    pub(crate) stepping_down: bool,
}

impl From<Holder> for HolderDoc {
    fn from(holder: Holder) -> HolderDoc {
        let Holder { node, lease, token, priority, value, stepping_down } = holder;
        HolderDoc {
            node: node.to_string(),
            lease,
            token,
            priority,
            value: blob(&value),
            stepping_down: stepping_down.is_some(),
        }
    }
}

/// How a node sees its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterDoc {
    pub(crate) cluster: Option<String>,
    pub(crate) node: String,
    /// Or `aside`: the journal may be an old copy, and the node takes no part.
    pub(crate) role: String,
    pub(crate) health: String,
    pub(crate) leader: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) oldest_revision: u64,
    pub(crate) commit: u64,
    pub(crate) last: u64,
    pub(crate) entries: u64,
    pub(crate) clock_ms: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) leases: u64,
    pub(crate) names: u64,
    pub(crate) watches: u64,
    pub(crate) pending: u64,
    pub(crate) members: Vec<SeatedDoc>,
    /// What the node has counted since its start.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeatedDoc {
    pub(crate) node: String,
    pub(crate) seat: SeatDoc,
    /// Whether it is to vote as soon as it has caught up.
    pub(crate) aspires: bool,
    pub(crate) reachable: bool,
    /// How much of the log it holds; known to the leader alone.
    pub(crate) matched: Option<u64>,
}

impl ClusterDoc {
    pub(crate) fn of(node: String, status: &Status) -> ClusterDoc {
        let role = match status.role {
            _ if status.stands_aside.is_some() => "aside",
            Role::Outside => "outside",
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Witness => "witness",
            Role::Learner => "learner",
        };
        let counters = status.counters;
        let members = status.members.iter().map(|member| SeatedDoc {
            node: member.node.to_string(),
            seat: member.seat.into(),
            aspires: member.aspires,
            reachable: member.reachable,
            matched: member.matched,
        });
        ClusterDoc {
            cluster: status.cluster.map(|id| id.to_string()),
            node,
            role: role.into(),
            health: format!("{:?}", status.health).to_lowercase(),
            leader: status.leader.map(|leader| leader.to_string()),
            epoch: status.ballot.number,
            revision: status.applied,
            oldest_revision: status.oldest_revision,
            commit: status.commit,
            last: status.last,
            entries: status.entries as u64,
            clock_ms: status.clock_ms,
            keys: status.keys as u64,
            bytes: status.bytes,
            leases: status.leases as u64,
            names: status.names as u64,
            watches: status.watches as u64,
            pending: status.pending as u64,
            members: members.collect(),
            counters: [
                ("asked", counters.asked),
                ("forwarded", counters.forwarded),
                ("retried", counters.retried),
                ("unavailable", counters.unavailable),
                ("unknown", counters.unknown),
                ("led", counters.led),
                ("leader_changes", counters.leader_changes),
                ("compactions", counters.compactions),
            ]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        }
    }
}

fn blob(bytes: &Bytes) -> Blob {
    Blob(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::{Reply, Request};
    use super::*;

    #[test]
    fn asks_and_answers_cross_the_socket() {
        let given = GivenDoc {
            previous: Some(7),
            fence: Some(FenceDoc { name: Blob::from(&b"jobs"[..]), token: 3 }),
        };
        let ask =
            Ask::Put { key: Blob::from(&b"\xff"[..]), value: Blob::default(), lease: None, given };
        let request = Request::Cluster { timeout_ms: 5_000, ask: Box::new(ask) };
        let line = serde_json::to_string(&request).unwrap();
        let read: Request = serde_json::from_str(&line).unwrap();
        assert_eq!(format!("{request:?}"), format!("{read:?}"), "{line}");

        let change = ChangeDoc::Put {
            revision: 9,
            item: KeyDoc {
                key: Blob::from(&b"k"[..]),
                value: Blob::from(&b"\xfe"[..]),
                create_revision: 4,
                mod_revision: 9,
                version: 2,
                lease: None,
            },
        };
        let line = serde_json::to_string(&Reply::Cluster(Answer::Change(change.clone()))).unwrap();
        let Reply::Cluster(Answer::Change(read)) = serde_json::from_str(&line).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(read, change);
        let unknown = r#"{"request":"cluster","timeout_ms":1,"ask":{"get":{"key":"k","kee":1}}}"#;
        assert!(serde_json::from_str::<Request>(unknown).is_err());
    }
}
