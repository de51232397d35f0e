//! The crate `raft`, with pre-vote and check-quorum, as a machine.
//!
//! It draws its election timeouts from the thread's generator; so after every step the timeout is
//! set to one that was drawn from the step's entropy when role, term or leader last changed.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};
use raft::prelude::{ConfState, Config, Message};
use raft::storage::MemStorage;
use raft::{RawNode, StateRole};

use crate::peer::{ELECTION_TICKS, Peer, TICK_US, id};

/// A message, with what tells it from others for the trace.
#[derive(Clone, Debug)]
pub struct Sent(pub Message);

impl Hash for Sent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Sent(m) = self;
        (m.msg_type as i32, m.from, m.to, m.term, m.index, m.commit, m.reject).hash(state);
        m.entries.len().hash(state);
    }
}

/// A node. Clones share it: these runs are never forked.
#[derive(Clone)]
pub struct Raft {
    pub node: Rc<RefCell<RawNode<MemStorage>>>,
    tick_at: Time,
    timeout: usize,
    seen: Option<(StateRole, u64, u64)>,
}

/// A node of `nodes`, numbered from 1, with its first entry at 1.
pub fn raw(me: usize, nodes: usize, batch_append: bool) -> RawNode<MemStorage> {
    let config = Config {
        id: me as u64 + 1,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        batch_append,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        ..Config::default()
    };
    let voters: Vec<u64> = (1..=nodes as u64).collect();
    let storage = MemStorage::new_with_conf_state(ConfState::from((voters, vec![])));
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, storage, &logger).expect("a sound configuration")
}

/// Carries out what a node is ready for; what it sends goes to `send`. Returns how many entries with
/// data became committed.
pub fn drain(node: &mut RawNode<MemStorage>, mut send: impl FnMut(Message)) -> u64 {
    let mut committed = 0;
    while node.has_ready() {
        let store = node.raft.raft_log.store.clone();
        let mut ready = node.ready();
        ready.take_messages().into_iter().for_each(&mut send);
        let count = |entries: Vec<raft::prelude::Entry>| {
            entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64
        };
        committed += count(ready.take_committed_entries());
        if !ready.snapshot().is_empty() {
            store.wl().apply_snapshot(ready.snapshot().clone()).expect("a snapshot in order");
        }
        if !ready.entries().is_empty() {
            store.wl().append(ready.entries()).expect("entries in order");
        }
        if let Some(state) = ready.hs() {
            store.wl().set_hardstate(state.clone());
        }
        ready.take_persisted_messages().into_iter().for_each(&mut send);
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            store.wl().mut_hard_state().set_commit(commit);
        }
        light.take_messages().into_iter().for_each(&mut send);
        committed += count(light.take_committed_entries());
        node.advance_apply();
    }
    committed
}

impl Machine for Raft {
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
            Input::Message { message: Sent(message), .. } => {
                // What it refuses is an old term's, or its own trouble.
                let _ = node.step(message);
            }
            Input::Command(()) => {
                let _ = node.propose(vec![], vec![7; 100]);
            }
            Input::Tick => {
                self.tick_at = cx.now.after_us(TICK_US);
                node.tick();
            }
            Input::Link { .. } => {}
        }
        drain(&mut node, |message| fx.send_now(id(message.to as usize - 1), Sent(message)));
        let now = (node.raft.state, node.raft.term, node.raft.leader_id);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.timeout = ELECTION_TICKS + (cx.entropy % ELECTION_TICKS as u64) as usize;
        }
        node.raft.set_randomized_election_timeout(self.timeout);
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.tick_at)
    }
}

impl Peer for Raft {
    const NAME: &'static str = "raft";

    fn new(me: usize, nodes: usize) -> Raft {
        let node = Rc::new(RefCell::new(raw(me, nodes, false)));
        Raft { node, tick_at: Time::ZERO, timeout: ELECTION_TICKS, seen: None }
    }

    fn found(_: usize) -> Option<()> {
        None
    }

    fn write() {}

    fn leads(&self, _: Time) -> bool {
        self.node.borrow().raft.state == StateRole::Leader
    }

    fn epoch(&self) -> u64 {
        self.node.borrow().raft.term
    }
}
