//! A node in this process: the machine [`quorate_core::node::Node`] on its host, as something to call.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate_runtime_tokio::node::{Node, Options, data_dir::DataDir};
//!
//! let data = DataDir::open("/var/lib/quorate".as_ref(), true)?;
//! let (node, running) = Node::start(data, Options::listening("0.0.0.0:4470")).await?;
//! node.put(b"colour", b"green").await?;
//! assert_eq!(node.get(b"colour").await?.unwrap().value.to_string(), "green");
//! running.stop().await?;
//! # Ok(()) }
//! ```
//!
//! - [`data_dir`]: the key, the log, and whether the log is an old copy.
//! - [`read`]: what stands at a key. Answers are held until what they show is durable.
//! - [`watch`]: what changes.
//! - [`status`]: what a node tells of itself.
//! - [`cluster`]: the cluster it is in: a registry, leases. [`leadership`] and [`lock`]: to be the one.
//!   [`observe`]: to know who is. [`lifecycle`]: an application that is active on one node.

pub mod cluster;
mod codec;
pub mod data_dir;
mod edge;
pub mod leadership;
pub mod lifecycle;
pub mod lock;
mod mesh;
pub mod observe;
pub mod read;
mod requests;
mod standing;
mod start;
pub mod status;
pub mod watch;

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::entry::Link;
use quorate_core::machine::NodeId;
use quorate_core::node::JoinError;
use quorate_core::store::{Change, WriteError};
use quorate_core::watch::Pattern;
use tokio::sync::oneshot;

use crate::handle::{Handle, Stopped};
use crate::host::HostError;
use crate::tls::TlsError;

pub use codec::NodeCodec;
pub use edge::NodeEdge;
pub use start::{DEFAULT_PORT, Options, RunningNode};

/// A running node. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Node {
    handle: Handle<NodeEdge>,
    about: Arc<About>,
}

/// What does not change while a node runs.
#[derive(Debug)]
struct About {
    id: NodeId,
    listens: Option<String>,
    address: Option<String>,
    suspect: bool,
}

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The write was refused; nothing changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The node stopped.
    #[error("the node has stopped; what was asked may or may not have been done")]
    Stopped,
    /// A value is damaged on the disk, and nobody was found who could send it again.
    #[error("the entry that holds this is damaged on the disk (log position {position})")]
    Damaged {
        /// Where in the log.
        position: u64,
    },
    /// The node does not know where others can reach it.
    #[error(
        "this node does not listen anywhere, so a ticket would lead nowhere: start it with \
         `quorate up`, or name its address with --advertise"
    )]
    NoAddress,
    /// The address to tell others is too long.
    #[error("an address has at most {} bytes", quorate_core::handshake::MAX_ADDRESS)]
    AddressTooLong,
    /// The key does not work.
    #[error(transparent)]
    Key(#[from] TlsError),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<Stopped> for NodeError {
    fn from(_: Stopped) -> NodeError {
        NodeError::Stopped
    }
}

impl Node {
    /// Its id: its public key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.about.id
    }

    /// Where it listens, with the port that was chosen.
    #[must_use]
    pub fn listens(&self) -> Option<&str> {
        self.about.listens.as_deref()
    }

    /// Where it tells others that it listens.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.about.address.as_deref()
    }

    /// Whether, at the start, the log looked like an old copy or was found damaged: then nothing is
    /// written until every member has been found to hold no more, or
    /// [`trust_disk`](Self::trust_disk).
    #[must_use]
    pub fn was_suspect(&self) -> bool {
        self.about.suspect
    }

    /// Whether it has stopped, or is about to: what its [`RunningNode`] then ends with says why.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.handle.is_closed()
    }

    /// Sets the register at `key`. Durable when this returns, as with every write.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<Link, NodeError> {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.write(vec![Change::Put { key, value }]).await
    }

    /// Removes what stands at `key`, whatever its type.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn delete(&self, key: &[u8]) -> Result<Link, NodeError> {
        self.write(vec![Change::Delete { key: Bytes::copy_from_slice(key) }]).await
    }

    /// Adds `delta` to the counter at `key`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn add(&self, key: &[u8], delta: i64) -> Result<Link, NodeError> {
        self.write(vec![Change::Add { key: Bytes::copy_from_slice(key), delta }]).await
    }

    /// Puts `member` into the set at `key`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn set_add(&self, key: &[u8], member: &[u8]) -> Result<Link, NodeError> {
        let (key, member) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(member));
        self.write(vec![Change::SetAdd { key, member }]).await
    }

    /// Takes `member` out of the set at `key`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn set_remove(&self, key: &[u8], member: &[u8]) -> Result<Link, NodeError> {
        let (key, member) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(member));
        self.write(vec![Change::SetRemove { key, member }]).await
    }

    /// Writes `changes` as one entry: all of them or none. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`NodeError::Write`] where the write is refused, and nothing changed;
    /// [`NodeError::Stopped`] where nobody can say.
    pub async fn write(&self, changes: Vec<Change>) -> Result<Link, NodeError> {
        self.submit(changes).await?.await
    }

    /// Begins to [`write`](Self::write) `changes`, after everything that was begun before. The future
    /// that comes back waits until they are durable.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped; those of the write come from the future.
    pub async fn submit(
        &self,
        changes: Vec<Change>,
    ) -> Result<impl Future<Output = Result<Link, NodeError>> + Send + use<>, NodeError> {
        let (give, take) = oneshot::channel();
        self.handle.with_edge(move |edge, actions| edge.write(changes, give, actions)).await?;
        Ok(async { Ok(take.await.map_err(|_| NodeError::Stopped)??) })
    }

    /// Begins a watch of the keys that match `pattern`.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn watch(&self, pattern: Pattern) -> Result<watch::Watcher, NodeError> {
        watch::Watcher::begin(self.clone(), pattern).await
    }
}
