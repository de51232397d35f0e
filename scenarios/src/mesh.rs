//! A mesh of nodes and their clients, as a [`System`] for the simulator.
//!
//! The mesh keeps what an outsider can know: which writes were acknowledged, what a watcher was told,
//! who lies. From that it says what must hold after every step, and what must hold in the end:
//!
//! - nothing acknowledged is ever missing from its author's own chain;
//! - in the end, every honest member reads the same, holds the same chains, waits for nothing, and has
//!   every acknowledged write whose author's chain was not cut;
//! - who watched has been told exactly what there is to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::cow::CowVec;
use quorate_core::entry::Link;
use quorate_core::frontier::Tip;
use quorate_core::hash::Hash;
use quorate_core::identity::Identity;
use quorate_core::machine::NodeId;
use quorate_core::membership::State;
use quorate_core::node::{
    Body, Command, Config, Contact, Disconnect, Event, Holds, Node, Notice, Record, Shown,
    StoreRecord, WatchUpdate,
};
use quorate_core::store::{Change, Founding, Store, WriteError};
use quorate_core::value::{Found, read, scan};
use quorate_core::watch::Pattern;
use quorate_sim::{HostCx, Loss, Rng, SimTime, System, View};
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Ask};
use crate::lies::{Lie, Pen, Place};
use crate::memo::remembered;
use crate::prompt::Prompt;
use crate::simpler::simpler;
use crate::state::state;

/// Something a client does at a node, or a liar says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Writes, all of it or nothing.
    Write(#[serde(with = "crate::readable")] Vec<Change>),
    /// So many entries, each a key of its own.
    Import(u32),
    /// Invites a node.
    Invite(usize),
    /// Removes a node.
    Remove(usize),
    /// Lies.
    Lie(Lie),
    /// Watches everything.
    Watch,
    /// Hangs, but for greetings and pings; or does so no more.
    Deaf(bool),
}

/// What a scenario expects of its mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Whose chains may be cut: who may fork, or be removed, or be known only through one of those.
    /// Who is removed indeed, as the founder sees it in the end, need not end equal.
    pub cut: BTreeSet<usize>,
    /// This author must be proven to have forked, everywhere.
    pub forked: Option<usize>,
    /// From this time on, or, if there is none, in the end.
    pub forked_by: Option<SimTime>,
    /// Entries may still be parked in the end.
    pub parked: bool,
}

/// A mesh under test.
#[derive(Clone, Debug)]
pub struct Mesh {
    nodes: usize,
    /// Random operations, and on how many keys.
    pub ops: u32,
    /// How many keys the random operations write to.
    pub keys: u64,
    /// From when on they come.
    pub ops_from: SimTime,
    /// Whether a restart makes the host suspect its disk.
    pub suspicious: bool,
    /// Who lies; liars need not end equal.
    pub liars: BTreeSet<usize>,
    /// What must hold in the end.
    pub expect: Expect,
    /// Nodes that never start.
    absent: BTreeSet<usize>,
    founding: Founding,
    identities: Arc<[Identity]>,
    /// What was added to each counter by writes that were acknowledged, and how many additions were
    /// never answered, or may have been cut off.
    counted: BTreeMap<Bytes, (i64, u32)>,
    /// The additions that wait for an answer, by ticket.
    adding: BTreeMap<u64, Vec<(Bytes, i64)>>,
    /// The last acknowledged write of each node, and all of them.
    last: Vec<Option<Link>>,
    acknowledged: CowVec<Link>,
    durable: Vec<u64>,
    /// Nodes that have lost what was durable.
    lossy: BTreeSet<usize>,
    tickets: u64,
    imported: u32,
    /// What each node's watcher was told.
    watched: Vec<Option<BTreeMap<Vec<u8>, Holds>>>,
    /// What must happen soon.
    prompt: Prompt,
}

impl Mesh {
    /// A mesh of `nodes`, the first of which founds it and invites the others.
    #[must_use]
    pub fn new(nodes: usize) -> Mesh {
        let identities: Arc<[Identity]> = (0..nodes).map(identity).collect();
        let founding = Founding { founder: identities[0].id(), nonce: [7; 16] };
        Mesh {
            nodes,
            ops: 60,
            keys: 8,
            ops_from: SimTime::secs(3),
            suspicious: false,
            liars: BTreeSet::new(),
            expect: Expect::default(),
            absent: BTreeSet::new(),
            founding,
            identities,
            counted: BTreeMap::new(),
            adding: BTreeMap::new(),
            last: vec![None; nodes],
            acknowledged: CowVec::new(),
            durable: vec![0; nodes],
            lossy: BTreeSet::new(),
            tickets: 0,
            imported: 0,
            watched: vec![None; nodes],
            prompt: Prompt::default(),
        }
    }

    /// The change that admits `guest`.
    pub(crate) fn invitation(&self, guest: usize) -> Change {
        Change::Invite { node: self.identities[guest].id() }
    }

    /// The change that removes `member`.
    pub(crate) fn removal(&self, member: usize) -> Change {
        Change::Remove { node: self.identities[member].id() }
    }

    /// The number of a node, for people.
    #[must_use]
    pub fn name(&self, id: &NodeId) -> Option<String> {
        let node = self.identities.iter().position(|identity| identity.id() == *id)?;
        let role = if self.liars.contains(&node) { " (liar)" } else { "" };
        Some(format!("node {node}{role}"))
    }

    /// A random operation: mostly one change, now and then several at once.
    fn draw(&self, rng: &mut Rng) -> Op {
        let count = if rng.below(6) == 0 { 2 + rng.below(3) } else { 1 };
        Op::Write((0..count).map(|_| self.change(rng)).collect())
    }

    fn change(&self, rng: &mut Rng) -> Change {
        let name = |kind: &str, n: u64| Bytes::from(format!("{kind}{n}"));
        let key = rng.below(self.keys);
        match rng.below(10) {
            0..5 => {
                let value = Bytes::from(rng.next_u64().to_string());
                Change::Put { key: name("k", key), value }
            }
            5 => Change::Delete { key: name("k", key) },
            6 => Change::Add { key: name("c", key), delta: rng.below(9) as i64 - 4 },
            7 | 8 => Change::SetAdd { key: name("s", key), member: name("m", rng.below(3)) },
            _ => Change::SetRemove { key: name("s", key), member: name("m", rng.below(3)) },
        }
    }

    fn write(&mut self, node: usize, cx: &mut HostCx<'_, Self>, changes: Vec<Change>) {
        self.tickets += 1;
        let ticket = self.tickets;
        for change in &changes {
            if let Change::Add { key, delta } = change {
                let mut unanswered = 1;
                if self.expect.cut.contains(&node) {
                    // Nobody can say whether it will count: this key is never checked.
                    unanswered += 1;
                }
                self.adding.entry(ticket).or_default().push((key.clone(), *delta));
                self.counted.entry(key.clone()).or_default().1 += unanswered;
            }
        }
        if !cx.command(Ask::Node(Command::Write { ticket, changes })) {
            self.answered(ticket, false);
        }
    }

    /// A write was answered, or refused, or never reached a node.
    fn answered(&mut self, ticket: u64, done: bool) {
        for (key, delta) in self.adding.remove(&ticket).unwrap_or_default() {
            let (sum, unanswered) = self.counted.entry(key).or_default();
            *unanswered -= 1;
            *sum += if done { delta } else { 0 };
        }
    }

    /// A counter holds what was added to it, unless an addition was never answered or could be lost.
    fn check_counters(&self, store: &Store) -> Result<(), String> {
        if !self.lossy.is_empty() {
            return Ok(());
        }
        for (key, (sum, unanswered)) in &self.counted {
            let found = read(store.dag(), key).found;
            let holds = if let Found::Counter(value) = found { value } else { 0 };
            if *unanswered == 0 && holds != *sum {
                return Err(format!("{key:?} holds {holds}, {sum} was added"));
            }
        }
        Ok(())
    }

    fn lie(&mut self, node: usize, lie: Lie, cx: &mut HostCx<'_, Self>) {
        let wall = cx.view().wall(node);
        let Some(actor) = cx.view().machine(node) else { return };
        let Some(store) = actor.node.store() else { return };
        // A forger goes on where the one whose name it takes has stopped.
        let whose = if lie == Lie::Forge { self.last_but(node) } else { node };
        let author = self.identities[whose].id();
        let Tip { height, hash, .. } = store.tip(&author);
        let hlc = store.chains().of(&author).and_then(|chain| Some(chain.get(height)?.hlc));
        let (store, hlc) = (store.id(), hlc.unwrap_or_default());
        let place = Place { store, height, hash, hlc, wall };
        let others: Vec<NodeId> =
            (0..self.nodes).filter(|n| *n != node).map(|n| self.identities[n].id()).collect();
        let pen = Pen { identity: &self.identities[node], place };
        for (to, message) in pen.tell(lie, &others) {
            cx.command(Ask::Say(to, message));
        }
        cx.mark("lied");
    }

    /// The last node, or the last but one.
    fn last_but(&self, node: usize) -> usize {
        (0..self.nodes).rfind(|other| *other != node).unwrap_or(node)
    }

    /// The disk of `node` went back in time, or was damaged. What it acknowledged since and nobody else has is gone.
    fn rewound(&mut self, node: usize, view: &View<'_, Self>) {
        let me = self.identities[node].id();
        let elsewhere = |link: &Link| {
            view.machines().any(|(other, actor)| {
                let chain = actor.node.store().and_then(|store| store.chains().of(&me));
                let held = chain.and_then(|chain| chain.get(link.seq));
                let durable = |position: u64| position < view.durable(other);
                other != node
                    && held.is_some_and(|meta| meta.hash == link.hash && durable(meta.position))
            })
        };
        let kept = self.acknowledged.iter().filter(|link| link.author != me || elsewhere(link));
        self.acknowledged = kept.copied().collect();
        self.last[node] = None;
        self.lossy.insert(node);
    }

    /// The nodes that must end equal.
    fn honest(&self, view: &View<'_, Self>) -> Vec<usize> {
        let founder = view.machine(0).and_then(|actor| actor.node.store());
        let gone = |node: &usize| {
            let member = founder.and_then(|store| store.membership().get(&self.id(*node)));
            self.expect.cut.contains(node)
                && member.is_none_or(|member| member.state == State::Removed)
        };
        let exempt = [&self.liars, &self.absent];
        (0..self.nodes)
            .filter(|node| exempt.iter().all(|nodes| !nodes.contains(node)) && !gone(node))
            .collect()
    }

    fn told(&mut self, node: usize, update: WatchUpdate, cx: &mut HostCx<'_, Self>) {
        let Some(seen) = &mut self.watched[node] else { return };
        match update {
            WatchUpdate::Now(shown) | WatchUpdate::Changed(shown) => {
                let Shown { key, holds, .. } = shown;
                if holds == Holds::Nothing {
                    seen.remove(&key)
                } else {
                    seen.insert(key, holds)
                };
            }
            WatchUpdate::Live => cx.mark("watch live"),
            WatchUpdate::Lagged => {
                seen.clear();
                cx.mark("watch lagged");
                cx.command(Ask::Node(Command::Resync(0)));
                return;
            }
            WatchUpdate::Refused => cx.fail("a watch was refused"),
        }
        cx.command(Ask::Node(Command::Taken { watch: 0, count: 1 }));
    }

    /// What `store` holds, if it is whole: its members' tips and its state.
    fn summary(store: &Store) -> (Vec<Tip>, Hash) {
        let tips = store.membership().iter().map(|(author, _)| store.tip(author)).collect();
        (tips, store.digest())
    }

    fn check_equal(&self, view: &View<'_, Self>) -> Result<(), String> {
        let mut first: Option<(usize, Vec<Tip>)> = None;
        let mut stores = Vec::new();
        for node in self.honest(view) {
            let actor = view.machine(node).ok_or_else(|| format!("node {node} is down"))?;
            let store = actor.node.store().ok_or_else(|| format!("node {node} has no store"))?;
            match store.membership().get(&actor.node.id()).map(|member| member.state) {
                Some(State::Active) => {}
                Some(State::Forked) if self.expect.cut.contains(&node) => {}
                _ => return Err(format!("node {node} is no member")),
            }
            let orphans = store.orphans();
            let parked = if self.expect.parked { orphans.parked() } else { 0 };
            if orphans.len() > parked && !self.expect.parked {
                return Err(format!("node {node} has {} orphans", orphans.len()));
            }
            let tips: Vec<Tip> =
                store.membership().iter().map(|(author, _)| store.tip(author)).collect();
            match &first {
                None => first = Some((node, tips)),
                Some((other, theirs)) if *theirs != tips => {
                    return Err(format!("nodes {other} and {node} hold other chains"));
                }
                Some(_) => {}
            }
            stores.push((node, store));
        }
        let digests: BTreeSet<Hash> =
            stores.iter().map(|(_, store)| Self::summary(store).1).collect();
        if digests.len() > 1 {
            return Err("equal chains, and other states".to_owned());
        }
        stores.iter().try_for_each(|(_, store)| self.check_counters(store))?;
        stores.iter().try_for_each(|(node, store)| self.check_store(*node, store))
    }

    /// Nobody holds of another's chain what a crash of that other could still take back.
    fn check_revealed(&self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
        let Some(store) = view.machine(node).and_then(|actor| actor.node.store()) else {
            return Ok(());
        };
        let others = (0..self.nodes).filter(|other| {
            *other != node && !self.liars.contains(other) && !self.lossy.contains(other)
        });
        for other in others {
            let id = self.identities[other].id();
            let own = view.machine(other).and_then(|actor| actor.node.store()?.chains().of(&id));
            let (Some(own), Some(copy)) = (own, store.chains().of(&id)) else { continue };
            let durable = own.get(copy.held()).map(|meta| meta.position < view.durable(other));
            if copy.held() > 0 && durable != Some(true) {
                return Err(format!("node {node} holds what node {other} could still lose"));
            }
        }
        Ok(())
    }

    /// What was acknowledged is there, and forks that were planted are known.
    fn check_store(&self, node: usize, store: &Store) -> Result<(), String> {
        let ids = |nodes: &BTreeSet<usize>| -> BTreeSet<NodeId> {
            nodes.iter().map(|node| self.identities[*node].id()).collect()
        };
        let (liars, may_be_cut) = (ids(&self.liars), ids(&self.expect.cut));
        for link in self.acknowledged.iter().filter(|link| !liars.contains(&link.author)) {
            let Some(chain) = store.chains().of(&link.author) else {
                if may_be_cut.contains(&link.author) {
                    continue;
                }
                return Err(format!("node {node} knows nothing of {:?}", link.author));
            };
            let cut = chain.cut().is_some_and(|cut| link.seq > cut);
            if cut && !may_be_cut.contains(&link.author) {
                return Err(format!("node {node} cut an honest chain below {link:?}"));
            }
            if !cut && chain.hash_at(link.seq) != Some(link.hash) {
                return Err(format!("node {node} lacks the acknowledged {link:?}"));
            }
        }
        self.check_forked(node, store)
    }

    /// A fork that was planted is known.
    fn check_forked(&self, node: usize, store: &Store) -> Result<(), String> {
        if let Some(liar) = self.expect.forked
            && !store.forks().contains_key(&self.identities[liar].id())
        {
            return Err(format!("node {node} has no proof of the fork of node {liar}"));
        }
        Ok(())
    }

    /// What a watcher was told is what there is to read.
    fn check_watch(&self, node: usize, store: &Store) -> Result<(), String> {
        let Some(seen) = &self.watched[node] else { return Ok(()) };
        let now: BTreeMap<Vec<u8>, Holds> = scan(store.dag(), &[], &[])
            .map(|(key, reading)| {
                let holds = match reading.found {
                    Found::Nothing => Holds::Nothing,
                    Found::Register(write) => {
                        Holds::Register { position: store.meta(&write).position }
                    }
                    Found::Counter(value) => Holds::Counter(value),
                    Found::Set(members) => Holds::Set(members),
                };
                (key, holds)
            })
            .collect();
        if *seen == now { Ok(()) } else { Err(format!("the watcher of node {node} saw other")) }
    }
}

fn refused(error: &WriteError) -> &'static str {
    match error {
        WriteError::NotAMember => "write refused: no member",
        WriteError::Removed => "write refused: removed",
        WriteError::Forked => "write refused: forked",
        WriteError::CatchingUp => "write refused: catching up",
        WriteError::ClockAhead { .. } => "write refused: clock ahead",
        WriteError::NotFound { .. } => "write refused: not found",
        _ => "write refused",
    }
}

fn noticed(notice: &Notice, cx: &mut HostCx<'_, Mesh>) {
    match notice {
        Notice::Opened(_) => cx.mark("peer opened"),
        Notice::Closed(_) => cx.mark("peer closed"),
        Notice::Suspect(_) => cx.mark("peer suspected"),
        Notice::Refused { .. } => cx.mark("entry refused"),
        Notice::Parked(_) => cx.mark("entry parked"),
        Notice::Released => cx.mark("entry released"),
        Notice::Waived(_) => cx.mark("citation waived"),
        Notice::Forked(_) => cx.mark("fork proven"),
        Notice::Cut { cut: None, .. } => cx.mark("cut lifted"),
        Notice::Cut { .. } => cx.mark("chain cut"),
        Notice::Members => cx.mark("members changed"),
        Notice::Damaged(_) => cx.mark("damage found"),
        Notice::Unfilled { .. } => cx.mark("gap unfilled"),
        Notice::SyncFailed { .. } => cx.mark("sync failed"),
        Notice::Stalled(_) => cx.mark("transfer given up"),
        Notice::InSync(_) => cx.mark("in sync"),
    }
}

fn identity(node: usize) -> Identity {
    let mut seed = [0x51; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    Identity::from_seed(seed)
}

impl System for Mesh {
    type Machine = Actor;
    type Op = Op;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn id(&self, node: usize) -> NodeId {
        self.identities[node].id()
    }

    fn describe(&self, node: usize, view: &View<'_, Self>) -> Vec<(&'static str, String)> {
        state(self, node, view)
    }

    fn boot(&self, node: usize) -> Actor {
        let identity = self.identities[node].clone();
        let suspect = self.suspicious && self.durable[node] > 0;
        let address = Some(format!("node-{node}"));
        let config = Config { identity, verify: remembered, address, suspect };
        Actor { node: Node::new(config), deaf: false }
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, Op)> {
        let span = active.0.saturating_sub(self.ops_from.0).max(1);
        (0..self.ops)
            .map(|_| {
                let at = SimTime(self.ops_from.0 + rng.below(span));
                (at, rng.below(self.nodes as u64) as usize, self.draw(rng))
            })
            .collect()
    }

    fn op(&mut self, node: usize, op: Op, cx: &mut HostCx<'_, Self>) {
        match op {
            Op::Write(changes) => self.write(node, cx, changes),
            Op::Import(count) => {
                for _ in 0..count {
                    self.imported += 1;
                    let key = Bytes::from(format!("import/{}", self.imported));
                    let value = Bytes::from(vec![b'v'; 100]);
                    self.write(node, cx, vec![Change::Put { key, value }]);
                }
            }
            Op::Invite(guest) => {
                let guest = self.identities[guest].id();
                self.write(node, cx, vec![Change::Invite { node: guest }]);
            }
            Op::Remove(member) => {
                let member = self.identities[member].id();
                self.write(node, cx, vec![Change::Remove { node: member }]);
            }
            Op::Lie(lie) => self.lie(node, lie, cx),
            Op::Deaf(deaf) => {
                cx.command(Ask::Deaf(deaf));
            }
            Op::Watch => {
                if cx.view().running(node) {
                    self.watched[node] = Some(BTreeMap::new());
                    let pattern = Pattern::Prefix(Bytes::new());
                    cx.command(Ask::Node(Command::Watch { watch: 0, pattern }));
                }
            }
        }
    }

    fn event(&mut self, node: usize, event: Event, cx: &mut HostCx<'_, Self>) {
        match event {
            Event::Written { ticket, result: Ok(link) } => {
                self.answered(ticket, true);
                self.last[node] = Some(link);
                self.acknowledged.push(link);
                cx.mark("acknowledged");
            }
            Event::Written { ticket, result: Err(error) } => {
                self.answered(ticket, false);
                cx.mark(refused(&error));
            }
            Event::Read { ticket, positions } => {
                let body = |position: u64| cx.read(position).and_then(|record| record.entry());
                let bodies: Vec<Option<Bytes>> = positions.into_iter().map(body).collect();
                cx.command_after(20, Ask::Node(Command::Bodies { ticket, bodies }));
            }
            Event::Forget(position) => cx.forget(position),
            Event::Disconnect { peer, reason } => {
                cx.mark(match reason {
                    Disconnect::Refused(_) => "peer refused",
                    Disconnect::Malformed => "peer misbehaved",
                    Disconnect::Dead => "peer declared dead",
                    _ => "disconnected",
                });
                cx.disconnect(peer);
            }
            Event::Watched { update, .. } => self.told(node, update, cx),
            Event::Notice(notice) => noticed(&notice, cx),
            Event::Joined { .. } | Event::Dial { .. } | Event::Undial(_) | Event::Cluster(_) => {}
        }
    }

    fn crashed(&mut self, node: usize, loss: Loss, _cx: &mut HostCx<'_, Self>) {
        self.prompt.forget(node);
        // A disk that had lied keeps less than it said.
        self.durable[node] = loss.survived.max(loss.durable);
        self.watched[node] = None;
    }

    fn restarted(&mut self, node: usize, cx: &mut HostCx<'_, Self>) {
        let damaged = |actor: &Actor| actor.node.status().damaged > 0;
        if cx.view().log(node).len() < self.durable[node] {
            self.rewound(node, &cx.view());
            cx.mark("disk rewound");
        } else if cx.view().machine(node).is_some_and(damaged) {
            self.rewound(node, &cx.view());
            cx.mark("damage found");
        }
        let belongs = cx.view().machine(node).is_some_and(|actor| actor.node.store().is_some());
        if !belongs {
            // The founder asks nobody: there is nothing yet.
            let others = if node == 0 { 0..0 } else { 0..self.nodes };
            let contacts = others.map(|n| self.identities[n].id());
            let contacts = contacts.map(|node| Contact { node, address: String::new() }).collect();
            let (ticket, founding) = (0, self.founding);
            cx.command(Ask::Node(Command::Join { ticket, founding, contacts }));
        }
    }

    /// What is left of a damaged record once the host has found that its checksum is wrong.
    fn rot(&self, record: &Record, _entropy: u64) -> Option<Record> {
        let Record::Store(record) = record else { return None };
        let Body::Entry(_) = &record.body else { return None };
        Some(Record::Store(StoreRecord { body: Body::Entry(Bytes::new()), ..record.clone() }))
    }

    /// Whoever never comes owes nothing. Without the founder there is no mesh.
    fn leave_out(&mut self, node: usize) -> bool {
        if node == 0 {
            return false;
        }
        self.absent.insert(node);
        if self.expect.forked == Some(node) {
            self.expect.forked = None;
        }
        true
    }

    fn simpler(&self, op: &Op) -> Vec<Op> {
        simpler(op)
    }

    fn invariant(&mut self, node: usize, view: &View<'_, Self>) -> Result<(), String> {
        self.check_revealed(node, view)?;
        if self.prompt.due(node, view.now()) {
            let honest = self.honest(view);
            self.prompt.check(node, &honest, view)?;
            let store = view.machine(node).and_then(|actor| actor.node.store());
            if self.expect.forked_by.is_some_and(|by| by <= view.now()) && honest.contains(&node) {
                store.map_or(Ok(()), |store| self.check_forked(node, store))?;
            }
        }
        let (Some(actor), Some(link)) = (view.machine(node), self.last[node]) else {
            return Ok(());
        };
        let chain = actor.node.store().and_then(|store| store.chains().of(&link.author));
        if chain.and_then(|chain| chain.hash_at(link.seq)) == Some(link.hash) {
            return Ok(());
        }
        Err(format!("node {node} lost its own acknowledged {link:?}"))
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        self.check_equal(view)?;
        let filled = |actor: &Actor| actor.node.status().gaps_filled > 0;
        if view.machines().any(|(_, actor)| filled(actor)) {
            view.mark("gap filled");
        }
        for node in self.honest(view) {
            let store = view.machine(node).and_then(|actor| actor.node.store());
            store.map_or(Ok(()), |store| self.check_watch(node, store))?;
        }
        Ok(())
    }
}
