//! Two nodes joined in memory, by links that lose nothing: the least host that a [`Node`] can have.
//!
//! Messages are encoded and decoded as on a socket, so that their bytes can be counted and their
//! encoding costs what it costs; each counts with the frame header it would travel behind, TLS
//! apart. Records are durable at once, bodies are in a vector. A message takes [`ONE_WAY_MS`]; time
//! is simulated. A message's *flight* is one more than that of the message that caused it, so the
//! last flight that brought something tells the round trips.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_core::entry::Entry;
use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_core::node::{
    Body, Command, Config, Contact, Event, Message, Node, Notice, Record, StoreRecord,
};
use quorate_core::store::{Founding, Store};

use crate::workload::WALL;

/// How long a message is under way, in milliseconds of simulated time.
pub const ONE_WAY_MS: u64 = 10;
/// What a frame adds to a message.
pub const FRAME_HEADER_BYTES: usize = 4;

/// What crossed the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Finding the difference, and acknowledgements.
    pub metadata_bytes: usize,
    /// Pages of entries.
    pub page_bytes: usize,
    /// Messages of either kind.
    pub messages: usize,
    /// Flights until the last entry was applied, or until both were found equal.
    pub flights: u32,
}

/// Two nodes and what is between them.
#[derive(Debug)]
pub struct Pair {
    hosts: [Host; 2],
    /// Due when, to whom, in which flight.
    under_way: BTreeMap<(Time, u64), (usize, u32, Bytes)>,
    sent: u64,
    now: Time,
    /// What crossed since the nodes were joined; the handshake and failure detection left out.
    pub traffic: Traffic,
}

#[derive(Debug)]
struct Host {
    node: Node,
    bodies: Vec<Option<Bytes>>,
    entropy: u64,
}

impl Host {
    /// A node that holds `entries`, as after a restart.
    fn new(identity: &Identity, founding: Founding, trusts: NodeId, entries: &[Entry]) -> Host {
        let config = Config { identity: identity.clone(), verify, address: None, suspect: false };
        let mut node = Node::new(config);
        let contacts = vec![Contact { node: trusts, address: String::new() }];
        let founding = Body::Founding { founding, contacts };
        let entries = entries.iter().map(|entry| Body::Entry(entry.bytes().clone()));
        let mut bodies = Vec::new();
        for (position, body) in (0..).zip([founding].into_iter().chain(entries)) {
            let record = Record::Store(StoreRecord { position, wall: WALL, body });
            bodies.push(record.entry());
            node.restore(record);
        }
        let entropy = u64::from_le_bytes(*identity.id().0.first_chunk().expect("32 bytes"));
        Host { node, bodies, entropy }
    }
}

/// Takes what a step wants done.
#[derive(Default)]
struct Sink {
    sent: Vec<Message>,
    events: VecDeque<Event>,
    bodies: Vec<(u64, Option<Bytes>)>,
}

impl Effects<Node> for Sink {
    fn persist(&mut self, record: Record) {
        if let Record::Store(record) = record {
            self.bodies.push((record.position, record.entry()));
        }
    }

    fn send(&mut self, _: NodeId, message: Message) {
        self.sent.push(message);
    }

    fn send_now(&mut self, _: NodeId, message: Message) {
        self.sent.push(message);
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn emit_now(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

impl Pair {
    /// Two members of a store, not joined yet: what each holds.
    #[must_use]
    pub fn new(founding: Founding, identities: [&Identity; 2], entries: [&[Entry]; 2]) -> Pair {
        let [one, other] = identities;
        let hosts = [
            Host::new(one, founding, other.id(), entries[0]),
            Host::new(other, founding, one.id(), entries[1]),
        ];
        let under_way = BTreeMap::new();
        let traffic = Traffic::default();
        let mut pair = Pair { hosts, under_way, sent: 0, now: Time::ZERO, traffic };
        (0..2).for_each(|at| pair.step(at, Input::Start, 0));
        pair
    }

    /// The store of a node.
    #[must_use]
    pub fn store(&self, at: usize) -> &Store {
        self.hosts[at].node.store().expect("both belong to a store")
    }

    /// Joins the nodes and lets them shake hands.
    pub fn join(&mut self) {
        for at in 0..2 {
            let peer = self.hosts[1 - at].node.id();
            self.step(at, Input::Link { peer, up: true }, 0);
        }
        self.run(10 * ONE_WAY_MS);
        assert_eq!(self.traffic.messages, 0, "sync waits a while after a handshake");
    }

    /// Syncs, at the wish of node `initiator`, and lets `ms` milliseconds pass.
    pub fn sync(&mut self, initiator: usize, ms: u64) {
        self.step(initiator, Input::Command(Command::Sync(None)), 0);
        self.run(ms);
    }

    fn run(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        loop {
            let arrival = self.under_way.keys().next().copied();
            let timer = (0..2).filter_map(|at| Some((self.hosts[at].node.deadline()?, at))).min();
            match (arrival, timer) {
                (Some((at, number)), timer)
                    if at <= end && timer.is_none_or(|(due, _)| at <= due) =>
                {
                    self.now = self.now.max(at);
                    let message = self.under_way.remove(&(at, number));
                    let (to, flight, bytes) = message.expect("it was just seen");
                    let message: Message = postcard::from_bytes(&bytes).expect("it was encoded");
                    let from = self.hosts[1 - to].node.id();
                    self.step(to, Input::Message { from, message }, flight);
                }
                (_, Some((due, at))) if due <= end => {
                    self.now = self.now.max(due);
                    self.step(at, Input::Tick, 0);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// One step of a node and all that follows at once. `flight` is that of the message it takes.
    fn step(&mut self, at: usize, input: Input<Node>, flight: u32) {
        let host = &mut self.hosts[at];
        let applied = host.node.store().map_or(0, Store::applied);
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut sink = Sink::default();
            host.entropy = host.entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let cx = Cx { me: host.node.id(), now: self.now, wall: WALL, entropy: host.entropy };
            host.node.handle(cx, input, &mut sink);
            for (position, body) in sink.bodies {
                assert_eq!(position, host.bodies.len() as u64, "records come in order");
                host.bodies.push(body);
            }
            for event in sink.events {
                match event {
                    Event::Read { ticket, positions } => {
                        let bodies = positions.iter().map(|at| host.bodies[*at as usize].clone());
                        let bodies = bodies.collect();
                        inputs.push_back(Input::Command(Command::Bodies { ticket, bodies }));
                    }
                    Event::Notice(Notice::InSync(_)) if self.traffic.page_bytes == 0 => {
                        self.traffic.flights = flight;
                    }
                    _ => {}
                }
            }
            for message in sink.sent {
                let bytes: Bytes = postcard::to_stdvec(&message).expect("it encodes").into();
                self.traffic.count(&message, FRAME_HEADER_BYTES + bytes.len());
                let due = self.now.after_ms(ONE_WAY_MS);
                self.under_way.insert((due, self.sent), (1 - at, flight + 1, bytes));
                self.sent += 1;
            }
        }
        if host.node.store().map_or(0, Store::applied) > applied {
            self.traffic.flights = self.traffic.flights.max(flight);
        }
    }
}

impl Traffic {
    fn count(&mut self, message: &Message, bytes: usize) {
        match message {
            Message::Handshake(_)
            | Message::Detector(_)
            | Message::Contacts(_)
            | Message::Cluster(_) => return,
            Message::Transfer(quorate_core::transfer::Message::Page { .. }) | Message::News(_) => {
                self.page_bytes += bytes;
            }
            Message::Transfer(_)
            | Message::Sync(_)
            | Message::Gap(_)
            | Message::Hunt(_)
            | Message::Proof(_) => self.metadata_bytes += bytes,
        }
        self.messages += 1;
    }
}
