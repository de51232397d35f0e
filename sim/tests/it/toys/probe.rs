//! A machine that does one thing at a time, and a host that writes down all it sees.

use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_sim::{Conditions, Fault, HostCx, Loss, Plan, Sim, SimTime, System, View};
use serde::{Deserialize, Serialize};

/// Pings every peer each period, persists what it is told to say, and tells its host everything.
#[derive(Clone)]
pub struct Probe {
    pub peers: Vec<NodeId>,
    pub period_us: u64,
    pub due: Option<Time>,
    pub pings: u64,
    pub restored: Vec<u64>,
    /// The timer does not move when it fires.
    pub stuck: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Ping(u64),
    /// Sent with `send_now`.
    Early(u64),
    /// Sent with `send`, after the record.
    Late(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    Heard(NodeId, Word),
    Link(NodeId, bool),
    Said(u64),
    Ticked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    Say(u64),
    Panic,
}

impl Machine for Probe {
    type Message = Word;
    type Record = u64;
    type Command = Ask;
    type Event = Told;

    fn restore(&mut self, record: u64) {
        self.restored.push(record);
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => self.due = Some(cx.now.after_us(self.period_us)),
            Input::Tick => {
                if !self.stuck {
                    self.due = Some(cx.now.after_us(self.period_us));
                }
                self.pings += 1;
                for &peer in &self.peers {
                    fx.send_now(peer, Word::Ping(self.pings));
                }
                fx.emit(Told::Ticked);
            }
            Input::Message { from, message } => fx.emit(Told::Heard(from, message)),
            Input::Link { peer, up } => fx.emit(Told::Link(peer, up)),
            Input::Command(Ask::Say(n)) => {
                fx.persist(n);
                for &peer in &self.peers {
                    fx.send(peer, Word::Late(n));
                    fx.send_now(peer, Word::Early(n));
                }
                fx.send(cx.me, Word::Late(n));
                fx.emit(Told::Said(n));
            }
            Input::Command(Ask::Panic) => panic!("asked to"),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}

/// What the host saw: when, where, what.
pub type Seen = (SimTime, usize, Told);

/// A host that writes everything down.
#[derive(Clone)]
pub struct Watch {
    pub nodes: usize,
    pub period_us: u64,
    pub stuck: bool,
    pub seen: Vec<Seen>,
    pub losses: Vec<(SimTime, usize, Loss)>,
    /// What was restored at each start.
    pub starts: Vec<(SimTime, usize, Vec<u64>)>,
    /// Positions that the host forgets once their record is said.
    pub forget: bool,
    /// Which node closes its link to which when it says 7.
    pub closes: Option<(usize, usize)>,
    pub core: Option<Vec<usize>>,
    /// Whether what was durable when it was sent may be gone when the host hears of it.
    pub destroyed: bool,
    /// No checksum finds what is corrupt: a thousand is added to it.
    pub unchecked: bool,
    /// Whether the run ever converges, and what excuses it if not.
    pub converges: bool,
    pub excuse: Option<String>,
}

impl Watch {
    pub fn new(nodes: usize) -> Watch {
        Watch {
            nodes,
            period_us: 10_000,
            stuck: false,
            seen: Vec::new(),
            losses: Vec::new(),
            starts: Vec::new(),
            forget: false,
            closes: None,
            core: None,
            destroyed: false,
            unchecked: false,
            converges: true,
            excuse: None,
        }
    }

    /// How many messages `to` got from `from` in the time given in milliseconds.
    pub fn heard(&self, from: usize, to: usize, ms: std::ops::Range<u64>) -> usize {
        let (start, end) = (SimTime::ms(ms.start), SimTime::ms(ms.end));
        let id = self.id(from);
        let heard = |(at, node, told): &&Seen| {
            let here = *node == to && (start..end).contains(at);
            here && matches!(told, Told::Heard(from, _) if *from == id)
        };
        self.seen.iter().filter(heard).count()
    }

    /// The pings that `to` got from `from`, with their times.
    pub fn pings(&self, from: usize, to: usize) -> Vec<(SimTime, u64)> {
        let id = self.id(from);
        let ping = |(at, node, told): &Seen| match told {
            Told::Heard(from, Word::Ping(n)) if *node == to && *from == id => Some((*at, *n)),
            _ => None,
        };
        self.seen.iter().filter_map(ping).collect()
    }

    /// What `node` was told of its link to `peer`, with the times.
    pub fn links(&self, node: usize, peer: usize) -> Vec<(SimTime, bool)> {
        let id = self.id(peer);
        let link = |(at, on, told): &Seen| match told {
            Told::Link(to, up) if *on == node && *to == id => Some((*at, *up)),
            _ => None,
        };
        self.seen.iter().filter_map(link).collect()
    }
}

impl System for Watch {
    type Machine = Probe;
    type Op = Ask;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> Probe {
        Probe {
            peers: (0..self.nodes).filter(|&peer| peer != node).map(|peer| self.id(peer)).collect(),
            period_us: self.period_us,
            due: None,
            pings: 0,
            restored: Vec::new(),
            stuck: self.stuck,
        }
    }

    fn op(&mut self, _: usize, op: Ask, cx: &mut HostCx<'_, Self>) {
        cx.command(op);
    }

    fn event(&mut self, node: usize, event: Told, cx: &mut HostCx<'_, Self>) {
        if let Told::Said(n) = event {
            let end = cx.view().durable(node);
            let position = (0..end).find(|&position| cx.read(position) == Some(&n));
            let Some(position) = position else {
                return cx.fail(format!("{n} was said before it was durable"));
            };
            if self.forget {
                cx.forget(position);
            }
            if let Some((closer, peer)) = self.closes
                && (closer, n) == (node, 7)
            {
                cx.disconnect(self.id(peer));
            }
        }
        if let Told::Heard(from, Word::Late(n)) = event {
            let from = cx.view().index(from).expect("a node");
            let view = cx.view();
            let log = view.log(from);
            let durable = (0..view.durable(from)).any(|position| log.get(position) == Some(&n));
            if !durable && !self.forget && !self.destroyed {
                return cx.fail(format!("{n} was heard before it was durable"));
            }
        }
        if let Told::Heard(from, Word::Early(n)) = event {
            let view = cx.view();
            let from = view.index(from).expect("a node");
            let log = view.log(from);
            if !(0..view.durable(from)).any(|position| log.get(position) == Some(&n)) {
                view.mark("heard before durable");
            }
        }
        self.seen.push((cx.now(), node, event));
    }

    fn crashed(&mut self, node: usize, loss: Loss, cx: &mut HostCx<'_, Self>) {
        self.losses.push((cx.now(), node, loss));
    }

    fn restarted(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        let restored = cx.view().machine(node).map(|probe| probe.restored.clone());
        self.starts.push((cx.now(), node, restored.unwrap_or_default()));
    }

    fn rot(&self, record: &u64, _: u64) -> Option<u64> {
        Some(record + 1_000)
    }

    fn corrupt(&self, word: &Word, _: u64) -> Option<Word> {
        let (Word::Ping(n) | Word::Early(n) | Word::Late(n)) = word;
        self.unchecked.then_some(Word::Ping(n + 1_000_000))
    }

    fn converged(&mut self, _: &View<'_, Self>) -> Result<(), String> {
        if self.converges { Ok(()) } else { Err("it never does".to_owned()) }
    }

    fn excuse(&self, view: &View<'_, Self>) -> Option<String> {
        assert!(view.healed().is_some(), "asked in the end only");
        self.excuse.clone()
    }

    fn size(&self, _: &Word) -> usize {
        100
    }

    fn core(&mut self, _: &mut quorate_sim::Rng) -> Option<Vec<usize>> {
        self.core.clone()
    }
}

/// A calm cluster of probes, 1 ms apart, that runs ten seconds with these faults.
pub fn sim(watch: Watch, faults: Vec<(u64, Fault)>) -> Sim<Watch> {
    sim_with(watch, faults, |_| {})
}

/// The same with other conditions, and ops `(ms, node, ask)`.
pub fn sim_with(
    watch: Watch,
    faults: Vec<(u64, Fault)>,
    change: impl FnOnce(&mut Conditions),
) -> Sim<Watch> {
    let mut plan = Plan::calm(SimTime::secs(10));
    for (ms, fault) in faults {
        plan = plan.fault(SimTime::ms(ms), fault);
    }
    for n in 0..500 {
        plan = plan.op(SimTime::ms(100 + n * 17), (n % 2) as usize, Ask::Say(n));
    }
    let mut run = plan.draw(&watch, 1);
    run.conditions = Conditions::calm();
    run.conditions.network.latency_us = quorate_sim::Span::only(1_000);
    change(&mut run.conditions);
    Sim::new(watch, run, false)
}

/// Runs to the end of the active phase.
pub fn watch(mut sim: Sim<Watch>) -> Watch {
    sim.advance(SimTime::ms(9_999));
    assert_eq!(sim.failure(), None);
    sim.system
}
