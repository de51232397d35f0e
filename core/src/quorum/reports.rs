//! The reports of one rollout: one of each node on the list, whatever strangers send.
//!
//! A report is kept as a claim first. A signature costs more than all the rest of a report, and most
//! reports decide nothing here: those of later waves, all of them once this node is through. So only
//! claims that matter are checked, many at once, which halves the cost; until then a claim counts for
//! nothing. A second, different claim for one node has the first one checked at once, so that a
//! forgery never keeps a node's own word out.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::report::{SignedReport, Status};
use super::waves::{Cluster, Policy, Waves};
use super::{Refusal, Refusals};
use crate::cow::CowMap;
use crate::identity::Verify;
use crate::machine::NodeId;

/// Claims that are checked at once.
pub(super) const BATCH: usize = 256;
/// Reports that one page of a list has, at most.
pub const MAX_PAGE: usize = 256;

/// The reports of one rollout.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    pub(super) waves: Waves,
    slots: CowMap<NodeId, Slot>,
    /// Claims that matter and are not checked yet.
    waiting: CowMap<NodeId, ()>,
    /// By wave.
    successes: Vec<u32>,
    failures: u32,
    /// How many before this node in its cluster are through.
    through_before_me: u32,
}

#[derive(Clone, Debug)]
struct Slot {
    signed: Arc<SignedReport>,
    checked: bool,
    cluster: Cluster,
    away: bool,
}

impl Reports {
    pub(super) fn new(waves: Waves) -> Reports {
        let successes = alloc::vec![0; waves.count()];
        Reports {
            waves,
            slots: CowMap::new(),
            waiting: CowMap::new(),
            successes,
            failures: 0,
            through_before_me: 0,
        }
    }

    /// Takes a node's claim; whether it is one that matters. `deciding` says that this node has not
    /// been through yet.
    pub(super) fn take(
        &mut self,
        signed: SignedReport,
        (cluster, away): (Cluster, bool),
        deciding: bool,
        verify: Verify,
        refusals: &mut Refusals,
    ) -> Result<bool, Refusal> {
        let node = signed.report.node;
        if let Some(slot) = self.slots.get(&node) {
            if *slot.signed == signed {
                return Err(Refusal::Duplicate);
            }
            if !slot.checked && !self.check(&[node], verify) {
                self.drop_claim(&node, refusals);
            }
        }
        if let Some(slot) = self.slots.get(&node) {
            // Both are the node's own word, and it says two things: the worse one stands.
            let worse = slot.signed.report.status == Status::Success
                && signed.report.status != Status::Success;
            if !worse {
                return Err(Refusal::Superseded);
            }
            if !SignedReport::signed(&[&signed], verify) {
                return Err(Refusal::BadSignature);
            }
            self.uncount(&node);
            self.keep(signed, cluster, away, true);
            return Ok(true);
        }
        let place = self.waves.place(&node);
        let matters = deciding
            && (signed.report.status != Status::Success
                || self.waves.wave(&place) < self.waves.my_wave()
                || self.waves.is_before_me(&place, cluster));
        self.keep(signed, cluster, away, false);
        if matters {
            self.waiting.insert(node, ());
        }
        Ok(matters)
    }

    /// This node's own, which needs no check.
    pub(super) fn own(&mut self, signed: SignedReport, cluster: Cluster) {
        self.keep(signed, cluster, false, true);
    }

    fn keep(&mut self, signed: SignedReport, cluster: Cluster, away: bool, checked: bool) {
        let node = signed.report.node;
        let signed = Arc::new(signed);
        self.slots.insert(node, Slot { signed, checked, cluster, away });
        if checked {
            self.count(&node);
        }
    }

    /// Checks claims that matter; whether some are left.
    pub(super) fn settle(&mut self, verify: Verify, refusals: &mut Refusals) -> bool {
        let batch: Vec<NodeId> = self.waiting.keys().take(BATCH).copied().collect();
        if !self.check(&batch, verify) {
            for node in &batch {
                if !self.check(&[*node], verify) {
                    self.drop_claim(node, refusals);
                }
            }
        }
        !self.waiting.is_empty()
    }

    /// Whether the claims of all these nodes are their own; if so they count from now on.
    fn check(&mut self, nodes: &[NodeId], verify: Verify) -> bool {
        let signed: Vec<&SignedReport> =
            nodes.iter().filter_map(|node| Some(&*self.slots.get(node)?.signed)).collect();
        if !SignedReport::signed(&signed, verify) {
            return false;
        }
        for node in nodes {
            self.waiting.remove(node);
            if let Some(slot) = self.slots.get_mut(node)
                && !core::mem::replace(&mut slot.checked, true)
            {
                self.count(node);
            }
        }
        true
    }

    fn drop_claim(&mut self, node: &NodeId, refusals: &mut Refusals) {
        self.waiting.remove(node);
        self.slots.remove(node);
        refusals.count(Refusal::BadSignature);
    }

    fn count(&mut self, node: &NodeId) {
        let Some(slot) = self.slots.get(node) else { return };
        let place = self.waves.place(node);
        match slot.signed.report.status {
            Status::Success => self.successes[self.waves.wave(&place)] += 1,
            Status::Failure(_) => self.failures += 1,
        }
        let before = !slot.away && self.waves.is_before_me(&place, slot.cluster);
        self.through_before_me += u32::from(before);
    }

    fn uncount(&mut self, node: &NodeId) {
        let Some(slot) = self.slots.get(node) else { return };
        let place = self.waves.place(node);
        match slot.signed.report.status {
            Status::Success => self.successes[self.waves.wave(&place)] -= 1,
            Status::Failure(_) => self.failures -= 1,
        }
        let before = !slot.away && self.waves.is_before_me(&place, slot.cluster);
        self.through_before_me -= u32::from(before);
    }

    /// Whether enough of every wave before this node's have reported success.
    pub(super) fn waves_before_are_well(&self, policy: &Policy) -> bool {
        (0..self.waves.my_wave())
            .all(|wave| self.successes[wave] >= self.waves.enough(wave, policy))
    }

    /// How many before this node in its cluster may still be at it.
    pub(super) fn may_be_at_it(&self) -> u32 {
        self.waves.before_me().saturating_sub(self.through_before_me)
    }

    /// Successes by wave.
    pub(super) fn successes(&self) -> &[u32] {
        &self.successes
    }

    /// How many nodes have reported failure.
    pub(super) fn failures(&self) -> u32 {
        bug!(failures_are_not_counted => return 0);
        self.failures
    }

    /// How many nodes have a report here, checked or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The next reports after `after` in the order of node ids: only what the nodes signed.
    pub(super) fn page(
        &self,
        after: Option<NodeId>,
        verify: Verify,
    ) -> (Vec<Arc<SignedReport>>, Option<NodeId>) {
        use core::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.slots.range((from, Bound::Unbounded)).take(MAX_PAGE);
        let slots: Vec<(&NodeId, &Slot)> = slots.collect();
        let next = slots.last().filter(|_| slots.len() == MAX_PAGE).map(|(node, _)| **node);
        let claims: Vec<&SignedReport> =
            slots.iter().filter(|(_, slot)| !slot.checked).map(|(_, slot)| &*slot.signed).collect();
        let all = SignedReport::signed(&claims, verify);
        let signed = |slot: &&(&NodeId, &Slot)| {
            slot.1.checked || all || SignedReport::signed(&[&slot.1.signed], verify)
        };
        let signed = slots.iter().filter(signed).map(|(_, slot)| Arc::clone(&slot.signed));
        (signed.collect(), next)
    }

    /// The same reports under other waves, since somebody went away or came back.
    pub(super) fn again(&self, waves: Waves, is_away: impl Fn(&NodeId) -> bool) -> Reports {
        let mut again = Reports::new(waves);
        again.waiting = self.waiting.clone();
        for (node, slot) in self.slots.iter() {
            let slot = Slot { away: is_away(node), ..slot.clone() };
            let checked = slot.checked;
            again.slots.insert(*node, slot);
            if checked {
                again.count(node);
            }
        }
        again
    }

    pub(super) fn assert_counts(&self) {
        let checked = self.slots.values().filter(|slot| slot.checked).count();
        let counted: u32 = self.successes.iter().sum();
        assert!((counted + self.failures) as usize == checked, "what is checked counts once");
        assert!(self.through_before_me <= self.waves.before_me(), "through, and not before");
    }
}
