//! What becomes of a cluster whose leader is cut off, in ticks of a one-way delay each.

use quorate_sim::{
    Action, Conditions, Fault, HostCx, NetworkConditions, Plan, Ratio, Rng, Sim, SimTime, Span,
    Swarm, System,
};

use crate::omni::Omni;
use crate::peer::{Peer, TICK_US};
use crate::tikv::Raft;

/// How long a cut holds, in ticks.
const CUT_TICKS: u64 = 2_000;

/// Nodes that are asked for an entry every other tick.
struct Group<P> {
    nodes: usize,
    peer: std::marker::PhantomData<P>,
}

impl<P> Clone for Group<P> {
    fn clone(&self) -> Group<P> {
        Group { nodes: self.nodes, peer: self.peer }
    }
}

impl<P: Peer> System for Group<P> {
    type Machine = P;
    type Op = ();

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> P {
        P::new(node, self.nodes)
    }

    fn restarted(&mut self, _: usize, cx: &mut HostCx<'_, Self>) {
        if let Some(command) = P::found(self.nodes) {
            cx.command(command);
        }
    }

    fn op(&mut self, _: usize, (): (), cx: &mut HostCx<'_, Self>) {
        cx.command(P::write());
    }
}

/// Who may hear whom once the leader is cut off, or what else is done to it.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Leader,
    QuorumLoss,
    Constrained,
    Chained,
    Deaf,
    Mute,
    Flapping,
    Loss,
}

/// In the table.
const CUTS: [(Cut, usize, &str); 9] = [
    (Cut::Leader, 3, "leader cut, 3"),
    (Cut::Leader, 5, "leader cut, 5"),
    (Cut::QuorumLoss, 5, "quorum loss, 5"),
    (Cut::Constrained, 5, "constrained, 5"),
    (Cut::Chained, 3, "chained, 3"),
    (Cut::Deaf, 3, "leader deaf, 3"),
    (Cut::Mute, 3, "leader mute, 3"),
    (Cut::Flapping, 3, "flapping link, 3"),
    (Cut::Loss, 3, "a fifth lost, 3"),
];

/// What came of one run.
#[derive(Clone, Copy)]
struct Measured {
    /// Ticks without a leader that reaches a quorum; `None` if it stayed so.
    leaderless: Option<u64>,
    /// Ticks in which two say that they lead.
    overlap: u64,
    /// By how much the epoch went up.
    epochs: u64,
}

struct Course<P: Peer> {
    sim: Sim<Group<P>>,
    tick: u64,
}

impl<P: Peer> Course<P> {
    fn new(nodes: usize, seed: u64, loss: Ratio) -> Course<P> {
        let system = Group { nodes, peer: std::marker::PhantomData };
        let never: Plan<()> =
            Plan { swarm: Swarm::calm(), steps_max: u64::MAX, ..Plan::new(SimTime::secs(10_000)) };
        let mut run = never.draw(&system, seed);
        run.conditions = Conditions {
            network: NetworkConditions {
                latency_us: Span::only(TICK_US),
                loss,
                // A cut is a cut: nobody is told of it.
                notice: Ratio::NEVER,
                connect_after_us: Span::only(1),
                ..NetworkConditions::CALM
            },
            // In memory.
            sync_us: Span::only(1),
            ..Conditions::calm()
        };
        let mut course = Course { sim: Sim::new(system, run, false), tick: 0 };
        // Where within a tick the cut comes is chance.
        let phase = Rng::stream(seed, "phase", 0).below(TICK_US);
        course.sim.advance(SimTime(phase));
        course
    }

    /// One tick on, with an entry for whoever leads.
    fn tick(&mut self) {
        self.tick += 1;
        let now = self.sim.view().now();
        for node in 0..self.sim.system.nodes {
            self.sim.add(now, Action::Op { node, op: () });
        }
        self.sim.advance(SimTime(now.0 + TICK_US));
        assert!(self.sim.failure().is_none(), "{:?}", self.sim.failure());
    }

    fn leaders(&self) -> Vec<usize> {
        let view = self.sim.view();
        view.machines().filter(|(n, m)| m.leads(view.monotonic(*n))).map(|(n, _)| n).collect()
    }

    /// Whether one leads that reaches a quorum and is reached by it.
    fn led(&self) -> bool {
        let (view, nodes) = (self.sim.view(), self.sim.system.nodes);
        let both = |a: usize, b: usize| a == b || (view.open(a, b) && view.open(b, a));
        self.leaders().iter().any(|&l| (0..nodes).filter(|&n| both(l, n)).count() > nodes / 2)
    }

    fn epoch(&self) -> u64 {
        self.sim.view().machines().map(|(_, machine)| machine.epoch()).max().unwrap_or(0)
    }

    fn cut(&mut self, fault: Fault) {
        let now = self.sim.view().now();
        self.sim.add(now, Action::Fault(fault));
    }
}

fn others(nodes: usize, but: &[usize]) -> Vec<usize> {
    (0..nodes).filter(|node| !but.contains(node)).collect()
}

/// Every pair of nodes but those that `hub` is in.
fn spokes(nodes: usize, hub: usize) -> Vec<(usize, usize)> {
    let rest = others(nodes, &[hub]);
    rest.iter().flat_map(|a| rest.iter().map(|b| (*a, *b))).filter(|(a, b)| a < b).collect()
}

fn measure<P: Peer>(cut: Cut, nodes: usize, seed: u64) -> Measured {
    let loss = if cut == Cut::Loss { Ratio::new(1, 5) } else { Ratio::NEVER };
    let mut course: Course<P> = Course::new(nodes, seed, loss);
    // Until it has settled, and a while on.
    while course.tick < 200 || !course.led() || course.leaders().len() != 1 {
        course.tick();
        assert!(course.tick < 5_000, "{} elects nobody", P::NAME);
    }
    let mut rng = Rng::stream(seed, "cut", 0);
    for _ in 0..rng.below(20) {
        course.tick();
    }
    let leader = course.leaders()[0];
    let rest = others(nodes, &[leader]);
    let other = rest[rng.below(rest.len() as u64) as usize];
    match cut {
        Cut::Leader => course.cut(Fault::split(&[leader], &rest)),
        Cut::QuorumLoss => course.cut(Fault::cut_pairs(&spokes(nodes, other))),
        Cut::Constrained => {
            // The hub misses some entries; then the leader is gone, and the rest reach only the hub.
            let away = Fault::split(&[other], &others(nodes, &[other]));
            course.cut(away.lasting(5 * TICK_US));
            (0..5).for_each(|_| course.tick());
            course.cut(Fault::split(&[leader], &rest));
            course.cut(Fault::cut_pairs(&spokes(nodes, other)));
        }
        Cut::Chained => course.cut(Fault::cut_pairs(&[(leader, other)])),
        Cut::Deaf => course.cut(Fault::one_way(&rest, &[leader])),
        Cut::Mute => course.cut(Fault::one_way(&[leader], &rest)),
        Cut::Flapping | Cut::Loss => {}
    }
    let epoch = course.epoch();
    let (mut leaderless, mut overlap, mut led_last, mut flap_at) = (0, 0, 0, 0);
    for tick in 0..CUT_TICKS {
        if cut == Cut::Flapping && tick == flap_at {
            let (down, up) = (1 + rng.below(30), 1 + rng.below(30));
            course.cut(Fault::cut_pairs(&[(leader, other)]).lasting(down * TICK_US));
            flap_at = tick + down + up;
        }
        course.tick();
        match course.led() {
            true => led_last = tick,
            false => leaderless += 1,
        }
        overlap += u64::from(course.leaders().len() > 1);
    }
    // Whoever is led again only in the last breath was not.
    let recovered = led_last + 100 > CUT_TICKS;
    let leaderless = recovered.then_some(leaderless);
    Measured { leaderless, overlap, epochs: course.epoch() - epoch }
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0)
}

fn row<P: Peer>(cut: Cut, nodes: usize, name: &str, seeds: u64) -> bool {
    let runs: Vec<Measured> = std::thread::scope(|scope| {
        let half = |from| {
            scope.spawn(move || {
                (from..seeds)
                    .step_by(2)
                    .map(|seed| measure::<P>(cut, nodes, seed))
                    .collect::<Vec<_>>()
            })
        };
        let halves = [half(0), half(1)];
        halves.into_iter().flat_map(|half| half.join().expect("no panic")).collect()
    });
    let sorted = |of: &dyn Fn(&Measured) -> Option<u64>| {
        let mut values: Vec<u64> = runs.iter().filter_map(of).collect();
        values.sort_unstable();
        values
    };
    let leaderless = sorted(&|run| run.leaderless);
    let (overlap, epochs) = (sorted(&|run| Some(run.overlap)), sorted(&|run| Some(run.epochs)));
    let never = runs.len() - leaderless.len();
    println!(
        "{name:<18} {:<10} {:>5} {:>5} {:>5} {never:>7} {:>9} {:>8} {:>7} {:>7}",
        P::NAME,
        percentile(&leaderless, 50),
        percentile(&leaderless, 99),
        leaderless.last().unwrap_or(&0),
        percentile(&overlap, 99),
        overlap.last().unwrap_or(&0),
        percentile(&epochs, 50),
        epochs.last().unwrap_or(&0),
    );
    never == 0
}

/// Prints the table.
pub fn print(seeds: u64, alone: bool) {
    println!("\nElections: {seeds} seeds, {CUT_TICKS} ticks, a tick is a one-way delay\n");
    println!(
        "{:<18} {:<10} {:>5} {:>5} {:>5} {:>7} {:>9} {:>8} {:>7} {:>7}",
        "", "leaderless", "p50", "p99", "most", "never", "overlap99", "most", "epochs", "most"
    );
    for (cut, nodes, name) in CUTS {
        row::<quorate_core::log::Log>(cut, nodes, name, seeds);
        if !alone {
            row::<Raft>(cut, nodes, name, seeds);
            row::<Omni>(cut, nodes, name, seeds);
        }
    }
}
