//! A mesh of whole nodes as hosts of a turmoil simulation, each with a data directory that outlives it.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use quorate_core::hash::Hash;
use quorate_runtime_tokio::host::Settings;
use quorate_runtime_tokio::journal::Journal;
use quorate_runtime_tokio::net::{Listener, Net, TokioNet};
use quorate_runtime_tokio::node::data_dir::DataDir;
use quorate_runtime_tokio::node::{Node, Options};
use quorate_runtime_tokio::storage::Storage;
use tempfile::TempDir;
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

const PORT: u16 = 4470;

/// Simulated time after which a test has hung.
const HUNG: Duration = Duration::from_secs(600);

/// The simulation's sockets, as the host takes them.
#[derive(Clone, Copy, Debug)]
struct Turmoil;

struct Door(TcpListener);

impl Net for Turmoil {
    type Stream = TcpStream;
    type Listener = Door;

    async fn bind(&self, addr: &str) -> io::Result<Door> {
        TcpListener::bind(addr).await.map(Door)
    }

    async fn connect(&self, addr: &str) -> io::Result<TcpStream> {
        TcpStream::connect(addr).await
    }
}

impl Listener for Door {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, addr) = self.0.accept().await?;
        Ok((stream, addr.to_string()))
    }

    fn local_addr(&self) -> io::Result<String> {
        self.0.local_addr().map(|addr| addr.to_string())
    }
}

type Running = Rc<RefCell<Option<Node>>>;

/// Nodes that run, and the simulation that runs them.
pub(crate) struct Mesh {
    sim: Sim<'static>,
    names: Vec<&'static str>,
    running: Vec<Running>,
    scripts: usize,
    _disks: TempDir,
}

impl Mesh {
    /// A mesh of nodes that do not know each other, named as their hosts are.
    pub(crate) fn new(seed: u64, names: &[&'static str]) -> Mesh {
        let disks = tempfile::tempdir().expect("a directory for the disks");
        let sim = Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .simulation_duration(HUNG)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(1 << 16)
            .build();
        let mut mesh =
            Mesh { sim, names: names.to_vec(), running: Vec::new(), scripts: 0, _disks: disks };
        for (n, name) in names.iter().copied().enumerate() {
            let running = Running::default();
            mesh.running.push(Rc::clone(&running));
            let dir = mesh._disks.path().join(name);
            let seed = [n as u8 + 1; 32];
            mesh.sim.host(name, move || host(name, dir.clone(), seed, Rc::clone(&running)));
        }
        names.iter().for_each(|name| mesh.wait_for(name));
        mesh
    }

    /// The nodes, in the order of their names. One that was bounced is another than before.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.names.iter().map(|name| self.node(name)).collect()
    }

    /// The node on the host `name`, which runs.
    pub(crate) fn node(&self, name: &str) -> Node {
        self.running[self.at(name)].borrow().clone().expect("the node has started")
    }

    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).expect("one of the mesh")
    }

    /// The first invites the others, and they join it.
    pub(crate) fn join_all(&mut self) {
        let nodes = self.nodes();
        self.script(async move {
            for node in &nodes[1..] {
                node.join(nodes[0].invite(node.id()).await?).await?;
            }
            converge(&nodes).await;
            for node in &nodes {
                // A newcomer first learns whether its key has written here before.
                node.writable().await?;
            }
            Ok(())
        });
    }

    /// Runs `script` inside the simulation until it is over. Its host can reach nobody.
    pub(crate) fn script(&mut self, script: impl Future<Output = turmoil::Result> + 'static) {
        self.scripts += 1;
        self.sim.client(format!("script{}", self.scripts), script);
        self.sim.run().expect("a script that ends well");
    }

    /// A host that opens `count` connections to `target`, and says nothing on them for ever.
    pub(crate) fn crowd(&mut self, name: &str, target: &'static str, count: usize) {
        self.sim.host(name, move || async move {
            let mut silent = Vec::new();
            for _ in 0..count {
                silent.push(TcpStream::connect((target, PORT)).await?);
            }
            std::future::pending().await
        });
    }

    /// Takes the power from `name`. What was acknowledged is on its disk.
    pub(crate) fn crash(&mut self, name: &'static str) {
        *self.running[self.at(name)].borrow_mut() = None;
        self.sim.crash(name);
    }

    /// Starts `name` again, on its disk.
    pub(crate) fn bounce(&mut self, name: &'static str) {
        self.sim.bounce(name);
        self.wait_for(name);
    }

    /// Others may be without power meanwhile.
    fn wait_for(&mut self, name: &str) {
        let started = Rc::clone(&self.running[self.at(name)]);
        while started.borrow().is_none() {
            assert!(self.sim.elapsed() < HUNG, "{name} starts");
            self.sim.step().expect("every node starts");
        }
    }
}

/// What runs on a host: a node, until the host is no more.
async fn host(
    name: &'static str,
    dir: impl AsRef<Path>,
    seed: [u8; 32],
    running: Running,
) -> turmoil::Result {
    let storage = Storage::open(dir.as_ref())?;
    let journal = Journal::open(&dir.as_ref().join("journal"))?;
    let data = DataDir { seed, storage, journal, suspect: false, old_journal: None };
    let settings = Settings {
        keepalive: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    let Options { net: TokioNet, cluster, .. } = Options::offline();
    let options = Options {
        net: Turmoil,
        listen: Some(format!("0.0.0.0:{PORT}")),
        advertise: Some(name.to_owned()),
        peers: Vec::new(),
        settings,
        cluster,
    };
    let (node, mut task) = Node::start_on(data, options).await?;
    *running.borrow_mut() = Some(node);
    Ok(task.stopped().await?)
}

/// Waits, for as long as the simulation may last, until `wanted` holds.
pub(crate) async fn until(mut wanted: impl AsyncFnMut() -> bool) {
    while !wanted().await {
        // The clock must move for anything to happen.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until all of `nodes` hold the same.
pub(crate) async fn converge(nodes: &[Node]) {
    until(async || digests(nodes).await.windows(2).all(|pair| pair[0] == pair[1])).await;
}

/// A digest of each node's state.
pub(crate) async fn digests(nodes: &[Node]) -> Vec<Option<Hash>> {
    let mut digests = Vec::new();
    for node in nodes {
        digests.push(node.digest().await.expect("the node runs"));
    }
    digests
}

/// Writes `count` keys, each acknowledged before the next.
pub(crate) async fn fill(node: &Node, name: &str, count: usize) {
    for n in 0..count {
        node.put(format!("{name}{n}").as_bytes(), b"value").await.expect("the node may write");
    }
}

/// Whether the node reads something at `key`.
pub(crate) async fn has(node: &Node, key: &str) -> bool {
    node.get(key.as_bytes()).await.expect("the node runs").is_some()
}
