//! Spreading news: a new entry is pushed to every peer at once.
//!
//! The simplest thing that works in a mesh of a few dozen nodes: who writes an entry sends it to every
//! open peer, and who gets one that is new to it passes it on to every other. An entry crosses each
//! link at most twice and arrives in as many hops as the mesh is wide. Nothing is acknowledged: what is
//! lost on the way is found by anti-entropy ([`crate::sync`]).
//!
//! News is small. More than [`MAX_NEWS`] entries at once (a bulk import, what a transfer brought) are
//! not pushed: a nudge to sync finds the difference for less.
//!
//! A broadcast tree (Plumtree) has its place beside this one, behind the same two methods.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::machine::NodeId;

/// The most entries that one step pushes.
pub const MAX_NEWS: usize = 64;
/// The most bytes that one step pushes to each peer.
pub const MAX_NEWS_BYTES: usize = 256 * 1024;

/// New entries, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct News(pub Vec<Bytes>);

/// What is to be done about news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: there is none, or nobody to tell.
    Nothing,
    /// Push it to these peers.
    Push(Vec<NodeId>, News),
    /// It is too much to push: sync.
    Sync,
}

/// Whom news is spread to.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    peers: BTreeSet<NodeId>,
}

impl Spread {
    /// A peer takes news from now on, or takes none any more.
    pub fn link(&mut self, peer: NodeId, up: bool) {
        if up {
            self.peers.insert(peer);
        } else {
            self.peers.remove(&peer);
        }
    }

    /// What to do about entries that are new here and that `from` brought.
    #[must_use]
    pub fn plan(&self, entries: Vec<Bytes>, from: NodeId) -> Plan {
        let to: Vec<NodeId> = self.peers.iter().copied().filter(|peer| *peer != from).collect();
        let bytes: usize = entries.iter().map(Bytes::len).sum();
        if entries.is_empty() || to.is_empty() {
            Plan::Nothing
        } else if entries.len() > MAX_NEWS || bytes > MAX_NEWS_BYTES && entries.len() > 1 {
            Plan::Sync
        } else {
            Plan::Push(to, News(entries))
        }
    }
}
