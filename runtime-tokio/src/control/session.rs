//! A command's side: a connection to the running node, or the data directory itself.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_runtime_tokio::Node;
use quorate_runtime_tokio::node::data_dir::{DataDir, DataDirError, distrust_log};
use quorate_runtime_tokio::node::{Options, RunningNode};
use quorate_runtime_tokio::storage::StorageError;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::execute::{Hosted, REPLY_QUEUE, data_dir_failure, execute, host_code, node_failure};
use super::protocol::{Code, Failure, Reply, Request};
use super::{lines, socket};

/// How long a command waits for another one that has the data directory open.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Someone who answers requests.
#[derive(Debug)]
pub(crate) enum Session {
    /// The running node.
    Remote(Box<BufReader<UnixStream>>),
    /// A node in this process, that talks to nobody.
    Local(Box<Local>),
}

#[derive(Debug)]
pub(crate) struct Local {
    hosted: Hosted,
    running: RunningNode,
    replies: mpsc::Receiver<Reply>,
}

impl Session {
    /// Reaches the node that runs on `data`, or opens the directory. Where `must_run`, only a running
    /// node will do.
    pub(crate) async fn open(data: &Path, must_run: bool) -> Result<Session, Failure> {
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(stream) = socket::connect(data).map_err(|e| unreachable(data, &e))? {
                return Ok(Session::Remote(Box::new(BufReader::new(stream))));
            }
            if must_run {
                return Err(not_running(data));
            }
            match DataDir::open(data, false) {
                Ok(opened) => return Session::local(data, opened).await,
                // Another command, or a node that is about to listen.
                Err(DataDirError::Storage(StorageError::Locked { .. }))
                    if Instant::now() < patience =>
                {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(error) => return Err(data_dir_failure(&error)),
            }
        }
    }

    async fn local(data: &Path, opened: DataDir) -> Result<Session, Failure> {
        let (node, running) = Node::start(opened, offline(data)).await.map_err(node_failure)?;
        if node.was_suspect() {
            distrust_log(data).map_err(|error| data_dir_failure(&error))?;
        }
        let hosted = Hosted { node, data: data.to_owned(), running: false };
        let (_, replies) = mpsc::channel(1);
        Ok(Session::Local(Box::new(Local { hosted, running, replies })))
    }

    /// Sends a request. Its replies are to be read to the end before the next one.
    pub(crate) async fn ask(&mut self, request: Request) -> Result<(), Failure> {
        match self {
            Session::Remote(stream) => {
                lines::write(&mut **stream, &request).await.map_err(|error| broken(&error))
            }
            Session::Local(local) => {
                let (give, take) = mpsc::channel(REPLY_QUEUE);
                local.replies = take;
                tokio::spawn(execute(local.hosted.clone(), request, give));
                Ok(())
            }
        }
    }

    /// The next reply; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Reply>, Failure> {
        let reply = match self {
            Session::Remote(stream) => {
                lines::read(&mut **stream).await.map_err(|error| broken(&error))?
            }
            Session::Local(local) => local.replies.recv().await,
        };
        match reply {
            Some(Reply::End) => Ok(None),
            Some(Reply::Failure(failure)) => Err(self.cause(failure).await),
            Some(reply) => Ok(Some(reply)),
            None => Err(Failure::new(
                Code::Unreachable,
                "the node stopped before it had answered; its log says why",
            )),
        }
    }

    /// Of a node in this process that stopped, the reason.
    async fn cause(&mut self, failure: Failure) -> Failure {
        match self {
            Session::Local(local) if local.hosted.node.has_stopped() => {
                match local.running.stopped().await {
                    Err(error) => Failure::new(host_code(&error), error.to_string()),
                    Ok(()) => failure,
                }
            }
            _ => failure,
        }
    }

    /// Ends it in order.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            Session::Remote(_) => Ok(()),
            Session::Local(local) => {
                let stopped = local.running.stop().await;
                stopped.map_err(|error| Failure::new(host_code(&error), error.to_string()))
            }
        }
    }
}

/// Options for a node that talks to nobody, and knows where it will listen from the last time it did.
fn offline(data: &Path) -> Options {
    let advertise = super::address::read(data);
    Options { advertise, ..Options::offline() }
}

fn not_running(data: &Path) -> Failure {
    let message = format!("no node is running on {}: start it with `quorate up`", data.display());
    Failure::new(Code::Unreachable, message)
}

fn unreachable(data: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot reach the node running on {}: {error}", data.display());
    Failure::new(Code::Unreachable, message)
}

fn broken(error: &io::Error) -> Failure {
    let message = format!("lost the connection to the running node: {error}; its log says why");
    Failure::new(Code::Unreachable, message)
}
