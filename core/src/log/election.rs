//! Who leads: asking, preparing, taking over what the promises bring.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use rand_core::Rng;

use super::message::{Ballot, Message, Position, Record};
use super::page::Page;
use super::replication::Leading;
use super::{Bound, Event, Log, Role, Step};
use crate::machine::{NodeId, Time};

/// A node that would campaign, and asks whether it may.
#[derive(Clone, Debug, Hash)]
pub(super) struct Asking {
    ballot: Ballot,
    granted: BTreeSet<NodeId>,
    pub(super) until: Time,
}

/// A candidate.
#[derive(Clone, Debug, Hash)]
pub(super) struct Preparing {
    ballot: Ballot,
    promises: BTreeMap<NodeId, Promise>,
    /// Whose log it takes over, once a quorum has promised, and how far it has.
    best: Option<NodeId>,
    merged: Option<u64>,
    /// The leader that handed over to it.
    released: Option<Ballot>,
    pub(super) until: Time,
}

#[derive(Clone, Debug, Hash)]
struct Promise {
    last: Position,
    after: u64,
    tail: Page,
}

impl Log {
    /// Draws how long this node waits for another to campaign first: those of a higher priority
    /// wait less. Wide enough that two rarely begin within a round trip, and no wider.
    fn draw_patience(&mut self, step: &Step<'_>) {
        let spread = self.timing.election_us / 2;
        let drawn = step.cx.random("election").next_u64() % spread.max(1);
        let handicap = spread / 2 * u64::from(u8::MAX - self.priority) / u64::from(u8::MAX);
        self.patience_us = drawn / 2 + handicap;
    }

    /// Campaigns some time after a leader should have been heard; never, if it may not lead.
    pub(super) fn schedule_campaign(&mut self, step: &Step<'_>) {
        let version = self.entries.members_version();
        if self.may_lead.0 != version {
            self.may_lead = (version, self.entries.members().leads(&step.cx.me));
        }
        let may = self.may_lead.1;
        let wait_us = self.timing.election_us + self.timing.heartbeat_us + self.patience_us;
        self.campaign_at = may.then(|| step.cx.now.after_us(wait_us));
    }

    /// Whether a leader may still count on this node.
    fn bound(&self, now: Time) -> bool {
        let holds = |bound: Bound| now.since_us(bound.since) < self.timing.election_us;
        !self.started || (self.bound.is_some_and(holds) && !bug!(promised_while_bound))
    }

    /// That leader is none any more, by its own word, and never will be again under that ballot.
    fn unbind(&mut self, ballot: Ballot) -> bool {
        let free = self.bound.is_some_and(|bound| bound.leader == Some(ballot));
        if free {
            self.bound = None;
        }
        free
    }

    /// The leader has stopped, because a quorum did not answer it: who hears of it need not wait
    /// until it would have noticed. Whoever campaigns earliest does so after its patience alone.
    pub(super) fn released(&mut self, step: &mut Step<'_>, from: NodeId, ballot: Ballot) {
        if ballot.node == from && self.unbind(ballot) {
            self.leader = None;
            let soon = step.cx.now.after_us(self.patience_us);
            self.campaign_at = self.campaign_at.map(|at| at.min(soon));
        }
    }

    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        match &self.role {
            Role::Following if self.campaign_at.is_some_and(|at| at <= now) => {
                match self.alive(now) {
                    true => self.ask(step),
                    false => self.schedule_campaign(step),
                }
            }
            Role::Asking(asking) if asking.until <= now => self.give_up(step),
            Role::Preparing(preparing) if preparing.until <= now => self.give_up(step),
            Role::Leading(leading) if leading.heartbeat_at <= now => self.heartbeat(step),
            _ => {}
        }
    }

    /// Asks every other voter whether it would promise.
    fn ask(&mut self, step: &mut Step<'_>) {
        let me = step.cx.me;
        if self.is_blank() {
            return self.schedule_campaign(step);
        }
        self.leader = None;
        let ballot = self.next_ballot(me);
        let until = step.cx.now.after_us(self.timing.election_us);
        self.role = Role::Asking(Asking { ballot, granted: [me].into(), until });
        let others: Vec<NodeId> = self.other_voters(me);
        for peer in others {
            step.fx.send_now(peer, Message::Ask { ballot });
        }
        self.prepare_if_granted(step);
    }

    pub(super) fn other_voters(&self, me: NodeId) -> Vec<NodeId> {
        self.entries.members().voters.iter().copied().filter(|voter| *voter != me).collect()
    }

    /// Would this node promise? It would, if no leader can still count on it. The candidate's log
    /// does not matter: it will be given what it lacks.
    pub(super) fn asked(&mut self, step: &mut Step<'_>, from: NodeId, ballot: Ballot) {
        let leads = matches!(self.role, Role::Leading(_));
        let granted = ballot > self.promised && !leads && !self.bound(step.cx.now);
        let promised = self.promised;
        step.fx.send(from, Message::Answer { ballot, granted, promised });
    }

    pub(super) fn answered(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
    ) {
        let voter = self.entries.members().voters.contains(&from);
        let Role::Asking(asking) = &mut self.role else { return };
        if asking.ballot != ballot || !voter {
            return;
        }
        if granted {
            asking.granted.insert(from);
            self.prepare_if_granted(step);
        } else if promised >= ballot {
            // It has heard of more than this node: once more, above that.
            self.seen = self.seen.max(promised.number);
            self.give_up(step);
        }
    }

    fn next_ballot(&self, me: NodeId) -> Ballot {
        let next = u64::from(!bug!(ballot_used_again));
        Ballot { number: self.promised.number.max(self.seen) + next, node: me }
    }

    fn prepare_if_granted(&mut self, step: &mut Step<'_>) {
        let quorum = self.entries.members().quorum();
        if let Role::Asking(asking) = &self.role
            && asking.granted.len() >= quorum
        {
            let ballot = asking.ballot;
            self.prepare(step, ballot, None);
        }
    }

    /// Asks every voter, itself included, for its promise.
    fn prepare(&mut self, step: &mut Step<'_>, ballot: Ballot, released: Option<Ballot>) {
        let now = step.cx.now;
        self.leader = None;
        self.promised = ballot;
        step.fx.persist(Record::Promised(ballot));
        let until = now.after_us(self.timing.election_us);
        self.role = Role::Preparing(Preparing {
            ballot,
            promises: BTreeMap::new(),
            best: None,
            merged: None,
            released,
            until,
        });
        let (last, commit) = (self.entries.last(), self.commit);
        for peer in self.other_voters(step.cx.me) {
            let released = released.map(Box::new);
            step.fx.send(peer, Message::Prepare { ballot, last, commit, released });
        }
        // Its own promise counts once it is durable, as everybody's.
        let promise = Message::Promise { ballot, last, after: last.index, tail: Page::EMPTY };
        step.fx.send(step.cx.me, promise);
    }

    /// A candidate asks for a promise.
    pub(super) fn prepared(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        commit: u64,
        released: Option<Ballot>,
    ) {
        released.map(|leader| self.unbind(leader));
        let leads = matches!(&self.role, Role::Leading(leading) if leading.handing_over.is_none());
        let bound = self.bound(step.cx.now);
        let lower = ballot <= self.promised && !bug!(promised_to_lower_ballots);
        let behind = bug!(promise_compares_logs) && last < self.entries.last();
        if lower || ballot.node != from || leads || bound || behind {
            let promised = self.promised;
            return step.fx.send(from, Message::Refuse { ballot, promised });
        }
        self.promised = ballot;
        step.fx.persist(Record::Promised(ballot));
        self.follow(step, None);
        let mine = self.entries.last();
        let after = if self.entries.holds(last) { last.index } else { commit };
        let more = mine > last && after >= self.entries.base().index;
        // By its own log: the candidate's may be older, and not know that this is, or was, a witness.
        let blank = self.entries.members().witnesses.contains(&step.cx.me) || self.is_blank();
        let tail = if more && !blank { self.entries.page(after, false) } else { Page::EMPTY };
        let promise = Message::Promise { ballot, last: mine, after, tail };
        bug!(promised_before_durable => return step.fx.send_now(from, promise));
        step.fx.send(from, promise);
    }

    pub(super) fn refused(&mut self, step: &mut Step<'_>, ballot: Ballot, promised: Ballot) {
        let of_mine = match &self.role {
            Role::Preparing(preparing) => preparing.ballot == ballot,
            Role::Leading(leading) => leading.ballot == ballot,
            _ => false,
        };
        if of_mine && promised > ballot {
            self.seen = self.seen.max(promised.number);
            self.follow(step, None);
        }
    }

    pub(super) fn promise(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        after: u64,
        tail: Page,
    ) {
        let Role::Preparing(preparing) = &mut self.role else { return };
        if preparing.ballot != ballot {
            return;
        }
        preparing.promises.insert(from, Promise { last, after, tail });
        if preparing.best.is_none() {
            self.choose(step);
        }
    }

    /// Once a quorum has promised, takes over the log that goes farthest.
    fn choose(&mut self, step: &mut Step<'_>) {
        let members = self.entries.members();
        let Role::Preparing(preparing) = &mut self.role else { return };
        let promises = &mut preparing.promises;
        let voters = promises.keys().filter(|node| members.voters.contains(*node)).count();
        if voters < members.quorum() {
            return;
        }
        // "the log of the most updated server among the majority": here by its last position.
        let most = promises.values().map(|promise| promise.last).max().unwrap_or(Position::ZERO);
        let with_data = |node: &NodeId| !members.witnesses.contains(node);
        let best = promises.iter().find(|(node, promise)| promise.last == most && with_data(node));
        // Only a witness has heard of the last entries: their data must come from another voter.
        let Some((&best, _)) = best else { return };
        if most <= self.entries.last() || bug!(own_log_is_enough) {
            return self.lead(step);
        }
        preparing.best = Some(best);
        preparing.merged = None;
        preparing.until = step.cx.now.after_us(self.timing.election_us);
        let ballot = preparing.ballot;
        let Some(promise) = promises.get_mut(&best) else { return };
        let (after, tail) = (promise.after, mem::take(&mut promise.tail));
        if tail.is_empty() {
            self.take_over_more(step);
        } else {
            self.tail(step, best, ballot, after, tail);
        }
    }

    /// The log is taken over, and with it perhaps other members than those who were asked: now a
    /// quorum of *them* must have promised. With the members of an older log alone, those of several
    /// changes ago could elect one leader and those of today another.
    fn taken_over(&mut self, step: &mut Step<'_>) {
        bug!(quorum_of_old_members => return self.lead(step));
        let (last, commit, me) = (self.entries.last(), self.commit, step.cx.me);
        let may = self.entries.members().leads(&me);
        let voters = self.other_voters(me);
        let Role::Preparing(preparing) = &mut self.role else { return };
        preparing.best = None;
        let (ballot, released) = (preparing.ballot, preparing.released);
        for peer in voters.iter().filter(|peer| !preparing.promises.contains_key(peer)) {
            let released = released.map(Box::new);
            step.fx.send(*peer, Message::Prepare { ballot, last, commit, released });
        }
        if may {
            self.choose(step);
        } else {
            self.give_up(step);
        }
    }

    /// Somebody wants the tail of this node's log.
    pub(super) fn fetch(&mut self, step: &mut Step<'_>, from: NodeId, ballot: Ballot, after: u64) {
        if ballot != self.promised || ballot.node != from || self.is_blank() {
            return;
        }
        if after < self.entries.base().index {
            return self.serve_snapshot(step, from, ballot, None);
        }
        let entries = self.entries.page(after, false);
        step.fx.send(from, Message::Tail { ballot, after, entries });
    }

    /// A piece of what this candidate lacks.
    pub(super) fn tail(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        after: u64,
        entries: Page,
    ) {
        let election_us = self.timing.election_us;
        let Role::Preparing(preparing) = &mut self.role else { return };
        if preparing.ballot != ballot || preparing.best != Some(from) {
            return;
        }
        if entries.is_empty() || after > self.entries.last_index() {
            return;
        }
        preparing.until = step.cx.now.after_us(election_us);
        preparing.merged = Some(after + entries.len() as u64);
        if self.merge(step, after, entries) {
            self.take_over_more(step);
        }
    }

    /// Leads, if it has all of the log that it takes over; else asks for more of it.
    pub(super) fn take_over_more(&mut self, step: &mut Step<'_>) {
        let Role::Preparing(preparing) = &self.role else { return };
        let Some(best) = preparing.best else { return };
        let most = preparing.promises.get(&best).map_or(Position::ZERO, |promise| promise.last);
        if self.entries.last() >= most {
            return self.taken_over(step);
        }
        let (ballot, after) = (preparing.ballot, preparing.merged.unwrap_or(0).max(self.commit));
        step.fx.send_now(best, Message::Fetch { ballot, after });
    }

    /// Whether a piece of a snapshot under `ballot` is what this candidate takes over: then it goes
    /// on waiting.
    pub(super) fn takes_over_from(
        &mut self,
        step: &Step<'_>,
        from: NodeId,
        ballot: Ballot,
    ) -> bool {
        let Role::Preparing(preparing) = &mut self.role else { return false };
        let takes_over = preparing.ballot == ballot && preparing.best == Some(from);
        if takes_over {
            preparing.until = step.cx.now.after_us(self.timing.election_us);
        }
        takes_over
    }

    /// All that may have been committed is here: this node leads.
    pub(super) fn lead(&mut self, step: &mut Step<'_>) {
        let Role::Preparing(preparing) = &self.role else { return };
        let ballot = preparing.ballot;
        self.leader = Some(ballot);
        self.led_by(step, ballot);
        self.incoming = None;
        // So long it may take until a quorum answers its first append; it leads only from then on.
        let lease_until = step.cx.now.after_us(self.timing.election_us);
        self.role = Role::Leading(Leading::new(ballot, self.entries.last_index() + 1, lease_until));
        self.inaugurate(step);
    }

    /// The campaign came to nothing: the next one soon, since nobody was heard meanwhile.
    fn give_up(&mut self, step: &mut Step<'_>) {
        self.follow(step, None);
        let spread = 4 * self.timing.heartbeat_us;
        let drawn = step.cx.random("campaign again").next_u64() % spread.max(1);
        let again = step.cx.now.after_us(self.timing.heartbeat_us + drawn);
        self.campaign_at = self.campaign_at.map(|at| at.min(again));
    }

    /// From now on this node follows `leader`, or nobody yet.
    pub(super) fn follow(&mut self, step: &mut Step<'_>, leader: Option<Ballot>) {
        self.stop(step);
        if leader.is_some() && leader != self.leader {
            self.leader = leader;
            step.fx.emit(Event::Following(leader.unwrap_or(Ballot::ZERO)));
            self.led_by(step, leader.unwrap_or(Ballot::ZERO));
        } else if leader.is_none() {
            self.leader = None;
        }
        self.role = Role::Following;
        self.draw_patience(step);
        self.schedule_campaign(step);
    }

    /// The leader has stepped down and named this node.
    pub(super) fn take_over(&mut self, step: &mut Step<'_>, from: NodeId, ballot: Ballot) {
        let may = self.entries.members().leads(&step.cx.me);
        let may = may && self.alive(step.cx.now) && !self.is_blank();
        if !may || self.leader != Some(ballot) || ballot.node != from {
            return;
        }
        self.unbind(ballot);
        let next = self.next_ballot(step.cx.me);
        self.prepare(step, next, Some(ballot));
    }
}
