//! A cluster: a few nodes of a mesh that agree on a registry, whoever of them is asked.
//!
//! The [log] decides who leads and in what order things happen; the [registry](crate::registry) what
//! they come to. This machine puts the two together and answers whoever asks.
//!
//! **Asking.** A client asks its own node, and that node answers by the request's deadline, whatever
//! happens. If it does not lead, it passes the request on to who does: one hop, never two. The leader
//! proposes, and answers once it has applied the entry. Meanwhile the asking node reads the same log,
//! and knows its request again by its [`Origin`](crate::registry::Origin): so if the leader dies after the entry was committed,
//! the asking node answers from its own registry. And if an entry under a *higher* ballot is
//! committed first, the request will never be: along a log ballots never fall, and the leader under the
//! old one was asked under that ballot only. It is then asked for again, under the new one. Only where
//! neither is known by the deadline, the answer is [`Error::Unknown`].
//!
//! **Reading.** What a read sees must be as new as the last write that was acknowledged before it. The
//! leader learns from a quorum that it still leads (Raft's ReadIndex, §6.4 of Ongaro's dissertation:
//! "if the leader has not yet marked an entry from its current term committed, it waits until it has
//! done so"), or trusts its lease; no disk is written. Or the node asked answers from what it has.
//!
//! **The log's clock.** A lease's time must not depend on whose clock it is measured by. Every proposal
//! carries the log's clock as its leader reckons it: what it was when the leader had applied its first
//! entry, and the leader's own monotonic time since. So it never goes back, runs no faster than the
//! leader's clock, and stands still while nobody leads: a change of leader neither starts a lease's time
//! anew, as in etcd (#9395), nor shortens one. While there are leases the leader proposes a *beat* every
//! [`BEAT_MS`], which carries the renewals that came meanwhile, so that keeping a lease alive is no
//! write of its own; and one more when the first lease's time is over. Its holder counts for itself, by
//! its own clock, and stops earlier: see [`Guard`].
//!
//! **Membership.** A cluster begins with one node, which draws its id. Every message carries that id,
//! and nodes of other clusters ignore it. Whoever is added is sent the log, answers that it is in no
//! cluster, and is told since when it is in this one. A new voter learns first, and is promoted by
//! whoever leads once it has caught up; members change one step at a time. A node that is no member any
//! more, and asks, is told so: by whoever knows, as of an index that is not older than its own joining.
//!
//! **Watches** are each node's own business: they read its registry's history, revision by revision,
//! and wait where that ends. A slow reader costs nothing but its place.
//!
//! **What is kept** are the log's records, and between them which cluster they belong to. The record of a
//! snapshot holds all that the log must remember, and which cluster it is is written again behind it: so
//! all that comes before the last snapshot can go.
//!
//! The parts: `requests` is what a node does with what it is asked; `leading`, what the leader does with
//! what everybody is asked; `applying`, what becomes of committed entries; `members`, who takes part;
//! `aside`, what a node does whose journal may be an old copy: nothing.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::log::{self, Ballot, Log, Members, Timing};
use crate::machine::{Cx, Effects, Input, Machine, NodeId, Time, earliest};
use crate::registry::Registry;

mod applying;
mod aside;
mod guard;
mod leading;
mod members;
mod message;
mod requests;
mod served;
mod status;
#[cfg(test)]
mod tests;
mod watches;

use applying::{Due, Marked};
use aside::Aside;
pub use guard::{Guard, Loss};
use leading::{Asker, Leading};
pub use message::{
    Answer, Asked, Body, ClusterId, Command, Counters, Error, Event, Forwarded, Health,
    MemberStatus, Message, Read, Record, Request, Role, Seat, Standing, Status, WatchEnd,
    WatchUpdate,
};
use requests::Requests;
use served::Served;
use watches::Watches;

/// The longest time that a request may take, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 60 * 60 * 1_000;
/// The most requests of this node's clients that wait for an answer.
pub const MAX_PENDING: usize = 1 << 14;
/// The most requests that wait at a leader for what is no entry of theirs: reads, renewals, changes of
/// members.
pub const MAX_WAITING: usize = 1 << 14;
/// The longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The most watches on a node.
pub const MAX_WATCHES: usize = 1_024;
/// The most updates on their way to a watch's reader.
pub const WINDOW: usize = 256;
/// A learner that lacks no more entries than this may vote.
pub const CAUGHT_UP: u64 = 64;
/// While there are leases, the log's clock is told at least this often, in milliseconds.
pub const BEAT_MS: u64 = 500;
/// A renewal waits at most so long for others, in milliseconds.
pub const COLLECT_MS: u64 = 20;
/// What certainly was not proposed is asked for again after so long, in milliseconds, if nothing
/// happens before; and what does no harm twice, after ten times that.
pub const RETRY_MS: u64 = 50;
/// A member that hears no leader asks this often whether it still is one, in milliseconds.
pub const HELLO_MS: u64 = 5_000;

/// Entries of so many bytes give way to a snapshot though they are fewer than
/// [`Config::compact_entries`].
pub const COMPACT_BYTES: u64 = 64 << 20;
/// No more bytes of entries than this are kept behind a snapshot, whatever [`Config::keep_entries`] is.
pub const KEEP_BYTES: u64 = 16 << 20;

/// How a cluster's node is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long elections take.
    pub timing: Timing,
    /// Higher campaigns earlier.
    pub priority: u8,
    /// After so many entries, or [`COMPACT_BYTES`] of them, a snapshot takes their place, if they are
    /// worth it: if they have at least half the bytes of the state, or are sixteen times as many. To
    /// write one takes a node some milliseconds for each megabyte of the state, in which it does nothing
    /// else, and all its members do so at about the same time: so it should be rare.
    pub compact_entries: u64,
    /// So many of them are kept for those who are a little behind.
    pub keep_entries: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            timing: Timing::default(),
            priority: 0,
            compact_entries: 131_072,
            keep_entries: 4_096,
        }
    }
}

/// A node's part in a cluster. See the [module](self).
#[derive(Clone, Debug)]
pub struct Cluster {
    config: Config,
    /// This node, once it is started.
    me: NodeId,
    started: bool,
    /// Which cluster; none while it is in none.
    id: Option<ClusterId>,
    /// Who waits for this node to lead a cluster that it has made.
    founding: Option<u64>,
    /// The index of its log since which it is a member.
    since: u64,
    /// The last cluster that it left, and as of which index.
    left: Option<(ClusterId, u64)>,
    /// The state cannot be read: no part is taken.
    halted: bool,
    /// The journal may be an old copy: no part is taken.
    aside: Option<Aside>,
    log: Log,
    registry: Registry,
    /// Who takes part, as committed, and since when.
    members: (u64, Members),
    /// Where the log says that it is no member, since it became one.
    gone: Option<u64>,
    /// The ballot of the last entry applied.
    applied: Ballot,
    /// What becomes of entries that were proposed here, by index.
    due: BTreeMap<u64, Due>,
    /// The state that a snapshot is to be made of.
    marked: Option<Marked>,
    /// Bytes of the entries since the last snapshot.
    bytes: u64,
    leading: Option<Leading>,
    requests: Requests,
    served: Served,
    watches: Watches,
    /// To whom there are links.
    links: BTreeSet<NodeId>,
    /// When to ask whether it still is a member.
    hello_at: Option<Time>,
    told_leader: Option<Ballot>,
    told_health: Health,
    tickets: u64,
    counters: Counters,
}

/// What a step works with.
struct Step<'a> {
    cx: Cx,
    fx: &'a mut dyn Effects<Cluster>,
    bus: VecDeque<log::Event>,
    /// What goes to whom at the end.
    answers: BTreeMap<(NodeId, u64, Ballot), Vec<Answer>>,
    forwards: BTreeMap<(NodeId, Ballot), Vec<Forwarded>>,
    /// Whether members may be changed now, as far as was tried.
    unsettled: bool,
}

impl Step<'_> {
    /// What is told rests on what a quorum holds durably, or on nothing: it need not wait for this
    /// node's disk.
    fn tell(&mut self, event: Event) {
        self.fx.emit_now(event);
    }
}

impl Cluster {
    /// A node that is in no cluster.
    #[must_use]
    pub fn new(config: Config) -> Cluster {
        Cluster {
            config,
            me: NodeId([0; 32]),
            started: false,
            id: None,
            founding: None,
            since: 0,
            left: None,
            halted: false,
            aside: None,
            log: Log::new(config.timing, config.priority),
            registry: Registry::default(),
            members: (0, Members::default()),
            gone: None,
            applied: Ballot::ZERO,
            due: BTreeMap::new(),
            marked: None,
            bytes: 0,
            leading: None,
            requests: Requests::default(),
            served: Served::default(),
            watches: Watches::default(),
            links: BTreeSet::new(),
            hello_at: None,
            told_leader: None,
            told_health: Health::Outside,
            tickets: 0,
            counters: Counters::default(),
        }
    }

    /// Which cluster this node is in.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        self.id
    }

    /// What this node has applied.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The log below.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The ballot under which this node leads at `now`, if it does.
    #[must_use]
    pub fn leads(&self, now: Time) -> Option<Ballot> {
        self.log.leads(now)
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn command(&mut self, step: &mut Step<'_>, command: Command) {
        match command {
            Command::Init { ticket } => self.init(step, ticket),
            Command::Ask(asked) => asked.into_iter().for_each(|asked| self.asked(step, asked)),
            Command::Watch { watch, target, from } => self.watch(step, watch, target, from),
            Command::Taken { watch, count } => self.watches.taken(watch, count),
            Command::Unwatch(watch) => self.watches.end(watch),
            // It does already.
            Command::TakePart => {}
        }
    }

    fn message(&mut self, step: &mut Step<'_>, from: NodeId, message: Message) {
        let Message { cluster, body } = message;
        if self.id != Some(cluster) {
            return self.of_another_cluster(step, from, cluster, &body);
        }
        match body {
            Body::Log(message) => {
                let campaigns =
                    matches!(message, log::Message::Ask { .. } | log::Message::Prepare { .. });
                self.feed(step, Input::Message { from, message });
                if campaigns {
                    self.tell_if_removed(step, from);
                }
            }
            Body::Requests { life, ballot, requests } => {
                self.serve_guests(step, from, life, ballot, requests);
            }
            Body::Answers { life, ballot, answers } => self.answered(step, life, ballot, answers),
            Body::Stranger => self.invite(step, from),
            Body::Hello => self.tell_if_removed(step, from),
            Body::Removed { at } => self.told_removed(step, at),
            Body::Join { .. } => {}
        }
    }

    fn heard(&mut self, step: &mut Step<'_>, event: log::Event) {
        match event {
            log::Event::Leading(ballot) => self.begin_to_lead(step, ballot),
            log::Event::Stopped(ballot) => self.stop_leading(step, ballot),
            // Whether the lead was handed over is seen by who leads next.
            log::Event::Following(_) | log::Event::Transferred { .. } => {}
            log::Event::Proposed { ticket, first } => self.proposed(ticket, first),
            log::Event::Readable { ticket, index } => self.readable(ticket, index),
            log::Event::Refused { ticket, refusal } => self.not_proposed(step, ticket, refusal),
            log::Event::Committed { from, entries } => self.committed(step, from, &entries),
            log::Event::Restore(snapshot) => self.restored(step, *snapshot),
        }
    }

    /// Gives the log an input. What it tells waits on the bus.
    fn feed(&mut self, step: &mut Step<'_>, input: Input<Log>) {
        let Some(cluster) = self.id else { return };
        let base = self.log.base().index;
        let mut within = Within { cluster, fx: &mut *step.fx, bus: &mut step.bus };
        self.log.handle(step.cx, input, &mut within);
        if self.log.base().index > base {
            self.write_behind_snapshot(step);
        }
    }

    /// Does what the step has led to, until nothing is left.
    fn settle(&mut self, step: &mut Step<'_>) {
        loop {
            while let Some(event) = step.bus.pop_front() {
                self.heard(step, event);
            }
            self.lead(step);
            self.route_idle(step);
            self.flush(step);
            if step.bus.is_empty() {
                break;
            }
        }
        self.leave_if_removed(step);
        self.compact_if_due(step);
        self.observe(step);
        self.send_batches(step);
        self.pump(step);
    }

    /// What goes to one node goes together.
    fn send_batches(&mut self, step: &mut Step<'_>) {
        let Some(cluster) = self.id else { return };
        for ((to, life, ballot), answers) in core::mem::take(&mut step.answers) {
            for answers in requests::batches(answers, requests::answer_bytes) {
                let body = Body::Answers { life, ballot, answers };
                step.fx.send_now(to, Message { cluster, body });
            }
        }
        let life = self.requests.life();
        for ((to, ballot), requests) in core::mem::take(&mut step.forwards) {
            let bytes = |forwarded: &Forwarded| requests::request_bytes(&forwarded.request);
            for requests in requests::batches(requests, bytes) {
                let body = Body::Requests { life, ballot, requests };
                step.fx.send_now(to, Message { cluster, body });
            }
        }
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        if self.id.is_some() && self.log.deadline().is_some_and(|at| at <= now) {
            self.feed(step, Input::Tick);
        }
        self.time_out(step);
        if self.hello_at.is_some_and(|at| at <= now) {
            self.hello_at = Some(now.after_ms(HELLO_MS));
            self.say_hello(step);
        }
    }
}

/// The log's effects, in this cluster's name; its events stop on the bus.
struct Within<'a> {
    cluster: ClusterId,
    fx: &'a mut dyn Effects<Cluster>,
    bus: &'a mut VecDeque<log::Event>,
}

impl Effects<Log> for Within<'_> {
    fn persist(&mut self, record: log::Record) {
        self.fx.persist(Record::Log(record));
    }
    fn send(&mut self, to: NodeId, message: log::Message) {
        self.fx.send(to, Message { cluster: self.cluster, body: Body::Log(message) });
    }
    fn send_now(&mut self, to: NodeId, message: log::Message) {
        self.fx.send_now(to, Message { cluster: self.cluster, body: Body::Log(message) });
    }
    fn emit(&mut self, event: log::Event) {
        self.bus.push_back(event);
    }
    fn emit_now(&mut self, event: log::Event) {
        self.bus.push_back(event);
    }
}

impl Machine for Cluster {
    type Message = Message;
    type Record = Record;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Record) {
        match record {
            Record::Log(record) => self.log.restore(record),
            Record::Joined { cluster, since } => (self.id, self.since) = (Some(cluster), since),
            Record::Left { cluster, at } => self.forget(cluster, at),
        }
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let (bus, answers, forwards) = Default::default();
        let mut step = Step { cx, fx, bus, answers, forwards, unsettled: false };
        match input {
            input if self.aside.is_some() => self.reach_aside(&mut step, input),
            Input::Start => self.start(&mut step),
            Input::Command(command) => self.command(&mut step, command),
            Input::Link { peer, up } => self.linked(&mut step, peer, up),
            Input::Message { .. } | Input::Tick if self.halted => {}
            Input::Message { from, message } => self.message(&mut step, from, message),
            Input::Tick => self.tick(&mut step),
        }
        self.settle(&mut step);
    }

    fn deadline(&self) -> Option<Time> {
        if self.halted || !self.started {
            return None;
        }
        if self.aside.is_some() {
            return self.hello_at;
        }
        let log = self.id.and_then(|_| self.log.deadline());
        let leading = self.leading.as_ref().and_then(|leading| leading.beat_at(&self.registry));
        [log, leading, self.requests.deadline(), self.hello_at].into_iter().fold(None, earliest)
    }

    fn check(&self) {
        self.log.check();
        self.registry.check();
        self.requests.check();
        assert!(self.halted || self.registry.revision() <= self.log.commit());
        assert!(self.id.is_some() || self.leading.is_none(), "who is in no cluster leads none");
        let past = self.due.first_key_value().map(|(index, _)| *index);
        assert!(past.is_none_or(|index| index > self.registry.revision()), "answered at once");
    }
}
