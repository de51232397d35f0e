//! Quorate's registry beside etcd, as a client sees both.
//!
//! Three processes of each on this machine, each with a directory of its own on the same disk; every
//! write is durable on a quorum before it is acknowledged. `clients` connections write 100 bytes each
//! to keys of their own, one write after the other, to the node that leads. Then the leader is killed
//! with -9 while one client goes on writing to whoever is left: the time from the kill to the first
//! acknowledged write is the failover.
//!
//! etcd is spoken to by its HTTP gateway (JSON, keys and values in base64), Quorate by its control
//! socket (JSON lines on a Unix socket): both are text, and neither side's own client library is measured.
//! Quorate's peers talk over TLS, as they always do; etcd's over plain TCP.

mod etcd;
mod load;
mod quorate;

use std::io;
use std::time::Duration;

use load::{Load, failover, run};

/// How long each load runs.
const SECONDS: u64 = 8;
/// Concurrent clients.
const CLIENTS: [usize; 3] = [1, 16, 256];
/// Leaders that are killed.
const FAILOVERS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    println!("                clients   writes/s   p50 ms   p99 ms   servers' CPU s a 10k writes");
    if wanted("quorate") {
        let mut cluster = quorate::Cluster::start().await?;
        report("quorate", &mut cluster).await?;
    }
    if wanted("etcd") {
        let mut cluster = etcd::Cluster::start().await?;
        report("etcd", &mut cluster).await?;
    }
    Ok(())
}

async fn report<C: Cluster>(name: &str, cluster: &mut C) -> io::Result<()> {
    for clients in CLIENTS {
        let leader = cluster.leader().await?;
        let before = cluster.cpu_seconds();
        let Load { writes, took, latencies_us } =
            run::<C>(cluster.endpoint(leader), clients, Duration::from_secs(SECONDS)).await?;
        let cpu = cluster.cpu_seconds() - before;
        let at = |percent: usize| f64::from(latencies_us[(latencies_us.len() - 1) * percent / 100]);
        println!(
            "{name:<16}{clients:>7}{:>11.0}{:>9.2}{:>9.2}{:>12.2}",
            writes as f64 / took.as_secs_f64(),
            at(50) / 1e3,
            at(99) / 1e3,
            cpu / writes as f64 * 1e4,
        );
    }
    let mut times = Vec::new();
    for _ in 0..FAILOVERS {
        times.push(failover(cluster).await?.as_millis());
    }
    times.sort_unstable();
    println!("{name:<16}failover, ms: {times:?}");
    Ok(())
}

/// Three processes.
pub(crate) trait Cluster {
    /// One client's connection.
    type Client: Client;

    /// Which of the three leads now; waits until one does.
    async fn leader(&mut self) -> io::Result<usize>;
    /// Where clients reach it.
    fn endpoint(&self, node: usize) -> String;
    /// Kills a node with -9.
    fn kill(&mut self, node: usize) -> io::Result<()>;
    /// Starts it again, and waits until it is back.
    async fn restart(&mut self, node: usize) -> io::Result<()>;
    /// Processor time of all three so far, in seconds.
    fn cpu_seconds(&self) -> f64;
}

/// A connection that writes.
pub(crate) trait Client: Sized + 'static {
    /// Connects.
    async fn connect(endpoint: &str) -> io::Result<Self>;
    /// Writes, and returns once the write is acknowledged.
    async fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()>;
}

/// Processor time of a process so far, in seconds, by `/proc`.
pub(crate) fn cpu_of(pid: Option<u32>) -> f64 {
    let Some(stat) = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok())
    else {
        return 0.0;
    };
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, in hundredths of a second.
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
