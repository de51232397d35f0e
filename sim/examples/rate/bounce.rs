//! The workload: five nodes in a mesh, 64-byte payloads, `N` pings in flight on each directed pair,
//! 1 to 10 ms apart. A ping is answered by a pong, which is answered by the next ping; one without an
//! answer is given up and sent again. Nothing is persisted.

use std::time::Instant;

use quorate_machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};
use quorate_sim::{Fault, Plan, Ratio, Sim, SimTime, Skew, Span, System};

/// How many nodes there are.
pub(crate) const NODES: usize = 5;
/// A ping without an answer for so long is taken for lost.
pub(crate) const LOST_US: u64 = 100_000;

/// One of the pings that a node keeps in flight to a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flight {
    round: u32,
    sent: Time,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Bounce<const N: usize> {
    linked: Vec<(NodeId, [Flight; N])>,
    due: Option<Time>,
}

/// Sends the next ping of a flight.
fn ping<const N: usize>(
    cx: Cx,
    to: NodeId,
    number: usize,
    flight: &mut Flight,
    fx: &mut dyn Effects<Bounce<N>>,
) {
    *flight = Flight { round: flight.round + 1, sent: cx.now };
    let mut message = [number as u8; 64];
    message[0] = 0;
    message[2..6].copy_from_slice(&flight.round.to_le_bytes());
    fx.send(to, message);
}

impl<const N: usize> Machine for Bounce<N> {
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
                    ping(cx, from, usize::from(message[1]), flight, fx);
                }
            }
            Input::Link { peer, up: true } => {
                let mut flights = [Flight::default(); N];
                for (number, flight) in flights.iter_mut().enumerate() {
                    ping(cx, peer, number, flight, fx);
                }
                self.linked.push((peer, flights));
            }
            Input::Link { peer, up: false } => self.linked.retain(|(linked, _)| *linked != peer),
            Input::Tick => {
                for (peer, flights) in &mut self.linked {
                    for (number, flight) in flights.iter_mut().enumerate() {
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

/// The nodes, so many of them.
#[derive(Clone, Debug)]
pub(crate) struct Mesh<const N: usize>(pub(crate) usize);

impl<const N: usize> System for Mesh<N> {
    type Machine = Bounce<N>;
    type Op = ();

    fn nodes(&self) -> usize {
        self.0
    }

    fn boot(&self, _: usize) -> Bounce<N> {
        Bounce { linked: Vec::new(), due: None }
    }
}

/// A cluster of five; with faults: a little of each kind, so that most messages still arrive.
pub(crate) fn cluster<const N: usize>(faults: bool, seed: u64) -> Sim<Mesh<N>> {
    let mesh = Mesh(NODES);
    let mut plan: Plan<()> = Plan::calm(SimTime::secs(3_600));
    plan.steps_max = u64::MAX;
    for second in 1..if faults { 60 } else { 0 } {
        let at = SimTime::secs(second);
        let node = (second % 5) as usize;
        plan = plan
            .fault(at, Fault::split(&[node], &[(node + 1) % 5]).lasting(200_000))
            .fault(at, Fault::crash((node + 2) % 5).lasting(100_000))
            .fault(at, Fault::Pause { node: (node + 3) % 5, lasts_us: 20_000 })
            .fault(at, Fault::WallJump { node, by_us: -500_000 });
    }
    let mut run = plan.draw(&mesh, seed);
    run.conditions.network.latency_us = Span::new(1_000, 10_000);
    if faults {
        run.conditions.network.duplicate = Ratio::per_mille(10);
        run.conditions.network.loss = Ratio::per_mille(10);
        run.conditions.network.reorder = Ratio::per_mille(100);
        run.conditions.network.tail = Ratio::per_mille(10);
        run.conditions.network.tail_factor = 3;
        let skew = Skew { wall_offset_us: 9, wall_ppm: 20, monotonic_ppm: -30 };
        run.conditions.skew = vec![skew; NODES];
    }
    Sim::new(mesh, run, false)
}

/// A small run: five nodes, 200 messages, a cut that heals, one ping in flight a pair.
pub(crate) fn small(seed: u64) -> Sim<Mesh<1>> {
    let split = Fault::split(&[0, 1], &[2, 3, 4]).lasting(20_000);
    let plan: Plan<()> = Plan::calm(SimTime::secs(10)).fault(SimTime::ms(30), split);
    let mesh = Mesh(NODES);
    let mut run = plan.draw(&mesh, seed);
    run.conditions.network.latency_us = Span::new(1_000, 10_000);
    Sim::new(mesh, run, false)
}

/// How long this thread has run on a core, in microseconds, where the system tells; else wall time.
pub(crate) fn cpu_us(begun: Instant) -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    on_cpu_ns.map_or_else(|| begun.elapsed().as_micros() as u64, |ns| ns / 1_000)
}
