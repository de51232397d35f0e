//! The workload on madsim.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use madsim::net::{NetSim, UdpSocket};
use madsim::runtime::{NodeHandle, Runtime};
use madsim::time::{Instant, sleep};

use crate::LATENCY;
use crate::bounce::NODES;

fn address(node: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, node as u8 + 1]), 9)
}

async fn node(me: usize, flights: usize, delivered: Arc<AtomicU64>) {
    let socket = UdpSocket::bind(address(me)).await.expect("an address");
    // Everyone must have bound first, or the first pings are lost.
    sleep(Duration::from_millis(1)).await;
    for peer in (0..NODES).filter(|peer| *peer != me) {
        for number in 0..flights {
            let mut ping = [number as u8; 64];
            ping[0] = 0;
            socket.send_to(address(peer), &ping).await.expect("sent");
        }
    }
    let mut message = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut message).await.expect("received");
        delivered.fetch_add(1, Ordering::Relaxed);
        message[0] ^= 1;
        socket.send_to(from, &message).await.expect("sent");
    }
}

fn cluster(seed: u64, flights: usize) -> (Runtime, Vec<NodeHandle>, Arc<AtomicU64>) {
    let mut config = madsim::Config::default();
    config.net.send_latency = LATENCY;
    let runtime = Runtime::with_seed_and_config(seed, config);
    let delivered = Arc::new(AtomicU64::new(0));
    let nodes: Vec<NodeHandle> = (0..NODES)
        .map(|me| {
            let handle = runtime.create_node().ip(address(me).ip()).build();
            handle.spawn(node(me, flights, delivered.clone()));
            handle
        })
        .collect();
    (runtime, nodes, delivered)
}

/// Messages that arrive within `lasts` of simulated time.
pub(crate) fn messages(seed: u64, flights: usize, lasts: Duration) -> u64 {
    let (runtime, _nodes, delivered) = cluster(seed, flights);
    runtime.block_on(async { sleep(lasts).await });
    delivered.load(Ordering::Relaxed)
}

/// So many small runs.
pub(crate) fn small(seed: u64, runs: u64) -> u64 {
    for run in 0..runs {
        let (runtime, nodes, delivered) = cluster(seed * runs + run, 1);
        runtime.block_on(async {
            let begun = Instant::now();
            let across = || (0..2).flat_map(|a| (2..NODES).map(move |b| (a, b)));
            let net = madsim::plugin::simulator::<NetSim>();
            sleep(Duration::from_millis(30)).await;
            for (a, b) in across() {
                net.clog_link(nodes[a].id(), nodes[b].id());
                net.clog_link(nodes[b].id(), nodes[a].id());
            }
            sleep(Duration::from_millis(20)).await;
            for (a, b) in across() {
                net.unclog_link(nodes[a].id(), nodes[b].id());
                net.unclog_link(nodes[b].id(), nodes[a].id());
            }
            while delivered.load(Ordering::Relaxed) < 200 {
                assert!(begun.elapsed() < Duration::from_secs(10), "all pings were lost");
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    runs
}
