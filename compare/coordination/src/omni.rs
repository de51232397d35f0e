//! The crate `omnipaxos` as a machine.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};

use crate::peer::{Peer, TICK_US, id};

/// Its round of heartbeats, in ticks: as the crate's own default is to ours.
const ROUND_TICKS: u64 = 5;

/// An entry.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "an entry is carried, and never looked at")]
pub struct Item(pub Bytes);

impl Entry for Item {
    type Snapshot = NoSnapshot;
}

/// A message; its text tells it from others in the trace.
#[derive(Clone, Debug)]
pub struct Sent(pub Message<Item>);

impl Hash for Sent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.get_sender(), self.0.get_receiver()).hash(state);
        std::mem::discriminant(&self.0).hash(state);
    }
}

/// A node's state.
pub type Raw = OmniPaxos<Item, MemoryStorage<Item>>;

/// A node of `nodes`, numbered from 1.
pub fn raw(me: usize, nodes: usize) -> Raw {
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: (1..=nodes as u64).collect(),
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid: me as u64 + 1,
            election_tick_timeout: ROUND_TICKS,
            resend_message_tick_timeout: 2 * ROUND_TICKS,
            ..ServerConfig::default()
        },
    };
    config.build(MemoryStorage::default()).expect("a sound configuration")
}

/// A node. Clones share it: these runs are never forked.
#[derive(Clone)]
pub struct Omni {
    node: Rc<RefCell<Raw>>,
    tick_at: Time,
    out: Vec<Message<Item>>,
}

impl Machine for Omni {
    type Message = Sent;
    type Record = Never;
    type Command = ();
    type Event = ();

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let mut node = self.node.borrow_mut();
        match input {
            Input::Start => self.tick_at = cx.now.after_us(TICK_US),
            Input::Message { message: Sent(message), .. } => node.handle_incoming(message),
            Input::Command(()) => {
                let _ = node.append(Item(Bytes::from_static(&[7; 100])));
            }
            Input::Tick => {
                self.tick_at = cx.now.after_us(TICK_US);
                node.tick();
            }
            Input::Link { peer, up: true } => {
                node.reconnected(crate::peer::number(peer) as u64 + 1)
            }
            Input::Link { .. } => {}
        }
        node.take_outgoing_messages(&mut self.out);
        for message in self.out.drain(..) {
            fx.send_now(id(message.get_receiver() as usize - 1), Sent(message));
        }
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.tick_at)
    }
}

impl Peer for Omni {
    const NAME: &'static str = "omnipaxos";

    fn new(me: usize, nodes: usize) -> Omni {
        let node = Rc::new(RefCell::new(raw(me, nodes)));
        Omni { node, tick_at: Time::ZERO, out: Vec::new() }
    }

    fn found(_: usize) -> Option<()> {
        None
    }

    fn write() {}

    fn leads(&self, _: Time) -> bool {
        let node = self.node.borrow();
        node.get_current_leader().is_some_and(|(leader, _)| leader == node.get_pid())
    }

    fn epoch(&self) -> u64 {
        u64::from(self.node.borrow().get_promise().n)
    }
}
