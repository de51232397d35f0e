use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::machine::WallTime;
use crate::registry::{self, Change, Fence, Query, Refusal, Reply, Target};

mod attempts;
mod back_again;
mod behind;

const LATENCY_US: u64 = 2_000;

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 32])
}

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A node and its disk.
struct Host {
    cluster: Cluster,
    records: Vec<Record>,
    /// Where what is needed begins.
    begins: usize,
    up: bool,
    answers: BTreeMap<u64, Result<Reply, Error>>,
    told: BTreeMap<u64, Vec<WatchUpdate>>,
    events: Vec<Event>,
}

/// Nodes, and a network that can be cut. Whatever is persisted is durable at once.
struct Net {
    hosts: Vec<Host>,
    config: Config,
    cut: BTreeSet<(usize, usize)>,
    on_the_way: BTreeMap<(Time, u64), (usize, usize, Message)>,
    /// Entries sent in appends, to anybody.
    appended: usize,
    now: Time,
    steps: u64,
    tickets: u64,
    deadlines: BTreeMap<(usize, u64), Time>,
}

struct Out(Vec<(NodeId, Message)>, Vec<Record>, Vec<Event>);

impl Effects<Cluster> for Out {
    fn persist(&mut self, record: Record) {
        self.1.push(record);
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.0.push((to, message));
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.0.push((to, message));
    }
    fn emit(&mut self, event: Event) {
        self.2.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.2.push(event);
    }
}

impl Net {
    fn new(nodes: usize, config: Config) -> Net {
        let host = |_| Host {
            cluster: Cluster::new(config),
            records: Vec::new(),
            begins: 0,
            up: true,
            answers: BTreeMap::new(),
            told: BTreeMap::new(),
            events: Vec::new(),
        };
        let mut net = Net {
            hosts: (0..nodes).map(host).collect(),
            config,
            cut: BTreeSet::new(),
            on_the_way: BTreeMap::new(),
            appended: 0,
            now: Time::ZERO,
            steps: 0,
            tickets: 0,
            deadlines: BTreeMap::new(),
        };
        for n in 0..nodes {
            net.step(n, Input::Start);
            for peer in (0..nodes).filter(|peer| *peer != n) {
                net.step(n, Input::Link { peer: id(peer), up: true });
            }
        }
        net
    }

    /// A cluster of all of them, led by somebody.
    fn cluster(nodes: usize) -> Net {
        let mut net = Net::new(nodes, Config::default());
        net.found(nodes);
        net
    }

    fn found(&mut self, nodes: usize) {
        self.step(0, Input::Command(Command::Init { ticket: 0 }));
        self.run_ms(1_000);
        for n in 1..nodes {
            let add = Request::Add { node: id(n), seat: Seat::Voter };
            assert!(self.ask(0, 5_000, add).is_ok());
            assert_eq!(self.hosts[0].cluster.log().members().voters.len(), n + 1);
        }
        self.run_ms(1_000);
        assert_eq!(self.hosts[0].cluster.log().members().voters.len(), nodes);
    }

    fn step(&mut self, n: usize, input: Input<Cluster>) {
        self.steps += 1;
        let cx = Cx { me: id(n), now: self.now, wall: WallTime::ZERO, entropy: self.steps };
        let mut out = Out(Vec::new(), Vec::new(), Vec::new());
        let (host, tick) = (&mut self.hosts[n], matches!(input, Input::Tick));
        host.cluster.handle(cx, input, &mut out);
        host.cluster.check();
        let due = host.cluster.deadline();
        assert!(
            !tick || due.is_none_or(|at| at > self.now),
            "a timer that fires for ever: {due:?}"
        );
        host.records.extend(out.1);
        for event in out.2 {
            match &event {
                Event::Answer { ticket, result } => {
                    let twice = host.answers.insert(*ticket, result.clone());
                    assert_eq!(twice, None, "answered twice");
                    let deadline = self.deadlines.remove(&(n, *ticket));
                    assert!(deadline.is_none_or(|at| at >= self.now), "answered too late");
                }
                Event::Watched { watch, update } => {
                    host.told.entry(*watch).or_default().push(update.clone());
                }
                Event::Covered => {
                    let begins = host.records.iter().rposition(Record::begins);
                    host.begins = begins.expect("something begins");
                }
                _ => {}
            }
            host.events.push(event);
        }
        for (to, message) in out.0 {
            let to = (0..self.hosts.len()).find(|node| id(*node) == to).expect("one of us");
            if !self.cut.contains(&(n, to)) {
                self.steps += 1;
                if let Body::Log(log::Message::Append { entries, .. }) = &message.body {
                    self.appended += entries.len();
                }
                let at = self.now.after_us(if to == n { 100 } else { LATENCY_US });
                self.on_the_way.insert((at, self.steps), (n, to, message));
            }
        }
    }

    fn run_ms(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        loop {
            let arrival = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
            let hosts = self.hosts.iter().enumerate().filter(|(_, host)| host.up);
            let timer = hosts.filter_map(|(n, host)| Some((host.cluster.deadline()?, n))).min();
            match (arrival, timer) {
                (Some(at), _) if at <= until && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = at;
                    let (_, (from, to, message)) = self.on_the_way.pop_first().unwrap();
                    if self.hosts[to].up && !self.cut.contains(&(from, to)) {
                        self.step(to, Input::Message { from: id(from), message });
                    }
                }
                (_, Some((due, n))) if due <= until => {
                    self.now = due;
                    self.step(n, Input::Tick);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn send(&mut self, n: usize, timeout_ms: u64, request: Request) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.deadlines.insert((n, ticket), self.now.after_ms(timeout_ms));
        let asked = Asked { ticket, timeout_ms, request };
        self.step(n, Input::Command(Command::Ask([asked].into())));
        ticket
    }

    fn ask(&mut self, n: usize, timeout_ms: u64, request: Request) -> Result<Reply, Error> {
        let ticket = self.send(n, timeout_ms, request);
        let until = self.now.after_ms(timeout_ms);
        while !self.hosts[n].answers.contains_key(&ticket) && self.now < until {
            self.run_ms(1);
        }
        self.hosts[n].answers.get(&ticket).cloned().expect("every request is answered in time")
    }

    fn change(&mut self, n: usize, command: registry::Command) -> Result<Reply, Error> {
        self.ask(n, 5_000, Request::Change(command))
    }

    fn put(&mut self, n: usize, key: &'static str) -> Result<Reply, Error> {
        self.change(n, put(key, "v"))
    }

    fn get(&mut self, n: usize, key: &'static str, read: Read) -> Result<Option<Bytes>, Error> {
        let query = Query::Get { key: b(key) };
        match self.ask(n, 5_000, Request::Query { query, read })? {
            Reply::Value { item, .. } => Ok(item.map(|item| item.value)),
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, n: usize, ttl_ms: u64) -> u64 {
        match self.change(n, registry::Command::Grant { ttl_ms, node: id(n) }) {
            Ok(Reply::Granted { lease, .. }) => lease,
            other => panic!("{other:?}"),
        }
    }

    fn campaign(&mut self, n: usize, lease: u64) -> Result<Reply, Error> {
        let (name, priority, value) = (b("n"), 0, b(""));
        self.change(n, registry::Command::Campaign { name, lease, priority, value })
    }

    fn holder(&self, n: usize) -> Option<(NodeId, u64)> {
        match self.hosts[n].cluster.local(&Query::Name { name: b("n") }) {
            Ok(Reply::Name { name, .. }) => name.holder.map(|holder| (holder.node, holder.token)),
            _ => None,
        }
    }

    fn leader(&self) -> usize {
        let leads =
            |n: &usize| self.hosts[*n].up && self.hosts[*n].cluster.leads(self.now).is_some();
        (0..self.hosts.len()).find(leads).expect("somebody leads")
    }

    fn follower(&self) -> usize {
        (0..self.hosts.len()).find(|n| *n != self.leader()).expect("somebody follows")
    }

    /// Cuts two nodes apart, or not any more; both notice.
    fn cut(&mut self, a: usize, b: usize, cut: bool) {
        for (from, to) in [(a, b), (b, a)] {
            let changed =
                if cut { self.cut.insert((from, to)) } else { self.cut.remove(&(from, to)) };
            if changed && self.hosts[from].up {
                self.step(from, Input::Link { peer: id(to), up: !cut });
            }
        }
    }

    fn isolate(&mut self, n: usize, cut: bool) {
        (0..self.hosts.len()).filter(|peer| *peer != n).for_each(|peer| self.cut(n, peer, cut));
    }

    fn crash(&mut self, n: usize) {
        self.isolate(n, true);
        self.hosts[n].up = false;
        self.deadlines.retain(|(node, _), _| *node != n);
    }

    /// From what is on its disk, and no more than is needed of it.
    fn restart(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.cluster = Cluster::new(self.config);
        host.up = true;
        host.records.drain(..core::mem::take(&mut host.begins));
        host.records.iter().for_each(|record| host.cluster.restore(record.clone()));
        self.step(n, Input::Start);
        self.isolate(n, false);
    }

    /// All registries are the same, once all have applied the same.
    fn assert_equal(&mut self) {
        let until = self.now.after_ms(2_000);
        let revisions = |net: &Net| -> BTreeSet<u64> {
            net.hosts.iter().map(|host| host.cluster.registry().revision()).collect()
        };
        while revisions(self).len() > 1 && self.now < until {
            self.run_ms(1);
        }
        let first = self.hosts[0].cluster.registry();
        let same = self.hosts.iter().all(|host| host.cluster.registry() == first);
        assert!(same, "at revisions {:?}", revisions(self));
    }
}

fn put(key: &'static str, value: &'static str) -> registry::Command {
    registry::Command::Put {
        key: b(key),
        value: b(value),
        lease: None,
        previous: None,
        fence: None,
    }
}

#[test]
fn whoever_is_asked_answers() {
    let mut net = Net::cluster(3);
    for n in 0..3 {
        assert!(net.put(n, "k").is_ok());
        for read in [Read::Linearizable, Read::ByLease] {
            assert_eq!(net.get(n, "k", read), Ok(Some(b("v"))));
        }
    }
    net.run_ms(100);
    assert_eq!(net.get(1, "k", Read::Local), Ok(Some(b("v"))));
    net.assert_equal();
    assert!(net.hosts[0].events.contains(&Event::HealthChanged(Health::Whole)));
}

#[test]
fn what_comes_at_once_is_written_at_once() {
    let mut net = Net::cluster(3);
    let (leader, follower) = (net.leader(), net.follower());
    for n in [leader, follower] {
        let written = net.hosts[leader].records.len();
        let asked =
            |ticket| Asked { ticket, timeout_ms: 1_000, request: Request::Change(put("k", "v")) };
        net.step(n, Input::Command(Command::Ask((1_000..1_050).map(asked).collect())));
        net.run_ms(20);
        assert_eq!(net.hosts[leader].records.len(), written + 1);
        assert!(
            (1_000..1_050)
                .all(|ticket| matches!(net.hosts[n].answers.remove(&ticket), Some(Ok(_))))
        );
    }
}

#[test]
fn without_a_quorum_the_answer_says_who_is_reached() {
    let mut net = Net::cluster(3);
    let leader = net.leader();
    (0..3).filter(|n| *n != leader).for_each(|n| net.crash(n));
    // What it has proposed by then, nobody knows.
    assert_eq!(net.put(leader, "k"), Err(Error::Unknown));
    let unreachable = (0..3).filter(|n| *n != leader).map(id).collect();
    let error = Error::Unavailable { leader: None, reachable: vec![id(leader)], unreachable };
    assert_eq!(net.put(leader, "k"), Err(error.clone()));
    assert_eq!(net.get(leader, "k", Read::Linearizable), Err(error));
    assert_eq!(net.get(leader, "k", Read::Local), Ok(None));
    let mut outside = Net::new(1, Config::default());
    assert_eq!(outside.put(0, "k"), Err(Error::NoCluster));
}

#[test]
fn requests_outlive_a_leader() {
    let mut net = Net::cluster(3);
    let (leader, follower) = (net.leader(), net.follower());
    // On its way to the leader when that dies: it is not proposed, and asked for again elsewhere.
    let lost = net.send(follower, 5_000, Request::Change(put("lost", "v")));
    net.run_ms(1);
    net.crash(leader);
    let later = net.send(follower, 5_000, Request::Change(put("later", "v")));
    net.run_ms(3_000);
    for ticket in [lost, later] {
        let answer = net.hosts[follower].answers.get(&ticket);
        assert!(matches!(answer, Some(Ok(Reply::Written { version: 1, .. }))), "{answer:?}");
    }
    // Committed, but the leader dies before it says so: the asking node reads it in the log.
    net.restart(leader);
    net.run_ms(3_000);
    let leader = net.leader();
    let follower = net.follower();
    let at = net.hosts[leader].cluster.registry().revision();
    let told = net.send(follower, 5_000, Request::Change(put("told", "v")));
    while net.hosts[leader].cluster.registry().revision() == at {
        net.run_ms(1);
    }
    assert!(!net.hosts[follower].answers.contains_key(&told));
    net.crash(leader);
    net.run_ms(4_000);
    let answer = net.hosts[follower].answers.get(&told);
    assert!(matches!(answer, Some(Ok(Reply::Written { version: 1, .. }))), "{answer:?}");
}

#[test]
fn a_lease_lives_as_long_as_it_is_renewed_and_through_a_change_of_leader() {
    let mut net = Net::cluster(3);
    let lease = net.lease(1, 2_000);
    assert!(matches!(net.campaign(1, lease), Ok(Reply::Held { .. })));
    let rival = net.lease(2, 60_000);
    assert!(matches!(net.campaign(2, rival), Ok(Reply::Queued { .. })));
    for _ in 0..5 {
        net.run_ms(1_000);
        let renewed = net.ask(1, 1_000, Request::KeepAlive { lease });
        assert!(matches!(renewed, Ok(Reply::Renewed { ttl_ms: 2_000, .. })), "{renewed:?}");
    }
    let (renewed_at, leader) = (net.now, net.leader());
    net.crash(leader);
    net.run_ms(1_800);
    let (n, _) = net.holder(net.leader()).expect("somebody holds it");
    assert_eq!(n, id(1), "a change of leader does not shorten a lease");
    while net.holder(net.leader()).is_some_and(|(node, _)| node == id(1)) {
        net.run_ms(10);
    }
    let lasted_ms = net.now.since_us(renewed_at) / 1_000;
    assert!((2_000..4_000).contains(&lasted_ms), "it was not begun anew either: {lasted_ms}");
    assert_eq!(net.holder(net.leader()).map(|(node, _)| node), Some(id(2)));
    net.restart(leader);
    net.run_ms(1_000);
    let gone = net.ask(1, 1_000, Request::KeepAlive { lease });
    assert_eq!(gone, Err(Error::Refused(Refusal::UnknownLease)));
}

#[test]
fn a_write_under_an_old_grant_is_refused_wherever_it_is_asked_for() {
    let mut net = Net::cluster(3);
    let lease = net.lease(1, 1_000);
    let Ok(Reply::Held { token }) = net.campaign(1, lease) else { panic!("it is free") };
    let fenced = |token| registry::Command::Put {
        key: b("k"),
        value: b("v"),
        lease: None,
        previous: None,
        fence: Some(Fence { name: b("n"), token }),
    };
    assert!(net.change(1, fenced(token)).is_ok());
    net.run_ms(2_000);
    let stale = Err(Error::Refused(Refusal::StaleToken { current: None }));
    assert_eq!(net.change(1, fenced(token)), stale);
}

#[test]
fn members_come_and_go_one_step_at_a_time() {
    let mut net = Net::new(5, Config::default());
    net.found(3);
    let add = |n, seat| Request::Add { node: id(n), seat };
    assert!(net.ask(1, 5_000, add(3, Seat::Learner)).is_ok());
    assert_eq!(net.hosts[3].cluster.role(), Role::Learner, "it knows of it");
    assert!(net.ask(2, 5_000, add(4, Seat::Witness)).is_ok());
    assert!(net.ask(1, 5_000, add(3, Seat::Learner)).is_ok(), "twice is once");
    net.run_ms(500);
    assert_eq!(net.hosts[4].cluster.role(), Role::Witness);
    assert_eq!(net.hosts[3].cluster.role(), Role::Learner);
    assert!(net.put(4, "k").is_ok(), "a witness passes on");
    assert_eq!(net.get(4, "k", Read::Local), Err(Error::WrongSeat(id(4))));
    net.run_ms(100);
    assert_eq!(net.get(3, "k", Read::Local), Ok(Some(b("v"))));
    assert_eq!(net.ask(0, 5_000, add(3, Seat::Witness)), Err(Error::OtherSeat(id(3))));
    assert!(net.ask(0, 5_000, Request::Promote { node: id(3) }).is_ok());
    assert_eq!(net.hosts[0].cluster.log().members().voters.len(), 5);
    // Two at once, and twice.
    let first = net.send(0, 5_000, Request::Remove { node: id(3) });
    let second = net.send(1, 5_000, Request::Remove { node: id(4) });
    net.run_ms(1_000);
    assert!(net.hosts[0].answers[&first].is_ok() && net.hosts[1].answers[&second].is_ok());
    assert_eq!(net.ask(0, 5_000, Request::Remove { node: id(3) }), Err(Error::NotAMember(id(3))));
    assert_eq!(
        (net.hosts[3].cluster.id(), net.hosts[4].cluster.id()),
        (None, None),
        "they were told"
    );
    assert_eq!(net.put(3, "k"), Err(Error::NoCluster));
    // Back again, with nothing of its former life.
    assert!(net.ask(0, 5_000, add(4, Seat::Voter)).is_ok());
    net.run_ms(1_000);
    assert_eq!(net.hosts[4].cluster.role(), Role::Follower);
    assert_eq!(net.get(4, "k", Read::Local), Ok(Some(b("v"))));
}

#[test]
fn who_was_removed_while_it_was_away_hears_of_it() {
    let mut net = Net::cluster(3);
    let (leader, gone) = (net.leader(), net.follower());
    net.isolate(gone, true);
    net.run_ms(2_000);
    assert!(net.ask(leader, 5_000, Request::Remove { node: id(gone) }).is_ok());
    assert!(net.hosts[gone].cluster.id().is_some());
    net.isolate(gone, false);
    net.run_ms(2 * HELLO_MS);
    assert_eq!(net.hosts[gone].cluster.id(), None);
    let unreachable = Request::Add { node: id(gone), seat: Seat::Voter };
    net.isolate(gone, true);
    assert_eq!(net.ask(leader, 5_000, unreachable), Err(Error::Unreachable(id(gone))));
}

#[test]
fn a_leader_hands_over_and_can_remove_itself() {
    let mut net = Net::cluster(3);
    let (leader, follower) = (net.leader(), net.follower());
    let to = Some(id(follower));
    assert!(net.ask(follower, 5_000, Request::HandOver { to }).is_ok());
    net.run_ms(100);
    assert_eq!(net.leader(), follower);
    let stopped = |event: &Event| matches!(event, Event::Stopped(_));
    assert!(net.hosts[leader].events.iter().any(stopped));
    assert!(net.ask(follower, 5_000, Request::Remove { node: id(follower) }).is_ok());
    net.run_ms(3_000);
    assert_eq!(net.hosts[follower].cluster.id(), None);
    assert!(net.put(net.leader(), "k").is_ok());
    let nobody = Request::HandOver { to: Some(id(follower)) };
    assert_eq!(net.ask(net.leader(), 5_000, nobody), Err(Error::NotAMember(id(follower))));
}

#[test]
fn a_newcomer_and_a_restarted_node_have_the_state_from_snapshots() {
    let config = Config { compact_entries: 20, keep_entries: 5, ..Config::default() };
    let mut net = Net::new(4, config);
    net.found(3);
    let lease = net.lease(0, 60_000);
    net.campaign(0, lease).unwrap();
    for _ in 0..100 {
        net.put(1, "k").unwrap();
    }
    net.run_ms(100);
    assert!(net.hosts.iter().take(3).all(|host| host.cluster.status().counters.compactions > 0));
    assert!(net.hosts[0].begins > 0, "old records are covered");
    assert!(net.ask(0, 5_000, Request::Add { node: id(3), seat: Seat::Voter }).is_ok());
    net.run_ms(2_000);
    net.assert_equal();
    (0..4).for_each(|n| net.crash(n));
    (0..4).for_each(|n| net.restart(n));
    net.run_ms(3_000);
    net.assert_equal();
    assert_eq!(net.get(2, "k", Read::Linearizable), Ok(Some(b("v"))));
    assert_eq!(net.holder(3).map(|(node, _)| node), Some(id(0)), "a restart ends no lease");
}

#[test]
fn a_few_long_entries_give_way_to_a_snapshot_too() {
    let mut net = Net::cluster(1);
    let long = |key: &'static str| registry::Command::Put {
        key: b(key),
        value: vec![0; registry::MAX_VALUE_BYTES].into(),
        lease: None,
        previous: None,
        fence: None,
    };
    let fit = ((COMPACT_BYTES + KEEP_BYTES) / registry::MAX_VALUE_BYTES as u64) as usize;
    for _ in 0..fit + 1 {
        net.change(0, long("k")).unwrap();
        assert!(net.hosts[0].cluster.log().len() <= fit + 4);
    }
    assert_eq!(net.hosts[0].cluster.status().counters.compactions, 1);
}

#[test]
fn a_watch_goes_on_on_every_node_and_through_restarts() {
    let mut net = Net::cluster(3);
    let Ok(Reply::Written { revision, .. }) = net.put(0, "k") else { panic!() };
    net.put(0, "other").unwrap();
    net.run_ms(100);
    let from = Some(revision);
    let watch = Command::Watch { watch: 7, target: Target::Key(b("k")), from };
    net.step(2, Input::Command(watch.clone()));
    let count = |net: &Net| {
        let changed = |update: &&WatchUpdate| matches!(update, WatchUpdate::Changed { .. });
        net.hosts[2].told[&7].iter().filter(changed).count()
    };
    assert_eq!(count(&net), 1);
    for _ in 0..WINDOW + 9 {
        net.put(1, "k").unwrap();
    }
    net.run_ms(100);
    assert_eq!(count(&net), WINDOW, "a slow reader is waited for");
    net.step(2, Input::Command(Command::Taken { watch: 7, count: WINDOW }));
    assert_eq!(count(&net), WINDOW + 10);
    let mut last = 0;
    for update in &net.hosts[2].told[&7] {
        let WatchUpdate::Changed { revision, changes } = update else { continue };
        assert!(*revision > last && matches!(&changes[..], [Change::Put(_)]));
        last = *revision;
    }
    net.crash(2);
    net.restart(2);
    net.run_ms(1_000);
    net.hosts[2].told.clear();
    net.step(2, Input::Command(watch));
    assert_eq!(count(&net), WINDOW, "from the same revision on");
    let future = Command::Watch { watch: 8, target: Target::Names(b("")), from: Some(0) };
    net.step(2, Input::Command(future));
    assert_eq!(net.hosts[2].told[&8], [WatchUpdate::Compacted { oldest: 1 }]);
}

#[test]
fn another_clusters_nodes_are_left_alone() {
    let mut net = Net::new(2, Config::default());
    net.step(0, Input::Command(Command::Init { ticket: 0 }));
    net.step(1, Input::Command(Command::Init { ticket: 0 }));
    net.run_ms(1_000);
    let add = Request::Add { node: id(1), seat: Seat::Voter };
    assert_eq!(net.ask(0, 1_000, add), Err(Error::Unknown), "it may yet leave the other");
    net.run_ms(1_000);
    let of = |n: usize| net.hosts[n].cluster.status();
    assert_ne!(of(0).cluster, of(1).cluster);
    assert_eq!((of(0).role, of(1).role), (Role::Leader, Role::Leader));
    assert_eq!(of(0).members.len(), 2, "a learner that never learns, to be removed again");
}

/// One thing of many that a client asks for, or that happens to a node.
fn happen(net: &mut Net, mut draw: impl FnMut(u64) -> u64, leases: &[u64]) {
    let n = draw(3) as usize;
    let all_up = net.hosts.iter().all(|host| host.up);
    let lease = leases.get(draw(8) as usize).copied().unwrap_or(1);
    let change = |command| (1_000, Request::Change(command));
    let (timeout_ms, request) = match draw(12) {
        0 if all_up => return net.crash(n),
        0 | 1 => {
            let down: Vec<usize> = (0..3).filter(|n| !net.hosts[*n].up).collect();
            return down.into_iter().for_each(|n| net.restart(n));
        }
        2 if all_up => return net.isolate(n, draw(2) == 0),
        _ if !net.hosts[n].up => return,
        3 => change(registry::Command::Grant { ttl_ms: 1_000 + draw(2_000), node: id(n) }),
        4 => (500, Request::KeepAlive { lease }),
        5 => {
            let (name, priority, value) = (b("n"), draw(3) as u8, b(""));
            change(registry::Command::Campaign { name, lease, priority, value })
        }
        6 => (300, Request::HandOver { to: None }),
        7 => {
            let read = if draw(2) == 0 { Read::Linearizable } else { Read::ByLease };
            (800, Request::Query { query: Query::Get { key: b("k") }, read })
        }
        _ => (200 + draw(2_000), Request::Change(put("k", "v"))),
    };
    net.send(n, timeout_ms, request);
}

fn answers<T>(net: &Net, of: impl Fn(&Reply) -> Option<T>) -> Vec<T> {
    let answers = net.hosts.iter().flat_map(|host| host.answers.values());
    answers.filter_map(|answer| of(answer.as_ref().ok()?)).collect()
}

/// While nodes crash and links are cut: every request is answered once and in time, every write that
/// was acknowledged has a revision of its own, and all end equal.
#[test]
fn whatever_happens_every_request_is_answered() {
    for seed in 0..30 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = Config { compact_entries: 30, keep_entries: 5, ..Config::default() };
        let mut net = Net::new(3, config);
        net.found(3);
        let mut draw = move |below: u64| rng.next_u64() % below;
        for _ in 0..150 {
            let mut leases = answers(&net, |reply| match reply {
                Reply::Granted { lease, .. } => Some(*lease),
                _ => None,
            });
            leases.sort_unstable_by_key(|lease| core::cmp::Reverse(*lease));
            happen(&mut net, &mut draw, &leases);
            net.run_ms(draw(300));
        }
        let down: Vec<usize> = (0..3).filter(|n| !net.hosts[*n].up).collect();
        down.into_iter().for_each(|n| net.restart(n));
        (0..3).for_each(|n| net.isolate(n, false));
        net.run_ms(8_000);
        assert!(net.deadlines.is_empty(), "seed {seed}: somebody still waits");
        let end = net.put(0, "end");
        assert!(end.is_ok(), "seed {seed}: {end:?}");
        net.assert_equal();
        let written = answers(&net, |reply| match reply {
            Reply::Written { revision, .. } => Some(*revision),
            _ => None,
        });
        let distinct: BTreeSet<u64> = written.iter().copied().collect();
        assert_eq!(written.len(), distinct.len(), "seed {seed}: one write, two answers");
    }
}
