//! How a leader leaves office: because nobody answers it, because it is asked to, because its
//! application hangs, or because its disk does.
//!
//! Whatever the reason, it has stopped before anybody can know of it: first the role is given up and
//! the parent told, then the voters are released or the successor is named. What a successor or a
//! released voter does can therefore rest on the old leader's word instead of on the time that a
//! lease takes to run out.

use super::message::{Ballot, Message};
use super::{Event, Log, Refusal, Role, Step};
use crate::machine::{NodeId, Time};

/// What became of a [`Command::Transfer`](super::Command::Transfer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The node that was named leads.
    Done(Ballot),
    /// It did not catch up in time: this node leads on.
    Kept,
    /// Another node leads.
    Elsewhere(Ballot),
    /// This node has stopped, and hears of no leader. Somebody may lead elsewhere.
    Nobody,
}

/// A lead on its way to a named node.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Transfer {
    ticket: u64,
    to: NodeId,
    /// When the parent is told at the latest.
    pub(super) until: Time,
}

/// Within which time the application must say that it lives, and until when it has.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Watch {
    pub(super) within_us: u64,
    pub(super) until: Time,
}

impl Log {
    /// A leader whose lease is over is none any more.
    pub(super) fn expire(&mut self, step: &mut Step<'_>) {
        let Role::Leading(leading) = &self.role else { return };
        let (ballot, until) = (leading.ballot, leading.lease_until);
        bug!(released_too_early => if until < step.cx.now.after_us(self.timing.election_us / 2) {
            self.release(step, ballot);
        });
        if until < step.cx.now {
            self.resign(step, ballot);
        }
    }

    /// Stops to lead under `ballot`, and lets the others elect at once.
    fn resign(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        self.follow(step, None);
        self.release(step, ballot);
    }

    /// Tells the voters that this node leads no more under `ballot`; it has stopped.
    fn release(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        for peer in self.other_voters(step.cx.me) {
            step.fx.send_now(peer, Message::Released { ballot });
        }
    }

    /// Leads no more, if it did.
    pub(super) fn stop(&mut self, step: &mut Step<'_>) {
        let Role::Leading(leading) = &mut self.role else { return };
        let reads = core::mem::take(&mut leading.reads);
        if leading.told {
            step.tell(Event::Stopped(leading.ballot));
        }
        self.role = Role::Following;
        for read in reads {
            step.refuse(read.ticket, Refusal::NotLeader { leader: None });
        }
    }

    /// Does what was due while nobody asked for it.
    pub(super) fn overdue(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        if self.transfer.is_some_and(|transfer| transfer.until <= now) {
            let outcome = match &mut self.role {
                Role::Leading(leading) => {
                    leading.handing_over = None;
                    Outcome::Kept
                }
                _ => Outcome::Nobody,
            };
            self.transferred(step, outcome);
        }
        let stall_us = self.timing.election_us;
        let Role::Leading(leading) = &mut self.role else { return };
        if leading.unsynced.is_some_and(|since| since.after_us(stall_us) <= now) {
            leading.unsynced = Some(now);
            bug!(stalled_disk_keeps_the_lead => return);
            // Others could commit, but nothing that this node knows may be told while its disk
            // hangs, and no client of it is answered.
            return self.hand_over(step, None);
        }
        let ballot = leading.ballot;
        if !self.alive(now) {
            self.resign(step, ballot);
        }
    }

    /// When something is due that no role waits for.
    pub(super) fn office_deadline(&self) -> Option<Time> {
        let transfer = self.transfer.map(|transfer| transfer.until);
        let Role::Leading(leading) = &self.role else { return transfer };
        let stall_us = self.timing.election_us;
        let stalled = leading.unsynced.map(|since| since.after_us(stall_us));
        let watch = self.watch.filter(|_| !bug!(hung_leader_stays)).map(|watch| watch.until);
        [transfer, stalled, watch].into_iter().flatten().min()
    }

    /// Whether the application has said lately that it lives, or need not.
    pub(super) fn alive(&self, now: Time) -> bool {
        self.watch.is_none_or(|watch| watch.until > now) || bug!(hung_leader_stays)
    }

    /// The application lives.
    pub(super) fn lives(&mut self, now: Time) {
        if let Some(watch) = &mut self.watch {
            watch.until = now.after_us(watch.within_us);
        }
    }

    /// Nothing more is taken; once the successor has it all, it takes over.
    pub(super) fn hand_over(&mut self, step: &mut Step<'_>, to: Option<NodeId>) {
        let Role::Leading(leading) = &mut self.role else { return };
        let members = self.entries.members();
        let able = |id: &NodeId| members.leads(id);
        let nearest = leading.followers.iter().filter(|follower| able(&follower.id));
        let nearest = nearest.max_by_key(|follower| follower.matched).map(|follower| follower.id);
        let to = to.filter(|id| able(id) && *id != leading.ballot.node).or(nearest);
        // Its lease is not renewed: if the successor does not get there, the others elect.
        leading.handing_over = to;
        self.hand_over_if_ready(step);
    }

    pub(super) fn hand_over_if_ready(&mut self, step: &mut Step<'_>) {
        let Role::Leading(leading) = &self.role else { return };
        let (Some(to), ballot) = (leading.handing_over, leading.ballot) else { return };
        let matched = leading.follower(&to).map(|follower| follower.matched);
        if matched == Some(self.entries.last_index()) {
            self.follow(step, None);
            let until = step.cx.now.after_us(2 * self.timing.election_us);
            self.transfer = self.transfer.map(|transfer| Transfer { until, ..transfer });
            // It has stopped, which no crash takes back: this waits for no disk.
            step.fx.send_now(to, Message::TakeOver { ballot });
        }
    }

    /// Hands over to this node and no other, and tells what became of it.
    pub(super) fn transfer(&mut self, step: &mut Step<'_>, ticket: u64, to: NodeId) {
        let refusal = self.not_leader(step.cx.me);
        let able = self.entries.members().leads(&to) && to != step.cx.me;
        let half_us = self.timing.lease_us() / 2;
        match &mut self.role {
            Role::Leading(leading) if leading.handing_over.is_none() => {
                if !able || self.transfer.is_some() {
                    return step.refuse(ticket, Refusal::CannotLead);
                }
                leading.handing_over = Some(to);
            }
            _ => return step.refuse(ticket, refusal),
        }
        // Long before its lease is over it gives up, and leads on.
        self.transfer = Some(Transfer { ticket, to, until: step.cx.now.after_us(half_us) });
        self.hand_over_if_ready(step);
    }

    /// Somebody leads, perhaps who was named.
    pub(super) fn led_by(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        let Some(transfer) = self.transfer else { return };
        let done = ballot.node == transfer.to || bug!(any_leader_is_the_named_one);
        let outcome = if done { Outcome::Done(ballot) } else { Outcome::Elsewhere(ballot) };
        self.transferred(step, outcome);
    }

    fn transferred(&mut self, step: &mut Step<'_>, outcome: Outcome) {
        if let Some(Transfer { ticket, .. }) = self.transfer.take() {
            step.fx.emit(Event::Transferred { ticket, outcome });
        }
    }
}
