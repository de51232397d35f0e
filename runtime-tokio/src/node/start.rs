//! Starting and stopping a node.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use quorate_core::cluster;
use quorate_core::identity::{Identity, verify};
use quorate_core::node::{Command, Config, Node as Machine};
use tracing::warn;

use super::data_dir::DataDir;
use super::{About, Node, NodeCodec, NodeEdge, NodeError};
use crate::handle::Handle;
use crate::host::{self, HostError, Running, Settings, Setup};
use crate::net::{Listener, Net, TokioNet};
use crate::tls;

/// The port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4470;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Options<N = TokioNet> {
    /// Where connections come from.
    pub net: N,
    /// The address to listen on; `None` for a node that talks to nobody, which is how commands work on
    /// a data directory without a running node.
    pub listen: Option<String>,
    /// The address to tell others, as `host` or `host:port`; the one it listens on unless set.
    pub advertise: Option<String>,
    /// Addresses to keep a link to, whoever answers there.
    pub peers: Vec<String>,
    /// Limits and times; `listen` in it is overruled by the one here.
    pub settings: Settings,
    /// How its part in a cluster is set up: how long elections take, who campaigns earlier, when old
    /// entries give way to a snapshot.
    pub cluster: cluster::Config,
}

impl Options {
    /// A node on real sockets that listens on `addr`.
    #[must_use]
    pub fn listening(addr: impl Into<String>) -> Options {
        Options { listen: Some(addr.into()), ..Options::offline() }
    }

    /// A node that talks to nobody.
    #[must_use]
    pub fn offline() -> Options {
        Options {
            net: TokioNet,
            listen: None,
            advertise: None,
            peers: Vec::new(),
            settings: Settings::default(),
            cluster: cluster::Config::default(),
        }
    }
}

/// The task of a node. Dropping it stops the node soon.
#[derive(Debug)]
pub struct RunningNode {
    running: Running<NodeEdge>,
}

impl RunningNode {
    /// Waits until the node stops by itself, which only an error makes it do. May be dropped at any
    /// await.
    ///
    /// # Errors
    ///
    /// What made it stop.
    pub async fn stopped(&mut self) -> Result<(), HostError> {
        self.running.stopped().await
    }

    /// Stops the node in order: what was written is durable, what was to be sent is sent.
    ///
    /// # Errors
    ///
    /// Where the log failed, at the end or before.
    pub async fn stop(self) -> Result<(), HostError> {
        self.running.stop().await
    }
}

impl Node {
    /// Starts a node on `data`: restores it, listens, and makes a store of its own if it has none.
    ///
    /// # Errors
    ///
    /// [`NodeError::Host`] where the log cannot be read or the address not be listened on.
    pub async fn start(data: DataDir, options: Options) -> Result<(Node, RunningNode), NodeError> {
        on_real_sockets(data, options).await
    }

    /// As [`start`](Node::start), on any network: simulated sockets, say.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start_on<N: Net>(
        data: DataDir,
        options: Options<N>,
    ) -> Result<(Node, RunningNode), NodeError> {
        let DataDir { seed, storage, journal, suspect, old_journal } = data;
        let Options { net, listen, advertise, peers, mut settings, cluster } = options;
        let alone = listen.is_none() && peers.is_empty();
        let (net, listens) = Bound::new(net, listen.as_deref(), !alone).await?;
        let address = advertise.map(|host| with_port(host, listens.as_deref())).or(listens.clone());
        if address.as_ref().is_some_and(|addr| addr.len() > quorate_core::handshake::MAX_ADDRESS) {
            return Err(NodeError::AddressTooLong);
        }
        settings.listen.clone_from(&listens);
        let identity = Identity::from_seed(seed);
        let id = identity.id();
        let config = Config { identity, verify, address: address.clone(), suspect };
        let mut machine = Machine::new(config);
        machine.configure_cluster(cluster);
        if old_journal.is_some() {
            machine.stand_aside();
            warn!(
                "the journal may be an old copy: this node takes no part in its cluster until it was \
                 removed from it and added again, or its owner trusts the disk"
            );
        }
        let setup = Setup {
            machine,
            edge: NodeEdge::new(old_journal),
            net,
            codec: NodeCodec,
            identity: tls::Identity::from_seed(&seed)?,
            storage,
            journal: Some(journal),
            settings,
        };
        let running = host::start(setup).await?;
        let handle = running.handle();
        let suspect = suspect || lost_something(&handle).await?;
        begin(&handle, suspect, alone, peers).await?;
        let about = Arc::new(About { id, listens, address, suspect });
        Ok((Node { handle, about }, RunningNode { running }))
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<(Node, RunningNode), NodeError>> + Send>>;

/// Neither generic nor `async`, so that the host for real sockets is compiled with this crate: once,
/// and not again in every program that starts a node.
fn on_real_sockets(data: DataDir, options: Options) -> Starting {
    Box::pin(Node::start_on(data, options))
}

/// Whether records were found damaged while the log was read.
async fn lost_something(handle: &Handle<NodeEdge>) -> Result<bool, NodeError> {
    let lost = |machine: &Machine, edge: &mut NodeEdge| {
        edge.corruptions() > 0 || machine.status().damaged > 0
    };
    Ok(handle.query(lost).await?)
}

/// What is said to a node first.
async fn begin(
    handle: &Handle<NodeEdge>,
    suspect: bool,
    alone: bool,
    peers: Vec<String>,
) -> Result<(), NodeError> {
    handle.command(Command::Found).await?;
    if suspect {
        handle.command(Command::SuspectDisk).await?;
    } else if alone {
        // Waiting for peers would be in vain: there will be none.
        handle.command(Command::TrustDisk).await?;
    }
    let dial = move |_: &mut NodeEdge, actions: &mut crate::edge::Actions<'_, Machine>| {
        peers.into_iter().for_each(|addr| actions.dial(addr, None));
    };
    if !alone {
        handle.with_edge(dial).await?;
    }
    Ok(())
}

/// A network whose listener is bound before the machine is made, which has to know its address; and
/// which, without one, reaches nobody.
struct Bound<N: Net> {
    net: N,
    listener: Arc<Mutex<Option<N::Listener>>>,
    online: bool,
}

impl<N: Net> fmt::Debug for Bound<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("net", &self.net).finish_non_exhaustive()
    }
}

impl<N: Net> Clone for Bound<N> {
    fn clone(&self) -> Self {
        let (net, listener) = (self.net.clone(), Arc::clone(&self.listener));
        Self { net, listener, online: self.online }
    }
}

impl<N: Net> Bound<N> {
    async fn new(
        net: N,
        listen: Option<&str>,
        online: bool,
    ) -> Result<(Self, Option<String>), HostError> {
        let (mut listener, mut listens) = (None, None);
        if let Some(addr) = listen {
            let at = |error| HostError::Bind { addr: addr.to_owned(), error };
            let bound = net.bind(addr).await.map_err(at)?;
            listens = Some(bound.local_addr().map_err(at)?);
            listener = Some(bound);
        }
        Ok((Self { net, listener: Arc::new(Mutex::new(listener)), online }, listens))
    }
}

impl<N: Net> Net for Bound<N> {
    type Stream = N::Stream;
    type Listener = N::Listener;

    async fn bind(&self, addr: &str) -> io::Result<N::Listener> {
        let bound = self.listener.lock().ok().and_then(|mut listener| listener.take());
        match bound {
            Some(listener) => Ok(listener),
            None => self.net.bind(addr).await,
        }
    }

    async fn connect(&self, addr: &str) -> io::Result<N::Stream> {
        if !self.online {
            return Err(io::Error::new(io::ErrorKind::NetworkDown, "this node runs offline"));
        }
        self.net.connect(addr).await
    }
}

/// `host` with the port of `listens`, unless it names one.
fn with_port(host: String, listens: Option<&str>) -> String {
    let name_and_port = host.rsplit_once(':').filter(|(name, port)| {
        port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
    });
    let port = listens.and_then(|addr| addr.rsplit_once(':')).map(|(_, port)| port);
    match (name_and_port, port) {
        (None, Some(port)) if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{port}")
        }
        (None, Some(port)) => format!("{host}:{port}"),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_host_gets_the_port_that_is_listened_on() {
        let with = |host: &str| with_port(host.to_owned(), Some("0.0.0.0:4470"));
        assert_eq!(with("db1.example"), "db1.example:4470");
        assert_eq!(with("db1.example:99"), "db1.example:99");
        assert_eq!(with("::1"), "[::1]:4470");
        assert_eq!(with("[::1]"), "[::1]:4470");
        assert_eq!(with("[::1]:99"), "[::1]:99");
    }
}
