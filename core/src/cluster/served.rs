//! What a leader has taken up for other nodes' clients, or turned down, so that a message that comes twice
//! is carried out once, and never after it was turned down: also one that comes again when it leads no
//! longer, and one that came before it began.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::log::Ballot;
use crate::machine::NodeId;

/// The last requests of a node's life that are remembered one by one; older ones count as taken up.
const MAX_REMEMBERED: usize = 4_096;
/// The lives of one node that are remembered.
const MAX_LIVES: usize = 4;

/// What was taken up, or turned down, under the last ballot under which this node was elected.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    ballot: Option<Ballot>,
    nodes: BTreeMap<NodeId, VecDeque<(u64, Window)>>,
}

/// The requests of one life of one node.
#[derive(Clone, Debug, Default)]
struct Window {
    /// Up to here all count as taken up.
    floor: u64,
    above: BTreeSet<u64>,
}

impl Served {
    /// This node is elected under a ballot of its own: what was asked under earlier ones is not asked of it.
    pub(super) fn begin(&mut self, ballot: Ballot) {
        if self.ballot != Some(ballot) {
            *self = Served { ballot: Some(ballot), nodes: BTreeMap::new() };
        }
    }

    /// The last ballot under which this node was elected, in this life.
    pub(super) fn ballot(&self) -> Option<Ballot> {
        self.ballot
    }

    /// Takes a request up, or turns it down; false if either was done before.
    pub(super) fn take_up(&mut self, node: NodeId, life: u64, serial: u64) -> bool {
        let lives = self.nodes.entry(node).or_default();
        if !lives.iter().any(|(known, _)| *known == life) {
            lives.truncate(MAX_LIVES - 1);
            lives.push_front((life, Window::default()));
        }
        let window = lives.iter_mut().find(|(known, _)| *known == life);
        let Some((_, Window { floor, above })) = window else { return false };
        let new = serial > *floor && above.insert(serial);
        if above.len() > MAX_REMEMBERED {
            *floor = above.pop_first().unwrap_or(*floor);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_taken_up_once() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let (now, before) = (Ballot { number: 2, node: b }, Ballot { number: 1, node: b });
        let mut served = Served::default();
        served.begin(before);
        assert!(served.take_up(a, 7, 1) && !served.take_up(a, 7, 1));
        served.begin(now);
        assert!(served.take_up(a, 7, 1) && !served.take_up(a, 7, 1));
        served.begin(now);
        assert!(!served.take_up(a, 7, 1), "it is the same lead");
        assert!(served.take_up(a, 8, 1) && served.take_up(b, 7, 1) && served.take_up(a, 7, 3));
        assert!(served.take_up(a, 7, 2));
        for serial in 4..=2 * MAX_REMEMBERED as u64 {
            assert!(served.take_up(a, 7, serial));
        }
        assert!(!served.take_up(a, 7, 2), "it is too old to be told from one that came before");
        for life in 10..20 {
            assert!(served.take_up(a, life, 1));
        }
        assert_eq!(served.nodes[&a].len(), MAX_LIVES);
    }
}
