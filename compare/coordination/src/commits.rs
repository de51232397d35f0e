//! Entries of 100 bytes committed in a second of a thread's CPU time, all nodes on that thread, in
//! memory: no clock, no disk, no network, and the log's beginning is dropped as it grows.
//!
//! A window is how many entries are proposed before messages are delivered until none is left. The
//! crates take them one by one and send them together when they are asked for their messages; ours
//! takes them in one command, as its host gives them, or one by one in a row of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use omnipaxos::messages::Message as OmniMessage;
use quorate_core::log::{Command, Event, Log, Message, Record};
use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time, WallTime};
use raft::prelude::Message as RaftMessage;
use raft::storage::MemStorage;
use raft::{RawNode, StateRole};

use crate::omni::{self, Item};
use crate::peer::{Peer, id, number};
use crate::tikv;

/// After so many entries a node drops what it has applied.
const KEEP: u64 = 10_000;
/// How long one measurement goes on, in nanoseconds of CPU time.
const LASTS_NS: u64 = 700_000_000;
/// Measurements of each, taken in turns; the middle one is shown.
const ROUNDS: usize = 3;

/// A cluster that has a leader.
trait Cluster {
    const NAME: &'static str;
    fn elect(nodes: usize) -> Self;
    /// So many entries.
    fn propose(&mut self, window: u64);
    /// Delivers messages until none is left.
    fn pump(&mut self);
    /// How many entries the leader has told to be committed.
    fn committed(&self) -> u64;
}

/// Nanoseconds for which this thread has run.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("a number")
}

fn payload() -> [u8; 100] {
    std::hint::black_box([7; 100])
}

/// What a step of ours asks for.
struct Sink<'a> {
    from: usize,
    queue: &'a mut VecDeque<(usize, usize, Message)>,
    committed: u64,
    last: u64,
}

impl Effects<Log> for Sink<'_> {
    fn persist(&mut self, record: Record) {
        std::hint::black_box(&record);
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.queue.push_back((self.from, number(to), message));
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.queue.push_back((self.from, number(to), message));
    }
    fn emit(&mut self, event: Event) {
        if let Event::Committed { from, entries } = event {
            self.committed += entries.len() as u64;
            self.last = from + entries.len() as u64 - 1;
        }
    }
    fn emit_now(&mut self, _: Event) {}
}

struct Quorate<const TOGETHER: bool> {
    nodes: Vec<Log>,
    ids: Vec<NodeId>,
    queue: VecDeque<(usize, usize, Message)>,
    now: Time,
    steps: u64,
    kept: Vec<u64>,
    committed: u64,
}

impl<const TOGETHER: bool> Quorate<TOGETHER> {
    fn step(&mut self, node: usize, input: Input<Log>) {
        self.steps += 1;
        let (now, entropy) = (self.now, self.steps);
        let cx = Cx { me: self.ids[node], now, wall: WallTime::ZERO, entropy };
        let mut sink = Sink { from: node, queue: &mut self.queue, committed: 0, last: 0 };
        self.nodes[node].handle(cx, input, &mut sink);
        let (committed, last) = (sink.committed, sink.last);
        if node == 0 {
            self.committed += committed;
        }
        if last >= self.kept[node] + KEEP {
            self.kept[node] = last;
            let data = Bytes::new();
            self.step(node, Input::Command(Command::Compact { index: last, data }));
        }
    }
}

impl<const TOGETHER: bool> Cluster for Quorate<TOGETHER> {
    const NAME: &'static str = if TOGETHER { "quorate" } else { "quorate, one by one" };

    fn elect(nodes: usize) -> Self {
        let mut cluster = Quorate {
            nodes: (0..nodes).map(|node| <Log as Peer>::new(node, nodes)).collect(),
            ids: (0..nodes).map(id).collect(),
            queue: VecDeque::new(),
            now: Time::ZERO,
            steps: 0,
            kept: vec![0; nodes],
            committed: 0,
        };
        for node in 0..nodes {
            cluster.step(node, Input::Start);
            let found = <Log as Peer>::found(nodes).expect("members");
            cluster.step(node, Input::Command(found));
        }
        // Nobody but the first is given time.
        while cluster.nodes[0].leads(cluster.now).is_none() {
            cluster.now = cluster.now.after_us(1_000);
            if cluster.nodes[0].deadline().is_some_and(|at| at <= cluster.now) {
                cluster.step(0, Input::Tick);
            }
            cluster.pump();
        }
        cluster.committed = 0;
        cluster
    }

    fn propose(&mut self, window: u64) {
        let (commands, entries) = if TOGETHER { (1, window) } else { (window, 1) };
        for _ in 0..commands {
            let data = (0..entries).map(|_| Bytes::copy_from_slice(&payload())).collect();
            self.step(0, Input::Command(Command::Propose { ticket: 0, data }));
        }
    }

    fn pump(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            let from = self.ids[from];
            self.step(to, Input::Message { from, message });
        }
    }

    fn committed(&self) -> u64 {
        self.committed
    }
}

struct Tikv<const BATCHED: bool> {
    nodes: Vec<RawNode<MemStorage>>,
    queue: VecDeque<RaftMessage>,
    leader: usize,
    committed: u64,
    kept: Vec<u64>,
}

impl<const BATCHED: bool> Tikv<BATCHED> {
    fn drain(&mut self, node: usize) {
        let queue = &mut self.queue;
        let raw = &mut self.nodes[node];
        let committed = tikv::drain(raw, |message| queue.push_back(message));
        if node == self.leader {
            self.committed += committed;
        }
        let applied = raw.raft.raft_log.applied;
        if applied >= self.kept[node] + KEEP {
            self.kept[node] = applied;
            raw.mut_store().wl().compact(applied).expect("applied");
        }
    }
}

impl<const BATCHED: bool> Cluster for Tikv<BATCHED> {
    const NAME: &'static str = if BATCHED { "raft, batch_append" } else { "raft" };

    fn elect(nodes: usize) -> Self {
        let mut cluster = Tikv {
            nodes: (0..nodes).map(|node| tikv::raw(node, nodes, BATCHED)).collect(),
            queue: VecDeque::new(),
            leader: 0,
            committed: 0,
            kept: vec![0; nodes],
        };
        cluster.nodes[0].campaign().expect("a voter");
        cluster.drain(0);
        cluster.pump();
        assert_eq!(cluster.nodes[0].raft.state, StateRole::Leader);
        cluster
    }

    fn propose(&mut self, window: u64) {
        for _ in 0..window {
            self.nodes[self.leader].propose(vec![], payload().to_vec()).expect("it leads");
        }
    }

    fn pump(&mut self) {
        self.drain(self.leader);
        while let Some(message) = self.queue.pop_front() {
            let to = message.to as usize - 1;
            self.nodes[to].step(message).expect("in order");
            // What has come meanwhile is handled at once, as a host does.
            if self.queue.front().is_none_or(|next| next.to as usize - 1 != to) {
                self.drain(to);
            }
        }
    }

    fn committed(&self) -> u64 {
        self.committed
    }
}

struct Omni {
    nodes: Vec<omni::Raw>,
    out: Vec<OmniMessage<Item>>,
    queue: VecDeque<OmniMessage<Item>>,
    leader: usize,
    first: u64,
    kept: u64,
}

impl Omni {
    fn send(&mut self, node: usize) {
        self.nodes[node].take_outgoing_messages(&mut self.out);
        self.queue.extend(self.out.drain(..));
    }
}

impl Cluster for Omni {
    const NAME: &'static str = "omnipaxos";

    fn elect(nodes: usize) -> Omni {
        let mut cluster = Omni {
            nodes: (0..nodes).map(|node| omni::raw(node, nodes)).collect(),
            out: Vec::new(),
            queue: VecDeque::new(),
            leader: 0,
            first: 0,
            kept: 0,
        };
        for _ in 0..100 {
            for node in 0..nodes {
                cluster.nodes[node].tick();
                cluster.send(node);
            }
            cluster.pump();
        }
        let leads = |raw: &omni::Raw| raw.get_current_leader() == Some((raw.get_pid(), true));
        cluster.leader = cluster.nodes.iter().position(leads).expect("a leader");
        cluster
    }

    fn propose(&mut self, window: u64) {
        for _ in 0..window {
            let item = Item(Bytes::copy_from_slice(&payload()));
            self.nodes[self.leader].append(item).expect("it leads");
        }
    }

    fn pump(&mut self) {
        self.send(self.leader);
        while let Some(message) = self.queue.pop_front() {
            let to = message.get_receiver() as usize - 1;
            self.nodes[to].handle_incoming(message);
            if self.queue.front().is_none_or(|next| next.get_receiver() as usize - 1 != to) {
                self.send(to);
            }
        }
        let decided = self.committed();
        if decided >= self.kept + KEEP {
            self.kept = decided;
            // What every node has accepted is dropped everywhere; it is told so with the next entry.
            let at = self.nodes.iter().map(|node| node.get_decided_idx()).min();
            self.nodes[self.leader].trim(at).expect("decided everywhere");
            self.send(self.leader);
        }
    }

    fn committed(&self) -> u64 {
        self.nodes[self.leader].get_decided_idx() as u64 - self.first
    }
}

/// Thousands of entries a second.
fn measure<C: Cluster>(nodes: usize, window: u64) -> u64 {
    let mut cluster = C::elect(nodes);
    let mut round = |lasts_ns: u64| {
        let (start, before) = (cpu_ns(), cluster.committed());
        loop {
            let mut proposed = 0;
            while proposed < 50_000 {
                cluster.propose(window);
                cluster.pump();
                proposed += window;
            }
            let (ns, committed) = (cpu_ns() - start, cluster.committed() - before);
            assert!(committed + window >= proposed, "{} commits too little", C::NAME);
            if ns >= lasts_ns {
                return committed * 1_000_000 / ns;
            }
        }
    };
    round(LASTS_NS / 7);
    round(LASTS_NS)
}

fn row(nodes: usize, name: &str, cells: &[[u64; ROUNDS]; 4]) {
    let middle = |rounds: &[u64; ROUNDS]| {
        let mut rounds = *rounds;
        rounds.sort_unstable();
        rounds[ROUNDS / 2]
    };
    let [a, b, c, d] = cells.each_ref().map(middle);
    println!("{nodes} nodes  {name:<20} {a:>7} {b:>7} {c:>7} {d:>7}");
}

/// Prints the table.
pub fn print(alone: bool) {
    println!("\nCommits, in thousands a second of CPU time; entries of 100 bytes, in memory\n");
    println!("         window               {:>7} {:>7} {:>7} {:>7}", 1, 16, 64, 1024);
    for nodes in [3, 5] {
        let mut cells = [[[0; ROUNDS]; 4]; 5];
        for round in 0..ROUNDS {
            for (at, window) in [1, 16, 64, 1024].into_iter().enumerate() {
                cells[0][at][round] = measure::<Quorate<true>>(nodes, window);
                cells[4][at][round] = measure::<Quorate<false>>(nodes, window);
                if !alone {
                    cells[1][at][round] = measure::<Tikv<false>>(nodes, window);
                    cells[2][at][round] = measure::<Tikv<true>>(nodes, window);
                    cells[3][at][round] = measure::<Omni>(nodes, window);
                }
            }
        }
        row(nodes, Quorate::<true>::NAME, &cells[0]);
        row(nodes, Quorate::<false>::NAME, &cells[4]);
        if !alone {
            row(nodes, Tikv::<false>::NAME, &cells[1]);
            row(nodes, Tikv::<true>::NAME, &cells[2]);
            row(nodes, Omni::NAME, &cells[3]);
        }
    }
}
