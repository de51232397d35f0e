//! Waves: who goes when, so that a bad release meets few nodes first.
//!
//! Every node draws the same lots: the hash of a node and a proposal is the node's place in that
//! rollout, another one in each. The first few per cent in the order of these places are the first
//! wave, and so on. From its place and from the signed reports of the others a node sees by itself
//! whether it is its turn; nobody coordinates.
//!
//! - A wave starts when enough of every wave before it has reported success.
//! - Too many reports of failure stop the rollout, for all who see them, until an operator resumes it.
//! - **Never more than so many nodes of a cluster at a time**: a node waits until all but fewer than so
//!   many of those before it in its own cluster have reported that they are through. Take, of the
//!   nodes that are at it, the one with the last place: when it began, all the others had not reported
//!   yet (who has reported is through, and does nothing twice), so they were fewer than so many. No
//!   clock is part of this, and a node that was lost holds its place until an operator says that it is
//!   away. It holds for each rollout; two at once of different proposals may add up, since a node
//!   learns that another has begun only when that has ended.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::signal::ProposalId;
use crate::machine::NodeId;

/// Waves of a rollout, at most.
pub const MAX_WAVES: usize = 16;
/// Nodes of a network, at most.
pub const MAX_NODES: usize = 1 << 17;

/// Which nodes stand and fall together: a number that the operator gives.
pub type Cluster = u32;

/// How a rollout goes through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where each wave ends, in per cent of all nodes; ascending, the last one 100.
    pub until_percent: Vec<u8>,
    /// How many of a wave must have reported success before the next, in per cent.
    pub enough_percent: u8,
    /// More reports of failure than this stop the rollout.
    pub failures_max: u32,
    /// So many nodes of a cluster at a time, at most.
    pub at_a_time: u32,
    /// How long the waves before must have had enough successes before a wave starts.
    pub soak_us: u64,
}

impl Default for Policy {
    /// A tenth, half, all; nine of ten must be well; one failure is borne; one of a cluster at a time.
    fn default() -> Policy {
        Policy {
            until_percent: [10, 50, 100].to_vec(),
            enough_percent: 90,
            failures_max: 1,
            at_a_time: 1,
            soak_us: 0,
        }
    }
}

impl Policy {
    /// Whether it makes sense.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.until_percent.len() <= MAX_WAVES
            && self.until_percent.is_sorted_by(|a, b| a < b)
            && self.until_percent.last() == Some(&100)
            && self.enough_percent <= 100
            && self.at_a_time > 0
    }

    /// Where each wave of `nodes` nodes ends, in their order.
    #[must_use]
    pub fn ends(&self, nodes: usize) -> Vec<usize> {
        self.until_percent.iter().map(|percent| share(nodes, *percent)).collect()
    }
}

/// The nodes of a rollout in the order of their places.
pub fn order<'a>(
    nodes: impl IntoIterator<Item = &'a NodeId>,
    proposal: &ProposalId,
) -> Vec<NodeId> {
    places(nodes, proposal).into_iter().map(|(_, node)| node).collect()
}

fn places<'a>(
    nodes: impl IntoIterator<Item = &'a NodeId>,
    proposal: &ProposalId,
) -> Vec<(Place, NodeId)> {
    let mut places: Vec<(Place, NodeId)> =
        nodes.into_iter().map(|node| (place(node, proposal), *node)).collect();
    places.sort_unstable();
    places
}

/// A node's place in a rollout.
pub(super) type Place = [u8; 32];

fn place(node: &NodeId, proposal: &ProposalId) -> Place {
    let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 rollout place");
    hasher.update(&proposal.0);
    hasher.update(&node.0);
    *hasher.finalize().as_bytes()
}

/// The waves of one rollout, as one node sees them.
#[derive(Clone, Debug)]
pub(super) struct Waves {
    proposal: ProposalId,
    /// The first place beyond each wave but the last.
    bounds: Vec<Place>,
    /// How many are in each wave, those that are away left out.
    sizes: Vec<u32>,
    mine: Place,
    my_cluster: Cluster,
    /// How many there are before this node in its cluster, those that are away left out.
    before_me: u32,
}

impl Waves {
    pub(super) fn new(
        proposal: ProposalId,
        me: NodeId,
        nodes: &BTreeMap<NodeId, Cluster>,
        away: &BTreeSet<NodeId>,
        policy: &Policy,
    ) -> Waves {
        let places = places(nodes.keys(), &proposal);
        let ends = policy.ends(places.len());
        let bounds = ends.iter().filter_map(|end| Some(places.get(*end)?.0)).collect();
        let mine = place(&me, &proposal);
        let my_cluster = nodes.get(&me).copied().unwrap_or_default();
        let mut waves =
            Waves { proposal, bounds, sizes: Vec::new(), mine, my_cluster, before_me: 0 };
        waves.sizes = alloc::vec![0; waves.bounds.len() + 1];
        for (place, node) in places.iter().filter(|(_, node)| !away.contains(node)) {
            let wave = waves.wave(place);
            waves.sizes[wave] += 1;
            waves.before_me += u32::from(*place < mine && nodes[node] == my_cluster);
        }
        waves
    }

    pub(super) fn wave(&self, place: &Place) -> usize {
        self.bounds.partition_point(|bound| bound <= place)
    }

    pub(super) fn place(&self, node: &NodeId) -> Place {
        place(node, &self.proposal)
    }

    /// Which wave this node is in.
    pub(super) fn my_wave(&self) -> usize {
        self.wave(&self.mine)
    }

    /// Whether a node of that place and cluster comes before this one in this one's cluster.
    pub(super) fn is_before_me(&self, place: &Place, cluster: Cluster) -> bool {
        cluster == self.my_cluster && *place < self.mine
    }

    pub(super) fn before_me(&self) -> u32 {
        self.before_me
    }

    /// How many successes a wave needs before the next may start.
    pub(super) fn enough(&self, wave: usize, policy: &Policy) -> u32 {
        let count = share(self.sizes[wave] as usize, policy.enough_percent);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many waves there are.
    pub(super) fn count(&self) -> usize {
        self.sizes.len()
    }
}

/// So many per cent of `all`, rounded up.
fn share(all: usize, percent: u8) -> usize {
    (all * usize::from(percent)).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn every_node_is_in_one_wave_and_all_agree() {
        let nodes: BTreeMap<NodeId, Cluster> =
            (0..50).map(|n| (NodeId([n; 32]), u32::from(n % 3))).collect();
        let proposal = ProposalId([9; 32]);
        let (policy, nobody) = (Policy::default(), BTreeSet::new());
        let seen = |me: &NodeId| Waves::new(proposal, *me, &nodes, &nobody, &policy);
        let mut members = [0; 3];
        let mut before = Vec::new();
        for node in nodes.keys() {
            let waves = seen(node);
            assert_eq!(waves.sizes, [5, 20, 25]);
            members[waves.my_wave()] += 1;
            before.push((nodes[node], waves.before_me()));
        }
        assert_eq!(members, [5, 20, 25]);
        before.sort_unstable();
        let places = [17, 17, 16].into_iter().zip(0..);
        let places = places.flat_map(|(count, cluster)| (0..count).map(move |at| (cluster, at)));
        assert!(before.into_iter().eq(places), "each place in a cluster is one node's");
        let waves = seen(&NodeId([0; 32]));
        assert_eq!((waves.enough(0, &policy), waves.enough(1, &policy)), (5, 18));
    }

    #[test]
    fn whoever_is_away_is_not_waited_for() {
        let nodes: BTreeMap<NodeId, Cluster> = (0..10).map(|n| (NodeId([n; 32]), 0)).collect();
        let (proposal, policy) = (ProposalId([9; 32]), Policy::default());
        let me = NodeId([0; 32]);
        let all = Waves::new(proposal, me, &nodes, &BTreeSet::new(), &policy);
        let away: BTreeSet<NodeId> = nodes.keys().filter(|node| **node != me).copied().collect();
        let alone = Waves::new(proposal, me, &nodes, &away, &policy);
        assert_eq!((all.sizes, alone.before_me()), (vec![1, 4, 5], 0));
        assert_eq!(alone.sizes.iter().sum::<u32>(), 1);
    }
}
