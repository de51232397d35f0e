//! A network that loses nothing unless told to, and writes down what passes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::cluster;
use quorate_core::entry::Entry;
use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time, WallTime};
use quorate_core::node::{Command, Config, Event, Message, Node, Notice, Record};
use quorate_core::store::Change;

use crate::words::{Words, reading};

/// How long a message travels, in microseconds.
const LATENCY_US: u64 = 10_000;

/// How long a disk takes: what a node says to itself, it says once its records are durable.
const DISK_US: u64 = 1_000;

/// What the wall clocks show at the start, in milliseconds.
const START_MS: u64 = 1_800_000_000_000;

/// Nodes, the links between them, and the transcript.
pub(crate) struct Net {
    pub(crate) words: Words,
    nodes: Vec<Host>,
    links: BTreeSet<(usize, usize)>,
    /// Messages on their way, by when they arrive and in the order of their sending.
    on_the_way: BTreeMap<(Time, u64), (usize, usize, Message)>,
    sent: u64,
    now: Time,
    steps: u64,
    deaf: bool,
    /// Stores say nothing to each other: what they would say is lost.
    mute: bool,
    /// Only what the cluster says is written down, and who comes and goes.
    cluster_only: bool,
    lines: Vec<String>,
}

/// A node and its disk.
#[derive(Clone)]
struct Host {
    node: Node,
    config: Config,
    log: BTreeMap<u64, Record>,
    /// The cluster's records.
    journal: Vec<Record>,
    down: bool,
}

#[derive(Default)]
struct Sink {
    sent: Vec<(NodeId, Message)>,
    records: Vec<Record>,
    events: Vec<Event>,
}

impl Effects<Node> for Sink {
    fn persist(&mut self, record: Record) {
        self.records.push(record);
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.events.push(event);
    }
}

impl Net {
    /// `count` nodes, started, without links and without a store.
    pub(crate) fn new(count: usize) -> Net {
        let mut net = Net {
            words: Words { names: Vec::new() },
            nodes: Vec::new(),
            links: BTreeSet::new(),
            on_the_way: BTreeMap::new(),
            sent: 0,
            now: Time::ZERO,
            steps: 0,
            deaf: false,
            mute: false,
            cluster_only: false,
            lines: Vec::new(),
        };
        (0..count).for_each(|_| net.newcomer());
        net
    }

    /// One more node, started, without links and without a store.
    pub(crate) fn newcomer(&mut self) {
        let n = self.nodes.len();
        let identity = Identity::from_seed([n as u8 + 1; 32]);
        let address = Some(format!("{}.example:4470", ["a", "b", "c", "d"][n]));
        let config = Config { identity, verify, address, suspect: false };
        let (node, log) = (Node::new(config.clone()), BTreeMap::new());
        self.words.names.push(node.id());
        self.nodes.push(Host { node, config, log, journal: Vec::new(), down: false });
        self.step(n, Input::Start);
    }

    /// `count` nodes of one mesh, linked in a row and in sync; nothing of that is written down.
    pub(crate) fn mesh(count: usize) -> Net {
        let mut net = Net::new(count);
        net.command(0, Command::Found);
        for n in 1..count {
            net.invite(0, n);
            net.link(n - 1, n);
            net.run_ms(2_000);
        }
        net.lines.clear();
        net
    }

    pub(crate) fn node(&self, n: usize) -> &Node {
        &self.nodes[n].node
    }

    /// What was written down since the last call.
    pub(crate) fn transcript(&mut self) -> String {
        self.lines.drain(..).map(|line| line + "\n").collect()
    }

    /// A line of the test's own.
    pub(crate) fn say(&mut self, line: &str) {
        self.lines.push(format!("\n{line}"));
    }

    /// What `node` reads at `key`.
    pub(crate) fn read(&mut self, n: usize, key: &str) {
        let host = &self.nodes[n];
        let entry = |position: u64| {
            let bytes = host.log.get(&position).and_then(Record::entry);
            Entry::decode(bytes.expect("a register's entry is in the log")).expect("well-formed")
        };
        let store = host.node.store().expect("it has a store");
        let line = format!("reads: {}", reading(store, key, entry));
        self.own(n, &line);
    }

    pub(crate) fn own(&mut self, n: usize, line: &str) {
        let name = self.words.name(&self.words.names[n]);
        self.lines.push(format!("{name}        {line}"));
    }

    pub(crate) fn command(&mut self, n: usize, command: Command) {
        self.step(n, Input::Command(command));
    }

    pub(crate) fn write(&mut self, n: usize, changes: Vec<Change>) {
        self.command(n, Command::Write { ticket: 1, changes });
    }

    pub(crate) fn put(&mut self, n: usize, key: &str, value: &str) {
        self.own(n, &format!("writes {key} = {value}"));
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        self.write(n, vec![Change::Put { key, value }]);
    }

    /// `inviter` admits `guest`, which joins by what a ticket would tell it.
    pub(crate) fn invite(&mut self, inviter: usize, guest: usize) {
        let node = self.words.names[guest];
        self.write(inviter, vec![Change::Invite { node }]);
        let founding = self.nodes[inviter].node.store().expect("it has a store").founding();
        let contact = |n: usize| quorate_core::node::Contact {
            node: self.words.names[n],
            address: String::new(),
        };
        let contacts = vec![contact(inviter), contact(guest - 1)];
        self.command(guest, Command::Join { ticket: 1, founding, contacts });
    }

    /// Asks the cluster at `n` for something, and writes down what.
    pub(crate) fn ask(&mut self, n: usize, request: cluster::Request) {
        let line = self.words.request(&request);
        self.own(n, &format!("is asked: {line}"));
        let asked = cluster::Asked { ticket: 1, timeout_ms: 5_000, request };
        self.command(n, Command::Cluster(cluster::Command::Ask(vec![asked])));
    }

    /// `count` nodes of one mesh, each linked to each, that all vote in one cluster which A leads;
    /// nothing of that is written down.
    pub(crate) fn cluster(count: usize) -> Net {
        let mut net = Net::mesh(count);
        net.cluster_only = true;
        for n in 2..count {
            (0..n - 1).for_each(|peer| net.link(peer, n));
        }
        net.run_ms(1_000);
        net.command(0, Command::Cluster(cluster::Command::Init { ticket: 1 }));
        net.run_ms(1_000);
        for n in 1..count {
            let node = net.words.names[n];
            net.ask(0, cluster::Request::Add { node, seat: cluster::Seat::Voter });
            net.run_ms(2_000);
        }
        net.lines.clear();
        net
    }

    /// A node's process ends, and its links with it; its disk stays.
    pub(crate) fn stop(&mut self, n: usize) {
        self.nodes[n].down = true;
        (0..self.nodes.len()).for_each(|other| self.unlink(n, other));
        self.on_the_way.retain(|_, (_, to, _)| *to != n);
    }

    /// A link comes up.
    pub(crate) fn link(&mut self, a: usize, b: usize) {
        self.links.extend([(a, b), (b, a)]);
        self.step(a, Input::Link { peer: self.words.names[b], up: true });
        self.step(b, Input::Link { peer: self.words.names[a], up: true });
    }

    /// A link goes, and both ends notice.
    pub(crate) fn unlink(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a, b)) && self.links.remove(&(b, a)) {
            self.on_the_way
                .retain(|_, (from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
            for (n, peer) in [(a, b), (b, a)] {
                if !self.nodes[n].down {
                    self.step(n, Input::Link { peer: self.words.names[peer], up: false });
                }
            }
        }
    }

    /// While `deaf`, whatever is sent is lost.
    pub(crate) fn lose(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// While `mute`, what stores say to each other is lost.
    pub(crate) fn mute_stores(&mut self, mute: bool) {
        self.mute = mute;
    }

    /// Copies a node's disk, as a backup does.
    pub(crate) fn backup(&self, n: usize) -> BTreeMap<u64, Record> {
        self.nodes[n].log.clone()
    }

    /// Copies a node's journal likewise.
    pub(crate) fn journal(&self, n: usize) -> Vec<Record> {
        self.nodes[n].journal.clone()
    }

    /// Starts a node again on an old copy of its journal, of which its host knows that it may be one.
    pub(crate) fn restart_aside(&mut self, n: usize, journal: Vec<Record>) {
        let host = &mut self.nodes[n];
        host.node = Node::new(host.config.clone());
        host.node.stand_aside();
        host.log.values().cloned().for_each(|record| host.node.restore(record));
        journal.iter().for_each(|record| host.node.restore(record.clone()));
        (host.journal, host.down) = (journal, false);
        self.step(n, Input::Start);
    }

    /// Starts a node again on `log`, which may be an old one.
    pub(crate) fn restart(&mut self, n: usize, log: BTreeMap<u64, Record>) {
        let others: Vec<usize> = (0..self.nodes.len()).collect();
        others.into_iter().for_each(|other| self.unlink(n, other));
        let host = &mut self.nodes[n];
        host.node = Node::new(host.config.clone());
        log.values().cloned().for_each(|record| host.node.restore(record));
        host.journal.iter().for_each(|record| host.node.restore(record.clone()));
        (host.log, host.down) = (log, false);
        self.step(n, Input::Start);
    }

    /// Lets messages arrive and timers ring for so long.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        loop {
            let arrival = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().enumerate().filter(|(_, host)| !host.down);
            let timer = timers.filter_map(|(n, host)| Some((host.node.deadline()?, n))).min();
            match (arrival, timer) {
                (Some(at), _) if at <= until && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    let (_, (from, to, message)) = self.on_the_way.pop_first().expect("one is due");
                    let from = self.words.names[from];
                    self.step(to, Input::Message { from, message });
                }
                (_, Some((due, n))) if due <= until => {
                    self.now = self.now.max(due);
                    self.step(n, Input::Tick);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn step(&mut self, n: usize, input: Input<Node>) {
        self.steps += 1;
        let wall = WallTime(START_MS + self.now.0 / 1_000);
        let host = &mut self.nodes[n];
        let cx = Cx { me: host.node.id(), now: self.now, wall, entropy: self.steps };
        let mut sink = Sink::default();
        host.node.handle(cx, input, &mut sink);
        host.node.check();
        for record in sink.records {
            match &record {
                Record::Store(store) => drop(host.log.insert(store.position, record)),
                Record::Cluster(_) => host.journal.push(record),
            }
        }
        let events = sink.events;
        sink.sent.into_iter().for_each(|(to, message)| self.send(n, to, message));
        events.into_iter().for_each(|event| self.event(n, event));
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let to = self.words.names.iter().position(|name| *name == to).expect("one of the mesh");
        let linked = from == to || self.links.contains(&(from, to));
        let of_stores =
            !matches!(message, Message::Cluster(_) | Message::Handshake(_) | Message::Detector(_));
        let lost = self.deaf || self.mute && of_stores;
        let heard = !self.cluster_only || matches!(message, Message::Cluster(_));
        if let Some(line) = self.words.message(&message).filter(|_| heard) {
            let name = |n: usize| self.words.name(&self.words.names[n]);
            let fate = if lost { "   (lost)" } else { "" };
            let line = format!("{} → {}    {line}{fate}", name(from), name(to));
            self.lines.extend((linked && from != to).then_some(line));
        }
        if linked && !lost {
            self.sent += 1;
            let latency_us = if from == to { DISK_US } else { LATENCY_US };
            self.on_the_way.insert((self.now.after_us(latency_us), self.sent), (from, to, message));
        }
    }

    fn event(&mut self, n: usize, event: Event) {
        match event {
            Event::Read { ticket, positions } => {
                let log = &self.nodes[n].log;
                let body = |position: &u64| log.get(position).and_then(Record::entry);
                let bodies = positions.iter().map(body).collect();
                self.command(n, Command::Bodies { ticket, bodies });
            }
            Event::Forget(position) => {
                self.nodes[n].log.remove(&position);
            }
            Event::Disconnect { peer, reason } => {
                let line = self.words.disconnect(&peer, reason);
                self.own(n, &line);
                let to = self.words.names.iter().position(|name| *name == peer);
                // What was sent before still arrives.
                let due: Vec<_> = self.on_the_way.keys().copied().collect();
                for key in due {
                    if let Some((from, at, message)) = self.on_the_way.remove(&key) {
                        let from = self.words.names[from];
                        self.step(at, Input::Message { from, message });
                    }
                }
                to.into_iter().for_each(|to| self.unlink(n, to));
            }
            Event::Notice(notice) => self.notice(n, &notice),
            Event::Cluster(event) => {
                if let Some(line) = self.words.cluster_event(&event) {
                    self.own(n, &line);
                }
            }
            Event::Written { result: Err(error), .. } => {
                self.own(n, &format!("the write is refused: {error}"));
            }
            Event::Joined { result: Err(error), .. } => {
                self.own(n, &format!("cannot join: {error}"));
            }
            Event::Written { .. }
            | Event::Joined { .. }
            | Event::Dial { .. }
            | Event::Undial(_)
            | Event::Watched { .. } => {}
        }
    }

    fn notice(&mut self, n: usize, notice: &Notice) {
        let heard = matches!(notice, Notice::Opened(_) | Notice::Closed(_)) || !self.cluster_only;
        if let Some(line) = self.words.notice(notice).filter(|_| heard) {
            self.own(n, &line);
        }
    }
}
