//! What a node takes in of a rollout: signals of followed keys, and reports of known nodes.
//!
//! `cargo bench -p quorate-bench --bench rollouts`

use std::time::Duration;

use bytes::Bytes;
use quorate_bench::{rounds, timed};
use quorate_core::identity::{self, Identity};
use quorate_core::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, WallTime};
use quorate_core::quorum::nostr::{self, SecretKey};
use quorate_core::quorum::report::{Report, SignedReport, Status};
use quorate_core::quorum::signal::{Action, Artifact, Proposal, Signal, Version};
use quorate_core::quorum::waves::Policy;
use quorate_core::quorum::{Command, Config, Event, Maintainers, Quorum, Record};

const KEYS: u8 = 20;
const SIGNALS: u64 = 10_000;
const NODES: usize = 100_000;
const START_S: u64 = 1_800_000_000;
const ROUNDS: usize = 5;

#[derive(Default)]
struct Sink {
    records: usize,
    events: Vec<Event>,
}

impl Effects<Quorum> for Sink {
    fn persist(&mut self, _: Record) {
        self.records += 1;
    }
    fn send(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn send_now(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.emit(event);
    }
}

struct Host {
    quorum: Quorum,
    me: NodeId,
    now: Time,
    sink: Sink,
}

impl Host {
    fn new(config: &Config) -> Host {
        let (quorum, me) = (Quorum::new(config.clone()), config.identity.id());
        let mut host = Host { quorum, me, now: Time(1), sink: Sink::default() };
        host.step(Input::Start);
        host
    }

    fn step(&mut self, input: Input<Quorum>) {
        let wall = WallTime((START_S + 20_000) * 1_000);
        let cx = Cx { me: self.me, now: self.now, wall, entropy: 0 };
        self.quorum.handle(cx, input, &mut self.sink);
    }

    fn command(&mut self, command: Command) {
        self.step(Input::Command(command));
        if self.quorum.deadline().is_some_and(|at| at <= self.now) {
            self.step(Input::Tick);
        }
        self.now = self.now.after_us(10);
    }

    /// Every timer that is due within a second.
    fn settle(&mut self) {
        let end = self.now.after_us(1_000_000);
        while let Some(at) = self.quorum.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.step(Input::Tick);
        }
    }
}

fn release(version: u64) -> Proposal {
    Proposal {
        action: Action::Upgrade,
        network: "hqz".to_owned(),
        version: Version::parse(&format!("1.{version}.0")).expect("a version"),
        artifact: Artifact([version as u8; 32]),
        genesis: None,
        rollback_of: None,
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n + 1; 32]).expect("a key")
}

fn identity(n: usize) -> Identity {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Identity::from_seed(seed)
}

fn config(me: usize, nodes: &[NodeId]) -> Config {
    Config {
        identity: identity(me),
        network: "hqz".to_owned(),
        maintainers: Maintainers::new((0..KEYS).map(|n| key(n).public()), 11).expect("a set"),
        nodes: nodes.iter().enumerate().map(|(n, id)| (*id, n as u32 / 100)).collect(),
        policy: Policy { failures_max: 1_000, ..Policy::default() },
        installed: None,
        lifetime_s: 30 * 86_400,
        frozen_after_s: 60 * 86_400,
        timeout_us: 60_000_000,
        verify: identity::verify,
        verify_maintainer: nostr::verify,
    }
}

/// Signals, oldest first: each replaces its author's one before, so each is checked and kept.
fn signals() -> Vec<Bytes> {
    let signal = |n: u64| {
        let draft = Signal::draft(&release(n / 1_000), START_S + n, None);
        key((n % u64::from(KEYS)) as u8).sign(draft).to_json().into()
    };
    (0..SIGNALS).map(signal).collect()
}

fn reports(ids: &[Identity], what: &Proposal) -> Vec<Bytes> {
    let envelope = key(99);
    let text = |identity: &Identity| {
        let report = Report::new(what, identity.id(), Status::Success, START_S);
        envelope.sign(report.sign(identity).draft(&envelope.public())).to_json().into()
    };
    ids.iter().map(text).collect()
}

fn take(host: &mut Host, texts: &[Bytes]) -> Duration {
    let texts: Vec<Bytes> = texts.to_vec();
    let (time, ()) = timed(|| {
        texts.into_iter().for_each(|text| host.command(Command::Carried(text)));
        host.settle();
    });
    time
}

fn main() {
    let signals = signals();
    let ids: Vec<Identity> = (0..NODES).map(identity).collect();
    let nodes: Vec<NodeId> = ids.iter().map(Identity::id).collect();
    let what = release(9);
    let reports = reports(&ids, &what);
    let quorum: Vec<Bytes> = (0..11)
        .map(|n| key(n).sign(Signal::draft(&what, START_S, None)).to_json().into())
        .collect();
    let waves = nodes.iter().enumerate();
    let last = quorate_core::quorum::waves::order(&nodes, &what.id())[NODES - 1];
    let last = waves.clone().find(|(_, id)| **id == last).map_or(0, |(n, _)| n);
    let first = quorate_core::quorum::waves::order(&nodes, &what.id())[0];
    let first = waves.clone().find(|(_, id)| **id == first).map_or(0, |(n, _)| n);
    let (waiting, through) = (config(last, &nodes), config(first, &nodes));
    let fresh = |config: &Config| {
        let mut host = Host::new(config);
        quorum.iter().for_each(|text| host.command(Command::Carried(text.clone())));
        assert!(host.sink.events.iter().any(|event| matches!(event, Event::Quorum(..))));
        host
    };
    let alone = Config { nodes: Default::default(), ..config(0, &[]) };
    let mut take_signals = || take(&mut Host::new(&alone), &signals);
    let mut shuffled = signals.clone();
    let len = shuffled.len();
    (0..len).for_each(|at| shuffled.swap(at, at * 7_919 % len));
    let mut take_shuffled = || take(&mut Host::new(&alone), &shuffled);
    let mut take_through = || {
        let mut host = fresh(&through);
        let time = take(&mut host, &reports);
        assert_eq!(host.quorum.reports().next().map(|(_, n)| n), Some(NODES - 1));
        time
    };
    let mut take_waiting = || {
        let mut host = fresh(&waiting);
        let time = take(&mut host, &reports);
        assert!(host.sink.events.iter().any(|event| matches!(event, Event::Fetch(_))));
        time
    };
    let mut parse = || {
        timed(|| {
            assert!(reports.iter().all(|text| {
                nostr::Event::from_json(text).is_ok_and(|event| SignedReport::parse(&event).is_ok())
            }));
        })
        .0
    };
    let [in_order, out_of_order, first, last, parse] = rounds(
        ROUNDS,
        [&mut take_signals, &mut take_shuffled, &mut take_through, &mut take_waiting, &mut parse],
    );
    println!("medians of {ROUNDS} rounds, milliseconds of a core");
    let show = |what: &str, time: Duration| println!("{what:66} {:>6}", time.as_millis());
    show("10,000 signals by 20 keys, oldest first: every one is checked", in_order);
    show("10,000 signals by 20 keys, in no order", out_of_order);
    show("100,000 reports at a node of the first wave, which runs", first);
    show("100,000 reports at the last node, which waits for half of them", last);
    show("  of which reading the events", parse);
    let whole = in_order + last;
    show("the worst of both together", whole);
}
