//! What the clients do.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::{Client, Cluster};

/// What each write writes.
const VALUE: [u8; 100] = [b'v'; 100];
/// Keys of one client.
const KEYS: u64 = 1_000;
/// How long the failover's client waits for an answer before it asks another node.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a load came to.
pub(crate) struct Load {
    pub(crate) writes: usize,
    pub(crate) took: Duration,
    /// In order.
    pub(crate) latencies_us: Vec<u32>,
}

/// `clients` connections write to `endpoint` for so long.
pub(crate) async fn run<C: Cluster>(
    endpoint: String,
    clients: usize,
    time: Duration,
) -> io::Result<Load> {
    let set = LocalSet::new();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| set.spawn_local(write_for::<C::Client>(endpoint.clone(), client, time)))
        .collect();
    set.await;
    let took = begun.elapsed();
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await??);
    }
    latencies_us.sort_unstable();
    Ok(Load { writes: latencies_us.len(), took, latencies_us })
}

async fn write_for<K: Client>(
    endpoint: String,
    client: usize,
    time: Duration,
) -> io::Result<Vec<u32>> {
    let mut connection = K::connect(&endpoint).await?;
    let (begun, mut latencies) = (Instant::now(), Vec::new());
    for n in 0u64.. {
        let sent = Instant::now();
        if sent - begun >= time {
            break;
        }
        connection.put(&format!("bench/{client}/{}", n % KEYS), &VALUE).await?;
        latencies.push(sent.elapsed().as_micros() as u32);
    }
    Ok(latencies)
}

/// From the killing of the leader to the first write that one of the others acknowledges.
pub(crate) async fn failover<C: Cluster>(cluster: &mut C) -> io::Result<Duration> {
    let leader = cluster.leader().await?;
    let others: Vec<String> =
        (0..3).filter(|node| *node != leader).map(|node| cluster.endpoint(node)).collect();
    cluster.kill(leader)?;
    let killed = Instant::now();
    let mut connections: [Option<C::Client>; 2] = [None, None];
    let took = 'trying: loop {
        for (endpoint, connection) in others.iter().zip(&mut connections) {
            let mut open = match connection.take() {
                Some(open) => open,
                None => C::Client::connect(endpoint).await?,
            };
            if let Ok(Ok(())) = timeout(PATIENCE, open.put("bench/failover", &VALUE)).await {
                break 'trying killed.elapsed();
            }
            // An answer that comes late would be taken for the next: a new connection then.
        }
        sleep(Duration::from_millis(1)).await;
    };
    cluster.restart(leader).await?;
    Ok(took)
}
