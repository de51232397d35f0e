use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use proptest::prelude::*;

use super::*;

const ME: NodeId = NodeId([0; 32]);
const PEER: NodeId = NodeId([1; 32]);

#[derive(Default)]
struct Sink {
    sent: Vec<(NodeId, Message)>,
    events: Vec<Event>,
}

impl Effects<Detector> for Sink {
    fn persist(&mut self, record: Never) {
        match record {}
    }
    fn send(&mut self, _: NodeId, _: Message) {
        panic!("a heartbeat waits for no disk");
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, _: Event) {
        panic!("a detector has no disk that could be in the way");
    }
}

/// A detector, its one clock, and peers that answer as `delay_ms` says.
struct World {
    detector: Detector,
    now: Time,
    steps: u64,
    /// Answers under way: when they arrive, from whom, to which question, saying what time it is.
    arriving: BinaryHeap<Reverse<(Time, NodeId, u64, WallTime)>>,
    /// Milliseconds since the start, and what happened.
    log: Vec<(u64, Event)>,
    skew_ms: i64,
    /// How long a question travels; half of the delay if not given.
    outward_ms: Option<u64>,
}

const EPOCH_MS: u64 = 1_800_000_000_000;

impl World {
    fn new() -> Self {
        Self {
            detector: Detector::new(),
            now: Time::ZERO,
            steps: 0,
            arriving: BinaryHeap::new(),
            log: Vec::new(),
            skew_ms: 0,
            outward_ms: None,
        }
    }

    fn step(
        &mut self,
        input: Input<Detector>,
        delay_ms: &mut impl FnMut(NodeId, u64) -> Option<u64>,
    ) {
        self.steps += 1;
        let wall = WallTime(EPOCH_MS + self.now.0 / 1_000);
        let cx = Cx { me: ME, now: self.now, wall, entropy: self.steps };
        let mut sink = Sink::default();
        self.detector.handle(cx, input, &mut sink);
        self.detector.check();
        let now_ms = self.now.0 / 1_000;
        self.log.extend(sink.events.into_iter().map(|event| (now_ms, event)));
        for (to, message) in sink.sent {
            if let Message::Ping { nonce } = message
                && let Some(delay_ms) = delay_ms(to, now_ms)
            {
                let wall_ms = wall.0 + self.outward_ms.unwrap_or(delay_ms / 2);
                let theirs = WallTime(wall_ms.saturating_add_signed(self.skew_ms));
                self.arriving.push(Reverse((self.now.after_ms(delay_ms), to, nonce, theirs)));
            }
        }
    }

    /// Runs until `end_ms`. A question asked at `t` is answered after `delay_ms(peer, t)`.
    fn run(&mut self, end_ms: u64, mut delay_ms: impl FnMut(NodeId, u64) -> Option<u64>) {
        let end = Time::ZERO.after_ms(end_ms);
        loop {
            let arrival = self.arriving.peek().map(|Reverse((at, ..))| *at);
            let due = self.detector.deadline();
            match earliest(arrival, due) {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break self.now = end,
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let Some(Reverse((_, from, nonce, wall))) = self.arriving.pop() else { continue };
                let input = Input::Message { from, message: Message::Pong { nonce, wall } };
                self.step(input, &mut delay_ms);
            } else {
                self.step(Input::Tick, &mut delay_ms);
            }
        }
    }

    /// The question that a new link brings is lost.
    fn link(&mut self, peer: NodeId, up: bool) {
        self.step(Input::Link { peer, up }, &mut |_, _| None);
    }

    fn took(&mut self) -> Vec<(u64, Event)> {
        core::mem::take(&mut self.log)
    }
}

#[test]
fn the_timeout_follows_the_rfc() {
    let mut rtt = RoundTrip::first(100_000);
    assert_eq!(rtt, RoundTrip { smoothed_us: 100_000, deviation_us: 50_000 });
    assert_eq!(rtt.timeout_us(), 300_000);
    rtt.next(180_000);
    assert_eq!(rtt, RoundTrip { smoothed_us: 110_000, deviation_us: 57_500 });
    (0..100).for_each(|_| rtt.next(2_000_000));
    assert!((1_999_000..2_010_000).contains(&rtt.timeout_us()), "{}", rtt.timeout_us());
}

#[test]
fn a_silent_peer_is_suspected_then_dead_then_welcome_back() {
    let mut world = World::new();
    world.link(PEER, true);
    assert_eq!(world.took(), [(0, Event::Alive { peer: PEER })]);
    world.run(10_000, |_, _| Some(10));
    assert_eq!(world.took(), []);
    assert!((9_000..11_000).contains(&world.detector.rtt_us(PEER).unwrap()));

    world.run(30_000, |_, _| None);
    let log = world.took();
    let [(suspect_ms, Event::Suspect { .. }), (dead_ms, Event::Dead { .. })] = log[..] else {
        panic!("{log:?}")
    };
    assert!((10_900..12_500).contains(&suspect_ms), "{suspect_ms}");
    assert_eq!(dead_ms, suspect_ms + MIN_DEATH_MS);
    assert_eq!(world.detector.status(PEER), Some(Status::Dead));

    // It is asked still, if less often, and the first answer is enough.
    world.run(36_000, |_, _| Some(10));
    assert!(matches!(world.took()[..], [(_, Event::Alive { peer: PEER })]));
}

#[test]
fn any_message_counts_as_life() {
    let mut world = World::new();
    world.link(PEER, true);
    for at_ms in 1..60 {
        world.run(at_ms * 2_000, |_, _| None);
        world.step(Input::Command(Command::Heard(PEER)), &mut |_, _| None);
    }
    assert_eq!(world.took(), [(0, Event::Alive { peer: PEER })]);
}

#[test]
fn a_peer_that_is_always_slow_is_never_suspected() {
    let mut world = World::new();
    world.link(PEER, true);
    world.run(300_000, |_, _| Some(2_000));
    assert_eq!(world.took(), [(0, Event::Alive { peer: PEER })]);
    assert!(world.detector.timeout_us(PEER).unwrap() > 1_900_000);
}

#[test]
fn a_sudden_slow_down_is_suspected_and_then_learnt() {
    let mut world = World::new();
    world.link(PEER, true);
    let delay = |at_ms| Some(if at_ms < 60_000 { 10 } else { 6_000 });
    world.run(70_000, |_, at_ms| delay(at_ms));
    let log = world.took();
    assert!(
        matches!(log[..], [_, (_, Event::Suspect { .. }), (_, Event::Alive { .. })]),
        "{log:?}"
    );
    // From now on one answer in three is lost, and the longer silences are no surprise.
    world.run(300_000, |_, at_ms| delay(at_ms).filter(|_| at_ms / 1_000 % 3 != 0));
    assert_eq!(world.took(), []);
}

#[test]
fn a_pause_of_our_own_is_held_against_nobody() {
    let peers: Vec<NodeId> = (1..=100).map(|id| NodeId([id; 32])).collect();
    let mut world = World::new();
    peers.iter().for_each(|peer| world.link(*peer, true));
    world.run(20_000, |_, _| Some(10));
    world.took();

    // The process asks, and stops for a minute. The answers wait in its sockets, and its timer
    // happens to be served first.
    while world.arriving.is_empty() {
        world.now = world.detector.deadline().unwrap();
        world.step(Input::Tick, &mut |_, _| Some(10));
    }
    world.now = Time::ZERO.after_ms(80_000);
    world.step(Input::Tick, &mut |_, _| Some(10));
    assert_eq!(world.took(), []);
    world.run(100_000, |_, _| Some(10));
    assert_eq!(world.took(), []);
    for peer in &peers {
        assert!(world.detector.rtt_us(*peer).unwrap() < 20_000, "the pause was measured");
    }

    // Who really died meanwhile is noticed all the same.
    world.now = Time::ZERO.after_ms(200_000);
    world.arriving.clear();
    world.step(Input::Tick, &mut |_, _| None);
    assert_eq!(world.took(), []);
    world.run(210_000, |peer, _| (peer != PEER).then_some(10));
    assert!(matches!(
        world.took()[..],
        [(_, Event::Suspect { peer: PEER }), (_, Event::Dead { peer: PEER })]
    ));
}

#[test]
fn what_nobody_asked_teaches_nothing() {
    let mut world = World::new();
    world.link(PEER, true);
    world.run(5_000, |_, _| Some(10));
    let before = (world.detector.rtt_us(PEER), world.detector.clock_offset_ms(PEER));
    for nonce in 0..1_000 {
        let message = Message::Pong { nonce, wall: WallTime(u64::MAX) };
        world.step(Input::Message { from: PEER, message }, &mut |_, _| None);
        let stranger = NodeId([9; 32]);
        world.step(Input::Message { from: stranger, message }, &mut |_, _| None);
    }
    let after = (world.detector.rtt_us(PEER), world.detector.clock_offset_ms(PEER));
    assert_eq!(before, after);
    assert_eq!(world.detector.peers().count(), 1);
}

#[test]
fn a_skewed_clock_is_seen_exactly_if_both_ways_are_equally_long() {
    for skew_ms in [-3_600_000, -5, 0, 7_000] {
        let mut world = World::new();
        world.skew_ms = skew_ms;
        world.link(PEER, true);
        world.run(30_000, |_, _| Some(800));
        let offset_ms = world.detector.clock_offset_ms(PEER).unwrap();
        assert_eq!(offset_ms, skew_ms);
    }
}

#[test]
fn of_uneven_ways_the_shortest_round_trip_tells_the_clock() {
    let mut world = World::new();
    (world.skew_ms, world.outward_ms) = (7_000, Some(5));
    world.link(PEER, true);
    // Most answers are held up on their way back, which looks like a clock that is behind.
    world.run(30_000, |_, at_ms| Some(if at_ms / 1_000 % 4 == 0 { 20 } else { 900 }));
    let offset_ms = world.detector.clock_offset_ms(PEER).unwrap();
    assert!(offset_ms.abs_diff(7_000) <= 10, "{offset_ms}");
}

#[test]
fn an_answer_that_comes_twice_is_measured_once() {
    let mut world = World::new();
    world.link(PEER, true);
    world.run(5_500, |_, _| Some(10));
    let again = |world: &mut World, nonce| {
        let message = Message::Pong { nonce, wall: WallTime::ZERO };
        world.step(Input::Message { from: PEER, message }, &mut |_, _| None);
    };
    let due = world.detector.deadline().unwrap();
    world.now = due;
    world.step(Input::Tick, &mut |_, _| Some(10));
    let Reverse((at, _, nonce, _)) = world.arriving.pop().unwrap();
    world.now = at;
    let message = Message::Pong { nonce, wall: WallTime(u64::MAX) };
    world.step(Input::Message { from: PEER, message }, &mut |_, _| None);
    let measured = world.detector.rtt_us(PEER);
    world.now = at.after_ms(400);
    again(&mut world, nonce);
    assert_eq!(world.detector.rtt_us(PEER), measured);
}

/// Another peer's message is served before the timer: the pause must be counted once.
#[test]
fn a_pause_gives_a_suspect_what_it_took_and_no_more() {
    let other = NodeId([2; 32]);
    let mut world = World::new();
    world.link(PEER, true);
    world.link(other, true);
    world.run(10_000, |_, _| Some(10));
    world.took();
    world.run(14_000, |peer, _| (peer == other).then_some(10));
    let suspected_ms = match world.took()[..] {
        [(at_ms, Event::Suspect { peer: PEER })] => at_ms,
        ref log => panic!("{log:?}"),
    };
    let due = world.detector.deadline().unwrap();
    world.now = due.after_ms(60_000);
    world.step(Input::Command(Command::Heard(other)), &mut |_, _| None);
    world.step(Input::Tick, &mut |_, _| None);
    world.run(100_000, |peer, _| (peer == other).then_some(10));
    let dead_ms = match world.took()[..] {
        [(at_ms, Event::Dead { peer: PEER })] => at_ms,
        ref log => panic!("{log:?}"),
    };
    assert!(dead_ms.abs_diff(suspected_ms + 60_000 + MIN_DEATH_MS) <= 1, "{dead_ms}");
}

#[test]
fn after_a_pause_nothing_worsens_before_there_was_time_to_listen() {
    let mut world = World::new();
    world.link(PEER, true);
    world.run(10_000, |_, _| Some(10));
    let heard = world.detector.peers[&PEER].heard;
    // A tick just before the silence would have lasted too long, then a pause.
    world.run(heard.after_ms(2_190).0 / 1_000, |_, _| None);
    world.took();
    let due = world.detector.deadline().unwrap();
    world.now = due.after_ms(60_000);
    world.step(Input::Tick, &mut |_, _| None);
    let woke_ms = world.now.0 / 1_000;
    world.run(woke_ms + 999, |_, _| None);
    assert_eq!(world.took(), []);
    world.run(woke_ms + 1_001, |_, _| None);
    assert!(matches!(world.took()[..], [(_, Event::Suspect { .. })]));
}

#[test]
fn a_ping_is_answered_with_its_nonce_and_our_clock() {
    let cx = Cx { me: ME, now: Time(5), wall: WallTime(77), entropy: 1 };
    let mut sink = Sink::default();
    let ping = Input::Message { from: PEER, message: Message::Ping { nonce: 3 } };
    Detector::new().handle(cx, ping, &mut sink);
    assert_eq!(sink.sent, [(PEER, Message::Pong { nonce: 3, wall: WallTime(77) })]);
}

#[test]
fn peers_beyond_the_limit_are_not_watched() {
    let mut world = World::new();
    for peer in 0..=MAX_PEERS {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&peer.to_be_bytes());
        world.link(NodeId(id), true);
    }
    assert_eq!(world.detector.peers().count(), MAX_PEERS);
    assert!(matches!(world.took().last(), Some((_, Event::Unwatched { .. }))));
    let first = NodeId([0; 32]);
    world.link(first, false);
    assert_eq!(world.detector.status(first), None);
    world.link(first, true);
    assert_eq!(world.detector.status(first), Some(Status::Alive));
}

proptest! {
    /// Whatever happens: invariants hold, a tick moves the deadline, nobody dies unsuspected.
    #[test]
    fn every_history_is_orderly(
        inputs in prop::collection::vec((0..8u8, 1..5u8, 0..20_000u64, any::<u64>()), 1..300),
    ) {
        let mut detector = Detector::new();
        let mut now = Time::ZERO;
        let mut status: BTreeMap<NodeId, Status> = BTreeMap::new();
        let mut asked = vec![0];
        for (kind, peer, wait_ms, word) in inputs {
            let from = NodeId([peer; 32]);
            let nonce = asked[word as usize % asked.len()];
            let input = match kind {
                0 => Input::Link { peer: from, up: true },
                1 if word % 4 == 0 => Input::Link { peer: from, up: false },
                2 => Input::Message { from, message: Message::Ping { nonce } },
                3 => Input::Message {
                    from,
                    message: Message::Pong { nonce, wall: WallTime(word) },
                },
                4 => Input::Command(Command::Heard(from)),
                _ => Input::Tick,
            };
            now = match (&input, detector.deadline()) {
                (Input::Tick, None) => continue,
                (Input::Tick, Some(due)) => now.max(due.after_ms(wait_ms.saturating_sub(19_000))),
                _ => now.after_ms(wait_ms % 500),
            };
            let ticked = matches!(input, Input::Tick);
            if let Input::Link { peer, up: false } = input {
                status.remove(&peer);
            }
            let mut sink = Sink::default();
            let cx = Cx { me: ME, now, wall: WallTime(word), entropy: word };
            detector.handle(cx, input, &mut sink);
            detector.check();
            prop_assert!(!ticked || detector.deadline().is_none_or(|due| due > now));
            for (_, message) in sink.sent {
                if let Message::Ping { nonce } = message {
                    asked.push(nonce);
                }
            }
            for event in sink.events {
                let (peer, new, from) = match event {
                    Event::Alive { peer } => (peer, Status::Alive, None),
                    Event::Suspect { peer } => (peer, Status::Suspect, Some(Status::Alive)),
                    Event::Dead { peer } => (peer, Status::Dead, Some(Status::Suspect)),
                    Event::Unwatched { .. } => continue,
                };
                let old = status.insert(peer, new);
                prop_assert!(from.is_none() || old == from, "{old:?} then {event:?}");
            }
            prop_assert!(detector.peers().eq(status.iter().map(|(id, status)| (*id, *status))));
        }
    }
}
