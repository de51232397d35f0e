//! A node of the cluster and those of its process who campaign for names: one machine, with one clock,
//! which is paused as a whole and dies as a whole.
//!
//! What the cluster's node tells goes to the host, as it does in production, once it is durable; the host
//! hands back what concerns the contenders ([`Ask::Heard`]). So none of them acts on what a crash could
//! still take back.

use std::collections::BTreeMap;

use quorate_core::cluster::{self, Asked, Cluster, Command, Event, Message, Record};
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time, earliest};

use super::contender::{Contender, Purpose, Said, Wish};

/// Tickets and watches from here on are the contenders'.
pub(super) const OURS: u64 = 1 << 48;

/// A node of the cluster under test, with its contenders.
#[derive(Clone, Debug)]
pub struct Member {
    /// The machine under test.
    pub cluster: Cluster,
    /// Those of this process who campaign.
    pub(super) contenders: Vec<Contender>,
    /// What was asked and not answered yet, and by when it must be.
    waiting: BTreeMap<u64, Time>,
    /// For what a contender asked, and when.
    asked: BTreeMap<u64, (usize, Purpose, Time)>,
    watches: BTreeMap<u64, usize>,
    names: u64,
}

/// What the host hands to a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// What a client or an operator asks of the cluster's node.
    Cluster(Command),
    /// Campaign for this.
    Campaign(Wish),
    /// Whoever holds a name gives it back, and whoever waits for one has but one turn.
    Finish,
    /// The applications of this process do nothing for so many milliseconds; the network side goes on.
    Hang(u64),
    /// What the cluster's node told a contender.
    Heard(Event),
}

/// What a member tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// What the cluster's node tells.
    Cluster(Event),
    /// What a contender does.
    Contender(Said),
}

impl Member {
    /// A node that knows nothing yet.
    #[must_use]
    pub fn new(config: cluster::Config) -> Member {
        Member {
            cluster: Cluster::new(config),
            contenders: Vec::new(),
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            watches: BTreeMap::new(),
            names: OURS,
        }
    }

    /// How many requests wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// One step of the cluster's node.
    fn step(&mut self, cx: Cx, input: Input<Cluster>, fx: &mut dyn Effects<Member>) {
        if let Input::Command(Command::Ask(asked)) = &input {
            for Asked { ticket, timeout_ms, .. } in asked {
                let before = self.waiting.insert(*ticket, cx.now.after_ms(*timeout_ms));
                assert!(before.is_none(), "a ticket is used once");
            }
        }
        let tick = matches!(input, Input::Tick);
        self.cluster.handle(cx, input, &mut Through { fx, waiting: &mut self.waiting });
        let first = self.waiting.values().min().copied();
        if tick && let Some(first) = first {
            assert!(first > cx.now, "a request was not answered by its deadline");
        }
        let wakes = self.cluster.deadline();
        assert!(
            first.is_none_or(|first| wakes.is_some_and(|wakes| wakes <= first)),
            "nobody would wake by the deadline of a request"
        );
    }

    fn heard(&mut self, now: Time, event: Event) {
        match event {
            Event::Answer { ticket, result } => {
                if let Some((n, purpose, sent)) = self.asked.remove(&ticket) {
                    self.contenders[n].answered(now, purpose, sent, result);
                }
            }
            Event::Watched { watch, update } => {
                if let Some(n) = self.watches.get(&watch) {
                    self.contenders[*n].watched(now, watch, update);
                }
            }
            _ => {}
        }
    }

    /// The contenders do what is due.
    fn turn(&mut self, cx: Cx, fx: &mut dyn Effects<Member>) {
        for n in 0..self.contenders.len() {
            let wants = self.contenders[n].turn(cx.now);
            for said in wants.said {
                fx.emit(Told::Contender(said));
            }
            let mut batch = Vec::new();
            for (purpose, timeout_ms, request) in wants.requests {
                self.names += 1;
                self.asked.insert(self.names, (n, purpose, cx.now));
                batch.push(Asked { ticket: self.names, timeout_ms, request });
            }
            if !batch.is_empty() {
                self.step(cx, Input::Command(Command::Ask(batch)), fx);
            }
            if let Some(watch) = wants.unwatch {
                self.watches.remove(&watch);
                self.step(cx, Input::Command(Command::Unwatch(watch)), fx);
            }
            if let Some((target, from)) = wants.watch {
                self.names += 1;
                let watch = self.names;
                self.watches.insert(watch, n);
                self.contenders[n].watches(watch);
                self.step(cx, Input::Command(Command::Watch { watch, target, from }), fx);
            }
        }
    }
}

impl Machine for Member {
    type Message = Message;
    type Record = Record;
    type Command = Ask;
    type Event = Told;

    fn restore(&mut self, record: Record) {
        self.cluster.restore(record);
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => self.step(cx, Input::Start, fx),
            Input::Message { from, message } => {
                self.step(cx, Input::Message { from, message }, fx);
            }
            Input::Link { peer, up } => self.step(cx, Input::Link { peer, up }, fx),
            Input::Tick => {
                if self.cluster.deadline().is_some_and(|at| at <= cx.now) {
                    self.step(cx, Input::Tick, fx);
                }
            }
            Input::Command(Ask::Cluster(command)) => self.step(cx, Input::Command(command), fx),
            Input::Command(Ask::Campaign(wish)) => {
                self.contenders.push(Contender::new(wish, cx.now));
            }
            Input::Command(Ask::Finish) => self.contenders.iter_mut().for_each(Contender::finish),
            Input::Command(Ask::Hang(ms)) => {
                self.contenders.iter_mut().for_each(|one| one.hang(cx.now.after_ms(ms)));
            }
            Input::Command(Ask::Heard(event)) => {
                if let Event::Watched { watch, .. } = event
                    && self.watches.contains_key(&watch)
                {
                    self.step(cx, Input::Command(Command::Taken { watch, count: 1 }), fx);
                }
                self.heard(cx.now, event);
            }
        }
        self.turn(cx, fx);
    }

    fn deadline(&self) -> Option<Time> {
        let ours = self.contenders.iter().filter_map(Contender::deadline).min();
        earliest(self.cluster.deadline(), ours)
    }

    fn check(&self) {
        self.cluster.check();
    }
}

/// The cluster's effects, which are the member's; and whether each request is answered once.
struct Through<'a> {
    fx: &'a mut dyn Effects<Member>,
    waiting: &'a mut BTreeMap<u64, Time>,
}

impl Through<'_> {
    fn told(&mut self, event: &Event) {
        if let Event::Answer { ticket, .. } = event {
            let asked = self.waiting.remove(ticket).is_some() || *ticket == INIT;
            assert!(asked, "what was not asked, or was answered before, is answered");
        }
    }
}

/// The ticket of whoever makes the cluster.
pub(super) const INIT: u64 = 0;

impl Effects<Cluster> for Through<'_> {
    fn persist(&mut self, record: Record) {
        self.fx.persist(record);
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.fx.send(to, message);
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.fx.send_now(to, message);
    }
    fn emit(&mut self, event: Event) {
        self.told(&event);
        self.fx.emit(Told::Cluster(event));
    }
    fn emit_now(&mut self, event: Event) {
        self.told(&event);
        self.fx.emit_now(Told::Cluster(event));
    }
}
