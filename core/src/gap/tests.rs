//! One machine, its peers played by the test.

use alloc::format;
use alloc::string::String;

use alloc::vec::Vec;

use proptest::prelude::*;
use rand_core::SeedableRng;

use super::*;
use crate::machine::WallTime;

const AUTHOR: NodeId = NodeId([50; 32]);
const BEN: NodeId = NodeId([2; 32]);
const CLEO: NodeId = NodeId([3; 32]);
const DAN: NodeId = NodeId([4; 32]);

struct Bench {
    gaps: Gaps,
    now: Time,
    random: ChaCha8Rng,
    sent: Vec<(NodeId, Message)>,
    events: Vec<Event>,
    transcript: String,
}

#[derive(Default)]
struct Out(Vec<(NodeId, Message)>, Vec<Event>);

impl Effects<Gaps> for Out {
    fn persist(&mut self, record: Never) {
        match record {}
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.0.push((to, message));
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.0.push((to, message));
    }
    fn emit(&mut self, event: Event) {
        self.1.push(event);
    }
    fn emit_now(&mut self, _: Event) {
        panic!("no gap is that urgent");
    }
}

fn name(node: NodeId) -> String {
    match node {
        BEN => "ben".into(),
        CLEO => "cleo".into(),
        DAN => "dan".into(),
        other => format!("{other:?}"),
    }
}

impl Bench {
    fn new(peers: &[NodeId]) -> Bench {
        let mut bench = Bench {
            gaps: Gaps::default(),
            now: Time::ZERO,
            random: ChaCha8Rng::seed_from_u64(1),
            sent: Vec::new(),
            events: Vec::new(),
            transcript: String::new(),
        };
        bench.step(Input::Start);
        peers.iter().for_each(|peer| bench.step(Input::Link { peer: *peer, up: true }));
        bench.transcript.clear();
        bench
    }

    fn step(&mut self, input: Input<Gaps>) {
        self.note("", &describe(&input));
        let ticked = matches!(input, Input::Tick);
        let cx = Cx {
            me: NodeId([1; 32]),
            now: self.now,
            wall: WallTime::ZERO,
            entropy: self.random.next_u64(),
        };
        let mut out = Out::default();
        self.gaps.handle(cx, input, &mut out);
        self.gaps.check();
        assert!(!ticked || self.gaps.deadline().is_none_or(|next| next > self.now));
        for (to, message) in &out.0 {
            let words = match message {
                Message::Want { from, to, .. } => format!("want {from}..={to}"),
                Message::NotHeld { from, .. } => format!("not held {from}.."),
            };
            self.note("  -> ", &format!("{}: {words}", name(*to)));
        }
        for event in &out.1 {
            let words = match event {
                Event::Wanted { peer, from, to, .. } => {
                    format!("{} wants {from}..={to}", name(*peer))
                }
                Event::Unfilled { from, to, .. } => format!("{from}..={to} given up"),
            };
            self.note("  ** ", &words);
        }
        self.sent.extend(out.0);
        self.events.extend(out.1);
    }

    fn note(&mut self, mark: &str, words: &str) {
        self.transcript += &format!("{:>6} ms  {mark}{words}\n", self.now.0 / 1_000);
    }

    fn tick(&mut self) {
        self.now = self.gaps.deadline().unwrap();
        self.step(Input::Tick);
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
    }

    fn command(&mut self, command: Command) {
        self.step(Input::Command(command));
    }

    fn missing(&mut self, from: u64, to: u64, shown_by: NodeId) {
        self.command(Command::Missing { author: AUTHOR, from, to, shown_by });
    }

    fn filled(&mut self, through: u64) {
        self.command(Command::Filled { author: AUTHOR, through });
    }

    fn message(&mut self, from: NodeId, message: Message) {
        self.step(Input::Message { from, message });
    }

    fn asked(&self) -> Vec<NodeId> {
        self.sent.iter().map(|(to, _)| *to).collect()
    }
}

fn describe(input: &Input<Gaps>) -> String {
    match input {
        Input::Start => "start".into(),
        Input::Tick => "time is up".into(),
        Input::Link { peer, up } => {
            format!("link to {} {}", name(*peer), if *up { "up" } else { "down" })
        }
        Input::Message { from, message: Message::NotHeld { from: first, .. } } => {
            format!("{} does not hold {first}..", name(*from))
        }
        Input::Message { from, message: Message::Want { from: first, to, .. } } => {
            format!("{} asks for {first}..={to}", name(*from))
        }
        Input::Command(Command::Missing { from, to, shown_by, .. }) => {
            format!("{from}..={to} missing, shown by {}", name(*shown_by))
        }
        Input::Command(Command::Filled { through, .. }) => format!("filled through {through}"),
        Input::Command(Command::Nothing { peer, .. }) => format!("{} has nothing", name(*peer)),
        Input::Command(Command::NotHeld { peer, from, .. }) => {
            format!("we do not hold {from}.., tell {}", name(*peer))
        }
    }
}

/// How a gap is filled, from the point of view of the node that has it.
#[test]
fn a_gap_is_filled() {
    let mut bench = Bench::new(&[BEN, CLEO, DAN]);
    // Ben passes on entry 10 of a chain of which we hold two.
    bench.missing(3, 9, BEN);
    // While Ben is asked, Cleo shows entry 12: one gap, one request.
    bench.later(50);
    bench.missing(3, 11, CLEO);
    // Ben says nothing. Cleo, who showed it too, is next; she pruned it.
    bench.tick();
    bench.later(20);
    bench.message(CLEO, Message::NotHeld { author: AUTHOR, from: 3 });
    // Dan sends it in two pieces.
    bench.later(30);
    bench.filled(7);
    bench.later(900);
    bench.filled(12);
    assert_eq!(bench.gaps.deadline(), None);
    assert_eq!(bench.gaps.counters(), Counters { asked: 3, filled: 1, unfilled: 0 });
    insta::assert_snapshot!(bench.transcript, @r"
       0 ms  3..=9 missing, shown by ben
       0 ms    -> ben: want 3..=9
      50 ms  3..=11 missing, shown by cleo
     779 ms  time is up
     779 ms    -> cleo: want 3..=11
     799 ms  cleo does not hold 3..
     799 ms    -> dan: want 3..=11
     829 ms  filled through 7
    1729 ms  filled through 12
    ");
}

/// Nobody has it: rounds that take ever longer, then an end.
#[test]
fn a_gap_that_nobody_fills_is_given_up() {
    let mut bench = Bench::new(&[BEN, CLEO]);
    bench.missing(1, 4, CLEO);
    while bench.gaps.deadline().is_some() {
        bench.tick();
    }
    assert_eq!(bench.events, [Event::Unfilled { author: AUTHOR, from: 1, to: 4 }]);
    assert_eq!(bench.asked(), [CLEO, BEN].repeat(5));
    insta::assert_snapshot!(bench.transcript, @r"
        0 ms  1..=4 missing, shown by cleo
        0 ms    -> cleo: want 1..=4
     1069 ms  time is up
     1069 ms    -> ben: want 1..=4
     1830 ms  time is up
     3692 ms  time is up
     3692 ms    -> cleo: want 1..=4
     6133 ms  time is up
     6133 ms    -> ben: want 1..=4
     7772 ms  time is up
    12087 ms  time is up
    12087 ms    -> cleo: want 1..=4
    16621 ms  time is up
    16621 ms    -> ben: want 1..=4
    19798 ms  time is up
    28008 ms  time is up
    28008 ms    -> cleo: want 1..=4
    37935 ms  time is up
    37935 ms    -> ben: want 1..=4
    44001 ms  time is up
    58555 ms  time is up
    58555 ms    -> cleo: want 1..=4
    78541 ms  time is up
    78541 ms    -> ben: want 1..=4
    96910 ms  time is up
    96910 ms    ** 1..=4 given up
    ");
}

#[test]
fn a_long_gap_goes_on_with_who_fills_it() {
    let mut bench = Bench::new(&[BEN, CLEO]);
    bench.missing(1, 10_000, CLEO);
    bench.filled(MAX_RANGE);
    bench.filled(2 * MAX_RANGE);
    let want = |from, to| (CLEO, Message::Want { author: AUTHOR, from, to });
    assert_eq!(bench.sent, [want(1, 4_096), want(4_097, 8_192), want(8_193, 10_000)]);
    bench.filled(10_000);
    assert_eq!(bench.gaps.gaps().count(), 0);
}

#[test]
fn progress_starts_the_rounds_again() {
    let mut bench = Bench::new(&[BEN]);
    bench.missing(1, 9, BEN);
    (0..6).for_each(|_| bench.tick());
    assert!(bench.gaps.gaps[&AUTHOR].round >= 2);
    bench.filled(4);
    let want = Message::Want { author: AUTHOR, from: 5, to: 9 };
    while bench.sent.last() != Some(&(BEN, want.clone())) {
        bench.tick();
    }
    assert!(bench.gaps.gaps[&AUTHOR].round <= 1);
}

#[test]
fn a_peer_that_leaves_is_not_waited_for() {
    let mut bench = Bench::new(&[BEN, CLEO]);
    bench.missing(1, 9, BEN);
    bench.step(Input::Link { peer: BEN, up: false });
    assert_eq!(bench.asked(), [BEN, CLEO]);
    bench.step(Input::Link { peer: CLEO, up: false });
    // Nobody is left; Dan comes.
    assert_eq!(bench.gaps.gaps().next().unwrap().3, None);
    bench.step(Input::Link { peer: DAN, up: true });
    bench.tick();
    assert_eq!(bench.asked(), [BEN, CLEO, DAN]);
}

#[test]
fn only_the_peer_that_was_asked_can_say_no_and_only_once() {
    let mut bench = Bench::new(&[BEN, CLEO, DAN]);
    bench.missing(3, 9, BEN);
    let not_held = |from| Message::NotHeld { author: AUTHOR, from };
    bench.message(CLEO, not_held(3));
    bench.message(BEN, not_held(4));
    bench.message(NodeId([9; 32]), not_held(3));
    assert_eq!(bench.asked(), [BEN]);
    bench.message(BEN, not_held(3));
    bench.message(BEN, not_held(3));
    assert_eq!(bench.asked().len(), 2);
    let asked = bench.asked()[1];
    bench.command(Command::Nothing { peer: asked, author: AUTHOR });
    assert_eq!(bench.asked().len(), 3);
}

#[test]
fn what_a_peer_wants_is_clamped() {
    let mut bench = Bench::new(&[BEN]);
    let want = |from, to| Message::Want { author: AUTHOR, from, to };
    bench.message(BEN, want(0, u64::MAX));
    bench.message(BEN, want(u64::MAX, u64::MAX));
    bench.message(BEN, want(7, 6));
    bench.message(CLEO, want(1, 1));
    let wanted = |from, to| Event::Wanted { peer: BEN, author: AUTHOR, from, to };
    assert_eq!(bench.events, [wanted(1, MAX_RANGE), wanted(u64::MAX, u64::MAX)]);
    bench.command(Command::NotHeld { peer: BEN, author: AUTHOR, from: 1 });
    assert_eq!(bench.sent, [(BEN, Message::NotHeld { author: AUTHOR, from: 1 })]);
}

#[test]
fn the_table_is_bounded() {
    let mut bench = Bench::new(&[BEN]);
    let author = |n: usize| {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        NodeId(id)
    };
    for n in 0..=MAX_GAPS {
        bench.command(Command::Missing { author: author(n), from: 1, to: 2, shown_by: BEN });
    }
    assert_eq!(bench.gaps.gaps().count(), MAX_GAPS);
    assert_eq!(bench.events, [Event::Unfilled { author: author(MAX_GAPS), from: 1, to: 2 }]);
}

fn any_input() -> impl Strategy<Value = Input<Gaps>> {
    let node = || (2..6_u8).prop_map(|n| NodeId([n; 32]));
    let author = || (50..53_u8).prop_map(|n| NodeId([n; 32]));
    let height = || prop_oneof![0..20_u64, Just(u64::MAX), Just(9_000)];
    let command = prop_oneof![
        (author(), height(), height(), node()).prop_map(|(author, from, to, shown_by)| {
            Command::Missing { author, from, to, shown_by }
        }),
        (author(), height()).prop_map(|(author, through)| Command::Filled { author, through }),
        (node(), author()).prop_map(|(peer, author)| Command::Nothing { peer, author }),
    ];
    let message = prop_oneof![
        (author(), height(), height()).prop_map(|(author, from, to)| Message::Want {
            author,
            from,
            to
        }),
        (author(), height()).prop_map(|(author, from)| Message::NotHeld { author, from }),
    ];
    prop_oneof![
        4 => command.prop_map(Input::Command),
        2 => (node(), message).prop_map(|(from, message)| Input::Message { from, message }),
        2 => (node(), any::<bool>()).prop_map(|(peer, up)| Input::Link { peer, up }),
        4 => Just(Input::Tick),
    ]
}

proptest! {
    /// Whatever happens: one request in flight for an author, to a linked peer, for at most
    /// `MAX_RANGE` entries; and when all is quiet every gap comes to an end.
    #[test]
    fn every_gap_comes_to_an_end(inputs in prop::collection::vec(any_input(), 0..80)) {
        let mut bench = Bench::new(&[BEN, CLEO]);
        for input in inputs {
            match input {
                Input::Tick if bench.gaps.deadline().is_some() => bench.tick(),
                Input::Tick => {}
                other => bench.step(other),
            }
        }
        for (_, message) in &bench.sent {
            if let Message::Want { from, to, .. } = message {
                prop_assert!(from <= to && to - from < MAX_RANGE);
            }
        }
        let open = bench.gaps.gaps().count() as u32;
        let peers = u32::try_from(MAX_PEERS_A_ROUND).unwrap();
        let mut ticks = 0;
        while bench.gaps.deadline().is_some() {
            bench.tick();
            ticks += 1;
            prop_assert!(ticks <= open * MAX_ROUNDS * (peers + 1));
        }
    }
}
