use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use core::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::machine::WallTime;

const NETWORK: Hash = Hash([7; 32]);

#[derive(Default)]
struct Sink {
    sent: Vec<(NodeId, Message)>,
    events: Vec<Event>,
}

impl Effects<Handshake> for Sink {
    fn persist(&mut self, record: Never) {
        match record {}
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn send_now(&mut self, _: NodeId, _: Message) {
        panic!("what a handshake says may rest on records");
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, _: Event) {
        panic!("what a handshake tells may rest on records");
    }
}

/// Two nodes, `new` and `old`, the messages between them, and a transcript.
struct Pair {
    nodes: [Handshake; 2],
    wire: [VecDeque<Message>; 2],
    now: Time,
    steps: u64,
    /// Random numbers in the order of their appearance.
    numbers: Vec<u64>,
    transcript: String,
    events: [Vec<Event>; 2],
}

const NAMES: [&str; 2] = ["new", "old"];

fn id(side: usize) -> NodeId {
    NodeId([side as u8; 32])
}

impl Pair {
    fn new(new: Config, old: Config) -> Self {
        Self {
            nodes: [Handshake::new(new), Handshake::new(old)],
            wire: Default::default(),
            now: Time::ZERO,
            steps: 0,
            numbers: Vec::new(),
            transcript: String::new(),
            events: Default::default(),
        }
    }

    fn step(&mut self, side: usize, input: Input<Handshake>) {
        self.steps += 1;
        let (now, entropy) = (self.now, self.steps);
        let cx = Cx { me: id(side), now, wall: WallTime::ZERO, entropy };
        let mut sink = Sink::default();
        self.nodes[side].handle(cx, input, &mut sink);
        self.nodes[side].check();
        for event in sink.events {
            let line = self.describe_event(&event);
            writeln!(self.transcript, "{}: {line}", NAMES[side]).unwrap();
            self.events[side].push(event);
        }
        for (to, message) in sink.sent {
            assert_eq!(to, id(1 - side));
            let line = self.describe(&message);
            writeln!(self.transcript, "{} -> {}: {line}", NAMES[side], NAMES[1 - side]).unwrap();
            self.wire[side].push_back(message);
        }
    }

    fn link(&mut self, side: usize, up: bool) {
        self.step(side, Input::Link { peer: id(1 - side), up });
    }

    /// Delivers the oldest message that `side` sent.
    fn deliver(&mut self, side: usize) -> bool {
        let Some(message) = self.wire[side].pop_front() else { return false };
        self.step(1 - side, Input::Message { from: id(side), message });
        true
    }

    fn deliver_all(&mut self) {
        for round in 0.. {
            assert!(round < 100, "they keep each other busy");
            if !(self.deliver(0) | self.deliver(1)) {
                return;
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        for side in 0..2 {
            if self.nodes[side].deadline().is_some_and(|due| due <= self.now) {
                self.step(side, Input::Tick);
            }
        }
    }

    fn describe(&mut self, message: &Message) -> String {
        let mut introduced = |verb: &str, nonce: u64, by: &Introduction| {
            let (nonce, session) = (self.name(nonce), self.name(by.session));
            let Introduction { version, min_version, features, .. } = by;
            format!(
                "{verb} {nonce}, I am {session}, versions {min_version} to {version}, \
                 features {features:02b}"
            )
        };
        match message {
            Message::Hello { nonce, introduction } => introduced("Hello", *nonce, introduction),
            Message::Welcome { nonce, introduction } => introduced("Welcome", *nonce, introduction),
            Message::Refuse { session, reason } => {
                format!("Refuse {}: {reason}", self.name(*session))
            }
        }
    }

    fn describe_event(&mut self, event: &Event) -> String {
        match event {
            Event::Opened { version, features, session, .. } => {
                let session = self.name(*session);
                format!("opened {session}, version {version}, features {features:02b}")
            }
            Event::Closed { .. } => "closed".to_string(),
            Event::Refused { reason, .. } => format!("refused: {reason}"),
            Event::RefusedBy { reason, .. } => format!("refused by the peer: {reason}"),
            Event::Failed { reason: Failure::Silent, .. } => "failed: silent".to_string(),
        }
    }

    fn name(&mut self, number: u64) -> String {
        let at = self.numbers.iter().position(|known| *known == number).unwrap_or_else(|| {
            self.numbers.push(number);
            self.numbers.len() - 1
        });
        format!("#{at}")
    }

    fn open(&self) -> bool {
        let [new, old] = [&self.nodes[0].peers.get(&id(1)), &self.nodes[1].peers.get(&id(0))];
        let (Some(new), Some(old)) = (new, old) else { return false };
        let session = |peer: &Peer| match &peer.state {
            State::Open(agreement) => Some(agreement.session),
            _ => None,
        };
        session(new) == Some(old.session) && session(old) == Some(new.session)
    }

    fn took(&mut self) -> String {
        core::mem::take(&mut self.transcript)
    }
}

fn config(min_version: u16, version: u16, features: u64) -> Config {
    Config { min_version, version, features, ..Config::new(NETWORK, None) }
}

fn opened() -> Pair {
    let mut pair = Pair::new(config(1, 1, 3), config(1, 1, 3));
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver_all();
    assert!(pair.open());
    pair
}

#[test]
fn an_older_peer_gets_the_subset_it_knows() {
    let mut pair = Pair::new(config(1, 3, 0b111), config(1, 2, 0b011));
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver_all();
    assert_eq!(pair.nodes.each_ref().map(|node| node.refused().len()), [0, 0]);
    assert_eq!(pair.nodes[0].version(id(1)), Some(2));
    assert_eq!(pair.nodes[1].features(id(0)), Some(0b011));
    insta::assert_snapshot!(pair.took(), @r"
    new -> old: Hello #0, I am #1, versions 1 to 3, features 111
    old -> new: Hello #2, I am #3, versions 1 to 2, features 11
    old -> new: Welcome #0, I am #3, versions 1 to 2, features 11
    new -> old: Welcome #2, I am #1, versions 1 to 3, features 111
    old: opened #1, version 2, features 11
    new: opened #3, version 2, features 11
    ");
}

#[test]
fn an_incompatible_peer_is_told_why() {
    let mut pair = Pair::new(config(2, 3, 0), config(1, 1, 0));
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver_all();
    assert_eq!(pair.nodes[0].refused().get(&Reason::TooOld), Some(&1));
    insta::assert_snapshot!(pair.took(), @r"
    new -> old: Hello #0, I am #1, versions 2 to 3, features 00
    old -> new: Hello #2, I am #3, versions 1 to 1, features 00
    old: refused: its protocol is too new: upgrade the refusing node
    old -> new: Refuse #1: its protocol is too new: upgrade the refusing node
    new: refused: its protocol is too old: upgrade the refused node
    new -> old: Refuse #3: its protocol is too old: upgrade the refused node
    ");
}

#[test]
fn another_mesh_is_refused_for_its_own_reason_and_joined_by_command() {
    let elsewhere = Config { network: Hash([8; 32]), ..config(1, 1, 0) };
    let mut pair = Pair::new(config(1, 1, 0), elsewhere);
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver_all();
    assert_eq!(pair.nodes[0].refused().get(&Reason::OtherNetwork), Some(&1));
    assert!(!pair.nodes[0].is_open(id(1)) && !pair.nodes[1].is_open(id(0)));

    pair.step(1, Input::Command(Command::Network(NETWORK)));
    pair.link(0, false);
    pair.link(0, true);
    pair.deliver_all();
    assert!(pair.open());

    // It leaves for a third one: what was open is not any more.
    pair.step(1, Input::Command(Command::Network(Hash([9; 32]))));
    pair.deliver_all();
    pair.wait(RETRY_MS);
    pair.deliver_all();
    let last = |side: usize| pair.events[side].last().unwrap();
    assert!(
        matches!(last(0), Event::Refused { reason: Reason::OtherNetwork, .. })
            || matches!(last(0), Event::RefusedBy { reason: Reason::OtherNetwork, .. })
    );
    assert!(!pair.nodes[0].is_open(id(1)) && !pair.nodes[1].is_open(id(0)));
}

#[test]
fn a_restarted_peer_is_closed_and_opened_again() {
    let mut pair = opened();
    pair.took();
    // Its process died and came back; the other end's link never noticed.
    pair.nodes[1] = Handshake::new(config(1, 1, 3));
    pair.link(1, true);
    pair.deliver_all();
    assert!(pair.open());
    insta::assert_snapshot!(pair.took(), @r"
    old -> new: Hello #4, I am #5, versions 1 to 1, features 11
    new -> old: Welcome #4, I am #1, versions 1 to 1, features 11
    new -> old: Hello #6, I am #1, versions 1 to 1, features 11
    old: opened #1, version 1, features 11
    old -> new: Welcome #6, I am #5, versions 1 to 1, features 11
    new: closed
    new: opened #5, version 1, features 11
    ");
}

#[test]
fn ghosts_of_an_earlier_session_change_nothing() {
    let mut pair = Pair::new(config(1, 1, 3), config(1, 1, 3));
    pair.link(0, true);
    pair.link(1, true);
    let ghosts: [Vec<Message>; 2] = pair.wire.each_ref().map(|wire| wire.iter().cloned().collect());
    pair.deliver_all();
    let mut bad = ghosts[1][0].clone();
    if let Message::Hello { introduction, .. } = &mut bad {
        introduction.network = Hash([1; 32]);
        introduction.session = 99;
    }
    pair.link(0, false);
    pair.link(1, false);
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver_all();
    assert!(pair.open());
    let before = pair.events.clone();
    for _ in 0..3 {
        pair.wire[0].extend(ghosts[0].iter().cloned());
        pair.wire[1].extend(ghosts[1].iter().cloned());
        pair.wire[1].push_back(bad.clone());
        pair.wire[1].push_back(Message::Refuse { session: 5, reason: Reason::Full });
        pair.deliver_all();
        pair.wait(RETRY_MS);
        pair.deliver_all();
    }
    assert!(pair.open());
    assert_eq!(pair.events, before);
}

/// It names a session that is over, and would be believed if it did not answer an older question.
#[test]
fn a_welcome_from_before_the_round_opens_nothing() {
    let mut pair = Pair::new(config(1, 1, 3), config(1, 1, 3));
    pair.link(0, true);
    pair.link(1, true);
    pair.deliver(0);
    let ghost = pair.wire[1].back().cloned().unwrap();
    assert!(matches!(ghost, Message::Welcome { .. }));
    pair.deliver_all();
    pair.nodes[1] = Handshake::new(config(1, 1, 3));
    pair.link(1, true);
    pair.deliver_all();

    let before = pair.events.clone();
    let introduction = Handshake::new(config(1, 1, 3)).introduction(99);
    let hello = Message::Hello { nonce: 98, introduction };
    pair.step(0, Input::Message { from: id(1), message: hello });
    assert!(pair.nodes[0].deadline().is_some(), "it asks who is there");
    pair.step(0, Input::Message { from: id(1), message: ghost });
    pair.deliver_all();
    assert!(pair.open());
    assert_eq!(pair.events, before);
}

#[test]
fn a_silent_peer_fails_and_is_heard_if_it_wakes() {
    let mut pair = Pair::new(config(1, 1, 0), config(1, 1, 0));
    pair.link(0, true);
    for _ in 0..HELLO_ATTEMPTS {
        assert_eq!(pair.events[0], []);
        pair.wait(RETRY_MS);
    }
    assert_eq!(pair.events[0], [Event::Failed { peer: id(1), reason: Failure::Silent }]);
    assert_eq!(pair.wire[0].len(), HELLO_ATTEMPTS as usize);
    assert_eq!(pair.nodes[0].deadline(), None);
    pair.wire[0].clear();
    pair.link(1, true);
    pair.deliver_all();
    assert!(pair.open());
}

#[test]
fn the_parents_refusal_reaches_the_peer_even_if_it_is_lost_twice() {
    let mut pair = opened();
    let peer = id(1);
    pair.step(0, Input::Command(Command::Refuse { peer, reason: Reason::Removed }));
    for _ in 1..REFUSE_ATTEMPTS {
        assert!(matches!(pair.wire[0].pop_front(), Some(Message::Refuse { .. })));
        pair.wait(RETRY_MS);
    }
    pair.deliver_all();
    let reason = Reason::Removed;
    let ends = |node: usize| pair.events[node][pair.events[node].len() - 2..].to_vec();
    assert_eq!(ends(0), [Event::Closed { peer }, Event::Refused { peer, reason }]);
    let peer = id(0);
    assert_eq!(ends(1), [Event::Closed { peer }, Event::RefusedBy { peer, reason }]);
    assert_eq!(pair.nodes[1].refused_by(), &BTreeMap::from([(reason, 1)]));

    // Refused before it said anything, it is told when it does.
    let mut pair = Pair::new(config(1, 1, 0), config(1, 1, 0));
    pair.link(0, true);
    let (peer, reason) = (id(1), Reason::NotAMember);
    pair.step(0, Input::Command(Command::Refuse { peer, reason }));
    pair.wire[0].clear();
    pair.link(1, true);
    pair.deliver_all();
    assert_eq!(pair.events[1], [Event::RefusedBy { peer: id(0), reason }]);
}

#[test]
fn what_breaks_the_rules_is_malformed() {
    let good = Handshake::new(config(1, 1, 0)).introduction(1);
    let bad = [
        Introduction { min_version: 2, ..good.clone() },
        Introduction { address: Some("a".repeat(MAX_ADDRESS + 1)), ..good.clone() },
        Introduction { extension: vec![0; MAX_EXTENSION + 1], ..good.clone() },
    ];
    for introduction in bad {
        let mut pair = Pair::new(config(1, 1, 0), config(1, 1, 0));
        pair.link(0, true);
        let message = Message::Hello { nonce: 1, introduction };
        pair.step(0, Input::Message { from: id(1), message });
        assert_eq!(pair.nodes[0].refused(), &BTreeMap::from([(Reason::Malformed, 1)]));
    }
    let future = Introduction { extension: vec![1; MAX_EXTENSION], features: !0, ..good };
    assert!(Handshake::new(config(1, 1, 0)).judge(&future).is_ok());
}

#[test]
fn links_beyond_the_limit_are_refused_and_told() {
    let mut node = Handshake::new(config(1, 1, 0));
    let cx = Cx { me: id(0), now: Time::ZERO, wall: WallTime::ZERO, entropy: 1 };
    let mut sink = Sink::default();
    for peer in 0..=MAX_PEERS as u64 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&peer.to_be_bytes());
        node.handle(cx, Input::Link { peer: NodeId(id), up: true }, &mut sink);
    }
    node.check();
    let reason = Reason::Full;
    assert!(matches!(sink.events[..], [Event::Refused { reason: Reason::Full, .. }]));
    let message = Message::Hello { nonce: 1, introduction: node.introduction(42) };
    let stranger = NodeId([9; 32]);
    sink.sent.clear();
    node.handle(cx, Input::Message { from: stranger, message }, &mut sink);
    assert_eq!(sink.sent, [(stranger, Message::Refuse { session: 42, reason })]);
}

#[test]
fn every_reason_survives_the_wire_and_so_does_one_of_the_future() {
    for code in 0..=u16::MAX {
        assert_eq!(u16::from(Reason::from(code)), code);
    }
    let bytes = postcard::to_allocvec(&Reason::Unknown(900)).unwrap();
    assert_eq!(postcard::from_bytes::<Reason>(&bytes), Ok(Reason::Unknown(900)));
}

#[derive(Clone, Debug)]
enum Fault {
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Delay(usize),
    Restart(usize),
    Relink(usize),
    Wait(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => (0..2usize).prop_map(Fault::Deliver),
        2 => (0..2usize).prop_map(Fault::Lose),
        2 => (0..2usize).prop_map(Fault::Repeat),
        2 => (0..2usize).prop_map(Fault::Delay),
        1 => (0..2usize).prop_map(Fault::Restart),
        1 => (0..2usize).prop_map(Fault::Relink),
        4 => (0..700u64).prop_map(Fault::Wait),
    ]
}

proptest! {
    /// Loss, repetition, reordering, restarts, links that one end alone sees fall: once they stop,
    /// each end is open with the other's present session, and stays so.
    #[test]
    fn both_ends_agree_once_the_faults_stop(
        faults in prop::collection::vec(fault(), 0..200),
        last in 0..2usize,
    ) {
        let mut pair = Pair::new(config(1, 2, 3), config(1, 1, 1));
        for fault in faults {
            match fault {
                Fault::Deliver(side) => { pair.deliver(side); }
                Fault::Lose(side) => { pair.wire[side].pop_front(); }
                Fault::Repeat(side) => {
                    if let Some(message) = pair.wire[side].front().cloned() {
                        pair.wire[side].push_back(message);
                    }
                }
                Fault::Delay(side) => {
                    if let Some(message) = pair.wire[side].pop_front() {
                        pair.wire[side].push_back(message);
                    }
                }
                Fault::Restart(side) => {
                    pair.nodes[side] = Handshake::new(pair.nodes[side].config.clone());
                    pair.events[side].clear();
                    pair.link(side, true);
                }
                Fault::Relink(side) => pair.link(side, true),
                Fault::Wait(ms) => pair.wait(ms),
            }
        }
        // Links to both ends, the second of which only one may see.
        pair.link(1 - last, true);
        pair.link(last, true);
        for _ in 0..4 {
            pair.deliver_all();
            pair.wait(RETRY_MS);
        }
        prop_assert!(pair.open(), "{}", pair.transcript);
        for events in &pair.events {
            let mut open = false;
            for event in events {
                match event {
                    Event::Opened { .. } if !open => open = true,
                    Event::Closed { .. } if open => open = false,
                    Event::Failed { .. } if !open => {}
                    _ => prop_assert!(false, "{event:?} out of turn:\n{}", pair.transcript),
                }
            }
        }
        let before = pair.events.clone();
        for _ in 0..HELLO_ATTEMPTS + 1 {
            pair.wait(RETRY_MS);
            pair.deliver_all();
        }
        prop_assert_eq!(&pair.events, &before);
        prop_assert_eq!(pair.nodes.each_ref().map(Machine::deadline), [None, None]);
    }
}
