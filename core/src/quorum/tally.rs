//! The tally: of each maintainer the newest signal, and what these add up to.
//!
//! Carriers replace an author's older event by its newer one, and get it wrong in many ways: they keep
//! the older, return both, break ties by arrival. So it is decided here, by NIP-01's rule for
//! addressable events: the latest `created_at` stands, and "in case of replaceable events with the
//! same timestamp, the event with the lowest id (first in lexical order) should be retained". That
//! order is total: nodes that have seen the same signals have the same tally, whatever came first.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::certificate::Certificate;
use super::floor::Floor;
use super::maintainers::Maintainers;
use super::nostr::{Event, EventId, PublicKey};
use super::signal::{Action, Proposal, ProposalId, Signal, Version};

/// The newest signal of each maintainer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    votes: BTreeMap<PublicKey, Vote>,
    /// Who signed two things for one moment, and which: nobody honest does.
    contradictions: BTreeMap<PublicKey, (EventId, EventId)>,
}

/// One maintainer's signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// What it says.
    pub signal: Signal,
    /// Which proposal.
    pub proposal: ProposalId,
    /// As it was signed.
    pub event: Arc<Event>,
}

/// What the votes add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has a quorum that this node could still follow.
    Open,
    /// This has.
    Quorum(Proposal),
    /// Several that exclude each other have: people must settle it.
    Conflict(Action, Version),
}

impl Standing {
    /// What has a quorum, of what `floor` lets through: the highest version.
    pub(super) fn of(
        counts: &BTreeMap<ProposalId, Count>,
        maintainers: &Maintainers,
        floor: &Floor,
    ) -> Standing {
        let quorate = counts.values().filter(|count| {
            maintainers.is_quorum(&count.voters) && floor.admits(&count.proposal).is_ok()
        });
        let mut quorate: Vec<&Proposal> = quorate.map(|count| &count.proposal).collect();
        quorate.sort_by_key(|proposal| (&proposal.version, proposal.action));
        match &quorate[..] {
            [] => Standing::Open,
            [.., a, b] if (a.action, &a.version) == (b.action, &b.version) => {
                Standing::Conflict(b.action, b.version.clone())
            }
            [.., best] => Standing::Quorum((*best).clone()),
        }
    }
}

/// A proposal and who votes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What for.
    pub proposal: Proposal,
    /// Whose signal for it stands, and is not too old.
    pub voters: BTreeSet<PublicKey>,
}

impl Tally {
    /// Whether a signal would stand: else why not. Cheap, so that it comes before the signature.
    pub(super) fn stands(&self, signal: &Signal) -> Result<(), Refusal> {
        let Some(vote) = self.votes.get(&signal.author) else { return Ok(()) };
        if vote.signal.event == signal.event {
            return Err(Refusal::Duplicate);
        }
        let rank = |signal: &Signal| (signal.created_at, Reverse(signal.event));
        bug!(first_of_equals_stays => if vote.signal.created_at == signal.created_at {
            return Err(Refusal::Superseded);
        });
        bug!(older_signals_replace => if vote.signal.created_at != signal.created_at {
            return Ok(());
        });
        if rank(signal) < rank(&vote.signal) {
            return Err(Refusal::Superseded);
        }
        Ok(())
    }

    /// Takes a signal whose signature was checked; its author's older one counts no more.
    pub(super) fn take(&mut self, signal: Signal, event: Event) {
        let (author, proposal) = (signal.author, signal.proposal.id());
        let vote = Vote { signal, proposal, event: Arc::new(event) };
        let (time, id) = (vote.signal.created_at, vote.signal.event);
        if let Some(old) = self.votes.insert(author, vote)
            && old.signal.created_at == time
        {
            self.contradictions.insert(author, (id, old.signal.event));
        }
    }

    /// Forgets whoever is no maintainer any more.
    pub(super) fn retain(&mut self, maintainers: &Maintainers) {
        self.votes.retain(|author, _| maintainers.keys().contains(author));
        self.contradictions.retain(|author, _| maintainers.keys().contains(author));
    }

    /// Each maintainer's signal.
    #[must_use]
    pub fn votes(&self) -> &BTreeMap<PublicKey, Vote> {
        &self.votes
    }

    /// Who signed two things for one moment: the event that stands and the other.
    #[must_use]
    pub fn contradictions(&self) -> &BTreeMap<PublicKey, (EventId, EventId)> {
        &self.contradictions
    }

    /// When the newest signal was made, in seconds since 1970.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.votes.values().map(|vote| vote.signal.created_at).max()
    }

    /// The votes by proposal, as of `now` in seconds since 1970; `lifetime_s` after it was made, a
    /// signal counts no more.
    #[must_use]
    pub fn counts(&self, now: u64, lifetime_s: u64) -> BTreeMap<ProposalId, Count> {
        let mut counts: BTreeMap<ProposalId, Count> = BTreeMap::new();
        for (author, vote) in &self.votes {
            if !vote.signal.is_expired(now, lifetime_s) {
                let count = counts.entry(vote.proposal).or_insert_with(|| Count {
                    proposal: vote.signal.proposal.clone(),
                    voters: BTreeSet::new(),
                });
                count.voters.insert(*author);
            }
        }
        counts
    }

    /// Versions for which votes name different things: which proposals they are.
    #[must_use]
    pub fn conflicts(&self) -> BTreeMap<(Action, Version), BTreeSet<ProposalId>> {
        let mut all: BTreeMap<(Action, Version), BTreeSet<ProposalId>> = BTreeMap::new();
        for vote in self.votes.values() {
            let key = (vote.signal.proposal.action, vote.signal.proposal.version.clone());
            all.entry(key).or_default().insert(vote.proposal);
        }
        all.retain(|_, proposals| proposals.len() > 1);
        all
    }

    /// The signed votes for a proposal.
    pub(super) fn certificate(&self, id: ProposalId, count: &Count) -> Certificate {
        let votes = count.voters.iter().filter_map(|voter| self.votes.get(voter));
        let votes = votes.filter(|vote| vote.proposal == id);
        Certificate { signals: votes.map(|vote| (*vote.event).clone()).collect() }
    }
}

impl Signal {
    /// Whether it counts no more: its own time is up, or the network's.
    pub(super) fn is_expired(&self, now: u64, lifetime_s: u64) -> bool {
        self.is_outlived(now, lifetime_s) || self.expires_at.is_some_and(|own| now >= own)
    }

    /// Whether it is older than any signal that counts, and any that it could replace.
    pub(super) fn is_outlived(&self, now: u64, lifetime_s: u64) -> bool {
        bug!(signals_never_expire => return false);
        now >= self.created_at.saturating_add(lifetime_s)
    }
}
