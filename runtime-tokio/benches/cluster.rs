//! Three whole nodes in this process and clients that write to their registry and read from it.
//!
//! `cargo bench -p quorate-runtime-tokio --bench cluster [-- DIRECTORY]` prints, for each number of
//! clients, durable writes and linearizable reads a second, CPU time for each (of all three nodes and
//! the clients together), and the time a client waits. The nodes have runtimes of their own and talk
//! over loopback, as processes do; the clients are spread over all three, so that two thirds of what
//! they ask is passed on to the leader. They call the library: no socket is between them and their node.

use std::path::Path;
use std::time::{Duration, Instant};

use quorate_runtime_tokio::node::cluster::{Cluster, Given, Read, Seat};
use quorate_runtime_tokio::node::data_dir::DataDir;
use quorate_runtime_tokio::node::{Node, Options, RunningNode};
use tokio::runtime::Runtime;

const VALUE_BYTES: usize = 256;
const KEYS: usize = 10_000;
const CLIENTS: [usize; 3] = [1, 16, 256];
const RUN: Duration = Duration::from_secs(4);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent).expect("a directory to write in");
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    };
    let runtimes = [runtime(), runtime(), runtime()];
    runtime().block_on(run(dir.path(), &runtimes));
}

async fn run(dir: &Path, runtimes: &[Runtime; 3]) {
    let mut nodes: Vec<(Node, RunningNode)> = Vec::new();
    for (n, runtime) in runtimes.iter().enumerate() {
        let dir = dir.join(n.to_string());
        let start = async move {
            let data = DataDir::open(&dir, true).expect("a data directory");
            Node::start(data, Options::listening("127.0.0.1:0")).await.expect("a node starts")
        };
        nodes.push(runtime.spawn(start).await.expect("a node starts"));
    }
    let first = &nodes[0].0;
    for (node, _) in &nodes[1..] {
        let ticket = first.invite(node.id()).await.expect("invites");
        node.join(ticket).await.expect("joins");
    }
    let clusters: Vec<_> = nodes.iter().map(|(node, _)| node.cluster()).collect();
    clusters[0].init().await.expect("a cluster is made");
    for (node, _) in &nodes[1..] {
        clusters[0].add(node.id(), Seat::Voter).await.expect("is added");
    }
    println!("clients   what    a second   CPU µs each   p50 ms   p99 ms");
    for clients in CLIENTS {
        measure("writes", &clusters, clients, |cluster, n| async move {
            let key = format!("key {}", n % KEYS);
            cluster.put(key, vec![0x5a; VALUE_BYTES], Given::default()).await.expect("is written");
        })
        .await;
    }
    for clients in CLIENTS {
        measure("reads", &clusters, clients, |cluster, n| async move {
            let key = format!("key {}", n % KEYS);
            cluster.get(key, Read::Linearizable).await.expect("is read");
        })
        .await;
    }
}

async fn measure<F: Future<Output = ()> + Send + 'static>(
    what: &str,
    clusters: &[Cluster],
    clients: usize,
    act: impl Fn(Cluster, usize) -> F + Copy + Send + 'static,
) {
    let (start, cpu) = (Instant::now(), cpu_us());
    let client = |client: usize| {
        let cluster = clusters[client % clusters.len()].clone();
        async move {
            let (mut waits, mut n) = (Vec::new(), client * 7_919);
            while start.elapsed() < RUN {
                let asked = Instant::now();
                act(cluster.clone(), n).await;
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
                n += 1;
            }
            waits
        }
    };
    let tasks: Vec<_> = (0..clients).map(|n| tokio::spawn(client(n))).collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("a client ends in order"));
    }
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_us() - cpu);
    waits.sort_by(f64::total_cmp);
    let n = waits.len();
    println!(
        "{clients:7}   {what:6} {:9.0} {:13.1} {:8.2} {:8.2}",
        n as f64 / took,
        cpu / n as f64,
        waits[n / 2],
        waits[n * 99 / 100],
    );
}

/// Microseconds this process has been on processors.
fn cpu_us() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let ns = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e3
}
