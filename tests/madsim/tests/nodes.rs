//! Two whole nodes (host, TLS, log on a disk, every protocol) under madsim: killed, clogged, and equal
//! in the end.
//!
//! madsim takes tokio's place for the whole program: tasks run in one thread in an order drawn from the
//! seed, time is virtual, and so is the wall clock. So the very sockets of production are driven here
//! (`TokioNet`), where the turmoil tests bring their own. The disk is a real one, and what a killed node
//! had not synced is not lost: that is the simulator's to test. What `ring` draws it asks the system for,
//! so the bytes of a handshake differ between two runs of a seed.
#![cfg(madsim)]

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use quorate_runtime_tokio::host::Settings;
use quorate_runtime_tokio::journal::Journal;
use quorate_runtime_tokio::node::data_dir::DataDir;
use quorate_runtime_tokio::node::{Node, Options};
use quorate_runtime_tokio::storage::Storage;
use tempfile::TempDir;
use tokio::time::sleep;

/// Long enough for every timeout of the links to have run out.
const LONG: Duration = Duration::from_secs(8);

/// Simulated time after which a test has hung.
const HUNG: Duration = Duration::from_secs(600);

/// A machine of the simulation, and the node on it while it runs.
struct Machine {
    handle: NodeHandle,
    running: Arc<Mutex<Option<Node>>>,
    _disk: TempDir,
}

impl Machine {
    /// The `n`th machine, which starts its node whenever it is started.
    fn new(n: u8) -> Machine {
        let disk = tempfile::tempdir().expect("a directory for the disk");
        let running = Arc::new(Mutex::new(None));
        let (dir, shared) = (disk.path().to_owned(), Arc::clone(&running));
        let ip: IpAddr = [10, 0, 0, n].into();
        let handle = Handle::current()
            .create_node()
            .name(format!("node {n}"))
            .ip(ip)
            .init(move || serve(n, dir.clone(), Arc::clone(&shared)))
            .build();
        Machine { handle, running, _disk: disk }
    }

    /// The node, once it has started.
    async fn node(&self) -> Node {
        loop {
            if let Some(node) = self.running.lock().expect("nobody panicked").clone() {
                return node;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn kill(&self) {
        Handle::current().kill(self.handle.id());
        *self.running.lock().expect("nobody panicked") = None;
    }

    fn restart(&self) {
        Handle::current().restart(self.handle.id());
    }
}

/// What runs on a machine: a node, until the machine is no more.
async fn serve(n: u8, dir: impl AsRef<Path>, running: Arc<Mutex<Option<Node>>>) {
    let storage = Storage::open(dir.as_ref()).expect("a log that was closed with its machine");
    let journal = Journal::open(&dir.as_ref().join("journal")).expect("a sound journal");
    let data = DataDir { seed: [n; 32], storage, journal, suspect: false, old_journal: None };
    let settings = Settings {
        keepalive: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    let options = Options {
        advertise: Some(format!("10.0.0.{n}")),
        settings,
        ..Options::listening("0.0.0.0:4470")
    };
    let (node, mut task) = Node::start_on(data, options).await.expect("the node starts");
    *running.lock().expect("nobody panicked") = Some(node);
    task.stopped().await.expect("the node runs");
}

async fn until(mut wanted: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !wanted().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(HUNG, wait).await.expect("the test hung");
}

async fn converge(a: &Node, b: &Node) {
    until(async || a.digest().await.expect("a runs") == b.digest().await.expect("b runs")).await;
}

async fn fill(node: &Node, name: &str, count: usize) {
    for n in 0..count {
        node.put(format!("{name}{n}").as_bytes(), &[7; 500]).await.expect("the node may write");
    }
}

async fn has(node: &Node, key: &str) -> bool {
    node.get(key.as_bytes()).await.expect("the node runs").is_some()
}

/// Two machines whose nodes are one mesh.
async fn pair() -> (Machine, Machine) {
    let (one, two) = (Machine::new(1), Machine::new(2));
    let (a, b) = (one.node().await, two.node().await);
    b.join(a.invite(b.id()).await.expect("invited")).await.expect("joined");
    converge(&a, &b).await;
    // A newcomer first learns whether its key has written here before.
    b.writable().await.expect("b runs");
    (one, two)
}

#[madsim::test]
async fn a_killed_node_comes_back_and_they_converge() {
    let (one, two) = pair().await;
    let (a, b) = (one.node().await, two.node().await);
    fill(&b, "acknowledged", 5).await;
    fill(&a, "bulk", 50).await;
    two.kill();
    fill(&a, "meanwhile", 50).await;
    sleep(LONG).await;
    two.restart();
    let b = two.node().await;
    assert!(has(&b, "acknowledged4").await, "what was acknowledged is on the disk");
    fill(&b, "after", 5).await;
    converge(&a, &b).await;
    for node in [&a, &b] {
        assert!(has(node, "bulk49").await && has(node, "meanwhile49").await);
        assert!(has(node, "acknowledged4").await && has(node, "after4").await);
        assert!(node.status().await.expect("it runs").forks.is_empty(), "nobody forked");
    }
}

#[madsim::test]
async fn a_clogged_link_is_given_up_and_made_again() {
    let (one, two) = pair().await;
    let (a, b) = (one.node().await, two.node().await);
    let net = NetSim::current();
    let (x, y) = (one.handle.id(), two.handle.id());
    net.clog_link(x, y);
    net.clog_link(y, x);
    fill(&a, "a-apart", 20).await;
    fill(&b, "b-apart", 20).await;
    a.put(b"contested", b"by a").await.expect("written");
    b.put(b"contested", b"by b").await.expect("written");
    sleep(LONG).await;
    assert!(!has(&a, "b-apart0").await && !has(&b, "a-apart0").await, "nothing passes");
    net.unclog_link(x, y);
    net.unclog_link(y, x);
    converge(&a, &b).await;
    for node in [&a, &b] {
        assert!(has(node, "a-apart19").await && has(node, "b-apart19").await);
        let contested = node.get(b"contested").await.expect("it runs").expect("both wrote it");
        assert!(contested.conflict, "neither had seen the other's");
    }
}
