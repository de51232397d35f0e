//! A node that takes releases, written down: what carriers bring, what the host is asked, what is kept.

use std::collections::BTreeMap;

use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, WallTime};
use quorate_core::quorum::nostr::{self, SecretKey};
use quorate_core::quorum::report::{Report, Status};
use quorate_core::quorum::signal::{Action, Artifact, Proposal, Signal, Version};
use quorate_core::quorum::waves::Policy;
use quorate_core::quorum::{
    Command, Config, Event, Maintainers, Outcome, Quorum, Record, Refusal, RunError,
};

/// What the clocks show at the start, in seconds.
const START_S: u64 = 1_800_000_000;
const MAINTAINERS: [&str; 5] = ["Ada", "Bob", "Cyd", "Dan", "Eve"];

/// A node, its host, and the transcript.
struct Desk {
    config: Config,
    quorum: Quorum,
    log: Vec<Record>,
    now: Time,
    lines: Vec<String>,
}

#[derive(Default)]
struct Sink(Vec<Record>, Vec<Event>);

impl Effects<Quorum> for Sink {
    fn persist(&mut self, record: Record) {
        self.0.push(record);
    }
    fn send(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn send_now(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn emit(&mut self, event: Event) {
        self.1.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.emit(event);
    }
}

fn node(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn key(name: &str) -> SecretKey {
    let n = MAINTAINERS.iter().position(|known| *known == name).expect("a maintainer");
    SecretKey::from_bytes(&[n as u8 + 1; 32]).expect("a key")
}

fn release(version: &str, hash: u8) -> Proposal {
    Proposal {
        action: Action::Upgrade,
        network: "hqz".to_owned(),
        version: Version::parse(version).expect("a version"),
        artifact: Artifact([hash; 32]),
        genesis: None,
        rollback_of: None,
    }
}

impl Desk {
    fn new(nodes: impl IntoIterator<Item = u8>) -> Desk {
        let keys = MAINTAINERS.map(|name| key(name).public());
        let config = Config {
            identity: node(1),
            network: "hqz".to_owned(),
            maintainers: Maintainers::new(keys, 3).expect("three of five"),
            nodes: nodes.into_iter().map(|n| (node(n).id(), 0)).collect::<BTreeMap<_, _>>(),
            policy: Policy { until_percent: vec![50, 100], ..Policy::default() },
            installed: Some((Version::parse("0.9.0").expect("a version"), Artifact([9; 32]))),
            lifetime_s: 30 * 86_400,
            frozen_after_s: 60 * 86_400,
            timeout_us: 600_000_000,
            verify,
            verify_maintainer: nostr::verify,
        };
        let quorum = Quorum::new(config.clone());
        let mut desk = Desk { config, quorum, log: Vec::new(), now: Time::ZERO, lines: Vec::new() };
        desk.step(Input::Start);
        desk
    }

    fn say(&mut self, line: &str) {
        self.lines.push(format!("\n{line}"));
    }

    fn step(&mut self, input: Input<Quorum>) {
        self.now = self.now.after_ms(1_000);
        let wall = WallTime(START_S * 1_000 + self.now.0 / 1_000);
        let before: Vec<u64> =
            Refusal::ALL.iter().map(|why| self.quorum.refusals().get(*why)).collect();
        let mut sink = Sink::default();
        let cx = Cx { me: node(1).id(), now: self.now, wall, entropy: 0 };
        self.quorum.handle(cx, input, &mut sink);
        self.quorum.check();
        for (why, before) in Refusal::ALL.iter().zip(before) {
            if self.quorum.refusals().get(*why) > before {
                self.lines.push(format!("         refused: {why}"));
            }
        }
        for record in &sink.0 {
            self.lines.push(format!("  keeps  {}", kept(record)));
        }
        for event in &sink.1 {
            self.lines.push(format!("  asks   {}", told(event)));
        }
        self.log.extend(sink.0);
    }

    fn signs(&mut self, name: &str, what: &Proposal, at_s: u64) {
        let hash = &what.artifact.to_string()[..4];
        let back =
            what.rollback_of.as_ref().map_or(String::new(), |of| format!(", taking back {of}"));
        let of = if what.network == "hqz" { "" } else { " of another network" };
        self.lines
            .push(format!("{name} signs {} ({hash}){of}{back}, as of {at_s} s", what.version));
        let event = key(name).sign(Signal::draft(what, START_S + at_s, None));
        self.step(Input::Command(Command::Carried(event.to_json().into())));
    }

    fn host(&mut self, line: &str, command: Command) {
        self.lines.push(format!("host: {line}"));
        self.step(Input::Command(command));
    }

    fn fetched(&mut self, what: &Proposal, hash: u8) {
        let result = Ok(Artifact([hash; 32]));
        let line = format!("fetched, its hash is {hash:02x}{hash:02x}");
        self.host(&line, Command::Fetched { proposal: what.id(), result });
    }

    fn ran(&mut self, line: &str, what: &Proposal, result: Result<(), RunError>) {
        self.host(line, Command::Ran { proposal: what.id(), result });
    }

    fn reports(&mut self, n: u8, what: &Proposal, status: Status) {
        self.lines.push(format!("node {n} reports {}", said(&status)));
        let signed = Report::new(what, node(n).id(), status, START_S).sign(&node(n));
        self.step(Input::Command(Command::Reported(signed)));
        self.lines.push("a moment later".to_owned());
        self.step(Input::Tick);
    }

    fn dies(&mut self) {
        self.lines.push("the node dies, and starts again".to_owned());
        self.quorum = Quorum::new(self.config.clone());
        self.log.iter().cloned().for_each(|record| self.quorum.restore(record));
        self.step(Input::Start);
    }

    fn transcript(self) -> String {
        self.lines.into_iter().map(|line| line + "\n").collect()
    }
}

fn said(status: &Status) -> String {
    match status {
        Status::Success => "success".to_owned(),
        Status::Failure(why) => format!("failure: {why}"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::WrongHash(hash) => format!("wrong hash {}", &hash.to_string()[..4]),
        other => format!("{other:?}"),
    }
}

fn kept(record: &Record) -> String {
    match record {
        Record::Began(_) => "when it began".to_owned(),
        Record::Signal(_) => "the signal".to_owned(),
        Record::Quorum(certificate) => format!("a certificate of {}", certificate.signals.len()),
        Record::Begun(_) => "that the run begins".to_owned(),
        Record::Ended { outcome: how, .. } => format!("that it ended: {}", outcome(how)),
        Record::IsBack(_) => "that the previous artifact is back".to_owned(),
        Record::Halted(_) => "that it is halted".to_owned(),
        other => format!("{other:?}"),
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Quorum(proposal, _) => format!("nothing; {} has a quorum", proposal.version),
        Event::Conflict(_, version) => format!("nothing; quorums for {version} contradict"),
        Event::Fetch(proposal) => format!("to fetch {}", &proposal.artifact.to_string()[..4]),
        Event::Run { proposal, certificate, .. } => {
            format!("to run {}, on {} signatures", proposal.version, certificate.signals.len())
        }
        Event::PutBack { artifact, .. } => {
            let hash =
                artifact.map_or("nothing".to_owned(), |hash| hash.to_string()[..4].to_owned());
            format!("to put {hash} back")
        }
        Event::Publish(signed) => format!("to publish {}", said(&signed.report.status)),
        Event::Ended(_, how) => format!("nothing; it ended: {}", outcome(how)),
        Event::Halted(_) => "nothing; the rollout is halted".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn three_of_five_sign_a_release() {
    let mut desk = Desk::new([]);
    let (v1, other, v2) = (release("v1.0.0", 0x11), release("1.0.0", 0xff), release("2.0.0", 0x22));
    desk.say("Two for one artifact, one for another of the same version: these do not pool.");
    desk.signs("Ada", &v1, 1);
    desk.signs("Bob", &v1, 2);
    desk.signs("Cyd", &other, 3);
    desk.say("Cyd looks again. Her newer signal takes the vote along.");
    desk.signs("Cyd", &release("1.0.0", 0x11), 5);
    desk.fetched(&v1, 0x11);
    desk.ran("the run ended well", &v1, Ok(()));
    desk.say("What is late, repeated, foreign or far ahead changes nothing.");
    desk.signs("Cyd", &other, 3);
    desk.signs("Ada", &v1, 1);
    desk.signs("Ada", &Proposal { network: "other".to_owned(), ..v2.clone() }, 6);
    desk.signs("Ada", &v2, 86_400);
    desk.signs("Dan", &v1, 7);
    desk.say("Other bytes come for the next release: it fails here, once.");
    for (name, at) in [("Ada", 10), ("Bob", 11), ("Eve", 12)] {
        desk.signs(name, &v2, at);
    }
    desk.fetched(&v2, 0x33);
    desk.signs("Dan", &v2, 13);
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_run_is_interrupted() {
    let mut desk = Desk::new([]);
    let v1 = release("1.0.0", 0x11);
    for (name, at) in [("Ada", 1), ("Bob", 2), ("Cyd", 3)] {
        desk.signs(name, &v1, at);
    }
    desk.fetched(&v1, 0x11);
    desk.say("Nobody knows how far the run came. It is not tried again.");
    desk.dies();
    desk.host("it is back", Command::IsBack(v1.id()));
    desk.say("The same artifact under a new version is not run here either; a fixed one is.");
    for (name, at) in [("Ada", 4), ("Bob", 5), ("Cyd", 6)] {
        desk.signs(name, &release("1.0.1", 0x11), at);
    }
    let fixed = release("1.0.2", 0x12);
    for (name, at) in [("Ada", 7), ("Bob", 8), ("Cyd", 9)] {
        desk.signs(name, &fixed, at);
    }
    desk.fetched(&fixed, 0x12);
    desk.ran("the run failed", &fixed, Err(RunError::Failed("exit 1".to_owned())));
    desk.say("It dies before the previous artifact is back: that is asked for again.");
    desk.dies();
    desk.host("it is back", Command::IsBack(fixed.id()));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_node_waits_for_its_wave() {
    let v1 = release("1.0.0", 0x11);
    let mut desk = Desk::new(1..=4);
    desk.say("Four nodes, one at a time; this one is not the first.");
    for (name, at) in [("Ada", 1), ("Bob", 2), ("Cyd", 3)] {
        desk.signs(name, &v1, at);
    }
    for n in 2..=4 {
        desk.reports(n, &v1, Status::Success);
    }
    desk.fetched(&v1, 0x11);
    desk.ran("the run ended well", &v1, Ok(()));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn too_many_nodes_fail() {
    let v1 = release("1.0.0", 0x11);
    let mut desk = Desk::new(1..=4);
    for (name, at) in [("Ada", 1), ("Bob", 2), ("Cyd", 3)] {
        desk.signs(name, &v1, at);
    }
    desk.say("One failure is borne.");
    for n in 2..=4 {
        desk.reports(n, &v1, Status::Failure("exit 1".to_owned()));
    }
    desk.say("Somebody looks into it. Still the wave before this node's is not well.");
    desk.host("the operator resumes", Command::Resume);
    insta::assert_snapshot!(desk.transcript());
}
