//! Who takes part: making a cluster, being added, promoted, removed; one step at a time.

use alloc::vec::Vec;

use super::leading::{Asker, Newcomer, Ticket};
use super::message::{Body, ClusterId, Error, Event, Message, Record, Request, Seat};
use super::{CAUGHT_UP, Cluster, HELLO_MS, Health, Role, Step};
use crate::log::{self, Log, MAX_MEMBERS, Members};
use crate::machine::{Input, NodeId};
use crate::registry::{Act, Registry, Reply};

/// What is to be done next about a request to change the members.
enum Plan {
    /// It is so already.
    Done,
    Refuse(Error),
    Change(Members),
    /// The learner is to vote when it has caught up.
    Aspire(NodeId),
    /// All is proposed: what is left is the new member's to do.
    Await(NodeId, Seat),
}

impl Cluster {
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        (self.started, self.me) = (true, step.cx.me);
        self.requests.start(step.cx);
        self.begin(step);
    }

    /// Begins to take part in the cluster that the journal tells of, if it does.
    pub(super) fn begin(&mut self, step: &mut Step<'_>) {
        if self.id.is_some() {
            self.feed(step, Input::Start);
            self.hello_at = Some(step.cx.now.after_ms(HELLO_MS));
        }
    }

    /// Makes a cluster of this node alone.
    pub(super) fn init(&mut self, step: &mut Step<'_>, ticket: u64) {
        if let Some(id) = self.id {
            return step.tell(Event::Answer { ticket, result: Err(Error::InCluster(id)) });
        }
        let mut id = ClusterId([0; 16]);
        rand_core::Rng::fill_bytes(&mut step.cx.random("cluster id"), &mut id.0);
        self.join(step, id, 0);
        let members = Members::of([step.cx.me]);
        self.feed(step, Input::Command(log::Command::Found(members.clone())));
        self.members = (0, members);
        self.founding = Some(ticket);
    }

    /// Is a member from here on.
    pub(super) fn join(&mut self, step: &mut Step<'_>, cluster: ClusterId, since: u64) {
        step.fx.persist(Record::Joined { cluster, since });
        (self.id, self.since) = (Some(cluster), since);
        self.hello_at = Some(step.cx.now.after_ms(HELLO_MS));
        self.feed(step, Input::Start);
        step.fx.emit(Event::Joined(cluster));
    }

    /// Is none from here on.
    pub(super) fn leave(&mut self, step: &mut Step<'_>, at: u64) {
        let Some(cluster) = self.id else { return };
        // What was asked for and what is to be told still goes out.
        self.send_batches(step);
        self.answer_all_removed(step);
        if let Some(ticket) = self.founding.take() {
            step.tell(Event::Answer { ticket, result: Err(Error::Removed) });
        }
        self.watches.end_all(step);
        step.fx.persist(Record::Left { cluster, at });
        self.forget(cluster, at);
        step.fx.emit(Event::Left(cluster));
        step.fx.emit(Event::Covered);
    }

    /// Nothing of the cluster is left but that it was left.
    pub(super) fn forget(&mut self, cluster: ClusterId, at: u64) {
        self.id = None;
        self.left = Some((cluster, at));
        self.log = Log::new(self.config.timing, self.config.priority);
        self.registry = Registry::default();
        self.members = (0, Members::default());
        self.gone = None;
        self.due.clear();
        self.marked = None;
        self.leading = None;
        self.hello_at = None;
    }

    /// These are the members, as committed.
    pub(super) fn take_members(&mut self, step: &mut Step<'_>, index: u64, members: Members) {
        // Not who is a member again by now, at the end of its log: as such it has acknowledged that it holds
        // that log, perhaps as a voter, and what was acknowledged is never forgotten. A former witness, who
        // must begin anew to be more, does not take the entry that adds it (`Log::append`).
        let back = is_member(self.log.members(), &self.me);
        if index >= self.since.max(1) && !is_member(&members, &self.me) && !back {
            self.gone.get_or_insert(index);
        }
        if members.witnesses.contains(&self.me) {
            self.watches.end_all(step);
        }
        let (_, before) = core::mem::replace(&mut self.members, (index, members));
        let Some(cluster) = self.id else { return };
        if self.leading.is_some() {
            let gone = before.all().filter(|node| !is_member(&self.members.1, node));
            for node in gone.filter(|node| *node != step.cx.me) {
                let body = Body::Removed { at: index };
                step.fx.send(node, Message { cluster, body });
            }
        }
    }

    /// A member that was removed has nothing to do here any more, once it leads no longer.
    pub(super) fn leave_if_removed(&mut self, step: &mut Step<'_>) {
        if self.id.is_some()
            && self.leading.is_none()
            && let Some(at) = self.gone
        {
            self.leave(step, at);
        }
    }

    /// Somebody of another cluster speaks, or this node is in none.
    pub(super) fn of_another_cluster(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        cluster: ClusterId,
        body: &Body,
    ) {
        if self.id.is_some() {
            return;
        }
        let removed =
            |since: u64| matches!(self.left, Some((left, at)) if left == cluster && since <= at);
        match body {
            Body::Join { since } if !removed(*since) => self.join(step, cluster, *since),
            Body::Log(_) => step.fx.send(from, Message { cluster, body: Body::Stranger }),
            _ => {}
        }
    }

    /// A node that is sent the log says that it is in no cluster.
    pub(super) fn invite(&mut self, step: &mut Step<'_>, from: NodeId) {
        let Some(cluster) = self.id else { return };
        if is_member(self.log.members(), &from) {
            let body = Body::Join { since: self.log.members_since() };
            step.fx.send(from, Message { cluster, body });
        } else {
            self.tell_if_removed(step, from);
        }
    }

    /// Somebody behaves as a member: as far as is committed, it is none.
    pub(super) fn tell_if_removed(&mut self, step: &mut Step<'_>, from: NodeId) {
        let Some(cluster) = self.id else { return };
        if !is_member(&self.members.1, &from) && !is_member(self.log.members(), &from) {
            let body = Body::Removed { at: self.registry.revision() };
            step.fx.send(from, Message { cluster, body });
        }
    }

    /// Somebody who knows the log up to `at` says that this node is no member.
    pub(super) fn told_removed(&mut self, step: &mut Step<'_>, at: u64) {
        let (index, members) = &self.members;
        // Likewise who was added again since: see `take_members`.
        let back = self.log.members_since() > at && is_member(self.log.members(), &step.cx.me);
        let knows_better = *index >= at && is_member(members, &step.cx.me) || back;
        if at >= self.since && !knows_better && self.leading.is_none() {
            self.leave(step, at);
        }
    }

    pub(super) fn say_hello(&mut self, step: &mut Step<'_>) {
        let Some(cluster) = self.id else { return };
        if self.log.leader().is_some() {
            return;
        }
        for peer in self.links.iter().copied() {
            step.fx.send(peer, Message { cluster, body: Body::Hello });
        }
    }

    /// It may have been removed while it was away.
    pub(super) fn greet(&self, step: &mut Step<'_>, peer: NodeId) {
        if let Some(cluster) = self.id {
            step.fx.send(peer, Message { cluster, body: Body::Hello });
        }
    }

    pub(super) fn linked(&mut self, step: &mut Step<'_>, peer: NodeId, up: bool) {
        if up {
            self.links.insert(peer);
            self.greet(step, peer);
        } else {
            self.links.remove(&peer);
            self.asked_in_vain(peer);
        }
        self.feed(step, Input::Link { peer, up });
    }

    /// Takes the next step of a change of members: one that was asked for, or that of a learner that
    /// has caught up.
    pub(super) fn change_members(&mut self, step: &mut Step<'_>) {
        loop {
            let Some(leading) = &self.leading else { return };
            if leading.changing || step.unsettled || !leading.is_ready() {
                return;
            }
            let Some((asker, request, deadline)) = leading.changes.front() else {
                return self.promote_aspirants(step);
            };
            let (asker, over) = (*asker, *deadline <= step.cx.now);
            let plan = self.plan(step, request, leading.begun);
            let result = match plan {
                // It was answered where it was asked.
                _ if over => None,
                Plan::Done => Some(Ok(Reply::Done { revision: self.registry.revision() })),
                Plan::Refuse(error) => Some(Err(error)),
                Plan::Await(node, seat) => {
                    self.await_newcomer(node, seat);
                    None
                }
                Plan::Change(members) => return self.propose_members(step, members),
                Plan::Aspire(node) => {
                    self.set_changing();
                    return self.propose_act(step, Ticket::Change, Act::Aspire { node });
                }
            };
            if let Some(leading) = &mut self.leading {
                leading.changes.pop_front();
                leading.begun = false;
            }
            if let Some(result) = result {
                self.answer(step, asker, Some(result));
            }
        }
    }

    /// The change at the front goes on by itself, and need not keep others waiting.
    fn await_newcomer(&mut self, node: NodeId, seat: Seat) {
        let Some(leading) = &mut self.leading else { return };
        if let Some((asker, _, deadline)) = leading.changes.front() {
            leading.newcomers.push(Newcomer { asker: *asker, node, seat, deadline: *deadline });
        }
    }

    /// Answers whoever added a node that now takes part.
    pub(super) fn answer_newcomers(&mut self, step: &mut Step<'_>) {
        let (members, revision) = (&self.members.1, self.registry.revision());
        let Some(leading) = &mut self.leading else { return };
        let mut over = Vec::new();
        leading.newcomers.retain(|newcomer| {
            let node = newcomer.node;
            let result = match seat(members, &node) {
                None => Err(Error::NotAMember(node)),
                Some(seat) if seat == newcomer.seat && self.log.matched(&node) > Some(0) => {
                    Ok(Reply::Done { revision })
                }
                // Whoever has waited for too long was answered where it was asked.
                Some(_) => return newcomer.deadline > step.cx.now,
            };
            over.push((newcomer.asker, result));
            false
        });
        for (asker, result) in over {
            self.answer(step, asker, Some(result));
        }
    }

    fn set_changing(&mut self) {
        if let Some(leading) = &mut self.leading {
            leading.changing = true;
            leading.begun = !leading.changes.is_empty();
        }
    }

    fn propose_members(&mut self, step: &mut Step<'_>, members: Members) {
        self.set_changing();
        let ticket = self.ticket();
        if let Some(leading) = &mut self.leading {
            leading.tickets.insert(ticket, Ticket::Change);
        }
        // If another change is under way, the log refuses: again in a later step.
        step.unsettled = true;
        self.feed(step, Input::Command(log::Command::Change { ticket, members }));
    }

    fn promote_aspirants(&mut self, step: &mut Step<'_>) {
        let members = self.log.members();
        let aspires =
            |node: &&NodeId| members.learners.contains(*node) && self.lag(node) <= CAUGHT_UP;
        if let Some(node) = self.registry.aspirants().iter().find(aspires) {
            let members = promoted(members, *node);
            self.propose_members(step, members);
        }
    }

    /// How many entries a member lacks, as far as is known. Who has never answered, or has no link,
    /// lacks all of them: as a voter, a young cluster would stand still with it.
    fn lag(&self, node: &NodeId) -> u64 {
        let last = self.log.last().index;
        match self.log.matched(node).filter(|_| self.links.contains(node)) {
            None | Some(0) => u64::MAX,
            Some(matched) => last.saturating_sub(matched),
        }
    }

    fn plan(&self, step: &Step<'_>, request: &Request, begun: bool) -> Plan {
        let members = self.log.members();
        match *request {
            Request::Add { node, seat } => self.plan_to_add(step, node, seat, begun),
            Request::Remove { node } if !is_member(members, &node) => {
                if begun {
                    Plan::Done
                } else {
                    Plan::Refuse(Error::NotAMember(node))
                }
            }
            Request::Remove { node } => {
                let mut members = members.clone();
                members.voters.remove(&node);
                members.witnesses.remove(&node);
                members.learners.remove(&node);
                if members.valid() { Plan::Change(members) } else { Plan::Refuse(Error::LastVoter) }
            }
            Request::Promote { node } => match seat(members, &node) {
                None => Plan::Refuse(Error::NotAMember(node)),
                Some(Seat::Voter) => Plan::Done,
                Some(Seat::Witness) => Plan::Refuse(Error::WrongSeat(node)),
                Some(Seat::Learner) if self.lag(&node) > CAUGHT_UP => {
                    let entries = self.lag(&node).min(self.log.last().index);
                    Plan::Refuse(Error::Behind { entries })
                }
                Some(Seat::Learner) => Plan::Change(promoted(members, node)),
            },
            Request::Change(_)
            | Request::Query { .. }
            | Request::KeepAlive { .. }
            | Request::HandOver { .. } => Plan::Refuse(Error::Busy),
        }
    }

    fn plan_to_add(&self, step: &Step<'_>, node: NodeId, wanted: Seat, begun: bool) -> Plan {
        let members = self.log.members();
        let aspires = self.registry.aspirants().contains(&node);
        match (seat(members, &node), wanted) {
            (Some(Seat::Learner), Seat::Voter) if aspires => Plan::Await(node, wanted),
            (Some(Seat::Learner), Seat::Voter) => Plan::Aspire(node),
            (Some(seat), wanted) if seat == wanted && begun => Plan::Await(node, wanted),
            (Some(seat), wanted) if seat == wanted => Plan::Done,
            (Some(_), _) => Plan::Refuse(Error::OtherSeat(node)),
            (None, _) if members.all().count() >= MAX_MEMBERS => {
                Plan::Refuse(Error::TooManyMembers)
            }
            (None, _) if !self.links.contains(&node) && node != step.cx.me => {
                Plan::Refuse(Error::Unreachable(node))
            }
            (None, Seat::Witness) => {
                let mut members = members.clone();
                members.voters.insert(node);
                members.witnesses.insert(node);
                Plan::Change(members)
            }
            (None, Seat::Voter | Seat::Learner) => {
                let mut members = members.clone();
                members.learners.insert(node);
                Plan::Change(members)
            }
        }
    }

    /// Hands the lead over.
    pub(super) fn hand_over(&mut self, step: &mut Step<'_>, asker: Asker, to: Option<NodeId>) {
        let (me, members) = (step.cx.me, self.log.members());
        let able = members.voters.iter().any(|node| *node != me && members.leads(node));
        let error = match to {
            Some(to) if to == me => {
                let revision = self.registry.revision();
                return self.answer(step, asker, Some(Ok(Reply::Done { revision })));
            }
            Some(to) if !is_member(members, &to) => Some(Error::NotAMember(to)),
            Some(to) if !members.leads(&to) => Some(Error::WrongSeat(to)),
            _ if !able => Some(Error::LastVoter),
            _ => None,
        };
        if let Some(error) = error {
            return self.answer(step, asker, Some(Err(error)));
        }
        if let Some(leading) = &mut self.leading {
            leading.handing_over.push(asker);
        }
        self.feed(step, Input::Command(log::Command::HandOver { to }));
    }

    /// Tells who leads and how the cluster is, where that has changed.
    pub(super) fn observe(&mut self, step: &mut Step<'_>) {
        let me = step.cx.me;
        let leader = match &self.leading {
            Some(leading) => Some(leading.ballot),
            None => self.log.leader().filter(|ballot| ballot.node != me),
        };
        let leader = leader.filter(|_| self.id.is_some());
        if leader != self.told_leader {
            self.told_leader = leader;
            self.counters.leader_changes += 1;
            self.requests.resume();
            if leader.is_some() {
                self.hello_at = None;
            } else if self.id.is_some() {
                self.hello_at = Some(step.cx.now.after_ms(HELLO_MS));
            }
            step.tell(Event::LeaderChanged(leader));
            self.route_idle(step);
            self.flush(step);
        }
        let linked = |node: NodeId| node == me || self.links.contains(&node);
        let health = match (self.id, leader) {
            (None, _) => Health::Outside,
            (Some(_), None) => Health::Leaderless,
            _ if self.log.members().all().all(linked) => Health::Whole,
            _ => Health::Degraded,
        };
        if health != self.told_health {
            self.told_health = health;
            step.tell(Event::HealthChanged(health));
        }
    }

    /// Whether the registry here says what the log came to: not that of a witness, nor of one who was a
    /// witness and has not begun anew yet.
    pub(super) fn keeps_data(&self) -> bool {
        !matches!(self.role(), Role::Outside | Role::Witness) && !self.log.is_blank()
    }

    /// What this node does in its cluster.
    #[must_use]
    pub fn role(&self) -> Role {
        match seat(self.log.members(), &self.me) {
            _ if self.id.is_none() => Role::Outside,
            _ if self.leading.is_some() => Role::Leader,
            Some(Seat::Voter) => Role::Follower,
            Some(Seat::Witness) => Role::Witness,
            Some(Seat::Learner) | None => Role::Learner,
        }
    }
}

pub(super) fn seat(members: &Members, node: &NodeId) -> Option<Seat> {
    if members.witnesses.contains(node) {
        Some(Seat::Witness)
    } else if members.voters.contains(node) {
        Some(Seat::Voter)
    } else if members.learners.contains(node) {
        Some(Seat::Learner)
    } else {
        None
    }
}

pub(super) fn is_member(members: &Members, node: &NodeId) -> bool {
    seat(members, node).is_some()
}

fn promoted(members: &Members, node: NodeId) -> Members {
    let mut members = members.clone();
    members.learners.remove(&node);
    members.voters.insert(node);
    members
}
