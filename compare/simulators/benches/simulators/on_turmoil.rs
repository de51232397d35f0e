//! The workload on turmoil.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use turmoil::net::UdpSocket;

use crate::LATENCY;
use crate::bounce::NODES;

const PORT: u16 = 9;

fn name(node: usize) -> String {
    format!("node-{node}")
}

async fn node(me: usize, flights: usize, delivered: Rc<Cell<u64>>) -> turmoil::Result {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
    // Everyone must have bound first, or the first pings are lost.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for peer in (0..NODES).filter(|peer| *peer != me) {
        for number in 0..flights {
            let mut ping = [number as u8; 64];
            ping[0] = 0;
            socket.send_to(&ping, (name(peer), PORT)).await?;
        }
    }
    let mut message = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut message).await?;
        delivered.set(delivered.get() + 1);
        message[0] ^= 1;
        socket.send_to(&message, from).await?;
    }
}

fn cluster(seed: u64, flights: usize) -> (turmoil::Sim<'static>, Rc<Cell<u64>>) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(LATENCY.start)
        .max_message_latency(LATENCY.end)
        .udp_capacity(1 << 12)
        .build();
    let delivered = Rc::new(Cell::new(0));
    for me in 0..NODES {
        let delivered = delivered.clone();
        sim.host(name(me), move || node(me, flights, delivered.clone()));
    }
    (sim, delivered)
}

/// Messages that arrive within `lasts` of simulated time.
pub(crate) fn messages(seed: u64, flights: usize, lasts: Duration) -> u64 {
    let (mut sim, delivered) = cluster(seed, flights);
    while sim.elapsed() < lasts {
        sim.step().expect("a step");
    }
    delivered.get()
}

/// So many small runs.
pub(crate) fn small(seed: u64, runs: u64) -> u64 {
    for run in 0..runs {
        let (mut sim, delivered) = cluster(seed * runs + run, 1);
        let across = || (0..2).flat_map(|a| (2..NODES).map(move |b| (name(a), name(b))));
        let (mut cut, mut healed) = (false, false);
        while delivered.get() < 200 || !healed {
            sim.step().expect("a step");
            if !cut && sim.elapsed() >= Duration::from_millis(30) {
                across().for_each(|(a, b)| sim.partition(a, b));
                cut = true;
            }
            if cut && !healed && sim.elapsed() >= Duration::from_millis(50) {
                across().for_each(|(a, b)| sim.repair(a, b));
                healed = true;
            }
        }
    }
    runs
}
