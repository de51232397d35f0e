//! What a node tells of itself and its peers.

use quorate_core::cluster::Standing;
use quorate_core::hash::Hash;
use quorate_core::machine::NodeId;
use quorate_core::membership::State;
use quorate_core::node as core;
use quorate_core::sigchain::{Fork, ForkProof};
use quorate_core::store::Founding;

use super::{Node, NodeError};
use crate::handle::Metrics;

/// A node's state.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who founded the store; its id follows from that.
    pub founding: Option<Founding>,
    /// A digest of what can be read: equal digests mean equal stores.
    pub digest: Option<Hash>,
    /// Everyone who belongs or belonged to the mesh.
    pub members: Vec<Member>,
    /// Authors who signed two entries for one place, and the hash of the proof.
    pub forks: Vec<(Fork, Hash)>,
    /// How many keys and members of sets were ever written.
    pub slots: usize,
    /// What the machine counts.
    pub node: core::Status,
    /// What the host counts.
    pub host: Metrics,
    /// Stored records found damaged since the start.
    pub corrupted: u64,
    /// Whether the data directory looked like an old copy at the start.
    pub suspect: bool,
    /// Whether the node takes no part in its cluster because the journal may be an old copy, and what it
    /// waits for.
    pub stands_aside: Option<Standing>,
}

/// A member, or one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Who invited it.
    pub invited_by: NodeId,
    /// How it stands.
    pub state: State,
    /// The last place of its chain that is held here and counts.
    pub height: u64,
}

impl Node {
    /// This node's state. Costs a look at every key, for the digest, outside the node's own task.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn status(&self) -> Result<Status, NodeError> {
        let look = |machine: &core::Node, edge: &mut super::NodeEdge| {
            let stands_aside = machine.cluster().stands_aside();
            (machine.store().cloned(), machine.status(), edge.corruptions(), stands_aside)
        };
        let (store, node, corrupted, stands_aside) = self.handle.query(look).await?;
        let host = self.handle.metrics().await?;
        let members = |store: &quorate_core::store::Store| {
            let member = |(node, member): (&NodeId, &quorate_core::membership::Member)| Member {
                node: *node,
                invited_by: member.invited_by,
                state: member.state,
                height: store.tip(node).height,
            };
            store.membership().iter().map(member).collect()
        };
        let forks = |store: &quorate_core::store::Store| {
            store.forks().values().map(|of| (of.fork, proof_hash(&of.proof))).collect()
        };
        let damaged = node.damaged;
        Ok(Status {
            founding: store.as_ref().map(|store| store.founding()),
            members: store.as_ref().map(members).unwrap_or_default(),
            forks: store.as_ref().map(forks).unwrap_or_default(),
            slots: store.as_ref().map_or(0, |store| store.dag().len()),
            digest: store.as_ref().map(|store| store.digest()),
            node,
            host,
            // A damaged record that was read counts in both.
            corrupted: corrupted.max(damaged),
            suspect: self.about.suspect,
            stands_aside,
        })
    }

    /// A digest of what can be read, once it is durable: equal digests mean equal stores.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn digest(&self) -> Result<Option<Hash>, NodeError> {
        let store = self.handle.query(|machine, _| machine.store().cloned()).await?;
        Ok(store.map(|store| store.digest()))
    }

    /// What is known of every peer that is there or was met, and what the host counts.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn peers(&self) -> Result<(Vec<core::PeerStatus>, Metrics), NodeError> {
        let peers = self.handle.query(|machine, _| machine.peers()).await?;
        Ok((peers, self.handle.metrics().await?))
    }
}

/// A name for a proof: the hash of its headers, both sides.
fn proof_hash(proof: &ForkProof) -> Hash {
    let headers = proof.left.iter().chain(&proof.right);
    Hash::of(&headers.flat_map(|header| header.iter().copied()).collect::<Vec<u8>>())
}
