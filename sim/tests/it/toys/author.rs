//! Authors who number their entries and flood them; with planted bugs to find.

use std::collections::{BTreeMap, BTreeSet};

use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_sim::{HostCx, Loss, Rng, SimTime, System, View};

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// A new entry is sent before it is durable: after a crash its number is used again.
    SendBeforeDurable,
    /// Missing entries are never asked for.
    NoRepair,
}

pub type Key = (NodeId, u64);

#[derive(Clone)]
pub struct Author {
    bug: Bug,
    linked: BTreeSet<NodeId>,
    next: u64,
    pub entries: BTreeMap<Key, u64>,
    me: NodeId,
    due: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    Entry(Key, u64),
    /// Every key the sender has.
    Have(Vec<Key>),
}

impl Author {
    fn tell(&self, message: &Message, fx: &mut dyn Effects<Self>) {
        for &peer in &self.linked {
            match self.bug {
                Bug::SendBeforeDurable => fx.send_now(peer, message.clone()),
                Bug::None | Bug::NoRepair => fx.send(peer, message.clone()),
            }
        }
    }

    fn take(&mut self, key: Key, payload: u64, fx: &mut dyn Effects<Self>) {
        if let Some(&known) = self.entries.get(&key) {
            assert_eq!(known, payload, "two entries have the number {key:?}");
            return;
        }
        self.entries.insert(key, payload);
        fx.persist((key, payload));
        self.tell(&Message::Entry(key, payload), fx);
    }
}

impl Machine for Author {
    type Message = Message;
    type Record = (Key, u64);
    type Command = u64;
    type Event = Key;

    fn restore(&mut self, (key, payload): (Key, u64)) {
        self.entries.insert(key, payload);
        if key.0 == self.me {
            self.next = key.1 + 1;
        }
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => self.due = Some(cx.now.after_ms(100 + cx.entropy % 100)),
            Input::Tick => {
                self.due = Some(cx.now.after_ms(100 + cx.entropy % 100));
                if self.bug != Bug::NoRepair {
                    self.tell(&Message::Have(self.entries.keys().copied().collect()), fx);
                }
            }
            Input::Message { message: Message::Entry(key, payload), .. } => {
                // One's own number from a life whose end was lost is not used again.
                if key.0 == self.me {
                    self.next = self.next.max(key.1 + 1);
                }
                self.take(key, payload, fx);
            }
            Input::Message { from, message: Message::Have(keys) } => {
                let theirs: BTreeSet<Key> = keys.into_iter().collect();
                for (&key, &payload) in self.entries.iter().filter(|(k, _)| !theirs.contains(k)) {
                    fx.send(from, Message::Entry(key, payload));
                }
            }
            Input::Link { peer, up: true } => {
                self.linked.insert(peer);
            }
            Input::Link { peer, up: false } => {
                self.linked.remove(&peer);
            }
            Input::Command(payload) => {
                let key = (self.me, self.next);
                self.next += 1;
                self.take(key, payload, fx);
                fx.emit(key);
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }

    fn check(&self) {
        let own = self.entries.keys().filter(|key| key.0 == self.me).map(|key| key.1 + 1).max();
        assert!(self.next >= own.unwrap_or(0), "the next number is taken");
    }
}

/// A cluster of authors. What was acknowledged must reach every node.
#[derive(Clone)]
pub struct Authors {
    pub nodes: usize,
    pub bug: Bug,
    pub writes: u64,
    acknowledged: BTreeSet<Key>,
}

impl Authors {
    pub fn new(nodes: usize, bug: Bug) -> Authors {
        Authors { nodes, bug, writes: 200, acknowledged: BTreeSet::new() }
    }
}

impl System for Authors {
    type Machine = Author;
    type Op = u64;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> Author {
        Author {
            bug: self.bug,
            linked: BTreeSet::new(),
            next: 0,
            entries: BTreeMap::new(),
            me: self.id(node),
            due: None,
        }
    }

    fn describe(&self, node: usize, view: &View<'_, Self>) -> Vec<(&'static str, String)> {
        view.machine(node).map_or_else(Vec::new, |author| {
            let linked = author.linked.len();
            vec![
                ("entries", author.entries.len().to_string()),
                ("next", author.next.to_string()),
                ("links", linked.to_string()),
            ]
        })
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, u64)> {
        let nodes = self.nodes as u64;
        let op = |_| (SimTime(rng.below(active.0)), rng.below(nodes) as usize, rng.next_u64());
        (0..self.writes).map(op).collect()
    }

    fn op(&mut self, _: usize, payload: u64, cx: &mut HostCx<'_, Self>) {
        if !cx.command(payload) {
            cx.mark("write refused by a dead node");
        }
    }

    fn event(&mut self, _: usize, key: Key, _: &mut HostCx<'_, Self>) {
        self.acknowledged.insert(key);
    }

    fn crashed(&mut self, _: usize, loss: Loss, cx: &mut HostCx<'_, Self>) {
        if loss.survived < loss.written {
            cx.mark("a crash took writes");
        }
    }

    /// Whoever does not run is not asked.
    fn leave_out(&mut self, _: usize) -> bool {
        true
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let mut machines = view.machines();
        let Some((_, first)) = machines.next() else { return Err("nobody runs".to_owned()) };
        for (node, machine) in machines {
            if machine.entries != first.entries {
                return Err(format!("node {node} has other entries than the first"));
            }
        }
        match self.acknowledged.iter().find(|key| !first.entries.contains_key(key)) {
            Some(key) => Err(format!("{key:?} was acknowledged and is lost")),
            None => Ok(()),
        }
    }
}
