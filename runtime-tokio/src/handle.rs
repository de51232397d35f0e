//! The handle: how the rest of a process talks to a host, and what the host counts.

use std::collections::BTreeMap;
use std::fmt;

use quorate_core::machine::{Machine, NodeId};
use tokio::sync::{mpsc, oneshot};

use crate::edge::{Actions, Edge};
use crate::link::CloseReason;

/// Requests that may wait for the host; further callers wait for room.
pub const INBOX_REQUESTS: usize = 1024;

/// Peers whose traffic is remembered after their link is gone; beyond, it is summed up.
pub(crate) const MAX_PAST_PEERS: usize = 1024;

/// Talks to a running host. Clones talk to the same one.
pub struct Handle<E: Edge> {
    requests: mpsc::Sender<Request<E>>,
}

/// The host has stopped; what was asked of it may or may not have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host has stopped")]
pub struct Stopped;

/// An answer on its way out.
pub(crate) type Answer = Box<dyn FnOnce() + Send>;
type Query<E> = Box<dyn FnOnce(&<E as Edge>::Machine, &mut E) -> Answer + Send>;
type WithEdge<E> = Box<dyn FnOnce(&mut E, &mut Actions<'_, <E as Edge>::Machine>) + Send>;

pub(crate) enum Request<E: Edge> {
    Command(<E::Machine as Machine>::Command),
    Query(Query<E>),
    WithEdge(WithEdge<E>),
    Metrics(oneshot::Sender<Metrics>),
}

impl<E: Edge> Handle<E> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request<E>>) {
        let (requests, receiver) = mpsc::channel(INBOX_REQUESTS);
        (Self { requests }, receiver)
    }

    /// Gives the machine a command. Returns once the host will feed it, not once it has.
    pub async fn command(&self, command: <E::Machine as Machine>::Command) -> Result<(), Stopped> {
        self.requests.send(Request::Command(command)).await.map_err(|_| Stopped)
    }

    /// Runs `f` in the host's task, after every command given before by this caller. The answer is
    /// released once every record the machine had persisted by then is durable. `f` must not block.
    pub async fn query<T: Send + 'static>(
        &self,
        f: impl FnOnce(&E::Machine, &mut E) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (give, take) = oneshot::channel();
        let query: Query<E> = Box::new(move |machine, edge| {
            let answer = f(machine, edge);
            Box::new(move || drop(give.send(answer)))
        });
        self.ask(Request::Query(query), take).await
    }

    /// Runs `f` in the host's task and returns its answer at once, whatever is durable by then. `f`
    /// must not block.
    pub async fn with_edge<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut E, &mut Actions<'_, E::Machine>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (give, take) = oneshot::channel();
        let run: WithEdge<E> = Box::new(move |edge, actions| drop(give.send(f(edge, actions))));
        self.ask(Request::WithEdge(run), take).await
    }

    /// Runs `f` in the host's task and waits for nothing: what there is to answer, `f` answers itself.
    /// May be dropped at any await; then `f` has not run and never will. `f` must not block.
    pub async fn tell_edge(
        &self,
        f: impl FnOnce(&mut E, &mut Actions<'_, E::Machine>) + Send + 'static,
    ) -> Result<(), Stopped> {
        self.requests.send(Request::WithEdge(Box::new(f))).await.map_err(|_| Stopped)
    }

    /// What the host has counted so far.
    pub async fn metrics(&self) -> Result<Metrics, Stopped> {
        let (give, take) = oneshot::channel();
        self.ask(Request::Metrics(give), take).await
    }

    /// Whether the host takes no more requests: it has stopped, or is about to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    async fn ask<T>(&self, request: Request<E>, take: oneshot::Receiver<T>) -> Result<T, Stopped> {
        self.requests.send(request).await.map_err(|_| Stopped)?;
        take.await.map_err(|_| Stopped)
    }
}

impl<E: Edge> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

impl<E: Edge> fmt::Debug for Handle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Counters since the host started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The links that are up.
    pub links: BTreeMap<NodeId, LinkMetrics>,
    /// Traffic by peer, over all its links; of at most 1024 peers without one.
    pub peers: BTreeMap<NodeId, Traffic>,
    /// Traffic of peers no longer remembered one by one.
    pub other_peers: Traffic,
    /// Links that came up.
    pub opened: u64,
    /// Connections that ended, or never became a link, by reason.
    pub closed: BTreeMap<CloseReason, u64>,
    /// Steps of the machine.
    pub steps: u64,
    /// Commits begun.
    pub commits: u64,
    /// Records in those commits.
    pub records: u64,
    /// Groups of records begun in the journal.
    pub groups: u64,
    /// Records in those groups.
    pub journaled: u64,
    /// Effects that wait for a commit.
    pub held: usize,
    /// Messages to peers without a link.
    pub unroutable: u64,
    /// Messages that were too large for a frame.
    pub oversized: u64,
}

/// One link that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMetrics {
    /// The other end's address.
    pub addr: String,
    /// Whether this host dialled.
    pub dialled: bool,
    /// Bytes that wait to be written, with a charge for each frame.
    pub queued_bytes: usize,
}

/// Bytes of frames, before encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub bytes_in: u64,
    /// To the peer.
    pub bytes_out: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, (bytes_in, bytes_out): (u64, u64)) {
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
    }
}
