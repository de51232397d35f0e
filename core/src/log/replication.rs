//! What a leader does, and what its followers do with it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::entries::Entries;
use super::message::{Ballot, Entry, Members, Message, Payload, Piece, Position, Snapshot};
use super::page::Page;
use super::{
    Bound, Event, Incoming, Log, MAX_BYTES_PER_MESSAGE, MAX_CHUNK, MAX_ENTRIES_PER_MESSAGE,
    MAX_READS, MAX_SNAPSHOT, MAX_UNCOMMITTED, Record, Refusal, Role, Step,
};
use crate::machine::{NodeId, Time};

/// Appends with entries that are on their way to one follower at once, at most. What is proposed
/// meanwhile goes with the next: so batches form by themselves when there is much to do.
const MAX_IN_FLIGHT: u32 = 2;

/// Among so many members what a quorum has reached is found without allocating.
const FEW: usize = 10;

/// A leader's book.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leading {
    pub(super) ballot: Ballot,
    /// Its first entry: what follows may be committed by counting.
    first: u64,
    /// In the order of their names: all members but the leader.
    pub(super) followers: Vec<Follower>,
    /// How many voters decide, and whether the leader is one.
    quorum: usize,
    votes: bool,
    /// Which members it keeps a book for.
    members: Option<u64>,
    /// How far its own log is durable.
    durable: u64,
    /// Since when something of its own waits to become durable.
    pub(super) unsynced: Option<Time>,
    pub(super) heartbeat_at: Time,
    /// Until then it leads, unless a quorum answers before.
    pub(super) lease_until: Time,
    /// Whether the parent knows.
    pub(super) told: bool,
    pub(super) reads: VecDeque<Waiting>,
    /// When it last said to everybody that it is there.
    round: Time,
    pub(super) handing_over: Option<NodeId>,
}

/// A read that waits for a quorum to answer what was sent after it came.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    since: Time,
    index: u64,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Follower {
    pub(super) id: NodeId,
    votes: bool,
    /// It keeps no data.
    blank: bool,
    /// So far their logs are the same, durably.
    pub(super) matched: u64,
    /// What to send next.
    next: u64,
    /// Where to begin again when nothing was answered: not lower than it has said, or a node that is
    /// away would be sent the whole log at every heartbeat.
    begin: u64,
    in_flight: u32,
    /// When the last answered append was sent.
    answered: Option<Time>,
    /// When something was last sent with entries.
    sent: Time,
}

/// [`Message::Append`].
pub(super) struct Append {
    pub(super) ballot: Ballot,
    pub(super) after: Position,
    pub(super) entries: Page,
    pub(super) commit: u64,
    pub(super) sent: Time,
}

impl Leading {
    pub(super) fn new(ballot: Ballot, first: u64, lease_until: Time) -> Leading {
        Leading {
            ballot,
            first,
            followers: Vec::new(),
            quorum: 1,
            votes: true,
            members: None,
            durable: 0,
            unsynced: None,
            heartbeat_at: Time::ZERO,
            lease_until,
            told: false,
            reads: VecDeque::new(),
            round: Time::ZERO,
            handing_over: None,
        }
    }

    pub(super) fn matched(&self, node: &NodeId) -> Option<u64> {
        self.follower(node).map(|follower| follower.matched)
    }

    pub(super) fn follower(&self, id: &NodeId) -> Option<&Follower> {
        self.followers.iter().find(|follower| follower.id == *id)
    }

    /// The greatest value that a quorum of voters reaches: the leader has `mine`, each follower what
    /// `value` says.
    #[inline]
    fn quorum_of<T: Ord + Copy>(&self, mine: T, value: impl Fn(&Follower) -> T) -> Option<T> {
        let (mut few, mut many) = ([mine; FEW], Vec::new());
        let values = if self.followers.len() < FEW {
            &mut few[..]
        } else {
            many.resize(self.followers.len() + 1, mine);
            &mut many[..]
        };
        let mut count = usize::from(self.votes);
        for follower in self.followers.iter().filter(|follower| follower.votes) {
            // Sorted as they come, the greatest first: there are few.
            let value = value(follower);
            let mut at = count;
            while at > 0 && values[at - 1] < value {
                values[at] = values[at - 1];
                at -= 1;
            }
            values[at] = value;
            count += 1;
        }
        values[..count].get(self.quorum - 1).copied()
    }
}

impl Log {
    /// The first act of a new leader: an entry of its own.
    pub(super) fn inaugurate(&mut self, step: &mut Step<'_>) {
        self.extend(step, [Payload::Noop].into());
        self.heartbeat(step);
    }

    /// Appends payloads under this leader's ballot, and sends them on.
    fn extend(&mut self, step: &mut Step<'_>, mut payloads: Vec<Payload>) {
        let Role::Leading(Leading { ballot, .. }) = self.role else { return };
        loop {
            let fits = fitting(&payloads);
            let rest = if fits < payloads.len() { payloads.split_off(fits) } else { Vec::new() };
            let entries = payloads.into_iter().map(|payload| Entry { ballot, payload }).collect();
            self.write(step, self.entries.last_index(), entries);
            payloads = rest;
            if payloads.is_empty() {
                break;
            }
        }
        self.enlist();
        if let Role::Leading(leading) = &mut self.role {
            leading.unsynced.get_or_insert(step.cx.now);
        }
        // Its own copy counts once it is durable, which it hears from itself.
        let index = self.entries.last_index();
        step.fx.send(step.cx.me, Message::Durable { ballot, index });
        self.replicate_all(step);
    }

    /// Keeps a book for whoever takes part now, and for nobody else.
    fn enlist(&mut self) {
        let (last, version) = (self.entries.last_index(), self.entries.members_version());
        let Role::Leading(leading) = &mut self.role else { return };
        if leading.members == Some(version) {
            return;
        }
        let members = self.entries.members();
        let me = leading.ballot.node;
        let book = |id: NodeId| {
            let known = leading.follower(&id).copied();
            let new = Follower {
                id,
                votes: false,
                blank: false,
                matched: 0,
                next: last,
                begin: last,
                in_flight: 0,
                answered: None,
                sent: Time::ZERO,
            };
            let votes = members.voters.contains(&id);
            let blank = members.witnesses.contains(&id);
            Follower { votes, blank, ..known.unwrap_or(new) }
        };
        let mut followers: Vec<Follower> = members.all().filter(|id| *id != me).map(book).collect();
        followers.sort_unstable_by_key(|follower| follower.id);
        leading.followers = followers;
        leading.votes = members.voters.contains(&me);
        leading.quorum = members.quorum();
        leading.members = Some(version);
    }

    fn replicate_all(&mut self, step: &mut Step<'_>) {
        let (last, base) = (self.entries.last_index(), self.entries.base().index);
        let Role::Leading(leading) = &mut self.role else { return };
        // Followers who keep up get the same.
        let mut shared: Option<(u64, bool, Page)> = None;
        for follower in &mut leading.followers {
            while follower.in_flight < MAX_IN_FLIGHT
                && follower.next <= last
                && follower.next > base
            {
                let (after, blank) = (follower.next - 1, follower.blank);
                let page = match &shared {
                    Some((of, hidden, page)) if (*of, *hidden) == (after, blank) => page.clone(),
                    _ => match self.entries.whole_page(after) {
                        Some(page) if !blank => page,
                        _ => {
                            let page = self.entries.page(after, blank);
                            shared = Some((after, blank, page.clone()));
                            page
                        }
                    },
                };
                follower.next += page.len() as u64;
                follower.in_flight += 1;
                follower.sent = step.cx.now;
                let to = follower.id;
                send_append(step, leading.ballot, &self.entries, to, after, page, self.commit);
            }
        }
    }

    /// Says that it is there, to everybody; and again what was not answered in time.
    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        let patience_us = 2 * self.timing.heartbeat_us;
        let Role::Leading(leading) = &mut self.role else { return };
        leading.heartbeat_at = now.after_us(self.timing.heartbeat_us);
        for follower in &mut leading.followers {
            let waits = follower.next > follower.matched + 1;
            let late = now.since_us(follower.sent) > patience_us;
            if waits && late && !bug!(last_append_not_repeated) {
                follower.next = follower.begin.max(follower.matched + 1);
                follower.in_flight = 0;
            }
            // What it certainly has: an append that is still on its way is not waited for.
            let after = follower.matched.max(self.entries.base().index);
            let to = follower.id;
            send_append(step, leading.ballot, &self.entries, to, after, Page::EMPTY, self.commit);
        }
        leading.round = now;
        self.replicate_all(step);
        // Alone, it is its own quorum.
        self.renew(step);
    }

    pub(super) fn append(&mut self, step: &mut Step<'_>, from: NodeId, append: Append) {
        let Append { ballot, after, entries, commit, sent } = append;
        if ballot < self.promised || ballot.node != from {
            let promised = self.promised;
            return step.fx.send(from, Message::Refuse { ballot, promised });
        }
        if matches!(&self.role, Role::Leading(leading) if leading.ballot == ballot) {
            return;
        }
        if ballot > self.promised {
            self.promised = ballot;
            step.fx.persist(Record::Promised(ballot));
        }
        if self.leader != Some(ballot) || !matches!(self.role, Role::Following) {
            self.follow(step, Some(ballot));
        }
        self.bound = Some(Bound { leader: Some(ballot), since: step.cx.now });
        self.schedule_campaign(step);
        if entries.iter().any(|entry| entry.ballot > ballot) {
            return;
        }
        let entries = self.but_for_a_seat_with_data(step.cx.me, entries);
        let matched = if self.entries.holds(after) || bug!(position_not_compared) {
            let end = after.index + entries.len() as u64;
            if !self.merge(step, after.index, entries) {
                return;
            }
            let end_or_more =
                if bug!(committed_beyond_the_match) { self.entries.last_index() } else { end };
            self.commit = self.commit.max(commit.min(end_or_more));
            Ok(end)
        } else {
            // "If desired, the protocol can be optimized to reduce the number of rejected AppendEntries
            // RPCs": it is perhaps only behind; if not, all up to the commit is the same, of which it
            // knows little when it has just started.
            let end = self.entries.last_index();
            Err(if after.index > end { end } else { self.commit })
        };
        let appended = Message::Appended { ballot, matched, sent };
        match bug!(appended_before_durable) {
            true => step.fx.send_now(from, appended),
            false => step.fx.send(from, appended),
        }
        if let Some(incoming) = &self.incoming {
            let (at, offset) = (incoming.at, incoming.data.len() as u64);
            step.fx.send_now(from, Message::Pull { ballot, at, offset });
        }
    }

    /// What a node may take that holds positions without their data: nothing from where it is to be more
    /// than a witness. From there on it would be counted on to have what is before. It hears that it was
    /// removed, begins anew, and takes all of it with its data.
    fn but_for_a_seat_with_data(&self, me: NodeId, entries: Page) -> Page {
        let seats = |members: &Members| {
            members.all().any(|node| node == me) && !members.witnesses.contains(&me)
        };
        if !self.is_blank() || seats(self.entries.members()) {
            return entries;
        }
        let seated = |entry: &Entry| matches!(&entry.payload, Payload::Members(m) if seats(m));
        match entries.iter().position(seated) {
            Some(at) => entries.slice(0, at),
            None => entries,
        }
    }

    pub(super) fn appended(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        matched: Result<u64, u64>,
        sent: Time,
    ) {
        let last = self.entries.last_index();
        let Role::Leading(leading) = &mut self.role else { return };
        let known = leading.followers.iter_mut().find(|follower| follower.id == from);
        let Some(follower) = known else { return };
        if leading.ballot != ballot || sent > step.cx.now {
            return;
        }
        follower.answered = follower.answered.max(Some(sent));
        let before = follower.matched;
        match matched {
            Ok(matched) if matched <= last => {
                // A heartbeat's answer says nothing of what is on its way.
                if matched > follower.matched {
                    follower.in_flight = follower.in_flight.saturating_sub(1);
                }
                follower.matched = follower.matched.max(matched);
                follower.next = follower.next.max(follower.matched + 1);
                if follower.next == follower.matched + 1 {
                    follower.in_flight = 0;
                }
            }
            Err(end) if end < last => {
                // What it had it may have no more: a witness that is removed, and added with another
                // seat, begins anew. Sending on from what it once had would go round in circles, as
                // fast as the network. To believe a late answer costs some entries sent twice.
                follower.matched = follower.matched.min(end);
                (follower.next, follower.begin) = (end + 1, end + 1);
                follower.in_flight = 0;
            }
            _ => return,
        }
        let (behind, more) = (follower.next <= self.entries.base().index, follower.next <= last);
        let further = follower.matched > before;
        if behind {
            self.serve_snapshot(step, from, ballot, None);
        }
        if further {
            self.count(step);
        }
        self.renew(step);
        if more {
            self.replicate_all(step);
        }
        self.hand_over_if_ready(step);
    }

    pub(super) fn durable(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        index: u64,
    ) {
        let Role::Leading(leading) = &mut self.role else { return };
        if leading.ballot == ballot && from == step.cx.me {
            leading.durable = leading.durable.max(index);
            let more = leading.durable < self.entries.last_index();
            leading.unsynced = more.then_some(step.cx.now);
            let waited_for = !leading.told || !leading.reads.is_empty();
            self.count(step);
            if waited_for {
                self.renew(step);
            }
        }
    }

    /// What a quorum holds durably is committed, if it is of this leader's own ballot.
    fn count(&mut self, step: &mut Step<'_>) {
        let Role::Leading(leading) = &self.role else { return };
        let durable = leading.durable;
        let mine = if bug!(own_copy_counted_at_once) { self.entries.last_index() } else { durable };
        let reached = leading.quorum_of(mine, |follower| follower.matched);
        let Some(index) = reached.filter(|index| *index > self.commit) else { return };
        // "Only log entries from the leader's current term are committed by counting replicas."
        if index >= leading.first || bug!(older_ballots_counted) {
            self.commit = index;
            // Who is not a voter any more has led to the end of its own removal.
            let members = self.entries.members();
            if !members.leads(&step.cx.me) && index >= self.entries.members_since() {
                self.hand_over(step, None);
            }
        }
    }

    /// A leader stays one for a lease from when a quorum was sent what it has answered.
    fn renew(&mut self, step: &mut Step<'_>) {
        let (now, lease_us) = (step.cx.now, self.timing.lease_us());
        let Role::Leading(leading) = &mut self.role else { return };
        let answered = leading.quorum_of(Some(now), |follower| follower.answered);
        let Some(Some(since)) = answered else { return };
        let since = if bug!(leads_past_its_lease) { now } else { since };
        if leading.handing_over.is_none() {
            leading.lease_until = leading.lease_until.max(since.after_us(lease_us));
        }
        let certain = self.commit >= leading.first;
        if certain && !leading.told && since.after_us(lease_us) >= now {
            leading.told = true;
            leading.lease_until = since.after_us(lease_us);
            step.tell(Event::Leading(leading.ballot));
        }
        while let Some(read) = leading.reads.front() {
            if !certain || read.since > since {
                break;
            }
            let index = read.index.max(leading.first);
            step.fx.emit(Event::Readable { ticket: read.ticket, index });
            leading.reads.pop_front();
        }
        if leading.reads.front().is_some_and(|read| read.since > leading.round) {
            self.heartbeat(step);
        }
    }

    pub(super) fn propose(&mut self, step: &mut Step<'_>, ticket: u64, data: Vec<Bytes>) {
        let Role::Leading(Leading { ballot, handing_over: None, .. }) = self.role else {
            return step.refuse(ticket, self.not_leader(step.cx.me));
        };
        let waiting = self.entries.last_index() - self.commit;
        if data.is_empty() || waiting + data.len() as u64 > MAX_UNCOMMITTED {
            return step.refuse(ticket, Refusal::Busy);
        }
        let first = Position { ballot, index: self.entries.last_index() + 1 };
        step.fx.emit(Event::Proposed { ticket, first });
        self.extend(step, data.into_iter().map(Payload::Data).collect());
    }

    pub(super) fn read(&mut self, step: &mut Step<'_>, ticket: u64, by_lease: bool) {
        let (now, index) = (step.cx.now, self.commit);
        let refusal = self.not_leader(step.cx.me);
        let Role::Leading(leading) = &mut self.role else {
            return step.refuse(ticket, refusal);
        };
        if by_lease && leading.told || bug!(read_before_its_own_entry) {
            return step.fx.emit(Event::Readable { ticket, index });
        }
        if leading.reads.len() >= MAX_READS {
            return step.refuse(ticket, Refusal::Busy);
        }
        // One round for all reads that come before the next heartbeat.
        let first = leading.reads.is_empty();
        leading.reads.push_back(Waiting { ticket, since: now, index });
        if first {
            self.heartbeat(step);
        }
    }

    pub(super) fn change(&mut self, step: &mut Step<'_>, ticket: u64, members: Members) {
        let Role::Leading(Leading { ballot, first, handing_over: None, .. }) = self.role else {
            return step.refuse(ticket, self.not_leader(step.cx.me));
        };
        let settled = self.entries.members_since() <= self.commit && self.commit >= first;
        let sound = members.valid() && members.one_step_from(self.entries.members());
        if !(settled || bug!(two_changes_at_once)) || !sound {
            return step.refuse(ticket, Refusal::BadChange);
        }
        let first = Position { ballot, index: self.entries.last_index() + 1 };
        step.fx.emit(Event::Proposed { ticket, first });
        self.extend(step, [Payload::Members(Box::new(members))].into());
    }

    /// Sends a piece of the snapshot: the one asked for, or the first of the newest.
    pub(super) fn serve_snapshot(
        &mut self,
        step: &mut Step<'_>,
        to: NodeId,
        ballot: Ballot,
        asked: Option<(Position, u64)>,
    ) {
        let Some(Snapshot { at, members, data }) = &self.snapshot else { return };
        let offset = asked.filter(|(asked, _)| asked == at).map_or(0, |(_, offset)| offset);
        let total = data.len() as u64;
        let begin = offset.min(total) as usize;
        let piece = data.slice(begin..data.len().min(begin + MAX_CHUNK));
        let (at, members) = (*at, members.clone());
        let piece = Box::new(Piece { at, members, offset, total, data: piece });
        step.fx.send_now(to, Message::Chunk { ballot, piece });
    }

    pub(super) fn pull(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        at: Position,
        offset: u64,
    ) {
        let leads = matches!(&self.role, Role::Leading(leading) if leading.ballot == ballot);
        let promised = ballot == self.promised && ballot.node == from;
        if leads || promised && !self.is_blank() {
            self.serve_snapshot(step, from, ballot, Some((at, offset)));
        }
    }

    /// A piece of a snapshot, from the leader or from whose log a candidate takes over.
    pub(super) fn chunk(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        ballot: Ballot,
        piece: Piece,
    ) {
        let Piece { at, members, offset, total, data } = piece;
        let takes_over = self.takes_over_from(step, from, ballot);
        let follows = self.leader == Some(ballot) && ballot.node == from;
        if !(takes_over || follows) || at.index <= self.commit || total > MAX_SNAPSHOT {
            return;
        }
        let incoming = match &mut self.incoming {
            Some(incoming) if incoming.at == at => incoming,
            slot => slot.insert(Incoming { at, members, data: Vec::new() }),
        };
        if offset == incoming.data.len() as u64 {
            incoming.data.extend_from_slice(&data);
        }
        let offset = incoming.data.len() as u64;
        if offset < total {
            return step.fx.send_now(from, Message::Pull { ballot, at, offset });
        }
        let Some(Incoming { at, members, data }) = self.incoming.take() else { return };
        let snapshot = Snapshot { at, members, data: data.into() };
        self.keep(step, snapshot.clone());
        self.told = at.index;
        step.fx.emit(Event::Restore(Box::new(snapshot)));
        self.take_over_more(step);
    }
}

fn send_append(
    step: &mut Step<'_>,
    ballot: Ballot,
    log: &Entries,
    to: NodeId,
    after: u64,
    entries: Page,
    commit: u64,
) {
    let Some(at) = log.ballot(after) else { return };
    let (after, sent) = (Position { ballot: at, index: after }, step.cx.now);
    step.fx.send_now(to, Message::Append { ballot, after, entries, commit, sent });
}

/// How many of these fit one message.
fn fitting(payloads: &[Payload]) -> usize {
    let mut bytes = 0;
    let fits = |payload: &&Payload| {
        bytes += payload.weight();
        bytes <= MAX_BYTES_PER_MESSAGE
    };
    payloads.iter().take(MAX_ENTRIES_PER_MESSAGE).take_while(fits).count().max(1)
}
