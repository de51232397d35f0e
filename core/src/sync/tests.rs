//! Two machines and a link between them: sizes, correctness under faults, and peers that lie.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use rand_core::SeedableRng;

use super::*;
use crate::iblt::{Cell, Id};
use crate::machine::WallTime;

/// Per hundred messages, and the longest delay.
#[derive(Clone, Copy)]
struct Faults {
    lost: u64,
    duplicated: u64,
    delay_ms: u64,
}

const PERFECT: Faults = Faults { lost: 0, duplicated: 0, delay_ms: 10 };
const POOR: Faults = Faults { lost: 10, duplicated: 20, delay_ms: 3_000 };

struct World {
    nodes: [Sync; 2],
    faults: Faults,
    random: ChaCha8Rng,
    now: Time,
    wire: BTreeMap<(Time, u64), (usize, Message)>,
    sent: Vec<(usize, Message)>,
    events: Vec<(usize, Event)>,
}

#[derive(Default)]
struct Out {
    sent: Vec<Message>,
    events: Vec<Event>,
}

impl Effects<Sync> for Out {
    fn persist(&mut self, record: Never) {
        match record {}
    }
    fn send(&mut self, _: NodeId, message: Message) {
        self.sent.push(message);
    }
    fn send_now(&mut self, _: NodeId, _: Message) {
        panic!("a frontier may only be told when it is durable");
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, _: Event) {
        panic!("what sync tells may rest on records");
    }
}

fn id(node: usize) -> NodeId {
    NodeId([u8::try_from(node).unwrap() + 1; 32])
}

impl World {
    fn new(seed: u64, faults: Faults, frontiers: [&[Tip]; 2]) -> World {
        let mut world = World {
            nodes: [Sync::default(), Sync::default()],
            faults,
            random: ChaCha8Rng::seed_from_u64(seed),
            now: Time(1),
            wire: BTreeMap::new(),
            sent: Vec::new(),
            events: Vec::new(),
        };
        for (node, tips) in frontiers.into_iter().enumerate() {
            world.step(node, Input::Start);
            tips.iter().for_each(|tip| world.step(node, Input::Command(Command::Advance(*tip))));
        }
        (0..2).for_each(|node| world.step(node, Input::Link { peer: id(1 - node), up: true }));
        world
    }

    fn step(&mut self, node: usize, input: Input<Sync>) {
        let cx = Cx {
            me: id(node),
            now: self.now,
            wall: WallTime::ZERO,
            entropy: self.random.next_u64(),
        };
        let ticked = matches!(input, Input::Tick);
        let mut out = Out::default();
        self.nodes[node].handle(cx, input, &mut out);
        self.nodes[node].check();
        assert!(!ticked || self.nodes[node].deadline().is_none_or(|next| next > self.now));
        self.events.extend(out.events.into_iter().map(|event| (node, event)));
        for message in out.sent {
            self.sent.push((node, message.clone()));
            let mut chance = |percent| self.random.next_u64() % 100 < percent;
            let lost = chance(self.faults.lost);
            let copies = if lost { 0 } else { 1 + u64::from(chance(self.faults.duplicated)) };
            for _ in 0..copies {
                let us = 1 + self.random.next_u64() % (self.faults.delay_ms * 1_000);
                let serial = self.random.next_u64();
                self.wire.insert((self.now.after_us(us), serial), (1 - node, message.clone()));
            }
        }
    }

    /// The next message or deadline.
    fn proceed(&mut self) {
        let timer = (0..2).filter_map(|n| Some((self.nodes[n].deadline()?, n))).min();
        let arrival = self.wire.first_key_value().map(|(key, _)| key.0);
        match (timer, arrival) {
            (Some((due, node)), arrival) if arrival.is_none_or(|at| due < at) => {
                self.now = self.now.max(due);
                self.step(node, Input::Tick);
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                let (_, (to, message)) = self.wire.pop_first().unwrap();
                self.step(to, Input::Message { from: id(1 - to), message });
            }
            _ => panic!("nothing will ever happen again"),
        }
    }

    /// One session that node 0 starts, with nothing lost. What was sent and told.
    fn one_session(&mut self) {
        self.step(0, Input::Command(Command::Start { peer: id(1) }));
        while !self.wire.is_empty() {
            self.proceed();
        }
    }

    fn bytes(&self) -> usize {
        self.sent.iter().map(|(_, message)| postcard::to_allocvec(message).unwrap().len()).sum()
    }

    /// The chains that a node was told of.
    fn told(&self, node: usize) -> BTreeSet<NodeId> {
        let chains = |event: &Event| match event {
            Event::Differs { chains, .. } => chains.clone(),
            Event::Same { .. } | Event::Failed { .. } => Vec::new(),
        };
        let events = self.events.iter().filter(|(to, _)| *to == node);
        events.flat_map(|(_, event)| chains(event)).map(|chain| chain.author).collect()
    }

    fn ended(&self, node: usize) -> Option<Outcome> {
        self.nodes[node].peers[&id(1 - node)].status.last.map(|(outcome, _)| outcome)
    }

    /// Asserts that what was told is true, and that each side was told of the chains it is ahead
    /// on.
    fn assert_told(&self) {
        for (node, event) in &self.events {
            let Event::Differs { chains, .. } = event else { continue };
            for chain in chains {
                let mine = self.nodes[*node].frontier.get(chain.author);
                let theirs = self.nodes[1 - node].frontier.get(chain.author);
                assert_eq!(chain.mine, mine);
                assert_eq!(chain.theirs, theirs.as_ref().map(WireTip::of));
                assert_ne!(mine, theirs);
            }
        }
        for node in 0..2 {
            let (told, other) = (self.told(node), &self.nodes[1 - node].frontier);
            for mine in self.nodes[node].frontier.iter() {
                let theirs = other.get(mine.author).unwrap_or(Tip::absent(mine.author));
                let ahead = (mine.closed, mine.height) >= (theirs.closed, theirs.height);
                assert!(mine == theirs || !ahead || told.contains(&mine.author), "{mine:?}");
            }
        }
    }
}

fn tip(author: u64, height: u64) -> Tip {
    let name = Hash::of(&author.to_le_bytes());
    let hash = Hash::of(&[author.to_le_bytes(), height.to_le_bytes()].concat());
    Tip { author: NodeId(name.0), height, hash, closed: false }
}

/// `chains` chains, some of a hundred and some of a thousand entries.
fn tips(chains: u64) -> Vec<Tip> {
    (0..chains).map(|author| tip(author, 100 + author % 900)).collect()
}

/// The same, and `changed` of them one entry further.
fn advanced(tips: &[Tip], changed: u64, salt: u64) -> Vec<Tip> {
    let mut tips = tips.to_vec();
    let every = tips.len() / usize::try_from(changed).unwrap().max(1);
    for changed in tips.iter_mut().skip(usize::try_from(salt).unwrap()).step_by(every) {
        changed.height += 1;
        changed.hash = Hash::of(&changed.hash.0);
    }
    tips
}

/// Bytes and messages of one session, postcard-encoded, nothing else on the link.
fn measure(seed: u64, frontiers: [&[Tip]; 2]) -> (usize, usize) {
    let mut world = World::new(seed, PERFECT, frontiers);
    world.one_session();
    world.assert_told();
    (world.bytes(), world.sent.len())
}

/// These figures are quoted in docs/protocols/sync.md.
#[test]
fn the_cost_follows_the_difference() {
    let old = tips(10_000);
    let mut table = String::from("changed  responder ahead   initiator ahead\n");
    for changed in [0, 1, 10, 100, 1_000] {
        let new = if changed == 0 { old.clone() } else { advanced(&old, changed, 3) };
        let (behind, behind_messages) = measure(7, [&old, &new]);
        let (ahead, ahead_messages) = measure(7, [&new, &old]);
        table += &format!("{changed:>7}  {behind:>6} B in {behind_messages:>2}    ");
        table += &format!("{ahead:>6} B in {ahead_messages:>2}\n");
        if changed == 0 {
            assert!(behind <= 100 && behind_messages == 2);
        }
    }
    insta::assert_snapshot!(table, @r"
    changed  responder ahead   initiator ahead
          0      54 B in  2        54 B in  2
          1     773 B in  4       792 B in  4
         10    1295 B in  4      1485 B in  4
        100    9748 B in  6     11647 B in  6
       1000  102303 B in  6    122174 B in  6
    ");
}

/// In two round trips (offer, cells; differences, entries) the initiator has the news.
#[test]
fn ten_changed_of_ten_thousand_cost_under_1500_bytes() {
    let old = tips(10_000);
    let new = advanced(&old, 10, 5);
    let mut more = 0;
    for seed in 0..40 {
        for frontiers in [[&old[..], &new[..]], [&new, &old]] {
            let (bytes, messages) = measure(seed, frontiers);
            if messages == 4 {
                assert!(bytes <= 1_500, "{bytes} bytes");
            } else {
                more += 1;
            }
        }
    }
    assert!(more <= 4, "{more} of 80 sessions needed a second batch of cells");
}

/// Pairs of frontiers of every shape.
fn shapes() -> Vec<[Vec<Tip>; 2]> {
    let big = tips(9_000);
    let closed = |tips: &[Tip], every: usize| {
        let mut tips = tips.to_vec();
        tips.iter_mut().step_by(every).for_each(|tip| tip.closed = true);
        tips
    };
    let forked = |tips: &[Tip], every: usize| {
        let mut tips = tips.to_vec();
        tips.iter_mut().step_by(every).for_each(|tip| tip.hash = Hash::of(&tip.hash.0));
        tips
    };
    let unborn = Tip { closed: true, ..Tip::absent(NodeId([9; 32])) };
    let mixed = closed(&forked(&advanced(&big[..400], 40, 1), 37), 41);
    vec![
        [vec![], vec![]],
        [vec![], tips(1)],
        [tips(3), tips(16)],
        [vec![], big.clone()],
        [tips(5), big.clone()],
        [big[..1_000].to_vec(), big[5_000..].to_vec()],
        [big[..300].to_vec(), big[200..700].to_vec()],
        [big.clone(), advanced(&big, 1, 0)],
        [big.clone(), advanced(&big, 9_000, 0)],
        [big.clone(), advanced(&big, 4_500, 0)],
        [big[..400].to_vec(), mixed.clone()],
        [closed(&big[..400], 3), mixed],
        [big[..20].to_vec(), closed(&big[..20], 1)],
        [vec![unborn], forked(&big[..2], 2)],
        [[&big[..50], &[unborn]].concat(), big[..50].to_vec()],
    ]
}

#[test]
fn both_sides_are_told_of_what_they_are_ahead_on() {
    for (n, [a, b]) in shapes().iter().enumerate() {
        for frontiers in [[&a[..], &b[..]], [b, a]] {
            let mut world = World::new(n as u64, PERFECT, frontiers);
            world.one_session();
            world.assert_told();
            let expected = if a == b { Outcome::Same } else { Outcome::Differed };
            assert_eq!([world.ended(0), world.ended(1)], [Some(expected); 2], "shape {n}");
            assert!(world.sent.iter().all(|(_, message)| message.body.is_bounded()));
            // The responder is told of every chain that differs.
            let [mine, theirs] = frontiers.map(|tips| tips.iter().collect::<BTreeSet<_>>());
            let differ = mine.symmetric_difference(&theirs).map(|tip| tip.author);
            assert_eq!(world.told(1), differ.collect(), "shape {n}");
        }
    }
}

#[test]
fn over_a_poor_link_each_session_ends_and_some_succeed() {
    let mut failed = 0;
    for (n, [a, b]) in shapes().iter().enumerate().filter(|(_, [a, b])| a.len() + b.len() < 2_000) {
        for seed in 0..6 {
            let mut world = World::new(100 * n as u64 + seed, POOR, [a, b]);
            let mut steps = 0;
            while (0..2).any(|n| matches!(world.ended(n), None | Some(Outcome::Failed(_)))) {
                world.proceed();
                steps += 1;
                assert!(steps < 10_000, "shape {n}, seed {seed}: no session succeeds");
            }
            // Every session was ended, or is still within its time.
            let horizon = world.now.after_ms(SESSION_TIMEOUT_MS);
            let sessions = world.nodes.iter().flat_map(|node| node.peers.values());
            sessions.for_each(|peer| assert!(peer.ours.iter().all(|s| s.expires <= horizon)));
            failed += world.nodes[0].peers[&id(1)].status.failed;
            world.faults = PERFECT;
            let until = world.now.after_ms(BACKOFF_MAX_MS * 2);
            while world.now < until {
                world.proceed();
            }
            world.assert_told();
        }
    }
    assert!(failed > 0, "the link is not poor enough to test anything");
}

/// Everything comes twice, the second time perhaps much later: no session takes notice.
#[test]
fn duplicates_fail_no_session() {
    let twice = Faults { lost: 0, duplicated: 100, delay_ms: 200 };
    for (n, [a, b]) in shapes().iter().enumerate() {
        let mut world = World::new(n as u64, twice, [a, b]);
        (0..3).for_each(|_| world.one_session());
        let statuses = world.nodes.iter().flat_map(Sync::status);
        statuses.for_each(|(_, status)| assert_eq!(status.failed, 0, "shape {n}"));
        world.assert_told();
    }
}

#[test]
fn a_silent_peer_is_tried_less_and_less_and_delays_nobody() {
    let mut world = World::new(1, PERFECT, [&tips(20), &tips(30)]);
    let silent = NodeId([77; 32]);
    world.step(0, Input::Link { peer: silent, up: true });
    // `World` carries node 0's messages to the silent peer to node 1, which knows no such session
    // but may take an offer: let it be deaf to those.
    let mut offers = Vec::new();
    while offers.len() < 12 {
        let before = world.nodes[0].peers[&silent].status.started;
        world.proceed();
        if world.nodes[0].peers[&silent].status.started > before {
            offers.push(world.now);
            let silent_session = world.nodes[0].peers[&silent].ours.as_ref().unwrap().nonce;
            world.wire.retain(|_, (_, message)| message.session != silent_session);
        }
    }
    let gaps: Vec<u64> = offers.windows(2).map(|two| two[1].since_us(two[0]) / 1_000).collect();
    assert!(gaps[0] < SESSION_TIMEOUT_MS + 2 * BACKOFF_MIN_MS, "{gaps:?}");
    assert!(gaps[4] > SESSION_TIMEOUT_MS + 8 * BACKOFF_MIN_MS, "{gaps:?}");
    assert!(gaps[10] > BACKOFF_MAX_MS / 2 && gaps[10] < 2 * BACKOFF_MAX_MS, "{gaps:?}");
    let good = world.nodes[0].peers[&id(1)].status;
    let sessions = good.same + good.differed;
    assert_eq!(good.failed, 0);
    let longest_ms = ANTI_ENTROPY_MS * 5 / 4 + 100;
    assert!(sessions >= offers[11].since_us(offers[0]) / 1_000 / longest_ms, "{sessions}");
}

#[test]
fn a_nudge_during_a_session_leads_to_another_soon_after() {
    let mut world = World::new(3, PERFECT, [&tips(20), &tips(20)]);
    world.step(0, Input::Command(Command::Start { peer: id(1) }));
    world.step(0, Input::Command(Command::Advance(tip(5, 9_999))));
    world.step(0, Input::Command(Command::Nudge));
    let start = world.now;
    while (0..2).any(|node| world.ended(node) != Some(Outcome::Differed)) {
        world.proceed();
    }
    assert!(world.now.since_us(start) < 2_000 * OFFER_GAP_MS);
    world.assert_told();
}

#[test]
fn a_duplicated_offer_opens_no_second_session() {
    let mut world = World::new(4, PERFECT, [&tips(100), &tips(110)]);
    world.one_session();
    let (_, offer) = world.sent[0].clone();
    let before = world.sent.len();
    world.now = world.now.after_ms(5_000);
    world.step(1, Input::Message { from: id(0), message: offer });
    assert_eq!(world.sent.len(), before);
    assert!(world.nodes[1].peers[&id(0)].theirs.is_none());
}

#[test]
fn a_link_that_goes_down_ends_its_sessions() {
    let mut world = World::new(5, PERFECT, [&tips(2), &tips(3)]);
    world.step(0, Input::Command(Command::Start { peer: id(1) }));
    world.step(0, Input::Link { peer: id(1), up: false });
    world.step(0, Input::Command(Command::Start { peer: id(1) }));
    let failed = (0, Event::Failed { peer: id(1), reason: Reason::Unlinked });
    assert_eq!(world.events, [failed.clone(), failed]);
    assert_eq!(world.nodes[0].deadline(), None);
}

fn any_tip() -> impl Strategy<Value = WireTip> {
    (0..40_u64, any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(n, height, real, closed)| {
        let honest = WireTip::of(&tip(n, 100 + n % 900));
        if real { honest } else { WireTip { height, closed, ..honest } }
    })
}

fn any_tips() -> impl Strategy<Value = Vec<WireTip>> {
    (prop::collection::vec(any_tip(), 0..40), any::<bool>()).prop_map(|(mut tips, sorted)| {
        if sorted {
            tips.sort_by_key(|tip| tip.author);
            tips.dedup_by_key(|tip| tip.author);
        }
        tips
    })
}

fn any_cell() -> impl Strategy<Value = Cell> {
    (any::<u64>(), any::<u32>(), -2..3_i32, any::<bool>()).prop_map(|(sum, check, count, zero)| {
        if zero { Cell::default() } else { Cell { sum, check, count } }
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let ids = prop::collection::vec(any::<u64>().prop_map(Id), 0..20);
    let cells = prop::collection::vec(any_cell(), 0..60);
    let want = (0..50_u32, any::<u64>()).prop_map(|(index, height)| Want {
        index,
        height,
        prefix: [0; 16],
        closed: height % 2 == 0,
    });
    prop_oneof![
        any::<u64>().prop_map(|chains| Body::Offer { digest: Hash::ZERO, chains }),
        (0..40_u64).prop_map(|chains| Body::Offer { digest: Hash::ZERO, chains }),
        (0..200_u32).prop_map(|cells| Body::More { cells }),
        Just(Body::Fetch),
        (any_tips(), any::<bool>()).prop_map(|(tips, last)| Body::Tell { tips, last }),
        (any_tips(), ids, any::<bool>()).prop_map(|(tips, unknown, last)| Body::Differ {
            tips,
            unknown,
            last
        }),
        Just(Body::Same),
        (any::<u64>(), cells).prop_map(|(chains, cells)| Body::Cells {
            nonce: Nonce([1; 8]),
            chains,
            cells
        }),
        (any_tips(), any::<bool>()).prop_map(|(tips, last)| Body::Whole { tips, last }),
        Just(Body::Ask),
        prop::collection::vec(want, 0..20).prop_map(|wants| Body::Wants { wants }),
    ]
}

proptest! {
    /// A peer that answers each message with anything, in the right session and turn.
    #[test]
    fn a_peer_that_lies_costs_a_session(
        chains in prop_oneof![Just(0), Just(10), Just(40)],
        bodies in prop::collection::vec(any_body(), 1..60),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(seed, PERFECT, [&tips(chains), &[]]);
        world.step(0, Input::Command(Command::Start { peer: id(1) }));
        for (n, body) in bodies.into_iter().enumerate() {
            let peer = &world.nodes[0].peers[&id(1)];
            let none = (Nonce([0; 8]), 0);
            let (session, turn) = match (&body, body.is_request()) {
                (Body::Offer { .. }, _) => (Nonce((n as u64).to_le_bytes()), 0),
                (_, true) => peer.theirs.as_ref().map_or(none, |s| (s.nonce, s.turn + 1)),
                (_, false) => peer.ours.as_ref().map_or(none, |s| (s.nonce, s.turn)),
            };
            world.wire.clear();
            world.now = world.now.after_ms(300);
            world.step(0, Input::Message { from: id(1), message: Message { session, turn, body } });
            if world.nodes[0].deadline().is_some_and(|due| due <= world.now) {
                world.step(0, Input::Tick);
            }
        }
        world.wire.clear();
        world.now = world.now.after_ms(SESSION_TIMEOUT_MS);
        world.step(0, Input::Tick);
        prop_assert!(world.nodes[0].peers[&id(1)].theirs.is_none());
    }

    /// Whatever bytes arrive: they decode to a message or to an error.
    #[test]
    fn bytes_are_a_message_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        body in any_body(),
    ) {
        let _: Result<Message, _> = postcard::from_bytes(&bytes);
        let message = Message { session: Nonce([3; 8]), turn: 1, body };
        let mut encoded = postcard::to_allocvec(&message).unwrap();
        let decoded: Message = postcard::from_bytes(&encoded).unwrap();
        prop_assert_eq!(postcard::to_allocvec(&decoded).unwrap(), encoded.clone());
        encoded.pop();
        prop_assert!(postcard::from_bytes::<Message>(&encoded).is_err());
    }
}
