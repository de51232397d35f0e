//! The replicated log: a few voters agree on one sequence of entries, and on who may extend it.
//!
//! The intuition. Someone leads, and the others take from it what comes next; an entry that a quorum
//! of voters holds durably is *committed* and never changes. Whoever leads next must therefore know
//! every committed entry, and whoever led before must know that it does not lead any more. The first
//! is a matter of quorums, which intersect; the second of time, which every node measures for itself.
//!
//! **Raft's log.** Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (2014).
//! An entry carries the ballot under which it was proposed. An append names the position before its
//! first entry; a follower that does not hold that position refuses, and says from where it needs the
//! rest (§5.3). "A leader never commits entries from previous terms by counting replicas" (§5.4.2):
//! what is counted must have the leader's own ballot, which is what its first, empty entry is for.
//!
//! **Paxos's election.** Ng, Haridi and Carbone, *Omni-Paxos: Breaking the Barriers of Partial
//! Connectivity* (2023), show that Raft stays without a leader for ever when the only node that still
//! reaches a quorum is behind in its log: it cannot win, and the others cannot either. Here a voter
//! *promises* a ballot whatever the candidate's log, and hands over what the candidate lacks. The
//! candidate takes the log whose last position is the greatest among a quorum of promises: every
//! committed entry is in one of them, since the quorums share a voter that accepted the entry before
//! it promised. That is Raft's up-to-date check, moved to the side that can do something about it.
//! Promises to a higher ballot replace those to a lower one, so votes are never split.
//!
//! **Who campaigns.** A voter that has heard no leader for [`Timing::election_us`] asks the others
//! first whether they would promise (Raft's pre-vote, §9.6 of Ongaro's dissertation, but without its
//! check of logs), and raises its ballot only if a quorum would. A voter that hears a leader says no:
//! a node that comes back from behind a cut disturbs nobody. Ballots stay as they are however many
//! messages are lost, as long as a quorum hears its leader.
//!
//! **Never two.** A leader counts as one only while a quorum has answered appends that it sent less
//! than a *lease* ago by its own clock; the lease is shorter than the time for which a voter that
//! answered refuses every candidate, by [`DRIFT_PERCENT`] of drift between the two clocks and more.
//! So a leader that is cut off has stopped, by its own clock and without hearing of it, before
//! another can begin. Where clocks are worse than that, the ballot still fences: what a leader that
//! is none any more appends is refused, and whoever uses a ballot or an index as a token sees an
//! older one.
//!
//! **Leaving office.** What ends a lead (`log/office.rs`) ends it before anybody else can know: then
//! the old leader's word replaces the time that others would have to wait. It *releases* the voters
//! when its lease is over, which shortens the cuts in which it still reaches somebody, such as that of
//! a deaf leader; it names a successor when it is asked to, or when its own disk hangs.
//!
//! **Cases.** A voter that restarts has forgotten whom it answered, and refuses candidates for as
//! long as if it had just answered one. A leader asked to hand over names its successor, stops, and
//! *releases* the voters, which then promise the successor without waiting. A witness votes and keeps
//! positions without data: it never leads, and a candidate for whose log only a witness could vouch
//! waits for a node that has the data. Nor does one that was a witness and is to be more: it takes its
//! new seat in the log only when it has forgotten the old one, and with it what it has no data of. A follower that lacks what the leader has dropped gets the
//! snapshot in pieces that it pulls. Members change one voter at a time, each change in force as soon
//! as it is in the log, and only after the leader has committed an entry of its own (§4.1 of the
//! dissertation, with the correction of 2015). A candidate may take over changes that it had not heard
//! of; then it needs the promises of a quorum of those members too, before it leads.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::machine::{Cx, Effects, Input, Machine, NodeId, Time, earliest};

mod election;
mod entries;
mod message;
mod office;
mod page;
mod replication;

use election::{Asking, Preparing};
use entries::Entries;
pub use entries::{MAX_BYTES_PER_MESSAGE, MAX_ENTRIES_PER_MESSAGE};
pub use message::{
    Ballot, Checkpoint, Entry, Members, Message, Payload, Piece, Position, Record, Snapshot,
};
pub use office::Outcome;
use office::{Transfer, Watch};
pub use page::Page;
use replication::Leading;

/// Voters and learners of one log, at most.
pub const MAX_MEMBERS: usize = 64;
/// Entries that a leader takes before the first of them is committed, at most.
pub const MAX_UNCOMMITTED: u64 = 1 << 16;
/// Reads that wait for a leader to be sure that it still is one, at most.
pub const MAX_READS: usize = 1 << 14;
/// The bytes of a snapshot that one message carries, at most.
pub const MAX_CHUNK: usize = 256 * 1024;
/// A snapshot of more bytes is refused.
pub const MAX_SNAPSHOT: u64 = 1 << 32;
/// By how much two clocks may differ in rate before a lease may outlive what protects it, in percent.
pub const DRIFT_PERCENT: u64 = 5;

/// How long things take, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// A leader says that it is there this often.
    pub heartbeat_us: u64,
    /// A voter that has answered a leader refuses every candidate for so long, and campaigns itself
    /// some time after. Several heartbeats and a round trip.
    pub election_us: u64,
}

impl Default for Timing {
    /// For a local network: 40 and 240 ms, so that another leads within half a second after a leader has
    /// died.
    fn default() -> Timing {
        Timing { heartbeat_us: 40_000, election_us: 240_000 }
    }
}

impl Timing {
    /// How long after sending an append its answer keeps a leader in office.
    #[must_use]
    pub const fn lease_us(self) -> u64 {
        self.election_us * (100 - 2 * DRIFT_PERCENT) / 100
    }
}

/// What the parent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Appends these, if this node leads: the event tells the index of the first.
    Propose {
        /// Comes back.
        ticket: u64,
        /// One entry each.
        data: Vec<Bytes>,
    },
    /// From which index on a read that begins now sees every write that was acknowledged before.
    Read {
        /// Comes back.
        ticket: u64,
        /// Whether the leader's clock is to be trusted; else a quorum is asked.
        by_lease: bool,
    },
    /// Who takes part from now on, if this node leads.
    Change {
        /// Comes back.
        ticket: u64,
        /// At most one voter more or less than now.
        members: Members,
    },
    /// Hands the lead over, to this voter or to the one that is least behind.
    HandOver {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Hands the lead over to this voter and to no other; an event tells what became of it.
    Transfer {
        /// Comes back.
        ticket: u64,
        /// To whom.
        to: NodeId,
    },
    /// The application lives: see [`Log::watched`].
    Alive,
    /// The state machine's state as of `index`, in place of the entries up to there.
    Compact {
        /// Applied so far.
        index: u64,
        /// The state.
        data: Bytes,
    },
    /// Begins to vote, as one of these, on a node that has no log yet.
    Found(Members),
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Somebody else leads, or nobody.
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too much waits already.
    Busy,
    /// The node that was named is no voter with data, or is this one, or a transfer is under way.
    CannotLead,
    /// The change is not one step, or another one is under way, or it makes no sense.
    BadChange,
}

/// What the parent is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This node leads: it knows all that was committed, and a quorum answers it.
    Leading(Ballot),
    /// This node has stopped to lead.
    Stopped(Ballot),
    /// Somebody else leads.
    Following(Ballot),
    /// What was proposed will be at these indices, if it is committed; the ballot tells.
    Proposed {
        /// As given.
        ticket: u64,
        /// Of the first, and under which ballot.
        first: Position,
    },
    /// A read may look at the state as of this index.
    Readable {
        /// As given.
        ticket: u64,
        /// At least this must be applied.
        index: u64,
    },
    /// What became of a transfer.
    Transferred {
        /// As given.
        ticket: u64,
        /// Who leads.
        outcome: Outcome,
    },
    /// A command was not carried out.
    Refused {
        /// As given.
        ticket: u64,
        /// Why.
        refusal: Refusal,
    },
    /// These are committed, and follow those before.
    Committed {
        /// Of the first.
        from: u64,
        /// In order.
        entries: Page,
    },
    /// The state as of a snapshot takes the place of the state machine's.
    Restore(Box<Snapshot>),
}

impl Event {
    /// Whether it overtakes the disk: that a lead is over must be known before another begins, also
    /// where a write hangs. That it begins is told the same way, so that the two never change places;
    /// it reveals a ballot that a quorum has promised durably, this node among them, and nothing
    /// else. A parent passes these on by [`Effects::emit_now`], and all others by
    /// [`Effects::emit`].
    #[must_use]
    pub fn at_once(&self) -> bool {
        matches!(self, Event::Leading(_) | Event::Stopped(_))
    }
}

/// What a node is at the moment.
#[derive(Clone, Debug, Hash)]
enum Role {
    Following,
    Asking(Asking),
    Preparing(Preparing),
    Leading(Leading),
}

/// One node's part in the log. See the [module](self).
#[derive(Clone, Debug, Hash)]
pub struct Log {
    timing: Timing,
    /// Higher campaigns earlier.
    priority: u8,
    /// By how much this node waits longer than it must before it campaigns, in microseconds.
    patience_us: u64,
    /// The highest ballot number that this node has heard of.
    seen: u64,
    entries: Entries,
    snapshot: Option<Snapshot>,
    promised: Ballot,
    commit: u64,
    /// What the parent has been told of.
    told: u64,
    /// Whose appends are taken, once it is known.
    leader: Option<Ballot>,
    /// The leader that may count on this node, if one may, and since when.
    bound: Option<Bound>,
    /// Whether this node may lead, by which members.
    may_lead: (u64, bool),
    /// When to campaign if nothing is heard.
    campaign_at: Option<Time>,
    role: Role,
    /// A lead that is on its way to another.
    transfer: Option<Transfer>,
    /// Whether the application must say that it lives.
    watch: Option<Watch>,
    /// A snapshot on its way here.
    incoming: Option<Incoming>,
    /// Restored records are missing, unless a snapshot stands for them.
    gap: bool,
    started: bool,
}

/// A voter that has answered a leader refuses all candidates for an election timeout.
#[derive(Clone, Copy, Debug, Hash)]
struct Bound {
    /// Whom it answered; `None` if it has forgotten, in a restart.
    leader: Option<Ballot>,
    since: Time,
}

#[derive(Clone, Debug, Hash)]
struct Incoming {
    at: Position,
    members: Members,
    data: Vec<u8>,
}

/// What a step works with.
struct Step<'a> {
    cx: Cx,
    fx: &'a mut dyn Effects<Log>,
}

impl Step<'_> {
    fn tell(&mut self, event: Event) {
        match event.at_once() && !bug!(stopped_behind_the_disk) {
            true => self.fx.emit_now(event),
            false => self.fx.emit(event),
        }
    }

    fn refuse(&mut self, ticket: u64, refusal: Refusal) {
        self.fx.emit(Event::Refused { ticket, refusal });
    }
}

impl Log {
    /// A node without a log. Its parent restores what it kept, or founds, or lets it be invited.
    #[must_use]
    pub fn new(timing: Timing, priority: u8) -> Log {
        assert!(
            timing.heartbeat_us * 2 < timing.election_us,
            "a lost heartbeat would depose a leader"
        );
        Log {
            timing,
            priority,
            patience_us: 0,
            seen: 0,
            entries: Entries::new(Members::default()),
            snapshot: None,
            promised: Ballot::ZERO,
            commit: 0,
            told: 0,
            leader: None,
            bound: None,
            may_lead: (0, false),
            campaign_at: None,
            role: Role::Following,
            transfer: None,
            watch: None,
            incoming: None,
            gap: false,
            started: false,
        }
    }

    /// The same, where the application says [`Command::Alive`] at least this often; if it does not, it
    /// hangs, and the node neither campaigns nor leads on, so that another can take its place.
    #[must_use]
    pub fn watched(mut self, within_us: u64) -> Log {
        self.watch = Some(Watch { within_us, until: Time::ZERO });
        self
    }

    /// The ballot under which this node leads at `now`, if it does: committed entry and lease.
    #[must_use]
    pub fn leads(&self, now: Time) -> Option<Ballot> {
        match &self.role {
            Role::Leading(leading) if leading.told && now <= leading.lease_until => {
                Some(leading.ballot)
            }
            _ => None,
        }
    }

    /// Whose appends this node takes.
    #[must_use]
    pub fn leader(&self) -> Option<Ballot> {
        self.leader
    }

    /// The highest ballot that this node has promised.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Up to here nothing changes any more.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.entries.last()
    }

    /// Who takes part, as of the end of the log.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.entries.members()
    }

    /// The index of the last change of who takes part.
    #[must_use]
    pub fn members_since(&self) -> u64 {
        self.entries.members_since()
    }

    /// What the latest snapshot covers.
    #[must_use]
    pub fn base(&self) -> Position {
        self.entries.base()
    }

    /// How far another's log is known to be this leader's, durably.
    #[must_use]
    pub fn matched(&self, node: &NodeId) -> Option<u64> {
        match &self.role {
            Role::Leading(leading) => leading.matched(node),
            _ => None,
        }
    }

    /// An entry that is at hand.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Whether this node, which is or was a witness, holds positions without their data: then it neither
    /// leads nor hands on what it has, whatever seat its log gives it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let blank = |snapshot: &Snapshot| snapshot.at.index > 0 && snapshot.data.is_empty();
        self.entries.may_be_blank() || self.snapshot.as_ref().is_some_and(blank)
    }

    /// How many entries are at hand, not yet covered by a snapshot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn start(&mut self, step: &mut Step<'_>) {
        assert!(!self.gap, "the journal lacks records that no snapshot stands for");
        self.started = true;
        // Whom it answered in an earlier life it has forgotten: it waits as if it had just now.
        self.bound = Some(Bound { leader: None, since: step.cx.now });
        bug!(restart_forgets_its_answers => self.bound = None);
        self.lives(step.cx.now);
        self.commit = self.commit.max(self.entries.base().index);
        self.told = self.told.max(self.entries.base().index);
        self.schedule_campaign(step);
        if let Some(snapshot) = &self.snapshot {
            step.fx.emit(Event::Restore(Box::new(snapshot.clone())));
        }
    }

    fn found(&mut self, step: &mut Step<'_>, members: Members) {
        if self.entries.members().voters.is_empty() && members.valid() {
            let snapshot = Snapshot { at: Position::ZERO, members, data: Bytes::new() };
            self.keep(step, snapshot);
            self.schedule_campaign(step);
        }
    }

    /// Takes a snapshot, and writes down all that this node must remember from now on.
    fn keep(&mut self, step: &mut Step<'_>, snapshot: Snapshot) {
        self.take(snapshot.clone());
        let tail = if bug!(checkpoint_without_tail) { Vec::new() } else { self.entries.pages() };
        let promised = if bug!(checkpoint_without_promise) { Ballot::ZERO } else { self.promised };
        let checkpoint = Checkpoint { snapshot, promised, tail };
        step.fx.persist(Record::Snapshot(Box::new(checkpoint)));
    }

    /// Puts a snapshot in the place of what it covers.
    fn take(&mut self, snapshot: Snapshot) {
        let at = snapshot.at;
        let agrees = self.entries.ballot(at.index) == Some(at.ballot);
        if self.entries.last_index() > at.index && (agrees || bug!(snapshot_keeps_the_tail)) {
            self.entries.compact(at.index);
        } else {
            self.entries.reset(at, snapshot.members.clone());
        }
        self.commit = self.commit.max(at.index);
        self.snapshot = Some(snapshot);
    }

    fn compact(&mut self, step: &mut Step<'_>, index: u64, data: Bytes) {
        if index > self.told || index <= self.entries.base().index {
            return;
        }
        let Some(ballot) = self.entries.ballot(index) else { return };
        let members = self.entries.members_at(index).clone();
        let snapshot = Snapshot { at: Position { ballot, index }, members, data };
        self.keep(step, snapshot);
    }

    /// Takes the entries that follow `after` in another's log; whether they fit. Only from the first
    /// that differs on is anything replaced: what agrees may be committed, and a piece of a log ends
    /// somewhere.
    fn merge(&mut self, step: &mut Step<'_>, after: u64, entries: Page) -> bool {
        if after == self.entries.last_index() {
            self.write(step, after, entries);
            return true;
        }
        let agrees = |(n, entry): &(usize, &Entry)| {
            let index = after + 1 + *n as u64;
            index <= self.entries.base().index || self.entries.ballot(index) == Some(entry.ballot)
        };
        let same = entries.iter().enumerate().take_while(agrees).count();
        let from = after + same as u64;
        bug!(any_append_truncates => self.entries.truncate(from.max(self.commit)));
        if same == entries.len() {
            return true;
        }
        // No leader that keeps to the protocol contradicts what is committed.
        if from < self.commit || from > self.entries.last_index() {
            return false;
        }
        self.write(step, from, entries.after(same));
        true
    }

    /// Writes entries after `after`, in place of whatever follows there.
    fn write(&mut self, step: &mut Step<'_>, after: u64, entries: Page) {
        assert!(after >= self.commit, "what is committed never changes");
        if entries.is_empty() {
            return;
        }
        self.entries.truncate(after);
        self.entries.push(entries.clone());
        step.fx.persist(Record::Entries { from: after + 1, entries });
    }

    /// Tells the parent what has been committed since.
    fn tell_committed(&mut self, step: &mut Step<'_>) {
        while self.told < self.commit {
            let entries = self.entries.run(self.told, self.commit);
            assert!(!entries.is_empty(), "what is committed is at hand");
            let from = self.told + 1;
            self.told += entries.len() as u64;
            step.fx.emit(Event::Committed { from, entries });
        }
    }

    /// Who leads, if it is another.
    fn not_leader(&self, me: NodeId) -> Refusal {
        let leader = self.leader.map(|ballot| ballot.node);
        Refusal::NotLeader { leader: leader.filter(|node| *node != me) }
    }

    fn command(&mut self, step: &mut Step<'_>, command: Command) {
        match command {
            Command::Propose { ticket, data } => self.propose(step, ticket, data),
            Command::Read { ticket, by_lease } => self.read(step, ticket, by_lease),
            Command::Change { ticket, members } => self.change(step, ticket, members),
            Command::HandOver { to } => self.hand_over(step, to),
            Command::Transfer { ticket, to } => self.transfer(step, ticket, to),
            Command::Alive => self.lives(step.cx.now),
            Command::Compact { index, data } => self.compact(step, index, data),
            Command::Found(members) => self.found(step, members),
        }
    }

    fn message(&mut self, step: &mut Step<'_>, from: NodeId, message: Message) {
        match message {
            Message::Ask { ballot } => self.asked(step, from, ballot),
            Message::Answer { ballot, granted, promised } => {
                self.answered(step, from, ballot, granted, promised);
            }
            Message::Prepare { ballot, last, commit, released } => {
                self.prepared(step, from, ballot, last, commit, released.as_deref().copied());
            }
            Message::Promise { ballot, last, after, tail } => {
                self.promise(step, from, ballot, last, after, tail);
            }
            Message::Refuse { ballot, promised } => self.refused(step, ballot, promised),
            Message::Fetch { ballot, after } => self.fetch(step, from, ballot, after),
            Message::Tail { ballot, after, entries } => {
                self.tail(step, from, ballot, after, entries);
            }
            Message::Append { ballot, after, entries, commit, sent } => {
                let append = replication::Append { ballot, after, entries, commit, sent };
                self.append(step, from, append);
            }
            Message::Appended { ballot, matched, sent } => {
                self.appended(step, from, ballot, matched, sent);
            }
            Message::Durable { ballot, index } => self.durable(step, from, ballot, index),
            Message::Chunk { ballot, piece } => self.chunk(step, from, ballot, *piece),
            Message::Pull { ballot, at, offset } => self.pull(step, from, ballot, at, offset),
            Message::Released { ballot } => self.released(step, from, ballot),
            Message::TakeOver { ballot } => self.take_over(step, from, ballot),
        }
    }
}

impl Machine for Log {
    type Message = Message;
    type Record = Record;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Record) {
        match record {
            Record::Promised(ballot) => self.promised = self.promised.max(ballot),
            Record::Entries { from, entries } => {
                // A journal that drops what a snapshot covers need not drop all of it.
                if from > self.entries.last_index() + 1 {
                    self.gap = true;
                    return;
                }
                self.entries.truncate(from - 1);
                self.entries.push(entries);
                self.promised = self.promised.max(self.entries.last().ballot);
            }
            Record::Snapshot(checkpoint) => {
                let Checkpoint { snapshot, promised, tail } = *checkpoint;
                self.gap = false;
                self.promised = self.promised.max(promised);
                self.entries.reset(snapshot.at, snapshot.members.clone());
                tail.into_iter().for_each(|page| self.entries.push(page));
                self.commit = self.commit.max(snapshot.at.index);
                self.snapshot = Some(snapshot);
            }
        }
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let step = &mut Step { cx, fx };
        // Whatever woke this node may have come late: first of all, does it still lead?
        self.expire(step);
        if !matches!(input, Input::Command(Command::Alive)) {
            self.overdue(step);
        }
        match input {
            Input::Start => self.start(step),
            Input::Message { from, message } => self.message(step, from, message),
            Input::Command(command) => self.command(step, command),
            Input::Tick => self.tick(step),
            // Every answer is waited for with a timeout of its own.
            Input::Link { .. } => {}
        }
        self.tell_committed(step);
    }

    fn deadline(&self) -> Option<Time> {
        let of_role = match &self.role {
            Role::Following => self.campaign_at,
            Role::Asking(asking) => Some(asking.until),
            Role::Preparing(preparing) => Some(preparing.until),
            Role::Leading(leading) => {
                earliest(Some(leading.heartbeat_at), Some(leading.lease_until.after_us(1)))
            }
        };
        earliest(of_role, self.office_deadline())
    }

    fn check(&self) {
        assert!(self.told <= self.commit, "told of what is not committed");
        assert!(self.commit <= self.entries.last_index(), "committed what is not there");
        assert!(self.entries.last().ballot <= self.promised, "took an entry it had not promised");
        if let Role::Leading(leading) = &self.role {
            assert!(leading.ballot == self.promised, "leads under a ballot that is not the last");
        }
        self.entries.check();
    }
}
