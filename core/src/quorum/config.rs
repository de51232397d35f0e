//! How a node takes part in rollouts.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::maintainers::Maintainers;
use super::nostr;
use super::signal::{self, Artifact, Version};
use super::waves::{Cluster, MAX_NODES, Policy};
use crate::identity::{self, Identity};
use crate::machine::NodeId;

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's key: it signs reports.
    pub identity: Identity,
    /// The network: only its signals count. Not empty, at most [`signal::MAX_NAME_BYTES`].
    pub network: String,
    /// The first maintainers.
    pub maintainers: Maintainers,
    /// The nodes whose reports count and their clusters, this one among them; none for a node that
    /// takes no heed of others. At most [`MAX_NODES`].
    pub nodes: BTreeMap<NodeId, Cluster>,
    /// How a rollout goes through them.
    pub policy: Policy,
    /// What was installed by hand before the first start.
    pub installed: Option<(Version, Artifact)>,
    /// A signal counts for so long after it was made, in seconds.
    pub lifetime_s: u64,
    /// Without a new signal for so long the network is frozen, in seconds.
    pub frozen_after_s: u64,
    /// An action may run for so long.
    pub timeout_us: u64,
    /// How signatures of nodes are checked.
    pub verify: identity::Verify,
    /// How signatures of maintainers are checked.
    pub verify_maintainer: nostr::Verify,
}

impl Config {
    pub(super) fn is_valid(&self) -> bool {
        let me = self.identity.id();
        !self.network.is_empty()
            && self.network.len() <= signal::MAX_NAME_BYTES
            && self.policy.is_valid()
            && self.nodes.len() <= MAX_NODES
            && (self.nodes.is_empty() || self.nodes.contains_key(&me))
    }
}
