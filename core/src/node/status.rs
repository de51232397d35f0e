//! What a node can say of itself, for status, metrics and the doctor.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Contact, Disconnect, Guard, Node};
use crate::machine::NodeId;
use crate::store::Refusal;
use crate::{detector, sync};

/// A node's state, in numbers.
#[derive(Clone, Debug)]
pub struct Status {
    /// Entries held and in effect, or once in effect.
    pub applied: u64,
    /// Entries that wait for something.
    pub orphans: usize,
    /// Their bytes.
    pub orphan_bytes: usize,
    /// Those of them that wait for the clock.
    pub parked: usize,
    /// Orphans dropped because their time was up, and because there was no room.
    pub orphans_dropped: (u64, u64),
    /// Gaps that are being filled.
    pub gaps: usize,
    /// Gaps that were filled.
    pub gaps_filled: u64,
    /// Whether the node may write; if not, it is learning its own tip.
    pub writable: bool,
    /// Refused entries, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Closed links, by reason.
    pub disconnected: BTreeMap<Disconnect, u64>,
    /// Transfers given up because the peer did not take them.
    pub transfers_stalled: u64,
    /// Records found to hold something else than was written, since the start.
    pub damaged: u64,
    /// Watches.
    pub watches: usize,
    /// The log position of the next record.
    pub next_position: u64,
}

/// What is known of a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Whether it is there, and accepted.
    pub open: bool,
    /// What the failure detector thinks of it.
    pub health: Option<detector::Status>,
    /// The measured round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// By how much its wall clock is ahead of ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Where it listens.
    pub address: Option<alloc::string::String>,
    /// The protocol version agreed on.
    pub version: Option<u16>,
    /// Chains that wait to be sent to it.
    pub backlog: usize,
    /// How syncing with it goes.
    pub sync: Option<sync::Status>,
}

impl Node {
    /// This node's state.
    #[must_use]
    pub fn status(&self) -> Status {
        let store = self.store.as_ref();
        let orphans = store.map(|store| store.orphans());
        Status {
            applied: store.map_or(0, |store| store.applied()),
            orphans: orphans.map_or(0, |orphans| orphans.len()),
            orphan_bytes: orphans.map_or(0, |orphans| orphans.bytes()),
            parked: orphans.map_or(0, |orphans| orphans.parked()),
            orphans_dropped: orphans.map_or((0, 0), |orphans| orphans.dropped()),
            gaps: self.gaps.gaps().count(),
            gaps_filled: self.gaps.counters().filled,
            writable: self.guard == Guard::Whole,
            refused: self.refused.clone(),
            disconnected: self.disconnected.clone(),
            transfers_stalled: self.transfer.stalled(),
            damaged: self.damaged,
            watches: self.watches.len(),
            next_position: self.logged,
        }
    }

    /// What is known of every peer that is there or was met.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut syncs: BTreeMap<NodeId, sync::Status> = self.sync.status().collect();
        let known = self.contacts.keys().chain(self.open.keys());
        let ids: alloc::collections::BTreeSet<NodeId> = known.copied().collect();
        let me = self.id();
        ids.into_iter()
            .filter(|node| *node != me)
            .map(|node| PeerStatus {
                node,
                open: self.open.contains_key(&node),
                health: self.detector.status(node),
                rtt_us: self.detector.rtt_us(node),
                clock_offset_ms: self.detector.clock_offset_ms(node),
                address: self.contacts.get(&node).map(|(contact, _)| contact.address.clone()),
                version: self.handshake.version(node),
                backlog: self.transfer.backlog(&node),
                sync: syncs.remove(&node),
            })
            .collect()
    }

    /// Where members were met.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values().map(|(contact, _)| contact)
    }
}
