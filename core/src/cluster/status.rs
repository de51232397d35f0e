//! What a node can say of its cluster.

use super::Cluster;
use super::members::{is_member, seat};
use super::message::{MemberStatus, Seat, Status};
use crate::machine::NodeId;
use crate::registry::{Query, Refusal, Reply};

impl Cluster {
    /// How the cluster is, as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        let me = self.me;
        let (keys, bytes) = self.registry.size();
        let member = |node: NodeId| MemberStatus {
            node,
            seat: seat(self.log.members(), &node).unwrap_or(Seat::Learner),
            aspires: self.registry.aspirants().contains(&node),
            matched: match node == me && self.leading.is_some() {
                true => Some(self.log.last().index),
                false => self.log.matched(&node),
            },
            reachable: node == me || self.links.contains(&node),
        };
        Status {
            cluster: self.id,
            stands_aside: self.stands_aside(),
            role: self.role(),
            leader: self.told_leader.map(|ballot| ballot.node),
            ballot: self.log.promised(),
            members: self.log.members().all().map(member).collect(),
            health: self.told_health,
            last: self.log.last().index,
            commit: self.log.commit(),
            applied: self.registry.revision(),
            oldest_revision: self.registry.oldest(),
            entries: self.log.len(),
            clock_ms: self.registry.clock_ms(),
            keys,
            bytes,
            leases: self.registry.leases(),
            names: self.registry.names(),
            watches: self.watches.len(),
            pending: self.requests.len(),
            counters: self.counters,
        }
    }

    /// Whether `node` is one of this node's cluster, as far as this node's log says.
    #[must_use]
    pub fn counts(&self, node: &NodeId) -> bool {
        self.id.is_some() && is_member(self.log.members(), node)
    }

    /// Answers from what this node has applied, which may be old.
    ///
    /// # Errors
    ///
    /// What is asked for by its id or name is not there.
    pub fn local(&self, query: &Query) -> Result<Reply, Refusal> {
        self.registry.query(query)
    }
}
