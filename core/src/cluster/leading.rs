//! What the leader does with what everybody asks: proposes, reads, beats, changes the members.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use super::applying::{Due, What};
use super::members::is_member;
use super::message::{Answer, Error, Event, Forwarded, Read, Request, Seat};
use super::requests::is_harmless;
use super::{BEAT_MS, COLLECT_MS, Cluster, MAX_WAITING, RETRY_MS, Step};
use crate::log::{self, Ballot, Position};
use crate::machine::{Input, NodeId, Time, earliest};
use crate::registry::{Act, Command, Origin, Proposal, Query, Registry, Reply};

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client of this node's.
    Here { serial: u64 },
    /// Another node.
    There { node: NodeId, life: u64, serial: u64, ballot: Ballot },
}

/// A leader's book.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub(super) ballot: Ballot,
    /// The log's clock when this node had applied its first entry, and its own then. None before.
    clock: Option<(u64, Time)>,
    /// When the log's clock was last told.
    told: Time,
    /// Commands that go into one proposal at the end of the step.
    commands: Vec<(Asker, Command)>,
    /// Reads that ask the log at the end of the step: of a quorum, and of the lease.
    queries: [Vec<(Asker, Query)>; 2],
    /// Reads whose ticket the log has, and those that wait for an index to be applied.
    asking: BTreeMap<u64, Vec<(Asker, Query)>>,
    reading: VecDeque<(u64, Vec<(Asker, Query)>)>,
    /// How many reads there are in all.
    reads: usize,
    /// Renewals that wait for the next beat, and since when.
    renewals: Vec<(Asker, u64)>,
    collecting: Option<Time>,
    /// Until when no beat is tried, because the log took none.
    resting: Time,
    /// The beat that is not applied yet.
    pub(super) beating: bool,
    /// Changes of members, one after the other, and when each is given up.
    pub(super) changes: VecDeque<(Asker, Request, Time)>,
    /// Whether the change at the front has been proposed in part.
    pub(super) begun: bool,
    /// The change that is not applied yet.
    pub(super) changing: bool,
    /// Who is being added, and has yet to take part.
    pub(super) newcomers: Vec<Newcomer>,
    /// Who asked that this node hand over.
    pub(super) handing_over: Vec<Asker>,
    /// What has the log's ticket, until the log says where it stands.
    pub(super) tickets: BTreeMap<u64, Ticket>,
}

/// A node that was added on somebody's request.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub(super) asker: Asker,
    pub(super) node: NodeId,
    pub(super) seat: Seat,
    pub(super) deadline: Time,
}

/// What was proposed under one ticket.
#[derive(Clone, Debug)]
pub(super) enum Ticket {
    Commands(Vec<Asker>),
    Beat(Vec<(Asker, u64)>),
    /// Of the members, or of what a learner aspires to.
    Change,
}

impl Leading {
    fn new(ballot: Ballot) -> Leading {
        Leading {
            ballot,
            clock: None,
            told: Time::ZERO,
            commands: Vec::new(),
            queries: [Vec::new(), Vec::new()],
            asking: BTreeMap::new(),
            reading: VecDeque::new(),
            reads: 0,
            renewals: Vec::new(),
            collecting: None,
            resting: Time::ZERO,
            beating: false,
            changes: VecDeque::new(),
            begun: false,
            changing: false,
            newcomers: Vec::new(),
            handing_over: Vec::new(),
            tickets: BTreeMap::new(),
        }
    }

    /// Whether it has applied all that was before it, so that its clock goes.
    pub(super) fn is_ready(&self) -> bool {
        self.clock.is_some()
    }

    /// The log's clock, as this leader reckons it.
    fn at_ms(&self, now: Time) -> u64 {
        let Some((clock_ms, since)) = self.clock else { return 0 };
        bug!(log_clock_is_the_leaders_own => return now.0 / 1_000);
        clock_ms.saturating_add(now.since_us(since) / 1_000)
    }

    /// When this leader reckons the log's clock to be there.
    fn when(&self, at_ms: u64) -> Option<Time> {
        let (clock_ms, since) = self.clock?;
        Some(since.after_ms(at_ms.saturating_sub(clock_ms)))
    }

    /// When the next beat is due.
    pub(super) fn beat_at(&self, registry: &Registry) -> Option<Time> {
        if self.beating || !self.is_ready() {
            return None;
        }
        let deadline = registry.next_deadline_ms();
        let ends = deadline.and_then(|at_ms| self.when(at_ms));
        let told = deadline.map(|_| self.told.after_ms(BEAT_MS));
        bug!(nobody_beats_for_the_dead => return self.collecting);
        earliest(earliest(ends, told), self.collecting).map(|at| at.max(self.resting))
    }

    /// How much waits here for what is no entry.
    fn waits(&self) -> usize {
        let members = self.changes.len() + self.newcomers.len() + self.handing_over.len();
        self.renewals.len() + members + self.reads
    }
}

impl Cluster {
    pub(super) fn begin_to_lead(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        self.counters.led += 1;
        self.leading = Some(Leading::new(ballot));
        bug!(an_old_no_is_believed => self.served = Default::default());
        self.served.begin(ballot);
        step.tell(Event::Leading(ballot));
        if let Some(ticket) = self.founding.take() {
            let revision = self.registry.revision();
            step.tell(Event::Answer { ticket, result: Ok(Reply::Done { revision }) });
        }
    }

    /// It leads no longer: what was not proposed never will be, and is asked for elsewhere.
    pub(super) fn stop_leading(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        step.tell(Event::Stopped(ballot));
        let Some(leading) = self.leading.take() else { return };
        let Leading {
            commands,
            queries,
            asking,
            reading,
            renewals,
            changes,
            newcomers,
            handing_over,
            tickets,
            ..
        } = leading;
        let mut none: Vec<Asker> = commands.into_iter().map(|(asker, _)| asker).collect();
        // The log noticed that the lead was over before it took these, or it had said where they stand.
        for ticket in tickets.into_values() {
            match ticket {
                Ticket::Commands(askers) => none.extend(askers),
                Ticket::Beat(renewals) => none.extend(renewals.into_iter().map(|(asker, _)| asker)),
                // It is among the changes.
                Ticket::Change => {}
            }
        }
        let reading = reading.into_iter().map(|(_, queries)| queries);
        let queries = queries.into_iter().chain(asking.into_values()).chain(reading);
        none.extend(queries.flatten().map(|(asker, _)| asker));
        none.extend(renewals.into_iter().map(|(asker, _)| asker));
        none.extend(changes.into_iter().map(|(asker, ..)| asker));
        // Asked twice, adding changes nothing: the next leader says when it is done.
        none.extend(newcomers.into_iter().map(|newcomer| newcomer.asker));
        for asker in none {
            self.answer(step, asker, None);
        }
        let revision = self.registry.revision();
        for asker in handing_over {
            self.answer(step, asker, Some(Ok(Reply::Done { revision })));
        }
    }

    /// Tells whoever asked; nothing, if it certainly was not proposed and never will be.
    pub(super) fn answer(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        result: Option<Result<Reply, Error>>,
    ) {
        match asker {
            Asker::Here { serial } => self.resolve(step, serial, result),
            Asker::There { node, life, serial, ballot } => {
                let answers = step.answers.entry((node, life, ballot)).or_default();
                answers.push(Answer { serial, result });
            }
        }
    }

    /// Other nodes' clients ask.
    pub(super) fn serve_guests(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        life: u64,
        ballot: Ballot,
        requests: Vec<Forwarded>,
    ) {
        if !is_member(self.log.members(), &node) {
            return self.tell_if_removed(step, node);
        }
        let ready = |leading: &Leading| leading.ballot == ballot && leading.is_ready();
        let serves = self.leading.as_ref().is_some_and(ready);
        // It was elected, and has not begun. What it turns down now it must not take up then, if the message
        // comes again: who asked was told that it never will.
        let elected = ballot.node == step.cx.me && self.log.leader() == Some(ballot);
        if self.leading.is_none() && elected {
            self.served.begin(ballot);
        }
        // What another life of this node did under the ballot is not known.
        let answers = serves || self.served.ballot() == Some(ballot);
        for Forwarded { serial, timeout_ms, request } in requests {
            let asker = Asker::There { node, life, serial, ballot };
            let first = is_harmless(&request)
                || bug!(served_as_often_as_it_comes)
                || (answers && self.served.take_up(node, life, serial));
            if !first {
                continue;
            }
            if serves {
                let deadline = step.cx.now.after_ms(timeout_ms);
                self.serve(step, asker, request, deadline);
            } else {
                self.answer(step, asker, None);
            }
        }
    }

    /// Takes up a request, as the leader.
    pub(super) fn serve(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        request: Request,
        deadline: Time,
    ) {
        bug!(renewal_answered_before_it_is_committed => if let Request::KeepAlive { lease } = request {
            self.answer(step, asker, Some(self.registry.renewed(lease).map_err(Error::from)));
        });
        bug!(reads_what_it_has_applied => if let Request::Query { query, .. } = &request {
            let result = self.registry.query(query).map_err(Error::from);
            return self.answer(step, asker, Some(result));
        });
        let Some(leading) = &mut self.leading else { return };
        let full = leading.waits() >= MAX_WAITING;
        match request {
            Request::Change(command) => leading.commands.push((asker, command)),
            _ if full => self.answer(step, asker, Some(Err(Error::Busy))),
            Request::Query { query, read } => {
                let by_lease = usize::from(read != Read::Linearizable);
                leading.queries[by_lease].push((asker, query));
                leading.reads += 1;
            }
            Request::KeepAlive { lease } => {
                leading.renewals.push((asker, lease));
                let soon = step.cx.now.after_ms(COLLECT_MS);
                leading.collecting = Some(leading.collecting.map_or(soon, |at| at.min(soon)));
            }
            Request::HandOver { to } => self.hand_over(step, asker, to),
            Request::Add { .. } | Request::Remove { .. } | Request::Promote { .. } => {
                leading.changes.push_back((asker, request, deadline));
            }
        }
    }

    /// What a leader does in any step: what has become possible, and what has become due.
    pub(super) fn lead(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        let clock_ms = self.registry.clock_ms();
        let Some(leading) = &mut self.leading else { return };
        if leading.clock.is_none() {
            // All that was before it has been applied: the log's clock goes on from there.
            leading.clock = Some((clock_ms, now));
            leading.told = now;
            self.requests.resume();
        }
        self.answer_reads(step);
        self.change_members(step);
        self.answer_newcomers(step);
        self.beat(step);
    }

    /// Proposes what the step has gathered: commands together, reads together.
    pub(super) fn flush(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        let Some(leading) = &mut self.leading else { return };
        let commands = core::mem::take(&mut leading.commands);
        let at_ms = leading.at_ms(now);
        for (by_lease, queries) in
            leading.queries.each_mut().map(core::mem::take).into_iter().enumerate()
        {
            if !queries.is_empty() {
                self.tickets += 1;
                let ticket = self.tickets;
                if let Some(leading) = &mut self.leading {
                    leading.asking.insert(ticket, queries);
                }
                let read = log::Command::Read { ticket, by_lease: by_lease == 1 };
                self.feed(step, Input::Command(read));
            }
        }
        if commands.is_empty() {
            return;
        }
        let life = self.requests.life();
        let mut askers = Vec::with_capacity(commands.len());
        let entry = |(asker, command): (Asker, Command)| {
            askers.push(asker);
            let origin = match asker {
                Asker::Here { serial } => Origin { life, serial },
                Asker::There { life, serial, .. } => Origin { life, serial },
            };
            encode(&Proposal { at_ms, origin, act: Act::Command(command) })
        };
        let data: Vec<Bytes> = commands.into_iter().map(entry).collect();
        self.propose(step, Ticket::Commands(askers), data);
    }

    pub(super) fn propose(&mut self, step: &mut Step<'_>, what: Ticket, data: Vec<Bytes>) {
        let ticket = self.ticket();
        let Some(leading) = &mut self.leading else { return };
        leading.told = step.cx.now;
        leading.tickets.insert(ticket, what);
        self.feed(step, Input::Command(log::Command::Propose { ticket, data }));
    }

    /// Proposes one of the leader's own.
    pub(super) fn propose_act(&mut self, step: &mut Step<'_>, what: Ticket, act: Act) {
        let Some(leading) = &self.leading else { return };
        let (at_ms, origin) = (leading.at_ms(step.cx.now), Origin::default());
        self.propose(step, what, [encode(&Proposal { at_ms, origin, act })].into());
    }

    fn beat(&mut self, step: &mut Step<'_>) {
        let Some(leading) = &mut self.leading else { return };
        if leading.beat_at(&self.registry).is_none_or(|at| at > step.cx.now) {
            return;
        }
        leading.beating = true;
        leading.collecting = None;
        let renewals = core::mem::take(&mut leading.renewals);
        let leases = renewals.iter().map(|(_, lease)| *lease).collect();
        self.propose_act(step, Ticket::Beat(renewals), Act::Beat { renewals: leases });
    }

    /// The log says where a proposal stands.
    pub(super) fn proposed(&mut self, ticket: u64, first: Position) {
        let Some(what) = self.leading.as_mut().and_then(|l| l.tickets.remove(&ticket)) else {
            return;
        };
        let Position { ballot, index } = first;
        let mut expect = |index: u64, what: What| self.due.insert(index, Due { ballot, what });
        match what {
            Ticket::Commands(askers) => {
                for (index, asker) in (index..).zip(askers) {
                    expect(index, What::Command(asker));
                }
            }
            Ticket::Beat(renewals) => drop(expect(index, What::Beat(renewals))),
            Ticket::Change => drop(expect(index, What::Change)),
        }
    }

    /// The log did not take a proposal or a read.
    pub(super) fn not_proposed(&mut self, step: &mut Step<'_>, ticket: u64, refusal: log::Refusal) {
        let Some(leading) = &mut self.leading else { return };
        let busy = refusal == log::Refusal::Busy;
        let mut askers: Vec<Asker> = Vec::new();
        if let Some(queries) = leading.asking.remove(&ticket) {
            leading.reads -= queries.len();
            askers.extend(queries.into_iter().map(|(asker, _)| asker));
        }
        match leading.tickets.remove(&ticket) {
            Some(Ticket::Commands(commands)) => askers.extend(commands),
            Some(Ticket::Beat(renewals)) => {
                leading.beating = false;
                leading.resting = step.cx.now.after_ms(RETRY_MS);
                askers.extend(renewals.into_iter().map(|(asker, _)| asker));
            }
            // It stays at the front of the queue.
            Some(Ticket::Change) => leading.changing = false,
            None => {}
        }
        for asker in askers {
            self.answer(step, asker, busy.then_some(Err(Error::Busy)));
        }
    }

    pub(super) fn readable(&mut self, ticket: u64, index: u64) {
        let Some(leading) = &mut self.leading else { return };
        if let Some(queries) = leading.asking.remove(&ticket) {
            leading.reading.push_back((index, queries));
        }
    }

    /// Answers the reads whose index has been applied.
    fn answer_reads(&mut self, step: &mut Step<'_>) {
        let revision = self.registry.revision();
        loop {
            let Some(leading) = &mut self.leading else { return };
            let ready = |(index, _): &(u64, Vec<_>)| *index <= revision;
            let Some((_, queries)) = leading.reading.pop_front_if(|first| ready(first)) else {
                return;
            };
            leading.reads -= queries.len();
            for (asker, query) in queries {
                let result = self.registry.query(&query).map_err(Error::from);
                self.answer(step, asker, Some(result));
            }
        }
    }
}

fn encode(proposal: &Proposal) -> Bytes {
    postcard::to_allocvec(proposal).expect("a vector takes whatever is written to it").into()
}
