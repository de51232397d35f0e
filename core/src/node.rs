//! The node: one machine, composed of all the others, around a store.
//!
//! The protocols know nothing of each other. The node routes what they say: an entry that waits becomes
//! a gap to fill; a difference that sync found becomes a range to transfer, or a fork to hunt; what was
//! applied becomes news for the peers, an update for the watches, and a moved tip for the next sync.
//!
//! - [`links`](self): who is there. The handshake opens a peer; membership decides whether it stays; the
//!   failure detector closes it. Only an open peer is listened to.
//! - `data`: what comes in and goes out. Every decision of the [`Store`] passes here and becomes records,
//!   messages and events, in that order, so nothing is told before it is durable.
//! - `forks`: two accounts of one chain, from suspicion to proof.
//!
//! Beside the store, and without a word to it, a node may take part in a [`Cluster`]: that one hears of
//! open peers alone, too, and keeps records of its own.
//!
//! **After a restore from a backup** a node is behind its own chain, and its next write would fork it.
//! It cannot tell by itself. So after a start it first learns its own tip from a peer: writes wait until
//! a sync shows that a peer holds no more of its chain than it does, or, if nobody is there, until
//! [`OWN_TIP_WAIT_MS`] have passed. Where the log is damaged, or the host can tell that the disk is an old
//! copy ([`Config::suspect`]), any member may be the only one that holds what was lost, and writes are
//! refused until each of them has been found equal, or the operator says to go on.
//!
//! The order of a step: the input goes to whom it is for; the bus of child events is drained; then what
//! moved is passed on (tips, pages, watches, forgotten records), until nothing is left.

mod data;
mod forks;
mod links;
mod message;
mod status;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::cluster::{self, Cluster};
use crate::detector::{self, Detector};
use crate::entry::Entry;
use crate::gap::{self, Gaps};
use crate::handshake::{self, Handshake};
use crate::hash::Hash;
use crate::identity::{Identity, Verify};
use crate::machine::{Cx, Effects, Input, Lift, Machine, Never, NodeId, Time, earliest};
use crate::spread::Spread;
use crate::store::{Change, Refusal, Store};
use crate::sync::{self, Sync};
use crate::transfer::Transfer;
use crate::watch::Watches;

pub use message::{
    Body, Command, Contact, Disconnect, Event, Holds, JoinError, Message, Notice, Record, Shown,
    StoreRecord, WatchUpdate,
};
pub use status::{PeerStatus, Status};

/// How long a start waits to learn its own tip from a peer before it writes, in milliseconds.
pub const OWN_TIP_WAIT_MS: u64 = 2_000;
/// How long it waits at most, while peers are there but none has been found equal, in milliseconds.
pub const OWN_TIP_WAIT_MAX_MS: u64 = 10_000;
/// The most writes that wait for that.
pub const MAX_WAITING_WRITES: usize = 1024;
/// The most reads of bodies under way.
pub const MAX_READS: usize = 4096;
/// The most addresses remembered.
pub const MAX_CONTACTS: usize = 1024;
/// The most addresses told to a peer at once.
pub const MAX_CONTACTS_SENT: usize = 64;
/// The most refused entries that a peer may bring within [`STRIKES_MS`].
pub const MAX_STRIKES: u32 = 64;
/// For how long refused entries are held against a peer, in milliseconds.
pub const STRIKES_MS: u64 = 60_000;
/// The most sides of forks that are read for peers at once, one for each peer.
pub const MAX_STORIES: usize = 4;
/// How often parked entries are looked at, in milliseconds.
pub const UNPARK_MS: u64 = 1_000;

/// What a node is given by its host.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its key pair.
    pub identity: Identity,
    /// How it checks signatures.
    pub verify: Verify,
    /// Where it tells others that it listens.
    pub address: Option<String>,
    /// Whether the host has reason to believe that the disk is an old copy: then nothing is written
    /// until a peer has shown that nothing is lacking, or [`Command::TrustDisk`].
    pub suspect: bool,
}

/// A node of a mesh.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
    store: Option<Store>,
    handshake: Handshake,
    detector: Detector,
    sync: Sync,
    gaps: Gaps,
    transfer: Transfer,
    spread: Spread,
    watches: Watches,
    cluster: Cluster,
    /// The peers that are there and accepted.
    open: BTreeMap<NodeId, Peer>,
    /// Where members were met, and the record that says so; none for those whom the ticket named.
    contacts: BTreeMap<NodeId, (Contact, Option<u64>)>,
    /// Whom to trust while nothing is known of the store's members.
    bootstrap: BTreeSet<NodeId>,
    guard: Guard,
    /// The peers found equal since the start.
    equal: BTreeSet<NodeId>,
    waiting: VecDeque<(u64, Vec<Change>)>,
    reads: BTreeMap<u64, (Vec<u64>, Reading)>,
    next_read: u64,
    forgotten: Vec<u64>,
    /// The position after that of the last record.
    logged: u64,
    unpark_at: Option<Time>,
    /// How many records were found to hold something else than was written.
    damaged: u64,
    /// Where the log was found damaged when it was read.
    holes: Vec<u64>,
    /// When the node was started.
    started: Time,
    refused: BTreeMap<Refusal, u64>,
    disconnected: BTreeMap<Disconnect, u64>,
}

/// Whether this node may add to its own chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Not started.
    Down,
    /// Waiting to learn its own tip from a peer, until then if nobody is there.
    Learning(Time),
    /// Joined: waiting to learn whether the key it joined with has written here before.
    Joining,
    /// The disk may be an old copy: waiting until every member has been heard.
    Suspect,
    /// Its own chain is whole, as far as can be known.
    Whole,
}

/// What is remembered of an open peer.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// How many of the entries it brought were refused, and since when they are counted.
    strikes: u32,
    counted_from: Time,
    /// Whether the transfer that it is sending has brought anything new.
    brought: bool,
}

/// What bodies are read for.
#[derive(Clone, Debug)]
enum Reading {
    /// A page of a transfer.
    Page { peer: NodeId, serial: u64 },
    /// This node's side of a fork, for a peer.
    Story { peer: NodeId, author: NodeId, seq: u64 },
    /// This node's side of a fork, to be put together with the other.
    Proof { author: NodeId, theirs: Vec<Bytes> },
}

/// What the children tell.
enum Heard {
    Handshake(handshake::Event),
    Detector(detector::Event),
    Sync(sync::Event),
    Gap(gap::Event),
    Cluster(cluster::Event),
}

/// What one step works with.
struct Step<'a> {
    cx: Cx,
    fx: &'a mut dyn Effects<Node>,
    bus: VecDeque<Heard>,
}

impl Step<'_> {
    fn notice(&mut self, notice: Notice) {
        self.fx.emit(Event::Notice(notice));
    }
}

impl Node {
    /// A node without a store.
    #[must_use]
    pub fn new(config: Config) -> Node {
        let introduction = handshake::Config::new(Hash::ZERO, config.address.clone());
        Node {
            config,
            store: None,
            handshake: Handshake::new(introduction),
            detector: Detector::new(),
            sync: Sync::default(),
            gaps: Gaps::default(),
            transfer: Transfer::default(),
            spread: Spread::default(),
            watches: Watches::default(),
            cluster: Cluster::new(cluster::Config::default()),
            open: BTreeMap::new(),
            contacts: BTreeMap::new(),
            bootstrap: BTreeSet::new(),
            guard: Guard::Down,
            equal: BTreeSet::new(),
            waiting: VecDeque::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            forgotten: Vec::new(),
            logged: 0,
            unpark_at: None,
            damaged: 0,
            holes: Vec::new(),
            started: Time::ZERO,
            refused: BTreeMap::new(),
            disconnected: BTreeMap::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.identity.id()
    }

    /// Sets its cluster up otherwise than by default; before anything is restored.
    pub fn configure_cluster(&mut self, config: cluster::Config) {
        self.cluster = Cluster::new(config);
    }

    /// Takes no part in its cluster, because the journal may be an old copy; after it was set up.
    pub fn stand_aside(&mut self) {
        self.cluster.stand_aside();
    }

    /// Its part in a cluster, if it is in one.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its store, once it has one.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    fn start(&mut self, step: &mut Step<'_>) {
        let Cx { now, .. } = step.cx;
        self.started = now;
        self.feed_handshake(step, Input::Start);
        self.feed_detector(step, Input::Start);
        self.feed_sync(step, Input::Start);
        self.feed_gap(step, Input::Start);
        self.feed_cluster(step, Input::Start);
        if let Some(store) = &mut self.store {
            store.restored(now);
            let network = store.id();
            self.unpark_at = (store.orphans().parked() > 0).then_some(now);
            self.feed_handshake(step, Input::Command(handshake::Command::Network(network)));
        }
        let alone = self.contacts.is_empty() && self.bootstrap.is_empty() && self.knows_nobody();
        let suspect = self.config.suspect && !bug!(restored_disk_trusted);
        self.guard = match (suspect || self.damaged > 0, alone) {
            (true, _) => Guard::Suspect,
            (false, true) => Guard::Whole,
            (false, false) if !self.is_known() => Guard::Joining,
            (false, false) => Guard::Learning(now.after_ms(OWN_TIP_WAIT_MS)),
        };
        if self.damaged == 0 {
            self.forget_removed(step);
        }
        for (contact, _) in self.contacts.values() {
            step.fx.emit(Event::Dial { contact: contact.clone(), told_by: None });
        }
    }

    /// Whether the store has no other active member.
    fn knows_nobody(&self) -> bool {
        let Some(store) = &self.store else { return true };
        let me = self.config.identity.id();
        let membership = store.membership();
        !membership.iter().any(|(node, _)| *node != me && membership.is_active(node))
    }

    fn command(&mut self, step: &mut Step<'_>, command: Command) {
        match command {
            Command::Found => self.found(step),
            Command::Join { ticket, founding, contacts } => {
                self.join(step, ticket, founding, contacts);
            }
            Command::Trust(peer) => self.trust(peer),
            Command::Write { ticket, changes } => self.ask_to_write(step, ticket, changes),
            Command::Bodies { ticket, bodies } => self.bodies(step, ticket, bodies),
            Command::Sync(peer) => {
                let to: Vec<NodeId> =
                    self.open.keys().copied().filter(|id| peer.is_none_or(|p| p == *id)).collect();
                for peer in to {
                    self.feed_sync(step, Input::Command(sync::Command::Start { peer }));
                }
            }
            Command::Watch { watch, pattern } => {
                let empty = crate::dag::Dag::default();
                let dag = self.store.as_ref().map_or(&empty, Store::dag);
                if !self.watches.begin(watch, pattern, dag) {
                    let update = WatchUpdate::Refused;
                    step.fx.emit(Event::Watched { watch, update });
                }
            }
            Command::Taken { watch, count } => self.watches.acknowledge(watch, count),
            Command::Resync(watch) => {
                if let Some(store) = &self.store {
                    self.watches.resync(watch, store.dag());
                }
            }
            Command::Unwatch(watch) => self.watches.end(watch),
            Command::SuspectDisk => self.suspect(step),
            Command::TrustDisk => self.own_chain_is_whole(step),
            Command::Cluster(command) => self.feed_cluster(step, Input::Command(command)),
        }
    }

    fn message(&mut self, step: &mut Step<'_>, from: NodeId, message: Message) {
        if let Message::Handshake(message) = message {
            return self.feed_handshake(step, Input::Message { from, message });
        }
        // What the cluster must know to be durable it says to itself.
        if from == step.cx.me
            && let Message::Cluster(message) = message
        {
            return self.feed_cluster(step, Input::Message { from, message });
        }
        // Until a peer is open its words are early, or those of a stranger.
        if !self.open.contains_key(&from) {
            return;
        }
        if !matches!(message, Message::Detector(_)) {
            self.feed_detector(step, Input::Command(detector::Command::Heard(from)));
        }
        match message {
            Message::Handshake(_) => {}
            Message::Detector(message) => {
                self.feed_detector(step, Input::Message { from, message });
            }
            Message::Sync(message) => self.feed_sync(step, Input::Message { from, message }),
            Message::Gap(message) => {
                if let gap::Message::NotHeld { author, from: place } = message {
                    self.told_not_held(step, from, author, place);
                }
                self.feed_gap(step, Input::Message { from, message });
            }
            Message::Transfer(message) => self.transferred(step, from, message),
            Message::News(news) => self.news(step, from, news),
            Message::Hunt(message) => self.hunted(step, from, message),
            Message::Proof(proof) => self.take_proof(step, Some(from), proof),
            Message::Contacts(contacts) => self.told_contacts(step, from, contacts),
            Message::Cluster(message) => {
                self.feed_cluster(step, Input::Message { from, message });
            }
        }
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        let due = |deadline: Option<Time>| deadline.is_some_and(|at| at <= now);
        if due(self.handshake.deadline()) {
            self.feed_handshake(step, Input::Tick);
        }
        if due(self.detector.deadline()) {
            self.feed_detector(step, Input::Tick);
        }
        if due(self.sync.deadline()) {
            self.feed_sync(step, Input::Tick);
        }
        if due(self.gaps.deadline()) {
            self.feed_gap(step, Input::Tick);
        }
        if due(self.cluster.deadline()) {
            self.feed_cluster(step, Input::Tick);
        }
        if due(self.transfer.deadline()) {
            for peer in self.transfer.give_up(now) {
                step.notice(Notice::Stalled(peer));
            }
        }
        if due(self.store.as_ref().and_then(|store| store.orphans().expires_at())) {
            self.expire(step);
        }
        if due(self.unpark_at) {
            self.unpark(step);
        }
        if let Guard::Learning(until) = self.guard
            && until <= now
        {
            let at_most = self.started.after_ms(OWN_TIP_WAIT_MAX_MS);
            if self.open.is_empty() || now >= at_most {
                self.own_chain_is_whole(step);
            } else {
                self.guard = Guard::Learning(now.after_ms(OWN_TIP_WAIT_MS).min(at_most));
            }
        }
    }

    fn heard(&mut self, step: &mut Step<'_>, heard: Heard) {
        match heard {
            Heard::Handshake(event) => self.shook_hands(step, event),
            Heard::Detector(event) => self.detected(step, event),
            Heard::Sync(event) => self.synced(step, event),
            Heard::Gap(event) => self.gap_event(step, event),
            Heard::Cluster(event) if event.at_once() => step.fx.emit_now(Event::Cluster(event)),
            Heard::Cluster(event) => step.fx.emit(Event::Cluster(event)),
        }
    }

    /// Passes on what the step moved, until nothing is left to pass on.
    fn settle(&mut self, step: &mut Step<'_>) {
        loop {
            while let Some(heard) = step.bus.pop_front() {
                self.heard(step, heard);
            }
            self.advance_tips(step);
            if step.bus.is_empty() {
                break;
            }
        }
        self.turn_pages(step);
        self.update_watches(step);
        // The last record stays: after a restart it is what tells where the next one goes.
        let last = self.logged.saturating_sub(1);
        let (keep, forget): (Vec<u64>, Vec<u64>) =
            self.forgotten.drain(..).partition(|position| *position == last);
        self.forgotten = keep;
        forget.into_iter().for_each(|position| step.fx.emit(Event::Forget(position)));
    }

    /// Tells sync which chains have moved.
    fn advance_tips(&mut self, step: &mut Step<'_>) {
        let tips = self.store.as_mut().map(Store::take_moved_tips).unwrap_or_default();
        for tip in tips {
            bug!(tips_not_told_to_sync => continue);
            self.feed_sync(step, Input::Command(sync::Command::Advance(tip)));
        }
    }

    /// Asks the host for the entries at `positions`; `false` if too much is asked for already.
    fn read(&mut self, step: &mut Step<'_>, positions: Vec<u64>, reading: Reading) -> bool {
        if self.reads.len() >= MAX_READS {
            return false;
        }
        self.next_read += 1;
        self.reads.insert(self.next_read, (positions.clone(), reading));
        step.fx.emit(Event::Read { ticket: self.next_read, positions });
        true
    }

    fn bodies(&mut self, step: &mut Step<'_>, ticket: u64, bodies: Vec<Option<Bytes>>) {
        let Some((positions, reading)) = self.reads.remove(&ticket) else { return };
        let entries = self.undamaged(step, &positions, bodies);
        match reading {
            Reading::Page { peer, serial } => {
                let entries = entries.iter().map(|entry| entry.bytes().clone()).collect();
                let page = self.transfer.page(peer, serial, entries, step.cx.now);
                page.into_iter().for_each(|page| step.fx.send(peer, Message::Transfer(page)));
            }
            Reading::Story { peer, author, seq } => {
                self.tell_story(step, peer, author, seq, &entries);
            }
            Reading::Proof { author, theirs } => {
                self.assemble_proof(step, author, &theirs, &entries);
            }
        }
    }

    /// What was read, as far as it is what was written: the rest is reported, and never served.
    fn undamaged(
        &mut self,
        step: &mut Step<'_>,
        positions: &[u64],
        bodies: Vec<Option<Bytes>>,
    ) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(bodies.len());
        for (position, body) in positions.iter().zip(bodies) {
            let entry = body.and_then(|bytes| Entry::decode(bytes).ok());
            let store = self.store.as_ref();
            match entry.filter(|entry| store.is_some_and(|store| store.has(entry))) {
                Some(entry) => entries.push(entry),
                None => {
                    self.damaged += 1;
                    step.notice(Notice::Damaged(*position));
                }
            }
        }
        entries
    }

    /// The record at `position` is not what was written: what it held is fetched again from others.
    /// It stays in the log, a warning to the next start too, until nothing is lacking any more.
    fn found_damaged(&mut self, position: u64) {
        self.damaged += 1;
        self.holes.push(position);
    }

    /// Appends a record.
    fn persist(&mut self, step: &mut Step<'_>, position: u64, body: Body) {
        assert_eq!(position, self.logged, "records are written in the order of their positions");
        self.logged += 1;
        let record = StoreRecord { position, wall: step.cx.wall, body };
        step.fx.persist(Record::Store(record));
    }

    /// The position of the next record that is not the store's own.
    fn next_position(&mut self) -> u64 {
        self.store.as_mut().map_or(self.logged, Store::take_position)
    }

    fn feed_handshake(&mut self, step: &mut Step<'_>, input: Input<Handshake>) {
        let (message, record, event) = (Message::Handshake, never, Heard::Handshake);
        let mut lift = Lift { fx: step.fx, bus: &mut step.bus, message, record, event };
        self.handshake.handle(step.cx, input, &mut lift);
    }

    fn feed_detector(&mut self, step: &mut Step<'_>, input: Input<Detector>) {
        let (message, record, event) = (Message::Detector, never, Heard::Detector);
        let mut lift = Lift { fx: step.fx, bus: &mut step.bus, message, record, event };
        self.detector.handle(step.cx, input, &mut lift);
    }

    fn feed_sync(&mut self, step: &mut Step<'_>, input: Input<Sync>) {
        let (message, record, event) = (Message::Sync, never, Heard::Sync);
        let mut lift = Lift { fx: step.fx, bus: &mut step.bus, message, record, event };
        self.sync.handle(step.cx, input, &mut lift);
    }

    fn feed_gap(&mut self, step: &mut Step<'_>, input: Input<Gaps>) {
        let (message, record, event) = (Message::Gap, never, Heard::Gap);
        let mut lift = Lift { fx: step.fx, bus: &mut step.bus, message, record, event };
        self.gaps.handle(step.cx, input, &mut lift);
    }

    fn feed_cluster(&mut self, step: &mut Step<'_>, input: Input<Cluster>) {
        let (message, record, event) = (Message::Cluster, Record::Cluster, Heard::Cluster);
        let mut lift = Lift { fx: step.fx, bus: &mut step.bus, message, record, event };
        self.cluster.handle(step.cx, input, &mut lift);
    }
}

fn never(record: Never) -> Record {
    match record {}
}

impl Machine for Node {
    type Message = Message;
    type Record = Record;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Record) {
        let StoreRecord { position, wall, body } = match record {
            Record::Store(record) => record,
            Record::Cluster(record) => return self.cluster.restore(record),
        };
        self.logged = position + 1;
        let mut outcomes = Vec::new();
        match (body, &mut self.store) {
            (Body::Founding { founding, contacts }, _) => self.adopt(founding, contacts),
            (Body::Entry(bytes), Some(store)) => match Entry::decode(bytes) {
                Ok(entry) => outcomes = store.restore(entry, position, wall, self.damaged > 0),
                Err(_) => {
                    store.restore_position(position);
                    self.found_damaged(position);
                }
            },
            (Body::Released, Some(store)) => {
                store.unpark(wall, &mut outcomes);
                store.restore_position(position);
            }
            (Body::Waived(_), Some(store)) if bug!(waivers_forgotten) => {
                store.restore_position(position);
            }
            (Body::Waived(link), Some(store)) => {
                store.waive(&link.author, link.seq, wall, &mut outcomes);
                store.restore_position(position);
            }
            (Body::Proof(proof), Some(store)) => {
                outcomes = store.restore_proof(proof, position, wall);
            }
            (Body::Contact(contact), Some(store)) => {
                store.restore_position(position);
                self.remember(contact, Some(position));
            }
            (Body::Damaged, Some(store)) => {
                store.restore_position(position);
                self.found_damaged(position);
            }
            (_, None) => {}
        }
        // Where something is lacking, what seems not to be needed may only seem so.
        if self.damaged == 0 {
            self.forgotten.extend(outcomes.iter().filter_map(data::forgotten));
        }
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        debug_assert_eq!(cx.me, self.id(), "a node is run under its own name");
        let mut step = Step { cx, fx, bus: VecDeque::new() };
        match input {
            Input::Start => self.start(&mut step),
            Input::Message { from, message } => self.message(&mut step, from, message),
            Input::Command(command) => self.command(&mut step, command),
            Input::Link { peer, up } => {
                self.feed_handshake(&mut step, Input::Link { peer, up });
            }
            Input::Tick => self.tick(&mut step),
        }
        self.settle(&mut step);
    }

    fn deadline(&self) -> Option<Time> {
        let guard = match self.guard {
            Guard::Learning(until) => Some(until),
            Guard::Down | Guard::Joining | Guard::Suspect | Guard::Whole => None,
        };
        [
            self.handshake.deadline(),
            self.detector.deadline(),
            self.sync.deadline(),
            self.gaps.deadline(),
            self.transfer.deadline(),
            self.cluster.deadline(),
            self.store.as_ref().and_then(|store| store.orphans().expires_at()),
            self.unpark_at,
            guard,
        ]
        .into_iter()
        .fold(None, earliest)
    }

    fn check(&self) {
        self.handshake.check();
        self.detector.check();
        self.sync.check();
        self.gaps.check();
        self.transfer.check();
        self.cluster.check();
        if let Some(store) = &self.store {
            store.check();
            assert_eq!(store.next_position(), self.logged, "the store and the log count alike");
        }
        assert!(self.waiting.len() <= MAX_WAITING_WRITES && self.reads.len() <= MAX_READS);
        assert!(self.contacts.len() <= MAX_CONTACTS);
    }
}
