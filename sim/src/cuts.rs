//! The forms of a partition.
//!
//! What a protocol withstands depends on who can still reach whom: two halves are the textbook's
//! case; one node alone is the most common; a ring of majorities lets each node believe that it is
//! on the good side though no two see the same nodes (Kingsbury's Jepsen); a hub lets one node do
//! what no other can. Each can be one-way, which few protocols expect.

use crate::latency::Regions;
use crate::schedule::{Fault, Shape};
use crate::time::FOREVER_US;

/// Which of the directions across a cut are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// Both.
    Both,
    /// What the first side says does not arrive at the second.
    Out,
    /// What the second side says does not arrive at the first.
    In,
}

impl Fault {
    /// Cuts what `symmetry` says between the nodes of `left` and those of `right`.
    #[must_use]
    pub fn between(shape: Shape, left: &[usize], right: &[usize], symmetry: Symmetry) -> Fault {
        let across = left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b)));
        let lanes = across.flat_map(|(a, b)| {
            let out = (symmetry != Symmetry::In).then_some((a, b));
            let back = (symmetry != Symmetry::Out).then_some((b, a));
            out.into_iter().chain(back)
        });
        Fault::Cut { shape, lanes: lanes.collect(), lasts_us: FOREVER_US }
    }

    /// One node of a cluster of `nodes` is alone.
    #[must_use]
    pub fn isolate(node: usize, nodes: usize, symmetry: Symmetry) -> Fault {
        let others: Vec<usize> = (0..nodes).filter(|&other| other != node).collect();
        Fault::between(Shape::Isolation, &[node], &others, symmetry)
    }

    /// The nodes stand in a ring of this `order`, and each reaches just so many of its nearest that
    /// with itself they are a majority: no two of five see the same one. Three nodes have no such
    /// ring; they become a line.
    #[must_use]
    pub fn majority_ring(order: &[usize]) -> Fault {
        let nodes = order.len();
        // A majority without oneself, half of it on each side.
        let reach = (nodes / 2).div_ceil(2);
        let distance = |a: usize, b: usize| (b - a).min(nodes - (b - a));
        let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
        let mut cut: Vec<_> = pairs.filter(|&(a, b)| distance(a, b) > reach).collect();
        if nodes == 3 {
            cut.push((0, 2));
        }
        let both = cut.into_iter().map(|(a, b)| (order[a], order[b]));
        let lanes = both.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        Fault::Cut { shape: Shape::MajorityRing, lanes, lasts_us: FOREVER_US }
    }

    /// All of `nodes` reach only the `hub`.
    #[must_use]
    pub fn hub_and_spoke(hub: usize, nodes: usize) -> Fault {
        let spokes = move || (0..nodes).filter(move |&node| node != hub);
        let lanes = spokes().flat_map(|a| spokes().map(move |b| (a, b))).filter(|(a, b)| a != b);
        Fault::Cut { shape: Shape::HubAndSpoke, lanes: lanes.collect(), lasts_us: FOREVER_US }
    }
}

impl Regions {
    /// Nothing passes between two regions; both reach the others.
    #[must_use]
    pub fn cut(&self, a: usize, b: usize) -> Fault {
        Fault::between(Shape::Regions, &self.members(a), &self.members(b), Symmetry::Both)
    }

    /// A region is cut off from all others.
    #[must_use]
    pub fn isolate(&self, region: usize, symmetry: Symmetry) -> Fault {
        Fault::between(Shape::Regions, &self.members(region), &self.others(region), symmetry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn lanes(cut: Fault) -> BTreeSet<(usize, usize)> {
        let Fault::Cut { lanes, .. } = cut else { panic!("a cut") };
        let all = lanes.len();
        let lanes: BTreeSet<_> = lanes.into_iter().collect();
        assert_eq!(lanes.len(), all, "each lane is cut once");
        lanes
    }

    #[test]
    fn an_isolated_node_may_still_hear_or_be_heard() {
        assert_eq!(lanes(Fault::isolate(1, 3, Symmetry::Out)), [(1, 0), (1, 2)].into());
        assert_eq!(lanes(Fault::isolate(1, 3, Symmetry::In)), [(0, 1), (2, 1)].into());
        assert_eq!(lanes(Fault::isolate(1, 3, Symmetry::Both)).len(), 4);
    }

    #[test]
    fn in_a_majority_ring_each_sees_a_majority_and_no_two_the_same() {
        for nodes in 3..10 {
            let order: Vec<usize> = (0..nodes).rev().collect();
            let cut = lanes(Fault::majority_ring(&order));
            let sees = |node| {
                let open = (0..nodes).filter(|&peer| peer == node || !cut.contains(&(node, peer)));
                open.collect::<BTreeSet<_>>()
            };
            assert!((0..nodes).all(|node| sees(node).len() > nodes / 2), "{nodes} nodes");
            assert!((0..nodes).any(|node| sees(node).len() < nodes), "{nodes} nodes: one is cut");
            if nodes > 4 {
                let views: BTreeSet<_> = (0..nodes).map(sees).collect();
                assert_eq!(views.len(), nodes, "{nodes} nodes");
            }
        }
    }

    #[test]
    fn only_the_hub_reaches_everyone() {
        assert_eq!(lanes(Fault::hub_and_spoke(0, 3)), [(1, 2), (2, 1)].into());
        assert_eq!(lanes(Fault::hub_and_spoke(2, 5)).len(), 4 * 3);
    }

    #[test]
    fn a_cut_follows_the_regions() {
        let regions = Regions::three_continents(5);
        assert_eq!(lanes(regions.cut(1, 2)), [(1, 2), (2, 1), (4, 2), (2, 4)].into());
        let out = lanes(regions.isolate(2, Symmetry::Out));
        assert_eq!(out, [(2, 0), (2, 1), (2, 3), (2, 4)].into());
    }
}
