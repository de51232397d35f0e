//! Transfer: sending ranges of chains to a peer, in pages, at the pace at which it takes them.
//!
//! Whatever decided that a peer lacks something (a sync, a gap) hands the ranges here. They are sent
//! **in the order of their clocks, across authors**: an entry's clock lies above those of everything it
//! cites, so what arrives can be applied as it comes, and nothing has to wait in the orphans' buffer.
//! Sending author by author would make everything wait for the last author.
//!
//! A page is at most [`PAGE_BYTES`] of entries. The peer acknowledges each, and at most [`WINDOW`] are
//! under way, so a slow peer holds up its own transfer and nobody's memory. Bodies are not here: a page
//! is first a list of log positions, which the host answers with bodies.
//!
//! Nothing of this survives a cut, and nothing needs to: chains have no gaps, so what arrived is a
//! higher frontier, and the next sync begins there. A transfer whose pages are not acknowledged within
//! [`STALL_MS`] is given up.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hlc::Hlc;
use crate::machine::{NodeId, Time, earliest};
use crate::sigchain::Chains;

/// The bytes of entries after which a page is full.
pub const PAGE_BYTES: usize = 128 * 1024;
/// The most entries on a page.
pub const PAGE_ENTRIES: usize = 1024;
/// The most pages under way to a peer.
pub const WINDOW: usize = 4;
/// How long a page may stay unacknowledged, in milliseconds.
pub const STALL_MS: u64 = 20_000;
/// The most chains of which ranges wait to be sent to one peer.
pub const MAX_RANGES: usize = 200_000;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Entries.
    Page {
        /// Counts a sender's pages on a link.
        serial: u64,
        /// Encoded entries, those of each author in the order of its chain.
        entries: Vec<Bytes>,
        /// Whether nothing more is waiting to be sent just now.
        last: bool,
    },
    /// The page arrived and was dealt with.
    Ack {
        /// Which.
        serial: u64,
    },
}

/// A part of a chain: both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// Whose chain.
    pub author: NodeId,
    /// The first place.
    pub from: u64,
    /// The last place.
    pub to: u64,
}

/// A page that waits for its bodies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// For whom.
    pub peer: NodeId,
    /// Names the page when the bodies come.
    pub serial: u64,
    /// Where in the log they are.
    pub positions: Vec<u64>,
}

/// All transfers of a node.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    peers: BTreeMap<NodeId, Outgoing>,
    /// Counts all pages, so that a page of an earlier link is not taken for one of this.
    serial: u64,
    stalled: u64,
}

/// What is being sent to one peer.
#[derive(Clone, Debug, Default)]
struct Outgoing {
    /// The next place and the last, of each chain that is being sent.
    ranges: BTreeMap<NodeId, (u64, u64)>,
    /// The same chains, by the clock of their next entry.
    order: BTreeSet<(Hlc, NodeId)>,
    /// Up to where each chain was put on pages since nothing was last under way.
    sent: BTreeMap<NodeId, u64>,
    /// Pages that wait for bodies.
    reading: BTreeSet<u64>,
    /// Pages on their way, and when they went.
    under_way: VecDeque<(u64, Time)>,
}

impl Transfer {
    /// A peer is there to be sent to.
    pub fn open(&mut self, peer: NodeId) {
        self.peers.insert(peer, Outgoing::default());
    }

    /// A peer has gone, and with it what was on its way there.
    pub fn close(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }

    /// Sends `range` to `peer`, as far as it is held and counts, but for what is on its way there: the
    /// sync that found it missing may have looked before it arrived.
    pub fn serve(&mut self, peer: NodeId, mut range: Range, chains: &Chains) {
        let Some(outgoing) = self.peers.get(&peer) else { return };
        if let Some(sent) = outgoing.sent.get(&range.author) {
            range.from = range.from.max(sent + 1);
        }
        self.serve_again(peer, range, chains);
    }

    /// Sends `range` to `peer`, as far as it is held and counts, whether it was sent before or not: the
    /// peer asks because it was lost.
    pub fn serve_again(&mut self, peer: NodeId, range: Range, chains: &Chains) {
        let Some(outgoing) = self.peers.get_mut(&peer) else { return };
        let Some(chain) = chains.of(&range.author) else { return };
        let to = range.to.min(chain.height());
        if range.from == 0 || range.from > to {
            return;
        }
        let waiting = outgoing.ranges.get(&range.author).copied();
        if waiting.is_none() && outgoing.ranges.len() >= MAX_RANGES {
            return;
        }
        let (from, to) =
            waiting.map_or((range.from, to), |(next, end)| (range.from.min(next), end.max(to)));
        outgoing.unqueue(range.author, chains);
        outgoing.queue(range.author, from, to, chains);
    }

    /// The next page to be read from the log, if a peer can take one.
    pub fn next_page(&mut self, chains: &Chains) -> Option<Request> {
        self.peers.iter_mut().find_map(|(peer, outgoing)| {
            if outgoing.reading.len() + outgoing.under_way.len() >= WINDOW && !bug!(window_ignored)
            {
                return None;
            }
            let positions = outgoing.fill(chains);
            if positions.is_empty() {
                return None;
            }
            self.serial += 1;
            outgoing.reading.insert(self.serial);
            Some(Request { peer: *peer, serial: self.serial, positions })
        })
    }

    /// The bodies of a page are here: the message to send, unless the peer has gone. Bodies that could
    /// not be read are left out; the peer will miss them and ask another.
    pub fn page(
        &mut self,
        peer: NodeId,
        serial: u64,
        entries: Vec<Bytes>,
        now: Time,
    ) -> Option<Message> {
        let outgoing = self.peers.get_mut(&peer)?;
        if !outgoing.reading.remove(&serial) {
            return None;
        }
        outgoing.under_way.push_back((serial, now));
        let last = outgoing.ranges.is_empty() && outgoing.reading.is_empty();
        Some(Message::Page { serial, entries, last })
    }

    /// The peer acknowledged a page.
    pub fn acknowledged(&mut self, peer: NodeId, serial: u64) {
        if let Some(outgoing) = self.peers.get_mut(&peer) {
            outgoing.under_way.retain(|(sent, _)| *sent != serial);
            if outgoing.under_way.is_empty()
                && outgoing.reading.is_empty()
                && !bug!(sent_means_arrived)
            {
                outgoing.sent.clear();
            }
        }
    }

    /// Gives up transfers whose oldest page was never acknowledged; returns the peers.
    pub fn give_up(&mut self, now: Time) -> Vec<NodeId> {
        let mut given_up = Vec::new();
        for (peer, outgoing) in &mut self.peers {
            if outgoing.stalls_at().is_some_and(|at| at <= now) {
                *outgoing = Outgoing::default();
                self.stalled += 1;
                given_up.push(*peer);
            }
        }
        given_up
    }

    /// When the next transfer is given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.peers.values().map(Outgoing::stalls_at).fold(None, earliest)
    }

    /// How many chains wait to be sent to `peer`, for status.
    #[must_use]
    pub fn backlog(&self, peer: &NodeId) -> usize {
        self.peers.get(peer).map_or(0, |outgoing| outgoing.ranges.len())
    }

    /// How many transfers were given up.
    #[must_use]
    pub fn stalled(&self) -> u64 {
        self.stalled
    }

    /// Asserts that the books agree.
    pub fn check(&self) {
        for outgoing in self.peers.values() {
            assert_eq!(outgoing.ranges.len(), outgoing.order.len(), "each range has its turn");
            assert!(outgoing.reading.len() + outgoing.under_way.len() <= WINDOW);
        }
    }
}

impl Outgoing {
    fn stalls_at(&self) -> Option<Time> {
        let stalls = self.under_way.front().map(|(_, sent)| sent.after_ms(STALL_MS));
        if bug!(stalled_transfer_kept) { None } else { stalls }
    }

    /// Takes out log positions for a page, lowest clock first.
    fn fill(&mut self, chains: &Chains) -> Vec<u64> {
        let (mut positions, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES && positions.len() < PAGE_ENTRIES {
            let Some((_, author)) = self.order.pop_first() else { break };
            let Some((next, to)) = self.ranges.remove(&author) else { continue };
            // What was cut off meanwhile is not sent.
            let chain = chains.of(&author).filter(|chain| next <= chain.height());
            if let Some(meta) = chain.and_then(|chain| chain.get(next)) {
                bytes += meta.bytes as usize;
                positions.push(meta.position);
                self.sent.insert(author, next);
            }
            self.queue(author, next + 1, to, chains);
        }
        positions
    }

    fn queue(&mut self, author: NodeId, from: u64, to: u64, chains: &Chains) {
        let Some(chain) = chains.of(&author) else { return };
        let to = to.min(chain.height());
        if from <= to
            && let Some(meta) = chain.get(from)
        {
            self.ranges.insert(author, (from, to));
            self.order.insert((meta.hlc, author));
        }
    }

    fn unqueue(&mut self, author: NodeId, chains: &Chains) {
        if let Some((next, _)) = self.ranges.remove(&author)
            && let Some(meta) = chains.of(&author).and_then(|chain| chain.get(next))
        {
            self.order.remove(&(meta.hlc, author));
        }
    }
}
