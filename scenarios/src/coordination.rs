//! A cluster, its clients, its lock holders and its watchers, as a [`System`] for the simulator.
//!
//! From what clients asked and were answered, and from what the nodes' registries say (`truth`), it knows
//! what must hold after every step:
//!
//! - of a name there are never two holders that both may work, each by its own clock, while clocks keep to
//!   the bound; and whoever may work has its lease and its name in the registry of every node;
//! - tokens rise, grant by grant, through whatever happens; a write under a grant is the holder's; a store
//!   outside of the cluster that refuses old tokens never refuses whoever may work;
//! - what one node has applied at a revision, every other has, at any time; nothing acknowledged is lost;
//! - every request is answered once, by its deadline (see `member`);
//! - who watches is told each change once, in order, or that some are not known any more;
//! - a lease that nobody renews ends, in its time and not counting the time without a leader.
//!
//! In the end somebody leads, whoever campaigns has its turn, all nodes are equal, and what clients asked and
//! were answered is linearizable, by both checkers.

mod client;
mod contender;
mod errands;
mod member;
mod model;
mod outside;
pub(crate) mod plans;
mod truth;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::cluster::{
    self, Asked, Command, Error, Event, Message, Read, Request, Role, Seat, WatchUpdate,
};
use quorate_core::log::Timing;
use quorate_core::registry::{self, Query, Reply};
use quorate_sim::{HostCx, Loss, Rng, SimTime, System, View};
use serde::{Deserialize, Serialize};

use client::Client;
pub use contender::Wish;
use contender::{Contender, Said};
use member::INIT;
pub use member::{Ask, Member, Told};
use outside::Outside;
use truth::Truth;
use watcher::{Next, Watcher};

/// What a client or an operator does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Errand {
    /// Reads a key.
    Get {
        /// Which.
        key: u8,
        /// How new it has to be.
        read: Read,
    },
    /// Writes a key; if `checked`, only if it is as last heard.
    Put {
        /// Which.
        key: u8,
        /// Whether what was last heard must still hold.
        checked: bool,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: u8,
        /// Whether what was last heard must still hold.
        checked: bool,
    },
    /// Writes both keys of a group if the first is as last heard.
    Swap {
        /// Which.
        key: u8,
    },
    /// So many writes of so many bytes each, to fill logs, snapshots and what is remembered for watches.
    Fill {
        /// How many.
        count: u32,
        /// Of how many bytes.
        bytes: u32,
    },
    /// Campaigns from now on.
    Campaign(Wish),
    /// The contenders of the node come to an end.
    Finish,
    /// The applications of the node do nothing for so many milliseconds.
    Hang(u64),
    /// Asks the holder of a name to give it back.
    StepDown {
        /// The name.
        name: String,
        /// To a contender of this node.
        to: Option<usize>,
    },
    /// Asks for another leader of the log.
    HandOver(Option<usize>),
    /// Adds a node to the cluster.
    Add {
        /// Which.
        node: usize,
        /// As what.
        seat: Seat,
    },
    /// Lets a learner vote.
    Promote(usize),
    /// Removes one.
    Remove(usize),
    /// Watches the keys that start so, or the names that start so after an `@`.
    Watch {
        /// How they start.
        prefix: String,
        /// Whether it takes what it is told only now and then.
        slow: bool,
        /// From the changes of this revision on.
        from: Option<u64>,
    },
}

/// What waits for an answer.
#[derive(Clone, Debug)]
enum Awaited {
    /// A call of the history.
    Call(client::Open),
    /// A place in the cluster, which is asked for until it is given.
    Seat(usize),
    /// The list that a watcher begins anew with.
    List(usize),
    Other,
}

/// A cluster under test.
#[derive(Clone, Debug)]
pub struct Coordination {
    nodes: usize,
    /// The members in the beginning, besides node 0.
    pub seats: Vec<(usize, Seat)>,
    /// How long things take in the log.
    pub timing: Timing,
    /// After so many entries a snapshot is made.
    pub compact_entries: u64,
    /// Random operations of clients.
    pub ops: u32,
    /// Whether clocks stay within the bound, so that two holders are a failure.
    pub true_clocks: bool,
    /// No holder loses its lease: nothing goes wrong from which it might.
    pub steadfast: bool,
    /// Leases end in their time: nothing keeps the log's leader from its work.
    pub prompt: bool,
    /// Every request is done, however late: what goes wrong is over before its time is.
    pub quiet: bool,
    /// At these times somebody must lead, whatever is cut.
    pub must_lead_at: Vec<SimTime>,
    /// Who may be out of the cluster in the end.
    pub leaves: BTreeSet<usize>,
    wishes: Vec<Vec<Wish>>,
    founded: bool,
    seated: BTreeSet<usize>,
    finishing: bool,
    tickets: u64,
    awaited: BTreeMap<u64, (usize, Awaited)>,
    client: Client,
    watchers: Vec<Watcher>,
    truth: Truth,
    outside: Outside,
    /// What each node has applied.
    seen: Vec<u64>,
    /// For how long somebody has led, until when that is known, and whether somebody did then.
    led: (u64, SimTime, bool),
    /// When each lease was last in use, in time that somebody led.
    used: BTreeMap<u64, u64>,
}

impl Coordination {
    /// These only vote.
    #[must_use]
    pub fn with_witness(mut self, node: usize) -> Coordination {
        self.seats[node - 1].1 = Seat::Witness;
        self
    }

    /// A cluster of `nodes`, all of which vote.
    #[must_use]
    pub fn new(nodes: usize) -> Coordination {
        Coordination {
            nodes,
            seats: (1..nodes).map(|node| (node, Seat::Voter)).collect(),
            timing: Timing { heartbeat_us: 30_000, election_us: 300_000 },
            compact_entries: 60,
            ops: 80,
            true_clocks: true,
            steadfast: false,
            prompt: false,
            quiet: false,
            must_lead_at: Vec::new(),
            leaves: BTreeSet::new(),
            wishes: vec![Vec::new(); nodes],
            founded: false,
            seated: BTreeSet::new(),
            finishing: false,
            tickets: INIT,
            awaited: BTreeMap::new(),
            client: Client::default(),
            watchers: Vec::new(),
            truth: Truth::default(),
            outside: Outside::default(),
            seen: vec![0; nodes],
            led: (0, SimTime::ZERO, false),
            used: BTreeMap::new(),
        }
    }

    fn ask(
        &mut self,
        cx: &mut HostCx<'_, Self>,
        after_us: u64,
        timeout_ms: u64,
        awaited: Awaited,
        request: Request,
    ) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.awaited.insert(ticket, (cx.node(), awaited));
        let asked = vec![Asked { ticket, timeout_ms, request }];
        if !cx.command_after(after_us, Ask::Cluster(Command::Ask(asked))) {
            self.answered(ticket, Err(Error::NoCluster), cx);
        }
    }

    fn seat(&mut self, cx: &mut HostCx<'_, Self>, after_us: u64, n: usize) {
        let (node, seat) = self.seats[n];
        let request = Request::Add { node: self.id(node), seat };
        if cx.view().running(cx.node()) {
            self.ask(cx, after_us, 3_000, Awaited::Seat(n), request);
        }
    }

    fn answered(&mut self, ticket: u64, result: Result<Reply, Error>, cx: &mut HostCx<'_, Self>) {
        if ticket == INIT {
            if let Ok(_) | Err(Error::InCluster(_)) = result {
                self.founded = true;
                (0..self.seats.len()).for_each(|n| self.seat(cx, 0, n));
            }
            return;
        }
        if let Err(error) = &result {
            cx.mark(match error {
                Error::Unknown => "unknown",
                Error::Unavailable { .. } => "unavailable",
                Error::Refused(_) => "refused",
                _ => "failed",
            });
        }
        if self.quiet && self.seated.len() == self.seats.len() {
            match &result {
                Ok(_) => cx.mark("quiet write"),
                // What was asked of another may be lost on its way: then nobody can know.
                Err(error) if leaders(&cx.view()) == [cx.node()] => {
                    cx.fail(format!("a request failed without need: {error}"));
                }
                Err(_) => {}
            }
        }
        let Some((_, awaited)) = self.awaited.remove(&ticket) else {
            return cx.fail("an answer to what was not asked");
        };
        match awaited {
            Awaited::Call(open) => {
                if let Err(reason) = self.client.answered(open, &result, &self.truth, cx) {
                    cx.fail(reason);
                }
            }
            Awaited::Seat(n) => match result {
                Ok(_) => drop(self.seated.insert(n)),
                Err(_) => self.seat(cx, 200_000, n),
            },
            Awaited::List(n) => {
                if let Ok(Reply::Items { revision, .. } | Reply::Names { revision, .. }) = result {
                    self.watchers[n].next = Some(revision + 1);
                    cx.mark("listed anew");
                    self.watch(n, cx);
                } else {
                    self.list(n, cx);
                }
            }
            Awaited::Other => {}
        }
    }

    fn watch(&mut self, n: usize, cx: &mut HostCx<'_, Self>) {
        self.tickets += 1;
        let watch = self.tickets;
        let Watcher { target, next: from, .. } = self.watchers[n].clone();
        if cx.command(Ask::Cluster(Command::Watch { watch, target, from })) {
            self.watchers[n].watch = Some(watch);
            self.watchers[n].untaken = 0;
        }
    }

    fn list(&mut self, n: usize, cx: &mut HostCx<'_, Self>) {
        if !cx.view().running(cx.node()) {
            return;
        }
        let query = self.watchers[n].list();
        let request = Request::Query { query, read: Read::Linearizable };
        self.ask(cx, 10_000, 2_000, Awaited::List(n), request);
    }

    fn watched(&mut self, watch: u64, update: &WatchUpdate, cx: &mut HostCx<'_, Self>) {
        let Some(n) = self.watchers.iter().position(|one| one.watch == Some(watch)) else {
            return;
        };
        match self.watchers[n].told(update, &self.truth) {
            Ok(Next::Nothing) => {}
            Ok(Next::Take) => self.take(n, cx),
            Ok(Next::List) => {
                cx.mark("compacted");
                self.list(n, cx);
            }
            Ok(Next::Again) => cx.mark("watch ended"),
            Err(reason) => cx.fail(reason),
        }
        if let WatchUpdate::Changed { .. } = update {
            cx.mark("watched");
        }
    }

    fn take(&mut self, n: usize, cx: &mut HostCx<'_, Self>) {
        let count = std::mem::take(&mut self.watchers[n].untaken);
        if let Some(watch) = self.watchers[n].watch
            && count > 0
        {
            cx.command(Ask::Cluster(Command::Taken { watch, count }));
        }
    }

    fn said(&mut self, said: Said, cx: &mut HostCx<'_, Self>) {
        match said {
            Said::Holds { .. } => cx.mark("held"),
            Said::Lost { loss } => {
                use cluster::Loss::{Expired, Released, SteppedDown, Taken, Zombie};
                cx.mark(match loss {
                    Expired => "lease expired",
                    Zombie => "zombie",
                    Released => "released",
                    SteppedDown => "stepped down",
                    Taken => "taken",
                });
                if self.steadfast && matches!(loss, Expired | Taken) {
                    cx.fail(format!("a lease that was kept alive is lost: {loss}"));
                }
            }
            Said::Early(reason) if self.true_clocks => cx.fail(reason),
            Said::Early(_) => {}
            Said::Uses { name, token, lease } => {
                let far = cx.rng().below(4) == 0;
                let after_us = cx.rng().below(if far { 2_000_000 } else { 20_000 });
                let at = SimTime(cx.now().0 + after_us);
                self.outside.send(at, cx.node(), name, token, lease);
            }
        }
    }

    /// Learns what a node has applied since it was last looked at.
    fn learn(&mut self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
        let Some(member) = view.machine(node) else { return Ok(()) };
        let registry = member.cluster.registry();
        // What only votes has a registry that only counts; and who was a witness, until it begins anew.
        if member.cluster.role() == Role::Witness || member.cluster.log().is_blank() {
            return Ok(());
        }
        let (mut seen, revision) = (self.seen[node], registry.revision());
        if revision == seen {
            return Ok(());
        }
        if revision < seen && !self.leaves.contains(&node) {
            return Err(format!("node {node} went from revision {seen} back to {revision}"));
        } else if revision < seen {
            seen = 0;
        }
        self.seen[node] = revision;
        self.truth.learn(registry, seen).map_err(|reason| format!("node {node}: {reason}"))?;
        if self.true_clocks {
            counted_on(registry, view)?;
        }
        let leads = member.cluster.leads(view.monotonic(node)).is_some();
        if self.prompt && leads && revision.is_multiple_of(4) {
            self.ends(registry)?;
        }
        Ok(())
    }

    /// What nobody renews ends.
    fn ends(&mut self, registry: &registry::Registry) -> Result<(), String> {
        let Ok(Reply::Leases { leases, .. }) =
            registry.query(&Query::Leases { after: 0, limit: 1_000 })
        else {
            return Ok(());
        };
        for view in leases {
            let since = *self.used.entry(view.lease).or_insert(self.led.0);
            let unused = self.led.0 - since;
            // A renewal may have been on its way for a third of the time.
            if unused > view.ttl_ms * 1_450 + 1_500_000 {
                return Err(format!("{view:?} is there, and was not in use for {unused} us"));
            }
        }
        Ok(())
    }

    fn lead(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let leaders: Vec<usize> = leaders(view);
        let (now, (led, since, did)) = (view.now(), self.led);
        let led = if did { led + (now.0 - since.0) } else { led };
        self.led = (led, now, !leaders.is_empty());
        if self.true_clocks && leaders.len() > 1 {
            return Err(format!("{leaders:?} lead"));
        }
        if self.must_lead_at.first().is_some_and(|at| *at <= now) {
            self.must_lead_at.remove(0);
            if leaders.is_empty() {
                return Err("nobody leads, although somebody could".to_owned());
            }
        }
        Ok(())
    }
}

/// What holders count on is so in a registry that has heard of it.
fn counted_on(registry: &registry::Registry, view: &View<'_, Coordination>) -> Result<(), String> {
    for (node, contender) in contenders(view) {
        let now = view.monotonic(node);
        if let Some(lease) = contender.counts_on(now)
            && lease <= registry.revision()
            && registry.query(&Query::Lease { lease }).is_err()
        {
            return Err(format!("{node} counts on lease {lease}, which has ended"));
        }
        if let Some((name, token)) = contender.holds(now)
            && token <= registry.revision()
        {
            let query = Query::Name { name: Bytes::copy_from_slice(name.as_bytes()) };
            let found = registry.query(&query);
            let holder = match &found {
                Ok(Reply::Name { name, .. }) => name.holder.as_ref(),
                _ => None,
            };
            if holder.is_none_or(|holder| holder.token != token) {
                return Err(format!("{node} holds {name} by {token}, and {holder:?} does"));
            }
        }
    }
    Ok(())
}

/// Every member that keeps data has what the leader has.
fn all_equal(leader: usize, view: &View<'_, Coordination>) -> Result<(), String> {
    let Some(first) = view.machine(leader) else { return Err("the leader is down".into()) };
    let members = first.cluster.log().members();
    let registry = first.cluster.registry();
    if registry.leases() > 0 {
        return Err(format!("there are {} leases", registry.leases()));
    }
    for id in members.all().filter(|id| !members.witnesses.contains(id)) {
        let node = view.index(id).ok_or("a member that is no node")?;
        let member = view.machine(node).ok_or("a member is down")?;
        let (here, there) = (member.cluster.registry().revision(), registry.revision());
        if here != there {
            return Err(format!("node {node} is at {here} of {there}"));
        }
        if member.cluster.registry() != registry {
            return Err(format!("node {node} has another registry than the leader"));
        }
    }
    Ok(())
}

fn two_hold(view: &View<'_, Coordination>) -> Result<(), String> {
    let mut holders: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (node, contender) in contenders(view) {
        if let Some((name, token)) = contender.holds(view.monotonic(node))
            && let Some(other) = holders.insert(name, (node, token))
        {
            return Err(format!("two hold {name}: {other:?} and {:?}", (node, token)));
        }
    }
    Ok(())
}

/// Who leads the log, each by its own clock.
fn leaders(view: &View<'_, Coordination>) -> Vec<usize> {
    let leads =
        |(node, member): (usize, &Member)| member.cluster.leads(view.monotonic(node)).map(|_| node);
    view.machines().filter_map(leads).collect()
}

fn contenders<'a>(
    view: &View<'a, Coordination>,
) -> impl Iterator<Item = (usize, &'a Contender)> + use<'a> {
    let members: Vec<(usize, &Member)> = view.machines().collect();
    members
        .into_iter()
        .flat_map(|(node, member)| member.contenders.iter().map(move |contender| (node, contender)))
}

impl System for Coordination {
    type Machine = Member;
    type Op = Errand;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> Member {
        let config = cluster::Config {
            timing: self.timing,
            priority: node as u8 * 40,
            compact_entries: self.compact_entries,
            keep_entries: self.compact_entries / 4,
        };
        Member::new(config)
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, Errand)> {
        let mut ops: Vec<(SimTime, usize, Errand)> = (0..self.ops)
            .map(|_| {
                let at = SimTime(1_500_000 + rng.below(active.0 - 1_500_000));
                (at, rng.below(self.nodes as u64) as usize, client::draw(rng))
            })
            .collect();
        // Everybody who lives by then has a last turn.
        for node in 0..self.nodes {
            ops.push((SimTime(active.0 + 400_000), node, Errand::Finish));
        }
        ops
    }

    fn op(&mut self, node: usize, errand: Errand, cx: &mut HostCx<'_, Self>) {
        self.run(node, errand, cx);
    }

    fn event(&mut self, node: usize, told: Told, cx: &mut HostCx<'_, Self>) {
        if let Err(reason) = self.learn(node, &cx.view()) {
            return cx.fail(reason);
        }
        match told {
            Told::Contender(said) => self.said(said, cx),
            Told::Cluster(event) => match &event {
                Event::Answer { ticket, .. } if *ticket >= member::OURS => {
                    cx.command(Ask::Heard(event));
                }
                Event::Watched { watch, .. } if *watch >= member::OURS => {
                    cx.command(Ask::Heard(event));
                }
                Event::Answer { ticket, result } => self.answered(*ticket, result.clone(), cx),
                Event::Watched { watch, update } => self.watched(*watch, update, cx),
                Event::Leading(_) => cx.mark("leading"),
                Event::Stopped(_) => cx.mark("stopped"),
                Event::Covered => cx.mark("covered"),
                Event::Joined(_) => cx.mark("joined"),
                Event::Left(_) => cx.mark("left"),
                Event::Halted(error) => cx.fail(format!("a snapshot cannot be read: {error}")),
                Event::LeaderChanged(_) | Event::HealthChanged(_) | Event::TakesPart => {}
            },
        }
    }

    fn crashed(&mut self, node: usize, _: Loss, _: &mut HostCx<'_, Self>) {
        self.seen[node] = 0;
        for (_, (_, awaited)) in self.awaited.extract_if(.., |_, (at, _)| *at == node) {
            if let Awaited::Call(open) = awaited {
                self.client.left_open(open);
            }
        }
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.node == node) {
            (watcher.watch, watcher.untaken) = (None, 0);
        }
    }

    fn restarted(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        if node == 0 && !self.founded {
            cx.command(errands::found());
        } else if node == 0 {
            let missing = (0..self.seats.len()).filter(|n| !self.seated.contains(n));
            missing.collect::<Vec<_>>().into_iter().for_each(|n| self.seat(cx, 0, n));
        }
        for wish in self.wishes[node].clone() {
            cx.command(Ask::Campaign(wish));
        }
        if self.finishing {
            cx.command(Ask::Finish);
        }
        let watching = self.watchers.iter().enumerate().filter(|(_, one)| one.node == node);
        let watching: Vec<usize> = watching.map(|(n, _)| n).collect();
        watching.into_iter().for_each(|n| self.watch(n, cx));
    }

    fn invariant(&mut self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
        self.learn(node, view)?;
        self.lead(view)?;
        for (_, contender) in contenders(view).filter(|(of, _)| *of == node) {
            if let Some(lease) = contender.lease() {
                self.used.insert(lease, self.led.0);
            }
        }
        if self.true_clocks {
            two_hold(view)?;
        }
        self.outside.arrive(view, self.true_clocks)
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let leaders = leaders(view);
        let [leader] = leaders[..] else { return Err(format!("{leaders:?} lead")) };
        if self.seated.len() < self.seats.len() {
            return Err("not every member has its seat".to_owned());
        }
        let log = view.machine(leader).ok_or("the leader is down")?.cluster.log();
        let member = |node: usize| log.members().all().any(|id| id == view.id(node));
        let waits = |(node, one): &(usize, &Contender)| !one.done() && member(*node);
        if let Some((node, contender)) = contenders(view).find(waits) {
            let waiting = view.machine(node).map_or(0, Member::waiting);
            return Err(format!("{node} is still {:?}, {waiting} wait", contender.stage()));
        }
        if let Some((node, _)) = view.machines().find(|(_, member)| member.waiting() > 0) {
            return Err(format!("{node} still waits for an answer"));
        }
        all_equal(leader, view)?;
        for watcher in self.watchers.iter().filter(|watcher| member(watcher.node)) {
            if let Some(missed) = watcher.missed(&self.truth, self.truth.upto) {
                return Err(format!("who watches at {} was not told of {missed}", watcher.node));
            }
        }
        Ok(())
    }

    fn finished(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let leader = leaders(view).first().copied().ok_or("nobody leads")?;
        let registry = view.machine(leader).ok_or("the leader is down")?.cluster.registry();
        for item in self.truth.items() {
            let query = Query::Get { key: item.key.clone() };
            let found = registry.query(&query);
            let same =
                matches!(&found, Ok(Reply::Value { item: Some(found), .. }) if found == item);
            if !same {
                return Err(format!("{item:?} was there, and is {found:?}"));
            }
        }
        registry.check();
        let checked = self.client.check(&self.truth, view);
        checked.map_err(|reason| format!("{reason}\nIt was: {}", Client::told(&self.truth)))
    }

    fn size(&self, message: &Message) -> usize {
        client::size(message)
    }
}
