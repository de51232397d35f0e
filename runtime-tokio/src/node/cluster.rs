//! The cluster that a node is in, as something to call: who takes part, the registry, leases, names.
//!
//! ```no_run
//! # async fn run(node: quorate_runtime_tokio::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use quorate_runtime_tokio::node::cluster::{Given, Read};
//!
//! let cluster = node.cluster();
//! let written = cluster.put("colour", "green", Given::default()).await?;
//! let (_, item) = cluster.get("colour", Read::Linearizable).await?;
//! assert_eq!(item.unwrap().value, "green");
//! // Only if nobody has written it since.
//! let given = Given { previous: Some(written.revision), ..Given::default() };
//! cluster.put("colour", "blue", given).await?;
//! # Ok(()) }
//! ```
//!
//! Any node of a cluster can be asked; a follower passes on to the leader. Every request is answered by
//! its deadline. [`ClusterError::Refused`] with [`Error::Unknown`] is the one answer that leaves open
//! whether something happened.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::machine::NodeId;
use quorate_core::registry::{Command as Change, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Node, NodeEdge};
use crate::edge::Actions;
use crate::handle::{Handle, Stopped};

pub use super::requests::Life;
pub use quorate_core::cluster::{
    ClusterId, Error, Health, MemberStatus, Read, Request, Role, Seat, Standing, Status, WatchEnd,
    WatchUpdate,
};
pub use quorate_core::registry::{
    Candidate, Change as Happened, Compare, Fence, Holder, Item, LeaseView, NameView, Op, Outcome,
    Query, Refusal, Relation, Subject, Target,
};

/// How long a request may take, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Taken updates are told to the machine when so many have come together.
const ACKNOWLEDGE: usize = quorate_core::cluster::WINDOW / 4;

/// The names, or leases, asked for at once where all are wanted.
const PAGE: u32 = 256;

/// The cluster of a [`Node`]. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) handle: Handle<NodeEdge>,
    pub(super) me: NodeId,
    timeout: Duration,
}

/// Why a cluster did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The cluster's node said so.
    #[error(transparent)]
    Refused(#[from] Error),
    /// What was waited for has not come in time.
    #[error("it has not come in time")]
    TimedOut,
    /// The leader answered with what is no answer to that.
    #[error("the leader answered something else than what it was asked")]
    BadReply,
    /// The node stopped.
    #[error("the node has stopped; what was asked may or may not have been done")]
    Stopped,
}

impl From<Stopped> for ClusterError {
    fn from(_: Stopped) -> ClusterError {
        ClusterError::Stopped
    }
}

/// What must be the case for a write to be done, and with what its key goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The lease with which the key goes; a delete has none.
    pub lease: Option<u64>,
    /// The revision of the key's last change; 0 if it must not be there.
    pub previous: Option<u64>,
    /// The grant under which the writer acts.
    pub fence: Option<Fence>,
}

/// A key has a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key's new revision.
    pub revision: u64,
    /// How often it was written since it came to be.
    pub version: u64,
}

/// A key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// As of which revision.
    pub revision: u64,
    /// Whether it had been there.
    pub existed: bool,
}

/// A transaction: if all of `compare` holds, `then`, else `otherwise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What is done if it does.
    pub then: Vec<Op>,
    /// What is done if it does not.
    pub otherwise: Vec<Op>,
    /// The grant under which the writer acts.
    pub fence: Option<Fence>,
}

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnDone {
    /// As of which revision.
    pub revision: u64,
    /// Whether the comparisons held.
    pub held: bool,
    /// What each step came to.
    pub outcomes: Vec<Outcome>,
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Those that start so.
    pub prefix: Bytes,
    /// After this one.
    pub after: Option<Bytes>,
    /// At most so many; 0 for as many as a page holds.
    pub limit: u32,
    /// Without their values.
    pub keys_only: bool,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// As of which revision.
    pub revision: u64,
    /// In order.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A lease goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// For how long, from the leader's next entry.
    pub ttl: Duration,
    /// The grants that the lease's holder is asked to give back.
    pub stepping_down: Vec<u64>,
}

/// A holder has given a name back, or lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteppedDown {
    /// The grant that ended.
    pub token: u64,
    /// Who has the name now.
    pub next: Option<Holder>,
}

impl Node {
    /// The cluster that this node is in, or may come to be in.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster { handle: self.handle.clone(), me: self.id(), timeout: DEFAULT_TIMEOUT }
    }
}

/// Asking, and who takes part.
impl Cluster {
    /// The same cluster, whose requests may take so long.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Cluster {
        Cluster { timeout, ..self }
    }

    /// How long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks, together with whoever asks at the same time, and waits for the answer, which comes by the
    /// deadline.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Refused`] with what was answered; [`ClusterError::Stopped`].
    pub async fn request(&self, request: Request) -> Result<Reply, ClusterError> {
        let timeout_ms = millis(self.timeout);
        let (give, take) = oneshot::channel();
        let ask = move |edge: &mut NodeEdge, _: &mut Actions<'_, _>| {
            edge.requests().ask(request, timeout_ms, give);
        };
        self.handle.tell_edge(ask).await?;
        Ok(take.await.map_err(|_| ClusterError::Stopped)??)
    }

    /// Makes a cluster with this node as its only voter.
    ///
    /// # Errors
    ///
    /// [`Error::InCluster`] where the node is in one already.
    pub async fn init(&self) -> Result<ClusterId, ClusterError> {
        let (give, take) = oneshot::channel();
        let init =
            move |edge: &mut NodeEdge, actions: &mut Actions<'_, _>| edge.init(give, actions);
        self.handle.tell_edge(init).await?;
        take.await.map_err(|_| ClusterError::Stopped)??;
        self.status().await?.cluster.ok_or(ClusterError::Refused(Error::NoCluster))
    }

    /// Lets a node of the mesh take part; returns when it does, in that seat.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn add(&self, node: NodeId, seat: Seat) -> Result<(), ClusterError> {
        self.request(Request::Add { node, seat }).await.map(drop)
    }

    /// Takes a member out.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn remove(&self, node: NodeId) -> Result<(), ClusterError> {
        self.request(Request::Remove { node }).await.map(drop)
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    ///
    /// What the cluster answered: [`Error::Behind`] where it has not caught up.
    pub async fn promote(&self, node: NodeId) -> Result<(), ClusterError> {
        self.request(Request::Promote { node }).await.map(drop)
    }

    /// Has the leader of the log hand over, to this voter or to the one that is least behind.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<(), ClusterError> {
        self.request(Request::HandOver { to }).await.map(drop)
    }

    /// How this node sees its cluster. Asks nobody.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Stopped`].
    pub async fn status(&self) -> Result<Status, ClusterError> {
        Ok(self.handle.query(|machine, _| machine.cluster().status()).await?)
    }

    /// This node's place in its cluster, and every change of it: told at once.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Stopped`].
    pub async fn life(&self) -> Result<watch::Receiver<Life>, ClusterError> {
        Ok(self.handle.with_edge(|edge, _| edge.requests().life()).await?)
    }
}

/// The registry, and leases.
impl Cluster {
    /// What `key` holds, and as of which revision of the registry.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn get(
        &self,
        key: impl Into<Bytes>,
        read: Read,
    ) -> Result<(u64, Option<Item>), ClusterError> {
        match self.query(Query::Get { key: key.into() }, read).await? {
            Reply::Value { revision, item } => Ok((revision, item)),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// Keys in order, and what they hold.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn list(&self, list: List, read: Read) -> Result<Page<Item>, ClusterError> {
        let List { prefix, after, limit, keys_only } = list;
        let limit = if limit == 0 { u32::MAX } else { limit };
        match self.query(Query::List { prefix, after, limit, keys_only }, read).await? {
            Reply::Items { revision, items, more } => Ok(Page { revision, items, more }),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// Gives `key` a value, if what is given holds.
    ///
    /// # Errors
    ///
    /// What the cluster answered: [`Refusal::StaleRevision`] or [`Refusal::StaleToken`] where it does
    /// not hold.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        given: Given,
    ) -> Result<Written, ClusterError> {
        let Given { lease, previous, fence } = given;
        let (key, value) = (key.into(), value.into());
        match self.change(Change::Put { key, value, lease, previous, fence }).await? {
            Reply::Written { revision, version } => Ok(Written { revision, version }),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// Deletes `key`, if what is given holds.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub async fn delete(
        &self,
        key: impl Into<Bytes>,
        given: Given,
    ) -> Result<Deleted, ClusterError> {
        let Given { lease: _, previous, fence } = given;
        match self.change(Change::Delete { key: key.into(), previous, fence }).await? {
            Reply::Deleted { revision, existed } => Ok(Deleted { revision, existed }),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// Carries out a transaction: all of it or nothing.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn txn(&self, txn: Txn) -> Result<TxnDone, ClusterError> {
        let Txn { compare, then, otherwise, fence } = txn;
        match self.change(Change::Txn { compare, then, otherwise, fence }).await? {
            Reply::Txn { revision, held, outcomes } => Ok(TxnDone { revision, held, outcomes }),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// Tells what changes, from the changes of revision `from` on; or from now on.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Stopped`]; whatever else is wrong the watch says itself.
    pub async fn watch(
        &self,
        target: Target,
        from: Option<u64>,
    ) -> Result<ClusterWatch, ClusterError> {
        let begin = move |edge: &mut NodeEdge, actions: &mut Actions<'_, _>| {
            edge.watch_cluster(target, from, actions)
        };
        let (watch, updates) = self.handle.with_edge(begin).await?;
        Ok(ClusterWatch { handle: self.handle.clone(), watch, updates, taken: 0 })
    }

    /// A new lease of this node's, to be kept alive every third of its time.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn grant(&self, ttl: Duration) -> Result<u64, ClusterError> {
        match self.change(Change::Grant { ttl_ms: millis(ttl), node: self.me }).await? {
            Reply::Granted { lease, .. } => Ok(lease),
            _ => Err(ClusterError::BadReply),
        }
    }

    /// A lease goes on.
    ///
    /// # Errors
    ///
    /// What the cluster answered: [`Refusal::UnknownLease`] where it has ended.
    pub async fn keep_alive(&self, lease: u64) -> Result<Renewed, ClusterError> {
        match self.request(Request::KeepAlive { lease }).await? {
            Reply::Renewed { ttl_ms, stepping_down, .. } => {
                Ok(Renewed { ttl: Duration::from_millis(ttl_ms), stepping_down })
            }
            _ => Err(ClusterError::BadReply),
        }
    }

    /// A lease ends, and with it what hangs on it.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn revoke(&self, lease: u64) -> Result<(), ClusterError> {
        self.change(Change::Revoke { lease }).await.map(drop)
    }

    /// Who holds a name and who waits for it; nothing where nobody does either.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn name(
        &self,
        name: impl Into<Bytes>,
        read: Read,
    ) -> Result<Option<NameView>, ClusterError> {
        match self.query(Query::Name { name: name.into() }, read).await {
            Ok(Reply::Name { name, .. }) => Ok(Some(name)),
            Ok(_) => Err(ClusterError::BadReply),
            Err(ClusterError::Refused(Error::Refused(Refusal::UnknownName))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who holds the names that start so; without those who wait.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn names(
        &self,
        prefix: impl Into<Bytes>,
        read: Read,
    ) -> Result<Vec<NameView>, ClusterError> {
        let prefix = prefix.into();
        let (mut all, mut after) = (Vec::<NameView>::new(), None);
        loop {
            let query = Query::Names { prefix: prefix.clone(), after: after.take(), limit: PAGE };
            let Reply::Names { names, more, .. } = self.query(query, read).await? else {
                return Err(ClusterError::BadReply);
            };
            all.extend(names);
            after = all.last().map(|last| last.name.clone());
            if !more || after.is_none() {
                return Ok(all);
            }
        }
    }

    pub(super) async fn change(&self, change: Change) -> Result<Reply, ClusterError> {
        self.request(Request::Change(change)).await
    }

    async fn query(&self, query: Query, read: Read) -> Result<Reply, ClusterError> {
        self.request(Request::Query { query, read }).await
    }
}

/// A watch of the registry. Dropping it ends it.
#[derive(Debug)]
pub struct ClusterWatch {
    handle: Handle<NodeEdge>,
    watch: u64,
    updates: mpsc::Receiver<WatchUpdate>,
    taken: usize,
}

impl ClusterWatch {
    /// The next update. May be dropped at any await.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Stopped`].
    pub async fn next(&mut self) -> Result<WatchUpdate, ClusterError> {
        if self.taken >= ACKNOWLEDGE || (self.taken > 0 && self.updates.is_empty()) {
            let (watch, count) = (self.watch, self.taken);
            let taken = move |_: &mut NodeEdge, actions: &mut Actions<'_, _>| {
                actions.command(super::requests::taken(watch, count));
            };
            self.handle.tell_edge(taken).await?;
            // Only now: whoever drops this before has told nothing.
            self.taken = 0;
        }
        let update = self.updates.recv().await.ok_or(ClusterError::Stopped)?;
        self.taken += 1;
        Ok(update)
    }
}

impl Drop for ClusterWatch {
    fn drop(&mut self) {
        let (handle, watch) = (self.handle.clone(), self.watch);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                let end =
                    handle.tell_edge(move |edge, actions| edge.unwatch_cluster(watch, actions));
                // A node that has stopped has no watches.
                let _ = end.await;
            }));
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
