//! Who belongs: inviting, joining, removing, and syncing with them.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_core::cluster;
use quorate_core::hash::Hash;
use quorate_core::machine::NodeId;
use quorate_core::node::{Command, Contact, Node as Machine};
use quorate_core::store::{Change, WriteError};
use quorate_core::ticket::{MAX_TICKET_CONTACTS, Ticket};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Node, NodeError};

/// How a sync that was asked for went with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The peer.
    pub peer: NodeId,
    /// Whether both were found to hold the same since the asking.
    pub in_sync: bool,
}

impl Node {
    /// Admits `invited` to the mesh, if it is no member yet, and returns the ticket it joins with.
    ///
    /// # Errors
    ///
    /// Where this node listens nowhere, or the write is refused.
    pub async fn invite(&self, invited: NodeId) -> Result<Ticket, NodeError> {
        if self.address().is_none() {
            return Err(NodeError::NoAddress);
        }
        let is_active = move |machine: &Machine| {
            machine.store().is_some_and(|store| store.membership().is_active(&invited))
        };
        if !self.handle.query(move |machine, _| is_active(machine)).await? {
            self.write(vec![Change::Invite { node: invited }]).await?;
        }
        self.ticket().await
    }

    /// The ticket of this node's mesh.
    ///
    /// # Errors
    ///
    /// Where this node listens nowhere, or belongs to no store.
    pub async fn ticket(&self) -> Result<Ticket, NodeError> {
        let address = self.address().ok_or(NodeError::NoAddress)?.to_owned();
        let me = Contact { node: self.id(), address };
        let parts = |machine: &Machine| {
            let founding = machine.store()?.founding();
            Some((founding, machine.contacts().cloned().collect::<Vec<_>>()))
        };
        let parts = self.handle.query(move |machine, _| parts(machine)).await?;
        let (founding, others) = parts.ok_or(NodeError::Write(WriteError::NotAMember))?;
        let others = others.into_iter().filter(|contact| contact.node != me.node);
        let contacts =
            std::iter::once(me.clone()).chain(others).take(MAX_TICKET_CONTACTS).collect();
        Ok(Ticket { founding, contacts })
    }

    /// Leaves this node's own empty store for the one that `ticket` leads to; returns the store's id.
    /// The store comes with the syncs that follow.
    ///
    /// # Errors
    ///
    /// [`NodeError::Join`] where this node's own store is in use.
    pub async fn join(&self, ticket: Ticket) -> Result<Hash, NodeError> {
        let (give, take) = oneshot::channel();
        self.handle.with_edge(move |edge, actions| edge.join(ticket, give, actions)).await?;
        Ok(take.await.map_err(|_| NodeError::Stopped)??)
    }

    /// Removes a node from the mesh: what it writes from now on has no effect. Itself, to leave.
    ///
    /// # Errors
    ///
    /// Where the write is refused.
    pub async fn remove(&self, node: NodeId) -> Result<quorate_core::entry::Link, NodeError> {
        self.write(vec![Change::Remove { node }]).await
    }

    /// Syncs with `peer`, or with every peer that is there, and waits until each was found to hold the
    /// same, or `limit` is over.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn sync(
        &self,
        peer: Option<NodeId>,
        limit: Duration,
    ) -> Result<Vec<Synced>, NodeError> {
        let until = Instant::now() + limit;
        let synced = self.handle.with_edge(|edge, _| edge.synced()).await?;
        let before = self.same_counts(peer).await?;
        self.handle.command(Command::Sync(peer)).await?;
        loop {
            let mut rung = std::pin::pin!(synced.notified());
            rung.as_mut().enable();
            let now = self.same_counts(peer).await?;
            let result: Vec<Synced> = before
                .iter()
                .map(|(peer, same)| {
                    let in_sync = now.iter().any(|(id, now)| id == peer && now > same);
                    Synced { peer: *peer, in_sync }
                })
                .collect();
            let left = until.saturating_duration_since(Instant::now());
            if result.iter().all(|one| one.in_sync) || timeout(left, rung).await.is_err() {
                return Ok(result);
            }
        }
    }

    /// How many syncs found each open peer equal.
    async fn same_counts(&self, peer: Option<NodeId>) -> Result<Vec<(NodeId, u64)>, NodeError> {
        let peers = self.handle.query(|machine, _| machine.peers()).await?;
        let wanted = peers.into_iter().filter(|one| one.open && peer.is_none_or(|p| p == one.node));
        Ok(wanted.map(|one| (one.node, one.sync.map_or(0, |sync| sync.same))).collect())
    }

    /// Has no link to `peer` until it is called again with `false`; for drills, and for a peer that
    /// misbehaves.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn block(&self, peer: NodeId, block: bool) -> Result<(), NodeError> {
        let act = move |edge: &mut super::NodeEdge, actions: &mut crate::edge::Actions<'_, _>| {
            edge.block(peer, block, actions);
        };
        Ok(self.handle.with_edge(act).await?)
    }

    /// Writes on, and takes part in its cluster, although the disk may be an old copy: what it lacks is
    /// lost for sure. If anything newer exists, the key is spoilt, and the cluster may lose what it has
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn trust_disk(&self) -> Result<(), NodeError> {
        self.handle.command(Command::TrustDisk).await?;
        self.handle.command(Command::Cluster(cluster::Command::TakePart)).await?;
        self.handle.query(|_, _| ()).await?;
        Ok(())
    }

    /// Waits until this node may write: until it knows, as far as it can, its own latest entry.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn writable(&self) -> Result<(), NodeError> {
        let synced = self.handle.with_edge(|edge, _| edge.synced()).await?;
        loop {
            let mut rung = std::pin::pin!(synced.notified());
            rung.as_mut().enable();
            if self.handle.query(|machine, _| machine.status().writable).await? {
                return Ok(());
            }
            // Time makes a node writable too, and rings no bell.
            drop(tokio::time::timeout(Duration::from_millis(250), rung).await);
        }
    }

    /// The nodes whose ids begin with `prefix`, of those this node has heard of.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn find(&self, prefix: &str) -> Result<Vec<NodeId>, NodeError> {
        let known = |machine: &Machine| {
            let mut known: BTreeSet<NodeId> = machine.contacts().map(|c| c.node).collect();
            known.extend(machine.store().into_iter().flat_map(|store| {
                store.membership().iter().map(|(node, _)| *node).collect::<Vec<_>>()
            }));
            known
        };
        let known = self.handle.query(move |machine, _| known(machine)).await?;
        let prefix = prefix.to_ascii_lowercase();
        Ok(known.into_iter().filter(|node| node.to_string().starts_with(&prefix)).collect())
    }
}
