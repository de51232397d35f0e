//! The fault atlas: whose durable data may be lost, so that what must survive can.
//!
//! A cluster can bear the loss of durable data (an old copy, bit rot, a misdirected write, a sync
//! that lied) at several nodes, but not of the *same* record at all that hold it. Whether a fault
//! is bearable must not depend on the faults before it, or a schedule could not be made smaller.
//! So the atlas is drawn before the run, and is a function of the seed alone: for each record, the
//! nodes that may lose their copy, all but [`Atlas::survivors`] (TigerBeetle's `ClusterFaultAtlas`).
//! What a node may not lose, no fault takes: it finds another record, or does nothing.
//!
//! A record is known by [`System::copy`](crate::System::copy): the same number for each node's copy
//! of it, the position in the log unless the system says otherwise.
//!
//! An old copy and a lying sync take the end of a log, whatever is in it. They strike only nodes
//! that may lose *every* record: those are victims of every record, and count as such.

use serde::{Deserialize, Serialize};

use crate::prng::Rng;

/// Which copies of which records may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Atlas {
    /// What it is drawn from.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes keep their copy of a record, if they ever had one; another few for each.
    pub survivors: usize,
    /// How many nodes may lose everything; at most those that need not survive.
    pub whole: usize,
}

impl Atlas {
    /// The nodes that may lose everything.
    #[must_use]
    pub fn whole_victims(&self) -> Vec<usize> {
        let mut order = self.order();
        order.truncate(self.whole.min(self.victims_max()));
        order
    }

    /// The nodes that may lose something.
    #[must_use]
    pub fn any_victims(&self) -> Vec<usize> {
        let mut order = self.order();
        if self.whole >= self.victims_max() {
            order.truncate(self.victims_max());
        }
        order
    }

    /// The nodes that may lose their copy of the record that goes by `copy`.
    #[must_use]
    pub fn victims(&self, copy: u64) -> Vec<usize> {
        let mut victims = self.whole_victims();
        let mut rest = self.order().split_off(victims.len());
        Rng::stream(self.seed, "atlas", copy).shuffle(&mut rest);
        rest.truncate(self.victims_max() - victims.len());
        victims.append(&mut rest);
        victims
    }

    /// Every node, in the order in which they become victims of everything.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes).collect();
        Rng::stream(self.seed, "victims", 0).shuffle(&mut order);
        order
    }

    fn victims_max(&self) -> usize {
        self.nodes.saturating_sub(self.survivors)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn so_many_copies_of_each_record_survive_and_every_node_is_a_victim_of_some() {
        for (seed, whole) in [(1, 0), (2, 1), (3, 2), (4, 9)] {
            let atlas = Atlas { seed, nodes: 5, survivors: 3, whole };
            let always: BTreeSet<usize> = atlas.whole_victims().into_iter().collect();
            assert_eq!(always.len(), whole.min(2));
            let mut hit = BTreeSet::new();
            for copy in 0..200 {
                let victims: BTreeSet<usize> = atlas.victims(copy).into_iter().collect();
                assert_eq!(victims.len(), 2, "three of five keep record {copy}");
                assert!(always.is_subset(&victims));
                hit.extend(victims);
            }
            assert_eq!(hit.len(), if whole < 2 { 5 } else { 2 });
            assert_eq!(hit, atlas.any_victims().into_iter().collect());
        }
    }

    #[test]
    fn if_all_must_survive_nobody_is_a_victim() {
        let atlas = Atlas { seed: 1, nodes: 3, survivors: 3, whole: 1 };
        assert!(atlas.whole_victims().is_empty() && atlas.victims(7).is_empty());
    }
}
