//! What comes in and goes out: entries, writes, pages, watches.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    Body, Disconnect, Event, Guard, MAX_STRIKES, MAX_WAITING_WRITES, Message, Node, Notice,
    Reading, STRIKES_MS, Step, UNPARK_MS, message,
};
use crate::dag::SlotName;
use crate::entry::{Entry, Link};
use crate::frontier::Tip;
use crate::hlc::MAX_DRIFT_MS;
use crate::machine::{Input, NodeId};
use crate::spread::{News, Plan};
use crate::store::{Arrival, Change, Outcome, Refusal, WriteError};
use crate::transfer::{self, PAGE_ENTRIES, Range};
use crate::{gap, sync};

/// What one batch of outcomes came to.
#[derive(Default)]
struct Summary {
    /// Entries that are new here, to be passed on.
    news: Vec<Bytes>,
    applied: usize,
    members: bool,
}

/// The position that an outcome says to forget.
pub(super) fn forgotten(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Forgotten(position) => Some(*position),
        _ => None,
    }
}

impl Node {
    /// A user wants something changed.
    pub(super) fn ask_to_write(&mut self, step: &mut Step<'_>, ticket: u64, changes: Vec<Change>) {
        let refusal = match self.guard {
            Guard::Whole => return self.write(step, ticket, &changes),
            Guard::Joining if !self.is_known() => Some(WriteError::NotAMember),
            Guard::Joining if self.open.is_empty() => Some(WriteError::CatchingUp),
            Guard::Learning(_) | Guard::Joining => {
                (self.waiting.len() >= MAX_WAITING_WRITES).then_some(WriteError::Busy)
            }
            Guard::Down | Guard::Suspect => Some(WriteError::CatchingUp),
        };
        match refusal {
            None => self.waiting.push_back((ticket, changes)),
            Some(error) => step.fx.emit(Event::Written { ticket, result: Err(error) }),
        }
    }

    pub(super) fn write(&mut self, step: &mut Step<'_>, ticket: u64, changes: &[Change]) {
        let me = self.id();
        let ahead_ms = self.clock_ahead_ms();
        let identity = self.config.identity.clone();
        let mut outcomes = Vec::new();
        let result = match &mut self.store {
            None => Err(WriteError::NotAMember),
            Some(_) if ahead_ms > MAX_DRIFT_MS => Err(WriteError::ClockAhead { ahead_ms }),
            Some(store) => store.write(&identity, changes, step.cx.wall, &mut outcomes),
        };
        bug!(acknowledged_before_written => step.fx.emit(Event::Written {
            ticket,
            result: result.clone()
        }));
        let mut summary = self.record(step, outcomes, me);
        self.pass_on(step, core::mem::take(&mut summary.news), me);
        self.settle_members(step, &summary);
        step.fx.emit(Event::Written { ticket, result });
    }

    /// By how much this machine's clock is ahead of every peer's whose clock is known: what it wrote
    /// then would be parked by all of them.
    fn clock_ahead_ms(&self) -> u64 {
        let offsets = self.open.keys().filter_map(|peer| self.detector.clock_offset_ms(*peer));
        offsets.max().map_or(0, |nearest| u64::try_from(-nearest).unwrap_or(0))
    }

    /// A peer sent a page, or acknowledged one.
    pub(super) fn transferred(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        message: transfer::Message,
    ) {
        match message {
            transfer::Message::Ack { serial } => self.transfer.acknowledged(from, serial),
            transfer::Message::Page { serial, entries, last } => {
                if entries.len() > PAGE_ENTRIES {
                    return self.disconnect(step, from, Disconnect::Malformed);
                }
                let Some(summary) = self.ingest(step, from, entries) else { return };
                self.settle_members(step, &summary);
                if summary.applied > 0 {
                    self.ask_own_tip(step, from);
                }
                // Held until what the page brought is durable: what is acknowledged is not resent.
                step.fx.send(from, Message::Transfer(transfer::Message::Ack { serial }));
                let peer = self.open.get_mut(&from);
                let brought = peer.is_some_and(|peer| {
                    peer.brought |= summary.applied > 0;
                    if last { core::mem::take(&mut peer.brought) } else { peer.brought }
                });
                if brought {
                    self.sync_soon(step);
                    if last {
                        // An offer that did not count the page would have it sent again.
                        self.advance_tips(step);
                        let start = sync::Command::Start { peer: from };
                        self.feed_sync(step, Input::Command(start));
                    }
                }
            }
        }
    }

    /// A peer pushed new entries.
    pub(super) fn news(&mut self, step: &mut Step<'_>, from: NodeId, News(entries): News) {
        if entries.len() > crate::spread::MAX_NEWS {
            return self.disconnect(step, from, Disconnect::Malformed);
        }
        if let Some(mut summary) = self.ingest(step, from, entries) {
            self.pass_on(step, core::mem::take(&mut summary.news), from);
            self.settle_members(step, &summary);
        }
    }

    /// Takes a peer's entries into the store; `None` if it was shown the door for them.
    fn ingest(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        entries: Vec<Bytes>,
    ) -> Option<Summary> {
        let Ok(batch) = entries.into_iter().map(Entry::decode).collect::<Result<Vec<_>, _>>()
        else {
            self.disconnect(step, from, Disconnect::Malformed);
            return None;
        };
        let arrival = Arrival { from, now: step.cx.now, wall: step.cx.wall };
        let mut outcomes = Vec::new();
        if let Some(store) = &mut self.store {
            store.ingest(batch, arrival, &mut outcomes);
        }
        let summary = self.record(step, outcomes, from);
        if !self.open.contains_key(&from) {
            self.settle_members(step, &summary);
            return None;
        }
        Some(summary)
    }

    pub(super) fn expire(&mut self, step: &mut Step<'_>) {
        let mut outcomes = Vec::new();
        if let Some(store) = &mut self.store {
            store.expire(step.cx.now, step.cx.wall, &mut outcomes);
        }
        let me = self.id();
        let summary = self.record(step, outcomes, me);
        self.settle_members(step, &summary);
        if summary.applied > 0 {
            self.sync_soon(step);
        }
    }

    pub(super) fn unpark(&mut self, step: &mut Step<'_>) {
        let mut outcomes = Vec::new();
        if let Some(store) = &mut self.store {
            store.unpark(step.cx.wall, &mut outcomes);
            let parked = store.orphans().parked() > 0 && !bug!(parked_looked_at_once);
            self.unpark_at = parked.then(|| step.cx.now.after_ms(UNPARK_MS));
        }
        let me = self.id();
        let summary = self.record(step, outcomes, me);
        self.settle_members(step, &summary);
        if summary.applied > 0 {
            self.sync_soon(step);
        }
    }

    /// Turns the store's outcomes into records, requests and events. `from` brought what they are about.
    pub(super) fn outcomes(&mut self, step: &mut Step<'_>, outcomes: Vec<Outcome>, from: NodeId) {
        let summary = self.record(step, outcomes, from);
        self.settle_members(step, &summary);
    }

    fn record(&mut self, step: &mut Step<'_>, outcomes: Vec<Outcome>, from: NodeId) -> Summary {
        let mut summary = Summary::default();
        let mut changed: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut advanced: Vec<Link> = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Stored { position, entry } => {
                    self.persist(step, position, Body::Entry(entry.bytes().clone()));
                }
                Outcome::Applied { entry, .. } => {
                    summary.applied += 1;
                    advanced.push(entry.link());
                    summary.news.push(entry.bytes().clone());
                }
                Outcome::Changed(slot) => {
                    changed.insert(SlotName::parts(slot.as_bytes()).0);
                }
                Outcome::Missing { author, from, to, shown_by } => {
                    let missing = gap::Command::Missing { author, from, to, shown_by };
                    self.feed_gap(step, Input::Command(missing));
                }
                Outcome::Parked(link) => {
                    let soon = step.cx.now.after_ms(UNPARK_MS);
                    self.unpark_at = Some(self.unpark_at.unwrap_or(soon));
                    step.notice(Notice::Parked(link));
                }
                Outcome::Released(_) => {
                    let position = self.next_position();
                    self.persist(step, position, Body::Released);
                    step.notice(Notice::Released);
                }
                Outcome::Waived(link) => {
                    let position = self.next_position();
                    self.persist(step, position, Body::Waived(link));
                    step.notice(Notice::Waived(link));
                }
                Outcome::Refused { link, reason, .. } => self.refused(step, link, from, reason),
                Outcome::Conflict { author, seq, theirs } => {
                    self.conflict(step, author, seq, theirs);
                }
                Outcome::Diverged { author, seq, with } => self.diverged(step, author, seq, with),
                Outcome::Forked { fork, position, proof } => {
                    self.persist(step, position, Body::Proof(proof.clone()));
                    self.spread_proof(step, &proof, from);
                    step.notice(Notice::Forked(fork));
                }
                Outcome::Cut { author, cut } => step.notice(Notice::Cut { author, cut }),
                Outcome::Members => summary.members = true,
                Outcome::Forgotten(position) => self.forgotten.push(position),
            }
        }
        self.filled(step, &advanced);
        if let Some(store) = &self.store {
            changed.iter().for_each(|key| self.watches.changed(key, store.dag()));
        }
        summary
    }

    /// Who was removed hears of it, if it is there, before it is shown the door.
    fn settle_members(&mut self, step: &mut Step<'_>, summary: &Summary) {
        if summary.members {
            self.members_changed(step);
        }
    }

    /// Tells the gaps what is not missing any more.
    fn filled(&mut self, step: &mut Step<'_>, advanced: &[Link]) {
        let open: BTreeSet<NodeId> = self.gaps.gaps().map(|(author, ..)| author).collect();
        if open.is_empty() {
            return;
        }
        let moved: BTreeSet<NodeId> = advanced.iter().map(|link| link.author).collect();
        for author in moved.intersection(&open) {
            let through = self.tip(author).height;
            let filled = gap::Command::Filled { author: *author, through };
            self.feed_gap(step, Input::Command(filled));
        }
    }

    fn tip(&self, author: &NodeId) -> Tip {
        self.store.as_ref().map_or(Tip::absent(*author), |store| store.tip(author))
    }

    /// Counts a refused entry, and shows its bearer the door if it brings too many. A few are what
    /// honest peers bring that know more, or less, than this node does.
    fn refused(&mut self, step: &mut Step<'_>, link: Link, from: NodeId, reason: Refusal) {
        *self.refused.entry(reason).or_default() += 1;
        step.notice(Notice::Refused { link, from, reason });
        let suspicious = match reason {
            Refusal::WrongStore | Refusal::NotAMember => true,
            // Honest peers hold entries whose voucher has not come here, or has not come yet.
            Refusal::NotAuthentic | Refusal::Closed | Refusal::ClockOrder | Refusal::NoRoom => {
                false
            }
        };
        let Some(peer) = self.open.get_mut(&from).filter(|_| suspicious) else { return };
        if peer.counted_from.after_ms(STRIKES_MS) <= step.cx.now {
            (peer.strikes, peer.counted_from) = (0, step.cx.now);
        }
        peer.strikes += 1;
        if peer.strikes >= MAX_STRIKES {
            self.disconnect(step, from, Disconnect::Refusals(reason));
        }
    }

    /// Spreads entries that are new here.
    fn pass_on(&mut self, step: &mut Step<'_>, news: Vec<Bytes>, from: NodeId) {
        match self.spread.plan(news, from) {
            Plan::Nothing => {}
            Plan::Sync => self.sync_soon(step),
            Plan::Push(to, news) => {
                let fx = &mut *step.fx;
                to.into_iter().for_each(|peer| match Message::News(news.clone()) {
                    news if bug!(shown_before_durable) => fx.send_now(peer, news),
                    news => fx.send(peer, news),
                });
            }
        }
    }

    pub(super) fn synced(&mut self, step: &mut Step<'_>, event: sync::Event) {
        let (sync::Event::Same { peer }
        | sync::Event::Differs { peer, .. }
        | sync::Event::Failed { peer, .. }) = event;
        self.ask_own_tip(step, peer);
        match event {
            sync::Event::Same { peer } => {
                // It does not vouch for this node's disk: what a peer keeps as an orphan is in no digest.
                // What it says to the question above does.
                step.notice(Notice::InSync(peer));
            }
            sync::Event::Differs { peer, chains } => {
                for chain in chains {
                    self.differs(step, peer, chain);
                }
            }
            sync::Event::Failed { peer, reason } => {
                step.notice(Notice::SyncFailed { peer, reason });
            }
        }
    }

    /// A chain that `peer` holds otherwise: send what it lacks, or look for the fork.
    fn differs(&mut self, step: &mut Step<'_>, peer: NodeId, chain: sync::Chain) {
        let Some(store) = &self.store else { return };
        let author = chain.author;
        let mine = store.tip(&author);
        let (height, closed) = chain.theirs.map_or((0, false), |tip| (tip.height, tip.closed));
        let held = store.chains().of(&author).and_then(|chain| chain.hash_at(height));
        let diverged = match (chain.theirs, held) {
            (Some(theirs), Some(hash)) if height > 0 => hash.prefix() != theirs.prefix,
            _ => false,
        };
        let proof = store.forks().get(&author).map(|of| of.proof.clone());
        if let Some(proof) = proof
            && (!closed || height > mine.height || diverged)
        {
            step.fx.send(peer, Message::Proof(proof));
        }
        if diverged && !bug!(divergence_ignored) {
            self.diverged(step, author, height, peer);
        } else if mine.height > height && (!closed || mine.closed) {
            let to = mine.height - u64::from(bug!(last_entry_not_sent));
            let range = Range { author, from: height + 1, to };
            self.transfer.serve(peer, range, store.chains());
        }
    }

    pub(super) fn gap_event(&mut self, step: &mut Step<'_>, event: gap::Event) {
        match event {
            gap::Event::Wanted { peer, author, from, to } => {
                let Some(store) = &self.store else { return };
                if store.tip(&author).height < from {
                    let waiting = store.orphans().of(author, from).next();
                    if let Some(orphan) = waiting.filter(|_| author == peer) {
                        // Who has lost it would write another in its place.
                        let lost = News(vec![orphan.entry.bytes().clone()]);
                        return step.fx.send(peer, Message::News(lost));
                    }
                    let command = gap::Command::NotHeld { peer, author, from };
                    return self.feed_gap(step, Input::Command(command));
                }
                self.transfer.serve_again(peer, Range { author, from, to }, store.chains());
            }
            gap::Event::Unfilled { author, from, to } => {
                step.notice(Notice::Unfilled { author, from, to });
                self.sync_soon(step);
            }
        }
    }

    /// Asks the host for the pages that peers can take.
    pub(super) fn turn_pages(&mut self, step: &mut Step<'_>) {
        while let Some(store) = &self.store
            && let Some(request) = self.transfer.next_page(store.chains())
        {
            let transfer::Request { peer, serial, positions } = request;
            if !self.read(step, positions, Reading::Page { peer, serial }) {
                // It counts as sent, and stalls: the transfer is given up, and the next sync begins anew.
                let _ = self.transfer.page(peer, serial, Vec::new(), step.cx.now);
                break;
            }
        }
    }

    pub(super) fn update_watches(&mut self, step: &mut Step<'_>) {
        if self.watches.is_empty() {
            return;
        }
        while let Some(store) = &self.store
            && let Some((watch, update)) = self.watches.next_update()
        {
            let update = message::shown(update, |write| store.meta(write).position);
            step.fx.emit(Event::Watched { watch, update });
        }
    }
}
