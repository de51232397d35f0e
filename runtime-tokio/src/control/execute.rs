//! What each request does to a node. The same for a command that came over the socket and for one that
//! opened the data directory itself.

use std::path::PathBuf;
use std::time::Duration;

use quorate_core::entry::Link;
use quorate_core::identity::is_key;
use quorate_core::machine::NodeId;
use quorate_core::membership::State;
use quorate_core::store::{Change, WriteError};
use quorate_core::ticket::Ticket;
use quorate_core::watch;
use quorate_runtime_tokio::Node;
use quorate_runtime_tokio::host::HostError;
use quorate_runtime_tokio::node::NodeError;
use quorate_runtime_tokio::node::data_dir::{DataDirError, trust_journal, trust_log};
use quorate_runtime_tokio::node::read::Keys;
use quorate_runtime_tokio::node::watch::{Update, WatchError};
use quorate_runtime_tokio::storage::StorageError;
use tokio::sync::mpsc;

use super::cluster;
use super::import::import;
use super::protocol::{Blob, Code, Failure, Pattern, Reply, Request, UpdateDoc, WrittenDoc, unhex};
use super::report;

/// Replies that may wait for whoever asked.
pub(crate) const REPLY_QUEUE: usize = 64;

/// A node that serves requests.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    pub(crate) node: Node,
    pub(crate) data: PathBuf,
    /// Whether it listens and talks to others: `quorate up`.
    pub(crate) running: bool,
}

/// Where replies go. An error there means that nobody listens any more.
pub(crate) type Replies = mpsc::Sender<Reply>;

/// Does what `request` says; the last reply is [`Reply::End`] or [`Reply::Failure`].
pub(crate) async fn execute(hosted: Hosted, request: Request, replies: Replies) {
    let last = match perform(&hosted, request, &replies).await {
        Ok(()) => Reply::End,
        Err(failure) => Reply::Failure(failure),
    };
    // Whoever went away does not want to know.
    let _ = replies.send(last).await;
}

async fn perform(hosted: &Hosted, request: Request, replies: &Replies) -> Result<(), Failure> {
    let node = &hosted.node;
    let request = match change(request) {
        Ok(change) => return write(hosted, change, replies).await,
        Err(request) => request,
    };
    match request {
        Request::Put { .. }
        | Request::Delete { .. }
        | Request::CounterAdd { .. }
        | Request::SetAdd { .. }
        | Request::SetRemove { .. } => unreachable!("a change, written above"),
        Request::Get { key } => {
            let snapshot = node.snapshot().await.map_err(node_failure)?;
            match snapshot.get(&key.0).await.map_err(node_failure)? {
                Some(item) => send(replies, Reply::Item(item.into())).await,
                None if snapshot.is_conflict(&key.0) => Err(deleted_in_conflict(&key)),
                None => Err(nothing_at(&key)),
            }
        }
        Request::List { prefix, from, to, limit } => {
            let keys = Keys { prefix: prefix.0, from: from.map(|b| b.0), to: to.map(|b| b.0) };
            list(node, &keys, limit.unwrap_or(u64::MAX), replies).await
        }
        Request::History { key, limit } => versions(node, &key, Some(limit), replies).await,
        Request::Heads { key } => versions(node, &key, None, replies).await,
        Request::Watch { pattern } => watch(node, pattern, replies).await,
        Request::Import { items } => {
            let entries = import(hosted, items).await?;
            send(replies, Reply::Imported { entries }).await
        }
        Request::Invite { node: invited } => send(replies, invite(hosted, &invited).await?).await,
        Request::Join { ticket } => {
            let ticket: Ticket = ticket.parse().map_err(|error| usage(&error))?;
            let store = node.join(ticket).await.map_err(node_failure)?;
            send(replies, Reply::Joined { store: store.to_string() }).await
        }
        Request::Remove { node: removed, leave } => {
            let already = remove(hosted, &removed, leave).await?;
            send(replies, already).await
        }
        Request::Sync { node: peer, limit_ms } => sync(hosted, peer, limit_ms, replies).await,
        Request::Status => {
            let status = node.status().await.map_err(node_failure)?;
            send(replies, Reply::Status(Box::new(report::status(hosted, status)))).await
        }
        Request::Peers => {
            let (peers, metrics) = node.peers().await.map_err(node_failure)?;
            for peer in peers {
                send(replies, Reply::Peer(Box::new(report::peer(peer, &metrics)))).await?;
            }
            Ok(())
        }
        Request::Doctor { trust_disk } => {
            if trust_disk {
                accept_disk(hosted).await?;
            }
            let status = node.status().await.map_err(node_failure)?;
            let (peers, _) = node.peers().await.map_err(node_failure)?;
            for check in report::checks(hosted, &status, &peers) {
                send(replies, Reply::Check(check)).await?;
            }
            Ok(())
        }
        Request::Cluster { timeout_ms, ask } => {
            cluster::stream(hosted, timeout_ms, *ask, replies).await
        }
    }
}

/// Takes the directory for the latest there is, from now on and from the next start on.
async fn accept_disk(hosted: &Hosted) -> Result<(), Failure> {
    hosted.node.trust_disk().await.map_err(node_failure)?;
    let trusted = trust_log(&hosted.data).and_then(|()| trust_journal(&hosted.data));
    trusted.map_err(|error| data_dir_failure(&error))
}

/// The change that a request asks for, or the request again.
fn change(request: Request) -> Result<Change, Request> {
    Ok(match request {
        Request::Put { key, value } => Change::Put { key: key.0.into(), value: value.0.into() },
        Request::Delete { key } => Change::Delete { key: key.0.into() },
        Request::CounterAdd { key, delta } => Change::Add { key: key.0.into(), delta },
        Request::SetAdd { key, member } => {
            Change::SetAdd { key: key.0.into(), member: member.0.into() }
        }
        Request::SetRemove { key, member } => {
            Change::SetRemove { key: key.0.into(), member: member.0.into() }
        }
        other => return Err(other),
    })
}

async fn write(hosted: &Hosted, change: Change, replies: &Replies) -> Result<(), Failure> {
    let link = hosted.node.write(vec![change]).await;
    let Link { author, seq, hash } = link.map_err(|error| write_failure(hosted, error))?;
    let (author, hash) = (author.to_string(), hash.to_string());
    send(replies, Reply::Written(WrittenDoc { author, seq, hash })).await
}

async fn list(node: &Node, keys: &Keys, limit: u64, replies: &Replies) -> Result<(), Failure> {
    let snapshot = node.snapshot().await.map_err(node_failure)?;
    let (mut left, mut after) = (limit, None::<Vec<u8>>);
    loop {
        let page = snapshot.page(keys, after.as_deref()).await.map_err(node_failure)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for item in page {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            send(replies, Reply::Item(item.into())).await?;
        }
    }
}

/// The history of `key`, or its heads where no `limit` is given.
async fn versions(
    node: &Node,
    key: &Blob,
    limit: Option<u64>,
    replies: &Replies,
) -> Result<(), Failure> {
    let snapshot = node.snapshot().await.map_err(node_failure)?;
    let versions = match limit {
        Some(limit) => snapshot.history(&key.0, usize::try_from(limit).unwrap_or(usize::MAX)).await,
        None => snapshot.heads(&key.0).await,
    };
    let versions = versions.map_err(node_failure)?;
    if versions.is_empty() {
        return Err(nothing_at(key));
    }
    for version in versions {
        send(replies, Reply::Version(Box::new(version.into()))).await?;
    }
    Ok(())
}

async fn watch(node: &Node, pattern: Pattern, replies: &Replies) -> Result<(), Failure> {
    let pattern = match pattern {
        Pattern::Key(key) => watch::Pattern::Key(key.0.into()),
        Pattern::Prefix(prefix) => watch::Pattern::Prefix(prefix.0.into()),
        Pattern::Glob(glob) => watch::Pattern::Glob(glob.0.into()),
    };
    let mut watcher = node.watch(pattern).await.map_err(node_failure)?;
    loop {
        let update = watcher.next().await.map_err(|error| match error {
            WatchError::TooMany => Failure::new(Code::Refused, error.to_string()),
            WatchError::Node(error) => node_failure(error),
        })?;
        let update = match update {
            Update::Now(item) => UpdateDoc::Now(item.into()),
            Update::Live => UpdateDoc::Live,
            Update::Changed { item: Some(item), .. } => UpdateDoc::Changed(item.into()),
            Update::Changed { key, item: None } => UpdateDoc::Deleted { key: Blob(key) },
            Update::Lagged => UpdateDoc::Lagged,
        };
        send(replies, Reply::Update(update)).await?;
    }
}

async fn sync(
    hosted: &Hosted,
    peer: Option<String>,
    limit_ms: u64,
    replies: &Replies,
) -> Result<(), Failure> {
    let node = &hosted.node;
    let peer = match peer {
        Some(peer) => Some(resolve(node, &peer).await?),
        None => None,
    };
    let synced = node.sync(peer, Duration::from_millis(limit_ms)).await.map_err(node_failure)?;
    if synced.is_empty() {
        let whom = peer.map_or("no other node".to_owned(), |peer| peer.short().to_string());
        let message = match peer {
            None => "no other node is connected; `quorate peers` shows what is known".to_owned(),
            Some(_) => format!("{whom} is not connected; `quorate peers` shows what is known"),
        };
        return Err(Failure::new(Code::Unreachable, message));
    }
    let late = synced.iter().filter(|one| !one.in_sync).count();
    for one in synced {
        let (node, in_sync) = (one.peer.to_string(), one.in_sync);
        send(replies, Reply::Synced { node, in_sync }).await?;
    }
    if late > 0 {
        let message = format!("{late} of the peers did not come into sync within {limit_ms} ms");
        return Err(Failure::new(Code::Unreachable, message));
    }
    Ok(())
}

pub(super) async fn send(replies: &Replies, reply: Reply) -> Result<(), Failure> {
    let gone = |_| Failure::new(Code::Failed, "whoever asked has gone");
    replies.send(reply).await.map_err(gone)
}

fn nothing_at(key: &Blob) -> Failure {
    let key = String::from_utf8_lossy(&key.0);
    Failure::new(Code::NotFound, format!("nothing at `{key}`"))
}

fn deleted_in_conflict(key: &Blob) -> Failure {
    let key = String::from_utf8_lossy(&key.0);
    let message = format!(
        "nothing at `{key}`: it was deleted, and others wrote it at the same time; \
         `quorate heads {key}` shows what"
    );
    Failure::new(Code::NotFound, message)
}

fn usage(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Usage, error.to_string())
}

/// A node's id, written out.
pub(crate) fn full_id(text: &str) -> Result<NodeId, Failure> {
    let bytes = unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(NodeId).ok_or_else(|| {
        let message = format!(
            "`{text}` is not a node's id, which has 64 hexadecimal digits; `quorate id` shows it"
        );
        Failure::new(Code::Usage, message)
    })
}

/// Admits the node of this id.
async fn invite(hosted: &Hosted, text: &str) -> Result<Reply, Failure> {
    let invited = full_id(text)?;
    if !is_key(&invited) {
        let message = format!("`{invited}` is no node's id: it is not an Ed25519 key");
        return Err(Failure::new(Code::Usage, message));
    }
    let ticket = hosted.node.invite(invited).await;
    let ticket = ticket.map_err(|error| write_failure(hosted, error))?;
    Ok(Reply::Ticket { ticket: ticket.to_string(), node: invited.to_string() })
}

/// Removes the member whose id is, or begins with, `text`; oneself only if that is meant.
async fn remove(hosted: &Hosted, text: &str, leave: bool) -> Result<Reply, Failure> {
    let node = &hosted.node;
    let removed = resolve(node, text).await?;
    if removed == node.id() && !leave {
        let message = "that is this node itself, which would leave the mesh and never write again: say \
                       --leave if that is meant";
        return Err(Failure::new(Code::Refused, message));
    }
    if removed != node.id() && leave {
        let message = format!("{removed} is another node: --leave is for this one alone");
        return Err(Failure::new(Code::Usage, message));
    }
    let members = node.status().await.map_err(node_failure)?.members;
    let Some(member) = members.into_iter().find(|member| member.node == removed) else {
        let message = format!("{removed} is no member; `quorate status` lists them");
        return Err(Failure::new(Code::NotFound, message));
    };
    let already = member.state == State::Removed;
    if !already {
        node.remove(removed).await.map_err(|error| write_failure(hosted, error))?;
    }
    Ok(Reply::Removed { node: removed.to_string(), already })
}

/// The node whose id is, or begins with, `text`.
pub(super) async fn resolve(node: &Node, text: &str) -> Result<NodeId, Failure> {
    if let Ok(id) = full_id(text) {
        return Ok(id);
    }
    let found = node.find(text).await.map_err(node_failure)?;
    match found[..] {
        [one] => Ok(one),
        [] => {
            let message =
                format!("no known node's id begins with `{text}`; `quorate status` lists them");
            Err(Failure::new(Code::NotFound, message))
        }
        _ => {
            let message =
                format!("the ids of {} nodes begin with `{text}`: give more digits", found.len());
            Err(Failure::new(Code::Usage, message))
        }
    }
}

/// What a refused write comes to.
pub(super) fn write_failure(hosted: &Hosted, error: NodeError) -> Failure {
    match error {
        NodeError::Write(WriteError::CatchingUp) if hosted.node.was_suspect() => {
            let remedy = if hosted.running {
                "it writes again once every member has shown that nothing is lacking"
            } else {
                "start it with `quorate up`, so that the other members can show what it lacks"
            };
            let message = format!(
                "{} is a copy or an old backup, or damaged, and a node that goes on from one spoils its \
                 key: {remedy}; or, if nothing newer exists anywhere, accept it with \
                 `quorate doctor --trust-disk`",
                hosted.data.display()
            );
            Failure::new(Code::Refused, message)
        }
        other => node_failure(other),
    }
}

/// The exit code and sentence of an error.
pub(crate) fn node_failure(error: NodeError) -> Failure {
    let code = match &error {
        NodeError::Write(WriteError::NotFound { .. }) => Code::NotFound,
        NodeError::Write(WriteError::TooMuch(_)) | NodeError::AddressTooLong => Code::Usage,
        NodeError::Write(_) | NodeError::Join(_) => Code::Refused,
        NodeError::Stopped | NodeError::NoAddress => Code::Unreachable,
        NodeError::Damaged { .. } => Code::Storage,
        NodeError::Key(_) => Code::Failed,
        NodeError::Host(error) => host_code(error),
    };
    Failure::new(code, error.to_string())
}

/// The exit code of an error of the host.
pub(crate) fn host_code(error: &HostError) -> Code {
    match error {
        HostError::Storage(error) => storage_code(error),
        HostError::Undecodable { .. } => Code::Storage,
        HostError::Bind { .. } => Code::Listen,
        HostError::Panicked(_) => Code::Failed,
    }
}

/// The exit code and sentence of a data directory that cannot be used.
pub(crate) fn data_dir_failure(error: &DataDirError) -> Failure {
    let code = match error {
        DataDirError::Missing(_) => Code::NotFound,
        DataDirError::Exposed { .. } => Code::Refused,
        DataDirError::Storage(error) => storage_code(error),
        DataDirError::NotAKey { .. }
        | DataDirError::NoKey(_)
        | DataDirError::NoJournal(_)
        | DataDirError::Io { .. } => Code::Storage,
    };
    Failure::new(code, error.to_string())
}

fn storage_code(error: &StorageError) -> Code {
    match error {
        StorageError::Locked { .. } => Code::Refused,
        _ => Code::Storage,
    }
}
