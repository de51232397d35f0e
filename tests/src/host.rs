//! The smallest host for a node machine: a disk that never fails, a clock that is told.

use std::collections::BTreeMap;

use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time, WallTime};
use quorate_core::node::{Command, Config, Event, Message, Node, Record};

/// What the wall clock shows at time zero, in milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;

/// A node machine and its disk.
#[derive(Clone, Debug)]
pub struct Host {
    /// The machine.
    pub node: Node,
    /// What is durable.
    pub log: BTreeMap<u64, Record>,
    /// The time there.
    pub now: Time,
    config: Config,
    steps: u64,
}

/// What one step, and the reads that it asked for, came to.
#[derive(Debug, Default)]
pub struct Told {
    /// Messages, in order.
    pub sent: Vec<(NodeId, Message)>,
    /// Events, without those the host answers itself.
    pub events: Vec<Event>,
    records: Vec<Record>,
}

impl Effects<Node> for Told {
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

impl Host {
    /// A node with the key of `seed`, not started.
    #[must_use]
    pub fn new(seed: u8) -> Host {
        let identity = Identity::from_seed([seed; 32]);
        let config = Config { identity, verify, address: Some("node:4470".into()), suspect: false };
        let node = Node::new(config.clone());
        Host { node, log: BTreeMap::new(), now: Time::ZERO, config, steps: 0 }
    }

    /// One step, and those that answer what it wants read. The node's own invariants are checked
    /// after each, and that a tick moves the deadline.
    pub fn step(&mut self, input: Input<Node>) -> Told {
        let mut all = Told::default();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.steps += 1;
            let wall = WallTime(START_MS + self.now.0 / 1_000);
            let cx = Cx { me: self.node.id(), now: self.now, wall, entropy: self.steps };
            let is_tick = matches!(input, Input::Tick);
            let mut told = Told::default();
            self.node.handle(cx, input, &mut told);
            self.node.check();
            assert!(
                !is_tick || self.node.deadline().is_none_or(|at| at > self.now),
                "a stuck timer"
            );
            for record in told.records {
                // The cluster's records are never read again.
                if let Record::Store(store) = &record {
                    self.log.insert(store.position, record);
                }
            }
            all.sent.append(&mut told.sent);
            for event in told.events {
                match event {
                    Event::Read { ticket, positions } => {
                        let body = |position: &u64| self.log.get(position).and_then(Record::entry);
                        let bodies = positions.iter().map(body).collect();
                        inputs.push(Input::Command(Command::Bodies { ticket, bodies }));
                    }
                    Event::Forget(position) => drop(self.log.remove(&position)),
                    event => all.events.push(event),
                }
            }
        }
        all
    }

    /// Lets time pass, and the timers ring that become due.
    pub fn wait_ms(&mut self, ms: u64) -> Told {
        let until = self.now.after_ms(ms);
        let mut all = Told::default();
        while let Some(due) = self.node.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let told = self.step(Input::Tick);
            all.sent.extend(told.sent);
            all.events.extend(told.events);
        }
        self.now = until;
        all
    }

    /// Loses the process and starts again from the disk.
    pub fn restart(&mut self) -> Told {
        self.node = self.restored();
        self.step(Input::Start)
    }

    /// The machine that the disk makes.
    #[must_use]
    pub fn restored(&self) -> Node {
        let mut node = Node::new(self.config.clone());
        self.log.values().cloned().for_each(|record| node.restore(record));
        node
    }
}
