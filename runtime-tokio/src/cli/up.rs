//! `quorate up`: a node that runs until it is told to stop.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quorate_runtime_tokio::Node;
use quorate_runtime_tokio::node::data_dir::{DataDir, distrust_log, trust_log};
use quorate_runtime_tokio::node::{Options, RunningNode};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::args::Up;
use super::print::Output;
use crate::control::address;
use crate::control::execute::{Hosted, data_dir_failure, host_code, node_failure};
use crate::control::protocol::{Code, Failure};
use crate::control::server::Server;

pub(super) async fn run(data: &Path, up: Up, output: &mut Output) -> Result<(), Failure> {
    raise_open_files();
    let opened = DataDir::open(data, true).map_err(|error| data_dir_failure(&error))?;
    let Up { listen, advertise, peers } = up;
    let advertise = advertise.or_else(|| reachable_host(&listen));
    let options = Options { advertise, peers, ..Options::listening(listen) };
    let (node, running) = Node::start(opened, options).await.map_err(node_failure)?;
    let hosted = Hosted { node: node.clone(), data: data.to_owned(), running: true };
    let noted = address::write(data, node.address());
    noted.map_err(|error| at(data, Code::Storage, &error))?;
    let server = Server::start(hosted).map_err(|error| at(data, Code::Failed, &error))?;
    if node.was_suspect() {
        distrust_log(data).map_err(|error| data_dir_failure(&error))?;
        warn!(
            "the data directory is a copy or an old backup, or damaged: nothing is written until every \
             member has shown that nothing is lacking (quorate doctor --trust-disk, if nothing newer \
             exists)"
        );
        tokio::spawn(trust_once_whole(node.clone(), data.to_owned()));
    }
    banner(&node, data, output).await?;
    let result = until_told(running).await;
    server.stop(result.as_ref().err().cloned()).await;
    match result? {
        Some(running) => {
            let stopped = running.stop().await;
            stopped.map_err(|error| Failure::new(host_code(&error), error.to_string()))
        }
        None => Ok(()),
    }
}

/// Waits for a signal, and gives the node back to be stopped; or for the node's own end.
async fn until_told(mut running: RunningNode) -> Result<Option<RunningNode>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(Code::Failed, error.to_string()));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        biased;
        ended = running.stopped() => {
            return match ended {
                Ok(()) => Ok(None),
                Err(error) => Err(Failure::new(host_code(&error), error.to_string())),
            };
        }
        _ = interrupt.recv() => info!("interrupted: stopping"),
        _ = terminate.recv() => info!("told to stop"),
    }
    Ok(Some(running))
}

/// Once every member has shown that nothing is lacking, the log is the latest one again.
async fn trust_once_whole(node: Node, data: std::path::PathBuf) {
    if node.writable().await.is_ok() {
        match trust_log(&data) {
            Ok(()) => info!("nothing is lacking: this node writes again"),
            Err(error) => warn!(%error, "cannot note that the log is whole"),
        }
    }
}

/// Says who runs, and what to do next.
async fn banner(node: &Node, data: &Path, output: &mut Output) -> Result<(), Failure> {
    let status = node.status().await.map_err(node_failure)?;
    let store = status.founding.map(|founding| founding.store().to_string());
    let (listens, address) = (node.listens().unwrap_or("-"), node.address().unwrap_or("-"));
    if output.is_json() {
        let document = serde_json::json!({
            "node": node.id().to_string(),
            "data": data.display().to_string(),
            "listens": listens,
            "address": address,
            "store": store,
            "entries": status.node.applied,
        });
        return output.raw(format!("{document}\n").as_bytes());
    }
    let told = if listens == address { String::new() } else { format!(", tells others {address}") };
    let members = status.members.iter().filter(|member| member.node != node.id()).count();
    let mut text = format!(
        "node     {}\ndata     {}\nlistens  {listens}{told}\nstore    {}, {} entries\n",
        node.id(),
        data.display(),
        store.unwrap_or_default(),
        status.node.applied,
    );
    if members == 0 {
        text.push_str(
            "\nTo add a machine: `quorate id` there, `quorate invite ID` here, `quorate join TICKET` \
             there.\nStop with Ctrl-C.\n",
        );
    }
    output.raw(text.as_bytes())
}

/// Where others reach a node that listens everywhere: the address that this machine would call from.
/// Asking for it sends nothing.
fn reachable_host(listen: &str) -> Option<String> {
    let listen: SocketAddr = listen.parse().ok()?;
    if !listen.ip().is_unspecified() {
        return None;
    }
    let (from, to) = match listen.ip() {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let outward = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    let loopback = if listen.is_ipv4() { "127.0.0.1" } else { "::1" };
    Some(outward.map_or_else(|_| loopback.to_owned(), |addr| addr.ip().to_string()))
}

/// Lets this process have as many open files as it may: each link and each command has one, and the usual
/// limit of 1,024 is there for programs that use `select`.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it was");
    }
}

fn at(data: &Path, code: Code, error: &std::io::Error) -> Failure {
    Failure::new(code, format!("{}: {error}", data.display()))
}
