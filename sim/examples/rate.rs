//! How fast the simulator is: `cargo run --release -p quorate-sim --example rate`.
//!
//! Five nodes in a mesh, 64-byte payloads, ten pings in flight on each directed pair, 1 to 10 ms
//! apart: a ping is answered by a pong, which is answered by the next ping. Nothing is persisted.
//! Prints messages per CPU second, with and without faults, then how many small runs a CPU second
//! holds, and how many clones of a running cluster; each the median of seven.

use std::time::Instant;

use quorate_machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};
use quorate_sim::{Fault, Plan, Ratio, Sim, SimTime, Skew, Span, System};

const IN_FLIGHT: u8 = 10;
/// A ping without an answer for so long is taken for lost.
const LOST_US: u64 = 100_000;

/// One of the pings that a node keeps in flight to a peer.
#[derive(Clone, Copy, Default)]
struct Flight {
    round: u32,
    sent: Time,
}

#[derive(Clone)]
struct Bounce {
    linked: Vec<(NodeId, [Flight; IN_FLIGHT as usize])>,
    due: Option<Time>,
}

/// Sends the next ping of a flight.
fn ping(cx: Cx, to: NodeId, number: u8, flight: &mut Flight, fx: &mut dyn Effects<Bounce>) {
    *flight = Flight { round: flight.round + 1, sent: cx.now };
    let mut message = [number; 64];
    message[0] = 0;
    message[2..6].copy_from_slice(&flight.round.to_le_bytes());
    fx.send(to, message);
}

impl Machine for Bounce {
    type Message = [u8; 64];
    type Record = Never;
    type Command = ();
    type Event = ();

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Message { from, mut message } if message[0] == 0 => {
                message[0] = 1;
                fx.send(from, message);
            }
            Input::Message { from, message } => {
                let Some((_, flights)) = self.linked.iter_mut().find(|(peer, _)| *peer == from)
                else {
                    return;
                };
                let flight = &mut flights[usize::from(message[1])];
                if message[2..6] == flight.round.to_le_bytes() {
                    ping(cx, from, message[1], flight, fx);
                }
            }
            Input::Link { peer, up: true } => {
                let mut flights = [Flight::default(); IN_FLIGHT as usize];
                for (number, flight) in (0..IN_FLIGHT).zip(&mut flights) {
                    ping(cx, peer, number, flight, fx);
                }
                self.linked.push((peer, flights));
            }
            Input::Link { peer, up: false } => self.linked.retain(|(linked, _)| *linked != peer),
            Input::Tick => {
                for (peer, flights) in &mut self.linked {
                    for (number, flight) in (0..IN_FLIGHT).zip(flights) {
                        if cx.now.since_us(flight.sent) > LOST_US {
                            ping(cx, *peer, number, flight, fx);
                        }
                    }
                }
                self.due = Some(cx.now.after_ms(20));
            }
            Input::Start | Input::Command(()) => self.due = Some(cx.now.after_ms(20)),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}

#[derive(Clone)]
struct Mesh;

impl System for Mesh {
    type Machine = Bounce;
    type Op = ();

    fn nodes(&self) -> usize {
        5
    }

    fn boot(&self, _: usize) -> Bounce {
        Bounce { linked: Vec::new(), due: None }
    }
}

/// A cluster; with faults: a little of each kind, so that most messages still arrive.
fn cluster(faults: bool, seed: u64) -> Sim<Mesh> {
    let mut plan: Plan<()> = Plan::calm(SimTime::secs(3_600));
    plan.steps_max = u64::MAX;
    for second in 1..60 {
        let at = SimTime::secs(second);
        let node = (second % 5) as usize;
        if faults {
            plan = plan
                .fault(at, Fault::split(&[node], &[(node + 1) % 5]).lasting(200_000))
                .fault(at, Fault::crash((node + 2) % 5).lasting(100_000))
                .fault(at, Fault::Pause { node: (node + 3) % 5, lasts_us: 20_000 })
                .fault(at, Fault::WallJump { node, by_us: -500_000 });
        }
    }
    let mut run = plan.draw(&Mesh, seed);
    run.conditions.network.latency_us = Span::new(1_000, 10_000);
    if faults {
        run.conditions.network.duplicate = Ratio::per_mille(10);
        run.conditions.network.loss = Ratio::per_mille(10);
        run.conditions.network.reorder = Ratio::per_mille(100);
        run.conditions.network.tail = Ratio::per_mille(10);
        run.conditions.network.tail_factor = 3;
        let skew = Skew { wall_offset_us: 9, wall_ppm: 20, monotonic_ppm: -30 };
        run.conditions.skew = vec![skew; 5];
    }
    Sim::new(Mesh, run, false)
}

/// How long this thread has run on a core, in microseconds, where the system tells; else wall time.
fn cpu_us(begun: Instant) -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    on_cpu_ns.map_or_else(|| begun.elapsed().as_micros() as u64, |ns| ns / 1_000)
}

/// The rate of `body`, which returns how many things it did, per CPU second: median of seven.
#[allow(clippy::disallowed_methods, reason = "measures how long real runs take")]
fn rate(what: &str, mut body: impl FnMut(u64) -> u64) {
    let begun = Instant::now();
    let mut rates: Vec<u64> = (0..7)
        .map(|seed| {
            let before = cpu_us(begun);
            let done = body(seed);
            done * 1_000_000 / (cpu_us(begun) - before).max(1)
        })
        .collect();
    rates.sort_unstable();
    println!("{what}: {} a CPU second ({} to {})", rates[3], rates[0], rates[6]);
}

fn main() {
    for faults in [false, true] {
        rate(&format!("messages, faults {faults}"), |seed| {
            let mut sim = cluster(faults, seed);
            sim.advance(SimTime::secs(50));
            assert_eq!(sim.failure(), None);
            sim.stop().delivered
        });
    }
    rate("runs of 230 steps with a split that heals", |seed| {
        const RUNS: u64 = 5_000;
        for run in 0..RUNS {
            let split = Fault::split(&[0, 1], &[2, 3, 4]).lasting(10_000);
            let plan: Plan<()> = Plan::calm(SimTime::secs(10)).fault(SimTime::ms(20), split);
            let mut sim = Sim::new(Mesh, plan.draw(&Mesh, seed * RUNS + run), false);
            sim.advance_to_step(230);
            assert!(sim.failure().is_none() && sim.view().steps() >= 230);
        }
        RUNS
    });
    let mut sim = cluster(true, 1);
    sim.advance(SimTime::secs(5));
    rate("clones of a running cluster", |_| {
        const CLONES: u64 = 20_000;
        let clones = (0..CLONES).map(|_| std::hint::black_box(sim.clone()).view().steps());
        assert_eq!(clones.max(), Some(sim.view().steps()));
        CLONES
    });
}
