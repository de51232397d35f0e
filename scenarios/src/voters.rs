//! A group of voters and their log, as a [`System`] for the simulator.
//!
//! The group keeps one canonical sequence: what any node was told is committed at an index is what
//! every node is told there, for ever. From that, and from what clients did, it says what must hold
//! after every step:
//!
//! - no two nodes lead at one time, each by its own clock;
//! - what was committed is never another entry, on any node, after any crash;
//! - a read that began after a write was acknowledged sees it.
//!
//! In the end somebody leads and every member has all that was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use quorate_core::log::{
    Ballot, Command, Entry, Event, Log, Members, Message, Outcome, Payload, Position, Record,
    Timing,
};
use quorate_sim::{HostCx, Loss, Rng, SimTime, System, View};
use serde::{Deserialize, Serialize};

/// What a client or an operator does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// Proposes an entry at a node, whoever leads.
    Write,
    /// Reads at a node.
    Read {
        /// Trusting the leader's clock.
        by_lease: bool,
    },
    /// Hands over, if the node leads.
    HandOver,
    /// Hands over to this node, if the node leads.
    Transfer(usize),
    /// The node's application lives.
    Alive,
    /// Makes these the voters, if the node leads.
    Change(Vec<usize>),
    /// Compacts what was applied.
    Compact,
    /// Proposes so many entries at once, each of a message of its own.
    Big(u32),
}

/// The bytes of an entry of [`Act::Big`]: no message holds two.
const BIG: usize = 600 * 1024;

/// Voters under test.
#[derive(Clone, Debug)]
pub struct Voters {
    nodes: usize,
    /// How many of them vote in the beginning.
    pub voting: usize,
    /// Which of them keep no data.
    pub witnesses: Vec<usize>,
    /// How long things take.
    pub timing: Timing,
    /// Random operations.
    pub ops: u32,
    /// Whether clocks stay within the bound, so that two leaders are a failure.
    pub true_clocks: bool,
    /// Whether no process is ever paused or slow, so that what hosts were told holds: two that
    /// believe that they lead are a failure.
    pub prompt: bool,
    /// At this time somebody must lead, whatever is cut.
    pub must_lead_at: Option<SimTime>,
    /// At these times somebody must lead, and not this node.
    pub must_lead_elsewhere: Vec<(SimTime, usize)>,
    /// Within which time each application says that it lives, if it must.
    pub alive_within_us: Option<u64>,
    /// From this time on no ballot may change.
    pub steady: Option<SimTime>,
    /// The ballot then.
    ballot: Option<Ballot>,
    canonical: Vec<Entry>,
    /// Up to where a write was acknowledged.
    acknowledged: u64,
    /// Writes that wait to be committed: by index, under which ballot, at which node.
    waiting: BTreeMap<u64, Vec<(Ballot, usize)>>,
    /// What was acknowledged when each read began.
    reads: BTreeMap<u64, u64>,
    /// Transfers that were not answered: at which node, to which.
    transfers: BTreeMap<u64, (usize, usize)>,
    applied: Vec<u64>,
    /// How many records each node's journal has dropped.
    dropped: Vec<u64>,
    /// Under which ballot each host was told that its node leads, and not yet that it stopped.
    believes: Vec<Option<Ballot>>,
    tickets: u64,
    /// Nodes that never start.
    absent: BTreeSet<usize>,
}

impl Voters {
    /// A group of `nodes`, all of which vote.
    #[must_use]
    pub fn new(nodes: usize) -> Voters {
        Voters {
            nodes,
            voting: nodes,
            witnesses: Vec::new(),
            timing: Timing { heartbeat_us: 20_000, election_us: 300_000 },
            ops: 100,
            true_clocks: true,
            prompt: true,
            must_lead_at: None,
            must_lead_elsewhere: Vec::new(),
            alive_within_us: None,
            steady: None,
            ballot: None,
            canonical: Vec::new(),
            acknowledged: 0,
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            transfers: BTreeMap::new(),
            applied: vec![0; nodes],
            dropped: vec![0; nodes],
            believes: vec![None; nodes],
            tickets: 0,
            absent: BTreeSet::new(),
        }
    }

    fn members(&self, nodes: &[usize]) -> Members {
        let mut members = Members::of(nodes.iter().map(|node| self.id(*node)));
        let witnesses = self.witnesses.iter().filter(|node| nodes.contains(node));
        members.witnesses = witnesses.map(|node| self.id(*node)).collect();
        members
    }

    /// The voters after one step from those of `log` towards `wanted`.
    fn step_towards(&self, log: &Log, wanted: &[usize]) -> Vec<usize> {
        let votes = |node: &usize| log.members().voters.contains(&self.id(*node));
        let mut voters: Vec<usize> = (0..self.nodes).filter(votes).collect();
        if let Some(new) = wanted.iter().find(|node| !votes(node)) {
            voters.push(*new);
        } else if let Some(at) = voters.iter().position(|node| !wanted.contains(node)) {
            voters.remove(at);
        }
        voters
    }

    /// Who leads now, each by its own clock.
    pub fn leaders(view: &View<'_, Voters>) -> Vec<(usize, Ballot)> {
        let leads = |(node, log): (usize, &Log)| Some((node, log.leads(view.monotonic(node))?));
        view.machines().filter_map(leads).collect()
    }

    /// A journal drops what lies before the last snapshot that is durable.
    fn drop_records(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        let durable = cx.view().durable(node);
        let snapshot = |position: &u64| matches!(cx.read(*position), Some(Record::Snapshot(_)));
        if let Some(last) = (self.dropped[node]..durable).rev().find(snapshot) {
            (self.dropped[node]..last).for_each(|position| cx.forget(position));
            self.dropped[node] = last;
        }
    }

    fn transferred(&mut self, ticket: u64, outcome: Outcome, cx: &mut HostCx<'_, Self>) {
        let Some((_, to)) = self.transfers.remove(&ticket) else {
            return cx.fail(format!("transfer {ticket} is answered twice"));
        };
        match outcome {
            Outcome::Done(ballot) if ballot.node != self.id(to) => {
                cx.fail(format!("{ballot:?} leads, and not node {to}, which was named"));
            }
            Outcome::Done(_) => cx.mark("transferred"),
            Outcome::Kept => cx.mark("transfer given up"),
            Outcome::Elsewhere(_) | Outcome::Nobody => cx.mark("transfer went astray"),
        }
    }

    /// What a node was told is committed, against what every other was told.
    fn committed(&mut self, node: usize, from: u64, entries: &[Entry], cx: &mut HostCx<'_, Self>) {
        let witness = self.witnesses.contains(&node);
        for (index, entry) in (from..).zip(entries) {
            let at = index as usize - 1;
            match self.canonical.get(at) {
                None if at == self.canonical.len() && entry.payload != Payload::Blank => {
                    self.canonical.push(entry.clone());
                }
                None if witness => continue,
                None => return cx.fail(format!("index {index} is told before those below it")),
                Some(known) => {
                    let same = known == entry
                        || (witness
                            && entry.payload == Payload::Blank
                            && known.ballot == entry.ballot);
                    if !same {
                        let (was, is) = (brief(known, cx), brief(entry, cx));
                        return cx.fail(format!("index {index} was {was}, and is {is}"));
                    }
                }
            }
            self.applied[node] = self.applied[node].max(index);
            if matches!(entry.payload, Payload::Members(_)) {
                cx.mark("members changed");
            }
            for (ballot, writer) in self.waiting.remove(&index).unwrap_or_default() {
                if ballot == entry.ballot && writer == node {
                    self.acknowledged = self.acknowledged.max(index);
                    cx.mark("write acknowledged");
                } else if ballot == entry.ballot {
                    self.waiting.entry(index).or_default().push((ballot, writer));
                }
            }
        }
    }
}

impl System for Voters {
    type Machine = Log;
    type Op = Act;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> Log {
        let log = Log::new(self.timing, node as u8 * 40);
        match self.alive_within_us {
            Some(within_us) => log.watched(within_us),
            None => log,
        }
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, Act)> {
        let act = |rng: &mut Rng| match rng.below(10) {
            0..5 => Act::Write,
            5 | 6 => Act::Read { by_lease: true },
            7 | 8 => Act::Read { by_lease: false },
            _ => Act::Compact,
        };
        (0..self.ops)
            .flat_map(|_| {
                let at = SimTime(rng.below(active.0));
                let act = act(rng);
                (0..self.nodes).map(move |node| (at, node, act.clone()))
            })
            .collect()
    }

    fn op(&mut self, node: usize, act: Act, cx: &mut HostCx<'_, Self>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let command = match act {
            Act::Write => Command::Propose { ticket, data: vec![Bytes::from(ticket.to_string())] },
            Act::Big(count) => {
                let data = |n: u32| {
                    let mut data = format!("{ticket}.{n} ").into_bytes();
                    data.resize(BIG, b' ');
                    Bytes::from(data)
                };
                Command::Propose { ticket, data: (0..count).map(data).collect() }
            }
            Act::Read { by_lease } => {
                // Where clocks lie, so may a leader that trusts its own.
                let least = if by_lease && !self.true_clocks { 0 } else { self.acknowledged };
                self.reads.insert(ticket, least);
                Command::Read { ticket, by_lease }
            }
            Act::HandOver => Command::HandOver { to: None },
            Act::Transfer(to) => {
                if cx.view().running(node) {
                    self.transfers.insert(ticket, (node, to));
                }
                Command::Transfer { ticket, to: self.id(to) }
            }
            Act::Alive => Command::Alive,
            Act::Change(wanted) => {
                let Some(log) = cx.view().machine(node) else { return };
                let wanted: Vec<usize> =
                    wanted.into_iter().filter(|node| !self.absent.contains(node)).collect();
                let voters = self.step_towards(log, &wanted);
                Command::Change { ticket, members: self.members(&voters) }
            }
            Act::Compact => {
                self.drop_records(node, cx);
                Command::Compact { index: self.applied[node], data: Bytes::from(vec![7; 1000]) }
            }
        };
        cx.command(command);
    }

    fn event(&mut self, node: usize, event: Event, cx: &mut HostCx<'_, Self>) {
        match event {
            Event::Committed { from, entries } => self.committed(node, from, &entries, cx),
            Event::Proposed { first, .. } => {
                self.waiting.entry(first.index).or_default().push((first.ballot, node));
            }
            Event::Readable { ticket, index } => {
                let least = self.reads.remove(&ticket).unwrap_or(0);
                cx.mark("read");
                if index < least {
                    cx.fail(format!("a read sees {index}, {least} had been acknowledged"));
                }
            }
            Event::Leading(ballot) => {
                self.believes[node] = Some(ballot);
                cx.mark("leading");
            }
            Event::Stopped(_) => {
                self.believes[node] = None;
                let view = cx.view();
                if view.durable(node) < view.log(node).len() {
                    cx.mark("told before the disk");
                }
                cx.mark("stopped");
            }
            Event::Following(_) => cx.mark("following"),
            Event::Restore(snapshot) => {
                if snapshot.at.index > self.applied[node] {
                    cx.mark("snapshot taken");
                }
                self.applied[node] = self.applied[node].max(snapshot.at.index);
            }
            Event::Transferred { ticket, outcome } => self.transferred(ticket, outcome, cx),
            Event::Refused { ticket, .. } => {
                self.transfers.remove(&ticket);
                cx.mark("refused");
            }
        }
    }

    fn crashed(&mut self, node: usize, _: Loss, _: &mut HostCx<'_, Self>) {
        self.applied[node] = 0;
        self.believes[node] = None;
        self.transfers.retain(|_, (asked, _)| *asked != node);
    }

    fn restarted(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        let fresh = cx.view().machine(node).is_some_and(|log| log.members().voters.is_empty());
        if fresh {
            let voters: Vec<usize> = (0..self.voting).collect();
            cx.command(Command::Found(self.members(&voters)));
        }
    }

    fn invariant(&mut self, _: usize, view: &View<'_, Self>) -> Result<(), String> {
        let leaders = Self::leaders(view);
        if leaders.len() > 1 {
            if self.true_clocks {
                return Err(format!("two lead: {leaders:?}"));
            }
            view.mark("two lead");
        }
        if self.prompt && self.believes.iter().flatten().count() > 1 {
            return Err(format!("two were told that they lead: {:?}", self.believes));
        }
        if self.must_lead_at.is_some_and(|at| at <= view.now()) {
            self.must_lead_at = None;
            if leaders.is_empty() {
                return Err("nobody leads, although somebody could".to_owned());
            }
        }
        let due = |(at, _): &(SimTime, usize)| *at <= view.now();
        if let Some((_, but)) = self.must_lead_elsewhere.pop_if(|next| due(next))
            && !leaders.iter().any(|(node, _)| *node != but)
        {
            return Err(format!("{leaders:?} lead, although another than {but} could"));
        }
        if self.steady.is_some_and(|since| since <= view.now()) && view.healed().is_none() {
            let highest = view.machines().map(|(_, log)| log.promised()).max();
            let ballot = *self.ballot.get_or_insert(highest.unwrap_or(Ballot::ZERO));
            if highest > Some(ballot) {
                return Err(format!("the ballot went from {ballot:?} to {highest:?}"));
            }
        }
        Ok(())
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let leaders = Self::leaders(view);
        let [(leader, _)] = leaders[..] else { return Err(format!("{leaders:?} lead")) };
        if let Some((ticket, (node, to))) = self.transfers.first_key_value() {
            return Err(format!("transfer {ticket} from {node} to {to} was not answered"));
        }
        let Some(log) = view.machine(leader) else { return Err("the leader is down".to_owned()) };
        for id in log.members().all() {
            let Some(node) = view.index(id).filter(|node| !self.absent.contains(node)) else {
                continue;
            };
            let Some(member) = view.machine(node) else { return Err(format!("{node} is down")) };
            if member.commit() != log.last().index || member.last() != log.last() {
                return Err(format!("node {node} has {} of {:?}", member.commit(), log.last()));
            }
        }
        Ok(())
    }

    fn describe(&self, node: usize, view: &View<'_, Self>) -> Vec<(&'static str, String)> {
        let Some(log) = view.machine(node) else { return Vec::new() };
        let short = |ballot: Ballot| short(ballot, view);
        let Position { ballot, index } = log.last();
        let (written, durable) = (view.log(node).len(), view.durable(node));
        let leads = log.leads(view.monotonic(node)).map_or_else(|| "no".to_owned(), short);
        vec![
            ("leads", leads),
            ("leader", log.leader().map_or_else(|| "none known".to_owned(), short)),
            ("promised", short(log.promised())),
            ("last", format!("{index}, of {}", short(ballot))),
            ("commit", log.commit().to_string()),
            ("log", format!("{durable} of {written} records durable")),
            ("members", names(log.members(), view)),
        ]
    }

    /// A group that keeps a quorum of those it began with does without one that never comes, unless
    /// that one may be who must lead.
    fn leave_out(&mut self, node: usize) -> bool {
        let gone = self.absent.iter().chain([&node]).filter(|node| **node < self.voting).count();
        if gone > (self.voting - 1) / 2 || self.must_lead_at.is_some() {
            return false;
        }
        self.absent.insert(node);
        true
    }

    fn simpler(&self, act: &Act) -> Vec<Act> {
        match act {
            Act::Change(wanted) if wanted.len() > 1 => (0..wanted.len())
                .map(|at| {
                    let mut fewer = wanted.clone();
                    fewer.remove(at);
                    Act::Change(fewer)
                })
                .collect(),
            Act::Big(count) if *count > 1 => vec![Act::Big(count - 1)],
            Act::Read { by_lease: true } => vec![Act::Read { by_lease: false }],
            _ => Vec::new(),
        }
    }

    fn size(&self, message: &Message) -> usize {
        match message {
            Message::Append { entries, .. } => 100 + 60 * entries.len(),
            _ => 100,
        }
    }
}

/// A ballot in short: its number and whose it is.
fn short(ballot: Ballot, view: &View<'_, Voters>) -> String {
    match view.index(ballot.node) {
        Some(node) if ballot != Ballot::ZERO => format!("{}.{node}", ballot.number),
        _ => "none".to_owned(),
    }
}

fn names(members: &Members, view: &View<'_, Voters>) -> String {
    let mut text = String::new();
    for id in members.all() {
        let node = view.index(id).map_or_else(|| format!("{id:?}"), |node| node.to_string());
        let witness = if members.witnesses.contains(&id) { ":witness" } else { "" };
        let learner = if members.learners.contains(&id) { ":learner" } else { "" };
        let _ = write!(text, "{node}{witness}{learner} ");
    }
    text.trim_end().to_owned()
}

/// An entry in a few words: data may be long.
fn brief(entry: &Entry, cx: &HostCx<'_, Voters>) -> String {
    let what = match &entry.payload {
        Payload::Data(data) => {
            let begin = data.iter().take(12).map(|byte| char::from(*byte)).collect::<String>();
            format!("`{}`", begin.trim_end())
        }
        Payload::Members(members) => format!("members {}", names(members, &cx.view())),
        Payload::Noop => "nothing".to_owned(),
        Payload::Blank => "blank".to_owned(),
    };
    format!("{what} of ballot {}", short(entry.ballot, &cx.view()))
}
