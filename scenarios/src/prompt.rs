//! What a node must do soon, and not only in the end: a mesh that converges hides much that is merely
//! late. Looked at every two seconds.
//!
//! - An entry that was parked because it came from the future is let go once it does not any more.
//! - When faults have stopped, two members that have a link greet each other.

use std::collections::BTreeMap;

use quorate_core::orphans::Wait;
use quorate_sim::{SimTime, View, secs};

use crate::mesh::Mesh;

/// How often to look.
const EVERY_US: u64 = secs(2);
/// Something is late if it was found wanting so often in a row. A node that was paused may be found so
/// twice before its timers have their turn.
const LATE: u32 = 4;

/// What was found wanting at each node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    next: BTreeMap<usize, SimTime>,
    parked: BTreeMap<usize, u32>,
    closed: BTreeMap<(usize, usize), u32>,
}

impl Prompt {
    /// Whether it is time to look at `node` again.
    pub(crate) fn due(&mut self, node: usize, now: SimTime) -> bool {
        let due = self.next.get(&node).is_none_or(|next| *next <= now);
        if due {
            self.next.insert(node, now.after_us(EVERY_US));
        }
        due
    }

    /// `node` died: it has all the time again.
    pub(crate) fn forget(&mut self, node: usize) {
        self.parked.remove(&node);
        self.closed.retain(|(a, b), _| *a != node && *b != node);
    }

    /// Looks at `node`; `honest` are those that must greet each other.
    pub(crate) fn check(
        &mut self,
        node: usize,
        honest: &[usize],
        view: &View<'_, Mesh>,
    ) -> Result<(), String> {
        let Some(actor) = view.machine(node) else { return Ok(()) };
        let wall = view.wall(node);
        let overdue = actor.node.store().is_some_and(|store| {
            let orphans = store.orphans();
            let due = |entry: &quorate_core::entry::Entry| !entry.header().hlc.is_future(wall);
            orphans.parked() > 0
                && orphans.authors().into_iter().any(|author| {
                    let mut waiting = orphans.of(author, 0);
                    waiting.any(|orphan| orphan.wait == Wait::Clock && due(&orphan.entry))
                })
        });
        if late(self.parked.entry(node).or_default(), overdue) {
            return Err(format!("node {node} keeps parked what is not from the future any more"));
        }
        if view.healed().is_none() || !honest.contains(&node) {
            return Ok(());
        }
        for status in actor.node.peers() {
            let Some(peer) = view.index(status.node).filter(|peer| honest.contains(peer)) else {
                continue;
            };
            let linked = view.linked(node, peer) && view.linked(peer, node);
            if late(self.closed.entry((node, peer)).or_default(), linked && !status.open) {
                return Err(format!("node {node} has a link to node {peer} and no greeting"));
            }
        }
        Ok(())
    }
}

/// Counts how often in a row something was found wanting.
fn late(times: &mut u32, wanting: bool) -> bool {
    *times = if wanting { *times + 1 } else { 0 };
    *times >= LATE
}
